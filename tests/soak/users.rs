//! Many users with several connections each: every message reaches exactly those of its user.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tungstenite::{Error, Message as WsMessage};

use crate::{
    service::{Report, SECRET, Service, Size, now},
    support::{
        access_token,
        client::{Client, is_timeout},
        http::send,
    },
};

/// A connection of a user.
enum Connection {
    WebSocket(Box<Client>),
    Events(BufReader<TcpStream>),
}

impl Connection {
    /// What arrives until it is over and nothing has come for some seconds.
    fn read(mut self, is_over: &AtomicBool) -> Vec<String> {
        const SILENCE: Duration = Duration::from_secs(3);
        let (mut got, mut last) = (Vec::new(), Instant::now());
        while !is_over.load(Ordering::Relaxed) || last.elapsed() < SILENCE {
            if let Some(text) = self.next() {
                got.push(text);
                last = Instant::now();
            }
        }
        got
    }

    fn next(&mut self) -> Option<String> {
        const STEP: Duration = Duration::from_millis(200);
        match self {
            Self::WebSocket(client) => match client.read_within(STEP) {
                Ok(WsMessage::Text(text)) => Some(text.to_string()),
                Ok(_) => None,
                Err(Error::Io(error)) if is_timeout(&error) => None,
                Err(error) => panic!("a connection broke: {error}"),
            },
            Self::Events(stream) => {
                let mut line = String::new();
                match stream.read_line(&mut line) {
                    Ok(0) => panic!("a stream ended"),
                    Ok(_) => line.strip_prefix("data: ").map(|data| data.trim_end().to_owned()),
                    Err(error) => {
                        assert!(is_timeout(&error), "a stream broke: {error}");
                        None
                    }
                }
            }
        }
    }
}

/// Opens an event stream on the channel `room`, and waits for its first line.
fn open_stream(service: &Service, bearer: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", service.port)).expect("the service");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let head = format!("GET /api/events?channel=room HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {bearer}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with(": subscribed") {
        line.clear();
        assert!(stream.read_line(&mut line).expect("a line") > 0, "the stream ended");
    }
    stream
}

pub fn direct_messages(size: &Size, report: &mut Report) {
    let (users, messages) = size.direct;
    let service = Service::start();
    let open = |user: usize| {
        let claims = json!({ "sub": format!("user {user}"), "x-fastly-read": ["*"] }).to_string();
        let bearer = format!("Bearer {}", access_token(SECRET, now() + 3600, &claims));
        let websocket = || {
            let client =
                Client::connect_with(service.port, "/api/websocket?channel=room", &[("Authorization", &bearer)]);
            Connection::WebSocket(Box::new(client))
        };
        let stream = open_stream(&service, &bearer);
        stream.get_ref().set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        [websocket(), websocket(), Connection::Events(stream)]
    };
    let connections: Vec<_> = (0..users).map(open).collect();
    thread::sleep(Duration::from_secs(2));
    let token = access_token(SECRET, now() + 3600, r#"{"x-fastly-write":["user:*"]}"#);
    let bearer = format!("Bearer {token}");
    let is_over = AtomicBool::new(false);
    let start = Instant::now();
    let got: Vec<(usize, Vec<String>)> = thread::scope(|scope| {
        let is_over = &is_over;
        let readers: Vec<_> = connections
            .into_iter()
            .enumerate()
            .flat_map(|(user, connections)| connections.map(|connection| (user, connection)))
            .map(|(user, connection)| (user, scope.spawn(move || connection.read(is_over))))
            .collect();
        for number in 0..messages {
            let path = format!("POST /api/broadcast?user=user%20{}", number % users);
            let headers = [("Content-Type", "text/plain"), ("Authorization", &*bearer)];
            let response = send(service.port, &path, &headers, number.to_string());
            assert_eq!(response.status(), 200, "{}", response.text());
        }
        is_over.store(true, Ordering::Relaxed);
        readers.into_iter().map(|(user, reader)| (user, reader.join().expect("a connection"))).collect()
    });
    let elapsed = start.elapsed().as_secs_f64();
    let (mut delivered, mut foreign, mut lost, mut duplicate) = (0, 0, 0, 0);
    for (user, texts) in &got {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for text in texts {
            *counts.entry(text.parse().expect("a number")).or_default() += 1;
        }
        delivered += texts.len();
        foreign += counts.keys().filter(|number| *number % users != *user).count();
        duplicate += counts.values().map(|count| count - 1).sum::<usize>();
        lost += (0..messages).filter(|number| number % users == *user && !counts.contains_key(number)).count();
    }
    report.line(format!(
        "{users} users with 3 connections each (two WebSockets, one event stream) on one channel, {messages} messages to one user each, in {elapsed:.0} s."
    ));
    report.table(
        &["delivered", "expected", "lost", "duplicate", "to another user"],
        [[delivered, 3 * messages, lost, duplicate, foreign].map(|number| number.to_string()).to_vec()],
    );
    assert_eq!((delivered, lost, duplicate, foreign), (3 * messages, 0, 0, 0));
}

/// Streams of many users open at once, each the first one on the channel of its user: so the proxy asks for each of them again
/// after a second, and when its token expires.
pub fn streams_end(size: &Size, report: &mut Report) {
    /// How long the tokens are valid, in seconds: they have expired, but clocks may differ by ten.
    const VALID: u64 = 7;
    const PAUSE: Duration = Duration::from_millis(200);
    let (count, _) = size.direct;
    let service = Service::start();
    let start = Instant::now();
    let publisher = Client::connect_with(
        service.port,
        "/api/websocket?channel=room&mode=publish&echo=off",
        &[("Authorization", &service.bearer())],
    );
    let (published, streams) = thread::scope(|scope| {
        let read = |number: usize| {
            let claims = json!({ "sub": format!("user {number}"), "x-fastly-read": ["*"] }).to_string();
            let (asked, until) = (start.elapsed(), now() + VALID);
            let bearer = format!("Bearer {}", access_token(SECRET, until - 10, &claims));
            let mut stream = open_stream(&service, &bearer);
            let opened = start.elapsed();
            // When each message came.
            let mut got: BTreeMap<usize, Duration> = BTreeMap::new();
            loop {
                let mut line = String::new();
                assert!(stream.read_line(&mut line).expect("a line") > 0, "the stream broke");
                if let Some(text) = line.strip_prefix("data: ") {
                    got.insert(text.trim_end().parse().expect("a number"), start.elapsed());
                } else if line == "0\r\n" {
                    return (asked, opened, got, now().saturating_sub(until));
                }
            }
        };
        let streams: Vec<_> = (0..count)
            .map(|number| {
                // The proxy cannot take 100 requests in one instant.
                thread::sleep(Duration::from_millis(5));
                scope.spawn(move || read(number))
            })
            .collect();
        let mut publisher = publisher;
        let mut published = Vec::new();
        while start.elapsed() < Duration::from_secs(VALID + 6) {
            assert!(
                publisher.try_send(published.len().to_string()),
                "closed after {}: {:?}",
                published.len(),
                publisher.closed()
            );
            published.push(start.elapsed());
            thread::sleep(PAUSE);
        }
        (published, streams.into_iter().map(|stream| stream.join().expect("a stream that ended")).collect::<Vec<_>>())
    });
    let (mut due, mut lost, mut delay) = (0, 0, Duration::ZERO);
    for (asked, opened, got, _) in &streams {
        for (number, at) in published.iter().enumerate() {
            // The proxy has a subscription after a second. While it asks, nothing is sent that is lost if the stream then ends:
            // the times of tokens are in whole seconds.
            if *at > *opened + Duration::from_secs(1) && *at < *asked + Duration::from_secs(VALID - 1) {
                due += 1;
                lost += usize::from(!got.contains_key(&number));
            }
        }
        let delays = got.iter().map(|(number, at)| *at - published[*number]);
        delay = delay.max(delays.max().unwrap_or_default());
    }
    let latest = streams.iter().map(|(.., late)| *late).max().unwrap_or_default();
    let opened = streams.iter().map(|(_, opened, ..)| opened.as_secs_f64()).fold(0.0, f64::max);
    report.line(format!(
        "{count} event streams of as many users, opened in {opened:.1} s; a message to all of them each {} ms. Each ended by itself, at most {latest} s after its token was no longer valid.",
        PAUSE.as_millis()
    ));
    report.table(
        &["messages due before", "lost", "longest delay"],
        [[due.to_string(), lost.to_string(), format!("{} ms", delay.as_millis())].to_vec()],
    );
    assert!(due > count * 10, "{due}");
    assert_eq!(lost, 0);
}
