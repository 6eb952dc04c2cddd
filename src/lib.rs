//! Real-time WebSockets served entirely at Fastly's edge, with no origin server.
//!
//! ```text
//! client ─(1) GET + Upgrade ─▶ service ─ hand off ─▶ GRIP proxy (Fastly Fanout, or Pushpin locally)
//! client ◀════ WebSocket, held by the proxy ════▶ GRIP proxy
//!                              service ◀─(2) POST: events, Grip-Sig ─ GRIP proxy
//!                              service ─(3) 200: events ─▶ GRIP proxy
//! curl ─(4) POST ─▶ service ─(5) POST {control URI}/publish/ ─▶ GRIP proxy ─▶ every subscriber
//! ```
//!
//! An application is a function, and [`serve`] with it. It is given a [`Connection`], and rejects with a [`Rejection`]. A second
//! function sees what is broadcast over HTTP: [`Service::on_broadcast`]. Both are tested natively: [`testing`].
//!
//! ```no_run
//! use fanout_edge::{Connection, Rejection};
//!
//! fn on_websocket(connection: &mut Connection<'_>) -> Result<(), Rejection> {
//!     if connection.is_opening() {
//!         connection.accept();
//!         connection.subscribe("room1")?;
//!     }
//!     while let Some(message) = connection.receive() {
//!         connection.send(message);
//!     }
//!     Ok(())
//! }
//!
//! fanout_edge::serve(on_websocket);
//! ```
//!
//! [`grip`] has the protocols: WebSocket-over-HTTP, control messages, channels, publishing, `Grip-Sig`. With
//! `default-features = false` there is nothing else.
//!
//! A whole service with [`grip`] alone, natively or at the edge: verify, then talk.
//!
//! ```
//! use fanout_edge::grip::{
//!     Channel, Formats, GripStatus, GripUri, Headers, Item, Verifier, WebSocket, WsMessage,
//!     publish::{PublishError, Sender},
//!     websocket::{Response, is_websocket_over_http},
//! };
//!
//! static ROOM: Channel = Channel::from_static("room");
//!
//! /// The response to the proxy: 200 and this, or a status that rejects the request.
//! fn on_request(headers: &dyn Headers, body: &[u8], verifiers: &[Verifier], now: u64) -> Result<Response, u16> {
//!     let status = GripStatus::of(headers.header("grip-sig"), verifiers, now);
//!     let GripStatus::Signed(signed) = status else { return Err(403) };
//!     if !is_websocket_over_http(headers) {
//!         return Err(400);
//!     }
//!     let mut ws = WebSocket::new(signed, headers, body).map_err(|_| 400u16)?;
//!     if ws.is_opening() {
//!         ws.accept();
//!         ws.subscribe(&ROOM);
//!     }
//!     while let Some(message) = ws.receive() {
//!         // A close is answered, too.
//!         ws.send(message);
//!     }
//!     Ok(ws.into_response())
//! }
//!
//! fn broadcast(text: &str, proxy: &GripUri, sender: &mut impl Sender, now: u64) -> Result<(), PublishError> {
//!     let formats = Formats { ws_message: Some(WsMessage::text(text)), ..Formats::default() };
//!     proxy.publisher.publish(sender, &[Item::new(&ROOM, formats)], now)
//! }
//! ```
//!
//! It does no I/O, has no clock, and does not name the Fastly SDK: the module `fastly` does, in wasm only, and decides nothing.
#![warn(missing_docs, unreachable_pub)]

// A handler in an example names the crate, and can be copied into it as it is.
extern crate self as fanout_edge;

#[cfg(feature = "service")]
#[doc(hidden)] // What the service decides: for this project's own tests.
pub mod app;
#[cfg(all(feature = "service", target_os = "wasi"))]
mod fastly;
pub mod grip;
#[cfg(feature = "service")]
pub mod testing;

pub use http;

#[cfg(feature = "service")]
pub use app::{
    broadcast::Broadcast,
    connection::{Channels, Connection, Content, Mode, Reply},
    messages::{channels::IntoChannel, id::MessageId},
    rejection::Rejection,
    service::Service,
};
pub use grip::{Channel, CloseCode, Message};

#[cfg(feature = "service")]
/// Serves requests on Fastly Compute, and calls this function for WebSockets: [`Service::new`] and [`Service::serve`].
pub fn serve(on_websocket: impl Fn(&mut Connection<'_>) -> Result<(), Rejection>) {
    Service::new(on_websocket).serve();
}

#[cfg(feature = "service")]
impl Service<'_> {
    /// Serves requests on Fastly Compute, one after the other, until the sandbox retires. Elsewhere it says where it runs, and ends
    /// the program with 2.
    pub fn serve(&self) {
        #[cfg(target_os = "wasi")]
        fastly::run(self);
        #[cfg(not(target_os = "wasi"))]
        {
            eprintln!(
                "This program runs on Fastly Compute. Build it for wasm32-wasip1, and run it with `fastly compute serve`."
            );
            std::process::exit(2);
        }
    }
}

// The code of the document is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/coming-from.md")]
struct ComingFrom;
