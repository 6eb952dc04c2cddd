//! Did a request come through the proxy?

use std::slice;

use super::{Action, Reply, Request, Settings, settings::SettingsError};
use crate::grip::GripStatus;

/// The backend through which the proxy calls this service.
pub(super) const SELF_BACKEND: &str = "self";

const NOT_PROXIED: &str = "[not proxied]";

/// Where the request stands with the proxy.
///
/// # Errors
/// A 503 where the settings have no key to tell.
pub(super) fn status(request: &dyn Request, settings: &Settings, now: u64) -> Result<GripStatus, Reply> {
    let verifier = settings.verifier.as_ref().map_err(unusable)?;
    Ok(GripStatus::of(request.header("grip-sig"), slice::from_ref(verifier), now))
}

/// What is not signed is refused, and the log says why.
pub(super) fn refused(status: GripStatus) -> Action {
    let reply = Reply::text(403, NOT_PROXIED);
    match status {
        GripStatus::NeedsSignature(error) => reply.with_log(format_args!("refused a Grip-Sig: {error}")),
        GripStatus::NotProxied | GripStatus::Signed { .. } => reply.with_log("refused a request that has no Grip-Sig"),
    }
    .into()
}

/// An entry that is missing or cannot be used.
pub(super) fn unusable(error: &SettingsError) -> Reply {
    Reply::text(503, error).with_log(error)
}
