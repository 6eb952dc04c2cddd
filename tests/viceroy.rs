//! The edge shell in WebAssembly under the real Viceroy: stores, backends, the hand-off, and the publish request as it
//! is sent. Test servers take the place of Pushpin and the backends: they record requests and fail on demand.
#![cfg(not(target_os = "wasi"))]

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jwt_simple::prelude::ES256KeyPair;
use support::{
    LOCAL_GRIP_URL, access_token, claims,
    http::{Message, Response, Server, begins, free_port, handshake, send, send_to_host, wait_until},
    local_signature,
    process::Viceroy,
    sign_es256,
};

const EVENTS: &str = "application/websocket-events";
const UNREACHABLE: &str = "The message is probably not published: the GRIP proxy could not be reached, try again";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

fn backend(name: &str, port: u16) -> String {
    format!("[local_server.backends.{name}]\nurl = \"http://127.0.0.1:{port}/\"\nfirst_byte_timeout_ms = 5000\n")
}

fn store(entries: &[(&str, &str)]) -> String {
    let entry = |(key, data): &(&str, &str)| {
        format!("[[local_server.secret_stores.fanout]]\nkey = \"{key}\"\ndata = '''{data}'''\n")
    };
    entries.iter().map(entry).collect()
}

fn local() -> String {
    store(&[("GRIP_URL", LOCAL_GRIP_URL)])
}

/// The Config Store with one entry.
fn config(entry: &str, value: &str) -> String {
    format!(
        "[local_server.config_stores.fanout_config]\nformat = \"inline-toml\"\n[local_server.config_stores.fanout_config.contents]\n{entry} = \"{value}\"\n"
    )
}

/// A server that accepts publish requests.
fn start_publisher() -> Server {
    Server::start(|_| Response::new(200, &[("Content-Type", "text/plain")], "Published\n"))
}

fn broadcast(viceroy: &Viceroy, text: impl AsRef<[u8]>) -> Message {
    send(viceroy.port, "POST /api/broadcast", &[TEXT], text)
}

#[track_caller]
fn is(response: &Message, status: u16, body: &str) {
    assert_eq!((response.status(), response.text()), (status, format!("{body}\n")));
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn the_publish_request_has_the_format_that_the_proxy_expects() {
    let publisher = start_publisher();
    let viceroy = Viceroy::start(&(local() + &backend("publisher", publisher.port)), None);
    is(&broadcast(&viceroy, "Hell\u{f6}"), 200, "Ok");
    let request = publisher.only_post();
    assert_eq!(request.start, "POST /publish/ HTTP/1.1");
    assert!(request.text().contains("\"ws-message\":{\"content\":\"Hell\u{f6}\"}"), "{}", request.text());
    assert_eq!(request.header("content-length"), Some(&*request.body.len().to_string()));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.values("transfer-encoding"), [""; 0]);
    assert_eq!(request.values("authorization"), [""; 0]);
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn on_fastly_the_token_is_sent_to_the_publish_api() {
    let publisher = start_publisher();
    let settings = store(&[("FANOUT_API_TOKEN", "s3cret-token")]) + &config("FANOUT_SERVICE_ID", "SERVICE1");
    let viceroy = Viceroy::start(&(settings + &backend("publisher", publisher.port)), None);
    is(&broadcast(&viceroy, "Hello"), 200, "Ok");
    let request = publisher.only_post();
    assert_eq!(request.start, "POST /service/SERVICE1/publish/ HTTP/1.1");
    assert_eq!(request.header("authorization"), Some("Bearer s3cret-token"));
    assert!(!viceroy.output().contains("s3cret"));
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn the_service_id_defaults_to_the_running_service() {
    let publisher = start_publisher();
    let settings = store(&[("FANOUT_API_TOKEN", "token")]) + &backend("publisher", publisher.port);
    let viceroy = Viceroy::start(&settings, None);
    is(&broadcast(&viceroy, "Hello"), 200, "Ok");
    let request = publisher.only_post();
    // Viceroy's own FASTLY_SERVICE_ID.
    assert_eq!(request.start, "POST /service/0000000000000000000000/publish/ HTTP/1.1");
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_missing_token_is_reported_by_name() {
    for settings in [String::new(), store(&[("ANYTHING", "x")])] {
        let viceroy = Viceroy::start(&settings, None);
        let problem = "The entry FANOUT_API_TOKEN of the secret store `fanout` is missing (or GRIP_URL, for a proxy other than Fastly Fanout)";
        is(&broadcast(&viceroy, "Hello"), 503, problem);
        viceroy.wait_for(problem);
    }
}

/// One after the other: Viceroy takes two seconds of CPU to start.
type Responses = Vec<(fn() -> Response, u16, &'static str)>;

/// A server that responds as the entry of the table does whose number is set.
fn start_table(table: &Responses) -> (Server, Arc<AtomicUsize>) {
    let number = Arc::new(AtomicUsize::new(0));
    let responses: Vec<fn() -> Response> = table.iter().map(|(respond, ..)| *respond).collect();
    let current = Arc::clone(&number);
    (Server::start(move |_| responses[current.load(Ordering::Relaxed)]()), number)
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn only_an_accepted_message_is_ok() {
    let table: Responses = vec![
        (
            || Response::new(400, &[], "Bad"),
            502,
            "The message is not published: the GRIP proxy rejected it with status 400",
        ),
        (
            || Response::new(401, &[], ""),
            502,
            "The message is not published: the GRIP proxy rejected the publishing token with status 401; correct FANOUT_API_TOKEN or GRIP_URL",
        ),
        (
            || Response::new(429, &[], ""),
            502,
            "The message is not published: the GRIP proxy rejected it with status 429",
        ),
        (
            || Response::new(500, &[], ""),
            502,
            "The message is not published: the GRIP proxy rejected it with status 500",
        ),
        (|| Response::Hangup, 502, UNREACHABLE),
        (|| Response::Bytes(b"garbage\r\n\r\n".to_vec()), 502, UNREACHABLE),
        (|| Response::Silence, 504, "The message may or may not be published: the GRIP proxy did not respond in time"),
    ];
    let (publisher, number) = start_table(&table);
    let viceroy = Viceroy::start(&(local() + &backend("publisher", publisher.port)), None);
    for (at, (_, status, body)) in table.iter().enumerate() {
        number.store(at, Ordering::Relaxed);
        is(&broadcast(&viceroy, "Hello"), *status, body);
        viceroy.wait_for(body);
        begins(&send(viceroy.port, "GET /nothing", &[], ""), 404, "Not found: ");
    }
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_handler_fetches_from_a_backend() {
    let open = |viceroy: &Viceroy| {
        let signature = local_signature(now());
        let headers = [
            ("Grip-Sig", &*signature),
            ("Content-Type", EVENTS),
            ("Connection-Id", "c1"),
            ("Authorization", "Basic YTpi"),
        ];
        send(viceroy.port, "POST /api/websocket?handler=ask&channel=blue", &headers, "OPEN\r\n")
    };
    let rooms = Server::start(|_| Response::new(200, &[], "welcome"));
    let viceroy = Viceroy::start(&(local() + &backend("rooms", rooms.port)), None);
    begins(&open(&viceroy), 200, "OPEN\r\n");
    // Viceroy itself sends a request to each backend when it starts.
    let asked = rooms.requests().into_iter().find(|request| request.start == "GET /may-enter?room=blue HTTP/1.1");
    let request = asked.expect("a request to the backend");
    assert_eq!(request.header("host"), Some("rooms.example"));
    assert_eq!(request.header("authorization"), Some("Basic YTpi"));
    let table: Responses = vec![
        (|| Response::new(403, &[], "full"), 403, "full"),
        (
            || Response::new(200, &[], "x".repeat(100_001)),
            502,
            "The backend `rooms` sent too large a response: at most 100000 bytes are accepted",
        ),
        (|| Response::Hangup, 502, "The backend `rooms` could not be reached: try again later"),
        (|| Response::Silence, 504, "The backend `rooms` did not respond in time: try again later"),
    ];
    let (broken, number) = start_table(&table);
    let at_broken = Viceroy::start(&(local() + &backend("rooms", broken.port)), None);
    for (at, (_, status, problem)) in table.iter().enumerate() {
        number.store(at, Ordering::Relaxed);
        is(&open(&at_broken), *status, problem);
    }
    let message = |url: &str| {
        let signature = local_signature(now());
        let headers = [("Grip-Sig", &*signature), ("Content-Type", EVENTS), ("Connection-Id", "c1")];
        let text = format!("fetch {url}");
        let body = format!("TEXT {:x}\r\n{text}\r\n", text.len());
        send(viceroy.port, "POST /api/websocket?handler=toolbox", &headers, body).text()
    };
    assert_eq!(message("http://rooms.example/x"), "TEXT 8\r\nm:200 OK\r\n");
    let problem = "The backend `rooms` was not called: use an absolute URL, http://HOST/PATH";
    for url in ["/relative", "rooms.example:80"] {
        assert!(message(url).ends_with(&format!("{problem}\r\n")), "{}", message(url));
    }
    let missing = Viceroy::start(&local(), None);
    is(&open(&missing), 503, "The backend `rooms` does not exist: add it to the service");
    missing.wait_for("The backend `rooms` does not exist: add it to the service");
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_handler_may_ask_for_any_name() {
    // The SDK panics for a text that is no header name.
    let viceroy = Viceroy::start(&local(), None);
    for text in ["header a:b", "header \u{e9}", "recall a:b"] {
        let signature = local_signature(now());
        let headers = [("Grip-Sig", &*signature), ("Content-Type", EVENTS), ("Connection-Id", "c1")];
        let body = format!("TEXT {:x}\r\n{text}\r\n", text.len());
        let response = send(viceroy.port, "POST /api/websocket?handler=toolbox", &headers, body);
        assert!(response.status() == 200 && response.text().contains("None"), "{text}: {response:?}");
    }
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn an_unreachable_proxy_is_reported() {
    let closed = Viceroy::start(&(local() + &backend("publisher", free_port())), None);
    is(&broadcast(&closed, "Hello"), 502, UNREACHABLE);
    let no_backend = Viceroy::start(&local(), None);
    is(&broadcast(&no_backend, "Hello"), 502, UNREACHABLE);
    no_backend.wait_for("the backend `publisher` failed");
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn bodies_are_read_up_to_their_limit() {
    let publisher = start_publisher();
    let viceroy = Viceroy::start(&(local() + &backend("publisher", publisher.port)), None);
    is(&broadcast(&viceroy, vec![b'x'; 64_000]), 200, "Ok");
    let posts = || publisher.requests().iter().filter(|request| request.start.starts_with("POST ")).count();
    assert_eq!(posts(), 6, "one for each item and format");
    for length in [64_001, 3_000_000] {
        is(&broadcast(&viceroy, vec![b'x'; length]), 413, "Body too large: send at most 64000 bytes");
    }
    begins(&broadcast(&viceroy, b"\xff"), 400, "Invalid UTF-8 at byte 0: ");
    assert_eq!(posts(), 6);
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn origins_come_from_the_config_store() {
    let preflight = |viceroy: &Viceroy| {
        let headers = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "POST")];
        send(viceroy.port, "OPTIONS /api/broadcast", &headers, "")
    };
    let response = preflight(&Viceroy::start(&local(), None));
    assert_eq!((response.status(), response.header("access-control-allow-origin")), (204, Some("*")));
    for (origins, allowed) in [("https://a.example", Some("https://a.example")), ("none", None)] {
        let store = config("ALLOWED_ORIGINS", origins);
        let response = preflight(&Viceroy::start(&(local() + &store), None));
        assert_eq!((response.status(), response.header("access-control-allow-origin")), (204, allowed));
        assert_eq!(response.header("vary"), Some("Origin"));
    }
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn an_access_token_or_a_fastly_key_allows_broadcasting() {
    const SECRET: &str = "a secret for access tokens of the tests";
    let publisher = start_publisher();
    let keys = "[local_server]\nfake_valid_fastly_keys = [\"valid-fastly-key\"]\n";
    let stores = store(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", &format!("secret:{SECRET}"))]);
    let viceroy = Viceroy::start(&(keys.to_owned() + &stores + &backend("publisher", publisher.port)), None);
    let post = |path: &str, credential: &[(&str, &str)]| {
        send(viceroy.port, &format!("POST {path}"), &[&[TEXT], credential].concat(), "Hello")
    };
    let response = post("/api/broadcast", &[]);
    assert_eq!(response.status(), 401);
    assert!(response.text().starts_with("Access token required: "), "{}", response.text());
    assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"fanout-edge\""));
    is(
        &post("/api/broadcast", &[("Fastly-Key", "another")]),
        401,
        "Fastly-Key rejected: use a Fastly API token of this service, or an access token",
    );
    is(&post("/api/broadcast?channel=any", &[("Fastly-Key", "valid-fastly-key")]), 200, "Ok");
    let token = access_token(SECRET, now() + 3600, r#"{"x-fastly-write":["room-*"]}"#);
    let bearer = format!("Bearer {token}");
    is(&post("/api/broadcast?channel=room-1", &[("Authorization", &bearer)]), 200, "Ok");
    is(&post(&format!("/api/broadcast?channel=room-1&token={token}"), &[]), 200, "Ok");
    let forbidden = post("/api/broadcast", &[("Authorization", &bearer)]);
    is(&forbidden, 403, "The access token does not allow publishing to `test` (claim x-fastly-write)");
    let old = format!("Bearer {}", access_token(SECRET, now() - 60, r#"{"x-fastly-write":["*"]}"#));
    is(&post("/api/broadcast", &[("Authorization", &old)]), 401, "Access token rejected: expired. Get a new one");
    viceroy.wait_for("rejected an access token: expired");
    let posts = publisher.requests().into_iter().filter(|request| request.start.starts_with("POST ")).count();
    assert_eq!(posts, 3);
    assert!(!viceroy.output().contains("There is no ACCESS_KEY"));
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_sandbox_logs_once_that_access_is_open() {
    // Also if a setting is missing: a sandbox reads the settings once.
    for settings in [local(), store(&[("ANYTHING", "x")])] {
        let viceroy = Viceroy::start(&settings, None);
        for _ in 0..10 {
            begins(&send(viceroy.port, "GET /nothing", &[], ""), 404, "Not found: ");
            thread::sleep(Duration::from_millis(100));
        }
        // Mostly a sandbox waits for the next request. On a busy machine another one may start.
        let logged =
            viceroy.output().matches("There is no ACCESS_KEY: all clients may subscribe and broadcast").count();
        assert!((1..10).contains(&logged), "{logged}");
    }
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn sandboxes_are_reused_unless_the_setting_says_otherwise() {
    // Each sandbox logs once that access is open. On a busy machine another one may start before one waits.
    for (setting, sandboxes) in [(String::new(), 1..10), (config("SANDBOX_REQUESTS", "1"), 10..11)] {
        let viceroy = Viceroy::start(&(local() + &setting), None);
        for _ in 0..10 {
            begins(&send(viceroy.port, "GET /nothing", &[], ""), 404, "Not found: ");
            thread::sleep(Duration::from_millis(100));
        }
        let started = viceroy.output().matches("There is no ACCESS_KEY").count();
        assert!(sandboxes.contains(&started), "{started} sandboxes");
        assert!(!viceroy.output().contains("panicked"));
    }
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_sandbox_retires_after_four_requests_to_backends() {
    let publisher = start_publisher();
    let viceroy = Viceroy::start(&(local() + &backend("publisher", publisher.port)), None);
    for _ in 0..12 {
        is(&broadcast(&viceroy, "Hello"), 200, "Ok");
        thread::sleep(Duration::from_millis(100));
    }
    // On a busy machine another one may start before one waits.
    let started = viceroy.output().matches("There is no ACCESS_KEY").count();
    assert!((3..12).contains(&started), "{started} sandboxes");
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_missing_store_rejects_everybody() {
    let proxy = Server::start(|_| Response::new(418, &[], ""));
    let viceroy = Viceroy::start(&backend("self", free_port()), Some(proxy.port));
    let problem =
        "The entry ACCESS_KEY of the secret store `fanout` cannot be read: is the store linked to the service?";
    is(&send(viceroy.port, "GET /api/poll", &[], ""), 503, problem);
    is(&handshake(viceroy.port, "/api/websocket", &[]), 503, problem);
    // A store without that entry means open access.
    let viceroy = Viceroy::start(&(store(&[("ANYTHING", "x")]) + &backend("self", free_port())), Some(proxy.port));
    assert_eq!(handshake(viceroy.port, "/api/websocket", &[]).status(), 418);
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn the_health_endpoint_reports_unusable_settings_and_missing_backends() {
    let health = |viceroy: &Viceroy, method: &str| send(viceroy.port, &format!("{method} /api/health"), &[], "");
    let viceroy = Viceroy::start(&(local() + &backend("publisher", free_port()) + &backend("self", free_port())), None);
    let response = health(&viceroy, "GET");
    assert_eq!((response.status(), response.header("content-type")), (200, Some("application/json")));
    let checks = r#"{"verifier":"ok","publisher":"ok","access":"open","origins":"ok","limits":"ok","history":"off","sandbox":"ok","backend_self":"ok","backend_publisher":"ok"}"#;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(response.text(), format!(r#"{{"version":"{version}","status":"ok","checks":{checks}}}"#) + "\n");
    let head = health(&viceroy, "HEAD");
    assert_eq!((head.status(), head.header("content-type"), &*head.text()), (200, Some("application/json"), ""));
    let response = health(&Viceroy::start(&backend("publisher", free_port()), None), "GET");
    assert_eq!(response.status(), 503);
    let text = response.text();
    assert!(
        text.contains(r#""publisher":"FANOUT_API_TOKEN""#) && text.contains(r#""backend_self":"missing""#),
        "{text}"
    );
    // Locally, it also gives the reason.
    assert!(text.contains("The service has no backend `self`"), "{text}");
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn rate_limits_use_the_counters_of_the_platform() {
    // Viceroy does not count: this shows that the calls succeed, not that the limits take effect.
    let proxy = Server::start(|_| Response::new(418, &[], ""));
    let limits = "[local_server.config_stores.fanout_config]\nformat = \"inline-toml\"\n[local_server.config_stores.fanout_config.contents]\nOPENINGS_PER_MINUTE = \"1\"\nBROADCASTS_PER_MINUTE = \"1\"\n";
    let publisher = start_publisher();
    let settings = local() + limits + &backend("self", free_port()) + &backend("publisher", publisher.port);
    let viceroy = Viceroy::start(&settings, Some(proxy.port));
    for _ in 0..2 {
        assert_eq!(handshake(viceroy.port, "/api/websocket", &[]).status(), 418);
        is(&broadcast(&viceroy, "Hello"), 200, "Ok");
    }
    // Requests also pass if the platform cannot count, but then the log says so.
    assert!(!viceroy.output().contains("the platform does not count"), "{}", viceroy.output());
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_batch_that_is_too_large_to_publish_takes_little_memory() {
    let channels: String = (0..20).map(|number| format!("&channel=c{number}")).collect();
    let signature = local_signature(now());
    let post = |viceroy: &Viceroy, body: &str| {
        let headers =
            [("Content-Type", "application/websocket-events"), ("Connection-Id", "c1"), ("Grip-Sig", &*signature)];
        send(viceroy.port, &format!("POST /api/websocket?mode=publish{channels}"), &headers, body)
    };
    // Escaped in JSON, each of these bytes takes up to eight.
    for content in ["\n".repeat(199_000), "\u{1}".repeat(199_000), "\n".repeat(60_000), "x".repeat(60_000)] {
        // Each sandbox logs its memory when it ends.
        let viceroy = Viceroy::start(&(local() + &config("SANDBOX_REQUESTS", "1")), None);
        let response = post(&viceroy, &format!("TEXT {:x}\r\n{content}\r\n", content.len()));
        assert!(response.text().starts_with("CLOSE ") && response.text().contains("oo "), "{}", response.text());
        viceroy.wait_for("of WebAssembly heap");
        let output = viceroy.output();
        let heap = output.split("request completed using ").nth(1).and_then(|rest| rest.split(' ').next());
        let heap: f64 = heap.and_then(|heap| heap.parse().ok()).expect("a number of MiB");
        let message = content.len() as f64 / 1_048_576.0;
        // An empty sandbox has 1.2 MiB; the message is there as the body and in the capacity of the response. The forms of one
        // message, of 64,000 bytes at most, are built at once.
        const FORMS: f64 = 3.0;
        assert!(heap < 1.2 + 2.0 * message + FORMS, "{heap} MiB for {message} MiB");
    }
}

/// The SDK of Fastly gives the URL only parsed, and panics if it cannot parse it.
#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_request_whose_url_the_sdk_cannot_parse_ends_its_sandbox_and_no_other() {
    let viceroy = Viceroy::start(&local(), None);
    for (target, host, status) in
        [("/api/health", "x:99999", 500), ("/api/health", "[fe80::1%25en0]", 500), ("*", "localhost", 405)]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", viceroy.port)).expect("a connection");
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut response = String::new();
        let _ = stream.read_to_string(&mut response);
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{target} {host}: {response}");
        begins(&send(viceroy.port, "GET /nothing", &[], ""), 404, "Not found: ");
    }
    assert!(viceroy.output().contains("host provided invalid request url"));
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_chunked_body_is_read_up_to_its_limit() {
    let publisher = start_publisher();
    let viceroy = Viceroy::start(&(local() + &backend("publisher", publisher.port)), None);
    let chunked = |text: &str| {
        let body = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
        send(viceroy.port, "POST /api/broadcast", &[TEXT, ("Transfer-Encoding", "chunked")], body)
    };
    assert_eq!(chunked(&"x".repeat(65_537)).status(), 413);
    is(&chunked("Hello"), 200, "Ok");
    assert!(publisher.only_post().text().contains("Hello"));
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn an_incomplete_body_is_rejected_and_not_published() {
    let publisher = start_publisher();
    let viceroy = Viceroy::start(&(local() + &backend("publisher", publisher.port)), None);
    let mut stream = TcpStream::connect(("127.0.0.1", viceroy.port)).expect("a connection");
    let head =
        "POST /api/broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n";
    stream.write_all(format!("{head}half ").as_bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("the end");
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    // Viceroy may close the connection before it has forwarded the response, but it never responds with Ok.
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 400 "), "{response}");
    is(&broadcast(&viceroy, "Hello"), 200, "Ok");
    assert!(publisher.only_post().text().contains("Hello"));
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_websocket_client_is_handed_off_with_its_own_headers() {
    let proxy = Server::start(|_| Response::new(418, &[("X-From", "proxy")], "short and stout"));
    let viceroy = Viceroy::start(&(local() + &backend("self", free_port())), Some(proxy.port));
    let headers = [("Cookie", "a=1"), ("Fastly-Key", "secret"), ("Fanout-Client", "192.0.2.7")];
    let response = handshake(viceroy.port, "/api/websocket?room=1", &headers);
    assert_eq!((response.status(), response.header("x-from")), (418, Some("proxy")));
    let [request] = &proxy.requests()[..] else { panic!("not one request") };
    assert_eq!(request.start, "GET /api/websocket?room=1 HTTP/1.1");
    assert_eq!(request.header("pushpin-route"), Some("self"));
    assert_eq!(request.header("upgrade"), Some("websocket"));
    assert_eq!(request.header("cookie"), Some("a=1"));
    assert_eq!(request.values("fastly-key"), [""; 0], "the proxy must not receive it");
    assert_eq!(request.values("fanout-client"), ["127.0.0.1"], "for whom its messages count");
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn an_impossible_hand_off_is_reported() {
    let viceroy = Viceroy::start(&local(), None);
    let response = handshake(viceroy.port, "/api/websocket", &[]);
    assert_eq!(response.status(), 503);
    let problem = "Cannot hand off to Fanout through the backend `self`: ";
    assert!(response.text().starts_with(problem), "{}", response.text());
    viceroy.wait_for(problem);
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn signatures_are_checked_in_wasm_with_the_key_from_the_store() {
    let pair = ES256KeyPair::generate();
    let pem = pair.public_key().to_pem().expect("PEM");
    let viceroy = Viceroy::start(&store(&[("GRIP_URL", LOCAL_GRIP_URL), ("GRIP_VERIFY_KEY", &pem)]), None);
    let post = |signature: &str, content_types: &[&str], body: &[u8]| {
        let mut headers = vec![("Grip-Sig", signature), ("Connection-Id", "c1")];
        headers.extend(content_types.iter().map(|value| ("Content-Type", *value)));
        send(viceroy.port, "POST /api/websocket", &headers, body)
    };
    let good = sign_es256(&pair, claims(Some("viceroy"), Some(now() + 3600)));
    let response = post(&good, &[EVENTS], b"BINARY 4\r\n\x00\xff\r\n\r\n");
    assert_eq!((response.status(), response.values("content-type")), (200, vec![EVENTS]));
    assert_eq!(response.body, b"BINARY 6\r\nm:\x00\xff\r\n\r\n");
    begins(&post(&good, &["text/plain", EVENTS], b"OPEN\r\n"), 400, "[not a websocket request] ");

    let expired = sign_es256(&pair, claims(Some("viceroy"), Some(now() - 60)));
    let another = sign_es256(&ES256KeyPair::generate(), claims(Some("viceroy"), Some(now() + 3600)));
    for (signature, why) in [
        (expired, "expired"),
        (another, "invalid signature"),
        (local_signature(now()), "wrong algorithm for the key (alg)"),
        ("\u{fc}".to_owned(), "sent more than once, or not as text"),
    ] {
        begins(&post(&signature, &[EVENTS], b"OPEN\r\n"), 403, "[not proxied] ");
        viceroy.wait_for(&format!("rejected a Grip-Sig: {why}"));
        assert!(!viceroy.output().contains(&signature));
    }
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn the_edge_shell_has_the_routes_of_the_library() {
    let viceroy = Viceroy::start(&local(), None);
    begins(&send(viceroy.port, "GET /api/websocket%20?x", &[], ""), 404, "Not found: ");
    let response = send(viceroy.port, "PUT /api/websocket?x=1", &[], "");
    is(&response, 405, "Method not allowed: use GET, POST, OPTIONS");
    assert_eq!(response.header("allow"), Some("GET, POST, OPTIONS"));
    let response = send(viceroy.port, "GET /api/websocket", &[], "");
    assert_eq!((response.status(), response.header("upgrade")), (426, Some("websocket")));
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn a_sandbox_serves_several_requests_and_a_panic_ends_only_that_sandbox() {
    let viceroy = Viceroy::start(&local(), None);
    let sandboxes = || viceroy.output().matches("handling request").count();
    let serves = || begins(&send(viceroy.port, "GET /nothing", &[], ""), 404, "Not found: ");
    serves();
    // Gives the sandbox time to wait for its next request: an earlier request starts another sandbox.
    let pause = || thread::sleep(Duration::from_millis(200));
    for _ in 0..9 {
        pause();
        serves();
    }
    assert!(sandboxes() < 10, "{} sandboxes for 10 requests", sandboxes());
    pause();
    let before = sandboxes();
    // The SDK panics on an invalid port in the Host header.
    assert_eq!(send_to_host(viceroy.port, "127.0.0.1:99999").status(), 500);
    pause();
    serves();
    wait_until("there is another sandbox", || sandboxes() > before);
}

#[test]
#[ignore = "needs Viceroy and the wasm build: make test"]
fn an_open_connection_sends_its_ticket_instead_of_a_signature() {
    let key = ES256KeyPair::generate();
    let pem = key.public_key().to_pem().expect("PEM");
    let uri = "http://127.0.0.1:5561/?key=a-token-of-some-length&verify-iss=fastly:SERVICE1";
    let viceroy = Viceroy::start(&store(&[("GRIP_URL", uri), ("GRIP_VERIFY_KEY", &pem)]), None);
    let post = |connection_id: &str, credential: (&str, &str)| {
        let headers = [("Content-Type", EVENTS), ("Connection-Id", connection_id), credential];
        send(viceroy.port, "POST /api/websocket", &headers, "TEXT 2\r\nhi\r\n")
    };
    let signature = sign_es256(&key, claims(Some("fastly:SERVICE1"), Some(now() + 3600)));
    let response = post("c1", ("Grip-Sig", &signature));
    assert_eq!((response.status(), &*response.text()), (200, "TEXT 4\r\nm:hi\r\n"));
    let ticket = response.header("set-meta-connection-ticket").expect("a ticket").to_owned();
    let response = post("c1", ("Meta-Connection-Ticket", &ticket));
    assert_eq!((response.status(), &*response.text()), (200, "TEXT 4\r\nm:hi\r\n"));
    assert_eq!(response.header("set-meta-connection-ticket"), None);
    assert_eq!(post("c2", ("Meta-Connection-Ticket", &ticket)).status(), 403);
    assert!(!viceroy.output().contains("eyJ"), "the log contains a token");
}
