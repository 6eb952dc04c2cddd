//! The KV Store of the history.

use std::time::Duration;

use fanout_edge::app::{
    http::BodyError,
    platform::{HISTORY_STORE, List, Page, Store, StoreError},
};
use fastly::{
    KVStore,
    kv_store::{InsertMode, KVStoreError},
};

use super::{Fastly, read};

impl Fastly<'_> {
    /// The store, for so many operations.
    pub(super) fn store(&mut self, operations: usize) -> Result<&KVStore, StoreError> {
        self.usage.store_operations += operations;
        if self.store.is_none() {
            self.store = KVStore::open(HISTORY_STORE).map_err(failed)?;
        }
        self.store.as_ref().ok_or(StoreError::Failed)
    }
}

fn failed(error: KVStoreError) -> StoreError {
    eprintln!("the KV store `{HISTORY_STORE}` failed: {error}");
    match error {
        KVStoreError::TooManyRequests => StoreError::TooMany,
        KVStoreError::ItemPayloadTooLarge => StoreError::TooLarge,
        _ => StoreError::Failed,
    }
}

impl Store for Fastly<'_> {
    fn begin_insert(&mut self, key: &str, value: &str, time_to_live: Duration) {
        let insert = |store: &KVStore| store.build_insert().time_to_live(time_to_live).execute_async(key, value);
        let begun = self.store(1).and_then(|store| insert(store).map_err(failed));
        self.inserts.push(begun);
    }

    fn finish_inserts(&mut self) -> Result<(), StoreError> {
        let inserts = std::mem::take(&mut self.inserts);
        let store = self.store(0)?;
        let finish = |insert: Result<_, _>| store.pending_insert_wait(insert?).map_err(failed);
        // All of them end, whatever becomes of the first.
        let results: Vec<_> = inserts.into_iter().map(finish).collect();
        results.into_iter().collect()
    }

    fn insert_new(&mut self, key: &str, value: String) -> Result<(), StoreError> {
        match self.store(1)?.build_insert().mode(InsertMode::Add).execute(key, value) {
            Ok(()) | Err(KVStoreError::ItemPreconditionFailed) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    fn lookup(&mut self, keys: &[String], limit: usize) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let store = self.store(keys.len())?;
        let begin = |key: &String| store.build_lookup().execute_async(key).map_err(failed);
        let begun: Vec<_> = keys.iter().map(begin).collect();
        let mut rest = limit;
        let finish = |lookup: Result<_, _>| match store.pending_lookup_wait(lookup?) {
            Ok(mut found) => {
                let value = read(found.take_body(), rest).map_err(|error| match error {
                    BodyError::TooLarge => StoreError::TooLarge,
                    BodyError::Incomplete => StoreError::Failed,
                })?;
                rest -= value.len();
                Ok(Some(value))
            }
            Err(KVStoreError::ItemNotFound) => Ok(None),
            Err(error) => Err(failed(error)),
        };
        begun.into_iter().map(finish).collect()
    }

    fn list(&mut self, lists: &[List]) -> Result<Vec<Page>, StoreError> {
        /// The longest page that there is.
        const MAX_KEYS: u32 = 1000;
        let store = self.store(lists.len())?;
        let begin = |list: &List| {
            let all = store.build_list().prefix(&list.prefix).limit(MAX_KEYS);
            list.cursor.iter().fold(all, |list, cursor| list.cursor(cursor)).execute_async().map_err(failed)
        };
        let begun: Vec<_> = lists.iter().map(begin).collect();
        let finish = |list: Result<_, _>| {
            let page = store.pending_list_wait(list?).map_err(failed)?;
            let next = page.next_cursor();
            Ok(Page { keys: page.into_keys(), next })
        };
        begun.into_iter().map(finish).collect()
    }
}
