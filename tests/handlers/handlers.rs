//! Whole handlers, as applications have them in `src/handler.rs`.
#![allow(dead_code, reason = "each test uses its part")]

use fanout_edge::{CloseCode, Connection, Message, Mode, Rejection, http};
use serde_json::Value;

/// A chat room: it names its speakers, who are known by their token, tells the others who is typing, and welcomes.
pub fn chat(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    let Some(user) = connection.user() else { return Err(Rejection::new(401, "Sign in to chat")) };
    if connection.is_opening() {
        connection.accept();
        connection.subscribe("chat")?;
        connection.send(format!("Welcome, {user}"));
        connection.publish_to_others("chat", format!("{user} joined"))?;
    }
    while let Some(message) = connection.receive() {
        match message {
            Message::Text("/typing") => {
                connection.publish_to_others("chat", format!("{user} is typing"))?;
            }
            Message::Text(text) => {
                connection.publish("chat", format!("{user}: {text}"))?;
            }
            Message::Binary(_) => connection.close_with_reason(CloseCode::UNSUPPORTED_DATA, "text only"),
            Message::Close(code) => {
                connection.close(code);
                connection.publish("chat", format!("{user} left"))?;
            }
            Message::Disconnect => {
                connection.publish("chat", format!("{user} left"))?;
            }
        }
    }
    Ok(())
}

/// A room: a backend of its own decides who enters, and gives the reason otherwise.
pub fn ask(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    if connection.is_opening() {
        // A channel name has no characters that mean something in a URL.
        let room = connection.channels().first();
        let request = http::Request::get(format!("http://rooms.example/may-enter?room={room}"))
            .header("authorization", connection.header("authorization").unwrap_or_default())
            .body(Vec::new())?;
        let response = connection.fetch("rooms", request)?;
        if response.status() != 200 {
            return Err(Rejection::new(403, String::from_utf8_lossy(response.body())));
        }
        connection.accept();
        connection.subscribe(room)?;
    }
    while let Some(message) = connection.receive() {
        connection.send(message);
    }
    Ok(())
}

/// A game for members: it rejects all others, and members who ask for a level that it does not have.
pub fn game(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    if connection.is_opening() {
        if connection.claim("plan").and_then(Value::as_str) != Some("member") {
            return Err(Rejection::new(403, "For members only: see https://example.com/join"));
        }
        let level = match connection.query("level").as_deref() {
            Some("easy") => "easy",
            Some("hard") => "hard",
            _ => return Err(Rejection::new(400, "Invalid level: use level=easy or level=hard")),
        };
        connection.accept_with_protocol("game.v1")?;
        connection.set_state("level", level)?;
    }
    while let Some(message) = connection.receive() {
        match message {
            Message::Text("level?") => {
                let level: String = connection.state("level").unwrap_or_default();
                connection.send(level);
            }
            message => connection.send(message),
        }
    }
    Ok(())
}

/// Does one thing for each text that it gets.
pub fn toolbox(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    if connection.is_opening() {
        connection.accept();
    }
    while let Some(message) = connection.receive() {
        let Message::Text(text) = message else {
            if let Message::Close(_) = message {
                connection.set_state("reason", connection.close_reason())?;
            }
            connection.send(message);
            continue;
        };
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["subscribe", channel] => connection.subscribe(channel)?,
            ["unsubscribe", channel] => connection.unsubscribe(channel)?,
            ["publish", channel, text] => {
                let id = connection.publish(channel, text)?;
                connection.set_state("published", id)?;
            }
            ["publish-bytes", channel] => {
                connection.publish(channel, vec![0xff, 0x00])?;
            }
            ["close-others", channel] => connection.close_others(channel, CloseCode::GOING_AWAY, "room closed")?,
            ["remember", name, value] => connection.set_state(name, value)?,
            ["recall", name] => connection.send(format!("{name}={:?}", connection.state::<String>(name))),
            ["forget", name] => connection.set_state(name, ())?,
            ["setting", name] => {
                let value = connection.setting(name)?;
                connection.send(format!("{name}={value:?}"));
            }
            ["secret", name] => {
                let value = connection.secret(name)?;
                connection.send(format!("{name}={value}"));
            }
            ["address"] => connection.send(format!("{:?}", connection.address())),
            ["header", name] => connection.send(format!("{:?}", connection.header(name))),
            ["fetch", url] => {
                let response = connection.fetch("rooms", http::Request::get(url).body(Vec::new())?)?;
                connection.send(response.status().to_string());
            }
            ["heartbeat", seconds] => connection.heartbeat(seconds.parse().unwrap_or_default()),
            ["reject", status] => return Err(Rejection::new(status.parse().unwrap_or_default(), "as you wish")),
            _ => connection.send(format!("{} does not know this", connection.id())),
        }
    }
    Ok(())
}

/// The handler of tests that are not about handlers: so a change of the shipped one fails only its own tests.
pub fn mirror(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    if connection.is_opening() {
        connection.accept();
        for channel in connection.channels() {
            connection.subscribe(channel)?;
        }
    }
    while let Some(message) = connection.receive() {
        match (message, connection.mode()) {
            (Message::Close(_) | Message::Disconnect, _) | (_, Mode::Echo) => connection.send(message),
            (_, Mode::Listen) => {}
            (_, Mode::Publish | Mode::PublishToOthers) => connection.relay(message)?,
        }
    }
    Ok(())
}

/// Does what the handler that the query names does: `?handler=chat`.
pub fn choose(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    match connection.query("handler").as_deref() {
        Some("chat") => chat(connection),
        Some("ask") => ask(connection),
        Some("game") => game(connection),
        Some("toolbox") => toolbox(connection),
        _ => mirror(connection),
    }
}
