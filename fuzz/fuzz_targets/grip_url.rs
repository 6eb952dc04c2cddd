//! GRIP_URL: none panics, and one that is accepted makes a valid request.
#![no_main]

use fanout_edge::grip::{Channel, Formats, GripUri, Item, WsMessage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|uri: &str| {
    let Ok(uri) = GripUri::parse(uri) else { return };
    let channel = Channel::from_static("test");
    let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text("x")), ..Formats::default() });
    let request = uri.publisher.request(&[item], 1_800_000_000).expect("it is small");
    assert!(request.url.starts_with("http") && request.url.ends_with("/publish/"));
    assert!(!request.url.contains(['?', '#', ' ', '\n']));
    assert!(request.authorization.is_none_or(|value| value.to_str().is_ok()));
});
