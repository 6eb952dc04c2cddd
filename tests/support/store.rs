//! A KV store in memory that is as hostile as Fastly's may be.

use std::time::Duration;

use fanout_edge::app::platform::{List, Page, StoreError};

/// The store, and how it fails.
#[derive(Default)]
pub struct Memory {
    /// Keys, values, when they were inserted and when they expire, in milliseconds since 1970.
    pub entries: Vec<(String, String, u64, u64)>,
    /// How many operations there were.
    pub operations: usize,
    /// The operation, counted from 1, that fails with this, and all after it.
    pub fails_from: Option<(usize, StoreError)>,
    /// How long an insert is not seen, in milliseconds.
    pub lag: u64,
    /// How many keys a page has, if not all.
    pub page: Option<usize>,
    /// The time, in milliseconds since 1970, at the last call.
    pub clock: u64,
    /// What `finish_inserts` returns.
    inserted: Option<StoreError>,
}

impl Memory {
    fn count(&mut self) -> Result<(), StoreError> {
        self.operations += 1;
        match self.fails_from {
            Some((from, error)) if self.operations >= from => Err(error),
            _ => Ok(()),
        }
    }

    /// The keys as a reader sees them, in no order. Those that have expired are still there: Fastly deletes them late.
    fn visible(&self) -> impl Iterator<Item = &(String, String, u64, u64)> {
        self.entries.iter().rev().filter(|(_, _, inserted, _)| inserted + self.lag <= self.clock)
    }

    pub fn begin_insert(&mut self, key: &str, value: &str, time_to_live: Duration) {
        check_name(key);
        match self.count() {
            Ok(()) => {
                // Fastly takes one write a second for a key.
                assert!(self.entries.iter().all(|(known, ..)| known != key), "a key is written twice: {key}");
                let expires = self.clock + u64::try_from(time_to_live.as_millis()).expect("a time");
                self.entries.push((key.to_owned(), value.to_owned(), self.clock, expires));
            }
            Err(error) => self.inserted = Some(error),
        }
    }

    pub fn finish_inserts(&mut self) -> Result<(), StoreError> {
        self.inserted.take().map_or(Ok(()), Err)
    }

    pub fn insert_new(&mut self, key: &str, value: String) -> Result<(), StoreError> {
        check_name(key);
        self.count()?;
        if self.entries.iter().all(|(known, ..)| known != key) {
            self.entries.push((key.to_owned(), value, self.clock, u64::MAX));
        }
        Ok(())
    }

    pub fn lookup(&mut self, keys: &[String], limit: usize) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut rest = limit;
        let mut values = Vec::new();
        for key in keys {
            self.count()?;
            let value =
                self.visible().find(|(known, ..)| known == key).map(|(_, value, ..)| value.clone().into_bytes());
            rest = rest.checked_sub(value.as_ref().map_or(0, Vec::len)).ok_or(StoreError::TooLarge)?;
            values.push(value);
        }
        Ok(values)
    }

    pub fn list(&mut self, lists: &[List]) -> Result<Vec<Page>, StoreError> {
        let mut pages = Vec::new();
        for List { prefix, cursor } in lists {
            // Fastly rejects others with 400.
            check_name(prefix);
            self.count()?;
            let all: Vec<_> = self.visible().filter(|(key, ..)| key.starts_with(prefix)).map(|(key, ..)| key).collect();
            let from: usize = cursor.as_ref().map_or(0, |cursor| cursor.parse().expect("a cursor of this store"));
            let to = self.page.map_or(all.len(), |page| (from + page).min(all.len()));
            let keys = all[from..to].iter().map(|key| (*key).clone()).collect();
            pages.push(Page { keys, next: (to < all.len()).then(|| to.to_string()) });
        }
        Ok(pages)
    }
}

/// What Fastly accepts in a prefix, and what says nothing of a channel.
fn check_name(name: &str) {
    assert!(name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')), "{name}");
    assert!((1..=1024).contains(&name.len()), "{name}");
}
