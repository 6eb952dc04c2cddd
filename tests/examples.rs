//! The examples that are programs of their own, as their readers run them.
#![cfg(not(target_os = "wasi"))]

#[path = "support/mod.rs"]
mod support;

use std::{env, io::Write, net::TcpStream, process::Command};

use support::{
    LOCAL_ISSUER, LOCAL_KEY,
    client::Client,
    http::{begins, free_port, is_open, send},
    process::{Process, Pushpin},
};
use tungstenite::Message;

#[test]
#[ignore = "needs Pushpin: make test"]
fn the_native_server_echoes_and_broadcasts_behind_pushpin() {
    echoes_and_broadcasts("native");
}

#[test]
#[ignore = "needs Pushpin: make test"]
fn the_axum_server_echoes_and_broadcasts_behind_pushpin() {
    echoes_and_broadcasts("axum");
}

fn echoes_and_broadcasts(example: &'static str) {
    let [port, pushpin_port, publish_port] = [free_port(), free_port(), free_port()];
    let folder = env::current_exe().expect("a path");
    let program = folder.parent().and_then(|deps| deps.parent()).expect("a folder").join("examples").join(example);
    let uri = format!("http://127.0.0.1:{publish_port}/?verify-iss={LOCAL_ISSUER}&verify-key=secret:{LOCAL_KEY}");
    let mut server = Process::start(example, Command::new(program).env("GRIP_URL", uri).env("PORT", port.to_string()));
    server.wait_until("it listens", |_| is_open(port));
    // A client that sends its body slowly keeps nobody else waiting.
    let mut slow = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    slow.write_all(b"POST /broadcast HTTP/1.1\r\nHost: slow\r\nContent-Length: 9\r\n\r\nfinally").expect("sent");
    let pushpin = Pushpin::start_on(port, [pushpin_port, publish_port], "/");
    let mut clients = [(); 2].map(|()| Client::connect_with(pushpin.port, "/", &[]));
    clients[0].echoes("hello");
    begins(&send(port, "POST /broadcast", &[], "to all"), 200, "Ok\n");
    for client in &mut clients {
        assert_eq!(client.next(), Message::text("to all"));
    }
    // What did not come through the proxy is rejected.
    let forged = [("Content-Type", "application/websocket-events"), ("Connection-Id", "c1")];
    begins(&send(port, "POST /", &forged, "OPEN\r\n"), 403, "Only the proxy");
    begins(&send(port, "POST /broadcast", &[], b"\xff"), 400, "");
    slow.write_all(b" !").expect("sent");
    for client in &mut clients {
        assert_eq!(client.next(), Message::text("finally !"));
    }
}
