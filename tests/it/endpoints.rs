//! Routes, the WebSocket endpoint and broadcasts: a request and the settings in, an outcome out.

use fanout_edge::{
    app::{
        settings::{Settings, Unreadable},
        web::Outcome,
    },
    grip::publish::SendError,
};
use serde_json::json;

use crate::{
    service::{ACCEPTED, Request, Service, header, id, id_of, is, settings, subscribed},
    support::{LOCAL_GRIP_URL, LOCAL_KEY, NOW, claims, local_signature, sign_hs256},
};

const EVENTS: &str = "application/websocket-events";
const NOT_PROXIED: &str = "[not proxied] Only the GRIP proxy may send this: connect with a WebSocket client\n";

#[track_caller]
fn responds(request: Request, status: u16, body: impl AsRef<[u8]>) -> fanout_edge::app::web::Response {
    let response = Service::local().respond(request);
    is(&response, status, body);
    response
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

fn broadcast() -> Request {
    Request::new("POST", "/api/broadcast").with("Content-Type", "text/plain")
}

fn text(response: &fanout_edge::app::web::Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

#[test]
fn a_websocket_client_is_handed_off() {
    assert!(Service::local().hands_off(connect()));
}

#[test]
fn a_request_with_a_signature_is_never_handed_off() {
    let response = Service::local().respond(connect().with("Grip-Sig", local_signature(NOW)));
    assert_eq!((response.status, header(&response, "upgrade")), (426, Some("websocket")));
    for signature in [wrongly_signed(), String::new(), "x".to_owned()] {
        responds(connect().with("Grip-Sig", signature), 403, NOT_PROXIED);
    }
    let twice = connect().with("Grip-Sig", local_signature(NOW)).with("Grip-Sig", local_signature(NOW));
    responds(twice, 403, NOT_PROXIED);
}

#[test]
fn a_client_without_an_upgrade_is_told_how_to_connect() {
    let get = || Request::new("GET", "/api/websocket");
    let how = "This is a WebSocket endpoint: connect with a WebSocket client, npx wscat -c ws://HOST/api/websocket (wss:// on Fastly)\n";
    let response = responds(get(), 426, how);
    assert_eq!(header(&response, "upgrade"), Some("websocket"));
    // Spellings that the proxy would send back as a plain GET.
    let spelling =
        "Invalid Upgrade: send `Upgrade: websocket` once, in exactly this spelling, as the GRIP proxy takes no other\n";
    for upgrade in ["WebSocket", "WEBSOCKET", "websocket, h2c"] {
        responds(get().with("Upgrade", upgrade), 400, spelling);
    }
    responds(connect().with("Upgrade", "websocket"), 400, spelling);
    for upgrade in ["h2c", "", "h2c, x"] {
        responds(get().with("Upgrade", upgrade), 426, how);
    }
}

#[test]
fn an_unsigned_event_is_rejected_and_the_log_says_why() {
    let unsigned = || Request::new("POST", "/api/websocket").with("Content-Type", EVENTS).with("Connection-Id", "c1");
    let open = |request: Request| request.with_body("OPEN\r\n");
    let response = responds(open(unsigned()), 403, NOT_PROXIED);
    assert_eq!(response.log.as_deref(), Some("rejected a request without a Grip-Sig"));
    for (signature, why) in [
        (wrongly_signed(), "invalid signature"),
        (sign_hs256(LOCAL_KEY, claims(Some("viceroy"), Some(NOW - 3600))), "expired"),
        (sign_hs256(LOCAL_KEY, claims(Some("viceroy"), None)), "no expiry (exp)"),
        (sign_hs256(LOCAL_KEY, claims(Some("me"), Some(NOW + 3600))), "wrong issuer (iss)"),
        ("x".to_owned(), "not a JWT"),
    ] {
        let response = responds(open(unsigned().with("Grip-Sig", signature)), 403, NOT_PROXIED);
        assert_eq!(response.log, Some(format!("rejected a Grip-Sig: {why}")));
    }
    // An upgrade makes no difference: a POST is never handed off.
    responds(open(unsigned().with("Upgrade", "websocket")), 403, NOT_PROXIED);
}

#[test]
fn events_with_another_content_type_are_rejected() {
    let signed =
        || Request::new("POST", "/api/websocket").with("Grip-Sig", local_signature(NOW)).with("Connection-Id", "c1");
    let rejected = |request: Request| {
        let response = Service::local().respond(request.with_body("OPEN\r\n"));
        assert_eq!(response.status, 400);
        assert!(text(&response).starts_with("[not a websocket request] "), "{}", text(&response));
    };
    rejected(signed());
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
        rejected(signed().with("Content-Type", content_type));
    }
    rejected(signed().with("Content-Type", "text/plain").with("Content-Type", EVENTS));
    rejected(signed().with("Content-Type", EVENTS).with("Content-Type", EVENTS));
}

#[test]
fn invalid_events_are_rejected() {
    let no_id = Request::new("POST", "/api/websocket")
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", EVENTS)
        .with_body("OPEN\r\n");
    let invalid = |problem: &str| format!("Invalid WebSocket-over-HTTP request: {problem}\n");
    responds(no_id, 400, invalid("the header Connection-Id is missing: add it"));
    let two_ids = events().with("connection-id", "c2");
    responds(two_ids, 400, invalid("the header Connection-Id must be sent once, as text"));
    let broken = Service::local().respond(events().with_body("TEXT 5\r\nhello\r\nTEXT 9\r\nhello\r\n"));
    assert!(broken.status == 400 && text(&broken).contains("byte 15 "), "{}", text(&broken));
    assert!(broken.log.is_some());
    let many = Service::local().respond(events().with_body("TEXT\r\n".repeat(250_001)));
    assert!(many.status == 400 && text(&many).contains("byte 1500000 "), "{}", text(&many));
    let large = events().with_body(vec![b'x'; 4_000_001]);
    responds(large, 413, "Body too large: send at most 4000000 bytes\n");
}

#[test]
fn events_get_a_response() {
    let response = responds(events().with_body("OPEN\r\n"), 200, format!("{ACCEPTED}{}", subscribed("test")));
    assert_eq!(response.headers.len(), 2);
    assert_eq!(header(&response, "content-type"), Some(EVENTS));
    assert_eq!(header(&response, "sec-websocket-extensions"), Some("grip"));
    let response = responds(events().with_body("TEXT 5\r\nhello\r\n"), 200, "TEXT 7\r\nm:hello\r\n");
    assert_eq!((response.headers.len(), header(&response, "content-type")), (1, Some(EVENTS)));
    assert_eq!(response.log, None);
    responds(events(), 200, "");
}

#[test]
fn a_broadcast_is_published() {
    for content_type in [
        "text/plain",
        "TEXT/Plain",
        "text/plain; charset=utf-8",
        "text/plain;charset=\"UTF-8\"",
        "text/plain; charset=US-ASCII",
        "text/plain; Charset=utf-8",
        "text/plain; charset=utf-8; x=\"a;charset=latin1\"",
        "text/plain; format=flowed",
        "text/plain; charset=utf8",
        "text/plain; charset=\"ascii\"",
        " text/plain\t;charset=utf-8 ; ",
        "text/plain ; charset=utf-8",
    ] {
        let request = Request::new("POST", "/api/broadcast").with("content-type", content_type).with_body("Hello");
        let mut service = Service::local();
        is(&service.respond(request), 200, "Ok\n");
        let [request] = &service.host.published[..] else { panic!("not one request") };
        assert_eq!(request.url, "http://127.0.0.1:5561/publish/");
        assert_eq!(request.authorization, None);
        let first = id_of(id(1), "test", "Hello", "").to_string();
        let envelope = format!(r#"{{"type":"message","id":"{first}","channel":"test","data":"Hello"}}"#);
        assert_eq!(
            service.take_items(),
            [
                json!({ "channel": "test", "id": first, "no-seq": true, "formats": {
                    "http-response": {
                        "code": 200,
                        "headers": [["content-type", "text/plain; charset=utf-8"], ["message-id", first]],
                        "body": "Hello",
                    },
                    "http-stream": { "content": format!("id: {first}\nevent: message\ndata: Hello\n\n") },
                    "ws-message": { "content": "Hello" },
                } }),
                json!({ "channel": "json:test", "id": first, "no-seq": true, "formats": {
                    "http-response": {
                        "code": 200,
                        "headers": [["content-type", "application/json"], ["message-id", first]],
                        "body": format!("[{envelope}]"),
                    },
                    "http-stream": { "content": format!("id: {first}\nevent: message\ndata: {envelope}\n\n") },
                    "ws-message": { "content": envelope },
                } }),
            ]
        );
    }
}

#[test]
fn a_broadcast_with_another_content_type_is_rejected() {
    let rejected = |request: Request| {
        let mut service = Service::local();
        let response = service.respond(request.with_body("Hello"));
        assert_eq!((response.status, service.host.published.len()), (415, 0));
        assert!(text(&response).starts_with("Unsupported Content-Type: "), "{}", text(&response));
    };
    let post = || Request::new("POST", "/api/broadcast");
    rejected(post());
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/html",
        "text/plainer",
        "text/plain+x",
        "text/plain, text/html",
        "text",
        "",
        "text/plain; charset = utf-16",
        "text/plain; charset",
        "text/plain charset=utf-8",
        "text/plain; charset=utf-8 utf-16",
    ] {
        rejected(post().with("Content-Type", content_type));
    }
    rejected(broadcast().with("Content-Type", "text/plain"));
    for content_type in [
        "text/plain; charset=latin1",
        "text/plain; charset=",
        "text/plain; charset=utf-8; charset=latin1",
        "text/plain; CHARSET=\"utf-16\"",
    ] {
        let problem = "Unsupported charset: send text in UTF-8, Content-Type: text/plain; charset=utf-8\n";
        responds(post().with("Content-Type", content_type).with_body("Hello"), 415, problem);
    }
}

#[test]
fn a_compressed_broadcast_is_rejected() {
    for content_type in ["text/plain", "application/octet-stream"] {
        let post = || Request::new("POST", "/api/broadcast").with("Content-Type", content_type).with_body("Hello");
        for codings in
            [&["gzip"][..], &["identity, br"], &["identity", "deflate"], &["x"], &["identity", "identity"], &[""]]
        {
            let request = codings.iter().fold(post(), |request, coding| request.with("Content-Encoding", *coding));
            let problem = "Unsupported Content-Encoding: send the body as it is, not compressed, without this header\n";
            let response = responds(request, 415, problem);
            assert_eq!(header(&response, "accept-encoding"), Some("identity"));
        }
        responds(post().with("Content-Encoding", "Identity"), 200, "Ok\n");
    }
}

#[test]
fn a_broadcast_that_cannot_be_sent_is_rejected() {
    let not_utf8 = "Invalid UTF-8 at byte 2: send text as UTF-8, or bytes as application/octet-stream\n";
    responds(broadcast().with_body(b"ab\xffcd"), 400, not_utf8);
    responds(broadcast().with_body("x".repeat(64_001)), 413, "Body too large: send at most 64000 bytes\n");
}

#[test]
fn an_incomplete_body_is_rejected() {
    for request in [broadcast(), events()] {
        responds(request.with_broken_body(), 400, "Incomplete body: send the request again\n");
    }
}

#[test]
fn only_what_the_proxy_accepted_is_ok() {
    let rejected =
        |status: u16| format!("The message is not published: the GRIP proxy rejected it with status {status}\n");
    let token = |status: u16| {
        format!(
            "The message is not published: the GRIP proxy rejected the publishing token with status {status}; correct FANOUT_API_TOKEN or GRIP_URL\n"
        )
    };
    for (result, status, body) in [
        (Ok(200), 200, "Ok\n".to_owned()),
        (Ok(400), 502, rejected(400)),
        (Ok(202), 200, "Ok\n".to_owned()),
        (Ok(204), 200, "Ok\n".to_owned()),
        (Ok(302), 502, rejected(302)),
        (Ok(401), 502, token(401)),
        (Ok(403), 502, token(403)),
        (
            Err(SendError::Unreachable),
            502,
            "The message is probably not published: the GRIP proxy could not be reached, try again\n".to_owned(),
        ),
        (
            Err(SendError::TimedOut),
            504,
            "The message may or may not be published: the GRIP proxy did not respond in time\n".to_owned(),
        ),
    ] {
        let mut service = Service::local();
        service.host.results.push_back(result);
        let response = service.respond(broadcast().with_body("Hello"));
        is(&response, status, body);
        assert_eq!(response.log.is_some(), status != 200);
        assert_eq!(header(&response, "access-control-allow-origin"), Some("*"), "errors, too");
    }
}

#[test]
fn other_methods_are_rejected_with_the_allowed_ones() {
    for (method, path, allowed) in [
        ("PUT", "/api/websocket", "GET, POST, OPTIONS"),
        ("HEAD", "/api/websocket", "GET, POST, OPTIONS"),
        ("OPTIONS", "/api/health", "GET, HEAD"),
        ("GET", "/api/broadcast", "POST, OPTIONS"),
        ("DELETE", "/", "GET, HEAD"),
        ("get", "/api/websocket", "GET, POST, OPTIONS"),
    ] {
        let response = responds(Request::new(method, path), 405, format!("Method not allowed: use {allowed}\n"));
        assert_eq!(header(&response, "allow"), Some(allowed));
    }
}

#[test]
fn other_paths_are_not_found() {
    for path in ["/x", "/api", "/api/websocket/", "/API/websocket", "/api/websocket%20", "//api/websocket", ""] {
        for method in ["GET", "POST"] {
            let response = Service::local().respond(Request::new(method, path));
            assert_eq!(response.status, 404);
            assert!(text(&response).starts_with("Not found: use /api/"));
        }
    }
    // The paths that it names are there.
    let response = Service::local().respond(Request::new("GET", "/x"));
    let text = text(&response);
    let paths: Vec<_> = text.split([' ', ',', '\n']).filter(|word| word.starts_with('/')).collect();
    assert_eq!(paths.len(), 7, "{text}");
    for path in paths {
        assert_eq!(Service::local().respond(Request::new("PUT", path)).status, 405, "{path}");
    }
}

/// What a setting that cannot be used stops: connecting and events, broadcasts, or both.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Both,
    Verifier,
    Publisher,
}

#[track_caller]
fn unusable(settings: impl Fn() -> Settings, side: Side, problem: &str) {
    let problem = format!("The entry {problem}\n");
    let publisher_is_broken = side != Side::Verifier;
    for (request, is_broken) in [
        (connect(), side != Side::Publisher),
        (events().with_body("OPEN\r\n"), side != Side::Publisher),
        (broadcast().with_body("Hello"), publisher_is_broken),
    ] {
        let mut service = Service::new(settings());
        if is_broken {
            let response = service.respond(request);
            is(&response, 503, &problem);
            assert!(response.log.is_some());
        } else if let Outcome::Response(response) = service.decide(request) {
            assert_ne!(response.status, 503);
        }
    }
    assert!(settings().are_incomplete());
}

#[test]
fn on_fastly_only_the_token_is_required() {
    unusable(
        || settings(&[]),
        Side::Publisher,
        "FANOUT_API_TOKEN of the secret store `fanout` is missing (or GRIP_URL, for a proxy other than Fastly Fanout)",
    );
    for token in ["token", " token\n"] {
        for (id, service_id) in [(None, "SERVICE1"), (Some("OTHER1"), "OTHER1")] {
            let mut entries = vec![("FANOUT_API_TOKEN", token)];
            entries.extend(id.map(|id| ("config:FANOUT_SERVICE_ID", id)));
            let mut service = Service::new(settings(&entries));
            is(&service.respond(broadcast().with_body("Hello")), 200, "Ok\n");
            let [request] = &service.host.published[..] else { panic!("not one request") };
            assert_eq!(request.url, format!("https://api.fastly.com/service/{service_id}/publish/"));
            assert_eq!(request.authorization.as_ref().expect("a token"), "Bearer token");
            assert!(!service.settings.are_incomplete());
        }
    }
}

#[test]
fn on_fastly_a_local_signature_is_rejected() {
    let mut service = Service::new(settings(&[("FANOUT_API_TOKEN", "token")]));
    let response = service.respond(events().with_body("OPEN\r\n"));
    assert_eq!(response.status, 403);
    assert_eq!(response.log.as_deref(), Some("rejected a Grip-Sig: wrong algorithm for the key (alg)"));
}

#[test]
fn an_invalid_setting_is_reported_by_name() {
    let grip_url = |parameters: &str| format!("http://127.0.0.1:5561/?{parameters}");
    let (no_issuer, no_key) = (grip_url("verify-key=secret:a+secret+of+some+length"), grip_url("verify-iss=viceroy"));
    let url = || fanout_edge::grip::GripUri::parse("nonsense").expect_err("no URL").to_string();
    for (entries, side, entry, problem) in [
        (&[("GRIP_URL", &*no_issuer)][..], Side::Verifier, "GRIP_URL", "lacks verify-iss".to_owned()),
        (&[("GRIP_URL", &no_key)], Side::Verifier, "GRIP_URL", "lacks verify-key".to_owned()),
        (&[("GRIP_URL", "nonsense")], Side::Both, "GRIP_URL", format!("cannot be used: {}", url())),
        (
            &[("GRIP_URL", LOCAL_GRIP_URL), ("GRIP_VERIFY_KEY", "secret:s3cret")],
            Side::Verifier,
            "GRIP_VERIFY_KEY",
            "cannot be used: the secret is too short: use at least 12 bytes".to_owned(),
        ),
        (
            &[("FANOUT_API_TOKEN", "token"), ("config:FANOUT_SERVICE_ID", "s3cret/x")],
            Side::Both,
            "config:FANOUT_SERVICE_ID",
            "is not a service id".to_owned(),
        ),
        (
            &[("FANOUT_API_TOKEN", "two words")],
            Side::Publisher,
            "FANOUT_API_TOKEN",
            "has characters that no token has".to_owned(),
        ),
        (
            &[("GRIP_URL", LOCAL_GRIP_URL), ("config:CONNECTION_TICKETS", "of")],
            Side::Verifier,
            "config:CONNECTION_TICKETS",
            "must be on or off".to_owned(),
        ),
    ] {
        let problem = match entry.strip_prefix("config:") {
            None => format!("{entry} of the secret store `fanout` {problem}"),
            Some(entry) => format!("{entry} of the config store `fanout_config` {problem}"),
        };
        unusable(|| settings(entries), side, &problem);
        assert!(!problem.contains("s3cret"));
    }
}

#[test]
fn the_entry_with_the_verify_key_wins_over_the_url() {
    let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("GRIP_VERIFY_KEY", "secret:another key of the proper length\n")];
    let status = |signature| {
        let request = Request::new("POST", "/api/websocket")
            .with("Content-Type", EVENTS)
            .with("Connection-Id", "c1")
            .with("Grip-Sig", signature)
            .with_body("TEXT\r\n");
        Service::new(settings(&entries)).respond(request).status
    };
    assert_eq!(status(wrongly_signed()), 200);
    assert_eq!(status(local_signature(NOW)), 403);
}

#[test]
fn an_unreadable_setting_is_never_taken_for_a_missing_one() {
    for (unreadable, side) in
        [("GRIP_URL", Side::Both), ("GRIP_VERIFY_KEY", Side::Verifier), ("FANOUT_API_TOKEN", Side::Publisher)]
    {
        let entry = |name: &'static str| match name {
            name if name == unreadable => Err(Unreadable),
            "FANOUT_API_TOKEN" if unreadable != "GRIP_URL" => Ok(Some("token".to_owned())),
            "GRIP_URL" if unreadable == "GRIP_VERIFY_KEY" => Ok(Some(LOCAL_GRIP_URL.to_owned())),
            _ => Ok(None),
        };
        let problem = format!("{unreadable} of the secret store `fanout` cannot be read as text");
        unusable(|| Settings::read(&entry, &|_| Ok(None), "SERVICE1"), side, &problem);
    }
    let token = |entry: &'static str| Ok((entry == "FANOUT_API_TOKEN").then(|| "token".to_owned()));
    for (unreadable, side) in [("FANOUT_SERVICE_ID", Side::Both), ("CONNECTION_TICKETS", Side::Verifier)] {
        let config = |entry: &'static str| if entry == unreadable { Err(Unreadable) } else { Ok(None) };
        let problem = format!("{unreadable} of the config store `fanout_config` cannot be read as text");
        unusable(|| Settings::read(&token, &config, "SERVICE1"), side, &problem);
    }
    let local = |entry: &'static str| Ok((entry == "GRIP_URL").then(|| LOCAL_GRIP_URL.to_owned()));
    for name in ["ALLOWED_ORIGINS", "BROADCASTS_PER_MINUTE"] {
        let config = |entry: &'static str| if entry == name { Err(Unreadable) } else { Ok(None) };
        let mut service = Service::new(Settings::read(&local, &config, "SERVICE1"));
        let problem = format!("The entry {name} of the config store `fanout_config` cannot be read as text\n");
        is(&service.respond(broadcast().with_body("Hello")), 503, problem);
    }
}

#[test]
fn incomplete_settings_are_read_again() {
    assert!(!settings(&[("FANOUT_API_TOKEN", "token")]).are_incomplete());
    assert!(!settings(&[("GRIP_URL", LOCAL_GRIP_URL)]).are_incomplete());
    for entries in [
        &[][..],
        &[("GRIP_URL", "http://127.0.0.1/")],
        &[("FANOUT_API_TOKEN", "two words")],
        &[("FANOUT_API_TOKEN", "token"), ("config:CONNECTION_TICKETS", "of")],
        &[("FANOUT_API_TOKEN", "token"), ("config:ALLOWED_ORIGINS", "example.com")],
    ] {
        assert!(settings(entries).are_incomplete(), "{entries:?}");
    }
}

#[test]
fn the_response_for_an_unknown_path_names_the_others() {
    let response = Service::local().respond(Request::new("GET", "/api/nothing"));
    assert_eq!(response.status, 404);
    let routes = include_str!("../../src/app.rs").split("const ROUTES").nth(1).expect("the routes");
    let paths: Vec<&str> = routes.split('"').filter(|text| text.starts_with("/api/")).collect();
    assert!(paths.len() > 4);
    for path in paths {
        assert!(text(&response).contains(path), "{path} is missing in the text of Error::NotFound");
    }
}
