//! Messages: their channels, ids and forms, and how they are published.

pub(crate) mod channels;
pub(crate) mod content;
pub(crate) mod envelope;
pub(crate) mod format;
pub(crate) mod forms;
pub(crate) mod id;
pub(crate) mod published;
pub(crate) mod target;
