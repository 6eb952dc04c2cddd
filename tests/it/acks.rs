//! Acknowledgements: what a client is told that wants to know what became of its messages.

use fanout_edge::{
    CloseCode, Connection, Message, Rejection,
    app::{platform::StoreError, web::Response},
};
use serde_json::{Value, json};

use crate::{
    handlers::toolbox,
    service::{Handler, Request, Service, id, settings},
    support::{LOCAL_GRIP_URL, NOW, local_signature},
};

fn batch(query: &str, body: &str) -> Request {
    batch_of("c1", query, body)
}

/// A batch of a WebSocket.
fn batch_of(connection: &str, query: &str, body: &str) -> Request {
    Request::new("POST", &format!("/api/websocket?{query}"))
        .with("Grip-Sig", local_signature(NOW))
        .with("Content-Type", "application/websocket-events")
        .with("Connection-Id", connection)
        .with_body(body)
}

/// Messages in envelopes.
fn texts(messages: &[Value]) -> String {
    messages.iter().map(|message| frame(&message.to_string())).collect()
}

fn frame(text: &str) -> String {
    format!("TEXT {:x}\r\n{text}\r\n", text.len())
}

fn message(data: &str, reference: &str) -> Value {
    json!({ "type": "message", "data": data, "ref": reference })
}

fn ack(reference: &str) -> Value {
    json!({ "type": "ack", "ref": reference })
}

fn error(reference: &str, error: &str) -> Value {
    json!({ "type": "error", "ref": reference, "error": error })
}

/// The envelopes of a response that does not end the connection.
#[track_caller]
fn sent(response: &Response) -> Vec<Value> {
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert!(response.status == 200 && !body.contains("CLOSE "), "{body}");
    let texts = body.split("\r\n").filter_map(|line| line.strip_prefix("m:"));
    texts.map(|text| serde_json::from_str(text).expect("an envelope")).collect()
}

/// The same without the ids of published messages.
#[track_caller]
fn sent_by(handler: Handler, messages: &[Value]) -> Vec<Value> {
    let mut service = Service::local().with_handler(handler);
    let mut sent = sent(&service.respond(batch("format=json", &texts(messages))));
    sent.iter_mut().filter_map(Value::as_object_mut).for_each(|envelope| drop(envelope.remove("id")));
    sent
}

/// Publishes short texts, says how long they are, and refuses `no`.
fn picky(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    if connection.is_opening() {
        connection.accept();
    }
    while let Some(message) = connection.receive() {
        match message {
            Message::Text("no") => {
                connection.publish("room", "first")?;
                connection.refuse("Say yes");
            }
            Message::Text("fail") => {
                connection.publish("room", "lost")?;
                return Err(Rejection::new(422, "Unprocessable"));
            }
            Message::Text("panic?") => {
                let _: u32 = "x".parse()?;
            }
            Message::Text("close") => connection.close_with_reason(CloseCode::NORMAL, "bye"),
            Message::Text("long") => connection.ack(&"x".repeat(999))?,
            Message::Text("stop") => return Ok(()),
            Message::Text(text) => {
                connection.publish("room", text)?;
                connection.ack(&json!({ "length": text.len() }))?;
            }
            message => connection.send(message),
        }
    }
    Ok(())
}

#[test]
fn a_message_with_a_ref_is_acknowledged_once_the_handler_has_returned() {
    let echo = json!({ "type": "message", "data": "hi" });
    let mut service = Service::local();
    let body = texts(&[message("hi", "1"), echo.clone(), message("hi", "x".repeat(64).as_str())]);
    // What is not asked for is not sent.
    let expected = [echo.clone(), echo.clone(), echo, ack("1"), ack(&"x".repeat(64))];
    assert_eq!(sent(&service.respond(batch("format=json", &body))), expected);
    let bytes = json!({ "type": "message", "base64": "/wA=", "ref": "b" });
    let echo = json!({ "type": "message", "base64": "/wA=" });
    assert_eq!(sent(&service.respond(batch("format=json", &texts(&[bytes])))), [echo, ack("b")]);
    // On a raw WebSocket it is text like any other.
    let body = texts(&[message("hi", "1")]);
    let response = service.respond(batch("", &body));
    assert_eq!(String::from_utf8_lossy(&response.body), frame(&format!("m:{}", message("hi", "1"))));
    // When it opens, too.
    let opening = format!("OPEN\r\n{}", texts(&[message("hi", "1")]));
    assert_eq!(sent(&service.respond(batch("format=json", &opening))).last(), Some(&ack("1")));
}

#[test]
fn a_client_gets_a_sign_of_life() {
    assert_eq!(sent_by(toolbox, &[json!({ "type": "ping" })]), [json!({ "type": "pong" })]);
}

#[test]
fn a_ref_that_is_not_valid_is_an_error() {
    let invalid =
        r#"Invalid message: send {"type":"message","data":"TEXT"}, or {"type":"message","base64":"BYTES"}, as text"#;
    for wrong in
        [message("hi", ""), message("hi", &"x".repeat(65)), json!({ "type": "message", "data": "x", "ref": 1 })]
    {
        assert_eq!(sent_by(toolbox, &[wrong]), [json!({ "type": "error", "error": invalid })]);
    }
    // What is wrong elsewhere is told by its ref.
    for wrong in [
        json!({ "type": "message", "ref": "a" }),
        json!({ "type": "message", "base64": "!", "ref": "a" }),
        json!({ "type": "mesage", "data": "x", "ref": "a" }),
    ] {
        assert_eq!(sent_by(toolbox, &[wrong]), [error("a", invalid)]);
    }
}

#[test]
fn the_ack_has_the_id_of_what_the_handler_published_first() {
    let mut service = Service::local();
    let query = "format=json&mode=publish&echo=off&channel=a&channel=b";
    let acks = sent(&service.respond(batch(query, &texts(&[message("hi", "1"), message("ho", "2")]))));
    let items = service.take_items();
    let ids: Vec<_> = items.iter().step_by(2).map(|item| item["id"].clone()).collect();
    assert_eq!((acks[0]["id"].clone(), acks[1]["id"].clone()), (ids[0].clone(), ids[2].clone()));
    assert!(acks.len() == 2 && ids.len() == 4, "{acks:?}");
}

#[test]
fn a_ref_that_is_an_id_makes_the_retry_arrive_once() {
    let query = "format=json&mode=publish&echo=off&channel=a&channel=b";
    let reference = id(7).to_string();
    let mut seen = Vec::new();
    for connection in ["c1", "c2"] {
        // A retry comes on another connection, to another sandbox.
        let mut service = Service::local();
        let acks = sent(&service.respond(batch_of(connection, query, &texts(&[message("hi", &reference)]))));
        let items = service.take_items();
        let ids: Vec<_> = items.iter().step_by(2).map(|item| item["id"].as_str().expect("an id").to_owned()).collect();
        assert_eq!(acks, [json!({ "type": "ack", "ref": reference, "id": ids[0] })]);
        assert_eq!(ids[0][..24], reference[..24]);
        seen.push(ids);
    }
    assert_eq!(seen[0], seen[1]);
    // Each channel has an id of its own, and so has the same text twice.
    assert_ne!(seen[0][0], seen[0][1]);
    let twice = |connection: &mut Connection<'_>| {
        while connection.receive().is_some() {
            connection.publish("room", "same")?;
            connection.publish("room", "same")?;
        }
        Ok(())
    };
    let mut service = Service::local().with_handler(twice);
    sent(&service.respond(batch("format=json", &texts(&[message("hi", &reference)]))));
    let items = service.take_items();
    assert_ne!(items[0]["id"], items[2]["id"]);
    // An old one is a name like any other: the proxy has forgotten it.
    let old = "01800000-0000-7000-8000-000000000000";
    let acks = sent(&Service::local().respond(batch(query, &texts(&[message("hi", old)]))));
    assert_eq!(acks[0]["ref"], old);
    assert_ne!(acks[0]["id"].as_str().map(|id| &id[..24]), Some(&old[..24]));
}

#[test]
fn a_handler_acknowledges_with_a_value_or_refuses_one_message_and_goes_on() {
    let value =
        |reference: &str, length: usize| json!({ "type": "ack", "ref": reference, "value": { "length": length } });
    let messages = [message("one", "1"), message("no", "2"), message("three", "3")];
    assert_eq!(sent_by(picky, &messages), [value("1", 3), error("2", "Say yes"), value("3", 5)]);
    let mut service = Service::local().with_handler(picky);
    service.respond(batch("format=json", &texts(&messages)));
    let items = service.take_items();
    let published: Vec<_> = items.iter().step_by(2).map(|item| &item["formats"]["ws-message"]["content"]).collect();
    assert_eq!(published, ["one", "three"]);
    // A value is small.
    let too_long = "Invalid value of an acknowledgement: use at most 1000 bytes of JSON";
    assert_eq!(sent_by(picky, &[message("long", "1"), message("one", "2")]), [error("1", too_long), value("2", 3)]);
    // Without a ref there is nothing to acknowledge; a refusal is an error all the same.
    let plain = |data: &str| json!({ "type": "message", "data": data });
    assert_eq!(sent_by(picky, &[plain("one"), plain("no")]), [json!({ "type": "error", "error": "Say yes" })]);
    let raw = Service::local().with_handler(picky).respond(batch("", &frame("no")));
    assert_eq!((raw.status, &*raw.body), (200, &b""[..]));
}

#[test]
fn an_error_of_the_handler_concerns_the_message_that_it_handled() {
    let failed = "The handler failed: try again later, the log of the service says why";
    let messages = [message("one", "1"), message("fail", "2"), message("panic?", "3"), message("two", "4")];
    let mut service = Service::local().with_handler(picky);
    let response = service.respond(batch("format=json", &texts(&messages)));
    let kinds: Vec<_> =
        sent(&response).iter().map(|envelope| (envelope["ref"].clone(), envelope["error"].clone())).collect();
    let expected = [("1", Value::Null), ("2", json!("Unprocessable")), ("3", json!(failed)), ("4", Value::Null)];
    assert_eq!(kinds, expected.map(|(reference, error)| (json!(reference), error)));
    assert_eq!(response.log.as_deref(), Some("the handler failed: invalid digit found in string"));
    let items = service.take_items();
    let published: Vec<_> = items.iter().step_by(2).map(|item| &item["formats"]["ws-message"]["content"]).collect();
    assert_eq!(published, ["one", "two"]);
    // Without a ref it ends the connection, and nothing is published or acknowledged: the client sends it again.
    let messages = [message("one", "1"), json!({ "type": "message", "data": "fail" }), message("two", "2")];
    let response = service.respond(batch("format=json", &texts(&messages)));
    let body = String::from_utf8_lossy(&response.body);
    assert!(body.starts_with("CLOSE ") && body.contains("Unprocessable") && !body.contains("ack"), "{body}");
    assert!(service.take_items().is_empty());
}

#[test]
fn what_was_not_published_is_not_acknowledged() {
    let rejected = "The message is not published: the GRIP proxy rejected it with status 500";
    let mut service = Service::local().with_handler(picky);
    service.host.results.push_back(Ok(500));
    let response = service.respond(batch("format=json", &texts(&[message("one", "1"), message("no", "2")])));
    assert_eq!(sent(&response), [error("1", rejected), error("2", "Say yes")]);
    assert_eq!(response.log.as_deref(), Some(rejected));
    // What publishes nothing is not concerned.
    service.on_websocket = toolbox;
    service.host.results.push_back(Ok(500));
    let messages = [message("address", "1"), message("publish room hi", "2")];
    assert_eq!(sent(&service.respond(batch("format=json", &texts(&messages))))[1..], [ack("1"), error("2", rejected)]);
    // The end of other connections is published, too.
    service.host.results.push_back(Ok(500));
    let messages = [message("close-others room", "1")];
    assert_eq!(sent(&service.respond(batch("format=json", &texts(&messages)))), [error("1", rejected)]);
    // If something else is published in the same batch, the connection ends as before.
    service.host.results.push_back(Ok(500));
    let messages = [message("publish room hi", "1"), json!({ "type": "message", "data": "publish room ho" })];
    let response = service.respond(batch("format=json", &texts(&messages)));
    let body = String::from_utf8_lossy(&response.body);
    assert!(body.starts_with("CLOSE ") && !body.contains("ack"), "{body}");
}

#[test]
fn what_was_published_but_not_kept_is_told_by_its_ref() {
    let entries = [("GRIP_URL", LOCAL_GRIP_URL), ("config:HISTORY", "*")];
    let mut service = Service::new(settings(&entries)).with_handler(picky);
    service.host.store.fails_from = Some((1, StoreError::TooMany));
    let envelopes = sent(&service.respond(batch("format=json", &texts(&[message("one", "1")]))));
    assert!(envelopes.len() == 1 && envelopes[0]["error"].is_string(), "{envelopes:?}");
    let text = envelopes[0]["error"].as_str().expect("an error");
    assert!(envelopes[0]["ref"] == "1" && text.starts_with("The message is published, but not kept"), "{text}");
}

#[test]
fn what_the_handler_does_not_receive_is_not_acknowledged() {
    let skipped = "The handler did not receive this message: send it again";
    let messages = [message("one", "1"), message("stop", "2"), message("two", "3")];
    let envelopes = sent_by(picky, &messages);
    assert_eq!(envelopes[1..], [ack("2"), error("3", skipped)]);
    // A message that closes the connection was handled; nothing can be sent behind the close.
    let response = Service::local().with_handler(picky).respond(batch("format=json", &texts(&[message("close", "1")])));
    assert_eq!(String::from_utf8_lossy(&response.body), "CLOSE 5\r\n\u{3}\u{fffd}bye\r\n");
}

#[test]
fn too_many_messages_in_a_batch_are_refused_one_by_one() {
    let messages: Vec<_> = (0..300).map(|number| message(&format!("m{number}"), &format!("r{number}"))).collect();
    let envelopes = sent_by(picky, &messages);
    let acks = envelopes.iter().filter(|envelope| envelope["type"] == "ack").count();
    assert_eq!((acks, envelopes.len()), (200, 300));
    let text = envelopes[299]["error"].as_str().expect("an error");
    assert!(text.starts_with("Too much to publish at once"), "{text}");
}
