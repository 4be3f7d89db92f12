//! Files that must be whole or absent: keys, cards, configuration written by `init`, receipts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::Secret;
use thiserror::Error;

use crate::exit::UsageError;

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// Only the owner (0600): keys, tokens.
    Owner,
    /// Everybody (0644): cards, configuration, receipts.
    Everybody,
}

/// A secret is one line, and no file that somebody named by mistake is read in whole.
const SECRET_BYTES_MAX: u64 = 16 << 10;

/// Why a file is no secret that can be used.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("{}: {error}; correct the path", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Others may read it.
    #[error("{}: others may read it (mode {mode:04o}); chmod 600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is no line of text in it.
    #[error("{}: its first line is empty, is not UTF-8, or is longer than {SECRET_BYTES_MAX} bytes", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
}

/// The first line of a file that only its owner may read: a password, a token, a passcode. A credential of the service manager, which
/// belongs to root and its group, counts as one.
pub fn read_secret(path: &Path) -> Result<Secret<String>, SecretFileError> {
    let path = || path.to_owned();
    let io = |error| SecretFileError::Io { path: path(), error };
    let content = || SecretFileError::Content { path: path() };
    let file = File::open(path()).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.mode() & 0o777;
    let is_credential = mode == 0o440 && metadata.uid() == 0 && metadata.gid() == 0;
    if mode & 0o077 != 0 && !is_credential {
        return Err(SecretFileError::Exposed { path: path(), mode });
    }
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    let bytes = Secret::new(bytes);
    let line = bytes.expose().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).map_err(|_| content())?;
    if line.is_empty() {
        return Err(content());
    }
    match bytes.expose().len() as u64 {
        0..=SECRET_BYTES_MAX => Ok(Secret::new(line.to_owned())),
        _ => Err(content()),
    }
}

/// Root does not write beside a configuration that is another user's: the daemon of that user could read none of it.
pub fn refuse_foreign(config: &Path) -> Result<(), UsageError> {
    let folder =
        config.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let Ok(owner) = fs::metadata(folder).map(|folder| folder.uid()) else { return Ok(()) };
    if !rustix::process::geteuid().is_root() || owner == 0 {
        return Ok(());
    }
    Err(UsageError(format!(
        "{} belongs to another user (id {owner}), who could not use what root writes there: run this as that user, as in `sudo -u sluis …`",
        folder.display()
    )))
}

/// Where a daemon keeps what is its own: beside its configuration, or as systemd has it for a configuration in `/etc`.
pub fn state_dir(config: &Path, role: &str, name: &str) -> PathBuf {
    match config.starts_with("/etc") {
        true => Path::new("/var/lib/sluis").join(role).join(name),
        false => PathBuf::from(name),
    }
}

/// Makes a folder for its owner only, with those above it, and makes its name durable.
pub fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(path)?;
    sync_folder(path)
}

/// Writes a file that must not exist yet: complete and on disk when this returns, or not there at all. Two writers of
/// one name: one wins, the other gets [`io::ErrorKind::AlreadyExists`].
pub fn write_new(path: &Path, bytes: &[u8], readable: Readable) -> io::Result<()> {
    let temporary = write_beside(path, bytes, readable)?;
    // A hard link, unlike a rename, refuses a name that is taken.
    let linked = fs::hard_link(&temporary, path);
    let removed = fs::remove_file(&temporary);
    linked?;
    removed?;
    sync_folder(path)
}

/// Writes a file or replaces it as a whole: whoever reads it sees the old or the new content.
pub fn replace(path: &Path, bytes: &[u8], readable: Readable) -> io::Result<()> {
    let temporary = write_beside(path, bytes, readable)?;
    if let Err(error) = fs::rename(&temporary, path) {
        // The file of another name is of no use; that it stays behind when this fails as well, changes nothing.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(path)
}

/// Removes a file, durably. One that is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what writers that were killed left behind: files of a name that only a draft has, untouched for so long.
pub fn remove_drafts(folder: &Path, untouched: Duration) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_draft(&entry.file_name().to_string_lossy()) && entry.file_type()?.is_file() {
            let age =
                entry.metadata().and_then(|meta| meta.modified()).map(|at| at.elapsed().unwrap_or_default());
            if age.is_ok_and(|age| age >= untouched) {
                remove(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// See [`write_beside`].
fn is_draft(name: &str) -> bool {
    let suffix = name.strip_prefix('.').and_then(|rest| rest.rsplit_once('.')).map(|(_, suffix)| suffix);
    suffix.is_some_and(|suffix| suffix.len() == 32 && base::ObjectId::from_hex(suffix).is_ok())
}

/// Gives a file another name in the same folder, durably; one that has it already is replaced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to)
}

/// Makes a folder with those around it, durably.
pub fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Several files that change together, one after the other: each is whole at every moment, and what was changed can be
/// taken back. Order them so that a crash between two of them leaves something that may stay.
#[derive(Debug, Default)]
pub struct Edits(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Edits {
    /// Writes or replaces a file that everybody may read, with the folder it lies in.
    pub fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.remember(path)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            create_folder(folder)?;
        }
        replace(path, bytes, Readable::Everybody)
    }

    /// Removes a file.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.remember(path)?;
        remove(path)
    }

    /// Puts everything back as it was, the last change first.
    pub fn take_back(self) -> io::Result<()> {
        for (path, earlier) in self.0.into_iter().rev() {
            match earlier {
                Some(bytes) => replace(&path, &bytes, Readable::Everybody)?,
                None => remove(&path)?,
            }
        }
        Ok(())
    }

    fn remember(&mut self, path: &Path) -> io::Result<()> {
        let earlier = match fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.0.push((path.to_owned(), earlier));
        Ok(())
    }
}

fn write_beside(path: &Path, bytes: &[u8], readable: Readable) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let suffix = base::ObjectId(base::random_bytes()).to_string();
    let temporary = path.with_file_name(format!(".{}.{suffix}", name.to_string_lossy()));
    let mode = match readable {
        Readable::Owner => 0o600,
        Readable::Everybody => 0o644,
    };
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            // As above.
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// Makes the names in the folder around a path durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_made_folder_is_its_owners_only_and_one_that_is_there_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/outbox");
        for _ in 0..2 {
            make_folder(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_new_file_is_private_and_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        write_new(&path, b"one", Readable::Owner).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = write_new(&path, b"two", Readable::Owner).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_is_the_first_line_of_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let long = "x".repeat(20_000);
        let cases = [
            ("word\nmore\n", 0o600, Ok("word")),
            (" spaces count \r\n", 0o400, Ok(" spaces count ")),
            ("word", 0o640, Err("others may read it (mode 0640); chmod 600")),
            ("word", 0o604, Err("others may read it (mode 0604); chmod 600")),
            ("", 0o600, Err("its first line is empty, is not UTF-8, or is longer than 16384 bytes")),
            ("\nword", 0o600, Err("its first line is empty, is not UTF-8, or is longer than 16384 bytes")),
            (&long, 0o600, Err("its first line is empty, is not UTF-8, or is longer than 16384 bytes")),
        ];
        for (text, mode, want) in cases {
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found =
                read_secret(&path).map(|secret| secret.expose().clone()).map_err(|error| error.to_string());
            let want = want.map(str::to_owned).map_err(|why: &str| format!("{}: {why}", path.display()));
            assert_eq!(found, want, "{mode:o}");
        }
        assert!(matches!(read_secret(&dir.path().join("absent")), Err(SecretFileError::Io { .. })));
    }

    #[test]
    fn drafts_of_killed_writers_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let draft = write_beside(&dir.path().join("tenant-a.toml"), b"half", Readable::Everybody).unwrap();
        let others = [".hidden", "plain.toml", ".a.toml.swp", ".a.0123456789abcdef"];
        for name in others {
            fs::write(dir.path().join(name), "").unwrap();
        }
        remove_drafts(dir.path(), Duration::from_secs(3600)).unwrap();
        assert!(draft.exists(), "its writer may be at work");
        remove_drafts(dir.path(), Duration::ZERO).unwrap();
        assert!(!draft.exists());
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
        assert!(remove_drafts(&dir.path().join("absent"), Duration::ZERO).is_err());
    }

    #[test]
    fn edits_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new, gone] = ["old", "deep/er/new", "gone"].map(|name| dir.path().join(name));
        fs::write(&old, "1").unwrap();
        fs::write(&gone, "2").unwrap();
        let mut edits = Edits::default();
        edits.put(&old, b"3").unwrap();
        edits.put(&new, b"4").unwrap();
        edits.put(&new, b"5").unwrap();
        edits.remove(&gone).unwrap();
        edits.remove(&gone).unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"3");
        assert_eq!(fs::read(&new).unwrap(), b"5");
        assert!(!gone.exists());
        edits.take_back().unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"1");
        assert_eq!(fs::read(&gone).unwrap(), b"2");
        assert!(!new.exists());
    }

    #[test]
    fn a_replaced_file_is_the_new_one_and_nothing_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("card");
        replace(&path, b"one", Readable::Everybody).unwrap();
        replace(&path, b"two", Readable::Everybody).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("no/such/folder"), b"x", Readable::Owner).is_err());
        assert!(replace(Path::new("/"), b"x", Readable::Owner).is_err());
    }
}
