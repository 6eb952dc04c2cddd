//! Many subscribers and many broadcasts; many messages at once.

use std::{
    io::{BufReader, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use tungstenite::{Error, Message as WsMessage};

use crate::{
    service::{Report, Service, Size, at},
    support::{
        client::{Client, is_timeout},
        http::{Message, wait_longer},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing more is expected after such a silence.
const SILENCE: Duration = Duration::from_secs(3);
/// Pushpin delivers 2,500 messages a second, as the Fastly CLI configures it: more would only wait in it.
const DELIVERIES_PER_SECOND: usize = 2_000;
const STACK: usize = 256 * 1024;

/// What one subscriber got: the number of each broadcast and its delay in milliseconds.
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
        // The proxy answers a handshake some time before the subscription is in effect.
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
            let answer = Message::read(&mut connection, false).expect("an answer");
            assert_eq!((answer.status(), &*answer.text()), (200, "Ok\n"));
        }
        done.store(true, Ordering::Relaxed);
        (opened, subscribers.into_iter().map(|one| one.join().expect("a subscriber")).collect::<Vec<_>>())
    });

    let of_channel = size.broadcasts / size.channels;
    let broken = got.iter().filter(|got| got.is_none()).count();
    let (mut lost, mut doubled, mut disordered, mut delays) = (0, 0, 0, Vec::new());
    for got in got.into_iter().flatten() {
        let mut seen = vec![0; of_channel];
        got.iter().for_each(|(number, _)| seen[*number] += 1);
        lost += seen.iter().filter(|count| **count == 0).count();
        doubled += seen.iter().filter(|count| **count > 1).count();
        disordered += got.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        delays.extend(got.iter().map(|(_, delay)| *delay));
    }
    delays.sort_by(f64::total_cmp);
    report.line(format!(
        "{} WebSockets on {} channels, opened through the service in {:.1} s ({} a second were asked for); {} broadcasts over HTTP, {} to each channel.",
        size.subscribers, size.channels, opened.as_secs_f64(), size.openings_per_second, size.broadcasts, of_channel
    ));
    report.table(
        &[
            "deliveries",
            "of",
            "connections refused or broken",
            "lost",
            "twice",
            "out of order",
            "p50",
            "p99",
            "longest",
        ],
        [vec![
            delays.len().to_string(),
            (size.subscribers * of_channel).to_string(),
            broken.to_string(),
            lost.to_string(),
            doubled.to_string(),
            disordered.to_string(),
            at(&delays, 0.5),
            at(&delays, 0.99),
            at(&delays, 1.0),
        ]],
    );
    assert_eq!((broken, lost, doubled, disordered), (0, 0, 0, 0), "broken, lost, twice, out of order");
}

/// Each connection has so many messages under way and sends the next one as soon as one is back; `None`: it sends all of
/// them without waiting.
const WINDOWS: [Option<usize>; 3] = [Some(1), Some(4), None];

/// How often one client connects again.
const MAX_BREAKS: usize = 100;

pub fn echoes(size: &Size, report: &mut Report) {
    for window in WINDOWS {
        let service = Service::start();
        let bearer = service.bearer();
        let connect = || Client::connect_with(service.port, "/api/websocket", &[("Authorization", &bearer)]);
        let under_way = window.unwrap_or(size.messages);
        // How often the connection broke until all messages were back, each in its turn. A client that is broken off
        // connects again, and sends again what did not come back.
        let talk = |client: &mut Client| {
            let (mut sent, mut back, mut broken) = (0, 0, 0);
            while back < size.messages {
                let mut is_open = true;
                while is_open && sent < size.messages && sent < back + under_way {
                    is_open = client.try_send(sent.to_string());
                    sent += 1;
                }
                match client.read_within(PATIENCE) {
                    Ok(message) if message == WsMessage::text(back.to_string()) => back += 1,
                    Ok(message) => panic!("{message} in place of {back}"),
                    Err(Error::Io(error)) if is_timeout(&error) => panic!("{back} does not come back"),
                    Err(_) => {
                        broken += 1;
                        assert!(broken < MAX_BREAKS, "broken off {broken} times");
                        thread::sleep(Duration::from_millis(100));
                        *client = connect();
                        sent = back;
                    }
                }
            }
            broken
        };
        let mut clients: Vec<_> = (0..size.talkers).map(|_| connect()).collect();
        let start = Instant::now();
        let broken: usize = thread::scope(|scope| {
            let talk = &talk;
            let talkers: Vec<_> = clients.iter_mut().map(|client| scope.spawn(move || talk(client))).collect();
            talkers.into_iter().map(|talker| talker.join().expect("every message comes back in its turn")).sum()
        });
        let elapsed = start.elapsed().as_secs_f64();
        let all = size.talkers * size.messages;
        report.line(format!(
            "{} clients echo {} messages each, {} under way on each: {all} of {all} came back, in order, in {elapsed:.1} s ({:.0} a second). Connections that broke, and were opened again: {broken}.",
            size.talkers,
            size.messages,
            window.map_or_else(|| "all of them".to_owned(), |window| window.to_string()),
            all as f64 / elapsed
        ));
    }
    report.line("Where so many connections have messages in the same instant, Pushpin 1.41 breaks some of them off (`target error` in its log, for several at once), after it has received the whole and valid answer of the service. The client sees it, connects again and sends again what did not come back; before its end no connection lost, doubled or disordered a message.");
}
