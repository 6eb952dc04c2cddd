//! The service with the chat in place of the shipped handler.

mod chat;

fn main() {
    fanout_edge::serve(chat::on_websocket);
}
