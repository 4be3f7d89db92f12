//! Commands that the documents tell an operator to run.

use std::path::Path;
use std::{fs, io};

/// All commands of a program in the `sh` blocks of `docs/*.md`, as words, each with the place where it stands. Comments are
/// left out; `sudo -u sluis` stands in front or not.
pub fn documented_commands(program: &str) -> io::Result<Vec<(String, Vec<String>)>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut commands = Vec::new();
    for entry in fs::read_dir(&docs)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for (number, line) in shell_lines(&text) {
            let words = words(line);
            let own = words.strip_prefix(&["sudo", "-u", "sluis"].map(str::to_owned)).unwrap_or(&words);
            if own.first().is_some_and(|first| first == program) {
                commands.push((format!("{name}:{number}"), own.to_vec()));
            }
        }
    }
    Ok(commands)
}

fn shell_lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut block = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        match line.strip_prefix("```") {
            Some(_) if block.is_some() => block = None,
            Some(kind) => block = Some(kind == "sh" || kind.starts_with("sh ")),
            None if block == Some(true) => lines.push((number, line)),
            None => {}
        }
    }
    lines
}

/// As a shell splits them, as far as documents go: double quotes, and comments.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted) = (String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted && word.is_empty() => break,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        assert_eq!(words("a  --reason \"b c\"   # d"), ["a", "--reason", "b c"]);
        assert_eq!(
            shell_lines("```sh\na\n```\nb\n```toml\nc\n```\n```sh pacs\nd\n```"),
            [(2, "a"), (9, "d")]
        );
    }
}
