//! To whom a message is sent.

use super::channels;
use crate::grip::Channel;

/// To whom a message is sent.
pub(crate) enum Target {
    /// To the subscribers of a channel.
    Channel(Channel),
    /// To the connections of a user.
    User(String),
}

impl Target {
    /// The channel at the proxy.
    pub(crate) fn channel(&self) -> Channel {
        match self {
            Self::Channel(channel) => channel.clone(),
            Self::User(user) => channels::of_user(user),
        }
    }
}
