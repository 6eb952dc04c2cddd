//! Message ids.

use std::fmt;

use serde::{Serialize, Serializer};
use uuid::{Uuid, Variant};

use crate::app::{bounds::MAX_ID_AGE, error::Error, platform::Platform};

/// How far the clock of who made an id may be ahead, in seconds.
const LEEWAY: u64 = 5;

/// The id of a message: a UUID version 7, so ids sort by the time at which they were made. Source: RFC 9562, section 5.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId(Uuid);

impl MessageId {
    /// Returns a new id.
    pub(crate) fn new(platform: &mut dyn Platform) -> Self {
        Self(platform.new_uuid())
    }

    /// Parses the id of a message that is sent again, at a time in seconds since 1970. The proxy drops an item if its
    /// channel had one with the same id within the last minute, so older ids are rejected.
    ///
    /// # Errors
    /// [`Error::MessageId`].
    pub(crate) fn parse(text: &str, now: u64) -> Result<Self, Error> {
        const HYPHENATED: usize = 36;
        let id = Uuid::try_parse(text).map_err(|_| Error::MessageId)?;
        let made_at = u64::try_from(id.as_u128() >> 80).map_err(|_| Error::MessageId)? / 1000;
        let is_recent = (now.saturating_sub(MAX_ID_AGE)..=now.saturating_add(LEEWAY)).contains(&made_at);
        let is_v7 = text.len() == HYPHENATED && id.get_version_num() == 7 && id.get_variant() == Variant::RFC4122;
        if is_v7 && is_recent { Ok(Self(id)) } else { Err(Error::MessageId) }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
