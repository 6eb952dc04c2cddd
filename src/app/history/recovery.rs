//! What a client that comes back has missed.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    History,
    cursor::Cursor,
    keys::{Key, prefixes},
    times::{AHEAD, OVERLAP},
    value::{Stored, parse},
};
use crate::{
    app::{
        bounds::{MAX_READS, MAX_RECOVERED, MAX_RECOVERED_BYTES},
        messages::{channels::Channels, id::MessageId},
        platform::{List, Platform, StoreError},
    },
    grip::Channel,
};

/// What a client that comes back has missed.
pub(crate) struct Recovery {
    /// The cursor that it asked with.
    pub(crate) asked: MessageId,
    /// The next cursor, once it has the messages.
    pub(crate) since: MessageId,
    /// All that it missed, by their ids, or nothing. It may have seen the first ones.
    pub(crate) messages: Vec<Stored>,
    /// Why it may have missed more, if so.
    pub(crate) lost: Option<Lost>,
    /// The keys of the last seconds.
    pub(super) recent: Vec<String>,
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
    /// The store has not been kept for as long: only since then, or soon, in milliseconds since 1970.
    Begun(u64),
    /// There is too much.
    TooMuch,
    /// The store cannot be read.
    Unreadable,
    /// What was missed could not be sent.
    Unsent,
}

impl Lost {
    /// Whether the client can go on with the next cursor. Otherwise that would be lost, too, for a while at least.
    pub(crate) fn can_go_on(&self, since: MessageId) -> bool {
        match self {
            Self::TooOld(_) | Self::TooMuch | Self::Unsent => true,
            Self::Begun(epoch) => *epoch <= since.time(),
            Self::NotKept(_) | Self::Unreadable => false,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKept(channel) => write!(f, "messages of `{channel}` are not kept: see HISTORY"),
            Self::TooOld(seconds) => write!(f, "messages are kept for {seconds} seconds"),
            Self::Begun(time) => {
                let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(*time));
                write!(f, "messages are kept only from {time} on")
            }
            Self::TooMuch => {
                write!(f, "there are more than {MAX_RECOVERED} messages, too large ones, or too many channels")
            }
            Self::Unreadable => f.write_str("the stored messages cannot be read"),
            Self::Unsent => f.write_str("the stored messages could not be sent"),
        }
    }
}

impl From<StoreError> for Lost {
    fn from(error: StoreError) -> Self {
        if error == StoreError::TooLarge { Self::TooMuch } else { Self::Unreadable }
    }
}

impl Recovery {
    /// Why the client may have missed more than it gets, for it to read.
    pub(crate) fn reason(&self) -> Option<String> {
        self.lost.as_ref().map(ToString::to_string)
    }

    /// A cursor that is true before the client has the messages.
    pub(crate) fn first_since(&self) -> MessageId {
        if self.messages.is_empty() { self.since } else { self.asked }
    }
}

/// Finds what a client has missed on its channels and on that of its user, if that is kept, with at most [`MAX_READS`] operations on the store.
pub(crate) fn recover(
    history: Option<&History>,
    channels: &Channels,
    user: Option<Channel>,
    cursor: Cursor,
    platform: &mut dyn Platform,
) -> Recovery {
    // Before the store is read: what is stored meanwhile is younger.
    let since = MessageId::new(platform);
    let all = history.map_or_else(|| channels.clone(), |history| history.with_user(channels, user));
    let mut reader = Reader { channels: &all, platform, operations: 0 };
    let mut recent = Vec::new();
    let found = match history {
        None => Err(Lost::NotKept(channels.first().clone())),
        Some(history) => match history.first_not_kept(channels) {
            Some(channel) => Err(Lost::NotKept(channel.clone())),
            None => find(history, cursor, since.time(), &mut reader, &mut recent),
        },
    };
    // In the last group of the next cursor, the keys that its receiver has seen are summed up.
    let since = since.with_hash(recent.iter().filter(|key| key.time <= since.time()).fold(0, Key::sum));
    let recent = recent.into_iter().map(|key| key.text).collect();
    let (messages, lost) = match found {
        Ok(messages) => (messages, None),
        Err(lost) => (Vec::new(), Some(lost)),
    };
    // What has begun only now did so before this.
    let since = if matches!(lost, Some(Lost::Begun(_))) { MessageId::new(reader.platform) } else { since };
    Recovery { asked: cursor.as_id(), since, messages, lost, recent, operations: reader.operations }
}

/// The messages since a cursor, at a time in milliseconds since 1970. The keys of the seconds before that time are recent.
fn find(
    history: &History,
    cursor: Cursor,
    now: u64,
    reader: &mut Reader<'_>,
    recent: &mut Vec<Key>,
) -> Result<Vec<Stored>, Lost> {
    if cursor.time < now.saturating_sub(history.window) {
        return Err(Lost::TooOld(history.window / 1000));
    }
    reader.count(1)?;
    match history.read_epoch(reader.platform)? {
        Some(epoch) if epoch <= cursor.time => history.epoch.set(Some(epoch)),
        Some(epoch) => return Err(Lost::Begun(epoch)),
        None => {
            history.epoch.set(None);
            reader.count(history.operations_to_begin())?;
            return Err(history.begin(reader.platform).map_or(Lost::Unreadable, Lost::Begun));
        }
    }
    let mut keys = reader.keys(cursor.time.saturating_sub(cursor.overlap), now + AHEAD)?;
    recent.extend(keys.iter().filter(|key| key.time >= now.saturating_sub(OVERLAP)).cloned());
    if let Some(id) = cursor.id {
        let is_seen = |key: &&Key| key.time <= cursor.time;
        if id.hash() == keys.iter().filter(is_seen).fold(0, Key::sum) {
            keys.retain(|key| !is_seen(&key));
        }
        // Not for a batch, of which the client may have missed the beginning.
        keys.retain(|key| !(key.is_single && key.id == id));
    }
    let mut messages = reader.messages(keys)?;
    messages.retain(|message| Some(message.id) != cursor.id);
    if messages.len() > MAX_RECOVERED { Err(Lost::TooMuch) } else { Ok(messages) }
}

/// How many channels are few enough for two lists each.
const FEW: usize = 7;

/// Reads what is stored for some channels.
pub(super) struct Reader<'a> {
    pub(super) channels: &'a Channels,
    pub(super) platform: &'a mut dyn Platform,
    /// How many operations it took.
    pub(super) operations: usize,
}

impl Reader<'_> {
    /// Counts operations that are about to be made.
    fn count(&mut self, operations: usize) -> Result<(), Lost> {
        if self.operations + operations > MAX_READS {
            return Err(Lost::TooMuch);
        }
        self.operations += operations;
        Ok(())
    }

    /// The keys between two times, in milliseconds since 1970.
    pub(super) fn keys(&mut self, from: u64, to: u64) -> Result<Vec<Key>, Lost> {
        let list = |prefix| List { prefix, cursor: None };
        // Lists of less for each channel, if they leave enough operations for messages.
        let most = if self.channels.iter().count() > FEW { 1 } else { 2 };
        let prefixes = self.channels.iter().flat_map(|channel| prefixes(channel, from, to, most));
        let mut lists: Vec<_> = prefixes.map(list).collect();
        let mut keys = BTreeMap::new();
        while !lists.is_empty() {
            self.count(lists.len())?;
            let pages = self.platform.list(&lists)?;
            let next = lists.into_iter().zip(pages).filter_map(|(list, page)| {
                for key in page.keys.into_iter().filter_map(Key::parse) {
                    keys.insert(key.text.clone(), key);
                }
                page.next.map(|cursor| List { cursor: Some(cursor), ..list })
            });
            lists = next.collect();
        }
        Ok(keys.into_values().filter(|key: &Key| (from..=to).contains(&key.time)).collect())
    }

    /// The messages of keys, in the order of their ids, and once: a message that was sent again has several keys.
    pub(super) fn messages(&mut self, keys: Vec<Key>) -> Result<Vec<Stored>, Lost> {
        let mut by_id = BTreeMap::new();
        for key in keys {
            // Not `collect`, which sorts a list first: 4 KB of the module.
            by_id.insert((key.id, key.is_single), key.text);
        }
        if by_id.len() > MAX_RECOVERED {
            return Err(Lost::TooMuch);
        }
        self.count(by_id.len())?;
        let keys: Vec<_> = by_id.into_values().collect();
        let mut messages = Vec::new();
        for value in self.platform.lookup(&keys, MAX_RECOVERED_BYTES)? {
            let value = value.ok_or(Lost::Unreadable)?;
            messages.extend(parse(&value, self.channels).ok_or(Lost::Unreadable)?);
        }
        Ok(messages)
    }
}
