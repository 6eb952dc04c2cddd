//! Which pages of other origins may use the HTTP endpoints from a browser. Source: the Fetch standard, section 3.2.

use std::borrow::Cow;

use super::{Action, Reply};
use crate::grip::Header;

/// How long a browser may remember the answer to a preflight, in seconds.
const MAX_AGE: &str = "86400";

/// The origins that may.
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
}

/// The answer to a browser that asks what it may send.
pub(super) fn preflight(methods: &[&str]) -> Action {
    let methods = methods.join(", ");
    let mut reply = Reply { status: 204, headers: Vec::new(), body: Vec::new(), log: None };
    reply.headers.push(("allow".into(), format!("{methods}, OPTIONS").into()));
    reply.headers.push(("access-control-allow-methods".into(), methods.into()));
    reply.headers.push(("access-control-allow-headers".into(), "Content-Type".into()));
    reply.headers.push(("access-control-max-age".into(), MAX_AGE.into()));
    reply.into()
}
