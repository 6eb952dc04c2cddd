//! The client module in Node.js and in Chromium, against the real Viceroy and Pushpin.

#[cfg(not(target_os = "wasi"))]
mod runtime;
#[cfg(not(target_os = "wasi"))]
mod scenarios;
#[cfg(not(target_os = "wasi"))]
#[path = "../support/mod.rs"]
mod support;
