//! What an application does with a broadcast over HTTP: it lets it pass, changes it, or rejects it.

use fanout_edge::{Broadcast, Rejection};
use serde_json::{Value, json};

use crate::{
    service::{Request, Service, header, is, settings},
    support::{LOCAL_GRIP_URL, NOW, access_token},
};

const SECRET: &str = "a secret for access tokens of the tests";

fn guarded() -> Service {
    let key = format!("secret:{SECRET}");
    Service::new(settings(&[("GRIP_URL", LOCAL_GRIP_URL), ("ACCESS_KEY", &key)]))
}

fn broadcast(query: &str, claims: &Value) -> Request {
    let token = access_token(SECRET, NOW + 60, &claims.to_string());
    Request::new("POST", &format!("/api/broadcast{query}"))
        .with("Content-Type", "text/plain")
        .with("Authorization", format!("Bearer {token}"))
        .with_body("hi")
}

/// Says in the message what it sees.
fn tell(broadcast: &mut Broadcast<'_>) -> Result<(), Rejection> {
    let seen = format!(
        "{:?} {:?} {:?} {:?} {:?} {}",
        broadcast.channel(),
        broadcast.user(),
        broadcast.text(),
        broadcast.sender(),
        broadcast.claim("role").and_then(Value::as_str),
        broadcast.is_operator()
    );
    broadcast.set_content(seen);
    Ok(())
}

#[track_caller]
fn tells(service: &mut Service, request: Request, expected: &str) {
    is(&service.respond(request), 200, "Ok\n");
    assert_eq!(service.take_items()[0]["formats"]["ws-message"]["content"], expected);
}

#[test]
fn it_sees_where_a_message_goes_what_it_says_and_who_sends_it() {
    let mut service = guarded().with_check(tell);
    let alice = json!({ "sub": "alice", "role": "admin", "x-fastly-write": ["*", "user:*"] });
    tells(
        &mut service,
        broadcast("?channel=room", &alice),
        r#"Some("room") None Some("hi") Some("alice") Some("admin") false"#,
    );
    tells(
        &mut service,
        broadcast("?user=bob", &alice),
        r#"None Some("bob") Some("hi") Some("alice") Some("admin") false"#,
    );
    service.host.fastly_key = Some("key");
    let operator = Request::new("POST", "/api/broadcast")
        .with("Content-Type", "application/octet-stream")
        .with("Fastly-Key", "key")
        .with_body(b"\xff");
    tells(&mut service, operator, r#"Some("test") None None None None true"#);
    let anybody = Request::new("POST", "/api/broadcast").with("Content-Type", "text/plain").with_body("hi");
    tells(&mut Service::local().with_check(tell), anybody, r#"Some("test") None Some("hi") None None false"#);
}

#[test]
fn what_it_rejects_is_neither_published_nor_counted() {
    let mut service = guarded().with_check(|broadcast| match broadcast.text() {
        Some("hi") => Err(Rejection::new(422, "Say something new")),
        _ => Ok(()),
    });
    let writer = json!({ "x-fastly-write": ["*"] });
    let response = service.respond(broadcast("", &writer));
    is(&response, 422, "Say something new\n");
    assert_eq!(header(&response, "message-id"), None);
    assert_eq!((service.take_published().len(), service.host.counted.iter().filter(|(.., n)| *n > 0).count()), (0, 0));
    is(&service.respond(broadcast("", &writer).with_body("news")), 200, "Ok\n");
}

#[test]
fn it_is_asked_only_for_what_is_authorized_and_valid() {
    let mut service = guarded().with_check(|_| Err(Rejection::new(500, "asked")));
    is(
        &service.respond(broadcast("", &json!({}))),
        403,
        "The access token does not allow publishing to `test` (claim x-fastly-write)\n",
    );
    let writer = json!({ "x-fastly-write": ["*"] });
    assert_eq!(service.respond(broadcast("", &writer).with_body(b"\xff")).status, 400);
    is(&service.respond(broadcast("", &writer)), 500, "asked\n");
}

#[test]
fn what_it_makes_too_large_is_rejected() {
    let mut service = guarded().with_check(|broadcast| {
        broadcast.set_content("x".repeat(64_001));
        Ok(())
    });
    is(
        &service.respond(broadcast("", &json!({ "x-fastly-write": ["*"] }))),
        413,
        "Message too large: at most 64000 bytes like these can be published, send less\n",
    );
    assert_eq!(service.take_published().len(), 0);
}

#[test]
fn a_retry_of_what_it_changes_arrives_once() {
    let mut service = guarded().with_check(|broadcast| {
        let shout = broadcast.text().map(str::to_uppercase);
        broadcast.set_content(shout.unwrap_or_default());
        Ok(())
    });
    let writer = json!({ "x-fastly-write": ["*"] });
    let first = service.respond(broadcast("", &writer));
    let id = header(&first, "message-id").expect("an id").to_owned();
    let second = service.respond(broadcast(&format!("?id={id}"), &writer));
    assert_eq!(header(&second, "message-id"), Some(&*id));
    assert!(service.take_items().iter().all(|item| item["id"] == *id));
}
