//! The page at `/` and the client module: they are sent whole, are cached, stay small, and the page may do no more than it needs.

use fanout_edge::app::web::Response;

use crate::service::{Request, Service, header};

const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("../../src/client/page.html")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("../../src/client/page.js")),
    ("/page.css", "text/css; charset=utf-8", include_str!("../../src/client/page.css")),
    ("/client.js", "text/javascript; charset=utf-8", include_str!(concat!(env!("OUT_DIR"), "/client.js"))),
    ("/client.d.ts", "text/plain; charset=utf-8", include_str!("../../src/client/client.d.ts")),
];

fn get(path: &str) -> Response {
    Service::local().respond(Request::new("GET", path))
}

#[test]
fn files_are_sent_whole() {
    for (path, content_type, body) in FILES {
        for method in ["GET", "HEAD"] {
            let response = Service::local().respond(Request::new(method, path));
            assert_eq!((response.status, header(&response, "content-type")), (200, Some(content_type)), "{path}");
            assert_eq!(response.body, body.as_bytes(), "{path}");
            assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"), "{path}");
        }
        assert_eq!(Service::local().respond(Request::new("POST", path)).status, 405, "{path}");
    }
}

#[test]
fn the_page_stays_small_and_needs_no_other_host() {
    let page: usize = FILES.iter().filter(|(path, ..)| *path != "/client.d.ts").map(|(.., body)| body.len()).sum();
    assert!(page < 40_000, "{page} bytes");
    for (path, _, body) in FILES {
        let links = body.matches("https://").count() - body.matches("https://HOST").count();
        assert!(links == 0 && !body.contains("http://"), "{path} names another host");
    }
}

#[test]
fn a_file_that_the_browser_has_is_not_sent_again() {
    for (path, ..) in FILES {
        let first = get(path);
        let tag = header(&first, "etag").expect("a tag");
        assert_eq!(header(&first, "cache-control"), Some("no-cache"), "{path}");
        let known = |tag: &str| Service::local().respond(Request::new("GET", path).with("If-None-Match", tag));
        for text in [tag, "*", &format!("W/{tag}"), &format!("\"other\", {tag}")] {
            let response = known(text);
            assert_eq!((response.status, response.body.len()), (304, 0), "{path} {text}");
            assert_eq!(header(&response, "etag"), Some(tag), "{path}");
        }
        assert_eq!(known("\"other\"").status, 200, "{path}");
        assert_eq!(FILES.iter().filter(|(path, ..)| header(&get(path), "etag") == Some(tag)).count(), 1, "{path}");
    }
}

#[test]
fn a_file_with_a_version_is_kept_for_long() {
    let forever = Some("public, max-age=31536000, immutable");
    assert_eq!(header(&get("/client.js?v=0.2.0"), "cache-control"), forever);
    assert_eq!(header(&get("/client.js?version=1"), "cache-control"), Some("no-cache"));
}

#[test]
fn pages_of_any_origin_may_import_the_client() {
    for (path, origin) in [("/client.js", Some("*")), ("/client.d.ts", Some("*")), ("/", None), ("/page.js", None)] {
        let response = get(path);
        assert_eq!(header(&response, "access-control-allow-origin"), origin, "{path}");
        assert_eq!(header(&response, "cross-origin-resource-policy"), origin.map(|_| "cross-origin"), "{path}");
    }
}

#[test]
fn the_policy_allows_the_pages_own_script_and_style_and_nothing_else() {
    let response = get("/");
    let policy = header(&response, "content-security-policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!(header(&response, "referrer-policy"), Some("no-referrer"));
    let page = FILES[0].2;
    assert!(!page.contains("<style") && !page.contains("style=") && !page.contains("onclick"), "the policy forbids it");
    assert_eq!(page.matches("<script").count(), page.matches("<script src=\"page.js\"").count());
}
