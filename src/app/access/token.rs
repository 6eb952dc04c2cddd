//! Access tokens: who a client is, and what it may do.
//!
//! # Format
//! A JWT, signed with a key of the setting `ACCESS_KEY`, in the header `Authorization: Bearer`, in the query
//! (`?token=`), or after `bearer` in the subprotocols of a WebSocket. Its claims:
//! * `exp`, required;
//! * `aud`, which has to name `ACCESS_AUDIENCE`, and `iss`, which has to be `ACCESS_ISSUER`;
//! * `x-fastly-read` and `x-fastly-write`, lists of the channels that it may subscribe to and publish to. One that ends in
//!   `*` stands for all that begin with what is before it. `user:ID` in `x-fastly-write` is a user, whom `*` alone does not
//!   reach;
//! * `x-fastly-disconnect`, a list of the users whose connections it may close;
//! * `sub`, optional: the user, a string of 1 to 128 characters.
//!
//! Source: RFC 7519, RFC 6750, the tokens of fastly/pubsub.

use std::borrow::Cow;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jwt_simple::claims::JWTClaims;
use serde_json::Value;

use super::{keys::Keys, right::Right};
use crate::{
    app::{
        bounds::{MAX_CHANNELS, MAX_USER_LENGTH},
        error::Error,
        messages::channels,
        web::Request,
    },
    grip::{
        Channel, Header, VerifyKey,
        signature::{Claims, LEEWAY, SignatureError},
    },
};

/// The subprotocol that a WebSocket client offers before its token.
pub(crate) const PROTOCOL: &str = "bearer";

/// Who a client is: what its verified token says of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Identity {
    user: Option<String>,
    claims: Claims,
}

impl Rules {
    /// What a key and the rest of these rules are known by, for the proxy: see [`VerifyKey::fingerprint`].
    fn fingerprint(&self, key: &VerifyKey) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        key.fingerprint(&format!("fanout-edge event stream\n{}\n{}", text(&self.audience), text(&self.issuer)))
    }

    /// Whether a token with that [fingerprint](Verified::fingerprint) would still be accepted.
    pub(crate) fn accept(&self, fingerprint: &str) -> bool {
        self.keys.iter().any(|key| self.fingerprint(key) == fingerprint)
    }
}

/// A verified token.
pub(crate) struct Verified<'k> {
    /// The key that verified it, and the rules.
    key: &'k VerifyKey,
    rules: &'k Rules,
    /// When it expires, in seconds since 1970.
    pub(crate) expires_at: u64,
    /// Whose it is.
    pub(crate) identity: Identity,
}

/// Which tokens are accepted.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The keys that sign them.
    pub(crate) keys: Keys,
    /// Whom their `aud` has to name. Without it they have none.
    pub(crate) audience: Option<String>,
    /// Their `iss`, if it matters.
    pub(crate) issuer: Option<String>,
}

/// Verifies a token at a time, in seconds since 1970.
///
/// # Errors
/// [`Error::Token`], [`Error::NoKeyId`], [`Error::UnknownKeyId`], [`Error::Audience`], [`Error::Subject`] or [`Error::Claim`].
pub(crate) fn verify<'k>(token: &str, rules: &'k Rules, now: u64) -> Result<Verified<'k>, Error> {
    let key = rules.keys.key_of(token)?;
    let verified = key.verify(token, rules.issuer.as_deref(), LEEWAY, now).map_err(Error::Token)?;
    // Source: RFC 7519, section 4.1.3.
    match (&verified.audiences, &rules.audience) {
        (None, None) => {}
        (Some(audiences), Some(audience)) if audiences.contains(audience) => {}
        (audiences, audience) => {
            return Err(Error::Audience { is_there: audiences.is_some(), is_set: audience.is_some() });
        }
    }
    let is_user = |user: &String| (1..=MAX_USER_LENGTH).contains(&user.chars().count());
    if !verified.subject.as_ref().is_none_or(is_user) {
        return Err(Error::Subject);
    }
    for right in [Right::Read, Right::Write, Right::Disconnect] {
        let is_list = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(Value::is_string));
        if !verified.claims.get(right.claim()).is_none_or(is_list) {
            return Err(Error::Claim(right));
        }
    }
    let identity = Identity { user: verified.subject, claims: verified.claims };
    Ok(Verified { key, rules, expires_at: verified.expires_at, identity })
}

impl Verified<'_> {
    /// What the proxy is given in place of the key and the rules that accepted it.
    pub(crate) fn fingerprint(&self) -> String {
        self.rules.fingerprint(self.key)
    }
}

impl Identity {
    /// Reads the claims of a token that was verified by an earlier request, which a connection ticket proves.
    pub(crate) fn of_verified(token: &str) -> Option<Self> {
        let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: JWTClaims<Claims> = serde_json::from_slice(&claims).ok()?;
        Some(Self { user: claims.subject, claims: claims.custom })
    }

    /// The user: the claim `sub`.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Another claim, except those that RFC 7519, section 4.1 registers.
    pub(crate) fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// The channel of what is sent to the user.
    pub(crate) fn channel(&self) -> Option<Channel> {
        self.user().map(channels::of_user)
    }

    /// How many channels it may name. The proxy silently ignores more than it allows, and one is the user's.
    pub(crate) fn most_channels(&self) -> usize {
        MAX_CHANNELS - usize::from(self.user.is_some())
    }

    /// Whether the token grants a right on a channel.
    pub(crate) fn grants(&self, right: Right, channel: &Channel) -> bool {
        self.patterns(right).any(|pattern| channels::matches(pattern, channel.as_str()))
    }

    /// Whether the token grants a right on a user.
    pub(crate) fn grants_user(&self, right: Right, user: &str) -> bool {
        let pattern = |pattern: &'_ str| match right {
            Right::Write => {
                pattern.strip_prefix(channels::USER).is_some_and(|pattern| channels::matches(pattern, user))
            }
            Right::Read | Right::Disconnect => channels::matches(pattern, user),
        };
        self.patterns(right).any(pattern)
    }

    fn patterns(&self, right: Right) -> impl Iterator<Item = &str> {
        let patterns = self.claims.get(right.claim()).and_then(Value::as_array);
        patterns.into_iter().flatten().filter_map(Value::as_str)
    }
}

/// The token of a request: from the header, else from the subprotocols, else from the query.
///
/// # Errors
/// [`Error::NoToken`]; [`Error::Token`] if the header is not text or was sent more than once.
pub(crate) fn of_request(request: &(impl Request + ?Sized)) -> Result<Cow<'_, str>, Error> {
    match request.header("authorization") {
        Header::Value(value) => match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => return Ok(token.trim().into()),
            _ => {}
        },
        Header::Invalid => return Err(Error::Token(SignatureError::Header)),
        Header::Missing => {}
    }
    let mut protocols = request.list("sec-websocket-protocol").into_iter().skip_while(|protocol| *protocol != PROTOCOL);
    if let Some(token) = protocols.nth(1) {
        return Ok(token.into());
    }
    let mut query = url::form_urlencoded::parse(request.query().as_bytes());
    query.find(|(name, _)| name == "token").map(|(_, token)| token).ok_or(Error::NoToken)
}
