//! Headers of holds: for any input the values are printable, and parsing never panics.
#![no_main]

use fanout_edge::grip::{
    Channel, Hold, ItemId,
    headers::{has_feature, last_ids},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8], u16)| {
    let (first, second, bytes, number) = input;
    let channel = Channel::new(first).unwrap_or(Channel::from_static("a"));
    let mut hold = Hold::stream(&channel);
    for changed in [
        hold.clone().with_keep_alive(bytes, u32::from(number)),
        Ok(ItemId::new(first).map_or_else(|| hold.clone(), |id| hold.clone().with_prev_id(id))),
        hold.clone().with_status(number, second),
        hold.clone().with_next(first, Some(u32::from(number))),
        hold.clone().with_gone(second),
        hold.clone().with_meta(first, second),
        hold.clone().with_exposed_headers(&[first, second]),
    ] {
        hold = changed.unwrap_or(hold);
        for value in hold.headers().values() {
            assert!(value.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~')));
        }
    }
    last_ids(first).for_each(|(channel, id)| assert!(!channel.is_empty() && !id.is_empty()));
    has_feature(first, second);
});
