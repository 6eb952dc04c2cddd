//! Access control: which clients may connect and publish. Everything that is not restricted is allowed.

pub(crate) mod admit;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod origins;
pub(crate) mod right;
pub(crate) mod token;
