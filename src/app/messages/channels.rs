//! The channels of a request, and their names at the proxy.

use std::{fmt::Write, slice};

use hmac_sha256::Hash;

use super::id::MessageId;

use crate::{
    app::{
        bounds::{MAX_CHANNEL_LENGTH, MAX_CHANNELS},
        error::Error,
        rejection::Rejection,
    },
    grip::Channel,
};

/// The channel of a request that names none.
pub(crate) static DEFAULT: Channel = Channel::from_static("test");

/// The channels that a request names: at most [`MAX_CHANNELS`], each once, in their order. Without one: `test`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels(Vec<Channel>);

impl Channels {
    /// Adds a channel.
    ///
    /// # Errors
    /// [`Error::TooManyChannels`].
    pub(crate) fn add(&mut self, channel: Channel) -> Result<(), Error> {
        if self.0.contains(&channel) {
            return Ok(());
        }
        if self.0.len() >= MAX_CHANNELS {
            return Err(Error::TooManyChannels { limit: MAX_CHANNELS });
        }
        self.0.push(channel);
        Ok(())
    }

    /// The first one.
    pub fn first(&self) -> &Channel {
        self.0.first().unwrap_or(&DEFAULT)
    }

    /// All of them, in their order.
    pub fn iter(&self) -> slice::Iter<'_, Channel> {
        if self.0.is_empty() { slice::from_ref(&DEFAULT).iter() } else { self.0.iter() }
    }
}

impl<'c> IntoIterator for &'c Channels {
    type Item = &'c Channel;
    type IntoIter = slice::Iter<'c, Channel>;

    fn into_iter(self) -> slice::Iter<'c, Channel> {
        self.iter()
    }
}

/// What names a channel: text, or what [`Connection::channels`](crate::Connection::channels) yields.
pub trait IntoChannel {
    /// The channel.
    ///
    /// # Errors
    /// Rejects with 400 if that is not the name of a channel that clients may have.
    fn into_channel(self) -> Result<Channel, Rejection>;
}

impl<T: AsRef<str> + ?Sized> IntoChannel for &T {
    fn into_channel(self) -> Result<Channel, Rejection> {
        Ok(parse(self.as_ref())?)
    }
}

impl IntoChannel for String {
    fn into_channel(self) -> Result<Channel, Rejection> {
        Ok(parse(&self)?)
    }
}

impl IntoChannel for &Channel {
    fn into_channel(self) -> Result<Channel, Rejection> {
        if is_public(self.as_str()) { Ok(self.clone()) } else { Err(Error::ChannelName.into()) }
    }
}

fn is_public(name: &str) -> bool {
    name.len() <= MAX_CHANNEL_LENGTH && !name.contains(':')
}

/// Parses the name of a channel. A colon is reserved for names of the service's own.
///
/// # Errors
/// [`Error::ChannelName`].
pub(crate) fn parse(name: &str) -> Result<Channel, Error> {
    if !is_public(name) {
        return Err(Error::ChannelName);
    }
    Channel::new(name).map_err(|_| Error::ChannelName)
}

/// Whether a pattern stands for a name: it is the name, or what that begins with and `*`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// What the names of users' channels at the proxy begin with. No client can name such a channel.
pub(crate) const USER: &str = "user:";

/// The channel of what is sent to a user: its name has a hash of the user's id.
pub(crate) fn of_user(user: &str) -> Channel {
    Channel::new(format!("{USER}{}", hash(user))).expect("digits are characters of a channel")
}

/// The beginning of the SHA-256 of a text, as 32 digits.
pub(crate) fn hash(text: &str) -> String {
    const BYTES: usize = 16;
    let mut hash = String::with_capacity(2 * BYTES);
    for byte in &Hash::hash(text.as_bytes())[..BYTES] {
        write!(hash, "{byte:02x}").expect("a string takes all that is written");
    }
    hash
}

/// Whether a channel is that of a user.
pub(crate) fn is_of_user(channel: &Channel) -> bool {
    channel.as_str().starts_with(USER)
}

/// The channel that carries the description of an event stream with a token: see [`next`](crate::app::endpoints::next). No client
/// can name it.
pub(crate) static STREAM: Channel = Channel::from_static("stream:next");

/// A channel that only one event stream has, by an id that is made for it. No client can name it.
pub(crate) fn of_stream(id: MessageId) -> Channel {
    Channel::new(format!("stream:{}", id.simple())).expect("digits are characters of a channel")
}

/// The proxy's name of a channel for clients that ask for `format=json`.
pub(crate) fn for_json(channel: &Channel) -> Channel {
    channel.with_prefix("json:").expect("a name of 64 bytes and a prefix are no more than 128")
}
