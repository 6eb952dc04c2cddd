//! A backend for the real Pushpin: it records Pushpin's requests, and responds with the service or as a test says.

use std::time::{SystemTime, UNIX_EPOCH};

use fanout_edge::{
    app::web::Outcome,
    grip::{
        Item, Publisher, WebSocket,
        publish::{Authorization, PublishRequest, SendError, Sender},
        websocket::Response as EventsResponse,
    },
};
use http::HeaderMap;
use jwt_simple::prelude::ES256KeyPair;

use super::{
    client::Client,
    http::{Message, Response, Server, send, wait_until},
    process::Pushpin,
    service::{Request, Service},
};

pub const EVENTS: &str = "application/websocket-events";

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

/// The request as the library and the service read it.
pub fn recorded(message: &Message) -> Request {
    let mut words = message.start.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let request = Request::new(method, target).with_body(&message.body);
    message.headers.iter().fold(request, |request, (name, value)| request.with(name, value))
}

/// The response of the service to a request from Pushpin.
pub fn service(message: &Message) -> Response {
    respond(message, Service::local())
}

fn respond(message: &Message, service: Service) -> Response {
    match service.at(now()).decide(recorded(message)) {
        Outcome::Response(response) => to_response(response.status, &response.headers, response.body),
        Outcome::HandOff { .. } => Response::new(500, &[], "an unexpected hand-off"),
    }
}

fn to_response(status: u16, headers: &HeaderMap, body: Vec<u8>) -> Response {
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text")));
    Response::new(status, &pairs.collect::<Vec<_>>(), body)
}

pub fn events(response: EventsResponse) -> Response {
    to_response(200, &response.headers, response.body)
}

/// Opens connections as the service does, and handles later requests with `act`.
pub fn after_opening(act: impl Fn(&mut WebSocket<'_>) + Send + Sync + 'static) -> impl Fn(&Message) -> Response {
    move |message| {
        if message.body == b"OPEN\r\n" {
            return service(message);
        }
        let request = recorded(message);
        let mut ws = WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &request, &message.body)
            .expect("Pushpin sends valid requests");
        act(&mut ws);
        events(ws.into_response())
    }
}

pub struct Setup {
    pub backend: Server,
    pub pushpin: Pushpin,
}

impl Setup {
    pub fn new(respond: impl Fn(&Message) -> Response + Send + Sync + 'static) -> Self {
        let backend = Server::start(respond);
        let pushpin = Pushpin::start(backend.port);
        Self { backend, pushpin }
    }

    /// The service behind a Pushpin that signs with a key pair.
    pub fn with_key_pair(key: &ES256KeyPair, service: impl Fn() -> Service + Send + Sync + 'static) -> Self {
        let backend = Server::start(move |message| respond(message, service()));
        let pushpin = Pushpin::start_with_key(backend.port, &key.to_pem().expect("PEM"));
        Self { backend, pushpin }
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.pushpin.port)
    }

    /// Returns the bodies of all requests so far.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.backend.requests().into_iter().map(|request| request.body).collect()
    }

    #[track_caller]
    pub fn wait_for_body(&self, body: &[u8]) {
        wait_until(&format!("the backend gets {:?}", body.escape_ascii().to_string()), || {
            self.bodies().iter().any(|seen| seen == body)
        });
    }

    pub fn publish(&self, body: impl AsRef<[u8]>) -> Message {
        send(self.pushpin.publish_port, "POST /publish/", &[], body)
    }

    /// Publishes items with the library.
    #[track_caller]
    pub fn publish_items(&self, items: &[Item<'_>]) {
        let control_uri = format!("http://127.0.0.1:{}", self.pushpin.publish_port);
        let publisher = Publisher::new(&control_uri, Authorization::none());
        publisher.publish(&mut Loopback, items, now()).expect("Pushpin accepts the items");
    }
}

/// Sends publish requests to this machine.
struct Loopback;

impl Sender for Loopback {
    fn send(&mut self, request: PublishRequest) -> Result<u16, SendError> {
        let address = request.url.strip_prefix("http://127.0.0.1:").ok_or(SendError::Unreachable)?;
        let (port, path) = address.split_once('/').ok_or(SendError::Unreachable)?;
        let port = port.parse().map_err(|_| SendError::Unreachable)?;
        Ok(send(port, &format!("POST /{path}"), &[], request.body).status())
    }
}
