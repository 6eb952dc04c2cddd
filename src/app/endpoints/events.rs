//! `GET /api/events`: Server-Sent Events.

use super::subscribe::{hold, subscribe};
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::channels::for_events,
    },
    grip::Hold,
};

/// How long a stream may be silent, in seconds: proxies between it and the client often wait for 30 to 60.
const KEEP_ALIVE: u32 = 20;

/// Holds a stream of events, with a comment at its start and whenever it is silent. Source: HTML, section 9.2.
pub(crate) fn events(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let response = Response::new(200, "text/event-stream", ": subscribed\n\n");
    subscribe(exchange, response, |channels| {
        let hold = hold(Hold::stream, channels, for_events);
        hold.with_keep_alive(b":\n\n", KEEP_ALIVE).expect("the content is not empty")
    })
}
