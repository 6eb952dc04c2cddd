//! Keys that verify signatures.
//!
//! Source: RFC 7468 (PEM), RFC 5480 and 5958 (what is inside it), RFC 7517 (JWK), RFC 7518 (the algorithms).

use std::{error::Error, fmt};

use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine},
};
use hmac_sha256::HMAC;
use jwt_simple::{
    prelude::{ECDSAP256PublicKeyLike, ES256PublicKey, HS256Key},
    reexports::ct_codecs::{Decoder, Hex},
};
use serde_json::{Map, Value};

/// The shortest HS256 secret that is accepted, in bytes.
pub const MIN_SECRET_LENGTH: usize = 12;

/// The first byte of an uncompressed point, before its two coordinates. Source: SEC 1, section 2.3.3.
const UNCOMPRESSED: u8 = 4;

/// A key that verifies signatures. The key decides the algorithm: the `alg` of a token is only compared with it.
///
/// ```
/// use fanout_edge::grip::{VerifyKey, key::Algorithm};
///
/// let key = VerifyKey::parse(r#"{"kty":"oct","k":"YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg"}"#)?;
/// assert_eq!(key.algorithm(), Algorithm::Hs256);
/// # Ok::<(), fanout_edge::grip::key::InvalidKey>(())
/// ```
#[derive(Clone)]
pub struct VerifyKey(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Hs256(HS256Key),
    Es256(ES256PublicKey),
}

/// A signature algorithm. Source: RFC 7518, section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256: the signer and the verifier share a secret.
    Hs256,
    /// ECDSA with P-256 and SHA-256: the verifier needs only the public key.
    Es256,
}

impl VerifyKey {
    /// 16 hexadecimal digits by which the key is known again, for one purpose: the beginning of the HMAC-SHA256 of the purpose, with
    /// the secret or the point on the curve as its key.
    pub fn fingerprint(&self, purpose: &str) -> String {
        let bytes = match &self.0 {
            Kind::Hs256(key) => key.to_bytes(),
            Kind::Es256(key) => key.public_key().to_bytes_uncompressed(),
        };
        HMAC::mac(purpose, bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Parses a key. Whoever knows a secret can sign, so a text is one only if it says so: else a public key in some format
    /// would be taken for it.
    ///
    /// # Format
    /// * `secret:` and an HS256 secret: the text itself, of at least [`MIN_SECRET_LENGTH`] bytes;
    /// * `base64:` or `hex:` and the bytes of a secret, or of one of the following;
    /// * PEM, `-----BEGIN PUBLIC KEY-----` (SPKI, P-256), or, encoded, the bytes inside it (DER): ES256;
    /// * a JWK, `{"kty":…}`: `EC` with `P-256` is ES256, `oct` is HS256.
    ///
    /// # Errors
    /// [`InvalidKey`], which never quotes the key.
    ///
    /// ```
    /// use fanout_edge::grip::{VerifyKey, fanout, key::{Algorithm, InvalidKey}};
    ///
    /// assert_eq!(VerifyKey::parse(fanout::PUBLIC_KEY)?.algorithm(), Algorithm::Es256);
    /// assert_eq!(VerifyKey::parse("base64:YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg=")?.algorithm(), Algorithm::Hs256);
    /// assert_eq!(VerifyKey::parse("secret:short").err(), Some(InvalidKey::TooShort));
    /// assert_eq!(VerifyKey::parse("a secret of some length").err(), Some(InvalidKey::Unmarked));
    /// # Ok::<(), InvalidKey>(())
    /// ```
    pub fn parse(key: &str) -> Result<Self, InvalidKey> {
        let key = key.trim_start();
        if let Some(secret) = key.strip_prefix("secret:") {
            return Self::from_secret(secret.trim().as_bytes());
        }
        if let Some(hex) = key.strip_prefix("hex:") {
            return Self::from_bytes(&Hex::decode_to_vec(hex.trim(), None).map_err(|_| InvalidKey::Hex)?);
        }
        match decode_base64(key)? {
            Some(bytes) => Self::from_bytes(&bytes),
            None => Self::from_key(key).unwrap_or(Err(InvalidKey::Unmarked)),
        }
    }

    /// The algorithm that signatures must have.
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Kind::Hs256(_) => Algorithm::Hs256,
            Kind::Es256(_) => Algorithm::Es256,
        }
    }

    /// The length of an HS256 secret, in bytes. A public key has none.
    pub fn secret_length(&self) -> Option<usize> {
        match &self.0 {
            Kind::Hs256(secret) => Some(secret.to_bytes().len()),
            Kind::Es256(_) => None,
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        if is_der(bytes) {
            return Self::from_der(bytes);
        }
        let key = str::from_utf8(bytes).ok().and_then(|text| Self::from_key(text.trim()));
        key.unwrap_or_else(|| Self::from_secret(bytes))
    }

    /// A key in PEM or JWK; `None` if it is neither.
    fn from_key(text: &str) -> Option<Result<Self, InvalidKey>> {
        if text.contains("-----BEGIN") {
            return Some(Self::from_pem(text));
        }
        text.starts_with(['{', '[']).then(|| Self::from_jwk(text))
    }

    /// Returns an HS256 secret.
    ///
    /// # Errors
    /// [`InvalidKey::TooShort`] if it has less than [`MIN_SECRET_LENGTH`] bytes, [`InvalidKey::Public`] if it is a URL, or a key in
    /// PEM, JWK or DER, or the point of a P-256 public key, in hexadecimal or base64 or not.
    pub fn from_secret(secret: &[u8]) -> Result<Self, InvalidKey> {
        if is_public(secret) {
            return Err(InvalidKey::Public);
        }
        if secret.len() < MIN_SECRET_LENGTH {
            return Err(InvalidKey::TooShort);
        }
        Ok(Self(Kind::Hs256(HS256Key::from_bytes(secret))))
    }

    /// In several lines, in one, or with a written-out `\n` in place of each newline, as variables of CI systems have it.
    fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        let pem = pem.replace("\\r", "").replace("\\n", "\n");
        let (_, encapsulated) = pem.split_once("-----BEGIN ").ok_or(InvalidKey::Pem)?;
        let (label, encapsulated) = encapsulated.split_once("-----").ok_or(InvalidKey::Pem)?;
        if label.ends_with("PRIVATE KEY") {
            return Err(InvalidKey::Private);
        }
        let (body, _) = encapsulated.split_once(&format!("-----END {label}-----")).ok_or(InvalidKey::Pem)?;
        // A space stands for a newline, or for a `+`.
        let one_line: String = body.split_ascii_whitespace().collect();
        let der = [&*one_line, body].into_iter().filter_map(decode_pem_body).find(|der| is_der(der));
        Self::from_der(&der.ok_or(InvalidKey::Pem)?)
    }

    fn from_der(der: &[u8]) -> Result<Self, InvalidKey> {
        if is_private(der) {
            return Err(InvalidKey::Private);
        }
        ES256PublicKey::from_der(der).map(|key| Self(Kind::Es256(key))).map_err(|_| {
            let is_other = is_public_key(der) && !has(der, &P_256);
            if is_other { InvalidKey::Algorithm } else { InvalidKey::Pem }
        })
    }

    /// Source: RFC 7517, section 4; RFC 7518, sections 6.2.1 and 6.4.1.
    fn from_jwk(jwk: &str) -> Result<Self, InvalidKey> {
        let members: Map<String, Value> = serde_json::from_slice(jwk.as_bytes()).map_err(|_| InvalidKey::Jwk)?;
        // Of keys of whatever kind. Source: RFC 7518, section 6; `priv` is that of newer kinds.
        if ["d", "p", "q", "priv"].iter().any(|private| members.contains_key(*private)) {
            return Err(InvalidKey::Private);
        }
        let member = |name| members.get(name).and_then(Value::as_str).ok_or(InvalidKey::Jwk);
        match member("kty")? {
            "oct" => {
                let secret = BASE64_URL_SAFE_NO_PAD.decode(member("k")?).map_err(|_| InvalidKey::Jwk)?;
                Self::from_secret(&secret)
            }
            "EC" if member("crv")? == "P-256" => {
                ES256PublicKey::from_jwk(jwk).map(|key| Self(Kind::Es256(key))).map_err(|_| InvalidKey::Jwk)
            }
            _ => Err(InvalidKey::Algorithm),
        }
    }
}

/// Prints the algorithm and nothing of the key.
impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm().fmt(f)
    }
}

/// Whether bytes that were marked as a secret cannot be meant as one.
fn is_public(bytes: &[u8]) -> bool {
    let text = match str::from_utf8(bytes) {
        Ok(text) if !text.contains(|char: char| char.is_ascii_control() && !char.is_ascii_whitespace()) => text,
        // White space may follow, but a key may also end in such a byte.
        _ => {
            let ends = bytes.trim_ascii_end().len()..=bytes.len();
            return ends.into_iter().any(|end| is_der(&bytes[..end]) || is_point(&bytes[..end]));
        }
    };
    let text = text.trim_matches(|char: char| char.is_whitespace() || matches!(char, '\u{feff}' | '"' | '\''));
    if text.contains("-----BEGIN") || text.contains("://") || text.starts_with(['{', '[']) {
        return true;
    }
    let text = ["hex:", "base64:"].iter().find_map(|mark| text.strip_prefix(mark)).unwrap_or(text);
    let decoded = Hex::decode_to_vec(text, None).ok().or_else(|| decode_pem_body(text));
    decoded.is_some_and(|bytes| !bytes.is_empty() && is_public(&bytes))
}

/// Whether the bytes are the point of a P-256 public key: compressed, uncompressed, or its two coordinates.
fn is_point(bytes: &[u8]) -> bool {
    match (bytes.len(), bytes.first()) {
        (33, Some(2 | 3)) | (65, Some(&UNCOMPRESSED)) => ES256PublicKey::from_bytes(bytes).is_ok(),
        (64, _) => ES256PublicKey::from_bytes(&[&[UNCOMPRESSED], bytes].concat()).is_ok(),
        _ => false,
    }
}

/// Whether the bytes are one DER sequence, as every encoded key is.
fn is_der(bytes: &[u8]) -> bool {
    der_content(bytes).is_some()
}

/// Whether a DER sequence is a private key: it begins with a version, a public key with its algorithm.
/// Source: RFC 5958, section 2 (PKCS#8: 0 or 1); RFC 5915, section 3 (1); RFC 8017, appendix A.1.2 (0 or 1).
fn is_private(der: &[u8]) -> bool {
    matches!(der_content(der), Some([0x02, 0x01, 0 | 1, ..]))
}

/// The identifiers of an elliptic curve key and of P-256. Source: RFC 5480, sections 2.1.1 and 2.1.1.1.
const P_256: [u8; 19] = [6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// Whether a DER sequence begins with another one, which begins with an identifier, as a public key does (RFC 5280, section 4.1),
/// or is one of RSA alone (RFC 8017, appendix A.1.1): two numbers.
fn is_public_key(der: &[u8]) -> bool {
    matches!(der_content(der), Some([0x30, _, 6, ..] | [0x02, 0x82, ..]))
}

fn has(der: &[u8], part: &[u8]) -> bool {
    der.windows(part.len()).any(|window| window == part)
}

/// What is inside a DER sequence that fills all of the bytes.
fn der_content(bytes: &[u8]) -> Option<&[u8]> {
    let (length, content) = match *bytes {
        [0x30, length, ref content @ ..] if length < 0x80 => (usize::from(length), content),
        [0x30, 0x81, length, ref content @ ..] => (usize::from(length), content),
        [0x30, 0x82, high, low, ref content @ ..] => (usize::from(u16::from_be_bytes([high, low])), content),
        _ => return None,
    };
    (content.len() == length).then_some(content)
}

/// Decodes the base64 of a key, however it got here: in several lines, with a space for a `+` that was not written
/// `%2B` in a URL, in the URL-safe alphabet, without padding.
fn decode_pem_body(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let one_line: String = text.lines().map(str::trim).collect();
    LENIENT.decode(one_line.replace([' ', '-'], "+").replace('_', "/")).ok()
}

/// Decodes a value that begins with `base64:`; `None` if it does not. A space stands for a `+` that was not written
/// `%2B` in a URL.
pub(super) fn decode_base64(key: &str) -> Result<Option<Vec<u8>>, InvalidKey> {
    let Some(encoded) = key.strip_prefix("base64:") else { return Ok(None) };
    let encoded = encoded.trim_end_matches(['\r', '\n']).replace(' ', "+");
    BASE64_STANDARD.decode(encoded).map(Some).map_err(|_| InvalidKey::Base64)
}

/// A key that cannot be used. The text says why and quotes nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidKey {
    /// Neither a key in PEM or JWK, nor marked as a secret.
    Unmarked,
    /// What follows `base64:` is not base64.
    Base64,
    /// What follows `hex:` is not hexadecimal.
    Hex,
    /// PEM or DER that cannot be decoded, or is not a public key.
    Pem,
    /// JSON, but not a JWK.
    Jwk,
    /// A key of another algorithm or curve than P-256.
    Algorithm,
    /// A private key: verifying needs only the public key.
    Private,
    /// A public key or a URL where a secret should be.
    Public,
    /// A secret shorter than [`MIN_SECRET_LENGTH`] bytes.
    TooShort,
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmarked => {
                f.write_str("write a secret as secret:TEXT, base64:… or hex:…, and a public key as PEM or JWK")
            }
            Self::Hex => f.write_str("the text after `hex:` is not valid hexadecimal"),
            Self::Base64 => f.write_str("the text after `base64:` is not valid base64"),
            Self::Pem => {
                f.write_str("the PEM or DER cannot be decoded as a public key: use SPKI (BEGIN PUBLIC KEY), whole")
            }
            Self::Jwk => {
                f.write_str("the JWK is not valid: use one with kty `EC`, crv, x and y, or with kty `oct` and k")
            }
            Self::Algorithm => {
                f.write_str("the key is of another algorithm or curve: use one of ES256 (P-256), or a secret (HS256)")
            }
            Self::Private => f.write_str("this is a private key: keep it at the signer, and use its public key here"),
            Self::Public => {
                f.write_str("a public key or a URL is not a secret: write a key as PEM or JWK, without secret:")
            }
            Self::TooShort => write!(f, "the secret is too short: use at least {MIN_SECRET_LENGTH} bytes"),
        }
    }
}

impl Error for InvalidKey {}
