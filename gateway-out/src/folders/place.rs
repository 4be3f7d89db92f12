//! Where a file goes that has had its answer.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
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
            let taken = Taken::take(file, which)?;
            files::remove(&taken.path).map_err(|error| taken.stuck(error))
        }
        AfterDelivery::Keep => put(watched, file, which, DONE).map(drop),
    }
}

/// Nothing of it went on; `why` stands beside it.
pub(super) fn failed(watched: &Watched, file: &Path, which: Which, why: &str) -> Result<(), NotPut> {
    let to = put(watched, file, which, FAILED)?;
    let mut name = to.into_os_string();
    name.push(REASON);
    let written = files::replace(Path::new(&name), format!("{why}\n").as_bytes(), Readable::Everybody);
    if let Err(error) = written {
        // Neither does the name of the file belong into a log.
        warn!(dir = %watched.dir.display(), error = %error.kind(), "a file was put into `failed`, and its reason could not be written: {why}");
    }
    Ok(())
}

/// It is the file that had the answer.
fn still(watched: &Watched, file: &Path, which: Which) -> Result<(), NotPut> {
    let is_it = || Ok(is_beneath(watched, file)? && Which::of(&fs::symlink_metadata(file)?) == which);
    match is_it() {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotPut::Another),
        Err(error) => Err(not_put(error, which)),
    }
}

fn not_put(error: io::Error, which: Which) -> NotPut {
    match error.kind() {
        io::ErrorKind::NotFound => NotPut::Another,
        _ => NotPut::Stuck { error, which },
    }
}

/// Moves it into a folder of ours, below the same folders as before; one of the same name that is there stays.
fn put(watched: &Watched, file: &Path, which: Which, folder: &str) -> Result<PathBuf, NotPut> {
    still(watched, file, which)?;
    let to = target(watched, file, folder).map_err(|error| NotPut::Stuck { error, which })?;
    // Once more: to make folders takes time.
    still(watched, file, which)?;
    let taken = Taken::take(file, which)?;
    for number in 0..NUMBERS_MAX {
        let to = numbered(&to, number);
        match files::move_new(&taken.path, &to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(taken.stuck(error)),
            Ok(()) => return Ok(to),
        }
    }
    Err(taken.stuck(io::Error::other("too many files of that name")))
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
        rename_new(file, &path).map_err(|error| not_put(error, which))?;
        let found = fs::symlink_metadata(&path).map(|metadata| Which::of(&metadata));
        let taken = Self { path, before: file, which };
        match found {
            Ok(found) if found.is_alike(which) => Ok(taken),
            Ok(_) => {
                taken.put_back();
                Err(NotPut::Another)
            }
            Err(error) => Err(taken.stuck(error)),
        }
    }

    fn stuck(self, error: io::Error) -> NotPut {
        self.put_back();
        let now = fs::symlink_metadata(self.before).map(|metadata| Which::of(&metadata));
        // A move alone changes its inode, and not what is in it.
        let which = now.ok().filter(|now| now.is_alike(self.which)).unwrap_or(self.which);
        NotPut::Stuck { error, which }
    }

    fn put_back(&self) {
        put_back(&self.path, self.before);
    }
}

/// Where that does not work the next look tries again.
fn put_back(path: &Path, before: &Path) {
    let free = |number| match rename_new(path, &numbered(before, number)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        tried => Some(tried),
    };
    let tried = (0..NUMBERS_MAX).find_map(free);
    if let Some(Err(error)) = tried {
        // In a folder whose names may name patients.
        warn!(error = %error.kind(), "a file that was taken to be moved cannot be put back, and is tried again: its name begins with {TAKEN}");
    }
}

/// What was left behind by a process that was killed may be a file that nobody has sent. Gives whether this is such a name.
pub(super) fn put_back_left_behind(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let Some(before) = name.strip_prefix(TAKEN.as_bytes()) else { return false };
    put_back(path, &path.with_file_name(OsStr::from_bytes(before)));
    true
}

/// The end of its name, where all of it is too long.
fn private(file: &Path) -> PathBuf {
    let name = file.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let end = name.get(name.len().saturating_sub(NAME_BYTES_MAX - TAKEN.len())..).unwrap_or(name);
    let mut private = OsString::from(TAKEN);
    private.push(OsStr::from_bytes(end));
    file.with_file_name(private)
}

/// Another name, unless one stands there.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it, a network one for instance.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        },
        renamed => Ok(renamed?),
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
        assert!(put_back_left_behind(&left) && !put_back_left_behind(&nothing));
        assert_eq!(fs::read_to_string(&file).unwrap(), "came meanwhile");
        // Stuck, and known by what the moves have made of it.
        let taken = Taken::take(&file, which(&file)).map_err(|_| "taken").unwrap();
        let NotPut::Stuck { which: known, .. } = taken.stuck(io::Error::other("full")) else {
            panic!("stuck")
        };
        assert_eq!(known, which(&file));
        // A name that is as long as it may be.
        let long = dir.path().join("l".repeat(255));
        fs::write(&long, "long").unwrap();
        let taken = Taken::take(&long, which(&long)).map_err(|_| "taken").unwrap();
        taken.put_back();
        assert_eq!(fs::read_to_string(&long).unwrap(), "long");
    }
}
