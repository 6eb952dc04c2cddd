//! Connection tickets: a cheap proof, for each later request of a connection, that its first one was verified.
//!
//! The proxy signs every request of a connection. With a public key (ES256) a check takes some 600 µs in WebAssembly,
//! many times what a message costs otherwise. So the first response of a connection, which follows a verified signature,
//! gives it a ticket as a meta value: a short JWT (HS256), which the proxy sends along with each later request. A
//! request with a [valid ticket](Tickets::verify) needs no other check; any other is verified by its signature, and is
//! [given](Tickets::issue) a new ticket.
//!
//! # Why this is no weaker
//! * A `Grip-Sig` is a bearer token: whoever has one can send any request, of any connection, until it expires. A ticket
//!   expires with the signature that it was issued for, does not renew itself, and is valid for one connection and one
//!   scope only.
//! * If the service checks more than the signature, such as an access token, a ticket stands for that, too: it expires
//!   with whatever expires first, its scope names what was checked, and it is invalid under other rules.
//! * The same two parties see both, the proxy and the service. The proxy removes `Set-Meta-*` from the response that it
//!   makes of an accepted opening, and `Meta-*` from a client's handshake. Over plain HTTP it forwards a client's own
//!   `Meta-*`, but a client has nothing valid to put there. Source: observed with Pushpin 1.41, and tested with it in
//!   `tests/interop.rs`. Fastly Fanout is built from Pushpin, but was not examined: if it forwarded `Set-Meta-*`, a
//!   client would learn a ticket for its own connection.
//! * Making a ticket takes the key. It is derived from the secret that the service publishes with, for this purpose and
//!   for one issuer: no other token that is signed with that secret is a ticket, and no ticket under one issuer is valid
//!   under another.
//!
//! What changes: whoever knows the publishing secret could already send anything to every subscriber, and can now also
//! speak to the service as any connection whose `Connection-Id` they know or make up, with `Meta-*` of their choice. And
//! a ticket cannot be revoked before it expires, as a `Grip-Sig` cannot. Changing the publishing secret ends all
//! tickets, as soon as the settings are read again.

use std::{collections::HashSet, fmt};

use jwt_simple::{
    claims::{JWTClaims, NoCustomClaims},
    prelude::{Duration, HS256Key, MACLike, UnixTimeStamp, VerificationOptions},
};

use super::{Header, Headers, Publisher, Signed, Verifier, WebSocket, key::Algorithm, signature::Claims};

const META: &str = "connection-ticket";
const HEADER: &str = "meta-connection-ticket";

/// The longest ticket that is verified, in bytes. An issued one has about 230.
const MAX_LENGTH: usize = 512;

/// What the key is derived for. No JWT has a space in the part that is signed.
const PURPOSE: &str = "fanout-edge connection ticket, issuer ";

/// Issues tickets to the connections of one service, and verifies them.
///
/// # Format
/// The meta value `Connection-Ticket`, `Set-Meta-Connection-Ticket` in a response and `Meta-Connection-Ticket` in a
/// request: a JWT, `{"alg":"HS256","typ":"JWT"}`, `{"exp":…,"iss":issuer,"sub":Connection-Id}`. The issuer is that of
/// the proxy's signatures, for instance `fastly:<service id>`. Its key is the HMAC-SHA256 of the scope, under a key of
/// the service: the HMAC-SHA256 of `fanout-edge connection ticket, issuer `, the issuer, a newline and the rules, under
/// the secret that the service publishes with.
///
/// ```
/// use fanout_edge::grip::{Signed, WebSocket, fanout::Service, ticket::Tickets};
///
/// let service = Service::new("SERVICE1").expect("a valid id");
/// let publisher = service.publisher("a-fastly-api-token").expect("a valid token");
/// let tickets = Tickets::new(&publisher, &service.verifier(), "").expect("there is a secret, and a public key");
///
/// let headers = [("connection-id", "c1")];
/// let signed = Signed::unverified(1_800_003_600); // It is GripStatus that says so.
/// let mut ws = WebSocket::new(signed, &headers, b"OPEN\r\n")?;
/// ws.accept();
/// tickets.issue(&mut ws, "/chat?room=1", 1_800_003_600);
/// let response = ws.into_response();
/// let ticket = response.headers["set-meta-connection-ticket"].to_str().expect("text");
///
/// let later = |id| [("connection-id", id), ("meta-connection-ticket", ticket)];
/// assert_eq!(tickets.verify(&later("c1"), "/chat?room=1", 1_800_000_060), Some(Signed::unverified(1_800_003_600)));
/// assert_eq!(tickets.verify(&later("c2"), "/chat?room=1", 1_800_000_060), None);
/// assert_eq!(tickets.verify(&later("c1"), "/chat?room=2", 1_800_000_060), None);
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
#[derive(Clone)]
pub struct Tickets {
    key: HS256Key,
    issuer: String,
}

impl Tickets {
    /// Derives the key of tickets from the publisher's secret. `None` if nothing would be gained, as the signatures have
    /// a symmetric key themselves, or if the publisher has no suitable secret: a token or a key of 16 bytes or more. (A
    /// user's password could be guessed.)
    ///
    /// The rules are what else restricts connections, for instance the keys of access tokens: a ticket that was issued
    /// under other rules is invalid.
    pub fn new(publisher: &Publisher, verifier: &Verifier, rules: &str) -> Option<Self> {
        if verifier.key().algorithm() == Algorithm::Hs256 {
            return None;
        }
        let issuer = verifier.issuer().to_owned();
        let key = publisher.authorization().derive_key(&format!("{PURPOSE}{issuer}\n{rules}"))?;
        Some(Self { key, issuer })
    }

    /// Issues a ticket to the connection of a verified request. The scope is what was checked (for instance the path,
    /// the query, the access token); the ticket expires when the first of what was checked does, in seconds since 1970.
    ///
    /// Use it only if the response has the status 200 and, for an opening, accepts it: the client gets all headers of a
    /// response that rejects it.
    pub fn issue(&self, ws: &mut WebSocket<'_>, scope: &str, expires_at: u64) {
        let claims = JWTClaims {
            issued_at: None,
            expires_at: Some(UnixTimeStamp::from_secs(expires_at)),
            invalid_before: None,
            issuer: Some(self.issuer.clone()),
            subject: Some(ws.connection_id().to_owned()),
            audiences: None,
            jwt_id: None,
            nonce: None,
            custom: NoCustomClaims {},
        };
        let ticket = self.key_for(scope).authenticate(claims).expect("the key has 32 bytes, and the claims are JSON");
        ws.set_meta(META, &ticket).expect("a JWT has only characters that a meta value may have");
    }

    /// Verifies that a request has a ticket that this service issued to its connection for that scope, and that has not
    /// expired at a time, in seconds since 1970. `None` if there is no such ticket, several tickets, or several connection ids.
    pub fn verify(&self, headers: &dyn Headers, scope: &str, now: u64) -> Option<Signed> {
        let Header::Value(ticket) = headers.header(HEADER) else { return None };
        let Header::Value(connection_id) = headers.header("connection-id") else { return None };
        let options = VerificationOptions {
            allowed_issuers: Some(HashSet::from([self.issuer.clone()])),
            required_subject: Some(connection_id.to_owned()),
            time_tolerance: Some(Duration::from_secs(0)),
            max_token_length: Some(MAX_LENGTH),
            artificial_time: Some(UnixTimeStamp::from_secs(now)),
            ..VerificationOptions::default()
        };
        let claims = self.key_for(scope).verify_token::<Claims>(ticket, Some(options));
        claims.ok()?.expires_at.map(|expires_at| Signed::until(expires_at.as_secs()))
    }

    fn key_for(&self, scope: &str) -> HS256Key {
        HS256Key::from_bytes(&self.key.authentication_tag(scope.as_bytes()))
    }
}

/// Prints the issuer and nothing of the key.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
