//! `GET /api/health`: what a monitor needs. It asks nobody and hands nothing off.

use http::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;

use crate::app::{
    access::admit,
    error::{Error, SettingError},
    exchange::Exchange,
    platform::{PUBLISHER_BACKEND, SELF_BACKEND},
    web::{Outcome, Response},
};

/// # Format
/// `{"version":"0.2.0","status":"ok","checks":{"verifier":"ok",…}}`, and with `"status":"problem"` for the operator:
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
    history: &'static str,
    sandbox: &'static str,
    backend_self: &'static str,
    backend_publisher: &'static str,
}

const OK: &str = "ok";

/// Responds with 200 if everything can be used, else with 503. Only the operator is told why.
pub(crate) fn health(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let settings = exchange.settings;
    let has_store = !matches!(settings.history, Ok(Some(_))) || exchange.platform.has_store();
    let platform = &*exchange.platform;
    let mut problems = Vec::new();
    let mut entry = |problem: Option<&SettingError>| {
        problems.extend(problem.map(ToString::to_string));
        problem.map_or(OK, SettingError::entry)
    };
    let verifier = entry(settings.verifier.as_ref().err());
    let publisher = entry(settings.publisher.as_ref().err());
    let access = entry(settings.access.as_ref().err());
    let origins = entry(settings.origins.as_ref().err());
    let limits = entry(settings.limits.as_ref().err());
    let history = entry(settings.history.as_ref().err());
    let sandbox = entry(settings.sandbox_requests.as_ref().err());
    let access = if matches!(settings.access, Ok(None)) { "open" } else { access };
    problems.dedup();
    let history = match settings.history {
        Ok(None) => "off",
        _ if !has_store => "missing",
        _ => history,
    };
    problems.extend(
        (!has_store).then(|| "The service has no KV store `fanout_history`: add it, or delete HISTORY".to_owned()),
    );
    let mut backend = |name| {
        let exists = platform.has_backend(name);
        problems.extend((!exists).then(|| format!("The service has no backend `{name}`: add it")));
        if exists { OK } else { "missing" }
    };
    let (backend_self, backend_publisher) = (backend(SELF_BACKEND), backend(PUBLISHER_BACKEND));
    let checks =
        Checks { verifier, publisher, access, origins, limits, history, sandbox, backend_self, backend_publisher };
    let (code, status) = if problems.is_empty() { (200, OK) } else { (503, "problem") };
    let is_operator = !problems.is_empty() && (platform.is_local() || matches!(admit::is_operator(exchange), Ok(true)));
    let why = if is_operator { problems } else { Vec::new() };
    let health = Health { version: env!("CARGO_PKG_VERSION"), status, checks, why };
    let mut json = serde_json::to_vec(&health).expect("text under names of fields is JSON");
    json.push(b'\n');
    let response = Response::new(code, "application/json", json);
    Ok(response.with_header(CACHE_CONTROL, HeaderValue::from_static("no-store")).into())
}
