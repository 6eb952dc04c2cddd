//! What an answer says to the client and to the proxy.

use super::{InvalidMeta, MAX_ANSWER, MAX_PAYLOAD, PayloadTooLong, WebSocket};
use crate::grip::{
    Channel, Filter,
    close::{CloseCode, MAX_REASON},
    control::{self, Control, InvalidControl},
    event,
    headers::is_printable,
};

/// Room that is kept in an answer for the CLOSE that says that the rest would not fit.
pub(super) const CLOSE_ROOM: usize = 64;

/// The proxy takes this prefix off messages, and acts on text that begins with `c:` instead. So nothing that a client
/// sent and the application sends back is ever taken for a control message. Source: GRIP, `message-prefix`.
const MESSAGE_PREFIX: &[u8] = b"m:";

impl WebSocket<'_> {
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
        self.subscribe_filtered(channel, &[]);
    }

    /// Subscribes the client to those items of a channel that the filters let through.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Filter, WebSocket};
    ///
    /// let headers = [("connection-id", "c1")];
    /// let mut ws = WebSocket::new(&headers, b"")?;
    /// ws.subscribe_filtered(&Channel::from_static("a"), &[Filter::SkipSelf]);
    /// assert!(ws.into_answer().body.ends_with(b"\"filters\":[\"skip-self\"]}\r\n"));
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn subscribe_filtered(&mut self, channel: &Channel, filters: &[Filter]) {
        self.write_control(&Control::Subscribe { channel, filters });
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
        let value_is_valid = is_printable(&value) && value.trim() == value;
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
    pub(super) fn send(&mut self, kind: &str, parts: &[&[u8]]) {
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
