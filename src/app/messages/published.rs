//! A message that is published, or was.

use std::borrow::Cow;

use super::{
    content::Content,
    envelope::Envelope,
    forms::{event, raw_event},
    id::MessageId,
};
use crate::{app::messages::format::Format, grip::Channel};

/// A message that is published, or was.
pub(crate) struct Published<'a> {
    /// Its id.
    pub(crate) id: MessageId,
    /// Its channel.
    pub(crate) channel: Channel,
    /// What it says.
    pub(crate) content: Content<'a>,
    /// The user whose verified token it came with.
    pub(crate) from: Option<Cow<'a, str>>,
    /// The id of the connection that does not get it.
    pub(crate) except: Option<Cow<'a, str>>,
}

impl<'a> Published<'a> {
    /// Returns a message whose id begins as this one.
    pub(crate) fn new(
        id: MessageId,
        channel: Channel,
        content: Content<'a>,
        from: Option<&'a str>,
        except: Option<&'a str>,
    ) -> Self {
        let id = id.of(&channel, &content, from, except);
        Self { id, channel, content, from: from.map(Cow::Borrowed), except: except.map(Cow::Borrowed) }
    }

    /// The beginning of it, of at most so many bytes. It keeps its id.
    pub(crate) fn prefix(&self, length: usize) -> Published<'_> {
        let content = match &self.content {
            Content::Text(text) => Content::from(&text[..text.floor_char_boundary(length)]),
            Content::Binary(bytes) => Content::from(&bytes[..length.min(bytes.len())]),
        };
        Published {
            id: self.id,
            channel: self.channel.clone(),
            content,
            from: self.from.as_deref().map(Cow::Borrowed),
            except: self.except.as_deref().map(Cow::Borrowed),
        }
    }

    /// Its envelope.
    pub(crate) fn envelope(&self) -> String {
        Envelope::published(self).to_json()
    }

    /// The same as a Server-Sent Event, or the message itself as one.
    pub(crate) fn event(&self, format: Format) -> String {
        match format {
            Format::Raw => raw_event(self.id, &self.content),
            Format::Json => event(self.id, "message", &self.envelope()),
        }
    }
}
