//! The KV Store of the history.

use std::time::Duration;

use crate::app::{
    platform::{HISTORY_STORE, KeyPage, Listed, Store, StoreError},
    web::BodyError,
};
use fastly::{
    Body, KVStore,
    handle::BodyHandle,
    kv_store::{InsertMode, KVStoreError, PendingListHandle},
};
use fastly_sys::fastly_kv_store::{self, KvError};

use super::{Fastly, read};

impl Fastly<'_> {
    /// The store, for so many operations.
    pub(super) fn store(&mut self, operations: usize) -> Result<&KVStore, StoreError> {
        self.usage.store_operations += operations;
        if self.store.is_none() {
            self.store = KVStore::open(HISTORY_STORE).map_err(failed)?;
        }
        self.store.as_ref().ok_or(StoreError::Missing)
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

/// Waits for a page of keys. The SDK (fastly 0.13.2, `pending_list_wait`) reads it from the host byte by byte, so that a thousand
/// keys take a second. This can go when it reads the whole body, or wraps it in a `BufReader`.
#[expect(unsafe_code, reason = "the only way to the body of the page")]
fn wait_for_list(list: &PendingListHandle) -> Result<Body, StoreError> {
    const NO_BODY: u32 = u32::MAX - 1;
    let (mut body, mut error) = (NO_BODY, KvError::Uninitialized);
    // SAFETY: both pointers are to variables that live during the call. The handle is of a list that was begun and that nobody
    // else waits for, as each is waited for once.
    let status = unsafe { fastly_kv_store::pending_list_wait_v2(list.as_u32(), &raw mut body, &raw mut error) };
    match error {
        // SAFETY: the host returned this handle just now, so nobody else has it.
        KvError::Ok if status.is_ok() && body != NO_BODY => Ok(unsafe { BodyHandle::from_u32(body) }.into()),
        KvError::PayloadTooLarge => Err(StoreError::TooLarge),
        _ => Err(StoreError::Failed),
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
        let (mut values, mut rest) = (Vec::with_capacity(keys.len()), limit);
        for lookup in begun {
            values.push(match store.pending_lookup_wait(lookup?) {
                Ok(mut found) => match read(found.take_body(), rest) {
                    Ok(value) => {
                        rest -= value.len();
                        Some(value)
                    }
                    Err(BodyError::TooLarge) => break,
                    Err(BodyError::Incomplete) => return Err(StoreError::Failed),
                },
                Err(KVStoreError::ItemNotFound) => None,
                Err(error) => return Err(failed(error)),
            });
        }
        Ok(values)
    }

    fn list(&mut self, prefixes: &[String], limit: usize) -> Result<Listed, StoreError> {
        /// The longest page that there is.
        const MAX_KEYS: u32 = 1000;
        let store = self.store(prefixes.len())?;
        let begin = |prefix: &String| store.build_list().prefix(prefix).limit(MAX_KEYS).execute_async().map_err(failed);
        let begun: Vec<_> = prefixes.iter().map(begin).collect();
        let mut listed = Listed::default();
        for list in begun {
            let page = match wait_for_list(&list?) {
                Ok(page) => read(page, limit - listed.bytes),
                Err(StoreError::TooLarge) => Err(BodyError::TooLarge),
                Err(error) => {
                    eprintln!("the KV store `{HISTORY_STORE}` failed to list keys: {error:?}");
                    return Err(error);
                }
            };
            listed.keys.push(match page {
                Ok(page) => {
                    listed.bytes += page.len();
                    KeyPage::parse(&page).ok_or(StoreError::Failed)?.into_all()
                }
                Err(BodyError::TooLarge) => None,
                Err(BodyError::Incomplete) => return Err(StoreError::Failed),
            });
        }
        Ok(listed)
    }
}
