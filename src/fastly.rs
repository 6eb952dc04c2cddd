//! The only code that names the Fastly SDK: it reads the request and the settings, and carries out what
//! [`app`](crate::app) decides.

mod store;

use std::{
    env,
    io::Read,
    net::IpAddr,
    sync::Once,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    app::{
        self,
        error::Error,
        exchange::Exchange,
        log,
        platform::{BackendError, CannotCount, Counter, PUBLISHER_BACKEND, Platform, StoreError},
        sandbox::Usage,
        service::Service,
        settings::{self, Lookup, Settings, Unreadable},
        state::State,
        web::{BodyError, CLIENT, Outcome, Request, Response},
    },
    grip::{
        Headers,
        publish::{PublishRequest, SendError, Sender},
    },
};
use fastly::{
    Backend, Body, ConfigStore, KVStore, SecretStore,
    compute_runtime::{elapsed_vcpu_ms, heap_memory_snapshot_mib},
    config_store,
    erl::{CounterDuration, RateCounter, RateWindow},
    http::{
        HeaderName, Method, Url, header,
        request::SendErrorCause,
        serve::{NextRequestOptions, RequestPromise},
    },
    kv_store::PendingInsertHandle,
    secret_store::OpenError,
};
use uuid::Uuid;

/// How long a backend may be silent on a developer's machine: `first_byte_timeout_ms` of fastly.toml. On Fastly the
/// backend's own setting is in force.
const PATIENCE: Duration = Duration::from_secs(5);

const FASTLY_KEY: &str = "fastly-key";

/// Serves requests, one after the other, until the sandbox retires. A panic ends the sandbox and that one request.
pub(crate) fn run(service: &Service<'_>) {
    let started = Instant::now();
    let settings = read_settings();
    if let Some(line) = settings.notice() {
        eprintln!("{line}");
    }
    let mut state = State::default();
    serve(service, &settings, &mut state, started);
    state.rejected().for_each(|line| eprintln!("{line}"));
}

fn serve(service: &Service<'_>, settings: &Settings, state: &mut State, started: Instant) {
    let mut usage = Usage::default();
    let mut request = fastly::Request::from_client();
    loop {
        state.begin_request();
        handle(request, settings, service, &mut usage, state);
        usage.requests += 1;
        usage.age = started.elapsed();
        usage.cpu_ms = elapsed_vcpu_ms().unwrap_or(u64::MAX);
        usage.memory_mib = heap_memory_snapshot_mib().unwrap_or(u32::MAX);
        let Some(time) = usage.may_wait(settings) else { return };
        // Where no next request can be had, for instance after a hand-off, the sandbox is at its end.
        let next = RequestPromise::new(&NextRequestOptions::from_timeout(time)).and_then(RequestPromise::wait);
        let Ok(next) = next else { return };
        request = next;
    }
}

fn handle(
    mut request: fastly::Request,
    settings: &Settings,
    service: &Service<'_>,
    usage: &mut Usage,
    state: &mut State,
) {
    let mut body = request.has_body().then(|| request.take_body());
    let mut platform = Fastly { request: &request, usage, state, store: None, inserts: Vec::new() };
    let mut exchange = Exchange {
        request: &mut ClientRequest { head: &request, body: &mut body },
        platform: &mut platform,
        settings,
        now: now(),
        service,
        later: None,
    };
    let outcome = app::decide(&mut exchange);
    let later = exchange.later;
    match outcome {
        Outcome::Response(mut response) => {
            if let Some(line) = log::take_line(&mut response, &mut platform) {
                eprintln!("{line}");
            }
            send(response);
            if let Some(line) = later.and_then(|later| app::later(later, settings, &mut platform, now())) {
                eprintln!("{line}");
            }
        }
        Outcome::HandOff { backend, query, client } => {
            if let Some(query) = query {
                request.set_query_str(query);
            }
            if let Some(body) = body {
                request.set_body(body);
            }
            hand_off(request, backend, client);
        }
    }
}

struct ClientRequest<'a> {
    head: &'a fastly::Request,
    body: &'a mut Option<Body>,
}

impl Headers for ClientRequest<'_> {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        // The SDK panics for a text that is no header name.
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return };
        self.head.get_header_all(name).for_each(|value| take(value.to_str().ok()));
    }
}

impl Request for ClientRequest<'_> {
    fn method(&self) -> &str {
        self.head.get_method_str()
    }

    fn path(&self) -> &str {
        self.head.get_path()
    }

    fn query(&self) -> &str {
        self.head.get_query_str().unwrap_or_default()
    }

    fn body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        self.body.take().map_or(Ok(Vec::new()), |body| read(body, limit))
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.head.get_client_ip_addr()
    }
}

fn read(mut from: Body, limit: usize) -> Result<Vec<u8>, BodyError> {
    if let Some(length) = from.known_length() {
        let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(BodyError::TooLarge)?;
        let mut body = vec![0; length];
        from.read_exact(&mut body).map_err(|_| BodyError::Incomplete)?;
        return Ok(body);
    }
    let mut body = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut body).map_err(|_| BodyError::Incomplete)?;
    if body.len() > limit { Err(BodyError::TooLarge) } else { Ok(body) }
}

/// The platform, while it serves one request.
struct Fastly<'a> {
    request: &'a fastly::Request,
    usage: &'a mut Usage,
    state: &'a mut State,
    /// Opened when it is needed.
    store: Option<KVStore>,
    inserts: Vec<Result<PendingInsertHandle, StoreError>>,
}

impl Fastly<'_> {
    /// Sends a request to a backend, never to the cache.
    fn send_to(&mut self, backend: &str, request: fastly::Request) -> Result<fastly::Response, BackendError> {
        self.usage.backend_requests += 1;
        let start = Instant::now();
        let error = match request.with_pass(true).send(backend) {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let cause = error.root_cause();
        eprintln!("the backend `{backend}` failed: {cause}");
        Err(match cause {
            SendErrorCause::HttpResponseTimeout | SendErrorCause::ConnectionTimeout | SendErrorCause::DnsTimeout => {
                BackendError::TimedOut
            }
            // Viceroy does not say which of its errors is a timeout.
            SendErrorCause::InternalError(_) if start.elapsed() >= PATIENCE => BackendError::TimedOut,
            _ => BackendError::Unreachable,
        })
    }
}

impl Sender for Fastly<'_> {
    fn send(&mut self, request: PublishRequest) -> Result<u16, SendError> {
        let mut to_proxy = fastly::Request::new(Method::POST, request.url)
            .with_header(header::CONTENT_TYPE, "application/json")
            .with_body(request.body);
        if let Some(authorization) = request.authorization {
            to_proxy.set_header(header::AUTHORIZATION, authorization);
        }
        match self.send_to(PUBLISHER_BACKEND, to_proxy) {
            Ok(response) => Ok(response.get_status().as_u16()),
            Err(BackendError::TimedOut) => Err(SendError::TimedOut),
            Err(_) => Err(SendError::Unreachable),
        }
    }
}

impl Platform for Fastly<'_> {
    fn fetch(
        &mut self,
        backend: &str,
        request: http::Request<Vec<u8>>,
        limit: usize,
    ) -> Result<http::Response<Vec<u8>>, BackendError> {
        if !self.has_backend(backend) {
            return Err(BackendError::Missing);
        }
        // The SDK's conversion panics for a URL that is not absolute.
        Url::parse(&request.uri().to_string()).ok().filter(Url::has_host).ok_or(BackendError::Url)?;
        let response: http::Response<Body> = self.send_to(backend, request.map(Body::from).into())?.into();
        let (head, body) = response.into_parts();
        let body = read(body, limit).map_err(|error| match error {
            BodyError::TooLarge => BackendError::TooLarge,
            BodyError::Incomplete => BackendError::Unreachable,
        })?;
        Ok(http::Response::from_parts(head, body))
    }

    fn state(&mut self) -> &mut State {
        self.state
    }

    fn setting(&mut self, name: &str) -> Lookup {
        read_config(&ConfigStore::try_open(settings::CONFIG_STORE), name)
    }

    fn secret(&mut self, name: &str) -> Lookup {
        read_secret(&SecretStore::open(settings::SECRET_STORE), name)
    }

    fn time(&mut self) -> u64 {
        u64::try_from(since_1970().as_millis()).expect("it is before the year 500,000,000")
    }

    fn random(&mut self) -> u32 {
        // Its first 48 bits are random.
        (Uuid::new_v4().as_u128() >> 96) as u32
    }

    fn count(&mut self, counter: Counter, entry: &str, n: u32) -> Result<u32, CannotCount> {
        static SAID: Once = Once::new();
        let rates = RateCounter::open(counter.name());
        let counted = if n > 0 { rates.increment(entry, n) } else { Ok(()) };
        let total = || match counter.seconds() {
            1 => rates.lookup_rate(entry, RateWindow::OneSec),
            _ => rates.lookup_count(entry, CounterDuration::SixtySecs),
        };
        counted.and_then(|()| total()).map_err(|error| {
            SAID.call_once(|| eprintln!("the platform does not count, so nothing is limited: {error}"));
            CannotCount
        })
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn has_valid_fastly_key(&self) -> bool {
        self.request.get_header(FASTLY_KEY).is_some() && self.request.fastly_key_is_valid()
    }

    fn is_local(&self) -> bool {
        env::var("FASTLY_HOSTNAME").is_ok_and(|name| name == "localhost")
    }

    fn has_backend(&self, name: &str) -> bool {
        Backend::from_name(name).is_ok_and(|backend| backend.exists())
    }

    fn has_store(&mut self) -> bool {
        self.store(0).is_ok()
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

fn now() -> u64 {
    since_1970().as_secs()
}

fn read_settings() -> Settings {
    let (secrets, config) = (SecretStore::open(settings::SECRET_STORE), ConfigStore::try_open(settings::CONFIG_STORE));
    let secret = |name: &'static str| match (&secrets, read_secret(&secrets, name)) {
        // A store that does not exist, or is not linked, must not open the service to everybody.
        (Err(_), _) if name == settings::ACCESS_KEY => Err(Unreadable),
        (_, value) => value,
    };
    let service_id = env::var("FASTLY_SERVICE_ID").unwrap_or_default();
    Settings::read(&secret, &|name| read_config(&config, name), &service_id)
}

/// A service without the store has no entries: what cannot do without one names it.
fn read_secret(store: &Result<SecretStore, OpenError>, name: &str) -> Lookup {
    let store = match store {
        Ok(store) => store,
        Err(OpenError::SecretStoreDoesNotExist(_)) => return Ok(None),
        Err(_) => return Err(Unreadable),
    };
    let Some(secret) = store.try_get(name).map_err(|_| Unreadable)? else { return Ok(None) };
    let bytes = secret.try_plaintext().map_err(|_| Unreadable)?;
    String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| Unreadable)
}

fn read_config(store: &Result<ConfigStore, config_store::OpenError>, name: &str) -> Lookup {
    match store {
        Ok(store) => store.try_get(name).map_err(|_| Unreadable),
        Err(config_store::OpenError::ConfigStoreDoesNotExist) => Ok(None),
        Err(_) => Err(Unreadable),
    }
}

fn send(response: Response) {
    let mut to_client = fastly::Response::from_status(response.status).with_body(response.body);
    for (name, value) in &response.headers {
        to_client.append_header(name, value);
    }
    to_client.send_to_client();
}

fn hand_off(mut request: fastly::Request, backend: &'static str, client: Option<IpAddr>) {
    // It is not for the proxy, which would send it along with each event; and what begins like the others comes from the
    // proxy only.
    let is_reserved = |name: &&HeaderName| {
        *name == FASTLY_KEY || *name == "connection-id" || *name == CLIENT || name.as_str().starts_with("meta-")
    };
    let reserved: Vec<_> = request.get_header_names().filter(is_reserved).cloned().collect();
    for name in reserved {
        request.remove_header(name);
    }
    if let Some(client) = client {
        request.set_header(CLIENT, client.to_string());
    }
    if let Err(error) = request.handoff_fanout(backend) {
        let error = Error::HandOff { backend, cause: error.root_cause().to_string() };
        eprintln!("{error}");
        send(error.response());
    }
}
