//! The channels of a request, and their names on each transport.

use crate::{
    app::{
        bounds::{MAX_CHANNEL_LENGTH, MAX_CHANNELS},
        error::Error,
        http::Request,
    },
    grip::Channel,
};

/// The channel of a request that names none.
const DEFAULT: Channel = Channel::from_static("test");

/// The channels of a subscriber: at least one, at most [`MAX_CHANNELS`], each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    first: Channel,
    more: Vec<Channel>,
}

impl Channels {
    /// The channels that the query names, in their order: `?channel=a&channel=b`. Without one: `test`.
    ///
    /// # Errors
    /// [`Error::ChannelName`] or [`Error::TooManyChannels`].
    pub(crate) fn of(request: &(impl Request + ?Sized)) -> Result<Self, Error> {
        let mut channels: Option<Self> = None;
        for (name, value) in url::form_urlencoded::parse(request.query().as_bytes()) {
            if name != "channel" {
                continue;
            }
            let channel = parse(&value)?;
            match &mut channels {
                None => channels = Some(Self { first: channel, more: Vec::new() }),
                Some(channels) if channels.iter().any(|known| *known == channel) => {}
                Some(channels) => channels.more.push(channel),
            }
        }
        let channels = channels.unwrap_or_else(|| Self { first: DEFAULT, more: Vec::new() });
        if channels.more.len() < MAX_CHANNELS { Ok(channels) } else { Err(Error::TooManyChannels) }
    }

    /// The first one.
    pub const fn first(&self) -> &Channel {
        &self.first
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Channel> + Clone {
        std::iter::once(&self.first).chain(&self.more)
    }
}

/// The one channel that the query names.
///
/// # Errors
/// As [`Channels::of`]; [`Error::NotOneChannel`] if there are several.
pub(crate) fn published(request: &(impl Request + ?Sized)) -> Result<Channel, Error> {
    let channels = Channels::of(request)?;
    if channels.more.is_empty() { Ok(channels.first) } else { Err(Error::NotOneChannel) }
}

/// Parses the name of a channel. A colon is reserved for the names of the transports.
///
/// # Errors
/// [`Error::ChannelName`].
pub(crate) fn parse(name: &str) -> Result<Channel, Error> {
    if name.len() > MAX_CHANNEL_LENGTH || name.contains(':') {
        return Err(Error::ChannelName);
    }
    Channel::new(name).map_err(|_| Error::ChannelName)
}

/// The proxy's name of a channel for Server-Sent Events: a stream has one format, so each kind of it has a name.
pub(crate) fn for_events(channel: &Channel) -> Channel {
    prefixed("events:", channel)
}

/// The proxy's name of a channel for plain lines.
pub(crate) fn for_lines(channel: &Channel) -> Channel {
    prefixed("lines:", channel)
}

fn prefixed(prefix: &str, channel: &Channel) -> Channel {
    channel.with_prefix(prefix).expect("a name of 64 bytes and a prefix are no more than 128")
}
