//! Allowed origins: which pages may use the service from a browser. Source: the Fetch standard, sections 3.1 and 3.2;
//! RFC 6455, section 10.2; Fetch Metadata.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HeaderValue, VARY,
    },
};
use url::{Position, Url};

use crate::{
    app::web::{Request, Response},
    grip::Header,
};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// How long a browser may cache the response to a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// What a page of another origin may send. A `*` does not include `Authorization`, and older browsers do not know it, so what
/// clients are known to send is named: polyfills of EventSource send `Cache-Control` and `Last-Event-ID`.
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Cache-Control, Content-Type, Last-Event-ID, *");

/// The origins that are allowed, besides the service's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origins {
    /// Any.
    Any,
    /// These, and no other.
    Listed(Vec<HeaderValue>),
}

impl Origins {
    /// Parses the setting.
    ///
    /// # Format
    /// `*`, or `none`, or origins, separated by spaces: `https://example.com http://localhost:3000 capacitor://localhost`.
    /// They are compared in the form in which browsers send them: without a slash at the end, and for web origins in lower
    /// case and without the default port.
    ///
    /// # Errors
    /// Which of them is not an origin, from 1 on; 0 if there is none.
    pub(crate) fn parse(setting: &str) -> Result<Self, usize> {
        match setting.trim() {
            "" => Err(0),
            "*" => Ok(Self::Any),
            none if none.eq_ignore_ascii_case("none") => Ok(Self::Listed(Vec::new())),
            list => {
                let origins = list.split_whitespace().zip(1..).map(|(text, number)| parse_origin(text).ok_or(number));
                origins.collect::<Result<_, _>>().map(Self::Listed)
            }
        }
    }

    /// The headers of a response to a page of that origin. They never allow credentials.
    pub(crate) fn headers_for(&self, origin: Header<'_>) -> HeaderMap {
        const EXPOSED: HeaderValue = HeaderValue::from_static("Message-Id");
        let mut headers = HeaderMap::from_iter([(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)]);
        match self {
            Self::Any => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Self::Listed(origins) => {
                headers.insert(VARY, HeaderValue::from_static("Origin"));
                // Listed pages read responses by CORS, which this does not concern.
                headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
                if let Some(known) = origins.iter().find(|known| is(known, origin)) {
                    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, known.clone());
                }
            }
        }
        headers
    }

    /// Whether a request comes from a listed origin, from the service's own page, or from no page at all. Not for requests
    /// from the proxy: they name another host. On a developer's machine the service has no domain of its own, so a page of any
    /// domain that resolves to this machine would be its own page (DNS rebinding): only loopback hosts are.
    pub(crate) fn allow(&self, request: &dyn Request, is_local: bool) -> bool {
        let Self::Listed(origins) = self else { return true };
        let (origin, host) = (request.header("origin"), request.header("host").value());
        if origins.iter().any(|known| is(known, origin)) {
            return true;
        }
        if is_local && !host.is_some_and(is_loopback) {
            return false;
        }
        match origin {
            Header::Value(origin) => {
                let authority = origin.strip_prefix("https://");
                let authority = authority.or_else(|| origin.strip_prefix("http://").filter(|_| is_local));
                authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
            }
            // Browsers send no origin for an image, a script or a link.
            Header::Missing => !matches!(request.header("sec-fetch-site").value(), Some("cross-site" | "same-site")),
            Header::Invalid => false,
        }
    }
}

/// Whether a host, perhaps with a port, is this machine for every browser. Source: RFC 6761, section 6.3.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback()) || name == "localhost" || name.ends_with(".localhost")
}

fn is(known: &HeaderValue, origin: Header<'_>) -> bool {
    origin.value().is_some_and(|origin| known == origin)
}

/// An origin in the form in which browsers send it; `None` if none sends it. Source: the URL standard, section 4.7.
fn parse_origin(text: &str) -> Option<HeaderValue> {
    // The `url` crate is built without the Unicode tables of domain names.
    let url = Some(text).filter(|text| text.is_ascii()).and_then(|text| Url::parse(text).ok())?;
    let has_host = url.host_str().is_some_and(|host| !host.is_empty() && !host.contains(['*', ',', ';']));
    let is_bare = matches!(&url[Position::AfterPort..], "" | "/")
        && url[Position::BeforeUsername..Position::BeforeHost].is_empty();
    // Pages have other schemes.
    let is_page = !matches!(url.scheme(), "ws" | "wss" | "ftp" | "file");
    let origin = || format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort]);
    if has_host && is_bare && is_page { HeaderValue::try_from(origin()).ok() } else { None }
}

/// The response to a browser that asks what it may send.
pub(crate) fn preflight(methods: HeaderValue) -> Response {
    Response::empty(204)
        .with_header(ALLOW, methods.clone())
        .with_header(ACCESS_CONTROL_ALLOW_METHODS, methods)
        .with_header(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS)
        .with_header(ACCESS_CONTROL_MAX_AGE, MAX_AGE)
}
