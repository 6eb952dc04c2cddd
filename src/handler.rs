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
