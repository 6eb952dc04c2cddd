//! Leaves the comments out of the client that is served: they are for readers of src/client/client.js.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    const SOURCE: &str = "src/client/client.js";
    println!("cargo::rerun-if-changed={SOURCE}");
    let source = fs::read_to_string(SOURCE)?;
    // A comment has lines of its own, or stands behind two spaces.
    let is_comment = |line: &&str| ["//", "/*", "*"].iter().any(|mark| line.starts_with(mark));
    let lines = source.lines().map(str::trim).filter(|line| !line.is_empty() && !is_comment(line));
    let client: String = lines.map(|line| line.split("  //").next().unwrap_or_default().to_owned() + "\n").collect();
    fs::write(Path::new(&env::var("OUT_DIR")?).join("client.js"), client)?;
    Ok(())
}
