//! `GET /api/events`: Server-Sent Events.

use super::{
    Action, Reply, Request, Settings,
    channels::of_events,
    subscribe::{on, subscribe},
};
use crate::grip::Hold;

/// How long nothing may be sent, in seconds: what is between client and proxy often waits for 30 to 60.
const KEEP_ALIVE: u32 = 20;

/// Holds a stream of events, with a comment at its beginning and in its silences. Source: HTML, section 9.2.
pub(super) fn events(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    let reply = Reply::new(200, "text/event-stream", ": subscribed\n\n");
    subscribe(request, settings, now, reply, |channels| {
        let hold = on(Hold::stream, channels.iter().map(of_events));
        hold.with_keep_alive(b":\n\n", KEEP_ALIVE).expect("the content is not empty")
    })
}
