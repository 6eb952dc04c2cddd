//! Access tokens: what they must be, what they allow, where they are looked for, and what is answered without one.

mod support;

use fanout_edge::{
    app::{
        self, Action, Reply, Settings,
        access::{Access, Denied, InvalidAccess, Right},
        settings::Unreadable,
    },
    grip::{Channel, key::InvalidKey, signature::SignatureError},
};
use jwt_simple::prelude::{ECDSAP256KeyPairLike, ECDSAP256PublicKeyLike, ES256KeyPair, HS256Key, MACLike};
use support::{LOCAL_GRIP_URL, NOW, Request, access_token, local_signature, settings, sign_es256, with_claims};

const EVENTS: &str = "application/websocket-events";
const SECRET: &str = "a secret for access tokens";
const NEEDED: &str = "An access token is needed: the header `Authorization: Bearer TOKEN`, ?token=TOKEN, or the WebSocket subprotocols `bearer, TOKEN`\n";
const SUBSCRIBING: [&str; 4] = ["/api/websocket", "/api/events", "/api/stream", "/api/poll"];

fn guarded() -> Settings {
    guarded_with(SECRET)
}

fn guarded_with(key: &str) -> Settings {
    settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", key)])
}

fn token(claims: &str) -> String {
    access_token(SECRET, NOW + 60, claims)
}

fn reader() -> String {
    token(r#"{"x-fastly-read":["test"]}"#)
}

fn writer() -> String {
    token(r#"{"x-fastly-write":["test"]}"#)
}

fn connect(path: &str) -> Request {
    Request::new("GET", path).with("Upgrade", "websocket")
}

fn broadcast(path: &str) -> Request {
    Request::new("POST", path).with("Content-Type", "text/plain").with_body("Hello")
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(header, _)| header == name).map(|(_, value)| &**value)
}

#[track_caller]
fn refused(request: Request, settings: &Settings, status: u16, body: &str) -> Reply {
    let mut request = request;
    let Action::Reply(reply) = app::decide(&mut request, settings, NOW) else { panic!("not refused") };
    assert_eq!((reply.status, &*String::from_utf8_lossy(&reply.body)), (status, body));
    let log = reply.log.as_deref().expect("the log says why");
    assert!(!log.contains("eyJ") && !log.contains("test"), "{log}");
    reply
}

fn is_handed_off(mut request: Request, settings: &Settings) -> bool {
    matches!(app::decide(&mut request, settings, NOW), Action::HandOff { .. })
}

fn is_published(mut request: Request, settings: &Settings) -> bool {
    matches!(app::decide(&mut request, settings, NOW), Action::Publish { .. })
}

#[test]
fn without_a_token_nobody_subscribes_or_publishes() {
    let without = SUBSCRIBING.map(connect).into_iter().chain([broadcast("/api/broadcast")]);
    for request in without {
        let reply = refused(request, &guarded(), 401, NEEDED);
        assert_eq!(header(&reply, "www-authenticate"), Some("Bearer realm=\"fanout-edge\""));
    }
    // The same without an upgrade, where a client can show it.
    refused(Request::new("GET", "/api/websocket"), &guarded(), 401, NEEDED);
}

#[test]
fn without_a_key_everybody_does_and_the_log_says_so() {
    let open = settings(&[("GRIP_URL", LOCAL_GRIP_URL)]);
    assert!(SUBSCRIBING.iter().all(|path| is_handed_off(connect(path), &open)));
    assert!(is_published(broadcast("/api/broadcast"), &open));
    assert_eq!(open.notice(), Some("There is no ACCESS_KEY: everybody may subscribe and broadcast"));
    assert_eq!(guarded().notice(), None);
}

#[test]
fn a_token_is_found_in_the_header_the_subprotocols_and_the_query() {
    let read = reader();
    for path in SUBSCRIBING {
        assert!(is_handed_off(connect(path).with("Authorization", bearer(&read)), &guarded()), "{path}");
        assert!(is_handed_off(connect(path).with("Authorization", format!("bEARER  {read} ")), &guarded()), "{path}");
        assert!(is_handed_off(connect(&format!("{path}?token={read}")), &guarded()), "{path}");
        // A password of another kind does not stand in the way.
        let basic = connect(&format!("{path}?token={read}")).with("Authorization", "Basic dXNlcjpwYXNz");
        assert!(is_handed_off(basic, &guarded()), "{path}");
    }
    for protocols in [format!("bearer, {read}"), format!("bearer,{read},chat"), format!("chat, bearer, {read}")] {
        let request = connect("/api/websocket").with("Sec-WebSocket-Protocol", &*protocols);
        assert!(is_handed_off(request, &guarded()), "{protocols}");
    }
    for protocols in ["bearer", "chat", &*format!("{read}, bearer"), &*format!("Bearer, {read}")] {
        refused(connect("/api/websocket").with("Sec-WebSocket-Protocol", protocols), &guarded(), 401, NEEDED);
    }
    let write = writer();
    assert!(is_published(broadcast("/api/broadcast").with("Authorization", bearer(&write)), &guarded()));
    assert!(is_published(broadcast(&format!("/api/broadcast?token={write}")), &guarded()));
    // The header counts, whatever is elsewhere.
    let request = connect(&format!("/api/poll?token={read}")).with("Authorization", "Bearer x");
    let malformed = "The access token is refused: it is not one JWT\n";
    refused(request, &guarded(), 401, malformed);
    let twice = connect("/api/poll").with("Authorization", bearer(&read)).with("authorization", bearer(&read));
    refused(twice, &guarded(), 401, malformed);
}

#[test]
fn a_token_counts_for_the_channels_that_it_names() {
    let claims = r#"{"x-fastly-read":["a","room-*"],"x-fastly-write":["b*","c"]}"#;
    let token = token(claims);
    let (grants, until) = Access::parse(SECRET).expect("a key").verify(&token, NOW).expect("a valid token");
    assert_eq!(until, NOW + 60);
    for (channel, reads, writes) in [
        ("a", true, false),
        ("aa", false, false),
        ("A", false, false),
        ("room-", true, false),
        ("room-1", true, false),
        ("room", false, false),
        ("b", false, true),
        ("bc", false, true),
        ("c", false, true),
        ("cc", false, false),
        ("test", false, false),
    ] {
        let channel = Channel::new(channel).expect("a channel");
        assert_eq!((grants.have(Right::Read, &channel), grants.have(Right::Write, &channel)), (reads, writes));
    }
    let all = |claims: &str| {
        let (grants, _) =
            Access::parse(SECRET).expect("a key").verify(&access_token(SECRET, NOW + 60, claims), NOW).expect("valid");
        [Right::Read, Right::Write].map(|right| grants.have(right, &Channel::from_static("test")))
    };
    assert_eq!(all(r#"{"x-fastly-read":["*"]}"#), [true, false]);
    assert_eq!(all(r#"{"x-fastly-write":["*"]}"#), [false, true]);
    for nothing in ["{}", r#"{"x-fastly-read":[]}"#, r#"{"x-fastly-read":["**","*est",""]}"#] {
        assert_eq!(all(nothing), [false, false], "{nothing}");
    }
}

#[test]
fn another_channel_is_forbidden_and_named() {
    let (read, write) = (bearer(&reader()), bearer(&writer()));
    for path in SUBSCRIBING {
        let request = connect(&format!("{path}?channel=test&channel=other")).with("Authorization", &*read);
        let body = "The access token does not allow to subscribe to other: its x-fastly-read lacks that channel\n";
        let reply = refused(request, &guarded(), 403, body);
        let challenge = "Bearer realm=\"fanout-edge\", error=\"insufficient_scope\"";
        assert_eq!(header(&reply, "www-authenticate"), Some(challenge));
        // Who may publish may not subscribe.
        let body = "The access token does not allow to subscribe to test: its x-fastly-read lacks that channel\n";
        refused(connect(path).with("Authorization", &*write), &guarded(), 403, body);
    }
    let body = "The access token does not allow to publish to other: its x-fastly-write lacks that channel\n";
    refused(broadcast("/api/broadcast?channel=other").with("Authorization", &*write), &guarded(), 403, body);
    let body = "The access token does not allow to publish to test: its x-fastly-write lacks that channel\n";
    refused(broadcast("/api/broadcast").with("Authorization", &*read), &guarded(), 403, body);
    // A WebSocket that publishes needs both.
    refused(connect("/api/websocket?mode=publish").with("Authorization", &*read), &guarded(), 403, body);
    let both = bearer(&token(r#"{"x-fastly-read":["te*"],"x-fastly-write":["*"]}"#));
    assert!(is_handed_off(connect("/api/websocket?mode=publish").with("Authorization", both), &guarded()));
}

#[test]
fn a_token_that_is_not_valid_is_refused_with_the_reason() {
    let read = r#"{"x-fastly-read":["test"],"x-fastly-write":["test"]}"#;
    let mut no_expiry = with_claims(NOW, read);
    no_expiry.expires_at = None;
    let mut early = with_claims(NOW + 600, read);
    early.invalid_before = Some(jwt_simple::prelude::UnixTimeStamp::from_secs(NOW + 300));
    let key = HS256Key::from_bytes(SECRET.as_bytes());
    let pair = ES256KeyPair::generate();
    let sign = |claims| key.authenticate(claims).expect("a token");
    let good = token(read);
    let unsigned = {
        use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
        let claims = good.split('.').nth(1).expect("claims");
        format!("{}.{claims}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#))
    };
    let tampered = {
        let mut parts: Vec<_> = good.split('.').collect();
        let other = token(r#"{"x-fastly-read":["*"],"x-fastly-write":["*"]}"#);
        parts[1] = other.split('.').nth(1).expect("claims");
        parts.join(".")
    };
    let (malformed, claims) = ("it is not one JWT", "its x-fastly-read and x-fastly-write must be lists of channels");
    for (token, why) in [
        (access_token(SECRET, NOW - 11, read), "it has expired"),
        (access_token("another secret of some length", NOW + 60, read), "the key did not make its signature"),
        (tampered, "the key did not make its signature"),
        (sign(no_expiry), "it has no expiry"),
        (sign(early), "it is not valid yet"),
        (pair.sign(with_claims(NOW + 60, read)).expect("a token"), "its algorithm is not the key's"),
        (unsigned, "its algorithm is not the key's"),
        (token(r#"{"x-fastly-read":"test","x-fastly-write":"test"}"#), claims),
        (token(r#"{"x-fastly-read":[1],"x-fastly-write":[1]}"#), claims),
        ("x".repeat(4097), malformed),
        (format!("{good}.{good}"), malformed),
        (String::new(), malformed),
    ] {
        for request in [connect("/api/websocket"), connect("/api/poll"), broadcast("/api/broadcast")] {
            let request = request.with("Authorization", bearer(&token));
            let reply = refused(request, &guarded(), 401, &format!("The access token is refused: {why}\n"));
            let challenge = "Bearer realm=\"fanout-edge\", error=\"invalid_token\"";
            assert_eq!(header(&reply, "www-authenticate"), Some(challenge));
        }
    }
    // Clocks may differ by some seconds.
    assert!(is_handed_off(
        connect("/api/poll").with("Authorization", bearer(&access_token(SECRET, NOW - 9, read))),
        &guarded()
    ));
}

#[test]
fn a_signature_of_the_proxy_is_no_access_token() {
    let request = connect("/api/poll").with("Authorization", bearer(&local_signature(NOW)));
    refused(request, &guarded(), 401, "The access token is refused: the key did not make its signature\n");
    // Not even where both have one key: it names no channel.
    let request = broadcast("/api/broadcast").with("Authorization", bearer(&local_signature(NOW)));
    let body = "The access token does not allow to publish to test: its x-fastly-write lacks that channel\n";
    refused(request, &guarded_with(support::LOCAL_KEY), 403, body);
}

#[test]
fn keys_come_in_all_forms() {
    let pair = ES256KeyPair::generate();
    let claims = || with_claims(NOW + 60, r#"{"x-fastly-read":["test"]}"#);
    let public = pair.public_key();
    let pem = public.to_pem().expect("PEM");
    let point = public.public_key().to_bytes_uncompressed();
    let coordinate = |bytes: &[u8]| {
        use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    };
    let jwk = |kid: &str| {
        let (x, y) = (coordinate(&point[1..33]), coordinate(&point[33..]));
        format!(r#"{{"kty":"EC","crv":"P-256"{kid},"x":"{x}","y":"{y}"}}"#)
    };
    let es256 = pair.sign(claims()).expect("a token");
    let hs256 = HS256Key::from_bytes(SECRET.as_bytes()).authenticate(claims()).expect("a token");
    let named = |kid: &str| {
        let same = ES256KeyPair::from_bytes(&pair.to_bytes()).expect("a key");
        let es256 = same.with_key_id(kid).sign(claims()).expect("a token");
        let hs256 = HS256Key::from_bytes(SECRET.as_bytes()).with_key_id(kid).authenticate(claims()).expect("a token");
        (es256, hs256)
    };
    let verify = |setting: &str, token: &str| Access::parse(setting).expect("keys").verify(token, NOW).map(|_| ());
    assert_eq!(verify(SECRET, &hs256), Ok(()));
    assert_eq!(verify("base64:YSBzZWNyZXQgZm9yIGFjY2VzcyB0b2tlbnM=", &hs256), Ok(()));
    assert_eq!(verify(r#"{"kty":"oct","k":"YSBzZWNyZXQgZm9yIGFjY2VzcyB0b2tlbnM"}"#, &hs256), Ok(()));
    for key in [&*pem, &jwk(""), &jwk(r#","kid":"2026""#)] {
        assert_eq!(verify(key, &es256), Ok(()));
        assert_eq!(verify(key, &named("whatever").0), Ok(()), "one key has no need of a name");
        assert_eq!(verify(key, &hs256), Err(Denied::Token(SignatureError::Algorithm)));
    }

    let by_name = format!(r#"{{"a":"{SECRET}","b":{},"c":{}}}"#, serde_json::json!(pem), jwk(""));
    let set = format!(
        r#"{{"keys":[{},{{"kty":"oct","kid":"a","k":"YSBzZWNyZXQgZm9yIGFjY2VzcyB0b2tlbnM"}}]}}"#,
        jwk(r#","kid":"b","use":"sig""#)
    );
    for several in [&by_name, &set] {
        assert_eq!(verify(several, &named("a").1), Ok(()));
        assert_eq!(verify(several, &named("b").0), Ok(()));
        assert_eq!(verify(several, &named("a").0), Err(Denied::Token(SignatureError::Algorithm)));
        assert_eq!(verify(several, &named("z").1), Err(Denied::UnknownKey));
        assert_eq!(verify(several, &hs256), Err(Denied::NoKeyId));
        assert_eq!(verify(several, "no token"), Err(Denied::Token(SignatureError::Malformed)));
        assert_eq!(verify(several, &"x".repeat(5000)), Err(Denied::Token(SignatureError::Malformed)));
    }
    let body = "The access token is refused: there are several keys, and it has no kid in its header to name one\n";
    refused(connect("/api/poll").with("Authorization", bearer(&hs256)), &guarded_with(&set), 401, body);
    let body = "The access token is refused: its kid is that of no key\n";
    refused(connect("/api/poll").with("Authorization", bearer(&named("z").1)), &guarded_with(&set), 401, body);

    // Keys of a set that cannot be used are passed over, as long as one can.
    let mixed = format!(r#"{{"keys":[{{"kty":"RSA","kid":"r"}},{{"kid":"x"}},1,{}]}}"#, jwk(r#","kid":"b""#));
    assert_eq!(verify(&mixed, &named("b").0), Ok(()));
    assert_eq!(verify(&mixed, &named("r").0), Err(Denied::UnknownKey));

    let key = InvalidAccess::Key;
    for (setting, error) in [
        ("", InvalidAccess::Blank),
        ("short", InvalidAccess::TooShort),
        ("fifteen bytes..", InvalidAccess::TooShort),
        ("base64:cGFzc3dvcmQxMjM0", InvalidAccess::TooShort),
        (r#"{"a":"short"}"#, InvalidAccess::TooShort),
        (r#"{"a":"fifteen bytes.."}"#, InvalidAccess::TooShort),
        ("{}", InvalidAccess::Several),
        (r#"{"keys":[]}"#, InvalidAccess::Several),
        (r#"{"keys":[{"kty":"oct","k":"YSBzZWNyZXQgZm9yIGFjY2VzcyB0b2tlbnM"}]}"#, InvalidAccess::Several),
        (r#"{"keys":[1]}"#, InvalidAccess::Several),
        (&*format!(r#"{{"keys":[{0},{0}]}}"#, jwk(r#","kid":"b""#)), InvalidAccess::Several),
        (r#"{"kty":"RSA"}"#, key(InvalidKey::Jwk)),
        ("{", key(InvalidKey::Jwk)),
        // What everybody may know is no secret, however it got here.
        (r#"{"kid":"the-name-of-a-key-2026","k":"YSBzZWNyZXQgZm9yIGFjY2VzcyB0b2tlbnM"}"#, InvalidAccess::Several),
        (r#"{"crv":"P-256","x":"CKo5A1ebyFcnmVV8SE5On","y":"7gwJqaU6N8TP88--twjkwoB"}"#, InvalidAccess::Several),
        (r#"{"a":12345678901234567890}"#, InvalidAccess::Several),
        (r#"{"a":["a secret of some length"]}"#, InvalidAccess::Several),
        (r#"{"a":"a secret of some length","a":"another secret of some length"}"#, InvalidAccess::Several),
        (r#"{"a":{"k":"YSBzZWNyZXQgZm9yIGFjY2VzcyB0b2tlbnM"}}"#, key(InvalidKey::Jwk)),
        ("https://issuer.example/.well-known/jwks.json", key(InvalidKey::Public)),
        ("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAA", key(InvalidKey::Public)),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA", key(InvalidKey::Public)),
    ] {
        assert_eq!(Access::parse(setting).err(), Some(error), "{setting}");
    }
    assert!(!format!("{:?}", Access::parse(&by_name)).contains("secret"));
}

#[test]
fn a_key_that_cannot_be_used_lets_nobody_in() {
    for key in ["s3cret", "base64:?", "", " \n", "{}", "fifteen bytes.."] {
        let settings = guarded_with(key);
        assert!(settings.are_incomplete());
        let requests = SUBSCRIBING.map(connect).into_iter().chain([broadcast("/api/broadcast")]);
        for request in requests {
            let mut request = request.with("Authorization", bearer(&reader()));
            let Action::Reply(reply) = app::decide(&mut request, &settings, NOW) else { panic!("no reply") };
            let body = String::from_utf8(reply.body).expect("text");
            assert_eq!(reply.status, 503);
            assert!(body.starts_with("The entry ACCESS_KEY of the secret store `fanout` cannot be used: "), "{body}");
            assert!(!body.contains("s3cret"));
        }
    }
    // A store that cannot be read may have one.
    let secrets = |name: &'static str| match name {
        "ACCESS_KEY" => Err(Unreadable),
        "GRIP_URL" => Ok(Some(LOCAL_GRIP_URL.to_owned())),
        _ => Ok(None),
    };
    let settings = Settings::read(&secrets, &|_| Ok(None), "SERVICE1");
    for request in SUBSCRIBING.map(connect).into_iter().chain([broadcast("/api/broadcast")]) {
        let body =
            "The entry ACCESS_KEY of the secret store `fanout` cannot be read: is the store linked to the service?\n";
        refused_by_settings(request, &settings, body);
    }
}

#[track_caller]
fn refused_by_settings(mut request: Request, settings: &Settings, body: &str) {
    let Action::Reply(reply) = app::decide(&mut request, settings, NOW) else { panic!("no reply") };
    assert_eq!((reply.status, &*String::from_utf8_lossy(&reply.body)), (503, body));
}

#[test]
fn a_fastly_key_of_the_service_may_broadcast_anywhere() {
    let with = |key: &str| broadcast("/api/broadcast?channel=any").at_fastly_with("valid").with("Fastly-Key", key);
    assert!(is_published(with("valid"), &guarded()));
    let reply = refused(with("other"), &guarded(), 401, "The Fastly-Key is not valid for this service\n");
    assert_eq!(header(&reply, "www-authenticate"), Some("Bearer realm=\"fanout-edge\""));
    // A token counts beside one that does not.
    let token = token(r#"{"x-fastly-write":["any"]}"#);
    assert!(is_published(with("other").with("Authorization", bearer(&token)), &guarded()));
    // One that does not hides no other reason.
    let old = access_token(SECRET, NOW - 60, r#"{"x-fastly-write":["any"]}"#);
    let body = "The access token is refused: it has expired\n";
    refused(with("other").with("Authorization", bearer(&old)), &guarded(), 401, body);
    let body = "The access token does not allow to publish to any: its x-fastly-write lacks that channel\n";
    refused(with("other").with("Authorization", bearer(&writer())), &guarded(), 403, body);
    // It is for broadcasts only.
    let subscriber = connect("/api/poll").at_fastly_with("valid").with("Fastly-Key", "valid");
    refused(subscriber, &guarded(), 401, NEEDED);
}

fn event(path: &str, body: &str) -> Request {
    Request::new("POST", path)
        .with("Content-Type", EVENTS)
        .with("Connection-Id", "c1")
        .with("Grip-Sig", local_signature(NOW))
        .with_body(body)
}

#[track_caller]
fn answered(request: Request, settings: &Settings) -> (u16, String, Reply) {
    let mut request = request;
    let Action::Reply(reply) = app::decide(&mut request, settings, NOW) else { panic!("no reply") };
    (reply.status, String::from_utf8_lossy(&reply.body).into_owned(), reply)
}

#[test]
fn it_is_checked_again_when_the_connection_opens() {
    let opening = || event("/api/websocket", "OPEN\r\n");
    refused(opening(), &guarded(), 401, NEEDED);
    let (status, body, _) = answered(opening().with("Authorization", bearer(&reader())), &guarded());
    assert_eq!((status, &body[..6]), (200, "OPEN\r\n"));
    refused(
        opening().with("Authorization", bearer(&writer())),
        &guarded(),
        403,
        "The access token does not allow to subscribe to test: its x-fastly-read lacks that channel\n",
    );
    let publishing = event("/api/websocket?mode=publish", "OPEN\r\n").with("Authorization", bearer(&reader()));
    let body = "The access token does not allow to publish to test: its x-fastly-write lacks that channel\n";
    refused(publishing, &guarded(), 403, body);
    for path in &SUBSCRIBING[1..] {
        let two = Request::new("GET", &format!("{path}?channel=test&channel=other"));
        let two = two.with("Grip-Sig", local_signature(NOW)).with("Authorization", bearer(&reader()));
        let body = "The access token does not allow to subscribe to other: its x-fastly-read lacks that channel\n";
        refused(two, &guarded(), 403, body);
        let held = || Request::new("GET", path).with("Grip-Sig", local_signature(NOW));
        refused(held(), &guarded(), 401, NEEDED);
        let (_, _, reply) = answered(held().with("Authorization", bearer(&reader())), &guarded());
        assert!(header(&reply, "grip-hold").is_some());
    }
}

#[test]
fn the_subprotocol_of_a_token_is_taken() {
    let offered = format!("bearer, {}", reader());
    let opening = || event("/api/websocket", "OPEN\r\n").with("Sec-WebSocket-Protocol", &*offered);
    // Also where no token is needed: a browser would give up without an answer to its offer.
    for settings in [guarded(), settings(&[("GRIP_URL", LOCAL_GRIP_URL)])] {
        let (status, body, reply) = answered(opening(), &settings);
        assert_eq!((status, header(&reply, "sec-websocket-protocol")), (200, Some("bearer")));
        assert!(body.starts_with("OPEN\r\nTEXT") && body.matches("OPEN").count() == 1, "{body}");
    }
    let (_, _, reply) =
        answered(event("/api/websocket", "OPEN\r\n").with("Authorization", bearer(&reader())), &guarded());
    assert_eq!(header(&reply, "sec-websocket-protocol"), None);
}

/// A close frame as the proxy gets it; the first byte of the code is the same for all.
fn closed(code: u16, reason: &str) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    [format!("CLOSE {:x}\r\n", reason.len() + 2).as_bytes(), &[high, low], reason.as_bytes(), b"\r\n"].concat()
}

#[test]
fn a_token_that_does_not_count_any_more_ends_its_connection() {
    let all = r#"{"x-fastly-read":["test"],"x-fastly-write":["test"]}"#;
    let old = bearer(&access_token(SECRET, NOW - 60, all));
    let other = bearer(&token(r#"{"x-fastly-read":["other"]}"#));
    let policy = "the access token does not count any more: connect with another";
    let unusable = "the access token cannot be checked";
    for (token, settings, code, reason, log) in [
        (&old, guarded(), 1008, policy, "refused an access token: it has expired"),
        (&other, guarded(), 1008, policy, "refused an access token: it does not allow to subscribe there"),
        (
            &old,
            guarded_with("s3cret"),
            1011,
            unusable,
            "The entry ACCESS_KEY of the secret store `fanout` cannot be used: a secret has at least 16 bytes",
        ),
    ] {
        for path in ["/api/websocket", "/api/websocket?mode=publish"] {
            // Also where the proxy only asks, or the client pings.
            for events in ["TEXT 5\r\nhello\r\nTEXT 1\r\nx\r\n", "BINARY\r\n", "PING\r\n", ""] {
                let (status, _, reply) = answered(event(path, events).with("Authorization", &**token), &settings);
                let close = closed(code, reason);
                let body = reply.body.strip_prefix(b"PONG\r\n").unwrap_or(&reply.body);
                assert_eq!((status, body, reply.log.as_deref()), (200, &*close, Some(log)), "{events}");
            }
            // Who goes is not told.
            for (events, expected) in [("DISCONNECT\r\n", ""), ("CLOSE\r\n", "CLOSE\r\n")] {
                let (status, body, reply) = answered(event(path, events).with("Authorization", &**token), &settings);
                assert_eq!((status, &*body, reply.log), (200, expected, None));
            }
        }
    }
}

#[test]
fn a_connection_that_is_silent_is_looked_at_when_its_token_expires() {
    for (lifetime, interval) in [(60, "71"), (1, "12"), (100_000, "3600")] {
        let token = bearer(&access_token(SECRET, NOW + lifetime, r#"{"x-fastly-read":["test"]}"#));
        for events in ["OPEN\r\n", "TEXT 1\r\nx\r\n", ""] {
            let (_, _, reply) = answered(event("/api/websocket", events).with("Authorization", &*token), &guarded());
            assert_eq!(header(&reply, "keep-alive-interval"), Some(interval), "{events}");
        }
    }
    let (_, _, reply) = answered(event("/api/websocket", "OPEN\r\n"), &settings(&[("GRIP_URL", LOCAL_GRIP_URL)]));
    assert_eq!(header(&reply, "keep-alive-interval"), None);
}

/// A connection behind a proxy that signs with ES256, where tickets are in use.
struct Ticketed {
    key: String,
}

impl Ticketed {
    fn settings(&self, access: Option<&str>) -> Settings {
        let uri = "http://127.0.0.1:5561/?key=a-token-of-some-length&verify-iss=proxy";
        let mut entries = vec![("GRIP_URL", uri), ("GRIP_VERIFY_KEY", &*self.key)];
        entries.extend(access.map(|access| ("ACCESS_KEY", access)));
        settings(&entries)
    }

    /// The ticket that a connection gets, which shows a token until a time.
    fn open(pair: &ES256KeyPair, signed_for: u64, token_for: u64, access: Option<&str>) -> (Self, String) {
        let ticketed = Self { key: pair.public_key().to_pem().expect("PEM") };
        let signature = sign_es256(pair, support::claims(Some("proxy"), Some(NOW + signed_for)));
        let opening = unsigned("/api/websocket", "OPEN\r\n").with("Grip-Sig", signature);
        let token = access_token(SECRET, NOW + token_for, r#"{"x-fastly-read":["test"],"x-fastly-write":["test"]}"#);
        let (_, _, reply) = answered(opening.with("Authorization", bearer(&token)), &ticketed.settings(access));
        let ticket = header(&reply, "set-meta-connection-ticket").expect("a ticket").to_owned();
        (ticketed, ticket)
    }
}

fn unsigned(path: &str, body: &str) -> Request {
    Request::new("POST", path).with("Content-Type", EVENTS).with("Connection-Id", "c1").with_body(body)
}

/// The status of a message that has nothing but a ticket.
fn with_ticket(ticket: &str, path: &str, settings: &Settings, now: u64) -> u16 {
    let mut request = unsigned(path, "TEXT 2\r\nhi\r\n").with("Meta-Connection-Ticket", ticket);
    match app::decide(&mut request, settings, now) {
        Action::Reply(reply) => reply.status,
        Action::HandOff { .. } | Action::Publish { .. } => panic!("it did more than it may"),
    }
}

#[test]
fn a_connection_ticket_lasts_no_longer_than_token_and_signature() {
    let pair = ES256KeyPair::generate();
    for (signed_for, token_for) in [(3600, 60), (60, 3600)] {
        let (ticketed, ticket) = Ticketed::open(&pair, signed_for, token_for, Some(SECRET));
        let settings = ticketed.settings(Some(SECRET));
        assert_eq!(with_ticket(&ticket, "/api/websocket", &settings, NOW + 59), 200);
        assert_eq!(with_ticket(&ticket, "/api/websocket", &settings, NOW + 61), 403);
    }
}

#[test]
fn a_connection_ticket_counts_for_what_its_connection_asked_for_and_under_one_key() {
    let pair = ES256KeyPair::generate();
    let (ticketed, ticket) = Ticketed::open(&pair, 3600, 3600, Some(SECRET));
    let settings = ticketed.settings(Some(SECRET));
    assert_eq!(with_ticket(&ticket, "/api/websocket", &settings, NOW), 200);
    for path in ["/api/websocket?channel=any", "/api/websocket?mode=publish", "/api/websocket?channel=any&mode=publish"]
    {
        assert_eq!(with_ticket(&ticket, path, &settings, NOW), 403, "{path}");
    }
    for another in [None, Some("another secret for tokens"), Some("short")] {
        assert_eq!(with_ticket(&ticket, "/api/websocket", &ticketed.settings(another), NOW), 403, "{another:?}");
    }
    // Nor does one from before there was a key.
    let (ticketed, ticket) = Ticketed::open(&pair, 3600, 3600, None);
    assert_eq!(with_ticket(&ticket, "/api/websocket", &ticketed.settings(None), NOW), 200);
    assert_eq!(with_ticket(&ticket, "/api/websocket", &ticketed.settings(Some(SECRET)), NOW), 403);
}
