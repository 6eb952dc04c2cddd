//! Responds with status 200, in a new sandbox for each request.

use fastly::{Request, Response};

fn main() {
    let _request = Request::from_client();
    Response::from_status(200).send_to_client();
}
