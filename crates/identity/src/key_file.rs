//! Key files: text, one field a line, readable by their owner only. Identity key files look like this;
//! other kinds ([`Form`]) have another first line and other seeds.
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

const FILE_BYTES_MAX: u64 = 16 * 1024;
const MODE: u32 = 0o600;

/// One kind of key file with `N` seeds.
pub(crate) struct Form<const N: usize> {
    /// What messages call it.
    pub(crate) kind: &'static str,
    /// Says what the file is and which version.
    pub(crate) first_line: &'static str,
    /// For the person who opens it.
    pub(crate) note: &'static str,
    /// The names of the seeds.
    pub(crate) fields: [&'static str; N],
    /// Domain of the check value.
    pub(crate) check: &'static [u8],
}

/// What a key file holds.
pub(crate) struct Content<const N: usize> {
    pub(crate) name: Name,
    pub(crate) seeds: [Secret<[u8; 32]>; N],
}

/// What went wrong with a key file, and which. All of them are for the operator.
#[derive(Debug, Error)]
#[error("{kind} {}: {fault}", path.display())]
pub struct KeyFileError {
    /// What it was taken for: `identity key file` or `log key file`.
    pub kind: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: KeyFileFault,
}

/// What can be wrong with a key file.
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
    #[error("does not start with \"{first_line}\"; is it the right file?")]
    Kind {
        /// How it should start.
        first_line: &'static str,
    },
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

pub(crate) fn load<const N: usize>(form: &Form<N>, path: &Path) -> Result<Content<N>, KeyFileError> {
    read_private(path, form.first_line).and_then(|text| parse(form, &text)).map_err(|fault| KeyFileError {
        kind: form.kind,
        path: path.to_owned(),
        fault,
    })
}

pub(crate) fn save<const N: usize>(
    form: &Form<N>,
    content: &Content<N>,
    fingerprint: &str,
    path: &Path,
) -> Result<(), KeyFileError> {
    write_new(path, &render(form, content, fingerprint)).map_err(|fault| KeyFileError {
        kind: form.kind,
        path: path.to_owned(),
        fault,
    })
}

fn read_private(path: &Path, first_line: &'static str) -> Result<Zeroizing<String>, KeyFileFault> {
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
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyFileFault::Kind { first_line })?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn parse<const N: usize>(form: &Form<N>, text: &str) -> Result<Content<N>, KeyFileFault> {
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, line)| line.trim_end()) != Some(form.first_line) {
        return Err(KeyFileFault::Kind { first_line: form.first_line });
    }
    let (mut name, mut check) = (None, None);
    let mut seeds: [Option<Secret<[u8; 32]>>; N] = [const { None }; N];
    for (index, line) in lines {
        let damaged = || KeyFileFault::Line { line: index + 1 };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (field, value) = line.split_once(' ').ok_or_else(damaged)?;
        let twice = match field {
            "name" => name.replace(Name::parse(value).map_err(|_| damaged())?).is_some(),
            "check" => check.replace(value.to_owned()).is_some(),
            _ => match form.fields.iter().zip(&mut seeds).find(|(known, _)| **known == field) {
                Some((_, place)) => place.replace(seed(value).ok_or_else(damaged)?).is_some(),
                None => true,
            },
        };
        if twice {
            return Err(damaged());
        }
    }
    let missing = |field| KeyFileFault::Missing { field };
    let name = name.ok_or_else(|| missing("name"))?;
    if let Some((field, _)) = form.fields.iter().zip(&seeds).find(|(_, seed)| seed.is_none()) {
        return Err(missing(field));
    }
    // None is missing: see above.
    let seeds = seeds.map(|seed| seed.unwrap_or_else(|| Secret::new([0; 32])));
    if check.ok_or_else(|| missing("check"))? != check_value(form, &name, &seeds) {
        return Err(KeyFileFault::Check);
    }
    Ok(Content { name, seeds })
}

fn seed(text: &str) -> Option<Secret<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text, bytes.as_mut()).ok()?;
    Some(Secret::new(*bytes))
}

/// Finds damage (a digit lost, two files mixed), not forgery: who can write the file owns the key.
fn check_value<const N: usize>(form: &Form<N>, name: &Name, seeds: &[Secret<[u8; 32]>; N]) -> String {
    let mut hasher = Hasher::new(form.check);
    hasher.field(name.as_str().as_bytes());
    for seed in seeds {
        hasher.field(seed.expose());
    }
    let digest = hasher.finish();
    hex::encode(digest.0.first_chunk::<8>().unwrap_or(&[0; 8]))
}

fn render<const N: usize>(form: &Form<N>, content: &Content<N>, fingerprint: &str) -> Zeroizing<String> {
    let Content { name, seeds } = content;
    // Reserved once, as above.
    let mut text = Zeroizing::new(String::with_capacity(2048));
    for part in
        [form.first_line, "\n# ", form.note, "\n# fingerprint ", fingerprint, "\nname ", name.as_str()]
    {
        text.push_str(part);
    }
    for (field, seed) in form.fields.iter().zip(seeds) {
        let digits = Zeroizing::new(hex::encode(seed.expose()));
        for part in ["\n", field, " ", &digits] {
            text.push_str(part);
        }
    }
    for part in ["\ncheck ", &check_value(form, name, seeds), "\n"] {
        text.push_str(part);
    }
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
