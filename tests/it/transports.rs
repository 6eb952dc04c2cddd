//! Channels and transports: what subscribes to what, and the form in which a message arrives there.

use fanout_edge::{
    app::web::{Outcome, Response},
    grip::publish::SendError,
};
use serde_json::{Value, json};

use crate::{
    service::{ACCEPTED, Request, Service, header, id, id_of, is, settings, subscribed},
    support::{LOCAL_GRIP_URL, NOW, local_signature},
};

const EVENTS: &str = "application/websocket-events";
const NAME: &str = "Invalid channel name: use 1 to 64 of A-Z a-z 0-9 - . _ ~\n";
const SUBSCRIBING: [&str; 3] = ["/api/websocket", "/api/events", "/api/poll"];

#[track_caller]
fn respond(request: Request) -> Response {
    Service::local().respond(request)
}

fn connect(path: &str, query: &str) -> Request {
    Request::new("GET", &format!("{path}?{query}")).with("Upgrade", "websocket")
}

fn signed(path: &str) -> Request {
    Request::new("GET", path).with("Grip-Sig", local_signature(NOW))
}

/// An event of a WebSocket with that query.
fn event(query: &str, body: &str) -> Request {
    Request::new("POST", &format!("/api/websocket?{query}"))
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", EVENTS)
        .with("Connection-Id", "c1")
        .with_body(body)
}

fn many(count: usize) -> String {
    (0..count).map(|number| format!("channel=room{number}")).collect::<Vec<_>>().join("&")
}

/// A close frame as the proxy gets it.
fn closed(code: u16, reason: &str) -> Vec<u8> {
    [format!("CLOSE {:x}\r\n", reason.len() + 2).as_bytes(), &code.to_be_bytes(), reason.as_bytes(), b"\r\n"].concat()
}

#[test]
fn a_client_is_handed_off() {
    for path in SUBSCRIBING {
        for query in ["", "channel=room", "channel=a&channel=b", "channel=A-z.9_~", &many(20)] {
            assert!(Service::local().hands_off(connect(path, query)), "{path}?{query}");
        }
    }
    for path in &SUBSCRIBING[1..] {
        let response = respond(connect(path, "").with("Grip-Sig", "forged"));
        assert_eq!(response.status, 403);
        assert!(response.body.starts_with(b"[not proxied]"));
    }
}

#[test]
fn an_invalid_channel_is_rejected_before_the_hand_off() {
    let long = format!("channel={}", "a".repeat(65));
    for path in SUBSCRIBING {
        for query in [
            "channel=",
            "channel",
            "channel=a%20b",
            "channel=a,b",
            "channel=a:b",
            "channel=%C3%A9",
            "channel=a&channel=%0A",
            &long,
        ] {
            is(&respond(connect(path, query)), 400, NAME);
        }
        assert!(Service::local().hands_off(connect(path, &format!("channel={}", "a".repeat(64)))));
        is(&respond(connect(path, &many(21))), 400, "Too many channels: use at most 20\n");
    }
    // What follows the first that is too many is not read.
    is(
        &respond(connect("/api/websocket", &format!("{}&channel=a:b", many(21)))),
        400,
        "Too many channels: use at most 20\n",
    );
    // The same channel again counts once.
    let query = format!("{}&{}", many(20), many(20));
    assert!(Service::local().hands_off(connect("/api/websocket", &query)));
    is(&respond(event("channel=a:b", "OPEN\r\n")), 400, NAME);
}

#[test]
fn a_websocket_is_subscribed_to_its_channels() {
    let response = respond(event("channel=b&channel=a&channel=b&x=y", "OPEN\r\n"));
    is(&response, 200, format!("{ACCEPTED}{}{}", subscribed("b"), subscribed("a")));
}

#[test]
fn a_client_may_turn_its_echo_off() {
    is(&respond(event("echo=off", "TEXT 2\r\nhi\r\nPING 1\r\np\r\nBINARY 1\r\nb\r\n")), 200, "PONG 1\r\np\r\n");
    is(&respond(event("echo=off", "CLOSE 2\r\n\x0c\x00\r\n")), 200, "CLOSE 2\r\n\x0c\x00\r\n");
    for query in ["echo=on", "mode=echo", "echo=off&echo=on", "mode=publish&mode=echo"] {
        is(&respond(event(query, "TEXT 2\r\nhi\r\n")), 200, "TEXT 4\r\nm:hi\r\n");
    }
    for (query, rule) in [
        ("echo=no", "Invalid echo: use echo=on or echo=off\n"),
        ("mode=x", "Invalid mode: use mode=echo or mode=publish\n"),
    ] {
        is(&respond(connect("/api/websocket", query)), 400, rule);
        is(&respond(event(query, "OPEN\r\n")), 400, rule);
    }
}

fn contents(items: &[Value]) -> Vec<(String, String)> {
    items
        .iter()
        .filter(|item| item["channel"].as_str().is_some_and(|name| !name.starts_with("json:")))
        .map(|item| (item["channel"].as_str().expect("a name").to_owned(), item["formats"]["ws-message"].to_string()))
        .collect()
}

#[test]
fn a_publishing_client_publishes_to_all_of_its_channels() {
    let mut service = Service::local();
    let batch = event("mode=publish&channel=a&channel=b", "TEXT 2\r\nhi\r\nBINARY 1\r\nb\r\n");
    is(&service.respond(batch), 200, "");
    assert_eq!(service.host.published.len(), 1);
    let pairs = |channel: &str, message: &str| (channel.to_owned(), message.to_owned());
    let (hi, b) = (r#"{"content":"hi"}"#, r#"{"content-bin":"Yg==","type":"binary"}"#);
    assert_eq!(contents(&service.take_items()), [pairs("a", hi), pairs("b", hi), pairs("a", b), pairs("b", b)]);
    // Nothing to publish: nothing is.
    is(&service.respond(event("mode=publish", "PING 1\r\np\r\n")), 200, "PONG 1\r\np\r\n");
    assert!(service.host.published.is_empty());
}

#[test]
fn a_message_that_is_not_published_closes_the_connection() {
    for (result, reason) in [
        (
            Err(SendError::Unreachable),
            "The message is probably not published: the GRIP proxy could not be reached, try again",
        ),
        (Err(SendError::TimedOut), "The message may or may not be published: the GRIP proxy did not respond in time"),
        (Ok(429), "not published: the GRIP proxy rejected it with status 429"),
        (Ok(403), "not published: the GRIP proxy rejected it with status 403"),
    ] {
        let mut service = Service::local();
        service.host.results.push_back(result);
        let response = service.respond(event("mode=publish", "TEXT 2\r\nhi\r\nPING\r\n"));
        is(&response, 200, [b"PONG\r\n", &*closed(1011, reason)].concat());
        assert!(response.log.is_some_and(|line| line.starts_with("The message ")));
        // A close is not closed again.
        service.host.results.push_back(result);
        is(&service.respond(event("mode=publish", "TEXT 2\r\nhi\r\nCLOSE\r\n")), 200, "CLOSE\r\n");
    }
    let large = format!("TEXT 2\r\nhi\r\nTEXT fa01\r\n{}\r\n", "x".repeat(64_001));
    let mut service = Service::local();
    let response = service.respond(event("mode=publish", &large));
    let reason = "Message too large: at most 64000 bytes like these can be published, send less";
    is(&response, 200, closed(1009, reason));
    assert!(service.host.published.is_empty());
}

#[test]
fn a_large_batch_is_packed_into_as_few_requests_as_it_fits_into() {
    let body = format!("TEXT 1388\r\n{}\r\n", "x".repeat(5000)).repeat(10);
    let mut service = Service::local();
    is(&service.respond(event("mode=publish", &body)), 200, "");
    // Each message takes some 31,200 bytes in its forms, so two fit into one request.
    assert_eq!(service.host.published.len(), 5);
    assert!(service.host.published.iter().all(|request| request.body.len() <= 65_536));
    assert_eq!(contents(&service.take_items()).len(), 10);
}

#[test]
fn a_batch_that_is_published_in_part_says_how_much_of_it_was() {
    let body = format!("TEXT 1388\r\n{}\r\n", "x".repeat(5000)).repeat(10);
    let mut service = Service::local();
    service.host.results.extend([Ok(200), Ok(200), Err(SendError::TimedOut)]);
    let response = service.respond(event("mode=publish", &body));
    let reason = "At least 4 of 10 messages are published: the GRIP proxy did not respond in time";
    is(&response, 200, closed(1011, reason));
    assert_eq!(response.log.as_deref(), Some(reason));
    assert_eq!(service.host.published.len(), 3, "what follows is not sent");
    let mut service = Service::local();
    service.host.results.push_back(Err(SendError::TimedOut));
    let reason = "The message may or may not be published: the GRIP proxy did not respond in time";
    is(&service.respond(event("mode=publish", &body)), 200, closed(1011, reason));
    assert_eq!(service.host.published.len(), 1);
}

#[test]
fn a_batch_that_publishes_too_much_closes_the_connection() {
    let closes = |query: &str, body: &str| {
        let mut service = Service::local();
        let reason = "Too much to publish at once: at most 200 messages in 6 publish requests of 65536 bytes; send less, then wait";
        is(&service.respond(event(query, body)), 200, closed(1009, reason));
        assert!(service.host.published.is_empty());
    };
    let one = "TEXT 1\r\nx\r\n";
    let mut service = Service::local();
    is(&service.respond(event("mode=publish", &one.repeat(200))), 200, "");
    assert!(service.host.published.len() <= 6);
    closes("mode=publish", &one.repeat(201));
    closes("mode=publish&channel=a&channel=b", &one.repeat(101));
    let large = format!("TEXT 2000\r\n{}\r\n", "x".repeat(8192));
    is(&Service::local().respond(event("mode=publish", &large.repeat(6))), 200, "");
    closes("mode=publish", &large.repeat(7));
    // As much as the documentation says.
    for (length, times) in [(100, 200), (1000, 48), (64_000, 1)] {
        let body = format!("TEXT {length:x}\r\n{}\r\n", "x".repeat(length)).repeat(times);
        is(&Service::local().respond(event("mode=publish", &body)), 200, "");
    }
    // A message that is too large alone names the limit for its content.
    let newlines = format!("TEXT {:x}\r\n{}\r\n", 199_000, "\n".repeat(199_000));
    let response = Service::local().respond(event("mode=publish", &newlines));
    let body = String::from_utf8_lossy(&response.body);
    let limit = body.split_once("at most ").and_then(|(_, rest)| rest.split_once(' ')).expect("a limit").0;
    let limit: usize = limit.parse().expect("a number");
    assert!((7_000..9_000).contains(&limit), "{body}");
    let newlines = format!("TEXT {limit:x}\r\n{}\r\n", "\n".repeat(limit));
    is(&Service::local().respond(event("mode=publish", &newlines)), 200, "");
}

#[test]
fn a_publishing_client_without_echo_is_left_out() {
    let mut service = Service::local();
    service.respond(event("mode=publish&echo=off", "TEXT 2\r\nhi\r\n"));
    assert_eq!(service.take_items()[0]["meta"], json!({ "sender": "c1" }));
    service.respond(event("mode=publish", "TEXT 2\r\nhi\r\n"));
    assert_eq!(service.take_items()[0]["meta"], Value::Null);
    let request = Request::new("POST", "/api/websocket")
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", EVENTS)
        .with("Connection-Id", "\u{1}".repeat(4000))
        .with_body("OPEN\r\n");
    let response = respond(request);
    assert!(String::from_utf8_lossy(&response.body).contains("the Connection-Id is too long"));
}

#[test]
fn a_client_cannot_publish_without_a_publishing_token() {
    let mut service = Service::new(settings(&[("config:FANOUT_SERVICE_ID", "SERVICE1")]));
    assert_eq!(service.respond(connect("/api/websocket", "mode=publish")).status, 503);
    assert!(service.hands_off(connect("/api/websocket", "")));
}

#[test]
fn streams_and_polls_are_held() {
    let uncached = |response: &Response| {
        assert_eq!(header(response, "cache-control"), Some("no-store, no-transform"));
        assert_eq!(header(response, "x-accel-buffering"), Some("no"));
    };
    let events = respond(signed("/api/events?channel=a&channel=b"));
    is(&events, 200, ": subscribed\n\n");
    assert_eq!(header(&events, "content-type"), Some("text/event-stream"));
    assert_eq!(header(&events, "grip-hold"), Some("stream"));
    assert_eq!(header(&events, "grip-channel"), Some("a, b"));
    assert_eq!(header(&events, "grip-keep-alive"), Some(r":\n\n; format=cstring; timeout=20"));
    uncached(&events);
    let poll = respond(signed("/api/poll?channel=a"));
    is(&poll, 204, "");
    assert_eq!((header(&poll, "grip-hold"), header(&poll, "grip-timeout")), (Some("response"), Some("25")));
    assert_eq!(header(&poll, "grip-channel"), Some("a"));
    uncached(&poll);
}

#[test]
fn a_broadcast_goes_to_one_channel_in_each_form() {
    let post =
        |query: &str| Request::new("POST", &format!("/api/broadcast?{query}")).with("Content-Type", "text/plain");
    let several = respond(post("channel=a&channel=b").with_body("x"));
    is(&several, 400, "Repeated parameter: use channel once, and send a request for each\n");
    is(&respond(post("channel=a%2Fb").with_body("x")), 400, NAME);
    let mut service = Service::local();
    for ((text, event), n) in [
        ("", "data: \n\n"),
        ("one\ntwo", "data: one\ndata: two\n\n"),
        ("one\r\ntwo\rthree\n", "data: one\ndata: two\ndata: three\ndata: \n\n"),
        ("event: x\n\nid: 7\nretry: 1", "data: event: x\ndata: \ndata: id: 7\ndata: retry: 1\n\n"),
        (" \u{2603}", "data:  \u{2603}\n\n"),
    ]
    .into_iter()
    .zip(1..)
    {
        service.respond(post("channel=room").with_body(text));
        let id = id_of(id(n), "room", text, "");
        let [raw, _] = &service.take_items()[..] else { panic!("not two items") };
        assert_eq!(raw["formats"]["http-stream"]["content"], format!("id: {id}\nevent: message\n{event}"));
        assert_eq!(raw["formats"]["http-response"]["body"], text);
        assert_eq!(raw["formats"]["ws-message"]["content"], text);
    }
    let binary =
        Request::new("POST", "/api/broadcast").with("Content-Type", "Application/Octet-Stream").with_body(b"\xff\x00");
    let response = service.respond(binary);
    is(&response, 200, "Ok\n");
    let id = header(&response, "message-id").expect("an id");
    let [raw, envelope] = &service.take_items()[..] else { panic!("not two items") };
    assert_eq!(raw["formats"]["ws-message"], json!({ "type": "binary", "content-bin": "/wA=" }));
    assert_eq!(raw["formats"]["http-stream"]["content"], format!("id: {id}\nevent: binary\ndata: /wA=\n\n"));
    assert_eq!(raw["formats"]["http-response"]["headers"][0], json!(["content-type", "application/octet-stream"]));
    let json = format!(r#"{{"type":"message","id":"{id}","channel":"test","base64":"/wA="}}"#);
    assert_eq!(envelope["formats"]["ws-message"], json!({ "content": json }));
}

#[test]
fn cross_origin_requests_are_allowed_unless_the_settings_say_otherwise() {
    const ALLOW: &str = "access-control-allow-origin";
    let get = |origin: &str| signed("/api/poll").with("Origin", origin);
    assert_eq!(header(&respond(get("https://a.example")), ALLOW), Some("*"));
    let broadcast = || Request::new("POST", "/api/broadcast");
    assert_eq!(header(&respond(broadcast().with("Content-Type", "text/plain")), ALLOW), Some("*"));
    assert_eq!(header(&respond(broadcast()), ALLOW), Some("*"), "errors, too");
    // Why a WebSocket was rejected; not in each response to the proxy.
    assert_eq!(header(&respond(Request::new("GET", "/api/websocket")), ALLOW), Some("*"));
    assert_eq!(header(&respond(signed("/api/websocket")), ALLOW), Some("*"));
    assert_eq!(header(&respond(Request::new("POST", "/api/websocket")), ALLOW), None);

    let with =
        |origins: &str| Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:ALLOWED_ORIGINS", origins)]));
    for (origin, allowed) in [
        ("https://a.example", Some("https://a.example")),
        ("http://localhost:3000", Some("http://localhost:3000")),
        ("https://b.example", None),
        ("null", None),
    ] {
        let response = with("https://a.example http://localhost:3000").respond(get(origin));
        assert_eq!((header(&response, ALLOW), header(&response, "vary")), (allowed, Some("Origin")), "{origin}");
    }
    assert_eq!(header(&with("none").respond(get("https://a.example")), ALLOW), None);
    // Listed in another spelling than browsers send it.
    for (listed, origin) in [
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://a.example:8443", "https://a.example:8443"),
        (" https://b.example  https://a.example\n", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("HTTPS://A.example", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80/", "http://a.example"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("tauri://localhost/", "tauri://localhost"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("ionic://localhost:8100", "ionic://localhost:8100"),
    ] {
        assert_eq!(header(&with(listed).respond(get(origin)), ALLOW), Some(origin), "{listed}");
        assert_eq!(header(&with(listed).respond(get("https://c.example")), ALLOW), None, "{listed}");
    }
    assert_eq!(header(&with("None").respond(get("https://a.example")), ALLOW), None);
    for (origins, named) in [
        ("", 0),
        (" ", 0),
        ("a.example", 1),
        ("null", 1),
        ("https://a.example null", 2),
        ("* https://a.example", 1),
        ("data:text/plain,x", 1),
        ("https://", 1),
        ("https://a.example/path", 1),
        ("https://a.example?x", 1),
        ("https://b.example https://a.example#x", 2),
        ("https://user@a.example", 1),
        ("https://*.example", 1),
        ("https://b\u{fc}cher.example", 1),
        ("https://a.example, https://b.example", 1),
        ("https://a.example;https://b.example", 1),
        ("wss://a.example", 1),
        ("file:///index.html", 1),
        ("file://host", 1),
        ("capacitor://", 1),
        ("https://a.example http://127.0.0.1:5561/?key=s3cret", 2),
    ] {
        let response = with(origins).respond(get("https://a.example"));
        let named = if named > 0 { format!(" (number {named} is not one)") } else { String::new() };
        let problem = format!(
            "The entry ALLOWED_ORIGINS of the config store `fanout_config` must be *, none, or origins separated by spaces, such as https://example.com{named}\n"
        );
        assert_eq!(String::from_utf8_lossy(&response.body), problem, "{origins}");
        assert_eq!(response.status, 503);
    }
}

#[test]
fn a_query_that_the_proxy_cannot_take_is_encoded() {
    for (query, encoded) in [
        ("channel=a&x=!$'()*,;:@/?[]", None),
        ("channel=a&x=%7B%7d%zz", Some("channel=a&x=%7B%7d%25zz")),
        ("x={}|^`\\\"<>", Some("x=%7B%7D%7C%5E%60%5C%22%3C%3E")),
        ("x=%", Some("x=%25")),
        ("x=%4", Some("x=%254")),
        ("x=%%41", Some("x=%25%41")),
        ("x=\u{fc}#", Some("x=%C3%BC%23")),
    ] {
        for path in SUBSCRIBING {
            match Service::local().decide(connect(path, query)) {
                Outcome::HandOff { query, .. } => assert_eq!(query.as_deref(), encoded),
                Outcome::Response(response) => panic!("{path}?{query}: {response:?}"),
            }
        }
    }
}

#[test]
fn a_hand_off_names_the_address_of_the_client() {
    for path in SUBSCRIBING {
        for (address, expected) in [
            (Some("192.0.2.7"), Some("192.0.2.7")),
            (Some("2001:db8:1:2:3::4"), Some("2001:db8:1:2:3::4")),
            (None, None),
        ] {
            match Service::local().decide(connect(path, "").from(address).with("Fanout-Client", "192.0.2.8")) {
                Outcome::HandOff { client, .. } => {
                    assert_eq!(client.map(|client| client.to_string()).as_deref(), expected)
                }
                Outcome::Response(response) => panic!("{path}: {response:?}"),
            }
        }
    }
}

#[test]
fn a_preflight_is_answered() {
    for (path, methods) in [("/api/broadcast", "POST"), ("/api/events", "GET"), ("/api/poll", "GET")] {
        let preflight = Request::new("OPTIONS", path)
            .with("Origin", "https://a.example")
            .with("Access-Control-Request-Method", methods)
            .with("Access-Control-Request-Headers", "content-type");
        let response = respond(preflight);
        is(&response, 204, "");
        assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
        let methods = format!("{methods}, OPTIONS");
        assert_eq!(header(&response, "access-control-allow-methods"), Some(&*methods));
        assert_eq!(header(&response, "allow"), Some(&*methods));
        assert_eq!(
            header(&response, "access-control-allow-headers"),
            Some("Authorization, Cache-Control, Content-Type, Last-Event-ID, *")
        );
        assert_eq!(header(&response, "access-control-allow-credentials"), None);
        assert_eq!(header(&response, "access-control-max-age"), Some("86400"));
    }
}

#[test]
fn no_browser_takes_a_published_text_for_something_else() {
    let listed =
        || Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:ALLOWED_ORIGINS", "https://a.example")]));
    // The proxy adds the headers of a held response to what it sends in its place: see `pushpin.rs`.
    for path in ["/api/poll", "/api/events", "/api/poll?format=json", "/api/events?format=json"] {
        for (mut service, policy) in [(Service::local(), None), (listed(), Some("same-origin"))] {
            let response = service.respond(signed(path));
            assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
            assert_eq!(header(&response, "cross-origin-resource-policy"), policy);
        }
    }
    for request in [
        Request::new("GET", "/"),
        Request::new("GET", "/api/health"),
        Request::new("GET", "/nothing"),
        Request::new("PUT", "/api/poll"),
        Request::new("POST", "/api/broadcast").with("Content-Type", "text/plain").with_body("x"),
    ] {
        assert_eq!(header(&respond(request), "x-content-type-options"), Some("nosniff"));
    }
}
