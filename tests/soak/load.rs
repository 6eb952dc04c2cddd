//! Load: many subscribers and broadcasts, and many messages at once.

use std::{
    io::{BufReader, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use tungstenite::{Error, Message as WsMessage};

use crate::{
    service::{Report, Service, Size, quantile},
    support::{
        client::{Client, is_timeout},
        http::{Message, PATIENCE, wait_longer},
    },
};

/// After such a time without a message, a subscriber expects no more of them.
const SILENCE: Duration = Duration::from_secs(3);
/// Pushpin as configured by the Fastly CLI delivers at most 2,500 messages a second: more would only queue up in it.
const DELIVERIES_PER_SECOND: usize = 2_000;
const STACK: usize = 256 * 1024;

/// What one subscriber received: the number of each broadcast and its delay in milliseconds.
type Got = Vec<(usize, f64)>;

pub fn broadcasts(size: &Size, report: &mut Report) {
    let service = Service::start();
    let bearer = service.bearer();
    let (connected, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let zero = Instant::now();
    let subscribe = |number: usize| -> Option<Got> {
        thread::sleep(Duration::from_secs_f64(number as f64 / size.openings_per_second as f64));
        let target = format!("/api/websocket?channel=c{}", number % size.channels);
        let client = Client::try_connect(service.port, &target, &[("Authorization", &bearer)], PATIENCE);
        connected.fetch_add(1, Ordering::Relaxed);
        let mut client = client?;
        let mut got = Vec::new();
        let mut last = Instant::now();
        while !done.load(Ordering::Relaxed) || last.elapsed() < SILENCE {
            match client.read_within(Duration::from_millis(500)) {
                Ok(WsMessage::Text(text)) => {
                    let arrived = zero.elapsed().as_secs_f64() * 1e3;
                    last = Instant::now();
                    let mut parts = text.split(' ');
                    let mut next = || parts.next().and_then(|part| part.parse::<f64>().ok()).expect("a number");
                    got.push((next() as usize, arrived - next()));
                }
                Ok(_) => {}
                Err(Error::Io(error)) if is_timeout(&error) => {}
                Err(_) => return None,
            }
        }
        Some(got)
    };
    let (opened, got) = thread::scope(|scope| {
        let spawn = |number| {
            let thread = thread::Builder::new().stack_size(STACK);
            let subscribe = &subscribe;
            thread.spawn_scoped(scope, move || subscribe(number)).expect("a thread")
        };
        let subscribers: Vec<_> = (0..size.subscribers).map(spawn).collect();
        wait_longer(Duration::from_secs(60), "all have tried to connect", || {
            connected.load(Ordering::Relaxed) == size.subscribers
        });
        let opened = zero.elapsed();
        // The proxy accepts a handshake some time before the subscription is in effect.
        thread::sleep(Duration::from_secs(2));
        let stream = TcpStream::connect(("127.0.0.1", service.port)).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let mut connection = BufReader::new(stream);
        let pause =
            Duration::from_secs_f64(size.subscribers as f64 / size.channels as f64 / DELIVERIES_PER_SECOND as f64);
        let start = Instant::now();
        for number in 0..size.broadcasts {
            thread::sleep((pause * number as u32).saturating_sub(start.elapsed()));
            let text = format!("{} {}", number / size.channels, zero.elapsed().as_secs_f64() * 1e3);
            let request = service.broadcast(&format!("c{}", number % size.channels), &text);
            connection.get_mut().write_all(&request).expect("sent");
            let response = Message::read(&mut connection, false).expect("a response");
            assert_eq!((response.status(), &*response.text()), (200, "Ok\n"));
        }
        done.store(true, Ordering::Relaxed);
        (opened, subscribers.into_iter().map(|one| one.join().expect("a subscriber")).collect::<Vec<_>>())
    });

    let per_channel = size.broadcasts / size.channels;
    let broken = got.iter().filter(|got| got.is_none()).count();
    let (mut lost, mut duplicate, mut out_of_order, mut delays) = (0, 0, 0, Vec::new());
    for got in got.into_iter().flatten() {
        let mut seen = vec![0; per_channel];
        got.iter().for_each(|(number, _)| seen[*number] += 1);
        lost += seen.iter().filter(|count| **count == 0).count();
        duplicate += seen.iter().filter(|count| **count > 1).count();
        out_of_order += got.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        delays.extend(got.iter().map(|(_, delay)| *delay));
    }
    delays.sort_by(f64::total_cmp);
    report.line(format!(
        "{} WebSockets on {} channels, opened through the service in {:.1} s (target: {} a second); {} broadcasts over HTTP, {} to each channel.",
        size.subscribers, size.channels, opened.as_secs_f64(), size.openings_per_second, size.broadcasts, per_channel
    ));
    report.table(
        &[
            "delivered",
            "expected",
            "failed or broken connections",
            "lost",
            "duplicate",
            "out of order",
            "p50",
            "p99",
            "max",
        ],
        [vec![
            delays.len().to_string(),
            (size.subscribers * per_channel).to_string(),
            broken.to_string(),
            lost.to_string(),
            duplicate.to_string(),
            out_of_order.to_string(),
            quantile(&delays, 0.5),
            quantile(&delays, 0.99),
            quantile(&delays, 1.0),
        ]],
    );
    assert_eq!((broken, lost, duplicate, out_of_order), (0, 0, 0, 0), "broken, lost, duplicate, out of order");
}

/// How many messages each connection has in flight: it sends the next one when one comes back. `None`: it sends all of
/// them without waiting.
const WINDOWS: [Option<usize>; 3] = [Some(1), Some(4), None];

/// How often the connection of a client may break.
const MAX_BREAKS: usize = 100;

pub fn echoes(size: &Size, report: &mut Report) {
    for window in WINDOWS {
        let service = Service::start();
        let bearer = service.bearer();
        let headers = [("Authorization", &*bearer)];
        let try_connect = || Client::try_connect(service.port, "/api/websocket", &headers, PATIENCE);
        let failed = AtomicUsize::new(0);
        let in_flight = window.unwrap_or(size.messages);
        // Returns how often the connection broke until all messages came back, in order. If it breaks, the client
        // reconnects and resends what did not come back.
        let talk = |client: &mut Client| {
            let (mut sent, mut back, mut broken) = (0, 0, 0);
            while back < size.messages {
                let mut is_open = true;
                while is_open && sent < size.messages && sent < back + in_flight {
                    is_open = client.try_send(sent.to_string());
                    sent += 1;
                }
                match client.read_within(PATIENCE) {
                    Ok(message) if message == WsMessage::text(back.to_string()) => back += 1,
                    Ok(message) => panic!("received {message} instead of {back}"),
                    Err(Error::Io(error)) if is_timeout(&error) => panic!("message {back} did not come back"),
                    Err(_) => {
                        let mut again = None;
                        while again.is_none() {
                            broken += 1;
                            assert!(broken < MAX_BREAKS, "the connection broke {broken} times");
                            thread::sleep(Duration::from_millis(100));
                            again = try_connect();
                            failed.fetch_add(usize::from(again.is_none()), Ordering::Relaxed);
                        }
                        *client = again.expect("connected");
                        sent = back;
                    }
                }
            }
            broken
        };
        let connect = |_| Client::connect_with(service.port, "/api/websocket", &headers);
        let mut clients: Vec<_> = (0..size.talkers).map(connect).collect();
        let start = Instant::now();
        let broken: usize = thread::scope(|scope| {
            let talk = &talk;
            let talkers: Vec<_> = clients.iter_mut().map(|client| scope.spawn(move || talk(client))).collect();
            talkers.into_iter().map(|talker| talker.join().expect("every message comes back in order")).sum()
        });
        let elapsed = start.elapsed().as_secs_f64();
        let all = size.talkers * size.messages;
        report.line(format!(
            "{} clients send {} messages each, {} in flight per connection: {all} of {all} came back, in order, in {elapsed:.1} s ({:.0} a second). Connections that broke and were reopened: {broken}, of which {failed:?} handshakes failed at first.",
            size.talkers,
            size.messages,
            window.map_or_else(|| "all of them".to_owned(), |window| window.to_string()),
            all as f64 / elapsed
        ));
    }
    report.line("If this many connections have messages at the same instant, Pushpin 1.41 closes some of them (`target error` in its log, for several at once), although it has received a complete and valid response from the service. The client notices, reconnects and resends what did not come back. Until it was closed, no connection lost, duplicated or reordered a message.");
}
