//! The files that are part of the program: the client module, and the page at `/`, which uses it.

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderName, HeaderValue, REFERRER_POLICY,
};

use crate::app::{
    error::Error,
    exchange::Exchange,
    web::{Outcome, Response},
};

/// Without its comments: see src/client/build.rs.
const CLIENT: &str = include_str!(concat!(env!("OUT_DIR"), "/client.js"));
const CLIENT_TYPES: &str = include_str!("../../client/client.d.ts");
const PAGE: &str = include_str!("../../client/page.html");
const PAGE_SCRIPT: &str = include_str!("../../client/page.js");
const PAGE_STYLE: &str = include_str!("../../client/page.css");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Allows the page its own script and style, and connections to its own origin, nothing else.
/// Source: Content Security Policy Level 3.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Sends the page.
pub(crate) fn page(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let page = file(exchange, "text/html; charset=utf-8", PAGE)
        .with_header(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))
        .with_header(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(page.into())
}

/// Sends the script of the page.
pub(crate) fn page_script(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    Ok(file(exchange, JAVASCRIPT, PAGE_SCRIPT).into())
}

/// Sends the style of the page.
pub(crate) fn page_style(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    Ok(file(exchange, "text/css; charset=utf-8", PAGE_STYLE).into())
}

/// Sends the client module, to pages of any origin.
pub(crate) fn client(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    Ok(for_all_origins(file(exchange, JAVASCRIPT, CLIENT)).into())
}

/// Sends the types of the client module.
pub(crate) fn client_types(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    Ok(for_all_origins(file(exchange, "text/plain; charset=utf-8", CLIENT_TYPES)).into())
}

/// A file, unless the browser has it. With a version in the query (`?v=1`) it is kept for a year, else it is asked for each
/// time.
fn file(exchange: &Exchange<'_>, content_type: &'static str, body: &'static str) -> Response {
    let digest = hmac_sha256::Hash::hash(body.as_bytes());
    let tag = format!("\"{}\"", digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>());
    let known = exchange.request.list("if-none-match");
    let is_known = known.iter().any(|known| *known == "*" || known.trim_start_matches("W/") == tag);
    let has_version = url::form_urlencoded::parse(exchange.request.query().as_bytes()).any(|(name, _)| name == "v");
    let caching = if has_version { "public, max-age=31536000, immutable" } else { "no-cache" };
    let (status, body) = if is_known { (304, "") } else { (200, body) };
    Response::new(status, content_type, body)
        .with_header(ETAG, HeaderValue::try_from(tag).expect("digits are printable ASCII"))
        .with_header(CACHE_CONTROL, HeaderValue::from_static(caching))
        // Fastly compresses it.
        .with_header(HeaderName::from_static("x-compress-hint"), HeaderValue::from_static("on"))
}

fn for_all_origins(response: Response) -> Response {
    const POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    response
        .with_header(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))
        .with_header(POLICY, HeaderValue::from_static("cross-origin"))
}
