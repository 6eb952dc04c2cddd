//! Connection tickets: when they are issued, and that a forged or stolen ticket is rejected.

use fanout_edge::{
    app::web::Response,
    grip::{Headers, Signed, Tickets, WebSocket, fanout::Service as Fanout},
};
use jwt_simple::prelude::{ES256KeyPair, HS256Key, HS512Key, JWTClaims, MACLike, NoCustomClaims};

use crate::{
    service::{Request, Service, header, settings},
    support::{LOCAL_GRIP_URL, LOCAL_KEY, NOW, claims, local_signature, sign_es256, sign_hs256},
};

/// How long the signatures of these tests are valid, in seconds.
const LIFETIME: u64 = 3600;
const EVENTS: &str = "application/websocket-events";
const TICKET: &str = "meta-connection-ticket";
const TOKEN: &str = "a-token-of-a-proxy";
const ISSUER: &str = "fastly:SERVICE1";

/// A proxy that signs with ES256, and the settings of a service behind it.
struct Proxy {
    key: ES256KeyPair,
    more: &'static [(&'static str, &'static str)],
}

impl Proxy {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(more: &'static [(&'static str, &'static str)]) -> Self {
        Self { key: ES256KeyPair::generate(), more }
    }

    fn service(&self) -> Service {
        let pem = self.key.public_key().to_pem().expect("PEM");
        let uri = format!("http://127.0.0.1:5561/?key={TOKEN}&verify-iss={ISSUER}");
        Service::new(settings(&[&[("GRIP_URL", &*uri), ("GRIP_VERIFY_KEY", &*pem)], self.more].concat()))
    }

    fn sign(&self, expiry: u64) -> String {
        sign_es256(&self.key, claims(Some(ISSUER), Some(expiry)))
    }

    fn signed(&self, now: u64) -> Request {
        unsigned().with("Grip-Sig", self.sign(now + 3600))
    }

    #[track_caller]
    fn respond(&self, request: Request, now: u64) -> Response {
        self.service().at(now).respond(request)
    }

    /// The ticket that a connection gets.
    #[track_caller]
    fn ticket(&self, now: u64) -> String {
        let response = self.respond(self.signed(now).with_body("OPEN\r\n"), now);
        assert_eq!(response.status, 200);
        given(&response).expect("a ticket")
    }

    /// The status of a message with a ticket, but without a signature.
    fn status_with(&self, ticket: &str, now: u64) -> u16 {
        self.respond(message(unsigned().with(TICKET, ticket)), now).status
    }
}

fn unsigned() -> Request {
    Request::new("POST", "/api/websocket").with("Content-Type", EVENTS).with("Connection-Id", "c1")
}

fn message(request: Request) -> Request {
    request.with_body("TEXT 2\r\nhi\r\n")
}

fn given(response: &Response) -> Option<String> {
    header(response, "set-meta-connection-ticket").map(str::to_owned)
}

/// The key of the tickets, derived as documented.
fn ticket_key(secret: &str, issuer: &str) -> HS256Key {
    let purpose = format!("fanout-edge connection ticket, issuer {issuer}\n");
    let of = |key: &[u8], text: &str| HS256Key::from_bytes(key).authentication_tag(text.as_bytes());
    let (no_rules, no_query_and_no_token) = ("", "\n");
    HS256Key::from_bytes(&of(&of(secret.as_bytes(), &(purpose + no_rules)), no_query_and_no_token))
}

fn good_claims() -> JWTClaims<NoCustomClaims> {
    JWTClaims { subject: Some("c1".to_owned()), ..claims(Some(ISSUER), Some(NOW + LIFETIME)) }
}

#[test]
fn a_ticket_is_enough_without_a_valid_signature() {
    let proxy = Proxy::new();
    let ticket = proxy.ticket(NOW);
    // Without a signature, with an expired one, and with an invalid one: the ticket is enough.
    for request in [unsigned(), unsigned().with("Grip-Sig", proxy.sign(NOW - 60)), unsigned().with("Grip-Sig", "x")] {
        let response = proxy.respond(message(request.with(TICKET, &*ticket)), NOW + LIFETIME);
        assert_eq!((response.status, &*response.body), (200, &b"TEXT 4\r\nm:hi\r\n"[..]));
        // The connection already has a ticket.
        assert_eq!(given(&response), None);
    }
}

#[test]
fn a_ticket_expires_with_the_signature_that_it_was_issued_for() {
    let proxy = Proxy::new();
    let late = unsigned().with("Grip-Sig", proxy.sign(NOW + 10));
    let ticket = given(&proxy.respond(message(late), NOW)).expect("a ticket");
    assert_eq!(proxy.status_with(&ticket, NOW + 10), 200);
    assert_eq!(proxy.status_with(&ticket, NOW + 11), 403);
}

#[test]
fn a_ticket_has_the_documented_format() {
    let proxy = Proxy::new();
    assert_eq!(proxy.ticket(NOW), ticket_key(TOKEN, ISSUER).authenticate(good_claims()).expect("a token"));
    assert_eq!(proxy.status_with(&ticket_key(TOKEN, ISSUER).authenticate(good_claims()).expect("a token"), NOW), 200);
}

#[test]
fn without_a_valid_ticket_the_signature_is_verified_and_a_new_ticket_issued() {
    let proxy = Proxy::new();
    let expired = proxy.ticket(NOW - LIFETIME - 1);
    for ticket in [None, Some("x"), Some(""), Some(&*expired)] {
        let with_ticket = |request: Request| match ticket {
            Some(ticket) => request.with(TICKET, ticket),
            None => request,
        };
        let response = proxy.respond(message(with_ticket(proxy.signed(NOW))), NOW);
        assert_eq!((response.status, &*response.body), (200, &b"TEXT 4\r\nm:hi\r\n"[..]));
        let ticket = given(&response).expect("a new ticket");
        assert_eq!(proxy.status_with(&ticket, NOW), 200);
        // The same without a signature, and with a signature of another key.
        let response = proxy.respond(message(with_ticket(unsigned())), NOW);
        assert_eq!((response.status, given(&response)), (403, None));
        let response = proxy.respond(message(with_ticket(Proxy::new().signed(NOW))), NOW);
        assert_eq!((response.status, given(&response)), (403, None));
    }
}

#[test]
fn a_forged_or_stolen_ticket_is_rejected() {
    let proxy = Proxy::new();
    let key = ticket_key(TOKEN, ISSUER);
    let sign = |claims| key.authenticate(claims).expect("a token");
    let ticket = proxy.ticket(NOW);
    let parts: Vec<_> = ticket.split('.').collect();
    let unsigned_header = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for (what, forged) in [
        ("a Grip-Sig", proxy.sign(NOW + 3600)),
        ("signed with ES256", sign_es256(&proxy.key, good_claims())),
        ("alg none", format!("{unsigned_header}.{}.", parts[1])),
        ("alg none with a tag", format!("{unsigned_header}.{}.{}", parts[1], parts[2])),
        ("without a tag", format!("{}.{}.", parts[0], parts[1])),
        ("another algorithm", HS512Key::from_bytes(&key.to_bytes()).authenticate(good_claims()).expect("a token")),
        ("signed with another key", sign_hs256("another key of the proper length", good_claims())),
        ("signed with the secret itself", sign_hs256(TOKEN, good_claims())),
        ("signed with the public key", sign_hs256(&proxy.key.public_key().to_pem().expect("PEM"), good_claims())),
        (
            "derived for another service",
            ticket_key(TOKEN, "fastly:SERVICE2").authenticate(good_claims()).expect("a token"),
        ),
        (
            "derived from another secret",
            ticket_key("another-token", ISSUER).authenticate(good_claims()).expect("a token"),
        ),
        ("of another service", sign(JWTClaims { issuer: Some("fastly:SERVICE2".to_owned()), ..good_claims() })),
        ("of no service", sign(JWTClaims { issuer: None, ..good_claims() })),
        ("of another connection", sign(JWTClaims { subject: Some("c2".to_owned()), ..good_claims() })),
        ("of no connection", sign(JWTClaims { subject: None, ..good_claims() })),
        ("expired", sign(JWTClaims { subject: Some("c1".to_owned()), ..claims(Some(ISSUER), Some(NOW - 1)) })),
        ("that does not expire", sign(JWTClaims { subject: Some("c1".to_owned()), ..claims(Some(ISSUER), None) })),
        ("too long", sign(JWTClaims { jwt_id: Some("x".repeat(512)), ..good_claims() })),
        ("with another part", format!("{ticket}.x")),
        ("twice", format!("{ticket},{ticket}")),
    ] {
        assert_eq!(proxy.status_with(&forged, NOW), 403, "{what}");
    }
    assert_eq!(proxy.status_with(&ticket, NOW + LIFETIME + 1), 403);

    // A valid ticket in the wrong place.
    let with = |request: Request| proxy.respond(message(request), NOW);
    assert_eq!(with(unsigned().with(TICKET, &*ticket)).status, 200);
    assert_eq!(with(unsigned().with(TICKET, &*ticket).with(TICKET, &*ticket)).status, 403);
    assert_eq!(with(unsigned().with(TICKET, &*ticket).with("Connection-Id", "c1")).status, 403);
    assert_eq!(with(unsigned().with("connection-ticket", &*ticket)).status, 403);
    assert_eq!(with(unsigned().with("set-meta-connection-ticket", &*ticket)).status, 403);
    assert_eq!(with(unsigned().with("Grip-Sig", &*ticket)).status, 403);
    let another = Request::new("POST", "/api/websocket").with("Content-Type", EVENTS).with("Connection-Id", "c2");
    assert_eq!(with(another.with(TICKET, &*ticket)).status, 403);
    let no_event =
        Request::new("POST", "/api/websocket").with("Content-Type", "text/plain").with("Connection-Id", "c1");
    assert_eq!(with(no_event.with(TICKET, &*ticket)).status, 400);
}

#[test]
fn a_ticket_is_valid_for_events_only() {
    let proxy = Proxy::new();
    let ticket = proxy.ticket(NOW);
    let get = || Request::new("GET", "/api/websocket").with("Connection-Id", "c1").with(TICKET, &*ticket);
    assert_eq!(proxy.respond(get(), NOW).status, 426);
    assert_eq!(proxy.respond(get().with("Upgrade", "websocket").with("Grip-Sig", "x"), NOW).status, 403);
}

#[test]
fn tickets_need_a_public_key_and_a_long_token_and_can_be_turned_off() {
    let pem = ES256KeyPair::generate().public_key().to_pem().expect("PEM");
    let long = "0123456789abcdef";
    let url = |parameters: &str| format!("https://proxy.example/?{parameters}verify-iss={ISSUER}");
    let jwt = |key: &str| url(&format!("iss=me&key={key}&"));
    for (entries, secret, on) in [
        (&[("FANOUT_API_TOKEN", long)][..], long, true),
        (&[("FANOUT_API_TOKEN", long), ("config:CONNECTION_TICKETS", "On")], long, true),
        (&[("FANOUT_API_TOKEN", long), ("config:CONNECTION_TICKETS", " off\n")], long, false),
        (&[("FANOUT_API_TOKEN", &long[1..])], &long[1..], false),
        (&[], "", false),
        (&[("GRIP_URL", &LOCAL_GRIP_URL.replace("viceroy&", &format!("{ISSUER}&key={LOCAL_KEY}&")))], LOCAL_KEY, false),
        (&[("GRIP_URL", &url(&format!("key={TOKEN}&"))), ("GRIP_VERIFY_KEY", &pem)], TOKEN, true),
        (
            &[("GRIP_URL", &url(&format!("key={TOKEN}&"))), ("GRIP_VERIFY_KEY", &format!("secret:{LOCAL_KEY}"))],
            TOKEN,
            false,
        ),
        (&[("GRIP_URL", &jwt(long)), ("GRIP_VERIFY_KEY", &pem)], long, true),
        (&[("GRIP_URL", &jwt(&long[1..])), ("GRIP_VERIFY_KEY", &pem)], &long[1..], false),
        (
            &[
                ("GRIP_URL", &format!("https://user:{long}@proxy.example/?verify-iss={ISSUER}")),
                ("GRIP_VERIFY_KEY", &pem),
            ],
            long,
            false,
        ),
        (&[("GRIP_URL", &url("")), ("GRIP_VERIFY_KEY", &pem)], "", false),
    ] {
        let ticket = ticket_key(secret, ISSUER).authenticate(good_claims());
        let ticket = ticket.unwrap_or_else(|_| "the secret is too short".to_owned());
        let response = Service::new(settings(entries)).respond(message(unsigned().with(TICKET, &*ticket)));
        assert_eq!(response.status, if on { 200 } else { 403 }, "{entries:?}");
    }
}

#[test]
fn without_tickets_each_signature_is_verified() {
    let proxy = Proxy::with(&[("config:CONNECTION_TICKETS", "off")]);
    let response = proxy.respond(proxy.signed(NOW).with_body("OPEN\r\n"), NOW);
    assert_eq!((response.status, given(&response)), (200, None));
    let ticket = ticket_key(TOKEN, ISSUER).authenticate(good_claims()).expect("a token");
    assert_eq!(proxy.status_with(&ticket, NOW), 403);

    // The same with the local proxy: its signatures are cheap to verify, so there are no tickets.
    let open = unsigned().with("Grip-Sig", local_signature(NOW)).with_body("OPEN\r\n");
    let response = Service::local().respond(open);
    assert_eq!((response.status, given(&response)), (200, None));
}

#[test]
fn the_library_issues_tickets_without_the_service() {
    let service = Fanout::new("SERVICE1").expect("a valid id");
    let publisher = service.publisher("0123456789abcdef0123456789abcdef").expect("a valid token");
    let tickets = Tickets::new(&publisher, &service.verifier(), "").expect("there is a secret, and a public key");
    let headers = [("connection-id", "c1")];
    let mut ws =
        WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &headers, b"").expect("a valid request");
    tickets.issue(&mut ws, "", NOW + LIFETIME);
    let headers = ws.into_response().headers;
    let ticket = headers["set-meta-connection-ticket"].to_str().expect("text");
    let is_valid = |headers: &dyn Headers| tickets.verify(headers, "", NOW) == Some(Signed::unverified(NOW + LIFETIME));
    assert!(is_valid(&[("connection-id", "c1"), (TICKET, ticket)]));
    assert!(!is_valid(&[(TICKET, ticket)]));
    assert!(!is_valid(&[("connection-id", "c1")]));
    let printed = format!("{tickets:?}");
    assert_eq!(printed, r#"Tickets { issuer: "fastly:SERVICE1", .. }"#);
}
