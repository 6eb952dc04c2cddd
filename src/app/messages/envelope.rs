//! Envelopes: messages as JSON objects, for clients that ask for `format=json`.
//!
//! # Format
//! To the client:
//! ```text
//! {"type":"welcome","connection":"46d8…","user":"alice","since":"01997c3a-…"}
//! {"type":"message","id":"01997c3a-…","channel":"room1","data":"hi","from":"alice"}
//! {"type":"message","id":"01997c3a-…","channel":"room1","base64":"AAEC"}
//! {"type":"message","id":"01997c3a-…","to":"user","data":"hi","from":"alice"}
//! {"type":"synced","connection":"46d8…","since":"01997c3a-…","more":true}
//! {"type":"synced","connection":"46d8…","since":"01997c3a-…","recovered":true}
//! {"type":"synced","connection":"46d8…","since":"01997c3a-…","recovered":false,"reason":"messages are kept for 120 seconds"}
//! {"type":"synced","connection":"46d8…","error":"Too many connections: …"}
//! {"type":"ack","ref":"1","id":"01997c3a-…","value":{"place":3}}
//! {"type":"error","error":"Invalid message: …"}
//! {"type":"error","ref":"1","error":"Too long"}
//! {"type":"ping"}
//! {"type":"pong"}
//! {"type":"close","code":4001,"reason":"signed out"}
//! ```
//! From the client: `{"type":"message","data":"hi"}`, or `base64` in place of `data`, and a `ref` of 1 to 64 characters if it wants an
//! `ack`; `{"type":"ping"}` for a `pong`; `{"type":"sync","since":"01997c3a-…"}`, without
//! `since` for a client that has no cursor. Bytes are in standard base64 with
//! padding. A message that was not published, but sent by the handler to this client alone, has neither `id` nor `channel`.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{channels, content::Content, id::MessageId, published::Published};
use crate::{
    app::bounds::MAX_REF_LENGTH,
    grip::{Channel, Event, Events},
};

/// The heartbeat of a WebSocket.
pub(crate) const PING: &str = r#"{"type":"ping"}"#;

/// What a client gets that wants a sign of life.
pub(crate) const PONG: &str = r#"{"type":"pong"}"#;

/// To whom a message is that was sent to a user.
pub(crate) const TO_USER: &str = "user";

const INVALID: &str =
    r#"Invalid message: send {"type":"message","data":"TEXT"}, or {"type":"message","base64":"BYTES"}, as text"#;

/// An envelope for a client.
#[derive(Default, Serialize)]
pub(crate) struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a Channel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> Envelope<'a> {
    /// The first thing that a subscriber gets: the id of the connection if it is a WebSocket, the user if a verified token
    /// names one, and its cursor if one is of use.
    pub(crate) fn welcome(
        connection: Option<&'a str>,
        user: Option<&'a str>,
        since: Option<impl fmt::Display>,
    ) -> Self {
        let since = since.map(|since| since.to_string());
        Self { kind: "welcome", connection, user, since, ..Self::default() }
    }

    /// What a client gets that asks, on an open WebSocket, for what it missed, after that. It may not have the welcome.
    pub(crate) fn synced(connection: &'a str, user: Option<&'a str>, since: Option<impl fmt::Display>) -> Self {
        Self { kind: "synced", ..Self::welcome(Some(connection), user, since) }
    }

    /// What an event stream gets that missed something which it does not get, and why.
    pub(crate) fn reset(since: impl fmt::Display, reason: String) -> Self {
        Self { kind: "reset", since: Some(since.to_string()), ..Self::default() }.with_recovered(false, Some(reason))
    }

    /// Returns self with what a client has that asked for what it missed: a part, if there is more; else all, unless there is a
    /// reason why not.
    pub(crate) fn with_recovered(self, more: bool, reason: Option<String>) -> Self {
        Self { more: more.then_some(true), recovered: (!more).then_some(reason.is_none()), reason, ..self }
    }

    /// Returns self with what is wrong with what the client asked for.
    pub(crate) fn with_error(self, error: &'a str) -> Self {
        Self { error: Some(error), ..self }
    }

    /// The end of an event stream: what the close frame of a WebSocket says.
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        Self { kind: "close", code: Some(code), reason: Some(reason.to_owned()), ..Self::default() }
    }

    /// A message that was published. The name of a user's channel is not shown.
    pub(crate) fn published(message: &'a Published<'_>) -> Self {
        let Published { id, channel, content, from, .. } = message;
        let is_user = channels::is_of_user(channel);
        let (to, channel) = (is_user.then_some(TO_USER), Some(channel).filter(|_| !is_user));
        let envelope = match content {
            Content::Text(text) => Self::text(text),
            Content::Binary(bytes) => Self::binary(bytes),
        };
        Self { id: Some(*id), channel, to, from: from.as_deref(), ..envelope }
    }

    /// A text for one client.
    pub(crate) fn text(text: &'a str) -> Self {
        Self { kind: "message", data: Some(text), ..Self::default() }
    }

    /// Bytes for one client.
    pub(crate) fn binary(bytes: &[u8]) -> Self {
        Self { kind: "message", base64: Some(BASE64_STANDARD.encode(bytes)), ..Self::default() }
    }

    /// The response to a message of a client that is not valid.
    pub(crate) fn invalid() -> Self {
        Self::error(INVALID)
    }

    /// What became of a message: it was handled, and what the handler published of it was accepted, first under that id.
    pub(crate) fn ack(id: Option<MessageId>, value: Option<&'a RawValue>) -> Self {
        Self { kind: "ack", id, value, ..Self::default() }
    }

    /// Returns self with what the client calls its message.
    pub(crate) fn with_ref(self, reference: Option<&'a str>) -> Self {
        Self { reference, ..self }
    }

    /// What is wrong with what a client asked for.
    pub(crate) fn error(error: &'a str) -> Self {
        Self { kind: "error", ..Self::default() }.with_error(error)
    }

    /// Its JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings under known keys are JSON")
    }
}

/// What a client sent in an envelope.
pub(crate) enum Decoded {
    /// A message, and what the client calls it if it wants to know what becomes of it.
    Message(Content<'static>, Option<String>),
    /// It wants to know what it missed, since then if it says so.
    Sync(Option<String>),
    /// It wants a sign of life.
    Ping,
    /// It is not a valid envelope, but perhaps says what it is called.
    Invalid(Option<String>),
}

/// Decodes the texts in a sequence of events, in their order.
pub(crate) fn decode(events: Events<'_>) -> Vec<Decoded> {
    let texts = events.filter_map(|event| if let Event::Text(text) = event { Some(text) } else { None });
    texts.map(decode_one).collect()
}

#[derive(Deserialize)]
struct Incoming {
    #[serde(rename = "type")]
    kind: String,
    data: Option<String>,
    base64: Option<String>,
    since: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
}

fn decode_one(text: &[u8]) -> Decoded {
    // A struct may be an array in JSON for serde.
    let is_object = text.trim_ascii_start().first() == Some(&b'{');
    let Some(incoming) = serde_json::from_slice(text).ok().filter(|_| is_object) else { return Decoded::Invalid(None) };
    let Incoming { kind, data, base64, since, reference } = incoming;
    let is_valid = reference.as_ref().is_none_or(|reference| (1..=MAX_REF_LENGTH).contains(&reference.len()));
    let content = match (&*kind, data, base64) {
        ("sync", ..) => return Decoded::Sync(since),
        ("ping", ..) => return Decoded::Ping,
        ("message", Some(data), None) => Some(Content::from(data)),
        ("message", None, Some(base64)) => BASE64_STANDARD.decode(base64).ok().map(Content::from),
        _ => None,
    };
    match content.filter(|_| is_valid) {
        Some(content) => Decoded::Message(content, reference),
        None => Decoded::Invalid(reference.filter(|_| is_valid)),
    }
}
