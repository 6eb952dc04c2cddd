//! The library with the real Pushpin: the effects of control messages, holds and published items.
#![cfg(not(target_os = "wasi"))]

mod support;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use fanout_edge::grip::{
    Channel, CloseCode, Control, Filter, Formats, Hold, Item, ItemId, WebSocket, WsMessage,
    control::{Content, KeepAliveMode},
    headers::{has_feature, last_ids},
    hold::InvalidHold,
    item::{Body, HeldResponse, HttpResponse, HttpStream},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use jwt_simple::prelude::ES256KeyPair;
use support::{
    backend::{Setup, after_opening, events, recorded, service},
    client::Client,
    http::{Message, PATIENCE, Reader, Response, send, wait_longer, wait_until},
    service::{Service, settings},
};
use tungstenite::{Bytes, Message as Received};

static TEST: Channel = Channel::from_static("test");
static ROOM: Channel = Channel::from_static("room:1");
static VIPS: Channel = Channel::from_static("vips");

fn text(channel: &'static Channel, text: &'static str) -> Item<'static> {
    Item::new(channel, Formats { ws_message: Some(WsMessage::text(text)), ..Formats::default() })
}

fn websocket(message: WsMessage<'static>) -> Item<'static> {
    Item::new(&TEST, Formats { ws_message: Some(message), ..Formats::default() })
}

fn stream(content: HttpStream<'static>) -> Item<'static> {
    Item::new(&ROOM, Formats { http_stream: Some(content), ..Formats::default() })
}

/// A backend that calls `act` for each text message, and echoes nothing.
fn on_message(act: impl Fn(&mut WebSocket<'_>, &str) + Send + Sync + 'static) -> Setup {
    Setup::new(after_opening(move |ws| {
        while let Some(message) = ws.receive() {
            if let fanout_edge::grip::Message::Text(text) = message {
                act(ws, text);
            }
        }
    }))
}

/// Connects a client and waits until it receives what is published to `test`.
#[track_caller]
fn subscribed(setup: &Setup) -> Client {
    let mut client = setup.connect();
    wait_until("the client is subscribed", || {
        setup.publish_items(&[text(&TEST, "probe")]);
        !client.is_silent_for(Duration::from_millis(200))
    });
    client
}

#[track_caller]
fn next(client: &mut Client) -> Received {
    std::iter::repeat_with(|| client.next()).find(|message| *message != Received::text("probe")).expect("endless")
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_keep_alive_is_sent_until_it_is_turned_off() {
    let setup = on_message(|ws, kind| {
        let (content, mode) = match kind {
            "text" => (Some(Content::Text("alive")), KeepAliveMode::Idle),
            "binary" => (Some(Content::Binary(b"\xff")), KeepAliveMode::Interval),
            "ping" => (Some(Content::Ping(b"")), KeepAliveMode::Idle),
            _ => (None, KeepAliveMode::Idle),
        };
        ws.control(&Control::KeepAlive { content, timeout: 2, mode }).expect("short enough");
    });
    for (kind, expected) in [
        ("text", Received::text("alive")),
        ("binary", Received::Binary(Bytes::from_static(b"\xff"))),
        ("ping", Received::Ping(Bytes::new())),
    ] {
        let mut client = setup.connect();
        let start = Instant::now();
        client.send(kind);
        assert_eq!(client.next(), expected);
        assert!(start.elapsed() > Duration::from_millis(500), "{kind} arrived too early");
        assert_eq!(client.next(), expected);
        client.send("off");
        while !client.is_silent_for(Duration::from_millis(2500)) {
            assert!(start.elapsed() < PATIENCE, "{kind} does not stop");
        }
    }
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn traffic_delays_an_idle_keep_alive_but_not_an_interval_keep_alive() {
    let setup = on_message(|ws, kind| {
        let mode = match kind {
            "idle" => KeepAliveMode::Idle,
            "interval" => KeepAliveMode::Interval,
            _ => return,
        };
        let content = Some(Content::Text("alive"));
        ws.control(&Control::KeepAlive { content, timeout: 3, mode }).expect("short enough");
    });
    for (kind, expected) in [("idle", 0), ("interval", 2)] {
        let mut client = subscribed(&setup);
        client.send(kind);
        // A message to the client every half second, for 7 seconds: more than twice the timeout of the keep-alive. If the machine
        // itself was silent for so long, that says nothing.
        let mut busy = || {
            let (mut alive, mut longest) = (0, Duration::ZERO);
            for _ in 0..14 {
                let start = Instant::now();
                setup.publish_items(&[text(&TEST, "traffic")]);
                let end = start + Duration::from_millis(500);
                while let Some(rest) = end.checked_duration_since(Instant::now()) {
                    alive += usize::from(client.next_within(rest) == Some(Received::text("alive")));
                }
                longest = longest.max(start.elapsed());
            }
            (longest < Duration::from_millis(1_500)).then_some(alive)
        };
        let alive = (0..10).find_map(|_| busy()).expect("the machine has a moment");
        assert!(if expected == 0 { alive == 0 } else { alive >= expected }, "{kind}: {alive}");
        wait_until("the keep-alive comes in silence", || {
            client.next_within(Duration::from_secs(4)) == Some(Received::text("alive"))
        });
    }
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_delayed_message_is_sent_after_its_timeout_or_when_flushed() {
    let setup = on_message(|ws, kind| match kind {
        "flush" => ws.control(&Control::FlushDelayed).expect("short enough"),
        seconds => {
            let timeout = seconds.parse().expect("a number");
            ws.control(&Control::SendDelayed { content: Content::Text("late"), timeout }).expect("short enough");
        }
    });
    let mut client = setup.connect();
    let start = Instant::now();
    client.send("2");
    assert_eq!(client.next(), Received::text("late"));
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    client.send("60");
    assert!(client.is_silent_for(Duration::from_millis(500)));
    client.send("flush");
    assert_eq!(client.next(), Received::text("late"));
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn the_skip_self_filter_leaves_out_the_sender() {
    let setup = on_message(|ws, user| {
        ws.control(&Control::SetMeta { name: "user", value: user }).expect("short enough");
        ws.control(&Control::Subscribe { channel: &ROOM, filters: &[Filter::SkipSelf] }).expect("short enough");
        ws.send("ready");
    });
    let mut clients = ["alice", "bob"].map(|user| {
        let mut client = setup.connect();
        client.send(user);
        assert_eq!(client.next(), Received::text("ready"));
        client
    });
    wait_for_subscriptions(&setup, &mut clients);
    setup.publish_items(&[
        Item { meta: &[("sender", "alice")], ..text(&ROOM, "from alice") },
        Item { meta: &[("sender", "bob")], ..text(&ROOM, "from bob") },
        text(&ROOM, "without a sender"),
    ]);
    for (client, other) in clients.iter_mut().zip(["from bob", "from alice"]) {
        assert_eq!(client.next(), Received::text(other));
        assert_eq!(client.next(), Received::text("without a sender"));
    }
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn filters_skip_users_and_substitute_variables() {
    let setup = on_message(|ws, user| {
        let filters = [Filter::SkipUsers, Filter::VarSubst];
        ws.control(&Control::SetMeta { name: "user", value: user }).expect("short enough");
        ws.control(&Control::Subscribe { channel: &ROOM, filters: &filters }).expect("short enough");
        ws.send("ready");
    });
    let mut clients = ["alice", "bob", "carol"].map(|user| {
        let mut client = setup.connect();
        client.send(user);
        assert_eq!(client.next(), Received::text("ready"));
        client
    });
    wait_for_subscriptions(&setup, &mut clients);
    setup.publish_items(&[
        Item { meta: &[("skip_users", "alice, bob")], ..text(&ROOM, "Hello %(user)s") },
        Item { meta: &[("skip_users", "carol")], ..text(&ROOM, "for %(missing)s") },
        text(&ROOM, "end"),
    ]);
    // A variable that is not set makes the message empty.
    for (client, expected) in clients.iter_mut().zip(["", "", "Hello carol"]) {
        assert_eq!(client.next(), Received::text(expected));
        assert_eq!(client.next(), Received::text("end"));
    }
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn stream_filters_require_a_subscription_and_build_ids() {
    let setup = Setup::new(|message: &Message| {
        let hold = Hold::stream(&ROOM).with_filter(Filter::RequireSub);
        let hold = match message.start.split(' ').nth(1) {
            Some("/vip") => Ok(hold.with_channel(&VIPS)),
            // Also when the proxy asks again, a second after the first subscription.
            Some("/id" | "/next") => {
                hold.with_filter(Filter::BuildId).with_meta("id_format", "%(room:1)s-x").and_then(with_a_position)
            }
            _ => Ok(hold),
        };
        held(&hold.expect("a valid hold"), "begin\n")
    });
    let mut readers = ["/vip", "/plain", "/id"].map(|path| {
        let mut reader = Reader::get(setup.pushpin.port, path);
        reader.wait_for("begin\n");
        reader
    });
    // Items without ids would make the proxy forget where the streams are.
    thread::sleep(Duration::from_millis(500));
    let item = |id, prev_id, content| Item {
        id: ItemId::new(id),
        prev_id: ItemId::new(prev_id),
        ..stream(HttpStream::Content(Body::Text(content)))
    };
    setup.publish_items(&[
        Item { meta: &[("require_sub", "vips")], ..item("5", "4", "for vips\n") },
        // `%I` stands for the ID of the item before this one.
        item("6", "5", "now at %I\n"),
    ]);
    for reader in &mut readers {
        reader.wait_for("now at ");
    }
    let seen = readers.map(|reader| (reader.read.contains("for vips\n"), reader.read.contains("now at 5-x\n")));
    assert_eq!(seen, [(true, false), (false, false), (false, true)]);
}

/// Waits until WebSocket clients get what is published to the room.
fn wait_for_subscriptions(setup: &Setup, clients: &mut [Client]) {
    for client in clients.iter_mut() {
        wait_until("the client is subscribed", || {
            setup.publish_items(&[text(&ROOM, "probe")]);
            client.next_within(Duration::from_millis(200)).is_some()
        });
    }
    setup.publish_items(&[text(&ROOM, "subscribed")]);
    for client in clients {
        while client.next() != Received::text("subscribed") {}
    }
}

/// The same for streams.
fn wait_for_streams(setup: &Setup, readers: &mut [Reader]) {
    for reader in readers {
        wait_until("the stream is held", || {
            setup.publish_items(&[stream(HttpStream::Content(Body::Text("probe\n")))]);
            reader.read_on();
            reader.read.contains("probe\n")
        });
    }
}

/// Adds the previous ID 4 to a hold, so that the items of the stream have IDs.
fn with_a_position(hold: Hold) -> Result<Hold, InvalidHold> {
    hold.with_prev_id(ItemId::new("4").expect("a valid id")).with_next("/next", Some(60))
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn an_unsubscribed_client_receives_nothing() {
    let setup = on_message(|ws, _| ws.unsubscribe(&TEST));
    let mut client = subscribed(&setup);
    client.send("leave");
    wait_until("the client is unsubscribed", || {
        setup.publish_items(&[text(&TEST, "probe")]);
        client.is_silent_for(Duration::from_millis(300))
    });
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_detached_client_still_receives_but_its_messages_are_dropped() {
    let setup = on_message(|ws, _| ws.control(&Control::Detach).expect("short enough"));
    let mut client = subscribed(&setup);
    client.send("detach");
    setup.wait_for_body(b"CLOSE\r\n");
    setup.publish_items(&[text(&TEST, "after the detach")]);
    assert_eq!(next(&mut client), Received::text("after the detach"));
    let before = setup.backend.requests().len();
    client.send("dropped");
    assert!(client.is_silent_for(Duration::from_millis(500)));
    assert_eq!(setup.backend.requests().len(), before);
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn pings_pongs_and_disconnects_reach_the_client() {
    let setup = on_message(|ws, kind| match kind {
        "frames" => {
            ws.ping(b"pi").expect("short enough");
            ws.pong(b"po").expect("short enough");
        }
        _ => ws.disconnect(),
    });
    let mut client = setup.connect();
    client.send("frames");
    assert_eq!(client.next(), Received::Ping(Bytes::from_static(b"pi")));
    assert_eq!(client.next(), Received::Pong(Bytes::from_static(b"po")));
    client.send("disconnect");
    assert_eq!(client.closed(), None);
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn the_chosen_subprotocol_is_sent_to_the_client() {
    let setup = Setup::new(|message: &Message| {
        let request = recorded(message);
        let mut ws = WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &request, &message.body)
            .expect("what Pushpin sends is valid");
        if ws.is_opening() {
            ws.accept_with_protocol("chat.v1").expect("the client offers it");
        }
        events(ws.into_response())
    });
    let offered = [("Sec-WebSocket-Protocol", "chat.v2, chat.v1")];
    let client = Client::connect_with(setup.pushpin.port, "/", &offered);
    assert_eq!(client.response.headers()["sec-websocket-protocol"], "chat.v1");
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_heartbeat_pong_causes_no_request() {
    let setup = on_message(|ws, _| {
        let content = Some(Content::Pong(b""));
        ws.control(&Control::KeepAlive { content, timeout: 1, mode: KeepAliveMode::Idle }).expect("a valid control");
    });
    let mut client = setup.connect();
    client.send("x");
    for _ in 0..3 {
        assert_eq!(client.next(), Received::Pong(Bytes::new()));
    }
    assert_eq!(setup.bodies(), [&b"OPEN\r\n"[..], b"TEXT 1\r\nx\r\n"], "clients do not respond to a pong");
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_published_close_leaves_out_its_sender() {
    let setup = on_message(|ws, name| {
        ws.control(&Control::SetMeta { name: "user", value: name }).expect("a valid control");
        ws.subscribe_filtered(&TEST, &[Filter::SkipSelf]);
        ws.send("ready");
    });
    let mut clients = ["alice", "bob"].map(|name| {
        let mut client = setup.connect();
        client.send(name);
        while client.next() != Received::text("ready") {}
        wait_until("the client is subscribed", || {
            setup.publish_items(&[text(&TEST, "probe")]);
            !client.is_silent_for(Duration::from_millis(100))
        });
        client
    });
    let close = websocket(WsMessage::Close { code: CloseCode::GOING_AWAY, reason: "room closed" });
    setup.publish_items(&[Item { meta: &[("sender", "alice")], ..close }, text(&TEST, "still connected")]);
    let [alice, bob] = &mut clients;
    assert_eq!(bob.closed(), Some((1001, "room closed".to_owned())));
    assert_eq!(next(alice), Received::text("still connected"));
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn an_idle_connection_sends_an_empty_request() {
    let setup = on_message(|ws, _| ws.set_keep_alive_interval(20));
    let mut client = setup.connect();
    client.send("x");
    let start = Instant::now();
    thread::sleep(Duration::from_secs(10));
    setup.wait_for_body(b"");
    assert!(start.elapsed() >= Duration::from_secs(19), "{:?}", start.elapsed());
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn items_reach_a_websocket_with_their_type() {
    let setup = Setup::new(service);
    let mut client = subscribed(&setup);
    setup.publish_items(&[
        websocket(WsMessage::text("h\u{e9}llo \"\\\n")),
        websocket(WsMessage::text("")),
        websocket(WsMessage::binary(b"\xff\x00\r\n")),
        websocket(WsMessage::Message(Content::Ping(b"pi"))),
        websocket(WsMessage::Hint),
        websocket(WsMessage::text("end")),
    ]);
    for expected in [
        Received::text("h\u{e9}llo \"\\\n"),
        Received::text(""),
        Received::Binary(Bytes::from_static(b"\xff\x00\r\n")),
        Received::Ping(Bytes::from_static(b"pi")),
        Received::text("end"),
    ] {
        assert_eq!(next(&mut client), expected);
    }
    setup.publish_items(&[websocket(WsMessage::Refresh)]);
    setup.wait_for_body(b"");
    let code = CloseCode::new(4001).expect("a valid code");
    setup.publish_items(&[websocket(WsMessage::Close { code, reason: "bye" })]);
    assert_eq!(client.closed(), Some((4001, "bye".to_owned())));
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn items_with_ids_are_sent_once_and_in_order() {
    let setup = Setup::new(service);
    let mut client = subscribed(&setup);
    let item = |id, prev_id: Option<&'static str>, content| Item {
        id: ItemId::new(id),
        prev_id: prev_id.and_then(ItemId::new),
        ..text(&TEST, content)
    };
    setup.publish_items(&[item("1", None, "one"), item("1", None, "one again")]);
    setup.publish_items(&[item("3", Some("2"), "three")]);
    setup.publish_items(&[item("2", Some("1"), "two")]);
    for expected in ["one", "two", "three"] {
        assert_eq!(next(&mut client), Received::text(expected));
    }
    // One that waits for the item before it arrives after one that does not.
    setup.publish_items(&[item("7", Some("6"), "seven")]);
    setup.publish_items(&[Item { no_seq: true, ..item("9", Some("8"), "nine") }]);
    assert_eq!(next(&mut client), Received::text("nine"));
    assert_eq!(next(&mut client), Received::text("seven"));
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_ticket_comes_back_with_each_request_and_never_from_a_client() {
    let key = ES256KeyPair::generate();
    let pem = key.public_key().to_pem().expect("PEM");
    let uri = "http://127.0.0.1/?key=a-token-of-some-length&verify-iss=viceroy";
    let service = move || Service::new(settings(&[("GRIP_URL", uri), ("GRIP_VERIFY_KEY", &pem)]));
    let setup = Setup::with_key_pair(&key, service);
    let tickets = || -> Vec<_> {
        let requests = setup.backend.requests();
        requests.iter().map(|request| request.header("meta-connection-ticket").map(str::to_owned)).collect()
    };
    // A client cannot send a ticket, under either name.
    let forged = [("Meta-Connection-Ticket", "forged"), ("Set-Meta-Connection-Ticket", "forged")];
    let mut client = Client::connect_with(setup.pushpin.port, "/api/websocket", &forged);
    client.echoes("one");
    client.echoes("two");
    let [None, Some(first), Some(second)] = &tickets()[..] else { panic!("{:?}", tickets()) };
    assert_eq!(first, second);
    assert!(first.starts_with("eyJ"), "{first}");
    // The client never sees it.
    let headers = client.response.headers();
    assert!(headers.iter().all(|(_, value)| value.as_bytes() != first.as_bytes()), "{headers:?}");
    client.disconnect();
    wait_until("the DISCONNECT arrives", || tickets().len() == 4);
    assert_eq!(tickets()[3].as_ref(), Some(first));
    // Over plain HTTP a client can send a ticket, but the service rejects the content type.
    let headers = [
        ("Content-Type", "application/websocket-events ; x=1"),
        ("Connection-Id", "c1"),
        ("Meta-Connection-Ticket", &**first),
    ];
    assert_eq!(send(setup.pushpin.port, "POST /api/websocket", &headers, "OPEN\r\n").status(), 400);
    assert_eq!(tickets()[4].as_ref(), Some(first));
}

fn held(hold: &Hold, body: &str) -> Response {
    let headers = hold.headers();
    let mut headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
    headers.extend([("Content-Type", "text/plain"), ("X-A", "a"), ("X-B", "b")]);
    Response::new(200, &headers, body)
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_held_stream_receives_items_until_it_is_closed() {
    let setup = Setup::new(|_: &Message| {
        let hold = Hold::stream(&ROOM).with_status(203, "Other").and_then(|hold| hold.with_exposed_headers(&["X-A"]));
        held(&hold.expect("a valid hold"), "begin\n")
    });
    let mut reader = Reader::get(setup.pushpin.port, "/stream");
    reader.wait_for("begin\n");
    assert!(reader.read.starts_with("HTTP/1.1 203 Other\r\n"), "{}", reader.read);
    let head = reader.read.to_ascii_lowercase();
    assert!(head.contains("x-a: a") && !head.contains("x-b:") && !head.contains("grip-"), "{head}");
    wait_until("the stream is subscribed", || {
        setup.publish_items(&[stream(HttpStream::Content(Body::Text("probe\n")))]);
        reader.read_on();
        reader.read.contains("probe\n")
    });
    setup.publish_items(&[stream(HttpStream::Content(Body::Text("\u{2603} more\n")))]);
    reader.wait_for("\u{2603} more\n");
    setup.publish_items(&[stream(HttpStream::Close)]);
    reader.wait_for("0\r\n\r\n");
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_stream_is_kept_alive_in_each_format() {
    let setup = Setup::new(|message: &Message| {
        let hold = Hold::stream(&ROOM);
        let hold = match message.start.split(' ').nth(1) {
            Some("/raw") => hold.with_keep_alive(b"ping", 2),
            Some("/cstring") => hold.with_keep_alive(b":\r\n", 2),
            _ => hold.with_keep_alive_mode(b"a;\tb, \"c\" \\", 2, KeepAliveMode::Interval),
        };
        held(&hold.expect("not empty"), "")
    });
    for (path, content) in [("/raw", "ping"), ("/cstring", ":\r\n"), ("/base64", "a;\tb, \"c\" \\")] {
        let mut reader = Reader::get(setup.pushpin.port, path);
        let chunk = format!("{:x}\r\n{content}\r\n", content.len());
        reader.wait_for(&chunk);
    }
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_stream_fetches_missed_items_by_its_next_link_and_reports_its_end_to_its_gone_link() {
    let setup = Setup::new(|message: &Message| {
        let page = message.start.contains("/next");
        let id = ItemId::new(if page { "2" } else { "1" }).expect("a valid id");
        let hold =
            Hold::stream(&ROOM).with_prev_id(id).with_next("/next", Some(60)).and_then(|hold| hold.with_gone("/gone"));
        held(&hold.expect("a valid hold"), if page { "missed\n" } else { "begin\n" })
    });
    let mut reader = Reader::get(setup.pushpin.port, "/stream");
    reader.wait_for("begin\n");
    // The client is at 1, and this item follows 2: the proxy requests what the client missed, as soon as it holds the stream.
    wait_until("the proxy requests what was missed", || {
        let content = HttpStream::Content(Body::Text("three\n"));
        setup.publish_items(&[Item { id: ItemId::new("3"), prev_id: ItemId::new("2"), ..stream(content) }]);
        reader.read_on();
        reader.read.contains("missed\n")
    });
    let request = setup.backend.requests().into_iter().find(|request| request.start.starts_with("GET /next "));
    let request = request.expect("a request to the next link");
    let last = last_ids(request.header("grip-last").unwrap_or_default()).map(|(name, id)| format!("{name}={id}"));
    assert_eq!(last.collect::<Vec<_>>(), ["room:1=1"]);
    assert!(has_feature(request.header("grip-feature").unwrap_or_default(), "link:next"));
    drop(reader);
    wait_until("the gone link is requested", || {
        setup.backend.requests().iter().any(|request| request.start.starts_with("POST /gone "))
    });
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn the_skip_self_filter_of_a_stream_leaves_out_the_sender() {
    let setup = Setup::new(|message: &Message| {
        let user = if message.start.contains("alice") { "alice" } else { "bob" };
        let hold = Hold::stream(&ROOM).with_filter(Filter::SkipSelf).with_meta("user", user);
        held(&hold.expect("a valid hold"), "begin\n")
    });
    let mut readers = ["/alice", "/bob"].map(|path| {
        let mut reader = Reader::get(setup.pushpin.port, path);
        reader.wait_for("begin\n");
        reader
    });
    wait_for_streams(&setup, &mut readers);
    setup.publish_items(&[
        Item { meta: &[("sender", "alice")], ..stream(HttpStream::Content(Body::Text("from alice\n"))) },
        stream(HttpStream::Content(Body::Text("end\n"))),
    ]);
    for reader in &mut readers {
        reader.wait_for("end\n");
    }
    assert!(!readers[0].read.contains("from alice"), "{}", readers[0].read);
    assert!(readers[1].read.contains("from alice"), "{}", readers[1].read);
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn a_response_is_held_until_an_item_is_published_or_its_timeout_expires() {
    let hinted = AtomicBool::new(false);
    let setup = Setup::new(move |message: &Message| {
        let hold = Hold::response(&ROOM).with_timeout(5);
        match message.start.split(' ').nth(1) {
            Some("/hinted") if hinted.swap(true, Ordering::Relaxed) => Response::new(200, &[], "requested again\n"),
            Some("/missed") if message.header("grip-last").is_some() => Response::new(200, &[], "missed\n"),
            Some("/missed") => {
                held(&Hold::response(&TEST).with_prev_id(ItemId::new("1").expect("a valid id")), "nothing new\n")
            }
            _ => held(&hold, "nothing new\n"),
        }
    });
    let start = Instant::now();
    let mut late = Reader::get(setup.pushpin.port, "/poll");
    late.wait_for("nothing new\n");
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());

    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-c"), HeaderValue::from_static("c"))]);
    let news = HeldResponse::ok(&headers, Body::Text("news\n"))
        .with_code(201)
        .and_then(|response| response.with_reason("News"));
    let news = HttpResponse::Response(news.expect("a valid status"));
    let item = |response| Item::new(&ROOM, Formats { http_response: Some(response), ..Formats::default() });
    let mut reader = Reader::get(setup.pushpin.port, "/poll");
    wait_until("the response arrives", || {
        setup.publish_items(&[item(news.clone())]);
        reader.read_on();
        reader.read.contains("news\n")
    });
    assert!(reader.read.starts_with("HTTP/1.1 201 News\r\n"), "{}", reader.read);
    assert!(reader.read.to_ascii_lowercase().contains("x-c: c"), "{}", reader.read);

    let mut hinted = Reader::get(setup.pushpin.port, "/hinted");
    wait_until("the request is sent again", || {
        setup.publish_items(&[item(HttpResponse::Hint)]);
        hinted.read_on();
        hinted.read.contains("requested again\n")
    });

    // The first hold on its channel: the proxy does not know what followed 1, so it asks the backend.
    Reader::get(setup.pushpin.port, "/missed").wait_for("missed\n");
    let requests = setup.backend.requests();
    let last = requests.iter().find_map(|request| request.header("grip-last")).expect("Grip-Last");
    assert_eq!(last_ids(last).collect::<Vec<_>>(), [("test", "1")]);
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn an_item_without_a_format_is_rejected() {
    let setup = Setup::new(service);
    let empty = Item::new(&TEST, Formats::default()).to_json();
    let response = setup.publish(format!(r#"{{"items":[{empty}]}}"#));
    assert_eq!(response.status(), 400, "{}", response.text());
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn event_streams_are_kept_alive_and_polls_time_out() {
    let setup = Setup::new(service);
    let mut events = Reader::get(setup.pushpin.port, "/api/events");
    let mut poll = Reader::get(setup.pushpin.port, "/api/poll");
    let start = Instant::now();
    events.wait_for(": subscribed\n\n");
    // The keep-alive comment arrives after 19 to 20 seconds; the poll ends after 25.
    wait_longer(Duration::from_secs(30), "the keep-alive comment arrives", || {
        events.read_on();
        events.read.contains("3\r\n:\n\n\r\n")
    });
    assert!(start.elapsed() > Duration::from_secs(15), "{:?}", start.elapsed());
    wait_longer(Duration::from_secs(30), "the poll ends", || {
        poll.read_on();
        poll.read.contains("\r\n\r\n")
    });
    assert!(poll.read.starts_with("HTTP/1.1 204 "), "{}", poll.read);
    assert!(start.elapsed() > Duration::from_secs(22), "{:?}", start.elapsed());
}
