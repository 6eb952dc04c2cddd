//! The whole service as users run it: `scripts/serve` (`make serve` without the build) with the shipped fastly.toml,
//! the real Fastly CLI, Viceroy and Pushpin, and real WebSocket clients.

#[cfg(not(target_os = "wasi"))]
mod scenarios;
#[cfg(not(target_os = "wasi"))]
#[path = "../support/mod.rs"]
mod support;

#[cfg(not(target_os = "wasi"))]
fn main() -> std::process::ExitCode {
    scenarios::run()
}

#[cfg(target_os = "wasi")]
fn main() {}
