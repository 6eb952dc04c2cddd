//! Event streams of clients with an access token: the proxy asks for them again, and they end with the token.

use std::collections::BTreeMap;

use fanout_edge::app::http::Response;

use crate::{
    service::{Request, Service, header, is, settings},
    support::{LOCAL_GRIP_URL, NOW, access_token, local_signature},
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

#[test]
fn a_stream_goes_on_as_long_as_its_token_is_valid() {
    for (format, claims, channels) in [
        ("", READ, ", room, b"),
        ("&format=json", ALICE, ", json:room, json:b, json:user:2bd806c97f0e00af1a1fc3328fa763a9"),
    ] {
        let opened = respond_at(NOW, events(&format!("?channel=room&channel=b{format}"), claims, NOW + 100));
        assert_eq!((opened.status, timeout(&opened)), (200, 110), "clocks may differ by 10 s");
        assert!(header(&opened, "grip-channel").expect("channels").ends_with(channels));
        // The same stream, with less time left. It gets nothing.
        let held = respond_at(NOW + 60, next(&opened));
        assert_eq!((held.status, &*held.body, timeout(&held)), (200, &b""[..], 50));
        for name in ["grip-hold", "grip-channel", "grip-keep-alive"] {
            assert_eq!(header(&held, name), header(&opened, name), "{name}");
        }
        assert_eq!(timeout(&respond_at(NOW + 109, next(&held))), 1);
        // Without a hold, the proxy ends it.
        let ended = respond_at(NOW + 110, next(&held));
        let close = r#"{"type":"close","code":1008,"reason":"access token expired: reconnect with a new one"}"#;
        let body = if format.is_empty() { String::new() } else { format!("event: message\ndata: {close}\n\n") };
        is(&ended, 200, body);
        assert_eq!(header(&ended, "content-type"), Some("text/event-stream"));
        assert!(ended.headers.keys().all(|name| !name.as_str().starts_with("grip-")), "{:?}", ended.headers);
    }
}

#[test]
fn an_open_service_has_no_next_links() {
    let request = Request::new("GET", "/api/events").with("Grip-Sig", local_signature(NOW));
    let held = Service::local().respond(request);
    assert_eq!((header(&held, "grip-channel"), header(&held, "grip-link")), (Some("test"), None));
}

#[test]
fn a_stream_is_asked_for_each_hour_as_the_keys_may_have_changed() {
    let opened = respond_at(NOW, events("?format=json", READ, NOW + 100_000));
    assert_eq!(timeout(&opened), 3600);
    let held = respond_at(NOW + 3600, next(&opened));
    assert_eq!(timeout(&held), 3600);
    let ended = service_with("another secret for access tokens, after an hour")
        .respond(next(&held).with("Grip-Sig", local_signature(NOW)));
    let close = r#"{"type":"close","code":1008,"reason":"access token is not valid: reconnect with a new one"}"#;
    is(&ended, 200, format!("event: message\ndata: {close}\n\n"));
    // The proxy asks again, and ends the stream if that does not help.
    let unusable = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", "")]));
    assert_eq!({ unusable }.respond(next(&held).with("Grip-Sig", local_signature(NOW))).status, 503);
}

#[test]
fn links_are_few_and_change_every_ten_minutes() {
    let mut links: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..1_000 {
        let claims = format!(r#"{{"sub":"user {number}","x-fastly-read":["*"]}}"#);
        // 1,800,000,000 is a multiple of ten minutes.
        let opened = respond_at(NOW, events("?channel=room", &claims, NOW + 590 + number % 600));
        let link = header(&opened, "grip-link").expect("a next link");
        *links.entry(link.split_once('>').expect("a URI").0.to_owned()).or_default() += 1;
    }
    assert_eq!(links.len(), 16, "{links:?}");
    assert!(links.values().all(|count| *count < 100), "{links:?}");
    assert!(links.keys().all(|link| link.starts_with("</api/events/next/3000001/")), "{links:?}");
    let later = respond_at(NOW, events("?channel=room", READ, NOW + 590 + 600));
    assert!(header(&later, "grip-link").is_some_and(|link| link.starts_with("</api/events/next/3000002/")));
}

#[test]
fn only_the_proxy_asks_for_a_stream() {
    let opened = respond_at(NOW, events("?channel=room", READ, NOW + 100));
    let mut service = service_with(SECRET);
    for request in [
        next(&opened),
        next(&opened).with("Authorization", bearer(READ, NOW + 100)),
        next(&opened).with("Grip-Sig", "x"),
        next(&opened).with("Grip-Sig", local_signature(NOW - 4_000)),
    ] {
        let response = service.respond(request);
        assert!(response.status == 403 && response.body.starts_with(b"[not proxied] "), "{response:?}");
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
        format!("?{}&format=json", names.join("&"))
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
