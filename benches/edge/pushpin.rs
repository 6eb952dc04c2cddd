//! Messages and broadcasts end to end: real WebSocket clients, the real Pushpin, and the program under Viceroy.

use std::{
    thread,
    time::{Duration, Instant},
};

use jwt_simple::prelude::ES256KeyPair;
use tungstenite::Message;

use crate::{
    cases::{Program, settings},
    load::Connection,
    support::{LOCAL_ISSUER, client::Client, http::free_port, process::Pushpin},
};

const ROUNDS: usize = 3;
const MANY: usize = 50;
const BROADCASTS: usize = 100;
/// Pushpin as configured by the Fastly CLI delivers 2,500 messages a second, in portions of 63 every 25 ms. Above half of
/// that its queue would be measured, and not the program. These are 500 a second.
const PAUSE: Duration = Duration::from_millis(100);

/// From one message to the next, on all connections together.
const TURN: Duration = Duration::from_millis(5);

pub struct Delivery {
    pub program: Program,
    pub what: String,
    /// How many messages should arrive.
    pub expected: usize,
    /// How many messages arrived.
    pub delivered: usize,
    /// In microseconds.
    pub median: f64,
    /// In microseconds.
    pub p99: f64,
    /// In microseconds.
    pub longest: f64,
}

impl Delivery {
    fn new(program: Program, what: String, expected: usize, mut delays: Vec<f64>) -> Self {
        delays.sort_by(f64::total_cmp);
        let at = |share: f64| delays.get((delays.len() as f64 * share) as usize).or_else(|| delays.last()).copied();
        let [median, p99, longest] = [0.5, 0.99, 1.0].map(|share| at(share).unwrap_or(f64::NAN));
        let delivery = Self { program, what, expected, delivered: delays.len(), median, p99, longest };
        eprintln!("{}: {}: median {median:.0} µs, p99 {p99:.0} µs", program.name(), delivery.what);
        delivery
    }
}

/// The programs take turns, in several rounds.
pub fn measure() -> Vec<Delivery> {
    const PROGRAMS: [Program; 2] = [Program::Service, Program::JavaScript];
    let stacks = PROGRAMS.map(|program| {
        let key = ES256KeyPair::generate();
        let (port, publish_port) = (free_port(), free_port());
        let viceroy = program.serve(port, &settings(LOCAL_ISSUER, &key.public_key().to_jwk(), publish_port));
        let pushpin = Pushpin::start_before_service(viceroy.port, publish_port, &key.to_pem().expect("PEM"));
        (viceroy, pushpin)
    });
    let mut delays: [[Vec<f64>; 3]; 2] = Default::default();
    for round in 1..=ROUNDS {
        eprintln!("end to end, round {round}");
        for ((viceroy, pushpin), delays) in stacks.iter().zip(&mut delays) {
            delays[0].extend(round_trips(pushpin.port, 1, 100));
            delays[1].extend(round_trips(pushpin.port, MANY, 10));
            delays[2].extend(broadcasts(pushpin.port, viceroy.port));
        }
    }
    let expected = [100, MANY * 10, MANY * BROADCASTS].map(|count| count * ROUNDS);
    let names = [
        "round trip of a message, 1 connection".to_owned(),
        format!("round trip of a message, {MANY} connections"),
        format!("broadcast to {MANY} subscribers, 10 a second"),
    ];
    let of = |(program, delays): (Program, [Vec<f64>; 3])| {
        let measured = names.clone().into_iter().zip(expected).zip(delays);
        measured
            .map(move |((name, expected), delays)| Delivery::new(program, name, expected, delays))
            .collect::<Vec<_>>()
    };
    PROGRAMS.into_iter().zip(delays).flat_map(of).collect()
}

/// Returns the round trip times of all messages, in microseconds. The connections take turns: if hundreds of them send
/// at the same moment, Pushpin 1.41 closes some.
fn round_trips(port: u16, connections: usize, messages: usize) -> Vec<f64> {
    let clients: Vec<_> = (0..connections).map(|_| Client::connect(port)).collect();
    let zero = Instant::now();
    let talk = |place: usize, mut client: Client| {
        let mut trips = Vec::new();
        for number in 0..messages {
            let turn = TURN * (number * connections + place) as u32;
            thread::sleep(turn.saturating_sub(zero.elapsed()));
            let start = Instant::now();
            client.send(format!("{number:05}"));
            if client.next_within(Duration::from_secs(10)).is_none() {
                break;
            }
            trips.push(start.elapsed().as_secs_f64() * 1e6);
        }
        trips
    };
    thread::scope(|scope| {
        let numbered = clients.into_iter().enumerate();
        let talks: Vec<_> = numbered.map(|(place, client)| scope.spawn(move || talk(place, client))).collect();
        talks.into_iter().flat_map(|talk| talk.join().expect("a client")).collect()
    })
}

/// Returns the delay of each broadcast to each subscriber, in microseconds, from when it is sent to the service.
fn broadcasts(port: u16, service_port: u16) -> Vec<f64> {
    let clients: Vec<_> = (0..MANY).map(|_| Client::connect(port)).collect();
    thread::sleep(Duration::from_secs(1));
    let zero = Instant::now();
    let listen = |mut client: Client| {
        let mut delays = Vec::new();
        while delays.len() < BROADCASTS {
            let Some(Message::Text(sent)) = client.next_within(Duration::from_secs(10)) else { break };
            let sent: f64 = sent.parse().expect("a time");
            delays.push(zero.elapsed().as_secs_f64() * 1e6 - sent);
        }
        delays
    };
    thread::scope(|scope| {
        let listeners: Vec<_> = clients.into_iter().map(|client| scope.spawn(move || listen(client))).collect();
        let mut connection = Connection::open(service_port);
        for number in 0..BROADCASTS as u32 {
            thread::sleep((PAUSE * number).saturating_sub(zero.elapsed()));
            let now = format!("{:.0}", zero.elapsed().as_secs_f64() * 1e6);
            let length = now.len();
            let head = "POST /api/broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n";
            let response = connection.send(format!("{head}Content-Length: {length}\r\n\r\n{now}").as_bytes());
            assert_eq!(response.status(), 200, "{}", response.text());
        }
        listeners.into_iter().flat_map(|listener| listener.join().expect("a listener")).collect()
    })
}
