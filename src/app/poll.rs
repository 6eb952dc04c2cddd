//! `GET /api/poll`: long-polling, the next message or 204.

use super::{
    Action, Reply, Request, Settings,
    subscribe::{on, subscribe},
};
use crate::grip::Hold;

/// How long a client waits, in seconds.
const TIMEOUT: u32 = 25;

/// Holds the answer until there is a message, or it is late.
pub(super) fn poll(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    let reply = Reply::new(204, "text/plain; charset=utf-8", "");
    subscribe(request, settings, now, reply, |channels| {
        on(Hold::response, channels.iter().cloned()).with_timeout(TIMEOUT)
    })
}
