//! What an application sees of a broadcast over HTTP.

use serde_json::Value;

use super::{access::admit::Sender, messages::content::Content, messages::target::Target};

/// A message that `POST /api/broadcast` is about to publish. Its sender is authorized, its size is not checked yet.
pub struct Broadcast<'a> {
    pub(super) target: &'a Target,
    pub(super) sender: &'a Sender<'a>,
    pub(super) content: Content<'a>,
}

impl<'a> Broadcast<'a> {
    /// The channel to which it goes; `None` if it goes to a [user](Self::user).
    pub fn channel(&self) -> Option<&'a str> {
        if let Target::Channel(channel) = self.target { Some(channel.as_str()) } else { None }
    }

    /// The user to whom it goes; `None` if it goes to a [channel](Self::channel).
    pub const fn user(&self) -> Option<&'a str> {
        if let Target::User(user) = self.target { Some(user.as_str()) } else { None }
    }

    /// What it says.
    pub const fn content(&self) -> &Content<'a> {
        &self.content
    }

    /// What it says, if that is text.
    pub fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(text) } else { None }
    }

    /// Replaces what it says. A retry with the same `?id=` arrives once only if this does the same again.
    pub fn set_content(&mut self, content: impl Into<Content<'a>>) {
        self.content = content.into();
    }

    /// Who sends it: the claim `sub` of the verified access token. `None` if it has none, the service is open, or the sender
    /// [is the operator](Self::is_operator).
    pub fn sender(&self) -> Option<&'a str> {
        self.sender.identity()?.user()
    }

    /// Another claim of the sender's access token, except those that RFC 7519 registers.
    pub fn claim(&self, name: &str) -> Option<&'a Value> {
        self.sender.identity()?.claim(name)
    }

    /// Whether the sender has a `Fastly-Key` of the service: it is a server of yours.
    pub const fn is_operator(&self) -> bool {
        matches!(self.sender, Sender::Operator)
    }
}
