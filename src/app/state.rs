//! What a sandbox knows from earlier requests.

use std::collections::HashMap;

use super::messages::id::Counter;

/// What a store has under a name.
pub type Lookup = Result<Option<String>, Unreadable>;

/// A store or an entry that could not be read, or an entry that is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Why an entry has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// The store has no such entry.
    Missing,
    /// It cannot be read as text.
    Unreadable,
    /// Too many entries are read.
    TooMany,
}

/// What a sandbox knows from earlier requests.
#[derive(Default)]
pub struct State {
    pub(super) entries: Entries,
    /// The last id that was made.
    pub(super) ids: Counter,
    /// Since when the history has been kept, once that is certain, in milliseconds since 1970.
    pub(super) epoch: Option<u64>,
}

/// The entries of an application that a sandbox has read, with which it serves until it retires.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) settings: HashMap<String, Lookup>,
    pub(super) secrets: HashMap<String, Lookup>,
    /// In this request.
    pub(super) secrets_read: usize,
}

impl State {
    /// Begins a request, which may read secrets again.
    pub const fn begin_request(&mut self) {
        self.entries.secrets_read = 0;
    }
}
