//! Hostile requests of many kinds, while regular clients use the service.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use jwt_simple::prelude::{HS256Key, HS512Key, MACLike};
use serde::Deserialize;
use tungstenite::Message as WsMessage;

use crate::{
    service::{Report, SECRET, Service, Size, now, quantile},
    support::{
        FORGED_CONTENT_TYPES, LOCAL_ISSUER, LOCAL_KEY, access_token,
        client::Client,
        http::{Message, PATIENCE},
        local_signature, with_claims,
    },
};

const WORKERS: usize = 4;
const REGULAR: usize = 20;
const EVENTS: &str = "application/websocket-events";

/// How much the memory of Viceroy may grow after the first tenth of the requests, in MiB.
const MAX_GROWTH: u64 = 64;

/// Pseudorandom numbers, the same in each run. Source: xorshift64*, Vigna 2016.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// Returns `seed` with some bytes replaced, removed or repeated, or with the end cut off.
    fn mutated(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let place = self.below(bytes.len().max(1));
            match self.below(4) {
                0 if !bytes.is_empty() => bytes[place] = self.next() as u8,
                1 if !bytes.is_empty() => drop(bytes.remove(place)),
                2 => bytes.truncate(place),
                _ => {
                    let again = bytes[place.min(bytes.len())..].to_vec();
                    bytes.extend(again);
                }
            }
        }
        bytes
    }
}

/// A request, byte for byte.
struct Hostile {
    to_pushpin: bool,
    bytes: Vec<u8>,
    /// If set, the last bytes are sent one by one, with this pause.
    slow: Option<Duration>,
    /// The client closes the connection without waiting for a response.
    hangs_up: bool,
}

impl Hostile {
    fn new(start: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = format!("{start} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
        if !start.starts_with("GET ") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        Self::raw([head.as_bytes(), b"\r\n", body].concat())
    }

    const fn raw(bytes: Vec<u8>) -> Self {
        Self { to_pushpin: false, bytes, slow: None, hangs_up: false }
    }

    /// Sends it, and returns the status of the response, or how the connection ended.
    fn send(&self, service: &Service) -> String {
        let port = if self.to_pushpin { service.pushpin_port } else { service.port };
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        match self.slow {
            // A server may respond and close before it has read a body that it rejects.
            None => drop(stream.write_all(&self.bytes)),
            Some(pause) => {
                let (head, body) = self.bytes.split_at(self.bytes.len().saturating_sub(20));
                let _ = stream.write_all(head);
                for byte in body {
                    thread::sleep(pause);
                    let _ = stream.write_all(&[*byte]);
                }
            }
        }
        if self.hangs_up {
            thread::sleep(Duration::from_millis(20));
            let _ = stream.shutdown(Shutdown::Both);
            return HUNG_UP.to_owned();
        }
        match Message::read(&mut BufReader::new(stream), true) {
            Some(response) if response.status() > 0 => response.status().to_string(),
            _ => {
                eprintln!("no response to {}", self.bytes.escape_ascii());
                "closed".to_owned()
            }
        }
    }
}

/// What the requests are made from.
struct Context {
    recorded: Vec<Vec<u8>>,
    bearer: String,
    signature: String,
}

/// A kind of request: its name, its share in percent (0: rare, all of these together one request of 200), the outcomes
/// that it may have, and how to make one.
type Kind = (&'static str, usize, &'static [&'static str], fn(&mut Random, &Context) -> Hostile);

/// The outcome if the client does not wait for a response.
const HUNG_UP: &str = "none (client disconnected)";

const KINDS: &[Kind] = &[
    ("random bytes as events, unsigned", 5, &["403"], |random, _| {
        Hostile::new("POST /api/websocket", &[("Content-Type", EVENTS), ("Connection-Id", "c")], random.bytes(300))
    }),
    ("random bytes as events, signed", 10, &["400"], |random, context| {
        signed(context, [b"\xff", &random.bytes(300)[..]].concat())
    }),
    ("mutated recorded events, signed", 20, &["200", "400"], |random, context| {
        let seed = &context.recorded[random.below(context.recorded.len())];
        signed(context, random.mutated(seed))
    }),
    ("events with wrong lengths, signed", 4, &["200", "400"], |random, context| {
        let length =
            random.pick(&["ffffffff", "7fffffff", "-1", "fffffffffffffffff", "5g", "0x5", "", "00000005", "6"]);
        signed(context, format!("TEXT {length}\r\nhello\r\n"))
    }),
    ("more than 4 MB of events, signed", 0, &["413"], |_, context| signed(context, "TEXT\r\n".repeat(700_000))),
    ("more than 250,000 events, signed", 0, &["400"], |_, context| signed(context, "TEXT\r\n".repeat(250_001))),
    ("invalid Grip-Sig", 10, &["403"], |random, _| {
        let signature = forged(random, LOCAL_KEY);
        Hostile::new(
            "POST /api/websocket",
            &[("Content-Type", EVENTS), ("Connection-Id", "c"), ("Grip-Sig", &signature)],
            "OPEN\r\n",
        )
    }),
    ("invalid access token", 8, &["401"], |random, _| {
        let bearer = format!("Bearer {}", forged(random, SECRET));
        let start = random.pick(&["GET /api/poll", "GET /api/events", "GET /api/websocket", "POST /api/broadcast"]);
        Hostile::new(start, &[("Authorization", &bearer), ("Content-Type", "text/plain")], "x")
    }),
    ("access token for another channel", 3, &["403"], |random, _| {
        let token = access_token(SECRET, now() + 3600, r#"{"x-fastly-read":["other"],"x-fastly-write":["other"]}"#);
        let start = random.pick(&["GET /api/poll", "GET /api/events", "GET /api/websocket", "POST /api/broadcast"]);
        let start = format!("{start}?channel=test&token={token}");
        Hostile::new(&start, &[("Content-Type", "text/plain")], "x")
    }),
    ("unsupported methods", 5, &["405"], |random, context| {
        let method = random.pick(&["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "post", "X"]);
        let path = random.pick(&["/", "/api/websocket", "/api/broadcast", "/api/poll", "/api/events", "/api/health"]);
        Hostile::new(&format!("{method} {path}"), &[("Authorization", &context.bearer)], "x")
    }),
    ("random paths and queries", 8, &["400", "404"], |random, context| {
        let text: String = random.bytes(200).iter().map(|byte| char::from(b'!' + byte % 94)).collect();
        // The part before one of these could be a valid channel, and the request a poll that waits for a message.
        let text = text.replace(['#', '&'], "+");
        let path =
            random.pick(&["/", "/api/", "/api/poll?channel=", "/api/websocket?channel=", "/api/websocket?mode="]);
        Hostile::new(&format!("GET {path}{text}~,"), &[("Authorization", &context.bearer)], "")
    }),
    ("too long queries", 2, &["414"], |random, context| {
        let path = random.pick(&["/api/poll", "/api/websocket", "/api/events"]);
        let start = format!("GET {path}?x={}", "a".repeat(3_500 + random.below(3_000)));
        Hostile::new(&start, &[("Upgrade", "websocket"), ("Authorization", &context.bearer)], "")
    }),
    ("broadcasts with another content type", 3, &["415"], |random, context| {
        let content_type = random.pick(&["text/html", "application/json", "text/plain; charset=latin1", "x", ""]);
        broadcast(context, content_type, "x")
    }),
    ("broadcasts that are not UTF-8", 4, &["400"], |random, context| {
        broadcast(context, "text/plain", [&random.bytes(100)[..], b"\xff"].concat())
    }),
    ("broadcasts that are too large", 1, &["413"], |random, context| {
        broadcast(context, "text/plain", vec![b'x'; 64_001 + random.below(200_000)])
    }),
    ("broadcasts with an incomplete body", 2, &[HUNG_UP], |_, context| {
        let head = format!(
            "POST /api/broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: {}\r\nContent-Type: text/plain\r\n",
            context.bearer
        );
        Hostile { hangs_up: true, ..Hostile::raw(format!("{head}Content-Length: 1000\r\n\r\nhalf ").into_bytes()) }
    }),
    ("Content-Length of 10 TB", 1, &[HUNG_UP], |_, context| {
        let head = format!(
            "POST /api/broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: {}\r\nContent-Type: text/plain\r\n",
            context.bearer
        );
        let bytes = format!("{head}Content-Length: 10000000000000\r\n\r\nx").into_bytes();
        Hostile { hangs_up: true, ..Hostile::raw(bytes) }
    }),
    ("body that is sent byte by byte", 1, &["415"], |_, context| {
        let slow = Some(Duration::from_millis(20));
        Hostile { slow, ..broadcast(context, "text/html", "twenty bytes of text") }
    }),
    ("forged events of an HTTP client, through Pushpin", 4, &["400"], |random, context| {
        let content_types = FORGED_CONTENT_TYPES[random.below(FORGED_CONTENT_TYPES.len())];
        let mut headers = vec![("Pushpin-Route", "self"), ("Connection-Id", "forged"), ("Meta-User", "admin")];
        headers.push(("Authorization", &context.bearer));
        headers.extend(content_types.iter().map(|value| ("Content-Type", *value)));
        Hostile { to_pushpin: true, ..Hostile::new("POST /api/websocket", &headers, "OPEN\r\nTEXT 1\r\nx\r\n") }
    }),
    ("invalid Upgrade headers", 3, &["400", "426"], |random, context| {
        let upgrade = random.pick(&["WebSocket", "h2c", "websocket, h2c", "", "websocket\u{fc}"]);
        Hostile::new("GET /api/websocket", &[("Upgrade", upgrade), ("Authorization", &context.bearer)], "")
    }),
    ("handshake through Pushpin without a token", 1, &["401"], |_, _| Hostile {
        to_pushpin: true,
        ..Hostile::raw(handshake(""))
    }),
    ("random bytes on an open WebSocket", 3, &["101"], |random, context| {
        let head = handshake(&format!("Authorization: {}\r\n", context.bearer));
        Hostile::raw([&head[..], &random.bytes(300)].concat())
    }),
    ("bytes that are not HTTP", 2, &["400"], |random, _| {
        Hostile::raw([b"\x01", &random.bytes(200)[..], b"\r\n\r\n"].concat())
    }),
];

fn signed(context: &Context, body: impl AsRef<[u8]>) -> Hostile {
    let headers = [
        ("Content-Type", EVENTS),
        ("Connection-Id", "c"),
        ("Grip-Sig", &*context.signature),
        ("Authorization", &context.bearer),
    ];
    Hostile::new("POST /api/websocket", &headers, body)
}

fn broadcast(context: &Context, content_type: &str, body: impl AsRef<[u8]>) -> Hostile {
    Hostile::new("POST /api/broadcast", &[("Content-Type", content_type), ("Authorization", &context.bearer)], body)
}

fn handshake(headers: &str) -> Vec<u8> {
    format!("GET /api/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2VydmUgaXMgcmVhZHkhIQ==\r\n{headers}\r\n").into_bytes()
}

/// A token that would grant everything, but is invalid for one reason.
fn forged(random: &mut Random, key: &str) -> String {
    let all = r#"{"x-fastly-read":["*"],"x-fastly-write":["*"]}"#;
    let good = || with_claims(now() + 3600, all);
    let head = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
    let payload =
        format!(r#"{{"exp":{},"iss":"{LOCAL_ISSUER}","x-fastly-read":["*"],"x-fastly-write":["*"]}}"#, now() + 3600);
    let payload = head(&payload);
    match random.below(7) {
        0 => format!("{}.{payload}.", head(r#"{"alg":"none"}"#)),
        1 => HS512Key::from_bytes(key.as_bytes()).authenticate(good()).expect("a token"),
        2 => access_token("another secret of some length", now() + 3600, all),
        3 => access_token(key, now() - 60, all),
        4 => {
            let mut endless = good();
            endless.expires_at = None;
            HS256Key::from_bytes(key.as_bytes()).authenticate(endless).expect("a token")
        }
        5 => format!("{}.{payload}.{}", head(r#"{"alg":"HS256"}"#), head("no signature of thirty-two bytes")),
        _ => {
            let text: String = random.bytes(300).iter().map(|byte| char::from(b'!' + byte % 94)).collect();
            text.replace(',', ".")
        }
    }
}

pub fn requests(size: &Size, report: &mut Report) {
    let service = Service::start();
    let context = Context { recorded: recorded(), bearer: service.bearer(), signature: local_signature(now()) };
    let kinds: Vec<&Kind> = KINDS.iter().flat_map(|kind| std::iter::repeat_n(kind, kind.1)).collect();
    let rare: Vec<&Kind> = KINDS.iter().filter(|kind| kind.1 == 0).collect();
    assert_eq!(kinds.len(), 100);
    let (done, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let responses: Mutex<BTreeMap<&str, BTreeMap<String, usize>>> = Mutex::default();
    let pid = service.viceroy.as_ref().expect("it runs").pid();
    let tenth = AtomicUsize::new(0);
    let start = Instant::now();

    let attack = |worker: usize| {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 + worker as u64);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number == size.hostile / 10 {
                tenth.store(memory_of(pid) as usize, Ordering::Relaxed);
            }
            if number >= size.hostile {
                return;
            }
            let kind = if number % 200 == 0 { rare[number / 200 % rare.len()] } else { kinds[random.below(100)] };
            let outcome = kind.3(&mut random, &context).send(&service);
            *responses
                .lock()
                .expect("no panic under the lock")
                .entry(kind.0)
                .or_default()
                .entry(outcome)
                .or_default() += 1;
        }
    };
    let regular = |number: usize| {
        let target = format!("/api/websocket?channel=regular{number}");
        let mut client = Client::connect_with(service.port, &target, &[("Authorization", &service.bearer())]);
        let mut trips = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let text = WsMessage::text(trips.len().to_string());
            let sent = Instant::now();
            client.send(text.clone());
            assert_eq!(client.next(), text);
            trips.push(sent.elapsed().as_secs_f64() * 1e3);
            thread::sleep(Duration::from_millis(50));
        }
        client.close(Some((1000, "")));
        trips
    };
    let mut trips: Vec<f64> = thread::scope(|scope| {
        let regular = &regular;
        let clients: Vec<_> = (0..REGULAR).map(|number| scope.spawn(move || regular(number))).collect();
        let attackers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn({
                    let attack = &attack;
                    move || attack(worker)
                })
            })
            .collect();
        let ended: Vec<_> = attackers.into_iter().map(|attacker| attacker.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a worker failed");
        clients.into_iter().flat_map(|client| client.join().expect("a regular client")).collect()
    });
    let (seconds, last) = (start.elapsed().as_secs_f64(), memory_of(pid));
    let tenth = tenth.load(Ordering::Relaxed) as u64;
    trips.sort_by(f64::total_cmp);

    let responses = responses.into_inner().expect("no panic under the lock");
    report.line(format!(
        "{} requests from {WORKERS} attackers in {seconds:.1} s, alongside {REGULAR} regular clients.",
        size.hostile
    ));
    let rows = responses.iter().map(|(kind, outcomes)| {
        let count: usize = outcomes.values().sum();
        let outcomes: Vec<_> = outcomes.iter().map(|(outcome, count)| format!("{outcome}: {count}")).collect();
        vec![(*kind).to_owned(), count.to_string(), outcomes.join(", ")]
    });
    report.table(&["request", "count", "responses"], rows);
    report.line(format!(
        "The regular clients: {} messages, all came back; round trip p50 {}, p99 {}, max {}.",
        trips.len(),
        quantile(&trips, 0.5),
        quantile(&trips, 0.99),
        quantile(&trips, 1.0)
    ));
    report.line(format!(
        "Memory of Viceroy: {tenth} MiB after the first tenth of the requests, {last} MiB after all of them."
    ));
    for (kind, _, allowed, _) in KINDS {
        let outcomes = responses.get(kind).unwrap_or_else(|| panic!("no request of the kind: {kind}"));
        assert!(outcomes.keys().all(|outcome| allowed.contains(&&**outcome)), "{kind}: {outcomes:?}");
    }
    assert!(last <= tenth + MAX_GROWTH, "memory grew from {tenth} to {last} MiB");
}

/// The request bodies that were recorded from Pushpin.
fn recorded() -> Vec<Vec<u8>> {
    #[derive(Deserialize)]
    struct Recorded {
        request: Body,
    }
    #[derive(Deserialize)]
    struct Body {
        body_b64: String,
    }
    let all: Vec<Recorded> = serde_json::from_str(include_str!("../data/pushpin-capture.json")).expect("the capture");
    all.iter().map(|recorded| BASE64_STANDARD.decode(&recorded.request.body_b64).expect("base64")).collect()
}

/// The memory of a process, in MiB. Source: proc(5), `status`.
fn memory_of(pid: u32) -> u64 {
    let mut status = String::new();
    let mut file = fs::File::open(format!("/proc/{pid}/status")).expect("this needs Linux: /proc/PID/status");
    file.read_to_string(&mut status).expect("the status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}
