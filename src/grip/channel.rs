//! Channels, which clients subscribe to and publishers send to.

use std::{borrow::Cow, error::Error, fmt};

use serde::Serialize;

/// The name of a channel.
///
/// # Format
/// 1 to 128 of the characters `A-Z a-z 0-9 - . _ ~ :`, which need no escaping in headers, JSON and URLs. (Pushpin
/// accepts any text, but splits `Grip-Channel` at `,` and `;`.)
///
/// ```
/// use fanout_edge::grip::{Channel, channel::InvalidChannel};
///
/// assert_eq!(Channel::new("room:1")?.with_prefix("game:")?.as_str(), "game:room:1");
/// assert_eq!(Channel::new("room 1"), Err(InvalidChannel));
/// assert_eq!(Channel::new("a".repeat(129)), Err(InvalidChannel));
/// # Ok::<(), InvalidChannel>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Channel(Cow<'static, str>);

impl Channel {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 128;

    /// Returns the channel with that name.
    ///
    /// # Errors
    /// [`InvalidChannel`] if the name is empty, is too long or has another character.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidChannel> {
        let name = name.into();
        if is_valid(&name) { Ok(Self(Cow::Owned(name))) } else { Err(InvalidChannel) }
    }

    /// Returns the channel with a literal name. In a `const` or `static`, an invalid name does not compile.
    ///
    /// # Panics
    /// If the name is invalid.
    ///
    /// ```
    /// use fanout_edge::grip::Channel;
    ///
    /// const LOBBY: Channel = Channel::from_static("lobby");
    /// assert_eq!(LOBBY.to_string(), "lobby");
    /// ```
    pub const fn from_static(name: &'static str) -> Self {
        assert!(is_valid(name), "invalid channel name: use 1 to 128 of A-Z a-z 0-9 - . _ ~ :");
        Self(Cow::Borrowed(name))
    }

    /// Returns self with a prefix, for applications that share a proxy.
    ///
    /// # Errors
    /// [`InvalidChannel`] if the result is too long or the prefix has another character.
    pub fn with_prefix(&self, prefix: &str) -> Result<Self, InvalidChannel> {
        Self::new(format!("{prefix}{self}"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that no channel can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidChannel;

impl fmt::Display for InvalidChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid channel name: use 1 to {} of A-Z a-z 0-9 - . _ ~ :", Channel::MAX_LENGTH)
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
