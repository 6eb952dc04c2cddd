//! What comes in and what goes out: a request, and the response to it.

use std::{fmt, net::IpAddr};

use http::{
    HeaderMap, HeaderName,
    header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};

use percent_encoding::percent_encode_byte;

use crate::grip::Headers;

/// A request: what came.
pub trait Request: Headers {
    /// The method, in upper case.
    fn method(&self) -> &str;

    /// The path, as it was sent.
    fn path(&self) -> &str;

    /// What follows the `?` of the path, as it was sent; empty if there is none.
    fn query(&self) -> &str;

    /// Takes the body, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`BodyError`] if it is longer, or does not arrive whole.
    fn body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError>;

    /// The address of the client.
    fn client_address(&self) -> Option<IpAddr>;
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than the limit.
    TooLarge,
    /// It did not arrive whole.
    Incomplete,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Outcome {
    /// Send this response.
    Response(Response),
    /// Hand the client off to the GRIP proxy, which calls the service back through this backend.
    HandOff {
        /// The name of a backend that is the service itself.
        backend: &'static str,
        /// The query in place of that of the request, if the proxy cannot take that.
        query: Option<String>,
    },
}

impl Outcome {
    /// The hand-off of a client, through a backend, with the query that it sent.
    pub fn hand_off(backend: &'static str, query: &str) -> Self {
        Self::HandOff { backend, query: encoded(query) }
    }
}

/// Percent-encodes what must not stand in a query, but browsers leave as it is: the proxy responds with 500 to that. `None`
/// if there is nothing of it. Source: RFC 3986, section 3.4, and the URL standard's query percent-encode set.
fn encoded(query: &str) -> Option<String> {
    let bytes = query.as_bytes();
    let is_escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    let is_valid = |at: usize| match bytes[at] {
        b'%' => is_escape(at),
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?[]".contains(&byte),
    };
    if (0..bytes.len()).all(is_valid) {
        return None;
    }
    let mut encoded = String::with_capacity(bytes.len() + 8);
    for (at, byte) in bytes.iter().enumerate() {
        if is_valid(at) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(percent_encode_byte(*byte));
        }
    }
    Some(encoded)
}

impl From<Response> for Outcome {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// A line for the log: never a secret, and nothing that a client chose.
    pub log: Option<String>,
}

impl Response {
    /// A response without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: HeaderMap::new(), body: Vec::new(), log: None }
    }

    /// A response with a body of that type, which no browser may take for another: what clients publish is in it. The proxy
    /// adds the headers of a held response to what it sends in its place.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::empty(status) }
            .with_header(CONTENT_TYPE, HeaderValue::from_static(content_type))
            .with_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }

    /// A `text/plain` response of one line. A newline is added.
    pub fn text(status: u16, line: impl fmt::Display) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{line}\n"))
    }

    /// Returns self with a header.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}
