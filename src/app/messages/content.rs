//! What a message says.

use std::borrow::Cow;

use crate::grip::Message;

/// What is published, borrowed or owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes. Transports of text get them in base64.
    Binary(Cow<'a, [u8]>),
}

impl Content<'_> {
    /// The length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is sent to one client: a message as it came, or what is made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// As it came.
    Message(Message<'a>),
    /// Text or bytes.
    Content(Content<'a>),
}

impl Reply<'_> {
    /// As a message.
    pub(crate) fn as_message(&self) -> Message<'_> {
        match self {
            Self::Message(message) => *message,
            Self::Content(Content::Text(text)) => Message::Text(text),
            Self::Content(Content::Binary(bytes)) => Message::Binary(bytes),
        }
    }
}

impl<'a> From<Message<'a>> for Reply<'a> {
    fn from(message: Message<'a>) -> Self {
        Self::Message(message)
    }
}

impl<'a, T: Into<Content<'a>>> From<T> for Reply<'a> {
    fn from(content: T) -> Self {
        Self::Content(content.into())
    }
}

impl<'a> From<&'a str> for Content<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a String> for Content<'a> {
    fn from(text: &'a String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for Content<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a [u8]> for Content<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Vec<u8>> for Content<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl PartialEq<&str> for Content<'_> {
    fn eq(&self, text: &&str) -> bool {
        matches!(self, Self::Text(content) if content == text)
    }
}

impl PartialEq<&[u8]> for Content<'_> {
    fn eq(&self, bytes: &&[u8]) -> bool {
        matches!(self, Self::Binary(content) if content == bytes)
    }
}
