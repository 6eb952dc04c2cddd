//! The checks before a client may subscribe or publish, in their order.

use super::{
    proof::{self, Proof, Source},
    right::Right,
    token::{self, Verified},
};
use crate::{
    app::{
        bounds::MAX_QUERY, error::Error, exchange::Exchange, http::Request, messages::channels::Channels,
        platform::Counter, settings::Settings,
    },
    grip::{Channel, Header, Tickets},
};

/// Checks a client before it is handed off, so that an unauthorized one costs no connection: its query, its origin and its
/// token. [`count_opening`] follows.
///
/// # Errors
/// [`Error::QueryTooLong`], [`Error::Origin`], [`Error::Setting`], or as [`check_token`].
pub(crate) fn check_opening(exchange: &mut Exchange<'_>, rights: &[Right], channels: &Channels) -> Result<(), Error> {
    check_query(exchange.request.query())?;
    check_origin(exchange)?;
    let verifies = verifies_token(exchange)?;
    limit_failures(exchange, verifies, |exchange| {
        check_token(exchange.request, exchange.settings, rights, channels.iter(), exchange.now).map(drop)
    })
}

/// Says where a request comes from, as [`proof::source`] does, unless too many from its address did not verify.
///
/// # Errors
/// [`Error::TooMany`], or as [`proof::source`].
pub(crate) fn check_source(exchange: &mut Exchange<'_>) -> Result<Source, Error> {
    let is_signed = exchange.request.header("grip-sig") != Header::Missing;
    limit_failures(exchange, is_signed, |exchange| proof::source(exchange.request, exchange.settings, exchange.now))
}

/// Verifies the ticket of a connection's request, else its signature, unless too many from its address did not verify.
///
/// # Errors
/// [`Error::NotProxied`] if it has neither, otherwise as [`check_source`].
pub(crate) fn check_connection<'a>(exchange: &mut Exchange<'a>) -> Result<Proof<'a>, Error> {
    let tickets = proof::tickets(exchange.request, exchange.settings);
    let verify = |(tickets, scope): &(&Tickets, String)| tickets.verify(exchange.request, scope, exchange.now);
    if let Some(expires_at) = tickets.as_ref().and_then(verify) {
        return Ok(Proof::Ticket { expires_at });
    }
    match check_source(exchange)? {
        Source::Proxy { expires_at } => Ok(Proof::Signature { expires_at, tickets }),
        Source::Client => Err(Error::NotProxied),
    }
}

/// Whether there is a token that is to be verified.
fn verifies_token(exchange: &Exchange<'_>) -> Result<bool, Error> {
    Ok(exchange.settings.access.as_ref()?.is_some() && token::of_request(exchange.request).is_ok())
}

/// Runs a check that may verify a signature, and counts it for the client's address if it does not verify.
fn limit_failures<T>(
    exchange: &mut Exchange<'_>,
    verifies: bool,
    check: impl FnOnce(&Exchange<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    // Limits that cannot be used do not end open connections: what they guard is rejected elsewhere.
    let (true, Ok(limits)) = (verifies, &exchange.settings.limits) else { return check(exchange) };
    limits.check(exchange.request, exchange.platform, Counter::Failures)?;
    let checked = check(exchange);
    if let Err(Error::Signature(_) | Error::Token(_)) = checked {
        // The limit is enforced by the check before.
        let _ = limits.count(exchange.request, exchange.platform, Counter::Failures);
    }
    checked
}

/// Counts a client that is handed off next.
///
/// # Errors
/// [`Error::TooMany`], or [`Error::Setting`].
pub(crate) fn count_opening(exchange: &mut Exchange<'_>) -> Result<(), Error> {
    let limits = exchange.settings.limits.as_ref()?;
    limits.count(exchange.request, exchange.platform, Counter::Openings)
}

/// Checks whether a client that is not handed off would be allowed to be, without counting it.
///
/// # Errors
/// As [`count_opening`].
pub(crate) fn check_opening_limit(exchange: &mut Exchange<'_>) -> Result<(), Error> {
    let limits = exchange.settings.limits.as_ref()?;
    limits.check(exchange.request, exchange.platform, Counter::Openings)
}

/// Checks a broadcast before it is published: its origin, the rate limit, and a `Fastly-Key` or its token. Returns the user
/// whom the token names.
///
/// # Errors
/// [`Error::Origin`], [`Error::TooMany`], [`Error::FastlyKey`], [`Error::Setting`], or as [`check_token`].
pub(crate) fn check_broadcast(exchange: &mut Exchange<'_>, channel: &Channel) -> Result<Option<String>, Error> {
    check_origin(exchange)?;
    let limits = exchange.settings.limits.as_ref()?;
    limits.count(exchange.request, exchange.platform, Counter::Broadcasts)?;
    let has_key =
        matches!(exchange.settings.access, Ok(Some(_))) && exchange.request.header("fastly-key") != Header::Missing;
    if has_key && exchange.platform.has_valid_fastly_key() {
        return Ok(None);
    }
    let verifies = verifies_token(exchange)?;
    let checked = limit_failures(exchange, verifies, |exchange| {
        check_token(exchange.request, exchange.settings, &[Right::Write], [channel], exchange.now)
    });
    match checked {
        Err(Error::NoToken) if has_key => Err(Error::FastlyKey),
        checked => Ok(checked?.and_then(|verified| verified.identity.into_user())),
    }
}

/// Verifies the access token of a request and checks that it grants the rights on every channel. `None` if the service is
/// open.
///
/// # Errors
/// [`Error::NoToken`], [`Error::Forbidden`], [`Error::Setting`], or as [`token::verify`].
pub(crate) fn check_token<'c>(
    request: &dyn Request,
    settings: &Settings,
    rights: &[Right],
    channels: impl IntoIterator<Item = &'c Channel, IntoIter: Clone>,
    now: u64,
) -> Result<Option<Verified>, Error> {
    let Some(keys) = settings.access.as_ref()? else { return Ok(None) };
    let verified = token::verify(&token::of_request(request)?, keys, now)?;
    let channels = channels.into_iter();
    for right in rights {
        if let Some(channel) = channels.clone().find(|channel| !verified.identity.grants(*right, channel)) {
            return Err(Error::Forbidden(*right, channel.clone()));
        }
    }
    Ok(Some(verified))
}

/// Browsers let any page open a WebSocket, so origins are checked for those, too.
fn check_origin(exchange: &Exchange<'_>) -> Result<(), Error> {
    let origins = exchange.settings.origins.as_ref()?;
    if origins.allow(exchange.request, exchange.platform.is_local()) { Ok(()) } else { Err(Error::Origin) }
}

/// Whether the proxy accepts a query of that length.
fn check_query(query: &str) -> Result<(), Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~=&+,:/?*".contains(&byte);
    let length: usize = query.bytes().map(|byte| if is_plain(byte) { 1 } else { 3 }).sum();
    if length <= MAX_QUERY { Ok(()) } else { Err(Error::QueryTooLong) }
}
