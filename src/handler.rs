//! Your code: what happens on a WebSocket.

use fanout_edge::{Connection, Message, Mode, Rejection};

/// Accepts a client, subscribes it to its channels, and sends its messages back (or publishes them, with `?mode=publish`).
pub fn on_websocket(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    if connection.is_opening() {
        connection.accept();
        for channel in connection.channels() {
            connection.subscribe(channel)?;
        }
    }
    while let Some(message) = connection.receive() {
        match message {
            Message::Close(code) => connection.close(code),
            Message::Disconnect => {}
            message => match connection.mode() {
                Mode::Echo => connection.send(message),
                Mode::Listen => {}
                Mode::Publish | Mode::PublishToOthers => connection.relay(message)?,
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fanout_edge::testing::Test;

    use super::on_websocket;

    #[test]
    fn a_client_gets_its_messages_back() {
        let mut client = Test::new(on_websocket).connect("");
        assert_eq!(client.subscriptions(), ["test"]);
        client.send_all(["hello", ""]);
        assert_eq!(client.received(), ["hello", ""]);
        client.send(&b"\x00\xff"[..]);
        assert_eq!(client.received(), [&b"\x00\xff"[..]]);
        client.close(4000, "bye");
        assert_eq!(client.closed(), Some((Some(4000), "")));
    }

    #[test]
    fn a_client_names_its_channels_and_may_only_listen() {
        let mut client = Test::new(on_websocket).connect("?channel=a&channel=b&echo=off");
        assert_eq!(client.subscriptions(), ["a", "b"]);
        client.send("hello");
        assert!(client.received().is_empty() && client.published().is_empty());
        client.disconnect();
        assert!(!client.is_open());
    }

    #[test]
    fn a_client_may_publish_to_its_channels() {
        let mut client = Test::new(on_websocket).connect("?channel=a&channel=b&mode=publish");
        client.send("hello");
        let published = client.published();
        assert_eq!(published, [("a", "hello"), ("b", "hello")]);
        assert!(published.iter().all(|message| !message.to_others));
        let mut client = Test::new(on_websocket).connect("?channel=a&mode=publish&echo=off");
        client.send("hello");
        assert!(client.published()[0].to_others);
        assert!(client.received().is_empty());
    }
}
