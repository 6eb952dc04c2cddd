//! Headless Chromium, controlled over the Chrome DevTools Protocol.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::{
    http::PATIENCE,
    process::{Process, Scratch},
};

/// Without these options, Chromium contacts servers of Google.
const QUIET: [&str; 6] = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--disable-default-apps",
];

pub struct Browser {
    socket: WebSocket<TcpStream>,
    last_id: u64,
    /// Uncaught exceptions and violations of the content security policy, on all pages.
    pub errors: Vec<String>,
    process: Process,
    _scratch: Scratch,
}

/// A page, named by its DevTools session.
#[derive(Clone)]
pub struct Page(String);

impl Browser {
    pub fn start() -> Self {
        let scratch = Scratch::new("chromium");
        let mut command = Command::new("chromium");
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]);
        command.args(QUIET).arg(format!("--user-data-dir={}", scratch.path().display())).arg("about:blank");
        let mut process = Process::start("chromium", &mut command);
        let address = |process: &Process| {
            let output = process.output();
            let (_, rest) = output.split_once("DevTools listening on ")?;
            rest.split_once('\n').map(|(address, _)| address.trim().to_owned())
        };
        process.wait_until("Chromium listens", |process| address(process).is_some());
        let address = address(&process).expect("it listens");
        let host = address.trim_start_matches("ws://").split('/').next().expect("an address");
        let stream = TcpStream::connect(host).expect("a connection to Chromium");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (socket, _) = tungstenite::client(&*address, stream).expect("a WebSocket to Chromium");
        Self { socket, last_id: 0, errors: Vec::new(), process, _scratch: scratch }
    }

    #[track_caller]
    fn call(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut call = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(session) = session {
            call["sessionId"] = session.into();
        }
        self.socket.send(Message::text(call.to_string())).expect("sent to Chromium");
        loop {
            let Message::Text(text) = self.socket.read().expect("a message from Chromium") else { continue };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            let is_error = message["method"] == "Runtime.exceptionThrown"
                || message["method"] == "Log.entryAdded" && message["params"]["entry"]["source"] == "security";
            if is_error {
                self.errors.push(message["params"].to_string());
            }
        }
    }

    #[track_caller]
    pub fn open(&mut self, url: &str) -> Page {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session =
            self.call(None, "Target.attachToTarget", attach)["sessionId"].as_str().expect("a session").to_owned();
        let page = Page(session);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.call(Some(&page.0), domain, json!({}));
        }
        self.call(Some(&page.0), "Page.navigate", json!({ "url": url }));
        self.wait_for(&page, "document.readyState === 'complete' && location.href !== 'about:blank'");
        page
    }

    /// Evaluates a JavaScript expression on the page and returns its value.
    #[track_caller]
    pub fn eval(&mut self, page: &Page, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call(Some(&page.0), "Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    #[track_caller]
    pub fn wait_for(&mut self, page: &Page, expression: &str) {
        let start = Instant::now();
        while self.eval(page, expression) != true {
            let text = self.eval(page, "document.body?.innerText");
            assert!(start.elapsed() < PATIENCE, "timed out waiting for {expression}; the page shows {text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Types text into the focused element.
    #[track_caller]
    pub fn type_text(&mut self, page: &Page, text: &str) {
        self.call(Some(&page.0), "Input.insertText", json!({ "text": text }));
    }

    /// Presses and releases a key. `code` is its Windows virtual key code, `text` what it types, if anything.
    #[track_caller]
    pub fn press(&mut self, page: &Page, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call(Some(&page.0), "Input.dispatchKeyEvent", event);
        }
    }

    /// Emulates a screen of this size in CSS pixels, and a color scheme: `light` or `dark`.
    #[track_caller]
    pub fn set_screen(&mut self, page: &Page, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call(Some(&page.0), "Emulation.setDeviceMetricsOverride", size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call(Some(&page.0), "Emulation.setEmulatedMedia", features);
    }

    /// Writes a screenshot of the page as a PNG file.
    #[track_caller]
    pub fn screenshot(&mut self, page: &Page, path: &Path) {
        let screenshot = self.call(Some(&page.0), "Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = BASE64_STANDARD.decode(screenshot["data"].as_str().expect("a screenshot")).expect("base64");
        fs::write(path, bytes).expect("written");
    }
}
