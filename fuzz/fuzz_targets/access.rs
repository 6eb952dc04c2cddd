//! Keys and tokens of access: none panics, and no token that is made of chance is valid.
#![no_main]

use fanout_edge::app::access::Access;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (setting, token) = input;
    if let Ok(access) = Access::parse(setting) {
        assert!(access.verify(token, 1_800_000_000).is_err());
    }
});
