use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use base::{Digest, Timestamp};
use figment::error::{Actual, Kind};
use thiserror::Error;
use toml_edit::Item;

use super::FilesRead;
use super::files::{self, TomlFile, Values};

/// How figment names the values from the environment.
pub(super) const ENVIRONMENT: &str = "environment";

/// A configuration that cannot be used. The operator's to mend.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML, or a variable's name is not a key.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
    },
    /// A key that nobody reads.
    #[error("{place}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key with its tables.
        key: String,
        /// The nearest key, or all keys that are known there; may be empty.
        hint: String,
    },
    /// A key that has no default.
    #[error("{place}: key `{key}` is missing; it has no default")]
    Missing {
        /// The table that it is missing in.
        place: Place,
        /// The key with its tables.
        key: String,
    },
    /// A value that cannot be used.
    #[error("{place}: `{key}`: {message}")]
    Value {
        /// Where.
        place: Place,
        /// The key with its tables.
        key: String,
        /// What is wrong, and what would be right.
        message: String,
    },
}

/// Where a configured value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file; line and column from 1.
    File {
        /// As it was named.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// In an environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// The files of a configuration, with what is needed to find a key in them.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) absolute: PathBuf,
    /// The named one first.
    files: Vec<TomlFile>,
    environment_prefix: String,
    read_at: Timestamp,
}

impl Source {
    pub(super) fn read(
        path: &Path,
        absolute: PathBuf,
        environment_prefix: &str,
    ) -> Result<Self, ConfigError> {
        let files = files::read_all(path)?;
        Ok(Self::of(path, absolute, files, environment_prefix))
    }

    /// Without the files of `conf.d` that are no TOML.
    pub(super) fn read_good(path: &Path, absolute: PathBuf, prefix: &str) -> Result<Self, ConfigError> {
        let files = files::read_good(path)?;
        Ok(Self::of(path, absolute, files, prefix))
    }

    fn of(path: &Path, absolute: PathBuf, files: Vec<TomlFile>, prefix: &str) -> Self {
        let read_at = Timestamp::now();
        Self { path: path.to_owned(), absolute, files, environment_prefix: prefix.to_owned(), read_at }
    }

    /// What was read, each file by its digest.
    pub(super) fn files_read(&self) -> FilesRead {
        let digest = |file: &TomlFile| (file.path.clone(), Digest::of(file.text.as_bytes()));
        FilesRead { files: self.files.iter().map(digest).collect(), at: self.read_at }
    }

    pub(super) fn values(&self) -> Result<Values, ConfigError> {
        Values::of(&self.files)
    }

    /// Turns figment's error into one with a place.
    pub(super) fn explain(&self, error: figment::Error) -> ConfigError {
        let from_environment = error.metadata.as_ref().is_some_and(|m| m.name == ENVIRONMENT);
        let mut path = error.path;
        let of = |path: &[String], at: At| match from_environment {
            true => Place::Variable(self.variable(path)),
            false => self.find(path, at),
        };
        match error.kind {
            Kind::UnknownField(field, known) => {
                if path.last() != Some(&field) {
                    path.push(field.clone());
                }
                let hint = match nearest(&field, known) {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None if known.is_empty() => String::new(),
                    None => format!("; known here: {}", known.join(", ")),
                };
                ConfigError::UnknownKey { place: of(&path, At::Key), key: dotted(&path), hint }
            }
            Kind::MissingField(field) => {
                let place = self.find(&path, At::Value);
                path.push(field.into_owned());
                ConfigError::Missing { place, key: dotted(&path) }
            }
            kind => {
                let message = match kind {
                    Kind::UnknownVariant(value, known) => match nearest(&value, known) {
                        Some(near) => format!("unknown value {value:?}; did you mean {near:?}?"),
                        None => format!("unknown value {value:?}; known here: {}", known.join(", ")),
                    },
                    Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
                        format!("expected {}, found {}", plain_type(&wanted), plain(found))
                    }
                    other => with_remedy(other.to_string()),
                };
                ConfigError::Value { place: of(&path, At::Value), key: dotted(&path), message }
            }
        }
    }

    /// The environment variable that sets a key.
    pub(super) fn variable(&self, path: &[String]) -> String {
        format!("{}{}", self.environment_prefix, path.join("__").to_uppercase())
    }

    /// The place of a value, or of the nearest table around it.
    pub(super) fn place(&self, path: &[String]) -> Place {
        self.find(path, At::Value)
    }

    /// The place of a value that a file sets; none where all are silent.
    pub(super) fn place_if_set(&self, path: &[String]) -> Option<Place> {
        self.setting(path).is_some().then(|| self.find(path, At::Value))
    }

    /// The file that decides a value, and the path to it there.
    fn setting(&self, path: &[String]) -> Option<(&TomlFile, Vec<String>)> {
        let candidates = self.files.iter().rev().filter_map(|file| Some((file, self.path_in(file, path)?)));
        let mut set = candidates.filter(|(file, path)| walk(file, path).len() == path.len());
        set.next()
    }

    /// A path as it is counted in one file: arrays of tables go on from file to file.
    fn path_in(&self, file: &TomlFile, path: &[String]) -> Option<Vec<String>> {
        let mut own = path.to_vec();
        let Some(position) = path.iter().position(|part| part.parse::<usize>().is_ok()) else {
            return Some(own);
        };
        let (array, index) = (path.get(..position)?, path.get(position)?.parse::<usize>().ok()?);
        let Some(count) = file.tables(array) else { return Some(own) };
        let before = self.files.iter().take_while(|other| other.path != file.path);
        let before: usize = before.filter_map(|other| other.tables(array)).sum();
        let index = index.checked_sub(before).filter(|index| *index < count)?;
        *own.get_mut(position)? = index.to_string();
        Some(own)
    }

    fn find(&self, path: &[String], at: At) -> Place {
        let nearest = || {
            let all = self.files.iter().filter_map(|file| Some((file, self.path_in(file, path)?)));
            // The first of those that know most of the path.
            all.max_by_key(|(file, path)| (walk(file, path).len(), std::cmp::Reverse(self.position(file))))
        };
        let Some((file, path)) = self.setting(path).or_else(nearest) else {
            return Place::File { path: self.path.clone(), line: 1, column: 1 };
        };
        let mut offset = 0;
        for (i, (key, item)) in walk(file, &path).into_iter().enumerate() {
            let wants_key = matches!(at, At::Key) && i + 1 == path.len();
            let (first, second) = if wants_key { (key, item.span()) } else { (item.span(), key) };
            offset = first.or(second).map_or(offset, |span| span.start);
        }
        place_at(&file.path, &file.text, offset)
    }

    fn position(&self, file: &TomlFile) -> usize {
        self.files.iter().take_while(|other| other.path != file.path).count()
    }
}

/// The items along a path, as far as it exists, each with the place of its key.
fn walk<'a>(file: &'a TomlFile, path: &[String]) -> Vec<(Option<Range<usize>>, &'a Item)> {
    let mut item: &Item = file.document.as_item();
    let mut steps = Vec::new();
    for part in path {
        let next = match part.parse::<usize>() {
            Ok(index) => item.get(index).map(|next| (None, next)),
            Err(_) => item
                .as_table_like()
                .and_then(|table| table.get_key_value(part))
                .map(|(key, next)| (key.span(), next)),
        };
        let Some(step) = next else { break };
        item = step.1;
        steps.push(step);
    }
    steps
}

/// What is asked for.
#[derive(Clone, Copy)]
enum At {
    Key,
    Value,
}

pub(super) fn place_at(path: &Path, text: &str, offset: usize) -> Place {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Place::File { path: path.to_owned(), line, column }
}

/// `route`, `0`, `to` as `route[0].to`.
pub(super) fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if !text.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            text.push_str(&format!("[{part}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(part);
        }
    }
    text
}

/// Without Rust's view of integers.
fn plain(found: Actual) -> String {
    match found {
        Actual::Unsigned(number) => format!("integer {number}"),
        Actual::Signed(number) => format!("integer {number}"),
        Actual::Seq => "an array".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// Without Rust's names of types.
fn plain_type(wanted: &str) -> String {
    let up_to = |most: u64| format!("an integer from 0 to {most}");
    match wanted {
        "u16" => up_to(u16::MAX.into()),
        "u32" => up_to(u32::MAX.into()),
        "u64" | "usize" => "an integer of 0 or more".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "a table".to_owned(),
        "path string" => "a path, as text".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

/// What a parser of the standard library leaves out.
fn with_remedy(message: String) -> String {
    match message.as_str() {
        "invalid socket address syntax" => {
            "no address with a port; write numbers, as in \"192.0.2.7:104\" or \"[2001:db8::7]:104\""
                .to_owned()
        }
        "invalid IP address syntax" => {
            "no address; write numbers, as in \"192.0.2.7\" or \"2001:db8::7\"".to_owned()
        }
        _ => message,
    }
}

/// What is said of a name that no table has: the nearest one, or all.
pub fn unknown_name(table: &str, name: &str, known: &[&str]) -> String {
    let mut known = known.to_vec();
    known.sort_unstable();
    let hint = match nearest(name, &known) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => format!("there is no [[{table}]]"),
        None => format!("there are: {}", known.join(", ")),
    };
    format!("no [[{table}]] is called {name}; {hint}")
}

/// The known word that is most like the given one, if it is like enough to be what was meant.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|k| (strsim::damerau_levenshtein(word, k), *k));
    // Of a word of one letter another letter is nothing that is like it.
    let like = |distance: usize, longer: usize| distance <= longer.div_ceil(3) && distance < longer;
    scored.min().filter(|(distance, k)| like(*distance, word.len().max(k.len()))).map(|(_, k)| k)
}
