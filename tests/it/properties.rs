//! Properties of the codecs, for random input.

use base64::prelude::{BASE64_STANDARD, Engine};
use fanout_edge::grip::{
    Channel, Event, Events, Filter, GripUri, Hold, ItemId, VerifyKey,
    control::{Content, Control, KeepAliveMode},
    event::CloseFrame,
    headers::{has_feature, last_ids},
};
use proptest::{collection::vec, prelude::*};
use serde_json::json;

use crate::{
    service::{ACCEPTED, Request, Service, header, settings, subscribed},
    support::{LOCAL_GRIP_URL, NOW, local_signature},
};

/// An event that owns its content.
#[derive(Clone, Debug)]
enum Owned {
    Open,
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, Vec<u8>)>),
    Disconnect,
}

impl Owned {
    fn borrow(&self) -> Event<'_> {
        match self {
            Self::Open => Event::Open,
            Self::Text(content) => Event::Text(content),
            Self::Binary(content) => Event::Binary(content),
            Self::Ping(content) => Event::Ping(content),
            Self::Pong(content) => Event::Pong(content),
            Self::Close(frame) => Event::Close(frame.as_ref().map(|(code, reason)| CloseFrame { code: *code, reason })),
            Self::Disconnect => Event::Disconnect,
        }
    }
}

fn event() -> impl Strategy<Value = Owned> {
    let content = || vec(any::<u8>(), 0..300);
    prop_oneof![
        Just(Owned::Open),
        content().prop_map(Owned::Text),
        content().prop_map(Owned::Binary),
        content().prop_map(Owned::Ping),
        content().prop_map(Owned::Pong),
        proptest::option::of((any::<u16>(), content())).prop_map(Owned::Close),
        Just(Owned::Disconnect),
    ]
}

fn encode(events: &[Owned]) -> Vec<u8> {
    let mut body = Vec::new();
    for event in events {
        event.borrow().encode(&mut body);
    }
    body
}

/// Bytes that are valid events, or nearly so, more often than random bytes.
fn nearly_events() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        "(OPEN|TEXT|BINARY|PING|PONG|CLOSE|DISCONNECT|[A-Z]{1,22})".prop_map(String::into_bytes),
        "[ 0-9a-fA-F+-]{0,10}".prop_map(String::into_bytes),
        Just(b"\r\n".to_vec()),
        vec(any::<u8>(), 0..8),
    ];
    vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn a_client_gets_exactly_what_was_published_since_its_cursor(
        pauses in vec(prop_oneof![0..3_000u64, 0..70_000u64, 0..2_000_000u64], 1..20),
        cursor in any::<prop::sample::Index>(),
    ) {
        let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*"), ("config:HISTORY_SECONDS", "86400")];
        let mut service = Service::new(settings(&entries));
        service.host.is_local = true;
        let mut published = Vec::new();
        for pause in pauses {
            service.host.clock += pause;
            let request = Request::new("POST", "/api/broadcast?channel=room").with("Content-Type", "text/plain");
            let response = service.respond(request.with_body("x"));
            let id = header(&response, "message-id").expect("an id").to_owned();
            published.push((service.host.clock, id));
        }
        let (seen_at, seen) = cursor.get(&published).clone();
        let response = service.respond(Request::new("GET", &format!("/api/history?channel=room&since={seen}")));
        let missed: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        prop_assert_eq!(&missed["recovered"], &json!(true), "{}", missed);
        // Messages of the last seconds before the cursor come again.
        let due = published.iter().filter(|(at, id)| at + 5_000 >= seen_at && *id != seen);
        let got = missed["messages"].as_array().expect("a list").iter().map(|message| message["id"].as_str().expect("an id"));
        prop_assert_eq!(got.collect::<Vec<_>>(), due.map(|(_, id)| &**id).collect::<Vec<_>>());
    }

    #[test]
    fn encoded_events_decode_to_the_same_events(events in vec(event(), 0..20)) {
        let body = encode(&events);
        let decoded: Vec<_> = Events::decode(&body).expect("a valid body").collect();
        prop_assert_eq!(decoded, events.iter().map(Owned::borrow).collect::<Vec<_>>());
    }

    #[test]
    fn a_body_that_breaks_off_within_an_event_is_rejected(events in vec(event(), 1..5)) {
        let body = encode(&events);
        let ends: Vec<_> = (0..=events.len()).map(|count| encode(&events[..count]).len()).collect();
        for length in 0..=body.len() {
            prop_assert_eq!(Events::decode(&body[..length]).is_ok(), ends.contains(&length));
        }
    }

    #[test]
    fn decoded_events_encode_to_the_same_events_and_no_more_bytes(body in nearly_events()) {
        if let Ok(events) = Events::decode(&body) {
            let events: Vec<_> = events.collect();
            let mut again = Vec::new();
            for event in &events {
                event.encode(&mut again);
            }
            prop_assert_eq!(Events::decode(&again).expect("a valid body").collect::<Vec<_>>(), events);
            prop_assert!(again.len() <= body.len());
        }
    }

    #[test]
    fn every_response_has_valid_events(body in prop_oneof![nearly_events(), vec(event(), 0..20).prop_map(|events| encode(&events))]) {
        let request = Request::new("POST", "/api/websocket")
            .with("content-type", "application/websocket-events")
            .with("grip-sig", local_signature(NOW))
            .with("connection-id", "c1")
            .with_body(body);
        let response = Service::local().respond(request);
        if response.status == 200 {
            let opening = format!("{ACCEPTED}{}", subscribed("test"));
            let ours: Vec<_> = Events::decode(opening.as_bytes()).expect("valid events").collect();
            for event in Events::decode(&response.body).expect("valid events") {
                // Text from a client never becomes a control message.
                if let Event::Text(text) = event {
                    prop_assert!(text.starts_with(b"m:") || ours.contains(&event), "{}", text.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn no_request_panics(method in "(GET|POST|[A-Z]{0,8})", path in "(/api/websocket|/api/broadcast|.{0,20})",
        content_type in "(text/plain|application/websocket-events|.{0,40})", signature in ".{0,60}", signed: bool, body: Vec<u8>)
    {
        let signature = if signed { local_signature(NOW) } else { signature };
        let request = Request::new(&method, &path)
            .with("content-type", content_type)
            .with("grip-sig", signature)
            .with("connection-id", "c")
            .with_body(body);
        Service::local().decide(request);
    }

    #[test]
    fn control_messages_are_valid_json(text in ".{0,40}", bytes in vec(any::<u8>(), 0..40), timeout: u32, name in ".{0,10}") {
        let channel = Channel::from_static("a");
        let binary = |kind: &str| {
            let mut value = json!({ "message-type": kind });
            let (key, content) =
                if bytes.is_empty() { ("content", String::new()) } else { ("content-bin", BASE64_STANDARD.encode(&bytes)) };
            value[key] = content.into();
            value
        };
        let with = |mut value: serde_json::Value, more: serde_json::Value| {
            let more = more.as_object().expect("an object").clone();
            value.as_object_mut().expect("an object").extend(more);
            value
        };
        let (idle, interval) = (KeepAliveMode::Idle, KeepAliveMode::Interval);
        for (message, expected) in [
            (Control::Subscribe { channel: &channel, filters: &[] }, json!({ "type": "subscribe", "channel": "a" })),
            (
                Control::Subscribe { channel: &channel, filters: &[Filter::SkipUsers, Filter::RequireSub] },
                json!({ "type": "subscribe", "channel": "a", "filters": ["skip-users", "require-sub"] }),
            ),
            (Control::Unsubscribe { channel: &channel }, json!({ "type": "unsubscribe", "channel": "a" })),
            (Control::Detach, json!({ "type": "detach" })),
            (Control::FlushDelayed, json!({ "type": "flush-delayed" })),
            (Control::SetMeta { name: &name, value: &text }, json!({ "type": "set-meta", "name": name, "value": text })),
            (
                Control::SendDelayed { content: Content::Text(&text), timeout },
                json!({ "type": "send-delayed", "content": text, "timeout": timeout }),
            ),
            (
                Control::SendDelayed { content: Content::Pong(&bytes), timeout },
                with(binary("pong"), json!({ "type": "send-delayed", "timeout": timeout })),
            ),
            (
                Control::KeepAlive { content: Some(Content::Binary(&bytes)), timeout, mode: interval },
                with(binary("binary"), json!({ "type": "keep-alive", "timeout": timeout, "mode": "interval" })),
            ),
            (
                Control::KeepAlive { content: Some(Content::Ping(&bytes)), timeout, mode: idle },
                with(binary("ping"), json!({ "type": "keep-alive", "timeout": timeout })),
            ),
        ] {
            let value: serde_json::Value = serde_json::from_str(&message.to_json()).expect("JSON");
            prop_assert_eq!(value, expected);
        }
    }

    #[test]
    fn headers_of_holds_are_printable_ascii(content: Vec<u8>, text in ".{0,30}", code: u16) {
        let mut hold = Hold::stream(&Channel::from_static("a"));
        for changed in [
            hold.clone().with_keep_alive(&content, 20),
            Ok(ItemId::new(&text).map_or_else(|| hold.clone(), |id| hold.clone().with_prev_id(id))),
            hold.clone().with_status(code, &text),
            hold.clone().with_next(&text, None),
            hold.clone().with_meta(&text, &text),
            hold.clone().with_exposed_headers(&[&text]),
        ] {
            hold = changed.unwrap_or(hold);
        }
        for value in hold.headers().values() {
            prop_assert!(value.as_bytes().iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')), "{:?}", value);
        }
    }

    #[test]
    fn a_broadcast_is_published_whole_or_rejected_with_a_limit_that_fits(
        unit in prop_oneof![".{1,6}", "[\\x00-\\x1f\"\\\\]{1,4}", "(\r\n|\n|\r|a){1,4}"],
        length in prop_oneof![0..200usize, 5_000..12_000usize, 20_000..22_000usize, 0..64_000usize],
        name in "[a-z]{1,64}",
        content_type in prop_oneof![Just("text/plain"), Just("application/octet-stream")],
        plain in 0..30_000usize,
        is_first in any::<bool>(),
    ) {
        let plain = "x".repeat(plain.min(length));
        let others = unit.repeat((length - plain.len()) / unit.len());
        let body = if is_first { plain + &others } else { others + &plain };
        let publish = |text: &str| {
            let request = Request::new("POST", &format!("/api/broadcast?channel={name}"));
            let mut service = Service::local();
            let response = service.respond(request.with("Content-Type", content_type).with_body(text));
            let bodies: Vec<usize> = service.take_published().iter().map(|request| request.body.len()).collect();
            (response.status, String::from_utf8_lossy(&response.body).into_owned(), bodies)
        };
        let (status, text, bodies) = publish(&body);
        prop_assert!(bodies.iter().all(|length| *length <= 65_536) && bodies.len() <= 6);
        if status == 200 {
            prop_assert!(!bodies.is_empty());
        } else {
            let limit = text.strip_prefix("Message too large: at most ").and_then(|rest| rest.split(' ').next());
            let limit: usize = limit.and_then(|limit| limit.parse().ok()).expect("a limit");
            prop_assert!((status, bodies.len()) == (413, 0) && limit < length && limit > 7_000, "{text}");
            prop_assert_eq!(publish(&body[..body.floor_char_boundary(limit)]).0, 200);
        }
    }

    #[test]
    fn no_parser_panics(text in "\\PC{0,80}", url in "(http://)?[a-z:@/?&=%+#.0-9-]{0,60}") {
        let _ = Channel::new(text.clone());
        let _ = VerifyKey::parse(&text);
        let _ = GripUri::parse(&text);
        let _ = GripUri::parse(&url);
        last_ids(&text).for_each(drop);
        has_feature(&text, "x");
    }
}
