//! `GET /api/stream`: messages as lines of text.

use super::subscribe::{hold, subscribe};
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::channels::for_lines,
    },
    grip::Hold,
};

/// Holds a stream that has only the messages.
pub(crate) fn stream(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let response = Response::new(200, "text/plain; charset=utf-8", "");
    subscribe(exchange, response, |channels| hold(Hold::stream, channels, for_lines))
}
