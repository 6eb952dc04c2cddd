//! What the paths of subscribers over plain HTTP share: the proxy holds the response.

use http::{
    HeaderName,
    header::{CACHE_CONTROL, HeaderValue},
};

use super::hand_off::hand_off;
use crate::{
    app::{
        access::{guard, proof::Source, right::Right, token::Identity},
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::{channels::Channels, envelope::Envelope, id::MessageId},
        query::{Format, Query},
    },
    grip::{Channel, Hold},
};

/// A client that the proxy asks for: its checks are done, and its response is to be held.
pub(crate) struct Subscriber {
    format: Format,
    channels: Channels,
    identity: Option<Identity>,
    since: MessageId,
}

/// Hands a client off to the proxy, and responds to the proxy when it asks for the client.
///
/// # Errors
/// As [`guard::check_opening`], [`hand_off`] and [`guard::check_token`].
pub(crate) fn subscribe(
    exchange: &mut Exchange<'_>,
    respond: impl Fn(&Subscriber) -> (Response, Hold),
) -> Result<Outcome, Error> {
    let source = guard::check_source(exchange)?;
    let Query { channels, format, .. } = Query::of(exchange.request)?;
    if source == Source::Client {
        guard::check_opening(exchange, &[Right::Read], &channels)?;
        return hand_off(exchange);
    }
    let rights = &[Right::Read];
    let verified = guard::check_token(exchange.request, exchange.settings, rights, channels.iter(), exchange.now)?;
    let identity = verified.map(|verified| verified.identity);
    let subscriber = Subscriber { format, channels, identity, since: MessageId::new(exchange.platform) };
    let (response, hold) = respond(&subscriber);
    // Nothing between the proxy and the client is to store, change or buffer it.
    let mut response = response
        .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"))
        .with_header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response.headers.extend(hold.headers());
    Ok(response.into())
}

impl Subscriber {
    /// The envelope that it gets first, and its id, if it asks for envelopes.
    pub(crate) fn welcome(&self) -> Option<(MessageId, String)> {
        let user = self.identity.as_ref().and_then(Identity::user);
        let welcome = || Envelope::welcome(None, user, self.since).to_json();
        self.wants_json().then(|| (self.since, welcome()))
    }

    /// Whether it asks for envelopes.
    pub(crate) fn wants_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Returns a hold of that kind on all of its channels.
    pub(crate) fn hold(&self, kind: fn(&Channel) -> Hold) -> Hold {
        let name = |channel| self.format.at_proxy(channel);
        let first = kind(&name(self.channels.first()));
        self.channels.iter().skip(1).fold(first, |hold, channel| hold.with_channel(&name(channel)))
    }
}
