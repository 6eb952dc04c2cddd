//! `GET /`: a page to try it all in a browser.

use super::{Action, Reply, Request, Settings};

const PAGE: &str = include_str!("page.html");

/// Its own script and style, by their SHA-256, and connections to where it comes from; nothing else.
/// Source: Content Security Policy Level 3.
const POLICY: &str = "default-src 'none'; script-src 'sha256-ro2nQZsX0GomgyuxS9h2l55B1v/MW+2NRNuF7aty/Nw='; style-src 'sha256-RLiAyMdVb83WwmzF7oeEGeCQe8TzJRoxWrvzBLOO3ZU='; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ETAG: &str = "\"ec1cf5ad5ac24d43\"";

pub(super) fn page(request: &mut dyn Request, _: &Settings, _: u64) -> Action {
    let is_known = request
        .header("if-none-match")
        .value()
        .is_some_and(|known| known == "*" || known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == ETAG));
    let body = if is_known { Vec::new() } else { PAGE.into() };
    Reply::new(if is_known { 304 } else { 200 }, "text/html; charset=utf-8", body)
        .with_header("etag", ETAG)
        .with_header("cache-control", "no-cache")
        .with_header("content-security-policy", POLICY)
        .with_header("x-content-type-options", "nosniff")
        .with_header("referrer-policy", "no-referrer")
        .into()
}
