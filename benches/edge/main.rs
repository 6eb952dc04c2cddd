//! What the service costs beside other programs, all of them under Viceroy, in one run: `make bench`.
//!
//! Each program gets the same requests, as a GRIP proxy sends them; the service's connections bring the ticket that they
//! were given, as a proxy does. Five rounds; in each one, every case with every program in turn.

#[cfg(not(target_os = "wasi"))]
mod cases;
#[cfg(not(target_os = "wasi"))]
mod load;
#[cfg(not(target_os = "wasi"))]
mod pushpin;
#[cfg(not(target_os = "wasi"))]
mod report;
#[cfg(not(target_os = "wasi"))]
#[path = "../../tests/support/mod.rs"]
mod support;

#[cfg(not(target_os = "wasi"))]
fn main() {
    let costs = cases::measure();
    let deliveries = pushpin::measure();
    report::write(&costs, &deliveries);
}

#[cfg(target_os = "wasi")]
fn main() {}
