//! The keys of the history.
//!
//! # Format
//! ```text
//! 9f86d081884c7d659a2feaa0c55ad015-012123013311032230313-01997c3a4f2e7000800000000000002a.eyJkYXRhIjoiaGkifQ
//! └ hash of the channel, 32        └ time, 21            └ id of the last message, 32    └ the value, if it fits
//! e-2c26b46b68ffc68ff99b453c1d304134
//!   └ hash of the version of this format, and of the two settings
//! ```
//! A hash is the beginning of a SHA-256 in hexadecimal. The time is that at which the value is stored, in milliseconds since
//! 1970, in base 4: a prefix that is a digit shorter stands for a time that is four times as long. A short value stands in its key, in
//! base64url, so that one list reads a thousand messages. A longer one is the value of its key.
//!
//! Fastly rejects a list whose prefix has a colon or a slash, and a channel's name must not be seen.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};

use crate::{
    app::messages::{channels::hash, id::MessageId},
    grip::Channel,
};

/// How many digits the time has: enough until the year 2109.
const TIME_DIGITS: u8 = 21;

/// The longest key that a store takes, in bytes. Source: Fastly's limits of KV Stores.
const MAX_LENGTH: usize = 1024;

/// What stands before the value in a key.
const VALUE: char = '.';

/// The key of a value, as the store lists it.
pub(super) struct Key {
    /// When the value was stored, in milliseconds since 1970.
    pub(super) time: u64,
    /// The id of the last message in the value.
    pub(super) id: MessageId,
    /// All of it.
    pub(super) text: String,
}

impl Key {
    /// The key of a value that is stored for a channel at a time, in milliseconds since 1970, and ends with that message. The
    /// value is in it if it fits.
    pub(super) fn new(channel: &Channel, time: u64, id: MessageId, value: &str) -> Self {
        let mut text = format!("{}-{}-{}", hash(channel.as_str()), digits(time, 0), id.simple());
        let encoded = base64::encoded_len(value.len(), false);
        if encoded.is_some_and(|length| text.len() + VALUE.len_utf8() + length <= MAX_LENGTH) {
            text.push(VALUE);
            BASE64_URL_SAFE_NO_PAD.encode_string(value, &mut text);
        }
        Self { time, id, text }
    }

    /// Parses the key of a value; `None` if it is none.
    pub(super) fn parse(text: String) -> Option<Self> {
        let head = text.split(VALUE).next()?;
        let mut parts = head.split('-').skip(1);
        let time = parts.next().filter(|digits| digits.len() == usize::from(TIME_DIGITS))?;
        let (time, id) = (u64::from_str_radix(time, 4).ok()?, MessageId::parse_simple(parts.next()?)?);
        Some(Self { time, id, text })
    }

    /// Whether the value is in the key.
    pub(super) fn has_value(&self) -> bool {
        self.text.contains(VALUE)
    }

    /// The value, if it is in the key and can be decoded.
    pub(super) fn value(&self) -> Option<Vec<u8>> {
        let (_, value) = self.text.split_once(VALUE)?;
        BASE64_URL_SAFE_NO_PAD.decode(value).ok()
    }
}

/// The key of the time since when a history with that setting has been kept.
pub(super) fn of_epoch(setting: &str) -> String {
    format!("e-{}", hash(setting))
}

/// The first digits of a time, without as many as are left out.
fn digits(time: u64, left_out: u8) -> String {
    let digit = |place: u8| char::from(b'0' + (time >> (2 * place) & 3) as u8);
    (left_out..TIME_DIGITS).rev().map(digit).collect()
}

/// How much time one list stands for: a power of 4, in milliseconds. Such slices of time begin at its multiples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width(u8);

impl Width {
    /// The least width with which the time from one to another, in milliseconds since 1970, has at most so many slices; or one
    /// that is 4,096 times as long as that time.
    pub(super) fn of((from, to): (u64, u64), slices: u64) -> Self {
        const LONGEST: u8 = TIME_DIGITS - 1;
        let least = (0..LONGEST).find(|exponent| (to - from) >> (2 * exponent) == 0).unwrap_or(LONGEST);
        let most = (least + 6).min(LONGEST);
        let fits = |exponent: &u8| (to >> (2 * exponent)) - (from >> (2 * exponent)) < slices;
        Self((least..most).find(fits).unwrap_or(most))
    }

    /// The width with that exponent, if it is one.
    pub(super) fn from_exponent(exponent: u8) -> Option<Self> {
        (exponent < TIME_DIGITS).then_some(Self(exponent))
    }

    pub(super) const fn exponent(self) -> u8 {
        self.0
    }

    /// The one that is so many powers of 4 smaller, or the smallest.
    pub(super) fn narrower(self, powers: u8) -> Option<Self> {
        (self.0 > 0).then(|| Self(self.0.saturating_sub(powers)))
    }

    /// The largest width of which a slice probably has no more keys and bytes than these, where so many were found in a time, in
    /// milliseconds, and that is no longer than the time that is left.
    pub(super) fn fitting(self, found: (usize, usize), found_in: u64, left: u64, most: (usize, usize)) -> Self {
        let mut width = self;
        // In less time there may be little by chance.
        while found_in >= width.length() / 2 && width.0 + 1 < TIME_DIGITS {
            let wider = Self(width.0 + 1);
            let share = |found: usize| (found as u64).saturating_mul(wider.length()) / found_in.max(1);
            let fits = share(found.0) <= most.0 as u64 && share(found.1) <= most.1 as u64;
            if !fits || wider.length() > left {
                break;
            }
            width = wider;
        }
        width
    }

    /// How much time it stands for, in milliseconds.
    const fn length(self) -> u64 {
        1 << (2 * self.0)
    }

    /// When the slice of a time ends and the next one begins.
    pub(super) const fn end_of(self, time: u64) -> u64 {
        ((time >> (2 * self.0)) + 1) << (2 * self.0)
    }

    /// What the keys begin with that are stored for a channel in the slice of a time.
    pub(super) fn prefix(self, channel: &Channel, time: u64) -> String {
        format!("{}-{}", hash(channel.as_str()), digits(time, self.0))
    }
}
