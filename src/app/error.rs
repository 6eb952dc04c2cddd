//! Every error: its status, its text for the client, its line for the log, and the close frame of a connection that is
//! already open.

mod setting;
mod text;

use http::{
    HeaderName,
    header::{ACCEPT_ENCODING, ALLOW, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE},
};

pub use self::setting::SettingError;
pub use super::access::right::Right;
use super::{
    platform::{BackendError, Counter, StoreError},
    state::EntryError,
    web::{BodyError, Response},
};
use crate::grip::{Channel, CloseCode, publish::PublishError, signature::SignatureError, websocket::RequestError};

/// Why a request is rejected. Handlers see it as a [`Rejection`](super::rejection::Rejection).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No endpoint has this path.
    NotFound,
    /// The endpoint has other methods.
    MethodNotAllowed {
        /// Those methods, separated by commas.
        allowed: String,
    },
    /// The query is longer than [`MAX_QUERY`](super::bounds::MAX_QUERY).
    QueryTooLong,
    /// The name of a channel is not valid.
    ChannelName,
    /// A connection has more than [`MAX_CHANNELS`](super::bounds::MAX_CHANNELS).
    TooManyChannels {
        /// How many it may have.
        limit: usize,
    },
    /// A broadcast names a channel and a user.
    ChannelAndUser,
    /// A request that publishes or disconnects has a parameter that it does not know.
    UnknownParameter {
        /// Its name, as the client wrote it.
        name: String,
        /// Those that it knows.
        known: &'static [&'static str],
    },
    /// A request that publishes or disconnects has a parameter more than once.
    Repeated {
        /// Its name.
        name: &'static str,
    },
    /// A parameter of a request that publishes or disconnects is not percent-encoded.
    Unescaped {
        /// Its name.
        name: &'static str,
    },
    /// The id of the connection that a broadcast leaves out is not valid.
    Except,
    /// The user to whom something is sent is not valid.
    User,
    /// A user is to be disconnected, and there is none.
    NoUser,
    /// The code or the reason of a disconnect is not valid.
    CloseFrame,
    /// A parameter of the query has an unknown value.
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its values.
        values: [&'static str; 2],
    },
    /// The name of a parameter of a subscriber's query looks like that of another one.
    LookAlike {
        /// The name of the other one.
        known: &'static str,
    },
    /// The id of a message that is sent again is not valid, or is too old.
    MessageId,
    /// A WebSocket endpoint was requested without an upgrade.
    UpgradeRequired,
    /// The `Upgrade` of a WebSocket is not spelled as the proxy takes it.
    UpgradeSpelling,
    /// A request from the proxy is not one of a WebSocket.
    NotEvents,
    /// A request from the proxy is one of a WebSocket, but not valid.
    Events(RequestError),
    /// A broadcast has a `Content-Type` that cannot be published.
    MediaType,
    /// A broadcast of text has a `charset` other than UTF-8.
    Charset,
    /// A broadcast has a `Content-Encoding`: it is compressed.
    ContentCoding,
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
    /// The access token is for another audience, for one if none is set, or for none if one is.
    Audience {
        /// Whether it has an audience.
        is_there: bool,
        /// Whether the settings name one.
        is_set: bool,
    },
    /// The claim `sub` is not a string of 1 to [`MAX_USER_LENGTH`](super::bounds::MAX_USER_LENGTH) characters.
    Subject,
    /// A claim that lists channels is not a list of strings.
    Claim(Right),
    /// The access token is valid, but does not allow this.
    Forbidden(Right, Channel),
    /// The access token is valid, but does not allow this for that user.
    ForbiddenUser(Right),
    /// A client exceeded a rate limit.
    TooMany {
        /// Which.
        counter: Counter,
        /// How many it allows in its time.
        limit: u32,
    },
    /// A message is too large to be published.
    MessageTooLarge {
        /// About how many bytes of this content could be published.
        limit: usize,
    },
    /// One batch of a client's messages publishes more than [`bounds`](super::bounds) allow.
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
    /// A message is kept in the history, and so perhaps reaches clients that come back, but is not, or not surely, published.
    OnlyKept(Box<Self>),
    /// A message is not kept in the history, and clients that come back miss it.
    NotKept {
        /// Why it is not, or not surely, published, if so.
        published: Option<Box<Self>>,
        /// Why it is not kept.
        error: StoreError,
    },
    /// The cursor of a client that comes back is neither an id nor a time, or is in the future.
    Since,
    /// A client wants to know what it missed, in a form that cannot say all of it.
    SinceFormat,
    /// A client asks more than once in a batch what it missed.
    SyncTooOften,
    /// A request for what a client missed does not say since when.
    NoSince,
    /// Without an access key, no client is a user.
    NoAccessKey,
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
    /// An entry of a store that the handler reads has no value.
    Entry {
        /// The store.
        store: &'static str,
        /// Its name.
        name: String,
        /// Why.
        error: EntryError,
    },
    /// The handler stored a value that cannot be stored.
    State,
    /// The value with which the handler acknowledges a message cannot be sent.
    AckValue,
    /// The client does not offer the subprotocol that the handler requires.
    Subprotocol,
    /// The handler neither accepted nor rejected an opening connection.
    NotAccepted,
    /// The handler failed.
    Handler {
        /// For the log.
        cause: String,
    },
    /// The handler rejected the connection.
    Rejected {
        /// With this status.
        status: u16,
        /// And this text.
        text: String,
    },
}

impl Error {
    /// The status of the response.
    pub const fn status(&self) -> u16 {
        match self {
            Self::ChannelName
            | Self::TooManyChannels { .. }
            | Self::ChannelAndUser
            | Self::UnknownParameter { .. }
            | Self::Repeated { .. }
            | Self::Unescaped { .. }
            | Self::Except
            | Self::User
            | Self::NoUser
            | Self::CloseFrame
            | Self::Parameter { .. }
            | Self::LookAlike { .. }
            | Self::MessageId
            | Self::Since
            | Self::SinceFormat
            | Self::NoSince
            | Self::SyncTooOften
            | Self::UpgradeSpelling
            | Self::NotEvents
            | Self::Events(_)
            | Self::NotUtf8 { .. }
            | Self::BodyIncomplete
            | Self::Subprotocol => 400,
            Self::NoToken
            | Self::FastlyKey
            | Self::Token(_)
            | Self::NoKeyId
            | Self::UnknownKeyId
            | Self::Audience { .. }
            | Self::Subject
            | Self::Claim(_) => 401,
            Self::NotProxied | Self::Signature(_) | Self::Origin | Self::Forbidden(..) | Self::ForbiddenUser(_) => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::BodyTooLarge { .. } | Self::MessageTooLarge { .. } | Self::BatchTooLarge => 413,
            Self::QueryTooLong => 414,
            Self::MediaType | Self::Charset | Self::ContentCoding => 415,
            Self::UpgradeRequired => 426,
            Self::TooMany { .. } => 429,
            Self::Entry { error: EntryError::TooMany, .. }
            | Self::State
            | Self::AckValue
            | Self::NotAccepted
            | Self::Handler { .. } => 500,
            Self::Publish(error) | Self::PartlyPublished { error, .. } => match error {
                PublishError::TimedOut => 504,
                _ => 502,
            },
            Self::OnlyKept(error) | Self::NotKept { published: Some(error), .. } => error.status(),
            Self::NotKept { published: None, .. } => 502,
            Self::Backend { error, .. } => match error {
                BackendError::Missing => 503,
                BackendError::Url | BackendError::TooMany => 500,
                BackendError::TimedOut => 504,
                BackendError::Unreachable | BackendError::TooLarge => 502,
            },
            Self::NoAccessKey => 501,
            Self::Setting(_) | Self::Entry { .. } | Self::HandOff { .. } => 503,
            Self::Rejected { status, .. } => *status,
        }
    }

    /// Whether a signature, an access token or a `Fastly-Key` was verified in vain, which took much time. A `Grip-Sig` that has
    /// expired, or is that of another service, was signed by the proxy all the same: then it is the proxy that would be
    /// limited.
    pub(super) fn costs_verification(&self) -> bool {
        match self {
            Self::Signature(error) => *error == SignatureError::Signature,
            Self::Token(error) => *error >= SignatureError::Signature,
            _ => matches!(
                self,
                Self::FastlyKey
                    | Self::Audience { .. }
                    | Self::Subject
                    | Self::Claim(_)
                    | Self::Forbidden(..)
                    | Self::ForbiddenUser(_)
            ),
        }
    }

    /// Whether the client has an access token that is not valid.
    const fn is_invalid_token(&self) -> bool {
        matches!(
            self,
            Self::Token(_)
                | Self::NoKeyId
                | Self::UnknownKeyId
                | Self::Audience { .. }
                | Self::Subject
                | Self::Claim(_)
        )
    }

    /// Returns a response with what the log says of the error.
    pub fn logged_in(&self, response: Response) -> Response {
        let error_of_client = self.is_of_client().then(|| self.status());
        Response { log: self.log(), error_of_client, ..response }
    }

    /// Whether a client can cause it at will. Then it is counted, not logged each time: see [`log`](super::log).
    pub(super) const fn is_of_client(&self) -> bool {
        match self {
            // Only the proxy sends them.
            Self::Events(_) => false,
            Self::NoAccessKey => true,
            _ => self.status() < 500,
        }
    }

    /// The line for the log, which has nothing that a client chose, except for the text of an error of the application's own:
    /// escaped, and cut at 200 characters. `None` for what a client can cause at will and the response says as well.
    pub fn log(&self) -> Option<String> {
        match self {
            Self::NotFound
            | Self::MethodNotAllowed { .. }
            | Self::QueryTooLong
            | Self::ChannelAndUser
            | Self::UnknownParameter { .. }
            | Self::Repeated { .. }
            | Self::Unescaped { .. }
            | Self::Except
            | Self::User
            | Self::NoUser
            | Self::CloseFrame
            | Self::NoAccessKey
            | Self::UpgradeRequired
            | Self::NotEvents
            | Self::MediaType
            | Self::Charset
            | Self::ContentCoding
            | Self::NotUtf8 { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyIncomplete
            | Self::MessageTooLarge { .. }
            | Self::MessageId => None,
            Self::NotProxied => Some("rejected a request without a Grip-Sig".to_owned()),
            Self::Signature(error) => Some(format!("rejected a Grip-Sig: {error}")),
            Self::Origin => Some("rejected a page of another origin".to_owned()),
            Self::NoToken => Some("rejected a request without an access token".to_owned()),
            Self::FastlyKey => Some("rejected a Fastly-Key".to_owned()),
            Self::Token(error) => Some(format!("rejected an access token: {error}")),
            Self::Forbidden(right, _) => {
                Some(format!("rejected an access token: a channel is missing in {}", right.claim()))
            }
            Self::ForbiddenUser(right) => {
                Some(format!("rejected an access token: a user is missing in {}", right.claim()))
            }
            Self::TooMany { counter, .. } => Some(format!("rejected one of too many {}", counted(*counter))),
            Self::Rejected { status, .. } => Some(format!("the handler rejected a client with status {status}")),
            Self::Handler { cause } => Some(format!("the handler failed: {}", in_one_line(cause))),
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
            Self::NoToken => format!("access token is missing: {RECONNECT}"),
            _ if self.is_invalid_token() => format!("access token is not valid: {RECONNECT}"),
            Self::Setting(_) | Self::Entry { .. } => "a setting of the service cannot be used".to_owned(),
            Self::NotKept { published: None, .. } => {
                "published, but not kept: clients that reconnect may miss it".to_owned()
            }
            Self::Publish(PublishError::Rejected { status }) => {
                format!("not published: the GRIP proxy rejected it with status {status}")
            }
            _ => self.to_string(),
        };
        (code, reason)
    }

    /// The response to the request.
    pub fn response(&self) -> Response {
        let mut response = self.logged_in(Response::text(self.status(), self));
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
            Self::ContentCoding => Some((ACCEPT_ENCODING, value("identity"))),
            Self::TooMany { counter, .. } => Some((RETRY_AFTER, counter.seconds().into())),
            Self::NoToken | Self::FastlyKey => Some((WWW_AUTHENTICATE, value("Bearer realm=\"fanout-edge\""))),
            Self::Forbidden(..) | Self::ForbiddenUser(_) => {
                Some((WWW_AUTHENTICATE, value("Bearer realm=\"fanout-edge\", error=\"insufficient_scope\"")))
            }
            _ if self.is_invalid_token() => {
                Some((WWW_AUTHENTICATE, value("Bearer realm=\"fanout-edge\", error=\"invalid_token\"")))
            }
            _ => None,
        }
    }
}

impl From<&SettingError> for Error {
    fn from(error: &SettingError) -> Self {
        Self::Setting(error.clone())
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Self::Events(error)
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
        Counter::Broadcasts | Counter::BroadcastsNow => "broadcasts",
        Counter::Openings | Counter::OpeningsNow => "connections",
        Counter::Signatures => "rejected signatures",
        Counter::Tokens => "rejected access tokens",
    }
}

/// The beginning of a text of someone else's, without newlines and control characters.
fn in_one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    text.escape_debug().take(LONGEST).collect()
}
