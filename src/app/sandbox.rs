//! How long a sandbox serves requests, one after the other. Fastly's limits are "per execution", which may be the whole life
//! of a sandbox: so it retires before it could meet one. Source: Fastly's limits of Compute, those of trial accounts.

use std::time::Duration;

use super::{
    bounds::{MAX_BACKEND_REQUESTS, MAX_OPERATIONS},
    settings::Settings,
};

/// Fastly allows 60 s.
const LIFETIME: Duration = Duration::from_secs(40);

/// Fastly allows 50 ms. A request that verifies two ES256 signatures takes 2.
const CPU_MS: u64 = 25;

/// Fastly allows 10.
const BACKEND_REQUESTS: usize = 10;

/// Nobody says how many operations on a KV store one execution may make: as many as one request makes at most.
const STORE_OPERATIONS: usize = MAX_OPERATIONS;

/// Fastly allows 128.
const MEMORY_MIB: u32 = 32;

/// How long a sandbox waits for a request: waiting costs memory.
const MAX_IDLE: Duration = Duration::from_secs(5);

/// After how long settings that could not be used are read again, by another sandbox: one reads them only once, as Fastly
/// allows 5 secret reads and 32 of the Config Store.
const SETTINGS_LIFETIME: Duration = Duration::from_secs(2);

/// What a sandbox has used up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// How long it lives.
    pub age: Duration,
    /// How many requests it has served.
    pub requests: u32,
    /// How many requests it has made to backends.
    pub backend_requests: usize,
    /// How many operations it has made on the KV store.
    pub store_operations: usize,
    /// The CPU time, in milliseconds.
    pub cpu_ms: u64,
    /// The memory, in MiB.
    pub memory_mib: u32,
}

impl Usage {
    /// How long the sandbox may wait for another request; `None` if it retires.
    pub fn may_wait(&self, settings: &Settings) -> Option<Duration> {
        let lifetime = if settings.are_incomplete() { SETTINGS_LIFETIME } else { LIFETIME };
        let rest = lifetime.checked_sub(self.age).filter(|rest| !rest.is_zero())?;
        let is_fresh = self.requests < settings.sandbox_requests()
            && self.backend_requests + MAX_BACKEND_REQUESTS < BACKEND_REQUESTS
            && self.store_operations < STORE_OPERATIONS
            && self.cpu_ms < CPU_MS
            && self.memory_mib <= MEMORY_MIB;
        is_fresh.then(|| rest.min(MAX_IDLE))
    }
}
