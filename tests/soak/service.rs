//! The running service, the size of the test, and its report.

use std::{
    env, fs,
    process::{Command, ExitCode},
    sync::Mutex,
};

use libtest_mimic::{Arguments, Trial};

pub use crate::support::running::{Running as Service, SECRET, now};
use crate::{faults, hostile, load, storm, support::process::root, users};

const NEEDS: &str = "needs Viceroy, Pushpin and the wasm build: make test";

/// How many clients, messages and requests the test has.
pub struct Size {
    pub subscribers: usize,
    pub channels: usize,
    pub openings_per_second: usize,
    pub broadcasts: usize,
    pub talkers: usize,
    pub messages: usize,
    pub hostile: usize,
    /// Clients of the storm on each transport, and its length in seconds.
    pub storm: (usize, u64),
    /// Users, and messages to one of them each.
    pub direct: (usize, usize),
}

const SHORT: Size = Size {
    subscribers: 200,
    channels: 10,
    openings_per_second: 200,
    broadcasts: 300,
    talkers: 100,
    messages: 40,
    hostile: 1_000,
    storm: (40, 9),
    direct: (20, 100),
};

const FULL: Size = Size {
    subscribers: 1_000,
    channels: 10,
    openings_per_second: 200,
    broadcasts: 2_000,
    talkers: 100,
    messages: 1_000,
    hostile: 10_000,
    storm: (200, 60),
    direct: (200, 2000),
};

/// A part, and whether it finds more only if the machine has nothing else to do, so that it belongs to `make soak` alone: what it
/// asserts depends on whether Pushpin can keep up.
type Part = (&'static str, fn(&Size, &mut Report), bool);

const PARTS: &[Part] = &[
    ("every_subscriber_gets_every_broadcast_once_and_in_order", load::broadcasts, true),
    ("messages_sent_at_full_speed_come_back", load::echoes, true),
    ("hostile_requests_are_rejected_and_do_not_affect_other_clients", hostile::requests, false),
    ("messages_reach_exactly_the_connections_of_their_user", users::direct_messages, false),
    ("event_streams_end_with_their_tokens_and_miss_nothing_before", users::streams_end, true),
    ("clients_that_drop_and_come_back_miss_nothing_or_are_told_so", storm::calm, false),
    ("clients_of_a_lively_room_miss_nothing", storm::lively, true),
    ("nothing_is_missed_silently_when_pushpin_restarts", storm::pushpin_restarts, false),
    ("nothing_is_missed_silently_when_viceroy_restarts", storm::viceroy_restarts, false),
    ("clients_recover_when_viceroy_restarts", faults::viceroy_restarts, true),
    ("clients_recover_when_pushpin_restarts", faults::pushpin_restarts, true),
    ("broadcasts_time_out_if_the_publish_port_never_responds", faults::publishing_hangs, true),
    ("broadcasts_fail_if_the_publish_port_does_not_accept_them", faults::publishing_is_rejected, true),
];

pub fn run() -> ExitCode {
    let is_full = env::var("SOAK").is_ok_and(|size| size == "full");
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let parts = PARTS.iter().filter(|(.., is_alone)| is_full || !is_alone);
    let trials = parts.map(|(name, part, _)| {
        let trial = Trial::test(*name, move || {
            let mut report = Report { text: String::new() };
            report.write(&format!("\n## {}\n", name.replace('_', " ")));
            part(if is_full { &FULL } else { &SHORT }, &mut report);
            REPORTS.lock().expect("no panic under the lock").push_str(&report.text);
            Ok(())
        });
        trial.with_ignored_flag(true).with_kind(NEEDS)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if is_full && conclusion.num_failed == 0 && conclusion.num_passed as usize == PARTS.len() {
        let text = format!("{}{}", head(), REPORTS.lock().expect("no panic under the lock"));
        fs::write(root().join("docs/soak.md"), text).expect("the report is written");
    }
    conclusion.exit_code()
}

static REPORTS: Mutex<String> = Mutex::new(String::new());

/// What the report begins with.
fn head() -> String {
    let git = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()).output();
    let commit = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    HEAD.replace("COMMIT", &commit)
}

const HEAD: &str = "# The service under load and faults

Written by `make soak` at commit COMMIT: the real Viceroy and Pushpin, configured as the Fastly CLI does, and real WebSocket clients, all on
one machine with two cores. Delays are measured from before a request is sent until the message is read, so they include
the CPU time of the clients.
";

/// The section of the report about one part.
pub struct Report {
    text: String,
}

impl Report {
    /// Adds text, and prints it immediately: the part may still fail.
    fn write(&mut self, text: &str) {
        print!("{text}");
        self.text.push_str(text);
    }

    /// Adds a paragraph.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.write(&format!("\n{}\n", line.as_ref()));
    }

    /// Adds a table.
    pub fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let rule = head.iter().map(|_| "---").collect::<Vec<_>>().join(" | ");
        self.write(&format!("\n| {} |\n| {rule} |\n", head.join(" | ")));
        for row in rows {
            self.write(&format!("| {} |\n", row.join(" | ")));
        }
    }
}

/// Returns a quantile of sorted delays, in milliseconds, as text.
pub fn quantile(delays: &[f64], share: f64) -> String {
    let delay = delays.get((delays.len() as f64 * share) as usize).or_else(|| delays.last());
    delay.map_or_else(|| "none".to_owned(), |delay| format!("{delay:.1} ms"))
}
