//! What a KV store may return, and what a client and the proxy may say: none panics, and what cannot be read is told.
#![no_main]

#[path = "../../tests/handlers/handlers.rs"]
mod handlers;
#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../../tests/support/service.rs"]
mod service;
#[path = "../../tests/support/store.rs"]
mod store;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use libfuzzer_sys::fuzz_target;

use service::{Request, Service, settings};

const NOW: u64 = 1_800_000_000;
const LOCAL_GRIP_URL: &str =
    "http://127.0.0.1:5561/?verify-iss=viceroy&verify-key=secret:viceroy_dev_signing_key_dont_use_in_production";

fuzz_target!(|input: (&str, &str, &str)| {
    let (value, since, last) = input;
    let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*")]));
    service.host.is_local = true;
    let broadcast = Request::new("POST", "/api/broadcast").with("Content-Type", "text/plain").with_body("x");
    assert_eq!(service.respond(broadcast).status, 200);
    let keys = service.host.store.entries.iter_mut().map(|(key, stored, ..)| (key, stored));
    let (key, stored) = keys.into_iter().find(|(key, _)| key.contains('.')).expect("a message");
    let (head, _) = key.split_once('.').expect("a value in the key");
    // In its key, or as a value of it.
    *key = if value.len() < 500 { format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(value)) } else { head.to_owned() };
    *stored = value.to_owned();
    let recovered = service.respond(Request::new("GET", "/api/history?since=2027-01-15T08:00:00Z"));
    assert_eq!(recovered.status, 200);
    let query: String = since.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let response = service.respond(Request::new("GET", &format!("/api/history?since={query}")));
    assert!([200, 400, 414].contains(&response.status));
    let next = Request::new("GET", &format!("/api/events/next/{}", since.escape_default()));
    assert_eq!(service.respond(next.with("Grip-Last", last)).status, 403);
});
