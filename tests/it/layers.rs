//! The layers of the source: main → fastly → app → grip, one way only; that every test is part of this binary; and that the
//! documents name tests that exist.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the source").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

fn naming<'a>(files: &'a [PathBuf], word: &str) -> Vec<&'a str> {
    let names = |path: &&PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(word));
    let mut named: Vec<_> = files.iter().filter(names).filter_map(|path| path.file_name()?.to_str()).collect();
    named.sort_unstable();
    named
}

#[test]
fn each_layer_knows_only_those_below_it() {
    let source = root().join("src");
    let all = sources(&source);
    assert_eq!(naming(&all, "fastly::"), ["fastly.rs", "lib.rs", "store.rs"]);
    assert_eq!(naming(&all, "use fastly"), ["fastly.rs", "store.rs"]);
    assert_eq!(naming(&all, "SystemTime"), ["fastly.rs"]);
    let mut grip = sources(&source.join("grip"));
    grip.push(source.join("grip.rs"));
    assert!(grip.len() > 5);
    for app in ["crate::app", "super::app", "super::super"] {
        assert_eq!(naming(&grip, app), [""; 0]);
    }
    // What an application sees of the library has no type of jwt-simple.
    let public = grip.iter().flat_map(|path| {
        fs::read_to_string(path).expect("a source file").lines().map(str::to_owned).collect::<Vec<_>>()
    });
    for line in public.filter(|line| line.trim_start().starts_with("pub ")) {
        for foreign in ["HS256Key", "ES256PublicKey", "JWTClaims", "UnixTimeStamp", "NoCustomClaims"] {
            assert!(!line.contains(foreign), "{line}");
        }
    }
}

#[test]
fn every_test_that_needs_no_server_runs_natively_and_in_wasm() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).expect("the list of modules");
    for path in sources(&root().join("tests/it")) {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        assert!(name == "main" || main.contains(&format!("\nmod {name};")), "tests/it/{name}.rs is not in main.rs");
        let text = fs::read_to_string(&path).expect("a test");
        if !["main", "documents", "layers"].contains(&name) {
            assert!(!text.contains("target_os"), "tests/it/{name}.rs leaves out a target");
        }
    }
    let native: Vec<_> = main
        .split("#[cfg(not(target_os = \"wasi\"))]\nmod ")
        .skip(1)
        .filter_map(|rest| rest.split(';').next())
        .collect();
    assert_eq!(native, ["documents", "layers", "properties"], "these need what wasm has not");
}

#[test]
fn each_test_that_the_security_document_names_exists() {
    let tests: String = sources(&root().join("tests"))
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).expect("a test"))
        .collect();
    let document = fs::read_to_string(root().join("docs/security.md")).expect("the document");
    // A test has a name of four words or more; what is shorter is a file or a field.
    let names = document.split('`').skip(1).step_by(2).filter(|name| {
        name.matches('_').count() > 2
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    });
    let names: Vec<_> = names.collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("fn {name}(")) || tests.contains(&format!("\"{name}\"")), "no test {name}");
    }
}
