//! The report and its chart: docs/benchmark.md and docs/benchmark.svg.

use std::{fmt::Write, fs, process::Command, time::SystemTime};

use crate::{
    cases::{Kind, Measured, Program, ROUNDS},
    load::Cost,
    pushpin::Delivery,
    support::process::root,
};

pub fn write(costs: &[Measured], deliveries: &[Delivery]) {
    let changed = version("git", &["status", "--porcelain", "--", ":!docs"]);
    assert!(changed.is_empty(), "commit first, so that the report names what was measured: {changed}");
    let folder = root().join("docs");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("benchmark.md"), report(costs, deliveries)).expect("written");
    fs::write(folder.join("benchmark.svg"), chart(costs)).expect("written");
    eprintln!("written: docs/benchmark.md and docs/benchmark.svg");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn of(measured: &Measured, value: impl Fn(&Cost) -> f64) -> f64 {
    median(measured.rounds.iter().map(value).collect())
}

/// Returns the CPU time of a program divided by that of the service, round by round: median, minimum and maximum.
fn ratio(service: &Measured, other: &Measured) -> [f64; 3] {
    let mut ratios: Vec<_> =
        service.rounds.iter().zip(&other.rounds).map(|(ours, theirs)| theirs.cpu / ours.cpu).collect();
    ratios.sort_by(f64::total_cmp);
    [ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1]]
}

fn version(program: &str, arguments: &[&str]) -> String {
    let printed = Command::new(program).args(arguments).current_dir(root()).output().expect("the program runs").stdout;
    String::from_utf8_lossy(&printed).lines().next().unwrap_or_default().trim().to_owned()
}

fn report(costs: &[Measured], deliveries: &[Delivery]) -> String {
    let mut text = String::new();
    let seconds = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let date = version("date", &["-u", "+%Y-%m-%d", "-d", &format!("@{seconds}")]);
    let package = |name: &str| {
        let lock = fs::read_to_string(root().join("benches/peers/js/package-lock.json")).unwrap_or_default();
        let lock: serde_json::Value = serde_json::from_str(&lock).unwrap_or_default();
        let version = lock["packages"][format!("node_modules/{name}")]["version"].as_str().map(str::to_owned);
        format!("{name} {}", version.unwrap_or_default())
    };
    let _ = write!(
        text,
        "# CPU time of a request\n\n\
         Written by `make bench` on {date}: commit {}, {}, {}, Pushpin {}, {}, {}.\n\n\
         CPU is the CPU time of the whole Viceroy process per request, over two connections. Each value is the median of \
         {ROUNDS} rounds; each round runs every case with every program. *Ratio* is the CPU time divided by that of \
         fanout-edge in the same round: the median, and the minimum and maximum. Viceroy ends a sandbox after six \
         requests, even if it is reused; the JavaScript program and the other Rust handlers use one for each request, as \
         in their documentation. A message to fanout-edge carries the ticket of its connection, as with a proxy.\n\n![CPU time per request](benchmark.svg)\n",
        version("git", &["rev-parse", "--short", "HEAD"]),
        version("rustc", &["--version"]),
        version("viceroy", &["--version"]),
        version("pushpin", &["--version"]).trim_start_matches("pushpin "),
        package("@fanoutio/grip"),
        package("@fastly/js-compute"),
    );
    for service in costs.iter().filter(|measured| measured.program == Program::Service) {
        let _ = write!(
            text,
            "\n## {}\n\n| program | CPU, µs | ratio | requests/s | median, µs | p99, µs |\n\
             | --- | ---: | ---: | ---: | ---: | ---: |\n",
            service.case.name()
        );
        for measured in costs.iter().filter(|measured| measured.case == service.case) {
            let ratio = match measured.program {
                Program::Service => String::new(),
                _ => {
                    let [median, min, max] = ratio(service, measured);
                    format!("{median:.2} ({min:.2} to {max:.2})")
                }
            };
            let _ = writeln!(
                text,
                "| {} | {:.0} | {ratio} | {:.0} | {:.0} | {:.0} |",
                measured.program.name(),
                of(measured, |cost| cost.cpu),
                of(measured, |cost| cost.per_second),
                of(measured, |cost| cost.median),
                of(measured, |cost| cost.p99),
            );
        }
    }
    text.push_str("\n## Size of the module\n\n| program | bytes |\n| --- | ---: |\n");
    for program in Program::all() {
        let _ = writeln!(text, "| {} | {} |", program.name(), program.size());
    }
    text.push_str(
        "\n## End to end\n\nWebSocket clients, Pushpin with ES256 signatures, and the program; the programs take turns, in several \
         rounds. Deliveries are a fifth of what this Pushpin is limited to. Of each round trip some 40 ms \
         are not the program's: Pushpin sends head and body of a request apart, and the kernel delays the acknowledgement \
         between them.\n\n\
         | measurement | program | delivered | median, ms | p99, ms | max, ms |\n| --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    for delivery in deliveries {
        let _ = writeln!(
            text,
            "| {} | {} | {} of {} | {:.2} | {:.2} | {:.2} |",
            delivery.what,
            delivery.program.name(),
            delivery.delivered,
            delivery.expected,
            delivery.median / 1e3,
            delivery.p99 / 1e3,
            delivery.longest / 1e3,
        );
    }
    text.push('\n');
    text.push_str(include_str!("explanation.md"));
    text
}

const WIDTH: f64 = 720.0;
const LABELS: f64 = 215.0;
const BAR: f64 = 18.0;

/// Bars on a linear scale: the CPU time of each program behind a proxy that signs with ES256. JavaScript would be ten times
/// as long as the chart, so it is a number only.
fn chart(costs: &[Measured]) -> String {
    let shown = |kind| costs.iter().filter(move |measured| measured.case.es256 && measured.case.kind == kind);
    let cpu = |measured| of(measured, |cost| cost.cpu);
    let drawn = costs.iter().filter(|measured| measured.case.es256 && measured.program != Program::JavaScript);
    let most = drawn
        .filter(|measured| matches!(measured.case.kind, Kind::Message | Kind::Opening))
        .map(cpu)
        .fold(1.0, f64::max);
    let (mut bars, mut y) = (String::new(), 30.0);
    for (kind, title) in [(Kind::Message, "One message on an open connection"), (Kind::Opening, "Opening a connection")]
    {
        let _ = writeln!(bars, r#"<text class="title" x="0" y="{y}">{title}</text>"#);
        y += 12.0;
        for measured in shown(kind) {
            let (cpu, is_drawn) = (cpu(measured), measured.program != Program::JavaScript);
            let class = if measured.program == Program::Service { "ours" } else { "other" };
            let width = if is_drawn { (WIDTH - LABELS - 110.0) * cpu / most } else { 0.0 };
            let note = if is_drawn { "" } else { " (not drawn)" };
            let _ = writeln!(
                bars,
                r#"<text x="{}" y="{}" text-anchor="end">{}</text><rect class="{class}" x="{LABELS}" y="{y}" width="{width:.1}" height="{BAR}" rx="3"/><text x="{:.1}" y="{}">{cpu:.0} µs{note}</text>"#,
                LABELS - 10.0,
                y + 13.5,
                measured.program.name(),
                LABELS + width + 8.0,
                y + 13.5,
            );
            y += BAR + 6.0;
        }
        y += 28.0;
    }
    let height = y - 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-label=\"CPU for each request behind a proxy that signs with ES256\">\n\
         <style>\ntext {{ font: 13px system-ui, sans-serif; fill: #24292f }}\n.title {{ font-weight: 600 }}\n\
         .ours {{ fill: #1a7f37 }}\n.other {{ fill: #8c959f }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .ours {{ fill: #3fb950 }} .other {{ fill: #6e7681 }} }}\n\
         </style>\n{bars}<text x=\"0\" y=\"{}\">CPU of the whole Viceroy process for each request, ES256</text>\n</svg>\n",
        height - 6.0
    )
}
