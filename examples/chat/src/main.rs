//! A team chat at the edge.

mod handler;

fn main() {
    fanout_edge::serve(handler::on_websocket);
}
