//! The credentials of a publisher.

use base64::prelude::{BASE64_STANDARD, Engine};
use http::HeaderValue;
#[cfg(feature = "jwt")]
use jwt_simple::{
    claims::{JWTClaims, NoCustomClaims},
    prelude::{HS256Key, MACLike, UnixTimeStamp},
};

#[cfg(feature = "jwt")]
use crate::grip::key::{InvalidKey, MIN_SECRET_LENGTH};

/// How long the token of a publish request is valid, in seconds.
#[cfg(feature = "jwt")]
const TOKEN_LIFETIME: u64 = 600;

/// The shortest secret that another key is derived from, in bytes.
#[cfg(feature = "tickets")]
const MIN_DERIVED_LENGTH: usize = 16;

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
    Basic(HeaderValue),
    Bearer {
        header: HeaderValue,
        #[cfg(feature = "tickets")]
        token: String,
    },
    #[cfg(feature = "jwt")]
    Jwt {
        issuer: String,
        key: HS256Key,
    },
}

impl Authorization {
    /// No authorization: Pushpin on the same machine.
    pub const fn none() -> Self {
        Self(Kind::None)
    }

    /// `Bearer` with a token, for instance a Fastly API token. `None` if it has other characters than printable ASCII,
    /// or none.
    pub fn bearer(token: &str) -> Option<Self> {
        let is_valid = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let header = sensitive(format!("Bearer {token}")).filter(|_| is_valid)?;
        Some(Self(Kind::Bearer {
            header,
            #[cfg(feature = "tickets")]
            token: token.to_owned(),
        }))
    }

    /// `Basic` with a user and a password. `None` if the user has a colon, which would end it.
    /// Source: RFC 7617, section 2.
    pub fn basic(user: &str, password: &str) -> Option<Self> {
        let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let header = sensitive(format!("Basic {credentials}")).filter(|_| !user.contains(':'))?;
        Some(Self(Kind::Basic(header)))
    }

    /// `Bearer` with a token of that issuer that is made for each request and signed with a secret (HS256).
    ///
    /// # Errors
    /// [`InvalidKey`] if the secret has less than [`MIN_SECRET_LENGTH`] bytes.
    #[cfg(feature = "jwt")]
    pub fn jwt(issuer: impl Into<String>, secret: &[u8]) -> Result<Self, InvalidKey> {
        if secret.len() < MIN_SECRET_LENGTH {
            return Err(InvalidKey::TooShort);
        }
        Ok(Self(Kind::Jwt { issuer: issuer.into(), key: HS256Key::from_bytes(secret) }))
    }

    /// A key for another purpose, derived from the secret. `None` if there is no secret, or one that could be guessed.
    #[cfg(feature = "tickets")]
    pub(in crate::grip) fn derive_key(&self, purpose: &str) -> Option<HS256Key> {
        let secret = match &self.0 {
            Kind::None | Kind::Basic(_) => return None,
            Kind::Bearer { token, .. } => HS256Key::from_bytes(token.as_bytes()),
            Kind::Jwt { key, .. } => HS256Key::from_bytes(&key.to_bytes()),
        };
        let key = || HS256Key::from_bytes(&secret.authentication_tag(purpose.as_bytes()));
        (secret.to_bytes().len() >= MIN_DERIVED_LENGTH).then(key)
    }

    /// The header `Authorization` of a request at a time, in seconds since 1970.
    #[cfg_attr(not(feature = "jwt"), expect(unused_variables, reason = "only a token has a time"))]
    pub(super) fn header(&self, now: u64) -> Option<HeaderValue> {
        match &self.0 {
            Kind::None => None,
            Kind::Basic(header) | Kind::Bearer { header, .. } => Some(header.clone()),
            #[cfg(feature = "jwt")]
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
                let token = key.authenticate(claims).expect("the constructor checked the length of the secret");
                Some(sensitive(format!("Bearer {token}")).expect("a JWT is printable ASCII"))
            }
        }
    }
}

/// A header value that is not printed. `None` if the text cannot be one.
fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
