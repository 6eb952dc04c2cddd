//! Every answer of the service: a request and the settings in, an action out.

mod support;

use fanout_edge::app::{self, Action, Reply, Settings, broadcast, settings::Unreadable};
use fanout_edge::grip::{
    Verifier,
    publish::{PublishError, PublishRequest},
};
use serde_json::json;
use support::{LOCAL_GRIP_URL, LOCAL_KEY, NOW, Request, claims, local_settings, local_signature, settings, sign_hs256};

const EVENTS: &str = "application/websocket-events";
const HOW_TO_CONNECT: &str = "This is a WebSocket endpoint. Connect with a WebSocket client: npx wscat -c ws://HOST/api/websocket (wss:// on Fastly)\n";

fn decide(mut request: Request) -> Action {
    app::decide(&mut request, &local_settings(), NOW)
}

#[track_caller]
fn reply_to(request: Request, settings: &Settings) -> Reply {
    let mut request = request;
    match app::decide(&mut request, settings, NOW) {
        Action::Reply(reply) => reply,
        Action::HandOff { .. } => panic!("a hand-off"),
        Action::Publish { .. } => panic!("a publish"),
    }
}

#[track_caller]
fn answers(request: Request, status: u16, body: impl AsRef<[u8]>) -> Reply {
    let reply = reply_to(request, &local_settings());
    let seen = (reply.status, reply.body.escape_ascii().to_string());
    assert_eq!(seen, (status, body.as_ref().escape_ascii().to_string()));
    if status != 200 || reply.header("content-type") != Some(EVENTS) {
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    reply
}

trait ReplyHeader {
    fn header(&self, name: &str) -> Option<&str>;
}

impl ReplyHeader for Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| &**value)
    }
}

fn connect() -> Request {
    Request::new("GET", "/api/websocket").with("Upgrade", "websocket")
}

fn wrongly_signed() -> String {
    sign_hs256("another key of the proper length", claims(Some("viceroy"), Some(NOW + 3600)))
}

fn events() -> Request {
    Request::new("POST", "/api/websocket")
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", EVENTS)
        .with("Connection-Id", "c1")
}

/// The requests that are to be sent, of which there is one.
fn published(action: Action) -> (&'static str, [PublishRequest; 1]) {
    let Action::Publish { backend, requests, .. } = action else { panic!("nothing is published") };
    let count = requests.len();
    (backend, requests.try_into().unwrap_or_else(|_| panic!("{count} requests")))
}

fn items(request: &PublishRequest) -> serde_json::Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

fn broadcast() -> Request {
    Request::new("POST", "/api/broadcast").with("Content-Type", "text/plain")
}

#[test]
fn a_websocket_client_is_handed_off() {
    assert!(matches!(decide(connect()), Action::HandOff { backend: "self" }));
}

#[test]
fn what_carries_a_signature_is_never_handed_off() {
    let signed = connect().with("Grip-Sig", local_signature(NOW));
    assert_eq!(answers(signed, 426, HOW_TO_CONNECT).header("upgrade"), Some("websocket"));
    for signature in [wrongly_signed(), String::new(), "x".to_owned()] {
        answers(connect().with("Grip-Sig", signature), 403, "[not proxied]\n");
    }
    let twice = connect().with("Grip-Sig", local_signature(NOW)).with("Grip-Sig", local_signature(NOW));
    answers(twice, 403, "[not proxied]\n");
}

#[test]
fn a_client_without_an_upgrade_is_told_how_to_connect() {
    let get = || Request::new("GET", "/api/websocket");
    assert_eq!(answers(get(), 426, HOW_TO_CONNECT).header("upgrade"), Some("websocket"));
    // Spellings that the proxy would send back as a plain GET.
    for upgrade in ["WebSocket", "WEBSOCKET", "websocket, h2c", "h2c", ""] {
        answers(get().with("Upgrade", upgrade), 426, HOW_TO_CONNECT);
    }
    answers(connect().with("Upgrade", "websocket"), 426, HOW_TO_CONNECT);
}

#[test]
fn a_request_that_is_not_signed_is_refused() {
    let unsigned = || Request::new("POST", "/api/websocket").with("Content-Type", EVENTS).with("Connection-Id", "c1");
    let open = |request: Request| request.with_body("OPEN\r\n");
    let reply = answers(open(unsigned()), 403, "[not proxied]\n");
    assert_eq!(reply.log.as_deref(), Some("refused a request that has no Grip-Sig"));
    for (signature, why) in [
        (wrongly_signed(), "the key did not make its signature"),
        (sign_hs256(LOCAL_KEY, claims(Some("viceroy"), Some(NOW - 3600))), "it has expired"),
        (sign_hs256(LOCAL_KEY, claims(Some("viceroy"), None)), "it has no expiry"),
        (sign_hs256(LOCAL_KEY, claims(Some("me"), Some(NOW + 3600))), "its issuer is not the expected one"),
        ("x".to_owned(), "it is not one JWT"),
    ] {
        let reply = answers(open(unsigned().with("Grip-Sig", signature)), 403, "[not proxied]\n");
        assert_eq!(reply.log, Some(format!("refused a Grip-Sig: {why}")));
    }
    // An upgrade makes no difference: a POST is never handed off.
    answers(open(unsigned().with("Upgrade", "websocket")), 403, "[not proxied]\n");
}

#[test]
fn events_in_any_other_spelling_are_refused() {
    let signed =
        || Request::new("POST", "/api/websocket").with("Grip-Sig", local_signature(NOW)).with("Connection-Id", "c1");
    let refused = |request: Request| answers(request.with_body("OPEN\r\n"), 400, "[not a websocket request]\n");
    refused(signed());
    for content_type in [
        "application/websocket-events ; x=1",
        "application/websocket-events\t; x=1",
        "application/websocket-events; x=1",
        "application/websocket-events;x=1",
        "Application/WebSocket-Events",
        "application/websocket-events, text/plain",
        " application/websocket-events",
        "application/websocket-events ",
        "text/plain",
    ] {
        refused(signed().with("Content-Type", content_type));
    }
    refused(signed().with("Content-Type", "text/plain").with("Content-Type", EVENTS));
    refused(signed().with("Content-Type", EVENTS).with("Content-Type", EVENTS));
}

#[test]
fn events_that_do_not_parse_are_refused() {
    let no_id = Request::new("POST", "/api/websocket")
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", EVENTS)
        .with_body("OPEN\r\n");
    answers(no_id, 400, "Bad WebSocket-over-HTTP request: the header Connection-Id is missing\n");
    let two_ids = events().with("connection-id", "c2");
    answers(two_ids, 400, "Bad WebSocket-over-HTTP request: the header Connection-Id must be there once, as text\n");
    let reply = answers(
        events().with_body("TEXT 5\r\nhello\r\nTEXT 9\r\nhello\r\n"),
        400,
        "Bad WebSocket-over-HTTP request: the event at byte 15 has less content than its length says\n",
    );
    assert!(reply.log.is_some());
    let too_many = "Bad WebSocket-over-HTTP request: the event at byte 1500000 is one too many\n";
    answers(events().with_body("TEXT\r\n".repeat(250_001)), 400, too_many);
    answers(events().with_body(vec![b'x'; 4_000_001]), 413, "The body must be at most 4000000 bytes\n");
}

#[test]
fn events_are_answered() {
    let reply = answers(
        events().with_body("OPEN\r\n"),
        200,
        "OPEN\r\nTEXT 27\r\nc:{\"type\":\"subscribe\",\"channel\":\"test\"}\r\n",
    );
    let header = |name: &'static str, value: &'static str| (name.into(), value.into());
    assert_eq!(reply.headers, [header("content-type", EVENTS), header("sec-websocket-extensions", "grip")]);
    let reply = answers(events().with_body("TEXT 5\r\nhello\r\n"), 200, "TEXT 7\r\nm:hello\r\n");
    assert_eq!(reply.headers, [header("content-type", EVENTS)]);
    assert_eq!(reply.log, None);
    answers(events(), 200, "");
}

#[test]
fn a_broadcast_is_published() {
    for content_type in [
        "text/plain",
        "TEXT/Plain",
        "text/plain; charset=utf-8",
        "text/plain;charset=\"UTF-8\"",
        "text/plain; charset=US-ASCII",
        "text/plain ; Charset=utf-8 ; x",
        "text/plain; format=flowed",
    ] {
        let request = Request::new("POST", "/api/broadcast").with("content-type", content_type).with_body("Hello");
        let (backend, [request]) = published(decide(request));
        assert_eq!((backend, &*request.url), ("publisher", "http://127.0.0.1:5561/publish/"));
        assert_eq!(
            items(&request),
            json!({ "items": [
            { "channel": "test", "formats": {
                "http-response": { "code": 200, "headers": [["Content-Type", "text/plain; charset=utf-8"]], "body": "Hello" },
                "ws-message": { "content": "Hello" },
            } },
            { "channel": "events:test", "formats": { "http-stream": { "content": "event: message\ndata: Hello\n\n" } } },
            { "channel": "lines:test", "formats": { "http-stream": { "content": "Hello\n" } } },
        ] })
        );
        assert_eq!(request.authorization, None);
    }
}

#[test]
fn a_broadcast_is_plain_text() {
    let refused = |request: Request| {
        answers(
            request.with_body("Hello"),
            415,
            "Body must be text/plain, in UTF-8: add the header `Content-Type: text/plain` (curl -H 'Content-Type: text/plain' -d …), or application/octet-stream\n",
        )
    };
    let post = || Request::new("POST", "/api/broadcast");
    refused(post());
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/html",
        "text/plainer",
        "text/plain; charset=latin1",
        "text/plain; charset=utf-8; charset=latin1",
        "text/plain, text/html",
        "text",
        "",
    ] {
        refused(post().with("Content-Type", content_type));
    }
    refused(broadcast().with("Content-Type", "text/plain"));
}

#[test]
fn a_broadcast_that_cannot_be_sent_is_refused() {
    answers(broadcast().with_body(b"ab\xffcd"), 400, "Body must be UTF-8: it is not at byte 2\n");
    answers(
        broadcast().with_body("x".repeat(65_536)),
        413,
        "The message is too large: the publish request would be 262471 bytes of JSON; the proxy takes at most 65536 (about 16,000 bytes of plain text)\n",
    );
    answers(
        broadcast().with_body("x".repeat(65_537)),
        413,
        "The message is too large: the publish request would be more than 65536 bytes of JSON; the proxy takes at most 65536 (about 16,000 bytes of plain text)\n",
    );
}

#[test]
fn a_body_that_does_not_arrive_whole_is_refused() {
    for request in [broadcast(), events()] {
        answers(request.with_broken_body(), 400, "The body did not arrive whole\n");
    }
}

#[test]
fn only_what_the_proxy_accepted_is_ok() {
    for (outcome, status, body) in [
        (Ok(()), 200, "Ok\n"),
        (
            Err(PublishError::Refused { status: 400 }),
            502,
            "The GRIP proxy refused the message: it answered with status 400\n",
        ),
        (
            Err(PublishError::Refused { status: 204 }),
            502,
            "The GRIP proxy refused the message: it answered with status 204\n",
        ),
        (
            Err(PublishError::Refused { status: 302 }),
            502,
            "The GRIP proxy refused the message: it answered with status 302\n",
        ),
        (
            Err(PublishError::Refused { status: 401 }),
            502,
            "The GRIP proxy refused the message: the token or key of the settings does not allow to publish\n",
        ),
        (
            Err(PublishError::Refused { status: 403 }),
            502,
            "The GRIP proxy refused the message: the token or key of the settings does not allow to publish\n",
        ),
        (
            Err(PublishError::Unreachable),
            502,
            "The GRIP proxy could not be reached, or broke off: do not count on the message being published\n",
        ),
        (
            Err(PublishError::TimedOut),
            504,
            "The GRIP proxy did not answer in time: the message may or may not be published\n",
        ),
    ] {
        let reply = broadcast::answer(outcome);
        assert_eq!((reply.status, String::from_utf8(reply.body).expect("text")), (status, body.to_owned()));
        assert_eq!(reply.log.is_some(), status != 200);
    }
}

#[test]
fn other_methods_are_told_which_are_allowed() {
    for (method, path, allowed) in [
        ("PUT", "/api/websocket", "GET, POST"),
        ("HEAD", "/api/websocket", "GET, POST"),
        ("OPTIONS", "/api/websocket", "GET, POST"),
        ("GET", "/api/broadcast", "POST, OPTIONS"),
        ("DELETE", "/", "GET, HEAD"),
        ("get", "/api/websocket", "GET, POST"),
    ] {
        let body = format!("Method not allowed. Use: {allowed}\n");
        assert_eq!(answers(Request::new(method, path), 405, body).header("allow"), Some(allowed));
    }
}

#[test]
fn other_paths_are_not_found() {
    for path in ["/x", "/api", "/api/websocket/", "/API/websocket", "/api/websocket%20", "//api/websocket", ""] {
        answers(Request::new("GET", path), 404, "Not found\n");
        answers(Request::new("POST", path), 404, "Not found\n");
    }
}

/// What cannot be used: neither connecting, events nor broadcasting, or just one side.
#[derive(Clone, Copy, PartialEq)]
enum Unusable {
    Both,
    Verifier,
    Publisher,
}

#[track_caller]
fn unusable(settings: &Settings, side: Unusable, problem: &str) {
    let problem = format!("The entry {problem}\n");
    assert_eq!(settings.verifier.is_err(), side != Unusable::Publisher);
    assert_eq!(settings.publisher.is_err(), side != Unusable::Verifier);
    let mut requests = Vec::new();
    if side != Unusable::Publisher {
        requests.extend([connect(), events().with_body("OPEN\r\n")]);
    }
    if side != Unusable::Verifier {
        requests.push(broadcast().with_body("Hello"));
    }
    for request in requests {
        let reply = reply_to(request, settings);
        assert_eq!((reply.status, String::from_utf8(reply.body).expect("text")), (503, problem.clone()));
        assert!(reply.log.is_some());
    }
}

#[test]
fn on_fastly_nothing_but_the_token_is_needed() {
    let without = settings(&[]);
    assert_eq!(without.verifier.as_ref().map(Verifier::issuer), Ok("fastly:SERVICE1"));
    unusable(
        &without,
        Unusable::Publisher,
        "FANOUT_API_TOKEN of the secret store `fanout` is missing (or GRIP_URL, for a proxy other than Fastly Fanout)",
    );
    for token in ["token", " token\n"] {
        for (id, service) in [(None, "SERVICE1"), (Some("OTHER1"), "OTHER1")] {
            let mut entries = vec![("FANOUT_API_TOKEN", token)];
            entries.extend(id.map(|id| ("FANOUT_SERVICE_ID", id)));
            let mut request = broadcast().with_body("Hello");
            let action = app::decide(&mut request, &settings(&entries), NOW);
            let (_, [request]) = published(action);
            assert_eq!(request.url, format!("https://api.fastly.com/service/{service}/publish/"));
            assert_eq!(request.authorization.as_deref(), Some("Bearer token"));
        }
    }
}

#[test]
fn on_fastly_a_local_signature_proves_nothing() {
    let reply = reply_to(events().with_body("OPEN\r\n"), &settings(&[("FANOUT_API_TOKEN", "token")]));
    assert_eq!(reply.status, 403);
    assert_eq!(reply.log.as_deref(), Some("refused a Grip-Sig: its algorithm is not the key's"));
}

#[test]
fn settings_that_cannot_be_used_are_named_and_refused() {
    let grip_url = |parameters: &str| format!("http://127.0.0.1:5561/?{parameters}");
    let (no_issuer, no_key) = (grip_url("verify-key=a+secret+of+some+length"), grip_url("verify-iss=viceroy"));
    for (entries, side, entry, problem) in [
        (&[("GRIP_URL", &*no_issuer)][..], Unusable::Verifier, "GRIP_URL", "lacks verify-iss"),
        (&[("GRIP_URL", &no_key)], Unusable::Verifier, "GRIP_URL", "lacks verify-key"),
        (&[("GRIP_URL", "nonsense")], Unusable::Both, "GRIP_URL", "cannot be used: it is not an http or https URL"),
        (
            &[("GRIP_URL", LOCAL_GRIP_URL), ("GRIP_VERIFY_KEY", "s3cret")],
            Unusable::Verifier,
            "GRIP_VERIFY_KEY",
            "cannot be used: a secret has at least 12 bytes",
        ),
        (
            &[("FANOUT_API_TOKEN", "to ken")],
            Unusable::Publisher,
            "FANOUT_API_TOKEN",
            "has characters that no token has",
        ),
        (
            &[("FANOUT_API_TOKEN", "token"), ("FANOUT_SERVICE_ID", "fastly:ABC")],
            Unusable::Both,
            "FANOUT_SERVICE_ID",
            "is not the id of a service",
        ),
    ] {
        unusable(&settings(entries), side, &format!("{entry} of the secret store `fanout` {problem}"));
    }
}

#[test]
fn a_verify_key_of_its_own_comes_before_that_of_the_url() {
    let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("GRIP_VERIFY_KEY", "another key of the proper length\n")];
    let reply = |signature| {
        let request = Request::new("POST", "/api/websocket")
            .with("Content-Type", EVENTS)
            .with("Connection-Id", "c1")
            .with("Grip-Sig", signature);
        reply_to(request, &settings(&entries)).status
    };
    assert_eq!(reply(wrongly_signed()), 200);
    assert_eq!(reply(local_signature(NOW)), 403);
}

#[test]
fn an_entry_that_cannot_be_read_is_never_taken_for_a_missing_one() {
    for (unreadable, side) in [
        ("GRIP_URL", Unusable::Both),
        ("GRIP_VERIFY_KEY", Unusable::Verifier),
        ("FANOUT_SERVICE_ID", Unusable::Both),
        ("FANOUT_API_TOKEN", Unusable::Publisher),
        ("CONNECTION_TICKETS", Unusable::Verifier),
    ] {
        let entry = |name: &'static str| match name {
            name if name == unreadable => Err(Unreadable),
            "FANOUT_API_TOKEN" if unreadable != "GRIP_URL" => Ok(Some("token".to_owned())),
            "GRIP_URL" if unreadable == "GRIP_VERIFY_KEY" => Ok(Some(LOCAL_GRIP_URL.to_owned())),
            _ => Ok(None),
        };
        let problem = format!("{unreadable} of the secret store `fanout` cannot be read as text");
        unusable(&Settings::read(&entry, &|_| Ok(None), "SERVICE1"), side, &problem);
    }
}

#[test]
fn settings_that_something_is_wrong_with_are_read_again() {
    let complete = settings(&[("FANOUT_API_TOKEN", "token")]);
    assert!(!complete.are_incomplete() && !local_settings().are_incomplete());
    for entries in [
        &[][..],
        &[("GRIP_URL", "http://127.0.0.1/")],
        &[("FANOUT_API_TOKEN", "two words")],
        &[("FANOUT_API_TOKEN", "token"), ("CONNECTION_TICKETS", "of")],
        &[("FANOUT_API_TOKEN", "token"), ("config:ALLOWED_ORIGINS", "example.com")],
    ] {
        assert!(settings(entries).are_incomplete(), "{entries:?}");
    }
}
