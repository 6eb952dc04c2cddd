//! What a handler stores for a connection.
//!
//! # Format
//! A meta value `state-NAME` at the proxy: JSON, percent-encoded.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};

use super::Connection;
use crate::app::{
    bounds::{MAX_STATE_LENGTH, MAX_STATE_NAME_LENGTH},
    error::Error,
    rejection::Rejection,
};

/// The characters that are percent-encoded in a header, which must not have a space at its start or end.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

impl Connection<'_> {
    /// A value that was [stored](Self::set_state) for the connection; `None` if there is none, or none of this type. The proxy keeps
    /// it; no client can see or forge it. An opening connection has only what this batch stored.
    pub fn state<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let name = state_name(name);
        let value = if self.is_opening() { self.ws.new_meta(&name) } else { self.ws.meta(&name) };
        let json = percent_decode_str(value.filter(|value| !value.is_empty())?).decode_utf8().ok()?;
        serde_json::from_str(&json).ok()
    }

    /// Stores a value for the connection, which each later batch finds in its [state](Self::state). `()` and `None` remove it. Names
    /// are not case-sensitive. The proxy sends all values with every request, as headers: keep them short, a kilobyte in all.
    ///
    /// # Errors
    /// Rejects with 500 if the name has other characters than letters, digits, `-` and `_` or more than 64, or the value is longer
    /// than 512 bytes, as percent-encoded JSON.
    pub fn set_state(&mut self, name: &str, value: impl Serialize) -> Result<(), Rejection> {
        const NULL: &str = "null";
        let json = serde_json::to_string(&value)?;
        let value = if json == NULL { String::new() } else { utf8_percent_encode(&json, ENCODED).to_string() };
        if !(1..=MAX_STATE_NAME_LENGTH).contains(&name.len()) || value.len() > MAX_STATE_LENGTH {
            return Err(Error::State.into());
        }
        self.ws.set_meta(&state_name(name), &value).map_err(|_| Error::State.into())
    }
}

fn state_name(name: &str) -> String {
    format!("state-{name}")
}
