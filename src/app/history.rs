//! What is kept of published messages, for clients that come back: the settings `HISTORY` and `HISTORY_SECONDS`, and the KV
//! Store `fanout_history`.
//!
//! # Format
//! What a request publishes to a channel is one [value](value), which is never changed. Its [key](keys) has the hash of the channel
//! and the time, so that the store lists what is newer than a cursor, and the value itself if it is short. One more key, named
//! after the two settings, has the time since when the store has been kept under it, in milliseconds since 1970: no message
//! from before it is promised.
//!
//! # Ways to a message that was missed
//! `sync` on a WebSocket, once the proxy has its subscription; the body of an event stream that names a cursor, and what follows
//! it ([`gap`]); `GET /api/history`, and a poll with a cursor, which is the same and waits if there is nothing.

pub(crate) mod cursor;
pub(crate) mod gap;
mod keys;
pub(crate) mod replay;
mod times;
pub(crate) mod value;

use std::{slice, time::Duration};

use self::{
    keys::Key,
    replay::Lost,
    times::{LATE, VERIFIED},
    value::Value,
};
use super::{
    messages::channels,
    platform::{Platform, StoreError},
};
use crate::grip::Channel;

/// The pattern of all users.
const USERS: &str = "user:*";

/// How long a value is kept after its window, so that it is there when the window ends.
const MARGIN: Duration = Duration::from_secs(30);

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
        // Another version of the format has another epoch.
        let epoch_key = keys::of_epoch(&format!("2 {} {seconds}", patterns.join(" ")));
        Self { patterns, window: u64::from(seconds) * 1000, epoch_key }
    }

    /// Whether messages of a channel are kept. Those of users are only if they are named.
    pub(crate) fn keeps(&self, channel: &Channel) -> bool {
        let is_user = channels::is_of_user(channel);
        let mut patterns = self.patterns.iter().filter(|pattern| (*pattern == USERS) == is_user);
        patterns.any(|pattern| channels::matches(pattern, channel.as_str()))
    }

    /// The history of some channels, and of what is sent to a user if that is kept.
    ///
    /// # Errors
    /// [`Lost::NotKept`] if the messages of one of the channels are not kept.
    pub(crate) fn cover<'c>(
        history: Option<&Self>,
        channels: impl IntoIterator<Item = &'c Channel>,
        user: Option<Channel>,
    ) -> Result<(&Self, Vec<Channel>), Lost> {
        let mut channels = channels.into_iter().peekable();
        let Some(history) = history else {
            return Err(Lost::NotKept(
                channels.peek().map_or_else(|| channels::DEFAULT.clone(), |channel| (*channel).clone()),
            ));
        };
        let keep = |channel: &Channel| {
            if history.keeps(channel) { Ok(channel.clone()) } else { Err(Lost::NotKept(channel.clone())) }
        };
        let mut covered = channels.map(keep).collect::<Result<Vec<_>, _>>()?;
        covered.extend(user.filter(|user| history.keeps(user)));
        Ok((history, covered))
    }

    /// Makes sure that the store says since when it has been kept, and returns that time, in milliseconds since 1970. If it
    /// cannot be made sure of, no reader is promised anything.
    pub(crate) fn begin(&self, platform: &mut dyn Platform) -> Option<u64> {
        if platform.state().epoch.is_none() {
            let settling = if platform.is_local() { 0 } else { SETTLING };
            let mut epoch = self.read_epoch(platform).ok()?;
            if epoch.is_none() {
                let begins = platform.time() + settling;
                platform.insert_new(&self.epoch_key, begins.to_string()).ok()?;
                // Another sandbox may have been faster.
                epoch = self.read_epoch(platform).ok()?;
            }
            platform.state().epoch = epoch;
        }
        platform.state().epoch
    }

    /// How many operations [`begin`](Self::begin) takes at most.
    pub(crate) fn operations_to_begin(platform: &mut dyn Platform) -> usize {
        if platform.state().epoch.is_some() { 0 } else { 3 }
    }

    fn read_epoch(&self, platform: &mut dyn Platform) -> Result<Option<u64>, StoreError> {
        const DIGITS: usize = 20;
        let value = platform.lookup(slice::from_ref(&self.epoch_key), DIGITS)?.pop().flatten();
        Ok(value.and_then(|value| str::from_utf8(&value).ok()?.parse().ok()))
    }

    /// Begins to keep values. [`Store::finish_inserts`](super::platform::Store::finish_inserts) waits for the end. Returns the
    /// time of their keys, in milliseconds since 1970.
    pub(crate) fn begin_inserts(&self, values: &[Value<'_>], platform: &mut dyn Platform) -> u64 {
        let time = platform.time();
        let time_to_live = Duration::from_millis(self.window + VERIFIED) + MARGIN;
        for value in values {
            let json = value.json();
            let last = value.last();
            let key = Key::new(&last.channel, time, last.id, &json);
            platform.begin_insert(&key.text, if key.has_value() { "" } else { &json }, time_to_live);
        }
        time
    }

    /// Whether what began at a time, in milliseconds since 1970, took too long.
    pub(crate) fn is_late(&self, begun: u64, platform: &mut dyn Platform) -> bool {
        platform.time().saturating_sub(begun) > LATE
    }
}
