//! Everything that needs no server: natively, and again in wasm under Viceroy.

#[path = "../support/mod.rs"]
mod support;

use self::support::{handlers, service};

mod access;
mod acks;
mod admit;
mod connection;
mod endpoints;
mod errors;
mod event;
mod files;
mod headers;
mod history;
mod item;
mod kit;
mod messages;
mod next;
mod on_broadcast;
mod recorded;
mod sandbox;
mod signature;
mod ticket;
mod transports;
mod users;
mod websocket;

// The application of docs/handler.md, with its tests.
#[path = "../handlers/room/handler.rs"]
mod room;

// They need the file system or proptest, which are only there natively. The test in `layers` knows them by name.
#[cfg(not(target_os = "wasi"))]
mod documents;
#[cfg(not(target_os = "wasi"))]
mod layers;
#[cfg(not(target_os = "wasi"))]
mod properties;
