//! What goes into the decision and what comes out of it: the only types that cross to the edge.

use std::{borrow::Cow, fmt, net::IpAddr};

use crate::grip::{
    Headers,
    publish::{PublishError, PublishRequest},
};

/// A request, read as far as the decision needs it, and what the platform knows about it.
pub trait Request: Headers {
    /// The method, in upper case.
    fn method(&self) -> &str;

    /// The path, as it was sent.
    fn path(&self) -> &str;

    /// What follows the `?` of the path, as it was sent; empty where there is none.
    fn query(&self) -> &str;

    /// Takes the body.
    ///
    /// # Errors
    /// [`BodyError`] where it is longer than so many bytes, or does not arrive whole.
    fn body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError>;

    /// The address that the request comes from.
    fn client_address(&self) -> Option<IpAddr>;

    /// Whether its `Fastly-Key` is one of Fastly's API that may purge this service.
    fn has_fastly_key(&self) -> bool;

    /// Whether the service runs on the machine of who develops it.
    fn is_local(&self) -> bool;

    /// Whether the service has a backend of that name.
    fn has_backend(&self, name: &str) -> bool;

    /// Counts so many more of an entry, and says how many there were within the last minute.
    ///
    /// # Errors
    /// [`CannotCount`].
    fn count(&self, counter: Counter, entry: &str, more: u32) -> Result<u32, CannotCount>;
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// What is published.
    Broadcasts,
    /// Who is handed off.
    Openings,
}

impl Counter {
    /// The platform's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broadcasts => "fanout_broadcasts",
            Self::Openings => "fanout_openings",
        }
    }
}

/// The platform does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotCount;

/// A body that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than the limit.
    TooLarge,
    /// It did not arrive whole.
    Incomplete,
}

/// What to do with a request.
pub enum Action {
    /// Send this answer.
    Reply(Reply),
    /// Hand the client over to the GRIP proxy, which calls the service back through this backend.
    HandOff {
        /// The name of a backend of the service that is the service itself.
        backend: &'static str,
    },
    /// Send these requests through this backend, one after the other until one fails, then send the answer to the
    /// outcome.
    Publish {
        /// The name of a backend of the service.
        backend: &'static str,
        /// The requests.
        requests: Vec<PublishRequest>,
        /// Makes the answer.
        answer: Box<dyn FnOnce(Result<(), PublishError>) -> Reply>,
    },
}

impl Action {
    pub(super) fn publish(
        requests: Vec<PublishRequest>,
        answer: impl FnOnce(Result<(), PublishError>) -> Reply + 'static,
    ) -> Self {
        Self::Publish { backend: PUBLISHER_BACKEND, requests, answer: Box::new(answer) }
    }

    /// The same with another answer of the service's own.
    pub(super) fn map_reply(self, change: impl FnOnce(Reply) -> Reply + 'static) -> Self {
        match self {
            Self::Reply(reply) => Self::Reply(change(reply)),
            Self::HandOff { backend } => Self::HandOff { backend },
            Self::Publish { backend, requests, answer } => {
                Self::Publish { backend, requests, answer: Box::new(move |outcome| change(answer(outcome))) }
            }
        }
    }
}

/// The backend behind which the proxy's publish API is.
pub(super) const PUBLISHER_BACKEND: &str = "publisher";

impl From<Reply> for Action {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The body.
    pub body: Vec<u8>,
    /// What the log should say about it. Never a secret, and nothing that a client chose.
    pub log: Option<String>,
}

impl Reply {
    /// An answer with a body of that type.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type".into(), content_type.into())], body: body.into(), log: None }
    }

    /// A `text/plain` answer of one line; the line's end is added.
    pub fn text(status: u16, line: impl fmt::Display) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{line}\n"))
    }

    /// The same with one more header.
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same with a line for the log.
    pub fn with_log(mut self, line: impl fmt::Display) -> Self {
        self.log = Some(line.to_string());
        self
    }
}
