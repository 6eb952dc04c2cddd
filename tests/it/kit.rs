//! The kit of `fanout_edge::testing`, with the handlers of `tests/handlers`: what a test of an application sees.

use fanout_edge::{
    Connection, Message, Rejection, Service,
    http::{Request, Response},
    testing::{Client, Test},
};

use crate::handlers::{ask, chat, game, mirror, toolbox};

#[test]
fn a_chat_names_its_speakers() {
    let mut alice = Test::new(chat).user("alice").connect("?channel=chat");
    assert_eq!(alice.subscriptions(), ["chat"]);
    assert_eq!(alice.received(), ["Welcome, alice"]);
    let published = alice.published();
    assert_eq!(published, [("chat", "alice joined")]);
    assert!(published[0].to_others);

    alice.send_all(["/typing", "hello", ""]);
    let published = alice.published();
    assert_eq!(published, [("chat", "alice is typing"), ("chat", "alice: hello"), ("chat", "alice: ")]);
    assert_eq!(published.iter().map(|message| message.to_others).collect::<Vec<_>>(), [true, false, false]);
    alice.send(&b"x"[..]);
    assert_eq!(alice.closed(), Some((Some(1003), "text only")));

    for end in [|client: &mut Client<'_>| client.close(1000, ""), |client: &mut Client<'_>| client.disconnect()] {
        let mut alice = Test::new(chat).user("alice").connect("?channel=chat");
        alice.published();
        end(&mut alice);
        assert_eq!(alice.published(), [("chat", "alice left")]);
        assert!(!alice.is_open());
    }

    // A token without a user, and a service without tokens.
    for mut stranger in [Test::new(chat).claim("plan", "pro").connect(""), Test::new(chat).connect("")] {
        assert_eq!(stranger.rejected(), Some((401, "Sign in to chat")));
        assert_eq!(stranger.log(), ["the handler rejected a client with status 401"]);
    }
}

#[test]
fn a_backend_says_who_may_enter() {
    let asks = |status: u16, text: &'static str| {
        let respond = move |request: Request<Vec<u8>>| {
            assert_eq!(request.uri().to_string(), "http://rooms.example/may-enter?room=blue");
            assert_eq!(request.headers()["authorization"], "Basic YTpi");
            Response::builder().status(status).body(text.into()).expect("a response")
        };
        Test::new(ask).header("authorization", "Basic YTpi").backend("rooms", respond).connect("?channel=blue")
    };
    assert_eq!(asks(200, "").subscriptions(), ["blue"]);
    assert_eq!(asks(403, "The room is full").rejected(), Some((403, "The room is full")));
    let down = Test::new(ask).backend_fails("rooms").connect("");
    assert_eq!(down.rejected(), Some((502, "The backend `rooms` could not be reached: try again later")));
    let alone = Test::new(ask).connect("");
    assert_eq!(alone.rejected(), Some((503, "The backend `rooms` does not exist: add it to the service")));
}

#[test]
fn a_game_remembers_the_level_of_its_members() {
    let player = |plan: &str, query: &str| {
        Test::new(game).claim("plan", plan).header("sec-websocket-protocol", "game.v2, game.v1").connect(query)
    };
    let mut member = player("member", "?level=hard");
    assert_eq!((member.protocol(), member.state::<String>("level").as_deref()), (Some("game.v1"), Some("hard")));
    member.send("level?");
    assert_eq!(member.received(), ["hard"]);
    assert_eq!(
        player("guest", "?level=hard").rejected(),
        Some((403, "For members only: see https://example.com/join"))
    );
    assert_eq!(player("member", "").rejected(), Some((400, "Invalid level: use level=easy or level=hard")));
}

#[test]
fn a_test_sees_what_a_handler_does() {
    let test = Test::new(toolbox).setting("GREETING", "hello").secret("API_KEY", "s3cret");
    let test = test.header("Fanout-Client", "192.0.2.9").header("Meta-State-X", "\"forged\"");
    let mut client = test.address([192, 0, 2, 7].into()).connect("");
    assert_eq!(client.heartbeat(), 30);
    client.send_all([
        "heartbeat 10",
        "subscribe a",
        "subscribe b",
        "unsubscribe a",
        "remember x 5",
        "publish-bytes room",
    ]);
    assert_eq!((client.heartbeat(), client.subscriptions(), client.state("x")), (10, vec!["b"], Some("5".to_owned())));
    assert_eq!(client.published(), [("room", &[0xff, 0x00][..])]);
    client.send_all(["recall x", "setting GREETING", "setting NONE", "secret API_KEY", "address", "close-others room"]);
    let expected = ["x=Some(\"5\")", "GREETING=Some(\"hello\")", "NONE=None", "API_KEY=s3cret", "Some(192.0.2.7)"];
    assert_eq!(client.received(), expected);
    let closed = client.closed_others();
    assert_eq!((&*closed[0].channel, closed[0].code, &*closed[0].reason), ("room", 1001, "room closed"));
    client.send("reject 403");
    assert_eq!(client.closed(), Some((Some(1008), "as you wish")));
}

#[test]
fn envelopes_are_not_in_sight() {
    let mut client = Test::new(mirror).user("alice").connect("?format=json&channel=a");
    assert_eq!((client.heartbeat(), client.subscriptions()), (25, vec!["a"]));
    client.send_all(["hi", "\u{1f600}"]);
    client.send(&b"\xff"[..]);
    let received = client.received();
    assert_eq!(received[..2], ["hi", "\u{1f600}"]);
    assert_eq!(received[2..], [&b"\xff"[..]]);
}

#[test]
fn a_message_to_a_user_is_named_by_the_user() {
    let mut client = Test::new(|connection| {
        connection.accept();
        connection.publish_to_user("bob", "hi")?;
        Ok(())
    })
    .connect("");
    let published = client.published();
    assert_eq!(published, [("user:bob", "hi")]);
    assert_ne!(published, [("user:alice", "hi")]);
}

#[test]
fn a_proxy_that_accepts_nothing_closes_the_connection() {
    let mut client = Test::new(mirror).connect("?mode=publish");
    client.send("hi");
    assert_eq!(client.published(), [("test", "hi")]);
    let mut client = client.with(|test| test.proxy_fails());
    client.send("hi");
    let (code, reason) = client.closed().expect("it is closed");
    assert_eq!(code, Some(1011));
    assert!(reason.starts_with("The message is probably not published"), "{reason}");
    assert!(client.published().is_empty());
}

#[test]
fn a_broadcast_is_tested_with_its_own_function() {
    let service = || {
        Service::new(mirror).on_broadcast(|broadcast| match broadcast.sender() {
            Some("troll") => Err(Rejection::new(403, "Not you")),
            _ => Ok(()),
        })
    };
    let mut alice = Test::of(service()).user("alice");
    let id = alice.broadcast("?channel=room1", "hi").expect("it passes");
    assert_eq!(id.len(), 36);
    assert_eq!(alice.published(), [("room1", "hi")]);
    let mut server = Test::of(Service::new(mirror).on_broadcast(|broadcast| {
        if broadcast.is_operator() { Ok(()) } else { Err(Rejection::new(403, "Only servers")) }
    }))
    .operator();
    assert!(server.broadcast("", "hi").is_ok());
    let mut troll = Test::of(service()).user("troll");
    assert_eq!(troll.broadcast("?channel=room1", "hi"), Err((403, "Not you".to_owned())));
    assert!(troll.published().is_empty());
    let mut reader = Test::of(service()).claim("x-fastly-write", Vec::<String>::new());
    assert!(reader.broadcast("", "hi").is_err_and(|(status, _)| status == 403));
}

#[test]
fn it_shows_what_became_of_each_message() {
    fn score(connection: &mut Connection<'_>) -> Result<(), Rejection> {
        if connection.is_opening() {
            connection.accept();
        }
        while let Some(message) = connection.receive() {
            match message {
                Message::Text("no") => connection.refuse("Too low"),
                Message::Text(points) => {
                    let points: u32 = points.parse().map_err(|_| Rejection::new(400, "Send points"))?;
                    connection.ack(&(points * 2))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
    let mut client = Test::new(score).connect("format=json");
    client.send_all(["7", "no", "x", "8"]);
    let expected = [Ok(Some(14.into())), Err("Too low".to_owned()), Err("Send points".to_owned()), Ok(Some(16.into()))];
    assert_eq!(client.acknowledged(), expected);
    assert_eq!(client.acknowledged(), []);
    // A raw client asks for nothing.
    let mut client = Test::new(score).connect("");
    client.send("7");
    assert_eq!(client.acknowledged(), []);
}
