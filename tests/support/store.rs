//! A KV store in memory that is as hostile as Fastly's may be.

use std::{collections::HashSet, time::Duration};

use fanout_edge::app::platform::{KeyPage, Listed, StoreError};
use serde_json::json;

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
    /// How many lookups do not see what is there.
    pub hidden: usize,
    /// Whether the service has no such store.
    pub is_missing: bool,
    /// How many bytes of keys were listed.
    pub listed: usize,
    /// All keys that were ever inserted.
    written: HashSet<String>,
    /// What `finish_inserts` returns.
    inserted: Option<StoreError>,
}

impl Memory {
    fn count(&mut self) -> Result<(), StoreError> {
        if self.is_missing {
            return Err(StoreError::Missing);
        }
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
                assert!(self.written.insert(key.to_owned()), "a key is written twice: {key}");
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
            let hidden = self.hidden > 0;
            self.hidden = self.hidden.saturating_sub(1);
            let value = self
                .visible()
                .filter(|_| !hidden)
                .find(|(known, ..)| known == key)
                .map(|(_, value, ..)| value.clone().into_bytes());
            match rest.checked_sub(value.as_ref().map_or(0, Vec::len)) {
                Some(left) => rest = left,
                None => break,
            }
            values.push(value);
        }
        Ok(values)
    }

    pub fn list(&mut self, prefixes: &[String], limit: usize) -> Result<Listed, StoreError> {
        const MAX_KEYS: usize = 1000;
        let (mut lists, mut rest) = (Vec::new(), limit);
        for prefix in prefixes {
            // Fastly rejects others with 400.
            check_name(prefix);
            self.count()?;
            let most = self.page.unwrap_or(MAX_KEYS);
            let mut keys: Vec<_> = self.visible().map(|(key, ..)| key).filter(|key| key.starts_with(prefix)).collect();
            let next = (keys.len() > most).then(|| "next".to_owned());
            keys.truncate(most);
            let page =
                json!({ "data": keys, "meta": { "limit": most, "prefix": prefix, "next_cursor": next } }).to_string();
            let fits = rest.checked_sub(page.len());
            rest = fits.unwrap_or(rest);
            let page = fits.and_then(|_| KeyPage::parse(page.as_bytes()).expect("a page").into_all());
            lists.push(page);
        }
        self.listed += limit - rest;
        Ok(Listed { keys: lists, bytes: limit - rest })
    }
}

/// What Fastly accepts in a prefix, and what says nothing of a channel.
fn check_name(name: &str) {
    let (name, value) = name.split_once('.').unwrap_or((name, ""));
    assert!(name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')), "{name}");
    assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{value}");
    assert!((1..=1024).contains(&(name.len() + 1 + value.len())), "{name}");
}
