//! What an open connection brings along in place of a signature: who gets one, and that nobody else can make or use it.

mod support;

use fanout_edge::{
    app::{self, Action, Reply, Settings},
    grip::{Headers, Tickets, WebSocket, fanout::Service},
};
use jwt_simple::prelude::{ES256KeyPair, HS256Key, HS512Key, JWTClaims, MACLike, NoCustomClaims};
use support::{LOCAL_GRIP_URL, LOCAL_KEY, NOW, Request, claims, local_signature, settings, sign_es256, sign_hs256};

/// How long the signatures of these tests are valid, in seconds.
const LIFETIME: u64 = 3600;
const EVENTS: &str = "application/websocket-events";
const TICKET: &str = "meta-connection-ticket";
const TOKEN: &str = "a-token-of-a-proxy";
const ISSUER: &str = "fastly:SERVICE1";

/// A proxy that signs with ES256, and the settings of a service behind it.
struct Proxy {
    key: ES256KeyPair,
    settings: Settings,
}

impl Proxy {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(more: &[(&str, &str)]) -> Self {
        let key = ES256KeyPair::generate();
        let pem = key.public_key().to_pem().expect("PEM");
        let uri = format!("http://127.0.0.1:5561/?key={TOKEN}&verify-iss={ISSUER}");
        let entries = [&[("GRIP_URL", &*uri), ("GRIP_VERIFY_KEY", &*pem)], more].concat();
        let settings = settings(&entries);
        Self { key, settings }
    }

    fn sign(&self, expiry: u64) -> String {
        sign_es256(&self.key, claims(Some(ISSUER), Some(expiry)))
    }

    fn signed(&self, now: u64) -> Request {
        unsigned().with("Grip-Sig", self.sign(now + 3600))
    }

    #[track_caller]
    fn reply(&self, mut request: Request, now: u64) -> Reply {
        match app::decide(&mut request, &self.settings, now) {
            Action::Reply(reply) => reply,
            Action::HandOff { .. } => panic!("a hand-off"),
            Action::Publish { .. } => panic!("a publish"),
        }
    }

    /// The ticket that a connection gets.
    #[track_caller]
    fn ticket(&self, now: u64) -> String {
        let reply = self.reply(self.signed(now).with_body("OPEN\r\n"), now);
        assert_eq!(reply.status, 200);
        given(&reply).expect("a ticket")
    }

    /// The status of a message with a ticket, but without a signature.
    fn status_with(&self, ticket: &str, now: u64) -> u16 {
        self.reply(message(unsigned().with(TICKET, ticket)), now).status
    }
}

fn unsigned() -> Request {
    Request::new("POST", "/api/websocket").with("Content-Type", EVENTS).with("Connection-Id", "c1")
}

fn message(request: Request) -> Request {
    request.with_body("TEXT 2\r\nhi\r\n")
}

fn given(reply: &Reply) -> Option<String> {
    let mut tickets = reply.headers.iter().filter(|(name, _)| name == "set-meta-connection-ticket");
    let ticket = tickets.next().map(|(_, value)| value.to_string());
    assert_eq!(tickets.next(), None);
    ticket
}

/// The key of the tickets, made as the documentation says.
fn ticket_key(secret: &str, issuer: &str) -> HS256Key {
    let purpose = format!("fanout-edge connection ticket, issuer {issuer}\n");
    let of = |key: &[u8], text: &str| HS256Key::from_bytes(key).authentication_tag(text.as_bytes());
    let (no_rules, no_query) = ("", "");
    HS256Key::from_bytes(&of(&of(secret.as_bytes(), &(purpose + no_rules)), no_query))
}

fn good_claims() -> JWTClaims<NoCustomClaims> {
    JWTClaims { subject: Some("c1".to_owned()), ..claims(Some(ISSUER), Some(NOW + LIFETIME)) }
}

#[test]
fn a_connection_gets_a_ticket_and_needs_no_other_check() {
    let proxy = Proxy::new();
    let ticket = proxy.ticket(NOW);
    // Without a signature, with one that has expired, and with one that is none: the ticket is enough.
    for request in [unsigned(), unsigned().with("Grip-Sig", proxy.sign(NOW - 60)), unsigned().with("Grip-Sig", "x")] {
        let reply = proxy.reply(message(request.with(TICKET, &*ticket)), NOW + LIFETIME);
        assert_eq!((reply.status, &*reply.body), (200, &b"TEXT 4\r\nm:hi\r\n"[..]));
        // The connection has it already.
        assert_eq!(given(&reply), None);
    }
}

#[test]
fn a_ticket_expires_with_the_signature_that_it_was_given_for() {
    let proxy = Proxy::new();
    let late = unsigned().with("Grip-Sig", proxy.sign(NOW + 10));
    let ticket = given(&proxy.reply(message(late), NOW)).expect("a ticket");
    assert_eq!(proxy.status_with(&ticket, NOW + 10), 200);
    assert_eq!(proxy.status_with(&ticket, NOW + 11), 403);
}

#[test]
fn a_ticket_is_what_the_documentation_says() {
    let proxy = Proxy::new();
    assert_eq!(proxy.ticket(NOW), ticket_key(TOKEN, ISSUER).authenticate(good_claims()).expect("a token"));
    assert_eq!(proxy.status_with(&ticket_key(TOKEN, ISSUER).authenticate(good_claims()).expect("a token"), NOW), 200);
}

#[test]
fn without_a_valid_ticket_the_signature_counts_and_a_new_ticket_is_given() {
    let proxy = Proxy::new();
    let expired = proxy.ticket(NOW - LIFETIME - 1);
    for ticket in [None, Some("x"), Some(""), Some(&*expired)] {
        let with_ticket = |request: Request| match ticket {
            Some(ticket) => request.with(TICKET, ticket),
            None => request,
        };
        let reply = proxy.reply(message(with_ticket(proxy.signed(NOW))), NOW);
        assert_eq!((reply.status, &*reply.body), (200, &b"TEXT 4\r\nm:hi\r\n"[..]));
        let ticket = given(&reply).expect("a new ticket");
        assert_eq!(proxy.status_with(&ticket, NOW), 200);
        // The same without a signature, and with one that another key made.
        let reply = proxy.reply(message(with_ticket(unsigned())), NOW);
        assert_eq!((reply.status, &*reply.body, given(&reply)), (403, &b"[not proxied]\n"[..], None));
        let reply = proxy.reply(message(with_ticket(Proxy::new().signed(NOW))), NOW);
        assert_eq!((reply.status, given(&reply)), (403, None));
    }
}

#[test]
fn a_ticket_that_is_forged_or_stolen_is_none() {
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
        ("with more behind it", format!("{ticket}.x")),
        ("twice", format!("{ticket},{ticket}")),
    ] {
        assert_eq!(proxy.status_with(&forged, NOW), 403, "{what}");
    }
    assert_eq!(proxy.status_with(&ticket, NOW + LIFETIME + 1), 403);

    // The right one in the wrong place.
    let with = |request: Request| proxy.reply(message(request), NOW);
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
fn a_ticket_is_for_events_only() {
    let proxy = Proxy::new();
    let ticket = proxy.ticket(NOW);
    let get = || Request::new("GET", "/api/websocket").with("Connection-Id", "c1").with(TICKET, &*ticket);
    assert_eq!(proxy.reply(get(), NOW).status, 426);
    assert_eq!(proxy.reply(get().with("Upgrade", "websocket").with("Grip-Sig", "x"), NOW).status, 403);
}

#[test]
fn tickets_are_off_where_they_are_of_no_use_or_not_wanted() {
    let pem = ES256KeyPair::generate().public_key().to_pem().expect("PEM");
    let token = "https://proxy.example/?key=a-token-of-a-proxy&verify-iss=x";
    for (entries, on) in [
        (&[("FANOUT_API_TOKEN", "0123456789abcdef")][..], true),
        (&[("FANOUT_API_TOKEN", "0123456789abcdef"), ("CONNECTION_TICKETS", "on")], true),
        (&[("FANOUT_API_TOKEN", "0123456789abcdef"), ("CONNECTION_TICKETS", " off\n")], false),
        (&[("FANOUT_API_TOKEN", "0123456789abcde")], false),
        (&[], false),
        (&[("GRIP_URL", LOCAL_GRIP_URL)], false),
        (&[("GRIP_URL", token), ("GRIP_VERIFY_KEY", &pem)], true),
        (&[("GRIP_URL", token), ("GRIP_VERIFY_KEY", LOCAL_KEY)], false),
        (
            &[
                ("GRIP_URL", "https://proxy.example/?iss=me&key=0123456789abcdef&verify-iss=x"),
                ("GRIP_VERIFY_KEY", &pem),
            ],
            true,
        ),
        (
            &[
                ("GRIP_URL", "https://proxy.example/?iss=me&key=0123456789abcde&verify-iss=x"),
                ("GRIP_VERIFY_KEY", &pem),
            ],
            false,
        ),
        (&[("GRIP_URL", "https://user:a+long+password@proxy.example/?verify-iss=x"), ("GRIP_VERIFY_KEY", &pem)], false),
        (&[("GRIP_URL", "https://proxy.example/?verify-iss=x"), ("GRIP_VERIFY_KEY", &pem)], false),
    ] {
        assert_eq!(settings(entries).tickets.is_some(), on, "{entries:?}");
    }
    let error = settings(&[("FANOUT_API_TOKEN", "token"), ("CONNECTION_TICKETS", "of")]).verifier.err();
    let text = "The entry CONNECTION_TICKETS of the secret store `fanout` is neither on nor off";
    assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(text));
}

#[test]
fn where_tickets_are_off_the_signature_is_all_that_counts() {
    let proxy = Proxy::with(&[("CONNECTION_TICKETS", "off")]);
    let reply = proxy.reply(proxy.signed(NOW).with_body("OPEN\r\n"), NOW);
    assert_eq!((reply.status, given(&reply)), (200, None));
    let ticket = ticket_key(TOKEN, ISSUER).authenticate(good_claims()).expect("a token");
    assert_eq!(proxy.status_with(&ticket, NOW), 403);

    // The same locally, where the signature is cheap itself.
    let local = settings(&[("GRIP_URL", LOCAL_GRIP_URL)]);
    let mut open = unsigned().with("Grip-Sig", local_signature(NOW)).with_body("OPEN\r\n");
    let Action::Reply(reply) = app::decide(&mut open, &local, NOW) else { panic!("no reply") };
    assert_eq!((reply.status, given(&reply)), (200, None));
}

#[test]
fn an_application_without_the_service_gives_tickets_too() {
    let service = Service::new("SERVICE1").expect("a valid id");
    let publisher = service.publisher("0123456789abcdef0123456789abcdef").expect("a valid token");
    let tickets = Tickets::new(&publisher, &service.verifier(), "").expect("there is a secret, and a public key");
    let headers = [("connection-id", "c1")];
    let mut ws = WebSocket::new(&headers, b"").expect("a valid request");
    tickets.give(&mut ws, "", NOW + LIFETIME);
    let ticket = ws.into_answer().headers.pop().expect("a header").1;
    let held = |headers: &dyn Headers| tickets.is_held_by(headers, "", NOW);
    assert!(held(&[("connection-id", "c1"), (TICKET, &*ticket)]));
    assert!(!held(&[(TICKET, &*ticket)]));
    assert!(!held(&[("connection-id", "c1")]));
    let printed = format!("{tickets:?}");
    assert_eq!(printed, r#"Tickets { issuer: "fastly:SERVICE1", .. }"#);
}
