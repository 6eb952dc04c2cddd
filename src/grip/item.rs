//! Items: what is published to the subscribers of a channel.
//!
//! # Format
//! ```text
//! {"channel":"room","id":"5","prev-id":"4","meta":{"sender":"alice"},"formats":{
//!   "http-response":{"code":200,"headers":[["Content-Type","text/plain"]],"body":"Hello"},
//!   "http-stream":{"content":"Hello\n"},
//!   "ws-message":{"content":"Hello"}}}
//! ```
//! Bytes that are not UTF-8 are `body-bin` or `content-bin`, in base64.
//! Source: <https://pushpin.org/docs/protocols/grip/#publishing>, and Pushpin 1.41.
//!
//! ```
//! use fanout_edge::grip::{Channel, Formats, Item, WsMessage};
//!
//! let channel = Channel::from_static("room");
//! let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text("Hello")), ..Formats::default() });
//! assert_eq!(item.to_json(), r#"{"channel":"room","formats":{"ws-message":{"content":"Hello"}}}"#);
//! ```

use std::{error::Error, fmt};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Channel, CloseCode, close::MAX_REASON, control::Content, headers::is_printable};

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
    /// The id. Of items with the same id on a channel within a minute, only the first is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ItemId<'a>>,
    /// The id of the item before it. Items wait for it, up to 5 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_id: Option<ItemId<'a>>,
    /// The ids are for the clients only: the proxy sends the item at once.
    #[serde(skip_serializing_if = "is_false")]
    pub no_seq: bool,
    /// Values that the filters of subscribers look at, for instance `sender`.
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_map")]
    pub meta: &'a [(&'a str, &'a str)],
    /// The message, for each kind of subscriber.
    pub formats: Formats<'a>,
}

/// The id of an item.
///
/// # Format
/// Letters, digits and `-._~:`, at least one: it stands unescaped in `Grip-Channel` and `Grip-Last`.
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
    /// `None` where no item can have that id.
    ///
    /// ```
    /// use fanout_edge::grip::ItemId;
    ///
    /// assert!(ItemId::new("").is_none());
    /// ```
    pub fn new(id: &'a str) -> Option<Self> {
        let is_valid =
            !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte));
        is_valid.then_some(Self(id))
    }

    /// The id.
    ///
    /// ```
    /// use fanout_edge::grip::ItemId;
    ///
    /// assert_eq!(ItemId::new("5").map(ItemId::as_str), Some("5"));
    /// ```
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> Item<'a> {
    /// An item without an id. Of the formats there is at least one, or the proxy refuses the request as a whole.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Formats, Item, WsMessage};
    ///
    /// let channel = Channel::from_static("room");
    /// let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::Hint), ..Formats::default() });
    /// assert_eq!((item.id, item.prev_id), (None, None));
    /// ```
    pub const fn new(channel: &'a Channel, formats: Formats<'a>) -> Self {
        Self { channel, id: None, prev_id: None, no_seq: false, meta: &[], formats }
    }

    /// The item as it is published.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Formats, Item, WsMessage};
    ///
    /// let channel = Channel::from_static("a");
    /// let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::Hint), ..Formats::default() });
    /// assert_eq!(item.to_json(), r#"{"channel":"a","formats":{"ws-message":{"action":"hint"}}}"#);
    /// ```
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers under known keys are JSON")
    }
}

/// A message as each kind of subscriber gets it. A subscriber of a kind that has none gets nothing.
///
/// ```
/// use fanout_edge::grip::{Formats, WsMessage, item::HttpStream};
///
/// let text = "Hello\n";
/// let both = Formats {
///     http_stream: Some(HttpStream::Content(text.as_bytes())),
///     ws_message: Some(WsMessage::text(text)),
///     ..Formats::default()
/// };
/// assert!(both.http_response.is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Formats<'a> {
    /// For clients whose answer is held as a response: long-polling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_response: Option<HttpResponse<'a>>,
    /// For clients whose answer is held as a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_stream: Option<HttpStream<'a>>,
    /// For WebSocket clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ws_message: Option<WsMessage<'a>>,
}

/// The answer that ends a response hold.
///
/// ```
/// use fanout_edge::grip::{Channel, Formats, Item, item::{HttpAnswer, HttpResponse}};
///
/// let channel = Channel::from_static("a");
/// let answer = HttpAnswer::new(200, &[], b"x")?;
/// let item = Item::new(&channel, Formats { http_response: Some(HttpResponse::Answer(answer)), ..Formats::default() });
/// assert_eq!(item.to_json(), r#"{"channel":"a","formats":{"http-response":{"code":200,"body":"x"}}}"#);
/// # Ok::<(), fanout_edge::grip::item::InvalidAnswer>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpResponse<'a> {
    /// This answer. The headers of the held answer are added.
    Answer(HttpAnswer<'a>),
    /// Whatever the application answers when the proxy sends it the client's request again.
    Hint,
}

/// An answer that a proxy can send.
///
/// ```
/// use fanout_edge::grip::item::HttpAnswer;
///
/// assert!(HttpAnswer::new(200, &[("Content-Type", "text/plain")], b"Hello").is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpAnswer<'a> {
    code: u16,
    reason: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

impl<'a> HttpAnswer<'a> {
    /// A status code, the names and values of headers, and a body.
    ///
    /// # Errors
    /// [`InvalidAnswer`] where the code is not 200 to 599, a name is not a header name, or a value has other than
    /// printable ASCII characters.
    ///
    /// ```
    /// use fanout_edge::grip::item::{HttpAnswer, InvalidAnswer};
    ///
    /// assert_eq!(HttpAnswer::new(200, &[("X", "two\r\nlines")], b""), Err(InvalidAnswer));
    /// ```
    pub fn new(code: u16, headers: &'a [(&'a str, &'a str)], body: &'a [u8]) -> Result<Self, InvalidAnswer> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~!#$%&'*+^`|".contains(&byte))
        };
        let headers_are_valid = headers.iter().all(|(name, value)| is_name(name) && is_printable(value));
        if headers_are_valid && (200..=599).contains(&code) {
            Ok(Self { code, reason: "", headers, body })
        } else {
            Err(InvalidAnswer)
        }
    }

    /// The same with a reason phrase, in place of the one that goes with the code.
    ///
    /// # Errors
    /// [`InvalidAnswer`] where it has other than printable ASCII characters.
    ///
    /// ```
    /// use fanout_edge::grip::item::HttpAnswer;
    ///
    /// assert!(HttpAnswer::new(404, &[], b"")?.with_reason("Nobody here").is_ok());
    /// # Ok::<(), fanout_edge::grip::item::InvalidAnswer>(())
    /// ```
    pub fn with_reason(self, reason: &'a str) -> Result<Self, InvalidAnswer> {
        if is_printable(reason) { Ok(Self { reason, ..self }) } else { Err(InvalidAnswer) }
    }
}

/// An answer that no proxy can send.
///
/// ```
/// use fanout_edge::grip::item::{HttpAnswer, InvalidAnswer};
///
/// assert_eq!(HttpAnswer::new(101, &[], b""), Err(InvalidAnswer));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidAnswer;

impl fmt::Display for InvalidAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an answer has a code of 200 to 599, header names, and values and a reason of printable ASCII characters",
        )
    }
}

impl Error for InvalidAnswer {}

/// What a stream hold is sent.
///
/// ```
/// use fanout_edge::grip::{Channel, Formats, Item, item::HttpStream};
///
/// let channel = Channel::from_static("a");
/// let item = Item::new(&channel, Formats { http_stream: Some(HttpStream::Content(b"x")), ..Formats::default() });
/// assert_eq!(item.to_json(), r#"{"channel":"a","formats":{"http-stream":{"content":"x"}}}"#);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpStream<'a> {
    /// These bytes.
    Content(&'a [u8]),
    /// Whatever the application answers to the next link of the hold.
    Hint,
    /// The end.
    Close,
}

/// What a WebSocket client is sent.
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
    /// A message. Text that begins with `c:` or `m:` is delivered as it is.
    Message(Content<'a>),
    /// A close frame with a code and a reason, which is cut at [`MAX_REASON`] bytes.
    Close {
        /// The code.
        code: CloseCode,
        /// The reason.
        reason: &'a str,
    },
    /// Nothing: the application is sent an empty request for the connection, and may answer with messages.
    Refresh,
    /// Nothing.
    Hint,
}

impl<'a> WsMessage<'a> {
    /// A text message.
    ///
    /// ```
    /// use fanout_edge::grip::{WsMessage, control::Content};
    ///
    /// assert_eq!(WsMessage::text("hi"), WsMessage::Message(Content::Text("hi")));
    /// ```
    pub const fn text(text: &'a str) -> Self {
        Self::Message(Content::Text(text))
    }

    /// A binary message.
    ///
    /// ```
    /// use fanout_edge::grip::{WsMessage, control::Content};
    ///
    /// assert_eq!(WsMessage::binary(b"\xff"), WsMessage::Message(Content::Binary(b"\xff")));
    /// ```
    pub const fn binary(bytes: &'a [u8]) -> Self {
        Self::Message(Content::Binary(bytes))
    }
}

impl Serialize for HttpResponse<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match *self {
            Self::Answer(HttpAnswer { code, reason, headers, body }) => {
                map.serialize_entry("code", &code)?;
                if !reason.is_empty() {
                    map.serialize_entry("reason", reason)?;
                }
                if !headers.is_empty() {
                    map.serialize_entry("headers", headers)?;
                }
                serialize_bytes(&mut map, ["body", "body-bin"], body)?;
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
            Self::Content(content) => serialize_bytes(&mut map, ["content", "content-bin"], content)?,
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

/// Bytes under the first key where they are text, in base64 under the second where they are not.
fn serialize_bytes<M: SerializeMap>(map: &mut M, [text, binary]: [&str; 2], bytes: &[u8]) -> Result<(), M::Error> {
    match str::from_utf8(bytes) {
        Ok(content) => map.serialize_entry(text, content),
        Err(_) => map.serialize_entry(binary, &BASE64_STANDARD.encode(bytes)),
    }
}

fn as_map<S: Serializer>(pairs: &[(&str, &str)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}

const fn is_false(value: &bool) -> bool {
    !*value
}
