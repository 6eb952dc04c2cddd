//! Settings and secrets of an application: entries of the two stores that the service itself does not know.

use super::{
    bounds::{MAX_SECRET_READS, MAX_SETTING_READS},
    error::Error,
    platform::Platform,
    settings::{CONFIG_STORE, SECRET_STORE},
    state::{EntryError, Unreadable},
};

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
