//! Where the client runs: in Node.js, or on a page of Chromium.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use crate::support::{
    browser::{Browser, Page},
    process::root,
};

pub trait Runtime {
    /// Evaluates an expression, waits for its promise, and returns its value. `connect` is the client's.
    fn eval(&mut self, expression: &str) -> Value;

    /// Gets ready for the service on this port.
    fn go_to(&mut self, port: u16);
}

pub struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Node {
    pub fn start() -> Self {
        let folder = root().join("tests/client");
        assert!(folder.join("node_modules/ws").exists(), "npm ci --prefix tests/client installs what this test needs");
        let mut command = Command::new("node");
        command.arg("node.js").current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Node.js starts: install it (20 or later)");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, input, output }
    }
}

impl Runtime for Node {
    fn eval(&mut self, expression: &str) -> Value {
        self.input.write_all(format!("{}\n", expression.replace('\n', " ")).as_bytes()).expect("Node.js reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("Node.js prints");
        let result: Value = serde_json::from_str(&line).expect("JSON");
        assert!(result["error"].is_null(), "{expression}: {}", result["error"]);
        result["value"].clone()
    }

    fn go_to(&mut self, _: u16) {}
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Chromium {
    browser: Browser,
    page: Option<Page>,
}

impl Chromium {
    pub fn start() -> Self {
        Self { browser: Browser::start(), page: None }
    }
}

impl Runtime for Chromium {
    fn eval(&mut self, expression: &str) -> Value {
        self.browser.eval(self.page.as_ref().expect("a page"), expression)
    }

    fn go_to(&mut self, port: u16) {
        self.page = Some(self.browser.open(&format!("http://127.0.0.1:{port}/")));
        self.eval(include_str!("start.js"));
        self.eval("import('/client.js').then((client) => { Object.assign(globalThis, client); })");
    }
}
