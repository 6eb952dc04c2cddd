//! Messages to one user, and the end of a user's connections: who is allowed to, and that nobody else gets anything.

use fanout_edge::app::platform::Counter;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::{
    service::{Request, Service, header, is, settings},
    support::{LOCAL_GRIP_URL, NOW, access_token, local_signature},
};

const SECRET: &str = "a secret for access tokens of the tests";

/// Ids that could be mistaken for something else.
const USERS: [&str; 12] = [
    "alice",
    "Alice",
    "alice ",
    "a,b",
    "a:b",
    "user:alice",
    "json:test",
    "*",
    "\"quoted\"",
    "2bd806c97f0e00af1a1fc3328fa763a9",
    "\u{1f600}\u{202e}",
    "line\nbreak",
];

fn service(entries: &[(&str, &str)]) -> Service {
    let key = format!("secret:{SECRET}");
    let mut service =
        Service::new(settings(&[&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", &*key)], entries].concat()));
    service.host.fastly_key = Some("valid");
    service.host.is_local = true;
    service
}

fn bearer(claims: &Value) -> String {
    format!("Bearer {}", access_token(SECRET, NOW + 600, &claims.to_string()))
}

fn encoded(user: &str) -> String {
    utf8_percent_encode(user, NON_ALPHANUMERIC).to_string()
}

fn to_user(user: &str) -> Request {
    Request::new("POST", &format!("/api/broadcast?user={}", encoded(user)))
        .with("Content-Type", "text/plain")
        .with_body("hi")
}

/// The channels at the proxy of what was published.
fn published(service: &mut Service) -> Vec<String> {
    service.take_items().iter().map(|item| item["channel"].as_str().expect("a channel").to_owned()).collect()
}

/// The channels of a hold, but for the one that says what a stream is.
fn held(service: &mut Service, path: &str, user: &str) -> Vec<String> {
    let request = Request::new("GET", path).with("Grip-Sig", local_signature(NOW));
    let response =
        service.respond(request.with("Authorization", bearer(&json!({ "sub": user, "x-fastly-read": ["*"] }))));
    assert_eq!(response.status / 100, 2, "{}", String::from_utf8_lossy(&response.body));
    let channels = header(&response, "grip-channel").expect("channels");
    let names = channels.split(", ").map(|channel| channel.split(';').next().expect("a name").to_owned());
    names.filter(|name| name != "stream:next").collect()
}

fn open(path: &str) -> Request {
    Request::new("POST", path)
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", "application/websocket-events")
        .with("Connection-Id", "c1")
        .with_body("OPEN\r\n")
}

/// The channels that an opening WebSocket subscribes to.
fn subscribed(service: &mut Service, path: &str, user: &str) -> Vec<String> {
    let token = bearer(&json!({ "sub": user, "x-fastly-read": ["*"], "x-fastly-write": ["*"] }));
    let response = service.respond(open(path).with("Authorization", token));
    let body = String::from_utf8_lossy(&response.body).into_owned();
    let controls = body.split("\r\n").filter_map(|line| line.strip_prefix("c:"));
    let controls: Vec<Value> = controls.map(|json| serde_json::from_str(json).expect("a control")).collect();
    let subscriptions = controls.iter().filter(|control| control["type"] == "subscribe");
    subscriptions.map(|control| control["channel"].as_str().expect("a channel").to_owned()).collect()
}

#[test]
fn each_user_has_a_channel_that_no_client_can_name_and_that_does_not_show_the_id() {
    let mut service = service(&[]);
    let mut seen = Vec::new();
    for user in USERS {
        is(&service.respond(to_user(user).with("Fastly-Key", "valid")), 200, "Ok\n");
        let [raw, json] = &published(&mut service)[..] else { panic!("not two items") };
        assert!(raw.starts_with("user:") && raw.len() == 37 && !raw.contains(user), "{raw}");
        assert_eq!(*json, format!("json:{raw}"));
        assert!(!seen.contains(raw), "{user}");
        // The same on each transport, for that user's token only.
        assert_eq!(held(&mut service, "/api/events", user), ["test", raw]);
        assert_eq!(held(&mut service, "/api/events?format=json", user), ["json:test", json]);
        assert_eq!(held(&mut service, "/api/poll", user), ["test", raw]);
        assert!(subscribed(&mut service, "/api/websocket", user).contains(raw));
        assert!(subscribed(&mut service, "/api/websocket?format=json", user).contains(json));
        seen.push(raw.clone());
        let name = encoded(raw);
        let token = bearer(&json!({ "x-fastly-read": ["*"] }));
        let path = format!("/api/events?channel={name}");
        let response = service.respond(Request::new("GET", &path).with("Authorization", token));
        is(&response, 400, "Invalid channel name: use 1 to 64 of A-Z a-z 0-9 - . _ ~\n");
    }
    // Without a user there is none.
    let token = bearer(&json!({ "x-fastly-read": ["*"] }));
    let request = Request::new("GET", "/api/poll").with("Grip-Sig", local_signature(NOW)).with("Authorization", token);
    assert_eq!(header(&service.respond(request), "grip-channel"), Some("test"));
}

#[test]
fn sending_to_a_user_takes_a_right_of_its_own() {
    let mut service = service(&[]);
    let long = "u".repeat(129);
    let forbidden = "The access token does not allow publishing to this user (claim x-fastly-write)\n";
    for (user, write, may) in [
        ("alice", json!(["user:alice"]), true),
        ("alice", json!(["user:*"]), true),
        ("alice", json!(["user:al*"]), true),
        ("a:b", json!(["user:a:b"]), true),
        // Tokens of before gain nothing.
        ("alice", json!(["*"]), false),
        ("alice", json!(["u*"]), false),
        ("alice", json!(["user*"]), false),
        ("alice", json!(["alice"]), false),
        ("alice", json!(["user:Alice"]), false),
        ("alice", json!(["user:alic"]), false),
        ("alice", json!([]), false),
    ] {
        let token = bearer(&json!({ "sub": "bob", "x-fastly-write": write, "x-fastly-read": ["user:*"] }));
        let response = service.respond(to_user(user).with("Authorization", token));
        if may {
            is(&response, 200, "Ok\n");
            let envelope = service.take_items()[1]["formats"]["ws-message"]["content"].to_string();
            assert!(envelope.contains(r#"\"to\":\"user\",\"data\":\"hi\",\"from\":\"bob\""#), "{envelope}");
            assert!(!envelope.contains("channel"), "{envelope}");
        } else {
            is(&response, 403, forbidden);
        }
    }
    assert_eq!(service.respond(to_user("alice")).status, 401);
    // The right to write to users is none to write to channels.
    let token = bearer(&json!({ "x-fastly-write": ["user:*"] }));
    let to_channel = Request::new("POST", "/api/broadcast").with("Content-Type", "text/plain").with_body("hi");
    assert_eq!(service.respond(to_channel.with("Authorization", token)).status, 403);
    const UNESCAPED: &str = "Invalid user: write ; as %3B, and in the id of a user + as %2B\n";
    for (path, status, text) in [
        (format!("/api/broadcast?user={long}"), 400, "Invalid user: use 1 to 128 characters, ?user=ID\n"),
        ("/api/broadcast?user=".to_owned(), 400, "Invalid user: use 1 to 128 characters, ?user=ID\n"),
        (
            "/api/broadcast?user=alice&channel=room".to_owned(),
            400,
            "Channel and user: send to a channel, ?channel=NAME, or to one user, ?user=ID\n",
        ),
        // Nobody would get what is meant for one.
        ("/api/broadcast?user=ann+news".to_owned(), 400, UNESCAPED),
        ("/api/broadcast?user=ann;code=4001".to_owned(), 400, UNESCAPED),
        ("/api/broadcast?%75ser=ann+news".to_owned(), 400, UNESCAPED),
        ("/api/disconnect?user=ann+news".to_owned(), 400, UNESCAPED),
        ("/api/disconnect?code=4001&user=ann;x".to_owned(), 400, UNESCAPED),
        (
            "/api/broadcast?user=alice&user=bob".to_owned(),
            400,
            "Repeated parameter: use user once, and send a request for each\n",
        ),
        (
            "/api/disconnect?user=alice&code=4001&code=4002".to_owned(),
            400,
            "Repeated parameter: use code once, and send a request for each\n",
        ),
        (
            "/api/disconnect?user=alice&reason=x;code=4005".to_owned(),
            400,
            "Invalid reason: write ; as %3B, and in the id of a user + as %2B\n",
        ),
        // It would be closed with another code, or not at all.
        (
            "/api/disconnect?user=alice&Code=4005".to_owned(),
            400,
            "Unknown parameter `Code`: use only user, code, reason, token\n",
        ),
        (
            "/api/disconnect?user=alice&except=c1".to_owned(),
            400,
            "Unknown parameter `except`: use only user, code, reason, token\n",
        ),
        (
            "/api/disconnect?channel=room".to_owned(),
            400,
            "Unknown parameter `channel`: use only user, code, reason, token\n",
        ),
        ("/api/disconnect".to_owned(), 400, "Missing user: add ?user= and the id of the user\n"),
    ] {
        let request = Request::new("POST", &path).with("Content-Type", "text/plain").with_body("hi");
        is(&service.respond(request.with("Fastly-Key", "valid")), status, text);
    }
    assert!(service.take_items().is_empty());
    // An open service has no users.
    let mut open = Service::local();
    let text = "Without an access key no client is a user: add ACCESS_KEY to the secret store `fanout`\n";
    is(&open.respond(to_user("alice")), 501, text);
    is(&open.respond(disconnect("alice")), 501, text);
}

fn disconnect(user: &str) -> Request {
    Request::new("POST", &format!("/api/disconnect?user={}", encoded(user)))
}

#[test]
fn disconnecting_a_user_takes_a_right_and_reaches_each_transport() {
    let mut service = service(&[]);
    is(&service.respond(disconnect("alice").with("Fastly-Key", "valid")), 200, "Ok\n");
    let items = service.take_items();
    let close = json!({ "action": "close", "code": 4000, "reason": "" });
    assert_eq!(items[0]["formats"]["ws-message"]["action"], close["action"]);
    assert_eq!(items[0]["formats"]["ws-message"]["code"], close["code"]);
    assert_eq!(items[0]["formats"]["http-stream"], json!({ "action": "close" }));
    assert_eq!(items[0]["formats"]["http-response"]["code"], 403);
    let channels: Vec<_> = items.iter().map(|item| item["channel"].as_str().expect("a channel")).collect();
    assert_eq!(channels, [channels[0], &format!("json:{}", channels[0]), &format!("json:{}", channels[0])]);
    let token = bearer(&json!({ "x-fastly-disconnect": ["bob", "al*"] }));
    let path = "/api/disconnect?user=alice&code=4001&reason=signed%20out";
    is(&service.respond(Request::new("POST", path).with("Authorization", token)), 200, "Ok\n");
    let items = service.take_items();
    assert_eq!(items[2]["formats"]["ws-message"]["reason"], "signed out");
    assert_eq!(items[2]["formats"]["http-response"]["body"], "Disconnected: signed out\n");
    let event = "event: message\ndata: {\"type\":\"close\",\"code\":4001,\"reason\":\"signed out\"}\n\n";
    assert_eq!(items[1]["formats"], json!({ "http-stream": { "content": event } }));
    // The right to write, or to write to the user, is not enough.
    let forbidden = "The access token does not allow disconnecting this user (claim x-fastly-disconnect)\n";
    for claims in [
        json!({ "sub": "alice", "x-fastly-write": ["*", "user:*"], "x-fastly-read": ["*"] }),
        json!({ "x-fastly-disconnect": ["alic", "Alice", "user:alice"] }),
    ] {
        is(&service.respond(disconnect("alice").with("Authorization", bearer(&claims))), 403, forbidden);
    }
    assert_eq!(service.respond(disconnect("alice")).status, 401);
    let claims = json!({ "x-fastly-disconnect": "alice" });
    let text = "Access token rejected: x-fastly-disconnect must be a list of strings\n";
    is(&service.respond(disconnect("alice").with("Authorization", bearer(&claims))), 401, text);
    let frame = "Invalid code or reason: use code=4000 to code=4999, and a reason of at most 123 bytes\n";
    let long = format!("user=a&reason={}", "x".repeat(124));
    for (query, text) in [
        ("", "Missing user: add ?user= and the id of the user\n"),
        ("user=a&code=1000", frame),
        ("user=a&code=5000", frame),
        ("user=a&code=x", frame),
        (&*long, frame),
    ] {
        let request = Request::new("POST", &format!("/api/disconnect?{query}"));
        is(&service.respond(request.with("Fastly-Key", "valid")), 400, text);
    }
    assert!(service.take_items().is_empty());
    // What the proxy does not accept is no `Ok`.
    service.host.results.push_back(Ok(500));
    assert_eq!(service.respond(disconnect("alice").with("Fastly-Key", "valid")).status, 502);
    // A client's disconnects count as broadcasts.
    let token = bearer(&json!({ "x-fastly-disconnect": ["*"] }));
    let count =
        |service: &Service| service.host.counted.iter().filter(|(counter, ..)| *counter == Counter::Broadcasts).count();
    let before = count(&service);
    is(&service.respond(disconnect("alice").with("Authorization", token)), 200, "Ok\n");
    assert_eq!(count(&service), before + 1);
}

#[test]
fn a_user_takes_one_of_the_channels_of_a_connection() {
    let mut service = service(&[]);
    let channels = |count: usize| (0..count).map(|number| format!("channel=c{number}&")).collect::<String>();
    let token = |claims: Value| bearer(&claims);
    let user = token(json!({ "sub": "alice", "x-fastly-read": ["*"] }));
    let nobody = token(json!({ "x-fastly-read": ["*"] }));
    // An event stream has one more of its own: see `next.rs`.
    for (path, most) in [("/api/events", 18), ("/api/poll", 19), ("/api/websocket", 19)] {
        let request = |count, token: &str| {
            let path = format!("{path}?{}", channels(count));
            Request::new("GET", &path).with("Upgrade", "websocket").with("Authorization", token)
        };
        assert!(service.hands_off(request(most, &user)), "{path}");
        assert!(service.hands_off(request(most + 1, &nobody)), "{path}");
        let line = format!("Too many channels: use at most {most}\n");
        is(&service.respond(request(most + 1, &user)), 400, line);
    }
    assert_eq!(held(&mut service, &format!("/api/poll?{}", channels(19)), "alice").len(), 20);
    let opening = open(&format!("/api/websocket?{}", channels(20))).with("Authorization", &*user);
    is(&service.respond(opening), 400, "Too many channels: use at most 19\n");
}

#[test]
fn a_poll_does_not_wait_longer_than_its_token_is_valid() {
    let mut service = service(&[]);
    for (valid, timeout) in [(600, "25"), (26, "25"), (7, "7"), (0, "1")] {
        let token = format!("Bearer {}", access_token(SECRET, NOW + valid, r#"{"x-fastly-read":["*"]}"#));
        let request =
            Request::new("GET", "/api/poll").with("Grip-Sig", local_signature(NOW)).with("Authorization", token);
        let response = service.respond(request);
        assert_eq!(header(&response, "grip-timeout"), Some(timeout), "{valid}");
    }
}

#[test]
fn a_broadcast_leaves_out_a_connection() {
    let mut service = service(&[]);
    let request = Request::new("POST", "/api/broadcast?channel=room&except=c1").with("Content-Type", "text/plain");
    is(&service.respond(request.with("Fastly-Key", "valid").with_body("hi")), 200, "Ok\n");
    for item in service.take_items() {
        assert_eq!(item["meta"], json!({ "sender": "c1" }));
    }
}

#[test]
fn a_handler_publishes_to_a_user() {
    let mut service = service(&[]).with_handler(|connection| {
        connection.accept();
        connection.publish_to_user("bob", "from the handler")?;
        connection.publish_to_user("", "to nobody").map(drop)
    });
    let token = bearer(&json!({ "sub": "alice", "x-fastly-read": ["*"] }));
    let response = service.respond(open("/api/websocket").with("Authorization", token));
    is(&response, 400, "Invalid user: use 1 to 128 characters, ?user=ID\n");
    let mut service = service.with_handler(|connection| {
        connection.accept();
        connection.publish_to_user("bob", "from the handler").map(drop)
    });
    let token = bearer(&json!({ "sub": "alice", "x-fastly-read": ["*"] }));
    assert_eq!(service.respond(open("/api/websocket").with("Authorization", token)).status, 200);
    let items = service.take_items();
    assert_eq!(items[0]["formats"]["ws-message"]["content"], "from the handler");
    assert!(
        items[1]["formats"]["ws-message"]["content"].as_str().is_some_and(|json| json.contains(r#""from":"alice""#))
    );
    let bob = service.respond(to_user("bob").with("Fastly-Key", "valid"));
    is(&bob, 200, "Ok\n");
    assert_eq!(service.take_items()[0]["channel"], items[0]["channel"]);
}

#[test]
fn what_a_user_missed_is_kept_only_if_users_are_named() {
    for (history, count) in [("*", 0), ("* user:*", 1)] {
        let mut service = service(&[("config:HISTORY", history)]);
        service.host.clock = NOW * 1000 - 60_000;
        let warm_up =
            Request::new("POST", "/api/broadcast").with("Content-Type", "text/plain").with("Fastly-Key", "valid");
        is(&service.respond(warm_up.with_body("x")), 200, "Ok\n");
        service.host.clock = NOW * 1000;
        is(&service.respond(to_user("alice").with("Fastly-Key", "valid")), 200, "Ok\n");
        let missed = |service: &mut Service, user: &str| {
            let since = "since=2027-01-15T07:59:30Z";
            let token = bearer(&json!({ "sub": user, "x-fastly-read": ["*"] }));
            let request =
                Request::new("GET", &format!("/api/history?channel=room&{since}")).with("Authorization", token);
            let response = service.respond(request);
            serde_json::from_slice::<Value>(&response.body).expect("JSON")
        };
        let alice = missed(&mut service, "alice");
        assert_eq!((&alice["recovered"], alice["messages"].as_array().map(Vec::len)), (&json!(true), Some(count)));
        if count > 0 {
            assert_eq!((&alice["messages"][0]["to"], &alice["messages"][0]["data"]), (&json!("user"), &json!("hi")));
        }
        assert_eq!(missed(&mut service, "bob")["messages"], json!([]));
    }
}
