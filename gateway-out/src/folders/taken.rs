//! A file under a name of ours: how it gets another one, and its own back, without anybody losing theirs.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use service::files;

use super::seen::Which;

/// Before the name of a file that is being moved.
const TAKEN: &str = ".sluis-taken.";
/// Of a file system (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;
/// Files of one name that are kept apart by a number.
const NUMBERS_MAX: u32 = 100_000;

/// Why a file was not put away.
#[derive(Debug)]
pub(super) enum NotPut {
    /// Another one stands in its place, or none.
    Another,
    /// It is where it was, and this is what it is known by from now on.
    Stuck { error: io::Error, which: Which },
}

/// A file that is ours for the moment, under a name that nobody else writes to: whoever drops another one under the name that it had
/// meanwhile finds that one untouched.
pub(super) struct Taken<'a> {
    pub(super) path: PathBuf,
    before: &'a Path,
    which: Which,
}

impl<'a> Taken<'a> {
    /// Takes it, and only then looks whether it is the one that was meant.
    pub(super) fn take(file: &'a Path, which: Which) -> Result<Self, NotPut> {
        let path = private(file);
        match rename_to_ours(file, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NotPut::Another),
            Err(error) => return Err(NotPut::Stuck { error, which: which.as_it_is(file) }),
        }
        let taken = Self { path, before: file, which };
        match Which::at(&taken.path) {
            Ok(found) if found.is_alike(which) => Ok(taken),
            Ok(_) => match put_back(&taken.path, file) {
                Ok(()) => Err(other(file, which)),
                // The next look tries again.
                Err(error) => Err(NotPut::Stuck { error, which }),
            },
            Err(error) => Err(taken.stuck(error)),
        }
    }

    pub(super) fn remove(self) -> Result<(), NotPut> {
        match fs::remove_file(&self.path) {
            Ok(()) => {
                let _ = files::sync_folder(&self.path);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.stuck(error)),
        }
    }

    pub(super) fn stuck(self, error: io::Error) -> NotPut {
        let error = put_back(&self.path, self.before).err().unwrap_or(error);
        NotPut::Stuck { error, which: self.which.as_it_is(self.before) }
    }
}

/// Under the name that it had, or one beside it.
fn put_back(path: &Path, before: &Path) -> io::Result<()> {
    for free in names(before) {
        match rename_to_theirs(path, &free) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            tried => return tried,
        }
    }
    Err(no_free_name())
}

/// What was left behind by a process that was killed may be a file that nobody has sent. `None`: this is no such name.
pub(super) fn put_back_left_behind(path: &Path, metadata: &Metadata) -> Option<io::Result<()>> {
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let before =
        name.strip_prefix(TAKEN.as_bytes()).filter(|before| !matches!(*before, b"" | b"." | b".."))?;
    // A folder may have been taken for a file that stood there before.
    (metadata.is_file() || metadata.is_dir())
        .then(|| put_back(path, &path.with_file_name(OsStr::from_bytes(before))))
}

/// As much of its name as fits: only after a crash that is all that is known of it.
fn private(file: &Path) -> PathBuf {
    let name = file.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let mut end = name.len().min(NAME_BYTES_MAX - TAKEN.len());
    // Not within a character of UTF-8.
    while name.len() > end && name.get(end).is_some_and(|byte| byte & 0xC0 == 0x80) {
        end -= 1;
    }
    let name = name.get(..end).unwrap_or(name);
    file.with_file_name([TAKEN.as_bytes(), name].map(OsStr::from_bytes).into_iter().collect::<OsString>())
}

/// Another name, which nobody but us gives to a file, unless one stands there.
pub(super) fn rename_to_ours(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(error) if cannot(error) => rename_free(from, to),
        renamed => Ok(renamed?),
    }
}

/// Another name, which others may give to a file at this moment, unless one stands there. `from` is known to nobody but us.
fn rename_to_theirs(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(error) if cannot(error) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && Which::is_same(from, to) => {
                fs::remove_file(from)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) => rename_free(from, to),
        },
        renamed => Ok(renamed?),
    }
}

/// A file system that cannot promise to replace nothing, a network one for instance.
fn cannot(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

fn rename_free(from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

/// Its name, and those by which its namesakes are kept apart.
pub(super) fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    (0..NUMBERS_MAX).map(|number| numbered(path, number))
}

pub(super) fn no_free_name() -> io::Error {
    io::Error::other("too many files of that name")
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name: OsString = path.to_owned().into_os_string();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// It had another identity under another name: because it is another one, or because names make identities there.
fn other(file: &Path, which: Which) -> NotPut {
    match Which::at(file) {
        Ok(now) if now.is_alike(which) => NotPut::Stuck {
            error: io::Error::other("this file system gives a file another identity with another name"),
            which: now,
        },
        _ => NotPut::Another,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_looked_at_and_put_back_where_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let [file, other] = ["one.dcm", "two.dcm"].map(|name| dir.path().join(name));
        let which = |path: &Path| Which::at(path).unwrap();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
            names.sort();
            names
        };
        fs::write(&file, "sent").unwrap();
        fs::write(&other, "not sent").unwrap();
        let meant = which(&file);
        // Exchanged after the last look, before it is taken.
        fs::rename(&other, &file).unwrap();
        assert!(matches!(Taken::take(&file, meant), Err(NotPut::Another)));
        assert_eq!(
            (fs::read_to_string(&file).unwrap().as_str(), names()),
            ("not sent", vec!["one.dcm".into()])
        );
        // One that comes while it is taken stays; the other gets a name beside it, and is known by what it is then.
        let taken = Taken::take(&file, which(&file)).map_err(|_| "taken").unwrap();
        fs::write(&file, "came meanwhile").unwrap();
        let NotPut::Stuck { which: known, .. } = taken.stuck(io::Error::other("full")) else {
            panic!("stuck")
        };
        assert_eq!(names(), ["one.dcm", "one.dcm.1"]);
        assert_ne!(known, which(&file));
        // Killed in between.
        let taken = Taken::take(&file, which(&file)).map_err(|_| "taken").unwrap();
        let (left, nothing) = (taken.path.clone(), dir.path().join("one.dcm.1"));
        let put_back = |path: &Path| put_back_left_behind(path, &fs::symlink_metadata(path).unwrap());
        assert!(put_back(&left).unwrap().is_ok() && put_back(&nothing).is_none());
        assert_eq!(fs::read_to_string(&file).unwrap(), "came meanwhile");
        // Stuck, and known by what the moves have made of it.
        let taken = Taken::take(&file, which(&file)).map_err(|_| "taken").unwrap();
        let NotPut::Stuck { which: known, .. } = taken.stuck(io::Error::other("full")) else {
            panic!("stuck")
        };
        assert_eq!(known, which(&file));
        // A name that is as long as it may be, and would be cut within a character.
        let long = dir.path().join(format!("{}é{}", "l".repeat(241), "l".repeat(12)));
        fs::write(&long, "long").unwrap();
        let taken = Taken::take(&long, which(&long)).map_err(|_| "taken").unwrap();
        assert_eq!(taken.path.file_name().unwrap().to_str().unwrap(), format!("{TAKEN}{}", "l".repeat(241)));
        let NotPut::Stuck { .. } = taken.stuck(io::Error::other("full")) else { panic!("stuck") };
        assert_eq!(fs::read_to_string(&long).unwrap(), "long");
    }

    /// What a kernel or file system that knows neither `RENAME_NOREPLACE` nor links would do.
    #[test]
    fn no_name_is_taken_from_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to, free] = ["from", "to", "free"].map(|name| dir.path().join(name));
        for move_one in [rename_to_ours, rename_to_theirs, rename_free] {
            fs::write(&from, "from").unwrap();
            fs::write(&to, "to").unwrap();
            assert_eq!(move_one(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(
                (fs::read_to_string(&from).unwrap(), fs::read_to_string(&to).unwrap()),
                ("from".into(), "to".into())
            );
            move_one(&from, &free).unwrap();
            assert!(!from.exists());
            fs::remove_file(&free).unwrap();
        }
    }
}
