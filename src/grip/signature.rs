//! `Grip-Sig`: the proxy's signature on each request that it forwards.
//!
//! # Format
//! A JWT in the header `Grip-Sig`, with the claims `iss` and `exp`. Fastly Fanout signs with ES256 and the issuer
//! `fastly:<service id>`, the Pushpin of the Fastly CLI with HS256 and the issuer `viceroy`.
//!
//! A valid signature says that the request came through the proxy, never that it is a WebSocket event: see
//! [`is_websocket_over_http`](super::websocket::is_websocket_over_http). It names neither a connection nor a path, and
//! is valid for an hour. Source: <https://pushpin.org/docs/protocols/grip/#grip-sig>, RFC 7519.

use std::{collections::HashSet, error::Error, fmt};

use jwt_simple::{
    JWTError,
    claims::Audiences,
    prelude::{Duration, ECDSAP256PublicKeyLike, MACLike, UnixTimeStamp, VerificationOptions},
    token::Token,
};
use serde_json::{Map, Value};

use super::{Header, Signed, VerifyKey, key::Kind};

/// How far the clocks of the proxy and the service may differ, in seconds, unless [`Verifier::with_leeway`] says
/// otherwise.
pub const LEEWAY: u64 = 10;

/// The longest token that is verified, in bytes. A proxy's has about 200.
pub const MAX_TOKEN_LENGTH: usize = 4096;

/// Verifies signatures of one issuer with one key.
///
/// ```
/// use fanout_edge::grip::{Verifier, VerifyKey, signature::SignatureError};
///
/// let verifier = Verifier::new(VerifyKey::parse("secret:a secret that both sides know")?, "viceroy");
/// assert_eq!(verifier.verify("no token", 1_800_000_000), Err(SignatureError::Malformed));
/// # Ok::<(), fanout_edge::grip::key::InvalidKey>(())
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    key: VerifyKey,
    issuer: String,
    leeway: u64,
}

impl Verifier {
    /// Returns a verifier of what the issuer signs with the key.
    pub fn new(key: VerifyKey, issuer: impl Into<String>) -> Self {
        Self { key, issuer: issuer.into(), leeway: LEEWAY }
    }

    /// Returns self with another tolerance for clocks that differ, in seconds.
    pub fn with_leeway(mut self, seconds: u64) -> Self {
        self.leeway = seconds;
        self
    }

    /// The tolerance for clocks that differ, in seconds.
    pub const fn leeway(&self) -> u64 {
        self.leeway
    }

    /// The key.
    pub const fn key(&self) -> &VerifyKey {
        &self.key
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Verifies a token at a time, in seconds since 1970: its algorithm, signature, `exp` (required), `nbf` and `iat`
    /// (optional) and issuer. Other claims are ignored. Returns `exp`, in seconds since 1970.
    ///
    /// # Errors
    /// [`SignatureError`].
    ///
    /// ```
    /// use fanout_edge::grip::{Verifier, VerifyKey, signature::SignatureError};
    /// use jwt_simple::prelude::{Claims, Duration, HS256Key, MACLike};
    ///
    /// let secret = "a secret that both sides know";
    /// let token = HS256Key::from_bytes(secret.as_bytes())
    ///     .authenticate(Claims::create(Duration::from_hours(1)).with_issuer("viceroy"))
    ///     .expect("a token");
    /// let verifier = Verifier::new(VerifyKey::from_secret(secret.as_bytes())?, "viceroy");
    /// let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
    /// assert!(verifier.verify(&token, now).is_ok_and(|expires_at| expires_at > now));
    /// assert_eq!(verifier.verify(&token, now + 7200), Err(SignatureError::Expired));
    /// # Ok::<(), fanout_edge::grip::key::InvalidKey>(())
    /// ```
    pub fn verify(&self, token: &str, now: u64) -> Result<u64, SignatureError> {
        self.key.verify(token, Some(&self.issuer), self.leeway, now).map(|verified| verified.expires_at)
    }
}

/// The claims that RFC 7519, section 4.1 does not register. The tokens of proxies have none.
pub type Claims = Map<String, Value>;

/// What a verified token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The claim `exp`, in seconds since 1970.
    pub expires_at: u64,
    /// The claim `sub`.
    pub subject: Option<String>,
    /// The claim `iss`.
    pub issuer: Option<String>,
    /// The claim `aud`.
    pub audiences: Option<HashSet<String>>,
    /// The claims that are not registered.
    pub claims: Claims,
}

impl VerifyKey {
    /// Verifies a token as [`Verifier::verify`] does; with `None`, of any issuer. The leeway is in seconds.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, token: &str, issuer: Option<&str>, leeway: u64, now: u64) -> Result<Verified, SignatureError> {
        let options = VerificationOptions {
            allowed_issuers: issuer.map(|issuer| HashSet::from([issuer.to_owned()])),
            time_tolerance: Some(Duration::from_secs(leeway)),
            max_token_length: Some(MAX_TOKEN_LENGTH),
            artificial_time: Some(UnixTimeStamp::from_secs(now)),
            ..VerificationOptions::default()
        };
        let verified = match &self.0 {
            Kind::Hs256(key) => key.verify_token::<Claims>(token, Some(options)),
            Kind::Es256(key) => key.verify_token::<Claims>(token, Some(options)),
        };
        let verified = verified.map_err(|error| match error.downcast_ref() {
            Some(JWTError::TokenTooLong) => SignatureError::TooLong,
            Some(JWTError::AlgorithmMismatch) => SignatureError::Algorithm,
            Some(JWTError::InvalidSignature | JWTError::InvalidAuthenticationTag) => SignatureError::Signature,
            Some(JWTError::TokenHasExpired) => SignatureError::Expired,
            Some(JWTError::TokenNotValidYet | JWTError::ClockDrift) => SignatureError::NotYetValid,
            Some(JWTError::RequiredIssuerMismatch | JWTError::RequiredIssuerMissing) => SignatureError::Issuer,
            Some(_) => SignatureError::Malformed,
            // The header is parsed first and the claims last, after the signature: if the header is fine, they are not.
            None if error.is::<serde_json::Error>() && Token::decode_metadata(token).is_ok() => SignatureError::Claims,
            None => SignatureError::Malformed,
        })?;
        let expires_at = verified.expires_at.ok_or(SignatureError::NoExpiry)?.as_secs();
        Ok(Verified {
            expires_at,
            subject: verified.subject,
            issuer: verified.issuer,
            audiences: verified.audiences.map(Audiences::into_set),
            claims: verified.custom,
        })
    }
}

/// Why a token does not verify, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SignatureError {
    /// It is not a JWT.
    Malformed,
    /// It is longer than [`MAX_TOKEN_LENGTH`].
    TooLong,
    /// It was sent more than once, or not as text.
    Header,
    /// Its algorithm is not that of the key.
    Algorithm,
    /// It was not signed with the key.
    Signature,
    /// One of its claims has the wrong type.
    Claims,
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` is in the future.
    NotYetValid,
    /// `iss` is missing or another one.
    Issuer,
    /// `exp` is missing.
    NoExpiry,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a JWT",
            Self::TooLong => return write!(f, "longer than {MAX_TOKEN_LENGTH} bytes"),
            Self::Header => "sent more than once, or not as text",
            Self::Algorithm => "wrong algorithm for the key (alg)",
            Self::Signature => "invalid signature",
            Self::Claims => "a claim has the wrong type (iss, sub and jti are strings, aud is one or a list of them, exp, nbf and iat are numbers)",
            Self::Expired => "expired",
            Self::NotYetValid => "not valid yet (nbf or iat)",
            Self::Issuer => "wrong issuer (iss)",
            Self::NoExpiry => "no expiry (exp)",
        })
    }
}

impl Error for SignatureError {}

/// Whether a request came through the proxy.
///
/// In the terms of the other GRIP libraries: a request with a `Grip-Sig` claims to be *proxied*; as every proxy here has
/// a key, it *needs a signature* that verifies; if it does, the request is *signed*, and only then it is trusted.
///
/// ```
/// use fanout_edge::grip::{GripStatus, Header, fanout::Service};
///
/// let verifier = Service::new("SERVICE1").expect("a valid id").verifier();
/// assert_eq!(GripStatus::of(Header::Missing, &[verifier], 1_800_000_000), GripStatus::NotProxied);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GripStatus {
    /// No `Grip-Sig`: it came from a client, without a proxy.
    NotProxied,
    /// A `Grip-Sig` that does not verify: it is forged, or the settings are those of another proxy.
    NeedsSignature(SignatureError),
    /// A `Grip-Sig` that verifies: it came through the proxy.
    Signed(Signed),
}

impl GripStatus {
    /// Verifies the header `Grip-Sig` of a request at a time, in seconds since 1970. Any of the proxies may have signed
    /// it, each with its own key and issuer. If none has, the error is that of the check that came furthest.
    pub fn of(grip_sig: Header<'_>, verifiers: &[Verifier], now: u64) -> Self {
        let token = match grip_sig {
            Header::Missing => return Self::NotProxied,
            Header::Invalid => return Self::NeedsSignature(SignatureError::Header),
            Header::Value(token) => token,
        };
        let mut furthest = SignatureError::Malformed;
        for verifier in verifiers {
            match verifier.verify(token, now) {
                Ok(expires_at) => return Self::Signed(Signed::until(expires_at)),
                Err(error) => furthest = furthest.max(error),
            }
        }
        Self::NeedsSignature(furthest)
    }
}
