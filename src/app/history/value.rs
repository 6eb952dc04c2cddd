//! What is kept of messages.
//!
//! # Format
//! What one request publishes to a channel is one value, a JSON array: `[{"id":"01997c3a-…","data":"hi","from":"alice"}]`, with
//! `base64` in place of `data` for bytes. It says nothing that its [key](super::keys) says: neither the channel nor the id of the last
//! message.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::keys::Key;
use crate::{
    app::messages::{content::Content, id::MessageId, published::Published},
    grip::Channel,
};

/// What is to be kept of the messages that a request publishes to a channel: at least one.
pub(crate) struct Value<'m> {
    messages: Vec<Published<'m>>,
}

#[derive(Serialize, Deserialize)]
struct Kept<'m> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    data: Option<Cow<'m, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    base64: Option<Cow<'m, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    from: Option<Cow<'m, str>>,
}

impl<'m> Value<'m> {
    /// Whether none of the values is that of a channel.
    pub(crate) fn is_new(values: &[Self], channel: &Channel) -> bool {
        values.iter().all(|value| value.last().channel != *channel)
    }

    /// Adds a message to the value of its channel, and returns which one that is.
    pub(crate) fn add(values: &mut Vec<Self>, message: Published<'m>) -> usize {
        match values.iter().position(|value| value.last().channel == message.channel) {
            Some(known) => {
                values[known].messages.push(message);
                known
            }
            None => {
                values.push(Self { messages: vec![message] });
                values.len() - 1
            }
        }
    }

    /// Removes the last message.
    pub(crate) fn remove_last(&mut self) {
        self.messages.pop();
    }

    /// Whether all messages were removed.
    pub(crate) const fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The last message.
    pub(super) fn last(&self) -> &Published<'m> {
        self.messages.last().expect("a value has a message")
    }

    /// The value itself.
    pub(super) fn json(&self) -> String {
        let last = self.last().id;
        let kept = self.messages.iter().map(|message| {
            let (data, base64) = match &message.content {
                Content::Text(text) => (Some(Cow::Borrowed(&**text)), None),
                Content::Binary(bytes) => (None, Some(BASE64_STANDARD.encode(bytes).into())),
            };
            let from = message.from.as_deref().map(Cow::Borrowed);
            Kept { id: Some(message.id).filter(|id| *id != last), data, base64, from }
        });
        serde_json::to_string(&kept.collect::<Vec<_>>()).expect("strings under known keys are JSON")
    }
}

/// A message that was kept.
pub(crate) struct Stored {
    /// When it was stored, in milliseconds since 1970.
    pub(super) time: u64,
    pub(crate) message: Published<'static>,
}

/// The messages of the value of a key, if it is one.
pub(super) fn parse(json: &[u8], key: &Key, channel: &Channel) -> Option<Vec<Stored>> {
    let stored = |Kept { id, data, base64, from }: Kept<'_>| {
        let content = match (data, base64) {
            (Some(text), None) => Content::from(text.into_owned()),
            (None, Some(base64)) => Content::from(BASE64_STANDARD.decode(&*base64).ok()?),
            _ => return None,
        };
        let from = from.map(|from| from.into_owned().into());
        let message = Published { id: id.unwrap_or(key.id), channel: channel.clone(), content, from, except: None };
        Some(Stored { time: key.time, message })
    };
    let messages: Vec<Kept<'_>> = serde_json::from_slice(json).ok()?;
    messages.into_iter().map(stored).collect()
}
