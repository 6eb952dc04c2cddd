//! GRIP, the Generic Realtime Intermediary Protocol, from the side of an application behind a GRIP proxy.
//!
//! | module | contents |
//! | --- | --- |
//! | [`event`] | the body of a WebSocket-over-HTTP request or response |
//! | [`websocket`] | one request of a WebSocket connection, and the response to it |
//! | [`control`] | control messages to the proxy on a WebSocket (`c:{…}`) |
//! | [`headers`] | the request headers that the protocols use |
//! | [`close`] | close codes |
//! | [`channel`] | channel names |
//! | [`fanout`] | Fastly Fanout: its key, issuer and publish API |
//! | [`hold`] | HTTP responses that the proxy holds open: long-polling and streams |
//! | [`item`] | items: what is published to a channel |
//! | [`publish`] | publish requests to the proxy |
//! | [`signature`] | `Grip-Sig`: the proxy's signature on each request |
//! | [`signed`] | the proof that a request came through the proxy |
//! | [`key`] | keys that verify signatures |
//! | [`ticket`] | connection tickets: a cheaper proof than the signature |
//! | [`uri`] | `GRIP_URL`: the address, credentials and keys of one proxy |
//!
//! Sources: the specifications of WebSocket-over-HTTP and GRIP (<https://pushpin.org/docs/protocols/>), and the
//! observed behavior of Pushpin 1.41 for what they leave open.

pub mod channel;
pub mod close;
pub mod control;
pub mod event;
#[cfg(feature = "jwt")]
pub mod fanout;
pub mod headers;
pub mod hold;
pub mod item;
#[cfg(feature = "jwt")]
pub mod key;
pub mod publish;
#[cfg(feature = "jwt")]
pub mod signature;
pub mod signed;
#[cfg(feature = "tickets")]
pub mod ticket;
#[cfg(feature = "jwt")]
pub mod uri;
pub mod websocket;

pub use channel::Channel;
pub use close::CloseCode;
pub use control::{Control, Filter};
pub use event::{Event, Events};
pub use headers::{Header, Headers};
pub use hold::Hold;
pub use item::{Formats, Item, ItemId, WsMessage};
#[cfg(feature = "jwt")]
pub use key::VerifyKey;
pub use publish::Publisher;
#[cfg(feature = "jwt")]
pub use signature::{GripStatus, Verifier};
pub use signed::Signed;
#[cfg(feature = "tickets")]
pub use ticket::Tickets;
#[cfg(feature = "jwt")]
pub use uri::GripUri;
pub use websocket::{Message, WebSocket};
