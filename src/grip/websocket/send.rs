//! What a response says to the client and to the proxy.

use http::{HeaderName, HeaderValue};

use super::{CLOSE_ROOM, InvalidMeta, MAX_RESPONSE, Message, PayloadTooLong, Traffic, WebSocket};
use crate::grip::{
    Channel, Filter,
    close::{CloseCode, MAX_REASON},
    control::{self, Control, InvalidControl},
    event::{self, MAX_PAYLOAD},
    headers::printable,
};

/// The proxy removes this prefix from messages, and acts on text that begins with `c:` instead. So nothing that a client
/// sent and the application sends back is taken for a control message. Source: GRIP, `message-prefix`.
const MESSAGE_PREFIX: &[u8] = b"m:";

const KEEP_ALIVE_INTERVAL: HeaderName = HeaderName::from_static("keep-alive-interval");

impl WebSocket<'_> {
    /// Sends a message to the client: text as text, bytes as binary. Sending a close closes, and sending a disconnect
    /// does nothing, so what was received can be sent back as it is.
    ///
    /// ```
    /// use fanout_edge::grip::{Signed, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"")?;
    /// ws.send("hi");
    /// ws.send(&b"\xff"[..]);
    /// assert_eq!(ws.into_response().body, b"TEXT 4\r\nm:hi\r\nBINARY 3\r\nm:\xff\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) {
        match message.into() {
            Message::Text(text) => self.write_event("TEXT", &[MESSAGE_PREFIX, text.as_bytes()]),
            Message::Binary(bytes) => self.write_event("BINARY", &[MESSAGE_PREFIX, bytes]),
            Message::Close(code) => self.close(code),
            Message::Disconnect => {}
        }
    }

    /// Closes, or answers a close. Without a code the client sees 1000. What is sent later is dropped, and what the
    /// client sent later is ignored.
    ///
    /// ```
    /// use fanout_edge::grip::{Message, Signed, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"CLOSE 2\r\n\x03\xe8\r\n")?;
    /// if let Some(Message::Close(code)) = ws.receive() {
    ///     ws.close(code);
    /// }
    /// assert_eq!(ws.into_response().body, b"CLOSE 2\r\n\x03\xe8\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn close(&mut self, code: Option<CloseCode>) {
        match code {
            None => self.write_event("CLOSE", &[]),
            Some(code) => self.write_event("CLOSE", &[&code.get().to_be_bytes()]),
        }
        self.traffic = Traffic::None;
    }

    /// Closes with a code and a reason, which is cut at 123 bytes.
    ///
    /// ```
    /// use fanout_edge::grip::{CloseCode, Signed, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"")?;
    /// ws.close_with_reason(CloseCode::NORMAL, "bye");
    /// assert_eq!(ws.into_response().body, b"CLOSE 5\r\n\x03\xe8bye\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn close_with_reason(&mut self, code: CloseCode, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
        self.write_event("CLOSE", &[&code.get().to_be_bytes(), reason.as_bytes()]);
        self.traffic = Traffic::None;
    }

    /// Sends a ping. The application does not see the client's pong.
    ///
    /// # Errors
    /// [`PayloadTooLong`] if the payload is longer than [`MAX_PAYLOAD`].
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), PayloadTooLong> {
        self.write_control_frame("PING", payload)
    }

    /// Sends a pong without a ping. Pings are answered automatically.
    ///
    /// # Errors
    /// [`PayloadTooLong`] if the payload is longer than [`MAX_PAYLOAD`].
    pub fn pong(&mut self, payload: &[u8]) -> Result<(), PayloadTooLong> {
        self.write_control_frame("PONG", payload)
    }

    /// Ends the connection without a close frame.
    pub fn disconnect(&mut self) {
        self.write_event("DISCONNECT", &[]);
        self.traffic = Traffic::None;
    }

    /// Subscribes the client to a channel.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Signed, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"")?;
    /// ws.subscribe(&Channel::from_static("a"));
    /// assert_eq!(ws.into_response().body, b"TEXT 24\r\nc:{\"type\":\"subscribe\",\"channel\":\"a\"}\r\n");
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn subscribe(&mut self, channel: &Channel) {
        self.subscribe_filtered(channel, &[]);
    }

    /// Subscribes the client to those items of a channel that pass the filters.
    pub fn subscribe_filtered(&mut self, channel: &Channel, filters: &[Filter]) {
        self.write_control(&Control::Subscribe { channel, filters });
    }

    /// Unsubscribes the client from a channel.
    pub fn unsubscribe(&mut self, channel: &Channel) {
        self.write_control(&Control::Unsubscribe { channel });
    }

    /// Sends a control message to the proxy.
    ///
    /// # Errors
    /// [`InvalidControl`] if the proxy would ignore it.
    ///
    /// ```
    /// use fanout_edge::grip::{Control, Signed, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"")?;
    /// assert!(ws.control(&Control::Detach).is_ok());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn control(&mut self, message: &Control<'_>) -> Result<(), InvalidControl> {
        message.check()?;
        if self.write_control(message) { Ok(()) } else { Err(InvalidControl::TooLong) }
    }

    /// Sets a value that the proxy sends along with each later request of the connection. An empty one removes it. It is
    /// a header of each request: keep it short.
    ///
    /// # Errors
    /// [`InvalidMeta`] if the name has other characters than letters, digits, `-` and `_`, or the value other than
    /// printable ASCII, or a space at its start or end.
    ///
    /// ```
    /// use fanout_edge::grip::{Signed, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(Signed::unverified(1_800_003_600), &headers, b"")?;
    /// assert!(ws.set_meta("user", "alice").is_ok());
    /// assert!(ws.set_meta("user", "two\r\nlines").is_err());
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn set_meta(&mut self, name: &str, value: &str) -> Result<(), InvalidMeta> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        // A header has no spaces at its ends: a value of spaces alone would remove the meta.
        if name.is_empty() || !name.bytes().all(is_plain) || value.trim() != value {
            return Err(InvalidMeta);
        }
        let name = HeaderName::try_from(format!("set-meta-{name}")).map_err(|_| InvalidMeta)?;
        self.response.headers.insert(name, printable(value).ok_or(InvalidMeta)?);
        Ok(())
    }

    /// Asks for an empty request after that many seconds without traffic, until another response sets another interval.
    /// The proxy raises it to at least 20; 0 turns it off. Each such request costs what a message costs.
    pub fn set_keep_alive_interval(&mut self, seconds: u32) {
        self.response.headers.insert(KEEP_ALIVE_INTERVAL, HeaderValue::from(seconds));
    }

    fn write_control_frame(&mut self, kind: &str, payload: &[u8]) -> Result<(), PayloadTooLong> {
        if payload.len() > MAX_PAYLOAD {
            return Err(PayloadTooLong);
        }
        self.write_event(kind, &[payload]);
        Ok(())
    }

    /// Whether it is short enough to be sent.
    fn write_control(&mut self, message: &Control<'_>) -> bool {
        let json = message.to_json();
        let fits = json.len() + 2 <= control::MAX_LENGTH;
        if fits {
            self.write_event("TEXT", &[b"c:", json.as_bytes()]);
        }
        fits
    }

    /// Appends one event, or in place of it the close that says that the response has become too large.
    pub(super) fn write_event(&mut self, kind: &str, parts: &[&[u8]]) {
        if self.traffic == Traffic::None {
            return;
        }
        let content = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.response.body.len() + content + 2 * CLOSE_ROOM > MAX_RESPONSE {
            self.traffic = Traffic::None;
            let reason = b"the response to one batch is too large";
            event::write(&mut self.response.body, "CLOSE", &[&CloseCode::TOO_BIG.get().to_be_bytes(), reason]);
            return;
        }
        event::write(&mut self.response.body, kind, parts);
    }
}
