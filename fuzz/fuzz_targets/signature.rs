//! Keys and tokens: none panics, and no token that is made of chance verifies.
#![no_main]

use std::sync::LazyLock;

use fanout_edge::grip::{Verifier, VerifyKey, fanout::Service};
use libfuzzer_sys::fuzz_target;

static VERIFIERS: LazyLock<[Verifier; 2]> = LazyLock::new(|| {
    let key = VerifyKey::parse("a secret that the corpus does not have").expect("a valid key");
    let service = Service::new("SERVICE1").expect("a valid id");
    [Verifier::new(key, "fuzz"), service.verifier()]
});

fuzz_target!(|input: &str| {
    let _ = VerifyKey::parse(input);
    for verifier in &*VERIFIERS {
        assert!(verifier.verify(input, 1_800_000_000).is_err());
    }
});
