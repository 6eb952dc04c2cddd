//! `Grip-Sig`: the signature of the proxy on each request that it passes on.
//!
//! # Format
//! A JWT in the header `Grip-Sig`, with the claims `iss` and `exp`. Fastly Fanout signs with ES256 and the issuer
//! `fastly:<service id>`, the Pushpin of the Fastly CLI with HS256 and the issuer `viceroy`.
//!
//! A valid signature says that the request came through the proxy, never that it is a WebSocket event: see
//! [`is_websocket_over_http`](super::websocket::is_websocket_over_http). It names neither connection nor path, and
//! holds for an hour. Source: <https://pushpin.org/docs/protocols/grip/#grip-sig>, RFC 7519.

use std::{collections::HashSet, error::Error, fmt};

#[cfg(feature = "rs256")]
use jwt_simple::prelude::RSAPublicKeyLike;
use jwt_simple::{
    JWTError,
    prelude::{Duration, ECDSAP256PublicKeyLike, MACLike, NoCustomClaims, UnixTimeStamp, VerificationOptions},
};

use super::{Header, VerifyKey};

/// How far the clocks of proxy and service may differ, in seconds, where [`Verifier::with_leeway`] says nothing else.
///
/// ```
/// use fanout_edge::grip::{Verifier, VerifyKey, key::InvalidKey, signature::LEEWAY};
///
/// let verifier = Verifier::new(VerifyKey::parse("a secret that both sides know")?, "me");
/// assert_eq!(verifier.leeway(), LEEWAY);
/// # Ok::<(), InvalidKey>(())
/// ```
pub const LEEWAY: u64 = 10;

/// The longest token that is looked at, in bytes. Those of the proxies have about 200.
///
/// ```
/// use fanout_edge::grip::{fanout::Service, signature::{MAX_TOKEN_LENGTH, SignatureError}};
///
/// let verifier = Service::new("SERVICE1").expect("a valid id").verifier();
/// let long = "x".repeat(MAX_TOKEN_LENGTH + 1);
/// assert_eq!(verifier.verify(&long, 1_800_000_000), Err(SignatureError::Malformed));
/// ```
pub const MAX_TOKEN_LENGTH: usize = 4096;

/// What signatures are checked against: one key and one issuer.
///
/// ```
/// use fanout_edge::grip::{Verifier, VerifyKey, signature::SignatureError};
///
/// let verifier = Verifier::new(VerifyKey::parse("a secret that both sides know")?, "viceroy");
/// assert_eq!(verifier.verify("no token", 1_800_000_000), Err(SignatureError::Malformed));
/// # Ok::<(), fanout_edge::grip::key::InvalidKey>(())
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    key: VerifyKey,
    issuers: HashSet<String>,
    leeway: u64,
}

impl Verifier {
    /// A verifier for what the key signs in the name of the issuer.
    ///
    /// ```
    /// use fanout_edge::grip::{Verifier, VerifyKey};
    ///
    /// let verifier = Verifier::new(VerifyKey::parse("a secret that both sides know")?, "viceroy");
    /// assert_eq!(verifier.issuer(), "viceroy");
    /// # Ok::<(), fanout_edge::grip::key::InvalidKey>(())
    /// ```
    pub fn new(key: VerifyKey, issuer: impl Into<String>) -> Self {
        Self { key, issuers: HashSet::from([issuer.into()]), leeway: LEEWAY }
    }

    /// The same, for clocks that may differ by so many seconds.
    ///
    /// ```
    /// use fanout_edge::grip::fanout::Service;
    ///
    /// let verifier = Service::new("SERVICE1").expect("a valid id").verifier().with_leeway(60);
    /// assert_eq!(verifier.leeway(), 60);
    /// ```
    pub fn with_leeway(mut self, seconds: u64) -> Self {
        self.leeway = seconds;
        self
    }

    /// How far the clocks may differ, in seconds.
    ///
    /// ```
    /// use fanout_edge::grip::{fanout::Service, signature::LEEWAY};
    ///
    /// let verifier = Service::new("SERVICE1").expect("a valid id").verifier();
    /// assert_eq!(verifier.leeway(), LEEWAY);
    /// ```
    pub const fn leeway(&self) -> u64 {
        self.leeway
    }

    /// The key.
    ///
    /// ```
    /// use fanout_edge::grip::{VerifyKey, fanout::Service};
    ///
    /// let verifier = Service::new("SERVICE1").expect("a valid id").verifier();
    /// assert!(matches!(verifier.key(), VerifyKey::Es256(_)));
    /// ```
    pub const fn key(&self) -> &VerifyKey {
        &self.key
    }

    /// The issuer.
    ///
    /// ```
    /// use fanout_edge::grip::fanout::Service;
    ///
    /// let verifier = Service::new("SERVICE1").expect("a valid id").verifier();
    /// assert_eq!(verifier.issuer(), "fastly:SERVICE1");
    /// ```
    pub fn issuer(&self) -> &str {
        self.issuers.iter().next().map_or("", String::as_str)
    }

    /// Checks a token at a time, in seconds since 1970: algorithm, signature, `exp` (which must be there), `nbf` and
    /// `iat` (which need not) and the issuer. No other claim counts. What it returns is `exp`, in seconds since 1970.
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
    /// let verifier = Verifier::new(VerifyKey::parse(secret)?, "viceroy");
    /// let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
    /// assert!(verifier.verify(&token, now).is_ok_and(|expiry| expiry > now));
    /// assert_eq!(verifier.verify(&token, now + 7200), Err(SignatureError::Expired));
    /// # Ok::<(), fanout_edge::grip::key::InvalidKey>(())
    /// ```
    pub fn verify(&self, token: &str, now: u64) -> Result<u64, SignatureError> {
        self.key.verify(token, Some(self.issuers.clone()), self.leeway, now)
    }
}

impl VerifyKey {
    /// Checks a token as [`Verifier::verify`] does; of any issuer where none is given.
    pub(crate) fn verify(
        &self,
        token: &str,
        issuers: Option<HashSet<String>>,
        leeway: u64,
        now: u64,
    ) -> Result<u64, SignatureError> {
        let options = VerificationOptions {
            allowed_issuers: issuers,
            time_tolerance: Some(Duration::from_secs(leeway)),
            max_token_length: Some(MAX_TOKEN_LENGTH),
            artificial_time: Some(UnixTimeStamp::from_secs(now)),
            ..VerificationOptions::default()
        };
        let claims = match self {
            Self::Hs256(key) => key.verify_token::<NoCustomClaims>(token, Some(options)),
            Self::Es256(key) => key.verify_token::<NoCustomClaims>(token, Some(options)),
            #[cfg(feature = "rs256")]
            Self::Rs256(key) => key.verify_token::<NoCustomClaims>(token, Some(options)),
        };
        let claims = claims.map_err(|error| match error.downcast_ref() {
            Some(JWTError::AlgorithmMismatch) => SignatureError::Algorithm,
            Some(JWTError::InvalidSignature | JWTError::InvalidAuthenticationTag) => SignatureError::Signature,
            Some(JWTError::TokenHasExpired) => SignatureError::Expired,
            Some(JWTError::TokenNotValidYet | JWTError::ClockDrift) => SignatureError::NotYetValid,
            Some(JWTError::RequiredIssuerMismatch | JWTError::RequiredIssuerMissing) => SignatureError::Issuer,
            _ => SignatureError::Malformed,
        })?;
        claims.expires_at.map(|expiry| expiry.as_secs()).ok_or(SignatureError::NoExpiry)
    }
}

/// Why a `Grip-Sig` does not verify, in the order of the checks.
///
/// ```
/// use fanout_edge::grip::signature::SignatureError;
///
/// assert_eq!(SignatureError::Expired.to_string(), "it has expired");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignatureError {
    /// It is not a JWT of at most [`MAX_TOKEN_LENGTH`] bytes, or is there more than once.
    Malformed,
    /// It names another algorithm than the key's.
    Algorithm,
    /// The key did not make the signature.
    Signature,
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
            Self::Malformed => "it is not one JWT",
            Self::Algorithm => "its algorithm is not the key's",
            Self::Signature => "the key did not make its signature",
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet",
            Self::Issuer => "its issuer is not the expected one",
            Self::NoExpiry => "it has no expiry",
        })
    }
}

impl Error for SignatureError {}

/// Where a request stands with the proxy.
///
/// In the terms of the other GRIP libraries: a request with a `Grip-Sig` says that it is *proxied*; as every proxy here
/// has a key, it *needs a signature* that verifies; with that it is *signed*, and only then it is trusted.
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
    /// A `Grip-Sig` that does not verify: it lies, or the settings are those of another proxy.
    NeedsSignature(SignatureError),
    /// A `Grip-Sig` that verifies: it came through the proxy.
    Signed {
        /// When the signature expires, in seconds since 1970.
        until: u64,
    },
}

impl GripStatus {
    /// The status of a request with that header `Grip-Sig`, at a time in seconds since 1970. Any of several proxies may
    /// have signed it, each with its own key and issuer; where none has, the reason is that of the one that came
    /// furthest: a key that fits says more than one that does not.
    ///
    /// ```
    /// use fanout_edge::grip::{GripStatus, Header, fanout::Service, signature::SignatureError};
    ///
    /// let verifiers = [Service::new("SERVICE1").expect("a valid id").verifier()];
    /// let status = GripStatus::of(Header::Value("no token"), &verifiers, 1_800_000_000);
    /// assert_eq!(status, GripStatus::NeedsSignature(SignatureError::Malformed));
    /// ```
    pub fn of(grip_sig: Header<'_>, verifiers: &[Verifier], now: u64) -> Self {
        let token = match grip_sig {
            Header::Missing => return Self::NotProxied,
            Header::Invalid => return Self::NeedsSignature(SignatureError::Malformed),
            Header::Value(token) => token,
        };
        let mut furthest = SignatureError::Malformed;
        for verifier in verifiers {
            match verifier.verify(token, now) {
                Ok(until) => return Self::Signed { until },
                Err(error) => furthest = furthest.max(error),
            }
        }
        Self::NeedsSignature(furthest)
    }
}
