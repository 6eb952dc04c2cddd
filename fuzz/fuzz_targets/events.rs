//! Bodies: decoded events are encoded to a body that is no longer, and decodes to the same events.
#![no_main]

use fanout_edge::grip::Events;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(events) = Events::decode(body) else { return };
    let events: Vec<_> = events.collect();
    let mut again = Vec::new();
    for event in &events {
        event.encode(&mut again);
    }
    assert!(again.len() <= body.len());
    assert!(Events::decode(&again).expect("what is encoded is valid").eq(events));
});
