//! The service, as a program for Fastly Compute.

#[cfg(target_os = "wasi")]
mod edge;

#[cfg(target_os = "wasi")]
fn main() {
    edge::run(fanout_edge::app::echo::echo);
}

#[cfg(not(target_os = "wasi"))]
fn main() {
    eprintln!(
        "fanout-edge runs on Fastly Compute. Build it for wasm32-wasip1 with `make build`, run it with `make serve`."
    );
    std::process::exit(2);
}
