//! Published items and holds: the exact JSON and the exact headers.

use fanout_edge::grip::{
    Channel, CloseCode, Filter, Formats, Hold, Item, ItemId, Publisher, WsMessage,
    control::{Content, KeepAliveMode},
    headers::{has_feature, last_ids},
    hold::InvalidHold,
    item::{Body, HeldResponse, HttpResponse, HttpStream, InvalidStatus},
    publish::{Authorization, MAX_BODY, PublishError, PublishRequest, SendError, Sender, TooLarge, publish_to_all},
};
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

static CHANNEL: Channel = Channel::from_static("room");

#[track_caller]
fn formats_are(formats: Formats<'_>, json: &str) {
    let item = Item::new(&CHANNEL, formats).to_json();
    assert_eq!(item, format!(r#"{{"channel":"room","formats":{json}}}"#));
}

#[test]
fn websocket_messages_have_the_expected_json() {
    let code = CloseCode::new(4001).expect("a valid code");
    let long = "\u{e9}".repeat(100);
    let cut = format!(r#"{{"action":"close","code":4001,"reason":"{}"}}"#, "\u{e9}".repeat(61));
    for (message, json) in [
        (WsMessage::text("h\u{e9}\"llo"), "{\"content\":\"h\u{e9}\\\"llo\"}"),
        (WsMessage::text(""), r#"{"content":""}"#),
        (WsMessage::binary(b"\xff\x00"), r#"{"type":"binary","content-bin":"/wA="}"#),
        (WsMessage::binary(b""), r#"{"type":"binary","content":""}"#),
        (WsMessage::Message(Content::Ping(b"p")), r#"{"type":"ping","content-bin":"cA=="}"#),
        (WsMessage::Message(Content::Pong(b"")), r#"{"type":"pong","content":""}"#),
        (WsMessage::Close { code, reason: "bye" }, r#"{"action":"close","code":4001,"reason":"bye"}"#),
        (WsMessage::Close { code, reason: "" }, r#"{"action":"close","code":4001}"#),
        (WsMessage::Close { code, reason: &long }, &cut),
        (WsMessage::Refresh, r#"{"action":"refresh"}"#),
        (WsMessage::Hint, r#"{"action":"hint"}"#),
    ] {
        let formats = Formats { ws_message: Some(message), ..Formats::default() };
        formats_are(formats, &format!(r#"{{"ws-message":{json}}}"#));
    }
}

#[test]
fn http_messages_have_the_expected_json() {
    let headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("text/plain")),
        (HeaderName::from_static("x-a"), HeaderValue::from_static("1")),
    ]);
    let none = HeaderMap::new();
    let response = HttpResponse::Response(HeldResponse::ok(&headers, Body::Text("Hello")));
    let formats = Formats {
        http_response: Some(response),
        http_stream: Some(HttpStream::Content(Body::Text("Hello\n"))),
        ..Formats::default()
    };
    let json = r#"{"http-response":{"code":200,"headers":[["content-type","text/plain"],["x-a","1"]],"body":"Hello"},"http-stream":{"content":"Hello\n"}}"#;
    formats_are(formats, json);

    let not_found = |body| HeldResponse::ok(&none, body).with_code(404).expect("a valid code");
    let binary = HttpResponse::Response(not_found(Body::Binary(b"\xff")));
    let formats = Formats {
        http_response: Some(binary),
        http_stream: Some(HttpStream::Content(Body::Binary(b"x"))),
        ..Formats::default()
    };
    formats_are(formats, r#"{"http-response":{"code":404,"body-bin":"/w=="},"http-stream":{"content-bin":"eA=="}}"#);

    let named = HttpResponse::Response(not_found(Body::Text("")).with_reason("Nobody here").expect("a valid reason"));
    let formats = Formats { http_response: Some(named), ..Formats::default() };
    formats_are(formats, r#"{"http-response":{"code":404,"reason":"Nobody here","body":""}}"#);

    for (stream, action) in [(HttpStream::Hint, "hint"), (HttpStream::Close, "close")] {
        let formats =
            Formats { http_response: Some(HttpResponse::Hint), http_stream: Some(stream), ..Formats::default() };
        let json = format!(r#"{{"http-response":{{"action":"hint"}},"http-stream":{{"action":"{action}"}}}}"#);
        formats_are(formats, &json);
    }
}

#[test]
fn an_invalid_status_is_rejected() {
    let headers = HeaderMap::new();
    let ok = || HeldResponse::ok(&headers, Body::Text(""));
    for code in [0, 199, 600, 65_535] {
        assert_eq!(ok().with_code(code), Err(InvalidStatus), "{code}");
    }
    assert!(ok().with_code(200).is_ok() && ok().with_code(599).is_ok());
    for reason in ["Two\r\nX: y", "\u{e9}"] {
        assert_eq!(ok().with_reason(reason), Err(InvalidStatus), "{reason:?}");
    }
}

#[test]
fn an_id_that_a_header_cannot_contain_is_rejected() {
    for id in ["", "a, b", "a;b", "a b", "\u{e9}"] {
        assert_eq!(ItemId::new(id), None, "{id}");
    }
}

#[test]
fn filters_have_the_same_name_in_headers_and_json() {
    use Filter::{BuildId, RequireSub, SkipSelf, SkipUsers, VarSubst};
    for (filter, name) in [
        (SkipSelf, "skip-self"),
        (SkipUsers, "skip-users"),
        (RequireSub, "require-sub"),
        (BuildId, "build-id"),
        (VarSubst, "var-subst"),
    ] {
        assert_eq!(filter.as_str(), name);
        assert_eq!(serde_json::to_string(&filter).expect("JSON"), format!("\"{name}\""));
    }
}

#[test]
fn ids_and_meta_have_the_expected_json() {
    let item = Item {
        id: ItemId::new("5"),
        prev_id: ItemId::new("4"),
        no_seq: true,
        meta: &[("sender", "alice"), ("b", "\"")],
        ..Item::new(&CHANNEL, Formats::default())
    };
    let json =
        r#"{"channel":"room","id":"5","prev-id":"4","no-seq":true,"meta":{"sender":"alice","b":"\""},"formats":{}}"#;
    assert_eq!(item.to_json(), json);
}

/// A sender that returns these results in order, and records the requests.
struct Script(Vec<Result<u16, SendError>>, Vec<PublishRequest>);

impl Sender for Script {
    fn send(&mut self, request: PublishRequest) -> Result<u16, SendError> {
        self.1.push(request);
        self.0.remove(0)
    }
}

fn text(text: &str) -> Item<'_> {
    Item::new(&CHANNEL, Formats { ws_message: Some(WsMessage::text(text)), ..Formats::default() })
}

fn publisher() -> Publisher {
    Publisher::new("http://127.0.0.1:5561", Authorization::none())
}

#[test]
fn a_publish_error_gives_the_cause() {
    for (result, expected) in [
        (Ok(200), Ok(())),
        (Ok(204), Ok(())),
        (Ok(299), Ok(())),
        (Ok(302), Err(PublishError::Rejected { status: 302 })),
        (Ok(400), Err(PublishError::Rejected { status: 400 })),
        (Err(SendError::Unreachable), Err(PublishError::Unreachable)),
        (Err(SendError::TimedOut), Err(PublishError::TimedOut)),
    ] {
        let mut sender = Script(vec![result], Vec::new());
        assert_eq!(publisher().publish(&mut sender, &[text("a"), text("b")], 1), expected);
        let sent: Vec<_> = sender.1.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
        let (a, b) = (text("a").to_json(), text("b").to_json());
        assert_eq!(sent, [format!(r#"{{"items":[{a},{b}]}}"#)]);
    }
    let publishers = ["http://a", "http://b"].map(|uri| Publisher::new(uri, Authorization::none()));
    let mut sender = Script(vec![Err(SendError::TimedOut), Ok(200)], Vec::new());
    let results = publish_to_all(&publishers, &mut sender, &[text("a")], 1);
    assert_eq!(results, [Err(PublishError::TimedOut), Ok(())]);
    let urls: Vec<_> = sender.1.iter().map(|request| &*request.url).collect();
    assert_eq!(urls, ["http://a/publish/", "http://b/publish/"]);

    let mut never = Script(Vec::new(), Vec::new());
    let error = publisher().publish(&mut never, &[text(&"x".repeat(70_000))], 1);
    assert!(matches!(error, Err(PublishError::TooLarge(TooLarge { length: 70_070 }))), "{error:?}");
    assert!(never.1.is_empty());
    for (error, text) in [
        (PublishError::Rejected { status: 400 }, "the GRIP proxy rejected it with status 400"),
        (PublishError::Rejected { status: 403 }, "the GRIP proxy rejected the publishing token with status 403"),
        (PublishError::Unreachable, "the GRIP proxy could not be reached"),
        (PublishError::TimedOut, "the GRIP proxy did not respond in time"),
        (
            PublishError::TooLarge(TooLarge { length: 70_070 }),
            "the publish request would have 70070 bytes of JSON; the GRIP proxy accepts 65536",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn items_are_packed_into_the_fewest_requests() {
    // `{"items":[` and `]}` take 12 bytes, an item 57 without its text, and a comma stands between two items.
    let overhead = text("").to_json().len();
    let pack = |lengths: &[&[usize]]| {
        let publisher = publisher();
        let mut packer = publisher.packer(1);
        for group in lengths {
            let texts: Vec<_> = group.iter().map(|length| "x".repeat(length - overhead)).collect();
            packer.push(&texts.iter().map(|content| text(content)).collect::<Vec<_>>())?;
        }
        let count = packer.len();
        assert_eq!(packer.is_empty(), count == 0);
        let requests = packer.finish();
        assert_eq!(requests.len(), count);
        for request in &requests {
            let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
            assert!(body["items"].as_array().is_some_and(|items| !items.is_empty()));
        }
        Ok(requests.iter().map(|request| request.body.len()).collect::<Vec<_>>())
    };
    let most = MAX_BODY - 12;
    assert_eq!(pack(&[]), Ok(vec![]));
    assert_eq!(pack(&[&[100]]), Ok(vec![112]));
    assert_eq!(pack(&[&[100], &[100, 200]]), Ok(vec![414]));
    assert_eq!(pack(&[&[most]]), Ok(vec![MAX_BODY]));
    assert_eq!(pack(&[&[100], &[most - 101]]), Ok(vec![MAX_BODY]));
    assert_eq!(pack(&[&[100], &[most - 100]]), Ok(vec![112, MAX_BODY - 100]));
    assert_eq!(pack(&[&[30_000], &[30_000], &[30_000], &[100]]), Ok(vec![60_013, 30_113]));
    // What belongs together is not split.
    assert_eq!(pack(&[&[40_000], &[20_000, 20_000], &[100]]), Ok(vec![40_012, 40_114]));
    assert_eq!(pack(&[&[most + 1]]), Err(TooLarge { length: MAX_BODY + 1 }));
    assert_eq!(pack(&[&[100], &[40_000, 40_000]]), Err(TooLarge { length: 80_013 }));
}

#[test]
fn items_that_do_not_fit_leave_no_trace() {
    let (publisher, large) = (publisher(), "x".repeat(70_000));
    let mut packer = publisher.packer(1);
    assert!(packer.push(&[text(&large)]).is_err());
    assert!(packer.is_empty());
    assert!(packer.push(&[text("a")]).is_ok());
    assert!(packer.push(&[text("b"), text(&large)]).is_err());
    assert!(packer.push(&[text("c")]).is_ok());
    let bodies: Vec<_> = packer.finish().into_iter().map(|request| String::from_utf8(request.body)).collect();
    let (a, c) = (text("a").to_json(), text("c").to_json());
    assert_eq!(bodies, [Ok(format!(r#"{{"items":[{a},{c}]}}"#))]);
}

#[track_caller]
fn header(hold: &Hold, name: &str) -> String {
    let headers = hold.headers();
    assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
    headers[name].to_str().expect("text").to_owned()
}

#[test]
fn a_hold_names_its_channels() {
    let hold = Hold::response(&CHANNEL).with_timeout(30);
    assert_eq!(hold.headers().len(), 3);
    for (name, value) in [("grip-hold", "response"), ("grip-channel", "room"), ("grip-timeout", "30")] {
        assert_eq!(header(&hold, name), value);
    }
    let hold = Hold::stream(&CHANNEL)
        .with_prev_id(ItemId::new("4").expect("a valid id"))
        .with_filter(Filter::SkipSelf)
        .with_channel(&Channel::from_static("other"))
        .with_filter(Filter::SkipUsers);
    assert_eq!(header(&hold, "grip-hold"), "stream");
    assert_eq!(header(&hold, "grip-channel"), "room; prev-id=4; filter=skip-self, other; filter=skip-users");
}

#[test]
fn a_keep_alive_has_the_simplest_format_that_fits() {
    for (content, value) in [
        (&b"ping"[..], "ping; format=raw; timeout=20"),
        (b"\n", r"\n; format=cstring; timeout=20"),
        (b":\r\n", r":\r\n; format=cstring; timeout=20"),
        (b"\t", "CQ==; format=base64; timeout=20"),
        (b"a b", "YSBi; format=base64; timeout=20"),
        (b"a;b", "YTti; format=base64; timeout=20"),
        (b"\xff\x00", "/wA=; format=base64; timeout=20"),
    ] {
        assert_eq!(
            header(&Hold::stream(&CHANNEL).with_keep_alive(content, 20).expect("not empty"), "grip-keep-alive"),
            value
        );
    }
    let hold = Hold::stream(&CHANNEL).with_keep_alive(b"x", 1).expect("not empty");
    let hold = hold.with_keep_alive_mode(b"y", 2, KeepAliveMode::Interval).expect("not empty");
    assert_eq!(header(&hold, "grip-keep-alive"), "y; format=raw; timeout=2; mode=interval");
}

#[test]
fn a_hold_has_a_status_links_meta_and_exposed_headers() -> Result<(), InvalidHold> {
    let hold = Hold::stream(&CHANNEL)
        .with_status(404, "Not Here")?
        .with_next("/next?a=1", Some(30))?
        .with_gone("https://example.com/gone")?
        .with_meta("user", "alice b")?
        .with_meta("room", "1")?
        .with_exposed_headers(&["X-A", "X-B"])?;
    assert_eq!(header(&hold, "grip-status"), "404 Not Here");
    assert_eq!(header(&hold, "grip-link"), "</next?a=1>; rel=next; timeout=30, <https://example.com/gone>; rel=gone");
    assert_eq!(header(&hold, "grip-set-meta"), r#"user="alice b", room="1""#);
    assert_eq!(header(&hold, "grip-expose-headers"), "X-A, X-B");
    assert_eq!(header(&Hold::stream(&CHANNEL).with_status(204, "")?, "grip-status"), "204");
    assert_eq!(header(&Hold::stream(&CHANNEL).with_next("/n", None)?, "grip-link"), "</n>; rel=next");
    Ok(())
}

#[test]
fn invalid_header_values_are_rejected() {
    let hold = || Hold::stream(&CHANNEL);
    for (hold, error) in [
        (hold().with_status(99, ""), InvalidHold::Status),
        (hold().with_status(600, ""), InvalidHold::Status),
        (hold().with_status(200, "a\r\nSet-Cookie: x"), InvalidHold::Status),
        (hold().with_next("", None), InvalidHold::Uri),
        (hold().with_next("/a b", None), InvalidHold::Uri),
        (hold().with_gone("/>; rel=next"), InvalidHold::Uri),
        (hold().with_gone("/a,b"), InvalidHold::Uri),
        (hold().with_gone("/a;b"), InvalidHold::Uri),
        (hold().with_gone("/\""), InvalidHold::Uri),
        (hold().with_keep_alive(b"", 20), InvalidHold::KeepAlive),
        (hold().with_status(199, ""), InvalidHold::Status),
        (hold().with_meta("a", "\\"), InvalidHold::Meta),
        (hold().with_exposed_headers(&["X:A"]), InvalidHold::HeaderName),
        (hold().with_meta("a b", "x"), InvalidHold::Meta),
        (hold().with_meta("a", "\"; x=\""), InvalidHold::Meta),
        (hold().with_meta("a", "\r\n"), InvalidHold::Meta),
        (hold().with_exposed_headers(&[]), InvalidHold::HeaderName),
        (hold().with_exposed_headers(&["X-A", "a b"]), InvalidHold::HeaderName),
    ] {
        assert_eq!(hold, Err(error));
    }
}

#[test]
fn last_ids_and_features_are_parsed() {
    let read = |value| last_ids(value).collect::<Vec<_>>();
    assert_eq!(read("room; last-id=4"), [("room", "4")]);
    assert_eq!(read(" a ;last-id=1,b; x=y; last-id=2 "), [("a", "1"), ("b", "2")]);
    assert_eq!(read("room, ; last-id=1, a; last-id="), [("", ""); 0]);
    assert!(has_feature("status,link:next", "link:next"));
    assert!(!has_feature("status, link:next", "link"));
}
