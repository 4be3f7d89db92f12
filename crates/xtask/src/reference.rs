//! `docs/configuration.md`: the tables of the three configuration files, rendered from the structs that they are read into.
//!
//! What a struct says is all there is: a key is a field, its meaning the field's comment, its default what serde gives. What cannot
//! be rendered is an error, so that nothing is left out silently.

mod defaults;
mod model;
mod read;
mod render;
mod types;

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::finding::Finding;
use model::Model;

/// The rendered file.
const FILE: &str = "docs/configuration.md";
/// Crates whose types stand in configurations.
const CRATES: [&str; 9] = [
    "gateway-out",
    "gateway-in",
    "relay",
    "crates/service",
    "crates/sandbox",
    "crates/pseudonym",
    "crates/dimse",
    "crates/envelope",
    "crates/base",
];
/// Role, and what its file is.
const ROLES: [(&str, &str); 3] = [
    ("gateway-out", "The sending side: takes C-STORE and owes what it took."),
    ("gateway-in", "The receiving side: collects, opens, and stores at destinations."),
    ("relay", "Between the two: holds sealed bodies in memory."),
];

/// The text of the file.
fn text(root: &Path, files: &[String]) -> anyhow::Result<String> {
    let mut model = Model::default();
    for name in CRATES {
        let prefix = format!("{name}/src/");
        let sources = files.iter().filter(|path| path.starts_with(&prefix) && path.ends_with(".rs"));
        for path in sources {
            let source =
                fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
            read::add(&mut model, name, &source).with_context(|| path.clone())?;
        }
    }
    render::document(&model, &ROLES)
}

/// Whether the committed file is the rendered one.
pub(crate) fn check(root: &Path, files: &[String]) -> anyhow::Result<Vec<Finding>> {
    let written = fs::read_to_string(root.join(FILE)).unwrap_or_default();
    if written == text(root, files)? {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::error(format!("{FILE} is not what the structs say; run `cargo xtask reference`"))])
}

/// Writes the file.
pub(crate) fn write(root: &Path, files: &[String]) -> anyhow::Result<()> {
    fs::write(root.join(FILE), text(root, files)?).with_context(|| format!("cannot write {FILE}"))
}
