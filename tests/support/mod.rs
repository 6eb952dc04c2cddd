//! Code that several tests share.
#![allow(dead_code, reason = "each test program uses a part of it")]

#[cfg(not(target_os = "wasi"))]
pub mod backend;
#[cfg(not(target_os = "wasi"))]
pub mod browser;
#[cfg(not(target_os = "wasi"))]
pub mod client;
#[path = "../handlers/handlers.rs"]
pub mod handlers;
#[cfg(not(target_os = "wasi"))]
pub mod http;
#[cfg(not(target_os = "wasi"))]
pub mod process;
#[cfg(not(target_os = "wasi"))]
pub mod running;
pub mod service;
pub mod store;

use jwt_simple::prelude::{
    Claims, Duration, ECDSAP256KeyPairLike, ES256KeyPair, HS256Key, JWTClaims, MACLike, NoCustomClaims, UnixTimeStamp,
};

/// The current time in tests that pass it as an argument, in seconds since 1970.
pub const NOW: u64 = 1_800_000_000;
pub const LOCAL_KEY: &str = "viceroy_dev_signing_key_dont_use_in_production";
pub const LOCAL_ISSUER: &str = "viceroy";
pub const LOCAL_GRIP_URL: &str =
    "http://127.0.0.1:5561/?verify-iss=viceroy&verify-key=secret:viceroy_dev_signing_key_dont_use_in_production";

/// Values of `Content-Type` with which Pushpin signs and forwards events that an HTTP client forged.
pub const FORGED_CONTENT_TYPES: &[&[&str]] = &[
    &["application/websocket-events ; x=1"],
    &["application/websocket-events\t; x=1"],
    &["Application/WebSocket-Events"],
    &["application/websocket-events, text/plain"],
    &["text/plain", "application/websocket-events"],
];

/// The claims that the proxies sign: an issuer and an expiry.
pub fn claims(issuer: Option<&str>, expiry: Option<u64>) -> JWTClaims<NoCustomClaims> {
    let mut claims = Claims::create(Duration::from_secs(0));
    claims.issued_at = None;
    claims.invalid_before = None;
    claims.issuer = issuer.map(str::to_owned);
    claims.expires_at = expiry.map(UnixTimeStamp::from_secs);
    claims
}

pub fn sign_hs256(secret: &str, claims: JWTClaims<NoCustomClaims>) -> String {
    HS256Key::from_bytes(secret.as_bytes()).authenticate(claims).expect("a token")
}

pub fn sign_es256(key: &ES256KeyPair, claims: JWTClaims<NoCustomClaims>) -> String {
    key.sign(claims).expect("a token")
}

/// A `Grip-Sig` as the local Pushpin makes it, valid for an hour from `now`.
pub fn local_signature(now: u64) -> String {
    sign_hs256(LOCAL_KEY, claims(Some(LOCAL_ISSUER), Some(now + 3600)))
}

/// An access token that is signed with `secret`, with an expiry and the claims of `custom`, a JSON object.
pub fn access_token(secret: &str, expiry: u64, custom: &str) -> String {
    let key = HS256Key::from_bytes(secret.as_bytes());
    key.authenticate(with_claims(expiry, custom)).expect("a token")
}

pub fn with_claims(expiry: u64, custom: &str) -> JWTClaims<serde_json::Value> {
    let custom = serde_json::from_str(custom).expect("JSON");
    let plain = claims(None, Some(expiry));
    JWTClaims {
        issued_at: None,
        expires_at: plain.expires_at,
        invalid_before: None,
        issuer: None,
        subject: None,
        audiences: None,
        jwt_id: None,
        nonce: None,
        custom,
    }
}
