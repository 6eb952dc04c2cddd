//! `GRIP_URL`: all that an application needs to know of one GRIP proxy, in one URL.
//!
//! # Format
//! ```text
//! http[s]://[user:password@]host[:port][/path][/]?iss=…&key=…&verify-iss=…&verify-key=…
//! ```
//! | parameter | what for |
//! | --- | --- |
//! | user and password | publishing: `Authorization: Basic` |
//! | `iss` and `key` | publishing: a JWT of that issuer, signed with that secret (HS256) |
//! | `key` alone | publishing: `Authorization: Bearer`, the key itself |
//! | `verify-iss` | the issuer of the proxy's `Grip-Sig` |
//! | `verify-key` | the key of the proxy's `Grip-Sig`, see [`VerifyKey::parse`]; by default the `key` of an `iss` |
//!
//! Values are percent-encoded. As in the other GRIP libraries, a key may begin with `base64:`.

use std::{borrow::Cow, error::Error, fmt};

use url::{Position, Url};

use super::{
    key::{InvalidKey, VerifyKey, decode_base64},
    publish::{Authorization, Publisher},
};

/// What a `GRIP_URL` says.
///
/// ```
/// use fanout_edge::grip::GripUri;
///
/// let uri = GripUri::parse("http://127.0.0.1:5561/?verify-iss=viceroy&verify-key=a+secret+of+some+length")?;
/// assert_eq!(uri.verify_iss.as_deref(), Some("viceroy"));
/// # Ok::<(), fanout_edge::grip::uri::InvalidGripUri>(())
/// ```
#[derive(Debug)]
pub struct GripUri {
    /// How to publish.
    pub publisher: Publisher,
    /// The issuer of signatures.
    pub verify_iss: Option<String>,
    /// The key of signatures.
    pub verify_key: Option<VerifyKey>,
}

impl GripUri {
    /// Reads a `GRIP_URL`.
    ///
    /// # Errors
    /// [`InvalidGripUri`], which quotes nothing of the URL: what looks like a name may be a part of a key.
    ///
    /// ```
    /// use fanout_edge::grip::GripUri;
    ///
    /// let uri = GripUri::parse("https://user:password@proxy.example/realm?verify-iss=proxy")?;
    /// let request = uri.publisher.request(&[], 1_800_000_000).expect("it is small");
    /// assert_eq!(request.url, "https://proxy.example/realm/publish/");
    /// assert_eq!(request.authorization.as_deref(), Some("Basic dXNlcjpwYXNzd29yZA=="));
    /// # Ok::<(), fanout_edge::grip::uri::InvalidGripUri>(())
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
        let verify_key = verify_key.or_else(|| iss.as_ref().and_then(|_| key.clone()));
        let authorization = authorization(&uri, iss, key)?;
        let verify_key = verify_key.map(|key| VerifyKey::parse(&key)).transpose().map_err(InvalidGripUri::VerifyKey)?;
        let control_uri = format!("{}://{}", uri.scheme(), &uri[Position::BeforeHost..Position::AfterPath]);
        Ok(Self { publisher: Publisher::new(&control_uri, authorization), verify_iss, verify_key })
    }
}

/// Whether the host is plain ASCII, without percent-encoding and Punycode. Any other is one for the Unicode tables of
/// domain names, which the `url` crate is built without here.
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
            let secret = decode_base64(&key).map_err(InvalidGripUri::Key)?.unwrap_or_else(|| key.into_bytes());
            Authorization::jwt(issuer, &secret).map_err(InvalidGripUri::Key)
        }
        (None, Some(key)) => {
            let token = match decode_base64(&key).map_err(InvalidGripUri::Key)? {
                Some(bytes) => String::from_utf8(bytes).map_err(|_| InvalidGripUri::Bearer)?,
                None => key,
            };
            Authorization::bearer(token).ok_or(InvalidGripUri::Bearer)
        }
    }
}

/// What a percent-encoded user or password stands for, as the `url` crate decodes it.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok()
}

/// A `GRIP_URL` that cannot be used. The text says why, and nothing of its keys.
///
/// ```
/// use fanout_edge::grip::{GripUri, uri::InvalidGripUri};
///
/// assert_eq!(GripUri::parse("ftp://proxy.example/").err(), Some(InvalidGripUri::Url));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidGripUri {
    /// It is not an http or https URL.
    Url,
    /// Its host is a domain name with other letters than ASCII, in whatever encoding.
    Host,
    /// It has a parameter that is not known, or a key in it has a `&` that is not written `%26`.
    Parameter,
    /// It has a fragment, or a key in it has a `#` that is not written `%23`.
    Fragment,
    /// `key` cannot be used.
    Key(InvalidKey),
    /// `key` without `iss` is sent as it is, but cannot be in a header.
    Bearer,
    /// It has a user without a password, a user with a colon, or a user beside a `key`.
    User,
    /// `iss` has no `key` to sign with.
    IssWithoutKey,
    /// `verify-key`, or the `key` of an `iss`, cannot be used.
    VerifyKey(InvalidKey),
}

impl fmt::Display for InvalidGripUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("it is not an http or https URL"),
            Self::Host => f.write_str("its host is not plain ASCII"),
            Self::Parameter => f.write_str(
                "it has a parameter that is none of iss, key, verify-iss, verify-key (in a key, & is written %26)",
            ),
            Self::Fragment => f.write_str("it has a fragment (in a key, # is written %23)"),
            Self::Key(error) => write!(f, "key: {error}"),
            Self::Bearer => f.write_str("key: without iss it has printable ASCII characters only"),
            Self::User => f.write_str("a user needs a password, has no colon, and excludes a key"),
            Self::IssWithoutKey => f.write_str("iss needs a key"),
            Self::VerifyKey(error) => write!(f, "verify-key: {error}"),
        }
    }
}

impl Error for InvalidGripUri {}
