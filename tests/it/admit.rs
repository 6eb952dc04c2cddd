//! Origins, rate limits and health: what else a client must pass, and what a monitor sees of it.

use fanout_edge::app::{
    platform::Counter,
    settings::Settings,
    web::{Outcome, Response},
};
use serde_json::{Value, json};

use crate::{
    service::{Request, Service, cursor, header, is, settings},
    support::{LOCAL_GRIP_URL, LOCAL_KEY, NOW, access_token, claims, local_signature, sign_hs256},
};

const EVENTS: &str = "application/websocket-events";
const SUBSCRIBING: [&str; 3] = ["/api/websocket", "/api/events", "/api/poll"];
const FOREIGN: &str = "Origin not allowed: add it to the setting ALLOWED_ORIGINS\n";

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

/// The response of a refusal; `None` if the request is handed off or published.
fn refusal(request: Request, service: &mut Service) -> Option<Response> {
    match service.decide(request) {
        Outcome::Response(response) if response.body != b"Ok\n" => Some(response),
        Outcome::Response(_) | Outcome::HandOff { .. } => None,
    }
}

#[test]
fn pages_of_other_origins_are_rejected_if_origins_are_listed() {
    let listed = || Service::new(with(&[("config:ALLOWED_ORIGINS", "https://a.example https://b.example:8443")]));
    let none = || Service::new(with(&[("config:ALLOWED_ORIGINS", "none")]));
    let passes = |origin: &str, service: &dyn Fn() -> Service| {
        let refusals: Vec<_> =
            all().into_iter().map(|request| refusal(request.with("Origin", origin), &mut service())).collect();
        for response in refusals.iter().flatten() {
            is(response, 403, FOREIGN);
            assert_eq!(response.log.as_deref(), Some("rejected a page of another origin"));
            assert_eq!(header(response, "access-control-allow-origin"), None);
        }
        assert!(
            refusals.iter().all(|refusal| refusal.is_some() == refusals[0].is_some()),
            "one path differs: {origin}"
        );
        refusals[0].is_none()
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
        assert!(passes(origin, &Service::local), "all may if nothing is set: {origin}");
    }
    // Twice is no origin; no origin at all is no page, unless the browser says that one asks.
    for request in all() {
        let twice = request.with("Origin", "https://a.example").with("Origin", "https://a.example");
        assert!(refusal(twice, &mut listed()).is_some());
    }
    assert!(all().into_iter().all(|request| refusal(request, &mut none()).is_none()));
    for (site, is_refused) in [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)] {
        for request in all() {
            assert_eq!(refusal(request.with("Sec-Fetch-Site", site), &mut none()).is_some(), is_refused, "{site}");
        }
    }
}

#[test]
fn locally_only_loopback_hosts_are_the_services_own() {
    let passes = |setting: &str, headers: &[(&str, &str)]| {
        let mut service = Service::new(with(&[("config:ALLOWED_ORIGINS", setting)]));
        service.host.is_local = true;
        let get = Request::new("GET", "/api/poll");
        refusal(headers.iter().fold(get, |request, (name, value)| request.with(name, *value)), &mut service).is_none()
    };
    for (host, is_own) in [
        ("127.0.0.1:7676", true),
        ("127.1.2.3", true),
        ("localhost:7676", true),
        ("LOCALHOST", true),
        ("chat.localhost:7676", true),
        ("[::1]:7676", true),
        ("[::1]", true),
        // A name that resolves to this machine, and what looks like it.
        ("evil.example:7676", false),
        ("127.0.0.1.evil.example", false),
        ("localhost.evil.example", false),
        ("evillocalhost", false),
        ("192.168.1.5:7676", false),
        ("localhost:x", false),
        ("", false),
    ] {
        let origin = format!("http://{host}");
        for headers in [
            &[("Host", host), ("Origin", &origin)][..],
            &[("Host", host), ("Sec-Fetch-Site", "same-origin")],
            &[("Host", host)],
        ] {
            assert_eq!(passes("none", headers), is_own, "{headers:?}");
            assert!(passes("*", headers), "{headers:?}");
        }
        // Another port of this machine is another origin, unless it is listed.
        let page = [("Host", host), ("Origin", "http://localhost:3000")];
        assert_eq!((passes("none", &page), passes("http://localhost:3000", &page)), (false, true), "{host}");
    }
    assert!(!passes("none", &[]));
}

#[test]
fn requests_from_the_proxy_name_its_host_and_their_origin_is_not_checked_again() {
    let mut none = Service::new(with(&[("config:ALLOWED_ORIGINS", "none")]));
    let signed = |method: &str, path: &str| {
        Request::new(method, path)
            .with("Host", "127.0.0.1:7677")
            .with("Origin", "https://chat.example")
            .with("Grip-Sig", local_signature(NOW))
    };
    let opening = signed("POST", "/api/websocket").with("Content-Type", EVENTS).with("Connection-Id", "c1");
    assert_eq!(none.respond(opening.with_body("OPEN\r\n")).status, 200);
    assert_eq!(none.respond(signed("GET", "/api/events")).status, 200);
    // A broadcast does not come through the proxy, whatever it says.
    let forged = signed("POST", "/api/broadcast").with("Content-Type", "text/plain");
    assert_eq!(none.respond(forged).status, 403);
}

#[test]
fn a_query_that_is_too_long_for_the_proxy_is_rejected() {
    let long = "Query too long: use at most 3500 bytes, percent-encoded\n";
    let broadcast = Request::new("POST", &format!("/api/broadcast?{}", "a&".repeat(2000)));
    is(&Service::local().respond(broadcast), 414, long);
    for path in SUBSCRIBING {
        for (query, fits) in [
            (format!("token={}", "a".repeat(3494)), true),
            (format!("token={}", "a".repeat(3495)), false),
            (format!("x={}", "|".repeat(1166)), true),
            (format!("x={}", "|".repeat(1167)), false),
            ("%".repeat(2000), false),
            ("a&".repeat(4000), false),
        ] {
            let refusal = refusal(connect(&format!("{path}?{query}")), &mut Service::local());
            let refusal =
                refusal.map(|response| (response.status, String::from_utf8_lossy(&response.body).into_owned()));
            assert_eq!(refusal, (!fits).then(|| (414, long.to_owned())), "{} bytes", query.len());
        }
    }
}

#[test]
fn openings_and_broadcasts_from_one_address_are_counted_apart() {
    let mut service =
        Service::new(with(&[("config:BROADCASTS_PER_MINUTE", "2"), ("config:OPENINGS_PER_MINUTE", " 5 ")]));
    for round in 0..3 {
        let refused = refusal(broadcast().with_body("x").from(Some("192.0.2.7")), &mut service);
        assert_eq!(refused.is_some(), round == 2);
        if let Some(response) = refused {
            is(&response, 429, "Too many broadcasts: at most 2 per minute, wait 60 seconds\n");
            assert_eq!(header(&response, "retry-after"), Some("60"));
            assert_eq!(response.log.as_deref(), Some("rejected one of too many broadcasts"));
        }
    }
    let mut open = |path: &str, address: &str| refusal(connect(path).from(Some(address)), &mut service);
    for round in 0..7 {
        let refused = open(SUBSCRIBING[round % 3], "192.0.2.7");
        assert_eq!(refused.is_some(), round >= 5);
        if let Some(response) = refused {
            is(&response, 429, "Too many connections: at most 5 per minute, wait 60 seconds\n");
        }
    }
    // Another address, and the same in another notation.
    assert!(open("/api/poll", "192.0.2.8").is_none());
    assert!(open("/api/poll", "::ffff:192.0.2.7").is_some());
    // Of IPv6 the first half counts.
    for last in 0..6 {
        assert_eq!(open("/api/poll", &format!("2001:db8:1:2:{last}::1")).is_some(), last == 5);
    }
    assert!(open("/api/poll", "2001:db8:1:3::1").is_none());
    let entries: Vec<_> = service.host.counted.iter().map(|(counter, entry, _)| (*counter, &**entry)).collect();
    assert_eq!(entries[0], (Counter::Broadcasts, "192.0.2.7"));
    assert_eq!(entries.last(), Some(&(Counter::Openings, "2001:db8:1:3::")));
}

#[test]
fn only_a_hand_off_counts_as_an_opening() {
    let mut service = Service::new(with(&[
        ("ACCESS_KEY", "secret:a secret for access tokens of the tests"),
        ("config:OPENINGS_PER_MINUTE", "1"),
    ]));
    // Without a token nobody is handed off.
    for path in SUBSCRIBING {
        assert_eq!(service.respond(connect(path)).status, 401);
    }
    assert_eq!(service.respond(broadcast().with_body("x")).status, 401);
    assert_eq!(service.host.counted, []);

    let mut service = Service::new(with(&[("config:OPENINGS_PER_MINUTE", "1")]));
    let plain = || Request::new("GET", "/api/websocket");
    for request in [plain(), plain().with("Upgrade", "h2c"), plain()] {
        assert_eq!(service.respond(request).status, 426, "no upgrade");
    }
    assert_eq!(service.respond(connect("/api/websocket?channel=,")).status, 400);
    assert!(service.hands_off(connect("/api/websocket")));
    assert_eq!(service.respond(connect("/api/websocket")).status, 429);
    // A page asks without an upgrade why it was refused: it is told, and not counted.
    let total = |service: &Service| service.host.counted.iter().map(|(_, _, n)| n).sum::<u32>();
    let before = total(&service);
    is(&service.respond(plain()), 429, "Too many connections: at most 1 per minute, wait 60 seconds\n");
    assert_eq!(total(&service), before);
}

#[test]
fn requests_pass_if_the_platform_cannot_count() {
    let limited = || Service::new(with(&[("config:BROADCASTS_PER_MINUTE", "1"), ("config:OPENINGS_PER_MINUTE", "1")]));
    let mut service = limited();
    service.host.can_count = false;
    for _ in 0..3 {
        assert!(all().into_iter().all(|request| refusal(request, &mut service).is_none()));
        assert_eq!(service.respond(Request::new("GET", "/api/websocket")).status, 426);
    }
    // Nor can it be counted for whom, if the address is not known.
    let mut service = limited();
    for request in all().into_iter().chain(all()) {
        assert!(refusal(request.from(None), &mut service).is_none());
    }
    assert_eq!(service.host.counted, []);
}

const SECRET: &str = "a secret for access tokens of the tests";
const KEY: &str = "secret:a secret for access tokens of the tests";

fn bearer(request: Request, secret: &str, expires_at: u64, claims: &str) -> Request {
    request.with("Authorization", format!("Bearer {}", access_token(secret, expires_at, claims)))
}

fn good(request: Request) -> Request {
    bearer(request, SECRET, NOW + 60, r#"{"x-fastly-read":["*"],"x-fastly-write":["*"]}"#)
}

fn events() -> Request {
    Request::new("POST", "/api/websocket")
        .with("Content-Type", EVENTS)
        .with("Connection-Id", "c1")
        .with_body("OPEN\r\n")
}

fn total(service: &Service, of: Counter) -> u32 {
    service.host.counted.iter().filter(|(counter, ..)| *counter == of).map(|(.., n)| n).sum()
}

#[test]
fn broadcasts_and_openings_have_limits_by_default() {
    for (counter, request, kind) in [
        (Counter::Broadcasts, &(|| broadcast().with_body("x")) as &dyn Fn() -> Request, "broadcasts"),
        (Counter::Openings, &|| connect("/api/websocket"), "connections"),
        (Counter::Openings, &|| connect("/api/poll"), "connections"),
    ] {
        let mut service = Service::local();
        service.host.counted.push((counter, "192.0.2.1".to_owned(), 5999));
        assert!(refusal(request(), &mut service).is_none());
        let too_many = format!("Too many {kind}: at most 6000 per minute, wait 60 seconds\n");
        is(&service.respond(request()), 429, too_many);
    }
}

#[test]
fn broadcasts_and_openings_have_a_limit_for_each_second() {
    let requests = [
        (&(|| broadcast().with_body("x")) as &dyn Fn() -> Request, "broadcasts", 500),
        (&|| connect("/api/websocket"), "connections", 200),
        (&|| connect("/api/events"), "connections", 200),
        (&|| connect("/api/poll"), "connections", 200),
    ];
    for (request, kind, default) in requests {
        let set = [("config:BROADCASTS_PER_SECOND", "5"), ("config:OPENINGS_PER_SECOND", "5")];
        for (mut service, limit) in [(Service::local(), default), (Service::new(with(&set)), 5)] {
            for second in 0..2 {
                service.host.clock += 1000;
                assert!((0..limit).all(|_| refusal(request(), &mut service).is_none()), "{kind} {second}");
                let refused = service.respond(request());
                is(&refused, 429, format!("Too many {kind}: at most {limit} per second, wait 1 second\n"));
                assert_eq!(header(&refused, "retry-after"), Some("1"));
                // Another address is not concerned.
                assert!(refusal(request().from(Some("192.0.2.8")), &mut service).is_none());
            }
        }
    }
    // What is read for a client that comes back counts for the minute only.
    let mut service = Service::new(with(&[("config:OPENINGS_PER_SECOND", "5"), ("config:HISTORY", "*")]));
    let since = cursor(NOW * 1000);
    for _ in 0..4 {
        service.respond(Request::new("GET", &format!("/api/history?since={since}")));
    }
    assert!(total(&service, Counter::Openings) > 5);
    assert!(refusal(connect("/api/poll"), &mut service).is_none());
    // What a WebSocket publishes counts, too.
    let mut service = Service::new(with(&[("config:BROADCASTS_PER_SECOND", "5")]));
    let batch = Request::new("POST", "/api/websocket?mode=publish")
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", EVENTS)
        .with("Connection-Id", "c1")
        .with_body("TEXT 1\r\nx\r\n".repeat(6));
    assert!(service.respond(batch).body.starts_with(b"CLOSE "));
    assert!(service.take_items().is_empty());
}

#[test]
fn checks_that_fail_are_counted_for_the_address_if_they_took_much_time() {
    const ALL: &str = r#"{"x-fastly-read":["*"],"x-fastly-write":["*"]}"#;
    let forged = |request| bearer(request, "another secret for access tokens", NOW + 60, ALL);
    let expired = |request| bearer(request, SECRET, NOW - 60, ALL);
    let elsewhere = |request| bearer(request, SECRET, NOW + 60, r#"{"x-fastly-read":["a"],"x-fastly-write":["a"]}"#);
    let no_list = |request| bearer(request, SECRET, NOW + 60, r#"{"x-fastly-read":"*"}"#);
    let signed =
        |request: Request| request.with("Grip-Sig", sign_hs256("another secret of the proxy", claims(None, None)));
    let (signatures, tokens) = (Counter::Signatures, Counter::Tokens);
    for (request, counter) in [
        (forged(connect("/api/events")), tokens),
        (forged(connect("/api/websocket")), tokens),
        (forged(broadcast().with_body("x")), tokens),
        (expired(connect("/api/poll")), tokens),
        (elsewhere(connect("/api/poll")), tokens),
        (no_list(connect("/api/poll")), tokens),
        (broadcast().with("Fastly-Key", "forged").with_body("x"), tokens),
        (signed(connect("/api/poll")), signatures),
        (signed(connect("/api/websocket")), signatures),
        (signed(events()), signatures),
    ] {
        let mut service = Service::new(with(&[("ACCESS_KEY", KEY)]));
        service.host.fastly_key = Some("valid");
        service.host.counted.push((counter, "192.0.2.1".to_owned(), 599));
        assert!(matches!(service.respond(request).status, 401 | 403));
        assert_eq!(total(&service, counter), 600);
        // Now nothing more of this kind is verified for this address, and everything for others.
        let too_many = |kind| format!("Too many rejected {kind}: at most 600 per minute, wait 60 seconds\n");
        let signed_events = || good(events()).with("Grip-Sig", local_signature(NOW));
        let keyed = || broadcast().with("Fastly-Key", "valid").with_body("x");
        if counter == tokens {
            is(&service.respond(good(connect("/api/events"))), 429, too_many("access tokens"));
            is(&service.respond(good(broadcast().with_body("x"))), 429, too_many("access tokens"));
            is(&service.respond(keyed()), 429, too_many("access tokens"));
            // A proxy whose clients send bad tokens is not locked out.
            assert_eq!(service.respond(signed_events()).status, 200);
        } else {
            is(&service.respond(signed_events()), 429, too_many("signatures"));
            assert!(service.hands_off(good(connect("/api/events"))));
            is(&service.respond(keyed()), 200, "Ok\n");
        }
        assert!(service.hands_off(good(connect("/api/events")).from(Some("192.0.2.9"))));
        assert_eq!(service.respond(signed_events().from(Some("192.0.2.9"))).status, 200);
        // What needs no verification costs nothing.
        assert_eq!(service.respond(connect("/api/events")).status, 401);
    }
}

#[test]
fn checks_that_fail_at_once_or_through_the_proxy_are_not_counted() {
    let mut service = Service::new(with(&[("ACCESS_KEY", KEY)]));
    // The proxy has signed these, too: a token that has expired, and one for a service of somebody else.
    let of_the_proxy = |issuer: &str, expires_at: u64| sign_hs256(LOCAL_KEY, claims(Some(issuer), Some(expires_at)));
    let through_the_proxy = |request: Request| request.with("Grip-Sig", local_signature(NOW));
    for request in [
        connect("/api/poll").with("Authorization", "Bearer no-token"),
        connect("/api/poll").with("Grip-Sig", "no token"),
        events().with("Grip-Sig", "no token"),
        events().with("Grip-Sig", of_the_proxy("viceroy", NOW - 60)),
        events().with("Grip-Sig", of_the_proxy("fastly:SERVICE2", NOW + 60)),
        through_the_proxy(bearer(connect("/api/poll"), SECRET, NOW - 60, "{}")),
        through_the_proxy(bearer(events(), SECRET, NOW - 60, "{}")),
        // Nobody is known by no address.
        bearer(connect("/api/poll"), SECRET, NOW - 60, "{}").from(None),
    ] {
        assert!(matches!(service.respond(request).status, 401 | 403));
    }
    assert_eq!((total(&service, Counter::Signatures), total(&service, Counter::Tokens)), (0, 0));
}

#[test]
fn the_server_of_the_operator_and_rejected_broadcasts_are_not_counted() {
    let mut service = Service::new(with(&[("ACCESS_KEY", KEY), ("config:BROADCASTS_PER_MINUTE", "1")]));
    service.host.fastly_key = Some("valid");
    for _ in 0..3 {
        is(&service.respond(broadcast().with("Fastly-Key", "valid").with_body("x")), 200, "Ok\n");
        assert_eq!(service.respond(broadcast().with_body("x")).status, 401);
        assert_eq!(service.respond(good(broadcast().with_body(b"\xff"))).status, 400);
        assert_eq!(service.respond(good(broadcast().with_body("\n".repeat(60_000)))).status, 413);
    }
    assert_eq!(total(&service, Counter::Broadcasts), 0);
    is(&service.respond(good(broadcast().with_body("x"))), 200, "Ok\n");
    assert_eq!(service.respond(good(broadcast().with_body("x"))).status, 429);
}

#[test]
fn messages_that_a_websocket_publishes_are_counted_for_the_address_that_was_handed_off() {
    let mut service = Service::new(with(&[("config:BROADCASTS_PER_MINUTE", "3")]));
    let close = b"CLOSE 3c\r\n\x03\xf0Too many broadcasts: at most 3 per minute, wait 60 seconds\r\n";
    let mut publish = |connection: &str, client: &str, body: &str| {
        let request = Request::new("POST", "/api/websocket?mode=publish&channel=a&channel=b")
            .with("Content-Type", EVENTS)
            .with("Connection-Id", connection)
            .with("Grip-Sig", local_signature(NOW))
            .with_body(body);
        service.respond(if client.is_empty() { request } else { request.with("Fanout-Client", client) })
    };
    // One message to two channels counts twice; another connection from the same address is the same.
    is(&publish("c1", "192.0.2.7", "TEXT 1\r\na\r\n"), 200, "");
    is(&publish("c2", "192.0.2.7", "TEXT 1\r\na\r\n"), 200, close);
    is(&publish("c2", "2001:db8:1:2::", "TEXT 1\r\na\r\n"), 200, "");
    // Without an address, or with something else, it is the connection.
    is(&publish("c3", "", "TEXT 1\r\na\r\n"), 200, "");
    is(&publish("c3", "x", "TEXT 1\r\na\r\n"), 200, close);
    is(&publish("c4", "", "TEXT 1\r\na\r\nTEXT 1\r\na\r\n"), 200, close);
    let broadcasts = service.host.counted.iter().filter(|(counter, ..)| *counter == Counter::Broadcasts);
    let entries: Vec<_> = broadcasts.map(|(_, entry, _)| &**entry).collect();
    assert_eq!(entries[..3], ["192.0.2.7", "192.0.2.7", "2001:db8:1:2::"]);
    // A broadcast from there is one more.
    let mut service = Service::new(with(&[("config:BROADCASTS_PER_MINUTE", "3")]));
    service.host.counted.push((Counter::Broadcasts, "192.0.2.7".to_owned(), 3));
    assert_eq!(service.respond(broadcast().with_body("x").from(Some("192.0.2.7"))).status, 429);
}

#[test]
fn an_invalid_limit_is_reported_by_name() {
    for name in ["BROADCASTS_PER_MINUTE", "OPENINGS_PER_MINUTE", "FAILURES_PER_MINUTE"] {
        for value in ["0", "-1", "many", "1.5", "99999999999", "", " "] {
            let entry = format!("config:{name}");
            let service = || Service::new(with(&[(&*entry, value)]));
            assert!(service().settings.are_incomplete());
            // Nor is a token verified without a limit.
            let mut guarded = Service::new(with(&[(&*entry, value), ("ACCESS_KEY", KEY)]));
            let forged = bearer(connect("/api/poll"), "another secret for access tokens", NOW + 60, "{}");
            assert_eq!(guarded.respond(forged).status, 503);
            for request in all() {
                let problem =
                    format!("The entry {name} of the config store `fanout_config` must be a positive integer\n");
                is(&service().respond(request), 503, problem);
            }
            // An open connection that publishes is closed.
            let publish = Request::new("POST", "/api/websocket?mode=publish")
                .with("Content-Type", EVENTS)
                .with("Connection-Id", "c1")
                .with("Grip-Sig", local_signature(NOW))
                .with_body("TEXT 1\r\na\r\n");
            let response = service().respond(publish);
            is(&response, 200, b"CLOSE 29\r\n\x03\xf3a setting of the service cannot be used\r\n");
            assert!(response.log.is_some_and(|line| line.contains(name)));
        }
    }
}

#[test]
fn the_reason_of_a_rejected_websocket_is_logged_and_shown_without_an_upgrade() {
    for (query, line) in [
        ("mode=shout", "Invalid mode: use mode=echo or mode=publish"),
        ("echo=maybe", "Invalid echo: use echo=on or echo=off"),
        ("channel=a,b", "Invalid channel name: use 1 to 64 of A-Z a-z 0-9 - . _ ~"),
    ] {
        let path = format!("/api/websocket?{query}");
        for request in [connect(&path), Request::new("GET", &path)] {
            let response = Service::local().respond(request);
            is(&response, 400, format!("{line}\n"));
            assert_eq!(response.log.as_deref(), Some(line));
        }
    }
}

#[track_caller]
fn health(request: Request, service: &mut Service) -> (u16, Value) {
    let response = service.respond(request);
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    (response.status, serde_json::from_slice(&response.body).expect("JSON"))
}

#[test]
fn a_monitor_sees_what_can_be_used() {
    let get = || Request::new("GET", "/api/health");
    let ok = |access: &str| {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "status": "ok",
            "checks": {
                "verifier": "ok", "publisher": "ok", "access": access, "origins": "ok", "limits": "ok", "history": "off",
                "sandbox": "ok",
                "backend_self": "ok", "backend_publisher": "ok",
            },
        })
    };
    assert_eq!(health(get(), &mut Service::local()), (200, ok("open")));
    let mut guarded = Service::new(with(&[("ACCESS_KEY", "secret:a secret for access tokens of the tests")]));
    assert_eq!(health(get(), &mut guarded), (200, ok("ok")));
    assert_eq!(health(Request::new("HEAD", "/api/health"), &mut guarded).0, 200);
    // It does not care who asks, and does not hand off.
    let proxied = get().with("Upgrade", "websocket").with("Grip-Sig", "forged").with("Origin", "https://b.example");
    assert_eq!(health(proxied, &mut guarded), (200, ok("ok")));
    guarded.host.is_local = true;
    assert_eq!(health(get(), &mut guarded), (200, ok("ok")));
}

#[test]
fn a_monitor_sees_what_cannot_be_used_and_the_operator_why() {
    let get = || Request::new("GET", "/api/health");
    let broken = || {
        let mut service = Service::new(settings(&[
            ("config:FANOUT_SERVICE_ID", "no id"),
            ("ACCESS_KEY", "secret:s3cret"),
            ("config:ALLOWED_ORIGINS", "s3cret.example"),
            ("config:BROADCASTS_PER_MINUTE", "s3cret"),
            ("config:SANDBOX_REQUESTS", "s3cret"),
            ("config:HISTORY", "s3cret:room"),
        ]));
        service.host.fastly_key = Some("valid");
        service.host.backends = vec!["publisher"];
        service
    };
    let checks = json!({
        "verifier": "FANOUT_SERVICE_ID", "publisher": "FANOUT_SERVICE_ID", "access": "ACCESS_KEY",
        "origins": "ALLOWED_ORIGINS", "limits": "BROADCASTS_PER_MINUTE", "history": "HISTORY", "sandbox": "SANDBOX_REQUESTS",
        "backend_self": "missing", "backend_publisher": "ok",
    });
    let public = json!({ "version": env!("CARGO_PKG_VERSION"), "status": "problem", "checks": checks });
    assert_eq!(health(get(), &mut broken()), (503, public.clone()));
    assert_eq!(health(get().with("Fastly-Key", "other"), &mut broken()), (503, public));
    let mut local = broken();
    local.host.is_local = true;
    for (request, mut service) in [(get().with("Fastly-Key", "valid"), broken()), (get(), local)] {
        let (status, seen) = health(request, &mut service);
        assert_eq!((status, &seen["checks"]), (503, &checks));
        assert_eq!(
            seen["why"],
            json!([
                "The entry FANOUT_SERVICE_ID of the config store `fanout_config` is not a service id",
                "The entry ACCESS_KEY of the secret store `fanout` cannot be used: the secret is too short: use at least 32 bytes (openssl rand -base64 32)",
                "The entry ALLOWED_ORIGINS of the config store `fanout_config` must be *, none, or origins separated by spaces, such as https://example.com (number 1 is not one)",
                "The entry BROADCASTS_PER_MINUTE of the config store `fanout_config` must be a positive integer",
                "The entry HISTORY of the config store `fanout_config` must be names of channels, separated by spaces; a * at the end of one stands for what follows",
                "The entry SANDBOX_REQUESTS of the config store `fanout_config` must be a positive integer",
                "The service has no backend `self`: add it",
            ])
        );
        assert!(!seen.to_string().contains("s3cret"));
    }
    let (status, seen) = health(get(), &mut Service::new(settings(&[])));
    assert_eq!((status, &seen["checks"]["publisher"]), (503, &json!("FANOUT_API_TOKEN")));
    // The store for the history is needed only if something is kept.
    for (history, has_store, code, check) in
        [("*", true, 200, "ok"), ("*", false, 503, "missing"), ("", false, 200, "off")]
    {
        let entries = if history.is_empty() { vec![] } else { vec![("config:HISTORY", history)] };
        let mut service = Service::new(with(&entries));
        (service.host.has_store, service.host.is_local) = (has_store, true);
        let (status, seen) = health(get(), &mut service);
        assert_eq!((status, &seen["checks"]["history"]), (code, &json!(check)));
        let why = json!(["The service has no KV store `fanout_history`: add it, or delete HISTORY"]);
        assert_eq!(seen.get("why"), (code == 503).then_some(&why));
    }
}

#[test]
fn what_reads_over_the_proxy_is_checked_as_any_other_client() {
    let list = [("config:ALLOWED_ORIGINS", "https://good.example"), ("config:HISTORY", "*")];
    let mut service = Service::new(with(&list));
    let request = |origin: &str| {
        Request::new("GET", "/api/history?since=2026-01-01T00:00:00Z")
            .with("Grip-Sig", local_signature(NOW))
            .with("Origin", origin)
    };
    assert_eq!(service.respond(request("https://evil.example")).status, 403);
    assert_eq!(service.respond(request("https://good.example")).status, 200);
}
