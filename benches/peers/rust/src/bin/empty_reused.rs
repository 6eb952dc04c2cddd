//! Responds with status 200, in sandboxes that are reused.

use fastly::{Request, Response, http::serve::Serve};

fn main() {
    Serve::new().run(|_request: Request| Response::from_status(200));
}
