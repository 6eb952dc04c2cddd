//! The programs, and the requests with which they are measured.

use std::{
    env, fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use jwt_simple::prelude::ES256KeyPair;

use crate::{
    load::{self, Connection, Cost},
    support::{
        LOCAL_KEY, access_token,
        backend::now,
        claims,
        http::{Message, Response, Server, free_port},
        process::{Viceroy, root, shipped_module},
        sign_es256, sign_hs256,
    },
};

pub const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_millis(700);

static CHANNELS: AtomicUsize = AtomicUsize::new(0);

const ISSUER: &str = "fastly:SERVICE1";
/// The publishing token of the service, which derives the key of its tickets from it.
const TOKEN: &str = "a-token-of-32-bytes-0123456789ab";
const SECRET: &str = "a secret for access tokens of the tests";

/// The variable with the module of the earlier commit.
const BASE_MODULE: &str = "BASE_MODULE";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Service,
    /// The service at an earlier commit: `make bench BASE=COMMIT`.
    Base,
    EmptyReused,
    Empty,
    Starter,
    Es256,
    JavaScript,
}

impl Program {
    pub fn all() -> impl Iterator<Item = Self> {
        let all =
            [Self::Service, Self::Base, Self::EmptyReused, Self::Empty, Self::Starter, Self::Es256, Self::JavaScript];
        all.into_iter().filter(|program| *program != Self::Base || env::var_os(BASE_MODULE).is_some())
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "fanout-edge",
            Self::Base => "fanout-edge, the version before",
            Self::EmptyReused => "empty handler, reused",
            Self::Empty => "empty handler",
            Self::Starter => "Rust, as the starter kit",
            Self::Es256 => "plain Rust handler, ES256",
            Self::JavaScript => "JavaScript, js-grip",
        }
    }

    fn module(self) -> PathBuf {
        let peer = |name: &str| root().join(format!("benches/peers/rust/target/wasm32-wasip1/release/{name}.wasm"));
        match self {
            Self::Service => shipped_module(),
            Self::Base => env::var_os(BASE_MODULE).expect("it is set").into(),
            Self::EmptyReused => peer("empty_reused"),
            Self::Empty => peer("empty"),
            Self::Starter => peer("starter"),
            Self::Es256 => peer("es256"),
            Self::JavaScript => root().join("benches/peers/js/peer.wasm"),
        }
    }

    /// Returns the size of the module in bytes.
    pub fn size(self) -> u64 {
        fs::metadata(self.module()).expect("the module is there: make bench builds it").len()
    }

    pub fn serve(self, port: u16, local_server: &str) -> Viceroy {
        Viceroy::serve(&self.module(), port, local_server, None)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Opening,
    Message,
    /// One with an access token that names no user.
    Token,
    /// One with an access token that does.
    User,
    Batch,
    Large,
    Broadcast,
    /// One to a channel in `HISTORY`.
    KeptBroadcast,
    /// What a client gets that missed so many messages.
    Recovery(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub kind: Kind,
    /// Whether the proxy signs with ES256, as Fanout does, or with HS256, as the Pushpin of the Fastly CLI does.
    pub es256: bool,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let websocket = [Kind::Message, Kind::Token, Kind::User, Kind::Opening, Kind::Batch, Kind::Large];
        let recoveries = [10, 100, 1000].map(Kind::Recovery);
        let http = recoveries.into_iter().chain([Kind::Broadcast, Kind::KeptBroadcast]);
        let http = http.map(|kind| Self { kind, es256: false });
        let of = |kind| [true, false].map(|es256| Self { kind, es256 });
        websocket.into_iter().flat_map(of).chain(http)
    }

    pub fn name(self) -> String {
        let kind = match self.kind {
            Kind::Opening => "opening a connection",
            Kind::Message => "one message of 5 bytes",
            Kind::Token => "one message with an access token",
            Kind::User => "one message of a user",
            Kind::Batch => "a batch of 100 messages",
            Kind::Large => "a message of 60 KB",
            Kind::Broadcast => return "a broadcast, up to the publish request".to_owned(),
            Kind::KeptBroadcast => return "a broadcast that is kept in the history".to_owned(),
            Kind::Recovery(missed) => return format!("a client that comes back, having missed {missed} messages"),
        };
        format!("{kind}, {}", if self.es256 { "ES256" } else { "HS256" })
    }

    /// Whether the program can handle this case.
    fn is_supported_by(self, program: Program) -> bool {
        match program {
            Program::Service | Program::Base => true,
            _ if matches!(self.kind, Kind::KeptBroadcast | Kind::Recovery(_) | Kind::Token | Kind::User) => false,
            Program::Es256 => self.es256,
            Program::Empty | Program::EmptyReused | Program::Starter => self.kind != Kind::Broadcast,
            Program::JavaScript => true,
        }
    }

    fn body(self) -> Vec<u8> {
        match self.kind {
            Kind::Opening => b"OPEN\r\n".to_vec(),
            Kind::Message | Kind::Token | Kind::User => b"TEXT 5\r\nhello\r\n".to_vec(),
            Kind::Batch => b"TEXT 5\r\nhello\r\n".repeat(100),
            Kind::Large => format!("TEXT ea60\r\n{}\r\n", "x".repeat(60_000)).into_bytes(),
            Kind::Broadcast | Kind::KeptBroadcast | Kind::Recovery(_) => b"Hello".to_vec(),
        }
    }

    /// Returns bytes that a correct response contains, and how many times.
    fn expected(self) -> (&'static [u8], usize) {
        match self.kind {
            Kind::Opening => (b"subscribe", 1),
            Kind::Message | Kind::Token | Kind::User => (b"TEXT 7\r\nm:hello\r\n", 1),
            Kind::Batch => (b"TEXT 7\r\nm:hello\r\n", 100),
            Kind::Large => (b"\r\nm:xxxx", 1),
            Kind::Broadcast | Kind::KeptBroadcast => (b"Ok\n", 1),
            Kind::Recovery(missed) => (b"\"data\":\"Hello\"", missed),
        }
    }
}

/// The cost of a case with a program, in each round.
pub struct Measured {
    pub case: Case,
    pub program: Program,
    pub rounds: Vec<Cost>,
}

/// The signature of a proxy, and the settings of a program behind it.
struct Proxy {
    signature: String,
    settings: String,
}

impl Proxy {
    fn new(es256: bool, publish_port: u16) -> Self {
        let claims = claims(Some(ISSUER), Some(now() + 3600));
        let (signature, key) = if es256 {
            let pair = ES256KeyPair::generate();
            (sign_es256(&pair, claims), pair.public_key().to_jwk())
        } else {
            (sign_hs256(LOCAL_KEY, claims), format!("base64:{}", BASE64_STANDARD.encode(LOCAL_KEY)))
        };
        Self { signature, settings: settings(ISSUER, &key, publish_port) }
    }
}

/// Returns the `[local_server]` section of a fastly.toml for a proxy that signs as `issuer` and accepts publish
/// requests on `publish_port`.
pub fn settings(issuer: &str, key: &str, publish_port: u16) -> String {
    format!(
        "[local_server.backends.publisher]\nurl = \"http://127.0.0.1:{publish_port}/\"\n\
         [[local_server.secret_stores.fanout]]\nkey = \"GRIP_URL\"\n\
         data = \"http://127.0.0.1:{publish_port}/?key={TOKEN}&verify-iss={issuer}\"\n\
         [[local_server.secret_stores.fanout]]\nkey = \"GRIP_VERIFY_KEY\"\ndata = '''{key}'''\n\
         [local_server.kv_stores]\nfanout_history = []\n\
         [local_server.config_stores.fanout_config]\nformat = \"inline-toml\"\n\
         [local_server.config_stores.fanout_config.contents]\nHISTORY = \"kept*\"\n"
    )
}

pub fn measure() -> Vec<Measured> {
    let publisher = Server::start(|_| Response::new(200, &[("Content-Type", "text/plain")], "Published\n"));
    let proxies = [false, true].map(|es256| Proxy::new(es256, publisher.port));
    let servers = proxies.each_ref().map(|proxy| {
        let serve = |program: Program| {
            eprintln!("starting {}", program.name());
            (program, program.serve(free_port(), &proxy.settings))
        };
        Program::all().map(serve).collect::<Vec<_>>()
    });
    let guarded = proxies.each_ref().map(|proxy| {
        let key = format!("[[local_server.secret_stores.fanout]]\nkey = \"ACCESS_KEY\"\ndata = \"secret:{SECRET}\"\n");
        let settings = key + &proxy.settings;
        let versions = Program::all().filter(|program| matches!(program, Program::Service | Program::Base));
        versions.map(|program| (program, program.serve(free_port(), &settings))).collect::<Vec<_>>()
    });
    let pairs = Case::all().flat_map(|case| Program::all().map(move |program| (case, program)));
    let mut all: Vec<_> = pairs
        .filter(|(case, program)| case.is_supported_by(*program))
        .map(|(case, program)| Measured { case, program, rounds: Vec::new() })
        .collect();
    for round in 1..=ROUNDS {
        for measured in &mut all {
            let (case, program) = (measured.case, measured.program);
            let side = usize::from(case.es256);
            let is_guarded = matches!(case.kind, Kind::Token | Kind::User);
            let servers = if is_guarded { &guarded[side] } else { &servers[side] };
            let (_, server) = servers.iter().find(|(known, _)| *known == program).expect("it was started");
            let cost = cost_of(case, program, server, &proxies[side].signature);
            eprintln!("round {round}: {:45} {:35} {:8.0} µs", case.name(), program.name(), cost.cpu);
            measured.rounds.push(cost);
        }
    }
    all
}

fn cost_of(case: Case, program: Program, server: &Viceroy, signature: &str) -> Cost {
    let prepare = |connection: &mut Connection| {
        let to = |channel: &str| {
            let path = format!("/api/broadcast?channel={channel}");
            request(&path, &[("Content-Type", "text/plain")], &case.body())
        };
        match case.kind {
            Kind::Broadcast => return to("test"),
            Kind::KeptBroadcast => return to("kept"),
            Kind::Recovery(missed) => {
                // Each connection of each round has its own.
                let channel = format!("kept-{}", CHANNELS.fetch_add(1, Ordering::Relaxed));
                // The history has begun by then.
                connection.send(&to("kept"));
                thread::sleep(Duration::from_millis(10));
                let since = humantime::format_rfc3339_millis(SystemTime::now());
                for _ in 0..missed {
                    connection.send(&to(&channel));
                }
                let get =
                    format!("GET /api/history?channel={channel}&since={since} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
                return get.into_bytes();
            }
            Kind::Opening | Kind::Message | Kind::Token | Kind::User | Kind::Batch | Kind::Large => {}
        }
        let claims = match case.kind {
            Kind::Token => Some(r#"{"x-fastly-read":["*"]}"#),
            Kind::User => Some(r#"{"sub":"alice","x-fastly-read":["*"]}"#),
            _ => None,
        };
        let token = claims.map(|claims| format!("Bearer {}", access_token(SECRET, now() + 3600, claims)));
        let mut headers = from_proxy(signature);
        headers.extend(token.as_deref().map(|token| ("Authorization", token)));
        let mut ticket = None;
        if case.kind != Kind::Opening {
            let response = connection.send(&request("/api/websocket", &headers, b"OPEN\r\n"));
            ticket = response.header("set-meta-connection-ticket").map(str::to_owned);
            assert_eq!(
                ticket.is_some(),
                matches!(program, Program::Service | Program::Base) && case.es256,
                "only the service issues a ticket, and only with ES256"
            );
        }
        headers.extend(ticket.as_deref().map(|ticket| ("Meta-Connection-Ticket", ticket)));
        request("/api/websocket", &headers, &case.body())
    };
    let accept = |response: &Message| {
        let (part, count) = case.expected();
        let checks = matches!(program, Program::Service | Program::JavaScript);
        let found = response.body.windows(part.len()).filter(|window| *window == part).count();
        response.status() == 200 && (!checks || found == count)
    };
    load::run(server.pid(), server.port, TIME, prepare, accept)
}

/// The headers that Pushpin sends with an event of a browser's WebSocket.
fn from_proxy(signature: &str) -> Vec<(&str, &str)> {
    vec![
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "yGQ27xnaQX8I9vjKk0cTCQ=="),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("Origin", "http://localhost:8080"),
        (
            "Grip-Feature",
            "status, session, link:next, link:gone, filter:skip-self, filter:skip-users, filter:require-sub, filter:build-id, filter:var-subst",
        ),
        ("Sec-WebSocket-Extensions", "grip"),
        ("Grip-Sig", signature),
        ("Accept", "application/websocket-events"),
        ("Connection-Id", "338b2b15-1d93-4027-9aa1-7fc7e86527c2"),
        ("Content-Type", "application/websocket-events"),
    ]
}

fn request(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}
