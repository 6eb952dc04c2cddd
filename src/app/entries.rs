//! Settings and secrets of an application: entries of the two stores that the service itself does not know.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    bounds::{MAX_SECRET_READS, MAX_SETTING_READS},
    error::Error,
    platform::Platform,
    settings::{CONFIG_STORE, Lookup, SECRET_STORE, Unreadable},
};

/// What a sandbox has read, with which it serves until it retires.
#[derive(Default)]
pub struct Entries {
    settings: HashMap<String, Option<String>>,
    secrets: HashMap<String, Option<String>>,
    /// In this request.
    secrets_read: usize,
}

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

impl Entries {
    /// Begins a request, which may read secrets again.
    pub fn begin_request(&mut self) {
        self.secrets_read = 0;
    }

    /// An entry of the Config Store.
    ///
    /// # Errors
    /// [`Error::Entry`].
    pub(super) fn setting(&mut self, name: &str, platform: &mut dyn Platform) -> Result<Option<String>, Error> {
        let is_full = self.settings.len() >= MAX_SETTING_READS;
        read(&mut self.settings, name, is_full, || platform.setting(name)).map_err(|error| Error::Entry {
            store: CONFIG_STORE,
            name: name.to_owned(),
            error,
        })
    }

    /// An entry of the Secret Store.
    ///
    /// # Errors
    /// [`Error::Entry`], also if there is none.
    pub(super) fn secret(&mut self, name: &str, platform: &mut dyn Platform) -> Result<String, Error> {
        let is_full = self.secrets_read >= MAX_SECRET_READS;
        let secrets_read = &mut self.secrets_read;
        let value = read(&mut self.secrets, name, is_full, || {
            *secrets_read += 1;
            platform.secret(name)
        });
        value.and_then(|value| value.ok_or(EntryError::Missing)).map_err(|error| Error::Entry {
            store: SECRET_STORE,
            name: name.to_owned(),
            error,
        })
    }
}

fn read(
    known: &mut HashMap<String, Option<String>>,
    name: &str,
    is_full: bool,
    lookup: impl FnOnce() -> Lookup,
) -> Result<Option<String>, EntryError> {
    match known.entry(name.to_owned()) {
        Entry::Occupied(entry) => Ok(entry.get().clone()),
        Entry::Vacant(_) if is_full => Err(EntryError::TooMany),
        Entry::Vacant(entry) => {
            let value = lookup().map_err(|Unreadable| EntryError::Unreadable)?;
            Ok(entry.insert(value).clone())
        }
    }
}
