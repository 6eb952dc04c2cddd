//! `GET /`: a page to try everything in a browser.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderValue, REFERRER_POLICY};

use crate::app::{
    error::Error,
    exchange::Exchange,
    http::{Outcome, Response},
};

const PAGE: &str = include_str!("../../client/page.html");

/// Allows its own script and style, by their SHA-256, and connections to its own origin, nothing else.
/// Source: Content Security Policy Level 3.
const POLICY: &str = "default-src 'none'; script-src 'sha256-THEX5hslMURblvY6gXdGfnNAgsRCMwLuJCjw/Yzq26E='; style-src 'sha256-RLiAyMdVb83WwmzF7oeEGeCQe8TzJRoxWrvzBLOO3ZU='; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const TAG: &str = "\"95da4a379194ed47\"";

/// Sends the page, unless the browser has it.
pub(crate) fn page(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let known = exchange.request.list("if-none-match");
    let is_known = known.iter().any(|tag| *tag == "*" || tag.trim_start_matches("W/") == TAG);
    let (status, body) = if is_known { (304, "") } else { (200, PAGE) };
    let response = Response::new(status, "text/html; charset=utf-8", body)
        .with_header(ETAG, HeaderValue::from_static(TAG))
        .with_header(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
        .with_header(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))
        .with_header(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response.into())
}
