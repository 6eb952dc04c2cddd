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
//! 200 says that the proxy accepted the items, not that a subscriber got them.
//! Source: <https://pushpin.org/docs/protocols/grip/#control> and Fastly's publishing API.

use std::{error::Error, fmt};

use base64::prelude::{BASE64_STANDARD, Engine};
use jwt_simple::{
    claims::{JWTClaims, NoCustomClaims},
    prelude::{HS256Key, MACLike, UnixTimeStamp},
};
use serde::Serialize;

use super::Channel;

/// The longest body of a publish request, in bytes: Fanout's limit, and that of the Fastly CLI's Pushpin.
pub const MAX_BODY: usize = 65_536;

/// How long the token of a publish request is valid, in seconds.
const TOKEN_LIFETIME: u64 = 600;

/// One message for the subscribers of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item<'a> {
    /// The channel.
    pub channel: &'a Channel,
    /// The message, for each kind of subscriber.
    pub formats: Formats<'a>,
}

/// A message as each kind of subscriber gets it. A subscriber of a kind that has none gets nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Formats<'a> {
    /// For WebSocket clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ws_message: Option<WsMessage<'a>>,
}

/// A message for WebSocket clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WsMessage<'a> {
    /// A text message. Text that begins with `c:` or `m:` is delivered as it is.
    Content(&'a str),
}

/// Where to publish, and how to prove that one may.
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

    /// The request that publishes the items, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`TooLarge`] where its body would be longer than [`MAX_BODY`]: the proxy would refuse it.
    pub fn request(&self, items: &[Item<'_>], now: u64) -> Result<PublishRequest, TooLarge> {
        #[derive(Serialize)]
        struct Body<'a> {
            items: &'a [Item<'a>],
        }
        let body = serde_json::to_vec(&Body { items }).expect("strings under known keys are JSON");
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

/// How a publish request is authorized. It holds secrets, so it cannot be printed.
#[derive(Clone)]
pub enum Authorization {
    /// Not at all: Pushpin on the same machine.
    None,
    /// The same header each time.
    Header(String),
    /// `Bearer` with a token that is made for each request.
    Jwt {
        /// The claim `iss`.
        issuer: String,
        /// The secret of HS256, of at least [`MIN_SECRET_LENGTH`](super::signature::MIN_SECRET_LENGTH) bytes.
        secret: Vec<u8>,
    },
}

impl Authorization {
    /// `Bearer` with a token, for instance a Fastly API token. `None` where it cannot be in a header.
    pub fn bearer(token: impl AsRef<str>) -> Option<Self> {
        let token = token.as_ref();
        let is_valid = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then(|| Self::Header(format!("Bearer {token}")))
    }

    /// `Basic` with a user and a password.
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Header(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    fn header(&self, now: u64) -> Option<String> {
        match self {
            Self::None => None,
            Self::Header(value) => Some(value.clone()),
            Self::Jwt { issuer, secret } => {
                let claims = JWTClaims {
                    issued_at: None,
                    expires_at: Some(UnixTimeStamp::from_secs(now + TOKEN_LIFETIME)),
                    invalid_before: None,
                    issuer: Some(issuer.clone()),
                    subject: None,
                    audiences: None,
                    jwt_id: None,
                    nonce: None,
                    custom: NoCustomClaims {},
                };
                // Fails only on a secret that is too short; without the header the proxy refuses the request.
                let token = HS256Key::from_bytes(secret).authenticate(claims).ok()?;
                Some(format!("Bearer {token}"))
            }
        }
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
