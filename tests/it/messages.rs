//! Messages: their ids, their forms in envelopes, and how a large one is divided.

use fanout_edge::app::web::Response;
use serde_json::{Value, json};
use uuid::{Builder, Uuid};

use crate::{
    service::{Request, Service, cursor, header, id, id_of, is, settings},
    support::{LOCAL_GRIP_URL, NOW, access_token, local_signature},
};

const SECRET: &str = "a-secret-of-at-least-32-characters";
const KEY: &str = "secret:a-secret-of-at-least-32-characters";
const INVALID: &str = r#"{"type":"error","error":"Invalid message: send {\"type\":\"message\",\"data\":\"TEXT\"}, or {\"type\":\"message\",\"base64\":\"BYTES\"}, as text"}"#;

fn broadcast(query: &str) -> Request {
    Request::new("POST", &format!("/api/broadcast{query}")).with("Content-Type", "text/plain")
}

/// An event of a WebSocket that asks for envelopes.
fn event(query: &str, body: &str) -> Request {
    Request::new("POST", &format!("/api/websocket?format=json{query}"))
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", "application/websocket-events")
        .with("Connection-Id", "c1")
        .with_body(body)
}

fn text(text: &str) -> String {
    format!("TEXT {:x}\r\n{text}\r\n", text.len())
}

/// A text for the client, as the proxy gets it.
fn sent(content: &str) -> String {
    text(&format!("m:{content}"))
}

#[track_caller]
fn message_id(response: &Response) -> Uuid {
    header(response, "message-id").and_then(|id| id.parse().ok()).expect("a UUID")
}

/// The items of all publish requests, by channel, with their ids and the names of their formats.
fn published(service: &mut Service) -> Vec<Vec<(String, String, Vec<String>)>> {
    let item = |item: &Value| {
        let text = |name: &str| item[name].as_str().expect("a text").to_owned();
        assert_eq!(item["no-seq"], true);
        let formats = item["formats"].as_object().expect("an object");
        (text("channel"), text("id"), formats.keys().cloned().collect())
    };
    let requests = service.take_published();
    let items = |body: &[u8]| serde_json::from_slice::<Value>(body).expect("JSON")["items"].clone();
    requests
        .iter()
        .map(|request| {
            assert!(request.body.len() <= 65_536);
            items(&request.body).as_array().expect("a list").iter().map(item).collect()
        })
        .collect()
}

#[test]
fn a_response_to_a_broadcast_has_the_id_of_the_message() {
    let mut service = Service::local();
    let response = service.respond(broadcast("").with_body("x"));
    is(&response, 200, "Ok\n");
    assert_eq!(message_id(&response), id_of(id(1), "test", "x", ""));
    assert_eq!(header(&response, "access-control-expose-headers"), Some("Message-Id"));
    service.host.results.push_back(Ok(500));
    let response = service.respond(broadcast("").with_body("x"));
    assert_eq!((response.status, message_id(&response)), (502, id_of(id(2), "test", "x", "")));
    // There is none for what will not be published.
    let response = service.respond(broadcast("").with_body("\n".repeat(60_000)));
    assert_eq!((response.status, header(&response, "message-id")), (413, None));
    assert_eq!(header(&service.respond(broadcast("?channel=a:b").with_body("x")), "message-id"), None);
    assert_eq!(message_id(&service.respond(broadcast("").with_body("x"))), id_of(id(4), "test", "x", ""));
}

#[test]
fn a_retry_names_the_id_of_the_first_try() {
    let at = |seconds: u64| Builder::from_unix_timestamp_millis(seconds * 1000, &[7; 10]).into_uuid();
    let mut service = Service::local();
    for first in [at(NOW), at(NOW - 60), at(NOW + 1)] {
        let upper = first.to_string().to_uppercase();
        for query in [format!("?id={first}"), format!("?id={upper}")] {
            let response = service.respond(broadcast(&query).with_body("x"));
            is(&response, 200, "Ok\n");
            let id = id_of(first, "test", "x", "");
            assert_eq!(message_id(&response), id);
            assert_eq!(service.take_items()[0]["id"], id.to_string());
            // The id of the response is that of the retry.
            let response = service.respond(broadcast(&format!("?id={id}")).with_body("x"));
            assert_eq!((message_id(&response), &service.take_items()[0]["id"]), (id, &json!(id.to_string())));
        }
    }
    let v4 = Builder::from_random_bytes([7; 16]).into_uuid().to_string();
    let (first, old, future) = (at(NOW).to_string(), at(NOW - 61).to_string(), at(NOW + 2).to_string());
    let (braced, plain) = (format!("{{{first}}}"), first.replace('-', ""));
    let not_rfc = format!("{}0{}", &first[..19], &first[20..]);
    for wrong in ["", "1", &v4, &old, &future, &braced, &plain, &not_rfc, &first[1..]] {
        let response = service.respond(broadcast(&format!("?id={wrong}")).with_body("x"));
        let problem = "Invalid id: use the Message-Id of the first try, a UUID version 7 that was made within the last 60 seconds\n";
        is(&response, 400, problem);
    }
    assert!(service.host.published.is_empty());
}

#[test]
fn nobody_can_give_another_message_the_same_id() {
    let claims = |user: &str| format!(r#"{{"sub":"{user}","x-fastly-read":["*"],"x-fastly-write":["*"]}}"#);
    let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", KEY)]));
    let mut publish = |id: Option<Uuid>, channel: &str, content_type: &str, text: &str, user: &str| {
        let query = id.map_or(String::new(), |id| format!("&id={id}"));
        let request = Request::new("POST", &format!("/api/broadcast?channel={channel}{query}"))
            .with("Content-Type", content_type)
            .with("Authorization", format!("Bearer {}", access_token(SECRET, NOW + 60, &claims(user))));
        message_id(&service.respond(request.with_body(text)))
    };
    let first = publish(None, "a", "text/plain", "hi", "alice");
    assert_eq!(publish(Some(first), "a", "text/plain", "hi", "alice"), first);
    let others = [
        publish(Some(first), "a", "text/plain", "ho", "alice"),
        publish(Some(first), "a", "text/plain", "hi", "mallory"),
        publish(Some(first), "b", "text/plain", "hi", "alice"),
        publish(Some(first), "a", "application/octet-stream", "hi", "alice"),
        // The same bytes, divided in another way.
        publish(Some(first), "ah", "text/plain", "i", "alice"),
        // For all others but one.
        publish(Some(first), "a&except=c1", "text/plain", "hi", "alice"),
        publish(Some(first), "a&except=c2", "text/plain", "hi", "alice"),
    ];
    let mut all = vec![first];
    for other in others {
        assert_eq!(other.to_string()[..24], first.to_string()[..24], "it begins as it was named");
        assert!(!all.contains(&other));
        all.push(other);
    }
}

#[test]
fn ids_that_are_made_later_are_greater() {
    let mut service = Service::local();
    let mut publish = |number: u64| {
        // The clock goes on now and then.
        service.host.clock += number % 2;
        message_id(&service.respond(broadcast("").with_body("x")))
    };
    let mut ids: Vec<Uuid> = (0..100).map(&mut publish).collect();
    assert!(ids.is_sorted());
    ids.dedup();
    assert_eq!(ids.len(), 100, "the same text twice is two messages");
}

#[test]
fn a_large_message_is_divided_into_as_few_requests_as_it_fits_into() {
    let mut service = Service::local();
    let id = |n: u32, length: usize| id_of(id(n), "test", &"x".repeat(length), "").to_string();
    let all = || ["http-response", "http-stream", "ws-message"].map(str::to_owned).to_vec();
    is(&service.respond(broadcast("").with_body("x".repeat(10_000))), 200, "Ok\n");
    let whole =
        |id: &str| [("test", id), ("json:test", id)].map(|(channel, id)| (channel.to_owned(), id.to_owned(), all()));
    let first = id(1, 10_000);
    assert_eq!(published(&mut service), [whole(&first)]);
    // One request for each item.
    is(&service.respond(broadcast("").with_body("x".repeat(20_000))), 200, "Ok\n");
    let second = id(2, 20_000);
    assert_eq!(published(&mut service), whole(&second).map(|item| vec![item]));
    // One for each item and format: with ids of their own, as the proxy would drop all but the first of the same id.
    for (n, length) in [(3, 60_000), (4, 64_000)] {
        is(&service.respond(broadcast("").with_body("x".repeat(length))), 200, "Ok\n");
        let third = id(n, length);
        let parts = ["test", "json:test"].into_iter().flat_map(|channel| {
            let part = |format: String| vec![(channel.to_owned(), format!("{third}:{format}"), vec![format])];
            all().into_iter().map(part).collect::<Vec<_>>()
        });
        assert_eq!(published(&mut service), parts.collect::<Vec<_>>());
    }
}

#[test]
fn a_message_that_does_not_fit_in_any_form_is_rejected_with_its_limit() {
    let limit = |request: Request| {
        let mut service = Service::local();
        let response = service.respond(request);
        assert!(service.host.published.is_empty());
        assert_eq!(response.status, 413);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        let limit = text
            .strip_prefix("Message too large: at most ")?
            .strip_suffix(" bytes like these can be published, send less\n")?;
        limit.parse::<usize>().ok()
    };
    let binary = || Request::new("POST", "/api/broadcast").with("Content-Type", "application/octet-stream");
    let fits = |request: Request| is(&Service::local().respond(request), 200, "Ok\n");
    // Each newline begins another field of an event, a quotation mark and a control character are escaped twice.
    for unit in ["\n", "\r\n", "\"", "\\", "\u{1}", "\u{1f600}\n"] {
        let body = |bytes: usize| unit.repeat(bytes / unit.len());
        let least = limit(broadcast("").with_body(body(63_000))).expect("a limit");
        assert!((7_000..32_600).contains(&least), "{least} for {unit:?}");
        fits(broadcast("").with_body(body(least)));
        assert!(limit(broadcast("").with_body(body(least + 1000))).is_some(), "{unit:?}");
    }
    // Of bytes it makes no difference which they are, also if they are text, but a long one in JSON.
    for byte in [0xff, 0, b'x'] {
        let least = limit(binary().with_body([byte; 63_000])).expect("a limit");
        assert!((48_500..49_000).contains(&least), "{least}");
        fits(binary().with_body(vec![byte; least]));
    }
}

#[test]
fn the_largest_message_fits_with_the_longest_names_around_it() {
    let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", KEY)];
    for letter in ["\\\"", "\\u0001", "\u{e9}", "\u{1f600}"] {
        let user = letter.repeat(128);
        let claims = format!(r#"{{"sub":"{user}","x-fastly-read":["*"],"x-fastly-write":["*"]}}"#);
        let bearer = format!("Bearer {}", access_token(SECRET, NOW + 60, &claims));
        let channel = "c".repeat(64);
        for (content, kind) in
            [("x".repeat(64_000), "TEXT"), ("x".repeat(48_000), "BINARY"), ("\"".repeat(15_500), "TEXT")]
        {
            let mut service = Service::new(settings(&entries));
            let body = format!("{kind} {:x}\r\n{content}\r\n", content.len());
            let event = Request::new("POST", &format!("/api/websocket?mode=publish&echo=off&channel={channel}"))
                .with("Grip-Sig", local_signature(NOW))
                .with("Content-Type", "application/websocket-events")
                .with("Connection-Id", "338b2b15-1d93-4027-9aa1-7fc7e86527c2")
                .with("Authorization", &*bearer)
                .with_body(body);
            let response = service.respond(event);
            let requests = service.take_published();
            assert!(requests.iter().all(|request| request.body.len() <= 65_536));
            if !response.body.is_empty() {
                // What the reason names is less than what was sent, and not the limit of all messages.
                let reason = String::from_utf8_lossy(&response.body[..]).into_owned();
                let limit: usize = reason
                    .split("at most ")
                    .nth(1)
                    .and_then(|rest| rest.split(' ').next())
                    .and_then(|limit| limit.parse().ok())
                    .expect("a limit");
                assert!(limit < content.len(), "{limit} of {} for {letter}", content.len());
            }
        }
    }
}

#[test]
fn a_message_that_is_published_in_part_says_so() {
    let mut service = Service::local();
    service.host.results.extend([Ok(202), Ok(204), Ok(500)]);
    let first = id_of(id(1), "test", &"x".repeat(60_000), "");
    let response = service.respond(broadcast("").with_body("x".repeat(60_000)));
    let problem = "The message is published for some transports only: the GRIP proxy rejected it with status 500\n";
    is(&response, 502, problem);
    assert_eq!((message_id(&response), service.take_published().len()), (first, 3));
    // The retry publishes the same items, so that what was published is dropped by the proxy.
    let mut retry = || {
        let query = format!("?id={first}");
        is(&service.respond(broadcast(&query).with_body("x".repeat(60_000))), 200, "Ok\n");
        published(&mut service)
    };
    assert_eq!(retry(), retry());
}

#[test]
fn a_json_websocket_is_welcomed_and_hears_envelopes() {
    let mut service = Service::local();
    let response = service.respond(event("&channel=a&channel=b", "OPEN\r\n"));
    let control = |json: &str| text(&format!("c:{json}"));
    let expected = [
        "OPEN\r\n".to_owned(),
        control(r#"{"type":"set-meta","name":"user","value":"c1"}"#),
        control(r#"{"type":"keep-alive","content":"{\"type\":\"ping\"}","timeout":25,"mode":"interval"}"#),
        sent(r#"{"type":"welcome","connection":"c1"}"#),
        control(r#"{"type":"subscribe","channel":"json:a","filters":["skip-self"]}"#),
        control(r#"{"type":"subscribe","channel":"json:b","filters":["skip-self"]}"#),
    ];
    is(&response, 200, expected.concat());
}

#[test]
fn a_json_websocket_sends_and_gets_envelopes() {
    let responds = |body: &str, expected: &[&str]| {
        let expected: String = expected.iter().copied().map(sent).collect();
        is(&Service::local().respond(event("", body)), 200, expected);
    };
    let hi = r#"{"type":"message","data":"hi"}"#;
    responds(&text(hi), &[hi]);
    let spaced = " { \"data\" : \"h\\u0069\", \"type\" : \"message\", \"x\" : [1] } ";
    responds(&text(spaced), &[hi]);
    let bytes = r#"{"type":"message","base64":"AAEC"}"#;
    responds(&text(bytes), &[bytes]);
    // What is not valid is answered in its place, and does no harm to the rest.
    let (one, two) = (r#"{"type":"message","data":"1"}"#, r#"{"type":"message","data":"2"}"#);
    let body = text(one) + &text("hi") + "BINARY 1\r\nb\r\nPING 1\r\np\r\n" + &text(two);
    let expected = sent(one) + &sent(INVALID) + &sent(INVALID) + "PONG 1\r\np\r\n" + &sent(two);
    is(&Service::local().respond(event("", &body)), 200, expected);
    for wrong in [
        "",
        "{}",
        "null",
        "[]",
        r#""hi""#,
        r#"{"type":"message"}"#,
        r#"{"type":"message","data":1}"#,
        r#"{"type":"message","data":"a","base64":"AAEC"}"#,
        r#"{"type":"message","base64":"?"}"#,
        r#"{"type":"pang"}"#,
        r#"{"type":"message","data":"a"} x"#,
        r#"{"data":"a"}"#,
        r#"["message","hi",null]"#,
    ] {
        responds(&text(wrong), &[INVALID]);
    }
    // A close is a close, and text that is not UTF-8 is a violation of the protocol.
    is(&Service::local().respond(event("", "CLOSE 2\r\n\x0c\x00\r\n")), 200, "CLOSE 2\r\n\x0c\x00\r\n");
    let request = event("", "").with_body(b"TEXT 1\r\n\xff\r\n");
    assert!(Service::local().respond(request).body.starts_with(b"CLOSE "));
}

#[test]
fn a_json_websocket_publishes_what_its_envelopes_say() {
    let mut service = Service::local();
    let body = text(r#"{"type":"message","data":"hi \"you\""}"#) + &text(r#"{"type":"message","base64":"/wA="}"#);
    is(&service.respond(event("&mode=publish&echo=off&channel=a", &body)), 200, "");
    let items = service.take_items();
    let message = |place: usize| &items[place]["formats"]["ws-message"];
    assert_eq!(message(0), &json!({ "content": "hi \"you\"" }));
    let envelope = format!(
        r#"{{"type":"message","id":"{}","channel":"a","data":"hi \"you\""}}"#,
        id_of(id(1), "a", "hi \"you\"", "")
    );
    assert_eq!(message(1), &json!({ "content": envelope }));
    assert_eq!(message(2), &json!({ "type": "binary", "content-bin": "/wA=" }));
    assert!(items.iter().all(|item| item["meta"] == json!({ "sender": "c1" })), "both kinds of clients are filtered");
    assert_eq!(
        items[2]["id"].as_str().map(|text| &text[..24]),
        Some(&id(2).to_string()[..24]),
        "each has an id of its own"
    );
}

#[test]
fn envelopes_name_the_user_of_a_verified_token() {
    let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", KEY)];
    let claims = r#"{"sub":"al\"ice","x-fastly-read":["*"],"x-fastly-write":["*"]}"#;
    let bearer = format!("Bearer {}", access_token(SECRET, NOW + 60, claims));
    let mut service = Service::new(settings(&entries));
    let envelope = |service: &mut Service| service.take_items()[1]["formats"]["ws-message"]["content"].clone();
    let message = |n: u32| {
        format!(
            r#"{{"type":"message","id":"{}","channel":"test","data":"hi","from":"al\"ice"}}"#,
            id_of(id(n), "test", "hi", "al\"ice")
        )
    };
    is(&service.respond(broadcast("").with("Authorization", &*bearer).with_body("hi")), 200, "Ok\n");
    assert_eq!(envelope(&mut service), message(1));
    is(
        &service.respond(
            event("&mode=publish", &text(r#"{"type":"message","data":"hi"}"#)).with("Authorization", &*bearer),
        ),
        200,
        "",
    );
    assert_eq!(envelope(&mut service), message(2));
    let response = service.respond(event("", "OPEN\r\n").with("Authorization", &*bearer));
    let welcome = r#"{"type":"welcome","connection":"c1","user":"al\"ice"}"#;
    assert!(String::from_utf8_lossy(&response.body).contains(welcome));
    // Who has a Fastly-Key is no user.
    service.host.fastly_key = Some("key");
    let request = broadcast("").with("Fastly-Key", "key").with("Authorization", &*bearer).with_body("hi");
    is(&service.respond(request), 200, "Ok\n");
    assert!(!envelope(&mut service).to_string().contains("from"));
}

#[test]
fn json_events_begin_with_a_welcome_and_json_polls_have_their_own_channel() {
    let get = |path: &str| Service::local().respond(Request::new("GET", path).with("Grip-Sig", local_signature(NOW)));
    let events = get("/api/events?format=json&channel=a");
    let since = cursor(NOW * 1000);
    let welcome = format!(
        r#"id: {since}
event: message
data: {{"type":"welcome"}}"#
    );
    is(&events, 200, format!(": subscribed\n\n{welcome}\n\n"));
    assert_eq!(header(&events, "grip-channel"), Some("json:a"));
    let poll = get("/api/poll?format=json&channel=a&channel=b");
    is(&poll, 204, "");
    assert_eq!(header(&poll, "grip-channel"), Some("json:a, json:b"));
    assert_eq!(header(&poll, "content-type"), Some("application/json"));
    assert_eq!(header(&get("/api/poll?format=raw"), "grip-channel"), Some("test"));
    let rejected = Service::local().respond(Request::new("GET", "/api/poll?format=xml"));
    is(&rejected, 400, "Invalid format: use format=raw or format=json\n");
}

#[test]
fn a_broadcast_has_no_parameter_that_is_not_known() {
    for (query, name) in [
        ("userid=bob", "userid"),
        ("user_id=bob", "user_id"),
        ("userId=bob", "userId"),
        ("User=bob", "User"),
        ("username=bob", "username"),
        ("uid=bob", "uid"),
        ("to=bob", "to"),
        ("x=1;user=bob", "x"),
        ("x=1&amp;user=bob", "x"),
        ("channel=a&amp;user=bob", "amp;user"),
        ("channel[]=a", "channel[]"),
        ("channel%5B0%5D=a", "channel[0]"),
        ("Channel=a", "Channel"),
        ("room=a", "room"),
        ("topic=a", "topic"),
        ("channel=a&format=json", "format"),
        ("channel=a&since=x", "since"),
        ("channel=a&echo=off", "echo"),
        ("channel=a&code=4000", "code"),
        ("mode%3Dpublish%26channel%3Da", "mode=publish&channel=a"),
        ("a", "a"),
        ("=a", ""),
    ] {
        let mut service = Service::local();
        let text = format!("Unknown parameter `{name}`: use only channel, user, except, id, token\n");
        is(&service.respond(broadcast(&format!("?{query}")).with_body("x")), 400, &text);
        assert!(service.take_items().is_empty(), "{query}");
    }
    for query in ["", "?", "?&", "?channel=a", "?channel=a&", "?channel=a&token=T"] {
        is(&Service::local().respond(broadcast(query).with_body("x")), 200, "Ok\n");
    }
    for (query, text) in [
        ("channel=a;user=bob", "Invalid channel: write ; as %3B, and in the id of a user + as %2B\n"),
        ("token=T;user=bob", "Invalid token: write ; as %3B, and in the id of a user + as %2B\n"),
        ("except=c1;user=bob", "Invalid except: write ; as %3B, and in the id of a user + as %2B\n"),
        ("except=c1%26user%3Dbob", "Invalid except: use the id of a connection, 1 to 128 bytes, ?except=ID\n"),
        ("channel=a&channel=b", "Repeated parameter: use channel once, and send a request for each\n"),
        ("channel=a&channel=a", "Repeated parameter: use channel once, and send a request for each\n"),
        ("except=", "Invalid except: use the id of a connection, 1 to 128 bytes, ?except=ID\n"),
        (
            &format!("except={}", "e".repeat(129)),
            "Invalid except: use the id of a connection, 1 to 128 bytes, ?except=ID\n",
        ),
    ] {
        is(&Service::local().respond(broadcast(&format!("?{query}")).with_body("x")), 400, text);
    }
    is(&Service::local().respond(broadcast(&format!("?except={}", "e".repeat(128))).with_body("x")), 200, "Ok\n");
}

#[test]
fn a_subscriber_may_have_parameters_of_its_own_but_none_that_looks_like_channel_or_since() {
    let requests = |query: &str| {
        [
            Request::new("GET", &format!("/api/events?{query}")),
            Request::new("GET", &format!("/api/poll?format=json&{query}")),
            Request::new("GET", &format!("/api/websocket?{query}")).with("Upgrade", "websocket"),
        ]
    };
    for (query, known) in [
        ("channel[]=a", "channel"),
        ("channel%5B0%5D=a", "channel"),
        ("channels=a", "channel"),
        ("Channel=a", "channel"),
        ("CHANNEL=a", "channel"),
        ("%20channel=a", "channel"),
        ("channelId=a", "channel"),
        ("data[channel]=a", "channel"),
        ("x=1&amp;channel=a", "channel"),
        ("x=1;channel=a", "channel"),
        ("x=1;Channel=a", "channel"),
        ("x=1;lastEventId=a", "since"),
        ("mode%3Dpublish%26channel%3Da", "channel"),
        ("Since=x", "since"),
        ("since[]=x", "since"),
        ("since_id=x", "since"),
        ("x=1&amp;since=x", "since"),
        ("x=1;since=x", "since"),
    ] {
        let problem = format!("Misspelled parameter: write it exactly so, ?{known}=\n");
        for request in requests(query) {
            is(&Service::local().respond(request), 400, &problem);
        }
        let history = Request::new("GET", &format!("/api/history?since={NOW}&{query}"));
        is(&Service::local().respond(history), 400, &problem);
    }
    for query in ["_=1", "ch=a", "modes=x", "user=a", "id=x", "Format=x", "lastid=x", "cachebuster"] {
        for request in requests(query) {
            assert!(Service::local().hands_off(request), "{query}");
        }
    }
}
