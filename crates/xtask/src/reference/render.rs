//! The model as Markdown.

use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};

use super::model::{Field, Model, Table};
use super::{defaults, types};

/// What stands above the tables.
const INTRODUCTION: &str = "\
# Configuration reference

Every key of the three configuration files. **Rendered from the types by `cargo xtask reference`: do not edit.** `ROLE check` prints what is in force, and where each
value comes from.

- The files are TOML: `/etc/sluis/gateway-out.toml`, `/etc/sluis/gateway-in.toml`, `/etc/sluis/relay.toml`, or what `--config` names. An unknown key, a wrong value or a missing file is
  an error with file, line and column, and nothing starts (exit code 64).
- Relative paths start at the folder of the file.
- The files of `conf.d/ROLE/*.toml` beside it are read after it, in the order of their names. Arrays of tables (`[[route]]`) add up; other values replace earlier ones.
- Environment variables go before files: `SLUIS_DICOM__LISTEN` sets `listen` in `[dicom]`. Arrays of tables can be set in files only.
- A **duration** is written with its unit: `\"25s\"`, `\"10min\"`, `\"1h 30min\"`. A **size** is a number of bytes, or has a unit: `\"64 MiB\"`, `\"2GB\"`.
- A **name** has 1 to 64 letters, digits, `.`, `_` or `-`. An **AE title** has 1 to 16 characters.
- *required*: there is no default. *none*: nothing holds where the key is left away; its meaning says what that means.
";

/// A table of the file, and where it stands.
struct Section<'a> {
    table: &'a Table,
    /// Paths, and whether each is an array of tables.
    paths: Vec<(String, bool)>,
}

/// All of it.
pub(super) fn document(model: &Model, roles: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut text = INTRODUCTION.to_owned();
    for (role, what) in roles {
        let root = model.table(role, "Config").with_context(|| format!("{role} has no Config"))?;
        let mut sections = Vec::new();
        collect(model, root, "", false, &mut sections);
        let _ = writeln!(text, "\n## {role}\n\n{what} `{role}.toml`.");
        for section in &sections {
            render(model, section, &mut text).map_err(|reason| anyhow!("{role}: {reason}"))?;
        }
    }
    Ok(text)
}

/// A table before those that stand in it, each struct once.
fn collect<'a>(model: &'a Model, table: &'a Table, path: &str, array: bool, sections: &mut Vec<Section<'a>>) {
    let place = (path.to_owned(), array);
    if let Some(known) = sections.iter_mut().find(|known| std::ptr::eq(known.table, table)) {
        known.paths.push(place);
    } else {
        sections.push(Section { table, paths: vec![place] });
    }
    for field in &table.fields {
        if let Some((inner, array)) = types::table(model, &table.of, &field.kind) {
            let path = if path.is_empty() { field.key.clone() } else { format!("{path}.{}", field.key) };
            collect(model, inner, &path, array, sections);
        }
    }
}

fn render(model: &Model, section: &Section<'_>, text: &mut String) -> Result<(), String> {
    let Section { table, paths } = section;
    let heading: Vec<_> = paths.iter().map(|(path, array)| heading(path, *array)).collect();
    let _ = writeln!(text, "\n### {}", heading.join(", "));
    let about = sentence(&table.doc);
    if !about.is_empty() {
        let _ = writeln!(text, "\n{about}");
    }
    text.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
    for field in &table.fields {
        text.push_str(&row(model, table, field)?);
    }
    Ok(())
}

fn heading(path: &str, array: bool) -> String {
    match (path, array) {
        ("", _) => "The file".to_owned(),
        (path, true) => format!("`[[{path}]]`"),
        (path, false) => format!("`[{path}]`"),
    }
}

fn row(model: &Model, table: &Table, field: &Field) -> Result<String, String> {
    let Field { key, doc, .. } = field;
    if doc.is_empty() {
        return Err(format!("{}.{} has no comment", table.name, field.field));
    }
    let kind = types::words(model, &table.of, &field.kind);
    let kind = kind.ok_or_else(|| format!("the type of {}.{} has no words", table.name, field.field))?;
    let default = match defaults::of(model, table, field)? {
        None => "*required*".to_owned(),
        Some(none) if none == "none" || none.starts_with("its ") => none,
        Some(value) => format!("`{value}`"),
    };
    let doc = doc.replace('|', "\\|");
    Ok(format!("| `{key}` | {kind} | {default} | {doc} |\n"))
}

/// What a struct's comment says beside the name of its table.
fn sentence(doc: &str) -> String {
    let rest = doc.strip_prefix('`').and_then(|rest| rest.split_once('`')).map(|(_, rest)| rest);
    match rest {
        Some(rest) if doc.starts_with("`[") => {
            let rest = rest.trim_start_matches([':', '.', ',']).trim();
            // "`[patient]` of a profile: …"
            let rest = match rest.strip_prefix("of a ") {
                Some(owner) => owner.split_once(": ").map_or("", |(_, rest)| rest),
                None => rest,
            };
            let mut letters = rest.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        }
        _ => doc.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const SOURCE: &str = r#"
/// `x.toml`.
#[derive(Deserialize)]
pub struct Config {
    /// Rooms.
    #[serde(rename = "room", default)]
    pub rooms: Vec<Room>,
    /// The door.
    pub door: Option<Door>,
}
/// `[[room]]`: where people are.
#[derive(serde::Deserialize)]
pub struct Room {
    /// Its name | number.
    pub name: Name,
    /// Its door.
    #[serde(default)]
    pub door: Door,
    /// How long it is open.
    #[serde(default = "open")]
    pub open: Span,
}
/// A door.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Door {
    /// What it is made of.
    pub of: Matter,
}
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matter { #[default] Wood, Iron }
fn open() -> Span { Span::from_secs(60) }
"#;

    fn rendered(source: &str) -> Result<String, String> {
        let mut model = Model::default();
        read::add(&mut model, "x", source).map_err(|error| format!("{error:#}"))?;
        document(&model, &[("x", "It is.")]).map_err(|error| error.to_string())
    }

    #[test]
    fn each_table_is_rendered_once_with_all_its_places() {
        let text = rendered(SOURCE).unwrap();
        let (_, tables) = text.split_once("\n## x\n").unwrap();
        let want = "
It is. `x.toml`.

### The file

`x.toml`.

| key | type | default | meaning |
|---|---|---|---|
| `room` | array of tables | `[]` | Rooms. |
| `door` | table | none | The door. |

### `[[room]]`

Where people are.

| key | type | default | meaning |
|---|---|---|---|
| `name` | name | *required* | Its name \\| number. |
| `door` | table | its keys' own | Its door. |
| `open` | duration | `\"1m\"` | How long it is open. |

### `[room.door]`, `[door]`

A door.

| key | type | default | meaning |
|---|---|---|---|
| `of` | `\"wood\"`, `\"iron\"` | `\"wood\"` | What it is made of. |
";
        assert_eq!(tables, want);
    }

    #[test]
    fn what_cannot_be_rendered_is_an_error() {
        for (from, to, want) in [
            ("Span::from_secs(60)", "clock()", "x: the default of Room.open cannot be rendered"),
            ("pub name: Name", "pub name: Strange", "x: the type of Room.name has no words"),
            ("    /// The door.\n", "", "x: Config.door has no comment"),
        ] {
            assert_eq!(rendered(&SOURCE.replace(from, to)).unwrap_err(), want);
        }
        let flat = SOURCE.replace("#[serde(default = \"open\")]", "#[serde(flatten)]");
        assert!(rendered(&flat).unwrap_err().contains("does not know how to render"));
    }
}
