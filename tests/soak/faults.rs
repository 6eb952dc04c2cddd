//! What connected clients see when a part of the service fails.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tungstenite::{Error, Message as WsMessage};

use crate::{
    service::{Report, Service, Size, quantile},
    support::{
        client::{Client, is_timeout},
        http::{Message, PATIENCE, Response, Server, free_port, handshake, send},
    },
};

/// From one message of a client to the next.
const TURN: Duration = Duration::from_millis(200);
/// How long a part is stopped. Pushpin retries after 1 to 2, 3 to 5 and 7 to 10 s, and gives up after about 33 s.
const DOWNTIME: Duration = Duration::from_secs(3);
const TARGET: &str = "/api/websocket?channel=faults";

/// What one client saw.
#[derive(Default)]
struct Seen {
    /// The round trip of each message that came back, in milliseconds.
    trips: Vec<f64>,
    /// Messages that did not come back because the connection broke.
    lost: usize,
    /// Messages that came back twice or out of order.
    wrong: usize,
    broken: usize,
    /// From each break to the next open connection, in milliseconds.
    reconnected: Vec<f64>,
}

/// Runs a client that sends messages all the time, and reconnects if its connection breaks.
fn talk(port: u16, bearer: &str, done: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let connect = || Client::try_connect(port, TARGET, &[("Authorization", bearer)], PATIENCE);
    let mut client = connect().expect("the handshake succeeds");
    let mut number = 0_usize;
    while !done.load(Ordering::Relaxed) {
        number += 1;
        let text = WsMessage::text(number.to_string());
        let start = Instant::now();
        let mut back = client.try_send(text.clone()).then(|| client.read_within(PATIENCE));
        while matches!(&back, Some(Ok(other)) if *other != text && !other.is_close()) {
            seen.wrong += 1;
            back = Some(client.read_within(PATIENCE));
        }
        match back {
            Some(Ok(message)) if message == text => seen.trips.push(start.elapsed().as_secs_f64() * 1e3),
            Some(Err(Error::Io(error))) if is_timeout(&error) => {
                panic!("a message was lost although the connection did not break")
            }
            _ => {
                seen.lost += 1;
                seen.broken += 1;
                let broke = Instant::now();
                loop {
                    thread::sleep(TURN);
                    if let Some(again) = connect() {
                        client = again;
                        break;
                    }
                    assert!(broke.elapsed() < PATIENCE, "could not reconnect within {PATIENCE:?}");
                }
                seen.reconnected.push(broke.elapsed().as_secs_f64() * 1e3);
            }
        }
        thread::sleep(TURN);
    }
    seen
}

/// Runs the clients while `fault` runs, and returns what they saw.
fn with_clients(size: &Size, service: &mut Service, through_proxy: bool, fault: impl FnOnce(&mut Service)) -> Seen {
    let done = AtomicBool::new(false);
    let (port, bearer) = (if through_proxy { service.pushpin_port } else { service.port }, service.bearer());
    let all: Vec<Seen> = thread::scope(|scope| {
        let (bearer, done) = (&bearer, &done);
        // Staggered, because Pushpin 1.41 closes some connections if they have messages at the same instant.
        let begin = |number: usize| {
            thread::sleep(TURN * number as u32 / size.talkers as u32);
            talk(port, bearer, done)
        };
        let talkers: Vec<_> = (0..size.talkers).map(|number| scope.spawn(move || begin(number))).collect();
        thread::sleep(Duration::from_secs(2));
        fault(service);
        thread::sleep(Duration::from_secs(2));
        done.store(true, Ordering::Relaxed);
        talkers.into_iter().map(|talker| talker.join().expect("a talker")).collect()
    });
    let mut seen = Seen::default();
    for one in all {
        seen.trips.extend(one.trips);
        seen.lost += one.lost;
        seen.wrong += one.wrong;
        seen.broken += one.broken;
        seen.reconnected.extend(one.reconnected);
    }
    seen.trips.sort_by(f64::total_cmp);
    seen.reconnected.sort_by(f64::total_cmp);
    seen
}

fn add_table(report: &mut Report, size: &Size, seen: &Seen) {
    let head = [
        "clients",
        "messages echoed",
        "p50",
        "max",
        "broken connections",
        "messages lost with them",
        "duplicate or out of order",
        "reconnected after at most",
    ];
    let row = vec![
        size.talkers.to_string(),
        seen.trips.len().to_string(),
        quantile(&seen.trips, 0.5),
        quantile(&seen.trips, 1.0),
        seen.broken.to_string(),
        seen.lost.to_string(),
        seen.wrong.to_string(),
        quantile(&seen.reconnected, 1.0),
    ];
    report.table(&head, [row]);
}

/// Checks that the clients are not affected. Pushpin 1.41 itself may close a few connections; a fault would break more.
fn check_unaffected(size: &Size, seen: &Seen) {
    let allowed = size.talkers / 20;
    assert!(seen.broken <= allowed && seen.wrong == 0, "{} broken, {} wrong", seen.broken, seen.wrong);
}

fn broadcast(service: &Service) -> Message {
    let headers = [("Authorization", &*service.bearer()), ("Content-Type", "text/plain")];
    send(service.port, "POST /api/broadcast?channel=others", &headers, "Hello")
}

/// How often each response occurred.
type Responses = BTreeMap<String, usize>;

fn list(responses: &Responses) -> String {
    responses.iter().map(|(response, count)| format!("{response}: {count}")).collect::<Vec<_>>().join(", ")
}

/// Tries to open a WebSocket, and returns the status of the response.
fn try_opening(service: &Service) -> String {
    handshake(service.pushpin_port, TARGET, &[("Authorization", &service.bearer())]).status().to_string()
}

pub fn viceroy_restarts(size: &Size, report: &mut Report) {
    let mut service = Service::start();
    let mut openings = Responses::new();
    let seen = with_clients(size, &mut service, true, |service| {
        service.viceroy = None;
        let gone = Instant::now();
        while gone.elapsed() < DOWNTIME {
            *openings.entry(try_opening(service)).or_default() += 1;
            thread::sleep(Duration::from_millis(500));
        }
        service.start_viceroy();
        // Time for Pushpin to retry the requests that it could not send.
        thread::sleep(Duration::from_secs(10));
    });
    report.line(format!("The clients are connected to Pushpin, as they are to Fanout on Fastly. Viceroy is stopped while they send messages, and started again after {} s. Responses to new connections in the meantime: {}.", DOWNTIME.as_secs(), list(&openings)));
    add_table(report, size, &seen);
    report.line("The proxy retries requests that it could not send, with exponential backoff. It does not retry a request that Viceroy had received but not responded to: that connection is closed, and the message may have been handled.");
    assert_eq!(seen.wrong, 0, "messages that came back twice or out of order");
    assert!(openings.keys().all(|status| status == "502"), "{openings:?}");
}

pub fn pushpin_restarts(size: &Size, report: &mut Report) {
    let mut service = Service::start();
    let mut responses = Responses::new();
    let seen = with_clients(size, &mut service, false, |service| {
        service.pushpin = None;
        let gone = Instant::now();
        while gone.elapsed() < DOWNTIME {
            let response = broadcast(service);
            let line = format!("{} {}", response.status(), response.text().trim_end());
            *responses.entry(line).or_default() += 1;
            thread::sleep(Duration::from_millis(300));
        }
        service.start_pushpin();
        // Time for all clients to reconnect and to go on.
        thread::sleep(Duration::from_secs(5));
    });
    report.line(format!("Pushpin is stopped while the clients send messages through the service, and started again after {} s. Responses to broadcasts in the meantime: {}.", DOWNTIME.as_secs(), list(&responses)));
    add_table(report, size, &seen);
    report.line("All connections break, and the clients reconnect. A client has to do that itself, and to expect that it has missed messages.");
    assert!(
        !responses.is_empty()
            && responses.keys().all(|response| response.starts_with("502 The message is probably not published: ")),
        "{responses:?}"
    );
    // Some connections break twice: Pushpin accepts connections shortly before it can serve them.
    assert!(seen.broken >= size.talkers && seen.wrong == 0, "{} broken, {} wrong", seen.broken, seen.wrong);
    let mut listener =
        Client::connect_with(service.port, "/api/websocket?channel=others", &[("Authorization", &service.bearer())]);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(broadcast(&service).status(), 200);
    assert_eq!(listener.next(), WsMessage::text("Hello"));
}

type MakeResponse = fn() -> Response;

/// A test server as the publish port, and the response that it sends.
fn start_publisher() -> (Server, Arc<Mutex<MakeResponse>>) {
    let current: Arc<Mutex<MakeResponse>> = Arc::new(Mutex::new(|| Response::new(200, &[], "Published\n")));
    let shared = Arc::clone(&current);
    let server = Server::start(move |_| {
        let respond = *shared.lock().expect("no panic under the lock");
        respond()
    });
    (server, current)
}

pub fn publishing_hangs(size: &Size, report: &mut Report) {
    let (publisher, current) = start_publisher();
    let mut service = Service::start_publishing_to(publisher.port, free_port());
    *current.lock().expect("no panic under the lock") = || Response::Silence;
    let mut waits = Vec::new();
    let seen = with_clients(size, &mut service, true, |service| {
        let service: &Service = service;
        let one = || {
            let start = Instant::now();
            let response = broadcast(service);
            let line = "The message may or may not be published: the GRIP proxy did not respond in time\n";
            assert_eq!((response.status(), &*response.text()), (504, line));
            start.elapsed().as_secs_f64() * 1e3
        };
        waits = thread::scope(|scope| {
            let waiting: Vec<_> = (0..10).map(|_| scope.spawn(one)).collect();
            waiting.into_iter().map(|wait| wait.join().expect("a response")).collect()
        });
    });
    waits.sort_by(f64::total_cmp);
    report.line(format!("The publish port accepts connections and never responds. 10 simultaneous broadcasts got status 504 after {} to {}; the timeout of the backend is 5 s.", quantile(&waits, 0.0), quantile(&waits, 1.0)));
    add_table(report, size, &seen);
    check_unaffected(size, &seen);
}

pub fn publishing_is_rejected(size: &Size, report: &mut Report) {
    let cases: [(&str, MakeResponse, u16); 12] = [
        ("300", || Response::new(300, &[], ""), 502),
        ("302", || Response::new(302, &[("Location", "http://127.0.0.1:1/")], ""), 502),
        ("400", || Response::new(400, &[], "Bad"), 502),
        ("401", || Response::new(401, &[], ""), 502),
        ("403", || Response::new(403, &[], ""), 502),
        ("404", || Response::new(404, &[], ""), 502),
        ("413", || Response::new(413, &[], ""), 502),
        ("429", || Response::new(429, &[], ""), 502),
        ("500", || Response::new(500, &[], ""), 502),
        ("garbage", || Response::Bytes(b"\x00\xff no HTTP\r\n\r\n".to_vec()), 502),
        ("half a response, then silence", || Response::Bytes(b"HTTP/1.1 2".to_vec()), 504),
        ("a closed connection", || Response::Hangup, 502),
    ];
    let (publisher, current) = start_publisher();
    let mut service = Service::start_publishing_to(publisher.port, free_port());
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    let seen = with_clients(size, &mut service, true, |service| {
        for (name, respond, status) in cases {
            *current.lock().expect("no panic under the lock") = respond;
            let response = broadcast(service);
            if response.status() != status || response.text().contains("Ok") {
                wrong.push(format!("{name}: {response:?}"));
            }
            rows.push(vec![name.to_owned(), format!("{} {}", response.status(), response.text().trim_end())]);
        }
        *current.lock().expect("no panic under the lock") = || Response::new(200, &[], "Published\n");
        assert_eq!(broadcast(service).status(), 200);
    });
    report.line("Responses of the publish port, and the resulting responses to broadcasts:");
    report.table(&["publish port", "broadcast"], rows);
    add_table(report, size, &seen);
    assert!(wrong.is_empty(), "{wrong:#?}");
    check_unaffected(size, &seen);
}
