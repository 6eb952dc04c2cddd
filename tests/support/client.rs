//! A WebSocket client.

use std::{
    io::{self, ErrorKind},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use tungstenite::{
    Error, Message, WebSocket,
    client::IntoClientRequest,
    handshake::client::Response,
    http::{HeaderName, HeaderValue},
    protocol::{CloseFrame, frame::coding::CloseCode},
};

pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

use super::http::{PATIENCE, remember};

pub struct Client {
    ws: WebSocket<TcpStream>,
    pub response: Response,
}

impl Client {
    #[track_caller]
    pub fn connect(port: u16) -> Self {
        Self::connect_with(port, "/api/websocket", &[])
    }

    /// Connects to `target` with additional headers.
    #[track_caller]
    pub fn connect_with(port: u16, target: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_connect(port, target, headers, PATIENCE).expect("the handshake succeeds")
    }

    /// Connects like [`Self::connect_with`]; returns `None` if the handshake fails or times out.
    pub fn try_connect(port: u16, target: &str, headers: &[(&str, &str)], timeout: Duration) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(timeout)).ok()?;
        let mut request = format!("ws://127.0.0.1:{port}{target}").into_client_request().ok()?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            request.headers_mut().append(name, HeaderValue::from_str(value).ok()?);
        }
        let (ws, response) = tungstenite::client(request, stream).ok()?;
        remember(&format!("{:?}", response.headers()));
        ws.get_ref().set_read_timeout(Some(PATIENCE)).ok()?;
        Some(Self { ws, response })
    }

    /// Sends a message and returns whether that succeeded.
    pub fn try_send(&mut self, message: impl Into<Message>) -> bool {
        self.ws.send(message.into()).is_ok()
    }

    #[track_caller]
    pub fn send(&mut self, message: impl Into<Message>) {
        self.ws.send(message.into()).expect("the message is sent");
    }

    /// Returns the next message, ping, pong or close frame.
    #[track_caller]
    pub fn next(&mut self) -> Message {
        self.read_within(PATIENCE).expect("a message")
    }

    /// Sends a message and expects it back.
    #[track_caller]
    pub fn echoes(&mut self, message: impl Into<Message>) {
        let message = message.into();
        self.send(message.clone());
        let back = self.next();
        assert!(
            back == message,
            "sent a message of {} bytes, received another one of {} bytes",
            message.len(),
            back.len()
        );
    }

    /// Returns the next message, ping, pong or close frame, or `None` if none arrives within `time`.
    #[track_caller]
    pub fn next_within(&mut self, time: Duration) -> Option<Message> {
        match self.read_within(time) {
            Ok(message) => Some(message),
            Err(Error::Io(error)) if is_timeout(&error) => None,
            Err(error) => panic!("the connection is broken: {error}"),
        }
    }

    /// Returns whether nothing arrives for `time`.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        matches!(self.read_within(time), Err(Error::Io(error)) if is_timeout(&error))
    }

    /// Returns the next message, or an error if none arrives within `time` or the connection has ended.
    pub fn read_within(&mut self, time: Duration) -> Result<Message, Error> {
        self.ws.get_ref().set_read_timeout(Some(time.max(Duration::from_millis(1)))).expect("a timeout");
        let result = self.ws.read();
        if let Ok(Message::Text(text)) = &result {
            remember(text);
        }
        self.ws.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        result
    }

    /// Sends a close frame, with a code and a reason if given, and returns those of the close frame that comes back.
    #[track_caller]
    pub fn close(mut self, frame: Option<(u16, &str)>) -> Option<(u16, String)> {
        let frame = frame.map(|(code, reason)| CloseFrame { code: CloseCode::from(code), reason: reason.into() });
        self.ws.close(frame).expect("the close is sent");
        self.closed()
    }

    /// Waits for the server's close frame and returns its code and reason. Returns `None` if the connection ends
    /// without a close frame, or if that has no code.
    pub fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match self.ws.read() {
                Ok(Message::Close(frame)) => {
                    return frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Returns the TCP stream, to send bytes that a correct client does not send.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.ws.get_mut()
    }

    /// Closes the TCP connection without a close frame.
    pub fn disconnect(mut self) {
        let _ = self.stream().shutdown(Shutdown::Both);
    }
}
