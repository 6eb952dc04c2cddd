//! How long a sandbox serves, and how often the settings are read.

use std::{cell::RefCell, time::Duration};

use fanout_edge::app::{sandbox::Usage, settings::Settings};

use crate::{
    service::{local_settings, settings},
    support::LOCAL_GRIP_URL,
};

const FRESH: Usage = Usage {
    age: Duration::from_secs(1),
    requests: 1,
    backend_requests: 0,
    store_operations: 0,
    cpu_ms: 1,
    memory_mib: 2,
};

#[test]
fn a_sandbox_retires_before_a_limit_of_fastly_could_be_met() {
    let settings = local_settings();
    let second = Duration::from_secs(1);
    assert_eq!(FRESH.may_wait(&settings), Some(5 * second));
    assert_eq!(Usage { age: 38 * second, ..FRESH }.may_wait(&settings), Some(2 * second));
    for (last, retired) in [
        (Usage { age: 39 * second, ..FRESH }, Usage { age: 40 * second, ..FRESH }),
        (Usage { requests: 999, ..FRESH }, Usage { requests: 1000, ..FRESH }),
        // Three and the six of one more request are less than ten.
        (Usage { backend_requests: 3, ..FRESH }, Usage { backend_requests: 4, ..FRESH }),
        (Usage { store_operations: 29, ..FRESH }, Usage { store_operations: 30, ..FRESH }),
        (Usage { cpu_ms: 24, ..FRESH }, Usage { cpu_ms: 25, ..FRESH }),
        (Usage { memory_mib: 32, ..FRESH }, Usage { memory_mib: 33, ..FRESH }),
    ] {
        assert!(last.may_wait(&settings).is_some(), "{last:?}");
        assert_eq!(retired.may_wait(&settings), None, "{retired:?}");
    }
    assert_eq!(Usage { age: 100 * second, ..FRESH }.may_wait(&settings), None);
}

#[test]
fn the_number_of_requests_of_a_sandbox_is_a_setting() {
    for (value, most, is_valid) in [("1", 1, true), (" 50\n", 50, true), ("0", 1000, false), ("many", 1000, false)] {
        let settings = settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("config:SANDBOX_REQUESTS", value)]);
        assert_eq!((settings.sandbox_requests(), settings.are_incomplete()), (most, !is_valid), "{value}");
        assert_eq!(Usage { requests: most, ..FRESH }.may_wait(&settings), None);
        assert!(Usage { requests: most - 1, ..FRESH }.may_wait(&settings).is_some());
    }
}

#[test]
fn settings_that_cannot_be_used_are_read_again_after_two_seconds_by_another_sandbox() {
    let settings = settings(&[]);
    let millis = Duration::from_millis;
    assert_eq!(Usage { age: millis(500), ..FRESH }.may_wait(&settings), Some(millis(1500)));
    assert_eq!(Usage { age: millis(2000), ..FRESH }.may_wait(&settings), None);
}

/// Fastly allows five secret reads and 32 of the Config Store. The edge makes one for each call, once in the life of a
/// sandbox.
#[test]
fn at_most_four_secrets_are_read() {
    for (url, secrets) in [
        (Some(LOCAL_GRIP_URL), &["GRIP_URL", "GRIP_VERIFY_KEY", "ACCESS_KEY"][..]),
        (None, &["GRIP_URL", "FANOUT_API_TOKEN", "ACCESS_KEY"]),
    ] {
        let (read, configured) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let secret = |name: &'static str| {
            read.borrow_mut().push(name);
            Ok(url.filter(|_| name == "GRIP_URL").map(str::to_owned))
        };
        let config = |name: &'static str| {
            configured.borrow_mut().push(name);
            Ok(None)
        };
        Settings::read(&secret, &config, "SERVICE1");
        assert_eq!(read.into_inner(), secrets);
        let configured = configured.into_inner();
        assert!(configured.len() <= 14 && configured.contains(&"SANDBOX_REQUESTS"), "{configured:?}");
    }
}
