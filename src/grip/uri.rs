//! `GRIP_URL`: the address, credentials and keys of one GRIP proxy, in one URL.
//!
//! # Format
//! ```text
//! http[s]://[user:password@]host[:port][/path][/]?iss=…&key=…&verify-iss=…&verify-key=…
//! ```
//! | part | use |
//! | --- | --- |
//! | user and password | publishing with `Authorization: Basic` |
//! | `iss` and `key` | publishing with `Authorization: Bearer`: a JWT of that issuer, signed with that secret (HS256) |
//! | `key` without `iss` | publishing with `Authorization: Bearer`: the key itself |
//! | `verify-iss` | the issuer of `Grip-Sig` |
//! | `verify-key` | the key that verifies `Grip-Sig`, see [`VerifyKey::parse`]; by default the `key` of an `iss` |
//!
//! Values are percent-encoded. A key may begin with `base64:`, as in the other GRIP libraries; unlike there, a `verify-key` that
//! is a secret says so.

use std::{borrow::Cow, error::Error, fmt};

use url::{Position, Url};

use super::{
    key::{InvalidKey, VerifyKey, decode_base64},
    publish::{Authorization, Publisher},
};

/// A parsed `GRIP_URL`.
#[derive(Debug)]
pub struct GripUri {
    /// The publisher.
    pub publisher: Publisher,
    /// The issuer of the proxy's signatures.
    pub verify_iss: Option<String>,
    /// The key that verifies the proxy's signatures.
    pub verify_key: Option<VerifyKey>,
}

impl GripUri {
    /// Parses a `GRIP_URL`.
    ///
    /// # Errors
    /// [`InvalidGripUri`], which never quotes the URL: what looks like the name of a parameter may be part of a key.
    ///
    /// ```
    /// use fanout_edge::grip::{GripUri, uri::InvalidGripUri};
    ///
    /// let uri = GripUri::parse("https://user:password@proxy.example/realm?verify-iss=proxy")?;
    /// let request = uri.publisher.request(&[], 1_800_000_000).expect("it is small");
    /// assert_eq!(request.url, "https://proxy.example/realm/publish/");
    /// assert_eq!(request.authorization.expect("a user and a password"), "Basic dXNlcjpwYXNzd29yZA==");
    /// assert_eq!(uri.verify_iss.as_deref(), Some("proxy"));
    /// assert_eq!(GripUri::parse("ftp://proxy.example/").err(), Some(InvalidGripUri::Url));
    /// # Ok::<(), InvalidGripUri>(())
    /// ```
    pub fn parse(uri: &str) -> Result<Self, InvalidGripUri> {
        let uri = uri.trim();
        let (scheme, rest) = uri.split_once(':').ok_or(InvalidGripUri::Url)?;
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(InvalidGripUri::Url);
        }
        if !has_plain_host(rest) {
            return Err(InvalidGripUri::Host);
        }
        let uri = Url::parse(uri).map_err(|_| InvalidGripUri::Url)?;
        if uri.fragment().is_some() {
            return Err(InvalidGripUri::Fragment);
        }
        let (mut iss, mut key, mut verify_iss, mut verify_key) = (None, None, None, None);
        for (name, value) in uri.query_pairs() {
            let slot = match &*name {
                "iss" => &mut iss,
                "key" => &mut key,
                "verify-iss" => &mut verify_iss,
                "verify-key" => &mut verify_key,
                _ => return Err(InvalidGripUri::Parameter),
            };
            *slot = Some(value.into_owned()).filter(|value| !value.is_empty());
        }
        let verify_key = match (verify_key, &iss, &key) {
            (Some(key), ..) => Some(VerifyKey::parse(&key)),
            (None, Some(_), Some(key)) => Some(secret(key).and_then(|secret| VerifyKey::from_secret(&secret))),
            _ => None,
        };
        let authorization = authorization(&uri, iss, key)?;
        let verify_key = verify_key.transpose().map_err(InvalidGripUri::VerifyKey)?;
        let control_uri = format!("{}://{}", uri.scheme(), &uri[Position::BeforeHost..Position::AfterPath]);
        Ok(Self { publisher: Publisher::new(&control_uri, authorization), verify_iss, verify_key })
    }
}

/// Whether the host is plain ASCII, without percent-encoding and Punycode. Other hosts need the Unicode tables of
/// domain names, and the `url` crate is built without them.
fn has_plain_host(after_scheme: &str) -> bool {
    let slashes = ['/', '\\', '\t', '\n', '\r'];
    let authority = after_scheme.trim_start_matches(slashes).split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%') && !host.to_ascii_lowercase().contains("xn--")
}

fn authorization(uri: &Url, iss: Option<String>, key: Option<String>) -> Result<Authorization, InvalidGripUri> {
    let has_user = !uri.username().is_empty() || uri.password().is_some();
    match (iss, key) {
        (None, None) if !has_user => Ok(Authorization::none()),
        (None, None) => {
            let decoded = |text| percent_decode(text).ok_or(InvalidGripUri::Url);
            let password = decoded(uri.password().ok_or(InvalidGripUri::User)?)?;
            Authorization::basic(&decoded(uri.username())?, &password).ok_or(InvalidGripUri::User)
        }
        _ if has_user => Err(InvalidGripUri::User),
        (Some(_), None) => Err(InvalidGripUri::IssWithoutKey),
        (Some(issuer), Some(key)) => {
            secret(&key).and_then(|secret| Authorization::jwt(issuer, &secret)).map_err(InvalidGripUri::Key)
        }
        (None, Some(key)) => {
            let token = match decode_base64(&key).map_err(InvalidGripUri::Key)? {
                Some(bytes) => String::from_utf8(bytes).map_err(|_| InvalidGripUri::Bearer)?,
                None => key,
            };
            Authorization::bearer(&token).ok_or(InvalidGripUri::Bearer)
        }
    }
}

/// The secret that signs tokens for publishing.
fn secret(key: &str) -> Result<Vec<u8>, InvalidKey> {
    Ok(decode_base64(key)?.unwrap_or_else(|| key.as_bytes().to_vec()))
}

/// Decodes a percent-encoded user or password; `None` if it is not UTF-8.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok()
}

/// A `GRIP_URL` that cannot be used. The text says why and quotes nothing of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidGripUri {
    /// Not a valid http or https URL.
    Url,
    /// The host is not plain ASCII, or is encoded (percent-encoding or Punycode).
    Host,
    /// An unknown parameter, or a `&` in a key that is not written `%26`.
    Parameter,
    /// A fragment, or a `#` in a key that is not written `%23`.
    Fragment,
    /// The `key` cannot be used.
    Key(InvalidKey),
    /// A `key` without `iss` that is not a valid bearer token.
    Bearer,
    /// A user without a password, a user with a colon, or a user in addition to `iss` or `key`.
    User,
    /// An `iss` without the `key` that signs.
    IssWithoutKey,
    /// The `verify-key`, or the `key` in its place, cannot be used.
    VerifyKey(InvalidKey),
}

impl fmt::Display for InvalidGripUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("not a valid URL: use http[s]://[user:password@]host[:port][/path]"),
            Self::Host => f.write_str("the host is not plain ASCII: use an ASCII host name or an IP address"),
            Self::Parameter => f.write_str(
                "unknown parameter: use iss, key, verify-iss and verify-key only, and write & in a key as %26",
            ),
            Self::Fragment => f.write_str("the URL has a fragment: remove it, and write # in a key as %23"),
            Self::Key(error) => write!(f, "key: {error}"),
            Self::Bearer => f.write_str("key: without iss it is a bearer token: use printable ASCII without spaces"),
            Self::User => f.write_str("invalid user: use user:password without a colon in the user, or key instead"),
            Self::IssWithoutKey => f.write_str("iss requires key: add the secret that signs the tokens"),
            Self::VerifyKey(error) => write!(f, "verify-key: {error}"),
        }
    }
}

impl Error for InvalidGripUri {}
