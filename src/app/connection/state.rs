//! What a handler stores for a connection.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::Connection;
use crate::app::{
    bounds::{MAX_STATE_LENGTH, MAX_STATE_NAME_LENGTH},
    error::Error,
};

/// The characters that are percent-encoded in a header, which must not have a space at its start or end.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

impl Connection<'_> {
    /// A value that was [stored](Self::set_state) for the connection. The proxy keeps it; no client can see or forge it. An
    /// opening connection has only what this batch stored.
    pub fn state(&self, name: &str) -> Option<String> {
        let name = state_name(name);
        let value = if self.is_opening() { self.ws.new_meta(&name) } else { self.ws.meta(&name) };
        let value = value.filter(|value| !value.is_empty())?;
        percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned)
    }

    /// Stores a value for the connection, which each later batch finds in its [state](Self::state). An empty one removes
    /// it. Names are not case-sensitive. The proxy sends all values with every request, as headers: keep them short, a
    /// kilobyte in all.
    ///
    /// # Errors
    /// [`Error::State`] if the name has other characters than letters, digits, `-` and `_` or more than 64, or the value is
    /// longer than 512 bytes, percent-encoded.
    pub fn set_state(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let value = utf8_percent_encode(value, ENCODED).to_string();
        if !(1..=MAX_STATE_NAME_LENGTH).contains(&name.len()) || value.len() > MAX_STATE_LENGTH {
            return Err(Error::State);
        }
        self.ws.set_meta(&state_name(name), &value).map_err(|_| Error::State)
    }
}

fn state_name(name: &str) -> String {
    format!("state-{name}")
}
