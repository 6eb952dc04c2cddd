//! Keys and signatures: none panics, no random token verifies, and a secret verifies what it signed.
#![no_main]

use std::sync::LazyLock;

use fanout_edge::grip::{Verifier, VerifyKey, fanout::Service, key::Algorithm};
use jwt_simple::prelude::{Claims, Duration, HS256Key, MACLike};
use libfuzzer_sys::fuzz_target;

static SERVICE: LazyLock<Verifier> = LazyLock::new(|| Service::new("SERVICE1").expect("a valid id").verifier());

fuzz_target!(|input: (&str, &str)| {
    let (key, token) = input;
    assert!(SERVICE.verify(token, 1_800_000_000).is_err());
    let Ok(parsed) = VerifyKey::parse(key) else { return };
    let verifier = Verifier::new(parsed, "fuzz");
    assert!(verifier.verify(token, 1_800_000_000).is_err());
    // A secret is what follows its mark.
    let Some(secret) = key.trim_start().strip_prefix("secret:").map(str::trim) else { return };
    assert!(verifier.key().algorithm() == Algorithm::Hs256 && verifier.key().secret_length() == Some(secret.len()));
    let claims = Claims::create(Duration::from_hours(1)).with_issuer("fuzz");
    let now = claims.issued_at.expect("it is set").as_secs();
    let signed = HS256Key::from_bytes(secret.as_bytes()).authenticate(claims).expect("the secret is long enough");
    assert!(verifier.verify(&signed, now).is_ok());
});
