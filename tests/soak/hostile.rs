//! Requests that mean no good, of every kind that we could think of, beside honest clients.

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
    service::{Report, SECRET, Service, Size, at, now},
    support::{
        FORGED_CONTENT_TYPES, LOCAL_ISSUER, LOCAL_KEY, access_token, client::Client, http::Message, local_signature,
        with_claims,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);
const WORKERS: usize = 4;
const HONEST: usize = 20;
const EVENTS: &str = "application/websocket-events";

/// How much the memory of Viceroy may grow from a tenth of the requests to the last, in MiB.
const MAX_GROWTH: u64 = 64;

/// Numbers of chance, the same in each run. Source: xorshift64*, Vigna 2016.
struct Chance(u64);

impl Chance {
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

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// Some bytes changed, cut out, doubled, or the end cut off.
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
    /// The last of them are sent one by one, so long after each other.
    slow: Option<Duration>,
    /// The client goes away, without waiting for an answer.
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

    /// What comes back: a status, or how it ended.
    fn send(&self, service: &Service) -> String {
        let port = if self.to_pushpin { service.pushpin_port } else { service.port };
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        match self.slow {
            // A server may answer, and close, before it has read a body that it does not want.
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
            Some(answer) if answer.status() > 0 => answer.status().to_string(),
            _ => {
                eprintln!("no answer to {}", self.bytes.escape_ascii());
                "closed".to_owned()
            }
        }
    }
}

/// What a kind is made with.
struct Means {
    recorded: Vec<Vec<u8>>,
    bearer: String,
    signature: String,
}

/// A kind of request: how many of a hundred are of it, or 0: one of two hundred; what it may be answered with.
type Kind = (&'static str, usize, &'static [&'static str], fn(&mut Chance, &Means) -> Hostile);

/// The client does not wait for an answer.
const HUNG_UP: &str = "none: the client hung up";

const KINDS: &[Kind] = &[
    ("events of chance, not signed", 5, &["403"], |chance, _| {
        Hostile::new("POST /api/websocket", &[("Content-Type", EVENTS), ("Connection-Id", "c")], chance.bytes(300))
    }),
    ("bytes of chance as events, signed", 10, &["400"], |chance, means| {
        signed(means, [b"\xff", &chance.bytes(300)[..]].concat())
    }),
    ("recorded events, changed, signed", 20, &["200", "400"], |chance, means| {
        let seed = &means.recorded[chance.below(means.recorded.len())];
        signed(means, chance.mutated(seed))
    }),
    ("events with lengths that lie, signed", 4, &["200", "400"], |chance, means| {
        let length = chance.of(&["ffffffff", "7fffffff", "-1", "fffffffffffffffff", "5g", "0x5", "", "00000005", "6"]);
        signed(means, format!("TEXT {length}\r\nhello\r\n"))
    }),
    ("more than 4 MB of events, signed", 0, &["413"], |_, means| signed(means, "TEXT\r\n".repeat(700_000))),
    ("more than 250,000 events, signed", 0, &["400"], |_, means| signed(means, "TEXT\r\n".repeat(250_001))),
    ("a Grip-Sig that is forged", 10, &["403"], |chance, _| {
        let signature = forged(chance, LOCAL_KEY);
        Hostile::new(
            "POST /api/websocket",
            &[("Content-Type", EVENTS), ("Connection-Id", "c"), ("Grip-Sig", &signature)],
            "OPEN\r\n",
        )
    }),
    ("an access token that is forged", 8, &["401"], |chance, _| {
        let bearer = format!("Bearer {}", forged(chance, SECRET));
        let start = chance.of(&["GET /api/poll", "GET /api/events", "GET /api/websocket", "POST /api/broadcast"]);
        Hostile::new(start, &[("Authorization", &bearer), ("Content-Type", "text/plain")], "x")
    }),
    ("an access token for another channel", 3, &["403"], |chance, _| {
        let token = access_token(SECRET, now() + 60, r#"{"x-fastly-read":["other"],"x-fastly-write":["other"]}"#);
        let start = chance.of(&["GET /api/poll", "GET /api/stream", "GET /api/websocket", "POST /api/broadcast"]);
        let start = format!("{start}?channel=test&token={token}");
        Hostile::new(&start, &[("Content-Type", "text/plain")], "x")
    }),
    ("methods that a path does not have", 5, &["405"], |chance, means| {
        let method = chance.of(&["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "post", "X"]);
        let path = chance.of(&["/", "/api/websocket", "/api/broadcast", "/api/poll", "/api/events", "/api/health"]);
        Hostile::new(&format!("{method} {path}"), &[("Authorization", &means.bearer)], "x")
    }),
    ("paths and queries of chance", 8, &["400", "404"], |chance, means| {
        let text: String = chance.bytes(200).iter().map(|byte| char::from(b'!' + byte % 94)).collect();
        // What is before these could be a good channel, and the request one that waits for a message.
        let text = text.replace(['#', '&'], "+");
        let path = chance.of(&["/", "/api/", "/api/poll?channel=", "/api/websocket?channel=", "/api/websocket?mode="]);
        Hostile::new(&format!("GET {path}{text}~,"), &[("Authorization", &means.bearer)], "")
    }),
    ("queries that are too long", 2, &["414"], |chance, means| {
        let path = chance.of(&["/api/poll", "/api/websocket", "/api/stream"]);
        let start = format!("GET {path}?x={}", "a".repeat(3_500 + chance.below(3_000)));
        Hostile::new(&start, &[("Upgrade", "websocket"), ("Authorization", &means.bearer)], "")
    }),
    ("broadcasts of another content type", 3, &["415"], |chance, means| {
        let content_type = chance.of(&["text/html", "application/json", "text/plain; charset=latin1", "x", ""]);
        broadcast(means, content_type, "x")
    }),
    ("broadcasts that are not UTF-8", 4, &["400"], |chance, means| {
        broadcast(means, "text/plain", [&chance.bytes(100)[..], b"\xff"].concat())
    }),
    ("broadcasts that are too large", 1, &["413"], |chance, means| {
        broadcast(means, "text/plain", vec![b'x'; 16_303 + chance.below(200_000)])
    }),
    ("broadcasts whose body breaks off", 2, &[HUNG_UP], |_, means| {
        let head = format!(
            "POST /api/broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: {}\r\nContent-Type: text/plain\r\n",
            means.bearer
        );
        Hostile { hangs_up: true, ..Hostile::raw(format!("{head}Content-Length: 1000\r\n\r\nhalf ").into_bytes()) }
    }),
    ("a Content-Length of 10 TB", 1, &[HUNG_UP], |_, means| {
        let head = format!(
            "POST /api/broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: {}\r\nContent-Type: text/plain\r\n",
            means.bearer
        );
        let bytes = format!("{head}Content-Length: 10000000000000\r\n\r\nx").into_bytes();
        Hostile { hangs_up: true, ..Hostile::raw(bytes) }
    }),
    ("a body that comes byte by byte", 1, &["415"], |_, means| {
        let slow = Some(Duration::from_millis(20));
        Hostile { slow, ..broadcast(means, "text/html", "twenty bytes of text") }
    }),
    ("events that an HTTP client forges, through Pushpin", 4, &["400"], |chance, means| {
        let content_types = FORGED_CONTENT_TYPES[chance.below(FORGED_CONTENT_TYPES.len())];
        let mut headers = vec![("Pushpin-Route", "self"), ("Connection-Id", "forged"), ("Meta-User", "admin")];
        headers.push(("Authorization", &means.bearer));
        headers.extend(content_types.iter().map(|value| ("Content-Type", *value)));
        Hostile { to_pushpin: true, ..Hostile::new("POST /api/websocket", &headers, "OPEN\r\nTEXT 1\r\nx\r\n") }
    }),
    ("upgrades that are none", 3, &["426"], |chance, means| {
        let upgrade = chance.of(&["WebSocket", "h2c", "websocket, h2c", "", "websocket\u{fc}"]);
        Hostile::new("GET /api/websocket", &[("Upgrade", upgrade), ("Authorization", &means.bearer)], "")
    }),
    ("a handshake through Pushpin without a token", 1, &["401"], |_, _| Hostile {
        to_pushpin: true,
        ..Hostile::raw(handshake(""))
    }),
    ("frames of chance on an open WebSocket", 3, &["101"], |chance, means| {
        let head = handshake(&format!("Authorization: {}\r\n", means.bearer));
        Hostile::raw([&head[..], &chance.bytes(300)].concat())
    }),
    ("no HTTP at all", 2, &["400"], |chance, _| Hostile::raw([b"\x01", &chance.bytes(200)[..], b"\r\n\r\n"].concat())),
];

fn signed(means: &Means, body: impl AsRef<[u8]>) -> Hostile {
    let headers = [
        ("Content-Type", EVENTS),
        ("Connection-Id", "c"),
        ("Grip-Sig", &*means.signature),
        ("Authorization", &means.bearer),
    ];
    Hostile::new("POST /api/websocket", &headers, body)
}

fn broadcast(means: &Means, content_type: &str, body: impl AsRef<[u8]>) -> Hostile {
    Hostile::new("POST /api/broadcast", &[("Content-Type", content_type), ("Authorization", &means.bearer)], body)
}

fn handshake(headers: &str) -> Vec<u8> {
    format!("GET /api/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2VydmUgaXMgcmVhZHkhIQ==\r\n{headers}\r\n").into_bytes()
}

/// A token that would allow everything, but for one thing that is wrong with it.
fn forged(chance: &mut Chance, key: &str) -> String {
    let all = r#"{"x-fastly-read":["*"],"x-fastly-write":["*"]}"#;
    let good = || with_claims(now() + 60, all);
    let head = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
    let payload =
        format!(r#"{{"exp":{},"iss":"{LOCAL_ISSUER}","x-fastly-read":["*"],"x-fastly-write":["*"]}}"#, now() + 60);
    let payload = head(&payload);
    match chance.below(7) {
        0 => format!("{}.{payload}.", head(r#"{"alg":"none"}"#)),
        1 => HS512Key::from_bytes(key.as_bytes()).authenticate(good()).expect("a token"),
        2 => access_token("another secret of some length", now() + 60, all),
        3 => access_token(key, now() - 60, all),
        4 => {
            let mut endless = good();
            endless.expires_at = None;
            HS256Key::from_bytes(key.as_bytes()).authenticate(endless).expect("a token")
        }
        5 => format!("{}.{payload}.{}", head(r#"{"alg":"HS256"}"#), head("no signature of thirty-two bytes")),
        _ => {
            let text: String = chance.bytes(300).iter().map(|byte| char::from(b'!' + byte % 94)).collect();
            text.replace(',', ".")
        }
    }
}

pub fn requests(size: &Size, report: &mut Report) {
    let service = Service::start();
    let means = Means { recorded: recorded(), bearer: service.bearer(), signature: local_signature(now()) };
    let kinds: Vec<&Kind> = KINDS.iter().flat_map(|kind| std::iter::repeat_n(kind, kind.1)).collect();
    let rare: Vec<&Kind> = KINDS.iter().filter(|kind| kind.1 == 0).collect();
    assert_eq!(kinds.len(), 100);
    let (done, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let answers: Mutex<BTreeMap<&str, BTreeMap<String, usize>>> = Mutex::default();
    let pid = service.viceroy.as_ref().expect("it runs").pid();
    let tenth = AtomicUsize::new(0);
    let start = Instant::now();

    let attack = |worker: usize| {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15 + worker as u64);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number == size.hostile / 10 {
                tenth.store(memory_of(pid) as usize, Ordering::Relaxed);
            }
            if number >= size.hostile {
                return;
            }
            let kind = if number % 200 == 0 { rare[number / 200 % rare.len()] } else { kinds[chance.below(100)] };
            let outcome = kind.3(&mut chance, &means).send(&service);
            *answers.lock().expect("no panic under the lock").entry(kind.0).or_default().entry(outcome).or_default() +=
                1;
        }
    };
    let honest = |number: usize| {
        let target = format!("/api/websocket?channel=honest{number}");
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
        let honest = &honest;
        let clients: Vec<_> = (0..HONEST).map(|number| scope.spawn(move || honest(number))).collect();
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
        clients.into_iter().flat_map(|client| client.join().expect("an honest client")).collect()
    });
    let (seconds, last) = (start.elapsed().as_secs_f64(), memory_of(pid));
    let tenth = tenth.load(Ordering::Relaxed) as u64;
    trips.sort_by(f64::total_cmp);

    let answers = answers.into_inner().expect("no panic under the lock");
    report.line(format!(
        "{} requests from {WORKERS} attackers in {seconds:.1} s, beside {HONEST} honest clients.",
        size.hostile
    ));
    let rows = answers.iter().map(|(kind, outcomes)| {
        let count: usize = outcomes.values().sum();
        let outcomes: Vec<_> = outcomes.iter().map(|(outcome, count)| format!("{outcome}: {count}")).collect();
        vec![(*kind).to_owned(), count.to_string(), outcomes.join(", ")]
    });
    report.table(&["what was sent", "how often", "answers"], rows);
    report.line(format!(
        "The honest clients: {} messages, all came back; round trip p50 {}, p99 {}, longest {}.",
        trips.len(),
        at(&trips, 0.5),
        at(&trips, 0.99),
        at(&trips, 1.0)
    ));
    report.line(format!("Memory of Viceroy: {tenth} MiB after a tenth of the requests, {last} MiB after the last."));
    for (kind, _, allowed, _) in KINDS {
        let outcomes = answers.get(kind).unwrap_or_else(|| panic!("none of {kind}"));
        assert!(outcomes.keys().all(|outcome| allowed.contains(&&**outcome)), "{kind}: {outcomes:?}");
    }
    assert!(last <= tenth + MAX_GROWTH, "memory grew from {tenth} to {last} MiB");
}

/// The bodies that Pushpin really sent.
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
