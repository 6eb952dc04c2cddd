//! The service without a server: requests that a test builds, and a host that records the calls of the service.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::{LOCAL_GRIP_URL, NOW, handlers::mirror, store::Memory};
use fanout_edge::{
    Broadcast, Connection, Rejection,
    app::{
        self, Later,
        exchange::Exchange,
        platform::{BackendError, CannotCount, Counter, Listed, Platform, Store, StoreError},
        settings::{Lookup, Settings, Unreadable},
        state::State,
        web::{BodyError, Outcome, Response},
    },
    grip::{
        Header, Headers,
        publish::{PublishRequest, SendError, Sender},
    },
};
use uuid::Uuid;

/// What happens on a WebSocket.
pub type Handler = fn(&mut Connection<'_>) -> Result<(), Rejection>;

/// What happens to a broadcast.
pub type OnBroadcast = fn(&mut Broadcast<'_>) -> Result<(), Rejection>;

/// Settings from these entries, for the service `SERVICE1`. Names of Config Store entries begin with `config:`.
pub fn settings(entries: &[(&str, &str)]) -> Settings {
    Settings::read(
        &|name| -> Lookup {
            Ok(entries.iter().find(|(entry, _)| *entry == name).map(|(_, value)| (*value).to_owned()))
        },
        &|name| -> Lookup {
            Ok(entries
                .iter()
                .find(|(entry, _)| entry.strip_prefix("config:") == Some(name))
                .map(|(_, value)| (*value).to_owned()))
        },
        "SERVICE1",
    )
}

pub fn local_settings() -> Settings {
    settings(&[("GRIP_URL", LOCAL_GRIP_URL)])
}

/// A request that a test builds.
#[derive(Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    broken: bool,
    address: Option<IpAddr>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            broken: false,
            address: Some(IpAddr::from([192, 0, 2, 1])),
        }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn with_body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Returns self with a body that breaks off.
    pub fn with_broken_body(mut self) -> Self {
        self.broken = true;
        self
    }

    /// Returns self with this client address; `None` if the platform does not know it.
    pub fn from(mut self, address: Option<&str>) -> Self {
        self.address = address.map(|address| address.parse().expect("an address"));
        self
    }
}

impl Headers for Request {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        self.headers.each_line(name, take);
    }
}

impl app::web::Request for Request {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    fn query(&self) -> &str {
        self.path.split_once('?').map_or("", |(_, query)| query)
    }

    fn body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        if self.broken {
            return Err(BodyError::Incomplete);
        }
        if self.body.len() > limit { Err(BodyError::TooLarge) } else { Ok(std::mem::take(&mut self.body)) }
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.address
    }
}

/// The value of an entry that cannot be read.
pub const UNREADABLE: &str = "\u{fffd}";

/// A host that returns prepared results and records the calls of the service.
pub struct Host {
    /// The publish requests.
    pub published: Vec<PublishRequest>,
    /// The results of the publish requests, in order; after the last, each one gets status 200.
    pub results: VecDeque<Result<u16, SendError>>,
    /// The requests to backends, with the name of the backend.
    pub fetched: Vec<(String, http::Request<Vec<u8>>)>,
    /// The responses of the backends, in order.
    pub responses: VecDeque<Result<http::Response<Vec<u8>>, BackendError>>,
    /// The calls of `count`: the counter, the entry and n.
    pub counted: Vec<(Counter, String, u32)>,
    /// The same of what counts for a second only, with its time in milliseconds since 1970.
    pub counted_now: Vec<(u64, Counter, String, u32)>,
    pub can_count: bool,
    /// The valid `Fastly-Key`, if there is one.
    pub fastly_key: Option<&'static str>,
    pub is_local: bool,
    pub backends: Vec<&'static str>,
    /// The time of ids, in milliseconds since 1970.
    pub clock: u64,
    /// How long each publish request takes, in milliseconds.
    pub publishing: u64,
    /// How long each operation on the store takes, in milliseconds; inserts take it when they are waited for.
    pub storing: u64,
    pub has_store: bool,
    /// Entries of the stores that the service does not know: names of those of the Config Store begin with `config:`.
    pub entries: Vec<(&'static str, &'static str)>,
    /// The names of the entries that were read.
    pub entries_read: Vec<String>,
    pub store: Memory,
    /// What the sandbox knows.
    pub state: State,
    has_valid_fastly_key: bool,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            published: Vec::new(),
            results: VecDeque::new(),
            fetched: Vec::new(),
            responses: VecDeque::new(),
            counted: Vec::new(),
            counted_now: Vec::new(),
            can_count: true,
            fastly_key: None,
            is_local: false,
            backends: vec!["self", "publisher"],
            clock: NOW * 1000,
            publishing: 0,
            storing: 0,
            has_store: true,
            entries: Vec::new(),
            entries_read: Vec::new(),
            store: Memory::default(),
            state: State::default(),
            has_valid_fastly_key: false,
        }
    }
}

impl Sender for Host {
    fn send(&mut self, request: PublishRequest) -> Result<u16, SendError> {
        self.published.push(request);
        self.clock += self.publishing;
        self.results.pop_front().unwrap_or(Ok(200))
    }
}

impl Host {
    fn store(&mut self) -> &mut Memory {
        self.clock += self.storing;
        self.store.clock = self.clock;
        self.store.is_missing = !self.has_store;
        &mut self.store
    }
}

impl Store for Host {
    fn begin_insert(&mut self, key: &str, value: &str, time_to_live: Duration) {
        self.store.clock = self.clock;
        self.store.is_missing = !self.has_store;
        self.store.begin_insert(key, value, time_to_live);
    }

    fn finish_inserts(&mut self) -> Result<(), StoreError> {
        self.store().finish_inserts()
    }

    fn insert_new(&mut self, key: &str, value: String) -> Result<(), StoreError> {
        self.store().insert_new(key, value)
    }

    fn lookup(&mut self, keys: &[String], limit: usize) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.store().lookup(keys, limit)
    }

    fn list(&mut self, prefixes: &[String], limit: usize) -> Result<Listed, StoreError> {
        self.store().list(prefixes, limit)
    }
}

impl Platform for Host {
    fn fetch(
        &mut self,
        backend: &str,
        request: http::Request<Vec<u8>>,
        limit: usize,
    ) -> Result<http::Response<Vec<u8>>, BackendError> {
        self.fetched.push((backend.to_owned(), request));
        let response = self.responses.pop_front().unwrap_or(Err(BackendError::Missing))?;
        if response.body().len() > limit { Err(BackendError::TooLarge) } else { Ok(response) }
    }

    fn state(&mut self) -> &mut State {
        &mut self.state
    }

    fn setting(&mut self, name: &str) -> Lookup {
        self.secret(&format!("config:{name}"))
    }

    fn secret(&mut self, name: &str) -> Lookup {
        self.entries_read.push(name.to_owned());
        let entry = self.entries.iter().find(|(known, _)| *known == name);
        if entry.is_some_and(|(_, value)| *value == UNREADABLE) {
            return Err(Unreadable);
        }
        Ok(entry.map(|(_, value)| (*value).to_owned()))
    }

    fn time(&mut self) -> u64 {
        self.clock
    }

    fn random(&mut self) -> u32 {
        1
    }

    fn count(&mut self, counter: Counter, entry: &str, n: u32) -> Result<u32, CannotCount> {
        if !self.can_count {
            return Err(CannotCount);
        }
        if counter.seconds() == 1 {
            self.counted_now.retain(|(time, ..)| time + 1000 > self.clock);
            self.counted_now.push((self.clock, counter, entry.to_owned(), n));
            let same = self.counted_now.iter().filter(|(_, known, name, _)| *known == counter && name == entry);
            return Ok(same.map(|(.., n)| n).sum());
        }
        if self.counted.len() >= 100 {
            let mut totals: Vec<(Counter, String, u32)> = Vec::new();
            for (counter, entry, n) in self.counted.drain(..) {
                match totals.iter_mut().find(|(known, name, _)| *known == counter && *name == entry) {
                    Some((.., total)) => *total += n,
                    None => totals.push((counter, entry, n)),
                }
            }
            self.counted = totals;
        }
        self.counted.push((counter, entry.to_owned(), n));
        let same = self.counted.iter().filter(|(known, name, _)| *known == counter && name == entry);
        Ok(same.map(|(_, _, n)| n).sum())
    }

    fn wait(&mut self, time: Duration) {
        self.clock += u64::try_from(time.as_millis()).expect("a time");
    }

    fn has_valid_fastly_key(&self) -> bool {
        self.has_valid_fastly_key
    }

    fn is_local(&self) -> bool {
        self.is_local
    }

    fn has_backend(&self, name: &str) -> bool {
        self.backends.contains(&name)
    }

    fn has_store(&mut self) -> bool {
        self.has_store
    }
}

/// The n-th id of a service (n < 4096), at the time [`NOW`], if it is that of no message.
pub fn id(n: u32) -> Uuid {
    let [.., a, b, c, d, e, f] = (NOW * 1000).to_be_bytes();
    let n = (0x8000 | n) as u16;
    Uuid::from_fields(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]), 0x7000, &{
        let [first, second] = n.to_be_bytes();
        [first, second, 0, 0, 0, 0, 0, 0]
    })
}

/// The cursor of a time, in milliseconds since 1970.
pub fn cursor(time: u64) -> String {
    let digits = format!("{time:012x}");
    format!("{}-{}-8000-8000-000000000000", &digits[..8], &digits[8..])
}

/// The id of a message that begins as this one.
pub fn id_of(begins_as: Uuid, channel: &str, content: &str, from: &str) -> Uuid {
    let mut id = begins_as.into_bytes();
    id[10..].fill(0);
    let part = |text: &str| [&(text.len() as u64).to_be_bytes()[..], text.as_bytes()].concat();
    let hashed = [&id[..], &part(channel), &part(from), &part(""), b"text", content.as_bytes()].concat();
    id[10..].copy_from_slice(&hmac_sha256::Hash::hash(&hashed)[..6]);
    Uuid::from_bytes(id)
}

/// The service and its host.
pub struct Service {
    pub settings: Settings,
    pub host: Host,
    pub now: u64,
    pub on_websocket: Handler,
    pub on_broadcast: Option<OnBroadcast>,
    /// What is left to do when the last response has been sent.
    pub later: Option<Later>,
}

impl Service {
    /// The service with these settings and the handler [`mirror`].
    pub fn new(settings: Settings) -> Self {
        Self { settings, host: Host::default(), now: NOW, on_websocket: mirror, on_broadcast: None, later: None }
    }

    pub fn local() -> Self {
        Self::new(local_settings())
    }

    pub fn with_handler(self, on_websocket: Handler) -> Self {
        Self { on_websocket, ..self }
    }

    pub fn with_check(self, on_broadcast: OnBroadcast) -> Self {
        Self { on_broadcast: Some(on_broadcast), ..self }
    }

    pub fn at(self, now: u64) -> Self {
        Self { now, ..self }
    }

    pub fn decide(&mut self, mut request: Request) -> Outcome {
        self.host.has_valid_fastly_key =
            self.host.fastly_key.is_some_and(|key| request.header("fastly-key") == Header::Value(key));
        self.host.state.begin_request();
        let mut service = fanout_edge::Service::new(self.on_websocket);
        if let Some(on_broadcast) = self.on_broadcast {
            service = service.on_broadcast(on_broadcast);
        }
        let mut exchange = Exchange {
            request: &mut request,
            platform: &mut self.host,
            settings: &self.settings,
            now: self.now,
            service: &service,
            later: None,
        };
        let outcome = app::decide(&mut exchange);
        self.later = exchange.later;
        outcome
    }

    /// Returns the response to a request that must not be handed off.
    #[track_caller]
    pub fn respond(&mut self, request: Request) -> Response {
        match self.decide(request) {
            Outcome::Response(response) => response,
            Outcome::HandOff { .. } => panic!("a hand-off"),
        }
    }

    /// Does what is left to do when a response has been sent. Returns a line for the log if it fails.
    pub fn finish(&mut self, later: Later) -> Option<String> {
        app::later(later, &self.settings, &mut self.host, self.now)
    }

    pub fn hands_off(&mut self, request: Request) -> bool {
        matches!(self.decide(request), Outcome::HandOff { backend: "self", .. })
    }

    /// Returns the publish requests since the last call.
    pub fn take_published(&mut self) -> Vec<PublishRequest> {
        std::mem::take(&mut self.host.published)
    }

    /// Returns the published items since the last call.
    pub fn take_items(&mut self) -> Vec<serde_json::Value> {
        let items = |request: PublishRequest| {
            let mut body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
            serde_json::from_value::<Vec<_>>(body["items"].take()).expect("items")
        };
        self.take_published().into_iter().flat_map(items).collect()
    }
}

/// Returns the value of a header that a response has at most once.
#[track_caller]
pub fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let mut values = response.headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().expect("text"));
    assert_eq!(values.next(), None, "{name} occurs more than once");
    value
}

/// Checks the status and the body of a response.
#[track_caller]
pub fn is(response: &Response, status: u16, body: impl AsRef<[u8]>) {
    let seen = (response.status, response.body.escape_ascii().to_string());
    assert_eq!(seen, (status, body.as_ref().escape_ascii().to_string()));
}

/// The events with which the service accepts the connection `c1`.
pub const ACCEPTED: &str = concat!(
    "OPEN\r\n",
    "TEXT 30\r\nc:{\"type\":\"set-meta\",\"name\":\"user\",\"value\":\"c1\"}\r\n",
    "TEXT 47\r\nc:{\"type\":\"keep-alive\",\"message-type\":\"pong\",\"content\":\"\",\"timeout\":30}\r\n",
);

/// The event with which the service subscribes a connection to a channel.
pub fn subscribed(channel: &str) -> String {
    let control = format!(r#"c:{{"type":"subscribe","channel":"{channel}","filters":["skip-self"]}}"#);
    format!("TEXT {:x}\r\n{control}\r\n", control.len())
}
