//! Publishing: messages to all subscribers of a channel, through the proxy's publish API.
//!
//! # Format
//! ```text
//! POST {control URI}/publish/
//! Authorization: …
//! Content-Type: application/json
//!
//! {"items":[{"channel":"test","formats":{"ws-message":{"content":"Hello"}}}]}
//! ```
//! The items are those of [`item`](super::item). 200 says that the proxy accepted the items, not that a subscriber got them.
//! Source: <https://pushpin.org/docs/protocols/grip/#control> and Fastly's publishing API.

use std::{error::Error, fmt};

use base64::prelude::{BASE64_STANDARD, Engine};
use jwt_simple::{
    claims::{JWTClaims, NoCustomClaims},
    prelude::{HS256Key, MACLike, UnixTimeStamp},
};
use serde::Serialize;

use super::{
    Item,
    signature::{InvalidKey, MIN_SECRET_LENGTH},
};

/// The longest body of a publish request, in bytes: Fanout's limit, and that of the Fastly CLI's Pushpin.
pub const MAX_BODY: usize = 65_536;

/// How long the token of a publish request is valid, in seconds.
const TOKEN_LIFETIME: u64 = 600;

/// Where to publish, and how to prove that one may.
///
/// ```
/// use fanout_edge::grip::{
///     Channel, Formats, Item, Publisher, WsMessage,
///     publish::{Authorization, PublishRequest, Transport, TransportError},
/// };
///
/// struct Print;
/// impl Transport for Print {
///     fn send(&mut self, request: PublishRequest) -> Result<u16, TransportError> {
///         println!("POST {} {}", request.url, String::from_utf8_lossy(&request.body));
///         Ok(200)
///     }
/// }
///
/// let channel = Channel::from_static("room");
/// let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text("Hello")), ..Formats::default() });
/// let publisher = Publisher::new("http://127.0.0.1:5561", Authorization::none());
/// publisher.publish(&mut Print, &[item], 1_800_000_000)?;
/// # Ok::<(), fanout_edge::grip::publish::PublishError>(())
/// ```
#[derive(Clone)]
pub struct Publisher {
    url: String,
    authorization: Authorization,
}

impl Publisher {
    /// A publisher for the proxy with that control URI, with or without a slash at its end.
    pub fn new(control_uri: &str, authorization: Authorization) -> Self {
        Self { url: format!("{}/publish/", control_uri.trim_end_matches('/')), authorization }
    }

    /// Publishes the items in one request, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`PublishError`]. Only without one did the proxy accept them.
    pub fn publish(&self, transport: &mut impl Transport, items: &[Item<'_>], now: u64) -> Result<(), PublishError> {
        self.request(items, now).map_err(PublishError::TooLarge)?.send(transport)
    }

    /// The request that publishes the items, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`TooLarge`] where its body would be longer than [`MAX_BODY`]: the proxy would refuse it.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Formats, Item, Publisher, WsMessage, publish::Authorization};
    ///
    /// let channel = Channel::from_static("a");
    /// let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text("x")), ..Formats::default() });
    /// let publisher = Publisher::new("http://127.0.0.1:5561/", Authorization::none());
    /// let request = publisher.request(&[item], 1_800_000_000)?;
    /// assert_eq!(request.url, "http://127.0.0.1:5561/publish/");
    /// # Ok::<(), fanout_edge::grip::publish::TooLarge>(())
    /// ```
    pub fn request(&self, items: &[Item<'_>], now: u64) -> Result<PublishRequest, TooLarge> {
        #[derive(Serialize)]
        struct Body<'a> {
            items: &'a [Item<'a>],
        }
        let body = serde_json::to_vec(&Body { items }).expect("strings and numbers under known keys are JSON");
        if body.len() > MAX_BODY {
            return Err(TooLarge { length: body.len() });
        }
        Ok(PublishRequest { url: self.url.clone(), authorization: self.authorization.header(now), body })
    }
}

/// A publish request, ready to be sent with the method POST and `Content-Type: application/json`.
pub struct PublishRequest {
    /// The absolute URL. Its slash at the end matters to Fastly.
    pub url: String,
    /// The value of `Authorization`, a secret.
    pub authorization: Option<String>,
    /// JSON.
    pub body: Vec<u8>,
}

impl PublishRequest {
    /// Sends the request.
    ///
    /// # Errors
    /// [`PublishError`], but not that it is too large.
    pub fn send(self, transport: &mut impl Transport) -> Result<(), PublishError> {
        match transport.send(self) {
            Ok(200) => Ok(()),
            Ok(status) => Err(PublishError::Refused { status }),
            Err(TransportError::Unreachable) => Err(PublishError::Unreachable),
            Err(TransportError::TimedOut) => Err(PublishError::TimedOut),
        }
    }
}

/// What carries a publish request to the proxy: Fastly's SDK, an HTTP client, a test.
pub trait Transport {
    /// Sends the request and returns the status of the answer.
    ///
    /// # Errors
    /// [`TransportError`] where there is none.
    fn send(&mut self, request: PublishRequest) -> Result<u16, TransportError>;
}

/// Why a publish request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The proxy could not be reached, or broke off.
    Unreachable,
    /// The proxy did not answer in time.
    TimedOut,
}

/// Why items are not published, or perhaps not.
///
/// ```
/// use fanout_edge::grip::publish::PublishError;
///
/// let text = PublishError::Refused { status: 400 }.to_string();
/// assert_eq!(text, "The GRIP proxy refused the message: it answered with status 400");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// They are too large for one request; nothing was sent.
    TooLarge(TooLarge),
    /// The proxy refused them with this status: 400 something in them, 401 or 403 the authorization.
    Refused {
        /// The status. Only 200 is acceptance.
        status: u16,
    },
    /// The proxy could not be reached, or broke off: do not count on their being published.
    Unreachable,
    /// The proxy did not answer in time: they may or may not be published.
    TimedOut,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(error) => error.fmt(f),
            Self::Refused { status: 401 | 403 } => f.write_str(
                "The GRIP proxy refused the message: the token or key of the settings does not allow to publish",
            ),
            Self::Refused { status } => {
                write!(f, "The GRIP proxy refused the message: it answered with status {status}")
            }
            Self::Unreachable => f.write_str(
                "The GRIP proxy could not be reached, or broke off: do not count on the message being published",
            ),
            Self::TimedOut => {
                f.write_str("The GRIP proxy did not answer in time: the message may or may not be published")
            }
        }
    }
}

impl Error for PublishError {}

/// How a publish request is authorized. It holds secrets, so it cannot be printed.
///
/// ```
/// use fanout_edge::grip::publish::Authorization;
///
/// assert!(Authorization::bearer("a-fastly-api-token").is_some());
/// assert!(Authorization::bearer("two words").is_none());
/// ```
#[derive(Clone)]
pub struct Authorization(Kind);

#[derive(Clone)]
enum Kind {
    None,
    Header(String),
    Jwt { issuer: String, key: HS256Key },
}

impl Authorization {
    /// Not at all: Pushpin on the same machine.
    pub const fn none() -> Self {
        Self(Kind::None)
    }

    /// `Bearer` with a token, for instance a Fastly API token. `None` where it cannot be in a header.
    pub fn bearer(token: impl AsRef<str>) -> Option<Self> {
        let token = token.as_ref();
        let is_valid = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then(|| Self(Kind::Header(format!("Bearer {token}"))))
    }

    /// `Basic` with a user and a password. `None` where the user has a colon, which would end it.
    /// Source: RFC 7617, section 2.
    pub fn basic(user: &str, password: &str) -> Option<Self> {
        let header = || format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        (!user.contains(':')).then(|| Self(Kind::Header(header())))
    }

    /// `Bearer` with a token of that issuer that is made for each request, signed with a secret (HS256).
    ///
    /// # Errors
    /// [`InvalidKey`] where the secret has less than [`MIN_SECRET_LENGTH`] bytes.
    pub fn jwt(issuer: impl Into<String>, secret: &[u8]) -> Result<Self, InvalidKey> {
        if secret.len() < MIN_SECRET_LENGTH {
            return Err(InvalidKey::TooShort);
        }
        Ok(Self(Kind::Jwt { issuer: issuer.into(), key: HS256Key::from_bytes(secret) }))
    }

    fn header(&self, now: u64) -> Option<String> {
        match &self.0 {
            Kind::None => None,
            Kind::Header(value) => Some(value.clone()),
            Kind::Jwt { issuer, key } => {
                let claims = JWTClaims {
                    issued_at: None,
                    expires_at: Some(UnixTimeStamp::from_secs(now.saturating_add(TOKEN_LIFETIME))),
                    invalid_before: None,
                    issuer: Some(issuer.clone()),
                    subject: None,
                    audiences: None,
                    jwt_id: None,
                    nonce: None,
                    custom: NoCustomClaims {},
                };
                let token = key.authenticate(claims).expect("the secret is long enough, as its constructor checked");
                Some(format!("Bearer {token}"))
            }
        }
    }
}

/// Publishes the items through several proxies, to all of them whatever becomes of one; the results are in their order.
pub fn publish_to_all(
    publishers: &[Publisher],
    transport: &mut impl Transport,
    items: &[Item<'_>],
    now: u64,
) -> Vec<Result<(), PublishError>> {
    publishers.iter().map(|publisher| publisher.publish(transport, items, now)).collect()
}

/// The address, and no credential.
impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The address, and neither credential nor message.
impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishRequest").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A publish request that the proxy would refuse for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// How long its body would be, in bytes.
    pub length: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the publish request would be {} bytes of JSON; the proxy takes at most {MAX_BODY}", self.length)
    }
}

impl Error for TooLarge {}
