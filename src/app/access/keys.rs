//! The keys of access tokens: the setting `ACCESS_KEY`.

use std::{borrow::Cow, collections::HashMap, error, fmt};

use jwt_simple::token::Token;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    app::error::Error,
    grip::{
        VerifyKey,
        key::InvalidKey,
        signature::{MAX_TOKEN_LENGTH, SignatureError},
    },
};

/// The shortest secret, in bytes: whoever has a token can test secrets on it, for as long as they like.
/// Source: RFC 7518, section 3.2.
const MIN_SECRET_LENGTH: usize = 32;

/// The keys of access tokens.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// One, whatever key ID (`kid`) a token names.
    One(Box<VerifyKey>),
    /// Several, by key ID. A token names its own.
    Set(HashMap<String, VerifyKey>),
}

/// A JWK Set. Source: RFC 7517, section 5.
#[derive(Deserialize)]
struct JwkSet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct KeyId<'a> {
    #[serde(borrow)]
    kid: Cow<'a, str>,
}

impl Keys {
    /// Parses the setting.
    ///
    /// # Format
    /// * one, in a format of [`VerifyKey::parse`], a secret of at least 32 bytes;
    /// * several: a JWK Set. Those of its keys are used that have a `kid` and are of a supported kind
    ///   (RFC 7517, section 5).
    ///
    /// # Errors
    /// [`InvalidKeys`].
    pub(crate) fn parse(setting: &str) -> Result<Self, InvalidKeys> {
        if setting.trim().is_empty() {
            return Err(InvalidKeys::Empty);
        }
        let Ok(set) = serde_json::from_slice::<JwkSet<'_>>(setting.as_bytes()) else {
            return parse(setting).map(|key| Self::One(Box::new(key)));
        };
        let mut keys = HashMap::new();
        for jwk in set.keys {
            let key = match parse(jwk.get()) {
                Ok(key) => key,
                Err(_) if !jwk.get().starts_with('{') => continue,
                // Keys of other kinds may stand beside. These are mistakes.
                Err(error @ (InvalidKeys::TooShort | InvalidKeys::Key(InvalidKey::Private))) => return Err(error),
                Err(_) => continue,
            };
            let Ok(KeyId { kid }) = serde_json::from_slice(jwk.get().as_bytes()) else { continue };
            if keys.insert(kid.into_owned(), key).is_some() {
                return Err(InvalidKeys::Set);
            }
        }
        if keys.is_empty() { Err(InvalidKeys::Set) } else { Ok(Self::Set(keys)) }
    }

    /// The key of a token, which is not verified yet.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::NoKeyId`] or [`Error::UnknownKeyId`].
    pub(crate) fn key_of(&self, token: &str) -> Result<&VerifyKey, Error> {
        let keys = match self {
            Self::One(key) => return Ok(key),
            Self::Set(keys) => keys,
        };
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(Error::Token(SignatureError::TooLong));
        }
        let header = Token::decode_metadata(token).map_err(|_| Error::Token(SignatureError::Malformed))?;
        keys.get(header.key_id().ok_or(Error::NoKeyId)?).ok_or(Error::UnknownKeyId)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &VerifyKey> {
        let (one, set) = match self {
            Self::One(key) => (Some(&**key), None),
            Self::Set(keys) => (None, Some(keys.values())),
        };
        one.into_iter().chain(set.into_iter().flatten())
    }
}

fn parse(text: &str) -> Result<VerifyKey, InvalidKeys> {
    let key = VerifyKey::parse(text).map_err(|error| match error {
        InvalidKey::TooShort => InvalidKeys::TooShort,
        error => InvalidKeys::Key(error),
    })?;
    match key.secret_length() {
        Some(..MIN_SECRET_LENGTH) => Err(InvalidKeys::TooShort),
        _ => Ok(key),
    }
}

/// A setting that cannot be used. The text says why, and quotes nothing of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidKeys {
    /// A key cannot be used.
    Key(InvalidKey),
    /// It is empty.
    Empty,
    /// A secret is too short.
    TooShort,
    /// A JWK Set without a supported key that has a `kid`, or with two of the same `kid`.
    Set,
}

impl fmt::Display for InvalidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::Empty => f.write_str("it is empty"),
            Self::TooShort => {
                write!(f, "the secret is too short: use at least {MIN_SECRET_LENGTH} bytes (openssl rand -base64 32)")
            }
            Self::Set => f.write_str("the JWK Set has no supported key with a kid of its own"),
        }
    }
}

impl error::Error for InvalidKeys {}
