//! Rate limits: how many broadcasts, connections and rejected checks the settings allow a client in a minute. What cannot be
//! counted, or has no address, passes.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

use crate::app::{
    error::Error,
    platform::{CannotCount, Counter, Platform},
    web::{CLIENT, Request},
};

/// The most of each in a minute; `None` if it is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Messages from one address that are published, each counted for each of its channels.
    pub(crate) broadcasts: Option<NonZeroU32>,
    /// Clients from one address that are handed off, or would be but for this limit.
    pub(crate) openings: Option<NonZeroU32>,
    /// Signatures from one address that were verified and rejected, and as many access tokens and Fastly keys.
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
        let (Some(limit), Some(client)) = (self.of(counter), client(request)) else { return Ok(()) };
        match platform.count(counter, &client, 0) {
            Ok(total) if total >= limit.get() => Err(Error::TooMany { counter, limit: limit.get() }),
            Ok(_) | Err(CannotCount) => Ok(()),
        }
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

    /// Counts operations on the store for a client, as so many openings.
    pub(crate) fn count_reads(self, platform: &mut dyn Platform, client: &str, reads: usize) {
        // What is too much is rejected when the client asks again.
        let _ = self.count_for(platform, Counter::Openings, client, u32::try_from(reads).unwrap_or(u32::MAX));
    }

    fn count_for(self, platform: &mut dyn Platform, counter: Counter, entry: &str, n: u32) -> Result<(), Error> {
        let Some(limit) = self.of(counter) else { return Ok(()) };
        match platform.count(counter, entry, n) {
            Ok(total) if total > limit.get() => Err(Error::TooMany { counter, limit: limit.get() }),
            Ok(_) | Err(CannotCount) => Ok(()),
        }
    }

    const fn of(self, counter: Counter) -> Option<NonZeroU32> {
        match counter {
            Counter::Broadcasts => self.broadcasts,
            Counter::Openings => self.openings,
            Counter::Signatures | Counter::Tokens => self.failures,
        }
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
