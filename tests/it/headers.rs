//! Request headers, in each form that the library accepts.

use fanout_edge::grip::{Header, Headers};
use http::{HeaderMap, HeaderName, HeaderValue};

const PAIRS: [(&str, &str); 4] =
    [("Connection-Id", "c1"), ("grip-last", "a"), ("Grip-Last", "b,, c "), ("meta-user", "")];

#[track_caller]
fn reads(headers: &dyn Headers) {
    assert_eq!(headers.header("connection-id"), Header::Value("c1"));
    assert_eq!(headers.header("Connection-ID"), Header::Value("c1"));
    assert_eq!(headers.header("meta-user"), Header::Value(""));
    assert_eq!(headers.header("grip-last"), Header::Invalid);
    assert_eq!(headers.header("grip-sig"), Header::Missing);
    assert_eq!(headers.list("GRIP-Last"), ["a", "b", "c"]);
    assert_eq!(headers.list("meta-user"), [""; 0]);
    assert_eq!(headers.list("grip-sig"), [""; 0]);
}

#[test]
fn all_forms_of_headers_read_the_same() {
    let owned: Vec<_> = PAIRS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let map: HeaderMap = PAIRS
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_static(value)))
        .collect();
    reads(&PAIRS);
    reads(&&PAIRS[..]);
    reads(&owned.as_slice());
    reads(&owned);
    reads(&map);
}

#[test]
fn a_value_that_is_not_text_is_invalid() {
    let value = HeaderValue::from_bytes(b"\xff").expect("a value");
    let map = HeaderMap::from_iter([(HeaderName::from_static("connection-id"), value)]);
    assert_eq!(map.header("connection-id"), Header::Invalid);
    assert_eq!(map.list("connection-id"), [""; 0]);
}
