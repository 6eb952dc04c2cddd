//! What a client must pass before it may subscribe or publish. Whatever is not set lets everybody pass.

use super::{
    Reply, Request, Settings,
    access::{Denied, Right},
    http::Counter,
    limits, origins,
    proxied::unusable,
};
use crate::grip::{Channel, Header};

/// Before a client is handed off, so that a stranger costs no connection: its query, its origin, how often it comes, and
/// its token.
///
/// # Errors
/// The refusal.
pub(super) fn opening(
    request: &dyn Request,
    settings: &Settings,
    rights: &[Right],
    channels: &[Channel],
    now: u64,
) -> Result<(), Reply> {
    limits::fits(request.query())?;
    origins::check(request, settings)?;
    settings.limits.as_ref().map_err(unusable)?.count(request, Counter::Openings)?;
    access(request, settings, rights, channels, now).map(|_| ())
}

/// Before a message is published over HTTP: its origin, how often it comes, and a `Fastly-Key` or its token.
///
/// # Errors
/// The refusal.
pub(super) fn broadcast(request: &dyn Request, settings: &Settings, channel: &Channel, now: u64) -> Result<(), Reply> {
    origins::check(request, settings)?;
    settings.limits.as_ref().map_err(unusable)?.count(request, Counter::Broadcasts)?;
    let has_key = matches!(settings.access, Ok(Some(_))) && request.header("fastly-key") != Header::Missing;
    if has_key && request.has_fastly_key() {
        return Ok(());
    }
    match check_token(request, settings, &[Right::Write], std::slice::from_ref(channel), now)? {
        Err(Denied::NoToken) if has_key => Err(Denied::FastlyKey.reply()),
        Err(denied) => Err(denied.reply()),
        Ok(_) => Ok(()),
    }
}

/// The token of a client that the proxy has already. What it returns is when that expires, in seconds since 1970.
///
/// # Errors
/// The refusal.
pub(super) fn access(
    request: &dyn Request,
    settings: &Settings,
    rights: &[Right],
    channels: &[Channel],
    now: u64,
) -> Result<Option<u64>, Reply> {
    check_token(request, settings, rights, channels, now)?.map_err(|denied| denied.reply())
}

fn check_token(
    request: &dyn Request,
    settings: &Settings,
    rights: &[Right],
    channels: &[Channel],
    now: u64,
) -> Result<Result<Option<u64>, Denied>, Reply> {
    let access = settings.access.as_ref().map_err(unusable)?;
    Ok(access.as_ref().map(|access| access.allows(request, rights, channels, now)).transpose())
}
