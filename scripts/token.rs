//! Prints an access token that may subscribe and publish to every channel for ten minutes, signed with the secret in the
//! environment variable `ACCESS_KEY`. For checks of a deployed service.

use std::{env, process::exit};

use base64::prelude::{BASE64_STANDARD, Engine};
use jwt_simple::{
    claims::Claims,
    prelude::{Duration, HS256Key, MACLike},
    reexports::ct_codecs::{Decoder, Hex},
};
use serde_json::json;

fn main() {
    let key = env::var("ACCESS_KEY").unwrap_or_default();
    let secret = match key.trim().split_once(':') {
        Some(("secret", text)) => Some(text.trim().as_bytes().to_vec()),
        Some(("base64", text)) => BASE64_STANDARD.decode(text.trim()).ok(),
        Some(("hex", text)) => Hex::decode_to_vec(text.trim(), None).ok(),
        _ => None,
    };
    let claims = json!({ "x-fastly-read": ["*"], "x-fastly-write": ["*"] });
    let claims = Claims::with_custom_claims(claims, Duration::from_mins(10));
    match secret.and_then(|secret| HS256Key::from_bytes(&secret).authenticate(claims).ok()) {
        Some(token) => println!("{token}"),
        None => {
            eprintln!("ACCESS_KEY is not a secret: write it as secret:TEXT, base64:… or hex:…");
            exit(1);
        }
    }
}
