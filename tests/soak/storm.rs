//! A storm: clients on each transport that drop and come back at random while messages are published. Each of them must have
//! every message that was `Ok`, or be told that it missed some, for a true reason.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tungstenite::{Error, Message as WsMessage};

use crate::{
    service::{Report, Service, Size},
    support::{
        client::{Client, is_timeout},
        http::{Message, PATIENCE},
    },
};

/// How many clients of each transport come and go at once, at most, if there are those of the others, too.
const MIXED: usize = 60;
/// How long a client stays connected, and away, at most, in milliseconds.
const STAYS: u64 = 6000;
const AWAY: u64 = 3000;
/// After how long a WebSocket client asks for what it missed before the proxy had its subscription.
const SYNC: Duration = Duration::from_secs(2);
const STACK: usize = 512 * 1024;
/// How long before its cursor a client gets messages again, in milliseconds.
const OVERLAP: u64 = 5000;

/// What is published, and to how many clients.
#[derive(Clone, Copy)]
struct Load {
    /// Clients of each transport, with one channel each.
    clients: usize,
    seconds: u64,
    channels: usize,
    messages_per_second: u64,
}

/// 20 messages a second on 5 channels.
const fn busy(clients: usize, seconds: u64) -> Load {
    Load { clients, seconds, channels: 5, messages_per_second: 20 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    WebSocket,
    Events,
    Poll,
}

const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Events, Transport::Poll];

/// What one client saw.
#[derive(Default)]
struct Seen {
    channel: usize,
    /// From when on it is to have all messages, in milliseconds since 1970.
    from: u64,
    /// How often each message came.
    messages: HashMap<String, usize>,
    /// When it was told that it has all, or why not: its cursor, the next one, and the reason.
    told: Vec<(u64, u64, Option<String>)>,
    connections: usize,
    /// When it connected, and with which cursor.
    log: Vec<(u64, String)>,
}

impl Seen {
    /// Takes an envelope, and returns the cursor in it if it says one.
    fn take(&mut self, envelope: &Value, asked: u64) -> Option<String> {
        if envelope["type"] == "message" {
            let id = envelope["id"].as_str().expect("an id").to_owned();
            assert_eq!(envelope["channel"], json!(name(self.channel)), "a message of another channel");
            *self.messages.entry(id).or_default() += 1;
            return None;
        }
        if let Some(is_whole) = envelope["recovered"].as_bool() {
            let next = envelope["since"].as_str().map_or_else(now, time_of);
            let reason = (!is_whole).then(|| envelope["reason"].as_str().expect("a reason").to_owned());
            self.told.push((asked, next, reason));
        }
        envelope["since"].as_str().map(str::to_owned)
    }
}

fn name(channel: usize) -> String {
    format!("storm{channel}")
}

fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    u64::try_from(since_1970.as_millis()).expect("a time")
}

/// The time of a cursor, in milliseconds since 1970: an id, or a time.
fn time_of(cursor: &str) -> u64 {
    if let Ok(time) = humantime::parse_rfc3339(cursor) {
        let since_1970 = time.duration_since(UNIX_EPOCH).expect("a time after 1970");
        return u64::try_from(since_1970.as_millis()).expect("a time");
    }
    u64::from_str_radix(&cursor.replace('-', "")[..12], 16).expect("an id")
}

fn time_text(milliseconds: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(milliseconds)).to_string()
}

/// Random numbers that are the same in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// The storm, as the clients see it.
struct Storm<'a> {
    port: u16,
    bearer: &'a str,
    channels: usize,
    /// No message is published any more: each client comes back once more, and stays.
    is_over: AtomicBool,
}

impl Storm<'_> {
    fn run(&self, transport: Transport, number: usize) -> Seen {
        let mut random = Random(number as u64 * 3 + transport as u64);
        let mut seen = Seen { channel: number % self.channels, from: now(), ..Seen::default() };
        let mut cursor = time_text(seen.from);
        // How often it has come back since the end. Each time it waits longer, as clients do if there are too many.
        let mut last = 0;
        loop {
            let is_last = self.is_over.load(Ordering::Relaxed);
            last += u64::from(is_last);
            let stays = Duration::from_millis(if is_last { 4000 * last.min(5) } else { 200 + random.below(STAYS) });
            seen.connections += 1;
            seen.log.push((now(), cursor.clone()));
            let until = Instant::now() + stays;
            let whole = match transport {
                Transport::WebSocket => self.websocket(&mut seen, &mut cursor, until),
                Transport::Events => self.events(&mut seen, &mut cursor, until),
                Transport::Poll => self.polls(&mut seen, &mut cursor, until),
            };
            if is_last && whole {
                if transport == Transport::Poll {
                    // What may be seen late rides along with a poll that waits for 25 seconds. This is the same, without the wait.
                    self.rest(&mut seen, &cursor);
                }
                return seen;
            }
            // It only ends a hang.
            assert!(last < 50, "a client cannot come back any more");
            thread::sleep(Duration::from_millis(random.below(AWAY * last.max(1))));
        }
    }

    /// Until then, or until the connection breaks; returns whether it did not.
    fn websocket(&self, seen: &mut Seen, cursor: &mut String, until: Instant) -> bool {
        let target = format!("/api/websocket?format=json&echo=off&channel={}", name(seen.channel));
        let headers = [("Authorization", self.bearer)];
        let Some(mut client) = Client::try_connect(self.port, &target, &headers, PATIENCE) else { return false };
        let opened = Instant::now();
        let (mut has_asked, mut is_synced) = (false, false);
        while Instant::now() < until {
            if !has_asked && opened.elapsed() > SYNC {
                has_asked = true;
                let sync = json!({ "type": "sync", "since": &*cursor }).to_string();
                if !client.try_send(sync) {
                    return false;
                }
            }
            match client.read_within(Duration::from_millis(100)) {
                Ok(WsMessage::Text(text)) => {
                    let envelope: Value = serde_json::from_str(&text).expect("an envelope");
                    let since = seen.take(&envelope, time_of(cursor));
                    // What arrives live says nothing of what came before it.
                    if envelope["type"] == "synced" {
                        *cursor = since.expect("a cursor");
                        is_synced = envelope.get("more").is_none();
                        has_asked = is_synced;
                    }
                }
                Ok(WsMessage::Close(_)) => return false,
                Ok(_) => {}
                Err(Error::Io(error)) if is_timeout(&error) => {}
                Err(_) => return false,
            }
        }
        client.disconnect();
        is_synced || !self.is_over.load(Ordering::Relaxed)
    }

    /// As an `EventSource` does: what it has is the id of the last event.
    fn events(&self, seen: &mut Seen, cursor: &mut String, until: Instant) -> bool {
        let header = if cursor.contains(':') { "X-None" } else { "Last-Event-ID" };
        let path = format!("/api/events?format=json&channel={}&since={cursor}", name(seen.channel));
        let Some(mut stream) = self.get(&path, &format!("{header}: {cursor}\r\n"), PATIENCE) else { return false };
        if Message::read_head(&mut stream).is_none_or(|head| head.status() != 200) {
            return false;
        }
        stream.get_ref().set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let mut stream = BufReader::new(Chunks { from: stream, head: Vec::new(), left: 0 });
        let (mut line, mut last, asked) = (Vec::new(), String::new(), time_of(cursor));
        while Instant::now() < until {
            match stream.read_until(b'\n', &mut line) {
                Ok(0) => return false,
                Ok(_) if line.last() == Some(&b'\n') => {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    line.clear();
                    if let Some(id) = text.strip_prefix("id: ") {
                        last = id.to_owned();
                    } else if text.is_empty() && !last.is_empty() {
                        // A page ends with the cursor of the next.
                        cursor.clone_from(&last);
                    } else if let Some(data) = text.strip_prefix("data: ") {
                        let envelope: Value = serde_json::from_str(data).expect("an envelope");
                        // The welcome says the same as the event `reset`.
                        if envelope["type"] != "welcome" || envelope["recovered"] == true {
                            seen.take(&envelope, asked);
                        }
                    }
                }
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn polls(&self, seen: &mut Seen, cursor: &mut String, until: Instant) -> bool {
        while Instant::now() < until {
            let path = format!("/api/poll?format=json&channel={}&since={cursor}", name(seen.channel));
            // It does not wait for the end of a poll when it leaves.
            let patience = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(50));
            let Some(mut stream) = self.get(&path, "", patience) else { return false };
            let Some(response) = Message::read(&mut stream, true) else { continue };
            if response.status() != 200 {
                return false;
            }
            let Ok(Value::Array(list)) = serde_json::from_slice(&response.body) else { return false };
            let asked = time_of(cursor);
            let mut is_lost = false;
            for envelope in &list {
                is_lost |= envelope["recovered"] == false && envelope.get("since").is_none();
                if let Some(next) = seen.take(envelope, asked) {
                    *cursor = next;
                }
            }
            if is_lost {
                thread::sleep(Duration::from_millis(500));
                *cursor = time_text(now());
            }
        }
        true
    }

    fn rest(&self, seen: &mut Seen, cursor: &str) {
        let path = format!("/api/history?channel={}&since={cursor}", name(seen.channel));
        let mut stream = self.get(&path, "", PATIENCE).expect("a connection");
        let response = Message::read(&mut stream, true).expect("a response");
        let missed: Value = serde_json::from_slice(&response.body).expect("JSON");
        for envelope in missed["messages"].as_array().expect("a list") {
            seen.take(envelope, 0);
        }
    }

    fn get(&self, path: &str, header: &str, timeout: Duration) -> Option<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(timeout)).ok()?;
        let bearer = self.bearer;
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {bearer}\r\nConnection: close\r\n");
        stream.write_all(format!("{head}{header}\r\n").as_bytes()).ok()?;
        Some(BufReader::new(stream))
    }
}

/// The content of a chunked body. Source: RFC 9112, section 7.1.
struct Chunks {
    from: BufReader<TcpStream>,
    /// What has come of the line before a chunk.
    head: Vec<u8>,
    /// How much of the chunk is still to come, in bytes.
    left: usize,
}

impl Read for Chunks {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            if self.from.read_until(b'\n', &mut self.head)? == 0 || self.head.last() != Some(&b'\n') {
                return Ok(0);
            }
            // A chunk ends with an empty line.
            let line = String::from_utf8_lossy(&self.head).trim().to_owned();
            self.head.clear();
            if !line.is_empty() {
                self.left = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
                if self.left == 0 {
                    return Ok(0);
                }
            }
        }
        let length = to.len().min(self.left);
        let read = self.from.read(&mut to[..length])?;
        self.left -= read;
        Ok(read)
    }
}

/// What was published with `Ok`: the channel and the id of each message; and what was not.
#[derive(Default)]
struct Published {
    messages: Vec<(usize, String)>,
    /// The channel and the time, in milliseconds since 1970: each may be kept all the same.
    failed: Vec<(usize, u64)>,
}

fn publish(port: u16, request: &[u8], channel: usize, published: &mut Published) {
    let time = now();
    let exchange = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(request).ok()?;
        Message::read(&mut BufReader::new(stream), false)
    };
    match exchange() {
        Some(response) if response.status() == 200 => {
            published.messages.push((channel, response.header("message-id").expect("an id").to_owned()));
        }
        _ => published.failed.push((channel, time)),
    }
}

/// Runs the storm, and after a third of it the fault, which returns when it began and ended in milliseconds since 1970.
fn run(load: Load, transports: &[Transport], report: &mut Report, fault: impl FnOnce(&Mutex<Service>) -> u64 + Send) {
    let Load { clients, seconds, channels, messages_per_second } = load;
    let service = Service::start_with_history();
    let (port, bearer) = (service.port, service.bearer());
    let count = (messages_per_second * seconds) as usize;
    let request = |number: usize| service.broadcast(&name(number % channels), &format!("message {number}"));
    let requests: Vec<_> = (0..count).map(request).collect();
    let service = Mutex::new(service);
    let mut published = Published::default();
    let storm = Storm { port, bearer: &bearer, channels, is_over: AtomicBool::new(false) };
    let emptied = AtomicU64::new(0);
    let seen: Vec<(Transport, Seen)> = thread::scope(|scope| {
        let (storm, service, emptied) = (&storm, &service, &emptied);
        let mut threads = Vec::new();
        for transport in transports.iter().copied() {
            for number in 0..clients {
                let start = move || {
                    thread::sleep(Duration::from_millis(number as u64 * 2000 / clients as u64));
                    (transport, storm.run(transport, number))
                };
                let thread = thread::Builder::new().stack_size(STACK);
                threads.push(thread.spawn_scoped(scope, start).expect("a thread"));
            }
        }
        scope.spawn(move || {
            thread::sleep(Duration::from_secs(seconds / 3));
            emptied.store(fault(service), Ordering::Relaxed);
        });
        let start = Instant::now();
        let turn = Duration::from_secs(1) / messages_per_second as u32;
        for (number, request) in requests.iter().enumerate() {
            thread::sleep((turn * number as u32).saturating_sub(start.elapsed()));
            publish(port, request, number % channels, &mut published);
        }
        storm.is_over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    let head = format!(
        "{clients} clients on each transport, one channel each of {channels}, {messages_per_second} messages a second for {seconds} s"
    );
    judge(report, &head, transports, &published, &seen, emptied.into_inner());
}

/// Counts for each transport what its clients have, and checks that it is what they were promised.
fn judge(
    report: &mut Report,
    head: &str,
    transports: &[Transport],
    published: &Published,
    seen: &[(Transport, Seen)],
    emptied: u64,
) {
    report.line(format!("{head}; {} messages were `Ok`, {} not.", published.messages.len(), published.failed.len()));
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for transport in transports.iter().copied() {
        let (mut due, mut lost, mut duplicate, mut excused) = (0, 0, 0, 0);
        let (mut connections, mut resumed, mut told, mut untrue) = (0, 0, 0, 0);
        for (_, seen) in seen.iter().filter(|(other, _)| *other == transport) {
            connections += seen.connections;
            duplicate += seen.messages.values().map(|count| count - 1).sum::<usize>();
            let of_channel: Vec<_> =
                published.messages.iter().filter(|(channel, _)| *channel == seen.channel).map(|(_, id)| id).collect();
            for (cursor, next, reason) in &seen.told {
                let Some(reason) = reason else {
                    resumed += 1;
                    // A store that was emptied has nothing of the time before.
                    if *cursor < emptied && *next > emptied {
                        problems.push(format!("{transport:?}: resumed from before the store was emptied"));
                    }
                    continue;
                };
                told += 1;
                // Nobody is told anything else: each client is back within the window.
                let is_begun = reason.starts_with("messages are kept only from ");
                let is_true = is_begun && *cursor < emptied + 1000 && *next > emptied;
                if !is_true {
                    untrue += 1;
                    problems.push(format!("{transport:?}: an untrue reason after {} ms: {reason}", next - cursor));
                }
            }
            for id in of_channel.into_iter().filter(|id| time_of(id) > seen.from) {
                due += 1;
                let time = time_of(id);
                if seen.messages.contains_key(id) {
                    continue;
                }
                let excuses = |(cursor, next, lost): &(u64, u64, Option<String>)| match lost.as_deref() {
                    None => false,
                    // The program was killed, perhaps before it looked at the store again for a stream that had just opened.
                    Some(begun) if begun.starts_with("messages are kept only from ") => time <= *next,
                    // It would have been read again.
                    Some(_) => (cursor - OVERLAP..=*next).contains(&time),
                };
                if seen.told.iter().any(excuses) {
                    excused += 1;
                } else {
                    lost += 1;
                    let near = |at: &u64| at.abs_diff(time) < 8000;
                    let log: Vec<_> = seen.log.iter().filter(|(at, _)| near(at)).collect();
                    let told: Vec<_> = seen.told.iter().filter(|(_, next, _)| near(next)).collect();
                    problems.push(format!("{transport:?}: lost {id} of {time}; connected {log:?}; told {told:?}"));
                }
            }
        }
        rows.push(vec![
            format!("{transport:?}"),
            due.to_string(),
            lost.to_string(),
            duplicate.to_string(),
            connections.to_string(),
            resumed.to_string(),
            told.to_string(),
            excused.to_string(),
            untrue.to_string(),
        ]);
    }
    report.table(
        &[
            "transport",
            "due",
            "lost",
            "duplicate",
            "connections",
            "resumed",
            "told",
            "missed and told",
            "told for an untrue reason",
        ],
        rows,
    );
    assert!(problems.is_empty(), "{} problems, among them: {:#?}", problems.len(), &problems[..problems.len().min(10)]);
    let resumed = seen.iter().flat_map(|(_, seen)| &seen.told).filter(|(_, _, reason)| reason.is_none()).count();
    assert!(resumed > seen.len(), "clients did come back");
}

/// In full one transport after the other, as Pushpin's handler ends if so many clients of all of them come and go.
pub fn calm(size: &Size, report: &mut Report) {
    let (clients, seconds) = size.storm;
    if clients <= MIXED {
        return run(busy(clients, seconds), &TRANSPORTS, report, |_| 0);
    }
    for transport in TRANSPORTS {
        run(busy(clients, seconds), &[transport], report, |_| 0);
    }
}

/// A room in which a hundred messages a second are published, to few clients: together they get less than half of what the proxy
/// sends in a second.
pub fn lively(size: &Size, report: &mut Report) {
    let (_, seconds) = size.storm;
    run(Load { clients: 4, seconds, channels: 1, messages_per_second: 100 }, &TRANSPORTS, report, |_| 0);
}

pub fn pushpin_restarts(size: &Size, report: &mut Report) {
    let (clients, seconds) = size.storm;
    run(busy(clients.min(MIXED), seconds), &TRANSPORTS, report, |service| {
        let mut service = service.lock().expect("no panic under the lock");
        service.pushpin = None;
        thread::sleep(Duration::from_secs(1));
        service.start_pushpin();
        0
    });
}

pub fn viceroy_restarts(size: &Size, report: &mut Report) {
    let (clients, seconds) = size.storm;
    run(busy(clients.min(MIXED), seconds), &TRANSPORTS, report, |service| {
        let mut service = service.lock().expect("no panic under the lock");
        service.viceroy = None;
        // Its store is in memory.
        let emptied = now();
        service.start_viceroy();
        emptied
    });
}
