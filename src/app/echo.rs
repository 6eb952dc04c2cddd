//! What happens on a WebSocket. This is the place for logic of your own.

use super::CHANNEL;
use crate::grip::{Message, WebSocket};

/// Subscribes a client that connects to [`CHANNEL`], and sends back what it says.
pub fn echo(ws: &mut WebSocket<'_>) {
    if ws.is_opening() {
        ws.accept();
        ws.subscribe(&CHANNEL);
    }
    while let Some(message) = ws.receive() {
        match message {
            Message::Text(text) => ws.send_text(text),
            Message::Binary(bytes) => ws.send_binary(bytes),
            Message::Close(code) => ws.close(code),
            Message::Disconnect => {}
        }
    }
}
