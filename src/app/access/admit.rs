//! Admission: every check of who sends a request, in one order. Only [`admit`] gives an endpoint the identity of the sender, and
//! what a hand-off and the rate limits need.
//!
//! 1. Where it comes from: the proxy's signature, or the ticket of a connection.
//! 2. The origin, unless it comes through the proxy, which names another host.
//! 3. A `Fastly-Key`, or the access token and what it grants.
//! 4. The rate limit, once the endpoint has checked the rest: [`Admitted::count`].

use std::{cell::OnceCell, slice};

use super::{
    right::Right,
    token::{self, Identity, Verified},
};
use crate::{
    app::{
        connection::Client, error::Error, exchange::Exchange, messages::channels::Channels, messages::target::Target,
        platform::Counter, query::Query, settings::Settings, web::Request,
    },
    grip::{Channel, GripStatus, Header, Signed, Tickets, WebSocket},
};

/// What an endpoint asks for.
#[derive(Clone, Copy)]
pub(crate) enum Ask<'q> {
    /// To connect a WebSocket, with these rights on channels: only of a client.
    Connect(&'q [Right], &'q Channels),
    /// To subscribe to channels: of a client, or of the proxy in its place.
    Subscribe(&'q Channels),
    /// To read channels: of a client.
    Read(&'q Channels),
    /// This right on a channel or a user: of a client, or of the operator.
    Target(Right, &'q Target),
}

/// Who was admitted.
#[must_use = "count it"]
pub(crate) struct Admitted<'a> {
    source: Source,
    sender: Sender<'a>,
    counter: Counter,
}

/// Where a request comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Client,
    /// With this proof.
    Proxy(Signed),
}

/// Who sends a request.
pub(crate) enum Sender<'a> {
    /// The operator of the service, with a `Fastly-Key`.
    Operator,
    /// A client, and its token if the service requires one.
    Client(Option<Verified<'a>>),
}

impl<'a> Sender<'a> {
    /// Its verified token.
    pub(crate) const fn token(&self) -> Option<&Verified<'a>> {
        if let Self::Client(Some(verified)) = self { Some(verified) } else { None }
    }

    /// What the token says of it.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.token().map(|verified| &verified.identity)
    }
}

impl<'a> Admitted<'a> {
    /// Whether it is the proxy, for a client.
    pub(crate) const fn is_proxied(&self) -> bool {
        matches!(self.source, Source::Proxy(_))
    }

    /// Who sends the request.
    pub(crate) const fn sender(&self) -> &Sender<'a> {
        &self.sender
    }

    /// Counts it. What the operator sends is for everybody, so that is not counted.
    ///
    /// # Errors
    /// [`Error::TooMany`], or [`Error::Setting`].
    pub(crate) fn count(&self, exchange: &mut Exchange<'_>) -> Result<(), Error> {
        let limits = exchange.settings.limits.as_ref()?;
        match self.sender {
            Sender::Operator => Ok(()),
            Sender::Client(_) => limits.count(exchange.request, exchange.platform, self.counter),
        }
    }

    /// Checks the rate limit, and counts nothing.
    ///
    /// # Errors
    /// As [`count`](Self::count).
    pub(crate) fn check_limit(&self, exchange: &mut Exchange<'_>) -> Result<(), Error> {
        let limits = exchange.settings.limits.as_ref()?;
        match self.sender {
            Sender::Operator => Ok(()),
            Sender::Client(_) => limits.check(exchange.request, exchange.platform, self.counter),
        }
    }
}

/// Admits a request.
///
/// # Errors
/// [`Error::Signature`], [`Error::Origin`], [`Error::Setting`], [`Error::TooMany`] if too many signatures, tokens and keys from the
/// address were rejected; [`Error::FastlyKey`], [`Error::NoToken`], [`Error::Forbidden`], [`Error::ForbiddenUser`],
/// [`Error::NoAccessKey`], [`Error::TooManyChannels`], or as [`token::verify`].
pub(crate) fn admit<'a>(exchange: &mut Exchange<'a>, ask: Ask<'_>) -> Result<Admitted<'a>, Error> {
    let (source, counter) = match ask {
        // What came through the proxy is never handed to it again: that could go on forever.
        Ask::Connect(..) if source(exchange)? != Source::Client => return Err(Error::UpgradeRequired),
        Ask::Connect(..) => (Source::Client, Counter::Openings),
        Ask::Subscribe(_) => (source(exchange)?, Counter::Openings),
        Ask::Read(_) => {
            source(exchange)?;
            (Source::Client, Counter::Openings)
        }
        // It is never handed off, so the proxy has no part in it.
        Ask::Target(..) => (Source::Client, Counter::Broadcasts),
    };
    if source != Source::Client {
        let verified = verify(exchange, ask)?;
        return Ok(Admitted { source, sender: Sender::Client(verified), counter });
    }
    check_origin(exchange)?;
    let has_key =
        matches!(ask, Ask::Target(..)) && matches!(exchange.settings.access, Ok(Some(_))) && has_fastly_key(exchange);
    if has_key && is_operator(exchange)? {
        return Ok(Admitted { source, sender: Sender::Operator, counter });
    }
    let verified = limit_tokens(exchange, |exchange| verify(exchange, ask)).map_err(|error| match error {
        Error::NoToken if has_key => Error::FastlyKey,
        error => error,
    })?;
    Ok(Admitted { source, sender: Sender::Client(verified), counter })
}

/// Admits only what comes through the proxy.
///
/// # Errors
/// [`Error::NotProxied`], or as [`admit`].
pub(crate) fn admit_proxy(exchange: &mut Exchange<'_>) -> Result<(), Error> {
    if source(exchange)? == Source::Client { Err(Error::NotProxied) } else { Ok(()) }
}

/// A request of a WebSocket that came through the proxy, whose client [`Connected::client`] admits.
pub(crate) struct Connected<'a> {
    proof: Proof,
    /// What issues a ticket, and for which scope.
    tickets: Option<(&'a Tickets, String)>,
}

/// How a request of a connection proves that it came through the proxy.
#[derive(Clone, Copy)]
enum Proof {
    /// By the ticket that an earlier response gave to the connection: everything was checked when it was issued.
    Ticket(Signed),
    /// By the signature.
    Signature(Signed),
}

/// Admits a request of a WebSocket: verifies its ticket, else its signature.
///
/// # Errors
/// [`Error::NotProxied`] if it has neither, otherwise as [`admit`].
pub(crate) fn admit_connection<'a>(exchange: &mut Exchange<'a>) -> Result<Connected<'a>, Error> {
    let tickets =
        exchange.settings.tickets.as_ref().map(|tickets| (tickets, scope(exchange.request, exchange.settings)));
    let verify = |(tickets, scope): &(&Tickets, String)| tickets.verify(exchange.request, scope, exchange.now);
    let proof = match tickets.as_ref().and_then(verify) {
        Some(signed) => Proof::Ticket(signed),
        None => match source(exchange)? {
            Source::Proxy(signed) => Proof::Signature(signed),
            Source::Client => return Err(Error::NotProxied),
        },
    };
    Ok(Connected { proof, tickets })
}

impl Connected<'_> {
    /// The proof that the request came through the proxy.
    pub(crate) const fn signed(&self) -> Signed {
        match self.proof {
            Proof::Ticket(signed) | Proof::Signature(signed) => signed,
        }
    }

    /// Admits the client: checks its access token, unless its ticket says that it was. Returns who it is, and when the first of the
    /// checks expires, in seconds since 1970.
    ///
    /// # Errors
    /// As [`admit`].
    pub(crate) fn client(
        &self,
        request: &dyn Request,
        settings: &Settings,
        query: &Query,
        now: u64,
    ) -> Result<(Client, u64), Error> {
        match self.proof {
            Proof::Ticket(signed) if matches!(settings.access, Ok(None)) => {
                Ok((Client::Anonymous, signed.expires_at()))
            }
            Proof::Ticket(signed) => Ok((Client::Ticketed(OnceCell::new()), signed.expires_at())),
            Proof::Signature(signed) => {
                let expires_at = signed.expires_at();
                match verify_for_channels(request, settings, query.rights(), query.channels.iter(), now)? {
                    None => Ok((Client::Anonymous, expires_at)),
                    Some(verified) => Ok((Client::Verified(verified.identity), verified.expires_at.min(expires_at))),
                }
            }
        }
    }

    /// Gives the connection a ticket in place of its signature, until a time in seconds since 1970.
    pub(crate) fn issue_ticket(self, ws: &mut WebSocket<'_>, expires_at: u64) {
        if let (Proof::Signature(_), Some((tickets, scope))) = (self.proof, self.tickets) {
            tickets.issue(ws, &scope, expires_at);
        }
    }
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

/// Verifies the signature of a request, if it has one, unless too many from its address did not verify.
fn source(exchange: &mut Exchange<'_>) -> Result<Source, Error> {
    let status = |exchange: &Exchange<'_>| {
        let verifier = exchange.settings.verifier.as_ref()?;
        match GripStatus::of(exchange.request.header("grip-sig"), slice::from_ref(verifier), exchange.now) {
            GripStatus::NotProxied => Ok(Source::Client),
            GripStatus::Signed(signed) => Ok(Source::Proxy(signed)),
            GripStatus::NeedsSignature(error) => Err(Error::Signature(error)),
        }
    };
    let is_signed = exchange.request.header("grip-sig") != Header::Missing;
    if is_signed { limit_failures(exchange, Counter::Signatures, status) } else { status(exchange) }
}

/// Browsers let any page open a WebSocket, so origins are checked for those, too.
fn check_origin(exchange: &Exchange<'_>) -> Result<(), Error> {
    let origins = exchange.settings.origins.as_ref()?;
    if origins.allow(exchange.request, exchange.platform.is_local()) { Ok(()) } else { Err(Error::Origin) }
}

fn verify<'a>(exchange: &Exchange<'a>, ask: Ask<'_>) -> Result<Option<Verified<'a>>, Error> {
    let (request, settings, now) = (&*exchange.request, exchange.settings, exchange.now);
    match ask {
        Ask::Connect(rights, channels) => verify_for_channels(request, settings, rights, channels.iter(), now),
        Ask::Subscribe(channels) | Ask::Read(channels) => {
            verify_for_channels(request, settings, &[Right::Read], channels.iter(), now)
        }
        Ask::Target(right, Target::Channel(channel)) => {
            verify_for_channels(request, settings, &[right], slice::from_ref(channel).iter(), now)
        }
        Ask::Target(right, Target::User(user)) => {
            let rules = settings.access.as_ref()?.as_ref().ok_or(Error::NoAccessKey)?;
            let verified = token::verify(&token::of_request(request)?, rules, now)?;
            if verified.identity.grants_user(right, user) {
                Ok(Some(verified))
            } else {
                Err(Error::ForbiddenUser(right))
            }
        }
    }
}

/// Verifies the access token of a request and checks that it grants the rights on every channel. `None` if the service is
/// open.
fn verify_for_channels<'a>(
    request: &dyn Request,
    settings: &'a Settings,
    rights: &[Right],
    channels: slice::Iter<'_, Channel>,
    now: u64,
) -> Result<Option<Verified<'a>>, Error> {
    let Some(rules) = settings.access.as_ref()? else { return Ok(None) };
    let verified = token::verify(&token::of_request(request)?, rules, now)?;
    for right in rights {
        if let Some(channel) = channels.clone().find(|channel| !verified.identity.grants(*right, channel)) {
            return Err(Error::Forbidden(*right, channel.clone()));
        }
    }
    let limit = verified.identity.most_channels();
    if channels.len() > limit { Err(Error::TooManyChannels { limit }) } else { Ok(Some(verified)) }
}

/// Whether the request has a `Fastly-Key` of the service.
///
/// # Errors
/// [`Error::TooMany`] if too many access tokens and keys from its address were rejected.
pub(crate) fn is_operator(exchange: &mut Exchange<'_>) -> Result<bool, Error> {
    if !has_fastly_key(exchange) {
        return Ok(false);
    }
    let check = |exchange: &Exchange<'_>| match exchange.platform.has_valid_fastly_key() {
        true => Ok(true),
        false => Err(Error::FastlyKey),
    };
    match limit_failures(exchange, Counter::Tokens, check) {
        Err(Error::FastlyKey) => Ok(false),
        checked => checked,
    }
}

fn has_fastly_key(exchange: &Exchange<'_>) -> bool {
    exchange.request.header("fastly-key") != Header::Missing
}

/// Runs a check of the access token, unless too many from this address were rejected.
fn limit_tokens<'a, T>(
    exchange: &mut Exchange<'a>,
    check: impl FnOnce(&Exchange<'a>) -> Result<T, Error>,
) -> Result<T, Error> {
    let verifies = matches!(exchange.settings.access, Ok(Some(_))) && token::of_request(exchange.request).is_ok();
    if !verifies {
        return check(exchange);
    }
    exchange.settings.limits.as_ref()?;
    limit_failures(exchange, Counter::Tokens, check)
}

/// Runs a check that verifies a signature, and records a failure for the client's address.
fn limit_failures<'a, T>(
    exchange: &mut Exchange<'a>,
    counter: Counter,
    check: impl FnOnce(&Exchange<'a>) -> Result<T, Error>,
) -> Result<T, Error> {
    // Limits that cannot be used neither end open connections nor keep the operator from seeing it.
    let Ok(limits) = &exchange.settings.limits else { return check(exchange) };
    limits.check(exchange.request, exchange.platform, counter)?;
    let checked = check(exchange);
    if checked.as_ref().is_err_and(Error::costs_verification) {
        // The limit is enforced by the check before.
        let _ = limits.count(exchange.request, exchange.platform, counter);
    }
    checked
}
