//! How long a query may be; and how many broadcasts and openings one client may make in a minute, where the settings
//! say so.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

use super::{
    Reply, Request,
    http::{CannotCount, Counter},
};

/// How long a client that made too many waits, in seconds: as long as they are counted.
const WINDOW: &str = "60";

/// The longest query that is handed off, in bytes as the proxy writes them. Pushpin takes URLs up to 4096 bytes, and
/// answers 500 to longer ones.
const MAX_QUERY: usize = 3500;

/// The most of each in a minute; `None` where they are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Broadcasts of one address, and messages that one WebSocket publishes.
    pub broadcasts: Option<NonZeroU32>,
    /// Clients of one address that are handed off.
    pub openings: Option<NonZeroU32>,
}

impl Limits {
    /// Counts one more for the address of a client.
    ///
    /// # Errors
    /// A 429 where there are too many.
    pub(super) fn count(self, request: &dyn Request, counter: Counter) -> Result<(), Reply> {
        let Some(limit) = self.of(counter) else { return Ok(()) };
        let address = request.client_address().map_or_else(String::new, |address| network(address).to_string());
        if self.allows(request, counter, &address, 1) {
            return Ok(());
        }
        let what = match counter {
            Counter::Broadcasts => "broadcasts",
            Counter::Openings => "connections",
        };
        let reply = Reply::text(429, format_args!("Too many {what}: at most {limit} in a minute"));
        Err(reply.with_header("retry-after", WINDOW).with_log(format_args!("refused one of too many {what}")))
    }

    /// Counts so many more of an entry, and says whether they are not too many. What cannot be counted is allowed: the
    /// limit is there to keep the service up.
    pub(super) fn allows(self, request: &dyn Request, counter: Counter, entry: &str, more: u32) -> bool {
        let Some(limit) = self.of(counter) else { return true };
        match request.count(counter, entry, more) {
            Ok(count) => count <= limit.get(),
            Err(CannotCount) => true,
        }
    }

    const fn of(self, counter: Counter) -> Option<NonZeroU32> {
        match counter {
            Counter::Broadcasts => self.broadcasts,
            Counter::Openings => self.openings,
        }
    }
}

/// What one client has of the addresses: of IPv6 he mostly has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        },
    }
}

/// Whether the proxy takes the query.
///
/// # Errors
/// A 414 where it is too long.
pub(super) fn fits(query: &str) -> Result<(), Reply> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~=&+,:/?*".contains(&byte);
    let length: usize = query.bytes().map(|byte| if is_plain(byte) { 1 } else { 3 }).sum();
    if length <= MAX_QUERY {
        return Ok(());
    }
    Err(Reply::text(414, format_args!("The query is too long: at most {MAX_QUERY} bytes, percent-encoded")))
}
