//! Access tokens: who may subscribe and who may broadcast, where the settings have a key for it.
//!
//! # Format
//! A JWT, signed with the key of the setting `ACCESS_KEY`, in the header `Authorization: Bearer`, in the query
//! (`?token=`), or after `bearer` in the subprotocols of a WebSocket. Its claims: `exp`, which must be there, and
//! `x-fastly-read` and `x-fastly-write`, lists of the channels that it may subscribe to and publish to. A channel that
//! ends in `*` stands for all that begin so. Source: RFC 7519, RFC 6750, the tokens of fastly/pubsub.

mod denied;
mod keys;

use std::{borrow::Cow, collections::HashMap};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jwt_simple::token::Token;
use serde::Deserialize;

pub use self::{denied::Denied, keys::InvalidAccess};
use super::Request;
use crate::grip::{
    Channel, Header, VerifyKey,
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
    /// What a token allows at a time, in seconds since 1970, and when it expires.
    ///
    /// # Errors
    /// [`Denied::Token`], [`Denied::NoKeyId`], [`Denied::UnknownKey`] or [`Denied::Claims`].
    pub fn verify(&self, token: &str, now: u64) -> Result<(Grants, u64), Denied> {
        let key = match self {
            Self::One(key) => key,
            Self::Several(_) if token.len() > MAX_TOKEN_LENGTH => return Err(Denied::Token(SignatureError::Malformed)),
            Self::Several(keys) => {
                let header = Token::decode_metadata(token).map_err(|_| Denied::Token(SignatureError::Malformed))?;
                keys.get(header.key_id().ok_or(Denied::NoKeyId)?).ok_or(Denied::UnknownKey)?
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
