//! One request of a WebSocket connection, and the response to it.
//!
//! The proxy holds the WebSocket and sends what the client does as POST requests, one after the other for each
//! connection: see [`event`](super::event) for the body. A [`WebSocket`] is one such request: it hands the messages to
//! the application, answers pings, and collects what the application sends into one response.
//!
//! There is no `Content-Bytes-Accepted`: what a response does not accept comes again only with the client's next message
//! or a keep-alive (Pushpin 1.41), which may be never.

mod error;
mod send;

use http::{HeaderMap, HeaderValue, header};

pub use self::error::{InvalidMeta, NotOffered, PayloadTooLong, RequestError};

use super::{CloseCode, Event, Events, Header, Headers, Signed, event::CONTENT_TYPE};

/// The longest body of a response, in bytes. The proxy drops the connection if it is longer, so a response that would be
/// ends with a CLOSE.
pub const MAX_RESPONSE: usize = 1_000_000;

/// Space that is kept in a response for the CLOSE that says that the rest would not fit.
const CLOSE_ROOM: usize = 64;

/// Whether the headers are those of a WebSocket-over-HTTP request: `Content-Type` is byte for byte [`CONTENT_TYPE`],
/// once. An HTTP client can forge any other spelling, even in a request with a valid `Grip-Sig`: the proxy stops only
/// this one.
///
/// ```
/// use fanout_edge::grip::websocket::is_websocket_over_http;
///
/// assert!(is_websocket_over_http(&[("content-type", "application/websocket-events")]));
/// assert!(!is_websocket_over_http(&[("content-type", "application/websocket-events ; x=1")]));
/// ```
pub fn is_websocket_over_http(headers: &dyn Headers) -> bool {
    headers.header("content-type") == Header::Value(CONTENT_TYPE)
}

/// What a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// The client closes, with a code or without. It waits for [`WebSocket::close`].
    Close(Option<CloseCode>),
    /// The client is gone: nothing can be sent anymore.
    Disconnect,
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes)
    }
}

/// One request of a WebSocket connection.
///
/// ```
/// use fanout_edge::grip::{Channel, Message, Signed, WebSocket};
///
/// let headers = [("connection-id", "c1")];
/// let mut ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"OPEN\r\nTEXT 5\r\nhello\r\n")?;
/// if ws.is_opening() {
///     ws.accept();
///     ws.subscribe(&Channel::from_static("test"));
/// }
/// while let Some(message) = ws.receive() {
///     ws.send(message);
/// }
/// let response = ws.into_response();
/// assert!(response.body.starts_with(b"OPEN\r\nTEXT 27\r\nc:{\"type\":\"subscribe\",\"channel\":\"test\"}\r\n"));
/// assert!(response.body.ends_with(b"TEXT 7\r\nm:hello\r\n"));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
pub struct WebSocket<'a> {
    headers: &'a dyn Headers,
    connection_id: &'a str,
    handshake: Handshake,
    traffic: Traffic,
    events: Events<'a>,
    close_reason: &'a str,
    response: Response,
}

/// Where the handshake of the connection stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handshake {
    /// This is the first request, and not accepted yet.
    Pending,
    /// This is the first request, and accepted.
    Accepted,
    /// An earlier request was accepted.
    Earlier,
}

/// What can still pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Both,
    /// The client has closed and waits for the response to that.
    Outgoing,
    /// The connection is closed, or the client is gone.
    None,
}

/// The response to a request: status 200, these headers, this body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `Content-Type` is [`CONTENT_TYPE`].
    pub headers: HeaderMap,
    /// Events.
    pub body: Vec<u8>,
}

impl<'a> WebSocket<'a> {
    /// Reads a request that came through the proxy, and for which [`is_websocket_over_http`] is true.
    ///
    /// # Errors
    /// [`RequestError`] if there is no `Connection-Id`, or the body is not valid as a whole.
    pub fn new(_: Signed, headers: &'a dyn Headers, body: &'a [u8]) -> Result<Self, RequestError> {
        let connection_id = match headers.header("connection-id") {
            Header::Value(id) if !id.is_empty() => id,
            Header::Value(_) | Header::Missing => return Err(RequestError::NoConnectionId),
            Header::Invalid => return Err(RequestError::InvalidConnectionId),
        };
        let events = Events::decode(body).map_err(RequestError::Events)?;
        let is_opening = matches!(events.clone().next(), Some(Event::Open));
        Ok(Self {
            headers,
            connection_id,
            handshake: if is_opening { Handshake::Pending } else { Handshake::Earlier },
            traffic: Traffic::Both,
            events,
            close_reason: "",
            response: Response {
                headers: HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))]),
                body: Vec::with_capacity(body.len() + CLOSE_ROOM),
            },
        })
    }

    /// The proxy's id for the connection, the same in each of its requests.
    pub const fn connection_id(&self) -> &'a str {
        self.connection_id
    }

    /// Whether nothing more can be sent: the connection is closed, or the client is gone.
    pub const fn is_closed(&self) -> bool {
        matches!(self.traffic, Traffic::None)
    }

    /// Whether the client has closed and waits for [`close`](Self::close).
    pub const fn is_closing(&self) -> bool {
        matches!(self.traffic, Traffic::Outgoing)
    }

    /// Whether this is the first request of the connection, which waits for [`accept`](Self::accept).
    pub const fn is_opening(&self) -> bool {
        !matches!(self.handshake, Handshake::Earlier)
    }

    /// Whether the connection is accepted, by this response or an earlier one.
    pub const fn is_accepted(&self) -> bool {
        !matches!(self.handshake, Handshake::Pending)
    }

    /// Accepts an opening connection, and turns GRIP on for it. Without one it does nothing: an OPEN in a later response
    /// would end the connection.
    pub fn accept(&mut self) {
        if self.handshake == Handshake::Pending {
            self.handshake = Handshake::Accepted;
            self.response.headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static("grip"));
            let mut open = Vec::with_capacity(self.response.body.capacity());
            Event::Open.encode(&mut open);
            open.append(&mut self.response.body);
            self.response.body = open;
        }
    }

    /// The subprotocols that the client offers, the preferred one first.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        self.headers.list("sec-websocket-protocol").into_iter()
    }

    /// Accepts an opening connection with one of the [`protocols`](Self::protocols).
    ///
    /// # Errors
    /// [`NotOffered`] if it is none of them, as the client would give up. The connection is not accepted then.
    ///
    /// ```
    /// use fanout_edge::grip::{Signed, WebSocket};
    ///
    /// let headers = [("connection-id", "c1"), ("sec-websocket-protocol", "v2, v1")];
    /// let mut ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"OPEN\r\n")?;
    /// assert!(ws.accept_with_protocol("v3").is_err());
    /// assert!(ws.accept_with_protocol("v1").is_ok());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn accept_with_protocol(&mut self, protocol: &str) -> Result<(), NotOffered> {
        let protocol = self.protocols().find(|offered| *offered == protocol).ok_or(NotOffered)?;
        let value = HeaderValue::from_str(protocol).map_err(|_| NotOffered)?;
        self.response.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        self.accept();
        Ok(())
    }

    /// The events of the request that were not received yet.
    pub fn events(&self) -> Events<'a> {
        self.events.clone()
    }

    /// The next message; `None` after the last one of the request. Pings are answered on the way, in order.
    ///
    /// Text that is not UTF-8 closes the connection with 1007, as RFC 6455, section 8.1 demands. A close with a code
    /// that must not be sent is received as one with 1002. What follows a close is ignored.
    ///
    /// ```
    /// use fanout_edge::grip::{Message, Signed, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"PING 1\r\np\r\nBINARY 1\r\nb\r\n")?;
    /// assert_eq!(ws.receive(), Some(Message::Binary(b"b")));
    /// assert_eq!(ws.receive(), None);
    /// assert_eq!(ws.into_response().body, b"PONG 1\r\np\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn receive(&mut self) -> Option<Message<'a>> {
        while self.traffic == Traffic::Both {
            match self.events.next()? {
                Event::Open | Event::Pong(_) => {}
                Event::Ping(payload) => self.write_event("PONG", &[payload]),
                Event::Binary(bytes) => return Some(Message::Binary(bytes)),
                Event::Text(text) => match str::from_utf8(text) {
                    Ok(text) => return Some(Message::Text(text)),
                    Err(_) => self.close_with_reason(CloseCode::INVALID_DATA, "text is not UTF-8"),
                },
                Event::Close(frame) => {
                    self.traffic = Traffic::Outgoing;
                    self.close_reason = frame.and_then(|frame| str::from_utf8(frame.reason).ok()).unwrap_or_default();
                    let code = frame.map(|frame| CloseCode::new(frame.code).unwrap_or(CloseCode::PROTOCOL_ERROR));
                    return Some(Message::Close(code));
                }
                Event::Disconnect => {
                    self.traffic = Traffic::None;
                    return Some(Message::Disconnect);
                }
            }
        }
        None
    }

    /// The reason that the client gave with the close that was [received](Self::receive). Empty if it gave none, or one
    /// that is not UTF-8.
    pub const fn close_reason(&self) -> &'a str {
        self.close_reason
    }

    /// A value that this or an earlier response set with [`set_meta`](Self::set_meta). On a WebSocket the proxy lets no
    /// client send one itself.
    ///
    /// ```
    /// use fanout_edge::grip::{Signed, WebSocket};
    ///
    /// let headers = [("connection-id", "c1"), ("meta-user", "alice")];
    /// let ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"")?;
    /// assert_eq!(ws.meta("user"), Some("alice"));
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn meta(&self, name: &str) -> Option<&str> {
        let earlier = || self.headers.header(&format!("meta-{}", name.to_ascii_lowercase())).value();
        self.new_meta(name).or_else(earlier)
    }

    /// A value that this response sets with [`set_meta`](Self::set_meta).
    pub fn new_meta(&self, name: &str) -> Option<&str> {
        self.response.headers.get(format!("set-meta-{}", name.to_ascii_lowercase()))?.to_str().ok()
    }

    /// The response to the request.
    pub fn into_response(self) -> Response {
        self.response
    }
}
