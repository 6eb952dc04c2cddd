//! Tickets: what an open connection brings along, so that its signature need not be checked each time.
//!
//! The proxy signs each request of a connection. With a public key (ES256, RS256) the check takes some 600 µs in
//! WebAssembly, many times as long as all else that a message needs. So the first answer of a connection, which follows a checked signature, gives
//! it a ticket as a meta value: a short JWT (HS256), which the proxy brings back with each later request. A request that
//! [has one](Tickets::is_held_by) needs no other check; any other is checked by its signature as before, and
//! [gets](Tickets::give) a new ticket.
//!
//! # Why this is no weaker
//! * A `Grip-Sig` is a bearer token: who has one can send any request, of any connection, until it expires. A ticket
//!   expires with the signature that it was given for, does not renew itself, and is for one connection and one target
//!   only.
//! * Where the service checks more than the signature, such as an access token, a ticket stands for that, too: it expires
//!   with whatever expires first, its target says what was allowed, and it does not count under other rules.
//! * Both are seen by the same two parties, the proxy and the service. The proxy takes `Set-Meta-*` off the answer that
//!   it makes of an accepted opening, and `Meta-*` off a client's handshake. Over plain HTTP it lets a client's own
//!   `Meta-*` through: there is nothing valid to put into it. Source: seen with Pushpin 1.41, and tested with it in
//!   `tests/interop.rs`. Fastly Fanout is made of Pushpin, but was not looked at: should it pass `Set-Meta-*` on, a
//!   client would learn a ticket for his own connection.
//! * Who wants to make a ticket needs the key. It is derived from the secret that the service publishes with, for this
//!   purpose and for one issuer: no other token that is signed with that secret is a ticket, and no ticket under one
//!   issuer is one under another.
//!
//! What changes: who knows the publishing secret could already send anything to every subscriber, and can now also speak
//! to the service as if he were a connection whose `Connection-Id` he knows or makes up, with `Meta-*` of his choice.
//! And a ticket is not taken back before it expires, as a `Grip-Sig` is not. Changing the publishing secret ends all
//! tickets, as soon as the settings are read again.

use std::{collections::HashSet, fmt};

use jwt_simple::{
    claims::{JWTClaims, NoCustomClaims},
    prelude::{Duration, HS256Key, MACLike, UnixTimeStamp, VerificationOptions},
};

use super::{Header, Headers, Publisher, Verifier, VerifyKey, WebSocket};

const META: &str = "connection-ticket";
const HEADER: &str = "meta-connection-ticket";

/// The longest ticket that is looked at, in bytes. Those that are issued have about 230.
const MAX_LENGTH: usize = 512;

/// What the key is derived for. No JWT has a space in the part that is signed.
const PURPOSE: &str = "fanout-edge connection ticket, issuer ";

/// Gives tickets to the connections of one service, and knows them again.
///
/// # Format
/// The meta value `Connection-Ticket`, `Set-Meta-Connection-Ticket` in an answer and `Meta-Connection-Ticket` in a
/// request: a JWT, `{"alg":"HS256","typ":"JWT"}`, `{"exp":…,"iss":issuer,"sub":Connection-Id}`. The issuer is that of
/// the proxy's signatures, for instance `fastly:<service id>`. Its key is the HMAC-SHA256 of the target that it was given
/// for, under a key of the service: the HMAC-SHA256 of the text `fanout-edge connection ticket, issuer `, the issuer, a
/// line's end and the rules, under the secret that the service publishes with.
///
/// ```
/// use fanout_edge::grip::{WebSocket, fanout::Service, ticket::Tickets};
///
/// let service = Service::new("SERVICE1").expect("a valid id");
/// let publisher = service.publisher("a-fastly-api-token").expect("a valid token");
/// let tickets = Tickets::new(&publisher, &service.verifier(), "").expect("there is a secret, and a public key");
///
/// let headers = [("connection-id", "c1")];
/// let mut ws = WebSocket::new(&headers, b"OPEN\r\n")?;
/// ws.accept();
/// tickets.give(&mut ws, "/chat?room=1", 1_800_003_600);
/// let answer = ws.into_answer();
/// let (name, ticket) = answer.headers.last().expect("there are headers");
/// assert_eq!(name, "set-meta-connection-ticket");
///
/// let later = |id| [("connection-id", id), ("meta-connection-ticket", &**ticket)];
/// assert!(tickets.is_held_by(&later("c1"), "/chat?room=1", 1_800_000_060));
/// assert!(!tickets.is_held_by(&later("c2"), "/chat?room=1", 1_800_000_060));
/// assert!(!tickets.is_held_by(&later("c1"), "/chat?room=2", 1_800_000_060));
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
#[derive(Clone)]
pub struct Tickets {
    key: HS256Key,
    issuer: String,
}

impl Tickets {
    /// `None` where nothing is gained, as the signatures have a symmetric key themselves, or where the publisher has no
    /// secret that is fit for it: a token or a key of 16 bytes or more. (The password of a user could be guessed.)
    ///
    /// The rules are what else decides who may connect, for instance the keys of access tokens: tickets that were given
    /// under others do not count.
    ///
    /// ```
    /// use fanout_edge::grip::{GripUri, Verifier, ticket::Tickets};
    ///
    /// let uri = GripUri::parse("http://127.0.0.1:5561/?verify-iss=viceroy&verify-key=a+secret+of+some+length")?;
    /// let verifier = Verifier::new(uri.verify_key.expect("it is there"), "viceroy");
    /// assert!(Tickets::new(&uri.publisher, &verifier, "").is_none());
    /// # Ok::<(), fanout_edge::grip::uri::InvalidGripUri>(())
    /// ```
    pub fn new(publisher: &Publisher, verifier: &Verifier, rules: &str) -> Option<Self> {
        if matches!(verifier.key(), VerifyKey::Hs256(_)) {
            return None;
        }
        let issuer = verifier.issuer().to_owned();
        let key = publisher.authorization().derive_key(&format!("{PURPOSE}{issuer}\n{rules}"))?;
        Some(Self { key, issuer })
    }

    /// Gives a ticket to the connection of a request that was checked, for its target (path and query, as far as they say
    /// what the connection may do), valid as long as what was checked is: until a time in seconds since 1970. Only where the answer then has the status 200 and, to an opening, accepts it: what
    /// rejects one goes to the client with its headers.
    ///
    /// ```
    /// use fanout_edge::grip::{WebSocket, fanout::Service, ticket::Tickets};
    ///
    /// let service = Service::new("SERVICE1").expect("a valid id");
    /// let publisher = service.publisher("a-fastly-api-token").expect("a valid token");
    /// let tickets = Tickets::new(&publisher, &service.verifier(), "").expect("there is a secret, and a public key");
    /// let headers = [("connection-id", "338b2b15-1d93-4027-9aa1-7fc7e86527c2")];
    /// let mut ws = WebSocket::new(&headers, b"OPEN\r\n")?;
    /// ws.accept();
    /// tickets.give(&mut ws, "/chat?room=1", 1_800_003_600);
    /// assert!(ws.into_answer().headers[2].1.len() < 250);
    /// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
    /// ```
    pub fn give(&self, ws: &mut WebSocket<'_>, target: &str, until: u64) {
        let claims = JWTClaims {
            issued_at: None,
            expires_at: Some(UnixTimeStamp::from_secs(until)),
            invalid_before: None,
            issuer: Some(self.issuer.clone()),
            subject: Some(ws.connection_id().to_owned()),
            audiences: None,
            jwt_id: None,
            nonce: None,
            custom: NoCustomClaims {},
        };
        let ticket = self
            .key_of(target)
            .authenticate(claims)
            .expect("the key has 32 bytes, and the claims are text and a number");
        ws.set_meta(META, ticket).expect("a JWT has no other characters than a meta may have");
    }

    /// Whether a request of that target, at a time in seconds since 1970, has a ticket that this service gave to its
    /// connection for it, and that has not expired. `false` where it has several, or several connections.
    ///
    /// ```
    /// use fanout_edge::grip::{fanout::Service, ticket::Tickets};
    ///
    /// let service = Service::new("SERVICE1").expect("a valid id");
    /// let publisher = service.publisher("a-fastly-api-token").expect("a valid token");
    /// let tickets = Tickets::new(&publisher, &service.verifier(), "").expect("there is a secret, and a public key");
    /// assert!(!tickets.is_held_by(&[("connection-id", "c1"), ("meta-connection-ticket", "forged")], "/chat", 1_800_000_000));
    /// ```
    pub fn is_held_by(&self, headers: &dyn Headers, target: &str, now: u64) -> bool {
        let Header::Value(ticket) = headers.header(HEADER) else { return false };
        let Header::Value(connection_id) = headers.header("connection-id") else { return false };
        let options = VerificationOptions {
            allowed_issuers: Some(HashSet::from([self.issuer.clone()])),
            required_subject: Some(connection_id.to_owned()),
            time_tolerance: Some(Duration::from_secs(0)),
            max_token_length: Some(MAX_LENGTH),
            artificial_time: Some(UnixTimeStamp::from_secs(now)),
            ..VerificationOptions::default()
        };
        let claims = self.key_of(target).verify_token::<NoCustomClaims>(ticket, Some(options));
        claims.is_ok_and(|claims| claims.expires_at.is_some())
    }

    fn key_of(&self, target: &str) -> HS256Key {
        HS256Key::from_bytes(&self.key.authentication_tag(target.as_bytes()))
    }
}

/// The issuer, and nothing of the key.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
