//! The service under load, with hostile requests, and when its parts fail: with the real Viceroy and Pushpin, and an
//! access key. It runs in short by default; `make soak` runs it in full and writes docs/soak.md.

#[cfg(not(target_os = "wasi"))]
mod faults;
#[cfg(not(target_os = "wasi"))]
mod hostile;
#[cfg(not(target_os = "wasi"))]
mod load;
#[cfg(not(target_os = "wasi"))]
mod service;
#[cfg(not(target_os = "wasi"))]
mod storm;
#[cfg(not(target_os = "wasi"))]
#[path = "../support/mod.rs"]
mod support;
#[cfg(not(target_os = "wasi"))]
mod users;

#[cfg(not(target_os = "wasi"))]
fn main() -> std::process::ExitCode {
    service::run()
}

#[cfg(target_os = "wasi")]
fn main() {}
