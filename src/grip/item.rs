//! Items, which are published to the subscribers of a channel.
//!
//! # Format
//! ```text
//! {"channel":"room","id":"5","prev-id":"4","meta":{"sender":"alice"},"formats":{
//!   "http-response":{"code":200,"headers":[["Content-Type","text/plain"]],"body":"Hello"},
//!   "http-stream":{"content":"Hello\n"},
//!   "ws-message":{"content":"Hello"}}}
//! ```
//! Bytes are `body-bin` or `content-bin`, in base64.
//! Source: <https://pushpin.org/docs/protocols/grip/#publishing>, and Pushpin 1.41.
//!
//! ```
//! use fanout_edge::grip::{Channel, Formats, Item, WsMessage};
//!
//! let channel = Channel::from_static("room");
//! let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text("Hello")), ..Formats::default() });
//! assert_eq!(item.json_len(), item.to_json().len());
//! assert_eq!(item.to_json(), r#"{"channel":"room","formats":{"ws-message":{"content":"Hello"}}}"#);
//! ```

use std::{error::Error, fmt, io};

use base64::prelude::{BASE64_STANDARD, Engine};
use http::{HeaderMap, HeaderValue};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Channel, CloseCode, close::MAX_REASON, control::Content, headers::printable};

/// One message for the subscribers of one channel.
///
/// ```
/// use fanout_edge::grip::{Channel, Formats, Item, ItemId, WsMessage};
///
/// let channel = Channel::from_static("room");
/// let formats = Formats { ws_message: Some(WsMessage::text("Hello")), ..Formats::default() };
/// let item = Item { id: ItemId::new("5"), meta: &[("sender", "alice")], ..Item::new(&channel, formats) };
/// assert!(item.to_json().starts_with(r#"{"channel":"room","id":"5","meta":{"sender":"alice"},"#));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Item<'a> {
    /// The channel.
    pub channel: &'a Channel,
    /// The id. The proxy drops an item if the channel had one with the same id within the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ItemId<'a>>,
    /// The id of the previous item. The proxy waits up to 5 seconds for that one, to keep the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_id: Option<ItemId<'a>>,
    /// Whether the proxy ignores the order and sends the item immediately. The ids are for the clients only then.
    #[serde(skip_serializing_if = "is_false")]
    pub no_seq: bool,
    /// Meta values for the filters of subscribers, for instance `sender`.
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_map")]
    pub meta: &'a [(&'a str, &'a str)],
    /// The message in the format of each transport.
    pub formats: Formats<'a>,
}

/// The id of an item.
///
/// # Format
/// At least one of letters, digits and `-._~:`, which need no escaping in `Grip-Channel` and `Grip-Last`.
///
/// ```
/// use fanout_edge::grip::ItemId;
///
/// assert!(ItemId::new("2026-11-23:1").is_some());
/// assert!(ItemId::new("a, b").is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ItemId<'a>(&'a str);

impl<'a> ItemId<'a> {
    /// Returns the id; `None` if it is invalid.
    pub fn new(id: &'a str) -> Option<Self> {
        let is_valid =
            !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte));
        is_valid.then_some(Self(id))
    }

    /// The text of the id.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> Item<'a> {
    /// Returns an item without ids and meta values. Without any format, the proxy rejects the whole publish request.
    pub const fn new(channel: &'a Channel, formats: Formats<'a>) -> Self {
        Self { channel, id: None, prev_id: None, no_seq: false, meta: &[], formats }
    }

    /// The JSON of the item.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers under known keys are JSON")
    }

    /// The length of its JSON, in bytes, which is not built for that.
    pub fn json_len(&self) -> usize {
        let mut length = Length(0);
        serde_json::to_writer(&mut length, self).expect("strings and numbers under known keys are JSON");
        length.0
    }
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message in the format of each transport. A subscriber receives nothing if the format of its transport is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Formats<'a> {
    /// For clients with a response hold: long-polling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_response: Option<HttpResponse<'a>>,
    /// For clients with a stream hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_stream: Option<HttpStream<'a>>,
    /// For WebSocket clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ws_message: Option<WsMessage<'a>>,
}

/// The response that ends a response hold.
///
/// ```
/// use fanout_edge::grip::{Channel, Formats, Item, item::{Body, HeldResponse, HttpResponse}};
/// use http::HeaderMap;
///
/// let channel = Channel::from_static("a");
/// let headers = HeaderMap::new();
/// let response = HttpResponse::Response(HeldResponse::ok(&headers, Body::Text("x")));
/// let item = Item::new(&channel, Formats { http_response: Some(response), ..Formats::default() });
/// assert_eq!(item.to_json(), r#"{"channel":"a","formats":{"http-response":{"code":200,"body":"x"}}}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpResponse<'a> {
    /// This response. The proxy adds the headers of the held response.
    Response(HeldResponse<'a>),
    /// The new response of the application: the proxy sends it the client's request again.
    Hint,
}

/// A response in place of the held one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldResponse<'a> {
    code: u16,
    reason: Option<HeaderValue>,
    headers: &'a HeaderMap,
    body: Body<'a>,
}

/// The body of a response, or a part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// UTF-8, which goes into the JSON as it is.
    Text(&'a str),
    /// Anything, in base64.
    Binary(&'a [u8]),
}

impl<'a> HeldResponse<'a> {
    /// Returns a response with the status 200. Header values are sent as UTF-8, with U+FFFD for invalid bytes.
    pub const fn ok(headers: &'a HeaderMap, body: Body<'a>) -> Self {
        Self { code: 200, reason: None, headers, body }
    }

    /// Returns self with another status code.
    ///
    /// # Errors
    /// [`InvalidStatus`] if it is not 200 to 599.
    pub fn with_code(self, code: u16) -> Result<Self, InvalidStatus> {
        if (200..=599).contains(&code) { Ok(Self { code, ..self }) } else { Err(InvalidStatus) }
    }

    /// Returns self with a reason phrase, in place of the standard one of the code.
    ///
    /// # Errors
    /// [`InvalidStatus`] if it has other characters than printable ASCII.
    pub fn with_reason(self, reason: &str) -> Result<Self, InvalidStatus> {
        let reason = printable(reason).ok_or(InvalidStatus)?;
        Ok(Self { reason: Some(reason), ..self })
    }
}

/// A status that no proxy can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidStatus;

impl fmt::Display for InvalidStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid status: use a code of 200 to 599 and a reason of printable ASCII")
    }
}

impl Error for InvalidStatus {}

/// What a client with a stream hold receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpStream<'a> {
    /// This.
    Content(Body<'a>),
    /// The response of the application to a request for the next link of the hold.
    Hint,
    /// The end of the stream.
    Close,
}

/// What a WebSocket client receives.
///
/// ```
/// use fanout_edge::grip::{Channel, Formats, Item, WsMessage};
///
/// let channel = Channel::from_static("a");
/// let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::Refresh), ..Formats::default() });
/// assert_eq!(item.to_json(), r#"{"channel":"a","formats":{"ws-message":{"action":"refresh"}}}"#);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WsMessage<'a> {
    /// A message. Text that begins with `c:` or `m:` is delivered unchanged.
    Message(Content<'a>),
    /// A close frame with a code and a reason, which is cut at [`MAX_REASON`] bytes.
    Close {
        /// The code.
        code: CloseCode,
        /// The reason.
        reason: &'a str,
    },
    /// The response of the application to an empty request for the connection.
    Refresh,
    /// Nothing.
    Hint,
}

impl<'a> WsMessage<'a> {
    /// Returns a text message.
    pub const fn text(text: &'a str) -> Self {
        Self::Message(Content::Text(text))
    }

    /// Returns a binary message.
    pub const fn binary(bytes: &'a [u8]) -> Self {
        Self::Message(Content::Binary(bytes))
    }
}

impl Serialize for HttpResponse<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match *self {
            Self::Response(HeldResponse { code, ref reason, headers, body }) => {
                map.serialize_entry("code", &code)?;
                if let Some(reason) = reason {
                    map.serialize_entry("reason", &String::from_utf8_lossy(reason.as_bytes()))?;
                }
                if !headers.is_empty() {
                    map.serialize_entry("headers", &Pairs(headers))?;
                }
                body.serialize(&mut map, ["body", "body-bin"])?;
            }
            Self::Hint => map.serialize_entry("action", "hint")?,
        }
        map.end()
    }
}

impl Serialize for HttpStream<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match *self {
            Self::Content(content) => content.serialize(&mut map, ["content", "content-bin"])?,
            Self::Hint => map.serialize_entry("action", "hint")?,
            Self::Close => map.serialize_entry("action", "close")?,
        }
        map.end()
    }
}

impl Serialize for WsMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let action = match self {
            Self::Message(content) => return content.serialize_item(serializer),
            Self::Close { .. } => "close",
            Self::Refresh => "refresh",
            Self::Hint => "hint",
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("action", action)?;
        if let Self::Close { code, reason } = self {
            map.serialize_entry("code", &code.get())?;
            if !reason.is_empty() {
                map.serialize_entry("reason", &reason[..reason.floor_char_boundary(MAX_REASON)])?;
            }
        }
        map.end()
    }
}

/// Headers as a list of names and values, in which names may repeat.
struct Pairs<'a>(&'a HeaderMap);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self.0.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())));
        serializer.collect_seq(pairs)
    }
}

impl Body<'_> {
    /// Serializes text under the first key, bytes under the second.
    fn serialize<M: SerializeMap>(self, map: &mut M, [text, binary]: [&str; 2]) -> Result<(), M::Error> {
        match self {
            Self::Text(content) => map.serialize_entry(text, content),
            Self::Binary(bytes) => map.serialize_entry(binary, &BASE64_STANDARD.encode(bytes)),
        }
    }
}

fn as_map<S: Serializer>(pairs: &[(&str, &str)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}

const fn is_false(value: &bool) -> bool {
    !*value
}
