//! What several tests need.
#![allow(dead_code, reason = "each test uses its part")]

#[cfg(not(target_os = "wasi"))]
pub mod backend;
#[cfg(not(target_os = "wasi"))]
pub mod browser;
#[cfg(not(target_os = "wasi"))]
pub mod client;
#[cfg(not(target_os = "wasi"))]
pub mod http;
#[cfg(not(target_os = "wasi"))]
pub mod process;

use std::{cell::RefCell, net::IpAddr, rc::Rc};

use fanout_edge::{
    app::{
        Settings,
        http::{BodyError, CannotCount, Counter},
        settings::Lookup,
    },
    grip::{Header, Headers},
};
use jwt_simple::prelude::{
    Claims, Duration, ECDSAP256KeyPairLike, ES256KeyPair, HS256Key, JWTClaims, MACLike, NoCustomClaims, UnixTimeStamp,
};

/// The time of the tests that take the time as an argument, in seconds since 1970.
pub const NOW: u64 = 1_800_000_000;
pub const LOCAL_KEY: &str = "viceroy_dev_signing_key_dont_use_in_production";
pub const LOCAL_ISSUER: &str = "viceroy";
pub const LOCAL_GRIP_URL: &str =
    "http://127.0.0.1:5561/?verify-iss=viceroy&verify-key=viceroy_dev_signing_key_dont_use_in_production";

/// Values of `Content-Type` with which an HTTP client can send events that Pushpin passes on, signed.
pub const FORGED_CONTENT_TYPES: &[&[&str]] = &[
    &["application/websocket-events ; x=1"],
    &["application/websocket-events\t; x=1"],
    &["Application/WebSocket-Events"],
    &["application/websocket-events, text/plain"],
    &["text/plain", "application/websocket-events"],
];

/// Claims as the proxies sign them: an issuer and an expiry.
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

/// A `Grip-Sig` as the local Pushpin makes it, valid for an hour from a time on.
pub fn local_signature(now: u64) -> String {
    sign_hs256(LOCAL_KEY, claims(Some(LOCAL_ISSUER), Some(now + 3600)))
}

/// An access token of that secret, with an expiry and these claims as JSON.
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

/// Settings made of these entries, for the service `SERVICE1`. Those of the Config Store begin with `config:`.
pub fn settings(entries: &[(&str, &str)]) -> Settings {
    Settings::read(
        &|name| -> Lookup {
            Ok(entries.iter().find(|(entry, _)| *entry == name).map(|(_, value)| (*value).to_owned()))
        },
        &|name| -> Lookup {
            Ok(entries
                .iter()
                .find(|(entry, _)| entry.strip_prefix("config:") == Some(name))
                .map(|(_, value)| (*value).to_owned()))
        },
        "SERVICE1",
    )
}

pub fn local_settings() -> Settings {
    settings(&[("GRIP_URL", LOCAL_GRIP_URL)])
}

/// A request that was written down.
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    broken: bool,
    address: Option<IpAddr>,
    fastly_key: Option<&'static str>,
    local: bool,
    backends: Vec<&'static str>,
    counted: Counted,
}

/// What was counted: each counter's entries.
pub type Counted = Rc<RefCell<Vec<(Counter, String, u32)>>>;

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            broken: false,
            address: Some(IpAddr::from([192, 0, 2, 1])),
            fastly_key: None,
            local: false,
            backends: vec!["self", "publisher"],
            counted: Counted::default(),
        }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn with_body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// A body that breaks off.
    pub fn with_broken_body(mut self) -> Self {
        self.broken = true;
        self
    }

    /// From that address; `None` where the platform does not know it.
    pub fn from(mut self, address: Option<&str>) -> Self {
        self.address = address.map(|address| address.parse().expect("an address"));
        self
    }

    /// At a platform that knows this `Fastly-Key`.
    pub fn at_fastly_with(mut self, key: &'static str) -> Self {
        self.fastly_key = Some(key);
        self
    }

    pub fn at_home(mut self) -> Self {
        self.local = true;
        self
    }

    pub fn with_backends(mut self, backends: &[&'static str]) -> Self {
        self.backends = backends.to_vec();
        self
    }

    /// Counted there, together with others.
    pub fn counted_in(mut self, counted: &Counted) -> Self {
        self.counted = Rc::clone(counted);
        self
    }
}

impl Headers for Request {
    fn header(&self, name: &str) -> Header<'_> {
        self.headers.header(name)
    }
}

impl fanout_edge::app::Request for Request {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    fn query(&self) -> &str {
        self.path.split_once('?').map_or("", |(_, query)| query)
    }

    fn body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        if self.broken {
            return Err(BodyError::Incomplete);
        }
        if self.body.len() > limit { Err(BodyError::TooLarge) } else { Ok(std::mem::take(&mut self.body)) }
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.address
    }

    fn has_fastly_key(&self) -> bool {
        self.fastly_key.is_some_and(|key| self.header("fastly-key") == Header::Value(key))
    }

    fn is_local(&self) -> bool {
        self.local
    }

    fn has_backend(&self, name: &str) -> bool {
        self.backends.contains(&name)
    }

    fn count(&self, counter: Counter, entry: &str, more: u32) -> Result<u32, CannotCount> {
        let mut counted = self.counted.try_borrow_mut().map_err(|_| CannotCount)?;
        counted.push((counter, entry.to_owned(), more));
        let same = counted.iter().filter(|(known, name, _)| *known == counter && name == entry);
        Ok(same.map(|(_, _, more)| more).sum())
    }
}
