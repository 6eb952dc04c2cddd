//! What the documents say: links that lead somewhere, a README that says it in one screen, commands that are run.

use fanout_edge::{Connection, Message, Rejection, testing::Test};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All documents: those at the top, in docs/ and in examples/.
fn documents() -> Vec<PathBuf> {
    let folders = [root().to_owned(), root().join("docs"), root().join("examples/chat")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder").flatten());
    files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The anchors of a document, as GitHub makes them of its headings.
fn anchors(text: &str) -> HashSet<String> {
    let headings = outside_of_code(text).into_iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|char| char.is_alphanumeric() || matches!(char, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

fn outside_of_code(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        is_code ^= line.trim_start().starts_with("```");
        !is_code
    });
    lines.collect()
}

#[test]
fn each_link_leads_somewhere() {
    let (mut linked, mut count) = (HashSet::new(), 0);
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document");
        let folder = path.parent().expect("a folder");
        for line in outside_of_code(&text) {
            let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let pictures =
                line.split("src=\"").chain(line.split("srcset=\"")).skip(1).filter_map(|rest| rest.split('"').next());
            for link in links.chain(pictures.filter(|link| link.starts_with("docs/"))) {
                if link.starts_with("http") {
                    continue;
                }
                count += 1;
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() { path.clone() } else { folder.join(file) };
                assert!(target.exists(), "{}: {link}", path.display());
                if !anchor.is_empty() {
                    let text = fs::read_to_string(&target).expect("a document");
                    assert!(anchors(&text).contains(anchor), "{}: {link}", path.display());
                }
                linked.insert(target.canonicalize().expect("a path"));
            }
        }
    }
    assert!(count > 50, "{count} links");
    for path in documents() {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let is_found = linked.contains(&path.canonicalize().expect("a path"));
        // These are found by their names.
        assert!(is_found || ["README.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md"].contains(&name), "no link to {name}");
    }
}

#[test]
fn the_readme_says_it_in_one_screen() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    assert!(readme.lines().count() <= 150, "{} lines", readme.lines().count());
}

#[test]
fn each_block_of_commands_is_run_or_says_why_not() {
    // `sh` is run by end_to_end `the_commands_of_the_documents_work`. The others need an account or Node.js, or are the make
    // targets that run this.
    const KINDS: [&str; 11] =
        ["sh", "sh account", "sh node", "sh make", "js", "html", "jsx", "rust", "json", "toml", ""];
    const COMMANDS: [&str; 9] =
        ["curl ", "make ", "npx ", "fastly ", "scripts/probe ", "cargo ", "$ ", "export ", "FASTLY"];
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document");
        let mut kind = None;
        for line in text.lines() {
            if let Some(fence) = line.trim_start().strip_prefix("```") {
                assert!(kind.is_some() || KINDS.contains(&fence), "{}: {line}", path.display());
                kind = if kind.is_some() { None } else { Some(fence) };
            } else if kind == Some("") {
                let is_command = COMMANDS.iter().any(|command| line.trim_start().starts_with(command));
                assert!(!is_command, "{}: mark as a command: {line}", path.display());
            }
        }
    }
}

/// The README's change: capitals, and the end at `bye`.
fn capitals(connection: &mut Connection<'_>) -> Result<(), Rejection> {
    if connection.is_opening() {
        connection.accept();
    }
    while let Some(message) = connection.receive() {
        match message {
            Message::Text("bye") => connection.close(None),
            Message::Text(text) => connection.send(text.to_uppercase()),
            message => connection.send(message),
        }
    }
    Ok(())
}

#[test]
fn the_readme_shows_the_shipped_handler_and_a_change_that_works() {
    let readme = include_str!("../../README.md");
    let source = include_str!("../../src/handler.rs");
    let shipped = source.split("pub fn on_websocket").nth(1).and_then(|rest| rest.split("\n}\n").next());
    assert!(readme.contains(shipped.expect("the handler")), "the README shows another handler than src/handler.rs has");
    let own = include_str!("documents.rs");
    for line in [
        "Message::Text(\"bye\") => connection.close(None),",
        "Message::Text(text) => connection.send(text.to_uppercase()),",
    ] {
        assert!(readme.contains(line) && own.contains(line), "{line}");
    }
    let mut client = Test::new(capitals).connect("");
    client.send("hi");
    assert_eq!(client.received(), ["HI"]);
    client.send("bye");
    assert_eq!(client.closed(), Some((None, "")));
}

#[test]
fn the_application_of_the_document_is_the_one_that_is_tested() {
    let document = include_str!("../../docs/handler.md");
    let plain = |text: &str| text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    let shown = plain(document);
    assert!(shown.contains(&plain(include_str!("../handlers/room/handler.rs"))), "docs/handler.md has another handler");
    // Its imports are those of two blocks.
    let tests = plain(include_str!("../handlers/room/tests.rs"));
    let (of_handler, of_broadcasts) = tests.split_once("/// Keeps messages short").expect("both");
    let of_handler = of_handler.split_once("#[test]").expect("a test").1.trim_end();
    assert!(shown.contains(of_handler) && shown.contains(of_broadcasts), "docs/handler.md has other tests");
}

#[test]
fn handlers_to_copy_are_documented_as_the_lints_want_it() {
    for path in ["examples/chat/src/handler.rs", "docs/coming-from.md", "src/handler.rs"] {
        let text = fs::read_to_string(root().join(path)).expect("a handler");
        let lines: Vec<_> = text.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("pub fn on_websocket(")).expect("a handler");
        assert!(lines[at - 1].starts_with("/// "), "{path}: {}", lines[at - 1]);
    }
}
