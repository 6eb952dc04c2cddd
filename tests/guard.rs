//! Origins, limits and health: what else stands before subscribing and publishing, and what a monitor sees of it.

mod support;

use fanout_edge::app::{self, Action, Reply, Settings, http::Counter};
use serde_json::{Value, json};
use support::{Counted, LOCAL_GRIP_URL, NOW, Request, local_settings, local_signature, settings};

const EVENTS: &str = "application/websocket-events";
const SUBSCRIBING: [&str; 4] = ["/api/websocket", "/api/events", "/api/stream", "/api/poll"];
const FOREIGN: &str = "Pages of this origin may not use this service: see the setting ALLOWED_ORIGINS\n";

fn with(entries: &[(&str, &str)]) -> Settings {
    settings(&[&[("GRIP_URL", LOCAL_GRIP_URL)], entries].concat())
}

fn connect(path: &str) -> Request {
    Request::new("GET", path).with("Upgrade", "websocket").with("Host", "chat.example")
}

fn broadcast() -> Request {
    Request::new("POST", "/api/broadcast").with("Content-Type", "text/plain").with("Host", "chat.example")
}

/// Everything that subscribes or publishes.
fn all() -> Vec<Request> {
    SUBSCRIBING.map(connect).into_iter().chain([broadcast().with_body("Hello")]).collect()
}

/// `None` where it is let through.
fn refusal(mut request: Request, settings: &Settings) -> Option<Reply> {
    match app::decide(&mut request, settings, NOW) {
        Action::Reply(reply) => Some(reply),
        Action::HandOff { .. } | Action::Publish { .. } => None,
    }
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(header, _)| header == name).map(|(_, value)| &**value)
}

#[test]
fn pages_of_other_origins_are_refused_where_origins_are_listed() {
    let listed = with(&[("config:ALLOWED_ORIGINS", "https://a.example https://b.example:8443")]);
    let none = with(&[("config:ALLOWED_ORIGINS", "none")]);
    let passes = |origin: &str, settings: &Settings| {
        let answers = all().into_iter().map(|request| refusal(request.with("Origin", origin), settings));
        let answers: Vec<_> = answers.collect();
        for reply in answers.iter().flatten() {
            assert_eq!((reply.status, &*String::from_utf8_lossy(&reply.body)), (403, FOREIGN));
            assert_eq!(reply.log.as_deref(), Some("refused a page of another origin"));
            assert_eq!(header(reply, "access-control-allow-origin"), None);
        }
        assert!(answers.iter().all(|reply| reply.is_some() == answers[0].is_some()), "one path differs for {origin}");
        answers[0].is_none()
    };
    for (origin, by_list, by_none) in [
        ("https://a.example", true, false),
        ("https://b.example:8443", true, false),
        // The service's own page.
        ("https://chat.example", true, true),
        ("https://CHAT.example", true, true),
        ("http://chat.example", false, false),
        ("ftp://chat.example", false, false),
        ("https://b.example", false, false),
        ("https://a.example.evil.example", false, false),
        ("https://chat.example.evil.example", false, false),
        ("https://chat.example:444", false, false),
        ("http://a.example", false, false),
        ("null", false, false),
        ("", false, false),
        ("chat.example", false, false),
    ] {
        assert_eq!((passes(origin, &listed), passes(origin, &none)), (by_list, by_none), "{origin}");
        assert!(passes(origin, &local_settings()), "all may where nothing is set: {origin}");
    }
    // Locally there is no TLS.
    for request in all() {
        assert!(refusal(request.with("Origin", "http://chat.example").at_home(), &none).is_none());
    }
    // Twice is no origin; no origin at all is no page, unless the browser says that one asks.
    for request in all() {
        let twice = request.with("Origin", "https://a.example").with("Origin", "https://a.example");
        assert!(refusal(twice, &listed).is_some());
    }
    assert!(all().into_iter().all(|request| refusal(request, &none).is_none()));
    for (site, is_refused) in [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)] {
        for request in all() {
            assert_eq!(refusal(request.with("Sec-Fetch-Site", site), &none).is_some(), is_refused, "{site}");
        }
    }
}

#[test]
fn what_comes_from_the_proxy_names_the_host_of_the_proxy_and_is_not_asked_again() {
    let none = with(&[("config:ALLOWED_ORIGINS", "none")]);
    let signed = |method: &str, path: &str| {
        Request::new(method, path)
            .with("Host", "127.0.0.1:7677")
            .with("Origin", "https://chat.example")
            .with("Grip-Sig", local_signature(NOW))
    };
    let opening = signed("POST", "/api/websocket").with("Content-Type", EVENTS).with("Connection-Id", "c1");
    assert_eq!(refusal(opening.with_body("OPEN\r\n"), &none).expect("a reply").status, 200);
    assert_eq!(refusal(signed("GET", "/api/events"), &none).expect("a reply").status, 200);
    // A broadcast comes from no proxy, whatever it says.
    let forged = signed("POST", "/api/broadcast").with("Content-Type", "text/plain");
    assert_eq!(refusal(forged, &none).expect("a reply").status, 403);
}

#[test]
fn a_query_that_the_proxy_would_not_take_is_refused() {
    let long = "The query is too long: at most 3500 bytes, percent-encoded\n";
    for path in SUBSCRIBING {
        for (query, fits) in [
            (format!("token={}", "a".repeat(3494)), true),
            (format!("token={}", "a".repeat(3495)), false),
            (format!("x={}", "|".repeat(1166)), true),
            (format!("x={}", "|".repeat(1167)), false),
            ("%".repeat(2000), false),
        ] {
            let reply = refusal(connect(&format!("{path}?{query}")), &local_settings());
            let answer = reply.map(|reply| (reply.status, String::from_utf8_lossy(&reply.body).into_owned()));
            assert_eq!(answer, (!fits).then(|| (414, long.to_owned())), "{} bytes", query.len());
        }
    }
}

#[test]
fn openings_and_broadcasts_of_one_address_are_counted_apart() {
    let limited = with(&[("config:BROADCASTS_PER_MINUTE", "2"), ("config:OPENINGS_PER_MINUTE", " 5 ")]);
    let counted = Counted::default();
    let from = |request: Request, address: &str| refusal(request.from(Some(address)).counted_in(&counted), &limited);
    for round in 0..3 {
        let refused = from(broadcast().with_body("x"), "192.0.2.7");
        let line = "Too many broadcasts: at most 2 in a minute\n";
        let answer = refused.map(|reply| {
            assert_eq!(header(&reply, "retry-after"), Some("60"));
            assert_eq!(reply.log.as_deref(), Some("refused one of too many broadcasts"));
            (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
        });
        assert_eq!(answer, (round == 2).then(|| (429, line.to_owned())));
    }
    for round in 0..7 {
        let reply = from(connect(SUBSCRIBING[round % 4]), "192.0.2.7");
        assert_eq!(reply.map(|reply| reply.status), (round >= 5).then_some(429));
    }
    // Another address, and the same in another notation.
    assert!(from(connect("/api/poll"), "192.0.2.8").is_none());
    assert!(from(connect("/api/poll"), "::ffff:192.0.2.7").is_some());
    // Of IPv6 the first half counts.
    for last in 0..6 {
        let reply = from(connect("/api/poll"), &format!("2001:db8:1:2:{last}::1"));
        assert_eq!(reply.is_some(), last == 5);
    }
    assert!(from(connect("/api/poll"), "2001:db8:1:3::1").is_none());
    let entries: Vec<_> = counted.borrow().iter().map(|(counter, entry, _)| (*counter, entry.clone())).collect();
    assert_eq!(entries[0], (Counter::Broadcasts, "192.0.2.7".to_owned()));
    assert_eq!(entries.last(), Some(&(Counter::Openings, "2001:db8:1:3::".to_owned())));
    // A stranger is counted, too, before his token costs anything.
    let guarded = with(&[("ACCESS_KEY", "a secret for access tokens"), ("config:OPENINGS_PER_MINUTE", "1")]);
    let counted = Counted::default();
    for status in [401, 429] {
        let reply = refusal(connect("/api/poll").counted_in(&counted), &guarded);
        assert_eq!(reply.map(|reply| reply.status), Some(status));
    }
}

#[test]
fn what_cannot_be_counted_is_let_through() {
    let limited = with(&[("config:BROADCASTS_PER_MINUTE", "1"), ("config:OPENINGS_PER_MINUTE", "1")]);
    let counted = Counted::default();
    let _the_platform_does_not_count = counted.borrow_mut();
    for _ in 0..3 {
        assert!(all().into_iter().all(|request| refusal(request.counted_in(&counted), &limited).is_none()));
    }
    // An address that is not known is one of its own.
    let counted = Counted::default();
    for is_refused in [false, true] {
        let reply = refusal(connect("/api/poll").from(None).counted_in(&counted), &limited);
        assert_eq!(reply.is_some(), is_refused);
    }
    // Without a limit nothing is counted.
    let counted = Counted::default();
    assert!(all().into_iter().all(|request| refusal(request.counted_in(&counted), &local_settings()).is_none()));
    assert!(counted.borrow().is_empty());
}

#[test]
fn what_a_websocket_publishes_is_counted_for_its_connection() {
    let limited = with(&[("config:BROADCASTS_PER_MINUTE", "3")]);
    let counted = Counted::default();
    let publish = |connection: &str, body: &str| {
        let request = Request::new("POST", "/api/websocket?mode=publish&channel=a&channel=b")
            .with("Content-Type", EVENTS)
            .with("Connection-Id", connection)
            .with("Grip-Sig", local_signature(NOW))
            .with_body(body);
        refusal(request.counted_in(&counted), &limited)
    };
    // One message to two channels counts twice.
    assert!(publish("c1", "TEXT 1\r\na\r\n").is_none());
    let reply = publish("c1", "TEXT 1\r\na\r\n").expect("a close");
    assert_eq!((reply.status, &*reply.body), (200, &b"CLOSE 1f\r\n\x03\xf0too many messages in a minute\r\n"[..]));
    assert!(publish("c2", "TEXT 1\r\na\r\n").is_none());
    assert!(publish("c3", "TEXT 1\r\na\r\nTEXT 1\r\na\r\n").is_some());
}

#[test]
fn limits_that_are_no_numbers_are_named() {
    for name in ["BROADCASTS_PER_MINUTE", "OPENINGS_PER_MINUTE"] {
        for value in ["0", "-1", "many", "1.5", "99999999999", "", " "] {
            let entry = format!("config:{name}");
            let settings = with(&[(&*entry, value)]);
            assert!(settings.are_incomplete());
            for request in all() {
                let reply = refusal(request, &settings).expect("nobody is let through");
                let problem =
                    format!("The entry {name} of the config store `fanout_config` is not a number from 1 on\n");
                assert_eq!((reply.status, &*String::from_utf8_lossy(&reply.body)), (503, &*problem));
            }
            // An open connection that publishes is closed.
            let publish = Request::new("POST", "/api/websocket?mode=publish")
                .with("Content-Type", EVENTS)
                .with("Connection-Id", "c1")
                .with("Grip-Sig", local_signature(NOW))
                .with_body("TEXT 1\r\na\r\n");
            let reply = refusal(publish, &settings).expect("a close");
            let close = b"CLOSE 24\r\n\x03\xf3the message could not be published\r\n";
            assert_eq!((reply.status, &*reply.body), (200, &close[..]));
            assert!(reply.log.is_some_and(|line| line.contains(name)));
        }
    }
}

#[test]
fn the_reason_of_a_refused_websocket_is_logged_and_shown_without_an_upgrade() {
    for (query, line) in [
        ("mode=shout", "mode is echo or publish: ?mode=publish"),
        ("echo=maybe", "echo is on or off: ?echo=off"),
        ("channel=a,b", "A channel name has 1 to 64 of the characters A-Z a-z 0-9 - . _ ~"),
    ] {
        let path = format!("/api/websocket?{query}");
        for request in [connect(&path), Request::new("GET", &path)] {
            let reply = refusal(request, &local_settings()).expect("a refusal");
            assert_eq!((reply.status, String::from_utf8_lossy(&reply.body).into_owned()), (400, format!("{line}\n")));
            assert_eq!(reply.log.as_deref(), Some(line));
        }
    }
}

#[track_caller]
fn health(request: Request, settings: &Settings) -> (u16, Value) {
    let reply = refusal(request, settings).expect("a reply");
    assert_eq!(header(&reply, "content-type"), Some("application/json"));
    assert_eq!(header(&reply, "cache-control"), Some("no-store"));
    (reply.status, serde_json::from_slice(&reply.body).expect("JSON"))
}

#[test]
fn a_monitor_sees_what_can_be_used() {
    let get = || Request::new("GET", "/api/health");
    let ok = |access: &str| {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "status": "ok",
            "checks": {
                "verifier": "ok", "publisher": "ok", "access": access, "origins": "ok", "limits": "ok",
                "backend_self": "ok", "backend_publisher": "ok",
            },
        })
    };
    assert_eq!(health(get(), &local_settings()), (200, ok("open")));
    let guarded = with(&[("ACCESS_KEY", "a secret for access tokens")]);
    assert_eq!(health(get(), &guarded), (200, ok("ok")));
    assert_eq!(health(get().at_home(), &guarded), (200, ok("ok")));
    assert_eq!(health(Request::new("HEAD", "/api/health"), &guarded).0, 200);
    // It does not care who asks, and does not hand off.
    let proxied = get().with("Upgrade", "websocket").with("Grip-Sig", "forged").with("Origin", "https://b.example");
    assert_eq!(health(proxied, &guarded), (200, ok("ok")));
}

#[test]
fn a_monitor_sees_what_cannot_be_used_and_the_operator_why() {
    let get = || Request::new("GET", "/api/health").at_fastly_with("valid").with_backends(&["publisher"]);
    let broken = settings(&[
        ("FANOUT_SERVICE_ID", "no id"),
        ("ACCESS_KEY", "s3cret"),
        ("config:ALLOWED_ORIGINS", "s3cret.example"),
        ("config:BROADCASTS_PER_MINUTE", "s3cret"),
    ]);
    let checks = json!({
        "verifier": "FANOUT_SERVICE_ID", "publisher": "FANOUT_SERVICE_ID", "access": "ACCESS_KEY",
        "origins": "ALLOWED_ORIGINS", "limits": "BROADCASTS_PER_MINUTE",
        "backend_self": "missing", "backend_publisher": "ok",
    });
    let public = json!({ "version": env!("CARGO_PKG_VERSION"), "status": "problem", "checks": checks });
    assert_eq!(health(get(), &broken), (503, public.clone()));
    assert_eq!(health(get().with("Fastly-Key", "other"), &broken), (503, public));
    for request in [get().with("Fastly-Key", "valid"), get().at_home()] {
        let (status, answer) = health(request, &broken);
        assert_eq!((status, &answer["checks"]), (503, &checks));
        assert_eq!(
            answer["why"],
            json!([
                "The entry FANOUT_SERVICE_ID of the secret store `fanout` is not the id of a service",
                "The entry ACCESS_KEY of the secret store `fanout` cannot be used: a secret has at least 16 bytes",
                "The entry ALLOWED_ORIGINS of the config store `fanout_config` is neither *, none, nor origins separated by blanks, such as https://example.com, without a slash at the end",
                "The entry BROADCASTS_PER_MINUTE of the config store `fanout_config` is not a number from 1 on",
                "The service has no backend `self`",
            ])
        );
        assert!(!answer.to_string().contains("s3cret"));
    }
    let no_token = settings(&[]);
    let (status, answer) = health(get().with_backends(&["self", "publisher"]), &no_token);
    assert_eq!((status, &answer["checks"]["publisher"]), (503, &json!("FANOUT_API_TOKEN")));
}
