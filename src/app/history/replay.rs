//! What a client missed since its cursor, in pages.
//!
//! The store lists keys in no known order, so a list is of use only if it is whole. So it is asked for narrow slices of time, the
//! oldest first, each for all channels at once. What does not fit into one list is asked for again in smaller slices. A page
//! ends when it is full, or has used up its operations; its cursor says how the next one begins.

use std::{
    collections::HashSet,
    fmt, iter,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    History,
    cursor::{Cursor, Rest, Start},
    keys::{Key, Width},
    times::{AHEAD, VERIFIED},
    value::{Stored, parse},
};
use crate::{
    app::{
        bounds::{MAX_LISTED_BYTES, MAX_LISTS, MAX_REPLAYED, MAX_REPLAYED_BYTES},
        platform::{Listed, Platform, StoreError},
    },
    grip::Channel,
};

/// A page of what a client missed.
pub(crate) struct Replay {
    /// In the order in which they were stored, and once. The client may have seen the first ones.
    pub(crate) messages: Vec<Stored>,
    /// The next cursor, once the client has the messages. It is the same if the store could not be read.
    pub(crate) since: Cursor,
    /// When the store was read, in milliseconds since 1970.
    pub(super) read_at: u64,
    /// Whether there is another page.
    pub(crate) more: bool,
    /// Why the client may have missed something that it does not get, if so.
    pub(crate) lost: Option<Lost>,
    /// How many operations on the store it took.
    pub(crate) reads: usize,
}

/// Why a client may have missed something that it does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The messages of a channel are not kept.
    NotKept(Channel),
    /// The cursor is older than the window, in seconds.
    TooOld(u64),
    /// The store has not been kept for as long: only since then, or soon, in milliseconds since 1970.
    Begun(u64),
    /// The store cannot be read.
    Unreadable,
    /// What was missed could not be sent.
    Unsent,
}

impl Lost {
    /// Whether the client can go on with the next cursor. Otherwise that would be lost, too, for a while at least.
    pub(crate) const fn can_go_on(&self, since: Cursor) -> bool {
        match self {
            Self::TooOld(_) | Self::Unsent | Self::Unreadable => true,
            Self::Begun(epoch) => *epoch <= since.time,
            Self::NotKept(_) => false,
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
            Self::Unreadable => f.write_str("the stored messages cannot be read"),
            Self::Unsent => f.write_str("the stored messages could not be sent"),
        }
    }
}

impl From<StoreError> for Lost {
    fn from(_: StoreError) -> Self {
        Self::Unreadable
    }
}

impl Replay {
    /// Why the client may have missed something that it does not get, for it to read.
    pub(crate) fn reason(&self) -> Option<String> {
        self.lost.as_ref().map(ToString::to_string)
    }

    /// Whether it has something that a client with that cursor has not seen.
    pub(crate) fn is_news(&self, cursor: Cursor) -> bool {
        let is_new = |message: &Stored| cursor.next.is_some() || message.time > cursor.time;
        self.more || self.messages.iter().any(is_new)
    }
}

/// Reads a page of what was published on channels since a cursor, with at most so many operations on the store. What the history
/// does not [cover](History::cover) is lost.
pub(crate) fn replay(
    covered: Result<(&History, Vec<Channel>), Lost>,
    cursor: Cursor,
    operations: usize,
    platform: &mut dyn Platform,
) -> Replay {
    // Before the store is read: what is stored meanwhile is younger.
    let read_at = platform.time();
    if covered.as_ref().is_ok_and(|(_, channels)| operations <= channels.len()) {
        return Replay { messages: Vec::new(), since: cursor, read_at, more: true, lost: None, reads: 0 };
    }
    let mut reader = Reader::new(operations, platform);
    let page = covered.and_then(|(history, channels)| {
        history.check(cursor, read_at, &mut reader)?;
        let Page { messages, rest } =
            reader.page(&channels, (cursor.from(), read_at + AHEAD + 1), cursor.start(&channels))?;
        Ok((messages, rest.is_some(), cursor.after_page(rest, &channels, read_at)))
    });
    let reads = reader.reads;
    match page {
        Ok((mut messages, more, since)) => {
            messages.retain(|stored| Some(stored.message.id) != cursor.id);
            Replay { messages, since, read_at, more, lost: None, reads }
        }
        Err(lost) => {
            let since = match lost {
                // What has begun only now did so before this.
                Lost::Begun(_) => Cursor::now(platform),
                // It may be readable later.
                Lost::Unreadable => cursor,
                _ => Cursor::at(read_at),
            };
            Replay { messages: Vec::new(), since, read_at, more: false, lost: Some(lost), reads }
        }
    }
}

impl History {
    /// Checks that all that was published since a cursor is kept, at a time in milliseconds since 1970.
    fn check(&self, cursor: Cursor, now: u64, reader: &mut Reader<'_>) -> Result<(), Lost> {
        if cursor.time < now.saturating_sub(self.window + VERIFIED) {
            return Err(Lost::TooOld(self.window / 1000));
        }
        reader.reads += 1;
        match self.read_epoch(reader.platform)? {
            Some(epoch) if epoch <= cursor.time => {
                reader.platform.state().epoch = Some(epoch);
                Ok(())
            }
            Some(epoch) => Err(Lost::Begun(epoch)),
            None => {
                reader.platform.state().epoch = None;
                reader.reads += Self::operations_to_begin(reader.platform);
                Err(self.begin(reader.platform).map_or(Lost::Unreadable, Lost::Begun))
            }
        }
    }
}

/// A part of what is stored.
pub(super) struct Page {
    /// In the order in which they were stored, and once.
    pub(super) messages: Vec<Stored>,
    /// Where the next one begins, if there is one.
    pub(super) rest: Option<Rest>,
}

/// Reads what is stored.
pub(super) struct Reader<'a> {
    platform: &'a mut dyn Platform,
    /// How many operations it may make.
    most: usize,
    /// How many it has made.
    pub(super) reads: usize,
}

/// The keys of a part of what is stored.
struct Keys {
    /// With the number of the channel, in the order in which they were stored.
    sorted: Vec<(Key, usize)>,
    /// When that part ends, in milliseconds since 1970.
    end: u64,
    /// How much time the next list should stand for.
    width: Width,
}

impl<'a> Reader<'a> {
    pub(super) fn new(most: usize, platform: &'a mut dyn Platform) -> Self {
        Self { platform, most, reads: 0 }
    }

    /// Reads what was stored for some channels from one time to another, in milliseconds since 1970, as far as it fits into a page.
    pub(super) fn page(
        &mut self,
        channels: &[Channel],
        (from, to): (u64, u64),
        start: Option<Start>,
    ) -> Result<Page, Lost> {
        // A client may have made up its cursor.
        if channels.is_empty() || from >= to {
            return Ok(Page { messages: Vec::new(), rest: None });
        }
        let slices = 2.min(MAX_LISTS / channels.len()).max(1);
        let width = start.map_or_else(|| Width::of((from, to), slices as u64), |start| start.width);
        let Keys { mut sorted, end, width } = self.keys(channels, (from, to), width, slices)?;
        let skip = start.map_or(0, |start| start.skip);
        let has_time = |time: u64| move |(key, _): &&(Key, usize)| key.time == time;
        let skipped = sorted.iter().take(skip).take_while(has_time(from)).count();
        sorted.drain(..skipped);
        let (messages, taken) = self.messages(channels, &sorted)?;
        let rest = match sorted.get(taken) {
            Some((key, _)) => {
                let same = sorted[..taken].iter().rev().take_while(has_time(key.time)).count();
                let skipped = if key.time == from { skipped } else { 0 };
                Some(Rest { from: key.time, start: Start { width, skip: same + skipped } })
            }
            None => {
                let start = Start { width, skip: if end == from { skip } else { 0 } };
                (end < to).then_some(Rest { from: end, start })
            }
        };
        Ok(Page { messages, rest })
    }

    /// Lists keys, so many slices at once.
    fn keys(
        &mut self,
        channels: &[Channel],
        (from, to): (u64, u64),
        mut width: Width,
        slices: usize,
    ) -> Result<Keys, Lost> {
        const LEAST_BYTES: usize = MAX_LISTED_BYTES / 8;
        let (mut sorted, mut end, mut bytes) = (Vec::new(), from, MAX_LISTED_BYTES);
        let (mut lists, mut length) = (MAX_LISTS.max(channels.len()), 0);
        while end < to && sorted.len() < MAX_REPLAYED && bytes > LEAST_BYTES {
            let left = lists.min(self.most.saturating_sub(self.reads));
            let starts =
                iter::successors(Some(end), |start| Some(width.end_of(*start))).take_while(|start| *start < to);
            let starts: Vec<_> = starts.take(slices.min(left / channels.len())).collect();
            if starts.is_empty() {
                break;
            }
            let of_slice = |start| channels.iter().map(move |channel| width.prefix(channel, start));
            let prefixes: Vec<_> = starts.iter().copied().flat_map(of_slice).collect();
            self.reads += prefixes.len();
            lists = lists.saturating_sub(prefixes.len());
            let Listed { keys, bytes: read } = self.platform.list(&prefixes, bytes)?;
            bytes = bytes.saturating_sub(read);
            let mut listed = keys.into_iter();
            let mut is_whole = true;
            for start in starts {
                let slice: Option<Vec<_>> = listed.by_ref().take(channels.len()).collect();
                let Some(slice) = slice else {
                    is_whole = false;
                    break;
                };
                for (channel, keys) in slice.into_iter().enumerate() {
                    length += keys.iter().map(String::len).sum::<usize>();
                    let keys = keys.into_iter().filter_map(Key::parse).filter(|key| (end..to).contains(&key.time));
                    sorted.extend(keys.map(|key| (key, channel)));
                }
                end = width.end_of(start);
            }
            if !is_whole {
                // A page with many channels has no other try.
                width = width.narrower(if slices > 1 { 1 } else { 2 }).ok_or(Lost::Unreadable)?;
            }
        }
        let (found, most) = ((sorted.len(), length), (MAX_REPLAYED / 2, MAX_LISTED_BYTES / 2));
        let width = width.fitting(found, end.min(to) - from, to.saturating_sub(end), most);
        sorted.sort_by_key(|(key, _): &(Key, usize)| (key.time, key.id));
        Ok(Keys { sorted, end, width })
    }

    /// The messages of as many keys, from the first, as fit into a page, and how many keys that are. A message that was sent again
    /// is there once, as it was at first.
    fn messages(&mut self, channels: &[Channel], keys: &[(Key, usize)]) -> Result<(Vec<Stored>, usize), Lost> {
        let keys = &keys[..keys.len().min(MAX_REPLAYED)];
        let left = self.most.saturating_sub(self.reads);
        let long = keys.iter().map(|(key, _)| key).filter(|key| !key.has_value()).take(left);
        let long: Vec<_> = long.map(|key| key.text.clone()).collect();
        self.reads += long.len();
        let mut values = self.platform.lookup(&long, MAX_REPLAYED_BYTES)?.into_iter();
        let (mut messages, mut seen, mut bytes) = (Vec::new(), HashSet::new(), 0);
        for (taken, (key, channel)) in keys.iter().enumerate() {
            let value = if key.has_value() { Some(key.value()) } else { values.next() };
            let Some(value) = value else { return Ok((messages, taken)) };
            let value = value.ok_or(Lost::Unreadable)?;
            let stored = parse(&value, key, &channels[*channel]).ok_or(Lost::Unreadable)?;
            bytes += value.len() + stored.len() * AROUND;
            let is_full = bytes > MAX_REPLAYED_BYTES || messages.len() + stored.len() > MAX_REPLAYED;
            if is_full && !messages.is_empty() {
                return Ok((messages, taken));
            }
            messages.extend(stored.into_iter().filter(|stored| seen.insert(stored.message.id)));
        }
        Ok((messages, keys.len()))
    }
}

/// What an envelope has around its content, about, in bytes.
const AROUND: usize = 200;
