//! The tests, and the harness that runs them against one running service.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use tungstenite::{Bytes, Message as WsMessage};

use crate::support::{
    FORGED_CONTENT_TYPES, LOCAL_ISSUER, LOCAL_KEY, access_token,
    browser::{Browser, Page},
    claims,
    client::Client,
    http::{Message, Reader, Response, Server, begins, handshake, is_open, received, send, wait_longer, wait_until},
    local_signature,
    process::{Process, Stack, root},
    sign_hs256,
};

const EVENTS: &str = "application/websocket-events";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const NEEDS: &str = "needs the Fastly CLI, Viceroy and Pushpin: make test";

type Test = (&'static str, fn(&Stack));

/// Tests of the handlers in `tests/handlers`. They run one after the other, because all clients get every broadcast.
const TESTS: &[Test] = &[
    ("the_handshake_succeeds", the_handshake_succeeds),
    ("messages_are_sent_back_unchanged", messages_are_sent_back_unchanged),
    ("messages_sent_without_waiting_are_sent_back_in_order", messages_sent_without_waiting_are_sent_back_in_order),
    ("a_broadcast_reaches_every_client", a_broadcast_reaches_every_client),
    ("a_broadcast_reaches_every_transport_of_its_channel", a_broadcast_reaches_every_transport_of_its_channel),
    ("clients_that_ask_for_json_get_envelopes", clients_that_ask_for_json_get_envelopes),
    ("a_broadcast_of_60000_bytes_reaches_every_transport", a_broadcast_of_60000_bytes_reaches_every_transport),
    ("a_broadcast_that_is_sent_again_arrives_once", a_broadcast_that_is_sent_again_arrives_once),
    (
        "a_query_with_characters_that_browsers_leave_as_they_are_is_accepted",
        a_query_with_characters_that_browsers_leave_as_they_are_is_accepted,
    ),
    ("a_connection_subscribes_to_up_to_20_channels", a_connection_subscribes_to_up_to_20_channels),
    ("clients_in_publish_mode_reach_each_other", clients_in_publish_mode_reach_each_other),
    ("a_close_is_acknowledged_with_its_code", a_close_is_acknowledged_with_its_code),
    ("an_abrupt_disconnect_does_not_affect_other_clients", an_abrupt_disconnect_does_not_affect_other_clients),
    ("unsigned_events_are_rejected", unsigned_events_are_rejected),
    ("an_invalid_broadcast_is_rejected", an_invalid_broadcast_is_rejected),
    ("a_client_cannot_subscribe_itself", a_client_cannot_subscribe_itself),
    ("events_forged_by_an_http_client_are_rejected", events_forged_by_an_http_client_are_rejected),
    ("a_signature_that_a_client_sends_has_no_effect", a_signature_that_a_client_sends_has_no_effect),
    ("hand_offs_do_not_loop", hand_offs_do_not_loop),
    ("the_commands_of_the_documents_work", the_commands_of_the_documents_work),
    ("a_handler_can_use_all_features_of_a_connection", a_handler_can_use_all_features_of_a_connection),
];

/// The secrets of the service with access control.
const ACCESS_KEY: &str = "a secret for access tokens of the tests";
const PUBLISH_KEY: &str = "a-token-that-only-publishes";
const FASTLY_KEY: &str = "a-fastly-key-of-the-service";
const LISTED: &str = "https://listed.example";

/// Tests with a service of their own. Those of the first list use the folder of the checkout, so they run one after the other.
const IN_CHECKOUT: &[(&str, fn())] = &[
    ("the_shipped_service_echoes_and_broadcasts", the_shipped_service_echoes_and_broadcasts),
    (
        "broadcasts_fail_without_pushpin_and_work_after_a_restart",
        broadcasts_fail_without_pushpin_and_work_after_a_restart,
    ),
];
const ALONE: &[(&str, fn())] = &[
    ("the_chat_works_in_a_browser", the_chat_works_in_a_browser),
    ("the_page_works_in_a_browser", the_page_works_in_a_browser),
    ("the_service_works_without_reused_sandboxes", the_service_works_without_reused_sandboxes),
    ("chat_room_and_game_handlers_work", chat_room_and_game_handlers_work),
];

pub fn run() -> ExitCode {
    // All tests of one list share a stack, or the checkout; the others run beside them.
    static STACK: Mutex<Option<Stack>> = Mutex::new(None);
    static CHECKOUT: Mutex<()> = Mutex::new(());
    let stack = || STACK.lock().unwrap_or_else(PoisonError::into_inner);
    let trial = |name: &str, test: Box<dyn FnOnce() + Send>| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(true).with_kind(NEEDS)
    };
    let alone = ALONE.iter().map(|(name, test)| trial(name, Box::new(test)));
    let in_checkout = IN_CHECKOUT.iter().map(|(name, test)| {
        let run = move || {
            let _one = CHECKOUT.lock();
            test();
        };
        trial(name, Box::new(run))
    });
    let shared =
        TESTS.iter().map(|(name, test)| trial(name, Box::new(move || test(stack().get_or_insert_with(Stack::start)))));
    let arguments = Arguments { test_threads: Some(4), ..Arguments::from_args() };
    let mut conclusion = libtest_mimic::run(&arguments, alone.chain(in_checkout).chain(shared).collect());
    // Last, because they check everything that the other tests received, and what was logged.
    let last = [
        trial("no_secret_is_logged", Box::new(move || no_secret_is_logged(stack().get_or_insert_with(Stack::start)))),
        trial(
            "only_authorized_clients_connect_and_no_secret_leaks",
            Box::new(move || {
                let output = stack().as_mut().map(|stack| {
                    stack.stop();
                    stack.output()
                });
                only_authorized_clients_connect_and_no_secret_leaks(output.unwrap_or_default());
            }),
        ),
    ];
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let end = libtest_mimic::run(&arguments, last.into());
    if let Some(mut stack) = stack().take() {
        stack.stop();
    }
    conclusion.num_failed += end.num_failed;
    conclusion.exit_code()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

fn broadcast(stack: &Stack, text: impl AsRef<[u8]>) -> Message {
    send(stack.port, "POST /api/broadcast", &[TEXT], text)
}

/// Publishes to a channel without the service.
fn publish(stack: &Stack, channel: &str, text: &str) {
    let item = format!(r#"{{"items":[{{"channel":"{channel}","formats":{{"ws-message":{{"content":"{text}"}}}}}}]}}"#);
    assert_eq!(send(stack.publish_port, "POST /publish/", &[], item).status(), 200);
}

/// Connects a client and waits until its subscription to the channel `test` is in effect.
#[track_caller]
fn subscribed(stack: &Stack) -> Client {
    let mut client = Client::connect(stack.port);
    wait_for_subscription(stack, &mut client, "test");
    client
}

/// Waits until a subscription is in effect: the proxy accepts the handshake some milliseconds before that.
#[track_caller]
fn wait_for_subscription(stack: &Stack, client: &mut Client, channel: &str) {
    wait_until("the client is subscribed", || {
        publish(stack, channel, "probe");
        !client.is_silent_for(Duration::from_millis(200))
    });
}

/// Waits until the subscription of a stream is in effect. `channel` is the proxy's name for the channel.
#[track_caller]
fn wait_for_stream(stack: &Stack, reader: &mut Reader, channel: &str) {
    let item =
        format!(r#"{{"items":[{{"channel":"{channel}","formats":{{"http-stream":{{"content":": probe\\n"}}}}}}]}}"#);
    wait_until("the stream is subscribed", || {
        assert_eq!(send(stack.publish_port, "POST /publish/", &[], &item).status(), 200);
        reader.read_on();
        reader.read.contains(": probe")
    });
}

/// Returns the next message that is not a probe of [`wait_for_subscription`].
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
fn is(response: &Message, status: u16, body: &str) {
    assert_eq!((response.status(), response.text()), (status, format!("{body}\n")));
}

fn the_handshake_succeeds(stack: &Stack) {
    let client = Client::connect(stack.port);
    let response = &client.response;
    assert_eq!(response.status(), 101);
    let internal = ["grip-sig", "sec-websocket-extensions", "content-type", "set-meta-user"];
    assert!(internal.iter().all(|name| !response.headers().contains_key(*name)), "{:?}", response.headers());
}

fn messages_are_sent_back_unchanged(stack: &Stack) {
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

fn messages_sent_without_waiting_are_sent_back_in_order(stack: &Stack) {
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

fn broadcast_to(stack: &Stack, channel: &str, text: &str) {
    is(&send(stack.port, &format!("POST /api/broadcast?channel={channel}"), &[TEXT], text), 200, "Ok");
}

fn a_broadcast_reaches_every_transport_of_its_channel(stack: &Stack) {
    let mut websocket = Client::connect_with(stack.port, "/api/websocket?channel=room1", &[]);
    let mut events = Reader::get(stack.port, "/api/events?channel=room1");
    let mut other_events = Reader::get(stack.port, "/api/events?channel=room2");
    let mut other = Client::connect_with(stack.port, "/api/websocket?channel=room2", &[]);
    events.wait_for(": subscribed\n");
    wait_for_subscription(stack, &mut websocket, "room1");
    wait_for_subscription(stack, &mut other, "room2");
    wait_for_stream(stack, &mut events, "room1");
    wait_for_stream(stack, &mut other_events, "room2");

    let text = "two\r\nlines\rid: 7";
    broadcast_to(stack, "room1", text);
    assert_eq!(next(&mut websocket), WsMessage::text(text));
    events.wait_for("event: message\ndata: two\ndata: lines\ndata: id: 7\n\n");

    let post = [("Content-Type", "application/octet-stream")];
    is(&send(stack.port, "POST /api/broadcast?channel=room1", &post, b"\xff\x00"), 200, "Ok");
    assert_eq!(next(&mut websocket), WsMessage::Binary(Bytes::from_static(b"\xff\x00")));
    events.wait_for("event: binary\ndata: /wA=\n\n");

    broadcast_to(stack, "room1", "");
    assert_eq!(next(&mut websocket), WsMessage::text(""));
    events.wait_for("event: message\ndata: \n\n");

    let response = polled(stack, "room1", text);
    assert_eq!(response.values("content-type"), ["text/plain; charset=utf-8"]);
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));

    // Nothing of this reached another channel.
    broadcast_to(stack, "room2", "elsewhere");
    assert_eq!(next(&mut other), WsMessage::text("elsewhere"));
    other_events.wait_for("elsewhere");
    assert!(!other_events.read.contains("two") && !other_events.read.contains("wA="), "{}", other_events.read);
}

/// Connects a client that asks for envelopes, and waits until its subscription is in effect. Returns its welcome, too. It
/// connects to Pushpin, as clients connect to Fanout on Fastly: Viceroy 0.22 loses what arrives together with the 101.
#[track_caller]
fn subscribed_to_json(stack: &Stack, channel: &str, options: &str) -> (Client, Value) {
    let target = format!("/api/websocket?format=json&channel={channel}{options}");
    let mut client = Client::connect_with(stack.pushpin_port, &target, &[("Pushpin-Route", "self")]);
    let welcome = json(&client.next());
    wait_for_subscription(stack, &mut client, &format!("json:{channel}"));
    (client, welcome)
}

#[track_caller]
fn json(message: &WsMessage) -> Value {
    serde_json::from_str(message.to_text().expect("text")).expect("JSON")
}

fn clients_that_ask_for_json_get_envelopes(stack: &Stack) {
    let (mut alice, welcome) = subscribed_to_json(stack, "json1", "&mode=publish");
    let (mut bob, _) = subscribed_to_json(stack, "json1", "&mode=publish&echo=off");
    let mut raw = Client::connect_with(stack.port, "/api/websocket?channel=json1", &[]);
    let mut events = Reader::get(stack.port, "/api/events?channel=json1&format=json");
    wait_for_subscription(stack, &mut raw, "json1");
    wait_for_stream(stack, &mut events, "json:json1");
    assert_eq!((&welcome["type"], welcome["connection"].as_str().map(str::len)), (&Value::from("welcome"), Some(36)));
    events.wait_for("event: message\ndata: {\"type\":\"welcome\",\"since\":\"");

    let response = send(stack.port, "POST /api/broadcast?channel=json1", &[TEXT], "a \"b\"\n\u{2603}");
    let id = response.header("message-id").expect("an id");
    assert!(welcome["since"].as_str() < Some(id), "the cursor is less than the id of a later message");
    let expected = json!({ "type": "message", "id": id, "channel": "json1", "data": "a \"b\"\n\u{2603}" });
    for client in [&mut alice, &mut bob] {
        assert_eq!(json(&next(client)), expected);
    }
    assert_eq!(next(&mut raw), WsMessage::text("a \"b\"\n\u{2603}"));
    events.wait_for(&format!("id: {id}\nevent: message\ndata: {{\"type\":\"message\",\"id\":\"{id}\","));

    // What a client publishes, and whom that leaves out.
    bob.send(r#"{"type":"message","base64":"/wA="}"#);
    let published = json(&next(&mut alice));
    assert_eq!((&published["base64"], published["id"].as_str() > Some(id)), (&Value::from("/wA="), true));
    assert_eq!(next(&mut raw), WsMessage::Binary(Bytes::from_static(b"\xff\x00")));
    assert!(bob.is_silent_for(Duration::from_millis(700)));
    alice.send("hi");
    assert_eq!(json(&next(&mut alice))["type"], "error");
    let (mut echo, _) = subscribed_to_json(stack, "json2", "");
    echo.echoes(r#"{"type":"message","data":"hi"}"#);
    // A heartbeat that a script can see.
    let heartbeat = echo.next_within(Duration::from_secs(90));
    assert_eq!(heartbeat, Some(WsMessage::text(r#"{"type":"ping"}"#)));

    let port = stack.port;
    let poll = move |query: &str| {
        let response = send(port, &format!("GET /api/poll?channel=json3&format=json{query}"), &[], "");
        assert_eq!(response.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_str(&response.text()).expect("JSON");
        (body, response.header("message-id").map(str::to_owned))
    };
    // The channel is kept, so it gets a cursor at once. With that it waits.
    let (first, _) = poll("");
    let since = format!("&since={}", first[0]["since"].as_str().expect("a cursor"));
    let held = thread::spawn(move || poll(&since));
    wait_until("the poll gets a message", || {
        broadcast_to(stack, "json3", "hi");
        held.is_finished()
    });
    let (body, id) = held.join().expect("a poll");
    let last = body.as_array().and_then(|list| list.last()).expect("a message");
    // Live, or from the history behind a welcome.
    assert_eq!((&last["data"], body[0]["id"].as_str()), (&Value::from("hi"), id.as_deref()));
}

fn a_broadcast_of_60000_bytes_reaches_every_transport(stack: &Stack) {
    let mut websocket = Client::connect_with(stack.port, "/api/websocket?channel=large", &[]);
    let (mut envelopes, _) = subscribed_to_json(stack, "large", "");
    let mut events = Reader::get(stack.port, "/api/events?channel=large");
    let mut json_events = Reader::get(stack.port, "/api/events?channel=large&format=json");
    wait_for_subscription(stack, &mut websocket, "large");
    wait_for_stream(stack, &mut events, "large");
    wait_for_stream(stack, &mut json_events, "json:large");
    let text = "X".repeat(60_000);
    broadcast_to(stack, "large", &text);
    assert!(next(&mut websocket) == WsMessage::text(&text));
    assert!(json(&next(&mut envelopes))["data"] == *text);
    for reader in [&mut events, &mut json_events] {
        wait_until("the event arrives", || {
            reader.read_on();
            reader.read.matches('X').count() == 60_000
        });
    }
    let port = stack.port;
    let poll = thread::spawn(move || send(port, "GET /api/poll?channel=large", &[], ""));
    wait_until("the poll gets a message", || {
        broadcast_to(stack, "large", &text);
        poll.is_finished()
    });
    assert_eq!(poll.join().expect("a poll").text().matches('X').count(), 60_000);
}

fn a_broadcast_that_is_sent_again_arrives_once(stack: &Stack) {
    let mut websocket = Client::connect_with(stack.port, "/api/websocket?channel=again", &[]);
    let mut events = Reader::get(stack.port, "/api/events?channel=again");
    wait_for_subscription(stack, &mut websocket, "again");
    wait_for_stream(stack, &mut events, "again");
    for text in ["small".to_owned(), "L".repeat(60_000)] {
        let first = send(stack.port, "POST /api/broadcast?channel=again", &[TEXT], &text);
        let id = first.header("message-id").expect("an id");
        let again = send(stack.port, &format!("POST /api/broadcast?channel=again&id={id}"), &[TEXT], &text);
        assert_eq!((again.status(), again.header("message-id")), (200, Some(id)));
        assert!(next(&mut websocket) == WsMessage::text(&text));
    }
    broadcast_to(stack, "again", "last");
    assert_eq!(next(&mut websocket), WsMessage::text("last"));
    events.wait_for("last");
    assert_eq!((events.read.matches("small").count(), events.read.matches('L').count()), (1, 60_000));
}

/// Polls while the text is broadcast repeatedly, and returns the response: a poll does not show when it is subscribed.
#[track_caller]
fn polled(stack: &Stack, channel: &'static str, text: &str) -> Message {
    let port = stack.port;
    let poll = thread::spawn(move || send(port, &format!("GET /api/poll?channel={channel}"), &[], ""));
    wait_until("the poll gets a message", || {
        broadcast_to(stack, channel, text);
        poll.is_finished()
    });
    let response = poll.join().expect("a poll");
    assert_eq!((response.status(), &*response.text()), (200, text));
    response
}

fn a_connection_subscribes_to_up_to_20_channels(stack: &Stack) {
    let query = |count: usize| (0..count).map(|number| format!("channel=c{number}")).collect::<Vec<_>>().join("&");
    let mut client = Client::connect_with(stack.port, &format!("/api/websocket?{}", query(20)), &[]);
    for number in 0..20 {
        let name = format!("c{number}");
        wait_for_subscription(stack, &mut client, &name);
        broadcast_to(stack, &name, &name);
        assert_eq!(next(&mut client), WsMessage::text(name));
    }
    let rejected = handshake(stack.port, &format!("/api/websocket?{}", query(21)), &[]);
    is(&rejected, 400, "Too many channels: use at most 20");
}

fn clients_in_publish_mode_reach_each_other(stack: &Stack) {
    let connect =
        |options: &str| Client::connect_with(stack.port, &format!("/api/websocket?channel=chat{options}"), &[]);
    let [mut alice, mut bob, mut listener] = ["&mode=publish", "&mode=publish&echo=off", "&echo=off"].map(connect);
    for client in [&mut alice, &mut bob, &mut listener] {
        wait_for_subscription(stack, client, "chat");
    }
    alice.send("from alice");
    for client in [&mut alice, &mut bob, &mut listener] {
        assert_eq!(next(client), WsMessage::text("from alice"));
    }
    bob.send(WsMessage::Binary(Bytes::from_static(b"\xff from bob")));
    bob.send("again");
    for client in [&mut alice, &mut listener] {
        assert_eq!(next(client), WsMessage::Binary(Bytes::from_static(b"\xff from bob")));
        assert_eq!(next(client), WsMessage::text("again"));
    }
    listener.send("not published");
    for client in [&mut alice, &mut bob, &mut listener] {
        assert!(client.is_silent_for(Duration::from_millis(700)));
    }
}

fn the_service_works_without_reused_sandboxes() {
    let stack = Stack::start_without_reuse();
    messages_are_sent_back_unchanged(&stack);
    a_broadcast_reaches_every_client(&stack);
    clients_in_publish_mode_reach_each_other(&stack);
    let sandboxes = stack.output().matches("There is no ACCESS_KEY").count();
    assert!(sandboxes >= 30, "{sandboxes} sandboxes");
}

fn a_query_with_characters_that_browsers_leave_as_they_are_is_accepted(stack: &Stack) {
    for query in ["filter={}", "filter=100%", "filter=a|b^c`d\\e", "filter=%zz"] {
        let target = format!("/api/events?channel=t&{query}");
        Reader::get(stack.port, &target).wait_for(": subscribed");
        let target = format!("/api/websocket?channel=t&{query}");
        Client::connect_with(stack.port, &target, &[]).echoes("hello");
    }
}

fn the_page_works_in_a_browser() {
    const ENTER: (&str, u32, &str) = ("Enter", 13, "\r");
    let mut stack = Stack::start();
    let url = format!("http://127.0.0.1:{}/", stack.port);
    let mut browser = Browser::start();
    let page = browser.open(&url);
    let shows = |text: &str| {
        format!("[...document.querySelectorAll('#log .what')].some((what) => what.textContent === {text:?})")
    };
    let status = |text: &str| format!("document.getElementById('status').textContent.startsWith({text:?})");
    let set = |id: &str, value: &str| {
        format!(
            "(() => {{ const element = document.getElementById({id:?}); element.value = {value:?}; element.dispatchEvent(new Event('change')); return true; }})()"
        )
    };
    let click = |id: &str| format!("document.getElementById({id:?}).click()");

    // With the keyboard: Enter in the first field connects, Enter in the message field sends.
    browser.eval(&page, "document.getElementById('channel').focus()");
    browser.press(&page, ENTER.0, ENTER.1, ENTER.2);
    browser.wait_for(&page, &status("connected to test"));
    browser.eval(&page, "document.getElementById('text').focus()");
    browser.type_text(&page, "Is this thing on?");
    browser.press(&page, ENTER.0, ENTER.1, ENTER.2);
    browser.wait_for(&page, &shows("Is this thing on?"));
    broadcast_to(&stack, "test", "from outside <b>");
    browser.wait_for(&page, &shows("from outside <b>"));
    let curl = browser.eval(&page, "document.getElementById('curl').textContent");
    assert_eq!(curl, format!("npx wscat -c 'ws://127.0.0.1:{}/api/websocket?channel=test'", stack.port));
    browser.eval(&page, &click("broadcast"));
    browser.wait_for(&page, "document.querySelectorAll('#log li').length === 3");

    // Screenshots for the README, if SCREENSHOTS names a folder.
    if let Some(folder) = std::env::var_os("SCREENSHOTS") {
        let own = format!("curl.textContent = curl.textContent.replace('{}', '7676')", stack.port);
        browser.eval(&page, &own);
        for (name, width, height, scheme) in
            [("light", 820, 710, "light"), ("dark", 820, 710, "dark"), ("phone", 390, 900, "light")]
        {
            browser.set_screen(&page, width, height, scheme);
            thread::sleep(Duration::from_millis(300));
            browser.screenshot(&page, &std::path::Path::new(&folder).join(format!("page-{name}.png")));
        }
    }
    browser.set_screen(&page, 390, 780, "dark");
    assert_eq!(browser.eval(&page, "document.documentElement.scrollWidth <= 390"), true, "the page fits on a phone");

    // The line to paste sends what the page has sent, whatever is in it.
    let text = "@/etc/hostname 'a' \"b\" $(id) `id` \\ !x";
    browser.eval(&page, &set("text", text));
    browser.eval(&page, &click("broadcast"));
    let arrived = |times: usize| {
        format!(
            "[...document.querySelectorAll('#log .what')].filter((what) => what.textContent === {text:?}).length === {times}"
        )
    };
    browser.wait_for(&page, &arrived(1));
    let line = browser.eval(&page, "document.getElementById('curl').textContent");
    let shell =
        std::process::Command::new("bash").args(["-c", line.as_str().expect("text")]).output().expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&shell.stdout), "Ok\n", "{line}");
    browser.wait_for(&page, &arrived(2));

    // Two pages receive each other's messages.
    let other = browser.open(&url);
    for page in [&page, &other] {
        if browser.eval(page, &status("connected")) == true {
            browser.eval(page, &click("connect"));
        }
        browser.eval(page, &set("mode", "publish"));
        browser.eval(page, &click("connect"));
        browser.wait_for(page, &status("connected"));
    }
    for page in [&page, &other] {
        repeat_until_shown(&mut browser, page, "are you there?", || broadcast_to(&stack, "test", "are you there?"));
    }
    browser.eval(&other, &set("text", "hello, other page"));
    browser.eval(&other, &click("send"));
    browser.wait_for(&page, &shows("hello, other page"));
    browser.wait_for(&other, &shows("hello, other page"));

    // Each transport.
    for transport in ["events", "poll"] {
        browser.eval(&page, &click("connect"));
        browser.eval(&page, &set("transport", transport));
        browser.eval(&page, &click("connect"));
        browser.wait_for(&page, &status("connected"));
        let text = format!("by {transport}");
        repeat_until_shown(&mut browser, &page, &text, || broadcast_to(&stack, "test", &text));
    }

    // The service stops and starts again: a WebSocket and an EventSource reconnect by themselves.
    browser.eval(&page, &click("connect"));
    browser.eval(&page, &set("transport", "events"));
    browser.eval(&page, &click("connect"));
    browser.wait_for(&page, &status("connected"));
    stack.stop();
    for page in [&page, &other] {
        browser.wait_for(page, &status("reconnecting in"));
        browser.wait_for(page, "document.getElementById('problem').textContent !== ''");
    }
    let stack = stack.start_again();
    for page in [&page, &other] {
        browser.wait_for(page, &status("connected"));
    }
    for page in [&page, &other] {
        repeat_until_shown(&mut browser, page, "back again", || broadcast_to(&stack, "test", "back again"));
    }
    assert_eq!(browser.errors, [""; 0]);
}

/// Repeats `act` until the page shows a message that contains `text`.
#[track_caller]
fn repeat_until_shown(browser: &mut Browser, page: &Page, text: &str, mut act: impl FnMut()) {
    let shows =
        format!("[...document.querySelectorAll('#log .what')].some((what) => what.textContent.includes({text:?}))");
    wait_until("the page shows the message", || {
        act();
        browser.eval(page, &shows) == true
    });
}

fn a_close_is_acknowledged_with_its_code(stack: &Stack) {
    assert_eq!(Client::connect(stack.port).close(Some((4001, "bye \u{2603}"))), Some((4001, String::new())));
    assert_eq!(Client::connect(stack.port).close(Some((1000, ""))), Some((1000, String::new())));
    assert_eq!(Client::connect(stack.port).close(None), Some((1000, String::new())));
}

fn an_abrupt_disconnect_does_not_affect_other_clients(stack: &Stack) {
    let mut client = Client::connect(stack.port);
    client.echoes("here");
    let before = stack.handled();
    client.disconnect();
    wait_until("the service gets the DISCONNECT", || stack.handled() > before);
    Client::connect(stack.port).echoes("still here");
}

fn unsigned_events_are_rejected(stack: &Stack) {
    let post = |signature: Option<String>| {
        let mut headers = vec![("Content-Type", EVENTS), ("Connection-Id", "c1")];
        headers.extend(signature.as_deref().map(|signature| ("Grip-Sig", signature)));
        send(stack.port, "POST /api/websocket", &headers, "OPEN\r\n")
    };
    begins(&post(None), 403, "[not proxied] ");
    let good = claims(Some(LOCAL_ISSUER), Some(now() + 3600));
    begins(&post(Some(sign_hs256("another key of the proper length", good))), 403, "[not proxied] ");
    let expired = sign_hs256(LOCAL_KEY, claims(Some(LOCAL_ISSUER), Some(now() - 60)));
    begins(&post(Some(expired)), 403, "[not proxied] ");
    // The same request with a valid signature.
    let response = post(Some(local_signature(now())));
    assert_eq!((response.status(), response.header("content-type")), (200, Some(EVENTS)));
    assert!(response.text().starts_with("OPEN\r\n"));
}

fn an_invalid_broadcast_is_rejected(stack: &Stack) {
    let mut client = subscribed(stack);
    let form =
        send(stack.port, "POST /api/broadcast", &[("Content-Type", "application/x-www-form-urlencoded")], "Hello");
    begins(&form, 415, "Unsupported Content-Type: add the header `Content-Type: text/plain`");
    begins(&broadcast(stack, b"\xff"), 400, "Invalid UTF-8 at byte 0: ");
    is(&broadcast(stack, "x".repeat(64_001)), 413, "Body too large: send at most 64000 bytes");
    begins(&broadcast(stack, "\n".repeat(64_000)), 413, "Message too large: at most ");
    assert_eq!(broadcast(stack, "x".repeat(1_000_000)).status(), 413);
    // None of them was published, but a message of the maximum size is.
    let largest = "x".repeat(64_000);
    is(&broadcast(stack, &largest), 200, "Ok");
    assert!(next(&mut client) == WsMessage::text(largest), "not the largest message");
    is(&send(stack.port, "GET /api/broadcast", &[], ""), 405, "Method not allowed: use POST, OPTIONS");
}

fn a_client_cannot_subscribe_itself(stack: &Stack) {
    let mut client = subscribed(stack);
    let control = r#"c:{"type":"subscribe","channel":"other"}"#;
    client.send(control);
    assert_eq!(next(&mut client), WsMessage::text(control));
    // A subscription takes effect within milliseconds. Once a later one is in effect, this one would be, too.
    wait_for_subscription(stack, &mut subscribed(stack), "test");
    publish(stack, "other", "secret");
    publish(stack, "test", "public");
    assert_eq!(next(&mut client), WsMessage::text("public"), "the client subscribed itself");
}

fn events_forged_by_an_http_client_are_rejected(stack: &Stack) {
    let mut victim = subscribed(stack);
    let post = |content_types: &[&str]| {
        let mut headers = vec![("Pushpin-Route", "self"), ("Connection-Id", "forged"), ("Meta-User", "admin")];
        headers.extend(content_types.iter().map(|value| ("Content-Type", *value)));
        send(stack.pushpin_port, "POST /api/websocket", &headers, "OPEN\r\nTEXT 7\r\nspoofed\r\n")
    };
    for content_types in FORGED_CONTENT_TYPES {
        // Not 403 `[not proxied]`: its signature is valid.
        begins(&post(content_types), 400, "[not a websocket request] ");
    }
    // Pushpin itself rejects these.
    assert_eq!(post(&[EVENTS, "text/plain"]).status(), 403);
    assert_eq!(post(&[EVENTS]).status(), 403);
    victim.echoes("still served");
}

fn a_signature_that_a_client_sends_has_no_effect(stack: &Stack) {
    let (good, bad) = (local_signature(now()), "forged".to_owned());
    // Sent to the service: never handed off.
    assert_eq!(handshake(stack.port, "/api/websocket", &[("Grip-Sig", &good)]).status(), 426);
    begins(&handshake(stack.port, "/api/websocket", &[("Grip-Sig", &bad)]), 403, "[not proxied] ");
    // Sent through the proxy: replaced with the proxy's own signature.
    for signature in [good, bad] {
        let headers = [("Pushpin-Route", "self"), ("Grip-Sig", &*signature)];
        Client::connect_with(stack.pushpin_port, "/api/websocket", &headers).echoes("an ordinary client");
    }
}

fn hand_offs_do_not_loop(stack: &Stack) {
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
                let response = handshake(port, "/api/websocket", &headers);
                assert!([101, 400, 403, 426, 502].contains(&response.status()), "{headers:?}: {response:?}");
                // A loop would continue during this time.
                thread::sleep(Duration::from_millis(50));
                // At most the hand-off, OPEN and DISCONNECT.
                let handled = stack.handled() - before;
                assert!(handled <= 4, "{handled} requests in {:?} for {headers:?}", start.elapsed());
            }
        }
    }
    let before = stack.handled();
    Client::connect(stack.port).echoes("still served");
    wait_until("the hand-off, the OPEN and the message are handled", || stack.handled() >= before + 3);
}

fn no_secret_is_logged(stack: &Stack) {
    let expired = sign_hs256(LOCAL_KEY, claims(Some(LOCAL_ISSUER), Some(now() - 60)));
    begins(&send(stack.port, "POST /api/websocket", &[("Grip-Sig", &expired)], ""), 403, "[not proxied] ");
    wait_until("the log gives the reason", || stack.output().contains("rejected a Grip-Sig: expired"));
    let output = stack.output();
    assert!(!output.contains(LOCAL_KEY));
    assert!(!output.contains("eyJ"), "the log contains a token");
}

fn broadcasts_fail_without_pushpin_and_work_after_a_restart() {
    let mut stack = Stack::start();
    let mut client = subscribed(&stack);
    is(&broadcast(&stack, "Hello"), 200, "Ok");
    assert_eq!(next(&mut client), WsMessage::text("Hello"));
    stack.stop_pushpin();
    let problem = "The message is probably not published: the GRIP proxy could not be reached, try again; clients that reconnect may get it";
    is(&broadcast(&stack, "Hello"), 502, problem);
    wait_until("scripts/serve reports it", || stack.output().contains("serve: Pushpin is gone: "));
    begins(&send(stack.port, "GET /nothing", &[], ""), 404, "Not found: ");
    assert_eq!(send(stack.port, "GET /api/websocket", &[], "").status(), 426);
    is(&broadcast(&stack, "Hello"), 502, problem);
    stack.stop();
    let ports = [stack.port, stack.pushpin_port, stack.publish_port];
    assert!(ports.iter().all(|port| !is_open(*port)), "scripts/serve left a process running");
    // After a restart it works again, also with plain `fastly compute serve`.
    let stack = Stack::start_plainly();
    let mut client = subscribed(&stack);
    is(&broadcast(&stack, "Hello again"), 200, "Ok");
    assert_eq!(next(&mut client), WsMessage::text("Hello again"));
}

/// The blocks of a document in a language, with the port of the service.
fn blocks(stack: &Stack, document: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(document)).expect("a document");
    let fence = format!("```{language}\n");
    let blocks = text.split(&*fence).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| block.replace("127.0.0.1:7676", &format!("127.0.0.1:{}", stack.port))).collect()
}

fn the_commands_of_the_documents_work(stack: &Stack) {
    let documents = fs::read_dir(root().join("docs")).expect("a folder").flatten().map(|entry| entry.path());
    let documents = documents.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let names = documents.map(|path| format!("docs/{}", path.file_name().expect("a name").to_string_lossy()));
    let mut run = 0;
    for document in names.chain(["README.md".to_owned()]) {
        for line in blocks(stack, &document, "sh").iter().flat_map(|block| block.lines()) {
            // What waits for messages gets one, and is then ended.
            let channel =
                line.split("channel=").nth(1).and_then(|rest| rest.split(['\'', '&']).next()).unwrap_or("test");
            let mut command = std::process::Command::new("timeout");
            let mut shell = Process::start("the command", command.args(["90", "bash", "-c", line]));
            // More than once: on a new channel, a poll misses what comes when the proxy has the subscription.
            wait_until(&format!("{document}: {line}"), || {
                broadcast_to(stack, channel, "for the command");
                thread::sleep(Duration::from_millis(300));
                let output = shell.output();
                output.contains("for the command") || output.lines().any(|line| line == "Ok")
            });
            shell.stop();
            run += 1;
        }
    }
    assert!(run >= 4, "{run} commands");
    // The script of the README, and the page of client.md: from another origin.
    let script = blocks(stack, "README.md", "js").into_iter().next().expect("a script");
    let script =
        format!("<script type=\"module\">{}</script>", script.replace("console.log(", "(window.seen ??= []).push("));
    let example = blocks(stack, "docs/client.md", "html").into_iter().next().expect("a page");
    let mut browser = Browser::start();
    let pages = [script, example].map(|html| browser.open(&serve_page(html)));
    browser.wait_for(&pages[0], "window.seen?.includes('Is this thing on?')");
    wait_until("both pages show it", || {
        broadcast_to(stack, "room1", "to the script");
        browser.eval(&pages[0], "seen.includes('to the script')") == true
            && browser.eval(&pages[1], "document.body.innerText.includes('to the script')") == true
    });
    assert_eq!(browser.errors, [""; 0]);
    // The script of client.md for Node.js.
    let script = blocks(stack, "docs/client.md", "js").into_iter().nth(2).expect("a script");
    let script = script.replace("'./client.js'", "'../../src/client/client.js'");
    let mut command = std::process::Command::new("node");
    command.args(["--input-type=module", "-e", &script]).current_dir(root().join("tests/client"));
    let mut node = Process::start("node", &mut command);
    node.wait_until("Node.js prints the message", |node| {
        broadcast_to(stack, "room1", "to Node.js");
        node.output().contains("to Node.js")
    });
}

/// Serves a page on a port of its own, and returns its URL.
fn serve_page(html: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n";
            let _ = stream
                .read(&mut [0; 4096])
                .and_then(|_| write!(stream, "{head}<!doctype html><link rel=icon href=data:,>{html}"));
        }
    });
    url
}

/// The example `examples/chat`, as its README says.
fn the_chat_works_in_a_browser() {
    let (mut chat, page_port) = Stack::start_chat();
    let url = format!("http://127.0.0.1:{page_port}/");
    let mut browser = Browser::start();
    let enter = |browser: &mut Browser, name: &str, room: &str| {
        let page = browser.open(&url);
        browser.eval(
            &page,
            &format!(
                "document.getElementById('name').value = {name:?}; document.getElementById('room').value = {room:?}; \
                 document.getElementById('enter').requestSubmit()"
            ),
        );
        browser.wait_for(&page, &format!("document.getElementById('status').textContent === 'connected as {name}'"));
        page
    };
    let say = |browser: &mut Browser, page: &Page, text: &str| {
        browser.eval(
            page,
            &format!(
                "document.getElementById('text').value = {text:?}; document.getElementById('say').requestSubmit()"
            ),
        );
    };
    let hears = |from: &str, text: &str| {
        format!(
            "[...document.querySelectorAll('#log li')].some((line) => line.textContent === {:?})",
            format!("{from}{text}")
        )
    };
    let alice = enter(&mut browser, "alice", "room-lobby");
    browser.eval(
        &alice,
        "window.typists = []; new MutationObserver(() => typists.push(document.getElementById('typing').textContent.split(' ')[0])) \
         .observe(document.getElementById('typing'), { childList: true }); true",
    );
    let bob = enter(&mut browser, "bob", "room-lobby");
    let carol = enter(&mut browser, "carol", "room-dev");
    browser.wait_for(&alice, &hears("bob", "joined"));
    // HTML is text, and a name is the verified one.
    say(&mut browser, &alice, "hi <b>bob</b>");
    for page in [&alice, &bob] {
        browser.wait_for(page, &hears("alice", "hi <b>bob</b>"));
    }
    browser.eval(&bob, "document.getElementById('text').dispatchEvent(new Event('input'))");
    browser.wait_for(&alice, "document.getElementById('typing').textContent === 'bob is typing'");
    say(&mut browser, &bob, "/left");
    say(&mut browser, &bob, "hello");
    browser.wait_for(&alice, &hears("bob", "hello"));
    assert_eq!(browser.eval(&alice, &hears("bob", "left")), false, "a client cannot say what only the service says");
    assert_eq!(
        browser.eval(&carol, "[...document.querySelectorAll('#log li')].map((line) => line.textContent)"),
        json!([]),
        "another room hears nothing"
    );
    // A text that is too long is answered, and not lost silently.
    say(&mut browser, &bob, &"x".repeat(2001));
    browser.wait_for(&bob, &hears("", "Too long: at most 2000 bytes"));
    // Nothing goes past the handler.
    browser.eval(
        &alice,
        &format!(
            "(async () => {{ const token = await (await fetch('/token?name=alice')).text(); \
             const headers = {{ 'Content-Type': 'text/plain', Authorization: `Bearer ${{token}}` }}; \
             window.past = (await fetch('http://127.0.0.1:{}/api/broadcast?channel=room-lobby', \
             {{ method: 'POST', headers, body: '/left' }})).status; }})(); true",
            chat.port
        ),
    );
    browser.wait_for(&alice, "window.past === 403");
    // Guests read.
    let guest = enter(&mut browser, "guest1", "room-lobby");
    browser.eval(&guest, "document.getElementById('text').dispatchEvent(new Event('input'))");
    say(&mut browser, &guest, "may I?");
    browser.wait_for(&guest, &hears("", "You may only read in this room"));
    say(&mut browser, &alice, "still here");
    browser.wait_for(&guest, &hears("alice", "still here"));
    for unheard in [hears("guest1", "may I?"), hears("guest1", "joined")] {
        assert_eq!(browser.eval(&alice, &unheard), false);
    }
    assert_eq!(browser.eval(&alice, "typists.includes('guest1')"), false);
    // A text stays where it is until it can be sent.
    browser.eval(&guest, "document.getElementById('name').value = '?'; document.getElementById('enter').noValidate = true; document.getElementById('enter').requestSubmit()");
    browser.wait_for(&guest, &hears("", "Use 1 to 20 letters and digits as a name"));
    say(&mut browser, &guest, "not lost");
    assert_eq!(browser.eval(&guest, "document.getElementById('text').value"), "not lost");
    // The server of the tokens is away for a moment, and so is the connection.
    browser.eval(
        &bob,
        "window.once = fetch; window.fetch = () => { fetch = once; return Promise.reject(new Error('away')); }; \
         document.getElementById('enter').requestSubmit()",
    );
    browser.wait_for(&bob, "fetch === once && document.getElementById('status').textContent === 'connected as bob'");
    // Carol's connection breaks, and she gets what was said meanwhile.
    let dave = enter(&mut browser, "dave", "room-dev");
    browser.eval(
        &carol,
        "window.sockets = []; const Real = WebSocket; \
         window.WebSocket = class extends Real { \
           constructor(url, protocols) { super(window.away ? 'ws://127.0.0.1:1/' : url, protocols); sockets.push(this); } \
         }; \
         document.getElementById('enter').requestSubmit()",
    );
    browser.wait_for(&carol, "sockets.length === 1 && sockets[0].readyState === 1");
    thread::sleep(Duration::from_secs(1));
    say(&mut browser, &dave, "hi carol");
    browser.wait_for(&carol, &hears("dave", "hi carol"));
    browser.eval(&carol, "window.away = true; sockets[0].close()");
    browser.wait_for(&dave, &hears("carol", "left"));
    for text in ["while carol", "was away"] {
        say(&mut browser, &dave, text);
        browser.wait_for(&dave, &hears("dave", text));
    }
    assert_eq!(browser.eval(&carol, &hears("dave", "was away")), false);
    browser.eval(&carol, "window.away = false");
    for text in ["while carol", "was away"] {
        browser.wait_for(&carol, &hears("dave", text));
    }
    let twice =
        "[...document.querySelectorAll('#log li')].filter((line) => line.textContent === 'davehi carol').length";
    assert_eq!(browser.eval(&carol, twice), 1, "what she has seen does not come twice");
    // Bob enters another room.
    browser.eval(
        &bob,
        "document.getElementById('room').value = 'room-dev'; document.getElementById('enter').requestSubmit()",
    );
    browser.wait_for(&alice, &hears("bob", "left"));
    browser.wait_for(&carol, &hears("bob", "joined"));
    chat.stop();
    assert!(!is_open(page_port) && !is_open(chat.port), "the server of the page and the service have stopped");
}

/// The first steps of the README, with the shipped program. A change of `src/handler.rs` may break this test.
fn the_shipped_service_echoes_and_broadcasts() {
    let stack = Stack::start_shipped();
    let mut client = Client::connect(stack.port);
    client.echoes("Is this thing on?");
    client.echoes(WsMessage::Binary(Bytes::from_static(b"\x00\xff")));
    wait_for_subscription(&stack, &mut client, "test");
    is(&broadcast(&stack, "Hello"), 200, "Ok");
    assert_eq!(next(&mut client), WsMessage::text("Hello"));
    assert_eq!(Client::connect(stack.port).close(Some((4001, "bye"))), Some((4001, String::new())));
}

fn toolbox(stack: &Stack) -> Client {
    Client::connect_with(stack.port, "/api/websocket?handler=toolbox", &[("X-A", "1")])
}

fn a_handler_can_use_all_features_of_a_connection(stack: &Stack) {
    let mut client = toolbox(stack);
    client.send("header x-a");
    assert_eq!(client.next(), WsMessage::text("Some(\"1\")"));
    // State lasts across requests, separately for each connection.
    client.send("remember name Zo\u{eb}");
    let mut other = toolbox(stack);
    for (client, seen) in [(&mut client, "name=Some(\"Zo\u{eb}\")"), (&mut other, "name=None")] {
        client.send("recall name");
        assert_eq!(client.next(), WsMessage::text(seen));
    }
    // Subscribe and unsubscribe on an open connection.
    for client in [&mut client, &mut other] {
        client.send("subscribe tools");
        wait_for_subscription(stack, client, "tools");
    }
    other.send("publish tools hi");
    for client in [&mut client, &mut other] {
        assert_eq!(next(client), WsMessage::text("hi"));
    }
    other.send("publish-bytes tools");
    for client in [&mut client, &mut other] {
        assert_eq!(next(client), WsMessage::Binary(Bytes::from_static(b"\xff\x00")));
    }
    let mut third = toolbox(stack);
    third.send("subscribe tools");
    wait_for_subscription(stack, &mut third, "tools");
    third.send("unsubscribe tools");
    wait_until("the client is unsubscribed", || {
        publish(stack, "tools", "probe");
        third.is_silent_for(Duration::from_millis(300))
    });
    // Close all other connections on a channel, WebSockets and streams.
    let mut events = Reader::get(stack.port, "/api/events?channel=tools");
    wait_for_stream(stack, &mut events, "tools");
    client.send("close-others tools");
    assert_eq!(other.closed(), Some((1001, "room closed".to_owned())));
    wait_until("the stream ends", || events.read_on() || events.read.ends_with("0\r\n\r\n"));
    broadcast_to(stack, "tools", "still here");
    assert_eq!(next(&mut client), WsMessage::text("still here"));
    third.send("recall name");
    assert_eq!(next(&mut third), WsMessage::text("name=None"));
    // Heartbeats come from the proxy and cause no requests.
    third.send("heartbeat 1");
    third.send("recall name");
    // The first heartbeat may come before the response.
    let response = std::iter::repeat_with(|| third.next()).find(|message| *message != WsMessage::Pong(Bytes::new()));
    assert_eq!(response, Some(WsMessage::text("name=None")));
    // The end of the other connections may still be told.
    wait_until("three heartbeats cause no request", || {
        let before = stack.handled();
        for _ in 0..3 {
            assert_eq!(third.next(), WsMessage::Pong(Bytes::new()));
        }
        stack.handled() == before
    });
    // Reject an open connection.
    third.send("reject 403");
    assert_eq!(third.closed(), Some((1008, "as you wish".to_owned())));
}

/// Handlers as an application could have them: a chat, a room that asks a backend, and a game for members.
fn chat_room_and_game_handlers_work() {
    let rooms = Server::start(|message| match message.start.as_str() {
        "GET /may-enter?room=blue HTTP/1.1" => Response::new(200, &[], "welcome"),
        _ => Response::new(403, &[], "This room is full"),
    });
    let uri = format!("http://127.0.0.1:{{publish_port}}/?verify-iss={LOCAL_ISSUER}&verify-key=secret:{LOCAL_KEY}");
    let backend = format!("[local_server.backends.rooms]\nurl = \"http://127.0.0.1:{}/\"\n", rooms.port);
    let entries = [("GRIP_URL", &*uri), ("ACCESS_KEY", &*format!("secret:{ACCESS_KEY}"))];
    let stack = Stack::start_guarded(&entries, "*", &backend).expect("the service starts");
    let bearer = |claims: &str| format!("Bearer {}", access_token(ACCESS_KEY, now() + 3600, claims));
    let target = |handler: &str| format!("/api/websocket?channel=chat&handler={handler}");

    let connect = |user: &str| {
        let token = bearer(&format!(r#"{{"sub":"{user}","x-fastly-read":["chat"]}}"#));
        // Viceroy 0.22 loses data that arrives in one TCP segment with the 101. So connect to Pushpin directly, which
        // lost nothing in 200 attempts.
        let headers = [("Authorization", &*token), ("Pushpin-Route", "self")];
        let mut client = Client::connect_with(stack.pushpin_port, &target("chat"), &headers);
        assert_eq!(client.next(), WsMessage::text(format!("Welcome, {user}")));
        wait_for_subscription(&stack, &mut client, "chat");
        client
    };
    let mut alice = connect("alice");
    let mut bob = connect("bob");
    assert_eq!(next(&mut alice), WsMessage::text("bob joined"));
    bob.send("/typing");
    bob.send("hello");
    assert_eq!(next(&mut alice), WsMessage::text("bob is typing"));
    for client in [&mut alice, &mut bob] {
        assert_eq!(next(client), WsMessage::text("bob: hello"));
    }
    bob.disconnect();
    assert_eq!(next(&mut alice), WsMessage::text("bob left"));
    let bob = connect("bob");
    assert_eq!(next(&mut alice), WsMessage::text("bob joined"));
    bob.close(None);
    assert_eq!(next(&mut alice), WsMessage::text("bob left"));
    let without_user = bearer(r#"{"x-fastly-read":["chat"]}"#);
    is(&handshake(stack.port, &target("chat"), &[("Authorization", &without_user)]), 401, "Sign in to chat");

    let token = bearer(r#"{"x-fastly-read":["*"]}"#);
    let ask = |room: &str| format!("/api/websocket?handler=ask&channel={room}");
    let mut client = Client::connect_with(stack.port, &ask("blue"), &[("Authorization", &token)]);
    client.echoes("I am in");
    is(&handshake(stack.port, &ask("red"), &[("Authorization", &token)]), 403, "This room is full");
    let mut asked = rooms.requests();
    asked.retain(|request| request.start.starts_with("GET /may-enter?"));
    assert_eq!(asked[0].header("authorization"), Some(&*token));
    assert_eq!(asked.len(), 2, "only openings ask the backend");

    let member = bearer(r#"{"plan":"member","x-fastly-read":["chat"]}"#);
    let play = |token: &str, level: &str| {
        let headers = [("Authorization", token), ("Sec-WebSocket-Protocol", "game.v1")];
        handshake(stack.port, &format!("{}&level={level}", target("game")), &headers)
    };
    is(&play(&token, "hard"), 403, "For members only: see https://example.com/join");
    is(&play(&member, "fun"), 400, "Invalid level: use level=easy or level=hard");
    let headers = [("Authorization", &*member), ("Sec-WebSocket-Protocol", "game.v1")];
    let mut client = Client::connect_with(stack.port, &format!("{}&level=hard", target("game")), &headers);
    assert_eq!(client.response.headers()["sec-websocket-protocol"], "game.v1");
    client.send("level?");
    assert_eq!(client.next(), WsMessage::text("hard"));
}

fn guarded() -> Stack {
    let uri = format!(
        "http://127.0.0.1:{{publish_port}}/?key={PUBLISH_KEY}&verify-iss={LOCAL_ISSUER}&verify-key=secret:{LOCAL_KEY}"
    );
    let keys = format!("[local_server]\nfake_valid_fastly_keys = [\"{FASTLY_KEY}\"]\n");
    let entries = [("GRIP_URL", &*uri), ("ACCESS_KEY", &*format!("secret:{ACCESS_KEY}"))];
    Stack::start_guarded(&entries, LISTED, &keys).expect("the service starts")
}

fn only_authorized_clients_connect_and_no_secret_leaks(open_output: String) {
    // A setting that cannot be used is reported at the start.
    let unusable = [("GRIP_URL", "http://127.0.0.1:{publish_port}/"), ("ACCESS_KEY", " ")];
    let output = Stack::start_guarded(&unusable, "*", "").err().expect("the service does not start");
    let lines = "serve: error: a setting in fastly.toml cannot be used.\nserve:   The entry GRIP_URL of the secret store `fanout` lacks verify-key\n";
    assert!(output.contains(lines), "{output}");

    let mut stack = guarded();
    assert!(stack.output().contains("\nReady: the service requires an access token. Open "), "{}", stack.output());
    let mut tokens = Vec::new();
    let mut token = |seconds: i64, claims: &str| {
        let token = access_token(ACCESS_KEY, now().saturating_add_signed(seconds), claims);
        tokens.push(token.clone());
        token
    };
    let read = token(60, r#"{"x-fastly-read":["room-*"]}"#);
    let write = token(60, r#"{"x-fastly-write":["room-1"]}"#);
    let both = token(60, r#"{"x-fastly-read":["room-1"],"x-fastly-write":["room-1"]}"#);
    let (read_header, write_header) = (format!("Bearer {read}"), format!("Bearer {write}"));

    // An unauthorized client costs no connection: its requests do not reach Pushpin.
    let before = stack.handled();
    for path in ["/api/websocket", "/api/websocket?channel=room-1"] {
        assert_eq!(handshake(stack.port, path, &[]).status(), 401);
        assert_eq!(handshake(stack.port, path, &[("Authorization", &*write_header)]).status(), 403);
    }
    for path in ["/api/events", "/api/poll"] {
        let response = send(stack.port, &format!("GET {path}?channel=room-1"), &[], "");
        assert_eq!(
            (response.status(), response.header("www-authenticate")),
            (401, Some("Bearer realm=\"fanout-edge\""))
        );
    }
    wait_until("all of them are handled", || stack.handled() >= before + 6);
    assert_eq!(stack.handled(), before + 6);
    // A client that connects to Pushpin directly is rejected, too.
    let direct = handshake(stack.pushpin_port, "/api/websocket?channel=room-1", &[("Pushpin-Route", "self")]);
    assert_eq!(direct.status(), 401);
    let direct = send(stack.pushpin_port, "GET /api/poll?channel=room-1", &[("Pushpin-Route", "self")], "");
    assert_eq!(direct.status(), 401);

    // Each way to send a token, and each transport.
    let target = "/api/websocket?channel=room-1";
    let protocols = format!("bearer, {read}");
    let mut clients = [
        Client::connect_with(stack.port, target, &[("Authorization", &read_header)]),
        Client::connect_with(stack.port, &format!("{target}&token={read}"), &[]),
        Client::connect_with(stack.port, target, &[("Sec-WebSocket-Protocol", &protocols)]),
    ];
    let chosen = clients[2].response.headers().get("sec-websocket-protocol").map(|value| value.as_bytes());
    assert_eq!(chosen, Some(&b"bearer"[..]));
    for client in &mut clients {
        client.echoes("authorized");
    }
    let mut events = Reader::get(stack.port, &format!("/api/events?channel=room-1&token={read}"));
    let mut with_header =
        Reader::get_with(stack.port, "/api/events?channel=room-1", &format!("Authorization: {read_header}\r\n"));
    let mut publisher = Client::connect_with(
        stack.port,
        &format!("{target}&mode=publish&echo=off"),
        &[("Sec-WebSocket-Protocol", &format!("bearer, {both}"))],
    );
    events.wait_for(": subscribed");
    for client in clients.iter_mut().chain([&mut publisher]) {
        wait_for_subscription(&stack, client, "room-1");
    }
    wait_for_stream(&stack, &mut events, "room-1");
    wait_for_stream(&stack, &mut with_header, "room-1");
    let post = |query: &str, credential: &[(&str, &str)]| {
        send(stack.port, &format!("POST /api/broadcast?{query}"), &[&[TEXT], credential].concat(), "Hello")
    };
    is(&post("channel=room-1", &[("Authorization", &write_header)]), 200, "Ok");
    is(&post("channel=room-2", &[("Fastly-Key", FASTLY_KEY)]), 200, "Ok");
    let lacks = "The access token does not allow publishing to `room-2` (claim x-fastly-write)";
    is(&post("channel=room-2", &[("Authorization", &write_header)]), 403, lacks);
    is(
        &post("channel=room-1", &[("Fastly-Key", "another")]),
        401,
        "Fastly-Key rejected: use a Fastly API token of this service, or an access token",
    );
    publisher.send("from a page");
    for text in ["Hello", "from a page"] {
        for client in &mut clients {
            assert_eq!(next(client), WsMessage::text(text));
        }
        for reader in [&mut events, &mut with_header] {
            reader.wait_for(&format!("data: {text}\n\n"));
        }
    }

    // Event streams end when their token is no longer valid, after 10 seconds more.
    let brief = token(0, r#"{"sub":"alice","x-fastly-read":["room-1"]}"#);
    let mut ending = ["raw", "json"].map(|format| {
        let mut stream = Reader::get(stack.port, &format!("/api/events?channel=room-1&format={format}&token={brief}"));
        stream.wait_for(": subscribed");
        stream
    });
    // A silent connection is checked after 20 seconds, Pushpin's shortest interval.
    let brief_header = format!("Bearer {}", token(8, r#"{"x-fastly-read":["room-1"]}"#));
    let mut silent = Client::connect_with(stack.port, target, &[("Authorization", &brief_header)]);

    // Once its token has expired, a connection ends with its next message.
    let short = token(-7, r#"{"x-fastly-read":["room-1"]}"#);
    let header = format!("Bearer {short}");
    let mut brief = Client::connect_with(stack.port, target, &[("Authorization", &header)]);
    brief.echoes("still authorized");
    wait_until("the token expires", || handshake(stack.port, target, &[("Authorization", &header)]).status() == 401);
    brief.send("too late");
    let reason = "access token expired: reconnect with a new one".to_owned();
    assert_eq!(brief.closed(), Some((1008, reason.clone())));

    // Pages of other origins.
    for (origin, status) in [(LISTED, 101), ("https://evil.example", 403)] {
        let headers = [("Origin", origin), ("Authorization", &*read_header)];
        assert_eq!(handshake(stack.port, target, &headers).status(), status);
    }
    let own = format!("http://127.0.0.1:{}", stack.port);
    Client::connect_with(stack.port, target, &[("Origin", &own), ("Authorization", &read_header)]).echoes("own page");
    let evil = [("Authorization", &*write_header), ("Origin", "https://evil.example")];
    assert_eq!(post("channel=room-1", &evil).status(), 403);

    the_page_works_with_a_token(&stack, &both);
    wait_until("the streams end", || {
        ending.iter_mut().all(|stream| {
            stream.read_on();
            stream.read.ends_with("\r\n0\r\n\r\n")
        })
    });
    let close = r#"data: {"type":"close","code":1008,"reason":"access token expired: reconnect with a new one"}"#;
    assert_eq!(ending.map(|stream| stream.read.contains(close)), [false, true]);
    // Broadcasts do not delay the check: else they would do so for good.
    let mut last = None;
    wait_longer(Duration::from_secs(120), "the silent connection is closed", || {
        is(&post("channel=room-1", &[("Authorization", &write_header)]), 200, "Ok");
        while let Ok(message) = silent.read_within(Duration::from_millis(200)) {
            last = Some(message);
        }
        matches!(last, Some(WsMessage::Close(_)))
    });
    let frame = |message| if let WsMessage::Close(frame) = message { frame } else { None };
    let frame = last.and_then(frame).map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
    assert_eq!(frame, Some((1008, reason)));
    let health = send(stack.port, "GET /api/health", &[], "");
    assert_eq!(health.status(), 200);
    stack.stop();

    let secrets = [LOCAL_KEY, ACCESS_KEY, PUBLISH_KEY, FASTLY_KEY];
    let all = [("the log", stack.output()), ("the log of the open service", open_output), ("a response", received())];
    for (place, text) in &all {
        assert!(!text.is_empty() || *place == "the log of the open service", "{place} is empty");
        for secret in secrets {
            assert!(!text.contains(secret), "{place} contains {secret}");
        }
        // Viceroy itself logs each request with its query; the service never logs a query.
        let own = text.lines().filter(|line| !line.contains("handling request "));
        for line in own {
            let has_token = line.contains("eyJ") || tokens.iter().any(|token| line.contains(&**token));
            assert!(!has_token, "{place} contains a token: {line}");
        }
    }
    for entry in std::fs::read_dir(stack.pushpin_logs()).expect("Pushpin's logs") {
        let path = entry.expect("an entry").path();
        let log = String::from_utf8_lossy(&std::fs::read(&path).expect("a log")).into_owned();
        for secret in [LOCAL_KEY, ACCESS_KEY, PUBLISH_KEY, FASTLY_KEY] {
            assert!(!log.contains(secret), "{} contains {secret}", path.display());
        }
    }
}

/// With a token, the page works with access control as it does without; without a token, it shows the problem.
fn the_page_works_with_a_token(stack: &Stack, token: &str) {
    let mut browser = Browser::start();
    let page = browser.open(&format!("http://127.0.0.1:{}/", stack.port));
    let set = |id: &str, value: &str| {
        format!(
            "(() => {{ const element = document.getElementById({id:?}); element.value = {value:?}; element.dispatchEvent(new Event('change')); return true; }})()"
        )
    };
    let click = |id: &str| format!("document.getElementById({id:?}).click()");
    let says = |id: &str, text: &str| format!("document.getElementById({id:?}).textContent.includes({text:?})");
    browser.eval(&page, &set("channel", "room-1"));
    browser.eval(&page, &click("connect"));
    // It stops, and says why.
    browser.wait_for(&page, &says("problem", "Access token required"));
    browser.wait_for(&page, &says("status", "not connected"));
    browser.eval(&page, &set("token", token));
    for transport in ["websocket", "events", "poll"] {
        browser.eval(&page, &set("transport", transport));
        browser.eval(&page, &click("connect"));
        browser.wait_for(&page, &says("status", "connected to room-1"));
        let text = format!("by {transport}");
        browser.eval(&page, &set("text", &text));
        wait_until("the page shows its own broadcast", || {
            browser.eval(&page, &click("broadcast"));
            browser.eval(&page, &says("log", &text)) == true
        });
        browser.eval(&page, &click("connect"));
    }
    let curl = browser.eval(&page, "document.getElementById('curl').textContent");
    assert!(curl.as_str().is_some_and(|line| line.contains("Bearer $TOKEN") && !line.contains(token)), "{curl}");
    assert_eq!(browser.errors, [""; 0]);
}
