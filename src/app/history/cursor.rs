//! From where on a client wants what it missed.

use std::time::UNIX_EPOCH;

use super::times::{AHEAD, BEFORE, OPENING, OVERLAP};
use crate::app::{bounds::LEEWAY, error::Error, messages::id::MessageId, platform::Platform};

/// What a client says that it has seen: all messages up to a time.
///
/// # Format
/// The id of the last message, or the `since` of a welcome; or a time in UTC as in RFC 3339, `2026-11-26T08:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// In milliseconds since 1970.
    pub(super) time: u64,
    /// The message itself, which is not sent again.
    pub(super) id: Option<MessageId>,
    /// From how long before it messages may be missing, in milliseconds.
    pub(super) overlap: u64,
}

impl Cursor {
    /// Parses the cursor of a client.
    ///
    /// # Errors
    /// [`Error::Since`].
    pub(crate) fn parse(text: &str, platform: &mut dyn Platform) -> Result<Self, Error> {
        let id = MessageId::parse_any(text);
        let time = match id {
            Some(id) => id.time(),
            None => {
                let time = humantime::parse_rfc3339(text).map_err(|_| Error::Since)?;
                let since_1970 = time.duration_since(UNIX_EPOCH).map_err(|_| Error::Since)?;
                u64::try_from(since_1970.as_millis()).map_err(|_| Error::Since)?
            }
        };
        let is_past = time <= super::now(platform) + LEEWAY * 1000 + AHEAD;
        if is_past { Ok(Self { time, id, overlap: OVERLAP }) } else { Err(Error::Since) }
    }

    /// The cursor of a client that had none before this one, which the service made for it.
    pub(crate) const fn from_id(id: MessageId) -> Self {
        Self { time: id.time(), id: Some(id), overlap: BEFORE }
    }

    /// Returns self for an event stream whose cursor may be the id of a message that came before what it missed.
    pub(crate) const fn of_last_event(self) -> Self {
        Self { overlap: OVERLAP + OPENING, ..self }
    }

    /// As an id.
    pub(super) fn as_id(self) -> MessageId {
        self.id.unwrap_or_else(|| MessageId::at(self.time))
    }
}
