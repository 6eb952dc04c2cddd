//! Message ids.
//!
//! # Format
//! A UUID version 7 (RFC 9562, section 5.7), so ids sort by the time at which they were made: milliseconds since 1970 (48 bits), a
//! counter (26), which begins at random in each millisecond, and a hash (48) of the message, of who gets it and of what stands before. So
//! no client can give a message of someone else's an id that another one has, and the proxy and the clients drop only duplicates. A
//! client that looks for it, for some minutes, can find two messages of its own with the same id.

use std::{borrow::Cow, fmt};

use hmac_sha256::Hash;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::{Uuid, Variant};

use super::content::Content;
use crate::{
    app::{
        bounds::{LEEWAY, MAX_ID_AGE},
        error::Error,
        platform::Platform,
        state::Counter,
    },
    grip::Channel,
};

/// The bits of the last group.
const HASH: u128 = (1 << 48) - 1;

/// The id of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Uuid);

impl MessageId {
    /// Returns a new id without a hash, less than those of all messages that are made later.
    pub(crate) fn new(platform: &mut dyn Platform) -> Self {
        const VERSION: u128 = 7 << 76;
        const VARIANT: u128 = 0b10 << 62;
        let (now, random) = (platform.time(), platform.random());
        let Counter { time, count } = platform.state().next_id(now, random);
        let (time, count) = (u128::from(time) << 80, u128::from(count));
        // The counter stands to the left of the hash, on both sides of the variant.
        Self(Uuid::from_u128(time | VERSION | count >> 14 << 64 | VARIANT | (count & 0x3fff) << 48))
    }

    /// Returns the id of a message, of which a part is made from the message itself and of all that decides who gets it: the same
    /// for the same message.
    pub(crate) fn of(self, channel: &Channel, content: &Content<'_>, from: Option<&str>, except: Option<&str>) -> Self {
        let without_hash = self.0.as_u128() & !HASH;
        let mut hash = Hash::new();
        hash.update(without_hash.to_be_bytes());
        // The length of each part, so that none can be mistaken for another.
        for part in [channel.as_str(), from.unwrap_or_default(), except.unwrap_or_default()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        match content {
            Content::Text(text) => {
                hash.update(b"text");
                hash.update(text.as_bytes());
            }
            Content::Binary(bytes) => {
                hash.update(b"binary");
                hash.update(bytes);
            }
        }
        let [first, second, third, fourth, fifth, sixth, ..] = hash.finalize();
        self.with_hash(u64::from_be_bytes([0, 0, first, second, third, fourth, fifth, sixth]))
    }

    /// Parses the id of a message that is sent again, at a time in seconds since 1970. The proxy drops an item if its
    /// channel had one with the same id within the last minute, so older ids are rejected.
    ///
    /// # Errors
    /// [`Error::MessageId`].
    pub(crate) fn parse(text: &str, now: u64) -> Result<Self, Error> {
        let milliseconds = |seconds: u64| seconds.saturating_mul(1000);
        let times = milliseconds(now.saturating_sub(MAX_ID_AGE))..=milliseconds(now.saturating_add(LEEWAY));
        Self::parse_any(text).filter(|id| times.contains(&id.time())).ok_or(Error::MessageId)
    }

    /// Returns the id of the n-th message, from 0 on, that is published of what has this id: n of them are less.
    pub(crate) const fn nth(self, n: usize) -> Self {
        const PLACE: u128 = 0x3fff << 48;
        let id = self.0.as_u128();
        Self(Uuid::from_u128(id & !PLACE | id.wrapping_add((n as u128) << 48) & PLACE))
    }

    /// Parses an id, however old it is.
    pub(crate) fn parse_any(text: &str) -> Option<Self> {
        const HYPHENATED: usize = 36;
        let id = Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED)?;
        (id.get_version_num() == 7 && id.get_variant() == Variant::RFC4122).then_some(Self(id))
    }

    /// Parses 32 digits.
    pub(crate) fn parse_simple(text: &str) -> Option<Self> {
        const DIGITS: usize = 32;
        Uuid::try_parse(text).ok().filter(|_| text.len() == DIGITS).map(Self)
    }

    /// Its 32 digits.
    pub(crate) fn simple(self) -> impl fmt::Display {
        self.0.simple()
    }

    /// When it was made, in milliseconds since 1970.
    pub(crate) const fn time(self) -> u64 {
        (self.0.as_u128() >> 80) as u64
    }

    /// Returns self with this last group, of 48 bits.
    const fn with_hash(self, hash: u64) -> Self {
        Self(Uuid::from_u128(self.0.as_u128() & !HASH | hash as u128 & HASH))
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

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_any(&text).ok_or_else(|| D::Error::custom("a UUID version 7 was expected"))
    }
}
