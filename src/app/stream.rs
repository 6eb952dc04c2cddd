//! `GET /api/stream`: messages as lines of text.

use super::{
    Action, Reply, Request, Settings,
    channels::of_lines,
    subscribe::{on, subscribe},
};
use crate::grip::Hold;

/// Holds a stream that has nothing but the messages.
pub(super) fn stream(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    let reply = Reply::new(200, "text/plain; charset=utf-8", "");
    subscribe(request, settings, now, reply, |channels| on(Hold::stream, channels.iter().map(of_lines)))
}
