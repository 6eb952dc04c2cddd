//! Channels, transports, modes and origins: what each path makes of its query and its headers.

mod support;

use fanout_edge::{
    app::{self, Action, Reply, Settings},
    grip::publish::{PublishError, PublishRequest},
};
use support::{NOW, Request, local_settings, local_signature, settings};

const EVENTS: &str = "application/websocket-events";
const NAME: &str = "A channel name has 1 to 64 of the characters A-Z a-z 0-9 - . _ ~\n";
const SUBSCRIBING: [&str; 4] = ["/api/websocket", "/api/events", "/api/stream", "/api/poll"];

fn decide(mut request: Request) -> Action {
    app::decide(&mut request, &local_settings(), NOW)
}

#[track_caller]
fn reply(request: Request) -> Reply {
    reply_with(request, &local_settings())
}

#[track_caller]
fn reply_with(mut request: Request, settings: &Settings) -> Reply {
    match app::decide(&mut request, settings, NOW) {
        Action::Reply(reply) => reply,
        Action::HandOff { .. } => panic!("a hand-off"),
        Action::Publish { .. } => panic!("a publish"),
    }
}

fn header<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply.headers.iter().filter(|(header, _)| header == name).map(|(_, value)| &**value).collect()
}

#[track_caller]
fn is(reply: &Reply, status: u16, body: &str) {
    assert_eq!((reply.status, &*String::from_utf8_lossy(&reply.body)), (status, body));
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

#[test]
fn a_client_is_handed_off_and_comes_back_signed() {
    for path in SUBSCRIBING {
        for query in ["", "channel=room", "channel=a&channel=b", "channel=A-z.9_~", &many(20)] {
            assert!(matches!(decide(connect(path, query)), Action::HandOff { backend: "self" }), "{path}?{query}");
        }
    }
    for path in &SUBSCRIBING[1..] {
        is(&reply(connect(path, "").with("Grip-Sig", "forged")), 403, "[not proxied]\n");
    }
}

#[test]
fn a_channel_that_cannot_be_is_refused_before_a_hand_off() {
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
            is(&reply(connect(path, query)), 400, NAME);
        }
        is(&reply(connect(path, &many(21))), 400, "A subscriber has at most 20 channels\n");
    }
    // The same channel again counts once.
    assert!(matches!(decide(connect("/api/websocket", &format!("{}&{}", many(20), many(20)))), Action::HandOff { .. }));
    is(&reply(event("channel=a:b", "OPEN\r\n")), 400, NAME);
}

#[test]
fn a_websocket_is_subscribed_to_its_channels() {
    let answer = reply(event("channel=b&channel=a&channel=b&x=y", "OPEN\r\n"));
    let subscribe = |channel: &str| format!("TEXT 24\r\nc:{{\"type\":\"subscribe\",\"channel\":\"{channel}\"}}\r\n");
    is(&answer, 200, &format!("OPEN\r\n{}{}", subscribe("b"), subscribe("a")));
}

#[test]
fn a_client_may_want_no_echo() {
    is(&reply(event("echo=off", "TEXT 2\r\nhi\r\nPING 1\r\np\r\nBINARY 1\r\nb\r\n")), 200, "PONG 1\r\np\r\n");
    is(&reply(event("echo=off", "CLOSE 2\r\n\x0c\x00\r\n")), 200, "CLOSE 2\r\n\x0c\x00\r\n");
    is(&reply(event("echo=on", "TEXT 2\r\nhi\r\n")), 200, "TEXT 4\r\nm:hi\r\n");
    for (query, rule) in
        [("echo=no", "echo is on or off: ?echo=off\n"), ("mode=x", "mode is echo or publish: ?mode=publish\n")]
    {
        is(&reply(connect("/api/websocket", query)), 400, rule);
        is(&reply(event(query, "OPEN\r\n")), 400, rule);
    }
}

type Published = (Vec<PublishRequest>, Box<dyn FnOnce(Result<(), PublishError>) -> Reply>);

#[track_caller]
fn published(request: Request) -> Published {
    match decide(request) {
        Action::Publish { backend: "publisher", requests, answer } => (requests, answer),
        _ => panic!("nothing is published"),
    }
}

fn contents(requests: &[PublishRequest]) -> Vec<(String, String)> {
    let items = |request: &PublishRequest| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        body["items"].as_array().expect("items").clone()
    };
    requests
        .iter()
        .flat_map(items)
        .filter(|item| item["formats"]["ws-message"].is_object())
        .map(|item| (item["channel"].as_str().expect("a name").to_owned(), item["formats"]["ws-message"].to_string()))
        .collect()
}

#[test]
fn what_a_client_sends_is_published_where_it_asks_so() {
    let (requests, answer) = published(event("mode=publish&channel=a&channel=b", "TEXT 2\r\nhi\r\nBINARY 1\r\nb\r\n"));
    assert_eq!(requests.len(), 1);
    let pairs = |channel: &str, message: &str| (channel.to_owned(), message.to_owned());
    let (hi, b) = (r#"{"content":"hi"}"#, r#"{"content-bin":"Yg==","type":"binary"}"#);
    assert_eq!(contents(&requests), [pairs("a", hi), pairs("b", hi), pairs("a", b), pairs("b", b)]);
    is(&answer(Ok(())), 200, "");
    // Nothing to publish: nothing is.
    is(&reply(event("mode=publish", "PING 1\r\np\r\n")), 200, "PONG 1\r\np\r\n");
}

#[test]
fn a_message_that_is_not_published_closes_the_connection() {
    for error in [PublishError::Unreachable, PublishError::TimedOut, PublishError::Refused { status: 429 }] {
        let (_, answer) = published(event("mode=publish", "TEXT 2\r\nhi\r\nPING\r\n"));
        let reply = answer(Err(error));
        assert_eq!(reply.body, b"PONG\r\nCLOSE 24\r\n\x03\xf3the message could not be published\r\n");
        assert_eq!(reply.log, Some(error.to_string()));
        // A close is not closed again.
        let (_, answer) = published(event("mode=publish", "TEXT 2\r\nhi\r\nCLOSE\r\n"));
        assert_eq!(answer(Err(error)).body, b"CLOSE\r\n");
    }
    let large = format!("TEXT 2\r\nhi\r\nTEXT 10000\r\n{}\r\n", "x".repeat(65_536));
    let answer = reply(event("mode=publish", &large));
    assert_eq!(answer.body, b"CLOSE 2a\r\n\x03\xf1the message is too large to be published\r\n");
}

#[test]
fn a_batch_that_is_too_large_for_one_request_is_published_in_several() {
    let body = format!("TEXT 1388\r\n{}\r\n", "x".repeat(5000)).repeat(10);
    let (requests, _) = published(event("mode=publish", &body));
    assert!((2..=8).contains(&requests.len()), "{}", requests.len());
    assert!(requests.iter().all(|request| request.body.len() <= 65_536));
    assert_eq!(contents(&requests).len(), 10);
}

#[test]
fn a_batch_that_is_too_much_to_be_published_closes_the_connection() {
    let closes = |query: &str, body: &str, reason: &str| {
        let answer = reply(event(query, body)).body;
        let expected = format!("CLOSE {:x}\r\n", 2 + reason.len()).into_bytes();
        assert_eq!(answer, [&*expected, b"\x03\xf1", reason.as_bytes(), b"\r\n"].concat());
    };
    let one = "TEXT 1\r\nx\r\n";
    assert!(published(event("mode=publish", &one.repeat(1000))).0.len() <= 32);
    closes("mode=publish", &one.repeat(1001), "too many messages at once to be published");
    closes("mode=publish&channel=a&channel=b", &one.repeat(501), "too many messages at once to be published");
    let large = format!("TEXT 3000\r\n{}\r\n", "x".repeat(12_288));
    closes("mode=publish", &large.repeat(33), "too much at once to be published");
}

#[test]
fn the_sender_is_left_out_where_it_asks_so() {
    let open = reply(event("mode=publish&echo=off", "OPEN\r\n"));
    let text = String::from_utf8(open.body).expect("text");
    assert!(text.contains(r#"c:{"type":"set-meta","name":"user","value":"c1"}"#), "{text}");
    assert!(text.contains(r#""filters":["skip-self"]"#), "{text}");
    let (requests, _) = published(event("mode=publish&echo=off", "TEXT 2\r\nhi\r\n"));
    assert!(String::from_utf8_lossy(&requests[0].body).contains(r#""meta":{"sender":"c1"}"#));
    let long = event("mode=publish&echo=off", "OPEN\r\n");
    assert!(!String::from_utf8_lossy(&reply(long).body).contains("CLOSE"));
    let id = "\u{1}".repeat(4000);
    let request = Request::new("POST", "/api/websocket?mode=publish&echo=off")
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", EVENTS)
        .with("Connection-Id", id)
        .with_body("OPEN\r\n");
    assert!(String::from_utf8_lossy(&reply(request).body).contains("the Connection-Id is too long"));
}

#[test]
fn without_a_token_nothing_is_published() {
    let no_token = settings(&[("FANOUT_SERVICE_ID", "SERVICE1")]);
    let refused = reply_with(connect("/api/websocket", "mode=publish"), &no_token);
    assert_eq!(refused.status, 503);
    let mut plain = connect("/api/websocket", "");
    assert!(matches!(app::decide(&mut plain, &no_token, NOW), Action::HandOff { .. }));
}

#[test]
fn streams_and_polls_are_held() {
    let uncached = |reply: &Reply| {
        assert_eq!(header(reply, "cache-control"), ["no-store, no-transform"]);
        assert_eq!(header(reply, "x-accel-buffering"), ["no"]);
    };
    let events = reply(signed("/api/events?channel=a&channel=b"));
    is(&events, 200, ": subscribed\n\n");
    assert_eq!(header(&events, "content-type"), ["text/event-stream"]);
    assert_eq!(header(&events, "grip-hold"), ["stream"]);
    assert_eq!(header(&events, "grip-channel"), ["events:a, events:b"]);
    assert_eq!(header(&events, "grip-keep-alive"), [r":\n\n; format=cstring; timeout=20"]);
    uncached(&events);
    let lines = reply(signed("/api/stream"));
    is(&lines, 200, "");
    assert_eq!(header(&lines, "grip-channel"), ["lines:test"]);
    uncached(&lines);
    let poll = reply(signed("/api/poll?channel=a"));
    is(&poll, 204, "");
    assert_eq!((header(&poll, "grip-hold"), header(&poll, "grip-timeout")), (vec!["response"], vec!["25"]));
    uncached(&poll);
}

#[test]
fn a_broadcast_goes_to_one_channel_in_each_form() {
    let post =
        |query: &str| Request::new("POST", &format!("/api/broadcast?{query}")).with("Content-Type", "text/plain");
    is(&reply(post("channel=a&channel=b").with_body("x")), 400, "A broadcast goes to one channel: ?channel=NAME\n");
    is(&reply(post("channel=a%2Fb").with_body("x")), 400, NAME);
    for (text, event, line) in [
        ("", "event: message\ndata: \n\n", "\n"),
        ("one\ntwo", "event: message\ndata: one\ndata: two\n\n", "one\ntwo\n"),
        (
            "one\r\ntwo\rthree\n",
            "event: message\ndata: one\ndata: two\ndata: three\ndata: \n\n",
            "one\r\ntwo\rthree\n\n",
        ),
        (
            "event: x\n\nid: 7\nretry: 1",
            "event: message\ndata: event: x\ndata: \ndata: id: 7\ndata: retry: 1\n\n",
            "event: x\n\nid: 7\nretry: 1\n",
        ),
        (" \u{2603}", "event: message\ndata:  \u{2603}\n\n", " \u{2603}\n"),
    ] {
        let (requests, _) = published(post("channel=room").with_body(text));
        let body: serde_json::Value = serde_json::from_slice(&requests[0].body).expect("JSON");
        let content =
            |place: usize| body["items"][place]["formats"]["http-stream"]["content"].as_str().expect("text").to_owned();
        assert_eq!((content(1), content(2)), (event.to_owned(), line.to_owned()));
        assert_eq!(body["items"][0]["formats"]["http-response"]["body"], text);
        assert_eq!(body["items"][0]["formats"]["ws-message"]["content"], text);
    }
    let binary =
        Request::new("POST", "/api/broadcast").with("Content-Type", "Application/Octet-Stream").with_body(b"\xff\x00");
    let (requests, _) = published(binary);
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).expect("JSON");
    assert_eq!(
        body["items"][0]["formats"]["ws-message"],
        serde_json::json!({ "type": "binary", "content-bin": "/wA=" })
    );
    assert_eq!(body["items"][1]["formats"]["http-stream"]["content"], "event: binary\ndata: /wA=\n\n");
    assert_eq!(body["items"][2]["formats"]["http-stream"]["content"], "/wA=\n");
}

#[test]
fn pages_of_any_origin_may_use_the_http_endpoints_unless_the_settings_say_otherwise() {
    const ALLOW: &str = "access-control-allow-origin";
    let get = |origin: &str| signed("/api/poll").with("Origin", origin);
    assert_eq!(header(&reply(get("https://a.example")), ALLOW), ["*"]);
    let (_, answer) = published(Request::new("POST", "/api/broadcast").with("Content-Type", "text/plain"));
    assert_eq!(header(&answer(Ok(())), ALLOW), ["*"]);
    assert_eq!(header(&reply(Request::new("POST", "/api/broadcast")), ALLOW), ["*"], "errors, too");
    assert_eq!(header(&reply(Request::new("GET", "/api/websocket")), ALLOW), [""; 0]);

    let with = |origins: &str| settings(&[("GRIP_URL", support::LOCAL_GRIP_URL), ("config:ALLOWED_ORIGINS", origins)]);
    let listed = with("https://a.example http://localhost:3000");
    for (origin, allowed) in [
        ("https://a.example", &["https://a.example"][..]),
        ("http://localhost:3000", &["http://localhost:3000"]),
        ("https://b.example", &[]),
        ("null", &[]),
    ] {
        let reply = reply_with(get(origin), &listed);
        assert_eq!((header(&reply, ALLOW), header(&reply, "vary")), (allowed.to_vec(), vec!["Origin"]), "{origin}");
    }
    assert_eq!(header(&reply_with(get("https://a.example"), &with("none")), ALLOW), [""; 0]);
    for origins in [
        "",
        " ",
        "a.example",
        "https://",
        "https://a.example/",
        "https://*.example",
        "https://a.example, https://b.example",
        "* https://a.example",
    ] {
        let reply = reply_with(get("https://a.example"), &with(origins));
        let problem = "The entry ALLOWED_ORIGINS of the config store `fanout_config` is neither *, none, nor origins separated by blanks, such as https://example.com, without a slash at the end\n";
        is(&reply, 503, problem);
    }
}

#[test]
fn a_preflight_is_answered() {
    for (path, methods) in
        [("/api/broadcast", "POST"), ("/api/events", "GET"), ("/api/stream", "GET"), ("/api/poll", "GET")]
    {
        let preflight = Request::new("OPTIONS", path)
            .with("Origin", "https://a.example")
            .with("Access-Control-Request-Method", methods)
            .with("Access-Control-Request-Headers", "content-type");
        let reply = reply(preflight);
        assert_eq!((reply.status, reply.body.len()), (204, 0));
        assert_eq!(header(&reply, "access-control-allow-origin"), ["*"]);
        let methods = format!("{methods}, OPTIONS");
        assert_eq!(header(&reply, "access-control-allow-methods"), [&*methods]);
        assert_eq!(header(&reply, "allow"), [methods]);
        assert_eq!(header(&reply, "access-control-allow-headers"), ["Authorization, Content-Type"]);
        assert_eq!(header(&reply, "access-control-allow-credentials"), [""; 0]);
    }
}
