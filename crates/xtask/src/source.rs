//! What is read in the files themselves: sizes, words, and the opening of each library.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::finding::Finding;

/// Lines of a Rust file above its tests.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;

/// Words that no file may hold, with the reason. They are put together here, so that this file does not hold them.
const WORDS: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of somebody's machine"),
    (concat!("/fa", "rm/"), "a path of somebody's machine"),
    (concat!("/ro", "ot/"), "a path of somebody's machine"),
    (concat!("/ho", "me/"), "a path of somebody's machine"),
    (concat!("/tm", "p/"), "a path of somebody's machine; tests make their own folder"),
    (concat!("todo", "!("), "unfinished"),
    (concat!("unimplemented", "!("), "unfinished"),
    (concat!("TO", "DO"), "unfinished; file an issue"),
    (concat!("FIX", "ME"), "unfinished; file an issue"),
    (concat!("#[ig", "nore"), "a test that does not run proves nothing"),
];

/// The same for Rust files of programs. Tests and examples say at their top that they may panic; clippy wants a reason
/// from them as well.
const WORDS_OF_PROGRAMS: &[(&str, &str)] = &[
    (concat!("#[al", "low("), "write #[expect(.., reason = \"..\")]"),
    (concat!("#![al", "low("), "write #![expect(.., reason = \"..\")]"),
];

/// Files whose content is not ours to word.
const WORDS_NOT_READ: &[&str] = &["Cargo.lock", "LICENSE-MIT", "LICENSE-APACHE"];

/// Every file that git tracks, or would.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = listed.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    let paths = paths.map(|path| String::from_utf8_lossy(path).into_owned());
    // A file that was removed and not yet committed is listed, too.
    Ok(paths.filter(|path| root.join(path).is_file()).collect())
}

/// Reads them.
pub(crate) fn check(root: &Path, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in files {
        // One that is no text has nothing to read.
        let Some(text) = fs::read(root.join(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        else {
            continue;
        };
        findings.extend(check_file(path, &text));
    }
    findings
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !WORDS_NOT_READ.contains(&path) {
        findings.extend(words(WORDS, path, text));
    }
    if path.ends_with(".rs") {
        if !is_tests_or_examples(path) {
            findings.extend(words(WORDS_OF_PROGRAMS, path, text));
        }
        findings.extend(sizes(path, text));
    }
    if path.starts_with("crates/") && path.ends_with("/src/lib.rs") {
        findings.extend(opening(path, text));
    }
    findings
}

fn is_tests_or_examples(path: &str) -> bool {
    path.split('/').any(|folder| folder == "tests" || folder == "examples")
}

fn words(list: &[(&str, &str)], path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (word, reason) in list.iter().filter(|(word, _)| holds(line, word)) {
            findings.push(Finding::error(format!("{path}:{number}: {word} ({reason})")));
        }
    }
    findings
}

/// A path counts only where it starts at the root: an attack in a test climbs to one, an address may contain one.
fn holds(line: &str, word: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !word.starts_with('/') || before.is_none_or(|c| !goes_on(c))
    })
}

fn sizes(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let above_tests: Vec<&str> = text.lines().take_while(|line| line.trim_end() != "#[cfg(test)]").collect();
    if is_tests_or_examples(path) {
        return findings;
    }
    if above_tests.len() > FILE_LINES_MAX {
        let lines = above_tests.len();
        findings.push(Finding::warning(format!(
            "{path}: {lines} lines above the tests; aim at {FILE_LINES_MAX}"
        )));
    }
    for (number, line) in (1..).zip(&above_tests) {
        let Some((name, indent)) = function(line) else { continue };
        let lines = function_lines(above_tests.get(number - 1..).unwrap_or_default(), indent);
        if lines > FUNCTION_LINES_MAX {
            findings.push(Finding::warning(format!(
                "{path}:{number}: fn {name} has {lines} lines; aim at {FUNCTION_LINES_MAX}"
            )));
        }
    }
    findings
}

/// The lines of the function that starts with the first line; none for a declaration without a body.
fn function_lines(lines: &[&str], indent: &str) -> usize {
    let signature = lines.iter().position(|line| line.ends_with(['{', '}', ';'])).unwrap_or_default();
    if lines.get(signature).is_none_or(|line| !line.ends_with('{')) {
        return signature + 1;
    }
    // rustfmt puts the last brace of a function below the first letter of its first line.
    let end = format!("{indent}}}");
    lines.iter().position(|line| **line == end).map_or(lines.len(), |last| last + 1)
}

/// Name and indentation of the function that starts on a line.
fn function(line: &str) -> Option<(&str, &str)> {
    let rest = line.trim_start();
    let indent = line.get(..line.len() - rest.len())?;
    let (before, after) = rest.split_once("fn ")?;
    let qualifier = |word: &str| {
        word.starts_with("pub") || ["const", "async", "unsafe", "extern", "\"C\"", "crate)"].contains(&word)
    };
    if !before.split_whitespace().all(qualifier) {
        return None;
    }
    let name = after.split(['(', '<']).next()?;
    Some((name, indent))
}

/// A library says first what it is, what it is not, and where to begin.
fn opening(path: &str, text: &str) -> Vec<Finding> {
    let opening: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
    let opening = opening.join("\n");
    if opening.is_empty() {
        return vec![Finding::error(format!("{path}: does not open with what the crate does"))];
    }
    let missing = ["does not do", "Read first"].into_iter().filter(|part| !opening.contains(part));
    missing.map(|part| Finding::warning(format!("{path}: the opening has no {part:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, text: &str) -> Vec<String> {
        check_file(path, text).into_iter().map(|f| f.to_string()).collect()
    }

    #[test]
    fn every_word_is_found_wherever_it_stands() {
        for (word, reason) in WORDS {
            let text = format!("first\nlet a = b; // {word}x\n");
            assert!(
                texts("a/b.py", &text).contains(&format!("error: a/b.py:2: {word} ({reason})")),
                "{word}"
            );
            assert!(texts("Cargo.lock", &text).is_empty());
        }
        for (word, _) in WORDS_OF_PROGRAMS {
            let text = format!("{word}dead_code, reason = \"x\")]\n");
            assert_eq!(texts("a/src/b.rs", &text).len(), 1);
            assert!(texts("a/tests/b.rs", &text).is_empty() && texts("a/b.md", &text).is_empty());
        }
        let climbing = format!("../..{0}x and https://example.org{0}x\n", concat!("/tm", "p/"));
        assert!(texts("a.py", &climbing).is_empty());
        assert!(texts("a.rs", "ignore, allow, a to-do, the root of a tree, at home\n").is_empty());
    }

    #[test]
    fn long_files_and_functions_are_warned_about_but_not_their_tests() {
        let line = "    let a = 1;\n";
        let long = format!("pub(crate) async fn long(a: A) {{\n{}}}\n", line.repeat(69));
        assert_eq!(texts("x.rs", &long), ["warning: x.rs:1: fn long has 71 lines; aim at 70"]);
        let short = format!("fn short() {{\n{}}}\n", line.repeat(68));
        assert!(texts("x.rs", &short).is_empty());
        assert!(texts("x.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n")).is_empty());
        assert!(texts("crates/x/tests/a.rs", &long).is_empty());
        let nested = format!(
            "impl A {{\n    fn one(&self) {{\n{}    }}\n\n    fn two(&self) {{\n    }}\n}}\n",
            line.repeat(70)
        );
        assert_eq!(texts("x.rs", &nested), ["warning: x.rs:2: fn one has 72 lines; aim at 70"]);
        let declared = format!(
            "trait A {{\n    fn one(\n        &self,\n    ) -> B;\n    // x\n{}}}\n",
            "    // x\n".repeat(80)
        );
        assert!(texts("x.rs", &declared).is_empty());
        let file = format!("{}#[cfg(test)]\n{}", "// x\n".repeat(501), "// x\n".repeat(999));
        assert_eq!(texts("x.rs", &file), ["warning: x.rs: 501 lines above the tests; aim at 500"]);
    }

    #[test]
    fn a_library_opens_with_what_it_is() {
        let good = "//! Does it.\n//!\n//! What it does not do: more.\n//!\n//! Read first: [`A`].\n";
        assert!(texts("crates/x/src/lib.rs", good).is_empty());
        assert_eq!(
            texts("crates/x/src/lib.rs", "mod a;\n"),
            ["error: crates/x/src/lib.rs: does not open with what the crate does"]
        );
        assert_eq!(
            texts("crates/x/src/lib.rs", "//! Does it. What it does not do: more.\n"),
            ["warning: crates/x/src/lib.rs: the opening has no \"Read first\""]
        );
        assert!(texts("crates/x/src/other.rs", "mod a;\n").is_empty());
    }
}
