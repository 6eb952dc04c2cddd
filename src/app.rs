//! What this service decides: a request, the settings and the time go in, an [`Action`] comes out.
//!
//! A path is one line of `ROUTES` and one file. Nothing here does I/O.

pub mod broadcast;
pub mod echo;
pub mod http;
pub mod settings;
pub mod websocket;

pub use http::{Action, Reply, Request};
pub use settings::Settings;

use crate::grip::Channel;

/// The channel that every WebSocket client is subscribed to, and every broadcast goes to.
pub static CHANNEL: Channel = Channel::from_static("test");

type Handler = fn(&mut dyn Request, &Settings, u64) -> Action;

/// Path, method, handler. The methods of one path stand together.
const ROUTES: &[(&str, &str, Handler)] = &[
    ("/api/websocket", "GET", websocket::connect),
    ("/api/websocket", "POST", websocket::events),
    ("/api/broadcast", "POST", broadcast::broadcast),
];

/// Decides what to do with a request, at a time in seconds since 1970.
pub fn decide(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    let on_path = || ROUTES.iter().filter(|(path, ..)| *path == request.path());
    let handler = on_path().find(|(_, method, _)| *method == request.method());
    let allowed: Vec<&str> = on_path().map(|(_, method, _)| *method).collect();
    match handler {
        Some((_, _, handler)) => handler(request, settings, now),
        None if allowed.is_empty() => Reply::text(404, "Not found").into(),
        None => {
            let allowed = allowed.join(", ");
            Reply::text(405, format_args!("Method not allowed. Use: {allowed}")).with_header("allow", allowed).into()
        }
    }
}
