//! The tests, and the harness that runs them on one running service.

use std::{
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use libtest_mimic::{Arguments, Trial};
use tungstenite::{Bytes, Message as WsMessage};

use crate::support::{
    FORGED_CONTENT_TYPES, LOCAL_ISSUER, LOCAL_KEY, claims,
    client::Client,
    http::{Message, handshake, is_open, send, wait_until},
    local_signature,
    process::Stack,
    sign_hs256,
};

const EVENTS: &str = "application/websocket-events";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const NEEDS: &str = "needs the Fastly CLI, Viceroy and Pushpin: make test";

type Test = (&'static str, fn(&Stack));

/// Run one after the other, as every client of the service hears every broadcast.
const TESTS: &[Test] = &[
    ("the_handshake_succeeds", the_handshake_succeeds),
    ("messages_come_back_as_they_were", messages_come_back_as_they_were),
    ("messages_sent_without_waiting_come_back_in_order", messages_sent_without_waiting_come_back_in_order),
    ("a_broadcast_reaches_every_client", a_broadcast_reaches_every_client),
    ("a_close_is_answered_with_its_code", a_close_is_answered_with_its_code),
    ("a_client_that_vanishes_is_no_trouble", a_client_that_vanishes_is_no_trouble),
    ("what_is_not_signed_is_refused", what_is_not_signed_is_refused),
    ("a_broadcast_that_cannot_be_is_refused", a_broadcast_that_cannot_be_is_refused),
    ("a_client_cannot_subscribe_itself", a_client_cannot_subscribe_itself),
    ("events_that_an_http_client_forges_are_refused", events_that_an_http_client_forges_are_refused),
    ("a_signature_of_its_own_gains_a_client_nothing", a_signature_of_its_own_gains_a_client_nothing),
    ("nothing_is_handed_off_in_a_loop", nothing_is_handed_off_in_a_loop),
    ("no_secret_is_logged", no_secret_is_logged),
];

pub fn run() -> ExitCode {
    // One stack for all of them, started by the first that runs.
    static STACK: Mutex<Option<Stack>> = Mutex::new(None);
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let stack = || STACK.lock().unwrap_or_else(PoisonError::into_inner);
    let mut trials: Vec<_> = TESTS
        .iter()
        .map(|(name, test)| {
            Trial::test(*name, move || {
                test(stack().get_or_insert_with(Stack::start));
                Ok(())
            })
        })
        .collect();
    trials.push(Trial::test("other_ports_and_pushpin_stopped", move || {
        if let Some(stack) = stack().as_mut() {
            stack.stop();
        }
        without_pushpin_no_broadcast_is_ok();
        Ok(())
    }));
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(true).with_kind(NEEDS)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(stack) = stack().take().filter(|_| conclusion.has_failed()) {
        eprintln!("--- scripts/serve:\n{}", stack.output());
    }
    conclusion.exit_code()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

fn broadcast(stack: &Stack, text: impl AsRef<[u8]>) -> Message {
    send(stack.port, "POST /api/broadcast", &[TEXT], text)
}

/// Publishes to a channel past the service.
fn publish(stack: &Stack, channel: &str, text: &str) {
    let item = format!(r#"{{"items":[{{"channel":"{channel}","formats":{{"ws-message":{{"content":"{text}"}}}}}}]}}"#);
    assert_eq!(send(stack.publish_port, "POST /publish/", &[], item).status(), 200);
}

/// A client whose subscription is in effect: the proxy answers the handshake some milliseconds before that.
#[track_caller]
fn subscribed(stack: &Stack) -> Client {
    let mut client = Client::connect(stack.port);
    wait_until("the client is subscribed", || {
        publish(stack, "test", "probe");
        !client.is_silent_for(Duration::from_millis(200))
    });
    client
}

/// The next message that is no probe of [`subscribed`].
#[track_caller]
fn next(client: &mut Client) -> WsMessage {
    loop {
        let message = client.next();
        if message != WsMessage::text("probe") {
            return message;
        }
    }
}

#[track_caller]
fn is(answer: &Message, status: u16, body: &str) {
    assert_eq!((answer.status(), answer.text()), (status, format!("{body}\n")));
}

fn the_handshake_succeeds(stack: &Stack) {
    let client = Client::connect(stack.port);
    let response = &client.response;
    assert_eq!(response.status(), 101);
    let internal = ["grip-sig", "sec-websocket-extensions", "content-type", "set-meta-user"];
    assert!(internal.iter().all(|name| !response.headers().contains_key(*name)), "{:?}", response.headers());
}

fn messages_come_back_as_they_were(stack: &Stack) {
    let mut client = Client::connect(stack.port);
    client.echoes("hello");
    client.echoes("h\u{e9}llo \u{2603} \u{1d11e}\r\nTEXT 5\r\nfake!\r\n");
    client.echoes("");
    client.echoes("m:x");
    client.echoes(WsMessage::Binary(Bytes::from_static(b"\x00\xff\xfe\r\n\x80")));
    client.echoes(WsMessage::Binary(Bytes::new()));
    client.echoes("0123456789abcdef".repeat(60_000 / 16));
    client.echoes(WsMessage::Binary(vec![0xff; 60_000].into()));
    client.send(WsMessage::Ping(Bytes::from_static(b"pp")));
    assert_eq!(client.next(), WsMessage::Pong(Bytes::from_static(b"pp")));
}

fn messages_sent_without_waiting_come_back_in_order(stack: &Stack) {
    let mut client = Client::connect(stack.port);
    let messages: Vec<_> = (0..50).map(|number| WsMessage::text(format!("message {number}"))).collect();
    for message in &messages {
        client.send(message.clone());
    }
    for message in messages {
        assert_eq!(client.next(), message);
    }
}

fn a_broadcast_reaches_every_client(stack: &Stack) {
    let mut clients = [subscribed(stack), subscribed(stack)];
    for text in ["Hello", "", "c:{\"type\":\"detach\"}", "h\u{e9}llo \u{2603}\n\"second\" line\\"] {
        is(&broadcast(stack, text), 200, "Ok");
        for client in &mut clients {
            assert_eq!(next(client), WsMessage::text(text));
        }
    }
    let curl = std::process::Command::new("curl")
        .args(["-sS", "-H", "Content-Type: text/plain", "-d", "from curl"])
        .arg(format!("http://127.0.0.1:{}/api/broadcast", stack.port))
        .output()
        .expect("curl runs (install it: apt-get install curl)");
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "Ok\n");
    for client in &mut clients {
        assert_eq!(next(client), WsMessage::text("from curl"));
    }
}

fn a_close_is_answered_with_its_code(stack: &Stack) {
    assert_eq!(Client::connect(stack.port).close(Some((4001, "bye \u{2603}"))), Some((4001, String::new())));
    assert_eq!(Client::connect(stack.port).close(Some((1000, ""))), Some((1000, String::new())));
    assert_eq!(Client::connect(stack.port).close(None), Some((1000, String::new())));
}

fn a_client_that_vanishes_is_no_trouble(stack: &Stack) {
    let mut client = Client::connect(stack.port);
    client.echoes("here");
    let before = stack.handled();
    client.vanish();
    wait_until("the service hears of it", || stack.handled() > before);
    Client::connect(stack.port).echoes("still here");
}

fn what_is_not_signed_is_refused(stack: &Stack) {
    let post = |signature: Option<String>| {
        let mut headers = vec![("Content-Type", EVENTS), ("Connection-Id", "c1")];
        headers.extend(signature.as_deref().map(|signature| ("Grip-Sig", signature)));
        send(stack.port, "POST /api/websocket", &headers, "OPEN\r\n")
    };
    is(&post(None), 403, "[not proxied]");
    let good = claims(Some(LOCAL_ISSUER), Some(now() + 3600));
    is(&post(Some(sign_hs256("another key of the proper length", good))), 403, "[not proxied]");
    is(&post(Some(sign_hs256(LOCAL_KEY, claims(Some(LOCAL_ISSUER), Some(now() - 60))))), 403, "[not proxied]");
    // The same request with a signature that is right.
    let answer = post(Some(local_signature(now())));
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some(EVENTS)));
    assert!(answer.text().starts_with("OPEN\r\n"));
}

fn a_broadcast_that_cannot_be_is_refused(stack: &Stack) {
    let mut client = subscribed(stack);
    let form =
        send(stack.port, "POST /api/broadcast", &[("Content-Type", "application/x-www-form-urlencoded")], "Hello");
    assert_eq!(form.status(), 415);
    assert!(form.text().starts_with("Body must be text/plain"), "{}", form.text());
    is(&broadcast(stack, b"\xff"), 400, "Body must be UTF-8: it is not at byte 0");
    let problem =
        "The message is too large: the publish request would be 65537 bytes of JSON; the proxy takes at most 65536";
    is(&broadcast(stack, "x".repeat(65_537 - 70)), 413, problem);
    assert_eq!(broadcast(stack, "x".repeat(1_000_000)).status(), 413);
    // None of them was published, and the largest that fits is.
    let largest = "x".repeat(65_536 - 70);
    is(&broadcast(stack, &largest), 200, "Ok");
    assert!(next(&mut client) == WsMessage::text(largest), "not the largest message");
    is(&send(stack.port, "GET /api/broadcast", &[], ""), 405, "Method not allowed. Use: POST");
}

fn a_client_cannot_subscribe_itself(stack: &Stack) {
    let mut client = subscribed(stack);
    let control = r#"c:{"type":"subscribe","channel":"other"}"#;
    client.send(control);
    assert_eq!(next(&mut client), WsMessage::text(control));
    thread::sleep(Duration::from_millis(500));
    publish(stack, "other", "secret");
    assert!(client.is_silent_for(Duration::from_secs(1)), "the client subscribed itself");
    publish(stack, "test", "public");
    assert_eq!(next(&mut client), WsMessage::text("public"));
}

fn events_that_an_http_client_forges_are_refused(stack: &Stack) {
    let mut victim = subscribed(stack);
    let post = |content_types: &[&str]| {
        let mut headers = vec![("Pushpin-Route", "self"), ("Connection-Id", "forged"), ("Meta-User", "admin")];
        headers.extend(content_types.iter().map(|value| ("Content-Type", *value)));
        send(stack.pushpin_port, "POST /api/websocket", &headers, "OPEN\r\nTEXT 7\r\nspoofed\r\n")
    };
    for content_types in FORGED_CONTENT_TYPES {
        // Not 403 `[not proxied]`: the signature on it is valid.
        is(&post(content_types), 400, "[not a websocket request]");
    }
    // These Pushpin stops itself.
    assert_eq!(post(&[EVENTS, "text/plain"]).status(), 403);
    assert_eq!(post(&[EVENTS]).status(), 403);
    victim.echoes("still served");
}

fn a_signature_of_its_own_gains_a_client_nothing(stack: &Stack) {
    let (good, bad) = (local_signature(now()), "forged".to_owned());
    // To the service: never a hand-off.
    assert_eq!(handshake(stack.port, "/api/websocket", &[("Grip-Sig", &good)]).status(), 426);
    is(&handshake(stack.port, "/api/websocket", &[("Grip-Sig", &bad)]), 403, "[not proxied]");
    // Through the proxy: replaced by the proxy's own.
    for signature in [good, bad] {
        let headers = [("Pushpin-Route", "self"), ("Grip-Sig", &*signature)];
        Client::connect_with(stack.pushpin_port, "/api/websocket", &headers).echoes("an ordinary client");
    }
}

fn nothing_is_handed_off_in_a_loop(stack: &Stack) {
    let upgrades = ["WebSocket", "WEBSOCKET", "websocket, h2c", "websocket,websocket", "h2c", "websocket"];
    let extras: [&[(&str, &str)]; 6] = [
        &[],
        &[("Connection", "keep-alive")],
        &[("Sec-WebSocket-Version", "12")],
        &[("Sec-WebSocket-Key", "")],
        &[("Content-Type", EVENTS), ("Connection-Id", "c1")],
        &[("Pushpin-Route", "self"), ("Grip-Feature", "x"), ("Grip-Last", "test; last-id=1")],
    ];
    for (port, route) in [(stack.port, None), (stack.pushpin_port, Some(("Pushpin-Route", "self")))] {
        for upgrade in upgrades {
            for extra in extras {
                let mut headers = vec![("Upgrade", upgrade)];
                headers.extend(route.filter(|_| !extra.contains(&("Pushpin-Route", "self"))));
                headers.extend_from_slice(extra);
                let before = stack.handled();
                let start = Instant::now();
                let answer = handshake(port, "/api/websocket", &headers);
                assert!([101, 400, 403, 426, 502].contains(&answer.status()), "{headers:?}: {answer:?}");
                thread::sleep(Duration::from_millis(50));
                // Hand-off, OPEN and DISCONNECT at the most.
                let handled = stack.handled() - before;
                assert!(handled <= 4, "{handled} requests in {:?} for {headers:?}", start.elapsed());
            }
        }
    }
    let before = stack.handled();
    Client::connect(stack.port).echoes("still served");
    wait_until("the hand-off, the OPEN and the message are counted", || stack.handled() >= before + 3);
}

fn no_secret_is_logged(stack: &Stack) {
    let expired = sign_hs256(LOCAL_KEY, claims(Some(LOCAL_ISSUER), Some(now() - 60)));
    is(&send(stack.port, "POST /api/websocket", &[("Grip-Sig", &expired)], ""), 403, "[not proxied]");
    wait_until("the log says why", || stack.output().contains("refused a Grip-Sig: it has expired"));
    let output = stack.output();
    assert!(!output.contains(LOCAL_KEY));
    assert!(!output.contains("eyJ"), "the log has a token");
}

fn without_pushpin_no_broadcast_is_ok() {
    let mut stack = Stack::start_elsewhere();
    let mut client = subscribed(&stack);
    is(&broadcast(&stack, "Hello"), 200, "Ok");
    assert_eq!(next(&mut client), WsMessage::text("Hello"));
    stack.stop_pushpin();
    let problem = "The GRIP proxy could not be reached, or broke off: do not count on the message being published";
    is(&broadcast(&stack, "Hello"), 502, problem);
    is(&send(stack.port, "GET /", &[], ""), 404, "Not found");
    assert_eq!(send(stack.port, "GET /api/websocket", &[], "").status(), 426);
    is(&broadcast(&stack, "Hello"), 502, problem);
    stack.stop();
    let ports = [stack.port, stack.pushpin_port, stack.publish_port];
    assert!(ports.iter().all(|port| !is_open(*port)), "scripts/serve left something running");
    // A new start serves again, also a plain one.
    let stack = Stack::start_plainly();
    let mut client = subscribed(&stack);
    is(&broadcast(&stack, "Hello again"), 200, "Ok");
    assert_eq!(next(&mut client), WsMessage::text("Hello again"));
}
