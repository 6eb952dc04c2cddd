//! Access tokens: who may subscribe and who may broadcast, where the settings have a key for it.
//!
//! # Format
//! A JWT, signed with the key of the setting `ACCESS_KEY`, in the header `Authorization: Bearer`, in the query
//! (`?token=`), or after `bearer` in the subprotocols of a WebSocket. Its claims: `exp`, which must be there, and
//! `x-fastly-read` and `x-fastly-write`, lists of the channels that it may subscribe to and publish to. A channel that
//! ends in `*` stands for all that begin so. Source: RFC 7519, RFC 6750, the tokens of fastly/pubsub.

use std::{borrow::Cow, collections::HashMap, error::Error, fmt};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jwt_simple::token::Token;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Reply, Request};
use crate::grip::{
    Channel, Header, VerifyKey,
    key::InvalidKey,
    signature::{LEEWAY, MAX_TOKEN_LENGTH, SignatureError},
};

/// The subprotocol that a WebSocket client offers before its token.
pub(super) const PROTOCOL: &str = "bearer";

/// The keys of access tokens.
#[derive(Clone, Debug)]
pub enum Access {
    /// One, whatever `kid` a token has.
    One(Box<VerifyKey>),
    /// Several, of which a token names its own by `kid`.
    Several(HashMap<String, VerifyKey>),
}

/// Members of a JWK, which are no names of keys: their values are no secrets. Source: RFC 7517, section 4; RFC 7518,
/// section 6.
const IN_A_JWK: &[&str] = &["k", "kid", "use", "key_ops", "alg", "crv", "x", "y", "d", "n", "e"];

/// The shortest secret, in bytes. Who has a token can try secrets on it, for as long as he likes.
const MIN_SECRET_LENGTH: usize = 16;

/// A key that is fit for tokens that strangers hold.
fn key(text: &str) -> Result<VerifyKey, InvalidAccess> {
    let key = VerifyKey::parse(text).map_err(InvalidAccess::Key)?;
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

/// What may be done with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Subscribe to it.
    Read,
    /// Publish to it.
    Write,
}

/// What a token allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Grants {
    /// The channels to subscribe to.
    #[serde(rename = "x-fastly-read", default)]
    read: Vec<String>,
    /// The channels to publish to.
    #[serde(rename = "x-fastly-write", default)]
    write: Vec<String>,
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
        let Ok(Members(members)) = serde_json::from_str(setting) else {
            return key(setting).map(|key| Self::One(Box::new(key)));
        };
        let is_jwk = members.iter().any(|(name, _)| name == "kty");
        if is_jwk {
            return key(setting).map(|key| Self::One(Box::new(key)));
        }
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

    /// What a token allows at a time, in seconds since 1970, and when it expires.
    ///
    /// # Errors
    /// [`Denied::Token`], [`Denied::UnknownKey`] or [`Denied::Claims`].
    pub fn verify(&self, token: &str, now: u64) -> Result<(Grants, u64), Denied> {
        let key = match self {
            Self::One(key) => key,
            Self::Several(_) if token.len() > MAX_TOKEN_LENGTH => return Err(Denied::Token(SignatureError::Malformed)),
            Self::Several(keys) => {
                let header = Token::decode_metadata(token).map_err(|_| Denied::Token(SignatureError::Malformed))?;
                header.key_id().and_then(|kid| keys.get(kid)).ok_or(Denied::UnknownKey)?
            }
        };
        let until = key.verify(token, None, LEEWAY, now).map_err(Denied::Token)?;
        let claims = token.split('.').nth(1).and_then(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).ok());
        let grants = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).ok_or(Denied::Claims)?;
        Ok((grants, until))
    }

    /// Whether the token of a request allows it something on each of the channels. What it returns is when that ends, in
    /// seconds since 1970.
    ///
    /// # Errors
    /// [`Denied`].
    pub(super) fn allows(
        &self,
        request: &dyn Request,
        rights: &[Right],
        channels: &[Channel],
        now: u64,
    ) -> Result<u64, Denied> {
        let token = token_of(request)?;
        let (grants, until) = self.verify(&token, now)?;
        for right in rights {
            if let Some(channel) = channels.iter().find(|channel| !grants.have(*right, channel)) {
                return Err(Denied::Channel(*right, channel.clone()));
            }
        }
        Ok(until)
    }
}

impl Grants {
    /// Whether the right is among them.
    pub fn have(&self, right: Right, channel: &Channel) -> bool {
        let patterns = match right {
            Right::Read => &self.read,
            Right::Write => &self.write,
        };
        patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => channel.as_str().starts_with(prefix),
            None => channel.as_str() == pattern,
        })
    }
}

/// The token of a request: of the header, else of the subprotocols, else of the query.
fn token_of(request: &dyn Request) -> Result<Cow<'_, str>, Denied> {
    match request.header("authorization") {
        Header::Value(value) => match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => return Ok(token.trim().into()),
            _ => {}
        },
        Header::Invalid => return Err(Denied::Token(SignatureError::Malformed)),
        Header::Missing => {}
    }
    let offered = request.header("sec-websocket-protocol").value().unwrap_or_default();
    let mut protocols = offered.split(',').map(str::trim).skip_while(|protocol| *protocol != PROTOCOL);
    if let Some(token) = protocols.nth(1) {
        return Ok(token.into());
    }
    let mut query = url::form_urlencoded::parse(request.query().as_bytes());
    query.find(|(name, _)| name == "token").map(|(_, token)| token).ok_or(Denied::NoToken)
}

/// A setting that cannot be used. The text says why, and nothing of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidAccess {
    /// A key cannot be used.
    Key(InvalidKey),
    /// A secret could be guessed.
    TooShort,
    /// An object that is no JWK, no JWK Set with a key of a kind that can be used, and not names with a key each.
    Several,
}

impl fmt::Display for InvalidAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::TooShort => write!(f, "a secret has at least {MIN_SECRET_LENGTH} bytes"),
            Self::Several => {
                f.write_str("several keys are a JWK Set with kid and kty in each, or an object of names and keys")
            }
        }
    }
}

impl Error for InvalidAccess {}

/// Why a request may not do what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It has no token.
    NoToken,
    /// It has a `Fastly-Key` that is not valid for the service, and no token.
    FastlyKey,
    /// Its token does not verify.
    Token(SignatureError),
    /// There are several keys, and its token names none of them.
    UnknownKey,
    /// The claims of its token are of another form.
    Claims,
    /// Its token is valid, but not for this channel.
    Channel(Right, Channel),
}

impl Denied {
    /// The answer to the request. Source: RFC 6750, section 3.
    pub(super) fn reply(&self) -> Reply {
        let (status, error) = match self {
            Self::NoToken | Self::FastlyKey => (401, ""),
            Self::Token(_) | Self::UnknownKey | Self::Claims => (401, ", error=\"invalid_token\""),
            Self::Channel(..) => (403, ", error=\"insufficient_scope\""),
        };
        let challenge = format!("Bearer realm=\"fanout-edge\"{error}");
        Reply::text(status, self).with_header("www-authenticate", challenge).with_log(self.log())
    }

    /// The same for the log, which has nothing that a client chose.
    pub(super) fn log(&self) -> String {
        match self {
            Self::Channel(Right::Read, _) => "refused an access token: it does not allow to subscribe there".to_owned(),
            Self::Channel(Right::Write, _) => "refused an access token: it does not allow to publish there".to_owned(),
            Self::Token(error) => format!("refused an access token: {error}"),
            Self::UnknownKey => "refused an access token: it names none of the keys".to_owned(),
            Self::Claims => "refused an access token: its claims are no lists of channels".to_owned(),
            Self::NoToken => "refused a request that has no access token".to_owned(),
            Self::FastlyKey => "refused a Fastly-Key".to_owned(),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str(
                "An access token is needed: the header `Authorization: Bearer TOKEN`, ?token=TOKEN, or the WebSocket subprotocols `bearer, TOKEN`",
            ),
            Self::FastlyKey => f.write_str("The Fastly-Key is not valid for this service"),
            Self::Token(error) => write!(f, "The access token is refused: {error}"),
            Self::UnknownKey => f.write_str("The access token is refused: its kid is that of no key"),
            Self::Claims => {
                f.write_str("The access token is refused: its x-fastly-read and x-fastly-write must be lists of channels")
            }
            Self::Channel(right, channel) => {
                let (verb, claim) = match right {
                    Right::Read => ("subscribe", "x-fastly-read"),
                    Right::Write => ("publish", "x-fastly-write"),
                };
                write!(f, "The access token does not allow to {verb} to {channel}: its {claim} lacks that channel")
            }
        }
    }
}
