//! The files of one configuration: the one that was named, and those of `conf.d/ROLE/` beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use toml_edit::{ImDocument, Item};

use super::ConfigError;
use super::error::{Place, place_at};

/// Files of one folder; more are a mistake.
const FRAGMENTS_MAX: usize = 4096;
/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where the further files of a configuration lie: `conf.d/relay` beside `relay.toml`.
pub fn fragments_dir(config: &Path) -> PathBuf {
    let role = config.file_stem().unwrap_or_default();
    config.with_file_name("conf.d").join(role)
}

/// One file's text with what is needed to find a key in it.
#[derive(Clone, Debug)]
pub(super) struct TomlFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) document: ImDocument<String>,
}

/// The named file first, then the others by name.
pub(super) fn read_all(path: &Path) -> Result<Vec<TomlFile>, ConfigError> {
    let (mut files, others) = list(path)?;
    for name in others {
        files.push(TomlFile::read(&name)?);
    }
    Ok(files)
}

/// As [`read_all`], without those of the others that are no TOML.
pub(super) fn read_good(path: &Path) -> Result<Vec<TomlFile>, ConfigError> {
    let (mut files, others) = list(path)?;
    files.extend(others.iter().filter_map(|name| TomlFile::read(name).ok()));
    Ok(files)
}

fn list(path: &Path) -> Result<(Vec<TomlFile>, Vec<PathBuf>), ConfigError> {
    let files = vec![TomlFile::read(path)?];
    let dir = fragments_dir(path);
    let refuse = |path: &Path, reason: String| ConfigError::Read { path: path.to_owned(), reason };
    let strays = toml_names(&path.with_file_name("conf.d")).map_err(|e| refuse(&dir, e.to_string()))?;
    if let Some(stray) = strays.first() {
        let reason = format!("it belongs into the folder of its role, as in {}", dir.display());
        return Err(refuse(stray, reason));
    }
    let names = toml_names(&dir).map_err(|e| refuse(&dir, e.to_string()))?;
    if names.len() > FRAGMENTS_MAX {
        return Err(refuse(&dir, format!("{} files; at most {FRAGMENTS_MAX} are read", names.len())));
    }
    Ok((files, names))
}

/// The `*.toml` of a folder in the order of their names; none where there is no folder. A name that begins with a
/// dot is a file that is being written.
fn toml_names(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") && !path.is_dir() {
            names.push(path);
        }
    }
    names.sort();
    Ok(names)
}

impl TomlFile {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let refuse = |reason: String| ConfigError::Read { path: path.to_owned(), reason };
        let size = fs::metadata(path).map_err(|e| refuse(e.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(refuse(format!("{size} bytes; at most {FILE_BYTES_MAX} are read")));
        }
        let text = fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
        let document = ImDocument::parse(text.clone()).map_err(|e| ConfigError::Syntax {
            place: place_at(path, &text, e.span().map_or(0, |span| span.start)),
            message: with_remedy(e.message().trim().replace('\n', " ")),
        })?;
        Ok(Self { path: path.to_owned(), text, document })
    }

    /// How many tables of an array of tables stand in this file, where the value there is one.
    pub(super) fn tables(&self, path: &[String]) -> Option<usize> {
        let mut item: &Item = self.document.as_item();
        for part in path {
            item = item.as_table_like()?.get(part)?;
        }
        if let Some(tables) = item.as_array_of_tables() {
            return Some(tables.len());
        }
        let array = item.as_array().filter(|array| !array.is_empty())?;
        array.iter().all(toml_edit::Value::is_inline_table).then(|| array.len())
    }

    fn values(&self) -> Result<Dict, ConfigError> {
        // What toml_edit takes, this takes too; the place is lost where it does not.
        let read = Toml::string(&self.text).data().map_err(|e| ConfigError::Syntax {
            place: Place::File { path: self.path.clone(), line: 1, column: 1 },
            message: e.to_string(),
        })?;
        Ok(read.into_iter().next().map(|(_, dict)| dict).unwrap_or_default())
    }
}

/// What the parser leaves out.
fn with_remedy(message: String) -> String {
    if message.starts_with("duplicate key") {
        format!("{message}; remove one")
    } else if message.contains("string") {
        format!("{message}: a text stands between two quotation marks, in one line")
    } else {
        message
    }
}

/// The values of several files as one.
pub(super) struct Values(Dict);

impl Values {
    pub(super) fn of(files: &[TomlFile]) -> Result<Self, ConfigError> {
        let mut merged = Dict::new();
        for file in files {
            merge(&mut merged, file.values()?);
        }
        Ok(Self(merged))
    }
}

impl Provider for Values {
    fn metadata(&self) -> Metadata {
        Metadata::named("files")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

fn merge(into: &mut Dict, from: Dict) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Dict(_, earlier)), Value::Dict(_, later)) => merge(earlier, later),
            (Some(Value::Array(_, earlier)), Value::Array(_, later))
                if holds_tables(earlier) && holds_tables(&later) =>
            {
                earlier.extend(later);
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn holds_tables(array: &[Value]) -> bool {
    !array.is_empty() && array.iter().all(|value| matches!(value, Value::Dict(..)))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::super::{ENVIRONMENT_PREFIX, Loaded, load_with};
    use super::*;

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        memory: Memory,
        #[serde(default)]
        tenant: Vec<Tenant>,
    }

    #[derive(Debug, Default, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    struct Memory {
        budget: u32,
        ttl: u32,
        names: Vec<String>,
    }

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Tenant {
        name: String,
        #[serde(default)]
        budget: u32,
    }

    const MAIN: &str = "[memory]\nbudget = 1\nttl = 2\nnames = [\"a\"]\n[[tenant]]\nname = \"main\"\n";

    fn folder(fragments: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("relay.toml"), MAIN).unwrap();
        for (name, text) in fragments {
            let path = dir.path().join("conf.d").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn load(dir: &tempfile::TempDir) -> Result<Loaded<Config>, String> {
        let loaded = load_with(&dir.path().join("relay.toml"), ENVIRONMENT_PREFIX, Vec::new());
        loaded.map_err(|e| e.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn tables_grow_and_values_are_replaced_in_the_order_of_names() {
        let dir = folder(&[
            ("relay/20.toml", "[[tenant]]\nname = \"second\"\n[memory]\nttl = 20\nnames = [\"b\"]\n"),
            ("relay/10.toml", "[[tenant]]\nname = \"first\"\nbudget = 7\n[memory]\nttl = 10\n"),
            ("relay/.30.toml.tmp", "nonsense"),
            ("relay/.40.toml", "nonsense"),
            ("relay/note.txt", "nonsense"),
            ("gateway-out/x.toml", "nonsense"),
        ]);
        let loaded = load(&dir).unwrap();
        let Config { memory, tenant } = &loaded.config;
        assert_eq!(
            (memory.budget, memory.ttl, memory.names.as_slice()),
            (1, 20, ["b".to_owned()].as_slice())
        );
        let names: Vec<_> = tenant.iter().map(|tenant| tenant.name.as_str()).collect();
        assert_eq!(names, ["main", "first", "second"]);
        let prefix = format!("{}/", dir.path().display());
        let lines: Vec<_> =
            loaded.effective().unwrap().iter().map(|e| e.to_string().replace(&prefix, "")).collect();
        for want in [
            "memory.budget = 1 (relay.toml:2:10)",
            "memory.ttl = 20 (conf.d/relay/20.toml:4:7)",
            "tenant[0].name = \"main\" (relay.toml:6:8)",
            "tenant[1].budget = 7 (conf.d/relay/10.toml:3:10)",
            "tenant[1].name = \"first\" (conf.d/relay/10.toml:2:8)",
            "tenant[2].name = \"second\" (conf.d/relay/20.toml:2:8)",
            "tenant[2].budget = 0 (default)",
        ] {
            assert!(lines.contains(&want.to_owned()), "{want} in {lines:#?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_fragment_and_its_place() {
        let cases = [
            (
                ("relay/10.toml", "[[tenant]]\nname = \"x\"\n  bugdet = 1\n"),
                "conf.d/relay/10.toml:3:3: unknown key `tenant[1].bugdet`; did you mean `budget`?",
            ),
            (
                ("relay/10.toml", "[[tenant]]\nname = \"x\"\n[[tenant]]\nname = 5\n"),
                "conf.d/relay/10.toml:4:8: `tenant[2].name`: expected a string, found integer 5",
            ),
            (
                ("relay/10.toml", "[[tenant]]\n"),
                "conf.d/relay/10.toml:1:1: key `tenant[1].name` is missing; it has no default",
            ),
            (
                ("relay/10.toml", "[memroy]\n"),
                "conf.d/relay/10.toml:1:2: unknown key `memroy`; did you mean `memory`?",
            ),
            (
                ("relay/10.toml", "[memory]\nbudget = \"x\"\n"),
                "conf.d/relay/10.toml:2:10: `memory.budget`: expected an integer from 0 to 4294967295, found string \"x\"",
            ),
            (
                ("relay/10.toml", "[memory\n"),
                "conf.d/relay/10.toml:1:8: invalid table header expected `.`, `]`",
            ),
            (
                ("x.toml", ""),
                "cannot read conf.d/x.toml: it belongs into the folder of its role, as in conf.d/relay",
            ),
        ];
        for (fragment, want) in cases {
            let dir = folder(&[("relay/00.toml", ""), fragment]);
            assert_eq!(load(&dir).unwrap_err(), want);
        }
    }

    #[test]
    fn a_peek_reads_what_it_can() {
        #[derive(Debug, Deserialize)]
        struct Only {
            memory: Memory,
        }
        let dir =
            folder(&[("relay/10.toml", "[memory\n"), ("relay/20.toml", "[memory]\nttl = 9\n[unknown]\n")]);
        assert!(load(&dir).is_err());
        let only: Only = super::super::peek(&dir.path().join("relay.toml"), ENVIRONMENT_PREFIX).unwrap();
        assert_eq!((only.memory.budget, only.memory.ttl), (1, 9));
    }

    #[test]
    fn a_check_names_the_fragment_that_holds_the_table() {
        let dir = folder(&[("relay/10.toml", "[[tenant]]\nname = \"x\"\n")]);
        let loaded = load(&dir).unwrap();
        let place = |key: &str| {
            loaded.error(key, "no").to_string().replace(&format!("{}/", dir.path().display()), "")
        };
        assert_eq!(place("tenant[1].name"), "conf.d/relay/10.toml:2:8: `tenant[1].name`: no");
        assert_eq!(place("tenant[0].name"), "relay.toml:6:8: `tenant[0].name`: no");
        assert_eq!(place("tenant[1].card"), "conf.d/relay/10.toml:1:1: `tenant[1].card`: no");
    }
}
