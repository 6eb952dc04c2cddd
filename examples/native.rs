//! A native server that speaks WebSocket-over-HTTP behind a GRIP proxy, with the library's [`grip`](fanout_edge::grip) alone: each
//! client gets its messages back, and everything that is posted to `/broadcast`.
//!
//! ```text
//! GRIP_URL='http://127.0.0.1:5561/?verify-iss=pushpin&verify-key=secret:…' cargo run --example native
//! ```
//! It listens on port 8080, or `PORT`. Pushpin is in front of it, with `* 127.0.0.1:8080,over_http` in its file `routes`, and
//! `sig_iss` and `sig_key` in its configuration.

use std::{
    env,
    error::Error,
    io::{Cursor, Read},
    thread,
    time::UNIX_EPOCH,
};

use fanout_edge::grip::{
    Channel, Formats, GripStatus, GripUri, Headers, Item, Verifier, WebSocket, WsMessage,
    publish::{PublishRequest, SendError, Sender},
    websocket::is_websocket_over_http,
};
use tiny_http::{Method, Request, Response, Server};

static TEST: Channel = Channel::from_static("test");

/// How many requests are handled at once.
const THREADS: usize = 32;

/// No batch of a client's messages is longer.
const MAX_BODY: u64 = 4_000_000;

/// The headers of a request, as the library reads them.
struct RequestHeaders<'a>(&'a Request);

impl Headers for RequestHeaders<'_> {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        let headers = self.0.headers().iter();
        let named = headers.filter(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name));
        named.for_each(|header| take(Some(header.value.as_str())));
    }
}

/// Publishes over HTTP.
struct Http;

impl Sender for Http {
    fn send(&mut self, request: PublishRequest) -> Result<u16, SendError> {
        let mut post = ureq::post(&request.url).header("content-type", "application/json");
        if let Some(authorization) = request.authorization {
            post = post.header("authorization", authorization);
        }
        match post.send(&request.body[..]) {
            Ok(response) => Ok(response.status().as_u16()),
            Err(ureq::Error::StatusCode(status)) => Ok(status),
            Err(ureq::Error::Timeout(_)) => Err(SendError::TimedOut),
            Err(_) => Err(SendError::Unreachable),
        }
    }
}

type Answer = Response<Cursor<Vec<u8>>>;

fn text(status: u16, line: &str) -> Answer {
    Response::from_string(format!("{line}\n")).with_status_code(status)
}

/// Responds to the events of a WebSocket.
fn events(request: &Request, body: &[u8], verifier: &Verifier, now: u64) -> Answer {
    let headers = RequestHeaders(request);
    let status = GripStatus::of(headers.header("grip-sig"), std::slice::from_ref(verifier), now);
    let GripStatus::Signed(signed) = status else { return text(403, "Only the proxy may send this") };
    if !is_websocket_over_http(&headers) {
        return text(400, "This is not from a WebSocket");
    }
    let mut ws = match WebSocket::new(signed, &headers, body) {
        Ok(ws) => ws,
        Err(error) => return text(400, &error.to_string()),
    };
    if ws.is_opening() {
        ws.accept();
        ws.subscribe(&TEST);
    }
    while let Some(message) = ws.receive() {
        // A close is answered, too.
        ws.send(message);
    }
    let response = ws.into_response();
    let headers = response.headers.iter();
    let headers = headers
        .filter_map(|(name, value)| tiny_http::Header::from_bytes(name.as_str().as_bytes(), value.as_bytes()).ok());
    headers.fold(Response::from_data(response.body), Response::with_header)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let GripUri { publisher, verify_iss, verify_key } = GripUri::parse(&env::var("GRIP_URL")?)?;
    let verifier =
        Verifier::new(verify_key.ok_or("GRIP_URL lacks verify-key")?, verify_iss.ok_or("GRIP_URL lacks verify-iss")?);
    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let server = Server::http(format!("127.0.0.1:{port}"))?;
    let respond = |mut request: Request| {
        let mut body = Vec::new();
        let is_whole =
            request.as_reader().take(MAX_BODY + 1).read_to_end(&mut body).is_ok() && body.len() as u64 <= MAX_BODY;
        let now = UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
        let answer = match (request.method(), request.url()) {
            _ if !is_whole => text(413, "Body too large"),
            (Method::Post, "/broadcast") => match str::from_utf8(&body) {
                Ok(message) => {
                    let formats = Formats { ws_message: Some(WsMessage::text(message)), ..Formats::default() };
                    match publisher.publish(&mut Http, &[Item::new(&TEST, formats)], now) {
                        Ok(()) => text(200, "Ok"),
                        Err(error) => text(502, &error.to_string()),
                    }
                }
                Err(_) => text(400, "Send text in UTF-8"),
            },
            (Method::Post, _) => events(&request, &body, &verifier, now),
            _ => text(404, "Connect a WebSocket through the proxy, or POST to /broadcast"),
        };
        // A client that has gone away gets nothing.
        let _ = request.respond(answer);
    };
    // A client that sends a body slowly keeps nobody else waiting.
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| server.incoming_requests().for_each(respond));
        }
    });
    Ok(())
}
