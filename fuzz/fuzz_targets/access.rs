//! Keys and access tokens: none panics, and no random token is valid.
#![no_main]

#[path = "../../tests/handlers/handlers.rs"]
mod handlers;
#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../../tests/support/service.rs"]
mod service;
#[path = "../../tests/support/store.rs"]
mod store;

use libfuzzer_sys::fuzz_target;

use service::{Request, Service, settings};

const NOW: u64 = 1_800_000_000;
const LOCAL_GRIP_URL: &str =
    "http://127.0.0.1:5561/?verify-iss=viceroy&verify-key=secret:viceroy_dev_signing_key_dont_use_in_production";

fuzz_target!(|input: (&str, &str)| {
    let (keys, token) = input;
    let mut service = Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", keys)]));
    let request = Request::new("GET", "/api/poll").with("Authorization", format!("Bearer {token}"));
    assert!([401, 503].contains(&service.respond(request).status));
});
