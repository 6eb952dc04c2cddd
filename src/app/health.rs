//! `GET /api/health`: what a monitor needs. It asks nobody and hands nothing off.

use serde::Serialize;

use super::{
    Action, Reply, Request, Settings, http::PUBLISHER_BACKEND, proxied::SELF_BACKEND, settings::SettingsError,
};

/// # Format
/// `{"version":"0.1.0","status":"ok","checks":{"verifier":"ok",…}}`, and with `"status":"problem"` for some:
/// `"why":["The entry …"]`.
#[derive(Serialize)]
struct Health {
    version: &'static str,
    status: &'static str,
    checks: Checks,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    why: Vec<String>,
}

/// Each is `ok`, or names what is missing or cannot be used.
#[derive(Serialize)]
struct Checks {
    verifier: &'static str,
    publisher: &'static str,
    access: &'static str,
    origins: &'static str,
    limits: &'static str,
    backend_self: &'static str,
    backend_publisher: &'static str,
}

const OK: &str = "ok";

/// Answers 200 where all can be used, else 503. Why not is for whoever runs the service.
pub(super) fn health(request: &mut dyn Request, settings: &Settings, _: u64) -> Action {
    let mut problems = Vec::new();
    let mut entry = |problem: Option<&SettingsError>| {
        problems.extend(problem.map(ToString::to_string));
        problem.map_or(OK, SettingsError::entry)
    };
    let verifier = entry(settings.verifier.as_ref().err());
    let publisher = entry(settings.publisher.as_ref().err());
    let access = entry(settings.access.as_ref().err());
    let origins = entry(settings.origins.as_ref().err());
    let limits = entry(settings.limits.as_ref().err());
    let access = if matches!(settings.access, Ok(None)) { "open" } else { access };
    problems.dedup();
    let mut backend = |name| {
        let is_there = request.has_backend(name);
        problems.extend((!is_there).then(|| format!("The service has no backend `{name}`")));
        if is_there { OK } else { "missing" }
    };
    let (backend_self, backend_publisher) = (backend(SELF_BACKEND), backend(PUBLISHER_BACKEND));
    let checks = Checks { verifier, publisher, access, origins, limits, backend_self, backend_publisher };
    let (code, status) = if problems.is_empty() { (200, OK) } else { (503, "problem") };
    let why = if request.is_local() || request.has_fastly_key() { problems } else { Vec::new() };
    let health = Health { version: env!("CARGO_PKG_VERSION"), status, checks, why };
    let mut json = serde_json::to_vec(&health).expect("it is text under names of fields");
    json.push(b'\n');
    Reply::new(code, "application/json", json).with_header("cache-control", "no-store").into()
}
