//! Starts the real programs: Viceroy, Pushpin, and the whole service as `make serve` does.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::{
    client::Client,
    http::{PATIENCE, PROBE, Reader, free_port, free_ports_in_a_row, is_open, send, wait_longer, wait_until},
};

/// A running program. It is stopped when dropped; its output is kept.
pub struct Process {
    child: Child,
    name: &'static str,
    output: Arc<Mutex<String>>,
    /// The last signal that was sent to it.
    signalled: Option<&'static str>,
}

impl Process {
    pub fn start(name: &'static str, command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {name} ({error}): `make test` installs it, and `eval \"$(make -s env)\"` adds it to the PATH"));
        let output = Arc::default();
        keep(child.stdout.take(), &output);
        keep(child.stderr.take(), &output);
        Self { child, name, output, signalled: None }
    }

    /// Returns what it has printed so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("no panic under the lock").clone()
    }

    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let mut ended = None;
        wait_longer(PATIENCE, what, || {
            ended = ended.or_else(|| self.child.try_wait().ok().flatten());
            holds(self) || ended.is_some()
        });
        assert!(ended.is_none() || holds(self), "{} ended while this was awaited: {what}", self.name);
    }

    /// Stops it: what it has printed stays.
    pub fn stop(&mut self) {
        // SIGINT first, as with Ctrl-C. A program that a script started in the background ignores it.
        for name in ["INT", "TERM", "KILL"] {
            for _ in 0..50 {
                // Send each signal only once: by then, the process ID may belong to another program.
                let Ok(None) = self.child.try_wait() else { return };
                if self.signalled != Some(name) {
                    signal(name, self.child.id());
                    self.signalled = Some(name);
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            let (output, log) = (self.output(), log_of(self.name, self.child.id()));
            let lines: Vec<_> = output.lines().collect();
            let last = lines[lines.len().saturating_sub(8)..].join("\n  ");
            let _ = fs::write(&log, &output);
            eprintln!("--- the last lines of {}, see {}:\n  {last}", self.name, log.display());
        }
    }
}

/// Where the output of a program is kept if a test fails.
fn log_of(name: &str, pid: u32) -> PathBuf {
    let logs = env::var_os("FANOUT_EDGE_TEST_LOGS").map_or_else(env::temp_dir, PathBuf::from);
    logs.join(format!("{}-{pid}.log", name.replace([' ', '/'], "-")))
}

fn keep(stream: Option<impl Read + Send + 'static>, output: &Arc<Mutex<String>>) {
    let (stream, output) = (stream.expect("the stream is piped"), Arc::clone(output));
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            output.lock().expect("no panic under the lock").push_str(&(line + "\n"));
        }
    });
}

fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A temporary folder of a test, in the build folder. It is removed when dropped, unless the test fails.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", free_port()));
        // Of a run that failed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn manifest(scratch: &Scratch, local_server: &str) -> PathBuf {
    let manifest = scratch.0.join("fastly.toml");
    let head = "manifest_version = 3\nname = \"test\"\nlanguage = \"rust\"\n";
    fs::write(&manifest, format!("{head}{local_server}")).expect("a manifest");
    manifest
}

/// Returns the path of the shipped program: that of cargo, as the Fastly CLI may be writing its own copy.
pub fn shipped_module() -> PathBuf {
    built(target().join("wasm32-wasip1/release/fanout-edge.wasm"))
}

/// The folder of the build.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder of the build")
}

/// Returns the path of the program with the handlers of `tests/handlers`.
pub fn handlers_module() -> PathBuf {
    built(target().join("wasm32-wasip1/release/examples/handlers.wasm"))
}

fn built(module: PathBuf) -> PathBuf {
    assert!(module.exists(), "{} is missing: run `make test`, which builds it", module.display());
    module
}

/// Viceroy with the service and the handlers of `tests/handlers`.
pub struct Viceroy {
    pub port: u16,
    process: Process,
    _scratch: Scratch,
}

impl Viceroy {
    /// Starts it with the `[local_server]` section of a fastly.toml. It hands off to Pushpin on `pushpin_port`.
    pub fn start(local_server: &str, pushpin_port: Option<u16>) -> Self {
        let (port, scratch) = (free_port(), Scratch::new("viceroy"));
        let mut command = Command::new("viceroy");
        command
            .arg("serve")
            .arg("-v")
            .arg("-C")
            .arg(manifest(&scratch, local_server))
            .arg("--addr")
            .arg(format!("127.0.0.1:{port}"));
        if let Some(port) = pushpin_port {
            command.arg(format!("--local-pushpin-proxy-port={port}"));
        }
        let mut process = Process::start("viceroy", command.arg(handlers_module()));
        process.wait_until("Viceroy listens", |process| process.output().contains("Listening on"));
        Self { port, process, _scratch: scratch }
    }

    /// Starts any program on a port, without logging each request.
    pub fn serve(module: &Path, port: u16, local_server: &str, pushpin_port: Option<u16>) -> Self {
        let scratch = Scratch::new("viceroy");
        let mut command = Command::new("viceroy");
        command.arg("serve").arg("-C").arg(manifest(&scratch, local_server)).arg(format!("--addr=127.0.0.1:{port}"));
        if let Some(port) = pushpin_port {
            command.arg(format!("--local-pushpin-proxy-port={port}"));
        }
        let mut process = Process::start("viceroy", command.arg(module));
        process.wait_until("Viceroy listens", |_| is_open(port));
        Self { port, process, _scratch: scratch }
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Waits until the log contains this text.
    #[track_caller]
    pub fn wait_for(&self, line: &str) {
        wait_until(&format!("the log contains: {line}"), || self.output().contains(line));
    }
}

/// Pushpin with one backend for all requests, configured as the Fastly CLI does.
pub struct Pushpin {
    pub port: u16,
    pub publish_port: u16,
    process: Process,
    run: PathBuf,
    _scratch: Scratch,
}

impl Pushpin {
    pub fn start(backend_port: u16) -> Self {
        Self::start_with_key(backend_port, super::LOCAL_KEY)
    }

    /// Starts it with another signing key: a secret, or a private key in PEM.
    pub fn start_with_key(backend_port: u16, key: &str) -> Self {
        Self::start_probed(backend_port, [free_port(), free_port()], key, PROBE, "probe")
    }

    /// Starts it with the service as its backend, which publishes to `publish_port`.
    pub fn start_before_service(service_port: u16, publish_port: u16, key: &str) -> Self {
        Self::start_probed(service_port, [free_port(), publish_port], key, "/api/websocket", "test")
    }

    /// Starts it on two given ports: the first for clients, the second for publishing. It is ready once a WebSocket to
    /// `target` can be opened.
    pub fn start_on(service_port: u16, ports: [u16; 2], target: &str) -> Self {
        Self::start_probed(service_port, ports, super::LOCAL_KEY, target, "test")
    }

    fn start_probed(backend_port: u16, [port, publish_port]: [u16; 2], key: &str, probe: &str, channel: &str) -> Self {
        let scratch = Scratch::new("pushpin");
        let folder = &scratch.0;
        let key_file = folder.join("key.pem");
        let key = if key.starts_with("-----BEGIN") {
            fs::write(&key_file, key).expect("a file");
            format!("file:{}", key_file.display())
        } else {
            key.to_owned()
        };
        let [push, sub, command] = [free_port(), free_port(), free_port()];
        let routes = folder.join("routes");
        // The second route is for hand-offs: they name a backend of the service.
        let to = format!("127.0.0.1:{backend_port},over_http");
        fs::write(&routes, format!("* {to}\nid=self {to}\n")).expect("a file");
        // Paths of IPC sockets must be short, so the run folder is in the system's temporary folder.
        let run = env::temp_dir().join(format!("fanout-edge-{port}"));
        fs::create_dir_all(&run).expect("a folder");
        let config = folder.join("pushpin.conf");
        let text = format!(
            "[global]\n\
             include={{libdir}}/internal.conf\n\
             rundir={run}\n\
             ipc_prefix=\n\
             port_offset=0\n\
             [runner]\n\
             services=connmgr,proxy,handler\n\
             http_port={port}\n\
             logdir={logs}\n\
             log_level=2\n\
             client_buffer_size=8192\n\
             client_maxconn=50000\n\
             allow_compression=false\n\
             [proxy]\n\
             routesfile={routes}\n\
             debug=false\n\
             auto_cross_origin=false\n\
             accept_x_forwarded_protocol=false\n\
             set_x_forwarded_protocol=proto-only\n\
             x_forwarded_for=\n\
             x_forwarded_for_trusted=\n\
             orig_headers_need_mark=\n\
             accept_pushpin_route=true\n\
             cdn_loop=\n\
             log_from=false\n\
             log_user_agent=false\n\
             updates_check=off\n\
             sig_iss={issuer}\n\
             sig_key={key}\n\
             [handler]\n\
             push_in_spec=tcp://127.0.0.1:{push}\n\
             push_in_sub_specs=tcp://127.0.0.1:{sub}\n\
             push_in_http_addr=127.0.0.1\n\
             push_in_http_port={publish_port}\n\
             push_in_http_max_headers_size=8192\n\
             push_in_http_max_body_size=65536\n\
             stats_spec=ipc://{{rundir}}/{{ipc_prefix}}stats\n\
             command_spec=tcp://127.0.0.1:{command}\n\
             message_rate=2500\n\
             message_hwm=25000\n\
             message_wait=5000\n\
             id_cache_ttl=60\n\
             update_on_first_subscription=true\n\
             connection_subscription_max=20\n\
             subscription_linger=60\n\
             stats_connection_ttl=60\n\
             stats_subscription_ttl=60\n\
             stats_report_interval=10\n\
             stats_format=tnetstring\n",
            run = run.display(),
            logs = folder.display(),
            routes = routes.display(),
            issuer = super::LOCAL_ISSUER,
        );
        fs::write(&config, text).expect("a file");
        let mut process = Process::start(
            "pushpin",
            Command::new("pushpin").arg(format!("--config={}", config.display())).current_dir(folder),
        );
        process.wait_until("Pushpin is ready", |_| {
            is_open(publish_port) && delivers(port, publish_port, probe, channel) && (probe != PROBE || holds(port))
        });
        Self { port, publish_port, process, run, _scratch: scratch }
    }

    /// Sends a signal to it and to the programs that it has started.
    pub fn signal(&self, name: &str) {
        let pid = self.process.child.id();
        for (child, _) in children(pid) {
            signal(name, child);
        }
        signal(name, pid);
    }
}

impl Drop for Pushpin {
    fn drop(&mut self) {
        self.process.stop();
        let _ = fs::remove_dir_all(&self.run);
    }
}

/// Whether a published message reaches a WebSocket client: Pushpin listens before its processes are connected.
fn delivers(port: u16, publish_port: u16, probe: &str, channel: &str) -> bool {
    let Some(mut client) = Client::try_connect(port, probe, &[], Duration::from_millis(500)) else { return false };
    let item = format!(r#"{{"items":[{{"channel":"{channel}","formats":{{"ws-message":{{"content":"ready"}}}}}}]}}"#);
    (0..10).any(|_| {
        send(publish_port, "POST /publish/", &[], &item);
        !client.is_silent_for(Duration::from_millis(100))
    })
}

/// Whether Pushpin holds a response: the process that does so is ready last. What comes before that may be lost in it.
fn holds(port: u16) -> bool {
    let mut reader = Reader::get(port, PROBE);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) && !reader.read_on() && !reader.read.contains("\r\n") {}
    reader.read.starts_with("HTTP/1.1 200 ")
}

fn accepts_websockets(port: u16) -> bool {
    Client::try_connect(port, "/api/websocket", &[], Duration::from_millis(500)).is_some()
}

fn free_ports() -> [u16; 3] {
    // The CLI also gives Pushpin the three ports after the publish port.
    let first = free_ports_in_a_row(6);
    [first, first + 1, first + 2]
}

/// Returns a fastly.toml with other ports, as scripts/serve writes it.
fn on_ports(manifest: &str, [port, pushpin_port, publish_port]: [u16; 3]) -> String {
    manifest
        .replace("127.0.0.1:7676", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:5561", &format!("127.0.0.1:{publish_port}"))
        .replace("proxy_port = 7677", &format!("proxy_port = {pushpin_port}"))
        .replace("publish_port = 5561", &format!("publish_port = {publish_port}"))
}

/// Returns a fastly.toml without its local secrets, which the Fastly CLI may have moved away from its end.
fn without_secrets(manifest: &str) -> String {
    let mut is_secret = false;
    let lines = manifest.split_inclusive('\n').filter(|line| {
        if line.trim_start().starts_with('[') {
            is_secret = line.contains("local_server.secret_stores");
        }
        !is_secret
    });
    lines.collect()
}

/// The whole service, as `make serve` starts it.
pub struct Stack {
    pub port: u16,
    pub pushpin_port: u16,
    pub publish_port: u16,
    process: Process,
    scratch: Option<Scratch>,
}

impl Stack {
    /// Starts the shipped program with the shipped fastly.toml on free ports, as `make serve PORT=…` does.
    pub fn start_shipped() -> Self {
        shipped_module();
        Self::ready(&root().join("scripts/serve"), free_ports(), None).expect("the service starts")
    }

    /// Starts the program of another checkout.
    pub fn start_in(checkout: &Path) -> Self {
        Self::ready(&checkout.join("scripts/serve"), free_ports(), None).expect("the service starts")
    }

    /// Starts the chat of examples/chat, and returns the port of its page, too.
    pub fn start_chat() -> (Self, u16) {
        let (ports, page) = (free_ports(), free_port());
        let mut command = Command::new(root().join("examples/chat/run"));
        command.env("CHAT_PORT", page.to_string());
        let stack = Self::ready_with(command, ports, None).expect("the chat starts");
        (stack, page)
    }

    /// Serves an application in its folder, as `make serve APP=… WATCH=1` does.
    pub fn start_app(folder: &Path, target: &Path) -> Self {
        let mut command = Command::new(root().join("scripts/serve"));
        command.env("APP", folder).env("WATCH", "1").env("CARGO_TARGET_DIR", target);
        Self::ready_with(command, free_ports(), None).expect("the application starts")
    }

    /// Starts the handlers of `tests/handlers` with the shipped fastly.toml.
    pub fn start() -> Self {
        Self::start_on(free_ports())
    }

    /// Starts it again on the same ports, after it was stopped.
    pub fn start_again(&self) -> Self {
        Self::start_on([self.port, self.pushpin_port, self.publish_port])
    }

    fn start_on(ports: [u16; 3]) -> Self {
        let manifest = fs::read_to_string(root().join("fastly.toml")).expect("the manifest");
        Self::start_with(&manifest, ports).expect("the service starts")
    }

    /// Starts the handlers of `tests/handlers`, each request in a sandbox of its own.
    pub fn start_without_reuse() -> Self {
        let manifest = fs::read_to_string(root().join("fastly.toml")).expect("the manifest");
        let once = "ALLOWED_ORIGINS = \"*\"\nSANDBOX_REQUESTS = \"1\"\n";
        Self::start_with(&manifest.replace("ALLOWED_ORIGINS = \"*\"\n", once), free_ports())
            .expect("the service starts")
    }

    /// Runs plain `fastly compute serve`, which builds the shipped program.
    pub fn start_plainly() -> Self {
        let ports @ [port, pushpin_port, publish_port] = free_ports();
        let shipped = fs::read_to_string(root().join("fastly.toml")).expect("the manifest");
        let manifest = root().join(format!("fastly.local-{port}.toml"));
        fs::write(&manifest, on_ports(&shipped, ports)).expect("a manifest");
        let mut command = Command::new("fastly");
        command.args(["compute", "serve", "--non-interactive"]).current_dir(root());
        command.arg(format!("--env=local-{port}")).arg(format!("--addr=127.0.0.1:{port}"));
        let mut process = Process::start("fastly compute serve", &mut command);
        process.wait_until("the service is ready", |_| accepts_websockets(port));
        fs::remove_file(manifest).expect("the manifest is there");
        Self { port, pushpin_port, publish_port, process, scratch: None }
    }

    /// Starts the handlers of `tests/handlers` with access control: other entries of the secret store, other allowed
    /// origins, and `more` at the end of fastly.toml. In `entries`, `{publish_port}` stands for that port.
    ///
    /// # Errors
    /// The output of scripts/serve, if it reports an error.
    pub fn start_guarded(entries: &[(&str, &str)], origins: &str, more: &str) -> Result<Self, String> {
        let ports @ [.., publish_port] = free_ports();
        let shipped = fs::read_to_string(root().join("fastly.toml")).expect("the manifest");
        let shipped = without_secrets(&shipped);
        let entry = |(key, data): &(&str, &str)| {
            let data = data.replace("{publish_port}", &publish_port.to_string());
            format!("[[local_server.secret_stores.fanout]]\nkey = \"{key}\"\ndata = \"{data}\"\n")
        };
        let entries: String = entries.iter().map(entry).collect();
        let origins = format!("ALLOWED_ORIGINS = \"{origins}\"\n");
        let manifest = shipped.replace("ALLOWED_ORIGINS = \"*\"\n", &origins) + &entries + more;
        Self::start_with(&manifest, ports)
    }

    /// Runs scripts/serve in a temporary folder, with the files of a checkout that it needs.
    fn start_with(manifest: &str, ports: [u16; 3]) -> Result<Self, String> {
        let scratch = Scratch::new("serve");
        let folder = scratch.path();
        for part in ["bin", "scripts"] {
            fs::create_dir(folder.join(part)).expect("a folder");
        }
        for part in ["scripts/serve", "scripts/setup", "scripts/setup-debian"] {
            fs::copy(root().join(part), folder.join(part)).expect("a copy");
        }
        fs::copy(handlers_module(), folder.join("bin/main.wasm")).expect("a copy");
        fs::write(folder.join("fastly.toml"), manifest).expect("a manifest");
        Self::ready(&folder.join("scripts/serve"), ports, Some(scratch))
    }

    fn ready(script: &Path, ports: [u16; 3], scratch: Option<Scratch>) -> Result<Self, String> {
        let mut command = Command::new(script);
        command.env_remove("APP");
        Self::ready_with(command, ports, scratch)
    }

    fn ready_with(mut command: Command, ports: [u16; 3], scratch: Option<Scratch>) -> Result<Self, String> {
        command.envs(["PORT", "PUSHPIN_PORT", "PUBLISH_PORT"].into_iter().zip(ports.map(|port| port.to_string())));
        let mut process = Process::start("scripts/serve", &mut command);
        let stopped = |process: &Process| process.output().contains("serve: error: ");
        // If no token is required, it has probed a WebSocket: that connection ends after the line.
        let is_ready = |output: &str| {
            output.contains("\nReady: Open ") && output.contains("Upgraded proxy connection finished")
                || output.contains("\nReady: the service ")
        };
        process.wait_until("the service is ready", |process| is_ready(&process.output()) || stopped(process));
        if stopped(&process) {
            return Err(process.output());
        }
        let [port, pushpin_port, publish_port] = ports;
        Ok(Self { port, pushpin_port, publish_port, process, scratch })
    }

    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Returns the folder of Pushpin's logs.
    pub fn pushpin_logs(&self) -> PathBuf {
        let folder = self.scratch.as_ref().map(Scratch::path);
        folder.unwrap_or_else(|| root()).join("pushpin-logs")
    }

    /// Returns how many requests Viceroy has handled: it numbers them from 0.
    pub fn handled(&self) -> usize {
        let output = self.output();
        let numbers = output.split("request{id=").skip(1).filter_map(|rest| rest.split('}').next()?.parse().ok());
        numbers.max().map_or(0, |last: usize| last + 1)
    }

    /// Stops Pushpin, and waits until its ports are closed. Pushpin's runner is a child of the Fastly CLI, which is a
    /// child of scripts/serve.
    pub fn stop_pushpin(&self) {
        let runner = children(self.process.child.id())
            .into_iter()
            .flat_map(|(fastly, _)| children(fastly))
            .find(|(_, arguments)| arguments.contains("pushpin") && arguments.contains("--config="));
        let (pid, _) = runner.expect("Pushpin is a child of the Fastly CLI");
        signal("TERM", pid);
        wait_until("Pushpin has stopped", || !is_open(self.publish_port) && !is_open(self.pushpin_port));
    }

    pub fn stop(&mut self) {
        self.process.stop();
    }
}

/// The children of a process: their ids and their command lines.
fn children(parent: u32) -> Vec<(u32, String)> {
    let listed = Command::new("ps").args(["-eo", "pid=,ppid=,args="]).output().expect("ps runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let of_parent = |line: &str| {
        let mut words = line.split_whitespace();
        let (pid, ppid) = (words.next()?.parse().ok()?, words.next()?.parse::<u32>().ok()?);
        (ppid == parent).then(|| (pid, words.collect::<Vec<_>>().join(" ")))
    };
    listed.lines().filter_map(of_parent).collect()
}
