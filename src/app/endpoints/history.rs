//! `GET /api/history`: what was published since a time, for a client that connects in its own way.

use http::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::{
    access::{guard, right::Right},
    error::Error,
    exchange::Exchange,
    history::{cursor::Cursor, recovery::recover},
    http::{Outcome, Response},
    messages::id::MessageId,
    query::Query,
};

/// # Format
/// `{"messages":[{"type":"message",…}],"since":"01997c3a-…","recovered":true}`, and with `"recovered":false` a `reason`.
#[derive(Serialize)]
struct Missed {
    messages: Vec<Box<RawValue>>,
    since: MessageId,
    recovered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Responds with what was published on channels since a cursor.
pub(crate) fn history(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    guard::check_source(exchange)?;
    let Query { channels, since, .. } = Query::of(exchange.request)?;
    let cursor = Cursor::parse(&since.ok_or(Error::NoSince)?, exchange.platform)?;
    let verified = guard::check_opening(exchange, &[Right::Read], &channels)?;
    guard::count_opening(exchange)?;
    let history = exchange.settings.history.as_ref()?.as_ref();
    let user = verified.and_then(|verified| verified.identity.channel());
    let recovery = recover(history, &channels, user, cursor, exchange.platform);
    let envelope = |json| RawValue::from_string(json).expect("an envelope is JSON");
    let missed = Missed {
        messages: recovery.messages.iter().map(|message| envelope(message.envelope())).collect(),
        since: recovery.since,
        recovered: recovery.lost.is_none(),
        reason: recovery.reason(),
    };
    let json = serde_json::to_vec(&missed).expect("text under names of fields is JSON");
    let response = Response::new(200, "application/json", json);
    Ok(response.with_header(CACHE_CONTROL, HeaderValue::from_static("no-store")).into())
}
