//! Access tokens: what they must be, what they allow, where they are found, and the response without one.

use fanout_edge::{
    app::{
        settings::{Settings, Unreadable},
        web::{Outcome, Response},
    },
    grip::{VerifyKey, key::InvalidKey},
};
use jwt_simple::prelude::{
    ECDSAP256KeyPairLike, ECDSAP256PublicKeyLike, ES256KeyPair, ES384KeyPair, Ed25519KeyPair, HS256Key, MACLike,
    UnixTimeStamp,
};

use crate::{
    service::{Request, Service, header, is, settings},
    support::{LOCAL_GRIP_URL, LOCAL_KEY, NOW, access_token, claims, local_signature, sign_es256, with_claims},
};

const EVENTS: &str = "application/websocket-events";
const SECRET: &str = "a secret for access tokens of the tests";
const KEY: &str = "secret:a secret for access tokens of the tests";
const SECRET_BASE64: &str = "YSBzZWNyZXQgZm9yIGFjY2VzcyB0b2tlbnMgb2YgdGhlIHRlc3Rz";
const REQUIRED: &str = "Access token required: send the header `Authorization: Bearer TOKEN`, ?token=TOKEN, or the WebSocket subprotocols `bearer, TOKEN`\n";
const SUBSCRIBING: [&str; 3] = ["/api/websocket", "/api/events", "/api/poll"];

fn guarded() -> Service {
    guarded_with(KEY)
}

fn guarded_with(key: &str) -> Service {
    Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", key)]))
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

#[track_caller]
fn rejected(request: Request, mut service: Service, status: u16, body: &str) -> Response {
    let response = service.respond(request);
    is(&response, status, body);
    assert!(service.host.published.is_empty());
    let log = response.log.as_deref().expect("the log says why");
    assert!(!log.contains("eyJ") && !log.contains("test"), "{log}");
    response
}

fn is_handed_off(request: Request, mut service: Service) -> bool {
    service.hands_off(request)
}

fn is_published(request: Request, mut service: Service) -> bool {
    service.respond(request).status == 200 && service.host.published.len() == 1
}

/// The reason for which a token is rejected under a setting, without what is the same for all of them.
fn verify(setting: &str, token: &str) -> Result<(), String> {
    match guarded_with(setting).decide(connect("/api/poll").with("Authorization", bearer(token))) {
        Outcome::HandOff { .. } => Ok(()),
        Outcome::Response(response) => {
            let text = String::from_utf8(response.body).expect("text");
            Err(text.trim_end().trim_start_matches("Access token rejected: ").to_owned())
        }
    }
}

#[test]
fn without_a_token_nobody_subscribes_or_publishes() {
    for request in SUBSCRIBING.map(connect).into_iter().chain([broadcast("/api/broadcast")]) {
        let response = rejected(request, guarded(), 401, REQUIRED);
        assert_eq!(header(&response, "www-authenticate"), Some("Bearer realm=\"fanout-edge\""));
    }
    // The same without an upgrade, which a page can read.
    rejected(Request::new("GET", "/api/websocket"), guarded(), 401, REQUIRED);
}

#[test]
fn without_a_key_everybody_does_and_the_log_says_so() {
    assert!(SUBSCRIBING.iter().all(|path| is_handed_off(connect(path), Service::local())));
    assert!(is_published(broadcast("/api/broadcast"), Service::local()));
    let notice = "There is no ACCESS_KEY: all clients may subscribe and broadcast";
    assert_eq!(Service::local().settings.notice(), Some(notice));
    assert_eq!(guarded().settings.notice(), None);
}

#[test]
fn a_token_is_found_in_the_header_the_subprotocols_and_the_query() {
    let read = reader();
    for path in SUBSCRIBING {
        assert!(is_handed_off(connect(path).with("Authorization", bearer(&read)), guarded()), "{path}");
        assert!(is_handed_off(connect(path).with("Authorization", format!("bEARER  {read} ")), guarded()), "{path}");
        assert!(is_handed_off(connect(&format!("{path}?token={read}")), guarded()), "{path}");
        // Credentials of another kind do not stand in the way.
        let basic = connect(&format!("{path}?token={read}")).with("Authorization", "Basic dXNlcjpwYXNz");
        assert!(is_handed_off(basic, guarded()), "{path}");
    }
    for protocols in [format!("bearer, {read}"), format!("bearer,{read},chat"), format!("chat, bearer, {read}")] {
        let request = connect("/api/websocket").with("Sec-WebSocket-Protocol", &*protocols);
        assert!(is_handed_off(request, guarded()), "{protocols}");
    }
    // A list may stand in several lines.
    let lines = connect("/api/websocket").with("Sec-WebSocket-Protocol", "chat, bearer");
    assert!(is_handed_off(lines.with("sec-websocket-protocol", &*read), guarded()));
    for protocols in ["bearer", "chat", &*format!("{read}, bearer"), &*format!("Bearer, {read}")] {
        rejected(connect("/api/websocket").with("Sec-WebSocket-Protocol", protocols), guarded(), 401, REQUIRED);
    }
    let write = writer();
    assert!(is_published(broadcast("/api/broadcast").with("Authorization", bearer(&write)), guarded()));
    assert!(is_published(broadcast(&format!("/api/broadcast?token={write}")), guarded()));
    // The header wins.
    let request = connect(&format!("/api/poll?token={read}")).with("Authorization", "Bearer x");
    rejected(request, guarded(), 401, "Access token rejected: not a JWT. Get a new one\n");
    let twice = connect("/api/poll").with("Authorization", bearer(&read)).with("authorization", bearer(&read));
    let text = "Access token rejected: sent more than once, or not as text. Get a new one\n";
    rejected(twice, guarded(), 401, text);
}

#[test]
fn a_token_is_valid_for_the_channels_that_it_lists() {
    let allows = |claims: &str, channel: &str| {
        let bearer = bearer(&token(claims));
        let reads = connect(&format!("/api/poll?channel={channel}")).with("Authorization", &*bearer);
        let writes = broadcast(&format!("/api/broadcast?channel={channel}")).with("Authorization", &*bearer);
        [is_handed_off(reads, guarded()), is_published(writes, guarded())]
    };
    let claims = r#"{"x-fastly-read":["a","room-*"],"x-fastly-write":["b*","c"]}"#;
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
        assert_eq!(allows(claims, channel), [reads, writes], "{channel}");
    }
    assert_eq!(allows(r#"{"x-fastly-read":["*"]}"#, "test"), [true, false]);
    assert_eq!(allows(r#"{"x-fastly-write":["*"]}"#, "test"), [false, true]);
    for nothing in ["{}", r#"{"x-fastly-read":[]}"#, r#"{"x-fastly-read":["**","*est",""]}"#] {
        assert_eq!(allows(nothing, "test"), [false, false], "{nothing}");
    }
}

#[test]
fn another_channel_is_forbidden_and_named() {
    let (read, write) = (bearer(&reader()), bearer(&writer()));
    for path in SUBSCRIBING {
        let request = connect(&format!("{path}?channel=test&channel=other")).with("Authorization", &*read);
        let body = "The access token does not allow subscribing to `other` (claim x-fastly-read)\n";
        let response = rejected(request, guarded(), 403, body);
        let challenge = "Bearer realm=\"fanout-edge\", error=\"insufficient_scope\"";
        assert_eq!(header(&response, "www-authenticate"), Some(challenge));
        // The right to publish is none to subscribe.
        let body = "The access token does not allow subscribing to `test` (claim x-fastly-read)\n";
        rejected(connect(path).with("Authorization", &*write), guarded(), 403, body);
    }
    let body = "The access token does not allow publishing to `other` (claim x-fastly-write)\n";
    rejected(broadcast("/api/broadcast?channel=other").with("Authorization", &*write), guarded(), 403, body);
    let body = "The access token does not allow publishing to `test` (claim x-fastly-write)\n";
    rejected(broadcast("/api/broadcast").with("Authorization", &*read), guarded(), 403, body);
    // A WebSocket that publishes needs both.
    rejected(connect("/api/websocket?mode=publish").with("Authorization", &*read), guarded(), 403, body);
    let both = bearer(&token(r#"{"x-fastly-read":["te*"],"x-fastly-write":["*"]}"#));
    assert!(is_handed_off(connect("/api/websocket?mode=publish").with("Authorization", both), guarded()));
}

#[test]
fn an_invalid_token_is_rejected_with_the_reason() {
    let read = r#"{"x-fastly-read":["test"],"x-fastly-write":["test"]}"#;
    let mut no_expiry = with_claims(NOW, read);
    no_expiry.expires_at = None;
    let mut early = with_claims(NOW + 600, read);
    early.invalid_before = Some(UnixTimeStamp::from_secs(NOW + 300));
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
    let malformed = "not a JWT. Get a new one";
    let list = |claim: &str| format!("{claim} must be a list of strings");
    let types = "a claim has the wrong type (iss, sub and jti are strings, aud is one or a list of them, exp, nbf and iat are numbers). Get a new one";
    let audience = "it has an audience (aud), and the setting ACCESS_AUDIENCE is missing. Add it";
    let user = "sub must be a string of 1 to 128 characters";
    for (token, why) in [
        (access_token(SECRET, NOW - 11, read), "expired. Get a new one"),
        (access_token("another secret of some length", NOW + 60, read), "invalid signature. Get a new one"),
        (tampered, "invalid signature. Get a new one"),
        (sign(no_expiry), "no expiry (exp). Get a new one"),
        (sign(early), "not valid yet (nbf or iat). Get a new one"),
        (pair.sign(with_claims(NOW + 60, read)).expect("a token"), "wrong algorithm for the key (alg). Get a new one"),
        (unsigned, "wrong algorithm for the key (alg). Get a new one"),
        (token(r#"{"x-fastly-read":"test"}"#), &list("x-fastly-read")),
        (token(r#"{"x-fastly-write":[1]}"#), &list("x-fastly-write")),
        (token(r#"{"x-fastly-read":null}"#), &list("x-fastly-read")),
        (token(r#"{"sub":7,"x-fastly-read":["test"]}"#), types),
        (token(r#"{"sub":["alice"],"x-fastly-read":["test"]}"#), types),
        (token(r#"{"sub":"","x-fastly-read":["test"]}"#), user),
        (token(&format!(r#"{{"sub":"{}"}}"#, "\u{e9}".repeat(129))), user),
        ("x".repeat(4097), "longer than 4096 bytes. Get a new one"),
        (token(r#"{"aud":7,"x-fastly-read":["test"]}"#), types),
        (token(r#"{"aud":"shop","x-fastly-read":["test"]}"#), audience),
        (token(r#"{"aud":["shop","mail"],"x-fastly-read":["test"]}"#), audience),
        (token(r#"{"aud":[],"x-fastly-read":["test"]}"#), audience),
        (format!("{good}.{good}"), malformed),
        (String::new(), malformed),
    ] {
        for request in [connect("/api/websocket"), connect("/api/poll"), broadcast("/api/broadcast")] {
            let request = request.with("Authorization", bearer(&token));
            let response = rejected(request, guarded(), 401, &format!("Access token rejected: {why}\n"));
            let challenge = "Bearer realm=\"fanout-edge\", error=\"invalid_token\"";
            assert_eq!(header(&response, "www-authenticate"), Some(challenge));
        }
    }
    for user in ["a".to_owned(), "\u{e9}".repeat(128)] {
        let token = token(&format!(r#"{{"sub":"{user}","x-fastly-read":["test"]}}"#));
        assert_eq!(verify(KEY, &token), Ok(()));
    }
    // Clocks may differ by some seconds.
    assert_eq!(verify(KEY, &access_token(SECRET, NOW - 9, read)), Ok(()));
}

#[test]
fn a_token_is_for_the_audience_and_of_the_issuer_of_the_settings() {
    let guarded = |entries: &[(&str, &str)]| {
        Service::new(settings(&[&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", KEY)], entries].concat()))
    };
    let (audience, issuer) =
        (("config:ACCESS_AUDIENCE", " https://chat.example "), ("config:ACCESS_ISSUER", "https://id.example/"));
    let wrong_audience = Err("for another audience (aud). Get one for this service");
    let no_audience = Err("no audience (aud), and the setting ACCESS_AUDIENCE asks for one. Get another one");
    let unknown_audience = Err("it has an audience (aud), and the setting ACCESS_AUDIENCE is missing. Add it");
    let wrong_issuer = Err("wrong issuer (iss). Get a new one");
    for (entries, claims, expected) in [
        (vec![audience], r#""aud":"https://chat.example","#, Ok(())),
        (vec![audience], r#""aud":["https://shop.example","https://chat.example"],"iss":"any","#, Ok(())),
        (vec![audience], r#""aud":"https://shop.example","#, wrong_audience),
        (vec![audience], r#""aud":"https://chat.example/","#, wrong_audience),
        (vec![audience], r#""aud":[],"#, wrong_audience),
        (vec![audience], r#""aud":"","#, wrong_audience),
        (vec![audience], "", no_audience),
        (vec![issuer], r#""iss":"https://id.example/","#, Ok(())),
        (vec![issuer], r#""iss":"https://id.example","#, wrong_issuer),
        (vec![issuer], "", wrong_issuer),
        (vec![issuer], r#""iss":"https://id.example/","aud":"https://chat.example","#, unknown_audience),
        (vec![audience, issuer], r#""iss":"https://id.example/","aud":"https://chat.example","#, Ok(())),
        (vec![], r#""iss":"any","#, Ok(())),
    ] {
        let token = token(&format!(r#"{{{claims}"x-fastly-read":["test"],"x-fastly-write":["test"]}}"#));
        for request in SUBSCRIBING.map(connect).into_iter().chain([broadcast("/api/broadcast")]) {
            let mut service = guarded(&entries);
            let request = request.with("Authorization", bearer(&token));
            match (expected, service.decide(request)) {
                (Ok(()), Outcome::HandOff { .. }) => {}
                (Ok(()), Outcome::Response(response)) => is(&response, 200, "Ok\n"),
                (Err(why), Outcome::Response(response)) => {
                    is(&response, 401, format!("Access token rejected: {why}\n"));
                }
                (Err(why), _) => panic!("{claims} is no `{why}`"),
            }
        }
    }
    for (entries, problem) in [
        (
            vec![("ACCESS_KEY", KEY), ("config:ACCESS_AUDIENCE", " ")],
            "The entry ACCESS_AUDIENCE of the config store `fanout_config` is empty: set or delete it",
        ),
        (
            vec![("ACCESS_KEY", KEY), ("config:ACCESS_ISSUER", "")],
            "The entry ACCESS_ISSUER of the config store `fanout_config` is empty: set or delete it",
        ),
        // Nobody would look at it.
        (vec![audience], "The entry ACCESS_AUDIENCE of the config store `fanout_config` needs an ACCESS_KEY: set both"),
        (vec![issuer], "The entry ACCESS_ISSUER of the config store `fanout_config` needs an ACCESS_KEY: set both"),
    ] {
        let mut service = Service::new(settings(&[&[("GRIP_URL", LOCAL_GRIP_URL)], &entries[..]].concat()));
        is(&service.respond(connect("/api/poll")), 503, format!("{problem}\n"));
    }
}

#[test]
fn a_signature_of_the_proxy_is_not_an_access_token() {
    let request = connect("/api/poll").with("Authorization", bearer(&local_signature(NOW)));
    rejected(request, guarded(), 401, "Access token rejected: invalid signature. Get a new one\n");
    // Not even if both have the same key: it names no channel.
    let request = broadcast("/api/broadcast").with("Authorization", bearer(&local_signature(NOW)));
    let body = "The access token does not allow publishing to `test` (claim x-fastly-write)\n";
    rejected(request, guarded_with(&format!("secret:{LOCAL_KEY}")), 403, body);
}

/// A key pair, and its public key as a JWK with these members.
fn jwk(pair: &ES256KeyPair, more: &str) -> String {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
    let point = pair.public_key().public_key().to_bytes_uncompressed();
    let [x, y] = [&point[1..33], &point[33..]].map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes));
    format!(r#"{{"kty":"EC","crv":"P-256"{more},"x":"{x}","y":"{y}"}}"#)
}

#[test]
fn a_key_may_be_in_any_format() {
    let pair = ES256KeyPair::generate();
    let claims = || with_claims(NOW + 60, r#"{"x-fastly-read":["test"]}"#);
    let pem = pair.public_key().to_pem().expect("PEM");
    let es256 = pair.sign(claims()).expect("a token");
    let hs256 = HS256Key::from_bytes(SECRET.as_bytes()).authenticate(claims()).expect("a token");
    let named = |kid: &str| {
        let same = ES256KeyPair::from_bytes(&pair.to_bytes()).expect("a key");
        let es256 = same.with_key_id(kid).sign(claims()).expect("a token");
        let hs256 = HS256Key::from_bytes(SECRET.as_bytes()).with_key_id(kid).authenticate(claims()).expect("a token");
        (es256, hs256)
    };
    let algorithm = || Err("wrong algorithm for the key (alg). Get a new one".to_owned());
    assert_eq!(verify(KEY, &hs256), Ok(()));
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(verify(&format!("hex:{hex}\n"), &hs256), Ok(()));
    assert_eq!(verify(&format!("base64:{SECRET_BASE64}"), &hs256), Ok(()));
    assert_eq!(verify(&format!(r#"{{"kty":"oct","k":"{SECRET_BASE64}"}}"#), &hs256), Ok(()));
    let spki: String = pair.public_key().to_der().expect("DER").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(verify(&KEY.replace(':', ": "), &hs256), Ok(()));
    // As variables of CI systems and consoles have it.
    let lines: Vec<&str> = pem.trim_end().lines().collect();
    let [written, carriages, one_line, glued] = ["\\n", "\\r\\n", " ", ""].map(|newline| lines.join(newline));
    let quoted = format!("\"{written}\\n\"");
    for key in [&written, &carriages, &one_line, &glued, &quoted] {
        assert_eq!(verify(key, &es256), Ok(()), "{key}");
    }
    for key in [&*pem, &jwk(&pair, ""), &jwk(&pair, r#","kid":"2026""#), &format!("hex:{spki}")] {
        assert_eq!(verify(key, &es256), Ok(()));
        assert_eq!(verify(key, &named("whatever").0), Ok(()), "one key needs no id");
        assert_eq!(verify(key, &hs256), algorithm());
    }

    let set = format!(
        r#"{{"keys":[{},{{"kty":"oct","kid":"a","k":"{SECRET_BASE64}"}}]}}"#,
        jwk(&pair, r#","kid":"b","use":"sig""#)
    );
    let unknown = || Err("unknown key ID (kid). Use that of a key in ACCESS_KEY".to_owned());
    assert_eq!(verify(&set, &named("a").1), Ok(()));
    assert_eq!(verify(&set, &named("b").0), Ok(()));
    assert_eq!(verify(&set, &named("a").0), algorithm());
    assert_eq!(verify(&set, &named("z").1), unknown());
    assert_eq!(
        verify(&set, &hs256),
        Err("no key ID (kid), and there are several keys. Add it to the token".to_owned())
    );
    assert_eq!(verify(&set, "no token"), Err("not a JWT. Get a new one".to_owned()));
    assert_eq!(verify(&set, &"x".repeat(5000)), Err("longer than 4096 bytes. Get a new one".to_owned()));

    // Keys of a set that cannot be used are skipped, as long as one can.
    let mixed = format!(r#"{{"keys":[{{"kty":"RSA","kid":"r"}},{{"kid":"x"}},1,{}]}}"#, jwk(&pair, r#","kid":"b""#));
    assert_eq!(verify(&mixed, &named("b").0), Ok(()));
    assert_eq!(verify(&mixed, &named("r").0), unknown());
}

#[test]
fn a_key_that_cannot_be_used_is_reported_and_allows_nothing() {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
    let pair = ES256KeyPair::generate();
    let twice = jwk(&pair, r#","kid":"b""#);
    let private_pem = pair.to_pem().expect("PEM");
    let public_pem = pair.public_key().to_pem().expect("PEM");
    let private_body: String = private_pem.lines().filter(|line| !line.starts_with("---")).collect();
    let point = pair.public_key().public_key().to_bytes_uncompressed();
    let spki = pair.public_key().to_der().expect("DER");
    let hex_of = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let short = "the secret is too short: use at least 32 bytes (openssl rand -base64 32)";
    let hex = "the text after `hex:` is not valid hexadecimal";
    let unmarked = "write a secret as secret:TEXT, base64:… or hex:…, and a public key as PEM or JWK";
    let set = "the JWK Set has no supported key with a kid of its own";
    let (wrong, public, private) =
        [InvalidKey::Jwk, InvalidKey::Public, InvalidKey::Private].map(|error| error.to_string()).into();
    let (undecodable, other) = [InvalidKey::Pem, InvalidKey::Algorithm].map(|error| error.to_string()).into();
    let pem = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
    };
    let rsa = include_str!("../data/rsa-public-key.pem");
    let rsa_alone: String = rsa.lines().filter(|line| !line.starts_with("---")).collect();
    // Behind the algorithm.
    let rsa_alone = pem("RSA PUBLIC KEY", &BASE64_STANDARD.decode(rsa_alone).expect("base64")[24..]);
    let certificate = pem("CERTIFICATE", &[0x30, 4, 0x30, 2, 0xa0, 0]);
    let p_384 = ES384KeyPair::generate().public_key().to_pem().expect("PEM");
    let ed25519 = Ed25519KeyPair::generate().public_key().to_pem();
    for (setting, problem) in [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("secret:s3cret", short),
        ("secret:thirty-one bytes is one too few", short),
        ("hex:00112233445566778899aabbccddeeff00112233445566778899aabbccddee", short),
        ("hex:0011223344556677889xaabbccddeeff00112233445566778899aabbccddeeff", hex),
        ("hex:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff0", hex),
        ("base64:cGFzc3dvcmQxMjM0", short),
        (r#"{"kty":"oct","k":"cGFzc3dvcmQxMjM0"}"#, short),
        ("base64:?", "the text after `base64:` is not valid base64"),
        ("{}", &wrong),
        ("{", &wrong),
        (r#"{"kty":"RSA"}"#, &other),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#, &other),
        (r#"{"kty":"EC","crv":"P-384","x":"AAAA","y":"AAAA"}"#, &other),
        (r#"{"kty":"EC","x":"AAAA","y":"AAAA"}"#, &wrong),
        (&p_384, &other),
        (&ed25519, &other),
        (rsa, &other),
        (&rsa.replace('\n', "\\n"), &other),
        (&rsa_alone, &other),
        (&certificate, &undecodable),
        (&public_pem.replace("-----END PUBLIC KEY-----", ""), &undecodable),
        (&public_pem.replace("MF", "M"), &undecodable),
        (&public_pem.replace("MF", "M!"), &undecodable),
        (r#"{"2026":"a secret for access tokens of the tests"}"#, &wrong),
        (r#"{"keys":[]}"#, set),
        (r#"{"keys":[1]}"#, set),
        (&format!(r#"{{"keys":[{{"kty":"oct","k":"{SECRET_BASE64}"}}]}}"#), set),
        (r#"{"keys":[{"kty":"oct","kid":"a","k":"c2hvcnQ"}]}"#, short),
        (&format!(r#"{{"keys":[{twice},{{"kty":"oct","kid":"a","k":"cGFzc3dvcmQxMjM0"}}]}}"#), short),
        (&format!(r#"{{"keys":[{twice},{}]}}"#, jwk(&pair, r#","d":"AAAA""#)), &private),
        (&format!(r#"{{"keys":[{twice},{twice}]}}"#), set),
        // What is public, or belongs elsewhere, is not a secret.
        (SECRET, unmarked),
        ("Secret:a secret for access tokens of the tests", unmarked),
        ("your-access-key-here-your-access-key-here", unmarked),
        ("https://issuer.example/.well-known/jwks.json", unmarked),
        ("HTTPS://ISSUER.EXAMPLE/.WELL-KNOWN/JWKS.JSON", unmarked),
        ("issuer.example/.well-known/jwks.json", unmarked),
        ("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAA", unmarked),
        ("sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t", unmarked),
        ("did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169", unmarked),
        (&BASE64_URL_SAFE_NO_PAD.encode(&point), unmarked),
        (&hex_of(&point), unmarked),
        (&hex_of(&spki), unmarked),
        (&private_body, unmarked),
        (&format!("hex:{}", hex_of(&point)), &public),
        (&format!("base64:{}", BASE64_STANDARD.encode(&point)), &public),
        (&format!("hex:{}", hex_of(&pair.public_key().to_bytes())), &public),
        (&format!("base64:{}", BASE64_STANDARD.encode(&point[1..])), &public),
        (&format!("secret:{private_pem}"), &public),
        // However it is encoded, and once more.
        (&format!("secret:{}", BASE64_URL_SAFE_NO_PAD.encode(&point)), &public),
        (&format!("secret:{}", hex_of(&spki)), &public),
        (&format!("secret:base64:{}", BASE64_STANDARD.encode(&spki)), &public),
        (&format!("secret:\"{}\"", BASE64_STANDARD.encode(&spki)), &public),
        (&format!("base64:{}", BASE64_STANDARD.encode(hex_of(&point))), &public),
        (&format!("base64:{}", BASE64_STANDARD.encode([&spki[..], b"\n"].concat())), &public),
        (&format!("secret:\u{feff}{}", jwk(&pair, "")), &public),
        (&format!(r#"{{"kty":"oct","k":"{}"}}"#, BASE64_URL_SAFE_NO_PAD.encode(&public_pem)), &public),
        (&format!(r#"{{"kty":"oct","k":"{}"}}"#, BASE64_URL_SAFE_NO_PAD.encode(&spki)), &public),
        ("base64:aHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZS8ud2VsbC1rbm93bi9qd2tzLmpzb24=", &public),
        (&format!("secret:{}", jwk(&pair, "")), &public),
        ("secret:https://issuer.example/.well-known/jwks.json", &public),
        (&private_pem, &private),
        (&jwk(&pair, r#","d":"AAAA""#), &private),
        (&format!(r#"{{"keys":[{},{twice}]}}"#, jwk(&pair, r#","kid":"a","d":"AAAA""#)), &private),
        (&format!(r#"{{"keys":[{{"kty":"EC","d":"c","d":"c"}},{twice}]}}"#), &private),
        (&format!(r#"{{"keys":[{{"kty":"EC","x":5,"d":"c"}},{twice}]}}"#), &private),
        (&format!(r#"{{"keys":[{{"kty":"AKP","priv":"c"}},{twice}]}}"#), &private),
        (&format!(r#"{{"keys":[{{"kty":"RSA","p":"1","q":"2"}},{twice}]}}"#), &private),
    ] {
        let body = format!("The entry ACCESS_KEY of the secret store `fanout` cannot be used: {problem}\n");
        assert!(guarded_with(setting).settings.are_incomplete(), "accepted: {setting}");
        assert!(!body.contains("s3cret"));
        for request in SUBSCRIBING.map(connect).into_iter().chain([broadcast("/api/broadcast")]) {
            is(&guarded_with(setting).respond(request.with("Authorization", bearer(&reader()))), 503, &body);
        }
    }
    // A store that cannot be read may have a key.
    let unreadable = || {
        let secrets = |name: &'static str| match name {
            "ACCESS_KEY" => Err(Unreadable),
            "GRIP_URL" => Ok(Some(LOCAL_GRIP_URL.to_owned())),
            _ => Ok(None),
        };
        Service::new(Settings::read(&secrets, &|_| Ok(None), "SERVICE1"))
    };
    for request in SUBSCRIBING.map(connect).into_iter().chain([broadcast("/api/broadcast")]) {
        let body =
            "The entry ACCESS_KEY of the secret store `fanout` cannot be read: is the store linked to the service?\n";
        is(&unreadable().respond(request), 503, body);
    }
    assert!(!format!("{:?}", VerifyKey::parse(SECRET)).contains("secret"));
}

#[test]
fn a_fastly_key_of_the_service_allows_broadcasting_anywhere() {
    let fastly = || {
        let mut service = guarded();
        service.host.fastly_key = Some("valid");
        service
    };
    let with = |key: &str| broadcast("/api/broadcast?channel=any").with("Fastly-Key", key);
    assert!(is_published(with("valid"), fastly()));
    let body = "Fastly-Key rejected: use a Fastly API token of this service, or an access token\n";
    let response = rejected(with("other"), fastly(), 401, body);
    assert_eq!(header(&response, "www-authenticate"), Some("Bearer realm=\"fanout-edge\""));
    // Beside one that is not valid a token is checked.
    let token = token(r#"{"x-fastly-write":["any"]}"#);
    assert!(is_published(with("other").with("Authorization", bearer(&token)), fastly()));
    let old = access_token(SECRET, NOW - 60, r#"{"x-fastly-write":["any"]}"#);
    let body = "Access token rejected: expired. Get a new one\n";
    rejected(with("other").with("Authorization", bearer(&old)), fastly(), 401, body);
    let body = "The access token does not allow publishing to `any` (claim x-fastly-write)\n";
    rejected(with("other").with("Authorization", bearer(&writer())), fastly(), 403, body);
    // It is for broadcasts only.
    rejected(connect("/api/poll").with("Fastly-Key", "valid"), fastly(), 401, REQUIRED);
}

fn event(path: &str, body: &str) -> Request {
    unsigned(path, body).with("Grip-Sig", local_signature(NOW))
}

#[test]
fn the_token_is_checked_again_when_the_connection_opens() {
    let opening = || event("/api/websocket", "OPEN\r\n");
    rejected(opening(), guarded(), 401, REQUIRED);
    let response = guarded().respond(opening().with("Authorization", bearer(&reader())));
    assert!(response.status == 200 && response.body.starts_with(b"OPEN\r\n"));
    let body = "The access token does not allow subscribing to `test` (claim x-fastly-read)\n";
    rejected(opening().with("Authorization", bearer(&writer())), guarded(), 403, body);
    let publishing = event("/api/websocket?mode=publish", "OPEN\r\n").with("Authorization", bearer(&reader()));
    let body = "The access token does not allow publishing to `test` (claim x-fastly-write)\n";
    rejected(publishing, guarded(), 403, body);
    for path in &SUBSCRIBING[1..] {
        let two = Request::new("GET", &format!("{path}?channel=test&channel=other"));
        let two = two.with("Grip-Sig", local_signature(NOW)).with("Authorization", bearer(&reader()));
        let body = "The access token does not allow subscribing to `other` (claim x-fastly-read)\n";
        rejected(two, guarded(), 403, body);
        let held = || Request::new("GET", path).with("Grip-Sig", local_signature(NOW));
        rejected(held(), guarded(), 401, REQUIRED);
        let response = guarded().respond(held().with("Authorization", bearer(&reader())));
        assert!(header(&response, "grip-hold").is_some());
    }
}

#[test]
fn the_subprotocol_of_a_token_is_accepted() {
    let offered = format!("bearer, {}", reader());
    let opening = || event("/api/websocket", "OPEN\r\n").with("Sec-WebSocket-Protocol", &*offered);
    // Also if no token is required: a browser gives up if none of its subprotocols is chosen.
    for mut service in [guarded(), Service::local()] {
        let response = service.respond(opening());
        assert_eq!((response.status, header(&response, "sec-websocket-protocol")), (200, Some("bearer")));
        let body = String::from_utf8(response.body).expect("text");
        assert!(body.starts_with("OPEN\r\nTEXT") && body.matches("OPEN").count() == 1, "{body}");
    }
    let response = guarded().respond(event("/api/websocket", "OPEN\r\n").with("Authorization", bearer(&reader())));
    assert_eq!(header(&response, "sec-websocket-protocol"), None);
}

/// A close frame as the proxy gets it.
fn closed(code: u16, reason: &str) -> Vec<u8> {
    [format!("CLOSE {:x}\r\n", reason.len() + 2).as_bytes(), &code.to_be_bytes(), reason.as_bytes(), b"\r\n"].concat()
}

#[test]
fn a_token_that_is_no_longer_valid_ends_its_connection() {
    let all = r#"{"x-fastly-read":["test"],"x-fastly-write":["test"]}"#;
    let old = bearer(&access_token(SECRET, NOW - 60, all));
    let other = bearer(&token(r#"{"x-fastly-read":["other"]}"#));
    let forged = bearer(&access_token("another secret of some length", NOW + 60, all));
    for (token, key, code, reason, log) in [
        (&old, KEY, 1008, "access token expired: reconnect with a new one", "rejected an access token: expired"),
        (
            &other,
            KEY,
            1008,
            "access token lacks a channel: reconnect with a new one",
            "rejected an access token: a channel is missing in x-fastly-read",
        ),
        (
            &forged,
            KEY,
            1008,
            "access token is not valid: reconnect with a new one",
            "rejected an access token: invalid signature",
        ),
        (
            &old,
            "secret:s3cret",
            1011,
            "a setting of the service cannot be used",
            "The entry ACCESS_KEY of the secret store `fanout` cannot be used: the secret is too short: use at least 32 bytes (openssl rand -base64 32)",
        ),
    ] {
        for path in ["/api/websocket", "/api/websocket?mode=publish"] {
            // Also if the proxy only asks, or the client pings.
            for events in ["TEXT 5\r\nhello\r\nTEXT 1\r\nx\r\n", "BINARY\r\n", "PING\r\n", ""] {
                let mut service = guarded_with(key);
                let response = service.respond(event(path, events).with("Authorization", &**token));
                let close = closed(code, reason);
                let body = response.body.strip_prefix(b"PONG\r\n").unwrap_or(&response.body);
                assert_eq!((response.status, body, response.log.as_deref()), (200, &*close, Some(log)), "{events}");
                assert!(service.host.published.is_empty());
            }
            // A client that leaves is not told.
            for (events, expected) in [("DISCONNECT\r\n", ""), ("CLOSE\r\n", "CLOSE\r\n")] {
                let response = guarded_with(key).respond(event(path, events).with("Authorization", &**token));
                is(&response, 200, expected);
                assert_eq!(response.log, None);
            }
        }
    }
}

#[test]
fn a_silent_connection_is_checked_when_its_token_expires() {
    for (lifetime, interval) in [(60, "71"), (1, "12"), (100_000, "3611")] {
        let token = bearer(&access_token(SECRET, NOW + lifetime, r#"{"x-fastly-read":["test"]}"#));
        for events in ["OPEN\r\n", "TEXT 1\r\nx\r\n", ""] {
            let response = guarded().respond(event("/api/websocket", events).with("Authorization", &*token));
            assert_eq!(header(&response, "keep-alive-interval"), Some(interval), "{events}");
        }
    }
    let response = Service::local().respond(event("/api/websocket", "OPEN\r\n"));
    assert_eq!(header(&response, "keep-alive-interval"), None);
}

/// A service behind a proxy that signs with ES256, where connections get tickets.
fn ticketed(pair: &ES256KeyPair, access: Option<&str>) -> Service {
    ticketed_with(pair, access, &[])
}

fn ticketed_with(pair: &ES256KeyPair, access: Option<&str>, more: &[(&str, &str)]) -> Service {
    let key = pair.public_key().to_pem().expect("PEM");
    let uri = "http://127.0.0.1:5561/?key=a-token-of-some-length&verify-iss=proxy";
    let mut entries = vec![("GRIP_URL", uri), ("GRIP_VERIFY_KEY", &*key)];
    entries.extend(access.map(|access| ("ACCESS_KEY", access)));
    entries.extend(more);
    Service::new(settings(&entries))
}

fn signed_by(pair: &ES256KeyPair, request: Request, lifetime: u64) -> Request {
    request.with("Grip-Sig", sign_es256(pair, claims(Some("proxy"), Some(NOW + lifetime))))
}

fn unsigned(path: &str, body: &str) -> Request {
    Request::new("POST", path).with("Content-Type", EVENTS).with("Connection-Id", "c1").with_body(body)
}

/// The ticket that a connection gets with a token in that header.
fn ticket(pair: &ES256KeyPair, lifetime: u64, path: &str, (name, value): (&str, &str), access: Option<&str>) -> String {
    let opening = signed_by(pair, unsigned(path, "OPEN\r\n"), lifetime).with(name, value);
    let response = ticketed(pair, access).respond(opening);
    header(&response, "set-meta-connection-ticket").expect("a ticket").to_owned()
}

fn both(lifetime: u64) -> String {
    access_token(SECRET, NOW + lifetime, r#"{"sub":"alice","x-fastly-read":["test"],"x-fastly-write":["test"]}"#)
}

/// The status of a message with a ticket and no signature.
fn status(service: Service, ticket: &str, path: &str, (name, value): (&str, &str), now: u64) -> u16 {
    let request = unsigned(path, "TEXT 2\r\nhi\r\n").with("Meta-Connection-Ticket", ticket).with(name, value);
    service.at(now).respond(request).status
}

#[test]
fn a_connection_ticket_expires_with_the_token_or_the_signature() {
    let pair = ES256KeyPair::generate();
    for (signed_for, token_for) in [(3600, 60), (60, 3600)] {
        let token = bearer(&both(token_for));
        let token = ("Authorization", &*token);
        let ticket = ticket(&pair, signed_for, "/api/websocket", token, Some(KEY));
        let status = |now| status(ticketed(&pair, Some(KEY)), &ticket, "/api/websocket", token, now);
        assert_eq!((status(NOW + 59), status(NOW + 61)), (200, 403));
    }
}

#[test]
fn a_silent_connection_with_a_ticket_is_checked_when_that_expires() {
    let pair = ES256KeyPair::generate();
    let token = bearer(&both(600));
    let ticket = ticket(&pair, 3600, "/api/websocket", ("Authorization", &token), Some(KEY));
    let later = |now| {
        let request = unsigned("/api/websocket", "TEXT 2\r\nhi\r\n").with("Meta-Connection-Ticket", &*ticket);
        ticketed(&pair, Some(KEY)).at(now).respond(request.with("Authorization", &*token))
    };
    // However late the message comes, nobody reads on for longer than the leeway of clocks.
    for (passed, interval) in [(0, "611"), (599, "12"), (600, "11")] {
        assert_eq!(header(&later(NOW + passed), "keep-alive-interval"), Some(interval));
    }
}

#[test]
fn a_connection_ticket_is_valid_for_one_query_and_under_one_key() {
    let pair = ES256KeyPair::generate();
    let token = bearer(&both(3600));
    let token = ("Authorization", &*token);
    let given = ticket(&pair, 3600, "/api/websocket", token, Some(KEY));
    let with = |access, path| status(ticketed(&pair, access), &given, path, token, NOW);
    assert_eq!(with(Some(KEY), "/api/websocket"), 200);
    for path in ["/api/websocket?channel=any", "/api/websocket?mode=publish", "/api/websocket?channel=any&mode=publish"]
    {
        assert_eq!(with(Some(KEY), path), 403, "{path}");
    }
    for another in [None, Some("secret:another secret for access tokens of tests"), Some("short")] {
        assert_eq!(with(another, "/api/websocket"), 403, "{another:?}");
    }
    // Nor is one from before there was an audience or an issuer.
    for entry in [("config:ACCESS_AUDIENCE", "a"), ("config:ACCESS_ISSUER", "a")] {
        assert_eq!(status(ticketed_with(&pair, Some(KEY), &[entry]), &given, "/api/websocket", token, NOW), 403);
    }
    // Nor is one from before there was a key.
    let given = ticket(&pair, 3600, "/api/websocket", token, None);
    let with = |access| status(ticketed(&pair, access), &given, "/api/websocket", token, NOW);
    assert_eq!((with(None), with(Some(KEY))), (200, 403));
}

#[test]
fn a_connection_ticket_is_valid_for_one_token_wherever_it_stands() {
    let pair = ES256KeyPair::generate();
    let (mine, other) = (both(3600), access_token(SECRET, NOW + 3600, r#"{"sub":"bob","x-fastly-read":["*"]}"#));
    for (name, scheme) in [("Authorization", "Bearer "), ("Sec-WebSocket-Protocol", "bearer, ")] {
        let [mine, other] = [&mine, &other].map(|token| format!("{scheme}{token}"));
        let ticket = ticket(&pair, 3600, "/api/websocket", (name, &mine), Some(KEY));
        let status = |token| status(ticketed(&pair, Some(KEY)), &ticket, "/api/websocket", (name, token), NOW);
        assert_eq!(status(&mine), 200, "{name}");
        // The same connection with another token, or with none: the ticket proves nothing.
        assert_eq!((status(&other), status("x")), (403, 403), "{name}");
    }
    let path = |token: &str| format!("/api/websocket?token={token}");
    let nothing = ("X-Nothing", "");
    let ticket = ticket(&pair, 3600, &path(&mine), nothing, Some(KEY));
    let status = |path: &str, header| status(ticketed(&pair, Some(KEY)), &ticket, path, header, NOW);
    assert_eq!((status(&path(&mine), nothing), status(&path(&other), nothing)), (200, 403));
    // A header would win over the token of the query.
    assert_eq!(status(&path(&mine), ("Authorization", &bearer(&other))), 403);
}
