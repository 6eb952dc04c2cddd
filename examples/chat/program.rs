//! The service with the chat in place of the shipped handler.

#[cfg(target_os = "wasi")]
mod chat;
#[cfg(target_os = "wasi")]
#[path = "../../src/edge.rs"]
mod edge;

fn main() {
    #[cfg(target_os = "wasi")]
    edge::run(chat::echo);
}
