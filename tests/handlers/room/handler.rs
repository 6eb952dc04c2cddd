use fanout_edge::{Connection, Message, Rejection};

/// A room whose messages have a name.
pub fn on_websocket(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    let Some(user) = connection.user() else { return Err(Rejection::new(401, "Sign in")) };
    let room = connection.channels().first();
    if connection.is_opening() {
        connection.accept();
        connection.subscribe(room)?;
    }
    while let Some(message) = connection.receive() {
        match message {
            Message::Text("/help") => connection.send("Say something"),
            Message::Text(text) => {
                connection.publish(room, format!("{user}: {text}"))?;
            }
            // A close that the function does not answer is answered without it.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
