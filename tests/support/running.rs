//! The service with the real Viceroy and the real Pushpin, each of which can be stopped and started again.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    LOCAL_GRIP_URL, access_token,
    http::{free_port, send},
    process::{Pushpin, Viceroy, handlers_module},
};

pub const SECRET: &str = "a secret for access tokens of the tests";

/// Viceroy with the service, and Pushpin. Either can be stopped and started again.
pub struct Running {
    pub port: u16,
    pub pushpin_port: u16,
    pub publish_port: u16,
    pub viceroy: Option<Viceroy>,
    pub pushpin: Option<Pushpin>,
    pub token: String,
    settings: String,
}

impl Running {
    pub fn start() -> Self {
        let publish_port = free_port();
        Self::start_publishing_to(publish_port, publish_port)
    }

    /// Starts it with a history of all channels and users, which has begun.
    pub fn start_with_history() -> Self {
        let publish_port = free_port();
        let history = "[local_server.kv_stores]\nfanout_history = []\n[local_server.config_stores.fanout_config]\n\
                       format = \"inline-toml\"\n[local_server.config_stores.fanout_config.contents]\nHISTORY = \"* user:*\"\n";
        let service = Self::start_on(publish_port, publish_port, history);
        let bearer = service.bearer();
        let headers = [("Content-Type", "text/plain"), ("Authorization", &*bearer)];
        assert_eq!(send(service.port, "POST /api/broadcast?channel=first", &headers, "x").status(), 200);
        service
    }

    /// Starts it with the server on the port `publisher` as the publisher backend, in place of Pushpin.
    pub fn start_publishing_to(publisher: u16, publish_port: u16) -> Self {
        Self::start_on(publisher, publish_port, "")
    }

    fn start_on(publisher: u16, publish_port: u16, more: &str) -> Self {
        let [port, pushpin_port] = [free_port(), free_port()];
        let uri = LOCAL_GRIP_URL.replace("5561", &publisher.to_string());
        let settings = format!(
            "[local_server.backends.self]\nurl = \"http://127.0.0.1:{port}/\"\n\
             [local_server.backends.publisher]\nurl = \"http://127.0.0.1:{publisher}/\"\nfirst_byte_timeout_ms = 5000\n\
             [[local_server.secret_stores.fanout]]\nkey = \"GRIP_URL\"\ndata = \"{uri}\"\n\
             [[local_server.secret_stores.fanout]]\nkey = \"ACCESS_KEY\"\ndata = \"secret:{SECRET}\"\n{more}"
        );
        let token = access_token(SECRET, now() + 3600, r#"{"x-fastly-read":["*"],"x-fastly-write":["*"]}"#);
        let (viceroy, pushpin) = (None, None);
        let mut service = Self { port, pushpin_port, publish_port, viceroy, pushpin, token, settings };
        service.start_viceroy();
        service.start_pushpin();
        service
    }

    pub fn start_viceroy(&mut self) {
        self.viceroy = Some(Viceroy::serve(&handlers_module(), self.port, &self.settings, Some(self.pushpin_port)));
    }

    pub fn start_pushpin(&mut self) {
        let target = format!("/api/websocket?token={}", self.token);
        self.pushpin = Some(Pushpin::start_on(self.port, [self.pushpin_port, self.publish_port], &target));
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Returns the bytes of a broadcast request, for a persistent connection.
    pub fn broadcast(&self, channel: &str, text: &str) -> Vec<u8> {
        format!(
            "POST /api/broadcast?channel={channel} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
            self.bearer(),
            text.len()
        )
        .into_bytes()
    }
}

/// The time in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}
