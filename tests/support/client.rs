//! A WebSocket client.

use std::{
    io::ErrorKind,
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

/// How a handshake failed: the status and the body of the answer.
pub type Refused = (u16, String);

pub struct Client {
    ws: WebSocket<TcpStream>,
    pub response: Response,
}

impl Client {
    #[track_caller]
    pub fn connect(port: u16) -> Self {
        Self::connect_with(port, "/api/websocket", &[]).unwrap_or_else(|refused| panic!("refused: {refused:?}"))
    }

    /// Connects with headers of its own.
    pub fn connect_with(port: u16, target: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut request = format!("ws://127.0.0.1:{port}{target}").into_client_request().expect("a request");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request.headers_mut().append(name, HeaderValue::from_str(value).expect("a header value"));
        }
        match tungstenite::client(request, stream) {
            Ok((ws, response)) => Ok(Self { ws, response }),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8_lossy(body).into_owned()))
            }
            Err(error) => panic!("the handshake failed: {error}"),
        }
    }

    #[track_caller]
    pub fn send(&mut self, message: impl Into<Message>) {
        self.ws.send(message.into()).expect("the message is sent");
    }

    /// The next message, pong or close.
    #[track_caller]
    pub fn next(&mut self) -> Message {
        self.ws.read().expect("a message")
    }

    /// Sends a message and expects it back.
    #[track_caller]
    pub fn echoes(&mut self, message: impl Into<Message>) {
        let message = message.into();
        self.send(message.clone());
        let back = self.next();
        assert!(back == message, "{} bytes came back as {} bytes", message.len(), back.len());
    }

    /// Whether nothing comes for a time.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.ws.get_ref().set_read_timeout(Some(time)).expect("a timeout");
        let result = self.ws.read();
        self.ws.get_ref().set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        matches!(result, Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Closes with a code and a reason or without, and returns the code and the reason that come back.
    #[track_caller]
    pub fn close(mut self, frame: Option<(u16, &str)>) -> Option<(u16, String)> {
        let frame = frame.map(|(code, reason)| CloseFrame { code: CloseCode::from(code), reason: reason.into() });
        self.ws.close(frame).expect("the close is sent");
        self.closed()
    }

    /// Waits for the close frame of the other side. `None`: the connection ends without one, or without a code.
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

    /// The connection under it, for bytes that no proper client sends.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.ws.get_mut()
    }

    /// Goes away without a close frame.
    pub fn vanish(mut self) {
        let _ = self.stream().shutdown(Shutdown::Both);
    }
}
