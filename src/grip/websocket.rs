//! One request of a WebSocket connection, and the answer to it.
//!
//! The proxy holds the WebSocket and sends what the client does as POST requests, one after the other for each
//! connection: see [`event`](super::event) for the body. [`WebSocket`] is one such request: it hands the messages to
//! the application, answers pings, and gathers what the application says into one answer.
//!
//! There is no `Content-Bytes-Accepted`: what an answer does not accept comes again only with the client's next message
//! or a keep-alive (Pushpin 1.41), which may be never.

mod error;
mod send;

use std::borrow::Cow;

pub use self::error::{InvalidMeta, NotOffered, PayloadTooLong, RequestError};

use self::send::CLOSE_ROOM;

use super::{CloseCode, Event, Events, Header, Headers, event::CONTENT_TYPE};

/// The longest body of an answer, in bytes. The proxy drops the connection where it is longer.
///
/// ```
/// use fanout_edge::grip::{WebSocket, websocket::MAX_ANSWER};
///
/// let headers = [("connection-id", "c1")];
/// let mut ws = WebSocket::new(&headers, b"")?;
/// ws.send_text(&"x".repeat(MAX_ANSWER));
/// assert!(ws.into_answer().body.starts_with(b"CLOSE "));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
pub const MAX_ANSWER: usize = 1_000_000;

/// Whether the headers are those of a WebSocket-over-HTTP request: `Content-Type` is byte for byte
/// [`CONTENT_TYPE`], once. Any other spelling may have been forged by an HTTP client, even where the request carries a
/// valid `Grip-Sig`: the proxy stops this one spelling only.
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
///
/// ```
/// use fanout_edge::grip::{Message, WebSocket};
///
/// let headers = [("connection-id", "c1")];
/// let mut ws = WebSocket::new(&headers, b"TEXT 2\r\nhi\r\nCLOSE\r\n")?;
/// assert_eq!(ws.receive(), Some(Message::Text("hi")));
/// assert_eq!(ws.receive(), Some(Message::Close(None)));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// The client closes, with a code or without. It waits for [`WebSocket::close`].
    Close(Option<CloseCode>),
    /// The client is gone: nothing can be sent any more.
    Disconnect,
}

/// The longest payload of a ping or pong, in bytes. Source: RFC 6455, section 5.5.
///
/// ```
/// use fanout_edge::grip::{WebSocket, websocket::MAX_PAYLOAD};
///
/// let headers = [("connection-id", "c1")];
/// assert!(WebSocket::new(&headers, b"")?.ping(&[0; MAX_PAYLOAD]).is_ok());
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
pub const MAX_PAYLOAD: usize = 125;

/// One request of a WebSocket connection.
///
/// ```
/// use fanout_edge::grip::{Channel, Message, WebSocket};
///
/// let headers = [("connection-id", "c1")];
/// let mut ws = WebSocket::new(&headers, b"OPEN\r\nTEXT 5\r\nhello\r\n")?;
/// if ws.is_opening() {
///     ws.accept();
///     ws.subscribe(&Channel::from_static("test"));
/// }
/// while let Some(message) = ws.receive() {
///     if let Message::Text(text) = message {
///         ws.send_text(text);
///     }
/// }
/// let answer = ws.into_answer();
/// assert!(answer.body.starts_with(b"OPEN\r\nTEXT 27\r\nc:{\"type\":\"subscribe\",\"channel\":\"test\"}\r\n"));
/// assert!(answer.body.ends_with(b"TEXT 7\r\nm:hello\r\n"));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
pub struct WebSocket<'a> {
    headers: &'a dyn Headers,
    connection_id: &'a str,
    opening: bool,
    accepted: bool,
    events: Events<'a>,
    close_reason: &'a str,
    /// Nothing more comes from the client.
    received_all: bool,
    /// Nothing more goes to the client.
    closed: bool,
    answer: Answer,
}

/// The answer to a request: status 200, these headers, this body.
///
/// ```
/// use fanout_edge::grip::{WebSocket, websocket::Answer};
///
/// let headers = [("connection-id", "c1")];
/// let Answer { headers, body } = WebSocket::new(&headers, b"PING\r\n")?.into_answer();
/// assert_eq!((headers.len(), body.len()), (1, 0));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Names and values. `Content-Type` is [`CONTENT_TYPE`].
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// Events.
    pub body: Vec<u8>,
}

impl<'a> WebSocket<'a> {
    /// Reads a request whose `Grip-Sig` is verified and of which [`is_websocket_over_http`] holds.
    ///
    /// # Errors
    /// [`RequestError`] where there is no `Connection-Id`, or the body is not valid as a whole.
    ///
    /// ```
    /// use fanout_edge::grip::{WebSocket, websocket::RequestError};
    ///
    /// let headers = [("connection-id", "c1")];
    /// assert!(matches!(WebSocket::new(&headers, b"TEXT 9\r\nhello\r\n"), Err(RequestError::Events(_))));
    /// ```
    pub fn new(headers: &'a dyn Headers, body: &'a [u8]) -> Result<Self, RequestError> {
        let connection_id = match headers.header("connection-id") {
            Header::Value(id) if !id.is_empty() => id,
            Header::Value(_) | Header::Missing => return Err(RequestError::NoConnectionId),
            Header::Invalid => return Err(RequestError::InvalidConnectionId),
        };
        let events = Events::decode(body).map_err(RequestError::Events)?;
        Ok(Self {
            headers,
            connection_id,
            opening: matches!(events.clone().next(), Some(Event::Open)),
            accepted: false,
            close_reason: "",
            events,
            received_all: false,
            closed: false,
            answer: Answer {
                headers: vec![("content-type".into(), CONTENT_TYPE.into())],
                body: Vec::with_capacity(body.len() + CLOSE_ROOM),
            },
        })
    }

    /// The proxy's name for the connection, the same on each of its requests.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let ws = WebSocket::new(&headers, b"")?;
    /// assert_eq!(ws.connection_id(), "c1");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub const fn connection_id(&self) -> &'a str {
        self.connection_id
    }

    /// Whether nothing more can be sent: the connection was closed, or the client is gone.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// assert!(!ws.is_closed());
    /// ws.close(None);
    /// assert!(ws.is_closed());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether this is the first request of the connection, which waits for [`accept`](Self::accept).
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let ws = WebSocket::new(&headers, b"OPEN\r\n")?;
    /// assert!(ws.is_opening());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub const fn is_opening(&self) -> bool {
        self.opening
    }

    /// Accepts an opening connection, and turns GRIP on for it. Where there is nothing to accept it does nothing: an
    /// OPEN in a later answer would end the connection.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"OPEN\r\n")?;
    /// ws.accept();
    /// let answer = ws.into_answer();
    /// assert_eq!(answer.body, b"OPEN\r\n");
    /// assert_eq!(answer.headers[1], ("sec-websocket-extensions".into(), "grip".into()));
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn accept(&mut self) {
        if self.opening && !self.accepted {
            self.accepted = true;
            self.answer.headers.push(("sec-websocket-extensions".into(), "grip".into()));
            let mut open = Vec::with_capacity(self.answer.body.capacity());
            Event::Open.encode(&mut open);
            open.append(&mut self.answer.body);
            self.answer.body = open;
        }
    }

    /// The subprotocols that the client offers, those that it likes most first.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1"), ("sec-websocket-protocol", "v2, v1")];
    /// let ws = WebSocket::new(&headers, b"OPEN\r\n")?;
    /// assert!(ws.protocols().eq(["v2", "v1"]));
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        let offered = self.headers.header("sec-websocket-protocol").value().unwrap_or_default();
        offered.split(',').map(str::trim).filter(|protocol| !protocol.is_empty())
    }

    /// Accepts an opening connection with one of the [`protocols`](Self::protocols).
    ///
    /// # Errors
    /// [`NotOffered`] where it is none of them: the client would give up. The connection is not accepted then.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1"), ("sec-websocket-protocol", "v2, v1")];
    /// let mut ws = WebSocket::new(&headers, b"OPEN\r\n")?;
    /// assert!(ws.accept_with_protocol("v3").is_err());
    /// assert!(ws.accept_with_protocol("v1").is_ok());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn accept_with_protocol(&mut self, protocol: &str) -> Result<(), NotOffered> {
        let protocol = self.protocols().find(|offered| *offered == protocol).ok_or(NotOffered)?;
        self.answer.headers.push(("sec-websocket-protocol".into(), protocol.to_owned().into()));
        self.accept();
        Ok(())
    }

    /// The next message; `None` when the request has no more. Pings are answered on the way, in order.
    ///
    /// Text that is not UTF-8 closes the connection with 1007, as RFC 6455, section 8.1 demands. A close with a code
    /// that nobody may send is received as one with 1002. What follows a close is ignored.
    ///
    /// ```
    /// use fanout_edge::grip::{Message, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"PING 1\r\np\r\nBINARY 1\r\nb\r\n")?;
    /// assert_eq!(ws.receive(), Some(Message::Binary(b"b")));
    /// assert_eq!(ws.receive(), None);
    /// assert_eq!(ws.into_answer().body, b"PONG 1\r\np\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn receive(&mut self) -> Option<Message<'a>> {
        while !self.received_all {
            match self.events.next()? {
                Event::Open | Event::Pong(_) => {}
                Event::Ping(payload) => self.send("PONG", &[payload]),
                Event::Binary(bytes) => return Some(Message::Binary(bytes)),
                Event::Text(text) => match str::from_utf8(text) {
                    Ok(text) => return Some(Message::Text(text)),
                    Err(_) => self.close_with_reason(CloseCode::INVALID_DATA, "text is not UTF-8"),
                },
                Event::Close(frame) => {
                    self.received_all = true;
                    self.close_reason = frame.and_then(|frame| str::from_utf8(frame.reason).ok()).unwrap_or_default();
                    let code = frame.map(|frame| CloseCode::new(frame.code).unwrap_or(CloseCode::PROTOCOL_ERROR));
                    return Some(Message::Close(code));
                }
                Event::Disconnect => {
                    self.received_all = true;
                    self.closed = true;
                    return Some(Message::Disconnect);
                }
            }
        }
        None
    }

    /// The reason that the client gave for a close that was [received](Self::receive); empty where it gave none, or one
    /// that is not UTF-8.
    ///
    /// ```
    /// use fanout_edge::grip::{CloseCode, Message, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"CLOSE 5\r\n\x03\xe8bye\r\n")?;
    /// assert_eq!(ws.receive(), Some(Message::Close(Some(CloseCode::NORMAL))));
    /// assert_eq!(ws.close_reason(), "bye");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub const fn close_reason(&self) -> &'a str {
        self.close_reason
    }

    /// A value that an earlier answer set with [`set_meta`](Self::set_meta). On a WebSocket the proxy lets no client
    /// send one itself.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1"), ("meta-user", "alice")];
    /// let ws = WebSocket::new(&headers, b"")?;
    /// assert_eq!(ws.meta("user"), Some("alice"));
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn meta(&self, name: &str) -> Option<&'a str> {
        self.headers.header(&format!("meta-{}", name.to_ascii_lowercase())).value()
    }

    /// The answer to the request.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// ws.send_text("a");
    /// ws.send_text("b");
    /// assert_eq!(ws.into_answer().body, b"TEXT 3\r\nm:a\r\nTEXT 3\r\nm:b\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn into_answer(self) -> Answer {
        self.answer
    }
}
