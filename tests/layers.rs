//! The layers of the source: main → edge → app → grip, one way only; and that the documents name what there is.
#![cfg(not(target_os = "wasi"))]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the source").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

fn naming<'a>(files: &'a [PathBuf], word: &str) -> Vec<&'a str> {
    let names = |path: &&PathBuf| fs::read_to_string(path).expect("a source file").contains(word);
    files.iter().filter(names).filter_map(|path| path.file_name()?.to_str()).collect()
}

#[test]
fn each_layer_knows_only_those_below_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let all = sources(&source);
    assert_eq!(naming(&all, "fastly::"), ["edge.rs"]);
    assert_eq!(naming(&all, "use fastly"), ["edge.rs"]);
    assert_eq!(naming(&all, "SystemTime"), ["edge.rs"]);
    let mut grip = sources(&source.join("grip"));
    grip.push(source.join("grip.rs"));
    assert!(grip.len() > 5);
    for app in ["crate::app", "super::app", "super::super"] {
        assert_eq!(naming(&grip, app), [""; 0]);
    }
}

#[test]
fn each_test_that_the_security_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests: String = sources(&root.join("tests"))
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).expect("a test"))
        .collect();
    let document = fs::read_to_string(root.join("docs/security.md")).expect("the document");
    // A test has a name of three words or more; what is shorter is a file or a field.
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
