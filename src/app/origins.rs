//! Which pages of other origins may use the service from a browser. Source: the Fetch standard, sections 3.1 and 3.2;
//! RFC 6455, section 10.2; Fetch Metadata.

use std::borrow::Cow;

use super::{Action, Reply, Request, Settings, proxied};
use crate::grip::Header;

/// How long a browser may remember the answer to a preflight, in seconds.
const MAX_AGE: &str = "86400";

/// The origins that may, beside the service's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Any.
    Any,
    /// These, and no other.
    Listed(Vec<String>),
}

impl Origins {
    /// Reads a setting.
    ///
    /// # Format
    /// `*`, or origins (`https://example.com`, with a port where it is not the scheme's own) separated by blanks, or
    /// `none`. `None` where it is none of these.
    pub(super) fn parse(setting: &str) -> Option<Self> {
        match setting {
            "*" => Some(Self::Any),
            "none" => Some(Self::Listed(Vec::new())),
            list => {
                let is_origin = |text: &str| {
                    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
                    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ',', ';']) && host.is_ascii())
                };
                let origins: Vec<_> = list.split_whitespace().map(str::to_owned).collect();
                (!origins.is_empty() && origins.iter().all(|origin| is_origin(origin))).then_some(Self::Listed(origins))
            }
        }
    }

    /// What an answer to a page of that origin says. Never with credentials.
    pub(super) fn headers_for(&self, origin: Header<'_>) -> Vec<(Cow<'static, str>, Cow<'static, str>)> {
        const ALLOW: &str = "access-control-allow-origin";
        match self {
            Self::Any => vec![(ALLOW.into(), "*".into())],
            Self::Listed(origins) => {
                let mut headers = vec![("vary".into(), "Origin".into())];
                if let Some(origin) = origins.iter().find(|known| origin == Header::Value(known)) {
                    headers.push((ALLOW.into(), origin.clone().into()));
                }
                headers
            }
        }
    }

    /// Whether a request is from a listed origin, from the service's own page, or from no page at all.
    fn allow(&self, request: &dyn Request) -> bool {
        let Self::Listed(origins) = self else { return true };
        match request.header("origin") {
            Header::Value(origin) if origins.iter().any(|known| known == origin) => true,
            Header::Value(origin) => {
                let (scheme, authority) = origin.split_once("://").unwrap_or_default();
                let is_safe = scheme == "https" || scheme == "http" && request.is_local();
                is_safe && request.header("host").value().is_some_and(|host| host.eq_ignore_ascii_case(authority))
            }
            // An image, a script or a link of a page sends none.
            Header::Missing => !matches!(request.header("sec-fetch-site").value(), Some("cross-site" | "same-site")),
            Header::Invalid => false,
        }
    }
}

/// Lets through what does not come from a page of another origin. A WebSocket is checked here, too, as browsers let any
/// page open one. Not for what comes from the proxy: it names another host.
///
/// # Errors
/// A 403, or a 503 where the setting cannot be used.
pub(super) fn check(request: &dyn Request, settings: &Settings) -> Result<(), Reply> {
    let origins = settings.origins.as_ref().map_err(proxied::unusable)?;
    if origins.allow(request) {
        return Ok(());
    }
    let line = "Pages of this origin may not use this service: see the setting ALLOWED_ORIGINS";
    Err(Reply::text(403, line).with_log("refused a page of another origin"))
}

/// The answer to a browser that asks what it may send.
pub(super) fn preflight(methods: &str) -> Action {
    let mut reply = Reply { status: 204, headers: Vec::new(), body: Vec::new(), log: None };
    reply.headers.push(("allow".into(), methods.to_owned().into()));
    reply.headers.push(("access-control-allow-methods".into(), methods.to_owned().into()));
    reply.headers.push(("access-control-allow-headers".into(), "Authorization, Content-Type".into()));
    reply.headers.push(("access-control-max-age".into(), MAX_AGE.into()));
    reply.into()
}
