//! The form in which a subscriber gets messages: as they were published, or in envelopes.

use super::channels;
use crate::grip::Channel;

/// The form in which a subscriber gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// As they were published. This is the default.
    Raw,
    /// In an [`envelope`](super::envelope).
    Json,
}

impl Format {
    /// Whether messages are in envelopes.
    pub(crate) fn is_json(self) -> bool {
        self == Self::Json
    }

    /// Its value in a query.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Json => "json",
        }
    }

    /// The format with that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Raw, Self::Json].into_iter().find(|format| format.name() == name)
    }

    /// The proxy's name of a channel, for clients that ask for this format.
    pub(crate) fn at_proxy(self, channel: &Channel) -> Channel {
        match self {
            Self::Raw => channel.clone(),
            Self::Json => channels::for_json(channel),
        }
    }
}
