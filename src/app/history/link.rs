//! The next link of an event stream: the proxy requests it once, after the stream began, for what was published before it had
//! the subscription.
//!
//! # Format
//! `/api/events/next/FORMAT/FROM/EPOCH/CHANNEL:CHANNEL/MAC`: from where on, in seconds since 1970, and since when messages had
//! been kept when the stream began, in milliseconds. The proxy sends none of
//! the client's headers along, and gives all streams with the same path the same response: so all that decides is in the
//! path. The MAC (HMAC-SHA256, base64url) says that the service made the path for a client that may read these channels.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use hmac_sha256::HMAC;

use crate::app::{
    messages::channels::{self, Channels},
    query::Format,
};

/// What the paths of all links begin with.
pub(crate) const PATH: &str = "/api/events/next/";

/// For how long a link is valid, in seconds: as long as a `Grip-Sig`. The proxy requests it only when there is
/// another message, or after two minutes.
const LIFETIME: u64 = 3600;

/// Makes and verifies next links.
#[derive(Clone)]
pub(crate) struct Links(Vec<u8>);

/// What a stream has to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) format: Format,
    pub(crate) channels: Channels,
    /// In seconds since 1970.
    pub(crate) from: u64,
    /// Since when messages had been kept when the stream began, in milliseconds since 1970; 0 if that was not known.
    pub(crate) epoch: u64,
}

impl Links {
    /// With the key of the MAC.
    pub(crate) const fn new(key: Vec<u8>) -> Self {
        Self(key)
    }

    /// The path of a link.
    pub(crate) fn path(&self, link: &Link) -> String {
        let names: Vec<_> = link.channels.iter().map(|channel| channel.as_str()).collect();
        let text = format!("{}/{}/{}/{}", link.format.name(), link.from, link.epoch, names.join(":"));
        let mac = BASE64_URL_SAFE_NO_PAD.encode(HMAC::mac(&text, &self.0));
        format!("{PATH}{text}/{mac}")
    }

    /// The link that has a path, at a time in seconds since 1970; `None` if this service did not make it, or not lately.
    pub(crate) fn verify(&self, path: &str, now: u64) -> Option<Link> {
        let (text, mac) = path.strip_prefix(PATH)?.rsplit_once('/')?;
        let mac: [u8; 32] = BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?.try_into().ok()?;
        if !HMAC::verify(text, &self.0, &mac) {
            return None;
        }
        let mut parts = text.split('/');
        let (format, from) = (Format::parse(parts.next()?)?, parts.next()?.parse().ok()?);
        let (epoch, names) = (parts.next()?.parse().ok()?, parts.next()?);
        let mut channels = Channels::default();
        for name in names.split(':') {
            channels.add(channels::parse(name).ok()?).ok()?;
        }
        (now <= from + LIFETIME).then_some(Link { format, channels, from, epoch })
    }
}
