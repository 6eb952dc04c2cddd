//! A file for each path. [`subscribe`] is what the paths of subscribers over plain HTTP share.

pub(super) mod broadcast;
pub(super) mod events;
pub(super) mod health;
pub(super) mod page;
pub(super) mod poll;
mod subscribe;
pub(super) mod websocket;
