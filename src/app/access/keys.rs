//! The keys of access tokens, as the setting has them.

use std::{borrow::Cow, collections::HashMap, error::Error, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::Access;
use crate::grip::{VerifyKey, key::InvalidKey};

/// Members of a JWK, which are no names of keys: their values are no secrets. Source: RFC 7517, section 4; RFC 7518,
/// section 6.
const IN_A_JWK: &[&str] = &["k", "kid", "use", "key_ops", "alg", "crv", "x", "y", "d", "n", "e"];

/// The shortest secret, in bytes. Who has a token can try secrets on it, for as long as he likes.
const MIN_SECRET_LENGTH: usize = 16;

/// A key that is fit for tokens that strangers hold.
fn key(text: &str) -> Result<VerifyKey, InvalidAccess> {
    let key = VerifyKey::parse(text).map_err(|error| match error {
        InvalidKey::TooShort => InvalidAccess::TooShort,
        error => InvalidAccess::Key(error),
    })?;
    match &key {
        VerifyKey::Hs256(secret) if secret.to_bytes().len() < MIN_SECRET_LENGTH => Err(InvalidAccess::TooShort),
        _ => Ok(key),
    }
}

/// The members of a JSON object, in their order, also those that are there twice.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    kid: Cow<'a, str>,
}

impl Access {
    /// Reads a setting.
    ///
    /// # Format
    /// * a key as [`VerifyKey::parse`] takes it: a secret, `base64:`, PEM, JWK;
    /// * several: a JWK Set, of which the keys count that have a `kid` and are of a kind that can be used (RFC 7517,
    ///   section 5), or an object of names and keys,
    ///   `{"2026":"a secret of some length","2027":"-----BEGIN PUBLIC KEY-----…"}`.
    ///
    /// # Errors
    /// [`InvalidAccess`].
    pub fn parse(setting: &str) -> Result<Self, InvalidAccess> {
        if setting.trim().is_empty() {
            return Err(InvalidAccess::Blank);
        }
        let members = match serde_json::from_str(setting) {
            Ok(Members(members)) if members.iter().all(|(name, _)| name != "kty") => members,
            _ => return key(setting).map(|key| Self::One(Box::new(key))),
        };
        let mut keys = HashMap::new();
        let mut add = |kid: Cow<'_, str>, key| match keys.insert(kid.into_owned(), key) {
            None => Ok(()),
            Some(_) => Err(InvalidAccess::Several),
        };
        match &members[..] {
            [(name, set)] if name == "keys" && set.get().starts_with('[') => {
                for jwk in serde_json::from_str::<Vec<&RawValue>>(set.get()).map_err(|_| InvalidAccess::Several)? {
                    let named = serde_json::from_str::<Named<'_>>(jwk.get());
                    if let (Ok(Named { kid }), Ok(key)) = (named, key(jwk.get())) {
                        add(kid, key)?;
                    }
                }
            }
            _ => {
                for (kid, value) in members {
                    let text = serde_json::from_str::<Cow<'_, str>>(value.get());
                    let is_key = (text.is_ok() || value.get().starts_with('{')) && !IN_A_JWK.contains(&&*kid);
                    if !is_key {
                        return Err(InvalidAccess::Several);
                    }
                    add(kid, key(&text.unwrap_or_else(|_| value.get().into()))?)?;
                }
            }
        }
        if keys.is_empty() { Err(InvalidAccess::Several) } else { Ok(Self::Several(keys)) }
    }
}

/// A setting that cannot be used. The text says why, and nothing of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidAccess {
    /// A key cannot be used.
    Key(InvalidKey),
    /// There is nothing in it.
    Blank,
    /// A secret could be guessed.
    TooShort,
    /// An object that is no JWK, no JWK Set with a key of a kind that can be used, and not names with a key each.
    Several,
}

impl fmt::Display for InvalidAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::Blank => f.write_str("it is blank"),
            Self::TooShort => write!(f, "a secret has at least {MIN_SECRET_LENGTH} bytes"),
            Self::Several => {
                f.write_str("several keys are a JWK Set with kid and kty in each, or an object of names and keys")
            }
        }
    }
}

impl Error for InvalidAccess {}
