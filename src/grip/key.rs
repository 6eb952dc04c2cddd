//! The keys that signatures are checked with.
//!
//! Source: RFC 7468 (PEM), RFC 5480 and 5958 (what is inside it), RFC 7517 (JWK), RFC 7518 (the algorithms).

use std::{error::Error, fmt};

use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine},
};
#[cfg(feature = "rs256")]
use jwt_simple::prelude::RS256PublicKey;
use jwt_simple::prelude::{ES256PublicKey, HS256Key};
use serde::Deserialize;

/// The shortest HS256 secret, in bytes, that jwt-simple accepts.
///
/// ```
/// use fanout_edge::grip::{VerifyKey, key::MIN_SECRET_LENGTH};
///
/// assert!(VerifyKey::parse(&"x".repeat(MIN_SECRET_LENGTH)).is_ok());
/// assert!(VerifyKey::parse(&"x".repeat(MIN_SECRET_LENGTH - 1)).is_err());
/// ```
pub const MIN_SECRET_LENGTH: usize = 12;

/// What begins like that is known to others: an address where keys are, or a key of another kind.
const PUBLIC: [&str; 4] = ["https://", "http://", "ssh-", "ecdsa-sha2-"];

/// A key that signatures are checked with. It decides the algorithm: what the token says is only compared with it.
///
/// ```
/// use fanout_edge::grip::VerifyKey;
///
/// let key = VerifyKey::parse(r#"{"kty":"oct","k":"YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg"}"#)?;
/// assert!(matches!(key, VerifyKey::Hs256(_)));
/// assert_eq!(format!("{key:?}"), "Hs256");
/// # Ok::<(), fanout_edge::grip::key::InvalidKey>(())
/// ```
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
    /// * PEM, `-----BEGIN PUBLIC KEY-----` (SPKI, P-256), or the base64 or the bytes (DER) inside it: ES256; of a
    ///   private key (PKCS#8) the public part is taken, if it is there;
    /// * a JWK, `{"kty":…}`: `EC` with `P-256` is ES256, `oct` is HS256;
    /// * with the cargo feature `rs256`, PEM, DER and JWK may be of an RSA public key of 2048 to 4096 bits: RS256;
    /// * anything else is the secret of HS256 itself, of at least [`MIN_SECRET_LENGTH`] bytes.
    ///
    /// # Errors
    /// [`InvalidKey`], which never quotes the key.
    ///
    /// ```
    /// use fanout_edge::grip::{VerifyKey, key::InvalidKey};
    ///
    /// assert!(matches!(VerifyKey::parse("base64:YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg="), Ok(VerifyKey::Hs256(_))));
    /// assert!(matches!(VerifyKey::parse(fanout_edge::grip::fanout::PUBLIC_KEY), Ok(VerifyKey::Es256(_))));
    /// assert_eq!(VerifyKey::parse("short").err(), Some(InvalidKey::TooShort));
    /// ```
    pub fn parse(key: &str) -> Result<Self, InvalidKey> {
        match decode_base64(key)? {
            Some(bytes) if is_der(&bytes) => Self::from_der(&bytes).ok_or(InvalidKey::Pem),
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
        if let Some(der) = decode_body(text).filter(|bytes| is_der(bytes)) {
            return Self::from_der(&der).ok_or(InvalidKey::Pem);
        }
        if PUBLIC.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(InvalidKey::Public);
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
        let (_, encapsulated) = pem.split_once("-----BEGIN ")?;
        let (label, encapsulated) = encapsulated.split_once("-----")?;
        let (body, _) = encapsulated.split_once(&format!("-----END {label}-----"))?;
        Self::from_der(&decode_body(body)?)
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        #[cfg(feature = "rs256")]
        if let Ok(key) = RS256PublicKey::from_der(der) {
            return Some(Self::Rs256(key));
        }
        ES256PublicKey::from_bytes(p256_point(der)?).ok().map(Self::Es256)
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

/// The point of an encoded P-256 key: SPKI, or PKCS#8 with the public key in it. DER has one encoding for each, but for
/// the bytes of the key itself.
fn p256_point(der: &[u8]) -> Option<&[u8]> {
    // AlgorithmIdentifier { id-ecPublicKey, prime256v1 }. Source: RFC 5480, sections 2.1.1 and 2.1.1.1.
    const ALGORITHM: &[u8] = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    // BIT STRING of a point, whole or compressed.
    const POINT: &[u8] = b"\x03\x42\x00";
    const COMPRESSED: &[u8] = b"\x03\x22\x00";
    const SECRET_LENGTH: usize = 32;
    if let Some(spki) = der.strip_prefix(b"\x30\x59") {
        return spki.strip_prefix(ALGORITHM)?.strip_prefix(POINT);
    }
    if let Some(spki) = der.strip_prefix(b"\x30\x39") {
        return spki.strip_prefix(ALGORITHM)?.strip_prefix(COMPRESSED);
    }
    // OneAsymmetricKey { 0, algorithm, ECPrivateKey { 1, secret, [1] public key } }. Source: RFC 5958, RFC 5915.
    let key = der.strip_prefix(b"\x30\x81\x87\x02\x01\x00")?.strip_prefix(ALGORITHM)?;
    let secret_and_point = key.strip_prefix(b"\x04\x6d\x30\x6b\x02\x01\x01\x04\x20")?;
    secret_and_point.get(SECRET_LENGTH..)?.strip_prefix(b"\xa1\x44")?.strip_prefix(POINT)
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

/// Decodes the base64 of a key, however it got here: in lines, with a blank for a `+` that a URL was not given as `%2B`,
/// with the letters of URLs, without padding.
fn decode_body(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let one_line: String = text.lines().map(str::trim).collect();
    LENIENT.decode(one_line.replace([' ', '-'], "+").replace('_', "/")).ok()
}

/// Decodes what begins with `base64:`. A blank stands for a `+` that a URL was not given as `%2B`.
pub(super) fn decode_base64(key: &str) -> Result<Option<Vec<u8>>, InvalidKey> {
    let Some(encoded) = key.strip_prefix("base64:") else { return Ok(None) };
    let encoded = encoded.trim_end_matches(['\r', '\n']).replace(' ', "+");
    BASE64_STANDARD.decode(encoded).map(Some).map_err(|_| InvalidKey::Base64)
}

/// A key that cannot be used. The text says why, and nothing of the key.
///
/// ```
/// use fanout_edge::grip::{VerifyKey, key::InvalidKey};
///
/// assert_eq!(VerifyKey::parse("base64:?").err(), Some(InvalidKey::Base64));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKey {
    /// What follows `base64:` is not base64.
    Base64,
    /// PEM or DER, but not the public key of a P-256 key pair.
    Pem,
    /// JSON, but not a JWK of type `EC` with the curve P-256, or of type `oct`.
    Jwk,
    /// An address or a public key of SSH.
    Public,
    /// A secret of less than [`MIN_SECRET_LENGTH`] bytes.
    TooShort,
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base64 => f.write_str("what follows `base64:` is not base64"),
            Self::Pem => {
                f.write_str("the PEM or DER has no P-256 public key (SPKI, or PKCS#8 with the public key in it)")
            }
            Self::Jwk => f.write_str("the JWK is not a public P-256 key (`EC`) or a secret (`oct`)"),
            Self::Public => f.write_str("an address or a public key of SSH is no secret"),
            Self::TooShort => write!(f, "a secret has at least {MIN_SECRET_LENGTH} bytes"),
        }
    }
}

impl Error for InvalidKey {}
