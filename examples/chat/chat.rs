//! A team chat, as an application has it in `src/app/echo.rs`: rooms, names that nobody can fake, and who is typing.
//!
//! A client connects with `?format=json&channel=ROOM`, so each message that it gets has the room and, in `from`, the verified user.

use fanout_edge::{
    app::{connection::Connection, error::Error},
    grip::{CloseCode, Message},
};

/// The longest text, in bytes.
const LONGEST: usize = 2000;

pub fn chat(connection: &mut Connection<'_>) -> Result<(), Error> {
    if connection.user().is_none() {
        return Err(Error::reject(401, "Sign in to chat"));
    }
    let room = connection.channels().first().as_str();
    if connection.is_opening() {
        connection.accept();
        connection.subscribe(room)?;
        connection.publish_to_others(room, "/joined")?;
    }
    while let Some(message) = connection.receive() {
        match message {
            Message::Text("/typing") => connection.publish_to_others(room, "/typing")?,
            // Only the service says this.
            Message::Text("/joined" | "/left") => {}
            Message::Text(text) if text.len() > LONGEST => {
                connection.close_with_reason(CloseCode::TOO_BIG, "send at most 2000 bytes at once");
            }
            Message::Text(text) if connection.may_publish(room) => connection.publish(room, text)?,
            Message::Text(_) => connection.send("You may only read in this room"),
            Message::Binary(_) => connection.close_with_reason(CloseCode::UNSUPPORTED_DATA, "text only"),
            Message::Close(code) => {
                connection.close(code);
                connection.publish(room, "/left")?;
            }
            Message::Disconnect => connection.publish(room, "/left")?,
        }
    }
    Ok(())
}
