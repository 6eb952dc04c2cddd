//! `GET /api/events`: Server-Sent Events.

use super::subscribe::subscribe;
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::forms::event,
    },
    grip::Hold,
};

/// How long a stream may be silent, in seconds: proxies between it and the client often wait for 30 to 60.
const KEEP_ALIVE: u32 = 20;

/// Holds a stream of events, with a comment at its start and whenever it is silent. Source: HTML, section 9.2.
pub(crate) fn events(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    subscribe(exchange, |subscriber| {
        let mut body = ": subscribed\n\n".to_owned();
        if let Some((since, welcome)) = subscriber.welcome() {
            body.push_str(&event(since, "message", &welcome));
        }
        let hold = subscriber.hold(Hold::stream);
        let hold = hold.with_keep_alive(b":\n\n", KEEP_ALIVE).expect("the content is not empty");
        (Response::new(200, "text/event-stream", body), hold)
    })
}
