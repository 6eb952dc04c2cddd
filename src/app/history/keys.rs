//! The keys of the history.
//!
//! # Format
//! ```text
//! 9f86d081884c7d659a2feaa0c55ad015-01997c3a4f2e-01997c3a4f2e7000800000000000002a
//! └ hash of the channel, 32        └ time, 12   └ id of the last message in the value, 32; then `-b` if it is not the only one
//! e-2c26b46b68ffc68ff99b453c1d304134
//!   └ hash of the two settings
//! ```
//! All of it is hexadecimal: a hash is the beginning of a SHA-256, the time is that at which the value is stored, in
//! milliseconds since 1970. Fastly rejects a list whose prefix has a colon or a slash, and a channel's name must not be seen.

use hmac_sha256::Hash;

use crate::{
    app::messages::{channels::hash, id::MessageId},
    grip::Channel,
};

/// How many digits the time has.
const TIME_DIGITS: usize = 12;

/// The key of a value, as the store lists it.
#[derive(Clone)]
pub(super) struct Key {
    /// In milliseconds since 1970.
    pub(super) time: u64,
    /// The id of the last message in the value.
    pub(super) id: MessageId,
    /// Whether the value has no other message.
    pub(super) is_single: bool,
    /// All of it.
    pub(super) text: String,
}

impl Key {
    /// Parses the key of a value; `None` if it is none.
    pub(super) fn parse(text: String) -> Option<Self> {
        let mut parts = text.split('-').skip(1);
        let (time, id) = (parts.next()?, MessageId::parse_simple(parts.next()?)?);
        let is_single = parts.next().is_none();
        Some(Self { time: u64::from_str_radix(time, 16).ok()?, id, is_single, text })
    }

    /// Adds 48 bits that stand for it to those of others, in whatever order.
    pub(super) fn sum(sum: u64, key: &Self) -> u64 {
        let [a, b, c, d, e, f, ..] = Hash::hash(key.text.as_bytes());
        sum ^ u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// The key of a value that is stored for a channel at a time, in milliseconds since 1970, and ends with that message.
pub(super) fn of_value(channel: &Channel, time: u64, last: MessageId, is_single: bool) -> String {
    let batch = if is_single { "" } else { "-b" };
    format!("{}-{time:0TIME_DIGITS$x}-{}{batch}", hash(channel.as_str()), last.simple())
}

/// The key of the time since when a history with that setting has been kept.
pub(super) fn of_epoch(setting: &str) -> String {
    format!("e-{}", hash(setting))
}

/// The prefixes of the keys of a channel from one time to another, in milliseconds since 1970; `most` of them, 1 or 2. Keys of
/// other times have them, too: more if it is only one.
pub(super) fn prefixes(channel: &Channel, from: u64, to: u64, most: u64) -> Vec<String> {
    const BITS: usize = 4;
    let is_near = |left_out: &usize| (to >> (BITS * left_out)).saturating_sub(from >> (BITS * left_out)) < most;
    let left_out = (0..TIME_DIGITS).find(is_near).unwrap_or(TIME_DIGITS);
    let width = TIME_DIGITS - left_out;
    let hash = hash(channel.as_str());
    let prefix = |time: u64| format!("{hash}-{:0width$x}", time >> (BITS * left_out));
    let mut prefixes = vec![prefix(from), prefix(to)];
    prefixes.dedup();
    prefixes
}
