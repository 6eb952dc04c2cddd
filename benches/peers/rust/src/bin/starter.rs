//! What Fastly's starter kit for Fanout does with a WebSocket, written anew: it checks no signature, subscribes an opening
//! connection and sends everything back as it came, in a new sandbox for each request.

use fastly::{Request, Response};

fn main() {
    let mut request = Request::from_client();
    if request.get_path() != "/api/websocket" {
        Response::from_status(404).with_body("not found\n").send_to_client();
        return;
    }
    if request.get_header("grip-sig").is_none() {
        let _ = request.handoff_fanout("self");
        return;
    }
    let body = request.take_body_bytes();
    let mut response = Response::from_status(200)
        .with_header("content-type", "application/websocket-events")
        .with_header("sec-websocket-extensions", "grip; message-prefix=\"\"");
    if body.starts_with(b"OPEN\r\n") {
        let subscribe = r#"c:{"type":"subscribe","channel":"test"}"#;
        response.set_body(format!("OPEN\r\nTEXT {:x}\r\n{subscribe}\r\n", subscribe.len()));
    } else {
        response.set_body(body);
    }
    response.send_to_client();
}
