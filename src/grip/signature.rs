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

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
#[cfg(feature = "rs256")]
use jwt_simple::prelude::{RS256PublicKey, RSAPublicKeyLike};
use jwt_simple::{
    JWTError,
    prelude::{
        Duration, ECDSAP256PublicKeyLike, ES256KeyPair, ES256PublicKey, HS256Key, MACLike, NoCustomClaims,
        UnixTimeStamp, VerificationOptions,
    },
};
use serde::Deserialize;

use super::Header;

/// How far the clocks of proxy and service may differ, in seconds.
pub const LEEWAY: u64 = 10;

/// The longest token that is looked at, in bytes. Those of the proxies have about 200.
pub const MAX_TOKEN_LENGTH: usize = 4096;

/// The shortest HS256 secret, in bytes, that jwt-simple accepts.
pub const MIN_SECRET_LENGTH: usize = 12;

/// A key that signatures are checked with. It decides the algorithm: what the token says is only compared with it.
#[derive(Clone)]
#[non_exhaustive]
pub enum VerifyKey {
    /// HS256, with a secret that the proxy and the service share.
    Hs256(HS256Key),
    /// ES256, with the public key of the proxy.
    Es256(ES256PublicKey),
    /// RS256, with the public key of the proxy.
    #[cfg(feature = "rs256")]
    Rs256(RS256PublicKey),
}

impl VerifyKey {
    /// Reads a key.
    ///
    /// # Format
    /// * `base64:` and base64: what it decodes to is one of the following;
    /// * PEM, `-----BEGIN PUBLIC KEY-----` (SPKI, P-256), or the base64 or bytes inside it: ES256; of a private key
    ///   (PKCS#8) the public part is taken;
    /// * a JWK, `{"kty":…}`: `EC` with `P-256` is ES256, `oct` is HS256;
    /// * with the cargo feature `rs256`, PEM, DER and JWK may be of an RSA public key of 2048 to 4096 bits: RS256;
    /// * anything else is the secret of HS256 itself, of at least [`MIN_SECRET_LENGTH`] bytes.
    ///
    /// # Errors
    /// [`InvalidKey`], which never quotes the key.
    ///
    /// ```
    /// use fanout_edge::grip::{VerifyKey, signature::InvalidKey};
    ///
    /// assert!(matches!(VerifyKey::parse("base64:YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg="), Ok(VerifyKey::Hs256(_))));
    /// assert!(matches!(VerifyKey::parse(fanout_edge::grip::fanout::PUBLIC_KEY), Ok(VerifyKey::Es256(_))));
    /// assert_eq!(VerifyKey::parse("short").err(), Some(InvalidKey::TooShort));
    /// ```
    pub fn parse(key: &str) -> Result<Self, InvalidKey> {
        match decode_base64(key)? {
            Some(bytes) => Self::from_bytes(&bytes),
            None => Self::from_bytes(key.as_bytes()),
        }
    }

    fn from_bytes(key: &[u8]) -> Result<Self, InvalidKey> {
        let text = str::from_utf8(key).map_or("", str::trim);
        if text.contains("-----BEGIN") {
            return Self::from_pem(text).ok_or(InvalidKey::Pem);
        }
        if text.starts_with(['{', '[']) {
            return Self::from_jwk(text);
        }
        // The body of a PEM without its first and last line: never a secret, as everybody knows it.
        let der = BASE64_STANDARD.decode(text).ok().filter(|bytes| is_der(bytes));
        if is_der(key) || der.is_some() {
            let der = der.as_deref().unwrap_or(key);
            return Self::from_der(der).ok_or(InvalidKey::Pem);
        }
        if key.len() < MIN_SECRET_LENGTH {
            return Err(InvalidKey::TooShort);
        }
        Ok(Self::Hs256(HS256Key::from_bytes(key)))
    }

    fn from_pem(pem: &str) -> Option<Self> {
        #[cfg(feature = "rs256")]
        if let Ok(key) = RS256PublicKey::from_pem(pem) {
            return Some(Self::Rs256(key));
        }
        let private = || ES256KeyPair::from_pem(pem).map(|pair| pair.public_key());
        ES256PublicKey::from_pem(pem).or_else(|_| private()).ok().map(Self::Es256)
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        #[cfg(feature = "rs256")]
        if let Ok(key) = RS256PublicKey::from_der(der) {
            return Some(Self::Rs256(key));
        }
        ES256PublicKey::from_der(der).ok().map(Self::Es256)
    }

    fn from_jwk(jwk: &str) -> Result<Self, InvalidKey> {
        #[derive(Deserialize)]
        struct Symmetric<'a> {
            kty: &'a str,
            k: &'a str,
        }
        match serde_json::from_str::<Symmetric<'_>>(jwk) {
            Ok(Symmetric { kty: "oct", k }) => {
                let secret = BASE64_URL_SAFE_NO_PAD.decode(k).map_err(|_| InvalidKey::Jwk)?;
                if secret.len() < MIN_SECRET_LENGTH {
                    return Err(InvalidKey::TooShort);
                }
                Ok(Self::Hs256(HS256Key::from_bytes(&secret)))
            }
            _ => Self::from_public_jwk(jwk).ok_or(InvalidKey::Jwk),
        }
    }

    fn from_public_jwk(jwk: &str) -> Option<Self> {
        #[cfg(feature = "rs256")]
        if let Ok(key) = RS256PublicKey::from_jwk(jwk) {
            return Some(Self::Rs256(key));
        }
        ES256PublicKey::from_jwk(jwk).ok().map(Self::Es256)
    }
}

/// The algorithm, and nothing of the key.
impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hs256(_) => "Hs256",
            Self::Es256(_) => "Es256",
            #[cfg(feature = "rs256")]
            Self::Rs256(_) => "Rs256",
        })
    }
}

/// Whether the bytes are one DER sequence, as every encoded key is.
fn is_der(bytes: &[u8]) -> bool {
    match *bytes {
        [0x30, length, ref rest @ ..] if length < 0x80 => rest.len() == usize::from(length),
        [0x30, 0x81, length, ref rest @ ..] => rest.len() == usize::from(length),
        [0x30, 0x82, high, low, ref rest @ ..] => rest.len() == usize::from(u16::from_be_bytes([high, low])),
        _ => false,
    }
}

/// Decodes what begins with `base64:`. A blank stands for a `+` that a URL was not given as `%2B`.
pub(super) fn decode_base64(key: &str) -> Result<Option<Vec<u8>>, InvalidKey> {
    let Some(encoded) = key.strip_prefix("base64:") else { return Ok(None) };
    let encoded = encoded.trim_end_matches(['\r', '\n']).replace(' ', "+");
    BASE64_STANDARD.decode(encoded).map(Some).map_err(|_| InvalidKey::Base64)
}

/// A key that cannot be used. The text says why, and nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKey {
    /// What follows `base64:` is not base64.
    Base64,
    /// PEM or DER, but not the public key of a P-256 key pair.
    Pem,
    /// JSON, but not a JWK of type `EC` with the curve P-256, or of type `oct`.
    Jwk,
    /// A secret of less than [`MIN_SECRET_LENGTH`] bytes.
    TooShort,
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base64 => f.write_str("what follows `base64:` is not base64"),
            Self::Pem => f.write_str("the PEM or DER is not the public key (SPKI) of a P-256 key pair"),
            Self::Jwk => f.write_str("the JWK is not a public P-256 key (`EC`) or a secret (`oct`)"),
            Self::TooShort => write!(f, "a secret has at least {MIN_SECRET_LENGTH} bytes"),
        }
    }
}

impl Error for InvalidKey {}

/// What signatures are checked against: one key and one issuer.
///
/// ```
/// use fanout_edge::grip::{Verifier, VerifyKey, signature::SignatureError};
///
/// let verifier = Verifier::new(VerifyKey::parse("a secret that both sides know")?, "viceroy");
/// assert_eq!(verifier.verify("no token", 1_800_000_000), Err(SignatureError::Malformed));
/// # Ok::<(), fanout_edge::grip::signature::InvalidKey>(())
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    key: VerifyKey,
    issuers: HashSet<String>,
}

impl Verifier {
    /// A verifier for what the key signs in the name of the issuer.
    pub fn new(key: VerifyKey, issuer: impl Into<String>) -> Self {
        Self { key, issuers: HashSet::from([issuer.into()]) }
    }

    /// The key.
    pub const fn key(&self) -> &VerifyKey {
        &self.key
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        self.issuers.iter().next().map_or("", String::as_str)
    }

    /// Checks a token at a time, in seconds since 1970: algorithm, signature, `exp` (which must be there), `nbf` and
    /// `iat` (which need not) and the issuer. No other claim counts.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, token: &str, now: u64) -> Result<(), SignatureError> {
        let options = VerificationOptions {
            allowed_issuers: Some(self.issuers.clone()),
            time_tolerance: Some(Duration::from_secs(LEEWAY)),
            max_token_length: Some(MAX_TOKEN_LENGTH),
            artificial_time: Some(UnixTimeStamp::from_secs(now)),
            ..VerificationOptions::default()
        };
        let claims = match &self.key {
            VerifyKey::Hs256(key) => key.verify_token::<NoCustomClaims>(token, Some(options)),
            VerifyKey::Es256(key) => key.verify_token::<NoCustomClaims>(token, Some(options)),
            #[cfg(feature = "rs256")]
            VerifyKey::Rs256(key) => key.verify_token::<NoCustomClaims>(token, Some(options)),
        };
        let claims = claims.map_err(|error| match error.downcast_ref() {
            Some(JWTError::AlgorithmMismatch) => SignatureError::Algorithm,
            Some(JWTError::InvalidSignature | JWTError::InvalidAuthenticationTag) => SignatureError::Signature,
            Some(JWTError::TokenHasExpired) => SignatureError::Expired,
            Some(JWTError::TokenNotValidYet | JWTError::ClockDrift) => SignatureError::NotYetValid,
            Some(JWTError::RequiredIssuerMismatch | JWTError::RequiredIssuerMissing) => SignatureError::Issuer,
            _ => SignatureError::Malformed,
        })?;
        claims.expires_at.map(|_| ()).ok_or(SignatureError::NoExpiry)
    }
}

/// Why a `Grip-Sig` does not verify, in the order of the checks.
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
    Signed,
}

impl GripStatus {
    /// The status of a request with that header `Grip-Sig`, at a time in seconds since 1970. Any of several proxies may
    /// have signed it, each with its own key and issuer; where none has, the reason is that of the one that came
    /// furthest: a key that fits says more than one that does not.
    pub fn of(grip_sig: Header<'_>, verifiers: &[Verifier], now: u64) -> Self {
        let token = match grip_sig {
            Header::Missing => return Self::NotProxied,
            Header::Invalid => return Self::NeedsSignature(SignatureError::Malformed),
            Header::Value(token) => token,
        };
        let mut furthest = SignatureError::Malformed;
        for verifier in verifiers {
            match verifier.verify(token, now) {
                Ok(()) => return Self::Signed,
                Err(error) => furthest = furthest.max(error),
            }
        }
        Self::NeedsSignature(furthest)
    }
}
