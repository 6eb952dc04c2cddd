//! The channels of a request, and how each transport names them towards the proxy.

use std::{error::Error, fmt};

use super::Request;
use crate::grip::Channel;

/// The longest name, in bytes.
const MAX_LENGTH: usize = 64;

/// The most channels of one subscriber: the proxy ignores more without a word.
pub const MAX_CHANNELS: usize = 20;

/// What is taken where the query names none.
pub(super) const DEFAULT: Channel = Channel::from_static("test");

/// The channels that the query names, each once, in their order: `?channel=a&channel=b`.
///
/// # Errors
/// [`ChannelError`].
pub(super) fn subscribed(request: &(impl Request + ?Sized)) -> Result<Vec<Channel>, ChannelError> {
    let mut channels = Vec::new();
    for (name, value) in url::form_urlencoded::parse(request.query().as_bytes()) {
        if name == "channel" {
            let channel = parse(value.into_owned())?;
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
    }
    match channels.len() {
        0 => Ok(vec![DEFAULT]),
        1..=MAX_CHANNELS => Ok(channels),
        _ => Err(ChannelError::TooMany),
    }
}

/// The one channel that the query names.
///
/// # Errors
/// [`ChannelError`].
pub(super) fn published(request: &(impl Request + ?Sized)) -> Result<Channel, ChannelError> {
    let mut channels = subscribed(request)?;
    match (channels.pop(), channels.is_empty()) {
        (Some(channel), true) => Ok(channel),
        _ => Err(ChannelError::NotOne),
    }
}

/// A colon is left to the names of the transports.
fn parse(name: String) -> Result<Channel, ChannelError> {
    if name.len() > MAX_LENGTH || name.contains(':') {
        return Err(ChannelError::Name);
    }
    Channel::new(name).map_err(|_| ChannelError::Name)
}

/// What the proxy calls a channel for Server-Sent Events: a stream has one format, so each kind of it has a name.
pub(super) fn of_events(channel: &Channel) -> Channel {
    prefixed("events:", channel)
}

/// What the proxy calls a channel for plain lines.
pub(super) fn of_lines(channel: &Channel) -> Channel {
    prefixed("lines:", channel)
}

fn prefixed(prefix: &str, channel: &Channel) -> Channel {
    channel.with_prefix(prefix).expect("a name of 64 bytes and a prefix are no more than 128")
}

/// Channels that a request cannot have; the text is the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelError {
    /// A name that no channel has.
    Name,
    /// More than [`MAX_CHANNELS`].
    TooMany,
    /// Another number than one, where one is needed.
    NotOne,
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(f, "A channel name has 1 to {MAX_LENGTH} of the characters A-Z a-z 0-9 - . _ ~"),
            Self::TooMany => write!(f, "A subscriber has at most {MAX_CHANNELS} channels"),
            Self::NotOne => f.write_str("A broadcast goes to one channel: ?channel=NAME"),
        }
    }
}

impl Error for ChannelError {}
