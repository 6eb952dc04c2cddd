//! `GET /api/poll`: long-polling, the next message or 204.

use super::subscribe::{hold, subscribe};
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
    let response = Response::new(204, "text/plain; charset=utf-8", "");
    subscribe(exchange, response, |channels| hold(Hold::response, channels, Clone::clone).with_timeout(TIMEOUT))
}
