//! Up to where a client has seen everything.

use std::{fmt, time::UNIX_EPOCH};

use hmac_sha256::Hash;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{
    keys::Width,
    times::{AHEAD, OVERLAP},
};
use crate::{
    app::{bounds::LEEWAY, error::Error, messages::id::MessageId, platform::Platform},
    grip::Channel,
};

/// What a client has seen: all messages that were stored [`OVERLAP`] before a time. It may have seen younger ones.
///
/// # Format
/// From the service a UUID version 8 (RFC 9562, section 5.8): the time in milliseconds since 1970 (48 bits), and how the next page
/// begins (12, 20, 16 and 26 bits), or zeros. From a client also the id of its last message, or a time in UTC as in RFC 3339,
/// `2026-11-26T08:00:00Z`.
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
pub(super) struct Start {
    /// How much time its first list stands for.
    pub(super) width: Width,
    /// How many keys of its first millisecond were in the page before.
    pub(super) skip: usize,
}

/// Where the next page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// In milliseconds since 1970.
    pub(super) from: u64,
    pub(super) start: Start,
}

/// How the page after a cursor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    start: Start,
    /// How much later it begins than a first page with this cursor, in milliseconds. What is between was too young to be settled
    /// when it was read, and is read again in the end.
    ahead: u64,
    /// A [hash](of_channels) of the channels: the next page may be asked for others.
    channels: u16,
}

/// A hash of some channels.
fn of_channels(channels: &[Channel]) -> u16 {
    let mut hash = Hash::new();
    for channel in channels {
        hash.update(channel.as_str());
        hash.update(" ");
    }
    let [first, second, ..] = hash.finalize();
    u16::from_be_bytes([first, second])
}

const VERSION: u128 = 8 << 76;
const VARIANT: u128 = 0b10 << 62;
/// The bits of `ahead` and `skip`: a quarter of an hour, and millions of keys.
const AHEAD_BITS: u128 = 0xf_ffff;
const SKIP_BITS: u128 = 0x3ff_ffff;

impl Cursor {
    /// The cursor of a time, in milliseconds since 1970.
    pub(crate) const fn at(time: u64) -> Self {
        Self { time, id: None, next: None }
    }

    /// The cursor of this moment.
    pub(crate) fn now(platform: &mut dyn Platform) -> Self {
        Self::at(platform.time())
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
        let is_past = cursor.time <= platform.time() + LEEWAY * 1000 + AHEAD;
        if is_past { Ok(cursor) } else { Err(Error::Since) }
    }

    fn parse_own(text: &str) -> Option<Self> {
        const HYPHENATED: usize = 36;
        let id = Uuid::try_parse(text).ok().filter(|id| text.len() == HYPHENATED && id.get_version_num() == 8)?;
        let id = id.as_u128();
        let width = ((id >> 64 & 0xfff) as u8).checked_sub(1);
        let (ahead, channels, skip) = ((id >> 42 & AHEAD_BITS) as u64, (id >> 26) as u16, (id & SKIP_BITS) as usize);
        let start = width.and_then(Width::from_exponent).map(|width| Start { width, skip });
        let next = start.map(|start| Next { start, ahead, channels });
        Some(Self { next, ..Self::at((id >> 80) as u64) })
    }

    fn parse_time(text: &str) -> Option<Self> {
        let time = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(time.as_millis()).ok().map(Self::at)
    }

    /// From when on what is stored is to be read, in milliseconds since 1970.
    pub(super) fn from(self) -> u64 {
        self.time.saturating_sub(OVERLAP) + self.ahead()
    }

    /// How the page after it begins, for these channels, if it is not the first one.
    pub(super) fn start(self, channels: &[Channel]) -> Option<Start> {
        let Next { start, channels: of, .. } = self.next?;
        Some(if of == of_channels(channels) { start } else { Start { skip: 0, ..start } })
    }

    fn ahead(self) -> u64 {
        self.next.map_or(0, |next| next.ahead)
    }

    /// The cursor after a page of these channels that was read with this one, at a time in milliseconds since 1970: for the rest, or
    /// after the last page.
    pub(super) fn after_page(self, rest: Option<Rest>, channels: &[Channel], read_at: u64) -> Self {
        let settled = if self.ahead() > 0 { self.time } else { read_at };
        let Some(Rest { from, start }) = rest else { return Self::at(settled) };
        let time = settled.min(from + OVERLAP);
        let ahead = from.saturating_sub(time.saturating_sub(OVERLAP));
        Self { next: Some(Next { start, ahead, channels: of_channels(channels) }), ..Self::at(time) }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.id {
            return id.fmt(f);
        }
        let begins = |Next { start: Start { width, skip }, ahead, channels }: Next| {
            let (ahead, skip) = (u128::from(ahead) & AHEAD_BITS, skip as u128 & SKIP_BITS);
            (u128::from(width.exponent()) + 1) << 64 | ahead << 42 | u128::from(channels) << 26 | skip
        };
        let id = u128::from(self.time) << 80 | VERSION | VARIANT | self.next.map_or(0, begins);
        Uuid::from_u128(id).as_hyphenated().fmt(f)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
