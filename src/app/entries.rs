//! Settings and secrets of an application: entries of the two stores that the service itself does not know.

use std::collections::HashMap;

use super::{
    bounds::{MAX_SECRET_READS, MAX_SETTING_READS},
    error::Error,
    platform::Platform,
    settings::{CONFIG_STORE, Lookup, SECRET_STORE, Unreadable},
};

/// What a sandbox has read, with which it serves until it retires.
#[derive(Default)]
pub(crate) struct Entries {
    settings: HashMap<String, Lookup>,
    secrets: HashMap<String, Lookup>,
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
    pub(super) const fn begin_request(&mut self) {
        self.secrets_read = 0;
    }
}

/// Returns an entry of the Config Store.
///
/// # Errors
/// [`Error::Entry`].
pub(super) fn setting(platform: &mut dyn Platform, name: &str) -> Result<Option<String>, Error> {
    let error = |error| Error::Entry { store: CONFIG_STORE, name: name.to_owned(), error };
    let known = &platform.state().entries.settings;
    let value = match known.get(name) {
        Some(value) => value.clone(),
        None if known.len() >= MAX_SETTING_READS => return Err(error(EntryError::TooMany)),
        None => {
            let value = platform.setting(name);
            platform.state().entries.settings.insert(name.to_owned(), value.clone());
            value
        }
    };
    value.map_err(|Unreadable| error(EntryError::Unreadable))
}

/// Returns an entry of the Secret Store.
///
/// # Errors
/// [`Error::Entry`], also if there is none.
pub(super) fn secret(platform: &mut dyn Platform, name: &str) -> Result<String, Error> {
    let error = |error| Error::Entry { store: SECRET_STORE, name: name.to_owned(), error };
    let entries = &mut platform.state().entries;
    let value = match entries.secrets.get(name) {
        Some(value) => value.clone(),
        None if entries.secrets_read >= MAX_SECRET_READS => return Err(error(EntryError::TooMany)),
        None => {
            entries.secrets_read += 1;
            let value = platform.secret(name);
            platform.state().entries.secrets.insert(name.to_owned(), value.clone());
            value
        }
    };
    value.map_err(|Unreadable| error(EntryError::Unreadable))?.ok_or_else(|| error(EntryError::Missing))
}
