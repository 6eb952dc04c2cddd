//! Messages: the channels that they go to, and their form on each transport.

pub(crate) mod broadcast;
pub(crate) mod channels;
