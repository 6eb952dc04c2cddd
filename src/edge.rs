//! The only code that names the Fastly SDK: it reads the request and the settings, and carries out what
//! [`fanout_edge::app`] decides.

use std::{
    env,
    io::Read,
    net::IpAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fanout_edge::{
    app::{
        self, Action, Reply, Request, Settings,
        http::{BodyError, CannotCount, Counter},
        settings::{self, Lookup, Unreadable},
    },
    grip::{
        Header, Headers,
        publish::{PublishRequest, Transport, TransportError},
    },
};
use fastly::{
    Backend, ConfigStore, SecretStore, config_store,
    erl::{CounterDuration, RateCounter},
    http::{HeaderValue, Method, header, request::SendErrorCause, serve::Serve},
    secret_store::OpenError,
};

/// How long the backend `publisher` may be silent: `first_byte_timeout_ms` of fastly.toml. On Fastly its setting counts.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one sandbox serves, and how long it waits for its next request. The settings are read once for each, so a
/// changed one takes effect within the sum.
const LIFETIME: Duration = Duration::from_secs(55);
const MAX_IDLE: Duration = Duration::from_secs(5);

/// After so many requests, or above so much memory, a sandbox makes place for a fresh one.
const MAX_REQUESTS: usize = 10_000;
const MAX_MEMORY_MIB: u32 = 32;

const FASTLY_KEY: &str = "fastly-key";

/// Serves requests, one after the other, until a limit is reached. A panic ends the sandbox and that one request.
pub(crate) fn run() {
    let serve = Serve::new().with_max_lifetime(LIFETIME).with_timeout(MAX_IDLE).with_max_requests(MAX_REQUESTS);
    let mut kept = Kept::default();
    serve.with_max_memory(MAX_MEMORY_MIB).run_with_context(answer, &mut kept);
}

/// What a sandbox keeps from one request to the next.
#[derive(Default)]
struct Kept {
    settings: Option<Settings>,
    notice: Option<&'static str>,
}

fn answer(request: fastly::Request, kept: &mut Kept) {
    let mut request = ClientRequest(request);
    let settings = kept.settings.get_or_insert_with(read_settings);
    if kept.notice != settings.notice() {
        kept.notice = settings.notice();
        if let Some(line) = kept.notice {
            eprintln!("{line}");
        }
    }
    match app::decide(&mut request, settings, now()) {
        Action::Reply(reply) => send(reply),
        Action::HandOff { backend } => hand_off(request.0, backend),
        Action::Publish { backend, requests, answer } => {
            let mut backend = ThroughBackend(backend);
            send(answer(requests.into_iter().try_for_each(|request| request.send(&mut backend))));
        }
    }
    // What could not be read now may be there for the next request.
    kept.settings.take_if(|settings| settings.are_incomplete());
}

struct ClientRequest(fastly::Request);

impl Headers for ClientRequest {
    fn header(&self, name: &str) -> Header<'_> {
        Header::of(self.0.get_header_all(name).map(|value| value.to_str().ok()))
    }
}

impl Request for ClientRequest {
    fn method(&self) -> &str {
        self.0.get_method_str()
    }

    fn path(&self) -> &str {
        self.0.get_path()
    }

    fn query(&self) -> &str {
        self.0.get_query_str().unwrap_or_default()
    }

    fn body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        let mut from = self.0.take_body();
        let mut body = Vec::new();
        if let Some(length) = from.known_length() {
            let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(BodyError::TooLarge)?;
            body.resize(length, 0);
            from.read_exact(&mut body).map_err(|_| BodyError::Incomplete)?;
            return Ok(body);
        }
        from.take(limit as u64 + 1).read_to_end(&mut body).map_err(|_| BodyError::Incomplete)?;
        if body.len() > limit { Err(BodyError::TooLarge) } else { Ok(body) }
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.0.get_client_ip_addr()
    }

    fn has_fastly_key(&self) -> bool {
        self.0.get_header(FASTLY_KEY).is_some() && self.0.fastly_key_is_valid()
    }

    fn is_local(&self) -> bool {
        env::var("FASTLY_HOSTNAME").is_ok_and(|name| name == "localhost")
    }

    fn has_backend(&self, name: &str) -> bool {
        Backend::from_name(name).is_ok_and(|backend| backend.exists())
    }

    fn count(&self, counter: Counter, entry: &str, more: u32) -> Result<u32, CannotCount> {
        let counter = RateCounter::open(counter.name());
        let count =
            counter.increment(entry, more).and_then(|()| counter.lookup_count(entry, CounterDuration::SixtySecs));
        count.map_err(|error| {
            eprintln!("the platform does not count, so nothing is limited: {error}");
            CannotCount
        })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}

/// A service without the store has no entries: what cannot do without one names it.
fn read_settings() -> Settings {
    let store = SecretStore::open(settings::STORE);
    let entry = |name: &'static str| -> Lookup {
        let store = match &store {
            Ok(store) => store,
            // A store that is not there, or not linked, must not let everybody in.
            Err(OpenError::SecretStoreDoesNotExist(_)) if name != settings::ACCESS_KEY => return Ok(None),
            Err(_) => return Err(Unreadable),
        };
        let Some(secret) = store.try_get(name).map_err(|_| Unreadable)? else { return Ok(None) };
        let bytes = secret.try_plaintext().map_err(|_| Unreadable)?;
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| Unreadable)
    };
    let config = ConfigStore::try_open(settings::CONFIG_STORE);
    let config = |name: &'static str| -> Lookup {
        match &config {
            Ok(store) => store.try_get(name).map_err(|_| Unreadable),
            Err(config_store::OpenError::ConfigStoreDoesNotExist) => Ok(None),
            Err(_) => Err(Unreadable),
        }
    };
    let service_id = env::var("FASTLY_SERVICE_ID").unwrap_or_default();
    Settings::read(&entry, &config, &service_id)
}

fn send(reply: Reply) {
    if let Some(line) = &reply.log {
        eprintln!("{line}");
    }
    let mut response = fastly::Response::from_status(reply.status).with_body(reply.body);
    for (name, value) in &reply.headers {
        response.append_header(&**name, &**value);
    }
    response.send_to_client();
}

fn hand_off(mut request: fastly::Request, backend: &str) {
    // It would come back with each event, and is not for the proxy.
    request.remove_header(FASTLY_KEY);
    if let Err(error) = request.handoff_fanout(backend) {
        let cause = error.root_cause();
        let line = format!("The WebSocket could not be handed off to Fanout with the backend `{backend}`: {cause}");
        send(Reply::text(503, &line).with_log(line));
    }
}

/// Carries publish requests through a backend.
struct ThroughBackend(&'static str);

impl Transport for ThroughBackend {
    fn send(&mut self, request: PublishRequest) -> Result<u16, TransportError> {
        let mut to_proxy = fastly::Request::new(Method::POST, request.url)
            .with_header(header::CONTENT_TYPE, "application/json")
            .with_pass(true)
            .with_body(request.body);
        if let Some(Ok(mut authorization)) = request.authorization.map(HeaderValue::try_from) {
            authorization.set_sensitive(true);
            to_proxy.set_header(header::AUTHORIZATION, authorization);
        }
        let start = Instant::now();
        let error = match to_proxy.send(self.0) {
            Ok(response) => return Ok(response.get_status().as_u16()),
            Err(error) => error,
        };
        let cause = error.root_cause();
        eprintln!("publishing through the backend `{}` failed: {cause}", self.0);
        Err(match cause {
            SendErrorCause::HttpResponseTimeout | SendErrorCause::ConnectionTimeout | SendErrorCause::DnsTimeout => {
                TransportError::TimedOut
            }
            // Viceroy does not say which of its errors is a timeout.
            SendErrorCause::InternalError(_) if start.elapsed() >= PATIENCE => TransportError::TimedOut,
            _ => TransportError::Unreachable,
        })
    }
}
