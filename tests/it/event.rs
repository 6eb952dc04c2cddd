//! WebSocket-over-HTTP events: what is decoded, rejected and encoded, byte for byte.

use fanout_edge::grip::{
    Event, Events,
    event::{CloseFrame, DecodeErrorKind},
};

const CLOSED: Event<'_> = Event::Close(Some(CloseFrame { code: 1000, reason: b"" }));

#[track_caller]
fn decodes(body: &[u8], expected: &[Event<'_>]) {
    let events: Vec<_> = Events::decode(body).expect("a valid body").collect();
    assert_eq!(events, expected);
}

#[track_caller]
fn rejects(body: &[u8], offset: usize, kind: DecodeErrorKind) {
    let error = Events::decode(body).expect_err("not a valid body");
    assert_eq!((error.offset, error.kind), (offset, kind));
}

#[test]
fn each_type_is_decoded() {
    decodes(b"", &[]);
    decodes(b"OPEN\r\n", &[Event::Open]);
    decodes(b"TEXT 5\r\nhello\r\n", &[Event::Text(b"hello")]);
    decodes(b"BINARY 3\r\n\x00\xff\x01\r\n", &[Event::Binary(b"\x00\xff\x01")]);
    decodes(b"PING 2\r\npp\r\n", &[Event::Ping(b"pp")]);
    decodes(b"PONG 2\r\nqq\r\n", &[Event::Pong(b"qq")]);
    decodes(b"CLOSE 2\r\n\x03\xe8\r\n", &[CLOSED]);
    decodes(b"CLOSE 5\r\n\x0f\xa0why\r\n", &[Event::Close(Some(CloseFrame { code: 4000, reason: b"why" }))]);
    decodes(b"CLOSE\r\n", &[Event::Close(None)]);
    decodes(b"DISCONNECT\r\n", &[Event::Disconnect]);
}

#[test]
fn an_empty_message_needs_no_length() {
    decodes(b"TEXT\r\n", &[Event::Text(b"")]);
    decodes(b"BINARY\r\n", &[Event::Binary(b"")]);
    decodes(b"PING\r\nPONG\r\n", &[Event::Ping(b""), Event::Pong(b"")]);
    decodes(b"TEXT 0\r\n\r\n", &[Event::Text(b"")]);
}

#[test]
fn content_may_contain_any_bytes() {
    decodes(b"TEXT 16\r\nline1\r\nTEXT 5\r\nfake!\r\n\r\n", &[Event::Text(b"line1\r\nTEXT 5\r\nfake!\r\n")]);
    decodes(b"TEXT 2\r\n\r\n\r\nOPEN\r\n", &[Event::Text(b"\r\n"), Event::Open]);
}

#[test]
fn lengths_are_hexadecimal_in_either_case() {
    let content = [b'x'; 0x1f];
    for length in ["1f", "1F", "01f", "0000001F"] {
        let body = [format!("TEXT {length}\r\n").as_bytes(), &content, b"\r\n"].concat();
        decodes(&body, &[Event::Text(&content)]);
    }
}

#[test]
fn unknown_types_are_skipped() {
    decodes(b"FUTURE 2\r\nab\r\nTEXT 1\r\nx\r\nABCDEFGHIJKLMNOPQRST\r\n", &[Event::Text(b"x")]);
}

#[test]
fn malformed_events_are_rejected() {
    use DecodeErrorKind as Kind;
    for (body, kind) in [
        (&b"\r\n"[..], Kind::Type),
        (b"open\r\n", Kind::Type),
        (b"Text 1\r\nx\r\n", Kind::Type),
        (b"TEXT\t1\r\nx\r\n", Kind::Type),
        (b"TEXT\n", Kind::Type),
        (b" OPEN\r\n", Kind::Type),
        (b"ABCDEFGHIJKLMNOPQRSTU\r\n", Kind::Type),
        (b"OPEN", Kind::LineEnd),
        (b"OPEN\r", Kind::LineEnd),
        (b"OPEN\rX", Kind::LineEnd),
        (b"TEXT ", Kind::Length),
        (b"TEXT \r\n\r\n", Kind::Length),
        (b"TEXT zz\r\n", Kind::Length),
        (b"TEXT -5\r\nhello\r\n", Kind::Length),
        (b"TEXT +5\r\nhello\r\n", Kind::Length),
        (b"TEXT  5\r\nhello\r\n", Kind::Length),
        (b"TEXT 5 \r\nhello\r\n", Kind::Length),
        (b"TEXT 0x5\r\nhello\r\n", Kind::Length),
        (b"TEXT 5g\r\nhello\r\n", Kind::Length),
        (b"TEXT 000000005\r\nhello\r\n", Kind::Length),
        (b"TEXT 5\nhello\r\n", Kind::Length),
        (b"TEXT 5", Kind::LineEnd),
        (b"TEXT 5\r", Kind::LineEnd),
        (b"TEXT 5\r\nhell", Kind::Truncated),
        (b"TEXT ffffffff\r\nhello\r\n", Kind::Truncated),
        (b"TEXT 5\r\nhello", Kind::ContentEnd),
        (b"TEXT 4\r\nhello\r\n", Kind::ContentEnd),
        (b"TEXT 5\r\nhello\n\n", Kind::ContentEnd),
        (b"OPEN 1\r\nx\r\n", Kind::Content),
        (b"DISCONNECT 1\r\nx\r\n", Kind::Content),
        (b"CLOSE 1\r\n\x03\r\n", Kind::CloseCode),
    ] {
        rejects(body, 0, kind);
    }
}

#[test]
fn an_error_has_the_position_and_the_reason() {
    rejects(b"TEXT 5\r\nhello\r\nTEXT 5\r\nhel", 15, DecodeErrorKind::Truncated);
    let error = Events::decode(b"OPEN\r\nTEXT zz\r\n").expect_err("not a length");
    assert_eq!(error.to_string(), "the event at byte 6 has a length that is not 1 to 8 hexadecimal digits");
}

#[test]
fn a_body_that_breaks_off_within_an_event_is_rejected() {
    let body = b"OPEN\r\nTEXT 5\r\nhello\r\nTEXT\r\nCLOSE 5\r\n\x0f\xa0why\r\nDISCONNECT\r\n";
    let whole = [0, 6, 21, 27, 43, 55];
    for length in 0..=body.len() {
        assert_eq!(Events::decode(&body[..length]).is_ok(), whole.contains(&length), "{length} bytes");
    }
}

#[test]
fn encoded_events_decode_to_the_same_events() {
    let long = vec![b'x'; 0x12345];
    let events = [
        Event::Open,
        Event::Text("héllo ☃".as_bytes()),
        Event::Text(b""),
        Event::Text(&long),
        Event::Binary(b"\r\n\x00\xff"),
        Event::Ping(b"p"),
        Event::Pong(b""),
        Event::Close(None),
        CLOSED,
        Event::Close(Some(CloseFrame { code: 4321, reason: b"bye" })),
        Event::Disconnect,
    ];
    let mut body = Vec::new();
    for event in &events {
        event.encode(&mut body);
    }
    decodes(&body, &events);
}

#[test]
fn lengths_are_encoded_in_lower_case_without_leading_zeros() {
    for (length, head) in [(1, "TEXT 1\r\n"), (15, "TEXT f\r\n"), (16, "TEXT 10\r\n"), (0xabcd, "TEXT abcd\r\n")] {
        let mut body = Vec::new();
        Event::Text(&vec![b'x'; length]).encode(&mut body);
        assert!(body.starts_with(head.as_bytes()), "{length}");
        assert_eq!(body.len(), head.len() + length + 2);
    }
}
