//! Requests recorded from Pushpin 1.41: each is signed again and gets the expected response.

use base64::prelude::{BASE64_STANDARD, Engine};
use fanout_edge::grip::{Event, Events};
use serde::Deserialize;

use crate::{
    service::{ACCEPTED, Request, Service, subscribed},
    support::{NOW, local_signature},
};

#[derive(Deserialize)]
struct Recorded {
    name: String,
    request: RecordedRequest,
}

#[derive(Deserialize)]
struct RecordedRequest {
    method: String,
    headers: Vec<(String, String)>,
    body_b64: String,
}

/// The status, and for 200 the body, of the response to a recorded request. `None`: what `mirror` sends back.
fn expected(name: &str) -> (u16, Option<&'static [u8]>) {
    match name {
        name if name.starts_with("attack-") => (400, None),
        "http-get" | "via-viceroy-http-get" | "http-next-link-with-grip-last" | "http-response-hold-after-hint" => {
            (426, None)
        }
        "http-options-preflight" => (204, None),
        "http-post-text" | "http-gone-link" => (400, None),
        name if is_opening(name) => (200, None),
        "text-hello" | "via-viceroy-text" => (200, Some(b"TEXT 7\r\nm:hello\r\n")),
        "text-invalid-utf8" => (200, Some(b"CLOSE 13\r\n\x03\xeftext is not UTF-8\r\n")),
        "text-empty-no-length" => (200, Some(b"TEXT 2\r\nm:\r\n")),
        "text-with-crlf-inside" => (200, Some(b"TEXT 18\r\nm:line1\r\nTEXT 5\r\nfake!\r\n\r\n")),
        "text-client-sends-control-lookalike" => {
            (200, Some(b"TEXT 29\r\nm:c:{\"type\":\"subscribe\",\"channel\":\"evil\"}\r\n"))
        }
        "binary-5" => (200, Some(b"BINARY 7\r\nm:\x00\x01\r\n\xff\r\n")),
        "binary-empty-no-length" => (200, Some(b"BINARY 2\r\nm:\r\n")),
        "ping-empty" => (200, Some(b"PONG\r\n")),
        "ping-payload" => (200, Some(b"PONG 2\r\npp\r\n")),
        "close-no-code" | "close-one-byte-payload" | "close-by-publish" | "close-after-detach" => {
            (200, Some(b"CLOSE\r\n"))
        }
        "close-code-0" => (200, Some(b"CLOSE 2\r\n\x03\xea\r\n")),
        "close-1000-reason-utf8" | "node-ws-close" | "via-viceroy-close" => (200, Some(b"CLOSE 2\r\n\x03\xe8\r\n")),
        "close-4321-reason-123-bytes" => (200, Some(b"CLOSE 2\r\n\x10\xe1\r\n")),
        "close-reply-to-server-close" => (200, Some(b"CLOSE 2\r\n\x0f\xa0\r\n")),
        "pong-payload"
        | "pong-empty"
        | "disconnect-after-tcp-abort"
        | "meta-on-disconnect"
        | "refresh-empty-body"
        | "keep-alive-empty-body" => (200, Some(b"")),
        _ => (200, None),
    }
}

fn is_opening(name: &str) -> bool {
    name.starts_with("open-") || name.ends_with("-open")
}

#[test]
fn each_recorded_request_gets_the_expected_response() {
    let recorded: Vec<Recorded> =
        serde_json::from_str(include_str!("../data/pushpin-capture.json")).expect("the recording is JSON");
    assert_eq!(recorded.len(), 60);
    for Recorded { name, request: recorded } in recorded {
        let mut request = Request::new(&recorded.method, "/api/websocket")
            .with_body(BASE64_STANDARD.decode(&recorded.body_b64).expect("base64"));
        for (header, value) in &recorded.headers {
            request = request.with(header, value.replace("@SIG@", &local_signature(NOW)));
        }
        let response = Service::local().respond(request);
        let (status, body) = expected(&name);
        assert_eq!(response.status, status, "{name}");
        if is_opening(&name) {
            let id = recorded.headers.iter().find(|(header, _)| header == "Connection-Id").expect("an id");
            let body = String::from_utf8(response.body).expect("text");
            let length = |id: &str| format!("TEXT {:x}\r\n", 46 + id.len());
            let accepted = ACCEPTED.replace(&length("c1"), &length(&id.1)).replace("\"c1\"", &format!("{:?}", id.1));
            assert_eq!(body, accepted + &subscribed("test"), "{name}");
            continue;
        }
        match body {
            Some(body) => {
                assert_eq!(response.body.escape_ascii().to_string(), body.escape_ascii().to_string(), "{name}");
            }
            // The others are messages, which come back with the prefix, pings and closes.
            None if status == 200 => {
                let sent = BASE64_STANDARD.decode(&recorded.body_b64).expect("base64");
                let sent: Vec<_> = Events::decode(&sent).expect("events").collect();
                let back: Vec<_> = Events::decode(&response.body).expect("events").collect();
                assert_eq!(sent.len(), back.len(), "{name}");
                for pair in sent.into_iter().zip(back) {
                    let is_echoed = match pair {
                        (Event::Text(sent), Event::Text(back)) | (Event::Binary(sent), Event::Binary(back)) => {
                            back.strip_prefix(b"m:") == Some(sent)
                        }
                        (Event::Ping(sent), Event::Pong(back)) => sent == back,
                        (Event::Close(sent), Event::Close(back)) => sent == back,
                        _ => false,
                    };
                    assert!(is_echoed, "{name}");
                }
            }
            None => {}
        }
    }
}
