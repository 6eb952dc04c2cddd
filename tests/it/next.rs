//! Event streams of clients with an access token: the proxy asks for them again, and they end with the token.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};

use fanout_edge::app::web::Response;
use jwt_simple::prelude::{ECDSAP256KeyPairLike, ES256KeyPair};

use crate::{
    service::{Request, Service, header, is, settings},
    support::{LOCAL_GRIP_URL, NOW, access_token, local_signature, with_claims},
};

const SECRET: &str = "a secret for access tokens of the tests";

fn service_with(secret: &str) -> Service {
    let key = format!("secret:{secret}");
    Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", &*key)]))
}

fn bearer(claims: &str, expires_at: u64) -> String {
    format!("Bearer {}", access_token(SECRET, expires_at, claims))
}

fn events(query: &str, claims: &str, expires_at: u64) -> Request {
    Request::new("GET", &format!("/api/events{query}")).with("Authorization", bearer(claims, expires_at))
}

const READ: &str = r#"{"x-fastly-read":["*"]}"#;
const ALICE: &str = r#"{"sub":"alice","x-fastly-read":["*"]}"#;

/// What the proxy asks for a stream, as it does by itself: the path of the next link, and the last id of each channel that has
/// one.
fn next(held: &Response) -> Request {
    let link = header(held, "grip-link").expect("a next link");
    let path = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a URI").0;
    let channels = header(held, "grip-channel").expect("channels").split(", ");
    let last = channels.filter_map(|channel| channel.split_once("; prev-id="));
    let request = Request::new("GET", path);
    last.fold(request, |request, (channel, id)| request.with("Grip-Last", format!("{channel}; last-id={id}")))
}

fn respond_at(now: u64, request: Request) -> Response {
    service_with(SECRET).at(now).respond(request.with("Grip-Sig", local_signature(now)))
}

fn timeout(held: &Response) -> u64 {
    let link = header(held, "grip-link").expect("a next link");
    link.rsplit_once("; rel=next; timeout=").expect("a timeout").1.parse().expect("seconds")
}

/// The time of the link, of which up to an eighth is left out.
#[track_caller]
fn asked_after(held: &Response, time: u64) -> u64 {
    let seconds = timeout(held);
    assert!((time - time / 8..=time).contains(&seconds), "{seconds} for {time}");
    seconds
}

fn close(reason: &str) -> String {
    format!(
        "event: message\ndata: {{\"type\":\"close\",\"code\":1008,\"reason\":\"{reason}: reconnect with a new one\"}}\n\n"
    )
}

#[test]
fn a_stream_goes_on_as_long_as_its_token_is_valid() {
    for (format, claims, channels) in [
        ("", READ, ", room, b"),
        ("&format=json", ALICE, ", json:room, json:b, json:user:2bd806c97f0e00af1a1fc3328fa763a9"),
    ] {
        let opened = respond_at(NOW, events(&format!("?channel=room&channel=b{format}"), claims, NOW + 100));
        // Clocks may differ by 10 seconds.
        asked_after(&opened, 110);
        assert!(header(&opened, "grip-channel").expect("channels").ends_with(channels));
        // The same stream, with less time left. It gets nothing.
        let held = respond_at(NOW + 60, next(&opened));
        assert_eq!((held.status, &*held.body), (200, &b""[..]));
        asked_after(&held, 50);
        for name in ["grip-hold", "grip-channel", "grip-keep-alive"] {
            assert_eq!(header(&held, name), header(&opened, name), "{name}");
        }
        assert_eq!(timeout(&respond_at(NOW + 109, next(&held))), 1);
        // Without a hold, the proxy ends it.
        let ended = respond_at(NOW + 110, next(&held));
        is(&ended, 200, if format.is_empty() { String::new() } else { close("access token expired") });
        assert_eq!(header(&ended, "content-type"), Some("text/event-stream"));
        assert!(ended.headers.keys().all(|name| !name.as_str().starts_with("grip-")), "{:?}", ended.headers);
    }
}

#[test]
fn the_proxy_is_given_no_digest_of_the_key_alone() {
    let opened = respond_at(NOW, events("", READ, NOW + 100));
    let channels = header(&opened, "grip-channel").expect("channels");
    let id = channels.split("; prev-id=").nth(1).and_then(|rest| rest.split([',', ';']).next()).expect("an id");
    let described = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(id.trim()).expect("base64")).expect("text");
    let digest: String = hmac_sha256::Hash::hash(SECRET.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let fingerprint = described.split(' ').nth(1).expect("a fingerprint");
    assert!(fingerprint.len() == 16 && !digest.contains(fingerprint), "{described}");
    assert!(fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()), "{described}");
}

#[test]
fn an_open_service_has_no_next_links() {
    let request = Request::new("GET", "/api/events").with("Grip-Sig", local_signature(NOW));
    let held = Service::local().respond(request);
    assert_eq!((header(&held, "grip-channel"), header(&held, "grip-link")), (Some("test"), None));
}

#[test]
fn a_stream_is_asked_for_each_hour_as_the_keys_may_have_changed() {
    const OTHER: &str = "another secret for access tokens, after an hour";
    let jwk = |kid: &str, secret: &str| {
        format!(r#"{{"kty":"oct","kid":"{kid}","k":"{}"}}"#, BASE64_URL_SAFE_NO_PAD.encode(secret))
    };
    let set = |keys: &[String]| format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    let opened = respond_at(NOW, events("?format=json", READ, NOW + 100_000));
    let seconds = asked_after(&opened, 3600);
    asked_after(&respond_at(NOW + seconds, next(&opened)), 3600);
    let respond = |keys: &str| {
        let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", keys)]));
        service.respond(next(&opened).with("Grip-Sig", local_signature(NOW)))
    };
    // It goes on as long as its key is one of them.
    for keys in [format!("secret:{SECRET}"), set(&[jwk("1", OTHER), jwk("2", SECRET)])] {
        asked_after(&respond(&keys), 3600);
    }
    for keys in [format!("secret:{OTHER}"), set(&[jwk("1", OTHER)])] {
        is(&respond(&keys), 200, close("access token is not valid"));
    }
    // So may be the other rules.
    for entry in [("config:ACCESS_AUDIENCE", "chat"), ("config:ACCESS_ISSUER", "https://id.example")] {
        let key = format!("secret:{SECRET}");
        let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", &key), entry]));
        let response = service.respond(next(&opened).with("Grip-Sig", local_signature(NOW)));
        is(&response, 200, close("access token is not valid"));
    }
    // The proxy asks again, and ends the stream if that does not help.
    assert_eq!(respond("").status, 503);
}

#[test]
fn a_stream_whose_key_is_public_goes_on_while_that_is_the_key() {
    let (key, other) = (ES256KeyPair::generate(), ES256KeyPair::generate());
    let pem = |key: &ES256KeyPair| key.public_key().to_pem().expect("PEM");
    let token = key.sign(with_claims(NOW + 100, READ)).expect("a token");
    let respond = |keys: &str, request: Request| {
        let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", keys)]));
        service.respond(request.with("Grip-Sig", local_signature(NOW)))
    };
    let request = Request::new("GET", "/api/events?format=json").with("Authorization", format!("Bearer {token}"));
    let opened = respond(&pem(&key), request);
    asked_after(&respond(&pem(&key), next(&opened)), 110);
    is(&respond(&pem(&other), next(&opened)), 200, close("access token is not valid"));
}

#[test]
fn streams_are_spread_over_few_links_and_over_time() {
    let (mut links, mut times): (BTreeMap<String, usize>, BTreeMap<u64, usize>) = Default::default();
    for number in 0..1_000 {
        let claims = format!(r#"{{"sub":"user {number}","x-fastly-read":["*"]}}"#);
        let opened = respond_at(NOW, events("?channel=room", &claims, NOW + 3_600));
        let link = header(&opened, "grip-link").expect("a next link");
        *links.entry(link.split_once('>').expect("a URI").0.to_owned()).or_default() += 1;
        *times.entry(asked_after(&opened, 3_600)).or_default() += 1;
    }
    assert_eq!(links.len(), 16, "{links:?}");
    assert!(links.iter().all(|(link, count)| link.starts_with("</api/events/next/") && *count < 100), "{links:?}");
    assert!(times.len() > 200 && times.values().all(|count| *count < 20), "{times:?}");
}

#[test]
fn only_the_proxy_asks_for_a_stream() {
    let opened = respond_at(NOW, events("?channel=room", READ, NOW + 100));
    let mut service = service_with(SECRET);
    for request in [next(&opened).with("Grip-Sig", "x"), next(&opened).with("Grip-Sig", local_signature(NOW - 4_000))] {
        let response = service.respond(request);
        assert!(response.status == 403 && response.body.starts_with(b"[not proxied] "), "{response:?}");
    }
    // For a client there is nothing.
    for request in [next(&opened), next(&opened).with("Authorization", bearer(READ, NOW + 100))] {
        assert_eq!(service.respond(request).status, 404);
    }
    for (method, path, status) in [
        ("GET", "/api/events/next", 200),
        ("GET", "/api/events/next/", 200),
        ("GET", "/api/events/next/1/2?x=y", 200),
        ("GET", "/api/events/nextlink", 404),
        ("POST", "/api/events/next/1", 405),
    ] {
        let response = service.respond(Request::new(method, path).with("Grip-Sig", local_signature(NOW)));
        assert_eq!(response.status, status, "{method} {path}");
        assert_eq!(header(&response, "grip-hold"), None, "{method} {path}");
    }
}

#[test]
fn a_stream_that_says_nothing_valid_of_itself_ends() {
    let opened = respond_at(NOW, events("?channel=room", READ, NOW + 100));
    let valid = next(&opened);
    let (_, id) = header(&opened, "grip-channel").expect("channels").split_once("; prev-id=").expect("an id");
    let id = id.split(',').next().expect("an id");
    assert!(header(&respond_at(NOW, valid), "grip-hold").is_some());
    for last in [
        String::new(),
        "stream:next".to_owned(),
        format!("room; last-id={id}"),
        format!("stream:next; last-id={}", &id[1..]),
        format!("stream:next; last-id={id}="),
        // `MTgwMDAwMDExMA` is a time, without anything else.
        "stream:next; last-id=MTgwMDAwMDExMA".to_owned(),
        "stream:next; last-id=____".to_owned(),
    ] {
        let ended = respond_at(NOW, Request::new("GET", "/api/events/next/1").with("Grip-Last", &*last));
        is(&ended, 200, "");
        assert_eq!(header(&ended, "grip-hold"), None, "{last}");
    }
}

#[test]
fn a_stream_has_no_more_channels_than_the_proxy_allows() {
    let query = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("channel={number:0>64}")).collect();
        format!("?{}&format=json&since=2027-01-15T08:00:00Z", names.join("&"))
    };
    let history = ("config:HISTORY", "*");
    let key = format!("secret:{SECRET}");
    let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", &*key), history]));
    for (claims, most) in [(READ, 19), (ALICE, 18)] {
        let events = |count| events(&query(count), claims, NOW + 100);
        let proxied = |count| events(count).with("Grip-Sig", local_signature(NOW));
        assert!(service.hands_off(events(most)));
        let line = format!("Too many channels: use at most {most}\n");
        is(&service.respond(events(most + 1)), 400, &*line);
        is(&service.respond(proxied(most + 1)), 400, &*line);
        // One less leaves one for what the stream misses while it opens.
        for count in [most - 1, most] {
            let opened = service.respond(proxied(count));
            let channels = header(&opened, "grip-channel").expect("channels");
            assert_eq!(channels.split(", ").count(), 20, "{channels}");
            // Pushpin takes up to 8,192 bytes of headers.
            assert!(channels.len() < 4_000, "{}", channels.len());
            assert_eq!(service.later.take().is_some(), count < most);
            let held = respond_at(NOW, next(&opened));
            assert_eq!(header(&held, "grip-channel"), Some(channels));
        }
    }
}
