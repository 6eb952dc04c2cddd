//! Channels: the names that clients subscribe to and publishers send to.

use std::{borrow::Cow, error::Error, fmt};

use serde::Serialize;

/// The name of a channel.
///
/// # Format
/// 1 to 128 of the characters `A-Z a-z 0-9 - . _ ~ :`. They mean the same in a header, in JSON and in a URL, so a name
/// needs no escaping anywhere. (Pushpin itself takes any text, but splits `Grip-Channel` at `,` and `;`.)
///
/// ```
/// use fanout_edge::grip::Channel;
///
/// assert_eq!(Channel::new("room:1")?.as_str(), "room:1");
/// assert!(Channel::new("room 1").is_err());
/// # Ok::<(), fanout_edge::grip::channel::InvalidChannel>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Channel(Cow<'static, str>);

impl Channel {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 128;

    /// Takes a name from outside.
    ///
    /// # Errors
    /// [`InvalidChannel`] where the name is empty, too long or has another character.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, channel::InvalidChannel};
    ///
    /// assert!(Channel::new("a".repeat(128)).is_ok());
    /// assert_eq!(Channel::new("a".repeat(129)), Err(InvalidChannel));
    /// ```
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidChannel> {
        let name = name.into();
        if is_valid(&name) { Ok(Self(Cow::Owned(name))) } else { Err(InvalidChannel) }
    }

    /// A name that is written in the source. An invalid one does not compile where the result is a `const`.
    ///
    /// # Panics
    /// Where the name is not valid.
    ///
    /// ```
    /// use fanout_edge::grip::Channel;
    ///
    /// const LOBBY: Channel = Channel::from_static("lobby");
    /// assert_eq!(LOBBY.to_string(), "lobby");
    /// ```
    pub const fn from_static(name: &'static str) -> Self {
        assert!(is_valid(name), "not a valid channel name");
        Self(Cow::Borrowed(name))
    }

    /// The channel of that name behind a prefix, for applications that share a proxy.
    ///
    /// # Errors
    /// [`InvalidChannel`] where the whole is too long or the prefix has another character.
    ///
    /// ```
    /// use fanout_edge::grip::Channel;
    ///
    /// let channel = Channel::from_static("lobby").with_prefix("game:")?;
    /// assert_eq!(channel.as_str(), "game:lobby");
    /// # Ok::<(), fanout_edge::grip::channel::InvalidChannel>(())
    /// ```
    pub fn with_prefix(&self, prefix: &str) -> Result<Self, InvalidChannel> {
        Self::new(format!("{prefix}{self}"))
    }

    /// The name.
    ///
    /// ```
    /// use fanout_edge::grip::Channel;
    ///
    /// assert_eq!(Channel::from_static("lobby").as_str(), "lobby");
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that no channel can have; its text is the rule.
///
/// ```
/// use fanout_edge::grip::channel::InvalidChannel;
///
/// assert_eq!(InvalidChannel.to_string(), "a channel name has 1 to 128 of the characters A-Z a-z 0-9 - . _ ~ :");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidChannel;

impl fmt::Display for InvalidChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a channel name has 1 to {} of the characters A-Z a-z 0-9 - . _ ~ :", Channel::MAX_LENGTH)
    }
}

impl Error for InvalidChannel {}

const fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if !matches!(bytes[i], b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':') {
            return false;
        }
        i += 1;
    }
    !bytes.is_empty() && bytes.len() <= Channel::MAX_LENGTH
}
