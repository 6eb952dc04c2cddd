//! A team chat: rooms, names that nobody can fake, and who is typing.
//!
//! A client connects with `?format=json&channel=ROOM`, so each message that it gets has the room and, in `from`, the verified user.

use fanout_edge::{CloseCode, Connection, Message, Rejection};

/// The longest text, in bytes.
const LONGEST: usize = 2000;

/// A client whose token has the claim `speaks` says something to its room. It has no right to publish, so that nothing goes past
/// this function: see "What goes past it" in docs/handler.md.
pub fn on_websocket(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    if connection.user().is_none() {
        return Err(Rejection::new(401, "Sign in to chat"));
    }
    let room = connection.channels().first();
    // Not in HISTORY: who comes back is not told who was typing.
    let typing = format!("typing-{room}");
    // Guests read, and nobody hears of them.
    let speaks = connection.claim("speaks").is_some_and(|speaks| *speaks == true);
    if connection.is_opening() {
        connection.accept();
        connection.subscribe(room)?;
        connection.subscribe(&typing)?;
        if speaks {
            connection.publish_to_others(room, "/joined")?;
        }
    }
    while let Some(message) = connection.receive() {
        match message {
            Message::Text("/joined" | "/left") => connection.send("Only the service says this"),
            Message::Text("") => {}
            Message::Text("/typing") if !speaks => {}
            Message::Text(_) if !speaks => connection.send("You may only read in this room"),
            Message::Text("/typing") => {
                connection.publish_to_others(&typing, "/typing")?;
            }
            Message::Text(text) if text.len() > LONGEST => {
                connection.send(format!("Too long: at most {LONGEST} bytes"));
            }
            Message::Text(text) => {
                connection.publish(room, text)?;
            }
            Message::Binary(_) => connection.close_with_reason(CloseCode::UNSUPPORTED_DATA, "text only"),
            end @ (Message::Close(_) | Message::Disconnect) => {
                if let Message::Close(code) = end {
                    connection.close(code);
                }
                if speaks {
                    connection.publish(room, "/left")?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fanout_edge::testing::{Client, Test};

    use super::{LONGEST, on_websocket};

    /// A client that is authorized to speak, in a room.
    fn alice() -> Client<'static> {
        Test::new(on_websocket).user("alice").claim("speaks", true).connect("?format=json&channel=room-dev")
    }

    #[test]
    fn only_who_has_a_name_enters() {
        let stranger = Test::new(on_websocket).claim("speaks", true).connect("?channel=room-dev");
        assert_eq!(stranger.rejected(), Some((401, "Sign in to chat")));
        let mut alice = alice();
        assert_eq!(alice.subscriptions(), ["room-dev", "typing-room-dev"]);
        let published = alice.published();
        assert_eq!(published, [("room-dev", "/joined")]);
        assert!(published[0].to_others);
    }

    #[test]
    fn what_is_said_goes_to_the_room() {
        let mut alice = alice();
        alice.published();
        alice.send_all(["/typing", "hello", ""]);
        assert_eq!(alice.published(), [("typing-room-dev", "/typing"), ("room-dev", "hello")]);
        alice.send("/left");
        assert_eq!(alice.received(), ["Only the service says this"]);
        alice.send("x".repeat(LONGEST + 1));
        assert_eq!(alice.received(), ["Too long: at most 2000 bytes"]);
        assert!(alice.published().is_empty());
    }

    #[test]
    fn the_room_hears_who_leaves() {
        let mut closes = alice();
        closes.published();
        closes.close(1000, "");
        assert_eq!(closes.published(), [("room-dev", "/left")]);
        assert_eq!(closes.closed(), Some((Some(1000), "")));
        let mut breaks = alice();
        breaks.published();
        breaks.disconnect();
        assert_eq!(breaks.published(), [("room-dev", "/left")]);
        let mut sends_bytes = alice();
        sends_bytes.send(&b"\xff"[..]);
        assert_eq!(sends_bytes.closed(), Some((Some(1003), "text only")));
    }

    #[test]
    fn guests_read_and_nobody_hears_of_them() {
        let mut guest = Test::new(on_websocket).user("guest1").connect("?channel=room-dev");
        guest.send_all(["hello", "/typing"]);
        assert_eq!(guest.received(), ["You may only read in this room"]);
        guest.close(1000, "");
        assert!(guest.published().is_empty());
    }
}
