//! Control messages: commands of the application to the proxy on a WebSocket.
//!
//! # Format
//! A text message of at most [`MAX_LENGTH`] bytes: `c:` followed by JSON. The proxy executes it and does not forward it
//! to the client. Invalid messages are silently ignored. Source:
//! <https://pushpin.org/docs/protocols/grip/#websocket-control-messages> and Pushpin 1.41.
//!
//! ```
//! use fanout_edge::grip::{Channel, Control, Filter};
//!
//! let channel = Channel::from_static("room:1");
//! let subscribe = Control::Subscribe { channel: &channel, filters: &[Filter::SkipSelf] };
//! assert_eq!(subscribe.to_json(), r#"{"type":"subscribe","channel":"room:1","filters":["skip-self"]}"#);
//! ```

use std::{error::Error, fmt};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Channel, event::MAX_PAYLOAD};

/// The longest control message that the proxy executes, in bytes, including `c:`.
pub const MAX_LENGTH: usize = 16_384;

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Control<'a> {
    /// Subscribes the client to a channel. The proxy silently ignores more than 20 channels for each connection. The
    /// client may miss an item that is published within milliseconds of the subscription.
    Subscribe {
        /// The channel.
        channel: &'a Channel,
        /// Which items the client receives, and how they are changed.
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        filters: &'a [Filter],
    },
    /// Unsubscribes the client from a channel.
    Unsubscribe {
        /// The channel.
        channel: &'a Channel,
    },
    /// Detaches the connection from the application, which receives a CLOSE and nothing after it. The client still
    /// receives published items.
    Detach,
    /// Sends a message to the client at an interval.
    KeepAlive {
        /// The message; `None` turns the keep-alive off.
        #[serde(flatten)]
        content: Option<Content<'a>>,
        /// The interval in seconds, less up to one second of jitter.
        timeout: u32,
        /// When the interval starts.
        #[serde(skip_serializing_if = "KeepAliveMode::is_default")]
        mode: KeepAliveMode,
    },
    /// Sets a meta value that filters compare with the `meta` of items. It is not sent as a `Meta-*` header.
    SetMeta {
        /// The name, for instance `user` for [`Filter::SkipSelf`].
        name: &'a str,
        /// The value.
        value: &'a str,
    },
    /// Sends a message to the client after a delay. A message that is already delayed is sent immediately.
    SendDelayed {
        /// The message.
        #[serde(flatten)]
        content: Content<'a>,
        /// The delay in seconds.
        timeout: u32,
    },
    /// Sends the delayed message immediately.
    FlushDelayed,
}

/// The longest interval or delay, in seconds: the proxy counts milliseconds in 31 bits.
pub const MAX_TIMEOUT: u32 = 2_147_483;

impl Control<'_> {
    /// Checks everything but the length of the message, which [`WebSocket::control`](super::WebSocket::control) checks.
    ///
    /// # Errors
    /// [`InvalidControl`] if the proxy would silently ignore the message.
    ///
    /// ```
    /// use fanout_edge::grip::control::{Control, InvalidControl};
    ///
    /// assert_eq!(Control::Detach.check(), Ok(()));
    /// assert_eq!(Control::SetMeta { name: "", value: "x" }.check(), Err(InvalidControl::MetaName));
    /// ```
    pub fn check(&self) -> Result<(), InvalidControl> {
        let (content, timeout) = match self {
            Self::KeepAlive { content, timeout, .. } => (content.as_ref(), *timeout),
            Self::SendDelayed { content, timeout } => (Some(content), *timeout),
            Self::SetMeta { name: "", .. } => return Err(InvalidControl::MetaName),
            _ => (None, 1),
        };
        if let Some(Content::Ping(payload) | Content::Pong(payload)) = content
            && payload.len() > MAX_PAYLOAD
        {
            return Err(InvalidControl::Payload);
        }
        if !(1..=MAX_TIMEOUT).contains(&timeout) {
            return Err(InvalidControl::Timeout);
        }
        Ok(())
    }

    /// The JSON of the message, without `c:`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers under known keys are JSON")
    }
}

/// A control message that the proxy would silently ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidControl {
    /// The message is longer than [`MAX_LENGTH`].
    TooLong,
    /// The payload of a ping or pong is longer than [`MAX_PAYLOAD`].
    Payload,
    /// The interval or delay is not 1 to [`MAX_TIMEOUT`] seconds.
    Timeout,
    /// The name of a meta value is empty.
    MetaName,
}

impl fmt::Display for InvalidControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the control message is too long: use at most {MAX_LENGTH} bytes"),
            Self::Payload => write!(f, "the payload of a ping or pong is too long: use at most {MAX_PAYLOAD} bytes"),
            Self::Timeout => write!(f, "invalid interval or delay: use 1 to {MAX_TIMEOUT} seconds"),
            Self::MetaName => f.write_str("the name of the meta value is empty: use at least one character"),
        }
    }
}

impl Error for InvalidControl {}

/// Skips or changes items for one subscriber. The header `Grip-Feature` lists the filters that the proxy supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Skips items whose meta value `sender` is the subscriber's `user`.
    SkipSelf,
    /// Skips items whose meta value `skip_users` lists the subscriber's `user`.
    SkipUsers,
    /// Skips items whose meta value `require_sub` is a channel that the subscriber is not subscribed to. For streams: a
    /// WebSocket receives no item with `require_sub` (Pushpin 1.41).
    RequireSub,
    /// Replaces `%I` in the content with the subscriber's meta value `id_format`, in which `%(channel)s` stands for the
    /// id of the previous item that the subscriber received on that channel. For streams.
    BuildId,
    /// Replaces `%(name)s` in the content with the subscriber's meta value of that name, and `%%` with `%`. A message
    /// with a name that is not set, or with any other `%`, arrives empty.
    VarSubst,
}

impl Filter {
    /// The name of the filter in headers and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SkipSelf => "skip-self",
            Self::SkipUsers => "skip-users",
            Self::RequireSub => "require-sub",
            Self::BuildId => "build-id",
            Self::VarSubst => "var-subst",
        }
    }
}

/// When the interval of a keep-alive starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepAliveMode {
    /// After the last message of either side.
    #[default]
    Idle,
    /// After the last keep-alive, regardless of other messages.
    Interval,
}

impl KeepAliveMode {
    /// Whether this is the mode that the proxy uses by default.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A message that the proxy sends for the application.
///
/// # Format
/// Text is `content`. Other messages are `message-type` and `content-bin` in base64, or an empty `content`.
///
/// ```
/// use fanout_edge::grip::{Control, control::Content};
///
/// let text = Control::SendDelayed { content: Content::Text("later"), timeout: 5 };
/// assert_eq!(text.to_json(), r#"{"type":"send-delayed","content":"later","timeout":5}"#);
/// let ping = Control::SendDelayed { content: Content::Ping(b"\xff"), timeout: 5 };
/// assert_eq!(ping.to_json(), r#"{"type":"send-delayed","message-type":"ping","content-bin":"/w==","timeout":5}"#);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping with a payload of at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong with a payload of at most 125 bytes.
    Pong(&'a [u8]),
}

impl Content<'_> {
    fn serialize_as<S: Serializer>(&self, type_key: &'static str, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let (kind, bytes) = match *self {
            Self::Text(text) => {
                map.serialize_entry("content", text)?;
                return map.end();
            }
            Self::Binary(bytes) => ("binary", bytes),
            Self::Ping(payload) => ("ping", payload),
            Self::Pong(payload) => ("pong", payload),
        };
        map.serialize_entry(type_key, kind)?;
        if bytes.is_empty() {
            map.serialize_entry("content", "")?;
        } else {
            map.serialize_entry("content-bin", &BASE64_STANDARD.encode(bytes))?;
        }
        map.end()
    }

    /// Serializes the message for an item, in which the type has another key.
    pub(super) fn serialize_item<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_as("type", serializer)
    }
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_as("message-type", serializer)
    }
}
