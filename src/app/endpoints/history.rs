//! `GET /api/history`: what was published since a time, for a client that connects in its own way.

use http::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::{
    access::{
        admit::{Ask, admit},
        limits,
        token::Identity,
    },
    bounds::MAX_READS,
    error::Error,
    exchange::Exchange,
    history::{
        History,
        cursor::Cursor,
        replay::{Replay, replay},
    },
    query::Query,
    web::{Outcome, Response},
};

/// # Format
/// `{"messages":[{"type":"message",…}],"since":"01997c3a-…","recovered":true}`; `"more":true` in place of `recovered` if the next
/// request with `since` has more; and with `"recovered":false` a `reason`.
#[derive(Serialize)]
struct Missed {
    messages: Vec<Box<RawValue>>,
    since: Cursor,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Responds with what was published on channels since a cursor.
pub(crate) fn history(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let Query { channels, since, .. } = Query::of(exchange.request)?;
    let cursor = Cursor::parse(&since.ok_or(Error::NoSince)?, exchange.platform)?;
    let client = admit(exchange, Ask::Read(&channels))?;
    client.check_limit(exchange)?;
    let history = exchange.settings.history.as_ref()?.as_ref();
    let user = client.sender().identity().and_then(Identity::channel);
    let covered = History::cover(history, channels.iter(), user);
    let replay = replay(covered, cursor, MAX_READS, exchange.platform);
    if let Some(client) = limits::client(exchange.request) {
        exchange.settings.limits.as_ref()?.count_reads(exchange.platform, &client, replay.reads.max(1));
    }
    let reason = replay.reason();
    let Replay { messages, since, more, .. } = replay;
    let envelope = |json| RawValue::from_string(json).expect("an envelope is JSON");
    let missed = Missed {
        messages: messages.iter().map(|message| envelope(message.message.envelope())).collect(),
        since,
        more: more.then_some(true),
        recovered: (!more).then_some(reason.is_none()),
        reason,
    };
    let json = serde_json::to_vec(&missed).expect("text under names of fields is JSON");
    let response = Response::new(200, "application/json", json);
    Ok(response.with_header(CACHE_CONTROL, HeaderValue::from_static("no-store")).into())
}
