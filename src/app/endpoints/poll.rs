//! `GET /api/poll`: long-polling, the next message or 204.

use super::subscribe::{Kind, Subscriber, subscribe};
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        history::replay::{Lost, Replay},
        web::{Outcome, Response},
    },
    grip::Hold,
};

/// How long a client waits, in seconds, unless its token expires before.
const TIMEOUT: u32 = 25;

/// How long it waits if the store cannot be read.
const RETRY: u32 = 5;

/// The longest response that the proxy holds, in bytes. Source: Pushpin 1.41, `proxysession.cpp`.
const MAX_HELD: usize = 100_000;

/// Holds the response until there is a message, or the time is over. A client that has a cursor, or should have one, is not held
/// if there is something for it.
pub(crate) fn poll(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    subscribe(exchange, Kind::Poll, |subscriber| match &subscriber.replay {
        Some(replay) => missed(subscriber, replay),
        None if subscriber.is_kept && subscriber.format.is_json() => now(&list(subscriber, true)),
        None => held(204, "", subscriber, TIMEOUT),
    })
}

/// What a client missed, at once. What it may have seen does not keep it from waiting, but comes along when the time is over. If
/// its next cursor would be of no use either, it gets none: it would ask again at once.
fn missed(subscriber: &Subscriber<'_>, replay: &Replay) -> Response {
    let can_go_on = replay.lost.as_ref().is_none_or(|lost| lost.can_go_on(replay.since));
    let list = list(subscriber, can_go_on);
    match replay.lost {
        None if !subscriber.has_news && list.len() < MAX_HELD => held(200, &list, subscriber, TIMEOUT),
        // It asks again with the same cursor.
        Some(Lost::Unreadable) => held(200, &list, subscriber, RETRY),
        _ => now(&list),
    }
}

/// The welcome, with a cursor if it is of use, and what was missed.
fn list(subscriber: &Subscriber<'_>, has_cursor: bool) -> String {
    let welcome = subscriber.welcome(has_cursor.then(|| subscriber.since()));
    let mut list = format!("[{}", welcome.to_json());
    for message in subscriber.replay.iter().flat_map(|replay| &replay.messages) {
        list.push(',');
        list.push_str(&message.message.envelope());
    }
    list.push(']');
    list
}

fn now(list: &str) -> Response {
    Response::new(200, "application/json", list)
}

/// Held, with this response when the time is over, in seconds.
fn held(status: u16, body: &str, subscriber: &Subscriber<'_>, timeout: u32) -> Response {
    let content_type = if subscriber.format.is_json() { "application/json" } else { "text/plain; charset=utf-8" };
    let valid_for = subscriber.token.map(|token| token.expires_at.saturating_sub(subscriber.now));
    let timeout = valid_for.map_or(timeout, |seconds| seconds.clamp(1, timeout.into()) as u32);
    let hold = subscriber.hold(Hold::response).with_timeout(timeout);
    Response::new(status, content_type, body).held(&hold)
}
