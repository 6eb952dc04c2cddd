//! What is kept of messages, and what a client gets that comes back: with a store that is as hostile as Fastly's may be.

use fanout_edge::{
    app::{
        http::Response,
        platform::{Counter, StoreError},
    },
    grip::publish::SendError,
};
use serde_json::{Value, json};

use crate::{
    service::{Request, Service, header, is, settings},
    support::{LOCAL_GRIP_URL, NOW, access_token, local_signature},
};

const START: u64 = NOW * 1000;
const SECRET: &str = "a secret for access tokens of the tests";
const BUSY: &str =
    "The message is published, but not kept: the KV store is too busy; send it again with its Message-Id\n";

/// A service that keeps all messages, and has done so for a minute.
fn service(entries: &[(&str, &str)]) -> Service {
    let mut service =
        Service::new(settings(&[&[("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*")], entries].concat()));
    service.host.is_local = true;
    service.host.clock = START - 60_000;
    service.host.fastly_key = Some("valid");
    is(&service.respond(broadcast("warm-up", "x").with("Fastly-Key", "valid")), 200, "Ok\n");
    service.take_published();
    service.host.clock = START;
    service
}

/// Publishes a text, a moment after the message before, and returns its id.
#[track_caller]
fn publish(service: &mut Service, channel: &str, text: &str) -> String {
    service.host.clock += 10;
    let response = service.respond(broadcast(channel, text));
    is(&response, 200, "Ok\n");
    header(&response, "message-id").expect("an id").to_owned()
}

fn broadcast(channel: &str, text: &str) -> Request {
    Request::new("POST", &format!("/api/broadcast?channel={channel}"))
        .with("Content-Type", "text/plain")
        .with_body(text)
}

fn get(path: &str) -> Request {
    Request::new("GET", path)
}

/// As the proxy asks.
fn proxied(path: &str) -> Request {
    get(path).with("Grip-Sig", local_signature(NOW))
}

#[track_caller]
fn json_of(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    serde_json::from_slice(&response.body).expect("JSON")
}

/// What `GET /api/history` responds for the channel `room`.
#[track_caller]
fn missed(service: &mut Service, since: &str) -> Value {
    json_of(&service.respond(get(&format!("/api/history?channel=room&since={since}"))))
}

fn texts(missed: &Value) -> Vec<&str> {
    let messages = missed["messages"].as_array().expect("a list");
    messages.iter().map(|message| message["data"].as_str().expect("a text")).collect()
}

/// Checks that nothing is promised, for that reason.
#[track_caller]
fn is_lost(missed: &Value, reason: &str) {
    assert_eq!((&missed["recovered"], &missed["reason"]), (&json!(false), &json!(reason)));
    assert_eq!(missed["messages"], json!([]));
}

#[test]
fn a_message_is_kept_under_a_key_that_says_nothing_of_its_channel() {
    let mut service = Service::new(settings(&[
        ("GRIP_URL", LOCAL_GRIP_URL),
        ("config:HISTORY", "room* news"),
        ("config:HISTORY_SECONDS", "300"),
    ]));
    let id = publish(&mut service, "room1", "hi");
    publish(&mut service, "news", "hi");
    let count = service.host.store.entries.len();
    publish(&mut service, "newsletter", "not kept");
    publish(&mut service, "test", "not kept");
    assert_eq!(service.host.store.entries.len(), count);
    // Not the entry of the epoch.
    let values: Vec<_> = service.host.store.entries.iter().filter(|(key, ..)| !key.starts_with("e-")).collect();
    assert_eq!(values.len(), 2);
    let (key, value, _, expires) = values[0];
    assert_eq!(value, &format!(r#"[{{"type":"message","id":"{id}","channel":"room1","data":"hi"}}]"#));
    assert!(!key.contains("room1") && key.len() == 78, "{key}");
    assert_eq!(*expires, service.host.store.entries[0].2 + 360_000);
}

#[test]
fn ok_means_published_and_kept() {
    let mut service = service(&[]);
    let since = publish(&mut service, "room", "first");
    let from = |service: &Service, error| Some((service.host.store.operations + 1, error));
    // Not kept: a retry with its id is published once, and kept.
    service.host.store.fails_from = from(&service, StoreError::TooMany);
    let response = service.respond(broadcast("room", "second"));
    is(&response, 502, BUSY);
    let id = header(&response, "message-id").expect("an id").to_owned();
    service.host.store.fails_from = None;
    is(&service.respond(broadcast(&format!("room&id={id}"), "second")), 200, "Ok\n");
    assert_eq!(missed(&mut service, &since)["messages"][0]["id"], id);
    // Not published, but kept.
    service.host.results.push_back(Err(SendError::Unreachable));
    let response = service.respond(broadcast("room", "third"));
    let unpublished = "The message is probably not published: the GRIP proxy could not be reached, try again";
    is(&response, 502, format!("{unpublished}; clients that reconnect may get it\n"));
    assert_eq!(texts(&missed(&mut service, &since)), ["second", "third"]);
    // Neither.
    service.host.store.fails_from = from(&service, StoreError::Failed);
    service.host.results.push_back(Err(SendError::TimedOut));
    let response = service.respond(broadcast("room", "fourth"));
    let unknown = "The message may or may not be published: the GRIP proxy did not respond in time";
    is(&response, 504, format!("{unknown}. Nor is it kept: the KV store failed\n"));
    // Nothing is published if there is no store at all.
    service.take_published();
    service.host.has_store = false;
    let response = service.respond(broadcast("room", "fifth"));
    is(&response, 503, "The service has no KV store `fanout_history`: add it, or delete HISTORY\n");
    assert!(service.take_published().is_empty());
}

#[test]
fn a_message_that_took_long_to_publish_is_found_by_clients_that_left_meanwhile() {
    let mut service = service(&[]);
    service.host.publishing = 10_000;
    publish(&mut service, "room", "slow");
    service.host.publishing = 0;
    // A client got this one, and left before the slow one arrived at the proxy.
    let seen = format!("{}Z", humantime_of(START + 9_000));
    assert_eq!(texts(&missed(&mut service, &seen)), ["slow"]);
    assert_eq!(missed(&mut service, &seen)["recovered"], true);
}

/// A time as in RFC 3339, without the zone.
fn humantime_of(milliseconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(milliseconds);
    humantime::format_rfc3339_millis(time).to_string().trim_end_matches('Z').to_owned()
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    service.host.clock += 3_000;
    let second = publish(&mut service, "room", "second");
    publish(&mut service, "other", "not for it");
    publish(&mut service, "room", "third");
    let all = missed(&mut service, &first);
    assert_eq!((texts(&all), &all["recovered"]), (vec!["second", "third"], &json!(true)));
    // It may have missed what was published at about the same time as what it saw, but not that itself.
    publish(&mut service, "room", "fourth");
    assert_eq!(texts(&missed(&mut service, &second)), ["third", "fourth"]);
    // The next cursor says which of those it has.
    let next = missed(&mut service, &second);
    let since = next["since"].as_str().expect("an id");
    assert_eq!(texts(&missed(&mut service, since)), [""; 0]);
    publish(&mut service, "room", "fifth");
    assert_eq!(texts(&missed(&mut service, since)), ["fifth"]);
    // A time does, too, for who has no id yet.
    assert_eq!(texts(&missed(&mut service, &format!("{}Z", humantime_of(START + 2_600))))[0], "second");
    // Bytes come back as they were.
    let bytes = Request::new("POST", "/api/broadcast?channel=bytes")
        .with("Content-Type", "application/octet-stream")
        .with_body([0, 1, 2]);
    is(&service.respond(bytes), 200, "Ok\n");
    let missed = json_of(&service.respond(get(&format!("/api/history?channel=bytes&since={first}"))));
    assert_eq!(missed["messages"][0]["base64"], "AAEC");
}

#[test]
fn a_message_that_is_stored_late_is_found_with_the_next_cursor() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    let since = missed(&mut service, &first)["since"].as_str().expect("an id").to_owned();
    // Its key is older than the cursor, but the reader did not see it.
    service.host.clock -= 500;
    publish(&mut service, "room", "late");
    service.host.clock += 1_000;
    assert_eq!(texts(&missed(&mut service, &since)), ["late", "first"]);
}

#[test]
fn messages_are_sorted_and_there_once_whatever_the_store_lists() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    (service.host.clock, service.now) = (START + 60_000, NOW + 60);
    let all: Vec<_> = (0..10).map(|number| format!("text {number}")).collect();
    for text in &all {
        let id = publish(&mut service, "room", text);
        service.host.clock += 1;
        is(&service.respond(broadcast(&format!("room&id={id}"), text)), 200, "Ok\n");
    }
    service.host.store.page = Some(5);
    let missed = missed(&mut service, &first);
    assert_eq!((texts(&missed), &missed["recovered"]), (all.iter().map(String::as_str).collect(), &json!(true)));
}

#[test]
fn nothing_is_promised_that_cannot_be_kept() {
    let mut service = service(&[("config:HISTORY_SECONDS", "300")]);
    let since = publish(&mut service, "room", "first");
    for number in 0..25 {
        publish(&mut service, "room", &number.to_string());
    }
    let kept = missed(&mut service, &since);
    assert_eq!((texts(&kept).len(), &kept["recovered"]), (25, &json!(true)));
    publish(&mut service, "room", "one too many");
    is_lost(&missed(&mut service, &since), "there are more than 25 messages, too large ones, or too many channels");
    // A cursor that is too old, and one from before the store was kept.
    let old = format!("{}Z", humantime_of(service.host.clock - 300_001));
    is_lost(&missed(&mut service, &old), "messages are kept for 300 seconds");
    let before = format!("{}Z", humantime_of(START - 61_000));
    is_lost(&missed(&mut service, &before), "messages are kept only from 2027-01-15T07:59:00Z on");
    // Too large.
    service.host.clock += 10_000;
    let since = publish(&mut service, "room", "second");
    for _ in 0..9 {
        publish(&mut service, "room", &"x".repeat(60_000));
    }
    is_lost(&missed(&mut service, &since), "there are more than 25 messages, too large ones, or too many channels");
    // Each operation fails in its turn.
    service.host.clock += 10_000;
    let since = publish(&mut service, "room", "third");
    publish(&mut service, "room", "fourth");
    for operation in 1..=3 {
        let before = service.host.store.operations;
        service.host.store.fails_from = Some((before + operation, StoreError::TooMany));
        is_lost(&missed(&mut service, &since), "the stored messages cannot be read");
        assert!(service.host.store.operations > before);
    }
    service.host.store.fails_from = None;
    assert_eq!(texts(&missed(&mut service, &since)), ["fourth"]);
    // A value that is gone, or is no list of messages.
    for value in ["", "[{}]", r#"[{"id":"x","channel":"room","data":""}]"#, "{"] {
        service.host.store.entries.last_mut().expect("a value").1 = value.to_owned();
        is_lost(&missed(&mut service, &since), "the stored messages cannot be read");
    }
}

#[test]
fn nothing_is_promised_for_a_channel_that_is_not_kept() {
    let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "room*")]));
    service.host.is_local = true;
    let since = publish(&mut service, "room", "first");
    let lost = json_of(&service.respond(get(&format!("/api/history?channel=room&channel=news&since={since}"))));
    is_lost(&lost, "messages of `news` are not kept: see HISTORY");
    let mut off = Service::local();
    let lost = json_of(&off.respond(get(&format!("/api/history?channel=room&since={since}"))));
    is_lost(&lost, "messages of `room` are not kept: see HISTORY");
}

#[test]
fn a_store_that_was_emptied_or_whose_setting_changed_is_no_quiet_channel() {
    let mut service = service(&[]);
    let since = publish(&mut service, "room", "first");
    service.host.store.entries.clear();
    is_lost(&missed(&mut service, &since), "messages are kept only from 2027-01-15T08:00:00Z on");
    // From then on it is kept again.
    service.host.clock += 1_000;
    let since = publish(&mut service, "room", "second");
    publish(&mut service, "room", "third");
    assert_eq!(texts(&missed(&mut service, &since)), ["third"]);
    // Another setting begins anew: what it adds was not kept before. On Fastly other sandboxes may still have the old one.
    let store = std::mem::take(&mut service.host.store);
    let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "room more")];
    let mut other = Service::new(settings(&entries));
    (other.host.store, other.host.clock) = (store, service.host.clock);
    let begins = "messages are kept only from 2027-01-15T08:01:41Z on";
    is_lost(&missed(&mut other, &since), begins);
    other.host.clock += 50_000;
    let since = publish(&mut other, "room", "fourth");
    is_lost(&missed(&mut other, &since), begins);
    other.host.clock += 51_000;
    let since = publish(&mut other, "room", "fifth");
    assert_eq!(missed(&mut other, &since)["recovered"], true);
}

#[test]
fn an_invalid_cursor_is_rejected_on_every_transport() {
    let problem = "Invalid since: use the id of the last message, or a time that has passed, 2026-01-31T08:00:00Z\n";
    let mut service = service(&[]);
    let v4 = "9f86d081-884c-4d65-9a2f-eaa0c55ad015";
    let future = format!("{}Z", humantime_of(START + 5_000));
    for since in ["", "1", "yesterday", v4, "2026-11-26", "1900-01-01T00:00:00Z", &future] {
        for path in ["/api/history?", "/api/events?", "/api/poll?format=json&", "/api/websocket?format=json&"] {
            let path = format!("{path}since={since}");
            is(&service.respond(get(&path).with("Upgrade", "websocket")), 400, problem);
            if !path.starts_with("/api/websocket") {
                is(&service.respond(proxied(&path)), 400, problem);
            }
        }
    }
    is(&service.respond(get("/api/events").with("Last-Event-ID", "x")), 400, problem);
    let opening = events("/api/websocket?format=json&since=x", b"OPEN\r\n");
    is(&service.respond(opening), 400, problem);
    for path in ["/api/poll?since=", "/api/websocket?since="] {
        let response = service.respond(get(&format!("{path}{v4}")).with("Upgrade", "websocket"));
        is(&response, 400, "Invalid since: add format=json, or use /api/events\n");
    }
    let response = service.respond(get("/api/history?channel=room"));
    is(&response, 400, "Missing since: add ?since= and the id of the last message, or a time, 2026-01-31T08:00:00Z\n");
}

#[test]
fn what_is_read_back_is_what_the_token_may_read_now() {
    let mut service = service(&[("ACCESS_KEY", &format!("secret:{SECRET}"))]);
    let token = |read: &str| {
        let claims = format!(r#"{{"sub":"alice","x-fastly-read":["{read}"],"x-fastly-write":["room"]}}"#);
        format!("Bearer {}", access_token(SECRET, NOW + 600, &claims))
    };
    let response = service.respond(broadcast("room", "from alice").with("Authorization", token("none")));
    is(&response, 200, "Ok\n");
    let path = format!("/api/history?channel=room&since={}Z", humantime_of(START - 1_000));
    assert_eq!(service.respond(get(&path)).status, 401);
    assert_eq!(service.respond(get(&path).with("Authorization", token("other"))).status, 403);
    let missed = json_of(&service.respond(get(&path).with("Authorization", token("room"))));
    assert_eq!(missed["messages"][0]["from"], "alice");
    // The same on each transport.
    let since = format!("channel=room&format=json&since={}Z", humantime_of(START - 1_000));
    for path in ["/api/events", "/api/poll"] {
        let request = || proxied(&format!("{path}?{since}"));
        assert_eq!(service.respond(request().with("Authorization", token("other"))).status, 403, "{path}");
        let response = service.respond(request().with("Authorization", token("room")));
        assert!(String::from_utf8_lossy(&response.body).contains("from alice"), "{path}");
    }
    let opening = || events(&format!("/api/websocket?{since}"), "OPEN\r\n");
    assert_eq!(service.respond(opening().with("Authorization", token("other"))).status, 403);
    assert_eq!(sent(&service.respond(opening().with("Authorization", token("room"))))[1]["from"], "alice");
    let sync = text(&json!({ "type": "sync", "since": format!("{}Z", humantime_of(START - 1_000)) }).to_string());
    let sync = events("/api/websocket?channel=room&format=json", sync);
    let refused = service.respond(sync.with("Authorization", token("other")));
    assert!(!String::from_utf8_lossy(&refused.body).contains("from alice"));
    let opening = (Counter::Openings, "192.0.2.1".to_owned(), 1);
    assert_eq!(service.host.counted.iter().filter(|counted| **counted == opening).count(), 1);
}

// --- WebSockets

fn events(path: &str, body: impl AsRef<[u8]>) -> Request {
    Request::new("POST", path)
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", "application/websocket-events")
        .with("Connection-Id", "c1")
        .with_body(body)
}

/// The texts that the client gets.
fn sent(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    let body = String::from_utf8_lossy(&response.body).into_owned();
    let texts = body.split("\r\n").filter_map(|line| line.strip_prefix("m:"));
    texts.map(|text| serde_json::from_str(text).expect("an envelope")).collect()
}

fn text(text: &str) -> String {
    format!("TEXT {:x}\r\n{text}\r\n", text.len())
}

#[test]
fn a_websocket_gets_what_it_missed_when_it_opens_and_when_it_asks() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    service.host.clock += 3_000;
    publish(&mut service, "room", "second");
    let path = format!("/api/websocket?format=json&channel=room&since={first}");
    let opened = sent(&service.respond(events(&path, "OPEN\r\n")));
    assert_eq!((&opened[0]["type"], &opened[0]["recovered"]), (&json!("welcome"), &json!(true)));
    // The next cursor is true only when it has the messages.
    assert_eq!((opened.len(), &opened[1]["data"], &opened[0]["since"]), (3, &json!("second"), &json!(first)));
    assert_eq!(opened[2]["type"], "since");
    // What it missed between that and its subscription.
    let since = opened[2]["since"].as_str().expect("an id");
    publish(&mut service, "room", "third");
    let sync = |since: &str| text(&format!(r#"{{"type":"sync","since":"{since}"}}"#));
    let synced = sent(&service.respond(events(&path, sync(since))));
    assert_eq!((&synced[0]["data"], &synced[1]["type"]), (&json!("third"), &json!("synced")));
    assert_eq!((synced.len(), &synced[1]["recovered"]), (2, &json!(true)));
    // It may not have the welcome.
    assert_eq!((&synced[1]["connection"], opened[0]["connection"].is_string()), (&opened[0]["connection"], true));
    // A handler sees nothing of it.
    let mixed = [sync(since), text(r#"{"type":"message","data":"echo"}"#)].concat();
    assert_eq!(sent(&service.respond(events(&path, mixed))).pop(), Some(json!({"type":"message","data":"echo"})));
    // Each costs the store many operations.
    let twice = sent(&service.respond(events(&path, sync(since).repeat(2))));
    let error = json!({"type":"error","error":"Too many syncs: send one, then wait for its response"});
    assert_eq!(twice.last(), Some(&error));
    let openings = |service: &Service| service.host.counted.iter().filter(|(_, client, _)| client == "c1").count();
    assert_eq!(openings(&service), 3);
    let invalid = sent(&service.respond(events(&path, sync("x"))));
    assert!(invalid[0]["error"].as_str().is_some_and(|error| error.starts_with("Invalid since: ")));
    assert_eq!(invalid.len(), 1);
    // What cannot be promised is said.
    let path = path.replace(&first, "2020-01-01T00:00:00Z");
    let opened = sent(&service.respond(events(&path, "OPEN\r\n")));
    assert_eq!((opened.len(), &opened[0]["recovered"]), (1, &json!(false)));
    assert_eq!(opened[0]["reason"], "messages are kept for 120 seconds");
}

#[test]
fn a_handler_that_only_listens_does_not_keep_a_client_from_asking() {
    let mut service = service(&[]).with_handler(|connection| {
        connection.accept();
        connection.subscribe("room")
    });
    let first = publish(&mut service, "room", "first");
    publish(&mut service, "room", "second");
    let sync = text(&json!({ "type": "sync", "since": first }).to_string());
    let synced = sent(&service.respond(events("/api/websocket?format=json&channel=room", sync)));
    assert_eq!((&synced[0]["data"], &synced[1]["type"]), (&json!("second"), &json!("synced")));
}

#[test]
fn what_websockets_publish_is_kept_with_one_value_for_each_channel() {
    let mut service = service(&[]);
    let before = service.host.store.entries.len();
    let path = "/api/websocket?format=json&mode=publish&channel=room&channel=other";
    let batch = (0..5).map(|number| text(&format!(r#"{{"type":"message","data":"{number}"}}"#))).collect::<String>();
    assert_eq!(service.respond(events(path, batch)).status, 200);
    assert_eq!(service.host.store.entries.len(), before + 2);
    let missed = missed(&mut service, &format!("{}Z", humantime_of(START)));
    assert_eq!(texts(&missed), ["0", "1", "2", "3", "4"]);
    // What is not kept ends the connection.
    service.host.store.fails_from = Some((0, StoreError::Failed));
    let response = service.respond(events(path, text(r#"{"type":"message","data":"6"}"#)));
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert!(
        body.contains("CLOSE") && body.contains("published, but not kept: clients that reconnect may miss it"),
        "{body}"
    );
}

#[test]
fn one_request_makes_at_most_30_operations() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    service.host.clock += 3_000;
    for number in 0..25 {
        publish(&mut service, "room", &number.to_string());
    }
    // The most that can be read, and what the handler publishes.
    let mut service = service.with_handler(|connection| {
        connection.accept();
        connection.publish("room", "joined")
    });
    let path = format!("/api/websocket?format=json&channel=room&since={first}");
    let before = service.host.store.operations;
    assert_eq!(sent(&service.respond(events(&path, "OPEN\r\n"))).len(), 27);
    assert!(service.host.store.operations - before <= 30);
    // Many channels leave less for messages.
    let many: String = (0..19).map(|number| format!("&channel=c{number}")).collect();
    let before = service.host.store.operations;
    let response = service.respond(get(&format!("/api/history?channel=room{many}&since={first}")));
    is_lost(&json_of(&response), "there are more than 25 messages, too large ones, or too many channels");
    assert!(service.host.store.operations - before <= 30);
    // What is too much to be read costs nothing of what the handler may publish.
    publish(&mut service, "room", "26");
    let opened = sent(&service.respond(events(&path, "OPEN\r\n")));
    assert_eq!((opened.len(), &opened[0]["recovered"]), (1, &json!(false)));
    // A handler cannot publish to more channels than can be kept.
    let mut service = service.with_handler(|connection| {
        connection.accept();
        (0..31).try_for_each(|number| connection.publish(&format!("c{number}"), "x"))
    });
    let (before, _) = (service.host.store.operations, service.take_published());
    let response = service.respond(events("/api/websocket", "OPEN\r\n"));
    assert_eq!((response.status, service.host.store.operations), (413, before));
    assert!(service.take_published().is_empty());
}

#[test]
fn a_store_that_cannot_be_read_is_asked_once_for_a_batch() {
    let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*")]));
    service.host.store.fails_from = Some((0, StoreError::TooMany));
    let batch = text(r#"{"type":"message","data":"x"}"#).repeat(200);
    service.respond(events("/api/websocket?format=json&mode=publish", batch));
    assert_eq!(service.host.store.operations, 2);
}

#[test]
fn many_channels_are_recovered_at_any_time() {
    for pause in (0..70_000).step_by(3_700) {
        let mut service = service(&[]);
        service.host.clock += pause;
        let channels: String = (0..20).map(|number| format!("channel=c{number}&")).collect();
        let first = publish(&mut service, "c0", "first");
        service.host.clock += 5_000;
        for number in 0..7 {
            publish(&mut service, &format!("c{number}"), &number.to_string());
        }
        service.host.clock += 50_000;
        let all = json_of(&service.respond(get(&format!("/api/history?{channels}since={first}"))));
        assert_eq!((texts(&all).len(), &all["recovered"]), (7, &json!(true)), "{all}");
        // An event stream on quiet channels misses nothing while it opens.
        service.respond(proxied(&format!("/api/events?{}", channels.trim_end_matches("channel=c19&"))));
        let later = service.later.take().expect("a sweep");
        service.take_items();
        assert_eq!(service.finish(later), None);
        assert!(service.take_items().is_empty());
    }
}

#[test]
fn a_client_of_20_channels_may_publish_to_all_of_them() {
    let mut service = service(&[]);
    let path: String = (0..20).map(|number| format!("&channel=c{number}")).collect();
    let path = format!("/api/websocket?format=json&mode=publish{path}");
    let batch = text(r#"{"type":"message","data":"x"}"#);
    let entries = service.host.store.entries.len();
    assert_eq!(sent(&service.respond(events(&path, &batch))).len(), 0);
    assert_eq!(service.host.store.entries.len(), entries + 20);
    // There is no room to keep them once more.
    service.host.publishing = 1_001;
    let response = service.respond(events(&path, &batch));
    assert!(String::from_utf8_lossy(&response.body).contains("published, but not kept"));
}

#[test]
fn a_batch_is_not_hidden_by_its_last_message_sent_again() {
    let mut service = service(&[]);
    let since = publish(&mut service, "room", "first");
    let batch = ["1", "2", "3"].map(|data| text(&json!({ "type": "message", "data": data }).to_string())).concat();
    service.respond(events("/api/websocket?format=json&mode=publish&channel=room", batch));
    let all = missed(&mut service, &since);
    assert_eq!(texts(&all), ["1", "2", "3"]);
    let last = all["messages"][2]["id"].as_str().expect("an id");
    service.host.clock += 10;
    is(&service.respond(broadcast(&format!("room&id={last}"), "3")), 200, "Ok\n");
    assert_eq!(texts(&missed(&mut service, &since))[..3], ["1", "2", "3"]);
}

#[test]
fn what_is_stored_but_cannot_be_seen_yet_is_found_with_the_next_cursor() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    service.host.store.lag = 900;
    publish(&mut service, "room", "second");
    publish(&mut service, "other", "third");
    let path = format!("/api/history?channel=room&channel=other&since={first}");
    let none = json_of(&service.respond(get(&path)));
    assert_eq!((texts(&none), &none["recovered"]), (vec![], &json!(true)));
    service.host.clock += 2_000;
    let path = path.replace(&first, none["since"].as_str().expect("an id"));
    let all = json_of(&service.respond(get(&path)));
    assert_eq!(texts(&all), ["first", "second", "third"]);
}

#[test]
fn an_id_that_its_publisher_made_ahead_hides_nothing() {
    let mut service = service(&[]);
    // The publisher's clock is a second ahead of the service.
    let digits = format!("{:012x}", START + 1_000);
    let id = format!("{}-{}-7000-8000-000000000001", &digits[..8], &digits[8..]);
    let response = service.respond(broadcast(&format!("room&id={id}"), "seen"));
    is(&response, 200, "Ok\n");
    let seen = header(&response, "message-id").expect("an id").to_owned();
    // Of another service the clock is half a second behind, and it took a second to publish this.
    service.host.clock = START - 1_500;
    publish(&mut service, "room", "unseen");
    service.host.clock = START + 500;
    assert_eq!(texts(&missed(&mut service, &seen)), ["unseen"]);
}

// --- Event streams

#[test]
fn an_event_stream_gets_what_it_missed_and_is_told_if_that_is_not_all() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    service.host.clock += 3_000;
    let second = publish(&mut service, "room", "two\nlines");
    // The header of a browser that reconnects wins.
    let body = |service: &mut Service, format: &str, last: &str| {
        let request = proxied(&format!("/api/events?channel=room{format}&since=2020-01-01T00:00:00Z"));
        let response = service.respond(request.with("Last-Event-ID", last));
        assert_eq!((response.status, header(&response, "grip-hold")), (200, Some("stream")));
        String::from_utf8(response.body).expect("text")
    };
    let raw = format!(": subscribed\nid: {first}\n\nid: {second}\nevent: message\ndata: two\ndata: lines\n\n");
    assert_eq!(body(&mut service, "", &first), raw);
    let json = body(&mut service, "&format=json", &first);
    assert!(json.contains(r#""recovered":true"#) && json.contains(r#""data":"two\nlines""#), "{json}");
    // An empty header is none.
    let lost = body(&mut service, "", "");
    assert!(lost.contains("event: reset\ndata: {\"type\":\"reset\""), "{lost}");
    assert!(lost.contains(r#""recovered":false,"reason":"messages are kept for 120 seconds""#), "{lost}");
}

#[test]
fn what_is_published_before_the_proxy_has_the_subscription_follows() {
    let mut service = service(&[]);
    let old = publish(&mut service, "room", "before");
    service.take_items();
    let open = |service: &mut Service, query: &str| {
        let response = service.respond(proxied(&format!("/api/events?channel=room{query}")));
        let channels = header(&response, "grip-channel").expect("channels").to_owned();
        let own = channels.rsplit_once(", ").expect("a channel of its own").1.to_owned();
        assert!(own.starts_with("stream:"), "{own}");
        (service.later.take().expect("a sweep"), own)
    };
    // What is stored is told, even if that began before, but not what the stream gets live.
    service.host.clock += 1_500;
    publish(&mut service, "room", "stored, but not published yet");
    let (later, own) = open(&mut service, "");
    publish(&mut service, "room", "meanwhile\ntwo lines");
    service.host.clock += 1_500;
    publish(&mut service, "room", "when the proxy has the subscription");
    service.take_items();
    let operations = service.host.store.operations;
    assert_eq!(service.finish(later), None);
    assert!(service.host.store.operations - operations <= 6);
    let items = service.take_items();
    assert_eq!(items.len(), 2);
    for (item, data) in items.iter().zip(["stored, but not published yet", "meanwhile\ndata: two lines"]) {
        assert_eq!(item["channel"], json!(own));
        let content = item["formats"]["http-stream"]["content"].as_str().expect("an event");
        assert!(content.ends_with(&format!("event: message\ndata: {data}\n\n")), "{content}");
    }
    // So is a message whose key can be seen late, or is made by a clock that is behind, on a stream that has come back.
    let (later, own) = open(&mut service, &format!("&format=json&since={old}"));
    service.host.clock -= 900;
    publish(&mut service, "room", "late");
    service.host.clock += 900;
    service.take_items();
    assert_eq!(service.finish(later), None);
    let items = service.take_items();
    assert_eq!((items.len(), &items[0]["channel"]), (1, &json!(own)));
    let content = items[0]["formats"]["http-stream"]["content"].as_str().expect("events");
    assert!(content.contains(r#""data":"late""#), "{content}");
    // Nothing is published if nothing was missed; and if that cannot be known, it is told.
    service.host.clock += 10_000;
    let (later, _) = open(&mut service, "");
    assert_eq!(service.finish(later), None);
    assert!(service.take_items().is_empty());
    let (later, _) = open(&mut service, "");
    service.host.store.fails_from = Some((0, StoreError::TooMany));
    assert_eq!(service.finish(later), None);
    let items = service.take_items();
    let content = items[0]["formats"]["http-stream"]["content"].as_str().expect("an event");
    assert!(content.contains("event: reset\n") && content.contains("cannot be read"), "{content}");
    service.host.store.fails_from = None;
    // If it cannot be published, that is told; if not even that can be, it is a line in the log.
    let (later, _) = open(&mut service, "");
    publish(&mut service, "room", "lost");
    service.take_items();
    service.host.results.push_back(Ok(500));
    assert_eq!(service.finish(later), None);
    assert!(service.take_items()[1].to_string().contains("could not be sent"));
    let (later, _) = open(&mut service, "");
    publish(&mut service, "room", "lost");
    service.host.results.extend([Ok(500), Ok(500)]);
    assert!(service.finish(later).is_some_and(|line| line.contains("status 500")));
    service.take_items();
    let (later, _) = open(&mut service, "");
    service.host.store.entries.clear();
    assert_eq!(service.finish(later), None);
    assert!(service.take_items()[0].to_string().contains("cannot be read"));
    // The proxy has no room for a 21st channel.
    let many: String = (0..20).map(|number| format!("channel=c{number}&")).collect();
    service.respond(proxied(&format!("/api/events?{many}")));
    assert_eq!(service.later, None);
    // What is not kept needs none.
    let mut service = Service::local();
    service.respond(proxied("/api/events?channel=room"));
    assert_eq!(service.later, None);
}

#[test]
fn what_is_published_after_a_reset_follows_too() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    for number in 0..26 {
        publish(&mut service, "room", &number.to_string());
    }
    service.host.clock += 3_000;
    // It is stored while the store is read: after the cursor that the stream is told to go on with.
    publish(&mut service, "room", "just now");
    service.host.clock -= 5;
    service.host.store.entries.last_mut().expect("a value").2 -= 5;
    let response = service.respond(proxied(&format!("/api/events?channel=room&since={first}")));
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert!(body.contains("event: reset") && !body.contains("just now"), "{body}");
    service.take_items();
    let later = service.later.take().expect("a sweep");
    assert_eq!(service.finish(later), None);
    let items = service.take_items();
    assert_eq!(items.len(), 1);
    assert!(items[0].to_string().contains("just now"), "{items:?}");
}

#[test]
fn a_history_of_an_impossible_length_is_reported() {
    for (seconds, problem) in
        [("9", "must be 10 to 86400"), ("86401", "must be 10 to 86400"), ("x", "must be a positive integer")]
    {
        let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*"), ("config:HISTORY_SECONDS", seconds)];
        let settings = settings(&entries);
        let problems: Vec<_> = settings.problems().map(ToString::to_string).collect();
        assert_eq!(problems, [format!("The entry HISTORY_SECONDS of the config store `fanout_config` {problem}")]);
        // Nothing is published that might not be kept.
        let mut service = Service::new(settings);
        assert_eq!(service.respond(broadcast("room", "x")).status, 503);
        assert!(service.take_published().is_empty());
    }
}

// --- Polls

#[test]
fn a_poll_is_answered_at_once_if_something_was_missed_and_else_held() {
    let mut service = service(&[]);
    let path = "/api/poll?format=json&channel=room";
    // Without a cursor it gets one when the time is over. The proxy asks again if it has another message.
    let response = service.respond(proxied(path));
    assert_eq!(header(&response, "grip-hold"), Some("response"));
    let welcome: Value = serde_json::from_slice(&response.body).expect("JSON");
    let since = welcome[0]["since"].as_str().expect("an id").to_owned();
    let channel = format!("json:room; prev-id={since}");
    assert_eq!(header(&response, "grip-channel"), Some(&*channel));
    publish(&mut service, "room", "first");
    let repeated = || proxied(path).with("Grip-Last", format!("json:room; last-id={since}"));
    let response = service.respond(repeated());
    assert_eq!(header(&response, "grip-hold"), None);
    let messages = json_of(&response);
    assert_eq!((&messages[0]["recovered"], &messages[1]["data"]), (&json!(true), &json!("first")));
    // With the next cursor it waits.
    let next = messages[0]["since"].as_str().expect("an id").to_owned();
    let held = service.respond(proxied(&format!("{path}&since={next}")));
    assert_eq!((header(&held, "grip-hold"), header(&held, "grip-channel")), (Some("response"), Some("json:room")));
    publish(&mut service, "room", "second");
    let messages = json_of(&service.respond(proxied(&format!("{path}&since={next}"))));
    assert_eq!((messages.as_array().map(Vec::len), &messages[1]["data"]), (Some(2), &json!("second")));
    // A repeated request that finds nothing yet is held without the id: else the proxy would repeat it again and again. The
    // message is found with the same cursor.
    service.host.clock += 5_000;
    let response = service.respond(proxied(path));
    let welcome: Value = serde_json::from_slice(&response.body).expect("JSON");
    let since = welcome[0]["since"].as_str().expect("an id");
    for failure in [None, Some((0, StoreError::Failed))] {
        service.host.store.fails_from = failure;
        let held = service.respond(proxied(path).with("Grip-Last", format!("json:room; last-id={since}")));
        assert_eq!((header(&held, "grip-hold"), header(&held, "grip-channel")), (Some("response"), Some("json:room")));
        let welcome: Value = serde_json::from_slice(&held.body).expect("JSON");
        assert_eq!((&welcome[0]["since"], welcome[0].get("recovered")), (&json!(since), None));
    }
}

#[test]
fn a_poll_that_is_behind_is_told_once_and_goes_on() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    for number in 0..30 {
        service.host.clock += 20;
        publish(&mut service, "room", &number.to_string());
    }
    let path = "/api/poll?format=json&channel=room&since=";
    let told = json_of(&service.respond(proxied(&format!("{path}{first}"))));
    assert_eq!((&told[0]["recovered"], told.as_array().map(Vec::len)), (&json!(false), Some(1)));
    let next = told[0]["since"].as_str().expect("an id").to_owned();
    // All that it might have missed again is known to be seen.
    let held = service.respond(proxied(&format!("{path}{next}")));
    assert_eq!(header(&held, "grip-hold"), Some("response"));
    publish(&mut service, "room", "new");
    let messages = json_of(&service.respond(proxied(&format!("{path}{next}"))));
    assert_eq!((&messages[0]["recovered"], &messages[1]["data"]), (&json!(true), &json!("new")));
    // As long as a new history is not valid yet, the client waits without a cursor.
    let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "room")];
    let mut settling = Service::new(settings(&entries));
    settling.host.clock = service.host.clock;
    publish(&mut settling, "room", "x");
    let told = json_of(&settling.respond(proxied(&format!("{path}{next}"))));
    assert_eq!((&told[0]["recovered"], told[0].get("since")), (&json!(false), None));
    assert_eq!(header(&settling.respond(proxied("/api/poll?format=json&channel=room")), "grip-hold"), Some("response"));
}

#[test]
fn a_poll_whose_cursor_is_of_no_use_is_told_so_once() {
    let path = format!("/api/poll?format=json&channel=room&since={}Z", humantime_of(START - 1_000));
    let mut off = Service::local();
    off.host.clock = START;
    let told = json_of(&off.respond(proxied(&path)));
    assert_eq!((&told[0]["recovered"], told[0].get("since")), (&json!(false), None));
    // After too many messages the next cursor is of use.
    let mut service = service(&[]);
    for number in 0..26 {
        publish(&mut service, "room", &number.to_string());
    }
    let told = json_of(&service.respond(proxied(&path)));
    assert_eq!((&told[0]["recovered"], told[0]["since"].is_string()), (&json!(false), true));
}
