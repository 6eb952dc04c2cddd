//! HTTP/1.1 under full control of the tests: a client, and a server that records its requests.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// It only ends a hang.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A request or response that was received.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Names, in the case in which they were sent, and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        named.map(|(_, value)| &**value).collect()
    }

    /// Returns the value of a header that occurs exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        if let [value] = self.values(name)[..] { Some(value) } else { None }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the first line and the headers.
    pub fn read_head(stream: &mut impl BufRead) -> Option<Self> {
        let mut line = || {
            let mut line = Vec::new();
            stream.read_until(b'\n', &mut line).ok()?;
            Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
        };
        let mut message = Self { start: line()?, ..Self::default() };
        if message.start.is_empty() {
            return None;
        }
        while let Some(line) = line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            message.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Some(message)
    }

    pub fn read(stream: &mut impl BufRead, body_until_end: bool) -> Option<Self> {
        let mut message = Self::read_head(stream)?;
        match message.header("content-length") {
            Some(length) => {
                message.body = vec![0; length.parse().ok()?];
                stream.read_exact(&mut message.body).ok()?;
            }
            None if body_until_end && message.status() != 101 => {
                stream.read_to_end(&mut message.body).ok()?;
            }
            None => {}
        }
        Some(message)
    }
}

/// Checks the status and the beginning of the body of a response.
#[track_caller]
pub fn begins(response: &Message, status: u16, body: &str) {
    let seen = (response.status(), response.text());
    assert!(seen.0 == status && seen.1.starts_with(body), "{seen:?}");
}

/// Sends a request and returns the response. Adds `Host`, `Connection: close` unless `Connection` is given, and
/// `Content-Length` unless the request is a GET or chunked.
#[track_caller]
pub fn send(port: u16, start: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Message {
    try_send(port, start, &format!("127.0.0.1:{port}"), headers, body.as_ref()).expect("a response")
}

/// Requests `/` with this `Host` header.
#[track_caller]
pub fn send_to_host(port: u16, host: &str) -> Message {
    try_send(port, "GET /", host, &[], b"").expect("a response")
}

/// Everything that the clients of this process received: a test searches it for secrets at the end.
static RECEIVED: Mutex<String> = Mutex::new(String::new());

pub fn remember(received: &str) {
    let mut all = RECEIVED.lock().expect("no panic under the lock");
    all.push_str(received);
    all.push('\n');
}

pub fn received() -> String {
    RECEIVED.lock().expect("no panic under the lock").clone()
}

fn try_send(port: u16, start: &str, host: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Message> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut head = format!("{start} HTTP/1.1\r\nHost: {host}\r\n");
    let chunked = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
    if !start.starts_with("GET ") && !chunked {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
        head.push_str("Connection: close\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    // A server may respond and close before it has read a body that it rejects.
    let _ = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let response =
        if start.starts_with("HEAD ") { Message::read_head(&mut reader) } else { Message::read(&mut reader, true) };
    if let Some(Message { start, headers, body }) = &response {
        remember(&format!("{start} {headers:?} {}", String::from_utf8_lossy(body)));
    }
    response
}

/// Sends a WebSocket handshake and returns the response, whatever its status.
#[track_caller]
pub fn handshake(port: u16, target: &str, headers: &[(&str, &str)]) -> Message {
    let mut all = vec![
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "c2VydmUgaXMgcmVhZHkhIQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    all.retain(|(name, _)| headers.iter().all(|(header, _)| header != name));
    all.extend_from_slice(headers);
    send(port, &format!("GET {target}"), &all, "")
}

/// An HTTP client that reads a response as it arrives.
pub struct Reader {
    stream: TcpStream,
    pub read: String,
}

impl Reader {
    #[track_caller]
    pub fn get(port: u16, path: &str) -> Self {
        Self::get_with(port, path, "")
    }

    /// Sends a GET with additional header lines, each ending in CRLF.
    #[track_caller]
    pub fn get_with(port: u16, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        Self { stream, read: String::new() }
    }

    /// Reads what has arrived, and returns whether the connection has ended.
    pub fn read_on(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => {
                    let text = String::from_utf8_lossy(&buffer[..count]);
                    remember(&text);
                    self.read.push_str(&text);
                }
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        while !self.read.contains(text) {
            self.read_on();
            assert!(start.elapsed() < PATIENCE, "timed out waiting for {text:?} in {:?}", self.read);
        }
    }
}

pub fn is_open(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(1)).is_ok()
}

/// Returns a free port, below the range that the system uses for outgoing connections. Each call in a process returns a
/// different one, and so do suites that run at the same time.
pub fn free_port() -> u16 {
    free_ports_in_a_row(1)
}

/// Returns the first of so many free ports that follow each other.
pub fn free_ports_in_a_row(count: u16) -> u16 {
    const SUITES: [&str; 8] = ["client", "deploy", "end_to_end", "examples", "interop", "pushpin", "soak", "viceroy"];
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let suite = SUITES.iter().position(|suite| *suite == env!("CARGO_CRATE_NAME")).unwrap_or(SUITES.len());
    let base = 20_000 + suite as u16 * 1_400 + (process::id() % 9) as u16 * 100;
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let firsts = std::iter::repeat_with(|| base + NEXT.fetch_add(count, Ordering::Relaxed));
    let mut free = firsts.take(500).filter(|first| (*first..first + count).all(is_free));
    free.next().expect("free ports")
}

/// Waits until `holds` returns true; panics after `PATIENCE`.
#[track_caller]
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_longer(PATIENCE, what, holds);
}

/// Waits until `holds` returns true; panics after `patience`.
#[track_caller]
pub fn wait_longer(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < patience, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What a server does in response to a request.
pub enum Response {
    /// Sends these bytes and keeps the connection open.
    Bytes(Vec<u8>),
    /// Closes the connection without a response.
    Hangup,
    /// Sends nothing.
    Silence,
}

impl Response {
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str("\r\n");
        Self::Bytes([bytes.as_bytes(), body].concat())
    }
}

/// A path that [`Server`] handles itself and does not record: it accepts a WebSocket and subscribes it to the channel
/// `probe`, and holds a plain GET.
pub const PROBE: &str = "/probe";

/// A server that records every request and responds as the test says. It runs until the test process ends.
#[derive(Clone)]
pub struct Server {
    pub port: u16,
    requests: Arc<Mutex<Vec<Message>>>,
}

impl Server {
    pub fn start(respond: impl Fn(&Message) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let server = Self { port, requests: Arc::default() };
        let (requests, respond) = (Arc::clone(&server.requests), Arc::new(respond));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, respond) = (Arc::clone(&requests), Arc::clone(&respond));
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Some(request) = Message::read(&mut reader, false) {
                        if request.start.starts_with(&format!("GET {PROBE} ")) {
                            let headers = [("Grip-Hold", "stream"), ("Grip-Channel", "probe")];
                            let Response::Bytes(bytes) = Response::new(200, &headers, "") else { break };
                            let _ = reader.get_mut().write_all(&bytes);
                            continue;
                        }
                        if request.start.split(' ').nth(1) == Some(PROBE) {
                            let headers = [
                                ("Content-Type", "application/websocket-events"),
                                ("Sec-WebSocket-Extensions", "grip"),
                            ];
                            let subscribe = "OPEN\r\nTEXT 28\r\nc:{\"type\":\"subscribe\",\"channel\":\"probe\"}\r\n";
                            let Response::Bytes(bytes) = Response::new(200, &headers, subscribe) else { break };
                            let _ = reader.get_mut().write_all(&bytes);
                            continue;
                        }
                        requests.lock().expect("no panic under the lock").push(request.clone());
                        match respond(&request) {
                            Response::Bytes(bytes) => {
                                if reader.get_mut().write_all(&bytes).is_err() {
                                    break;
                                }
                            }
                            Response::Hangup => {
                                let _ = reader.get_mut().shutdown(Shutdown::Both);
                            }
                            Response::Silence => thread::sleep(Duration::from_secs(60)),
                        }
                    }
                });
            }
        });
        server
    }

    pub fn requests(&self) -> Vec<Message> {
        self.requests.lock().expect("no panic under the lock").clone()
    }

    /// Returns the only POST request. (Viceroy also sends each backend a GET, to check that it is up.)
    #[track_caller]
    pub fn only_post(&self) -> Message {
        let mut posts = self.requests();
        posts.retain(|request| request.start.starts_with("POST "));
        assert_eq!(posts.len(), 1, "{posts:?}");
        posts.remove(0)
    }

    /// Waits until there are `count` requests in total, and returns all of them.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Message> {
        wait_until(&format!("there are {count} requests"), || self.requests().len() >= count);
        self.requests()
    }
}
