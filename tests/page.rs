//! The page at `/`: that it comes whole, is remembered, and may do no more than it needs.

mod support;

use base64::prelude::{BASE64_STANDARD, Engine};
use fanout_edge::app::{self, Action, Reply};
use hmac_sha256::Hash;
use support::{NOW, Request, local_settings};

const PAGE: &str = include_str!("../src/app/page.html");

fn get(request: Request) -> Reply {
    let mut request = request;
    let Action::Reply(reply) = app::decide(&mut request, &local_settings(), NOW) else { panic!("no reply") };
    reply
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value)
}

fn inside(tag: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("<{tag}>")).expect("the tag is there, once");
    let (inside, rest) = rest.split_once(&format!("</{tag}>")).expect("the tag is closed");
    assert!(!rest.contains(&format!("<{tag}>")), "one policy, one {tag}");
    inside
}

#[test]
fn the_page_is_sent_whole_and_stays_small() {
    let reply = get(Request::new("GET", "/"));
    assert_eq!((reply.status, header(&reply, "content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(reply.body, PAGE.as_bytes());
    assert!(PAGE.len() < 30_000, "{} bytes", PAGE.len());
    assert!(!PAGE.contains("http://") && !PAGE.contains("https://"), "it needs no other host");
}

#[test]
fn a_page_that_the_browser_has_is_not_sent_again() {
    let tag = header(&get(Request::new("GET", "/")), "etag").to_owned();
    let digest = Hash::hash(PAGE.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(tag, format!("\"{digest}\""), "the ETag of src/app/page.rs is that of another page");
    for known in [&*tag, "*", &format!("W/{tag}"), &format!("\"other\", {tag}")] {
        let reply = get(Request::new("GET", "/").with("If-None-Match", known));
        assert_eq!((reply.status, reply.body.len(), header(&reply, "etag")), (304, 0, &*tag), "{known}");
    }
    assert_eq!(get(Request::new("GET", "/").with("If-None-Match", "\"other\"")).status, 200);
}

#[test]
fn the_policy_allows_the_pages_own_script_and_style_and_nothing_else() {
    let reply = get(Request::new("GET", "/"));
    let policy = header(&reply, "content-security-policy");
    for (tag, directive) in [("script", "script-src"), ("style", "style-src")] {
        let digest = BASE64_STANDARD.encode(Hash::hash(inside(tag).as_bytes()));
        assert!(policy.contains(&format!("; {directive} 'sha256-{digest}';")), "{directive} 'sha256-{digest}'");
    }
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!(header(&reply, "x-content-type-options"), "nosniff");
}
