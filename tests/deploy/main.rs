//! `make deploy` without its build: `scripts/deploy` and `scripts/probe` with the real Fastly CLI, a stand-in for Fastly's API,
//! and a real service on this machine in the place of the deployed one.

#[cfg(not(target_os = "wasi"))]
mod fastly;
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
