//! Files that must be whole or absent: keys, cards, configuration written by `init`, receipts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// Only the owner (0600): keys, tokens.
    Owner,
    /// Everybody (0644): cards, configuration, receipts.
    Everybody,
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

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

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
