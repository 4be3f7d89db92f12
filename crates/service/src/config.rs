//! A daemon's configuration: its TOML file, the files of `conf.d/ROLE/` beside it, then the environment, into one
//! struct. What cannot be used is refused with the place in its file before anything starts.
//!
//! `ROLE` is the name of the file without `.toml`, so that several roles can live in one folder. The files of the folder
//! are read in the order of their names: arrays of tables (`[[peer]]`) grow, any other value replaces an earlier one.

mod error;
mod files;
mod origin;
mod units;

use std::path::{Path, PathBuf};

use base::{Digest, Timestamp};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

pub use error::{ConfigError, Place, unknown_name};
pub use origin::{Effective, Origin};
pub use units::{ByteSize, Span, UnitError};

pub use files::fragments_dir;

use error::{Source, dotted};

/// The prefix of all environment variables that change a configuration.
pub const ENVIRONMENT_PREFIX: &str = "SLUIS_";

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The values.
    pub config: T,
    source: Source,
    set_outside: Dict,
}

/// The files of a configuration as they were read, so that it can be said which one a daemon runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesRead {
    /// The named one first, each with the SHA-256 of its text.
    pub files: Vec<(PathBuf, Digest)>,
    /// When.
    pub at: Timestamp,
}

/// Reads a file, then the process's environment variables `SLUIS_…` over it: `SLUIS_DICOM__LISTEN` sets `listen` in
/// `[dicom]`. An array of tables can be set in the file only.
pub fn load<T: DeserializeOwned>(path: &Path, environment_prefix: &str) -> Result<Loaded<T>, ConfigError> {
    load_with(path, environment_prefix, variables(environment_prefix))
}

/// A part of a configuration that may be broken elsewhere: how to reach a running daemon, to ask it what is wrong.
pub fn peek<T: DeserializeOwned>(path: &Path, environment_prefix: &str) -> Result<T, ConfigError> {
    let source = Source::read_good(path, path.to_owned(), environment_prefix)?;
    let environment = Environment::read(environment_prefix, variables(environment_prefix))?;
    let figment = Figment::new().merge(source.values()?).merge(environment);
    figment.extract::<T>().map_err(|error| source.explain(error))
}

fn variables(prefix: &str) -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| key.starts_with(prefix))
        .collect()
}

/// As [`load`], with the environment given.
pub fn load_with<T: DeserializeOwned>(
    path: &Path,
    environment_prefix: &str,
    variables: Vec<(String, String)>,
) -> Result<Loaded<T>, ConfigError> {
    let read = |e: std::io::Error| ConfigError::Read { path: path.to_owned(), reason: e.to_string() };
    // The folder is made absolute now, so that nothing depends on a later change of the working directory.
    let absolute = std::path::absolute(path).map_err(read)?;
    let source = Source::read(path, absolute, environment_prefix)?;
    let environment = Environment::read(environment_prefix, variables)?;
    let set_outside = environment.0.clone();
    let figment = Figment::new().merge(source.values()?).merge(environment);
    match figment.extract::<T>() {
        Ok(config) => Ok(Loaded { config, source, set_outside }),
        Err(error) => Err(source.explain(error)),
    }
}

impl<T> Loaded<T> {
    /// The file, as it was named.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// The folder of the file; absolute.
    pub fn dir(&self) -> &Path {
        self.source.absolute.parent().unwrap_or_else(|| Path::new("/"))
    }

    /// The files that all of it was read from. What the environment sets is in none of them.
    pub fn files_read(&self) -> FilesRead {
        self.source.files_read()
    }

    /// A path as the file means it: relative ones start at the file's folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.dir().join(path)
    }

    /// Where a value stands, or the nearest table around it. `key` as in `route[0].to`.
    pub fn place(&self, key: &str) -> Place {
        self.source.place(&parts(key))
    }

    /// An error about a value that could be read and cannot be used, with its place. `key` as in `route[0].to`.
    pub fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let path = parts(key);
        ConfigError::Value { place: self.source.place(&path), key: dotted(&path), message: message.into() }
    }
}

fn parts(key: &str) -> Vec<String> {
    key.split(['.', '[', ']']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The variables that start with the prefix, as nested values.
struct Environment(Dict);

impl Environment {
    fn read(prefix: &str, variables: Vec<(String, String)>) -> Result<Self, ConfigError> {
        let mut dict = Dict::new();
        for (variable, text) in variables {
            let Some(key) = variable.strip_prefix(prefix) else { continue };
            let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
            if path.iter().any(String::is_empty) {
                let place = Place::Variable(variable);
                return Err(ConfigError::Syntax { place, message: "the name has an empty part".to_owned() });
            }
            let value = text.parse::<Value>().unwrap_or_else(|never| match never {});
            insert(&mut dict, &path, value);
        }
        Ok(Self(dict))
    }
}

/// Puts a value at a path; a later variable goes before an earlier one.
fn insert(dict: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            dict.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let entry = dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
            if !matches!(entry, Value::Dict(..)) {
                *entry = Value::from(Dict::new());
            }
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(error::ENVIRONMENT)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        dicom: Dicom,
        #[serde(default)]
        route: Vec<Route>,
        #[serde(default)]
        status: BTreeMap<String, Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Dicom {
        listen: std::net::SocketAddr,
        #[serde(default)]
        max_pdu: u32,
        #[serde(default)]
        buffer: Option<ByteSize>,
        #[serde(default)]
        idle: Option<Span>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether and where it can be read matters here")]
    struct Route {
        ae: base::AeTitle,
        #[serde(default)]
        calling: Vec<base::AeTitle>,
        #[serde(default)]
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Folder,
        Dicom,
    }

    const GOOD: &str = "[dicom]\nlisten = \"127.0.0.1:104\"\n";

    fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded<Config>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        fs::write(&path, text).unwrap();
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let loaded = load_with::<Config>(&path, ENVIRONMENT_PREFIX, variables);
        loaded.map_err(|e| e.to_string().replace(&path.display().to_string(), "x.toml"))
    }

    #[test]
    fn every_effective_value_has_an_origin() {
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Small {
            dicom: Table,
            #[serde(default)]
            route: Vec<Table>,
            #[serde(default)]
            card: Option<String>,
        }
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            #[serde(default)]
            idle: Span,
            #[serde(default)]
            buffer: ByteSize,
            #[serde(default)]
            titles: Vec<String>,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        fs::write(&path, "[dicom]\nidle = \"25s\"\nbuffer = 5\n[[route]]\ntitles = [\"A\", \"B\"]\n")
            .unwrap();
        let variables = vec![("SLUIS_DICOM__BUFFER".to_owned(), "64 MiB".to_owned())];
        let loaded = load_with::<Small>(&path, ENVIRONMENT_PREFIX, variables).unwrap();
        let lines: Vec<_> = loaded.effective().unwrap().into_iter().map(|e| e.to_string()).collect();
        let file = path.display();
        let want = [
            "card = null (default)".to_owned(),
            "dicom.buffer = \"64 MiB\" (environment variable SLUIS_DICOM__BUFFER)".to_owned(),
            format!("dicom.idle = \"25s\" ({file}:2:8)"),
            "dicom.titles = [] (default)".to_owned(),
            "route[0].buffer = \"0 B\" (default)".to_owned(),
            "route[0].idle = \"0s\" (default)".to_owned(),
            format!("route[0].titles = [\"A\",\"B\"] ({file}:5:10)"),
        ];
        assert_eq!(lines, want);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let cases: &[Case] = &[
            (
                "[dicom]\nlisten = \"127.0.0.1:104\"\n  max_pud = 5\n",
                &[],
                "x.toml:3:3: unknown key `dicom.max_pud`; did you mean `max_pdu`?",
            ),
            (
                "[dicom]\nlisten = \"127.0.0.1:104\"\nzebra = 5\n",
                &[],
                "x.toml:3:1: unknown key `dicom.zebra`; known here: listen, max_pdu, buffer, idle",
            ),
            (
                "[dicom]\nlisten = \"127.0.0.1:104\"\n[[route]]\nae = \"A\"\n[[route]]\nae = \"B\"\ncaling = []\n",
                &[],
                "x.toml:7:1: unknown key `route[1].caling`; did you mean `calling`?",
            ),
            ("[dicm]\n", &[], "x.toml:1:2: unknown key `dicm`; did you mean `dicom`?"),
            ("[dicom]\n", &[], "x.toml:1:1: key `dicom.listen` is missing; it has no default"),
            ("", &[], "x.toml:1:1: key `dicom` is missing; it has no default"),
            (
                "[dicom]\nlisten = \"nonsense\"\n",
                &[],
                "x.toml:2:10: `dicom.listen`: no address with a port; write numbers, as in \"192.0.2.7:104\" or \"[2001:db8::7]:104\"",
            ),
            (
                "[dicom]\nlisten = \"127.0.0.1:104\"\nmax_pdu = \"big\"\n",
                &[],
                "x.toml:3:11: `dicom.max_pdu`: expected an integer from 0 to 4294967295, found string \"big\"",
            ),
            (
                "[dicom]\nlisten = \"127.0.0.1:104\"\nbuffer = \"64 MB2\"\n",
                &[],
                "x.toml:3:10: `dicom.buffer`: unknown unit \"MB2\"; write a number of bytes, or one with B, kB, MB, \
                 GB, TB, KiB, MiB, GiB or TiB",
            ),
            (
                "[dicom]\nlisten = \"127.0.0.1:104\"\nidle = 30\n",
                &[],
                "x.toml:3:8: `dicom.idle`: a duration needs a unit, as in \"25s\", \"10min\" or \"1h 30min\"",
            ),
            (
                "[dicom]\nlisten = \"127.0.0.1:104\"\n[[route]]\nae = \"A\"\ncalling = [\"GOOD\", \"MUCH TOO LONG FOR IT\"]\n",
                &[],
                "x.toml:5:20: `route[0].calling[1]`: AE title has 20 characters; at most 16 are allowed",
            ),
            (
                "[dicom]\nlisten = \"127.0.0.1:104\"\n[[route]]\nae = \"A\"\nkind = \"foldre\"\n",
                &[],
                "x.toml:5:8: `route[0].kind`: unknown value \"foldre\"; did you mean \"folder\"?",
            ),
            (
                "[dicom]\nlisten = \"127.0.0.1:104\"\nlisten = \"127.0.0.1:105\"\n",
                &[],
                "x.toml:3:1: duplicate key `listen` in table `dicom`; remove one",
            ),
            ("[dicom\n", &[], "x.toml:1:7: invalid table header expected `.`, `]`"),
            (
                GOOD,
                &[("SLUIS_DICOM__MAX_PUD", "5")],
                "environment variable SLUIS_DICOM__MAX_PUD: unknown key `dicom.max_pud`; did you mean `max_pdu`?",
            ),
            (
                GOOD,
                &[("SLUIS_DICOM__MAX_PDU", "-1")],
                "environment variable SLUIS_DICOM__MAX_PDU: `dicom.max_pdu`: expected an integer from 0 to 4294967295, found integer -1",
            ),
            (
                GOOD,
                &[("SLUIS_DICOM____X", "5")],
                "environment variable SLUIS_DICOM____X: the name has an empty part",
            ),
        ];
        for (text, variables, want) in cases {
            match load_text(text, variables) {
                Ok(loaded) => panic!("accepted: {text}\n{loaded:?}"),
                Err(error) => assert_eq!(error, *want, "{text}"),
            }
        }
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let text = format!("{GOOD}max_pdu = 4096\nbuffer = \"64 MiB\"\nidle = \"1m 30s\"\n");
        let config = load_text(&text, &[("SLUIS_DICOM__MAX_PDU", "8192"), ("PATH", "/bin")]).unwrap().config;
        assert_eq!(config.dicom.max_pdu, 8192);
        assert_eq!(config.dicom.listen.port(), 104);
        assert_eq!(config.dicom.buffer, Some(ByteSize(64 << 20)));
        assert_eq!(config.dicom.idle, Some(Span::from_secs(90)));
        assert!(config.route.is_empty() && config.status.is_empty());
    }

    #[test]
    fn paths_start_at_the_folder_of_the_file() {
        let loaded = load_text(GOOD, &[]).unwrap();
        assert!(loaded.dir().is_absolute());
        assert_eq!(loaded.resolve(Path::new("keys/a.key")), loaded.dir().join("keys/a.key"));
        assert_eq!(loaded.resolve(Path::new("/etc/a.key")), Path::new("/etc/a.key"));
    }

    #[test]
    fn a_check_of_the_daemon_names_the_place_too() {
        let text = format!("{GOOD}[[route]]\nae = \"A\"\n[[route]]\nae = \"B\"\ncalling = [\"X\"]\n");
        let loaded = load_text(&text, &[]).unwrap();
        let place = |key: &str| {
            let text = loaded.error(key, "cannot be").to_string();
            text.replace(&loaded.path().display().to_string(), "x.toml")
        };
        assert_eq!(place("route[1].calling[0]"), "x.toml:7:12: `route[1].calling[0]`: cannot be");
        assert_eq!(place("route[0].ae"), "x.toml:4:6: `route[0].ae`: cannot be");
        assert_eq!(place("route[1].nothing"), "x.toml:5:1: `route[1].nothing`: cannot be");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = load::<Config>(Path::new("/nonexistent/x.toml"), ENVIRONMENT_PREFIX).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nonexistent/x.toml: No such file"), "{error}");
    }
}
