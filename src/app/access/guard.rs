//! The checks before a client may subscribe or publish, in their order.

use super::{
    proof::{self, Proof, Source},
    right::Right,
    token::{self, Identity, Verified},
};
use crate::{
    app::{
        error::Error, exchange::Exchange, http::Request, messages::channels::Channels, platform::Counter,
        query::Target, settings::Settings,
    },
    grip::{Channel, Header, Tickets},
};

/// Checks a client before it is handed off, so that an unauthorized one costs no connection: its origin and its token. [`count_opening`] follows.
///
/// # Errors
/// [`Error::Origin`], [`Error::Setting`], or as [`check_token`].
pub(crate) fn check_opening(
    exchange: &mut Exchange<'_>,
    rights: &[Right],
    channels: &Channels,
) -> Result<Option<Verified>, Error> {
    check_origin(exchange)?;
    limit_tokens(exchange, |exchange| {
        check_token(exchange.request, exchange.settings, rights, channels.iter(), exchange.now)
    })
}

/// Says where a request comes from, as [`proof::source`] does, unless too many from its address did not verify.
///
/// # Errors
/// [`Error::TooMany`], or as [`proof::source`].
pub(crate) fn check_source(exchange: &mut Exchange<'_>) -> Result<Source, Error> {
    let is_signed = exchange.request.header("grip-sig") != Header::Missing;
    let check = |exchange: &Exchange<'_>| proof::source(exchange.request, exchange.settings, exchange.now);
    if is_signed { limit_failures(exchange, Counter::Signatures, check) } else { check(exchange) }
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

/// Runs a check of the access token, unless too many from this address were rejected.
fn limit_tokens<T>(
    exchange: &mut Exchange<'_>,
    check: impl FnOnce(&Exchange<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let verifies = matches!(exchange.settings.access, Ok(Some(_))) && token::of_request(exchange.request).is_ok();
    if !verifies {
        return check(exchange);
    }
    exchange.settings.limits.as_ref()?;
    limit_failures(exchange, Counter::Tokens, check)
}

/// Runs a check that verifies a signature, and counts it for the client's address if that was in vain.
fn limit_failures<T>(
    exchange: &mut Exchange<'_>,
    counter: Counter,
    check: impl FnOnce(&Exchange<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    // Limits that cannot be used neither end open connections nor keep the operator from seeing it.
    let Ok(limits) = &exchange.settings.limits else { return check(exchange) };
    limits.check(exchange.request, exchange.platform, counter)?;
    let checked = check(exchange);
    if checked.as_ref().is_err_and(Error::costs_verification) {
        // The limit is enforced by the check before.
        let _ = limits.count(exchange.request, exchange.platform, counter);
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

/// Who sends a broadcast.
pub(crate) enum Sender {
    /// The operator of the service, with a `Fastly-Key`.
    Operator,
    /// A client, and what its token says of it.
    Client(Option<Identity>),
}

impl Sender {
    /// What the token says of it.
    pub(crate) const fn identity(&self) -> Option<&Identity> {
        if let Self::Client(Some(identity)) = self { Some(identity) } else { None }
    }
}

/// Checks a broadcast before its body is read, or a disconnect: its origin, and a `Fastly-Key` or its token.
/// [`count_broadcast`] follows.
///
/// # Errors
/// [`Error::Origin`], [`Error::TooMany`], [`Error::FastlyKey`], [`Error::Setting`], or as [`check_token`];
/// [`Error::ForbiddenUser`]; [`Error::NoAccessKey`] for a user if there are none.
pub(crate) fn check_sender(exchange: &mut Exchange<'_>, right: Right, target: &Target) -> Result<Sender, Error> {
    check_origin(exchange)?;
    let has_key = matches!(exchange.settings.access, Ok(Some(_))) && has_fastly_key(exchange);
    if has_key && is_operator(exchange)? {
        return Ok(Sender::Operator);
    }
    let checked = limit_tokens(exchange, |exchange| match target {
        Target::Channel(channel) => check_token(exchange.request, exchange.settings, &[right], [channel], exchange.now),
        Target::User(user) => check_user(exchange, right, user).map(Some),
    });
    let verified = match checked {
        Err(Error::NoToken) if has_key => return Err(Error::FastlyKey),
        checked => checked?,
    };
    Ok(Sender::Client(verified.map(|verified| verified.identity)))
}

/// Counts a broadcast that is published next. Those of the operator's server are for everybody, so they are not counted.
///
/// # Errors
/// [`Error::TooMany`], or [`Error::Setting`].
pub(crate) fn count_broadcast(exchange: &mut Exchange<'_>, sender: &Sender) -> Result<(), Error> {
    let limits = exchange.settings.limits.as_ref()?;
    match sender {
        Sender::Operator => Ok(()),
        Sender::Client(_) => limits.count(exchange.request, exchange.platform, Counter::Broadcasts),
    }
}

/// Whether the request has a `Fastly-Key` of the service.
///
/// # Errors
/// [`Error::TooMany`] if too many access tokens and keys from its address were rejected.
pub(crate) fn is_operator(exchange: &mut Exchange<'_>) -> Result<bool, Error> {
    if !has_fastly_key(exchange) {
        return Ok(false);
    }
    let check = |exchange: &Exchange<'_>| match exchange.platform.has_valid_fastly_key() {
        true => Ok(true),
        false => Err(Error::FastlyKey),
    };
    match limit_failures(exchange, Counter::Tokens, check) {
        Err(Error::FastlyKey) => Ok(false),
        checked => checked,
    }
}

fn has_fastly_key(exchange: &Exchange<'_>) -> bool {
    exchange.request.header("fastly-key") != Header::Missing
}

/// Verifies the access token of a request and checks that it grants the rights on every channel. `None` if the service is
/// open.
///
/// # Errors
/// [`Error::NoToken`], [`Error::Forbidden`], [`Error::TooManyChannels`], [`Error::Setting`], or as [`token::verify`].
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
    let limit = verified.identity.most_channels();
    if channels.count() > limit { Err(Error::TooManyChannels { limit }) } else { Ok(Some(verified)) }
}

/// Verifies the access token of a request and checks that it grants the right on a user.
fn check_user(exchange: &Exchange<'_>, right: Right, user: &str) -> Result<Verified, Error> {
    let keys = exchange.settings.access.as_ref()?.as_ref().ok_or(Error::NoAccessKey)?;
    let verified = token::verify(&token::of_request(exchange.request)?, keys, exchange.now)?;
    if verified.identity.grants_user(right, user) { Ok(verified) } else { Err(Error::ForbiddenUser(right)) }
}

/// Browsers let any page open a WebSocket, so origins are checked for those, too.
fn check_origin(exchange: &Exchange<'_>) -> Result<(), Error> {
    let origins = exchange.settings.origins.as_ref()?;
    if origins.allow(exchange.request, exchange.platform.is_local()) { Ok(()) } else { Err(Error::Origin) }
}
