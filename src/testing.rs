//! A service in memory, to test handlers natively: no server, no clock, no wire format.
//!
//! ```
//! use fanout_edge::{Connection, Message, Rejection, testing::Test};
//!
//! fn on_websocket(connection: &mut Connection<'_>) -> Result<(), Rejection> {
//!     let Some(user) = connection.user() else { return Err(Rejection::new(401, "Sign in")) };
//!     if connection.is_opening() {
//!         connection.accept();
//!         connection.subscribe("room1")?;
//!     }
//!     while let Some(message) = connection.receive() {
//!         if let Message::Text(text) = message {
//!             connection.publish("room1", format!("{user}: {text}"))?;
//!         }
//!     }
//!     Ok(())
//! }
//!
//! let mut alice = Test::new(on_websocket).user("alice").connect("?channel=room1");
//! assert_eq!(alice.subscriptions(), ["room1"]);
//! alice.send("hi");
//! assert_eq!(alice.published(), [("room1", "alice: hi")]);
//!
//! let stranger = Test::new(on_websocket).connect("");
//! assert_eq!(stranger.rejected(), Some((401, "Sign in")));
//! ```
//!
//! A message that is sent is one batch, as it mostly is in production: what the handler keeps between two of them only its
//! [state](Connection::state) has. Several in one batch are [`Client::send_all`].
//!
//! What it leaves out: the hand-off, origins, rate limits and the history; settings of the service itself do nothing here.

mod client;
mod platform;

use std::net::IpAddr;

use jwt_simple::prelude::{Claims, Duration, HS256Key, JWTClaims, MACLike, UnixTimeStamp};
use serde_json::{Map, Value, json};

use self::platform::Memory;
pub use self::{
    client::{Client, Published},
    platform::Closed,
};
use crate::{
    Connection, Content, Rejection, Service,
    app::{
        self,
        exchange::Exchange,
        settings::Settings,
        web::{BodyError, CLIENT, Outcome, Response},
    },
    grip::Headers,
};

/// The time, in seconds since 1970.
const NOW: u64 = 1_800_000_000;
const PROXY: &str = "http://127.0.0.1:5561/?verify-iss=proxy&verify-key=secret:the key of the proxy in memory";
const PROXY_KEY: &[u8] = b"the key of the proxy in memory";
const ACCESS_KEY: &str = "the key of access tokens in memory";

/// A service in memory, and who is about to use it.
pub struct Test<'h> {
    service: Service<'h>,
    memory: Memory<'h>,
    claims: Option<Map<String, Value>>,
    headers: Vec<(String, String)>,
    address: Option<IpAddr>,
}

impl<'h> Test<'h> {
    /// Returns a test of a service that calls this function for WebSockets, and is open to everybody.
    pub fn new(on_websocket: impl Fn(&mut Connection<'_>) -> Result<(), Rejection> + 'h) -> Self {
        Self::of(Service::new(on_websocket))
    }

    /// Returns a test of a service, with [`Service::on_broadcast`], too.
    pub fn of(service: Service<'h>) -> Self {
        Self { service, memory: Memory::default(), claims: None, headers: Vec::new(), address: None }
    }

    /// Returns self with a client that is this user, by its access token, which grants every channel.
    #[must_use]
    pub fn user(self, id: &str) -> Self {
        self.claim("sub", id)
    }

    /// Returns self with a claim of the client's access token, which grants every channel unless claims say otherwise.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        let claims = self.claims.get_or_insert_with(|| {
            let all = || json!(["*", "user:*"]);
            Map::from_iter([("x-fastly-read".to_owned(), all()), ("x-fastly-write".to_owned(), all())])
        });
        claims.insert(name.to_owned(), value.into());
        self
    }

    /// Returns self with a header of the client's handshake. Those that the service keeps from clients do nothing.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let is_reserved = ["grip-", "meta-"].iter().any(|start| name.starts_with(start))
            || ["connection-id", CLIENT, "fastly-key"].contains(&&*name);
        if !is_reserved {
            self.headers.push((name, value.to_owned()));
        }
        self
    }

    /// Returns self with the address of the client.
    #[must_use]
    pub fn address(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    /// Returns self with an entry of the Config Store.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.memory.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns self with an entry of the Secret Store.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.memory.secrets.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns self with a backend, and the function that responds in its place. A `fetch` from one that is not there is an error, as on Fastly.
    #[must_use]
    pub fn backend(
        mut self,
        name: &str,
        respond: impl FnMut(http::Request<Vec<u8>>) -> http::Response<Vec<u8>> + 'h,
    ) -> Self {
        self.memory.backends.push((name.to_owned(), Box::new(respond)));
        self
    }

    /// Returns self with a backend that cannot be reached.
    #[must_use]
    pub fn backend_fails(mut self, name: &str) -> Self {
        self.memory.unreachable.push(name.to_owned());
        self
    }

    /// Returns self with broadcasts of the operator, who has a `Fastly-Key` of the service.
    #[must_use]
    pub fn operator(mut self) -> Self {
        self.memory.is_operator = true;
        self.claims.get_or_insert_default();
        self
    }

    /// Returns self with a GRIP proxy that accepts nothing that is published.
    #[must_use]
    pub fn proxy_fails(mut self) -> Self {
        self.memory.proxy_fails = true;
        self
    }

    /// Connects a client by WebSocket, with a query such as `?channel=room1`. See [`Client::rejected`].
    pub fn connect(self, query: &str) -> Client<'h> {
        Client::connect(self, query)
    }

    /// Broadcasts over HTTP, with a query such as `?channel=room1` or `?user=alice`. Returns the id of the message.
    ///
    /// # Errors
    /// The status and the text with which that is rejected.
    pub fn broadcast<'c>(&mut self, query: &str, content: impl Into<Content<'c>>) -> Result<String, (u16, String)> {
        let (kind, body) = match content.into() {
            Content::Text(text) => ("text/plain", text.into_owned().into_bytes()),
            Content::Binary(bytes) => ("application/octet-stream", bytes.into_owned()),
        };
        let mut request = self.request("/api/broadcast", query, body);
        request.headers.push(("content-type".to_owned(), kind.to_owned()));
        if self.memory.is_operator {
            request.headers.push(("fastly-key".to_owned(), "the key of the operator".to_owned()));
        }
        let response = self.respond(request);
        match response.headers.get("message-id").and_then(|id| id.to_str().ok()) {
            Some(id) if response.status == 200 => Ok(id.to_owned()),
            _ => Err((response.status, text_of(&response))),
        }
    }

    /// What was published to channels and users since the last call, in its order.
    pub fn published(&mut self) -> Vec<Published> {
        std::mem::take(&mut self.memory.published)
    }

    /// A request of the client, with its token and its headers.
    fn request(&self, path: &'static str, query: &str, body: Vec<u8>) -> Request {
        let mut headers = self.headers.clone();
        if let Some(claims) = &self.claims {
            let key = HS256Key::from_bytes(ACCESS_KEY.as_bytes());
            let token = key.authenticate(claims_of(claims.clone())).expect("claims are JSON");
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        let query = query.trim_start_matches('?').to_owned();
        Request { path, query, headers, body, address: self.address }
    }

    fn respond(&mut self, mut request: Request) -> Response {
        self.memory.state.begin_request();
        let access_key = self.claims.is_some().then(|| format!("secret:{ACCESS_KEY}"));
        let settings = Settings::read(
            &|name| match name {
                "GRIP_URL" => Ok(Some(PROXY.to_owned())),
                app::settings::ACCESS_KEY => Ok(access_key.clone()),
                _ => Ok(None),
            },
            &|_| Ok(None),
            "",
        );
        let mut exchange = Exchange {
            request: &mut request,
            platform: &mut self.memory,
            settings: &settings,
            now: NOW,
            service: &self.service,
            later: None,
        };
        match app::decide(&mut exchange) {
            Outcome::Response(response) => response,
            Outcome::HandOff { .. } => Response::empty(200),
        }
    }
}

/// The text of an error, without its newline.
fn text_of(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).trim_end().to_owned()
}

/// What the proxy signs its requests with.
fn signature() -> String {
    let claims = Map::from_iter([("iss".to_owned(), "proxy".into())]);
    HS256Key::from_bytes(PROXY_KEY).authenticate(claims_of(claims)).expect("claims are JSON")
}

fn claims_of(custom: Map<String, Value>) -> JWTClaims<Map<String, Value>> {
    let mut claims = Claims::with_custom_claims(custom, Duration::from_secs(0));
    (claims.issued_at, claims.invalid_before) = (None, None);
    claims.expires_at = Some(UnixTimeStamp::from_secs(NOW + 3600));
    claims
}

struct Request {
    path: &'static str,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    address: Option<IpAddr>,
}

impl Headers for Request {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        self.headers.each_line(name, take);
    }
}

impl app::web::Request for Request {
    fn method(&self) -> &str {
        "POST"
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> &str {
        &self.query
    }

    fn body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        if self.body.len() > limit { Err(BodyError::TooLarge) } else { Ok(std::mem::take(&mut self.body)) }
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.address
    }
}
