//! GRIP, the Generic Realtime Intermediary Protocol, as an application behind a GRIP proxy speaks it.
//!
//! | module | what |
//! | --- | --- |
//! | [`event`] | the body of a WebSocket-over-HTTP request or answer |
//! | [`websocket`] | one request of a WebSocket connection and the answer to it |
//! | [`control`] | messages from the application to the proxy on a WebSocket (`c:{…}`) |
//! | [`headers`] | what the protocols look at in a request |
//! | [`close`] | close codes |
//! | [`channel`] | what clients subscribe to |
//! | [`fanout`] | the proxy of a Fastly service |
//! | [`hold`] | HTTP answers that the proxy keeps open: long-polling and streams |
//! | [`item`] | what is published to the subscribers of a channel |
//! | [`publish`] | how it gets to the proxy |
//! | [`signature`] | `Grip-Sig`: did this request come through the proxy? |
//! | [`key`] | the keys that it is checked with |
//! | [`ticket`] | what an open connection brings along, so that it need not be checked each time |
//! | [`uri`] | `GRIP_URL`: one proxy's address, credentials and keys |
//!
//! Sources: the specification of WebSocket-over-HTTP and of GRIP (<https://pushpin.org/docs/protocols/>), and what
//! Pushpin 1.41 was seen to do where the specification is silent.

pub mod channel;
pub mod close;
pub mod control;
pub mod event;
pub mod fanout;
pub mod headers;
pub mod hold;
pub mod item;
pub mod key;
pub mod publish;
pub mod signature;
pub mod ticket;
pub mod uri;
pub mod websocket;

pub use channel::Channel;
pub use close::CloseCode;
pub use control::{Control, Filter};
pub use event::{Event, Events};
pub use headers::{Header, Headers};
pub use hold::Hold;
pub use item::{Formats, Item, ItemId, WsMessage};
pub use key::VerifyKey;
pub use publish::Publisher;
pub use signature::{GripStatus, Verifier};
pub use ticket::Tickets;
pub use uri::GripUri;
pub use websocket::{Message, WebSocket};
