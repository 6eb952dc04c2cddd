//! The protocols and the decisions of fanout-edge: real-time WebSockets served entirely at Fastly's edge.
//!
//! ```text
//! client ─(1) GET + Upgrade ─▶ service ─ hand off ─▶ GRIP proxy (Fastly Fanout, or Pushpin locally)
//! client ◀════ WebSocket, held by the proxy ════▶ GRIP proxy
//!                              service ◀─(2) POST: events, Grip-Sig ─ GRIP proxy
//!                              service ─(3) 200: events ─▶ GRIP proxy
//! curl ─(4) POST ─▶ service ─(5) POST {control URI}/publish/ ─▶ GRIP proxy ─▶ every subscriber
//! ```
//!
//! * [`grip`]: the protocols: WebSocket-over-HTTP, control messages, channels, publishing, `Grip-Sig`.
//! * [`app`]: what this service decides. A request, the settings and the time go in, an [`app::Action`] comes out.
//!   The function to change first is [`app::echo`].
//!
//! Nothing here does I/O, has a clock or names the Fastly SDK: the binary's `edge` module does, and decides nothing.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod app;
pub mod grip;
