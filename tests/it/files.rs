//! The page at `/`: it is sent whole, is cached, and may do no more than it needs.

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac_sha256::Hash;

use crate::service::{Request, Service, header};

const PAGE: &str = include_str!("../../src/client/page.html");

fn inside(tag: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("<{tag}>")).expect("the tag is there, once");
    let (inside, rest) = rest.split_once(&format!("</{tag}>")).expect("the tag is closed");
    assert!(!rest.contains(&format!("<{tag}>")), "one policy, one {tag}");
    inside
}

#[test]
fn the_page_is_sent_whole_and_stays_small() {
    let response = Service::local().respond(Request::new("GET", "/"));
    assert_eq!((response.status, header(&response, "content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(response.body, PAGE.as_bytes());
    assert!(PAGE.len() < 30_000, "{} bytes", PAGE.len());
    assert!(!PAGE.contains("http://") && !PAGE.contains("https://"), "it needs no other host");
}

#[test]
fn a_page_that_the_browser_has_is_not_sent_again() {
    let get = |known: &str| Service::local().respond(Request::new("GET", "/").with("If-None-Match", known));
    let first = Service::local().respond(Request::new("GET", "/"));
    let tag = header(&first, "etag").expect("a tag");
    let digest = Hash::hash(PAGE.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(tag, format!("\"{digest}\""), "the ETag of src/app/endpoints/page.rs is that of another page");
    for known in [tag, "*", &format!("W/{tag}"), &format!("\"other\", {tag}")] {
        let response = get(known);
        assert_eq!((response.status, response.body.len(), header(&response, "etag")), (304, 0, Some(tag)), "{known}");
    }
    assert_eq!(get("\"other\"").status, 200);
}

#[test]
fn the_policy_allows_the_pages_own_script_and_style_and_nothing_else() {
    let response = Service::local().respond(Request::new("GET", "/"));
    let policy = header(&response, "content-security-policy").expect("a policy");
    for (tag, directive) in [("script", "script-src"), ("style", "style-src")] {
        let digest = BASE64_STANDARD.encode(Hash::hash(inside(tag).as_bytes()));
        assert!(policy.contains(&format!("; {directive} 'sha256-{digest}';")), "{directive} 'sha256-{digest}'");
    }
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header(&response, "referrer-policy"), Some("no-referrer"));
}
