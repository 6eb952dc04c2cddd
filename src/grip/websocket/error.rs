//! Why a request is rejected, or why something cannot be sent.

use std::{error::Error, fmt};

use crate::grip::event::{DecodeError, MAX_PAYLOAD};

/// A request that is not one of a WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
            Self::NoConnectionId => f.write_str("the header Connection-Id is missing: add it"),
            Self::InvalidConnectionId => f.write_str("the header Connection-Id must be sent once, as text"),
            Self::Events(error) => error.fmt(f),
        }
    }
}

impl Error for RequestError {}

/// A meta name or value that cannot be a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidMeta;

impl fmt::Display for InvalidMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "invalid meta: use letters, digits, - and _ in the name, and printable ASCII without a space at its start or end as the value",
        )
    }
}

impl Error for InvalidMeta {}

/// The payload of a ping or pong that is longer than [`MAX_PAYLOAD`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadTooLong;

impl fmt::Display for PayloadTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the payload of a ping or pong is too long: use at most {MAX_PAYLOAD} bytes")
    }
}

impl Error for PayloadTooLong {}

/// A subprotocol that the client does not offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOffered;

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client does not offer this subprotocol")
    }
}

impl Error for NotOffered {}
