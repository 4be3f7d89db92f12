//! Configurations as an operator meets them: every key that a daemon knows, and what it says of a wrong file.

#![expect(clippy::panic, clippy::expect_used, reason = "tests call it: a panic is their message")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A change to a good file that makes it wrong.
#[derive(Clone, Copy, Debug)]
pub struct Mistake {
    /// What is wrong, in words.
    pub title: &'static str,
    /// What is replaced, at its first place; empty: nothing, `wrong` stands at the end.
    pub right: &'static str,
    /// What stands there instead.
    pub wrong: &'static str,
}

const fn added(title: &'static str, wrong: &'static str) -> Mistake {
    Mistake { title, right: "", wrong }
}

/// In `[alarm]`, which every role has. `notes.txt` is a file that is not what it is named for.
#[rustfmt::skip]
pub const ALARM_MISTAKES: &[Mistake] = &[
    added("alarms that come all the time", "[alarm]\nrepeat = \"1min\""),
    added("alarms that come too late", "[alarm]\nafter = \"1day\""),
    added("a part of a disk that is more than all", "[alarm]\ndisk = 100"),
    added("an alarm program without its path", "[alarm]\ncommand = [\"page\"]"),
    added("a mail server without a port", "[alarm.mail]\nserver = \"mail\"\nfrom = \"a@b.example\"\nto = [\"c@b.example\"]"),
    added("a mail to nobody", "[alarm.mail]\nserver = \"mail:25\"\nfrom = \"a@b.example\"\nto = []"),
    added("a mail address that is none", "[alarm.mail]\nserver = \"mail:25\"\nfrom = \"a@b.example\"\nto = [\"c\"]"),
    added("a user of a mail server without a password", "[alarm.mail]\nserver = \"mail:25\"\nfrom = \"a@b.example\"\nto = [\"c@b.example\"]\nuser = \"a\""),
    added("a password without TLS", "[alarm.mail]\nserver = \"mail:25\"\nsecurity = \"none\"\nfrom = \"a@b.example\"\nto = [\"c@b.example\"]\nuser = \"a\"\npassword = \"notes.txt\""),
    added("a webhook that is no URL", "[alarm.webhook]\nurl = \"chat.example\""),
    added("a password in a webhook", "[alarm.webhook]\nurl = \"https://me:secret@chat.example/\""),
    added("a token without TLS", "[alarm.webhook]\nurl = \"http://chat.example/\"\ntoken = \"notes.txt\""),
    added("a token file that is not there", "[alarm.webhook]\nurl = \"https://chat.example/\"\ntoken = \"keys/hook.token\""),
    added("authorities that are none", "[alarm.webhook]\nurl = \"https://chat.example/\"\nca = \"notes.txt\""),
];

/// What a daemon says of each mistake. `error_of` is given the text of the whole file.
///
/// # Panics
/// Where a mistake is none, or its error names no line of a file.
pub fn errors_of_mistakes(
    good: &str,
    mistakes: &[Mistake],
    error_of: impl Fn(&str) -> Option<String>,
) -> String {
    assert_eq!(error_of(good), None, "the file that mistakes are made in");
    let mut text = String::new();
    let mut without_line = Vec::new();
    for Mistake { title, right, wrong } in mistakes {
        assert!(good.contains(right), "{title}: {right:?} is not in the file");
        let file = if right.is_empty() { format!("{good}{wrong}\n") } else { good.replacen(right, wrong, 1) };
        let error = error_of(&file).unwrap_or_else(|| panic!("{title}: no error"));
        if !names_a_line(&error) {
            without_line.push(format!("{title}: {error}"));
        }
        let _ = writeln!(text, "# {title}");
        for line in wrong.lines() {
            let _ = writeln!(text, "    {line}");
        }
        let _ = write!(text, "{error}\n\n");
    }
    assert!(without_line.is_empty(), "errors without a line:\n{}", without_line.join("\n"));
    text
}

/// `FILE.toml:LINE:COLUMN: …`
fn names_a_line(error: &str) -> bool {
    let Some((_, rest)) = error.split_once(".toml:") else { return false };
    let mut numbers = rest.split(':').take(2);
    numbers.all(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
        && rest.split(':').count() > 2
}

/// Compares a text with a committed file. With `UPDATE_SNAPSHOTS` in the environment the file is written instead.
///
/// # Panics
/// Where they differ.
pub fn compare_snapshot(file: &Path, text: &str) {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(file, text).expect("the snapshot can be written");
    }
    let committed = fs::read_to_string(file).unwrap_or_default();
    for (number, (want, got)) in (1..).zip(committed.lines().zip(text.lines())) {
        assert_eq!(got, want, "{}:{number}; UPDATE_SNAPSHOTS=1 writes it anew", file.display());
    }
    assert_eq!(text.lines().count(), committed.lines().count(), "{}: lines", file.display());
}

/// A key that nobody knows and that is like no other.
const PROBE: &str = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";

/// Every table that a daemon reads, by its path (`route.destination`; the file itself is empty), with its keys. It is asked: an
/// unknown key at each place makes it name those that it knows. `error_of` loads a text.
pub fn keys_known(error_of: &impl Fn(&str) -> Option<String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut tables = BTreeMap::new();
    visit(error_of, &[], &mut tables);
    tables
}

type Step = (String, bool);

fn visit(
    error_of: &impl Fn(&str) -> Option<String>,
    path: &[Step],
    tables: &mut BTreeMap<String, BTreeSet<String>>,
) {
    let Some(keys) = known_at(error_of, path) else { return };
    let names: Vec<_> = path.iter().map(|(key, _)| key.as_str()).collect();
    tables.insert(names.join("."), keys.iter().cloned().collect());
    for key in keys {
        for array in [false, true] {
            let deeper: Vec<Step> = path.iter().cloned().chain([(key.clone(), array)]).collect();
            visit(error_of, &deeper, tables);
        }
    }
}

fn known_at(error_of: &impl Fn(&str) -> Option<String>, path: &[Step]) -> Option<Vec<String>> {
    let mut text = format!("{PROBE} = 1");
    for (key, array) in path.iter().rev() {
        text = if *array { format!("{key} = [{{ {text} }}]") } else { format!("{key} = {{ {text} }}") };
    }
    let error = error_of(&text)?;
    let (_, known) = error.split_once(&format!("{PROBE}`; known here: "))?;
    Some(known.trim().split(", ").map(str::to_owned).collect())
}

/// The keys of one role in `docs/configuration.md`, by table, each with its default.
pub fn keys_documented(role: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = fs::read_to_string(file).expect("docs/configuration.md");
    let (mut tables, mut of_role, mut places) = (BTreeMap::new(), false, Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            of_role = name == role;
        } else if let Some(heading) = line.strip_prefix("### ") {
            places = paths(heading);
            for place in places.iter().filter(|_| of_role) {
                tables.insert(place.clone(), BTreeMap::new());
            }
        } else if let Some(row) = line.strip_prefix("| `").filter(|_| of_role) {
            let mut cells = row.split(" | ");
            let key = cells.next().unwrap_or_default().trim_end_matches('`').to_owned();
            let default = cells.nth(1).unwrap_or_default().trim_matches('`').to_owned();
            for place in &places {
                tables.entry(place.clone()).or_default().insert(key.clone(), default.clone());
            }
        }
    }
    tables
}

/// Compares values that hold by default, by key as in `route[0].to`, with the documented ones.
///
/// # Panics
/// Where one is not documented, or otherwise.
pub fn compare_defaults(
    documented: &BTreeMap<String, BTreeMap<String, String>>,
    shown: impl Iterator<Item = (String, String)>,
) {
    let mut compared = 0;
    for (place, value) in shown {
        let steps: Vec<_> = place.split('.').map(|step| step.split('[').next().unwrap_or_default()).collect();
        let Some((key, table)) = steps.split_last() else { continue };
        let table = documented.get(&table.join(".")).unwrap_or_else(|| panic!("no table of {place}"));
        let want = table.get(*key).unwrap_or_else(|| panic!("{place} is not documented"));
        let value = if value == "null" { "none".to_owned() } else { value };
        assert_eq!(*want, value, "{place}");
        compared += 1;
    }
    assert!(compared > 10, "only {compared} defaults");
}

/// The paths of a heading: "`[[a.b]]`, `[c]`".
fn paths(heading: &str) -> Vec<String> {
    if heading == "The file" {
        return vec![String::new()];
    }
    let bare = |path: &str| path.trim_matches(|c| ['`', '[', ']'].contains(&c)).to_owned();
    heading.split(", ").map(bare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_file_is_seen() {
        assert!(names_a_line("error: x.toml:3:1: no") && names_a_line("a/b.toml:13:12: `a`: no"));
        assert!(
            !names_a_line("error: x.toml: no") && !names_a_line("no file") && !names_a_line("x.toml:a:1: no")
        );
    }

    #[test]
    fn headings_name_paths() {
        assert_eq!(paths("`[[route]]`, `[a.b]`"), ["route", "a.b"]);
        assert_eq!(paths("The file"), [""]);
    }
}
