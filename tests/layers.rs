//! The layers of the source: main → edge → app → grip, one way only.
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
