//! What the host can do: publish, call backends, make ids, count, check a Fastly key.

use std::time::Duration;

use serde::Deserialize;

use super::state::{Lookup, State};
use crate::grip::publish::Sender;

/// The backend of the GRIP proxy's publish API.
pub const PUBLISHER_BACKEND: &str = "publisher";

/// The backend through which the GRIP proxy calls this service.
pub const SELF_BACKEND: &str = "self";

/// The KV Store of what is kept of published messages. Whoever links none is told by [`Platform::has_store`].
pub const HISTORY_STORE: &str = "fanout_history";

/// A KV Store. Each value, list and insert is an operation.
pub trait Store {
    /// Begins to insert a value, which may be empty, under a new key, for that long. [`finish_inserts`](Self::finish_inserts) waits
    /// for it.
    fn begin_insert(&mut self, key: &str, value: &str, time_to_live: Duration);

    /// Waits for all inserts that were begun.
    ///
    /// # Errors
    /// [`StoreError`] if one of them failed.
    fn finish_inserts(&mut self) -> Result<(), StoreError>;

    /// Inserts a value for good, unless its key has one.
    ///
    /// # Errors
    /// [`StoreError`] if that is not known.
    fn insert_new(&mut self, key: &str, value: String) -> Result<(), StoreError>;

    /// Looks up the values of keys, together of at most `limit` bytes; `None` for a key without one. Those that come after are left
    /// out.
    ///
    /// # Errors
    /// [`StoreError`].
    fn lookup(&mut self, keys: &[String], limit: usize) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// Lists the keys that begin with each of the prefixes, together of about `limit` bytes at most. Prefixes have letters, digits
    /// and `-`, as Fastly rejects some of the others.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list(&mut self, prefixes: &[String], limit: usize) -> Result<Listed, StoreError>;
}

/// Keys of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Those that begin with each prefix, in no known order; `None` if there are more than the limit allows, or than the store lists
    /// at once.
    pub keys: Vec<Option<Vec<String>>>,
    /// How many bytes were read for that.
    pub bytes: usize,
}

/// A page of the keys of a store.
///
/// # Format
/// `{"data":["KEY"],"meta":{"next_cursor":"…"}}`. Source: fastly 0.13.2, `kv_store.rs`.
#[derive(Debug, Deserialize)]
pub struct KeyPage {
    data: Vec<String>,
    meta: KeyPageMeta,
}

#[derive(Debug, Deserialize)]
struct KeyPageMeta {
    next_cursor: Option<String>,
}

impl KeyPage {
    /// Reads a page; `None` if it is none.
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The keys, if there is no other page.
    pub fn into_all(self) -> Option<Vec<String>> {
        self.meta.next_cursor.is_none().then_some(self.data)
    }
}

/// Why an operation on a store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The service has no such store.
    Missing,
    /// There are too many operations.
    TooMany,
    /// The values are too large.
    TooLarge,
    /// They took too long.
    TooSlow,
    /// For another reason.
    Failed,
}

/// The host. As a [`Sender`] it publishes through the backend [`PUBLISHER_BACKEND`], as a [`Store`] it is [`HISTORY_STORE`].
pub trait Platform: Sender + Store {
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

    /// What the sandbox knows from earlier requests.
    fn state(&mut self) -> &mut State;

    /// Reads an entry of the Config Store [`CONFIG_STORE`](super::settings::CONFIG_STORE); `None` if there is none.
    ///
    /// # Errors
    /// [`Unreadable`](super::settings::Unreadable).
    fn setting(&mut self, name: &str) -> Lookup;

    /// Reads an entry of the Secret Store [`SECRET_STORE`](super::settings::SECRET_STORE); `None` if there is none.
    ///
    /// # Errors
    /// [`Unreadable`](super::settings::Unreadable).
    fn secret(&mut self, name: &str) -> Lookup;

    /// The time, in milliseconds since 1970.
    fn time(&mut self) -> u64;

    /// Returns random bits.
    fn random(&mut self) -> u32;

    /// Adds `n` to the counter of `entry` and returns its total for the last [`seconds`](Counter::seconds). With 0 it only looks it
    /// up.
    ///
    /// # Errors
    /// [`CannotCount`].
    fn count(&mut self, counter: Counter, entry: &str, n: u32) -> Result<u32, CannotCount>;

    /// Waits.
    fn wait(&mut self, time: Duration);

    /// Whether the request's `Fastly-Key` is a token of Fastly's API that may purge this service.
    fn has_valid_fastly_key(&self) -> bool;

    /// Whether this is a developer's machine.
    fn is_local(&self) -> bool;

    /// Whether the service has a backend of that name.
    fn has_backend(&self, name: &str) -> bool;

    /// Whether the service has the store [`HISTORY_STORE`].
    fn has_store(&mut self) -> bool;
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Published messages in a minute, each for each of its channels.
    Broadcasts,
    /// The same in a second.
    BroadcastsNow,
    /// Clients that are handed off in a minute.
    Openings,
    /// The same in a second.
    OpeningsNow,
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
            Self::BroadcastsNow => "fanout_broadcasts_now",
            Self::Openings => "fanout_openings",
            Self::OpeningsNow => "fanout_openings_now",
            Self::Signatures => "fanout_signatures",
            Self::Tokens => "fanout_tokens",
        }
    }

    /// For how many seconds it counts.
    pub const fn seconds(self) -> u32 {
        match self {
            Self::BroadcastsNow | Self::OpeningsNow => 1,
            Self::Broadcasts | Self::Openings | Self::Signatures | Self::Tokens => 60,
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
