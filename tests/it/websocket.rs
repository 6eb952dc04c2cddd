//! `WebSocket`, with the library alone: the response to each request, byte for byte.

use fanout_edge::grip::{
    Channel, CloseCode, Message, WebSocket,
    control::{self, Content, Control, Filter, InvalidControl, KeepAliveMode, MAX_TIMEOUT},
    event::DecodeErrorKind,
    websocket::{MAX_RESPONSE, RequestError, Response},
};

use crate::service::Request;

const SUBSCRIBE: &str = "TEXT 27\r\nc:{\"type\":\"subscribe\",\"channel\":\"test\"}\r\n";

fn request() -> Request {
    Request::new("POST", "/api/websocket").with("Connection-Id", "c1")
}

#[track_caller]
fn echoes(body: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
    let request = request();
    let mut ws = WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &request, body.as_ref())
        .expect("a valid request");
    echo(&mut ws);
    let response = ws.into_response();
    assert_eq!(response.body.escape_ascii().to_string(), expected.as_ref().escape_ascii().to_string());
}

/// What most applications of the library do.
fn echo(ws: &mut WebSocket<'_>) {
    if ws.is_opening() {
        ws.accept();
        ws.subscribe(&Channel::from_static("test"));
    }
    while let Some(message) = ws.receive() {
        ws.send(message);
    }
}

/// Returns the response to a request that an application handles with `act`.
fn response_to(body: &[u8], act: impl FnOnce(&mut WebSocket<'_>)) -> Response {
    let request = request();
    let mut ws =
        WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &request, body).expect("a valid request");
    act(&mut ws);
    ws.into_response()
}

fn response_body(body: &[u8], act: impl FnOnce(&mut WebSocket<'_>)) -> String {
    String::from_utf8(response_to(body, act).body).expect("text")
}

#[test]
fn an_opening_is_accepted_and_subscribed() {
    echoes("OPEN\r\n", format!("OPEN\r\n{SUBSCRIBE}"));
    echoes("OPEN\r\nTEXT 2\r\nhi\r\n", format!("OPEN\r\n{SUBSCRIBE}TEXT 4\r\nm:hi\r\n"));
}

#[test]
fn only_the_response_to_an_opening_enables_grip() {
    let extension = |body: &[u8]| {
        let response = response_to(body, echo);
        assert_eq!(response.headers["content-type"], "application/websocket-events");
        response.headers.get("sec-websocket-extensions").cloned()
    };
    assert_eq!(extension(b"OPEN\r\n").expect("a header"), "grip");
    assert_eq!(extension(b"TEXT 1\r\nx\r\n"), None);
}

#[test]
fn messages_keep_their_type_and_content() {
    echoes("TEXT 5\r\nhello\r\n", "TEXT 7\r\nm:hello\r\n");
    echoes("TEXT a\r\nh\u{e9}llo \u{2603}\r\n", "TEXT c\r\nm:h\u{e9}llo \u{2603}\r\n");
    echoes(b"BINARY 4\r\n\x00\xff\r\n\r\n", b"BINARY 6\r\nm:\x00\xff\r\n\r\n");
    echoes("TEXT\r\nBINARY\r\n", "TEXT 2\r\nm:\r\nBINARY 2\r\nm:\r\n");
}

#[test]
fn text_that_looks_like_a_control_message_is_echoed_as_text() {
    echoes(
        "TEXT 28\r\nc:{\"type\":\"subscribe\",\"channel\":\"other\"}\r\n",
        "TEXT 2a\r\nm:c:{\"type\":\"subscribe\",\"channel\":\"other\"}\r\n",
    );
}

#[test]
fn the_events_of_a_batch_are_handled_in_order() {
    echoes(
        b"TEXT 2\r\nm1\r\nPING 2\r\npi\r\nPONG 2\r\npo\r\nBINARY 1\r\nb\r\nTEXT 2\r\nm2\r\nCLOSE 2\r\n\x0f\xa0\r\n",
        b"TEXT 4\r\nm:m1\r\nPONG 2\r\npi\r\nBINARY 3\r\nm:b\r\nTEXT 4\r\nm:m2\r\nCLOSE 2\r\n\x0f\xa0\r\n",
    );
}

#[test]
fn a_ping_gets_a_pong_even_if_nothing_follows() {
    echoes("PING 2\r\npp\r\n", "PONG 2\r\npp\r\n");
    echoes("PING\r\n", "PONG\r\n");
    echoes("PONG 2\r\nqq\r\n", "");
}

#[test]
fn a_close_is_acknowledged_with_its_code() {
    echoes(b"CLOSE 2\r\n\x03\xe8\r\n", b"CLOSE 2\r\n\x03\xe8\r\n");
    echoes(b"CLOSE 6\r\n\x0f\xa1done\r\n", b"CLOSE 2\r\n\x0f\xa1\r\n");
    echoes("CLOSE\r\n", "CLOSE\r\n");
}

#[test]
fn a_close_with_an_invalid_code_is_a_protocol_error() {
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535] {
        let body = [b"CLOSE 2\r\n", &code.to_be_bytes()[..], b"\r\n"].concat();
        echoes(body, b"CLOSE 2\r\n\x03\xea\r\n");
    }
}

#[test]
fn events_after_a_close_or_a_disconnect_are_ignored() {
    echoes("CLOSE\r\nTEXT 1\r\nx\r\n", "CLOSE\r\n");
    echoes("DISCONNECT\r\nTEXT 1\r\nx\r\n", "");
}

#[test]
fn nothing_is_sent_after_a_disconnect() {
    let body = response_body(b"DISCONNECT\r\n", |ws| {
        assert_eq!(ws.receive(), Some(Message::Disconnect));
        ws.send("too late");
        ws.close(None);
    });
    assert_eq!(body, "");
}

#[test]
fn the_reason_of_a_received_close_is_available() {
    for (body, reason) in [
        (&b"CLOSE 5\r\n\x0f\xa0why\r\n"[..], "why"),
        (b"CLOSE 2\r\n\x0f\xa0\r\n", ""),
        (b"CLOSE 3\r\n\x0f\xa0\xff\r\n", ""),
        (b"CLOSE\r\n", ""),
    ] {
        response_to(body, |ws| {
            assert_eq!(ws.close_reason(), "");
            assert!(matches!(ws.receive(), Some(Message::Close(_))));
            assert_eq!(ws.close_reason(), reason);
        });
    }
}

#[test]
fn only_an_opening_is_accepted_once_and_before_any_message() {
    let response = response_to(b"OPEN\r\n", |ws| {
        ws.send("welcome");
        ws.accept();
        ws.accept();
    });
    assert_eq!(response.body, b"OPEN\r\nTEXT 9\r\nm:welcome\r\n");
    assert_eq!(response.headers.len(), 2);
    let later = response_to(b"TEXT 1\r\nx\r\n", |ws| ws.accept());
    assert_eq!((later.body.len(), later.headers.len()), (0, 1));
}

#[test]
fn the_response_to_a_keep_alive_and_a_disconnect_is_empty() {
    echoes("", "");
    echoes("DISCONNECT\r\n", "");
}

#[test]
fn text_that_is_not_utf8_closes_with_1007() {
    echoes(b"TEXT 3\r\n\xff\xfe\x80\r\nTEXT 1\r\nx\r\n", b"CLOSE 13\r\n\x03\xeftext is not UTF-8\r\n");
}

#[test]
fn a_response_that_is_too_large_for_the_proxy_ends_with_a_close() {
    let body = "TEXT 1\r\nx\r\n".repeat(80_000);
    let response = response_to(body.as_bytes(), echo);
    assert!(response.body.len() <= MAX_RESPONSE);
    assert!(response.body.len() > MAX_RESPONSE - 200);
    let tail = response.body.escape_ascii().to_string();
    assert!(tail.ends_with(r"TEXT 3\r\nm:x\r\nCLOSE 28\r\n\x03\xf1the response to one batch is too large\r\n"));
}

#[test]
fn a_request_needs_a_connection_id_and_a_valid_body() {
    let error = |request: Request, body: &[u8]| {
        WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &request, body).err()
    };
    let post = || Request::new("POST", "/api/websocket");
    assert_eq!(error(post(), b"OPEN\r\n"), Some(RequestError::NoConnectionId));
    assert_eq!(error(post().with("Connection-Id", ""), b""), Some(RequestError::NoConnectionId));
    let twice = post().with("Connection-Id", "c1").with("connection-id", "c2");
    assert_eq!(error(twice, b""), Some(RequestError::InvalidConnectionId));
    let Some(RequestError::Events(broken)) = error(request(), b"OPEN\r\nTEXT 5\r\nhel") else { panic!("no error") };
    assert_eq!((broken.offset, broken.kind), (6, DecodeErrorKind::Truncated));
    let ws = request();
    assert_eq!(
        WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &ws, b"")
            .map(|ws| ws.connection_id().to_owned()),
        Ok("c1".to_owned())
    );
}

#[test]
fn only_an_open_as_the_first_event_is_an_opening() {
    let opening = |body: &[u8]| {
        WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &request(), body).map(|ws| ws.is_opening())
    };
    assert_eq!(opening(b"OPEN\r\n"), Ok(true));
    assert_eq!(opening(b"TEXT\r\nOPEN\r\n"), Ok(false));
    assert_eq!(opening(b""), Ok(false));
}

#[test]
fn control_messages_have_the_json_that_the_proxy_expects() {
    let channel = Channel::from_static("room:1");
    for (message, json) in [
        (Control::Subscribe { channel: &channel, filters: &[] }, r#"{"type":"subscribe","channel":"room:1"}"#),
        (Control::Unsubscribe { channel: &channel }, r#"{"type":"unsubscribe","channel":"room:1"}"#),
        (Control::Detach, r#"{"type":"detach"}"#),
        (
            Control::Subscribe { channel: &channel, filters: &[Filter::SkipSelf, Filter::VarSubst] },
            r#"{"type":"subscribe","channel":"room:1","filters":["skip-self","var-subst"]}"#,
        ),
        (
            Control::KeepAlive { content: Some(Content::Text("a\"b")), timeout: 30, mode: KeepAliveMode::Idle },
            r#"{"type":"keep-alive","content":"a\"b","timeout":30}"#,
        ),
        (
            Control::KeepAlive { content: Some(Content::Ping(b"")), timeout: 30, mode: KeepAliveMode::Interval },
            r#"{"type":"keep-alive","message-type":"ping","content":"","timeout":30,"mode":"interval"}"#,
        ),
        (
            Control::KeepAlive { content: None, timeout: 30, mode: KeepAliveMode::Idle },
            r#"{"type":"keep-alive","timeout":30}"#,
        ),
        (Control::SetMeta { name: "user", value: "alice" }, r#"{"type":"set-meta","name":"user","value":"alice"}"#),
        (
            Control::SendDelayed { content: Content::Text("late"), timeout: 5 },
            r#"{"type":"send-delayed","content":"late","timeout":5}"#,
        ),
        (
            Control::SendDelayed { content: Content::Binary(b"\xff"), timeout: 5 },
            r#"{"type":"send-delayed","message-type":"binary","content-bin":"/w==","timeout":5}"#,
        ),
        (
            Control::SendDelayed { content: Content::Pong(b"x"), timeout: 5 },
            r#"{"type":"send-delayed","message-type":"pong","content-bin":"eA==","timeout":5}"#,
        ),
        (Control::FlushDelayed, r#"{"type":"flush-delayed"}"#),
    ] {
        let body = response_body(b"", |ws| ws.control(&message).expect("short enough"));
        assert_eq!(body, format!("TEXT {:x}\r\nc:{json}\r\n", json.len() + 2));
    }
}

#[test]
fn a_control_message_that_is_too_long_is_rejected() {
    let overhead = r#"c:{"type":"send-delayed","content":"","timeout":1}"#.len();
    for (length, fits) in [(control::MAX_LENGTH - overhead, true), (control::MAX_LENGTH - overhead + 1, false)] {
        let content = "x".repeat(length);
        let body = response_body(b"", |ws| {
            let sent = ws.control(&Control::SendDelayed { content: Content::Text(&content), timeout: 1 });
            assert_eq!(sent.is_ok(), fits);
        });
        assert_eq!(body.is_empty(), !fits);
    }
}

#[test]
fn a_control_message_that_the_proxy_would_ignore_is_rejected() {
    let payload = [0; 126];
    let idle = KeepAliveMode::Idle;
    for (message, error) in [
        (Control::SetMeta { name: "", value: "x" }, InvalidControl::MetaName),
        (Control::SendDelayed { content: Content::Text("x"), timeout: 0 }, InvalidControl::Timeout),
        (Control::SendDelayed { content: Content::Text("x"), timeout: MAX_TIMEOUT + 1 }, InvalidControl::Timeout),
        (Control::SendDelayed { content: Content::Ping(&payload), timeout: 1 }, InvalidControl::Payload),
        (
            Control::KeepAlive { content: Some(Content::Pong(&payload)), timeout: 1, mode: idle },
            InvalidControl::Payload,
        ),
        (Control::KeepAlive { content: None, timeout: 0, mode: idle }, InvalidControl::Timeout),
    ] {
        let body = response_body(b"", |ws| assert_eq!(ws.control(&message), Err(error)));
        assert_eq!(body, "");
    }
    let longest = Control::SendDelayed { content: Content::Ping(&payload[..125]), timeout: MAX_TIMEOUT };
    assert_eq!(longest.check(), Ok(()));
}

#[test]
fn subscriptions_and_control_frames_are_sent() {
    let channel = Channel::from_static("a").with_prefix("app:").expect("a valid name");
    let body = response_body(b"TEXT\r\n", |ws| {
        ws.subscribe(&channel);
        ws.unsubscribe(&channel);
        ws.ping(b"pi").expect("short enough");
        assert!(ws.ping(&[b'y'; 125]).is_ok());
        ws.pong(b"").expect("short enough");
        assert!(ws.ping(&[b'x'; 126]).is_err());
        assert!(ws.pong(&[b'x'; 126]).is_err());
        ws.disconnect();
        ws.send("too late");
        assert_eq!(ws.receive(), None);
    });
    let expected = "TEXT 28\r\nc:{\"type\":\"subscribe\",\"channel\":\"app:a\"}\r\n\
                    TEXT 2a\r\nc:{\"type\":\"unsubscribe\",\"channel\":\"app:a\"}\r\n\
                    PING 2\r\npi\r\nPING 7d\r\n@\r\nPONG\r\nDISCONNECT\r\n";
    assert_eq!(body, expected.replace('@', &"y".repeat(125)));
    assert!(channel.with_prefix("no spaces: ").is_err());
}

#[test]
fn only_an_offered_subprotocol_is_accepted() {
    let request = request().with("Sec-WebSocket-Protocol", "chat.v2,").with("Sec-WebSocket-Protocol", "chat.v1,");
    let mut ws = WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &request, b"OPEN\r\n")
        .expect("a valid request");
    assert_eq!(ws.protocols().collect::<Vec<_>>(), ["chat.v2", "chat.v1"]);
    assert!(ws.accept_with_protocol("other").is_err());
    ws.accept_with_protocol("chat.v1").expect("it is offered");
    let response = ws.into_response();
    assert_eq!(response.headers["sec-websocket-protocol"], "chat.v1");
    assert_eq!(response.body, b"OPEN\r\n");
}

#[test]
fn meta_values_are_read_set_and_removed() {
    let request = request().with("Meta-User", "alice");
    let mut ws =
        WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &request, b"").expect("a valid request");
    assert_eq!(ws.meta("user"), Some("alice"));
    assert_eq!(ws.meta("User"), Some("alice"));
    ws.set_meta("Room", "first").expect("a valid value");
    assert_eq!((ws.meta("room"), ws.meta("other")), (Some("first"), None));
    ws.set_meta("room", "a b;c=\"d\"").expect("a valid value");
    ws.set_meta("user", "").expect("a valid value");
    for (name, value) in [
        ("", "x"),
        ("a b", "x"),
        ("a:b", "x"),
        ("x", "line\r\nSet-Cookie: y"),
        ("x", " "),
        ("x", " y"),
        ("x", "\u{e9}"),
    ] {
        assert!(ws.set_meta(name, value).is_err(), "{name:?}: {value:?}");
    }
    let headers = ws.into_response().headers;
    assert_eq!(headers.len(), 3);
    assert_eq!(
        (&headers["set-meta-room"], &headers["set-meta-user"]),
        (&"a b;c=\"d\"".parse().expect("a value"), &"".parse().expect("a value"))
    );
}

#[test]
fn the_keep_alive_interval_is_a_header() {
    let response = response_to(b"", |ws| ws.set_keep_alive_interval(20));
    assert_eq!(response.headers["keep-alive-interval"], "20");
}

#[test]
fn the_application_can_close_first() {
    let body = response_to(b"TEXT 1\r\na\r\nTEXT 1\r\nb\r\n", |ws| {
        assert_eq!(ws.receive(), Some(Message::Text("a")));
        ws.close_with_reason(CloseCode::new(4000).expect("a valid code"), &"\u{e9}".repeat(100));
        assert_eq!(ws.receive(), None);
        ws.send("too late");
    })
    .body;
    let reason = "\u{e9}".repeat(61);
    assert_eq!(body, [b"CLOSE 7c\r\n\x0f\xa0", reason.as_bytes(), b"\r\n"].concat());
}

#[test]
fn only_valid_close_codes_are_accepted() {
    for code in [1000, 1001, 1003, 1007, 1014, 3000, 4999] {
        assert_eq!(CloseCode::new(code).map(CloseCode::get), Some(code));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535] {
        assert_eq!(CloseCode::new(code), None);
    }
}

#[test]
fn a_connection_knows_whether_it_is_closed() {
    let is_closed = |body: &[u8], act: fn(&mut WebSocket<'_>)| {
        let request = request();
        let mut ws =
            WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &request, body).expect("a valid request");
        act(&mut ws);
        ws.is_closed()
    };
    assert!(!is_closed(b"OPEN\r\n", |ws| ws.accept()));
    assert!(
        !is_closed(b"CLOSE\r\n", |ws| {
            ws.receive();
        }),
        "the close of the client still needs a response"
    );
    assert!(is_closed(b"", |ws| ws.close(None)));
    assert!(is_closed(b"", |ws| ws.disconnect()));
    assert!(is_closed(b"DISCONNECT\r\n", |ws| {
        ws.receive();
    }));
}

#[test]
fn a_response_keeps_room_for_its_close() {
    let most = MAX_RESPONSE - 2 * 64 - "m:".len();
    for (length, is_sent) in [(most, true), (most + 1, false)] {
        let body = response_to(b"", |ws| ws.send(&"x".repeat(length))).body;
        assert_eq!(body.starts_with(b"TEXT "), is_sent, "{length}");
        assert!(body.len() <= MAX_RESPONSE);
    }
}

#[test]
fn errors_say_what_to_do() {
    let headers = [("connection-id", "c1")];
    let mut ws = WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &headers, b"OPEN\r\n")
        .expect("a valid request");
    let meta = ws.set_meta("", "x").expect_err("no name").to_string();
    assert!(meta.starts_with("invalid meta: use "), "{meta}");
    let payload = ws.ping(&[0; 126]).expect_err("too long").to_string();
    assert_eq!(payload, "the payload of a ping or pong is too long: use at most 125 bytes");
    let protocol = ws.accept_with_protocol("v1").expect_err("none is offered").to_string();
    assert_eq!(protocol, "the client does not offer this subprotocol");
}
