//! What is kept of messages, and what a client gets that comes back: with a store that is as hostile as Fastly's may be.

use fanout_edge::{
    app::{
        Later,
        platform::{Counter, StoreError},
        web::Response,
    },
    grip::{Message, publish::SendError},
};
use std::collections::HashSet;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::{Value, json};

use crate::{
    service::{Request, Service, cursor, header, is, settings},
    support::{LOCAL_GRIP_URL, NOW, access_token, local_signature},
};

const START: u64 = NOW * 1000;
const SECRET: &str = "a secret for access tokens of the tests";
const BUSY: &str =
    "The message is published, but not kept: the KV store is too busy; send it again with its Message-Id\n";

/// A service that keeps all messages, and has done so for a minute.
fn service(entries: &[(&str, &str)]) -> Service {
    let unlimited = ("config:BROADCASTS_PER_SECOND", "1000000");
    let entries = [&[("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*"), unlimited], entries].concat();
    let mut service = Service::new(settings(&entries));
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

/// The keys of what is kept and their values, without the entry of the epoch.
fn kept(service: &Service) -> Vec<(String, String)> {
    let entries = service.host.store.entries.iter().filter(|(key, ..)| !key.starts_with("e-"));
    entries.map(|(key, value, ..)| (key.clone(), value.clone())).collect()
}

#[test]
fn a_short_message_is_kept_in_its_key_which_says_nothing_of_its_channel() {
    let mut service = Service::new(settings(&[
        ("GRIP_URL", LOCAL_GRIP_URL),
        ("config:HISTORY", "room* news"),
        ("config:HISTORY_SECONDS", "300"),
    ]));
    let id = publish(&mut service, "room1", "hi");
    publish(&mut service, "news", "hi");
    publish(&mut service, "newsletter", "not kept");
    publish(&mut service, "test", "not kept");
    let entries = kept(&service);
    assert_eq!(entries.len(), 2);
    let (head, value) = entries[0].0.split_once('.').expect("a value in the key");
    assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(value).expect("base64url"), br#"[{"data":"hi"}]"#);
    assert!(!head.contains("room1") && head.len() == 87 && head.ends_with(&id.replace('-', "")), "{head}");
    assert_eq!(entries[0].1, "");
    // For as long as it may be asked for.
    let (_, _, inserted, expires) = service.host.store.entries[0];
    assert_eq!(expires - inserted, 300_000 + 120_000 + 30_000);
    // The longest key has 1,024 bytes.
    for (length, is_in_key) in [(689, true), (690, false)] {
        publish(&mut service, "room1", &"x".repeat(length));
        let (key, value) = kept(&service).pop().expect("an entry");
        assert_eq!((key.contains('.'), value.is_empty()), (is_in_key, is_in_key), "{}", key.len());
    }
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
}

#[test]
fn what_is_published_reaches_its_subscribers_whatever_becomes_of_the_store() {
    let why =
        |problem: &str| format!("The message is published, but not kept: {problem}; send it again with its Message-Id");
    let path = "/api/websocket?mode=publish&channel=room";
    for (error, problem) in [
        (StoreError::Missing, "there is no KV store `fanout_history`"),
        (StoreError::TooMany, "the KV store is too busy"),
        (StoreError::Failed, "the KV store failed"),
        (StoreError::TooSlow, "that took too long"),
    ] {
        // The service has just started, and has asked the store nothing yet.
        let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*")]));
        service.host.has_store = error != StoreError::Missing;
        if error == StoreError::TooSlow {
            // Each operation takes six seconds, so a reader may look before what is stored can be seen, twice.
            service.host.storing = 6_000;
        } else if error != StoreError::Missing {
            service.host.store.fails_from = Some((1, error));
        }
        let response = service.respond(broadcast("room", "over HTTP"));
        is(&response, 502, why(problem) + "\n");
        assert_eq!(service.take_items().len(), 2);
        // A WebSocket stays open. One that gets envelopes is told.
        let response = service.respond(events(path, text("raw")));
        is(&response, 200, "");
        assert_eq!((response.log, service.take_items().len()), (Some(why(problem)), 2));
        let response =
            service.respond(events(&format!("{path}&format=json"), text(r#"{"type":"message","data":"hi"}"#)));
        assert_eq!(sent(&response), [json!({ "type": "error", "error": why(problem) })]);
        assert_eq!((response.log, service.take_items().len()), (Some(why(problem)), 2));
        // So is one that opens, and a handler that greets it.
        let mut service = service.with_handler(|connection| {
            connection.accept();
            connection.publish("room", "joined").map(drop)
        });
        let response = service.respond(events(&format!("{path}&format=json"), "OPEN\r\n"));
        assert_eq!((sent(&response)[0]["type"].clone(), service.take_items().len()), (json!("welcome"), 2));
        let stream = service.respond(proxied("/api/events?channel=room"));
        assert_eq!(header(&stream, "grip-hold"), Some("stream"));
        // And whoever asks what it missed. It may ask again with the same cursor.
        if error != StoreError::TooSlow {
            let since = cursor(START);
            let lost = missed(&mut service, &since);
            is_lost(&lost, "the stored messages cannot be read");
            assert_eq!(lost["since"], json!(since));
            let poll = service.respond(proxied(&format!("/api/poll?format=json&channel=room&since={since}")));
            assert_eq!((header(&poll, "grip-hold"), header(&poll, "grip-timeout")), (Some("response"), Some("5")));
            assert_eq!((&json_of(&poll)[0]["since"], &json_of(&poll)[0]["recovered"]), (&json!(since), &json!(false)));
        }
    }
}

#[test]
fn nobody_waits_for_the_store_before_a_connection_opens() {
    for (request, is_kept) in [
        (events("/api/websocket?format=json&channel=room", "OPEN\r\n"), true),
        (proxied("/api/events?channel=room"), true),
        (proxied("/api/poll?format=json&channel=room"), true),
        (proxied("/api/events?channel=news"), false),
    ] {
        let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "room")]));
        service.host.is_local = true;
        assert_eq!(service.respond(request).status, 200);
        assert_eq!(service.host.store.operations, 0);
        // What the client has is of use from then on.
        let later = service.later.take();
        assert_eq!(later, is_kept.then_some(Later::BeginHistory));
        if let Some(later) = later {
            assert_eq!(service.finish(later), None);
            let since = cursor(service.host.clock);
            assert_eq!(missed(&mut service, &since)["recovered"], true);
            // It is asked once.
            service.respond(proxied("/api/events?channel=room"));
            assert_eq!(service.later, None);
        }
    }
}

#[test]
fn two_sandboxes_that_begin_at_once_agree_since_when_messages_are_kept() {
    let mut first = service(&[]);
    let mut second = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*")]));
    (second.host.is_local, second.host.clock) = (true, START - 59_000);
    // It looks before the first one has written, and writes after it.
    second.host.store = std::mem::take(&mut first.host.store);
    second.host.store.hidden = 1;
    publish(&mut second, "room", "x");
    assert_eq!(second.host.store.entries.iter().filter(|(key, ..)| key.starts_with("e-")).count(), 1);
    second.host.clock = START;
    // So its streams are told nothing.
    let since = format!("{}Z", humantime_of(START - 10_000));
    let body = second.respond(proxied(&format!("/api/events?channel=room&since={since}"))).body;
    assert!(!String::from_utf8_lossy(&body).contains("reset"));
    second.take_items();
    let gap = second.later.take().expect("a gap");
    assert_eq!((second.finish(gap), second.take_items().len()), (None, 0));
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
    service.host.clock += 6_000;
    let second = publish(&mut service, "room", "second");
    publish(&mut service, "other", "not for it");
    publish(&mut service, "room", "third");
    let all = missed(&mut service, &first);
    assert_eq!((texts(&all), &all["recovered"]), (vec!["second", "third"], &json!(true)));
    // It may have missed what was published at about the same time as what it saw, but not that itself.
    publish(&mut service, "room", "fourth");
    assert_eq!(texts(&missed(&mut service, &second)), ["third", "fourth"]);
    // The same with the next cursor, which is of the service.
    let next = missed(&mut service, &second);
    let since = next["since"].as_str().expect("a cursor").to_owned();
    assert_eq!(since, cursor(service.host.clock));
    assert_eq!(texts(&missed(&mut service, &since)), ["second", "third", "fourth"]);
    service.host.clock += 6_000;
    publish(&mut service, "room", "fifth");
    assert_eq!(texts(&missed(&mut service, &since)), ["second", "third", "fourth", "fifth"]);
    let since = cursor(service.host.clock);
    assert_eq!(texts(&missed(&mut service, &since)), ["fifth"]);
    // A time does, too, for who has no id yet.
    assert_eq!(texts(&missed(&mut service, &format!("{}Z", humantime_of(START + 5_700))))[0], "second");
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
    // If the store lists five keys at once, some more pages are needed.
    for page in [None, Some(5)] {
        service.host.store.page = page;
        let seen = pages(&mut service, "channel=room", &first);
        let got: Vec<_> = seen.messages.iter().map(|message| message["data"].as_str().expect("a text")).collect();
        assert_eq!(got, all);
        assert_eq!(seen.last["recovered"], true);
    }
}

/// What `GET /api/history` gives, page after page.
struct Pages {
    messages: Vec<Value>,
    /// How many messages each page has.
    sizes: Vec<usize>,
    /// The most operations of one request.
    reads: usize,
    last: Value,
}

#[track_caller]
fn pages(service: &mut Service, channels: &str, since: &str) -> Pages {
    let mut all = Pages { messages: Vec::new(), sizes: Vec::new(), reads: 0, last: Value::Null };
    let mut since = since.to_owned();
    loop {
        let (before, listed) = (service.host.store.operations, service.host.store.listed);
        let response = service.respond(get(&format!("/api/history?{channels}&since={since}")));
        assert!(response.body.len() < 600_000, "{}", response.body.len());
        let listed = service.host.store.listed - listed;
        assert!(listed <= 1_200_000, "{listed} bytes of keys");
        let page = json_of(&response);
        all.reads = all.reads.max(service.host.store.operations - before);
        let messages = page["messages"].as_array().expect("a list");
        all.sizes.push(messages.len());
        all.messages.extend(messages.iter().cloned());
        all.last = page.clone();
        if page.get("more").is_none() {
            return all;
        }
        assert_eq!((page.get("recovered"), page["more"].as_bool()), (None, Some(true)));
        let next = page["since"].as_str().expect("a cursor").to_owned();
        // A page without messages is no reason to ask the same again.
        assert_ne!(since, next);
        since = next;
        // A moment later.
        service.host.clock += 40;
        assert!(all.sizes.len() < 200, "it does not end: {:?}", all.sizes);
    }
}

#[test]
fn whatever_was_missed_comes_in_pages_of_bounded_size_and_cost() {
    let long = "x".repeat(4_000);
    // Channels, messages, their pause in milliseconds, and the most pages.
    for (channels, count, pause, text, most) in [
        (1, 1_000, 10, "short", 2),
        (1, 5_000, 10, "short", 7),
        (4, 5_000, 10, "short", 8),
        (1, 3_000, 1, "short", 7),
        (20, 4_000, 1, "short", 30),
        (20, 400, 200, "short", 8),
        (13, 600, 30, "a text of which a thousand take more than 500,000 bytes ".repeat(10).leak() as &str, 12),
        (1, 300, 20, &*long, 30),
        (20, 300, 20, &*long, 60),
    ] {
        let mut service = service(&[("config:HISTORY_SECONDS", "600")]);
        let first = publish(&mut service, "c0", "first");
        service.host.clock += 5_000;
        let mut ids = Vec::new();
        for number in 0..count {
            service.host.clock += pause;
            let response = service.respond(broadcast(&format!("c{}", number % channels), text));
            ids.push(json!(header(&response, "message-id").expect("an id")));
            service.host.published.clear();
        }
        service.host.clock += 10_000;
        service.now = service.host.clock / 1000;
        let query: Vec<_> = (0..channels).map(|number| format!("channel=c{number}")).collect();
        let seen = pages(&mut service, &query.join("&"), &first);
        let what = format!("{channels} channels, {count} messages of {}: {:?}", text.len(), seen.sizes);
        assert_eq!(seen.last["recovered"], true, "{what}");
        let got = seen.messages.iter().map(|message| message["id"].clone());
        // In their order, and none twice: pages do not overlap.
        let got: Vec<_> = got.filter(|id| *id != json!(first)).collect();
        assert!(got == ids, "{what}: {} of {}", got.len(), ids.len());
        assert!(seen.sizes.len() <= most, "{what}");
        assert!(seen.sizes.iter().all(|size| *size <= 1_000), "{what}");
        assert!(seen.reads <= 28, "{what}: {} reads", seen.reads);
    }
}

#[test]
fn a_cursor_that_a_client_made_up_does_no_harm() {
    let mut service = service(&[]);
    publish(&mut service, "room", "first");
    let digits = format!("{START:012x}");
    for rest in [
        "8001-bfff-ffffffffffff",
        "8fff-bfff-ffffffffffff",
        "8015-8000-0000ffffffff",
        "8016-8000-000000000001",
        "8003-8000-000003ffffff",
    ] {
        let since = format!("{}-{}-{rest}", &digits[..8], &digits[8..]);
        assert_eq!(pages(&mut service, "channel=room", &since).last["recovered"], true, "{rest}");
    }
}

/// Twenty channels, of which each has two long messages in the same millisecond, and one of them many more soon after.
fn crowded(channels: usize) -> (Service, String, String, Vec<Value>) {
    let mut service = service(&[]);
    let first = publish(&mut service, "none", "first");
    service.host.clock += 6_000;
    let mut ids = Vec::new();
    let mut publish = |service: &mut Service, channel: usize, text: &str| {
        let response = service.respond(broadcast(&format!("c{channel}"), text));
        is(&response, 200, "Ok\n");
        service.host.published.clear();
        ids.push(json!(header(&response, "message-id")));
    };
    for number in 0..2 * channels {
        publish(&mut service, number % channels, &format!("{number} {}", "x".repeat(4_000)));
    }
    service.host.clock += 2_000;
    for number in 0..1_100 {
        publish(&mut service, 3, &number.to_string());
        service.host.clock += number % 2;
    }
    service.host.clock += 10_000;
    service.now = service.host.clock / 1000;
    let query: Vec<_> = (0..channels).map(|number| format!("channel=c{number}")).collect();
    (service, first, query.join("&"), ids)
}

#[test]
fn more_than_a_page_of_the_same_millisecond_comes_back_too() {
    for channels in [5, 8, 13, 19, 20] {
        let (mut service, first, query, ids) = crowded(channels);
        let seen = pages(&mut service, &query, &first);
        let got: HashSet<_> = seen.messages.iter().map(|message| message["id"].to_string()).collect();
        let due: HashSet<_> = ids.iter().map(ToString::to_string).collect();
        let what = format!("{channels} channels: {:?}", seen.sizes);
        assert!(got == due && seen.messages.len() == ids.len(), "{what}");
        assert!(seen.sizes.len() < 20, "{what}");
    }
}

#[test]
fn the_next_page_of_other_channels_leaves_nothing_out() {
    let (mut service, first, query, _) = crowded(20);
    let mut since = first;
    while !since.ends_with('7') {
        let page = json_of(&service.respond(get(&format!("/api/history?{query}&since={since}"))));
        since = page["since"].as_str().expect("a cursor").to_owned();
        service.host.clock += 10;
    }
    // The cursor says that seven keys of its millisecond were read, of those channels.
    let page = json_of(&service.respond(get(&format!("/api/history?channel=c0&channel=c1&since={since}"))));
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(4), "{page}");
}

#[test]
fn what_precedes_the_cursor_neither_counts_nor_alarms() {
    let mut service = service(&[]);
    // Some 400 a second.
    for number in 0..4_000 {
        service.host.clock += if number % 2 == 0 { 5 } else { 0 };
        is(&service.respond(broadcast("room", &number.to_string())), 200, "Ok\n");
        service.host.published.clear();
    }
    service.now = service.host.clock / 1000;
    let welcome = sent(&service.respond(events("/api/websocket?format=json&channel=room", "OPEN\r\n")));
    let mut since = welcome[0]["since"].as_str().expect("a cursor").to_owned();
    let mut got = Vec::new();
    for _ in 0..20 {
        service.host.clock += 1_000;
        let sync = text(&json!({ "type": "sync", "since": since }).to_string());
        let mut synced = sent(&service.respond(events("/api/websocket?format=json&channel=room", sync)));
        let last = synced.pop().expect("an envelope");
        got.extend(synced.into_iter().map(|message| message["data"].as_str().expect("a text").to_owned()));
        if last.get("more").is_none() {
            assert_eq!(last["recovered"], true, "{last}");
            got.sort_by_key(|number| number.parse::<usize>().expect("a number"));
            got.dedup();
            // Those of five seconds.
            assert_eq!((got.len(), &*got[0]), (2_002, "1998"));
            return;
        }
        since = last["since"].as_str().expect("a cursor").to_owned();
    }
    panic!("it does not end");
}

#[test]
fn of_two_messages_with_one_id_the_first_comes_back() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    service.host.clock += 5_000;
    publish(&mut service, "room", "what clients got");
    let (key, ..) = service.host.store.entries.last().expect("an entry").clone();
    let (head, _) = key.split_once('.').expect("a value");
    let later = format!("{}.{}", head, BASE64_URL_SAFE_NO_PAD.encode(r#"[{"data":"what the proxy dropped"}]"#));
    let entry = |key: String, later: u64| (key, String::new(), service.host.clock + later, u64::MAX);
    let later = entry(later.replacen(&head[33..54], &digits(service.host.clock + 1_000), 1), 1_000);
    service.host.store.entries.push(later);
    service.host.clock += 2_000;
    assert_eq!(texts(&missed(&mut service, &first)), ["what clients got"]);
}

/// A time as it stands in a key.
fn digits(time: u64) -> String {
    (0..21).rev().map(|place| char::from(b'0' + (time >> (2 * place) & 3) as u8)).collect()
}

#[test]
fn nothing_is_promised_that_cannot_be_kept() {
    let mut service = service(&[("config:HISTORY_SECONDS", "300")]);
    let since = publish(&mut service, "room", "first");
    // A cursor that is too old: it may be two minutes older, as clients verify it once a minute.
    let old = service.host.clock - 60_000;
    service.host.clock = old + 300_000 + 120_000;
    assert_eq!(missed(&mut service, &format!("{}Z", humantime_of(old)))["recovered"], true);
    service.host.clock += 1;
    is_lost(&missed(&mut service, &format!("{}Z", humantime_of(old))), "messages are kept for 300 seconds");
    // One from before the store was kept.
    service.host.clock = START + 10;
    let before = format!("{}Z", humantime_of(START - 61_000));
    is_lost(&missed(&mut service, &before), "messages are kept only from 2027-01-15T07:59:00Z on");
    // Each operation fails in its turn.
    publish(&mut service, "room", &"long".repeat(1_000));
    for operation in 1..=3 {
        let before = service.host.store.operations;
        service.host.store.fails_from = Some((before + operation, StoreError::TooMany));
        is_lost(&missed(&mut service, &since), "the stored messages cannot be read");
        assert!(service.host.store.operations > before);
    }
    service.host.store.fails_from = None;
    assert_eq!(texts(&missed(&mut service, &since)).len(), 1);
    // A value that is gone, or is no list of messages.
    for value in ["", "[{}]", r#"[{"id":"x","data":""}]"#, r#"[{"data":"a","base64":"AA=="}]"#, "{"] {
        service.host.store.entries.last_mut().expect("a value").1 = value.to_owned();
        is_lost(&missed(&mut service, &since), "the stored messages cannot be read");
        let key = &mut service.host.store.entries.last_mut().expect("a value").0;
        let head = key.split('.').next().expect("a key").to_owned();
        *key = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(value));
        is_lost(&missed(&mut service, &since), "the stored messages cannot be read");
        service.host.store.entries.last_mut().expect("a value").0 = head;
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
    let ahead = cursor(START + 5_000);
    let future = format!("{}Z", humantime_of(START + 5_000));
    for since in
        ["", "1", "yesterday", v4, "2026-11-26", "1900-01-01T00:00:00Z", &future, &ahead, &ahead.replace('-', "")]
    {
        for path in ["/api/history?", "/api/events?", "/api/poll?format=json&"] {
            let path = format!("{path}since={since}");
            is(&service.respond(get(&path)), 400, problem);
            is(&service.respond(proxied(&path)), 400, problem);
        }
        let sync = text(&json!({ "type": "sync", "since": since }).to_string());
        let refused = sent(&service.respond(events("/api/websocket?format=json", sync)));
        assert_eq!(refused, [json!({ "type": "synced", "connection": "c1", "error": problem.trim_end() })]);
    }
    is(&service.respond(get("/api/events").with("Last-Event-ID", "x")), 400, problem);
    is(
        &service.respond(get(&format!("/api/poll?since={v4}"))),
        400,
        "Invalid since: add format=json, or use /api/events\n",
    );
    // So is that of a WebSocket, which gets it back: what it missed comes when it asks.
    for (query, problem) in [("&format=json", problem), ("", "Invalid since: add format=json, or use /api/events\n")] {
        let path = format!("/api/websocket?since=x{query}");
        is(&service.respond(get(&path).with("Upgrade", "websocket")), 400, problem);
        is(&service.respond(events(&path, b"OPEN\r\n")), 400, problem);
    }
    let since = cursor(START - 9_000);
    let welcome = sent(&service.respond(events(&format!("/api/websocket?format=json&since={since}"), "OPEN\r\n")));
    assert_eq!(welcome, [json!({ "type": "welcome", "connection": "c1", "since": since })]);
    let response = service.respond(get("/api/history?channel=room"));
    is(&response, 400, "Missing since: add ?since= and the id of the last message, or a time, 2026-01-31T08:00:00Z\n");
}

#[test]
fn a_cursor_may_have_the_names_that_polyfills_give_it() {
    let mut service = service(&[]);
    let (first, second) = (publish(&mut service, "room", "first"), publish(&mut service, "room", "second"));
    publish(&mut service, "room", "third");
    let body =
        |service: &mut Service, path: &str| String::from_utf8(service.respond(proxied(path)).body).expect("text");
    for name in ["lastEventId", "lastEventID", "Last-Event-ID", "last_event_id", "amp;lastEventId", "evs_last_event_id"]
    {
        for path in ["/api/events?", "/api/poll?format=json&", "/api/history?"] {
            // The URL of a stream keeps the `since` with which it was made.
            for query in [format!("{name}={second}"), format!("{name}={second}&since={first}&channel=room")] {
                let body = body(&mut service, &format!("{path}channel=room&{query}"));
                assert!(body.contains("third") && !body.contains("second"), "{path}{query} {body}");
            }
            // Before the first message there is no id.
            let body = body(&mut service, &format!("{path}channel=room&since={first}&{name}="));
            assert!(body.contains("second") && body.contains("third"), "{path}{name} {body}");
        }
        let path = format!("/api/websocket?format=json&channel=room&{name}={second}");
        let welcome = sent(&service.respond(events(&path, "OPEN\r\n")));
        assert_eq!(welcome[0]["since"], second);
    }
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
    let sync = text(&json!({ "type": "sync", "since": format!("{}Z", humantime_of(START - 1_000)) }).to_string());
    let sync = || events("/api/websocket?channel=room&format=json", &sync);
    let refused = service.respond(sync().with("Authorization", token("other")));
    assert!(!String::from_utf8_lossy(&refused.body).contains("from alice"));
    assert_eq!(sent(&service.respond(sync().with("Authorization", token("room"))))[0]["from"], "alice");
}

#[test]
fn what_is_read_counts_for_the_address() {
    let mut service = service(&[("config:OPENINGS_PER_MINUTE", "30")]);
    let first = publish(&mut service, "room", "first");
    publish(&mut service, "room", &"long".repeat(1_000));
    let mut count = |request: Request, client: &str| {
        service.host.counted.clear();
        let before = service.host.store.operations;
        let response = service.respond(request);
        service.later = None;
        let counted =
            service.host.counted.iter().filter(|(counter, entry, _)| *counter == Counter::Openings && entry == client);
        let counted: u32 = counted.map(|(.., n)| n).sum();
        assert_eq!(counted as usize, service.host.store.operations - before);
        (response, counted)
    };
    let path = format!("?channel=room&format=json&since={first}");
    // Since when messages are kept, one or two lists of keys, and a value.
    assert!(count(get(&format!("/api/history{path}")), "192.0.2.1").1 >= 3);
    let handed_off = |request: Request| request.with("Fanout-Client", "203.0.113.7");
    assert!(count(handed_off(proxied(&format!("/api/events{path}"))), "203.0.113.7").1 >= 3);
    assert!(count(handed_off(proxied(&format!("/api/poll{path}"))), "203.0.113.7").1 >= 3);
    let sync = text(&json!({ "type": "sync", "since": first }).to_string());
    let sync = || events("/api/websocket?format=json&channel=room", &sync);
    assert!(count(handed_off(sync()), "203.0.113.7").1 >= 3);
    // A client that reads too much is rejected, on a WebSocket without the end of the connection.
    service.host.counted.push((Counter::Openings, "203.0.113.7".to_owned(), 31));
    let problem = "Too many connections: at most 30 per minute, wait 60 seconds";
    let refused = json!({ "type": "synced", "connection": "c1", "error": problem });
    assert_eq!(sent(&service.respond(handed_off(sync()))), [refused]);
    service.host.counted.push((Counter::Openings, "192.0.2.1".to_owned(), 31));
    is(&service.respond(get(&format!("/api/history{path}"))), 429, format!("{problem}\n"));
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
fn a_websocket_gets_what_it_missed_when_it_asks() {
    let mut service = service(&[]);
    let first = publish(&mut service, "room", "first");
    service.host.clock += 5_000;
    publish(&mut service, "room", "second");
    let path = "/api/websocket?format=json&channel=room";
    let opened = sent(&service.respond(events(path, "OPEN\r\n")));
    assert_eq!((opened.len(), &opened[0]["type"], opened[0].get("recovered")), (1, &json!("welcome"), None));
    assert_eq!(opened[0]["since"], json!(cursor(service.host.clock)));
    let sync = |since: &str| text(&format!(r#"{{"type":"sync","since":"{since}"}}"#));
    let synced = sent(&service.respond(events(path, sync(&first))));
    assert_eq!((synced.len(), &synced[0]["data"]), (2, &json!("second")));
    let since = cursor(service.host.clock);
    // It may not have the welcome.
    let expected = json!({ "type": "synced", "connection": "c1", "since": since, "recovered": true });
    assert_eq!(synced[1], expected);
    // A handler sees nothing of it. What it sends comes first.
    let mixed = [sync(&since), text(r#"{"type":"message","data":"echo"}"#)].concat();
    let mixed = sent(&service.respond(events(path, mixed)));
    assert_eq!((&mixed[0], &mixed[2]["type"]), (&json!({"type":"message","data":"echo"}), &json!("synced")));
    // Each costs the store many operations.
    let twice = sent(&service.respond(events(path, sync(&since).repeat(2))));
    let error = json!({"type":"error","error":"Too many syncs: send one, then wait for its response"});
    assert_eq!((twice.len(), &twice[0]), (3, &error));
    // Without a cursor it gets what was published in the last seconds, and one.
    let synced = sent(&service.respond(events(path, text(r#"{"type":"sync"}"#))));
    assert_eq!((synced.len(), &synced[1]), (2, &expected));
    // What cannot be promised is said.
    let lost = sent(&service.respond(events(path, sync("2020-01-01T00:00:00Z"))));
    assert_eq!((lost.len(), &lost[0]["recovered"]), (1, &json!(false)));
    assert_eq!(lost[0]["reason"], "messages are kept for 120 seconds");
    // A client that closes gets nothing more.
    let closing = service.respond(events(path, [sync(&first), "CLOSE\r\n".to_owned()].concat()));
    is(&closing, 200, "CLOSE\r\n");
}

#[test]
fn the_channels_that_a_handler_subscribes_to_are_recovered_and_no_other() {
    let mut service = service(&[]).with_handler(|connection| {
        if connection.is_opening() {
            connection.accept();
            connection.subscribe("lobby")?;
        }
        while let Some(message) = connection.receive() {
            match message {
                Message::Text(text) => match text.split_once(' ') {
                    Some(("join", room)) => connection.subscribe(room)?,
                    Some(("leave", room)) => connection.unsubscribe(room)?,
                    _ => {}
                },
                message => connection.send(message),
            }
        }
        Ok(())
    });
    let since = publish(&mut service, "lobby", "first");
    service.host.clock += 5_000;
    for room in ["lobby", "red", "blue", "test"] {
        publish(&mut service, room, room);
    }
    // As the proxy keeps it.
    let mut meta = String::new();
    let mut say = |commands: &[&str]| {
        let command = |command: &&str| text(&json!({ "type": "message", "data": command }).to_string());
        let sync = text(&json!({ "type": "sync", "since": since }).to_string());
        let body = if commands == ["OPEN"] {
            "OPEN\r\n".to_owned()
        } else {
            commands.iter().map(command).chain([sync]).collect()
        };
        let request = events("/api/websocket?format=json", body);
        let request = if meta.is_empty() { request } else { request.with("Meta-Channels", &*meta) };
        let response = service.respond(request);
        if let Some(set) = header(&response, "set-meta-channels") {
            meta = set.to_owned();
        }
        let messages = sent(&response).into_iter().filter(|envelope| envelope["type"] == "message");
        messages.map(|message| message["data"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    say(&["OPEN"]);
    assert_eq!(say(&[]), ["lobby"]);
    assert_eq!(say(&["join red"]), ["lobby", "red"]);
    assert_eq!(say(&["join blue"]), ["lobby", "red", "blue"]);
    assert_eq!(say(&["leave red"]), ["lobby", "blue"]);
    assert_eq!(say(&[]), ["lobby", "blue"]);
    assert_eq!(say(&["leave lobby", "leave blue"]), [""; 0]);
    assert_eq!(say(&[]), [""; 0]);
    assert_eq!(say(&["join test"]), ["test"]);
    assert_eq!(say(&[]), ["test"]);
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
}

#[test]
fn one_request_makes_at_most_30_operations() {
    let mut service = service(&[]);
    let first = publish(&mut service, "c0", "first");
    service.host.clock += 5_000;
    for number in 0..40 {
        publish(&mut service, &format!("c{}", number % 20), &"long".repeat(1_000));
    }
    // What is published has priority over what is read: here as much as can be kept, and here almost.
    let channels: String = (0..20).map(|number| format!("&channel=c{number}")).collect();
    let path = format!("/api/websocket?format=json&mode=publish{channels}");
    let sync = text(&json!({ "type": "sync", "since": first }).to_string());
    for (messages, reads) in [(1, false), (0, true)] {
        let before = service.host.store.operations;
        let body = [sync.clone(), text(r#"{"type":"message","data":"x"}"#).repeat(messages)].concat();
        let synced = sent(&service.respond(events(&path, body)));
        assert!(service.host.store.operations - before <= 30);
        // If there is nothing left, it asks again with the same cursor.
        let last = synced.last().expect("an envelope");
        assert_eq!((&last["more"], last["since"] == json!(first)), (&json!(true), !reads));
    }
    // A handler cannot publish to more channels than can be kept.
    let mut service = service.with_handler(|connection| {
        connection.accept();
        (0..31).try_for_each(|number| connection.publish(format!("c{number}"), "x").map(drop))
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
    assert_eq!(service.host.store.operations, 1);
}

#[test]
fn many_channels_are_recovered_at_any_time() {
    for pause in (0..300_000).step_by(13_700) {
        let mut service = service(&[("config:HISTORY_SECONDS", "600")]);
        service.host.clock += pause;
        let channels: String = (0..20).map(|number| format!("channel=c{number}&")).collect();
        let first = publish(&mut service, "c0", "first");
        service.host.clock += 5_000;
        for number in 0..20 {
            publish(&mut service, &format!("c{number}"), &number.to_string());
        }
        service.host.clock += 50_000;
        let all = pages(&mut service, channels.trim_end_matches('&'), &first);
        assert_eq!((all.messages.len(), &all.last["recovered"]), (20, &json!(true)));
        // A quiet time is read at once, or in two parts.
        assert!(all.sizes.len() <= 2, "{:?}", all.sizes);
        // An event stream on quiet channels misses nothing while it opens.
        let channels = channels.trim_end_matches("channel=c19&");
        service.respond(proxied(&format!("/api/events?{channels}since={}", cursor(service.host.clock))));
        let later = service.later.take().expect("a gap");
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
    let told = sent(&service.respond(events(&path, &batch)));
    assert!(
        told[0]["error"].as_str().is_some_and(|error| error.contains("published, but not kept: that took too long"))
    );
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
    let raw =
        format!(": subscribed\nid: {first}\n\nid: {second}\nevent: message\ndata: two\ndata: lines\n\nretry: 3000\n\n");
    assert_eq!(body(&mut service, "", &first), raw);
    let json = body(&mut service, "&format=json", &first);
    assert!(json.contains(r#""recovered":true"#) && json.contains(r#""data":"two\nlines""#), "{json}");
    // An empty header is none.
    let lost = body(&mut service, "", "");
    assert!(lost.contains("event: reset\ndata: {\"type\":\"reset\""), "{lost}");
    assert!(lost.contains(r#""recovered":false,"reason":"messages are kept for 120 seconds""#), "{lost}");
}

#[test]
fn an_event_stream_without_a_cursor_gets_nothing_from_before() {
    let mut service = service(&[]);
    for number in 0..100 {
        publish(&mut service, "room", &number.to_string());
    }
    for format in ["", "&format=json"] {
        let stream = service.respond(proxied(&format!("/api/events?channel=room{format}")));
        let body = String::from_utf8(stream.body).expect("text");
        let since = cursor(service.host.clock);
        assert!(body.starts_with(&format!(": subscribed\nid: {since}\n\n")), "{body}");
        assert!(!body.contains("reset") && !body.contains("recovered") && !body.contains("99"), "{body}");
        // Nor is there anything that follows.
        assert_eq!(service.later, None);
    }
}

/// Opens an event stream from a cursor; returns what it begins with, its gap, and the channel of its own.
fn open(service: &mut Service, query: &str) -> (String, Later, String) {
    let response = service.respond(proxied(&format!("/api/events?channel=room{query}")));
    let channels = header(&response, "grip-channel").expect("channels").to_owned();
    let own = channels.rsplit_once(", ").expect("a channel of its own").1.to_owned();
    assert!(own.starts_with("stream:"), "{own}");
    let body = String::from_utf8(response.body).expect("text");
    (body, service.later.take().expect("a gap"), own)
}

#[test]
fn what_is_published_before_the_proxy_has_the_subscription_follows() {
    let mut service = service(&[]);
    let old = publish(&mut service, "room", "before");
    let old = &*format!("&since={old}");
    service.host.clock += 1_500;
    publish(&mut service, "room", "stored, but perhaps not published yet");
    let (body, later, own) = open(&mut service, old);
    assert!(body.contains("not published yet"), "{body}");
    publish(&mut service, "room", "meanwhile\ntwo lines");
    service.host.clock += 1_500;
    publish(&mut service, "room", "when the proxy has the subscription");
    // A key can be seen late, or is made by a clock that is behind.
    service.host.clock -= 2_400;
    publish(&mut service, "room", "late");
    service.host.clock += 2_400;
    service.take_items();
    let operations = service.host.store.operations;
    assert_eq!(service.finish(later), None);
    assert!(service.host.store.operations - operations <= 3);
    // In the order in which they were stored.
    let items = service.take_items();
    assert_eq!(items.len(), 2, "{items:?}");
    for (item, data) in items.iter().zip(["late", "meanwhile\ndata: two lines"]) {
        assert_eq!(item["channel"], json!(own));
        let content = item["formats"]["http-stream"]["content"].as_str().expect("an event");
        assert!(content.ends_with(&format!("event: message\ndata: {data}\n\n")), "{content}");
    }
    // Nothing is published if nothing was missed; and if that cannot be known, it is told.
    service.host.clock += 10_000;
    let (_, later, _) = open(&mut service, old);
    assert_eq!(service.finish(later), None);
    assert!(service.take_items().is_empty());
    let (_, later, _) = open(&mut service, old);
    service.host.store.fails_from = Some((0, StoreError::TooMany));
    assert_eq!(service.finish(later), None);
    let items = service.take_items();
    let content = items[0]["formats"]["http-stream"]["content"].as_str().expect("an event");
    assert!(content.contains("event: reset\n") && content.contains("cannot be read"), "{content}");
    service.host.store.fails_from = None;
    // If it cannot be published, that is told; if not even that can be, it is a line in the log.
    let (_, later, _) = open(&mut service, old);
    publish(&mut service, "room", "lost");
    service.take_items();
    service.host.results.push_back(Ok(500));
    assert_eq!(service.finish(later), None);
    assert!(service.take_items()[1].to_string().contains("could not be sent"));
    let (_, later, _) = open(&mut service, old);
    publish(&mut service, "room", "lost");
    service.host.results.extend([Ok(500), Ok(500)]);
    assert!(service.finish(later).is_some_and(|line| line.contains("status 500")));
    service.take_items();
    // More than a page follows in pages.
    let (_, later, _) = open(&mut service, old);
    for number in 0..1_001 {
        service.host.clock += number % 2;
        is(&service.respond(broadcast("room", &number.to_string())), 200, "Ok\n");
    }
    service.take_items();
    assert_eq!(service.finish(later), None);
    let items = service.take_items();
    assert_eq!(items.len(), 1_001, "{:?}", items.first());
    service.host.clock += 10_000;
    let now = format!("&since={}", cursor(service.host.clock));
    let (_, later, _) = open(&mut service, &now);
    service.host.store.entries.clear();
    assert_eq!(service.finish(later), None);
    assert!(service.take_items()[0].to_string().contains("cannot be read"));
    // The proxy has no room for a 21st channel.
    let many: String = (0..20).map(|number| format!("channel=c{number}&")).collect();
    service.respond(proxied(&format!("/api/events?{many}since={}", cursor(service.host.clock))));
    assert_eq!(service.later, None);
    // What is not kept needs none.
    let mut service = Service::local();
    service.respond(proxied(&format!("/api/events?channel=room&since={}", cursor(START))));
    assert_eq!(service.later, None);
}

#[test]
fn the_gap_is_that_of_the_last_page() {
    let mut service = service(&[]);
    let since = publish(&mut service, "room", "first");
    // More than a page, just now: what is read is too young to be settled.
    for number in 0..1_200 {
        service.host.clock += number % 2 * 4;
        is(&service.respond(broadcast("room", &number.to_string())), 200, "Ok\n");
    }
    let response = service.respond(proxied(&format!("/api/events?channel=room&since={since}")));
    assert_eq!(header(&response, "grip-hold"), None);
    let body = String::from_utf8(response.body).expect("text");
    let next = body.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("a cursor").to_owned();
    // The browser comes back later.
    service.host.clock += 4_000;
    let (_, later, _) = open(&mut service, &format!("&since={next}"));
    service.take_items();
    service.host.clock += 500;
    publish(&mut service, "room", "in the gap");
    service.take_items();
    assert_eq!(service.finish(later), None);
    let items = service.take_items();
    assert_eq!(items.len(), 1, "{items:?}");
    assert!(items[0].to_string().contains("in the gap"));
}

#[test]
fn the_gap_of_quiet_and_of_busy_channels_alarms_nobody_at_any_time() {
    // Some times at which slices of all lengths end.
    for before in [0, 1, 500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500] {
        for (channels, per_second) in [(1, 0), (8, 0), (13, 0), (19, 0), (1, 200), (8, 20), (13, 20)] {
            let mut service = service(&[]);
            service.host.clock = (START >> 18 << 18) + (1 << 18) - before - 10_000;
            for _ in 0..per_second * 11 {
                service.host.clock += 1_000 / per_second.max(1);
                is(&service.respond(broadcast("c0", "x")), 200, "Ok\n");
            }
            service.host.clock = (START >> 18 << 18) + (1 << 18) - before;
            let query: String = (0..channels).map(|number| format!("channel=c{number}&")).collect();
            let mut since = cursor(service.host.clock);
            let later = loop {
                let response = service.respond(proxied(&format!("/api/events?{query}since={since}")));
                if header(&response, "grip-hold").is_some() {
                    break service.later.take().expect("a gap");
                }
                let body = String::from_utf8(response.body).expect("text");
                let next = body.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("a cursor");
                assert_ne!(since, next);
                since = next.to_owned();
            };
            service.take_items();
            assert_eq!(service.finish(later), None);
            let items = service.take_items();
            assert!(
                !items.iter().any(|item| item.to_string().contains("reset")),
                "{channels} channels, {per_second} a second, {before} ms before"
            );
        }
    }
}

#[test]
fn what_is_published_after_a_reset_follows_too() {
    let mut service = service(&[]);
    let old = format!("&since={}Z", humantime_of(START - 300_000));
    let (body, later, _) = open(&mut service, &old);
    assert!(body.contains("event: reset"), "{body}");
    publish(&mut service, "room", "just now");
    service.take_items();
    assert_eq!(service.finish(later), None);
    let items = service.take_items();
    assert_eq!(items.len(), 1);
    assert!(items[0].to_string().contains("just now"), "{items:?}");
}

#[test]
fn an_event_stream_with_more_than_a_page_ends_and_goes_on_with_the_next() {
    let mut service = service(&[]);
    let mut last = publish(&mut service, "room", "first");
    service.host.clock += 5_000;
    for number in 0..2_500 {
        service.host.clock += 2;
        is(&service.respond(broadcast("room", &format!("#{number}#"))), 200, "Ok\n");
        service.host.published.clear();
    }
    service.host.clock += 5_000;
    service.now = service.host.clock / 1000;
    for format in ["", "&format=json"] {
        let (mut got, mut streams, from) = (Vec::new(), 0, last.clone());
        loop {
            let request = proxied(&format!("/api/events?channel=room{format}")).with("Last-Event-ID", &*last);
            let response = service.respond(request);
            let body = String::from_utf8(response.body.clone()).expect("text");
            got.extend(body.split('#').filter_map(|number| number.parse::<u32>().ok()));
            assert!(!body.contains("reset"), "{body}");
            // As a browser does.
            last = body.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("an id").to_owned();
            streams += 1;
            service.host.clock += 100;
            let is_last = header(&response, "grip-hold").is_some();
            assert_eq!(service.later.take().is_some(), is_last);
            assert_eq!(format.is_empty() || body.contains(r#""more":true"#), format.is_empty() || !is_last);
            if is_last {
                break;
            }
        }
        assert_eq!(got, (0..2_500).collect::<Vec<_>>());
        assert!((3..6).contains(&streams), "{streams}");
        last = from;
    }
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
    publish(&mut service, "room", "before");
    let path = "/api/poll?format=json&channel=room";
    // Without a cursor it gets one at once.
    let response = service.respond(proxied(path));
    let first = cursor(service.host.clock);
    assert_eq!(
        (header(&response, "grip-hold"), json_of(&response)),
        (None, json!([{ "type": "welcome", "since": first }]))
    );
    // With one it waits. What it may have seen comes along when the time is over.
    let held = service.respond(proxied(&format!("{path}&since={first}")));
    assert_eq!((header(&held, "grip-hold"), header(&held, "grip-channel")), (Some("response"), Some("json:room")));
    let list = json_of(&held);
    assert_eq!(
        (&list[0]["since"], &list[0]["recovered"], &list[1]["data"]),
        (&json!(first), &json!(true), &json!("before"))
    );
    // What is stored after the cursor is there at once.
    publish(&mut service, "room", "after");
    let response = service.respond(proxied(&format!("{path}&since={first}")));
    let list = json_of(&response);
    assert_eq!((header(&response, "grip-hold"), list.as_array().map(Vec::len)), (None, Some(3)));
    let next = list[0]["since"].as_str().expect("a cursor");
    let held = service.respond(proxied(&format!("{path}&since={next}")));
    assert_eq!(header(&held, "grip-hold"), Some("response"));
    // What is stored late does not end the wait either.
    service.host.clock -= 1_000;
    publish(&mut service, "room", "late");
    service.host.clock += 1_000;
    let held = service.respond(proxied(&format!("{path}&since={next}")));
    assert_eq!(header(&held, "grip-hold"), Some("response"));
    assert!(json_of(&held).to_string().contains("late"));
    // The proxy holds no more than 100,000 bytes.
    publish(&mut service, "room", &"x".repeat(60_000));
    publish(&mut service, "room", &"x".repeat(60_000));
    let response = service.respond(proxied(&format!("{path}&since={}", cursor(service.host.clock))));
    assert_eq!((header(&response, "grip-hold"), response.body.len() > 100_000), (None, true));
}

#[test]
fn a_poll_that_is_behind_goes_on_page_after_page() {
    let mut service = service(&[]);
    let mut since = publish(&mut service, "room", "first");
    service.host.clock += 5_000;
    for number in 0..1_500 {
        service.host.clock += 2;
        is(&service.respond(broadcast("room", &number.to_string())), 200, "Ok\n");
        service.host.published.clear();
    }
    service.host.clock += 5_000;
    service.now = service.host.clock / 1000;
    let mut got = Vec::new();
    loop {
        let response = service.respond(proxied(&format!("/api/poll?format=json&channel=room&since={since}")));
        let list = json_of(&response);
        let (welcome, messages) = list.as_array().expect("a list").split_first().expect("a welcome");
        got.extend(
            messages.iter().map(|message| message["data"].as_str().expect("a text").parse::<u32>().expect("a number")),
        );
        since = welcome["since"].as_str().expect("a cursor").to_owned();
        assert_eq!(header(&response, "grip-hold"), None);
        if welcome.get("more").is_none() {
            assert_eq!(welcome["recovered"], true);
            break;
        }
    }
    assert_eq!(got, (0..1_500).collect::<Vec<_>>());
}

#[test]
fn a_poll_whose_cursor_is_of_no_use_is_told_so_once() {
    let path = format!("/api/poll?format=json&channel=room&since={}Z", humantime_of(START - 1_000));
    let mut off = Service::local();
    off.host.clock = START;
    let told = json_of(&off.respond(proxied(&path)));
    assert_eq!((&told[0]["recovered"], told[0].get("since")), (&json!(false), None));
    // After a cursor that is too old, the next one is of use.
    let mut service = service(&[]);
    let told = json_of(&service.respond(proxied(&path.replace("since=", "since=2020-01-01T00:00:00Z&x="))));
    assert_eq!((&told[0]["recovered"], told[0]["since"].is_string()), (&json!(false), true));
    // As long as a new history is not valid yet, the client waits without a cursor.
    let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "room")];
    let mut settling = Service::new(settings(&entries));
    settling.host.clock = START;
    publish(&mut settling, "room", "x");
    let told = json_of(&settling.respond(proxied(&path)));
    assert_eq!((&told[0]["recovered"], told[0].get("since")), (&json!(false), None));
}
