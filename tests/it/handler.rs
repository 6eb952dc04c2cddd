//! The shipped handler, and the changes to it that the README shows. These are the only tests that a change of
//! `src/handler.rs` may fail.

use fanout_edge::{Connection, Message, Rejection};

#[path = "../../src/handler.rs"]
mod shipped;

use self::shipped::on_websocket;
use crate::{
    service::{ACCEPTED, Handler, Request, Service, is, subscribed},
    support::{NOW, local_signature},
};

fn batch(query: &str, body: impl AsRef<[u8]>) -> Request {
    Request::new("POST", &format!("/api/websocket{query}"))
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", "application/websocket-events")
        .with("Connection-Id", "c1")
        .with_body(body)
}

#[track_caller]
fn echoes(query: &str, body: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
    is(&Service::local().with_handler(on_websocket).respond(batch(query, body)), 200, expected);
}

#[test]
fn echo_accepts_and_subscribes_an_opening_connection() {
    echoes("", "OPEN\r\n", format!("{ACCEPTED}{}", subscribed("test")));
    echoes("?channel=a&channel=b", "OPEN\r\n", format!("{ACCEPTED}{}{}", subscribed("a"), subscribed("b")));
}

#[test]
fn echo_sends_each_message_back() {
    echoes(
        "",
        b"TEXT 2\r\nm1\r\nPING 2\r\npi\r\nBINARY 2\r\n\x00\xff\r\nTEXT\r\nCLOSE 2\r\n\x0f\xa0\r\n",
        b"TEXT 4\r\nm:m1\r\nPONG 2\r\npi\r\nBINARY 4\r\nm:\x00\xff\r\nTEXT 2\r\nm:\r\nCLOSE 2\r\n\x0f\xa0\r\n",
    );
    echoes("", "DISCONNECT\r\n", "");
    echoes("", "", "");
    echoes("?echo=off", "TEXT 2\r\nhi\r\n", "");
}

#[test]
fn echo_publishes_if_the_client_asks_for_it() {
    let mut service = Service::local().with_handler(on_websocket);
    for (query, sender) in [("?mode=publish", None), ("?mode=publish&echo=off", Some("c1"))] {
        is(&service.respond(batch(query, "TEXT 2\r\nhi\r\n")), 200, "");
        let items = service.take_items();
        assert_eq!(items[0]["formats"]["ws-message"]["content"], "hi");
        assert_eq!(items[0]["meta"]["sender"].as_str(), sender);
    }
}

/// The README's change: capitals, and the end at `bye`.
fn capitals(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    if connection.is_opening() {
        connection.accept();
    }
    while let Some(message) = connection.receive() {
        match message {
            Message::Text("bye") => connection.close(None),
            Message::Text(text) => connection.send(text.to_uppercase()),
            message => connection.send(message),
        }
    }
    Ok(())
}

#[test]
fn the_readme_shows_the_shipped_handler_and_a_change_that_works() {
    let readme = include_str!("../../README.md");
    let source = include_str!("../../src/handler.rs");
    let shipped = &source[source.find("pub fn on_websocket").expect("the handler")..];
    assert!(readme.contains(shipped), "the README shows another handler than src/handler.rs has");
    let own = include_str!("handler.rs");
    for line in [
        "Message::Text(\"bye\") => connection.close(None),",
        "Message::Text(text) => connection.send(text.to_uppercase()),",
    ] {
        assert!(readme.contains(line) && own.contains(line), "{line}");
    }
    let changed: Handler = capitals;
    let mut service = Service::local().with_handler(changed);
    is(
        &service.respond(batch("", "TEXT 2\r\nhi\r\nTEXT 3\r\nbye\r\nTEXT 1\r\nx\r\n")),
        200,
        "TEXT 4\r\nm:HI\r\nCLOSE\r\n",
    );
}
