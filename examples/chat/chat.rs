//! A team chat, as an application has it in `src/handler.rs`: rooms, names that nobody can fake, and who is typing.
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
