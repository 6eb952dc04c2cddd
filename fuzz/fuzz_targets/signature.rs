//! Keys and tokens: none panics, no token that is made of chance verifies, and a secret verifies what it signed.
#![no_main]

use std::sync::LazyLock;

use fanout_edge::grip::{Verifier, VerifyKey, fanout::Service};
use jwt_simple::prelude::{Claims, Duration, MACLike};
use libfuzzer_sys::fuzz_target;

static SERVICE: LazyLock<Verifier> = LazyLock::new(|| Service::new("SERVICE1").expect("a valid id").verifier());

fuzz_target!(|input: (&str, &str)| {
    let (key, token) = input;
    assert!(SERVICE.verify(token, 1_800_000_000).is_err());
    let Ok(key) = VerifyKey::parse(key) else { return };
    let verifier = Verifier::new(key, "fuzz");
    assert!(verifier.verify(token, 1_800_000_000).is_err());
    if let VerifyKey::Hs256(secret) = verifier.key() {
        let claims = Claims::create(Duration::from_hours(1)).with_issuer("fuzz");
        let now = claims.issued_at.expect("it is set").as_secs();
        let signed = secret.authenticate(claims).expect("the secret is long enough");
        assert!(verifier.verify(&signed, now).is_ok());
    }
});
