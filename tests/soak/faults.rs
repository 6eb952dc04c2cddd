//! What clients see where a part of the service fails, while they talk.

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
    service::{Report, Service, Size, at},
    support::{
        client::{Client, is_timeout},
        http::{Answer, Message, Server, free_port, handshake, is_open, send, wait_until},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);
/// From one message of a client to its next.
const TURN: Duration = Duration::from_millis(200);
/// How long a part is away. Pushpin repeats a request after 1 to 2, 3 to 5 and 7 to 10 s, and gives up after some 33 s.
const AWAY: Duration = Duration::from_secs(3);
const TARGET: &str = "/api/websocket?channel=faults";

/// What one client saw.
#[derive(Default)]
struct Seen {
    /// Of each message that came back, in milliseconds.
    trips: Vec<f64>,
    /// Messages that did not come back, as the connection broke.
    lost: usize,
    /// Messages that came back twice, or in the place of another.
    wrong: usize,
    broken: usize,
    /// From the break to the next open connection, in milliseconds.
    reconnected: Vec<f64>,
}

/// A client that says something all the time, and connects again where its connection breaks.
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
            Some(Err(Error::Io(error))) if is_timeout(&error) => panic!("a message is lost without a break"),
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
                    assert!(broke.elapsed() < PATIENCE, "no connection after {PATIENCE:?}");
                }
                seen.reconnected.push(broke.elapsed().as_secs_f64() * 1e3);
            }
        }
        thread::sleep(TURN);
    }
    seen
}

/// All clients talk to a port, while something happens.
fn while_they_talk(
    size: &Size,
    service: &mut Service,
    through_proxy: bool,
    happens: impl FnOnce(&mut Service),
) -> Seen {
    let done = AtomicBool::new(false);
    let (port, bearer) = (if through_proxy { service.pushpin_port } else { service.port }, service.bearer());
    let all: Vec<Seen> = thread::scope(|scope| {
        let (bearer, done) = (&bearer, &done);
        // One after the other: Pushpin 1.41 breaks connections off that have messages in the same instant.
        let begin = |number: usize| {
            thread::sleep(TURN * number as u32 / size.talkers as u32);
            talk(port, bearer, done)
        };
        let talkers: Vec<_> = (0..size.talkers).map(|number| scope.spawn(move || begin(number))).collect();
        thread::sleep(Duration::from_secs(2));
        happens(service);
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

fn tell(report: &mut Report, size: &Size, seen: &Seen) {
    let head = [
        "clients",
        "messages that came back",
        "p50",
        "longest",
        "connections broken",
        "messages lost with them",
        "twice or in another's place",
        "connected again after at most",
    ];
    let row = vec![
        size.talkers.to_string(),
        seen.trips.len().to_string(),
        at(&seen.trips, 0.5),
        at(&seen.trips, 1.0),
        seen.broken.to_string(),
        seen.lost.to_string(),
        seen.wrong.to_string(),
        at(&seen.reconnected, 1.0),
    ];
    report.table(&head, [row]);
}

/// The talk goes on as if nothing was. What Pushpin 1.41 itself may break off is far less than a fault would.
fn go_on(size: &Size, seen: &Seen) {
    let allowed = size.talkers / 20;
    assert!(seen.broken <= allowed && seen.wrong == 0, "{} broken, {} wrong", seen.broken, seen.wrong);
}

fn broadcast(service: &Service) -> Message {
    let headers = [("Authorization", &*service.bearer()), ("Content-Type", "text/plain")];
    send(service.port, "POST /api/broadcast?channel=others", &headers, "Hello")
}

/// How many of each answer there were.
type Answers = BTreeMap<String, usize>;

fn listed(answers: &Answers) -> String {
    answers.iter().map(|(answer, count)| format!("{answer}: {count}")).collect::<Vec<_>>().join(", ")
}

/// Whether a WebSocket can be opened: the status of the answer.
fn opening(service: &Service) -> String {
    handshake(service.pushpin_port, TARGET, &[("Authorization", &service.bearer())]).status().to_string()
}

pub fn viceroy_restarts(size: &Size, report: &mut Report) {
    let mut service = Service::start();
    let mut openings = Answers::new();
    let seen = while_they_talk(size, &mut service, true, |service| {
        service.viceroy = None;
        let gone = Instant::now();
        while gone.elapsed() < AWAY {
            *openings.entry(opening(service)).or_default() += 1;
            thread::sleep(Duration::from_millis(500));
        }
        service.start_viceroy();
        // Until Pushpin has repeated what it could not send.
        thread::sleep(Duration::from_secs(10));
    });
    report.line(format!("The clients are held by Pushpin, as Fanout holds them on Fastly. Viceroy is stopped while they talk, and started again after {} s. New connections meanwhile were answered with: {}.", AWAY.as_secs(), listed(&openings)));
    tell(report, size, &seen);
    report.line("A message that could not be delivered is sent again by the proxy, after pauses that grow. A request that Viceroy had and did not answer is not: its connection is broken off, and the message may have been handled.");
    assert_eq!(seen.wrong, 0, "messages that came back twice or in another's place");
    assert!(openings.keys().all(|status| status == "502"), "{openings:?}");
}

pub fn pushpin_restarts(size: &Size, report: &mut Report) {
    let mut service = Service::start();
    let mut answers = Answers::new();
    let seen = while_they_talk(size, &mut service, false, |service| {
        service.pushpin = None;
        let gone = Instant::now();
        while gone.elapsed() < AWAY {
            let answer = broadcast(service);
            let line = format!("{} {}", answer.status(), answer.text().trim_end());
            *answers.entry(line).or_default() += 1;
            thread::sleep(Duration::from_millis(300));
        }
        service.start_pushpin();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(100));
        }
    });
    report.line(format!("Pushpin is stopped while the clients talk through the service, and started again after {} s. Broadcasts meanwhile were answered with: {}.", AWAY.as_secs(), listed(&answers)));
    tell(report, size, &seen);
    report.line("Each connection is broken off, and the client connects again: it must, and it must expect that it missed something.");
    assert!(
        !answers.is_empty()
            && answers.keys().all(|answer| answer.starts_with("502 The GRIP proxy could not be reached")),
        "{answers:?}"
    );
    // Some twice: Pushpin takes connections a moment before it can serve them.
    assert!(seen.broken >= size.talkers && seen.wrong == 0, "{} broken, {} wrong", seen.broken, seen.wrong);
    let mut listener =
        Client::connect_with(service.port, "/api/websocket?channel=others", &[("Authorization", &service.bearer())]);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(broadcast(&service).status(), 200);
    assert_eq!(listener.next(), WsMessage::text("Hello"));
}

type MakeAnswer = fn() -> Answer;

/// A publish port of the test's own, which answers as it is told.
fn told() -> (Server, Arc<Mutex<MakeAnswer>>) {
    let what: Arc<Mutex<MakeAnswer>> = Arc::new(Mutex::new(|| Answer::new(200, &[], "Published\n")));
    let answer = Arc::clone(&what);
    let server = Server::start(move |_| {
        let answer = *answer.lock().expect("no panic under the lock");
        answer()
    });
    (server, what)
}

pub fn publishing_hangs(size: &Size, report: &mut Report) {
    let (publisher, what) = told();
    let mut service = Service::start_publishing_to(publisher.port, free_port());
    *what.lock().expect("no panic under the lock") = || Answer::Silence;
    let mut waits = Vec::new();
    let seen = while_they_talk(size, &mut service, true, |service| {
        let service: &Service = service;
        let one = || {
            let start = Instant::now();
            let answer = broadcast(service);
            let line = "The GRIP proxy did not answer in time: the message may or may not be published\n";
            assert_eq!((answer.status(), &*answer.text()), (504, line));
            start.elapsed().as_secs_f64() * 1e3
        };
        waits = thread::scope(|scope| {
            let waiting: Vec<_> = (0..10).map(|_| scope.spawn(one)).collect();
            waiting.into_iter().map(|wait| wait.join().expect("an answer")).collect()
        });
    });
    waits.sort_by(f64::total_cmp);
    report.line(format!("The publish port accepts connections and never answers. 10 broadcasts at once got 504 after {} to {}; the timeout of the backend is 5 s.", at(&waits, 0.0), at(&waits, 1.0)));
    tell(report, size, &seen);
    go_on(size, &seen);
    assert!(waits.iter().all(|wait| *wait < 9e3), "{waits:?}");
}

pub fn publishing_is_refused(size: &Size, report: &mut Report) {
    let cases: [(&str, MakeAnswer, u16); 12] = [
        ("204", || Answer::new(204, &[], ""), 502),
        ("302", || Answer::new(302, &[("Location", "http://127.0.0.1:1/")], ""), 502),
        ("400", || Answer::new(400, &[], "Bad"), 502),
        ("401", || Answer::new(401, &[], ""), 502),
        ("403", || Answer::new(403, &[], ""), 502),
        ("404", || Answer::new(404, &[], ""), 502),
        ("413", || Answer::new(413, &[], ""), 502),
        ("429", || Answer::new(429, &[], ""), 502),
        ("500", || Answer::new(500, &[], ""), 502),
        ("garbage", || Answer::Bytes(b"\x00\xff no HTTP\r\n\r\n".to_vec()), 502),
        ("half an answer, then silence", || Answer::Bytes(b"HTTP/1.1 2".to_vec()), 504),
        ("the end of the connection", || Answer::Hangup, 502),
    ];
    let (publisher, what) = told();
    let mut service = Service::start_publishing_to(publisher.port, free_port());
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    let seen = while_they_talk(size, &mut service, true, |service| {
        for (name, answer, status) in cases {
            *what.lock().expect("no panic under the lock") = answer;
            let answer = broadcast(service);
            if answer.status() != status || answer.text().contains("Ok") {
                wrong.push(format!("{name}: {answer:?}"));
            }
            rows.push(vec![name.to_owned(), format!("{} {}", answer.status(), answer.text().trim_end())]);
        }
        *what.lock().expect("no panic under the lock") = || Answer::new(200, &[], "Published\n");
        wait_until("the publish port is back", || is_open(publisher.port));
        assert_eq!(broadcast(service).status(), 200);
    });
    report.line("What the publish port answers, and what a broadcast then is answered with:");
    report.table(&["publish port", "answer"], rows);
    tell(report, size, &seen);
    assert!(wrong.is_empty(), "{wrong:#?}");
    go_on(size, &seen);
}
