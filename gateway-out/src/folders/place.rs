//! Where a file goes that has had its answer.

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
use service::files::{self, Readable};
use tracing::warn;

use super::{AfterDelivery, Watched, seen::Which};

const DONE: &str = "done";
const FAILED: &str = "failed";
/// Behind the name of a file that failed.
const REASON: &str = ".reason.txt";
/// Before the name of a file that is being moved.
const TAKEN: &str = ".sluis-taken.";
/// Of a file system (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;
/// Files of one name that are kept apart by a number.
const NUMBERS_MAX: u32 = 100_000;

/// Whether it is one of our folders.
pub(super) fn is_ours(watched: &Watched, path: &Path) -> bool {
    [DONE, FAILED].into_iter().any(|name| path == watched.dir.join(name))
}

/// Whether no link leads from the folder to the file, as far as can be seen now. Who may write into a watched folder is trusted not to
/// race with this; everybody else is kept out by its mode.
pub(super) fn is_beneath(watched: &Watched, path: &Path) -> io::Result<bool> {
    let Some(parent) = path.parent() else { return Ok(false) };
    match fs::canonicalize(parent) {
        Ok(parent) => Ok(parent.starts_with(&watched.dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why a file was not put away.
#[derive(Debug)]
pub(super) enum NotPut {
    /// Another one stands in its place, or none.
    Another,
    /// It is where it was, and this is what it is known by from now on.
    Stuck { error: io::Error, which: Which },
}

/// Its instance is in custody.
pub(super) fn done(watched: &Watched, file: &Path, which: Which) -> Result<(), NotPut> {
    match watched.delivered {
        AfterDelivery::Remove => {
            still(watched, file, which)?;
            Taken::take(file, which)?.remove()
        }
        AfterDelivery::Keep => put(watched, file, which, DONE).map(drop),
    }
}

/// Nothing of it went on; `why` stands beside it.
pub(super) fn failed(watched: &Watched, file: &Path, which: Which, why: &str) -> Result<(), NotPut> {
    let to = put(watched, file, which, FAILED)?;
    let written = files::replace(&reason(&to), format!("{why}\n").as_bytes(), Readable::Everybody);
    if let Err(error) = written {
        // Neither does the name of the file belong into a log.
        warn!(dir = %watched.dir.display(), error = %error.kind(), "a file was put into `failed`, and its reason could not be written: {why}");
    }
    Ok(())
}

/// Stands beside a file that failed.
fn reason(failed: &Path) -> PathBuf {
    let mut name = failed.to_owned().into_os_string();
    name.push(REASON);
    name.into()
}

/// It is the file that had the answer.
fn still(watched: &Watched, file: &Path, which: Which) -> Result<(), NotPut> {
    let is_it =
        || io::Result::Ok(is_beneath(watched, file)? && Which::of(&fs::symlink_metadata(file)?) == which);
    match is_it() {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotPut::Another),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NotPut::Another),
        Err(error) => Err(NotPut::Stuck { error, which }),
    }
}

/// Moves it into a folder of ours, below the same folders as before; one of the same name that is there stays. At every moment it is in
/// one place at least.
fn put(watched: &Watched, file: &Path, which: Which, folder: &str) -> Result<PathBuf, NotPut> {
    still(watched, file, which)?;
    let stuck = |error| NotPut::Stuck { error, which: as_it_is(file, which) };
    let to = target(watched, file, folder).map_err(stuck)?;
    // Once more: to make folders takes time.
    still(watched, file, which)?;
    // What stands where its reason would be was dropped by somebody, too.
    let is_free = |to: &PathBuf| folder != FAILED || fs::symlink_metadata(reason(to)).is_err();
    let names = || (0..NUMBERS_MAX).map(|number| numbered(&to, number)).filter(is_free);
    for to in names() {
        match fs::hard_link(file, &to) {
            Ok(()) => {}
            // An earlier move was interrupted here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same(file, &to) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                still(watched, file, which)?;
                return Err(stuck(error));
            }
            // To rename it would end no better.
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::ACCESS | Errno::NOSPC | Errno::DQUOT | Errno::ROFS)
                ) =>
            {
                return Err(stuck(error));
            }
            // No links there, or none to what others have dropped (`fs.protected_hardlinks`).
            Err(_) => return renamed(file, names(), which),
        }
        let linked = fs::symlink_metadata(&to).map(|metadata| Which::of(&metadata)).map_err(stuck)?;
        if !linked.is_alike(which) {
            // Another file, which keeps the name that it has; or links have identities of their own there.
            fs::remove_file(&to).map_err(stuck)?;
            return renamed(file, names(), which);
        }
        // In custody it is already: a file system that cannot promise that its names last is no reason to send it again.
        let _ = files::sync_folder(&to);
        return match Taken::take(file, which).and_then(Taken::remove) {
            Ok(()) | Err(NotPut::Another) => Ok(to),
            Err(stuck) => Err(stuck),
        };
    }
    Err(stuck(io::Error::other("too many files of that name")))
}

/// Moves it without a link, to the first of these names that is free.
fn renamed(file: &Path, names: impl Iterator<Item = PathBuf>, which: Which) -> Result<PathBuf, NotPut> {
    let taken = Taken::take(file, which)?;
    for to in names {
        match rename_to_ours(&taken.path, &to) {
            Ok(()) => {
                let _ = files::sync_folder(&to).and_then(|()| files::sync_folder(file));
                return Ok(to);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(taken.stuck(error)),
        }
    }
    Err(taken.stuck(io::Error::other("too many files of that name")))
}

fn is_same(file: &Path, other: &Path) -> bool {
    let which = |path| fs::symlink_metadata(path).ok().map(|metadata| Which::of(&metadata));
    which(file).is_some_and(|file| which(other) == Some(file))
}

/// What it is known by now: a link or another name alone changes its inode, and not what is in it.
fn as_it_is(file: &Path, which: Which) -> Which {
    let now = fs::symlink_metadata(file).map(|metadata| Which::of(&metadata));
    now.ok().filter(|now| now.is_alike(which)).unwrap_or(which)
}

/// It had another identity under another name: because it is another one, or because names make identities there.
fn other(file: &Path, which: Which) -> NotPut {
    let now = fs::symlink_metadata(file).map(|metadata| Which::of(&metadata));
    match now {
        Ok(now) if now.is_alike(which) => NotPut::Stuck {
            error: io::Error::other("this file system gives a file another identity with another name"),
            which: now,
        },
        _ => NotPut::Another,
    }
}

/// Its place there, in a folder that is there.
fn target(watched: &Watched, file: &Path, folder: &str) -> io::Result<PathBuf> {
    let below = file.strip_prefix(&watched.dir).unwrap_or(file);
    let to = watched.dir.join(folder).join(below);
    if let Some(parent) = to.parent() {
        files::create_folder(parent)?;
    }
    match is_beneath(watched, &to)? {
        true => Ok(to),
        false => Err(io::Error::other("a link stands where `done` and `failed` should be")),
    }
}

/// A file that is ours for the moment, under a name that nobody else writes to: whoever drops another one under the name that it had
/// meanwhile finds that one untouched.
struct Taken<'a> {
    path: PathBuf,
    before: &'a Path,
    which: Which,
}

impl<'a> Taken<'a> {
    /// Takes it, and only then looks whether it is the one that was meant.
    fn take(file: &'a Path, which: Which) -> Result<Self, NotPut> {
        let path = private(file);
        match rename_to_ours(file, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NotPut::Another),
            Err(error) => return Err(NotPut::Stuck { error, which: as_it_is(file, which) }),
        }
        let taken = Self { path, before: file, which };
        match fs::symlink_metadata(&taken.path).map(|metadata| Which::of(&metadata)) {
            Ok(found) if found.is_alike(which) => Ok(taken),
            Ok(_) => match put_back(&taken.path, file) {
                Ok(()) => Err(other(file, which)),
                // The next look tries again.
                Err(error) => Err(NotPut::Stuck { error, which }),
            },
            Err(error) => Err(taken.stuck(error)),
        }
    }

    fn remove(self) -> Result<(), NotPut> {
        match fs::remove_file(&self.path) {
            Ok(()) => {
                let _ = files::sync_folder(&self.path);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.stuck(error)),
        }
    }

    fn stuck(self, error: io::Error) -> NotPut {
        let error = put_back(&self.path, self.before).err().unwrap_or(error);
        NotPut::Stuck { error, which: as_it_is(self.before, self.which) }
    }
}

/// Under the name that it had, or one beside it.
fn put_back(path: &Path, before: &Path) -> io::Result<()> {
    for number in 0..NUMBERS_MAX {
        match rename_to_theirs(path, &numbered(before, number)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            tried => return tried,
        }
    }
    Err(io::Error::other("too many files of that name"))
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
fn rename_to_ours(from: &Path, to: &Path) -> io::Result<()> {
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
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same(from, to) => {
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

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name: OsString = path.to_owned().into_os_string();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn files_of_one_name_are_kept_apart_and_a_reason_stands_beside() {
        let dir = tempfile::tempdir().unwrap();
        let ae = base::AeTitle::parse("RESEARCH").unwrap();
        let mut watched = Watched {
            dir: dir.path().canonicalize().unwrap(),
            calling: ae.clone(),
            ae,
            settle: Duration::ZERO,
            every: Duration::ZERO,
            delivered: AfterDelivery::Keep,
        };
        let file = watched.dir.join("a/one.dcm");
        let which = || Which::of(&fs::symlink_metadata(&file).unwrap());
        let write = |text: &str| {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
        };
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        for text in ["first", "second"] {
            write(text);
            done(&watched, &file, which()).unwrap();
            assert!(!file.exists());
        }
        assert_eq!((read("done/a/one.dcm"), read("done/a/one.dcm.1")), ("first".into(), "second".into()));
        // Killed between the two steps of a move.
        write("again");
        fs::hard_link(&file, dir.path().join("done/a/one.dcm.2")).unwrap();
        done(&watched, &file, which()).unwrap();
        assert!(!file.exists() && !dir.path().join("done/a/one.dcm.3").exists());
        write("third");
        failed(&watched, &file, which(), "no DICM").unwrap();
        assert_eq!(
            (read("failed/a/one.dcm"), read("failed/a/one.dcm.reason.txt")),
            ("third".into(), "no DICM\n".into())
        );
        // What somebody has dropped under the name of a reason stays.
        fs::write(dir.path().join("failed/a/one.dcm.1.reason.txt"), "dropped").unwrap();
        write("fourth");
        failed(&watched, &file, which(), "no DICM").unwrap();
        assert_eq!(
            (read("failed/a/one.dcm.1.reason.txt"), read("failed/a/one.dcm.2")),
            ("dropped".into(), "fourth".into())
        );
        // Without links: a free name all the same.
        write("fifth");
        let [taken, free] = ["failed/a/one.dcm", "failed/a/free.dcm"].map(|name| dir.path().join(name));
        assert_eq!(renamed(&file, [taken, free.clone()].into_iter(), which()).map_err(|_| ()), Ok(free));
        assert_eq!(read("failed/a/free.dcm"), "fifth");
        // Another one under the same name stays where it is.
        write("before");
        let before = which();
        write("after it was sent");
        assert!(matches!(done(&watched, &file, before), Err(NotPut::Another)));
        assert_eq!(read("a/one.dcm"), "after it was sent");
        watched.delivered = AfterDelivery::Remove;
        write("fourth");
        done(&watched, &file, which()).unwrap();
        assert!(!file.exists() && !dir.path().join("done/a/one.dcm.3").exists());
    }

    #[test]
    fn what_is_taken_is_looked_at_and_put_back_where_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let [file, other] = ["one.dcm", "two.dcm"].map(|name| dir.path().join(name));
        let which = |path: &Path| Which::of(&fs::symlink_metadata(path).unwrap());
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
