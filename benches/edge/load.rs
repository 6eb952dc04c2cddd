//! Load on one program: requests over two persistent connections, one after the other on each.

use std::{
    fs,
    io::{BufReader, Write},
    net::TcpStream,
    process::Command,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use crate::support::http::Message;

const CONNECTIONS: usize = 2;

/// What a request costs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU time of the whole process per request, in microseconds.
    pub cpu: f64,
    pub per_second: f64,
    /// In microseconds.
    pub median: f64,
    /// In microseconds.
    pub p99: f64,
}

/// A persistent connection.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        Self(BufReader::with_capacity(256 * 1024, stream))
    }

    pub fn send(&mut self, request: &[u8]) -> Message {
        self.0.get_mut().write_all(request).expect("sent");
        Message::read(&mut self.0, false).expect("a response")
    }
}

/// Repeats the request that `prepare` makes for each connection, for the given time. `accept` checks the first three
/// responses of a connection; the later ones must have status 200.
pub fn run(
    pid: u32,
    port: u16,
    time: Duration,
    prepare: impl Fn(&mut Connection) -> Vec<u8> + Sync,
    accept: impl Fn(&Message) -> bool + Sync,
) -> Cost {
    let ready = Barrier::new(CONNECTIONS + 1);
    let one = || {
        let mut connection = Connection::open(port);
        let request = prepare(&mut connection);
        // Warm up, and check the responses.
        for _ in 0..3 {
            let response = connection.send(&request);
            assert!(accept(&response), "unexpected response: {} {}", response.start, response.text());
        }
        ready.wait();
        let end = Instant::now() + time;
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            let response = connection.send(&request);
            latencies.push(start.elapsed());
            assert!(response.status() == 200, "{}", response.start);
        }
        latencies
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
        ready.wait();
        let (start, before) = (Instant::now(), cpu_of(pid));
        let all = workers.into_iter().flat_map(|worker| worker.join().expect("a worker"));
        let mut latencies: Vec<f64> = all.map(|latency| latency.as_secs_f64() * 1e6).collect();
        let (elapsed, cpu) = (start.elapsed(), cpu_of(pid) - before);
        latencies.sort_by(f64::total_cmp);
        let count = latencies.len() as f64;
        Cost {
            cpu: cpu * 1e6 / count,
            per_second: count / elapsed.as_secs_f64(),
            median: latencies[latencies.len() / 2],
            p99: latencies[latencies.len() * 99 / 100],
        }
    })
}

/// The user and system CPU time of a process so far, in seconds. Source: proc(5), `stat`.
fn cpu_of(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("this needs Linux: /proc/PID/stat");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / ticks_per_second()
}

fn ticks_per_second() -> f64 {
    static TICKS: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *TICKS.get_or_init(|| {
        let printed = Command::new("getconf").arg("CLK_TCK").output().expect("getconf runs").stdout;
        String::from_utf8_lossy(&printed).trim().parse().expect("a number")
    })
}
