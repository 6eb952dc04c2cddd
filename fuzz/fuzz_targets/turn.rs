//! A whole turn: a request of a WebSocket in, the echo of it out, and nothing of the client's taken for control.
#![no_main]

use fanout_edge::{
    app::{echo::echo, websocket::Options},
    grip::{Event, Events, WebSocket, websocket::MAX_ANSWER},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(mut ws) = WebSocket::new(&[("connection-id", "c1")], body) else { return };
    echo(&mut ws, &Options::default());
    let answer = ws.into_answer().body;
    assert!(answer.len() <= MAX_ANSWER);
    for event in Events::decode(&answer).expect("an answer is valid") {
        if let Event::Text(text) = event {
            assert!(text.starts_with(b"m:") || text == br#"c:{"type":"subscribe","channel":"test"}"#);
        }
    }
});
