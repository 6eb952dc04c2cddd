//! What the paths of subscribers over plain HTTP share: the proxy holds the response.

use http::{
    HeaderName,
    header::{CACHE_CONTROL, HeaderValue},
};

use crate::{
    app::{
        access::{
            guard,
            proof::{self, Source},
            right::Right,
        },
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::channels::Channels,
        platform::SELF_BACKEND,
    },
    grip::{Channel, Hold},
};

/// Hands a client off to the proxy, and responds to the proxy when it asks for the client: with the response, held.
pub(crate) fn subscribe(
    exchange: &mut Exchange<'_>,
    response: Response,
    hold: impl Fn(&Channels) -> Hold,
) -> Result<Outcome, Error> {
    let source = proof::source(exchange.request, exchange.settings, exchange.now)?;
    let channels = Channels::of(exchange.request)?;
    match source {
        Source::Client => {
            guard::check_opening(exchange, &[Right::Read], &channels)?;
            guard::count_opening(exchange)?;
            Ok(Outcome::HandOff { backend: SELF_BACKEND })
        }
        Source::Proxy { .. } => {
            guard::check_token(exchange.request, exchange.settings, &[Right::Read], channels.iter(), exchange.now)?;
            // Nothing between the proxy and the client is to store, change or buffer it.
            let mut response = response
                .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"))
                .with_header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
            response.headers.extend(hold(&channels).headers());
            Ok(response.into())
        }
    }
}

/// Returns a hold of that kind on all of the channels, by the names that the transport has for them.
pub(crate) fn hold(kind: fn(&Channel) -> Hold, channels: &Channels, name: fn(&Channel) -> Channel) -> Hold {
    let first = kind(&name(channels.first()));
    channels.iter().skip(1).fold(first, |hold, channel| hold.with_channel(&name(channel)))
}
