//! What a handler can do, by the handlers of `tests/handlers`. `tests/end_to_end` runs the same with the real parts.

use fanout_edge::{
    Connection, Rejection,
    app::{
        platform::{BackendError, Counter},
        web::Response,
    },
    grip::publish::SendError,
};
use jwt_simple::prelude::ES256KeyPair;
use serde_json::json;

use crate::{
    handlers::{ask, chat, game, toolbox},
    service::{ACCEPTED, Handler, Request, Service, UNREADABLE, header, is, settings, subscribed},
    support::{LOCAL_GRIP_URL, NOW, access_token, claims, local_signature, sign_es256},
};

const SECRET: &str = "a secret for access tokens of the tests";
const KEY: &str = "secret:a secret for access tokens of the tests";

fn batch(query: &str, body: impl AsRef<[u8]>) -> Request {
    unsigned(query, body).with("Grip-Sig", local_signature(NOW))
}

fn unsigned(query: &str, body: impl AsRef<[u8]>) -> Request {
    Request::new("POST", &format!("/api/websocket?{query}"))
        .with("Content-Type", "application/websocket-events")
        .with("Connection-Id", "c1")
        .with_body(body)
}

fn with_token(request: Request, claims: &str) -> Request {
    let mut claims: serde_json::Value = serde_json::from_str(claims).expect("JSON");
    claims["x-fastly-read"] = json!(["*"]);
    let token = access_token(SECRET, NOW + 60, &claims.to_string());
    request.with("Authorization", format!("Bearer {token}"))
}

fn guarded(handler: Handler) -> Service {
    Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", KEY)])).with_handler(handler)
}

fn open(handler: Handler) -> Service {
    Service::local().with_handler(handler)
}

fn text(message: &str) -> String {
    format!("TEXT {:x}\r\n{message}\r\n", message.len())
}

/// A message to the client, as the proxy gets it.
fn sent(message: &str) -> String {
    text(&format!("m:{message}"))
}

fn closed(code: u16, reason: &str) -> Vec<u8> {
    [format!("CLOSE {:x}\r\n", reason.len() + 2).as_bytes(), &code.to_be_bytes(), reason.as_bytes(), b"\r\n"].concat()
}

/// The channel of the user `alice`.
const ALICE: &str = "user:2bd806c97f0e00af1a1fc3328fa763a9";

#[test]
fn a_backend_says_who_may_enter() {
    let with = |response: Result<http::Response<Vec<u8>>, BackendError>| {
        let mut service = open(ask);
        service.host.responses.push_back(response);
        service
    };
    let says = |status: u16, body: &str| {
        Ok(http::Response::builder().status(status).body(body.as_bytes().to_vec()).expect("a response"))
    };
    let opening = || batch("channel=blue", "OPEN\r\n").with("Authorization", "Basic YTpi");

    let mut service = with(says(200, ""));
    is(&service.respond(opening()), 200, format!("{ACCEPTED}{}", subscribed("blue")));
    let [(backend, request)] = &service.host.fetched[..] else { panic!("not one request") };
    assert_eq!(
        (&**backend, request.uri().to_string()),
        ("rooms", "http://rooms.example/may-enter?room=blue".to_owned())
    );
    assert_eq!(request.headers()["authorization"], "Basic YTpi");
    // A message asks nobody.
    is(&service.respond(batch("channel=blue", text("hi"))), 200, sent("hi"));
    assert_eq!(service.host.fetched.len(), 1);

    is(&with(says(403, "The room is full")).respond(opening()), 403, "The room is full\n");
    for (error, status, problem) in [
        (BackendError::Missing, 503, "does not exist: add it to the service"),
        (BackendError::Url, 500, "was not called: use an absolute URL, http://HOST/PATH"),
        (BackendError::Unreachable, 502, "could not be reached: try again later"),
        (BackendError::TimedOut, 504, "did not respond in time: try again later"),
    ] {
        let response = with(Err(error)).respond(opening());
        is(&response, status, format!("The backend `rooms` {problem}\n"));
        assert_eq!(response.log, Some(format!("The backend `rooms` {problem}")));
    }
    let large = with(says(200, &"x".repeat(100_001))).respond(opening());
    is(&large, 502, "The backend `rooms` sent too large a response: at most 100000 bytes are accepted\n");
    is(&with(says(200, &"x".repeat(100_000))).respond(opening()), 200, format!("{ACCEPTED}{}", subscribed("blue")));
}

#[test]
fn a_game_is_for_members_and_remembers_their_level() {
    let opening = |query: &str| batch(query, "OPEN\r\n").with("Sec-WebSocket-Protocol", "game.v2, game.v1");
    let (member, guest) = (r#"{"plan":"member"}"#, r#"{"plan":"guest"}"#);
    let mut service = guarded(game);
    let response = service.respond(with_token(opening("level=hard"), member));
    is(&response, 200, ACCEPTED);
    assert_eq!(header(&response, "sec-websocket-protocol"), Some("game.v1"));
    assert_eq!(header(&response, "set-meta-state-level"), Some("\"hard\""));
    let later = batch("level=hard", text("level?")).with("Meta-State-Level", "\"hard\"");
    is(&service.respond(with_token(later, member)), 200, sent("hard"));

    let members_only = "For members only: see https://example.com/join\n";
    is(&service.respond(with_token(opening("level=hard"), guest)), 403, members_only);
    is(&service.respond(with_token(opening("level=hard"), "{}")), 403, members_only);
    let level = "Invalid level: use level=easy or level=hard\n";
    for query in ["", "level=", "level=fun"] {
        let response = service.respond(with_token(opening(query), member));
        is(&response, 400, level);
        // A response that rejects goes to the client: it has no more than a status and a text.
        assert_eq!(response.headers.keys().collect::<Vec<_>>(), ["content-type", "x-content-type-options"]);
    }
    // Without a token the service itself rejects.
    assert!(service.respond(opening("level=hard")).body.starts_with(b"Access token required"));
    // A client that does not offer the subprotocol of the game would give up.
    let response = service.respond(with_token(batch("level=easy", "OPEN\r\n"), member));
    is(&response, 400, "Missing subprotocol: offer the one that this service requires\n");
}

/// A connection behind a proxy that signs with ES256: the user is known by the ticket, too.
#[test]
fn the_user_is_known_with_a_ticket() {
    fn who(connection: &mut Connection<'_>) -> Result<(), Rejection> {
        connection.accept();
        let text = format!("{:?} {:?} {:?}", connection.user(), connection.claim("team"), connection.claim("exp"));
        connection.send(&text);
        Ok(())
    }
    let pair = ES256KeyPair::generate();
    let key = pair.public_key().to_pem().expect("PEM");
    let uri = "http://127.0.0.1:5561/?key=a-token-of-some-length&verify-iss=proxy";
    let service = |access: &[(&str, &str)]| {
        Service::new(settings(&[&[("GRIP_URL", uri), ("GRIP_VERIFY_KEY", &key)], access].concat())).with_handler(who)
    };
    let signature = sign_es256(&pair, claims(Some("proxy"), Some(NOW + 60)));
    let alice = r#"{"sub":"alice","team":["a"]}"#;
    let seen = r#"Some("alice") Some(Array [String("a")]) None"#;
    let mut guarded = service(&[("ACCESS_KEY", KEY)]);
    let opening = guarded.respond(with_token(unsigned("", "OPEN\r\n").with("Grip-Sig", &*signature), alice));
    is(&opening, 200, format!("{ACCEPTED}{}{}", subscribed(ALICE), sent(seen)));
    let ticket = header(&opening, "set-meta-connection-ticket").expect("a ticket");
    let later = || unsigned("", "").with("Meta-Connection-Ticket", ticket);
    is(&guarded.respond(with_token(later(), alice)), 200, sent(seen));
    // The same connection with another token is another matter: its ticket proves nothing.
    assert_eq!(guarded.respond(with_token(later(), r#"{"sub":"bob"}"#)).status, 403);
    let bob = with_token(later().with("Grip-Sig", &*signature), r#"{"sub":"bob"}"#);
    is(&guarded.respond(bob), 200, sent(r#"Some("bob") None None"#));
    // An open service believes no token, with or without a ticket.
    let mut open = service(&[]);
    let opening = open.respond(with_token(unsigned("", "OPEN\r\n").with("Grip-Sig", &*signature), alice));
    is(&opening, 200, format!("{ACCEPTED}{}", sent("None None None")));
    let ticket = header(&opening, "set-meta-connection-ticket").expect("a ticket");
    let later = unsigned("", "").with("Meta-Connection-Ticket", ticket);
    is(&open.respond(with_token(later, alice)), 200, sent("None None None"));
}

fn does(body: &str) -> Response {
    open(toolbox).respond(batch("", body))
}

#[test]
fn a_connection_subscribes_and_unsubscribes_at_any_time() {
    let unsubscribe = r#"c:{"type":"unsubscribe","channel":"a"}"#;
    is(&does(&(text("subscribe a") + &text("unsubscribe a"))), 200, subscribed("a") + &text(unsubscribe));
    let reason = "Invalid channel name: use 1 to 64 of A-Z a-z 0-9 - . _ ~";
    for command in ["subscribe a:b", "unsubscribe ,", "publish a:b x", "publish-bytes :", "close-others :"] {
        let response = does(&text(command));
        is(&response, 200, closed(1008, reason));
        assert_eq!(response.log.as_deref(), Some(reason));
    }
    let many = |count: usize| (0..count).map(|number| text(&format!("subscribe a{number}"))).collect::<String>();
    let too_many = closed(1008, "Too many channels: use at most 20");
    // The connection opened with one.
    assert!(does(&many(20)).body.ends_with(&too_many));
    assert_eq!(does(&many(19)).log, None);
    // The same channel again, and another one in the place of one that was left, are not one more.
    assert_eq!(does(&(many(19) + &text("subscribe a0"))).log, None);
    assert_eq!(does(&(many(19) + &text("unsubscribe test") + &text("subscribe b"))).log, None);
    assert!(does(&(many(19) + &text("unsubscribe c") + &text("subscribe b"))).body.ends_with(&too_many));
}

#[test]
fn the_channels_of_a_connection_are_remembered_if_they_are_not_those_of_its_url() {
    let mut service = open(toolbox);
    let mut meta = None::<String>;
    let mut say = |commands: &[&str]| {
        let body: String = commands.iter().map(|command| text(command)).collect();
        let request =
            meta.iter().fold(batch("channel=a&channel=b", body), |request, meta| request.with("Meta-Channels", meta));
        let response = service.respond(request);
        assert_eq!(response.log, None);
        let set = header(&response, "set-meta-channels").map(str::to_owned);
        if let Some(set) = &set {
            meta = Some(set.clone()).filter(|set| !set.is_empty());
        }
        set
    };
    assert_eq!(say(&["subscribe a", "subscribe b"]), None);
    assert_eq!(say(&["subscribe c", "unsubscribe a"]).as_deref(), Some("b c"));
    assert_eq!(say(&["subscribe c", "unsubscribe a"]), None);
    assert_eq!(say(&["unsubscribe b", "unsubscribe c"]).as_deref(), Some(":"));
    assert_eq!(say(&["unsubscribe b"]), None);
    // The same as in the URL need not be remembered.
    assert_eq!(say(&["subscribe b", "subscribe a"]).as_deref(), Some(""));
    assert_eq!(say(&["subscribe b"]), None);
    // An opening connection has none before the handler subscribes it.
    let nothing = open(|connection| {
        connection.accept();
        Ok(())
    })
    .respond(batch("channel=a", "OPEN\r\n"));
    assert_eq!(header(&nothing, "set-meta-channels"), Some(":"));
}

#[test]
fn a_connection_publishes_by_name() {
    let mut service = open(toolbox);
    is(&service.respond(batch("", text("publish a x") + &text("publish-bytes b"))), 200, "");
    let items = service.take_items();
    assert_eq!((items.len(), &items[0]["channel"], &items[2]["channel"]), (4, &json!("a"), &json!("b")));
    assert_eq!(items[0]["formats"]["ws-message"], json!({ "content": "x" }));
    assert_eq!(items[2]["formats"]["ws-message"], json!({ "type": "binary", "content-bin": "/wA=" }));
    // The rate limit counts them for the connection.
    let limit = [("GRIP_URL", LOCAL_GRIP_URL), ("config:BROADCASTS_PER_MINUTE", "2")];
    let mut service = Service::new(settings(&limit)).with_handler(toolbox);
    is(&service.respond(batch("", text("publish a x").repeat(2))), 200, "");
    service.host.counted.retain(|(_, _, n)| *n > 0);
    assert_eq!(service.host.counted, [(Counter::Broadcasts, "c1".to_owned(), 2)]);
    let response = service.respond(batch("", text("publish a x")));
    is(&response, 200, closed(1008, "Too many broadcasts: at most 2 per minute, wait 60 seconds"));
}

#[test]
fn a_connection_closes_the_others_on_a_channel() {
    let mut service = open(toolbox);
    is(&service.respond(batch("", text("close-others a"))), 200, "");
    let close = json!({ "action": "close", "code": 1001, "reason": "room closed" });
    let formats = json!({ "ws-message": close, "http-stream": { "action": "close" } });
    // A stream of envelopes is told why.
    let event = "event: message\ndata: {\"type\":\"close\",\"code\":1001,\"reason\":\"room closed\"}\n\n";
    let last = json!({ "http-stream": { "content": event } });
    assert_eq!(
        service.take_items(),
        [
            json!({ "channel": "a", "meta": { "sender": "c1" }, "formats": formats }),
            json!({ "channel": "json:a", "meta": { "sender": "c1" }, "formats": last }),
            json!({ "channel": "json:a", "meta": { "sender": "c1" }, "formats": formats }),
        ]
    );
}

#[test]
fn a_connection_remembers_values() {
    let response = does(&(text("recall x") + &text("remember x Zo\u{eb},100%") + &text("recall x")));
    let value = "Zo\u{eb},100%";
    is(&response, 200, sent("x=None") + &sent(&format!("x={:?}", Some(value))));
    assert_eq!(header(&response, "set-meta-state-x"), Some("\"Zo%C3%AB,100%25\""));
    let recall = |meta: &str| open(toolbox).respond(batch("", text("recall x")).with("Meta-State-X", meta));
    is(&recall("\"Zo%C3%AB,100%25\""), 200, sent(&format!("x={:?}", Some(value))));
    is(&recall(""), 200, sent("x=None"));
    is(&recall("%ff"), 200, sent("x=None"));
    // Nor is one of another type, or what is no JSON.
    is(&recall("5"), 200, sent("x=None"));
    is(&recall("old"), 200, sent("x=None"));
    // A value that the handler did not store is not its state.
    is(&open(toolbox).respond(batch("", text("recall x")).with("Meta-X", "forged")), 200, sent("x=None"));
    // Nor is anything that an opening brings along: no response can have set it.
    let opening = batch("", "OPEN\r\n".to_owned() + &text("recall x") + &text("remember x y") + &text("recall x"));
    let response = open(toolbox).respond(opening.with("Meta-State-X", "forged"));
    is(&response, 200, ACCEPTED.to_owned() + &sent("x=None") + &sent("x=Some(\"y\")"));
    // `()` removes.
    let removed =
        open(toolbox).respond(batch("", text("forget x") + &text("recall x")).with("Meta-State-X", "\"old\""));
    is(&removed, 200, sent("x=None"));
    assert_eq!(header(&removed, "set-meta-state-x"), Some(""));
    assert_eq!(does(&text(&format!("remember x {}", "y".repeat(510)))).log, None);
    let reason = "Invalid connection state: use a name of letters, digits, - and _, and a value of at most 512 bytes, as percent-encoded JSON";
    assert_eq!(does(&text(&format!("remember {} y", "x".repeat(64)))).log, None);
    for command in [
        format!("remember {} y", "x".repeat(65)),
        format!("remember x {}", "y".repeat(511)),
        format!("remember x {}", "%".repeat(171)),
        "remember  y".to_owned(),
        "remember a:b y".to_owned(),
    ] {
        is(&does(&text(&command)), 200, closed(1011, reason));
    }
}

#[test]
fn a_connection_sees_the_headers_of_its_handshake() {
    let request = |values: &[&str]| {
        values.iter().fold(batch("", text("header x-a")), |request, value| request.with("X-A", *value))
    };
    for (values, seen) in [(&["1"][..], "Some(\"1\")"), (&[], "None"), (&["1", "2"], "None")] {
        is(&open(toolbox).respond(request(values)), 200, sent(seen));
    }
}

#[test]
fn a_connection_does_not_see_the_headers_of_the_proxy() {
    for name in ["Grip-Sig", "grip-feature", "Meta-State-X", "meta-connection-ticket", "Connection-Id"] {
        let request = batch("", text(&format!("header {name}"))).with("Grip-Feature", "x");
        let request = request.with("Meta-State-X", "x").with("Meta-Connection-Ticket", "x");
        is(&open(toolbox).respond(request), 200, sent("None"));
    }
}

#[test]
fn a_connection_knows_its_rights() {
    fn rights(connection: &mut Connection<'_>) -> Result<(), Rejection> {
        let may = |channel| (connection.may_subscribe(channel), connection.may_publish(channel));
        let text = format!("{:?} {:?} {:?}", may("a"), may("b"), may("b:c"));
        connection.send(&text);
        Ok(())
    }
    let claims = r#"{"x-fastly-write":["a"]}"#;
    let response = guarded(rights).respond(with_token(batch("channel=a", ""), claims));
    is(&response, 200, sent("(true, true) (true, false) (false, false)"));
    is(&open(rights).respond(batch("", "")), 200, sent("(true, true) (true, true) (false, false)"));
}

#[test]
fn a_message_is_relayed_only_if_its_client_asked_for_that() {
    fn relay(connection: &mut Connection<'_>) -> Result<(), Rejection> {
        while let Some(message) = connection.receive() {
            connection.relay(message)?;
        }
        Ok(())
    }
    for (query, count) in [("", 0), ("echo=off", 0), ("mode=publish", 1), ("mode=publish&echo=off", 1)] {
        let mut service = open(relay);
        is(&service.respond(batch(query, text("hi"))), 200, "");
        assert_eq!(service.host.published.len(), count, "{query}");
    }
}

#[test]
fn a_connection_is_accepted_once() {
    fn twice(connection: &mut Connection<'_>) -> Result<(), Rejection> {
        let offered: Vec<_> = connection.protocols().collect();
        assert_eq!(offered, ["bearer", "x", "v1"]);
        connection.accept_with_protocol("v1")?;
        connection.accept();
        connection.accept_with_protocol("x")
    }
    let response = open(twice).respond(batch("", "OPEN\r\n").with("Sec-WebSocket-Protocol", "bearer, x, v1"));
    is(&response, 200, ACCEPTED);
    assert_eq!(header(&response, "sec-websocket-protocol"), Some("v1"));
}

#[test]
fn a_handler_need_not_receive_everything() {
    fn first(connection: &mut Connection<'_>) -> Result<(), Rejection> {
        connection.receive();
        Ok(())
    }
    let handler = open(first).on_websocket;
    for (body, expected) in [
        (
            text("a") + &text("b") + "PING 1\r\np\r\nCLOSE 2\r\n\x0f\x20\r\n",
            &b"PONG 1\r\np\r\nCLOSE 2\r\n\x0f\x20\r\n"[..],
        ),
        ("CLOSE 2\r\n\x0f\x20\r\n".to_owned(), b"CLOSE\r\n"),
        (text("a") + "DISCONNECT\r\n", b""),
    ] {
        is(&open(handler).respond(batch("", body)), 200, expected);
    }
}

#[test]
fn requests_to_backends_and_publish_requests_have_one_limit() {
    let large =
        |count: usize| (0..count).map(|_| text(&format!("publish a {}", "x".repeat(10_000)))).collect::<String>();
    let fetch = text("fetch http://rooms.example/");
    let respond = |body: String| {
        let mut service = open(toolbox);
        service.host.responses.push_back(Ok(http::Response::new(Vec::new())));
        let response = service.respond(batch("", body));
        (response.log.is_some(), service.host.published.len())
    };
    assert_eq!(respond(fetch.clone() + &large(5)), (false, 5));
    assert_eq!(respond(fetch + &large(6)), (true, 0));
    let mut service = open(toolbox);
    let ok = || Ok(http::Response::new(Vec::new()));
    service.host.responses.extend((0..6).map(|_| ok()));
    let response = service.respond(batch("", text("fetch http://rooms.example/").repeat(7)));
    let problem = "The backend `rooms` was not called: use at most 6 requests to backends for each batch";
    is(&response, 200, [sent("200 OK").repeat(6).as_bytes(), &closed(1011, problem)].concat());
    assert_eq!(service.host.fetched.len(), 6);
}

#[test]
fn a_heartbeat_can_be_changed_and_turned_off() {
    let control = |json: &str| text(&format!("c:{json}"));
    let pong = r#"{"type":"keep-alive","message-type":"pong","content":"","timeout":"#;
    is(&does(&text("heartbeat 5")), 200, control(&format!("{pong}5}}")));
    is(&does(&text("heartbeat 0")), 200, control(r#"{"type":"keep-alive","timeout":1}"#));
    is(&does(&text("heartbeat 4294967295")), 200, control(&format!("{pong}2147483}}")));
}

#[test]
fn a_handler_rejects_an_open_connection_by_closing_it() {
    for (status, code) in [
        ("400", 1008),
        ("401", 1008),
        ("403", 1008),
        ("413", 1009),
        ("500", 1011),
        ("599", 1011),
        ("200", 1011),
        ("600", 1011),
    ] {
        let mut service = open(toolbox);
        let body = text("publish a x") + &text("recall x") + &text(&format!("reject {status}")) + &text("recall x");
        let response = service.respond(batch("", body));
        is(&response, 200, [sent("x=None").as_bytes(), &closed(code, "as you wish")].concat());
        assert!(response.log.is_some());
        // Nothing of the batch is published.
        assert!(service.host.published.is_empty());
    }
    // An opening that was accepted before is rejected all the same, and no ticket or state goes to the client.
    let opening = open(toolbox).respond(batch("", "OPEN\r\n".to_owned() + &text("remember x y") + &text("reject 409")));
    is(&opening, 409, "as you wish\n");
    assert_eq!(opening.headers.keys().collect::<Vec<_>>(), ["content-type", "x-content-type-options"]);
}

#[test]
fn an_opening_that_is_not_accepted_is_an_error() {
    for handler in [(|_| Ok(())) as Handler, |connection| {
        connection.close(None);
        Ok(())
    }] {
        let response = open(handler).respond(batch("", "OPEN\r\n"));
        is(&response, 500, "The handler did not accept the connection: call connection.accept()\n");
        assert!(response.log.is_some());
    }
}

#[test]
fn an_opening_whose_messages_are_not_published_is_rejected() {
    let mut service = guarded(chat);
    service.host.results.push_back(Err(SendError::TimedOut));
    let response = service.respond(with_token(batch("", "OPEN\r\n"), r#"{"sub":"alice"}"#));
    is(&response, 504, "The message may or may not be published: the GRIP proxy did not respond in time\n");
}

#[test]
fn a_handler_reads_settings_and_secrets_of_its_own() {
    let mut service = open(toolbox);
    service.host.entries =
        vec![("config:GREETING", "hello"), ("API_KEY", "s3cret"), ("OTHER", "x"), ("BAD", UNREADABLE)];
    let asks = |service: &mut Service, texts: &[&str]| {
        service.respond(batch("", texts.iter().map(|message| text(message)).collect::<String>()))
    };
    let response = asks(&mut service, &["setting GREETING", "setting NONE", "secret API_KEY", "secret API_KEY"]);
    let expected = ["GREETING=Some(\"hello\")", "NONE=None", "API_KEY=s3cret", "API_KEY=s3cret"];
    is(&response, 200, expected.map(sent).concat());
    // A sandbox reads each once, also if there is none.
    assert_eq!(service.host.entries_read, ["config:GREETING", "config:NONE", "API_KEY"]);
    let response = asks(&mut service, &["setting NONE", "secret API_KEY", "secret OTHER"]);
    is(&response, 200, ["NONE=None", "API_KEY=s3cret", "OTHER=x"].map(sent).concat());
    assert_eq!(service.host.entries_read.len(), 4);
    // What has no value is logged, by its name; the client is told only that something is wrong.
    let broken = |service: &mut Service, name: &str, log: &str| {
        let response = asks(service, &[&*format!("secret {name}")]);
        is(&response, 200, closed(1011, "a setting of the service cannot be used"));
        assert_eq!(response.log.as_deref(), Some(log));
    };
    broken(&mut service, "NONE", "The entry NONE of the secret store `fanout` is missing: add it");
    broken(&mut service, "BAD", "The entry BAD of the secret store `fanout` cannot be read as text: correct it");
    service.host.entries.push(("config:BAD", UNREADABLE));
    let response = asks(&mut service, &["setting BAD"]);
    let log = "The entry BAD of the config store `fanout_config` cannot be read as text: correct it";
    assert_eq!(response.log.as_deref(), Some(log));
}

#[test]
fn the_reads_of_settings_and_secrets_are_bounded() {
    let mut service = open(toolbox);
    service.host.entries = vec![("A", "1"), ("B", "2"), ("C", "3")];
    let response = service.respond(batch("", text("secret A") + &text("secret B") + &text("secret C")));
    let too_many = "The entry C of the secret store `fanout` was not read: read at most 2 new secrets in one batch, and 16 settings in all";
    assert_eq!(response.log.as_deref(), Some(too_many));
    assert_eq!(service.host.entries_read, ["A", "B"]);
    // The next batch may read it.
    is(&service.respond(batch("", text("secret C"))), 200, sent("C=3"));
    let asked = |from: u32, to: u32| (from..to).map(|number| text(&format!("setting S{number}"))).collect::<String>();
    assert_eq!(service.respond(batch("", asked(0, 16))).log, None);
    let response = service.respond(batch("", asked(16, 17)));
    assert!(
        response
            .log
            .is_some_and(|log| log.starts_with("The entry S16 of the config store `fanout_config` was not read"))
    );
    assert_eq!(service.host.entries_read.len(), 19);
}

#[test]
fn a_handler_knows_the_address_and_the_close_reason() {
    let address = |value: &str| open(toolbox).respond(batch("", text("address")).with("Fanout-Client", value));
    is(&address("192.0.2.7"), 200, sent("Some(192.0.2.7)"));
    is(&address("2001:db8:1:2:3::4"), 200, sent("Some(2001:db8:1:2:3::4)"));
    is(&address("someone"), 200, sent("None"));
    is(&does(&text("address")), 200, sent("None"));
    let response = does("CLOSE 5\r\n\x03\u{e8}bye\r\n".replace('\u{e8}', "\u{7f}").as_str());
    assert_eq!(header(&response, "set-meta-state-reason"), Some("\"bye\""));
}

#[test]
fn publishing_returns_the_id_of_the_message() {
    let mut service = open(toolbox);
    let response = service.respond(batch("", text("publish room hi")));
    let id = service.take_items()[0]["id"].clone();
    assert_eq!(header(&response, "set-meta-state-published"), Some(&*id.to_string()));
}

#[test]
fn any_error_ends_a_handler_without_telling_the_client() {
    let mut service = open(|connection| {
        connection.accept();
        let _: u8 = "x".parse()?;
        Ok(())
    });
    let response = service.respond(batch("", "OPEN\r\n"));
    is(&response, 500, "The handler failed: try again later, the log of the service says why\n");
    assert_eq!(response.log.as_deref(), Some("the handler failed: invalid digit found in string"));
}

#[test]
fn what_is_too_much_is_not_published_in_part() {
    // A message that takes three requests of six, twice, and a small one: nothing of the large one is left in between.
    let mut service = open(|connection| {
        connection.accept();
        connection.publish("room", "first")?;
        let large = "\"".repeat(15_000);
        assert!((0..9).map(|_| connection.publish("room", large.clone())).any(|published| published.is_err()));
        connection.publish("room", "last")?;
        Ok(())
    });
    is(&service.respond(batch("", "OPEN\r\n")), 200, ACCEPTED);
    let items = service.take_items();
    let of = |text: &str| items.iter().filter(|item| item["formats"]["ws-message"]["content"] == text).count();
    assert_eq!((of("first"), of("last")), (1, 1));
    // Each large one is there with all of its forms, or not at all.
    let large = "\"".repeat(15_000);
    let mut forms = std::collections::BTreeMap::new();
    for item in items.iter().filter(|item| item.to_string().len() > 10_000) {
        let id = item["id"].as_str().expect("an id");
        let formats = item["formats"].as_object().expect("formats").len();
        *forms.entry(id[..36].to_owned()).or_insert(0) += formats;
    }
    assert!(!forms.is_empty() && forms.values().all(|forms| *forms == 6), "{forms:?}");
    assert_eq!(of(&large), forms.len());
}

#[test]
fn a_relay_reaches_all_channels_of_the_client_or_none() {
    let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*")]));
    service.on_websocket = |connection| {
        while let Some(message) = connection.receive() {
            if connection.relay(message).is_err() {
                connection.send("too much");
            }
        }
        Ok(())
    };
    let large = "\"".repeat(15_000);
    let response =
        service.respond(batch("mode=publish&channel=a&channel=b", text("one") + &text(&large) + &text("two")));
    is(&response, 200, sent("too much"));
    let items = service.take_items();
    let texts: Vec<_> = items.iter().filter_map(|item| item["formats"]["ws-message"]["content"].as_str()).collect();
    assert_eq!(texts.iter().filter(|text| text.len() < 10).collect::<Vec<_>>(), [&"one", &"one", &"two", &"two"]);
    assert_eq!(texts.len(), 8, "and their envelopes");
    // Nor is it kept.
    assert!(service.host.store.entries.iter().all(|(key, value, ..)| key.len() + value.len() < 1000));
}

#[test]
fn the_text_of_an_error_is_one_short_line_of_the_log() {
    let mut service = open(|_| Err(std::io::Error::other("a\nforged line ".repeat(100)))?);
    let log = service.respond(batch("", "OPEN\r\n")).log.expect("a line");
    assert!(log.starts_with("the handler failed: a\\nforged line a\\n") && log.len() < 250 && log.lines().count() == 1);
}
