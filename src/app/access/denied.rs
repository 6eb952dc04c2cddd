//! Why a request may not do what it asks for, and what is answered then.

use std::fmt;

use super::Right;
use crate::{
    app::Reply,
    grip::{Channel, signature::SignatureError},
};

/// Why a request may not do what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It has no token.
    NoToken,
    /// It has a `Fastly-Key` that is not valid for the service, and no token.
    FastlyKey,
    /// Its token does not verify.
    Token(SignatureError),
    /// There are several keys, and its token names none.
    NoKeyId,
    /// There are several keys, and its token names another one.
    UnknownKey,
    /// The claims of its token are of another form.
    Claims,
    /// Its token is valid, but not for this channel.
    Channel(Right, Channel),
}

impl Denied {
    /// The answer to the request. Source: RFC 6750, section 3.
    pub(in crate::app) fn reply(&self) -> Reply {
        let (status, error) = match self {
            Self::NoToken | Self::FastlyKey => (401, ""),
            Self::Token(_) | Self::NoKeyId | Self::UnknownKey | Self::Claims => (401, ", error=\"invalid_token\""),
            Self::Channel(..) => (403, ", error=\"insufficient_scope\""),
        };
        let challenge = format!("Bearer realm=\"fanout-edge\"{error}");
        Reply::text(status, self).with_header("www-authenticate", challenge).with_log(self.log())
    }

    /// The same for the log, which has nothing that a client chose.
    fn log(&self) -> String {
        match self {
            Self::Channel(Right::Read, _) => "refused an access token: it does not allow to subscribe there".to_owned(),
            Self::Channel(Right::Write, _) => "refused an access token: it does not allow to publish there".to_owned(),
            Self::Token(error) => format!("refused an access token: {error}"),
            Self::NoKeyId => "refused an access token: it has no kid, and there are several keys".to_owned(),
            Self::UnknownKey => "refused an access token: its kid is that of no key".to_owned(),
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
            Self::NoKeyId => f.write_str(
                "The access token is refused: there are several keys, and it has no kid in its header to name one",
            ),
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
