//! The service with the handlers of the tests in place of the shipped one.

mod handlers;

fn main() {
    fanout_edge::serve(handlers::choose);
}
