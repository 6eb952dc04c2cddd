//! `GET /api/poll`: long-polling, the next message or 204.

use super::subscribe::{GRIP_LAST, Seen, Subscriber, subscribe};
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        history::recovery::Lost,
        http::{Outcome, Response},
    },
    grip::{Channel, Header, Hold},
};

/// How long a client waits, in seconds.
const TIMEOUT: u32 = 25;

/// Holds the response until there is a message, or the time is over. A client that asks for what it missed is not held if
/// there is something.
pub(crate) fn poll(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let is_repeated = exchange.request.header(GRIP_LAST) != Header::Missing;
    subscribe(exchange, Seen::GripLast, |subscriber| match subscriber.history.filter(|_| subscriber.wants_json()) {
        None if subscriber.lost().is_none() => {
            let content_type = if subscriber.wants_json() { "application/json" } else { "text/plain; charset=utf-8" };
            Response::new(204, content_type, "").held(&subscriber.hold(Hold::response).with_timeout(TIMEOUT))
        }
        _ => with_history(subscriber, is_repeated),
    })
}

/// A client gets the next cursor, also when the time is over. The proxy repeats the request, once, if it knows of another
/// message than the hold names when it has the subscription, or as soon as there is one.
fn with_history(subscriber: &Subscriber<'_>, is_repeated: bool) -> Response {
    let mut welcome = subscriber.welcome();
    if subscriber.lost().is_some_and(Lost::is_lasting) {
        // With a cursor the client would ask again at once.
        welcome = welcome.without_since();
    }
    let mut body = format!("[{}", welcome.to_json());
    for message in subscriber.missed() {
        body.push(',');
        body.push_str(&message.envelope());
    }
    body.push(']');
    let response = Response::new(200, "application/json", body);
    if subscriber.lost().is_some() || !subscriber.missed().is_empty() {
        return response;
    }
    // What a client without a cursor misses begins now.
    let last = |channel: &Channel| match subscriber.recovery {
        Some(_) => subscriber.last(channel),
        None => subscriber.since,
    };
    let last = |channel: &Channel| (!is_repeated).then(|| last(channel));
    response.held(&subscriber.hold_after(Hold::response, last).with_timeout(TIMEOUT))
}
