//! `GET /api/poll`: long-polling, the next message or 204.

use super::subscribe::{Seen, Subscriber, subscribe};
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        history::recovery::Lost,
        http::{Outcome, Response},
        messages::id::MessageId,
    },
    grip::Hold,
};

/// How long a client waits, in seconds, unless its token expires before.
const TIMEOUT: u32 = 25;

/// Holds the response until there is a message, or the time is over. A client that asks for what it missed is not held if
/// there is something.
pub(crate) fn poll(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    subscribe(exchange, Seen::GripLast, |subscriber, _| {
        let is_kept = subscriber.history.is_some() && subscriber.format.is_json();
        match (subscriber.asks, is_kept) {
            (true, _) => since(subscriber),
            (false, true) => first(subscriber),
            (false, false) => held(204, "", subscriber, None),
        }
    })
}

/// For a client that says what it has seen: what it missed, at once. If its next cursor would be of no use either, it gets none:
/// it would ask again at once.
fn since(subscriber: &Subscriber<'_>) -> Response {
    match subscriber.lost() {
        None if subscriber.missed().is_empty() => {
            held(200, &list(subscriber, Some(subscriber.since())), subscriber, None)
        }
        None => Response::new(200, "application/json", list(subscriber, Some(subscriber.since()))),
        Some(lost) => {
            let since = Some(subscriber.since()).filter(|since| lost.can_go_on(*since));
            Response::new(200, "application/json", list(subscriber, since))
        }
    }
}

/// For a client without a cursor, which gets one when the time is over. The proxy repeats the request if it knows of another
/// message than the hold names when it has the subscription, or as soon as there is one.
fn first(subscriber: &Subscriber<'_>) -> Response {
    let Some(recovery) = &subscriber.recovery else {
        return held(200, &list(subscriber, Some(subscriber.since())), subscriber, Some(subscriber.since()));
    };
    match recovery.lost {
        None if !recovery.messages.is_empty() => {
            Response::new(200, "application/json", list(subscriber, Some(recovery.since)))
        }
        Some(Lost::TooMuch) => Response::new(200, "application/json", list(subscriber, Some(recovery.since))),
        // The store does not show it yet, or cannot be read. It is found with the same cursor.
        _ => {
            let welcome = subscriber.plain_welcome(recovery.asked).to_json();
            held(200, &format!("[{welcome}]"), subscriber, None)
        }
    }
}

/// The welcome, with that cursor, and what was missed.
fn list(subscriber: &Subscriber<'_>, since: Option<MessageId>) -> String {
    let mut list = format!("[{}", subscriber.welcome().with_since(since).to_json());
    for message in subscriber.missed() {
        list.push(',');
        list.push_str(&message.envelope());
    }
    list.push(']');
    list
}

/// Held, with this response when the time is over. If a message is named, the proxy asks again when it knows of another one.
fn held(status: u16, body: &str, subscriber: &Subscriber<'_>, named: Option<MessageId>) -> Response {
    let content_type = if subscriber.format.is_json() { "application/json" } else { "text/plain; charset=utf-8" };
    let valid_for = subscriber.token.map(|(expires_at, _)| expires_at.saturating_sub(subscriber.now));
    let timeout = valid_for.map_or(TIMEOUT, |seconds| seconds.clamp(1, TIMEOUT.into()) as u32);
    let hold = subscriber.hold_after(Hold::response, named).with_timeout(timeout);
    Response::new(status, content_type, body).held(&hold)
}
