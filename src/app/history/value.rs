//! What is kept of messages.
//!
//! # Format
//! What one request publishes to a channel is one value, a JSON array: `[{"id":"01997c3a-…","data":"hi","from":"alice"}]`, with
//! `base64` in place of `data` for bytes. It says nothing that its [key](super::keys) says: neither the channel nor the id of the last
//! message.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::keys::Key;
use crate::{
    app::{
        messages::{
            content::Content,
            envelope::Envelope,
            forms::{event, raw_event},
            id::MessageId,
        },
        query::Format,
    },
    grip::Channel,
};

/// What is to be kept of the messages that a request publishes to a channel.
pub(crate) struct Value<'m> {
    pub(super) channel: &'m Channel,
    /// The id of the last message.
    pub(super) last: MessageId,
    messages: Vec<Kept<'m>>,
}

#[derive(Serialize)]
struct Kept<'m> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'m str>,
}

impl<'m> Value<'m> {
    /// Adds a message, by a user if a verified token named one, to the value of its channel.
    pub(crate) fn add(
        values: &mut Vec<Self>,
        channel: &'m Channel,
        id: MessageId,
        content: &'m Content<'_>,
        from: Option<&'m str>,
    ) {
        let (data, base64) = match content {
            Content::Text(text) => (Some(&**text), None),
            Content::Binary(bytes) => (None, Some(BASE64_STANDARD.encode(bytes))),
        };
        let message = Kept { id: None, data, base64, from };
        match values.iter_mut().find(|value| value.channel == channel) {
            Some(value) => {
                if let Some(before) = value.messages.last_mut() {
                    before.id = Some(value.last);
                }
                value.last = id;
                value.messages.push(message);
            }
            None => values.push(Self { channel, last: id, messages: vec![message] }),
        }
    }

    /// The value itself.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(&self.messages).expect("strings under known keys are JSON")
    }
}

/// A message that was kept.
pub(crate) struct Stored {
    pub(super) id: MessageId,
    /// When it was stored, in milliseconds since 1970.
    pub(super) time: u64,
    content: Content<'static>,
    channel: Channel,
    from: Option<String>,
}

impl Stored {
    /// Its envelope, as those that were there when it was published got it.
    pub(crate) fn envelope(&self) -> String {
        Envelope::published(self.id, &self.channel, &self.content, self.from.as_deref()).to_json()
    }

    /// The same as a Server-Sent Event.
    pub(crate) fn event(&self, format: Format) -> String {
        match format {
            Format::Raw => raw_event(self.id, &self.content),
            Format::Json => event(self.id, "message", &self.envelope()),
        }
    }
}

#[derive(Deserialize)]
struct Read {
    id: Option<String>,
    data: Option<String>,
    base64: Option<String>,
    from: Option<String>,
}

/// The messages of the value of a key, if it is one.
pub(super) fn parse(json: &[u8], key: &Key, channel: &Channel) -> Option<Vec<Stored>> {
    let stored = |Read { id, data, base64, from }: Read| {
        let content = match (data, base64) {
            (Some(text), None) => Content::from(text),
            (None, Some(base64)) => Content::from(BASE64_STANDARD.decode(base64).ok()?),
            _ => return None,
        };
        let id = id.map_or(Some(key.id), |id| MessageId::parse_any(&id))?;
        Some(Stored { id, time: key.time, content, channel: channel.clone(), from })
    };
    let messages: Vec<Read> = serde_json::from_slice(json).ok()?;
    messages.into_iter().map(stored).collect()
}
