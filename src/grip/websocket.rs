//! One request of a WebSocket connection, and the answer to it.
//!
//! The proxy holds the WebSocket and sends what the client does as POST requests, one after the other for each
//! connection: see [`event`] for the body. [`WebSocket`] is one such request: it hands the messages to
//! the application, answers pings, and gathers what the application says into one answer.
//!
//! There is no `Content-Bytes-Accepted`: what an answer does not accept comes again only with the client's next message
//! or a keep-alive (Pushpin 1.41), which may be never.

mod error;

use std::borrow::Cow;

pub use self::error::{InvalidMeta, NotOffered, PayloadTooLong, RequestError};

use super::{
    Channel, Event, Events,
    close::{CloseCode, MAX_REASON},
    control::{self, Control, InvalidControl},
    event::{self, CONTENT_TYPE},
    headers::{Header, Headers},
};

/// The longest body of an answer, in bytes. The proxy drops the connection where it is longer.
pub const MAX_ANSWER: usize = 1_000_000;

/// Room that is kept in an answer for the CLOSE that says that the rest would not fit.
const CLOSE_ROOM: usize = 64;

/// The proxy takes this prefix off messages, and acts on text that begins with `c:` instead. So nothing that a client
/// sent and the application sends back is ever taken for a control message. Source: GRIP, `message-prefix`.
const MESSAGE_PREFIX: &[u8] = b"m:";

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
    pub const fn close_reason(&self) -> &'a str {
        self.close_reason
    }

    /// Sends a text message to the client.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// ws.send_text("hi");
    /// assert_eq!(ws.into_answer().body, b"TEXT 4\r\nm:hi\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn send_text(&mut self, text: &str) {
        self.send("TEXT", &[MESSAGE_PREFIX, text.as_bytes()]);
    }

    /// Sends a binary message to the client.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// ws.send_binary(b"\xff");
    /// assert_eq!(ws.into_answer().body, b"BINARY 3\r\nm:\xff\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send("BINARY", &[MESSAGE_PREFIX, bytes]);
    }

    /// Closes, or answers a close. Without a code the client sees 1000. What is sent later is dropped, and what the
    /// client sent later is ignored.
    ///
    /// ```
    /// use fanout_edge::grip::{Message, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"CLOSE 2\r\n\x03\xe8\r\n")?;
    /// if let Some(Message::Close(code)) = ws.receive() {
    ///     ws.close(code);
    /// }
    /// assert_eq!(ws.into_answer().body, b"CLOSE 2\r\n\x03\xe8\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn close(&mut self, code: Option<CloseCode>) {
        match code {
            None => self.send("CLOSE", &[]),
            Some(code) => self.send("CLOSE", &[&code.get().to_be_bytes()]),
        }
        self.received_all = true;
        self.closed = true;
    }

    /// Closes with a code and a reason, which is cut at 123 bytes.
    ///
    /// ```
    /// use fanout_edge::grip::{CloseCode, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// ws.close_with_reason(CloseCode::NORMAL, "bye");
    /// assert_eq!(ws.into_answer().body, b"CLOSE 5\r\n\x03\xe8bye\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn close_with_reason(&mut self, code: CloseCode, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
        self.send("CLOSE", &[&code.get().to_be_bytes(), reason.as_bytes()]);
        self.received_all = true;
        self.closed = true;
    }

    /// Sends a ping; the client's pong is not shown to the application.
    ///
    /// # Errors
    /// [`PayloadTooLong`] where the payload is longer than [`MAX_PAYLOAD`].
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// assert!(ws.ping(b"are you there?").is_ok());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), PayloadTooLong> {
        self.send_control_frame("PING", payload)
    }

    /// Sends a pong that no ping asked for. Pings are answered without it.
    ///
    /// # Errors
    /// [`PayloadTooLong`] where the payload is longer than [`MAX_PAYLOAD`].
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// assert!(ws.pong(&[0; 126]).is_err());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn pong(&mut self, payload: &[u8]) -> Result<(), PayloadTooLong> {
        self.send_control_frame("PONG", payload)
    }

    /// Ends the connection without a close frame.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// ws.disconnect();
    /// assert_eq!(ws.into_answer().body, b"DISCONNECT\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn disconnect(&mut self) {
        self.send("DISCONNECT", &[]);
        self.received_all = true;
        self.closed = true;
    }

    /// Subscribes the client to a channel.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// ws.subscribe(&Channel::from_static("a"));
    /// assert!(ws.into_answer().body.starts_with(b"TEXT 24\r\nc:{"));
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn subscribe(&mut self, channel: &Channel) {
        self.write_control(&Control::Subscribe { channel, filters: &[] });
    }

    /// Takes the client off a channel.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// ws.unsubscribe(&Channel::from_static("a"));
    /// assert!(ws.into_answer().body.starts_with(b"TEXT 26\r\nc:{"));
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn unsubscribe(&mut self, channel: &Channel) {
        self.write_control(&Control::Unsubscribe { channel });
    }

    /// Tells the proxy something.
    ///
    /// # Errors
    /// [`InvalidControl`] where the proxy would ignore it.
    ///
    /// ```
    /// use fanout_edge::grip::{Control, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// assert!(ws.control(&Control::Detach).is_ok());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn control(&mut self, message: &Control<'_>) -> Result<(), InvalidControl> {
        message.check()?;
        if self.write_control(message) { Ok(()) } else { Err(InvalidControl::TooLong) }
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

    /// Sets a value that the proxy brings back with each later request of the connection. An empty one removes it.
    /// It is a header on each request: keep it short.
    ///
    /// # Errors
    /// [`InvalidMeta`] where the name is not letters, digits, `-` and `_`, or the value not printable ASCII, or has a
    /// blank at an end.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// assert!(ws.set_meta("user", "alice").is_ok());
    /// assert!(ws.set_meta("user", "two\r\nlines").is_err());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn set_meta(&mut self, name: &str, value: impl Into<String>) -> Result<(), InvalidMeta> {
        let value = value.into();
        let name_is_valid =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        // A header has no blanks at its ends: a value of blanks alone would remove the meta.
        let value_is_valid = value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && value.trim() == value;
        if !name_is_valid || !value_is_valid {
            return Err(InvalidMeta);
        }
        self.set_header(format!("set-meta-{}", name.to_ascii_lowercase()), value);
        Ok(())
    }

    /// Asks for an empty request after so many seconds without traffic, until another answer sets another interval.
    /// The proxy takes less than 20 for 20; 0 switches it off. Each such request costs what a message costs.
    ///
    /// ```
    /// use fanout_edge::grip::WebSocket;
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// ws.set_keep_alive_interval(60);
    /// assert_eq!(ws.into_answer().headers[1], ("keep-alive-interval".into(), "60".into()));
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn set_keep_alive_interval(&mut self, seconds: u32) {
        self.set_header("keep-alive-interval".to_owned(), seconds.to_string());
    }

    /// The answer to the request.
    pub fn into_answer(self) -> Answer {
        self.answer
    }

    fn set_header(&mut self, name: String, value: String) {
        self.answer.headers.retain(|(known, _)| *known != name);
        self.answer.headers.push((name.into(), value.into()));
    }

    fn send_control_frame(&mut self, kind: &str, payload: &[u8]) -> Result<(), PayloadTooLong> {
        if payload.len() > MAX_PAYLOAD {
            return Err(PayloadTooLong);
        }
        self.send(kind, &[payload]);
        Ok(())
    }

    fn write_control(&mut self, message: &Control<'_>) -> bool {
        let json = message.to_json();
        let fits = json.len() + 2 <= control::MAX_LENGTH;
        if fits {
            self.send("TEXT", &[b"c:", json.as_bytes()]);
        }
        fits
    }

    /// Appends an event to the answer. Where it would no longer fit, the client gets a close with 1009 instead of a
    /// connection that breaks.
    fn send(&mut self, kind: &str, parts: &[&[u8]]) {
        if self.closed {
            return;
        }
        let content = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.answer.body.len() + content + 2 * CLOSE_ROOM > MAX_ANSWER {
            self.closed = true;
            self.received_all = true;
            let reason = b"the answer to one batch is too large";
            event::write(&mut self.answer.body, "CLOSE", &[&CloseCode::TOO_BIG.get().to_be_bytes(), reason]);
            return;
        }
        event::write(&mut self.answer.body, kind, parts);
    }
}
