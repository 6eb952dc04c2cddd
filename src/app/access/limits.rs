//! Rate limits: how many broadcasts and connections the settings allow a client in a minute.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

use crate::app::{
    error::Error,
    http::Request,
    platform::{CannotCount, Counter, Platform},
};

/// The most of each in a minute; `None` if it is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Broadcasts from one address, and messages that one WebSocket publishes, each counted for each of its channels.
    pub(crate) broadcasts: Option<NonZeroU32>,
    /// Clients from one address that are handed off, or would be but for this limit.
    pub(crate) openings: Option<NonZeroU32>,
    /// Signatures and access tokens from one address that did not verify.
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
        self.count_for(platform, counter, &client(request), 1)
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
        let Some(limit) = self.of(counter) else { return Ok(()) };
        match platform.count(counter, &client(request), 0) {
            Ok(total) if total >= limit.get() => Err(Error::TooMany { counter, limit: limit.get() }),
            Ok(_) | Err(CannotCount) => Ok(()),
        }
    }

    /// Counts `n` more for an entry. If the platform cannot count, the request is allowed.
    ///
    /// # Errors
    /// [`Error::TooMany`] if that exceeds the limit.
    pub(crate) fn count_for(
        self,
        platform: &mut dyn Platform,
        counter: Counter,
        entry: &str,
        n: u32,
    ) -> Result<(), Error> {
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
            Counter::Failures => self.failures,
        }
    }
}

/// The key for rate limits: the IPv4 address, or the /64 prefix of an IPv6 address, which is what one client mostly has.
fn client(request: &dyn Request) -> String {
    let Some(address) = request.client_address() else { return String::new() };
    let network: IpAddr = match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        },
    };
    network.to_string()
}
