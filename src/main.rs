//! The service, as a program for Fastly Compute.

mod handler;

fn main() {
    fanout_edge::serve(handler::on_websocket);
}
