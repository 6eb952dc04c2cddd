//! Checks settings in the environment as the service does, and prints what is wrong with them. If `ACCESS_KEY` is a secret, prints
//! an access token of the user `deploy`, for ten minutes, that may subscribe and publish to every channel. For scripts/deploy.

use std::{env, process::exit};

use base64::prelude::{BASE64_STANDARD, Engine};
use fanout_edge::app::settings::{Lookup, Settings};
use jwt_simple::{
    claims::{Audiences, Claims},
    prelude::{Duration, HS256Key, MACLike},
    reexports::ct_codecs::{Decoder, Hex},
};
use serde_json::json;

fn main() {
    let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    // What belongs to the deployed service alone is not checked.
    let secret = |name: &'static str| -> Lookup {
        Ok(match name {
            "GRIP_URL" | "GRIP_VERIFY_KEY" => None,
            "FANOUT_API_TOKEN" => given(name).or_else(|| Some("token".to_owned())),
            // There is one already, which nobody can read.
            "ACCESS_KEY" if given(name).is_none() && given("HAS_KEY").is_some() => {
                Some(format!("secret:{}", "x".repeat(32)))
            }
            _ => given(name),
        })
    };
    let settings = Settings::read(&secret, &|name| Ok(given(name)), "SERVICE1");
    let problems: Vec<String> = settings.problems().map(ToString::to_string).collect();
    if !problems.is_empty() {
        eprintln!("{}", problems.join("\n"));
        exit(1);
    }
    let key = given("ACCESS_KEY").unwrap_or_default();
    let secret = match key.trim().split_once(':') {
        Some(("secret", text)) => Some(text.trim().as_bytes().to_vec()),
        Some(("base64", text)) => BASE64_STANDARD.decode(text.trim()).ok(),
        Some(("hex", text)) => Hex::decode_to_vec(text.trim(), None).ok(),
        _ => None,
    };
    let claims = json!({ "x-fastly-read": ["*"], "x-fastly-write": ["*"] });
    let mut claims = Claims::with_custom_claims(claims, Duration::from_mins(10)).with_subject("deploy");
    let trimmed = |name, stored| given(name).or_else(|| given(stored)).map(|value| value.trim().to_owned());
    claims.issuer = trimmed("ACCESS_ISSUER", "STORED_ISSUER");
    let audience = trimmed("ACCESS_AUDIENCE", "STORED_AUDIENCE");
    claims.audiences = audience.map(Audiences::AsString);
    if let Some(token) = secret.and_then(|secret| HS256Key::from_bytes(&secret).authenticate(claims).ok()) {
        println!("{token}");
    }
}
