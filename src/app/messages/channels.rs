//! The channels of a request, and their names at the proxy.

use std::fmt::Write;

use hmac_sha256::Hash;

use crate::{
    app::{
        bounds::{MAX_CHANNEL_LENGTH, MAX_CHANNELS},
        error::Error,
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

    /// Whether the request names none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first one.
    pub fn first(&self) -> &Channel {
        self.0.first().unwrap_or(&DEFAULT)
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Channel> + Clone {
        std::iter::once(self.first()).chain(self.0.iter().skip(1))
    }

    /// The only one.
    ///
    /// # Errors
    /// [`Error::NotOneChannel`] if there are several.
    pub(crate) fn into_one(mut self) -> Result<Channel, Error> {
        if self.0.len() > 1 { Err(Error::NotOneChannel) } else { Ok(self.0.pop().unwrap_or_else(|| DEFAULT.clone())) }
    }
}

/// Parses the name of a channel. A colon is reserved for names of the service's own.
///
/// # Errors
/// [`Error::ChannelName`].
pub(crate) fn parse(name: &str) -> Result<Channel, Error> {
    if name.len() > MAX_CHANNEL_LENGTH || name.contains(':') {
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

/// The proxy's name of a channel for clients that ask for `format=json`.
pub(crate) fn for_json(channel: &Channel) -> Channel {
    channel.with_prefix("json:").expect("a name of 64 bytes and a prefix are no more than 128")
}
