//! Access control: who may connect and publish. Whatever is not set allows everything.

pub(crate) mod guard;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod origins;
pub(crate) mod proof;
pub(crate) mod right;
pub(crate) mod token;
