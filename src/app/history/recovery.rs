//! What a client that comes back has missed.

use std::{collections::BTreeMap, fmt, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use super::{
    History,
    cursor::Cursor,
    keys::{Key, prefixes},
    now,
};
use crate::{
    app::{
        bounds::{MAX_READS, MAX_RECOVERED, MAX_RECOVERED_BYTES},
        messages::{channels::Channels, content::Content, envelope::Envelope, id::MessageId},
        platform::{List, Platform, StoreError},
    },
    grip::Channel,
};

/// How long before its cursor a client may have missed a message, in milliseconds: one that was on its way to the store or to
/// the proxy when a younger one arrived, or that was made by a clock that is behind.
pub(crate) const OVERLAP: u64 = 2000;

/// The same for a client that was just sent what it missed: some may have been on its way to the store.
pub(crate) const IN_FLIGHT: u64 = 1000;

/// How old the newest message of a channel may be that the proxy is asked about, in milliseconds.
const RECENT: u64 = 10_000;

/// How far the clock of a sandbox may be ahead of another one's, in milliseconds.
const AHEAD: u64 = 1000;

/// What a client that comes back has missed.
pub(crate) struct Recovery {
    /// The next cursor.
    pub(crate) since: MessageId,
    /// All that it missed, by their ids, or nothing. It may have seen the first ones.
    pub(crate) messages: Vec<Stored>,
    /// Why it may have missed more, if so.
    pub(crate) lost: Option<Lost>,
    /// The newest message of each channel that has one of the last seconds.
    pub(crate) newest: Vec<(Channel, MessageId)>,
    /// How many operations on the store it took.
    pub(crate) operations: usize,
}

/// Why a client may have missed more than it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The messages of a channel are not kept.
    NotKept(Channel),
    /// The cursor is older than the window, in seconds.
    TooOld(u64),
    /// The store has not been kept for as long.
    Begun,
    /// There is too much.
    TooMuch,
    /// The store cannot be read.
    Unreadable,
}

impl Lost {
    /// Whether the same cursor, or the next one, would be of no use.
    pub(crate) const fn is_lasting(&self) -> bool {
        matches!(self, Self::NotKept(_) | Self::Unreadable)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKept(channel) => write!(f, "messages of `{channel}` are not kept: see HISTORY"),
            Self::TooOld(seconds) => write!(f, "messages are kept for {seconds} seconds"),
            Self::Begun => f.write_str("messages have been kept only since then"),
            Self::TooMuch => write!(f, "there are more than {MAX_RECOVERED} messages, or too large ones"),
            Self::Unreadable => f.write_str("the stored messages cannot be read"),
        }
    }
}

impl From<StoreError> for Lost {
    fn from(error: StoreError) -> Self {
        if error == StoreError::TooLarge { Self::TooMuch } else { Self::Unreadable }
    }
}

/// A message that was kept.
pub(crate) struct Stored {
    pub(crate) id: MessageId,
    pub(crate) content: Content<'static>,
    channel: Channel,
    from: Option<String>,
}

impl Stored {
    /// Its envelope, as those that were there when it was published got it.
    pub(crate) fn envelope(&self) -> String {
        Envelope::published(self.id, &self.channel, &self.content, self.from.as_deref()).to_json()
    }
}

/// Finds what a client has missed on its channels, with at most [`MAX_READS`] operations on the store, less those that were
/// already made.
pub(crate) fn recover(
    history: Option<&History>,
    channels: &Channels,
    cursor: Cursor,
    platform: &mut dyn Platform,
    mut operations: usize,
) -> Recovery {
    // Before the store is read: what is stored meanwhile is younger.
    let since = MessageId::new(platform);
    let mut newest = Vec::new();
    let found = match history {
        None => Err(Lost::NotKept(channels.first().clone())),
        Some(history) => match history.first_not_kept(channels) {
            Some(channel) => Err(Lost::NotKept(channel.clone())),
            None => find(history, channels, cursor, since, platform, &mut newest, &mut operations),
        },
    };
    match found {
        Ok((seen, messages)) => Recovery { since: since.with_hash(seen), messages, lost: None, newest, operations },
        Err(lost) => Recovery { since, messages: Vec::new(), lost: Some(lost), newest, operations },
    }
}

/// The newest message of each channel that has one of the last seconds, as far as that can be read.
pub(crate) fn newest(
    channels: &Channels,
    platform: &mut dyn Platform,
    operations: &mut usize,
) -> Vec<(Channel, MessageId)> {
    let now = now(platform);
    let keys = keys(channels, now.saturating_sub(RECENT), now + AHEAD, platform, operations).unwrap_or_default();
    newest_of(channels, &keys)
}

/// Waits until the store shows a recent message that is none of those: one that the proxy already has may take a moment to be
/// seen. Returns how many operations that took.
pub(crate) fn wait_for_news(channels: &Channels, known: &[MessageId], platform: &mut dyn Platform) -> usize {
    const WAIT: Duration = Duration::from_millis(250);
    const WAITS: usize = 4;
    let mut operations = 0;
    for waited in 0.. {
        let newest = newest(channels, platform, &mut operations);
        // A channel without a recent message may just be quiet.
        let waits = if newest.is_empty() { WAITS / 2 } else { WAITS };
        let is_seen = newest.iter().any(|(_, id)| !known.contains(id));
        if is_seen || waited >= waits || operations > MAX_READS / 3 {
            break;
        }
        platform.wait(WAIT);
    }
    operations
}

fn newest_of(channels: &Channels, keys: &[Key]) -> Vec<(Channel, MessageId)> {
    let newest = |channel: &Channel| {
        let keys = keys.iter().filter(|key| key.is_of(channel));
        keys.max_by_key(|key| key.time).map(|key| (channel.clone(), key.id))
    };
    channels.iter().filter_map(newest).collect()
}

/// The messages, and what stands for those keys that a client with the next cursor need not be sent again.
fn find(
    history: &History,
    channels: &Channels,
    cursor: Cursor,
    since: MessageId,
    platform: &mut dyn Platform,
    newest: &mut Vec<(Channel, MessageId)>,
    operations: &mut usize,
) -> Result<(u64, Vec<Stored>), Lost> {
    let now = since.time();
    let oldest = now.saturating_sub(history.window);
    // The proxy asks for the next link of a stream when there is a message: none has been there since then.
    if cursor.time < oldest && cursor.epoch.is_none() {
        return Err(Lost::TooOld(history.window / 1000));
    }
    *operations += 1;
    match history.read_epoch(platform)? {
        Some(epoch) if cursor.epoch.map_or(epoch <= cursor.time, |known| epoch == known) => {}
        Some(_) => return Err(Lost::Begun),
        None => {
            history.epoch.set(None);
            history.begin(platform);
            return Err(Lost::Begun);
        }
    }
    let from = cursor.time.saturating_sub(if cursor.has_gaps { OVERLAP } else { 0 });
    let from = if cursor.epoch.is_some() { from.max(oldest) } else { from };
    let mut keys = keys(channels, from.min(now.saturating_sub(RECENT)), now + AHEAD, platform, operations)?;
    *newest = newest_of(channels, &keys);
    keys.retain(|key| from <= key.time);
    // In the last group of the next cursor, the keys that its receiver has seen are summed up.
    let sum = |keys: &mut dyn Iterator<Item = &Key>| keys.fold(0, |sum, key| sum ^ key.fingerprint());
    let seen = sum(&mut keys.iter().filter(|key| (now.saturating_sub(OVERLAP)..=now).contains(&key.time)));
    if let Some(id) = cursor.id {
        let is_seen = |key: &&Key| key.time <= cursor.time;
        if id.hash() == sum(&mut keys.iter().filter(is_seen)) {
            keys.retain(|key| !is_seen(&key));
        }
        keys.retain(|key| key.id != id);
    }
    // In the order of their ids, and once: a message that was sent again has several keys.
    let mut by_id = BTreeMap::new();
    for key in keys {
        // Not `collect`, which sorts a list first: 4 KB of the module.
        by_id.insert(key.id, key.text);
    }
    *operations += by_id.len();
    if by_id.len() > MAX_RECOVERED || *operations > MAX_READS {
        return Err(Lost::TooMuch);
    }
    let keys: Vec<_> = by_id.into_values().collect();
    let mut messages = Vec::new();
    for value in platform.lookup(&keys, MAX_RECOVERED_BYTES)? {
        messages.extend(parse(&value.ok_or(Lost::Unreadable)?, channels)?);
    }
    messages.retain(|message| Some(message.id) != cursor.id);
    if messages.len() > MAX_RECOVERED { Err(Lost::TooMuch) } else { Ok((seen, messages)) }
}

/// The keys of channels between two times.
fn keys(
    channels: &Channels,
    from: u64,
    to: u64,
    platform: &mut dyn Platform,
    operations: &mut usize,
) -> Result<Vec<Key>, Lost> {
    let list = |prefix| List { prefix, cursor: None };
    let mut lists: Vec<_> = channels.iter().flat_map(|channel| prefixes(channel, from, to)).map(list).collect();
    let mut keys = Vec::new();
    while !lists.is_empty() {
        *operations += lists.len();
        if *operations > MAX_READS {
            return Err(Lost::TooMuch);
        }
        let pages = platform.list(&lists)?;
        let next = lists.into_iter().zip(pages).filter_map(|(list, page)| {
            keys.extend(page.keys.into_iter().filter_map(Key::parse));
            page.next.map(|cursor| List { cursor: Some(cursor), ..list })
        });
        lists = next.collect();
    }
    keys.retain(|key: &Key| (from..=to).contains(&key.time));
    Ok(keys)
}

#[derive(Deserialize)]
struct Value {
    id: String,
    channel: String,
    data: Option<String>,
    base64: Option<String>,
    from: Option<String>,
}

/// The messages of a value, which are of one of the channels.
fn parse(json: &[u8], channels: &Channels) -> Result<Vec<Stored>, Lost> {
    let stored = |value: Value| {
        let content = match (value.data, value.base64) {
            (Some(text), None) => Content::from(text),
            (None, Some(base64)) => Content::from(BASE64_STANDARD.decode(base64).ok()?),
            _ => return None,
        };
        let channel = channels.iter().find(|channel| channel.as_str() == value.channel)?.clone();
        Some(Stored { id: MessageId::parse_any(&value.id)?, content, channel, from: value.from })
    };
    let values: Vec<Value> = serde_json::from_slice(json).map_err(|_| Lost::Unreadable)?;
    values.into_iter().map(stored).collect::<Option<_>>().ok_or(Lost::Unreadable)
}
