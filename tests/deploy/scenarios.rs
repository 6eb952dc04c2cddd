//! The tests, and the harness that runs them against one running service.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use fanout_edge::grip::VerifyKey;
use libtest_mimic::{Arguments, Trial};
use serde_json::json;

use crate::{
    fastly::{Fastly, Fault, Service, Version},
    support::{
        LOCAL_ISSUER, LOCAL_KEY, access_token,
        client::Client,
        http::{PATIENCE, free_port, wait_until},
        process::{Scratch, Stack, root, shipped_module},
        running::now,
    },
};

const NEEDS: &str = "needs the Fastly CLI, Viceroy and Pushpin: make test";
/// The token that publishes.
const TOKEN: &str = "a-token-that-publishes-0123456789";
const ACCESS_KEY: &str = "secret:a secret for access tokens of the tests";

/// A name, and a test with the port of the service.
type Test = (&'static str, fn(u16));

const TESTS: &[Test] = &[
    ("a_service_is_deployed_and_proves_itself", a_service_is_deployed_and_proves_itself),
    ("what_has_changed_becomes_a_new_version", what_has_changed_becomes_a_new_version),
    ("services_on_one_account_have_stores_of_their_own", services_on_one_account_have_stores_of_their_own),
    ("a_refused_fanout_can_be_allowed_later", a_refused_fanout_can_be_allowed_later),
    ("a_deploy_that_stops_anywhere_goes_on", a_deploy_that_stops_anywhere_goes_on),
    ("nothing_is_made_if_something_is_missing", nothing_is_made_if_something_is_missing),
    ("what_fastly_refuses_is_reported", what_fastly_refuses_is_reported),
    ("no_secret_is_seen_where_it_does_not_belong", no_secret_is_seen_where_it_does_not_belong),
    ("a_terminal_is_asked_for_the_secrets", a_terminal_is_asked_for_the_secrets),
    ("a_service_with_an_access_key_is_checked_with_a_token", a_service_with_an_access_key_is_checked_with_a_token),
    ("the_token_of_the_check_has_the_audience_and_the_issuer", the_token_of_the_check_has_the_audience_and_the_issuer),
    ("a_service_that_does_not_work_is_reported", a_service_that_does_not_work_is_reported),
    ("everything_is_removed_after_a_yes", everything_is_removed_after_a_yes),
    ("what_an_application_declares_is_made_and_removed", what_an_application_declares_is_made_and_removed),
    ("an_application_made_as_the_document_says_works", an_application_made_as_the_document_says_works),
    ("a_project_that_begins_as_this_one_serves_and_deploys", a_project_that_begins_as_this_one_serves_and_deploys),
    ("fastly_compute_publish_works_without_questions", fastly_compute_publish_works_without_questions),
];

pub fn run() -> ExitCode {
    // All tests share the service that stands for the deployed one; the first that runs starts it.
    static STACK: Mutex<Option<Stack>> = Mutex::new(None);
    let arguments = Arguments { test_threads: Some(4), ..Arguments::from_args() };
    let stack = || STACK.lock().unwrap_or_else(PoisonError::into_inner);
    let trial = |(name, test): &Test| {
        let test = *test;
        let run = move || {
            let port = stack().get_or_insert_with(Stack::start_shipped).port;
            test(port);
            Ok(())
        };
        Trial::test(*name, run).with_ignored_flag(true).with_kind(NEEDS)
    };
    let conclusion = libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect());
    drop(stack().take());
    conclusion.exit_code()
}

/// The files of a checkout that `scripts/deploy` needs, and a home directory without logins.
struct Checkout {
    folder: Scratch,
    fastly: Fastly,
    edge: u16,
}

/// What a command printed, and whether it succeeded.
struct Outcome {
    succeeded: bool,
    output: String,
}

impl Outcome {
    #[track_caller]
    fn succeeds(self) -> String {
        assert!(self.succeeded, "{}", self.output);
        self.output
    }

    #[track_caller]
    fn fails(self, problem: &str) -> String {
        assert!(!self.succeeded && self.output.contains(problem), "{problem}: {}", self.output);
        self.output
    }
}

impl Checkout {
    fn new(fastly: &Fastly, edge: u16) -> Self {
        let folder = Scratch::new("deploy");
        for part in ["bin", "scripts", "home", "tools"] {
            fs::create_dir(folder.path().join(part)).expect("a folder");
        }
        for part in ["scripts/deploy", "scripts/probe", "fastly.toml"] {
            copy_program(&root().join(part), &folder.path().join(part));
        }
        fs::copy(shipped_module(), folder.path().join("bin/main.wasm")).expect("a copy");
        // What a user may have set for other purposes.
        fs::write(folder.path().join("home/.curlrc"), "-i\n").expect("a file");
        // There is no Cargo.toml here, so settings are checked by the program of the real checkout.
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let manifest = root().join("Cargo.toml");
        let check = format!("run --quiet --manifest-path {} --example settings", manifest.display());
        program(&folder.path().join("tools/cargo"), &format!("exec {cargo} {check}"));
        Self { folder, fastly: fastly.clone(), edge }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A command with the CLI pointed at the stand-in. It finds the service at the edge's port.
    fn command(&self, program: impl AsRef<Path>, entries: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program.as_ref());
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("FASTLY_")) {
            command.env_remove(name);
        }
        let home = env::var("HOME").unwrap_or_default();
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            command.env(name, env::var(name).unwrap_or_else(|_| format!("{home}/{folder}")));
        }
        let api = format!("http://127.0.0.1:{}", self.fastly.port);
        command
            .env_remove("APP")
            .env("HOME", self.path("home"))
            .env("FASTLY_API_ENDPOINT", &api)
            .env("FASTLY_ACCOUNT_ENDPOINT", &api)
            .env("FASTLY_API_TOKEN", "login")
            // The CLI then takes the key of the stand-in, and looks for no updates.
            .env("FASTLY_USE_API_SIGNING_KEY", "1")
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("NO_PROXY", "127.0.0.1")
            .env("CHECK_URL", format!("http://127.0.0.1:{}/", self.edge))
            .env("NAME", "my-chat")
            .env("CDPATH", ".")
            .env("TOKEN", "leaks")
            .env("SETTLE", "0")
            .env("PATH", format!("{}:{}", self.path("tools").display(), env::var("PATH").unwrap_or_default()))
            .env("SOCKETS", "1")
            .env("PATIENCE", "30")
            .envs(entries.iter().copied())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, entries: &[(&str, &str)]) -> Outcome {
        outcome(&mut self.command(self.path("scripts/deploy"), entries))
    }

    /// Deploys with the token that publishes.
    fn deploy(&self, entries: &[(&str, &str)]) -> Outcome {
        self.run(&[&[("FANOUT_API_TOKEN", TOKEN)], entries].concat())
    }
}

/// Writes a shell script that can be run. Another program does it: a process that another test starts meanwhile would inherit
/// the open file, and as long as that is open for writing, it cannot be run ("Text file busy").
fn program(path: &Path, text: &str) {
    let script = format!("#!/bin/sh\n{text}\n");
    let write = ["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""];
    let status = Command::new("sh").args(write).arg(path).arg(script).status().expect("sh runs");
    assert!(status.success(), "a script");
}

/// Copies a file that can be run, in the same way.
fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().expect("cp runs").success(), "a copy");
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().expect("the script runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { succeeded: output.status.success(), output: text(&output.stdout) + &text(&output.stderr) }
}

/// Checks that a service is there, with all that belongs to it, and active.
#[track_caller]
fn is_whole(fastly: &Fastly, name: &str, domain: &str) -> Service {
    let service = fastly.service(name);
    assert_eq!((&*service.kind, &*service.products), ("wasm", &["fanout".to_owned()][..]));
    let active = service.active().expect("an active version").clone();
    assert!(active.domains.iter().any(|known| known == domain), "{:?}", active.domains);
    for (backend, host) in [("self", domain), ("publisher", "api.fastly.com")] {
        let backend = &active.backends[backend];
        for field in ["address", "override_host", "ssl_cert_hostname", "ssl_sni_hostname"] {
            assert_eq!(backend[field], host, "{field}");
        }
        assert_eq!(backend["port"], "443");
    }
    let account = fastly.account();
    let linked = |link: &str| account.stores.iter().find(|store| store.id == active.links[link]).expect("a store");
    for (link, kind, store) in
        [("fanout_config", "config", "config"), ("fanout", "secret", "secrets"), ("fanout_history", "kv", "history")]
    {
        assert_eq!((&*linked(link).kind, &*linked(link).name), (kind, &*format!("{name}-{store}")));
    }
    assert!(linked("fanout").items.contains_key("FANOUT_API_TOKEN"));
    assert_eq!(active.links.len(), 3);
    assert!(active.package.is_some());
    service
}

fn a_service_is_deployed_and_proves_itself(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    let manifest = || fs::read_to_string(checkout.path("fastly.toml")).expect("a manifest");
    let before = manifest();
    let output = checkout.deploy(&[("SOCKETS", "20")]).succeeds();
    for line in [
        "service my-chat: made",
        "config store my-chat-config: made",
        "backend self: created, https://my-chat.edgecompute.app",
        "Fanout: enabled",
        "version 1: activated",
        "ATTENTION: there is no access key. Everybody may connect",
        "of 20 WebSockets, one after the other, 20 opened, 20 got their messages back, 20 heard a broadcast",
        "deploy: done: https://my-chat.edgecompute.app\n",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    let service = is_whole(&fastly, "my-chat", "my-chat.edgecompute.app");
    assert_eq!(
        fastly.items("config", "my-chat-config"),
        BTreeMap::from([("ALLOWED_ORIGINS".to_owned(), "*".to_owned())])
    );
    // Fanout, then the activation come last: nothing is live before all is there.
    let changes = fastly.changes(0);
    assert!(changes.iter().rev().take(2).eq([
        &format!("PUT /service/{}/version/1/activate", service.id),
        &format!("PUT /enabled-products/v1/fanout/services/{}", service.id),
    ]));

    // Again: nothing changes.
    let from = fastly.requests().len();
    let output = checkout.run(&[]).succeeds();
    assert!(output.contains("version 1: kept, nothing has changed in it"), "{output}");
    assert_eq!(fastly.changes(from), [""; 0]);
    assert_eq!(fastly.service("my-chat"), service);
    assert_eq!(manifest(), before);
}

fn what_has_changed_becomes_a_new_version(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    checkout.deploy(&[]).succeeds();
    let first = is_whole(&fastly, "my-chat", "my-chat.edgecompute.app").versions[0].package.clone();

    // A module with another custom section.
    let module = checkout.path("bin/main.wasm");
    let changed = [&fs::read(&module).expect("a module")[..], &[0, 2, 1, b'x']].concat();
    fs::write(&module, changed).expect("a module");
    let output = checkout.run(&[]).succeeds();
    assert!(output.contains("version 2: made from version 1") && output.contains("package: uploaded"), "{output}");
    let service = is_whole(&fastly, "my-chat", "my-chat.edgecompute.app");
    assert!(service.versions.len() == 2 && service.versions[1].active && service.versions[1].package != first);

    // An upload that took effect without a response, and then the earlier module again: what is live is known.
    let uploaded =
        || fastly.service("my-chat").active().and_then(|version| version.package.clone()).map(|bytes| bytes.len());
    let (small, original) = (uploaded(), fs::read(&module).expect("a module"));
    fs::write(&module, [&original[..], &[0, 42, 1, b'x'], &[7; 40]].concat()).expect("a module");
    fastly.fail("/package", Fault::Cut);
    checkout.run(&[]).fails("Uploading the package failed");
    fs::write(&module, original).expect("a module");
    let output = checkout.run(&[]).succeeds();
    assert!(output.contains("package: uploaded") && uploaded() <= small.map(|length| length + 16), "{output}");
    fastly.account().services[0].versions.truncate(2);
    fastly.account().services[0].versions[1].active = true;

    // Another domain: the package stays. A draft that somebody else has made is left alone.
    let mut draft = service.versions[1].clone();
    (draft.active, draft.locked, draft.comment) = (false, false, "an experiment".to_owned());
    fastly.account().services[0].versions.push(draft.clone());
    let output = checkout.run(&[("DOMAIN", "chat.example.com")]).succeeds();
    assert!(output.contains("version 4: made from version 2") && output.contains("package: kept"), "{output}");
    let service = is_whole(&fastly, "my-chat", "chat.example.com");
    assert!(service.versions[2] == draft && service.versions[3].active);
    assert_eq!(service.versions[3].domains, ["my-chat.edgecompute.app", "chat.example.com"]);

    // Back to an earlier version: what failed since is left alone.
    fastly.fail("/activate", Fault::Refused(500, json!({ "msg": "no" })));
    checkout.run(&[("DOMAIN", "third.example.com")]).fails("Activating version 5 failed");
    {
        let versions = &mut fastly.account().services[0].versions;
        versions[3].active = false;
        versions[1].active = true;
    }
    let output = checkout.run(&[("DOMAIN", "chat.example.com")]).succeeds();
    assert!(output.contains("version 6: made from version 2"), "{output}");
    assert_eq!(fastly.service("my-chat").versions[5].domains, ["my-chat.edgecompute.app", "chat.example.com"]);

    // A store that was deleted, and its successor.
    fastly.account().stores.retain(|store| store.kind != "kv");
    let output = checkout.run(&[("DOMAIN", "chat.example.com")]).succeeds();
    assert!(
        output.contains("kv store my-chat-history: made") && output.contains("store fanout_history: linked"),
        "{output}"
    );
    assert_eq!(is_whole(&fastly, "my-chat", "chat.example.com").versions.len(), 7);

    // A setting takes effect without a version.
    let settings = [
        ("DOMAIN", "chat.example.com"),
        ("ALLOWED_ORIGINS", "https://a.example"),
        ("SANDBOX_REQUESTS", "1"),
        ("HISTORY", "room* news"),
    ];
    let output = checkout.run(&settings).succeeds();
    assert!(output.contains("setting ALLOWED_ORIGINS: https://a.example (before: *)"), "{output}");
    let items = fastly.items("config", "my-chat-config");
    let seen = ["ALLOWED_ORIGINS", "SANDBOX_REQUESTS", "HISTORY"].map(|name| &*items[name]);
    assert_eq!(seen, ["https://a.example", "1", "room* news"]);
    // It stays where it is not named.
    let from = fastly.requests().len();
    checkout.run(&[("DOMAIN", "chat.example.com")]).succeeds();
    assert_eq!(fastly.changes(from), [""; 0]);
}

fn services_on_one_account_have_stores_of_their_own(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    checkout.deploy(&[]).succeeds();
    checkout.deploy(&[("NAME", "other-chat")]).succeeds();
    is_whole(&fastly, "my-chat", "my-chat.edgecompute.app");
    is_whole(&fastly, "other-chat", "other-chat.edgecompute.app");
    assert_eq!(fastly.account().stores.len(), 6);
    // And beside many others.
    let another = fastly.service("other-chat");
    let others = (0..400).map(|n| Service {
        id: format!("S{n}"),
        name: format!("another-service-of-the-account-{n}"),
        ..another.clone()
    });
    fastly.account().services.extend(others);
    checkout.run(&[]).succeeds();
}

fn a_refused_fanout_can_be_allowed_later(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    let refusal = json!({ "title": "Forbidden", "detail": "You have not purchased Fanout" });
    fastly.fail("/enabled-products/v1/fanout", Fault::Refused(403, refusal));
    let output = checkout.deploy(&[]).fails("error: Enabling Fanout failed. Fastly said: ");
    assert!(
        output.contains("Fanout must be on the account") && output.contains("Run the same command again"),
        "{output}"
    );
    assert_eq!(fastly.service("my-chat").active(), None);
    let output = checkout.run(&[]).succeeds();
    assert!(output.contains("service my-chat: kept") && output.contains("Fanout: enabled"), "{output}");
    is_whole(&fastly, "my-chat", "my-chat.edgecompute.app");
}

fn a_deploy_that_stops_anywhere_goes_on(edge: u16) {
    let whole = Fastly::start();
    Checkout::new(&whole, edge).deploy(&[]).succeeds();
    let steps = whole.changes(0);

    // Each request that changes something is carried out, but the CLI does not get to know it, and the script stops.
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    let has_token = || fastly.account().stores.iter().any(|store| store.items.contains_key("FANOUT_API_TOKEN"));
    for step in &steps {
        let from = fastly.requests().len();
        fastly.fail(&format!("{step} HTTP"), Fault::Cut);
        let outcome = if has_token() { checkout.run(&[]) } else { checkout.deploy(&[]) };
        outcome.fails(" failed. Fastly said: ");
        assert_eq!(fastly.changes(from).last(), Some(step));
    }
    checkout.run(&[]).succeeds();
    // Packages are equal but for the times of their files.
    let versions = |fastly: &Fastly| {
        let versions = fastly.account().services[0].versions.clone();
        versions.into_iter().map(|version| Version { package: None, ..version }).collect::<Vec<_>>()
    };
    assert_eq!(versions(&fastly), versions(&whole));
    is_whole(&fastly, "my-chat", "my-chat.edgecompute.app");
}

fn nothing_is_made_if_something_is_missing(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    for (entries, problem) in [
        (&[("NAME", "")][..], "NAME is missing"),
        (&[("NAME", "My-Chat")], "invalid NAME"),
        (&[("NAME", "-chat")], "invalid NAME"),
        (&[("NAME", "a.b")], "invalid NAME"),
        (&[("DOMAIN", "chat")], "invalid DOMAIN"),
        (&[("DOMAIN", "https://chat.example.com")], "invalid DOMAIN"),
        (&[("ACCESS_KEY", "s3cret-s3cret-s3cret-s3cret-s3cret")], "write a secret as secret:TEXT"),
        (&[("ACCESS_KEY", "base64:!s3cret!")], "the text after `base64:` is not valid base64"),
        (&[("ACCESS_KEY", "secret:s3cret")], "the secret is too short"),
        (&[("ACCESS_KEY", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")], "this is a private key"),
        (
            &[("BROADCASTS_PER_MINUTE", "many")],
            "BROADCASTS_PER_MINUTE of the config store `fanout_config` must be a positive",
        ),
        (&[("ACCESS_AUDIENCE", "chat")], "ACCESS_AUDIENCE of the config store `fanout_config` needs an ACCESS_KEY"),
        (&[("ALLOWED_ORIGINS", "example.com")], "ALLOWED_ORIGINS of the config store `fanout_config` must be *"),
        (&[("FANOUT_API_TOKEN", "s3cret s3cret")], "has characters that no token has"),
        (&[("FANOUT_API_TOKEN", "")], "the token that publishes is missing"),
        (&[("FASTLY_API_TOKEN", "rejected")], "Log in: fastly auth login"),
    ] {
        let output = checkout.deploy(entries).fails(problem);
        assert!(output.contains("deploy: error: ") && !output.contains("s3cret"), "{output}");
    }
    fs::rename(checkout.path("bin/main.wasm"), checkout.path("bin/other.wasm")).expect("renamed");
    checkout.deploy(&[]).fails("bin/main.wasm is missing");
    fs::rename(checkout.path("bin/other.wasm"), checkout.path("bin/main.wasm")).expect("renamed");

    // An older CLI, and none.
    let tools = checkout.path("tools");
    program(&tools.join("fastly"), "echo 'Fastly CLI version v13.3.0 (1234567)'");
    let path = format!("{}:/usr/bin:/bin", tools.display());
    checkout.deploy(&[("PATH", &path)]).fails("the Fastly CLI 13.3.0 is too old: 14.1.0 is needed");
    checkout.deploy(&[("PATH", "/usr/bin:/bin")]).fails("the Fastly CLI is missing");
    fs::remove_file(tools.join("fastly")).expect("removed");
    assert_eq!(fastly.changes(0), [""; 0]);

    // What somebody else has made is left alone.
    let mut service = {
        checkout.deploy(&[]).succeeds();
        fastly.service("my-chat")
    };
    service.versions[0].comment = String::new();
    for (kind, is_active, problem) in [
        ("wasm", true, "that make deploy has not made"),
        ("wasm", false, "that make deploy has not made"),
        ("vcl", true, "that is not one of Compute"),
    ] {
        service.kind = kind.to_owned();
        service.versions[0].active = is_active;
        fastly.account().services = vec![service.clone()];
        let from = fastly.requests().len();
        checkout.deploy(&[]).fails(problem);
        assert_eq!(fastly.changes(from), [""; 0]);
    }
}

fn what_fastly_refuses_is_reported(edge: u16) {
    let refused = |text: &str| Fault::Refused(400, json!({ "msg": text, "detail": text }));
    for (request, step, next) in [
        ("POST /service HTTP", "Making the service", "choose another NAME"),
        ("POST /resources/stores/kv", "Making the kv store my-chat-history", ""),
        ("/domain", "Adding the domain my-chat.edgecompute.app", "DOMAIN="),
        ("/secrets", "Storing FANOUT_API_TOKEN", ""),
        ("/package", "Uploading the package", ""),
        ("/activate", "Activating version 1", ""),
    ] {
        let fastly = Fastly::start();
        let checkout = Checkout::new(&fastly, edge);
        fastly.fail(request, refused("no such luck"));
        let output = checkout.deploy(&[]).fails(&format!("error: {step} failed. Fastly said: "));
        assert!(output.contains("no such luck") && output.contains(next), "{output}");
        assert!(!output.contains("github.com"), "{output}");
    }
}

fn no_secret_is_seen_where_it_does_not_belong(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    // A developer's key, which must not be uploaded with the package.
    let manifest = fs::read_to_string(root().join("fastly.toml")).expect("a manifest");
    let local = r#"
[[local_server.secret_stores.fanout]]
key = "ACCESS_KEY"
data = "secret:a-key-for-this-machine-only-0123456789"
[["local_server".secret_stores.fanout]]
key = "OTHER"
data = """
[not.a.table]
a-key-for-this-machine-only
"""
"#;
    fs::write(checkout.path("fastly.toml"), manifest + local).expect("a manifest");

    let key = "secret:an-access-key-of-the-service-0123456789";
    let done = Arc::new(AtomicBool::new(false));
    let watch = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut listed = Vec::new();
            while !done.load(Ordering::Relaxed) {
                listed.push(Command::new("ps").args(["-A", "-o", "args="]).output().expect("ps runs").stdout);
                thread::sleep(Duration::from_millis(20));
            }
            String::from_utf8_lossy(&listed.concat()).into_owned()
        }
    });
    let entries = [("FANOUT_API_TOKEN", TOKEN), ("ACCESS_KEY", key), ("FASTLY_API_TOKEN", "login-0123456789")];
    // The package of the checkout stands in a folder without Cargo.toml, so the real one makes the token.
    let output = checkout.run(&entries).output;
    done.store(true, Ordering::Relaxed);
    let processes = watch.join().expect("no panic");
    assert!(processes.contains("scripts/deploy") && processes.contains("fastly "), "the commands were seen");
    let requests: String = fastly
        .requests()
        .iter()
        .map(|request| {
            let headers = request.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("fastly-key"));
            format!("{} {:?} {}", request.start, headers.collect::<Vec<_>>(), request.text())
        })
        .collect();
    for secret in [TOKEN, key, "login-0123456789", "a-key-for-this-machine-only"] {
        for (place, text) in [("processes", &processes), ("output", &output), ("requests", &requests)] {
            assert!(!text.contains(secret), "{secret} is in the {place}");
        }
    }
    assert_eq!(fastly.items("secret", "my-chat-secrets").len(), 2);
    let package = fastly.service("my-chat").versions[0].package.clone().expect("a package");
    fs::write(checkout.path("package.tar.gz"), package).expect("a file");
    let unpacked = Command::new("tar").arg("xzOf").arg(checkout.path("package.tar.gz")).output().expect("tar runs");
    let unpacked = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    assert!(
        unpacked.contains("manifest_version = 3\nname = \"my-chat\"\nlanguage = \"rust\"\n"),
        "the manifest is in it"
    );
    assert!(!unpacked.contains("local_server") && !unpacked.contains("a-key-for-this-machine-only"));
}

/// A command on a terminal of its own.
struct Terminal {
    child: Child,
    output: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
}

impl Terminal {
    fn start(checkout: &Checkout, entries: &[(&str, &str)]) -> Self {
        let mut command = checkout.command("script", entries);
        command.arg("-qec").arg(checkout.path("scripts/deploy")).arg("/dev/null");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs (install it: apt-get install bsdutils)");
        let output: Arc<Mutex<String>> = Arc::default();
        let (shared, mut stdout) = (Arc::clone(&output), child.stdout.take().expect("a pipe"));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                shared.lock().expect("no panic under the lock").push_str(&text);
            }
        });
        Self { child, output, reader }
    }

    fn output(&self) -> String {
        self.output.lock().expect("no panic under the lock").clone()
    }

    #[track_caller]
    fn answer(&mut self, prompt: &str, text: &str) {
        wait_until(&format!("it asks: {prompt}"), || self.output().contains(prompt));
        self.child.stdin.as_mut().expect("a pipe").write_all(format!("{text}\n").as_bytes()).expect("sent");
    }

    fn wait(mut self) -> Outcome {
        let status = self.child.wait().expect("it ends");
        self.reader.join().expect("all is read");
        let output = self.output.lock().expect("no panic under the lock").clone();
        Outcome { succeeded: status.success(), output }
    }
}

fn a_terminal_is_asked_for_the_secrets(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    let mut terminal = Terminal::start(&checkout, &[]);
    terminal.answer("The token (it is not shown): ", TOKEN);
    terminal.answer("Make an access key", "no");
    let output = terminal.wait().succeeds();
    assert!(
        output.contains("https://manage.fastly.com/account/personal/tokens") && output.contains("`global`"),
        "{output}"
    );
    assert!(!output.contains(TOKEN), "{output}");
    assert!(output.contains("Everybody may connect"), "{output}");
    is_whole(&fastly, "my-chat", "my-chat.edgecompute.app");

    // The token is asked for only once. The key is shown only once.
    let mut terminal = Terminal::start(&checkout, &[]);
    terminal.answer("Make an access key", "yes");
    let output = terminal.wait().output;
    let key = output.split("base64:").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a key");
    assert_eq!(key.len(), 44);
    assert!(!output.contains("The token (") && output.contains("It is shown only now"), "{output}");
    assert_eq!(fastly.items("secret", "my-chat-secrets").len(), 2);
    let output = Terminal::start(&checkout, &[]).wait().output;
    assert!(
        !output.contains("Make an access key") && !output.contains("base64:") && !output.contains("Everybody"),
        "{output}"
    );
    // A key is shown even if it is not known whether it was stored.
    let other = Fastly::start();
    let checkout = Checkout::new(&other, edge);
    checkout.deploy(&[]).succeeds();
    other.fail("/secrets", Fault::Cut);
    let mut terminal = Terminal::start(&checkout, &[]);
    // Only a whole answer counts.
    terminal.answer("Make an access key", "j");
    terminal.answer("j\r\nMake an access key", "yes");
    let output = terminal.wait().fails("Storing ACCESS_KEY failed");
    assert!(output.contains("base64:"), "{output}");
    // An empty token is none.
    let other = Fastly::start();
    let checkout = Checkout::new(&other, edge);
    let mut terminal = Terminal::start(&checkout, &[]);
    terminal.answer("The token (it is not shown): ", "");
    terminal.wait().fails("the token that publishes is empty");
    assert_eq!(other.changes(0), [""; 0]);
}

fn a_service_with_an_access_key_is_checked_with_a_token(_: u16) {
    let fastly = Fastly::start();
    let uri = format!("http://127.0.0.1:{{publish_port}}/?verify-iss={LOCAL_ISSUER}&verify-key=secret:{LOCAL_KEY}");
    let entries = [("GRIP_URL", &*uri), ("ACCESS_KEY", ACCESS_KEY)];
    let guarded = Stack::start_guarded(&entries, "*", "").expect("the service starts");
    let checkout = Checkout::new(&fastly, guarded.port);
    let deploy = |entries: &[(&str, &str)]| outcome(&mut checkout.command(root().join("scripts/deploy"), entries));
    let output = deploy(&[("FANOUT_API_TOKEN", TOKEN), ("ACCESS_KEY", ACCESS_KEY), ("SOCKETS", "3")]).succeeds();
    assert!(output.contains("3 opened, 3 got their messages back, 3 heard a broadcast"), "{output}");
    assert!(!output.contains("Everybody"), "{output}");
    let output = deploy(&[]).succeeds();
    assert!(
        output.contains("WebSockets were not tried") && output.contains("ACCESS_KEY=… make deploy NAME=my-chat"),
        "{output}"
    );
    deploy(&[("ACCESS_KEY", "secret:another secret for access tokens of tests")])
        .fails("the access token is rejected: 401");
}

/// Passes connections on to a port, but rejects the first `count` WebSockets of each `of`.
fn rejecting(to: u16, count: usize, of: usize) -> u16 {
    let sockets = AtomicUsize::new(0);
    let next = move || sockets.fetch_add(1, Ordering::Relaxed);
    intercepting(to, move || (next() % of < count).then(|| ("503 Status".to_owned(), "no hand-off".to_owned())))
}

/// The same that responds to each WebSocket in that way.
fn answering(to: u16, status: &str, body: &str) -> u16 {
    let (status, body) = (status.to_owned(), body.to_owned());
    intercepting(to, move || Some((status.clone(), body.clone())))
}

fn intercepting(to: u16, respond: impl Fn() -> Option<(String, String)> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut reader = BufReader::new(client.try_clone().expect("a handle"));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|count| count > 0) {}
            let response = Some(()).filter(|()| head.contains("Upgrade: websocket")).and_then(|()| respond());
            if let Some((status, body)) = response {
                let length = body.len();
                let response =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                let _ = (&client).write_all(response.as_bytes());
                let _ = client.shutdown(std::net::Shutdown::Write);
                thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
                continue;
            }
            let mut service = TcpStream::connect(("127.0.0.1", to)).expect("the service");
            service.write_all(head.as_bytes()).expect("sent");
            let (mut back, mut forth) = (service.try_clone().expect("a handle"), client);
            let mut out = forth.try_clone().expect("a handle");
            thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut out);
                let _ = out.shutdown(std::net::Shutdown::Both);
            });
            thread::spawn(move || {
                let rest = reader.buffer().to_vec();
                let _ = service.write_all(&rest);
                let _ = std::io::copy(&mut forth, &mut service);
            });
        }
    });
    port
}

fn the_token_of_the_check_has_the_audience_and_the_issuer(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    // The service that stands for the deployed one takes any token.
    let curl = "for header in \"$@\"; do case $header in @*) cat \"${header#@}\" >>\"$0.seen\" 2>/dev/null ;; esac; done; env >>\"$0.env\"";
    let real = Command::new("which").arg("curl").output().expect("a path");
    let real = String::from_utf8(real.stdout).expect("a path");
    program(&checkout.path("tools/curl"), &format!("{curl}\nexec {} \"$@\"", real.trim()));
    let seen = || {
        let seen = fs::read_to_string(checkout.path("tools/curl.seen")).expect("headers");
        let token =
            seen.rsplit("Bearer ").next().and_then(|rest| rest.lines().next()).expect("a token").trim().to_owned();
        let key = VerifyKey::parse(ACCESS_KEY).expect("a key");
        let verified = key.verify(&token, None, 10, now()).expect("a valid token");
        (verified.audiences.into_iter().flatten().collect::<Vec<_>>().join(","), verified.issuer.unwrap_or_default())
    };
    let of_provider =
        [("ACCESS_KEY", ACCESS_KEY), ("ACCESS_AUDIENCE", "chat"), ("ACCESS_ISSUER", "https://id.example")];
    checkout.deploy(&of_provider).succeeds();
    assert_eq!(seen(), ("chat".to_owned(), "https://id.example".to_owned()));
    let items = fastly.items("config", "my-chat-config");
    assert_eq!(["ACCESS_AUDIENCE", "ACCESS_ISSUER"].map(|name| &*items[name]), ["chat", "https://id.example"]);
    let environment = fs::read_to_string(checkout.path("tools/curl.env")).expect("an environment");
    assert!(!environment.contains(ACCESS_KEY.trim_start_matches("secret:")), "{environment}");
    // What is stored stays, and the key is there already.
    checkout.run(&[("ACCESS_AUDIENCE", "shop")]).succeeds();
    checkout.run(&[("ACCESS_KEY", ACCESS_KEY)]).succeeds();
    assert_eq!(seen(), ("shop".to_owned(), "https://id.example".to_owned()));
}

fn a_service_that_does_not_work_is_reported(edge: u16) {
    let fastly = Fastly::start();
    Checkout::new(&fastly, edge).deploy(&[]).succeeds();
    let check = |edge: u16, entries: &[(&str, &str)]| Checkout::new(&fastly, edge).run(entries);
    let output = check(rejecting(edge, 1, 3), &[("SOCKETS", "3")]).fails("only some WebSockets work: 503 no hand-off");
    assert!(output.contains("make deploy NAME=my-chat SANDBOX_REQUESTS=1") && output.contains("log-tail"), "{output}");
    let output = check(rejecting(edge, 1, 1), &[("SOCKETS", "2")]).fails("no WebSocket opens: 503 no hand-off");
    assert!(
        output.contains("deployed, but does not work") && output.contains("scripts/probe http://127.0.0.1"),
        "{output}"
    );
    check(free_port(), &[("PATIENCE", "1")])
        .fails("/api/health does not respond as it should after 1 seconds: 000 curl: ");
    // What the handler rejects is its own word, without escape codes for the terminal.
    let output =
        check(answering(edge, "402 Payment Required", "Pay \u{1b}[31mfirst\u{9b}"), &[("SOCKETS", "2")]).succeeds();
    for line in [
        "the handler of the service rejects the client of this check: 402 Pay [31mfirst",
        "done, but your handler rejects the client of the check",
        "CHECK_TOKEN=… make deploy NAME=my-chat",
    ] {
        assert!(output.contains(line) && !output.contains('\u{1b}'), "{line}: {output}");
    }
    // What the service says, or the proxy, is a failure.
    for (status, text) in [
        ("403 Forbidden", "[not proxied] Only the GRIP proxy"),
        ("429 Too Many", "Too many connections"),
        ("401 No", "Access token rejected"),
    ] {
        check(answering(edge, status, text), &[("SOCKETS", "2")]).fails("no WebSocket opens: ");
    }
    let output = check(answering(edge, "402 Payment Required", "Pay first"), &[("SOCKETS", "0")]).succeeds();
    assert!(output.contains("WebSockets were not tried"), "{output}");
    // A number is checked before the shell computes with it: that would run what stands in it.
    let ran = Scratch::new("ran");
    let command = format!("BASH_VERSINFO[$(touch {}/it)]", ran.path().display());
    for name in ["PATIENCE", "SOCKETS", "SETTLE"] {
        check(edge, &[(name, &command)]).fails("invalid ");
        assert!(!ran.path().join("it").exists(), "{name} was run");
    }
}

/// Runs `make undeploy` with an answer to its question.
fn remove(checkout: &Checkout, answer: &str) -> Outcome {
    let mut command = checkout.command(checkout.path("scripts/deploy"), &[]);
    let child = command.arg("--remove").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the script runs");
    let _ = child.stdin.take().expect("a pipe").write_all(answer.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Outcome { succeeded: output.status.success(), output: text }
}

fn what_an_application_declares_is_made_and_removed(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    let manifest = fs::read_to_string(checkout.path("fastly.toml")).expect("a manifest");
    let declare = |more: &str| fs::write(checkout.path("fastly.toml"), format!("{manifest}\n{more}")).expect("a file");
    // As the document has it.
    let document = fs::read_to_string(root().join("docs/handler.md")).expect("the document");
    let section = document.split("## Settings, secrets and backends of your own").nth(1).expect("a section");
    let declared = section.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    declare(&format!(
        "{declared}\n  [setup.backends.\"plain\"]\n    address = 'plain.example.com'\n    port = 80\n  [setup.backends.other]\n    address = \"other.example.com\"\n    port = 8443\n"
    ));

    let from = fastly.requests().len();
    let output = checkout.deploy(&[]).fails("the secret API_KEY is missing: The key of the rooms");
    assert!(output.contains("environment variable API_KEY"), "{output}");
    assert_eq!(fastly.changes(from), [""; 0]);
    let output = checkout.deploy(&[("API_KEY", "a-key-of-the-rooms")]).succeeds();
    for line in [
        "setting GREETING: hello",
        "secret API_KEY: stored",
        "backend rooms: created, https://rooms.example.com",
        "backend plain: created, http://plain.example.com",
        "ATTENTION: the backend other is called without TLS",
        "backend other: created, http://other.example.com",
        "kv store my-chat-scores: made",
        "store scores: linked",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    assert!(!output.contains("a-key-of-the-rooms"), "{output}");
    let service = fastly.service("my-chat");
    let active = service.active().expect("an active version");
    let of = |backend: &str, field: &str| active.backends[backend].get(field).cloned().unwrap_or_default();
    assert_eq!((&*of("rooms", "port"), &*of("rooms", "ssl_cert_hostname")), ("443", "rooms.example.com"));
    assert_eq!((&*of("plain", "port"), &*of("plain", "ssl_cert_hostname")), ("80", ""));
    assert_eq!((&*of("other", "port"), &*of("other", "ssl_cert_hostname")), ("8443", ""));
    assert!(active.links.contains_key("scores"));
    assert_eq!(fastly.items("config", "my-chat-config").get("GREETING").map(String::as_str), Some("hello"));
    assert!(fastly.items("secret", "my-chat-secrets").contains_key("API_KEY"));

    // Again: nothing has changed, and the secret is not needed any more.
    let output = checkout.deploy(&[]).succeeds();
    for line in [
        "backend rooms: kept",
        "backend plain: kept",
        "backend other: kept",
        "kv store my-chat-scores: kept",
        "version 1: kept",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    let output = checkout.deploy(&[("GREETING", "hi")]).succeeds();
    assert!(output.contains("setting GREETING: hi (before: hello)"), "{output}");
    // Without TLS, which the CLI cannot turn off.
    let plain = fs::read_to_string(checkout.path("fastly.toml")).expect("a manifest");
    let rooms = "address = \"rooms.example.com\"\nport = ";
    fs::write(checkout.path("fastly.toml"), plain.replace(&format!("{rooms}443"), &format!("{rooms}80")))
        .expect("a file");
    let output = checkout.deploy(&[]).succeeds();
    assert!(output.contains("backend rooms: created, http://rooms.example.com"), "{output}");
    let service = fastly.service("my-chat");
    let rooms = &service.active().expect("an active version").backends["rooms"];
    assert_eq!((&*rooms["port"], rooms.contains_key("ssl_cert_hostname")), ("80", false));
    let output = remove(&checkout, "yes\n").succeeds();
    assert!(output.contains("would delete the kv store my-chat-scores"), "{output}");
    assert!(fastly.account().services.is_empty() && fastly.account().stores.is_empty());

    // Those of the service itself, too.
    let only = manifest.replace("value = \"*\"", "value = \"https://my.example\"");
    fs::write(checkout.path("fastly.toml"), only).expect("a file");
    checkout.deploy(&[]).succeeds();
    let origins = fastly.items("config", "my-chat-config").get("ALLOWED_ORIGINS").cloned();
    assert_eq!(origins.as_deref(), Some("https://my.example"));

    let from = fastly.requests().len();
    declare("[setup.backends.rooms]\nport = 443\n");
    checkout.deploy(&[]).fails("the backend rooms in fastly.toml has no address");
    for (declared, problem) in [
        ("[setup.secret_stores.fanout.entries.API-KEY]\n", "invalid name \"API-KEY\" in fastly.toml"),
        ("[setup.config_stores.fanout_config.items.key]\n", "invalid name \"key\" in fastly.toml"),
        ("[setup.config_stores.fanout_config.items.TOKEN]\n", "the name TOKEN in fastly.toml means something else"),
        ("[setup.kv_stores.history]\n", "the name history of a store in fastly.toml is that of the service's own"),
        ("[setup.backends.a]\naddress = \"a\\\"b\"\n", "a line below [setup] in fastly.toml cannot be read"),
        ("[setup]\nbackends.rooms.address = \"x\"\n", "a line below [setup] in fastly.toml cannot be read"),
        (
            "[setup.config_stores.fanout_config.items.OPENINGS_PER_MINUTE]\nvalue = \"many\"\n",
            "a setting cannot be used",
        ),
    ] {
        declare(declared);
        checkout.deploy(&[("API_KEY", "x")]).fails(problem);
    }
    checkout.deploy(&[("APP", "nowhere")]).fails("there is no folder nowhere");
    let home = checkout.path("home").display().to_string();
    checkout.deploy(&[("APP", &*home)]).fails("there is no fastly.toml in");
    assert_eq!(fastly.changes(from), [""; 0]);
}

/// In an empty folder: it is served, served again when it has changed, and deployed. Its tests are those of `tests/it`, `room`.
fn an_application_made_as_the_document_says_works(_: u16) {
    const KEY: &str = "secret:a-key-for-my-chat-on-this-machine-only";
    let document = fs::read_to_string(root().join("docs/handler.md")).expect("the document");
    let block = |heading: &str, language: &str, number: usize| {
        let section = document.split(heading).nth(1).expect("a section");
        let fence = format!("```{language}\n");
        section
            .split(&fence)
            .nth(number)
            .and_then(|rest| rest.split("```").next())
            .expect("a block")
            .trim_end()
            .to_owned()
            + "\n"
    };
    let app = Scratch::new("my-chat");
    fs::create_dir(app.path().join("src")).expect("a folder");
    let write = |name: &str, text: &str| fs::write(app.path().join(name), text).expect("a file");
    let of_app = "## An application of your own";
    let dependency = format!("path = \"{}\"", root().display());
    let cargo_toml = block(of_app, "toml", 1).replace("git = \"https://github.com/YOU/fanout-edge\"", &dependency);
    write("Cargo.toml", &cargo_toml);
    write("src/main.rs", &block(of_app, "rust", 1));
    let handler = block(of_app, "rust", 2);
    write("src/handler.rs", &handler);
    let manifest = fs::read_to_string(root().join("fastly.toml")).expect("a manifest");
    let manifest =
        manifest.replace("name = \"fanout-edge\"", "name = \"my-chat\"").replace("--bin fanout-edge", "--bin my-chat");
    write("fastly.toml", &format!("{manifest}\n{}", block(of_app, "toml", 2)));
    // So that what is built for this repository is of use.
    fs::copy(root().join("Cargo.lock"), app.path().join("Cargo.lock")).expect("a copy");
    let target = root().join("target");

    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, 0);
    let mut build = Command::new("make");
    build.args(["build", &format!("APP={}", app.path().display())]).current_dir(root());
    outcome(build.env("CARGO_TARGET_DIR", &target)).succeeds();

    let mut stack = Stack::start_app(app.path(), &target);
    let claims = r#"{"sub":"alice","x-fastly-read":["*"],"x-fastly-write":["*"]}"#;
    let token = access_token(KEY.trim_start_matches("secret:"), now() + 3600, claims);
    let bearer = format!("Bearer {token}");
    let says = |port: u16, expected: &str| {
        let headers = [("Authorization", &*bearer)];
        let Some(mut client) = Client::try_connect(port, "/api/websocket?channel=room-1", &headers, PATIENCE) else {
            return false;
        };
        client.try_send("/help") && client.read_within(PATIENCE).is_ok_and(|message| message.to_string() == expected)
    };
    wait_until("it is served", || says(stack.port, "Say something"));
    let edge = Checkout::new(&fastly, stack.port);
    let app_folder = app.path().display().to_string();
    let entries = [("FANOUT_API_TOKEN", TOKEN), ("ACCESS_KEY", KEY), ("APP", &*app_folder)];
    let output = outcome(&mut edge.command(root().join("scripts/deploy"), &entries)).succeeds();
    assert!(output.contains("1 opened, 1 got their messages back, 1 heard a broadcast"), "{output}");
    is_whole(&fastly, "my-chat", "my-chat.edgecompute.app");

    write("src/handler.rs", &handler.replace("Say something", "Say anything"));
    wait_until("the changed one is served", || says(stack.port, "Say anything"));
    stack.stop();
    drop(checkout);
}

fn everything_is_removed_after_a_yes(edge: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, edge);
    checkout.deploy(&[]).succeeds();
    checkout.deploy(&[("NAME", "other-chat")]).succeeds();
    let remove = |answer: &str| remove(&checkout, answer);
    let from = fastly.requests().len();
    for answer in ["", "no\n", "y\n"] {
        let output = remove(answer).fails("nothing was deleted");
        assert!(
            output.contains("would delete the service my-chat") && output.contains("my-chat.edgecompute.app"),
            "{output}"
        );
    }
    assert_eq!(fastly.changes(from), [""; 0]);
    let output = remove("yes\n").succeeds();
    assert!(output.contains("service my-chat: deleted"), "{output}");
    let names =
        |fastly: &Fastly| fastly.account().services.iter().map(|service| service.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(&fastly), fastly.account().stores.len()), (vec!["other-chat".to_owned()], 3));
    assert!(remove("yes\n").succeeds().contains("there is nothing of my-chat"));
    is_whole(&fastly, "other-chat", "other-chat.edgecompute.app");
}

/// Copies the files of a checkout that are not built or installed.
fn copy(from: &Path, to: &Path) {
    const LEFT_OUT: [&str; 6] = ["target", "bin", "pkg", "pushpin-logs", "node_modules", ".git"];
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() && !LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            copy(&from, &to);
        } else if from.is_file() {
            copy_program(&from, &to);
        }
    }
}

/// Runs the Fastly CLI in a folder.
fn fastly_in(folder: &Path, checkout: &Checkout, arguments: &[&str]) -> Outcome {
    outcome(checkout.command("fastly", &[]).args(arguments).arg("--non-interactive").current_dir(folder))
}

fn a_project_that_begins_as_this_one_serves_and_deploys(_: u16) {
    let fastly = Fastly::start();
    let (source, project) = (Scratch::new("source"), Scratch::new("my-room"));
    copy(root(), source.path());
    let from = format!("--from={}", source.path().display());
    let checkout = Checkout::new(&fastly, 0);
    fastly_in(project.path(), &checkout, &["compute", "init", &from]).succeeds();
    let manifest = || fs::read_to_string(project.path().join("fastly.toml")).expect("a manifest");
    let initialized = manifest();
    let name = project.path().file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(initialized.contains(&format!("name = \"{name}\"")), "{initialized}");

    // On other ports, although the CLI has rewritten the file.
    fs::create_dir(project.path().join("bin")).expect("a folder");
    fs::copy(shipped_module(), project.path().join("bin/main.wasm")).expect("a copy");
    let mut stack = Stack::start_in(project.path());
    // Its logs have tokens, and its publish port is open.
    let logs = fs::metadata(project.path().join("pushpin-logs")).expect("a folder");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&logs.permissions()) & 0o777, 0o700);
    assert!(stack.output().contains("For development only: whoever reaches port "), "{}", stack.output());
    let deploy = project.path().join("scripts/deploy");
    let edge = Checkout::new(&fastly, stack.port);
    let output = outcome(&mut edge.command(deploy, &[("FANOUT_API_TOKEN", TOKEN)])).succeeds();
    assert!(output.contains("1 opened, 1 got their messages back, 1 heard a broadcast"), "{output}");
    is_whole(&fastly, "my-chat", "my-chat.edgecompute.app");
    stack.stop();
    assert_eq!(manifest(), initialized);

    let mut tests = checkout.command("cargo", &[]);
    tests.args(["test", "--quiet", "--lib", "--test", "it"]).current_dir(project.path());
    outcome(tests.env("CARGO_TARGET_DIR", root().join("target"))).succeeds();

    // The handler of the chat, copied as its README says.
    fs::copy(root().join("examples/chat/src/handler.rs"), project.path().join("src/handler.rs")).expect("a copy");
    let mut check = checkout.command("cargo", &[]);
    check.args(["check", "--quiet", "--lib", "--bins"]).current_dir(project.path());
    outcome(check.env("CARGO_TARGET_DIR", root().join("target"))).succeeds();
}

fn fastly_compute_publish_works_without_questions(_: u16) {
    let fastly = Fastly::start();
    let checkout = Checkout::new(&fastly, 0);
    let folder = checkout.folder.path();
    let package = root().join("pkg/fanout-edge.tar.gz");
    let package = format!("--package={}", package.display());
    let arguments = ["compute", "deploy", &*package, "--status-check-off"];
    fastly_in(folder, &checkout, &arguments).succeeds();
    let account = fastly.account();
    let [service] = &account.services[..] else { panic!("not one service") };
    assert_eq!((&*service.name, &*service.products), ("fanout-edge", &["fanout".to_owned()][..]));
    assert!(service.active().is_some_and(|active| active.links.contains_key("fanout")));
    let settings = account.stores.iter().find(|store| store.kind == "config").expect("a store");
    assert_eq!(settings.items.get("ALLOWED_ORIGINS").map(|value| &**value), Some("*"));
}
