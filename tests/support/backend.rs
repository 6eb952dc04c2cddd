//! A backend behind the real Pushpin, which records what Pushpin sends and mostly answers with the library.

use std::time::{SystemTime, UNIX_EPOCH};

use fanout_edge::{
    app::{self, Action, Settings},
    grip::{
        Item, Publisher, WebSocket,
        publish::{Authorization, PublishRequest, Transport, TransportError},
        websocket::Answer as EventsAnswer,
    },
};

use jwt_simple::prelude::ES256KeyPair;

use super::{
    Request,
    client::Client,
    http::{Answer, Message, Server, send, wait_until},
    local_settings,
    process::Pushpin,
};

pub const EVENTS: &str = "application/websocket-events";

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

pub fn recorded(message: &Message) -> Request {
    let mut words = message.start.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let request = Request::new(method, target).with_body(&message.body);
    message.headers.iter().fold(request, |request, (name, value)| request.with(name, value))
}

/// What the service answers.
pub fn service(message: &Message) -> Answer {
    service_with(message, &local_settings())
}

fn service_with(message: &Message, settings: &Settings) -> Answer {
    match app::decide(&mut recorded(message), settings, now()) {
        Action::Reply(reply) => {
            let headers: Vec<_> = reply.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            Answer::new(reply.status, &headers, reply.body)
        }
        Action::HandOff { .. } | Action::Publish { .. } => Answer::new(500, &[], "neither can happen here"),
    }
}

pub fn events(answer: EventsAnswer) -> Answer {
    let headers: Vec<_> = answer.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    Answer::new(200, &headers, answer.body)
}

/// Opens a connection as the service does, and answers what follows as the test says.
pub fn after_opening(act: impl Fn(&mut WebSocket<'_>) + Send + Sync + 'static) -> impl Fn(&Message) -> Answer {
    move |message| {
        if message.body == b"OPEN\r\n" {
            return service(message);
        }
        let request = recorded(message);
        let mut ws = WebSocket::new(&request, &message.body).expect("what Pushpin sends is valid");
        act(&mut ws);
        events(ws.into_answer())
    }
}

pub struct Setup {
    pub backend: Server,
    pub pushpin: Pushpin,
}

impl Setup {
    pub fn new(answer: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Self {
        let backend = Server::start(answer);
        let pushpin = Pushpin::start(backend.port);
        Self { backend, pushpin }
    }

    /// The service behind a Pushpin that signs with a key pair.
    pub fn with_key_pair(key: &ES256KeyPair, settings: Settings) -> Self {
        let backend = Server::start(move |message| service_with(message, &settings));
        let pushpin = Pushpin::start_with_key(backend.port, &key.to_pem().expect("PEM"));
        Self { backend, pushpin }
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.pushpin.port)
    }

    /// The body of each request so far.
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

/// Carries publish requests to this machine.
struct Loopback;

impl Transport for Loopback {
    fn send(&mut self, request: PublishRequest) -> Result<u16, TransportError> {
        let address = request.url.strip_prefix("http://127.0.0.1:").ok_or(TransportError::Unreachable)?;
        let (port, path) = address.split_once('/').ok_or(TransportError::Unreachable)?;
        let port = port.parse().map_err(|_| TransportError::Unreachable)?;
        Ok(send(port, &format!("POST /{path}"), &[], request.body).status())
    }
}
