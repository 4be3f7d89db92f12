//! The identity key file: text, one field a line, readable by its owner only.
//!
//! ```text
//! sluis identity key 1
//! # comments start with a number sign
//! name hospital-a
//! ed25519 <64 hexadecimal digits>
//! ml-dsa-65 <64 hexadecimal digits>
//! tls <64 hexadecimal digits>
//! check <16 hexadecimal digits>
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base::{Hasher, Name, Secret};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key::Seeds;
use crate::{IdentityKey, fingerprint_text};

const FIRST_LINE: &str = "sluis identity key 1";
const FILE_BYTES_MAX: u64 = 16 * 1024;
const MODE: u32 = 0o600;

/// What went wrong with an identity key file, and which. All of them are for the operator.
#[derive(Debug, Error)]
#[error("identity key file {}: {fault}", path.display())]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: KeyFileFault,
}

/// What can be wrong with an identity key file.
#[derive(Debug, Error)]
pub enum KeyFileFault {
    /// There is a file of that name.
    #[error("exists already and a key is never overwritten; move it away or choose another name")]
    Exists,
    /// Somebody else than the owner may read it.
    #[error(
        "can be read by others (mode {mode:04o}); run: chmod 600, and replace the key if others had access"
    )]
    ReadableByOthers {
        /// Permission bits found.
        mode: u32,
    },
    /// A directory, a device or a socket.
    #[error("is not a regular file")]
    NotAFile,
    /// Larger than any key file.
    #[error("has {size} bytes, a key file at most {FILE_BYTES_MAX}; is it the right file?")]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// Another kind of file, or of another version.
    #[error("does not start with \"{FIRST_LINE}\"; is it the right file?")]
    Kind,
    /// A line that cannot be read.
    #[error("line {line} is damaged; restore the file from its copy")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A field is missing.
    #[error("has no line \"{field}\"; restore the file from its copy")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// The fields do not belong together.
    #[error("does not match its check value; restore the file from its copy")]
    Check,
    /// The operating system refused.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for KeyFileFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists,
            _ => Self::Io(error),
        }
    }
}

pub(crate) fn load(path: &Path) -> Result<IdentityKey, KeyFileError> {
    read_private(path)
        .and_then(|text| parse(&text))
        .map_err(|fault| KeyFileError { path: path.to_owned(), fault })
}

pub(crate) fn save(key: &IdentityKey, path: &Path) -> Result<(), KeyFileError> {
    write_new(path, &render(key)).map_err(|fault| KeyFileError { path: path.to_owned(), fault })
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyFileFault> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(KeyFileFault::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    // systemd hands credentials over as root:root 0440 with an access list: group root reads anything.
    let credential = mode == 0o440 && metadata.uid() == 0 && metadata.gid() == 0;
    if mode & 0o077 != 0 && !credential {
        return Err(KeyFileFault::ReadableByOthers { mode });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(KeyFileFault::TooLarge { size: metadata.len() });
    }
    // Reserved once, so that no reallocation leaves a copy of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyFileFault::Kind)?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn parse(text: &str) -> Result<IdentityKey, KeyFileFault> {
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, line)| line.trim_end()) != Some(FIRST_LINE) {
        return Err(KeyFileFault::Kind);
    }
    let (mut name, mut ed25519, mut ml_dsa, mut tls, mut check) = (None, None, None, None, None);
    for (index, line) in lines {
        let damaged = || KeyFileFault::Line { line: index + 1 };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (field, value) = line.split_once(' ').ok_or_else(damaged)?;
        let twice = match field {
            "name" => name.replace(Name::parse(value).map_err(|_| damaged())?).is_some(),
            "ed25519" => ed25519.replace(seed(value).ok_or_else(damaged)?).is_some(),
            "ml-dsa-65" => ml_dsa.replace(seed(value).ok_or_else(damaged)?).is_some(),
            "tls" => tls.replace(seed(value).ok_or_else(damaged)?).is_some(),
            "check" => check.replace(value.to_owned()).is_some(),
            _ => true,
        };
        if twice {
            return Err(damaged());
        }
    }
    let missing = |field| KeyFileFault::Missing { field };
    let name = name.ok_or_else(|| missing("name"))?;
    let seeds = Seeds {
        ed25519: ed25519.ok_or_else(|| missing("ed25519"))?,
        ml_dsa: ml_dsa.ok_or_else(|| missing("ml-dsa-65"))?,
        tls: tls.ok_or_else(|| missing("tls"))?,
    };
    if check.ok_or_else(|| missing("check"))? != check_value(&name, &seeds) {
        return Err(KeyFileFault::Check);
    }
    Ok(IdentityKey::from_seeds(name, seeds))
}

fn seed(text: &str) -> Option<Secret<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text, bytes.as_mut()).ok()?;
    Some(Secret::new(*bytes))
}

/// Finds damage (a digit lost, two files mixed), not forgery: who can write the file owns the key.
fn check_value(name: &Name, seeds: &Seeds) -> String {
    let mut hasher = Hasher::new(b"sluis/1 identity key file");
    hasher.field(name.as_str().as_bytes());
    for seed in [&seeds.ed25519, &seeds.ml_dsa, &seeds.tls] {
        hasher.field(seed.expose());
    }
    let digest = hasher.finish();
    hex::encode(digest.0.first_chunk::<8>().unwrap_or(&[0; 8]))
}

fn render(key: &IdentityKey) -> Zeroizing<String> {
    let seeds = key.seeds();
    let mut text = Zeroizing::new(String::with_capacity(1024));
    text.push_str(FIRST_LINE);
    text.push_str(
        "\n# Whoever has this file can act as this peer. Keep a copy in a safe place.\n# fingerprint ",
    );
    text.push_str(&fingerprint_text(&key.fingerprint()));
    text.push_str("\nname ");
    text.push_str(key.name().as_str());
    for (field, seed) in [("ed25519", &seeds.ed25519), ("ml-dsa-65", &seeds.ml_dsa), ("tls", &seeds.tls)] {
        let digits = Zeroizing::new(hex::encode(seed.expose()));
        text.push('\n');
        text.push_str(field);
        text.push(' ');
        text.push_str(&digits);
    }
    text.push_str("\ncheck ");
    text.push_str(&check_value(key.name(), &seeds));
    text.push('\n');
    text
}

/// Writes beside the target, then links: a link never replaces a file, and what it shows is complete.
fn write_new(path: &Path, text: &str) -> Result<(), KeyFileFault> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(KeyFileFault::Exists);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut name = path.file_name().ok_or(KeyFileFault::NotAFile)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let draft = folder.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&draft)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    written?;
    removed?;
    File::open(folder)?.sync_all()?;
    Ok(())
}
