//! Compares the cost of the service with that of other programs, all of them under Viceroy, in one run: `make bench`.
//!
//! Each program gets the same requests, as a GRIP proxy sends them. Requests to the service include the ticket of their
//! connection, as with a proxy. There are five rounds; each one runs every case with every program.

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
