//! How a publisher proves that it may publish.

use base64::prelude::{BASE64_STANDARD, Engine};
use jwt_simple::{
    claims::{JWTClaims, NoCustomClaims},
    prelude::{HS256Key, MACLike, UnixTimeStamp},
};

use crate::grip::key::{InvalidKey, MIN_SECRET_LENGTH};

/// How long the token of a publish request is valid, in seconds.
const TOKEN_LIFETIME: u64 = 600;

/// The shortest secret, in bytes, that another key is made of.
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
    Basic(String),
    Bearer(String),
    Jwt { issuer: String, key: HS256Key },
}

impl Authorization {
    /// Not at all: Pushpin on the same machine.
    ///
    /// ```
    /// use fanout_edge::grip::{Publisher, publish::Authorization};
    ///
    /// let request = Publisher::new("http://127.0.0.1:5561", Authorization::none()).request(&[], 1_800_000_000)?;
    /// assert_eq!(request.authorization, None);
    /// # Ok::<(), fanout_edge::grip::publish::TooLarge>(())
    /// ```
    pub const fn none() -> Self {
        Self(Kind::None)
    }

    /// `Bearer` with a token, for instance a Fastly API token. `None` where it cannot be in a header.
    ///
    /// ```
    /// use fanout_edge::grip::publish::Authorization;
    ///
    /// assert!(Authorization::bearer("").is_none());
    /// ```
    pub fn bearer(token: impl AsRef<str>) -> Option<Self> {
        let token = token.as_ref();
        let is_valid = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then(|| Self(Kind::Bearer(token.to_owned())))
    }

    /// `Basic` with a user and a password. `None` where the user has a colon, which would end it.
    /// Source: RFC 7617, section 2.
    ///
    /// ```
    /// use fanout_edge::grip::publish::Authorization;
    ///
    /// assert!(Authorization::basic("user", "pass:word").is_some());
    /// assert!(Authorization::basic("us:er", "password").is_none());
    /// ```
    pub fn basic(user: &str, password: &str) -> Option<Self> {
        let credentials = || BASE64_STANDARD.encode(format!("{user}:{password}"));
        (!user.contains(':')).then(|| Self(Kind::Basic(credentials())))
    }

    /// `Bearer` with a token of that issuer that is made for each request, signed with a secret (HS256).
    ///
    /// # Errors
    /// [`InvalidKey`] where the secret has less than [`MIN_SECRET_LENGTH`] bytes.
    ///
    /// ```
    /// use fanout_edge::grip::{publish::Authorization, key::InvalidKey};
    ///
    /// assert!(Authorization::jwt("realm", b"a secret of some length").is_ok());
    /// assert_eq!(Authorization::jwt("realm", b"short").err(), Some(InvalidKey::TooShort));
    /// ```
    pub fn jwt(issuer: impl Into<String>, secret: &[u8]) -> Result<Self, InvalidKey> {
        if secret.len() < MIN_SECRET_LENGTH {
            return Err(InvalidKey::TooShort);
        }
        Ok(Self(Kind::Jwt { issuer: issuer.into(), key: HS256Key::from_bytes(secret) }))
    }

    /// A key for a purpose of the application's own, made of the secret. `None` where there is none, or one that could
    /// be guessed.
    pub(in crate::grip) fn derive_key(&self, purpose: &str) -> Option<HS256Key> {
        let secret = match &self.0 {
            Kind::None | Kind::Basic(_) => return None,
            Kind::Bearer(token) => HS256Key::from_bytes(token.as_bytes()),
            Kind::Jwt { key, .. } => HS256Key::from_bytes(&key.to_bytes()),
        };
        let key = || HS256Key::from_bytes(&secret.authentication_tag(purpose.as_bytes()));
        (secret.to_bytes().len() >= MIN_DERIVED_LENGTH).then(key)
    }

    pub(super) fn header(&self, now: u64) -> Option<String> {
        match &self.0 {
            Kind::None => None,
            Kind::Basic(credentials) => Some(format!("Basic {credentials}")),
            Kind::Bearer(token) => Some(format!("Bearer {token}")),
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
