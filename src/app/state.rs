//! What a sandbox knows from earlier requests.

use std::collections::{BTreeMap, HashMap};

/// What a store has under a name.
pub type Lookup = Result<Option<String>, Unreadable>;

/// A store or an entry that could not be read, or an entry that is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Why an entry has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// The store has no such entry.
    Missing,
    /// It cannot be read as text.
    Unreadable,
    /// Too many entries are read.
    TooMany,
}

/// Makes the ids of a sandbox increase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counter {
    /// In milliseconds since 1970.
    pub(super) time: u64,
    /// Of 26 bits. It begins in the lower half.
    pub(super) count: u32,
}

impl Counter {
    const MAX: u32 = (1 << 26) - 1;

    /// Source: RFC 9562, section 6.2, method 1.
    fn after(self, now: u64, random: u32) -> Self {
        if self.time >= now && self.count < Self::MAX {
            Self { count: self.count + 1, ..self }
        } else {
            Self { time: now.max(self.time + 1), count: random & (Self::MAX >> 1) }
        }
    }
}

/// What a sandbox knows from earlier requests.
#[derive(Default)]
pub struct State {
    pub(super) entries: Entries,
    /// How many requests it has rejected, by their line for the log, which has nothing that a client chose.
    rejected: BTreeMap<String, u32>,
    /// The last id that was made.
    ids: Counter,
    /// Since when the history has been kept, once that is certain, in milliseconds since 1970.
    pub(super) epoch: Option<u64>,
}

/// The entries of an application that a sandbox has read, with which it serves until it retires.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) settings: HashMap<String, Lookup>,
    pub(super) secrets: HashMap<String, Lookup>,
    /// In this request.
    pub(super) secrets_read: usize,
}

impl State {
    /// Begins a request, which may read secrets again.
    pub const fn begin_request(&mut self) {
        self.entries.secrets_read = 0;
    }

    /// Returns what makes the next id greater than all before it, at a time in milliseconds since 1970.
    pub(super) fn next_id(&mut self, now: u64, random: u32) -> Counter {
        self.ids = self.ids.after(now, random);
        self.ids
    }

    /// Counts a rejected request.
    pub(super) fn count_rejected(&mut self, line: String) {
        *self.rejected.entry(line).or_default() += 1;
    }

    /// Lines for the log: how many requests were rejected, and why.
    pub fn rejected(&self) -> impl Iterator<Item = String> {
        self.rejected.iter().map(|(line, count)| format!("{line} (of {count} requests)"))
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn ids_increase_whatever_the_clock_does() {
        let first = Counter::default().after(1000, u32::MAX);
        assert_eq!(first, Counter { time: 1000, count: Counter::MAX >> 1 });
        // It stands, it goes back, and it goes on.
        assert_eq!(first.after(1000, 0), Counter { time: 1000, count: (Counter::MAX >> 1) + 1 });
        assert_eq!(first.after(1, 0), Counter { time: 1000, count: (Counter::MAX >> 1) + 1 });
        assert_eq!(first.after(1001, 7), Counter { time: 1001, count: 7 });
        // More in a millisecond than it counts.
        let last = Counter { time: 1000, count: Counter::MAX };
        assert_eq!(last.after(1000, 7), Counter { time: 1001, count: 7 });
        assert_eq!(last.after(1, 7), Counter { time: 1001, count: 7 });
    }
}
