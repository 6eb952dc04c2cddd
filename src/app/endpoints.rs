//! A file for each path, and what they share: [`hand_off`], and for the paths of subscribers over plain HTTP [`subscribe`].

pub(super) mod broadcast;
pub(super) mod disconnect;
pub(super) mod events;
pub(super) mod files;
mod hand_off;
pub(super) mod health;
pub(super) mod history;
pub(super) mod next;
pub(super) mod poll;
mod subscribe;
pub(super) mod websocket;
