//! What comes in and what goes out: a request, and the response to it.

use std::{fmt, net::IpAddr};

use http::{
    HeaderMap, HeaderName,
    header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};

use crate::grip::{Headers, Hold};

/// The header with the address of a client that was handed off. The proxy sends it along with each event of a WebSocket.
pub const CLIENT: &str = "fanout-client";

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
        /// The value of the header [`CLIENT`], in place of what the client sent.
        client: Option<IpAddr>,
    },
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
    /// A line for the log: see [`Error::log`](super::error::Error::log).
    pub log: Option<String>,
    /// The status of an error that a client can cause at will: then it is counted, see [`log`](super::log).
    pub error_of_client: Option<u16>,
}

impl Response {
    /// A response without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: HeaderMap::new(), body: Vec::new(), log: None, error_of_client: None }
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

    /// Returns self, to be held by the proxy.
    pub fn held(mut self, hold: &Hold) -> Self {
        self.headers.extend(hold.headers());
        self
    }

    /// Returns self with a header.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}
