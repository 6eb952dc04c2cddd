//! Up to where a client has seen everything.

use std::{fmt, time::UNIX_EPOCH};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{
    keys::Width,
    times::{AHEAD, OVERLAP},
};
use crate::app::{bounds::LEEWAY, error::Error, messages::id::MessageId, platform::Platform};

/// What a client has seen: all messages that were stored [`OVERLAP`] before a time. It may have seen younger ones.
///
/// # Format
/// From the service a UUID version 8 (RFC 9562, section 5.8): the time in milliseconds since 1970 (48 bits), the width of the next
/// list or 0 (12 bits), and how many keys of that very millisecond the client has (62 bits). From a client also the id of its
/// last message, or a time in UTC as in RFC 3339, `2026-11-26T08:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// In milliseconds since 1970.
    pub(super) time: u64,
    /// The message itself, which is not sent again.
    pub(super) id: Option<MessageId>,
    /// How the page after this cursor begins, if it is not the first one.
    pub(super) next: Option<Next>,
}

/// How a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// How much time its first list stands for.
    pub(super) width: Width,
    /// How many keys of its first millisecond were in the page before.
    pub(super) skip: usize,
}

const VERSION: u128 = 8 << 76;
const VARIANT: u128 = 0b10 << 62;
/// The bits of `skip`. It never has as many.
const SKIP: u128 = 0xffff_ffff;

impl Cursor {
    /// The cursor of a time, in milliseconds since 1970.
    pub(crate) const fn at(time: u64) -> Self {
        Self { time, id: None, next: None }
    }

    /// The cursor of this moment.
    pub(crate) fn now(platform: &mut dyn Platform) -> Self {
        Self::at(super::now(platform))
    }

    /// Parses the cursor of a client.
    ///
    /// # Errors
    /// [`Error::Since`].
    pub(crate) fn parse(text: &str, platform: &mut dyn Platform) -> Result<Self, Error> {
        let cursor = match MessageId::parse_any(text) {
            Some(id) => Self { id: Some(id), ..Self::at(id.time()) },
            None => Self::parse_own(text).or_else(|| Self::parse_time(text)).ok_or(Error::Since)?,
        };
        let is_past = cursor.time <= super::now(platform) + LEEWAY * 1000 + AHEAD;
        if is_past { Ok(cursor) } else { Err(Error::Since) }
    }

    fn parse_own(text: &str) -> Option<Self> {
        const HYPHENATED: usize = 36;
        let id = Uuid::try_parse(text).ok().filter(|id| text.len() == HYPHENATED && id.get_version_num() == 8)?;
        let id = id.as_u128();
        let width = ((id >> 64 & 0xfff) as u8).checked_sub(1);
        let next = width.and_then(Width::from_exponent).map(|width| Next { width, skip: (id & SKIP) as usize });
        Some(Self { next, ..Self::at((id >> 80) as u64) })
    }

    fn parse_time(text: &str) -> Option<Self> {
        let time = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(time.as_millis()).ok().map(Self::at)
    }

    /// From when on what is stored is to be read, in milliseconds since 1970.
    pub(super) const fn from(self) -> u64 {
        self.time.saturating_sub(OVERLAP)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.id {
            return id.fmt(f);
        }
        let next =
            self.next.map_or(0, |Next { width, skip }| (u128::from(width.exponent()) + 1) << 64 | skip as u128 & SKIP);
        Uuid::from_u128(u128::from(self.time) << 80 | VERSION | VARIANT | next).as_hyphenated().fmt(f)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
