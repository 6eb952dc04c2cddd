//! `GET /api/health`: what a monitor needs. It asks nobody and hands nothing off.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Action, Reply, Request, Settings, http::PUBLISHER_BACKEND, proxied::SELF_BACKEND, settings::SettingsError,
};

/// # Format
/// `{"version":"0.1.0","status":"ok","checks":{"verifier":"ok",…}}`, and with `"status":"problem"` for some:
/// `"why":["The entry …"]`. Each check is `ok`, or names what is missing or cannot be used.
#[derive(Serialize)]
struct Health<'a> {
    version: &'static str,
    status: &'static str,
    checks: BTreeMap<&'static str, &'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    why: Vec<String>,
}

const OK: &str = "ok";

/// Answers 200 where all can be used, else 503. Why not is for whoever runs the service.
pub(super) fn health(request: &mut dyn Request, settings: &Settings, _: u64) -> Action {
    let mut problems = Vec::new();
    let mut checks = BTreeMap::new();
    let Settings { verifier, publisher, tickets: _, access, origins, limits } = settings;
    let entries = [
        ("verifier", verifier.as_ref().err()),
        ("publisher", publisher.as_ref().err()),
        ("access", access.as_ref().err()),
        ("origins", origins.as_ref().err()),
        ("limits", limits.as_ref().err()),
    ];
    for (name, problem) in entries {
        checks.insert(name, problem.map_or(OK, SettingsError::entry));
        problems.extend(problem.map(ToString::to_string));
    }
    if matches!(access, Ok(None)) {
        checks.insert("access", "open");
    }
    for (name, backend) in [("backend_self", SELF_BACKEND), ("backend_publisher", PUBLISHER_BACKEND)] {
        let is_there = request.has_backend(backend);
        checks.insert(name, if is_there { OK } else { "missing" });
        problems.extend((!is_there).then(|| format!("The service has no backend `{backend}`")));
    }
    problems.dedup();
    let (status, word) = if problems.is_empty() { (200, OK) } else { (503, "problem") };
    let why = if request.is_local() || request.has_fastly_key() { problems } else { Vec::new() };
    let health = Health { version: env!("CARGO_PKG_VERSION"), status: word, checks, why };
    let json = serde_json::to_vec(&health).expect("it is text under keys of text");
    Reply::new(status, "application/json", json).with_header("cache-control", "no-store").into()
}
