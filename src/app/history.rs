//! What is kept of published messages, for clients that come back: the settings `HISTORY` and `HISTORY_SECONDS`, and the KV
//! Store `fanout_history`.
//!
//! # Format
//! What a request publishes to a channel is one value, a JSON array of [envelopes](super::messages::envelope), which is never
//! changed. Its [key](keys) has the hash of the channel and the time, so that the store lists what is newer than a cursor.
//! One more key, named after the two settings, has the time since when the store has been kept under it, in milliseconds
//! since 1970: no message from before it is promised.

pub(crate) mod cursor;
mod keys;
pub(crate) mod recovery;
pub(crate) mod sweep;
mod times;
pub(crate) mod value;

use std::{cell::Cell, slice, time::Duration};

use self::value::Value;
use super::{
    messages::{
        channels::{self, Channels},
        id::MessageId,
    },
    platform::{Platform, StoreError},
};
use crate::grip::Channel;

/// The pattern of all users.
const USERS: &str = "user:*";

/// How long a value is kept after its window, so that it is there when the window ends.
const MARGIN: Duration = Duration::from_secs(60);

/// How long sandboxes with other settings may still be there, in milliseconds: an entry of the Config Store takes up to a
/// minute to arrive, and a sandbox serves for 40 seconds.
const SETTLING: u64 = 100_000;

/// What is kept, and for how long.
pub(crate) struct History {
    patterns: Vec<String>,
    /// In milliseconds.
    window: u64,
    /// The key of the time since when it has been kept.
    epoch_key: String,
    /// That time, once this sandbox has made sure of it, in milliseconds since 1970.
    epoch: Cell<Option<u64>>,
}

impl History {
    /// The shortest and the longest time for which messages can be kept, in seconds.
    pub(crate) const SECONDS: (u32, u32) = (10, 86_400);

    /// The patterns of channels in a setting, separated by spaces; `None` if one cannot match a channel.
    pub(crate) fn parse(patterns: &str) -> Option<Vec<String>> {
        let patterns: Vec<_> = patterns.split_whitespace().map(str::to_owned).collect();
        let is_valid = |pattern: &String| {
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            pattern == "*" || pattern == USERS || channels::parse(name).is_ok()
        };
        (!patterns.is_empty() && patterns.iter().all(is_valid)).then_some(patterns)
    }

    /// A history of the channels with these patterns, for so many seconds.
    pub(crate) fn new(patterns: Vec<String>, seconds: u32) -> Self {
        let epoch_key = keys::of_epoch(&format!("{} {seconds}", patterns.join(" ")));
        Self { patterns, window: u64::from(seconds) * 1000, epoch_key, epoch: Cell::new(None) }
    }

    /// Whether messages of a channel are kept. Those of users are only if they are named.
    pub(crate) fn keeps(&self, channel: &Channel) -> bool {
        let is_user = channels::is_of_user(channel);
        let mut patterns = self.patterns.iter().filter(|pattern| (*pattern == USERS) == is_user);
        patterns.any(|pattern| channels::matches(pattern, channel.as_str()))
    }

    /// Some channels, and that of a user if what is sent to users is kept.
    pub(super) fn with_user(&self, channels: &Channels, user: Option<Channel>) -> Channels {
        channels.with_user(user.filter(|channel| self.keeps(channel)))
    }

    /// The first of some channels whose messages are not kept.
    pub(crate) fn first_not_kept<'c>(&self, channels: &'c Channels) -> Option<&'c Channel> {
        channels.iter().find(|channel| !self.keeps(channel))
    }

    /// Makes sure that the store says since when it has been kept, and returns that time, in milliseconds since 1970. If it
    /// cannot be made sure of, no reader is promised anything.
    pub(crate) fn begin(&self, platform: &mut dyn Platform) -> Option<u64> {
        if self.epoch.get().is_none() {
            let settling = if platform.is_local() { 0 } else { SETTLING };
            let epoch = match self.read_epoch(platform).ok()? {
                Some(epoch) => epoch,
                None => {
                    let epoch = now(platform) + settling;
                    platform.insert_new(&self.epoch_key, epoch.to_string()).ok()?;
                    epoch
                }
            };
            self.epoch.set(Some(epoch));
        }
        self.epoch.get()
    }

    /// How many operations [`begin`](Self::begin) takes at most.
    pub(crate) fn operations_to_begin(&self) -> usize {
        if self.epoch.get().is_some() { 0 } else { 2 }
    }

    fn read_epoch(&self, platform: &mut dyn Platform) -> Result<Option<u64>, StoreError> {
        const DIGITS: usize = 20;
        let value = platform.lookup(slice::from_ref(&self.epoch_key), DIGITS)?.pop().flatten();
        Ok(value.and_then(|value| str::from_utf8(&value).ok()?.parse().ok()))
    }

    /// Begins to keep values. [`Store::finish_inserts`](super::platform::Store::finish_inserts) waits for the end. Returns the
    /// time of their keys, in milliseconds since 1970.
    pub(crate) fn begin_inserts(&self, values: &[Value], platform: &mut dyn Platform) -> u64 {
        let time = now(platform);
        for value in values {
            let key = keys::of_value(&value.channel, time, value.last, value.is_single);
            platform.begin_insert(&key, &value.json(), Duration::from_millis(self.window) + MARGIN);
        }
        time
    }

    /// Whether what began at a time, in milliseconds since 1970, took too long.
    pub(crate) fn is_late(&self, begun: u64, platform: &mut dyn Platform) -> bool {
        now(platform).saturating_sub(begun) > times::LATE
    }
}

/// The time of the platform, in milliseconds since 1970.
fn now(platform: &mut dyn Platform) -> u64 {
    MessageId::new(platform).time()
}
