//! What is kept of messages: a JSON array of [envelopes](crate::app::messages::envelope), as they were published to one
//! channel by one request.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use crate::{
    app::{
        messages::{
            channels::{Channels, is_of_user},
            content::Content,
            envelope::{Envelope, TO_USER},
            forms::{event, raw_event},
            id::MessageId,
        },
        query::Format,
    },
    grip::Channel,
};

/// What is kept of the messages that a request publishes to a channel.
pub(crate) struct Value {
    pub(super) channel: Channel,
    pub(super) last: MessageId,
    pub(super) is_single: bool,
    json: String,
}

impl Value {
    /// Adds the envelope of a message to the value of its channel.
    pub(crate) fn add(values: &mut Vec<Self>, channel: &Channel, id: MessageId, envelope: &str) {
        match values.iter_mut().find(|value| value.channel == *channel) {
            Some(value) => {
                value.json.push(',');
                value.json.push_str(envelope);
                value.last = id;
                value.is_single = false;
            }
            None => {
                values.push(Self { channel: channel.clone(), last: id, is_single: true, json: format!("[{envelope}") })
            }
        }
    }

    /// The value itself.
    pub(super) fn json(&self) -> String {
        format!("{}]", self.json)
    }
}

/// A message that was kept.
pub(crate) struct Stored {
    pub(super) id: MessageId,
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
struct Kept {
    id: String,
    channel: Option<String>,
    to: Option<String>,
    data: Option<String>,
    base64: Option<String>,
    from: Option<String>,
}

/// The messages of a value, if it is one and they are of these channels.
pub(super) fn parse(json: &[u8], channels: &Channels) -> Option<Vec<Stored>> {
    let stored = |kept: Kept| {
        let content = match (kept.data, kept.base64) {
            (Some(text), None) => Content::from(text),
            (None, Some(base64)) => Content::from(BASE64_STANDARD.decode(base64).ok()?),
            _ => return None,
        };
        let mut channels = channels.iter();
        let channel = match (kept.channel, kept.to) {
            (Some(name), None) => channels.find(|channel| channel.as_str() == name)?.clone(),
            (None, Some(to)) if to == TO_USER => channels.find(|channel| is_of_user(channel))?.clone(),
            _ => return None,
        };
        Some(Stored { id: MessageId::parse_any(&kept.id)?, content, channel, from: kept.from })
    };
    let kept: Vec<Kept> = serde_json::from_slice(json).ok()?;
    kept.into_iter().map(stored).collect()
}
