//! What the host can do: publish, call backends, make ids, count, check a Fastly key.

use uuid::Uuid;

use crate::grip::publish::Sender;

/// The backend of the GRIP proxy's publish API.
pub const PUBLISHER_BACKEND: &str = "publisher";

/// The backend through which the GRIP proxy calls this service.
pub const SELF_BACKEND: &str = "self";

/// The host. As a [`Sender`] it publishes through the backend [`PUBLISHER_BACKEND`].
pub trait Platform: Sender {
    /// Sends a request through a backend, and returns its response with a body of at most `limit` bytes.
    ///
    /// # Errors
    /// [`BackendError`] if there is no such response.
    fn fetch(
        &mut self,
        backend: &str,
        request: http::Request<Vec<u8>>,
        limit: usize,
    ) -> Result<http::Response<Vec<u8>>, BackendError>;

    /// Returns a new UUID version 7, greater than all before it. Source: RFC 9562, section 5.7.
    fn new_uuid(&mut self) -> Uuid;

    /// Adds `n` to the counter of `entry` and returns its total for the last 60 seconds. With 0 it only looks it up.
    ///
    /// # Errors
    /// [`CannotCount`].
    fn count(&mut self, counter: Counter, entry: &str, n: u32) -> Result<u32, CannotCount>;

    /// Whether the request's `Fastly-Key` is a token of Fastly's API that may purge this service.
    fn has_valid_fastly_key(&self) -> bool;

    /// Whether this is a developer's machine.
    fn is_local(&self) -> bool;

    /// Whether the service has a backend of that name.
    fn has_backend(&self, name: &str) -> bool;
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Published messages, each for each of its channels.
    Broadcasts,
    /// Clients that are handed off.
    Openings,
    /// Signatures that were verified and rejected: to verify one takes much CPU.
    Signatures,
    /// Access tokens and Fastly keys that were verified and rejected.
    Tokens,
}

impl Counter {
    /// The platform's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broadcasts => "fanout_broadcasts",
            Self::Openings => "fanout_openings",
            Self::Signatures => "fanout_signatures",
            Self::Tokens => "fanout_tokens",
        }
    }
}

/// The platform does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotCount;

/// Why a backend has no usable response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendError {
    /// The service has no backend of that name.
    Missing,
    /// The URL of the request is not absolute.
    Url,
    /// It could not be reached, or closed the connection.
    Unreachable,
    /// It did not respond in time.
    TimedOut,
    /// The body of its response is too large.
    TooLarge,
    /// It was not called: the batch has made all the requests to backends that it may make.
    TooMany,
}
