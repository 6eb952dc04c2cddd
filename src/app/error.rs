//! Every refusal: its status, its text for the client, its line for the log, and the close frame of a connection that is
//! already open.

use std::fmt;

use http::{
    HeaderName,
    header::{ALLOW, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE},
};

pub use super::access::right::Right;
use super::{
    bounds::{
        MAX_CHANNEL_LENGTH, MAX_CHANNELS, MAX_PUBLISH_REQUESTS, MAX_PUBLISHED, MAX_QUERY, MAX_STATE_LENGTH,
        MAX_USER_LENGTH,
    },
    http::{BodyError, Response},
    platform::{BackendError, Counter},
};
use crate::grip::{
    Channel, CloseCode,
    publish::{PublishError, TooLarge},
    signature::SignatureError,
    websocket::RequestError,
};

/// How long a client that exceeded a limit waits, in seconds: the time for which its requests are counted.
const WINDOW: &str = "60";

/// Why a request is refused. Handlers return it with `?`, and one of your own with [`Error::reject`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No endpoint has this path.
    NotFound,
    /// The endpoint has other methods.
    MethodNotAllowed {
        /// Those methods, separated by commas.
        allowed: String,
    },
    /// The query is longer than [`MAX_QUERY`].
    QueryTooLong,
    /// The name of a channel is not valid.
    ChannelName,
    /// A connection has more than [`MAX_CHANNELS`].
    TooManyChannels,
    /// A broadcast names several channels.
    NotOneChannel,
    /// A parameter of the query has an unknown value.
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its values.
        values: [&'static str; 2],
    },
    /// A WebSocket endpoint was requested without an upgrade.
    UpgradeRequired,
    /// A request from the proxy is not one of a WebSocket.
    NotEvents,
    /// A request from the proxy is one of a WebSocket, but not valid.
    Events(RequestError),
    /// A broadcast has a `Content-Type` that cannot be published.
    MediaType,
    /// A broadcast of text is not UTF-8.
    NotUtf8 {
        /// The first byte that is not.
        at: usize,
    },
    /// A body is too long.
    BodyTooLarge {
        /// How long it may be, in bytes.
        limit: usize,
    },
    /// A body did not arrive whole.
    BodyIncomplete,
    /// A request that only the proxy may send has no `Grip-Sig`.
    NotProxied,
    /// A request has a `Grip-Sig` that does not verify.
    Signature(SignatureError),
    /// A page of another origin sent the request.
    Origin,
    /// There is no access token.
    NoToken,
    /// There is a `Fastly-Key` that is not valid for the service, and no access token.
    FastlyKey,
    /// The access token does not verify.
    Token(SignatureError),
    /// There are several keys, and the access token names none.
    NoKeyId,
    /// There are several keys, and the access token names another one.
    UnknownKeyId,
    /// The claim `sub` is not a string of 1 to [`MAX_USER_LENGTH`] characters.
    Subject,
    /// A claim that lists channels is not a list of strings.
    Claim(Right),
    /// The access token is valid, but does not allow this.
    Forbidden(Right, Channel),
    /// A client exceeded a rate limit.
    TooMany {
        /// Which.
        counter: Counter,
        /// How many a minute it allows.
        limit: u32,
    },
    /// A message is too large to be published.
    MessageTooLarge(TooLarge),
    /// One batch of a client's messages publishes more than [`MAX_PUBLISHED`] or [`MAX_PUBLISH_REQUESTS`] allow.
    BatchTooLarge,
    /// The proxy did not accept a message, or perhaps not.
    Publish(PublishError),
    /// The proxy did not accept all that a batch of a client's messages publishes.
    PartlyPublished {
        /// How many messages it accepted, each counted for each of its channels.
        published: usize,
        /// Of how many.
        total: usize,
        /// Why not the next.
        error: PublishError,
    },
    /// A setting is missing or cannot be used.
    Setting(SettingError),
    /// The client could not be handed off.
    HandOff {
        /// The backend.
        backend: &'static str,
        /// The platform's reason.
        cause: String,
    },
    /// A backend that the handler asked has no usable response.
    Backend {
        /// Its name.
        name: String,
        /// Why.
        error: BackendError,
    },
    /// The handler stored a value that cannot be stored.
    State,
    /// The handler chose a subprotocol that the client does not offer.
    Subprotocol,
    /// The handler neither accepted nor rejected an opening connection.
    NotAccepted,
    /// The handler rejected the connection.
    Rejected {
        /// With this status.
        status: u16,
        /// And this text.
        text: String,
    },
}

impl Error {
    /// Rejects a connection: an opening one with the status (400 to 599, else 500) and the text, as an HTTP response; an
    /// open one by closing it, with 1008 (policy violation) for a status below 500 and 1011 (internal error) from there
    /// on, and the text as the reason.
    pub fn reject(status: u16, text: impl Into<String>) -> Self {
        let status = if (400..600).contains(&status) { status } else { 500 };
        Self::Rejected { status, text: text.into() }
    }

    /// The status of the response.
    pub const fn status(&self) -> u16 {
        match self {
            Self::ChannelName
            | Self::TooManyChannels
            | Self::NotOneChannel
            | Self::Parameter { .. }
            | Self::NotEvents
            | Self::Events(_)
            | Self::NotUtf8 { .. }
            | Self::BodyIncomplete => 400,
            Self::NoToken
            | Self::FastlyKey
            | Self::Token(_)
            | Self::NoKeyId
            | Self::UnknownKeyId
            | Self::Subject
            | Self::Claim(_) => 401,
            Self::NotProxied | Self::Signature(_) | Self::Origin | Self::Forbidden(..) => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::BodyTooLarge { .. } | Self::MessageTooLarge(_) | Self::BatchTooLarge => 413,
            Self::QueryTooLong => 414,
            Self::MediaType => 415,
            Self::UpgradeRequired => 426,
            Self::TooMany { .. } => 429,
            Self::State | Self::Subprotocol | Self::NotAccepted => 500,
            Self::Publish(error) | Self::PartlyPublished { error, .. } => match error {
                PublishError::TooLarge(_) => 413,
                PublishError::TimedOut => 504,
                _ => 502,
            },
            Self::Backend { error, .. } => match error {
                BackendError::Missing => 503,
                BackendError::Url => 500,
                BackendError::TimedOut => 504,
                BackendError::Unreachable | BackendError::TooLarge => 502,
            },
            Self::Setting(_) | Self::HandOff { .. } => 503,
            Self::Rejected { status, .. } => *status,
        }
    }

    /// The line for the log, which has nothing that a client chose. `None` for what a client can cause at will and the
    /// response says as well.
    pub fn log(&self) -> Option<String> {
        match self {
            Self::NotFound
            | Self::MethodNotAllowed { .. }
            | Self::QueryTooLong
            | Self::NotOneChannel
            | Self::UpgradeRequired
            | Self::NotEvents
            | Self::MediaType
            | Self::NotUtf8 { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyIncomplete
            | Self::MessageTooLarge(_) => None,
            Self::NotProxied => Some("rejected a request without a Grip-Sig".to_owned()),
            Self::Signature(error) => Some(format!("rejected a Grip-Sig: {error}")),
            Self::Origin => Some("rejected a page of another origin".to_owned()),
            Self::NoToken => Some("rejected a request without an access token".to_owned()),
            Self::FastlyKey => Some("rejected a Fastly-Key".to_owned()),
            Self::Token(error) => Some(format!("rejected an access token: {error}")),
            Self::Forbidden(right, _) => {
                Some(format!("rejected an access token: a channel is missing in {}", right.claim()))
            }
            Self::TooMany { counter, .. } => Some(format!("rejected one of too many {}", counted(*counter))),
            Self::Rejected { status, .. } => Some(format!("the handler rejected a connection with status {status}")),
            // WebSocket clients hide the body of a failed handshake, so the log says it, too.
            _ => Some(self.to_string()),
        }
    }

    /// How a connection that is already open ends: a code and a reason.
    pub fn close(&self) -> (CloseCode, String) {
        const RECONNECT: &str = "reconnect with a new one";
        let code = match self.status() {
            413 => CloseCode::TOO_BIG,
            status if status < 500 => CloseCode::POLICY_VIOLATION,
            _ => CloseCode::INTERNAL_ERROR,
        };
        let reason = match self {
            Self::Token(SignatureError::Expired) => format!("access token expired: {RECONNECT}"),
            Self::Forbidden(..) => format!("access token lacks a channel: {RECONNECT}"),
            _ if self.status() == 401 => format!("access token is not valid: {RECONNECT}"),
            Self::Setting(_) => "a setting of the service cannot be used".to_owned(),
            Self::Publish(PublishError::Rejected { status }) => {
                format!("not published: the GRIP proxy rejected it with status {status}")
            }
            Self::MessageTooLarge(error) => {
                format!(
                    "message too large: {} of at most {} bytes of JSON",
                    error.length,
                    crate::grip::publish::MAX_BODY
                )
            }
            _ => self.to_string(),
        };
        (code, reason)
    }

    /// The response to the request.
    pub fn response(&self) -> Response {
        let mut response = Response { log: self.log(), ..Response::text(self.status(), self) };
        if let Some((name, value)) = self.header() {
            response.headers.insert(name, value);
        }
        response
    }

    /// The header that goes with the status. Source: RFC 9110, section 15.5; RFC 6750, section 3.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let value = |text: &'static str| HeaderValue::from_static(text);
        match self {
            Self::MethodNotAllowed { allowed } => Some((ALLOW, HeaderValue::try_from(allowed).ok()?)),
            Self::UpgradeRequired => Some((UPGRADE, value("websocket"))),
            Self::TooMany { .. } => Some((RETRY_AFTER, value(WINDOW))),
            Self::NoToken | Self::FastlyKey => Some((WWW_AUTHENTICATE, value("Bearer realm=\"fanout-edge\""))),
            Self::Forbidden(..) => {
                Some((WWW_AUTHENTICATE, value("Bearer realm=\"fanout-edge\", error=\"insufficient_scope\"")))
            }
            Self::Token(_) | Self::NoKeyId | Self::UnknownKeyId | Self::Subject | Self::Claim(_) => {
                Some((WWW_AUTHENTICATE, value("Bearer realm=\"fanout-edge\", error=\"invalid_token\"")))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const REJECTED: &str = "Access token rejected";
        match self {
            Self::NotFound => f.write_str(
                "Not found: use /api/websocket, /api/events, /api/stream, /api/poll, /api/broadcast or /api/health",
            ),
            Self::MethodNotAllowed { allowed } => write!(f, "Method not allowed: use {allowed}"),
            Self::QueryTooLong => write!(f, "Query too long: use at most {MAX_QUERY} bytes, percent-encoded"),
            Self::ChannelName => {
                write!(f, "Invalid channel name: use 1 to {MAX_CHANNEL_LENGTH} of A-Z a-z 0-9 - . _ ~")
            }
            Self::TooManyChannels => write!(f, "Too many channels: use at most {MAX_CHANNELS}"),
            Self::NotOneChannel => f.write_str("Too many channels: broadcast to one of them, ?channel=NAME"),
            Self::Parameter { name, values: [one, other] } => {
                write!(f, "Invalid {name}: use {name}={one} or {name}={other}")
            }
            Self::UpgradeRequired => f.write_str(
                "This is a WebSocket endpoint: connect with a WebSocket client, npx wscat -c ws://HOST/api/websocket (wss:// on Fastly)",
            ),
            Self::NotEvents => f.write_str(
                "[not a websocket request] Send the header `Content-Type: application/websocket-events` once, in exactly this spelling",
            ),
            Self::Events(error) => write!(f, "Invalid WebSocket-over-HTTP request: {error}"),
            Self::MediaType => f.write_str(
                "Unsupported Content-Type: add the header `Content-Type: text/plain` (curl -H 'Content-Type: text/plain' -d …) or application/octet-stream, in UTF-8",
            ),
            Self::NotUtf8 { at } => {
                write!(f, "Invalid UTF-8 at byte {at}: send text as UTF-8, or bytes as application/octet-stream")
            }
            Self::BodyTooLarge { limit } => write!(f, "Body too large: send at most {limit} bytes"),
            Self::BodyIncomplete => f.write_str("Incomplete body: send the request again"),
            Self::NotProxied | Self::Signature(_) => {
                f.write_str("[not proxied] Only the GRIP proxy may send this: connect with a WebSocket client")
            }
            Self::Origin => f.write_str("Origin not allowed: add it to the setting ALLOWED_ORIGINS"),
            Self::NoToken => f.write_str(
                "Access token required: send the header `Authorization: Bearer TOKEN`, ?token=TOKEN, or the WebSocket subprotocols `bearer, TOKEN`",
            ),
            Self::FastlyKey => {
                f.write_str("Fastly-Key rejected: use a Fastly API token of this service, or an access token")
            }
            Self::Token(error) => write!(f, "{REJECTED}: {error}. Get a new one"),
            Self::NoKeyId => write!(f, "{REJECTED}: no key ID (kid), and there are several keys. Add it to the token"),
            Self::UnknownKeyId => write!(f, "{REJECTED}: unknown key ID (kid). Use that of a key in ACCESS_KEY"),
            Self::Subject => write!(f, "{REJECTED}: sub must be a string of 1 to {MAX_USER_LENGTH} characters"),
            Self::Claim(right) => write!(f, "{REJECTED}: {} must be a list of channel names", right.claim()),
            Self::Forbidden(right, channel) => {
                let verb = match right {
                    Right::Read => "subscribing",
                    Right::Write => "publishing",
                };
                write!(f, "The access token does not allow {verb} to `{channel}` (claim {})", right.claim())
            }
            Self::TooMany { counter, limit } => {
                write!(f, "Too many {}: at most {limit} per minute, wait {WINDOW} seconds", counted(*counter))
            }
            Self::MessageTooLarge(error) => {
                write!(f, "Message too large: {error} (about 16,000 bytes of plain text)")
            }
            Self::BatchTooLarge => write!(
                f,
                "Too much to publish at once: at most {MAX_PUBLISHED} messages in {MAX_PUBLISH_REQUESTS} requests, send less at a time"
            ),
            Self::Publish(PublishError::TimedOut) => {
                f.write_str("The message may or may not be published: the GRIP proxy did not respond in time")
            }
            Self::Publish(PublishError::Unreachable) => {
                f.write_str("The message is probably not published: the GRIP proxy could not be reached, try again")
            }
            Self::Publish(error @ PublishError::Rejected { status: 401 | 403 }) => {
                write!(f, "The message is not published: {error}; correct FANOUT_API_TOKEN or GRIP_URL")
            }
            Self::Publish(error) => write!(f, "The message is not published: {error}"),
            Self::PartlyPublished { published, total, error } => {
                write!(f, "{published} of {total} messages are published: {error}")
            }
            Self::Setting(error) => error.fmt(f),
            Self::HandOff { backend, cause } => write!(
                f,
                "Cannot hand off to Fanout through the backend `{backend}`: {cause}. Is Fanout enabled for the service?"
            ),
            Self::Backend { name, error } => {
                let problem = match error {
                    BackendError::Missing => "does not exist: add it to the service",
                    BackendError::Url => "was not asked: use an absolute URL, http://HOST/PATH",
                    BackendError::Unreachable => "could not be reached: try again later",
                    BackendError::TimedOut => "did not respond in time: try again later",
                    BackendError::TooLarge => "sent too large a response: at most 100000 bytes are accepted",
                };
                write!(f, "The backend `{name}` {problem}")
            }
            Self::State => write!(
                f,
                "Invalid connection state: use a name of letters, digits, - and _, and a value of at most {MAX_STATE_LENGTH} bytes"
            ),
            Self::Subprotocol => f.write_str("The client does not offer the subprotocol that the handler chose: use one of its offer, or none"),
            Self::NotAccepted => f.write_str("The handler did not accept the connection: call connection.accept()"),
            Self::Rejected { text, .. } => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<SettingError> for Error {
    fn from(error: SettingError) -> Self {
        Self::Setting(error)
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Self::Events(error)
    }
}

impl From<TooLarge> for Error {
    fn from(error: TooLarge) -> Self {
        Self::MessageTooLarge(error)
    }
}

impl Error {
    /// The error of a body that may have `limit` bytes.
    pub(super) const fn of_body(error: BodyError, limit: usize) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge { limit },
            BodyError::Incomplete => Self::BodyIncomplete,
        }
    }
}

const fn counted(counter: Counter) -> &'static str {
    match counter {
        Counter::Broadcasts => "broadcasts",
        Counter::Openings => "connections",
    }
}

/// A setting that is missing or cannot be used. The text names it and says why, and quotes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    store: &'static str,
    entry: &'static str,
    problem: String,
}

impl SettingError {
    /// An entry of the Secret Store.
    pub fn secret(entry: &'static str, problem: impl fmt::Display) -> Self {
        Self { store: "secret store `fanout`", entry, problem: problem.to_string() }
    }

    /// An entry of the Config Store.
    pub fn config(entry: &'static str, problem: impl fmt::Display) -> Self {
        Self { store: "config store `fanout_config`", entry, problem: problem.to_string() }
    }

    /// The name of the entry.
    pub const fn entry(&self) -> &'static str {
        self.entry
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The entry {} of the {} {}", self.entry, self.store, self.problem)
    }
}
