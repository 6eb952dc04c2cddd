//! What happens on a WebSocket. This is the place for logic of your own.

use super::websocket::Options;
use crate::grip::{Message, WebSocket};

/// Subscribes a client that connects to its channels, and sends back what it says. What it wants to be published is
/// returned.
pub fn echo<'a>(ws: &mut WebSocket<'a>, options: &Options) -> Vec<Message<'a>> {
    let mut published = Vec::new();
    if ws.is_opening() {
        ws.accept();
        options.subscribe(ws);
    }
    while let Some(message) = ws.receive() {
        match message {
            Message::Close(code) => ws.close(code),
            Message::Disconnect => {}
            message if options.publishes => published.push(message),
            Message::Text(text) if options.echoes => ws.send_text(text),
            Message::Binary(bytes) if options.echoes => ws.send_binary(bytes),
            Message::Text(_) | Message::Binary(_) => {}
        }
    }
    published
}
