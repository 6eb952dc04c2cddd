//! Rate limits: how many broadcasts, connections and rejected checks the settings allow a client in a minute, and in a second. What
//! cannot be counted, or has no address, passes.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

use crate::app::{
    error::Error,
    platform::{CannotCount, Counter, Platform},
    web::{CLIENT, Request},
};

/// The most of each; `None` if it is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Messages from one address that are published in a minute, each counted for each of its channels.
    pub(crate) broadcasts: Option<NonZeroU32>,
    /// And in a second.
    pub(crate) broadcasts_now: Option<NonZeroU32>,
    /// Clients from one address that are handed off in a minute, or would be but for this limit.
    pub(crate) openings: Option<NonZeroU32>,
    /// And in a second.
    pub(crate) openings_now: Option<NonZeroU32>,
    /// Signatures from one address that were verified and rejected in a minute, and as many access tokens and Fastly keys.
    pub(crate) failures: Option<NonZeroU32>,
}

impl Limits {
    /// Counts one more for the client's address.
    ///
    /// # Errors
    /// [`Error::TooMany`] if that exceeds the limit.
    pub(crate) fn count(
        self,
        request: &dyn Request,
        platform: &mut dyn Platform,
        counter: Counter,
    ) -> Result<(), Error> {
        client(request).map_or(Ok(()), |client| self.count_for(platform, counter, &client, 1))
    }

    /// Checks, without counting, whether one more for the client's address would be allowed.
    ///
    /// # Errors
    /// [`Error::TooMany`] if not.
    pub(crate) fn check(
        self,
        request: &dyn Request,
        platform: &mut dyn Platform,
        counter: Counter,
    ) -> Result<(), Error> {
        let Some(client) = client(request) else { return Ok(()) };
        self.each(counter).try_for_each(|(counter, limit)| match platform.count(counter, &client, 0) {
            Ok(total) if total >= limit.get() => Err(Error::TooMany { counter, limit: limit.get() }),
            Ok(_) | Err(CannotCount) => Ok(()),
        })
    }

    /// Counts what a WebSocket does: for the address that it had when it was handed off, else for the connection. With 0 it only
    /// checks.
    ///
    /// # Errors
    /// [`Error::TooMany`] if that exceeds the limit.
    pub(crate) fn count_of_connection(
        self,
        request: &dyn Request,
        platform: &mut dyn Platform,
        connection_id: &str,
        (counter, n): (Counter, u32),
    ) -> Result<(), Error> {
        let client = handed_off(request).map(network);
        self.count_for(platform, counter, client.as_deref().unwrap_or(connection_id), n)
    }

    /// Counts operations on the store for a client, as so many openings in a minute.
    pub(crate) fn count_reads(self, platform: &mut dyn Platform, client: &str, reads: usize) {
        if self.openings.is_some() {
            // What is too much is rejected when the client asks again. What cannot be counted is not limited.
            let _ = platform.count(Counter::Openings, client, u32::try_from(reads).unwrap_or(u32::MAX));
        }
    }

    fn count_for(self, platform: &mut dyn Platform, counter: Counter, entry: &str, n: u32) -> Result<(), Error> {
        self.each(counter).try_for_each(|(counter, limit)| match platform.count(counter, entry, n) {
            Ok(total) if total > limit.get() => Err(Error::TooMany { counter, limit: limit.get() }),
            Ok(_) | Err(CannotCount) => Ok(()),
        })
    }

    /// The counters of one kind, and their limits.
    fn each(self, counter: Counter) -> impl Iterator<Item = (Counter, NonZeroU32)> {
        let limits = match counter {
            Counter::Broadcasts | Counter::BroadcastsNow => {
                [(Counter::BroadcastsNow, self.broadcasts_now), (Counter::Broadcasts, self.broadcasts)]
            }
            Counter::Openings | Counter::OpeningsNow => {
                [(Counter::OpeningsNow, self.openings_now), (Counter::Openings, self.openings)]
            }
            Counter::Signatures | Counter::Tokens => [(counter, self.failures), (counter, None)],
        };
        limits.into_iter().filter_map(|(counter, limit)| Some((counter, limit?)))
    }
}

/// The entry of a client; `None` if its address is not known.
pub(crate) fn client(request: &dyn Request) -> Option<String> {
    request.client_address().map(network)
}

/// The address that a client had when it was handed off; `None` if it is not known.
pub(crate) fn handed_off(request: &dyn Request) -> Option<IpAddr> {
    request.header(CLIENT).value()?.parse().ok()
}

/// The IPv4 address, or the /64 prefix of an IPv6 address, which is what one client mostly has.
pub(crate) fn network(address: IpAddr) -> String {
    let network: IpAddr = match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        },
    };
    network.to_string()
}
