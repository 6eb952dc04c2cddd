//! Did a request come through the proxy?

use std::slice;

use super::token;
use crate::{
    app::{error::Error, http::Request, settings::Settings},
    grip::{GripStatus, Tickets},
};

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From a client.
    Client,
    /// Through the proxy, whose signature expires at this time, in seconds since 1970.
    Proxy {
        /// In seconds since 1970.
        expires_at: u64,
    },
}

/// Verifies the `Grip-Sig` of a request, if it has one.
///
/// # Errors
/// [`Error::Signature`] if it does not verify, [`Error::Setting`] if the settings have no key.
pub(crate) fn source(request: &dyn Request, settings: &Settings, now: u64) -> Result<Source, Error> {
    let verifier = settings.verifier.as_ref()?;
    match GripStatus::of(request.header("grip-sig"), slice::from_ref(verifier), now) {
        GripStatus::NotProxied => Ok(Source::Client),
        GripStatus::Signed { expires_at } => Ok(Source::Proxy { expires_at }),
        GripStatus::NeedsSignature(error) => Err(Error::Signature(error)),
    }
}

/// How a request of a connection proves that it came through the proxy.
pub(crate) enum Proof<'a> {
    /// By the ticket that an earlier response gave to the connection. The signature, the query and the token were checked
    /// when it was issued.
    Ticket {
        /// In seconds since 1970.
        expires_at: u64,
    },
    /// By the signature, which expires at a time in seconds since 1970. Everything else is still to be checked.
    Signature {
        /// In seconds since 1970.
        expires_at: u64,
        /// What a ticket is issued with, and for which scope.
        tickets: Option<(&'a Tickets, String)>,
    },
}

/// What verifies the ticket of a request and issues another one, and the scope of the ticket; `None` if there are no tickets.
pub(crate) fn tickets<'a>(request: &dyn Request, settings: &'a Settings) -> Option<(&'a Tickets, String)> {
    settings.tickets.as_ref().map(|tickets| (tickets, scope(request, settings)))
}

/// What a ticket is valid for: the query and, if the service checks access tokens, this very token, wherever it stands.
///
/// # Format
/// The query as it was sent, a newline, and the token, which are both empty if there is none. No query has a newline.
fn scope(request: &dyn Request, settings: &Settings) -> String {
    let token = match &settings.access {
        Ok(Some(_)) => token::of_request(request).unwrap_or_default(),
        _ => "".into(),
    };
    format!("{}\n{token}", request.query())
}
