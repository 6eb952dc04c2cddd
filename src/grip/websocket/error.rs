//! What a request, or what the application wants to say, may be refused for.

use std::{error::Error, fmt};

use super::MAX_PAYLOAD;
use crate::grip::event::DecodeError;

/// A request that is not one of a WebSocket connection.
///
/// ```
/// use fanout_edge::grip::{WebSocket, websocket::RequestError};
///
/// let error = WebSocket::new(&[], b"OPEN\r\n").err();
/// assert_eq!(error, Some(RequestError::NoConnectionId));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// There is no `Connection-Id`.
    NoConnectionId,
    /// There is more than one `Connection-Id`, or it is not text.
    InvalidConnectionId,
    /// The body is not a sequence of events.
    Events(DecodeError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnectionId => f.write_str("the header Connection-Id is missing"),
            Self::InvalidConnectionId => f.write_str("the header Connection-Id must be there once, as text"),
            Self::Events(error) => error.fmt(f),
        }
    }
}

impl Error for RequestError {}

/// A meta value that cannot be a header.
///
/// ```
/// use fanout_edge::grip::{WebSocket, websocket::InvalidMeta};
///
/// let headers = [("connection-id", "c1")];
/// assert_eq!(WebSocket::new(&headers, b"")?.set_meta("", "x"), Err(InvalidMeta));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidMeta;

impl fmt::Display for InvalidMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a meta name has letters, digits, - and _; a meta value has printable ASCII characters and no blank at an end")
    }
}

impl Error for InvalidMeta {}

/// The payload of a ping or pong that is longer than [`MAX_PAYLOAD`].
///
/// ```
/// use fanout_edge::grip::{WebSocket, websocket::PayloadTooLong};
///
/// let headers = [("connection-id", "c1")];
/// assert_eq!(WebSocket::new(&headers, b"")?.ping(&[0; 200]), Err(PayloadTooLong));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadTooLong;

impl fmt::Display for PayloadTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the payload of a ping or pong has at most {MAX_PAYLOAD} bytes")
    }
}

impl Error for PayloadTooLong {}

/// A subprotocol that the client does not offer.
///
/// ```
/// use fanout_edge::grip::{WebSocket, websocket::NotOffered};
///
/// let headers = [("connection-id", "c1")];
/// assert_eq!(WebSocket::new(&headers, b"OPEN\r\n")?.accept_with_protocol("v1"), Err(NotOffered));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOffered;

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client does not offer this subprotocol")
    }
}

impl Error for NotOffered {}
