//! Control messages: what the application tells the proxy on a WebSocket.
//!
//! # Format
//! A text message `c:` + JSON, at most [`MAX_LENGTH`] bytes. The proxy acts on it and does not pass it on to the
//! client. It ignores silently what it does not understand. Source:
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

use super::{Channel, websocket::MAX_PAYLOAD};

/// The longest control message that the proxy acts on, in bytes, with its `c:`.
///
/// ```
/// use fanout_edge::grip::control::{Content, Control, InvalidControl, MAX_LENGTH};
/// use fanout_edge::grip::WebSocket;
///
/// let headers = [("connection-id", "c1")];
/// let mut ws = WebSocket::new(&headers, b"")?;
/// let long = "x".repeat(MAX_LENGTH);
/// let control = Control::SendDelayed { content: Content::Text(&long), timeout: 1 };
/// assert_eq!(ws.control(&control), Err(InvalidControl::TooLong));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
pub const MAX_LENGTH: usize = 16_384;

/// A control message.
///
/// ```
/// use fanout_edge::grip::Control;
///
/// let meta = Control::SetMeta { name: "user", value: "alice" };
/// assert_eq!(meta.to_json(), r#"{"type":"set-meta","name":"user","value":"alice"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Control<'a> {
    /// From now on the client receives what is published to the channel. At most 20 channels for each connection:
    /// the proxy ignores more. A publish within milliseconds of the subscription may still be missed.
    Subscribe {
        /// The channel.
        channel: &'a Channel,
        /// Which of the published items this client gets.
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        filters: &'a [Filter],
    },
    /// The client no longer receives what is published to the channel.
    Unsubscribe {
        /// The channel.
        channel: &'a Channel,
    },
    /// The proxy keeps the connection to itself: the application gets a CLOSE and nothing after it, publishes still
    /// reach the client.
    Detach,
    /// The proxy sends a message to the client again and again.
    KeepAlive {
        /// The message. `None` switches it off.
        #[serde(flatten)]
        content: Option<Content<'a>>,
        /// The time in seconds, less a random part of a second.
        timeout: u32,
        /// What the time counts from.
        #[serde(skip_serializing_if = "KeepAliveMode::is_default")]
        mode: KeepAliveMode,
    },
    /// Sets a value that filters compare with the `meta` of published items. It is no `Meta-*` header.
    SetMeta {
        /// The name, for instance `user` for [`Filter::SkipSelf`].
        name: &'a str,
        /// The value.
        value: &'a str,
    },
    /// The proxy sends a message to the client after a time; a second one sends the first at once.
    SendDelayed {
        /// The message.
        #[serde(flatten)]
        content: Content<'a>,
        /// The time in seconds.
        timeout: u32,
    },
    /// The proxy sends a delayed message now.
    FlushDelayed,
}

/// The longest time of a control message, in seconds: the proxy counts milliseconds in 31 bits.
///
/// ```
/// use fanout_edge::grip::control::{Control, KeepAliveMode, MAX_TIMEOUT};
///
/// let off = |timeout| Control::KeepAlive { content: None, timeout, mode: KeepAliveMode::Idle };
/// assert!(off(MAX_TIMEOUT).check().is_ok());
/// assert!(off(MAX_TIMEOUT + 1).check().is_err());
/// ```
pub const MAX_TIMEOUT: u32 = 2_147_483;

impl Control<'_> {
    /// Whether the proxy acts on the message: it ignores others without a word.
    ///
    /// # Errors
    /// [`InvalidControl`].
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

    /// The message without its `c:`.
    ///
    /// ```
    /// use fanout_edge::grip::Control;
    ///
    /// assert_eq!(Control::FlushDelayed.to_json(), r#"{"type":"flush-delayed"}"#);
    /// ```
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers under known keys are JSON")
    }
}

/// A control message that the proxy would ignore.
///
/// ```
/// use fanout_edge::grip::control::InvalidControl;
///
/// assert_eq!(InvalidControl::TooLong.to_string(), "a control message has at most 16384 bytes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidControl {
    /// It is longer than [`MAX_LENGTH`].
    TooLong,
    /// The payload of a ping or pong is longer than [`MAX_PAYLOAD`].
    Payload,
    /// The time is not 1 to [`MAX_TIMEOUT`] seconds.
    Timeout,
    /// The name of a meta is empty.
    MetaName,
}

impl fmt::Display for InvalidControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a control message has at most {MAX_LENGTH} bytes"),
            Self::Payload => write!(f, "the payload of a ping or pong has at most {MAX_PAYLOAD} bytes"),
            Self::Timeout => write!(f, "the time of a control message is 1 to {MAX_TIMEOUT} seconds"),
            Self::MetaName => f.write_str("the name of a meta is not empty"),
        }
    }
}

impl Error for InvalidControl {}

/// Which of the published items a subscriber gets. Those that the proxy knows are in its header `Grip-Feature`.
///
/// ```
/// use fanout_edge::grip::{Channel, Control, Filter};
///
/// let channel = Channel::from_static("room");
/// let control = Control::Subscribe { channel: &channel, filters: &[Filter::SkipSelf, Filter::VarSubst] };
/// assert!(control.to_json().ends_with(r#""filters":["skip-self","var-subst"]}"#));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Not those whose meta `sender` is the subscriber's meta `user`.
    SkipSelf,
    /// Not those whose meta `skip_users` lists the subscriber's meta `user`.
    SkipUsers,
    /// Only those whose meta `require_sub`, where they have one, is a channel that the subscriber has, too. A WebSocket
    /// gets none of them (Pushpin 1.41): it is for streams.
    RequireSub,
    /// Replaces `%I` in the content by the subscriber's meta `id_format`, in which `%(channel)s` stands for the id of
    /// the last item before this one that the subscriber had of a channel. For streams.
    BuildId,
    /// Replaces `%(name)s` in the content by the subscriber's meta of that name. A message with one that is not set, or
    /// with another `%`, arrives empty; `%%` stands for `%`.
    VarSubst,
}

impl Filter {
    /// The name of the filter in headers and JSON.
    ///
    /// ```
    /// use fanout_edge::grip::Filter;
    ///
    /// assert_eq!(Filter::RequireSub.as_str(), "require-sub");
    /// ```
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

/// What the time of a keep-alive counts from.
///
/// ```
/// use fanout_edge::grip::control::{Content, Control, KeepAliveMode};
///
/// let content = Some(Content::Ping(b""));
/// let control = Control::KeepAlive { content, timeout: 30, mode: KeepAliveMode::Interval };
/// assert!(control.to_json().ends_with(r#""timeout":30,"mode":"interval"}"#));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepAliveMode {
    /// The last message of either side.
    #[default]
    Idle,
    /// The last keep-alive, whatever else is sent.
    Interval,
}

impl KeepAliveMode {
    /// Whether it is the one that the proxy takes where none is named.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A message that the proxy sends for the application.
///
/// # Format
/// Text is `content`; all else is `message-type`, and `content-bin` in base64 (or an empty `content`).
///
/// ```
/// use fanout_edge::grip::{Control, control::Content};
///
/// let later = Control::SendDelayed { content: Content::Text("later"), timeout: 5 };
/// assert_eq!(later.to_json(), r#"{"type":"send-delayed","content":"later","timeout":5}"#);
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

    /// As it stands in a published item, where the type has another name.
    pub(super) fn serialize_item<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_as("type", serializer)
    }
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_as("message-type", serializer)
    }
}
