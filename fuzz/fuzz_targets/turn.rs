//! A whole turn: a request of a WebSocket goes in, its echo comes out, and nothing that the client sent is a control
//! message.
#![no_main]

use fanout_edge::grip::{Channel, Event, Events, WebSocket, websocket::MAX_RESPONSE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(mut ws) = WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &[("connection-id", "c1")], body) else { return };
    if ws.is_opening() {
        ws.accept();
        ws.subscribe(&Channel::from_static("test"));
    }
    while let Some(message) = ws.receive() {
        ws.send(message);
    }
    let response = ws.into_response().body;
    assert!(response.len() <= MAX_RESPONSE);
    for event in Events::decode(&response).expect("a response is valid") {
        if let Event::Text(text) = event {
            assert!(text.starts_with(b"m:") || text == br#"c:{"type":"subscribe","channel":"test"}"#);
        }
    }
});
