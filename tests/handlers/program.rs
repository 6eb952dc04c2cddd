//! The service with the handlers of the tests in place of the shipped one.

#[cfg(target_os = "wasi")]
#[path = "../../src/edge.rs"]
mod edge;
#[cfg(target_os = "wasi")]
mod handlers;

fn main() {
    #[cfg(target_os = "wasi")]
    edge::run(handlers::choose);
}
