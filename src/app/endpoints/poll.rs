//! `GET /api/poll`: long-polling, the next message or 204.

use super::subscribe::subscribe;
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
    },
    grip::Hold,
};

/// How long a client waits, in seconds.
const TIMEOUT: u32 = 25;

/// Holds the response until there is a message, or the time is over.
pub(crate) fn poll(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    subscribe(exchange, |subscriber| {
        let content_type = if subscriber.wants_json() { "application/json" } else { "text/plain; charset=utf-8" };
        (Response::new(204, content_type, ""), subscriber.hold(Hold::response).with_timeout(TIMEOUT))
    })
}
