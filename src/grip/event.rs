//! WebSocket-over-HTTP events: the body of a request of the proxy and of the response to it.
//!
//! # Format
//! ```text
//! body    = *event
//! event   = type CRLF                               ; no content, also for an empty message
//!         / type SP length CRLF content CRLF
//! type    = 1*20 %x41-5A                            ; OPEN TEXT BINARY PING PONG CLOSE DISCONNECT
//! length  = 1*8 HEXDIG                              ; of the content, in bytes
//! content = *OCTET                                  ; CLOSE: code (2 bytes, big-endian), then the reason
//! ```
//! Unknown types are skipped, as the proxy does in a response. Any other deviation is an error.
//! Source: <https://pushpin.org/docs/protocols/websocket-over-http/>.

use std::{error::Error, fmt};

/// The `Content-Type` of requests and responses, byte for byte. The proxy treats a response with another spelling as a
/// rejection, and a request with another spelling may be forged by a client.
pub const CONTENT_TYPE: &str = "application/websocket-events";

/// The longest payload of a ping or pong, in bytes. Source: RFC 6455, section 5.5.
pub const MAX_PAYLOAD: usize = 125;

const MAX_TYPE_LENGTH: usize = 20;
const MAX_LENGTH_DIGITS: usize = 8;
const CRLF: &[u8] = b"\r\n";

/// One event. The content borrows from the decoded body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The client opens a connection; in a response, the application accepts it.
    Open,
    /// A text message. The proxy does not check that it is UTF-8.
    Text(&'a [u8]),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, with its payload.
    Ping(&'a [u8]),
    /// A pong, with its payload.
    Pong(&'a [u8]),
    /// A close frame; `None` if it has no code.
    Close(Option<CloseFrame<'a>>),
    /// The connection ends without a close frame.
    Disconnect,
}

/// The content of a close frame. The proxy validates neither the code nor the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The status code.
    pub code: u16,
    /// The reason: UTF-8 of at most 123 bytes, if it is valid.
    pub reason: &'a [u8],
}

impl Event<'_> {
    /// Appends the event to the body of a request or response.
    ///
    /// ```
    /// use fanout_edge::grip::Event;
    ///
    /// let mut body = Vec::new();
    /// Event::Open.encode(&mut body);
    /// Event::Text("m:héllo".as_bytes()).encode(&mut body);
    /// assert_eq!(body, "OPEN\r\nTEXT 8\r\nm:héllo\r\n".as_bytes());
    /// ```
    pub fn encode(&self, body: &mut Vec<u8>) {
        match *self {
            Self::Open => write(body, "OPEN", &[]),
            Self::Text(text) => write(body, "TEXT", &[text]),
            Self::Binary(bytes) => write(body, "BINARY", &[bytes]),
            Self::Ping(payload) => write(body, "PING", &[payload]),
            Self::Pong(payload) => write(body, "PONG", &[payload]),
            Self::Close(None) => write(body, "CLOSE", &[]),
            Self::Close(Some(CloseFrame { code, reason })) => write(body, "CLOSE", &[&code.to_be_bytes(), reason]),
            Self::Disconnect => write(body, "DISCONNECT", &[]),
        }
    }
}

/// Appends one event whose content is the concatenated parts.
pub(super) fn write(body: &mut Vec<u8>, kind: &str, parts: &[&[u8]]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    body.extend_from_slice(kind.as_bytes());
    if length > 0 {
        body.push(b' ');
        let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
        body.extend((0..digits).rev().map(|digit| HEX[(length >> (4 * digit)) & 0xf]));
        body.extend_from_slice(CRLF);
        for part in parts {
            body.extend_from_slice(part);
        }
    }
    body.extend_from_slice(CRLF);
}

/// The maximum number of events in one body. Pushpin 1.41 puts at most 200,000 bytes of messages into one.
pub const MAX_EVENTS: usize = 250_000;

/// An iterator over the events of a valid body. It does not allocate, and does not validate the content of messages.
///
/// ```
/// use fanout_edge::grip::{Event, Events};
///
/// let mut events = Events::decode(b"TEXT 5\r\nhello\r\nTEXT\r\n")?;
/// assert_eq!(events.next(), Some(Event::Text(b"hello")));
/// assert_eq!(events.next(), Some(Event::Text(b"")));
/// assert_eq!(events.next(), None);
/// # Ok::<(), fanout_edge::grip::event::DecodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Events<'a> {
    rest: &'a [u8],
}

impl<'a> Events<'a> {
    /// Validates the whole body, so that no event of an invalid one is processed. An empty body has no events.
    ///
    /// # Errors
    /// [`DecodeError`] for the first invalid event.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut rest = body;
        let mut count = 0;
        while !rest.is_empty() {
            let error = |kind| DecodeError { offset: body.len() - rest.len(), kind };
            count += 1;
            if count > MAX_EVENTS {
                return Err(error(DecodeErrorKind::TooMany));
            }
            (_, rest) = event(rest).map_err(error)?;
        }
        Ok(Self { rest: body })
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        while !self.rest.is_empty() {
            let (known, rest) = event(self.rest).ok()?;
            self.rest = rest;
            if known.is_some() {
                return known;
            }
        }
        None
    }
}

/// A body that is not a valid sequence of events.
///
/// ```
/// use fanout_edge::grip::Events;
///
/// let error = Events::decode(b"OPEN\r\nTEXT 5\r\nhel").err().expect("the body is truncated");
/// assert_eq!(error.to_string(), "the event at byte 6 has less content than its length says");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The offset of the first invalid event, in bytes.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: DecodeErrorKind,
}

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// It does not begin with a type of 1 to 20 upper-case letters.
    Type,
    /// Its first line does not end in CRLF.
    LineEnd,
    /// Its length is not 1 to 8 hexadecimal digits.
    Length,
    /// Its content is shorter than its length says.
    Truncated,
    /// Its content is not followed by CRLF.
    ContentEnd,
    /// It is an OPEN or DISCONNECT with content.
    Content,
    /// It is a CLOSE whose content is one byte, too short for a code.
    CloseCode,
    /// It follows [`MAX_EVENTS`] others.
    TooMany,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DecodeErrorKind::Type => "does not begin with a type of 1 to 20 upper-case letters",
            DecodeErrorKind::LineEnd => "has a first line that does not end in CRLF",
            DecodeErrorKind::Length => "has a length that is not 1 to 8 hexadecimal digits",
            DecodeErrorKind::Truncated => "has less content than its length says",
            DecodeErrorKind::ContentEnd => "has content that is not followed by CRLF",
            DecodeErrorKind::Content => "has content, which its type does not allow",
            DecodeErrorKind::CloseCode => "has one byte of content, too short for a close code",
            DecodeErrorKind::TooMany => "exceeds the maximum number of events",
        };
        write!(f, "the event at byte {} {what}", self.offset)
    }
}

impl Error for DecodeError {}

/// Splits off the first event; `None` if its type is unknown.
fn event(bytes: &[u8]) -> Result<(Option<Event<'_>>, &[u8]), DecodeErrorKind> {
    let (kind, rest) = split_where(bytes, MAX_TYPE_LENGTH, |byte| byte.is_ascii_uppercase());
    if kind.is_empty() {
        return Err(DecodeErrorKind::Type);
    }
    let (content, rest) = match rest {
        [b'\r', b'\n', rest @ ..] => (&[][..], rest),
        [b' ', rest @ ..] => content(rest)?,
        [next, ..] if !matches!(next, b'\r') => return Err(DecodeErrorKind::Type),
        _ => return Err(DecodeErrorKind::LineEnd),
    };
    let known = match kind {
        b"TEXT" => Event::Text(content),
        b"BINARY" => Event::Binary(content),
        b"PING" => Event::Ping(content),
        b"PONG" => Event::Pong(content),
        b"CLOSE" => Event::Close(close(content)?),
        b"OPEN" | b"DISCONNECT" if !content.is_empty() => return Err(DecodeErrorKind::Content),
        b"OPEN" => Event::Open,
        b"DISCONNECT" => Event::Disconnect,
        _ => return Ok((None, rest)),
    };
    Ok((Some(known), rest))
}

/// Splits off `length CRLF content CRLF`, and returns the content.
fn content(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeErrorKind> {
    let (digits, rest) = split_where(bytes, MAX_LENGTH_DIGITS, |byte| byte.is_ascii_hexdigit());
    let length = str::from_utf8(digits)
        .ok()
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .and_then(|length| usize::try_from(length).ok())
        .ok_or(DecodeErrorKind::Length)?;
    let rest = match rest {
        [b'\r', b'\n', rest @ ..] => rest,
        [next, ..] if *next != b'\r' => return Err(DecodeErrorKind::Length),
        _ => return Err(DecodeErrorKind::LineEnd),
    };
    let (content, rest) = rest.split_at_checked(length).ok_or(DecodeErrorKind::Truncated)?;
    let rest = rest.strip_prefix(CRLF).ok_or(DecodeErrorKind::ContentEnd)?;
    Ok((content, rest))
}

fn close(content: &[u8]) -> Result<Option<CloseFrame<'_>>, DecodeErrorKind> {
    match content {
        [] => Ok(None),
        [high, low, reason @ ..] => Ok(Some(CloseFrame { code: u16::from_be_bytes([*high, *low]), reason })),
        _ => Err(DecodeErrorKind::CloseCode),
    }
}

/// Splits after the leading bytes that are `wanted`, at most `most`.
fn split_where(bytes: &[u8], most: usize, wanted: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = bytes.iter().take(most).take_while(|byte| wanted(byte)).count();
    bytes.split_at(end)
}
