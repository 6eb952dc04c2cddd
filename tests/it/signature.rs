//! `Grip-Sig`, the keys that verify it, and `GRIP_URL`.

use crate::support::{LOCAL_GRIP_URL, LOCAL_ISSUER, LOCAL_KEY, NOW, claims, local_signature, sign_es256, sign_hs256};
use base64::prelude::{BASE64_STANDARD, Engine};
use fanout_edge::grip::{
    Channel, Formats, GripStatus, GripUri, Header, Item, Publisher, Signed, Verifier, VerifyKey, WsMessage,
    fanout::Service,
    key::{Algorithm, InvalidKey},
    publish::{Authorization, MAX_BODY, PublishRequest},
    signature::{LEEWAY, MAX_TOKEN_LENGTH, SignatureError},
    uri::InvalidGripUri,
};
use jwt_simple::prelude::{ES256KeyPair, HS256Key, HS512Key, MACLike, NoCustomClaims};

const ANOTHER_KEY: &str = "secret:another key of the proper length";
const LOCAL: &str = "secret:viceroy_dev_signing_key_dont_use_in_production";

fn verifier(key: &str) -> Verifier {
    Verifier::new(VerifyKey::parse(key).expect("a valid key"), LOCAL_ISSUER)
}

fn good_claims() -> jwt_simple::prelude::JWTClaims<NoCustomClaims> {
    claims(Some(LOCAL_ISSUER), Some(NOW + 3600))
}

fn public_pem(key: &ES256KeyPair) -> String {
    key.public_key().to_pem().expect("PEM")
}

#[test]
fn a_valid_signature_verifies() {
    assert!(verifier(LOCAL).verify(&local_signature(NOW), NOW).is_ok());
    let pair = ES256KeyPair::generate();
    assert!(verifier(&public_pem(&pair)).verify(&sign_es256(&pair, good_claims()), NOW).is_ok());
}

#[test]
fn a_signature_in_the_format_of_pushpin_verifies() {
    // As Pushpin 1.41 makes it: header {"typ":"JWT","alg":"HS256"}, claims exp and iss.
    let header = r#"{"typ":"JWT","alg":"HS256"}"#;
    let claims = format!(r#"{{"exp":{},"iss":"viceroy"}}"#, NOW + 3600);
    let encode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(header), encode(&claims));
    let tag = hmac_sha256(LOCAL_KEY.as_bytes(), signed.as_bytes());
    let token = format!("{signed}.{}", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(tag));
    assert!(verifier(LOCAL).verify(&token, NOW).is_ok());
}

/// Returns the HMAC of any text: jwt-simple signs only tokens that it makes itself.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    HS256Key::from_bytes(key).authentication_tag(std::str::from_utf8(message).expect("text").as_bytes())
}

#[test]
fn an_invalid_signature_is_rejected_with_the_reason() {
    use SignatureError as Error;
    let unsigned = |header: &str| {
        let encode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", encode(header), encode(&format!(r#"{{"exp":{},"iss":"viceroy"}}"#, NOW + 3600)))
    };
    let good = local_signature(NOW);
    let hs512 = HS512Key::from_bytes(LOCAL_KEY.as_bytes()).authenticate(good_claims()).expect("a token");
    let mut early = good_claims();
    early.invalid_before = Some(jwt_simple::prelude::UnixTimeStamp::from_secs(NOW + LEEWAY + 1));
    let sign = |claims| sign_hs256(LOCAL_KEY, claims);
    let mut wrong_type = crate::support::with_claims(NOW + 3600, r#"{"sub":7}"#);
    wrong_type.issuer = Some(LOCAL_ISSUER.to_owned());
    let wrong_type = HS256Key::from_bytes(LOCAL_KEY.as_bytes()).authenticate(wrong_type).expect("a token");
    for (token, error) in [
        (String::new(), Error::Malformed),
        ("not a token".to_owned(), Error::Malformed),
        ("a.b.c".to_owned(), Error::Malformed),
        (format!("{good}="), Error::Malformed),
        (format!("{good}.x"), Error::Malformed),
        (sign(claims(Some(&"x".repeat(MAX_TOKEN_LENGTH)), Some(NOW + 3600))), Error::TooLong),
        (unsigned(r#"{"alg":"none"}"#), Error::Algorithm),
        (unsigned(r#"{"alg":"HS256"}"#), Error::Signature),
        (hs512, Error::Algorithm),
        (sign_es256(&ES256KeyPair::generate(), good_claims()), Error::Algorithm),
        (sign_hs256(ANOTHER_KEY, good_claims()), Error::Signature),
        (sign(claims(Some(LOCAL_ISSUER), Some(NOW - LEEWAY - 1))), Error::Expired),
        (sign(claims(Some(LOCAL_ISSUER), None)), Error::NoExpiry),
        (sign(claims(Some("fastly:other"), Some(NOW + 3600))), Error::Issuer),
        (sign(claims(None, Some(NOW + 3600))), Error::Issuer),
        (sign(early), Error::NotYetValid),
        (wrong_type, Error::Claims),
    ] {
        assert_eq!(verifier(LOCAL).verify(&token, NOW), Err(error), "{token}");
    }
}

#[test]
fn clocks_may_differ_by_the_leeway() {
    assert_eq!((verifier(LOCAL).leeway(), verifier(LOCAL).with_leeway(60).leeway()), (LEEWAY, 60));
    let expired = sign_hs256(LOCAL_KEY, claims(Some(LOCAL_ISSUER), Some(NOW - LEEWAY)));
    assert!(verifier(LOCAL).verify(&expired, NOW).is_ok());
    assert_eq!(verifier(LOCAL).verify(&expired, NOW + 1), Err(SignatureError::Expired));
    assert!(verifier(LOCAL).with_leeway(60).verify(&expired, NOW + 50).is_ok());
    assert_eq!(verifier(LOCAL).with_leeway(60).verify(&expired, NOW + 51), Err(SignatureError::Expired));
    assert_eq!(verifier(LOCAL).with_leeway(0).verify(&expired, NOW), Err(SignatureError::Expired));
}

#[test]
fn a_public_key_is_never_used_as_a_secret() {
    let pair = ES256KeyPair::generate();
    let pem = public_pem(&pair);
    let forged = sign_hs256(&pem, good_claims());
    let around = |body: &str| format!("-----BEGIN PUBLIC KEY-----{body}-----END PUBLIC KEY-----");
    let body: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    for key in [
        pem.clone(),
        format!("\u{feff}# the key of the proxy\n{pem}"),
        format!("base64:{}", BASE64_STANDARD.encode(&pem)),
        format!("base64:{body}"),
        format!("base64:{}", body.replace('+', " ")),
        pem.replace('\n', "\r\n"),
        around(&body.replace('+', " ")),
        around(body.trim_end_matches('=')),
        around(&body.replace('+', "-").replace('/', "_")),
        compressed(&pair),
        pair.public_key().to_jwk(),
        format!("base64:{}", BASE64_STANDARD.encode(pair.public_key().to_der().expect("DER"))),
    ] {
        assert_eq!(verifier(&key).verify(&forged, NOW), Err(SignatureError::Algorithm));
        assert!(verifier(&key).verify(&sign_es256(&pair, good_claims()), NOW).is_ok());
        let other = sign_es256(&ES256KeyPair::generate(), good_claims());
        assert_eq!(verifier(&key).verify(&other, NOW), Err(SignatureError::Signature));
    }
    for key in [&pem, &body, &body.replace('+', "-").replace('/', "_")] {
        assert_eq!(VerifyKey::parse(&format!("secret:{key}")).err(), Some(InvalidKey::Public));
    }
}

/// The public key as SPKI with a compressed point.
fn compressed(pair: &ES256KeyPair) -> String {
    let whole = pair.public_key().to_der().expect("DER");
    let algorithm = &whole[2..23];
    let der = [&[0x30, 0x39], algorithm, &[0x03, 0x22, 0x00], &pair.public_key().to_bytes()].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der))
}

#[test]
fn a_public_key_with_white_space_behind_it_is_no_secret_even_if_it_ends_in_such_a_byte() {
    let is_such = |pair: &ES256KeyPair| pair.public_key().to_der().expect("DER").ends_with(b" ");
    let pair = std::iter::repeat_with(ES256KeyPair::generate).find(is_such).expect("one of 256");
    let der = pair.public_key().to_der().expect("DER");
    // The point is at the end.
    for bytes in [&der[..], &der[der.len() - 65..], &der[der.len() - 64..]] {
        for end in ["", "\n", "\r\n", " \n\n"] {
            let marked = format!("base64:{}", BASE64_STANDARD.encode([bytes, end.as_bytes()].concat()));
            let is_secret = VerifyKey::parse(&marked).is_ok_and(|key| key.secret_length().is_some());
            assert!(!is_secret, "{marked}");
        }
    }
}

#[test]
fn a_private_key_is_rejected() {
    let pair = ES256KeyPair::generate();
    let pem = pair.to_pem().expect("PEM");
    let body: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let public: serde_json::Value = serde_json::from_str(&pair.public_key().to_jwk()).expect("JSON");
    let mut private = public;
    private["d"] = "AAAA".into();
    let rsa_like = |head: &[u8]| format!("base64:{}", BASE64_STANDARD.encode([head, &[2; 40]].concat()));
    for key in [
        pem.clone(),
        pem.replace("PRIVATE KEY", "EC PRIVATE KEY"),
        pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        format!("base64:{body}"),
        format!("hex:{}", pair.to_der().expect("DER").iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        format!("base64:{}", BASE64_STANDARD.encode(&pem)),
        private.to_string(),
        r#"{"kty":"RSA","n":"AA","e":"AQAB","d":"AA"}"#.to_owned(),
        rsa_like(&[0x30, 43, 0x02, 0x01, 0x00]),
        rsa_like(&[0x30, 43, 0x02, 0x01, 0x01]),
    ] {
        assert_eq!(VerifyKey::parse(&key).err(), Some(InvalidKey::Private), "{key}");
    }
    // A public RSA key begins with its modulus.
    assert_eq!(VerifyKey::parse(&rsa_like(&[0x30, 43, 0x02, 0x01, 0x02])).err(), Some(InvalidKey::Pem));
}

#[test]
fn a_secret_that_begins_like_der_is_accepted() {
    let secret = format!("secret:0V{}", "x".repeat(86));
    assert_eq!(VerifyKey::parse(&secret).map(|key| key.algorithm()).ok(), Some(Algorithm::Hs256));
    // 0x80 is the indefinite length, which DER has not.
    let secret = format!("base64:{}", BASE64_STANDARD.encode([&[0x30, 0x80][..], &[2; 128]].concat()));
    assert_eq!(VerifyKey::parse(&secret).ok().and_then(|key| key.secret_length()), Some(130));
}

#[test]
fn signatures_of_fanout_are_verified_with_its_key_and_the_service_id() {
    let verifier = Service::new("SERVICE1").expect("a valid id").verifier();
    assert_eq!(verifier.issuer(), "fastly:SERVICE1");
    assert_eq!(verifier.key().algorithm(), Algorithm::Es256);
    // The same key in the other format in which Fastly publishes it.
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let body: String = fanout_edge::grip::fanout::PUBLIC_KEY.lines().filter(|line| !line.starts_with("---")).collect();
    let spki = BASE64_STANDARD.decode(body).expect("base64");
    let coordinates = ["CKo5A1ebyFcnmVV8SE5On-8G81JyBjSvcrx4VLetWCg", "7gwJqaU6N8TP88--twjkwoB36f-pT3QsmI46nPhjO7M"];
    let point = coordinates.map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64")).concat();
    assert!(spki.ends_with(&point));
    let forged = sign_es256(&ES256KeyPair::generate(), claims(Some("fastly:SERVICE1"), Some(NOW + 3600)));
    assert_eq!(verifier.verify(&forged, NOW), Err(SignatureError::Signature));
    assert_eq!(verifier.verify(&local_signature(NOW), NOW), Err(SignatureError::Algorithm));
    for id in ["", "a/b", "fastly:SERVICE1", "a b"] {
        assert_eq!(Service::new(id), None, "{id}");
    }
}

#[test]
fn secrets_are_accepted_in_several_formats() {
    let token = local_signature(NOW);
    let jwk = format!(r#"{{"kty":"oct","k":"{}"}}"#, base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(LOCAL_KEY));
    let base64 = format!("base64:{}", BASE64_STANDARD.encode(LOCAL_KEY));
    let hex: String = LOCAL_KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let marked = [LOCAL.to_owned(), format!(" {LOCAL}\n"), LOCAL.replace(':', ": "), format!("hex:{hex}")];
    for key in marked.into_iter().chain([format!("{base64}\r\n"), base64, jwk]) {
        assert!(verifier(&key).verify(&token, NOW).is_ok(), "{key}");
    }
}

#[test]
fn a_key_that_cannot_be_used_is_rejected() {
    // Larger public keys, of other algorithms: they must not be used as secrets.
    let sequence =
        |head: &[u8], length: usize| format!("base64:{}", BASE64_STANDARD.encode([head, &vec![2; length]].concat()));
    for der in [sequence(&[0x30, 0x81, 158], 158), sequence(&[0x30, 0x82, 1, 34], 290)] {
        assert_eq!(VerifyKey::parse(&der).err(), Some(InvalidKey::Pem));
        let marked = format!("secret:{}", &der["base64:".len()..]);
        assert_eq!(VerifyKey::parse(&marked).err(), Some(InvalidKey::Public));
    }
    let p384 = jwt_simple::prelude::ES384KeyPair::generate().public_key().to_pem().expect("PEM");
    for (key, error) in [
        ("", InvalidKey::Unmarked),
        (LOCAL_KEY, InvalidKey::Unmarked),
        ("Secret:a secret of the proper length", InvalidKey::Unmarked),
        ("https://issuer.example/.well-known/jwks.json", InvalidKey::Unmarked),
        ("secret:", InvalidKey::TooShort),
        ("secret:   elevenbytes \n", InvalidKey::TooShort),
        ("base64:c2hvcnQ=", InvalidKey::TooShort),
        (r#"{"kty":"oct","k":"c2hvcnQ"}"#, InvalidKey::TooShort),
        ("base64:***", InvalidKey::Base64),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", InvalidKey::Pem),
        (&p384, InvalidKey::Algorithm),
        (&format!("\"{}\"", p384.replace('\n', "")), InvalidKey::Algorithm),
        (
            &format!("base64:{}", p384.lines().filter(|line| !line.starts_with("---")).collect::<String>()),
            InvalidKey::Algorithm,
        ),
        ("hex:3000", InvalidKey::Pem),
        ("hex:000102030405060708090a0b0c0", InvalidKey::Hex),
        // Somebody wrote the mark before a key, or its address.
        (&format!("secret:{p384}"), InvalidKey::Public),
        (r#"secret:{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, InvalidKey::Public),
        ("secret:https://issuer.example/.well-known/jwks.json", InvalidKey::Public),
        ("base64:MAA=", InvalidKey::Pem),
        ("{}", InvalidKey::Jwk),
        (r#"[{"kty":"oct","k":"YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg"}]"#, InvalidKey::Jwk),
        (r#"{"kty":"oct","k":"***"}"#, InvalidKey::Jwk),
        (r#"{"kty":"EC","k":"YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg"}"#, InvalidKey::Jwk),
        (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, InvalidKey::Jwk),
    ] {
        assert_eq!(VerifyKey::parse(key).err(), Some(error), "{key}");
    }
}

#[test]
fn a_signature_of_any_of_several_proxies_verifies() {
    let verifiers = [verifier(ANOTHER_KEY), verifier(LOCAL), verifier(&public_pem(&ES256KeyPair::generate()))];
    let status = |token: &str, verifiers: &[Verifier]| GripStatus::of(Header::Value(token), verifiers, NOW);
    let needs = GripStatus::NeedsSignature;
    assert_eq!(status(&local_signature(NOW), &verifiers), GripStatus::Signed(Signed::unverified(NOW + 3600)));
    assert_eq!(status(&local_signature(NOW), &verifiers[..1]), needs(SignatureError::Signature));
    let expired = sign_hs256(LOCAL_KEY, claims(Some(LOCAL_ISSUER), Some(NOW - 3600)));
    assert_eq!(status(&expired, &verifiers), needs(SignatureError::Expired));
    assert_eq!(status(&expired, &[]), needs(SignatureError::Malformed));
}

#[test]
fn debug_output_has_no_secrets() {
    let uri = GripUri::parse("http://localhost/?iss=me&key=s3cret-s3cret&verify-iss=me");
    let uri = uri.unwrap_or_else(|error| panic!("{error}"));
    let request = publish(&uri.publisher, "private");
    let printed = format!("{uri:?} {request:?}");
    assert!(printed.contains("http://localhost/publish/") && printed.contains("Hs256"), "{printed}");
    assert!(!printed.contains("s3cret") && !printed.contains("private") && !printed.contains("Bearer"), "{printed}");
}

#[test]
fn an_rsa_key_is_rejected() {
    let pem = include_str!("../data/rsa-public-key.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    assert_eq!(VerifyKey::parse(pem).err(), Some(InvalidKey::Algorithm));
    assert_eq!(VerifyKey::parse(&body).err(), Some(InvalidKey::Unmarked));
    assert_eq!(VerifyKey::parse(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#).err(), Some(InvalidKey::Algorithm));
}

#[test]
fn the_status_distinguishes_direct_unverified_and_signed_requests() {
    let status = |header| GripStatus::of(header, &[verifier(LOCAL)], NOW);
    let (good, bad) = (local_signature(NOW), sign_hs256(ANOTHER_KEY, good_claims()));
    assert_eq!(status(Header::Missing), GripStatus::NotProxied);
    assert_eq!(status(Header::Value(&good)), GripStatus::Signed(Signed::unverified(NOW + 3600)));
    assert_eq!(status(Header::Value(&bad)), GripStatus::NeedsSignature(SignatureError::Signature));
    assert_eq!(status(Header::Invalid), GripStatus::NeedsSignature(SignatureError::Header));
}

fn publish(publisher: &Publisher, text: &str) -> PublishRequest {
    let channel = Channel::from_static("test");
    let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text(text)), ..Formats::default() });
    publisher.request(&[item], NOW).unwrap_or_else(|error| panic!("{error}"))
}

fn authorization_of(uri: &str) -> Option<String> {
    let uri = GripUri::parse(uri).unwrap_or_else(|error| panic!("{error}"));
    let header = publish(&uri.publisher, "x").authorization?;
    assert!(header.is_sensitive());
    Some(header.to_str().expect("text").to_owned())
}

#[test]
fn a_publish_request_posts_json_to_the_control_uri() {
    let request = publish(&Publisher::new("http://127.0.0.1:5561/", Authorization::none()), "Hell\u{f6}\n\"");
    assert_eq!(request.url, "http://127.0.0.1:5561/publish/");
    assert_eq!(request.authorization, None);
    let body = "{\"items\":[{\"channel\":\"test\",\"formats\":{\"ws-message\":{\"content\":\"Hell\u{f6}\\n\\\"\"}}}]}";
    assert_eq!(String::from_utf8(request.body).expect("text"), body);
}

#[test]
fn a_publish_request_that_is_too_large_is_an_error() {
    let publisher = Publisher::new("http://127.0.0.1:5561", Authorization::none());
    let overhead = publish(&publisher, "").body.len();
    let channel = Channel::from_static("test");
    let length = |text: &str| {
        let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text(text)), ..Formats::default() });
        publisher.request(&[item], NOW).map(|request| request.body.len()).map_err(|error| error.length)
    };
    assert_eq!(length(&"x".repeat(MAX_BODY - overhead)), Ok(MAX_BODY));
    assert_eq!(length(&"x".repeat(MAX_BODY - overhead + 1)), Err(MAX_BODY + 1));
    assert_eq!(length(&"\n".repeat(MAX_BODY / 2)), Err(MAX_BODY + overhead));
}

#[test]
fn fanout_publishes_to_the_api_of_fastly() {
    let service = Service::new("SERVICE1").expect("a valid id");
    let publisher = service.publisher("token").expect("a valid token");
    let request = publish(&publisher, "x");
    assert_eq!(request.url, "https://api.fastly.com/service/SERVICE1/publish/");
    assert_eq!(request.authorization.expect("a token"), "Bearer token");
    for token in ["", "a b", "a\nb", "\u{fc}"] {
        assert!(service.publisher(token).is_none(), "{token:?}");
    }
}

#[test]
fn a_grip_url_has_an_address_and_keys() {
    let uri = GripUri::parse(LOCAL_GRIP_URL).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(uri.verify_iss.as_deref(), Some("viceroy"));
    let verifier = Verifier::new(uri.verify_key.expect("a key"), "viceroy");
    assert!(verifier.verify(&local_signature(NOW), NOW).is_ok());
    for (uri, url) in [
        ("http://127.0.0.1:5561", "http://127.0.0.1:5561/publish/"),
        ("http://127.0.0.1:5561/", "http://127.0.0.1:5561/publish/"),
        ("https://user:pw@proxy.example/realm/x/?verify-iss=y", "https://proxy.example/realm/x/publish/"),
    ] {
        let uri = GripUri::parse(uri).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(publish(&uri.publisher, "x").url, url);
    }
}

#[test]
fn a_grip_url_sets_the_authorization_of_publish_requests() {
    assert_eq!(authorization_of("http://localhost/"), None);
    assert_eq!(authorization_of("http://us%40er:p%3Aw@localhost/").as_deref(), Some("Basic dXNAZXI6cDp3"));
    assert_eq!(authorization_of("http://localhost/?key=abc").as_deref(), Some("Bearer abc"));
    assert_eq!(authorization_of("http://localhost/?key=base64:YWJj").as_deref(), Some("Bearer abc"));
    for uri in ["?iss=me&key=a+secret+of+some+length", "?iss=me&key=base64:YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg="] {
        let header = authorization_of(&format!("http://localhost/{uri}")).expect("a header");
        let token = header.strip_prefix("Bearer ").expect("a token");
        let verifier = Verifier::new(VerifyKey::parse("secret:a secret of some length").expect("a valid key"), "me");
        assert!(verifier.verify(token, NOW).is_ok());
        assert!(verifier.verify(token, NOW + 600).is_ok());
        assert_eq!(verifier.verify(token, NOW + 600 + LEEWAY + 1), Err(SignatureError::Expired));
    }
}

#[test]
fn a_key_with_iss_also_verifies_signatures() {
    let verifies = |uri: &str| {
        let uri = GripUri::parse(uri).unwrap_or_else(|error| panic!("{error}"));
        let key = uri.verify_key?;
        Some(Verifier::new(key, LOCAL_ISSUER).verify(&local_signature(NOW), NOW).is_ok())
    };
    assert_eq!(verifies(&format!("http://localhost/?iss=me&key={LOCAL_KEY}")), Some(true));
    assert_eq!(verifies(&format!("http://localhost/?iss=me&key={LOCAL_KEY}&verify-key={ANOTHER_KEY}")), Some(false));
    assert_eq!(verifies(&format!("http://localhost/?key={LOCAL_KEY}")), None);
}

#[test]
fn a_base64_key_with_spaces_in_place_of_plus_signs_is_accepted() {
    let secret = [0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe];
    let encoded = BASE64_STANDARD.encode(secret);
    assert!(encoded.contains('+'));
    let uri = GripUri::parse(&format!("http://localhost/?verify-key=base64:{encoded}"));
    let verifier =
        Verifier::new(uri.unwrap_or_else(|error| panic!("{error}")).verify_key.expect("a key"), LOCAL_ISSUER);
    let token = HS256Key::from_bytes(&secret).authenticate(good_claims()).expect("a token");
    assert!(verifier.verify(&token, NOW).is_ok());
}

#[test]
fn an_invalid_grip_url_is_rejected_without_showing_its_secrets() {
    for (uri, error) in [
        ("", InvalidGripUri::Url),
        ("localhost:5561", InvalidGripUri::Url),
        ("ftp://localhost/", InvalidGripUri::Url),
        ("http://:%ff@localhost/", InvalidGripUri::Url),
        ("http://b\u{fc}cher.example/", InvalidGripUri::Host),
        ("http://B%C3%BCcher.example/", InvalidGripUri::Host),
        ("https:\\\\user:pass@B%C3%BCcher.example", InvalidGripUri::Host),
        ("http://xn--bcher-kva.example/", InvalidGripUri::Host),
        ("http://X\tN--bcher-kva.example/", InvalidGripUri::Host),
        // Found by a fuzzer: the `url` crate panicked on them in a debug build.
        ("wss:*xX;;;;;;;;;;;@U\u{c7}\u{27}X", InvalidGripUri::Url),
        ("http:*xX;;;;;;;;;;;@U\u{c7}\u{27}X", InvalidGripUri::Host),
        ("file:\\\r9M\r\r%FCA\r\r\r)@\u{fa}?x", InvalidGripUri::Url),
        ("http:/\t/\n\\\r9M%C3%9C", InvalidGripUri::Host),
        ("http:\n\nXN--jjguuuu\n\n\n\nRRRRRRRR1RR\u{fc}%0%%Iy", InvalidGripUri::Host),
        ("http://localhost/?verify_key=x", InvalidGripUri::Parameter),
        ("http://localhost/?verify-key=a+long+beginning&s3cret", InvalidGripUri::Parameter),
        ("http://localhost/?verify-key=a+long+beginning#s3cret", InvalidGripUri::Fragment),
        ("http://localhost/?iss=me", InvalidGripUri::IssWithoutKey),
        ("http://s3cret@localhost/", InvalidGripUri::User),
        ("http://a%3As3cret:b@localhost/", InvalidGripUri::User),
        ("http://a:s3cret@localhost/?key=abc", InvalidGripUri::User),
        ("http://localhost/?iss=me&key=s3cret", InvalidGripUri::Key(InvalidKey::TooShort)),
        ("http://localhost/?key=base64:***", InvalidGripUri::Key(InvalidKey::Base64)),
        ("http://localhost/?key=base64:/w==", InvalidGripUri::Bearer),
        ("http://localhost/?key=a%0Ab", InvalidGripUri::Bearer),
        ("http://localhost/?verify-key=secret:s3cret", InvalidGripUri::VerifyKey(InvalidKey::TooShort)),
        ("http://localhost/?verify-key=s3cret+of+the+proper+length", InvalidGripUri::VerifyKey(InvalidKey::Unmarked)),
    ] {
        let rejected = GripUri::parse(uri).err().unwrap_or_else(|| panic!("{uri} is accepted"));
        assert_eq!(rejected, error, "{uri}");
        assert!(!rejected.to_string().contains("s3cret"));
    }
}
