//! Where a file goes that has had its answer.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use service::files::{self, Readable};

use super::{AfterDelivery, Watched, seen::Which};

const DONE: &str = "done";
const FAILED: &str = "failed";
/// Behind the name of a file that failed.
const REASON: &str = ".reason.txt";
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

/// Its instance is in custody. `NotFound`: another file stands there.
pub(super) fn done(watched: &Watched, file: &Path, which: Which) -> io::Result<()> {
    still(watched, file, which)?;
    match watched.delivered {
        AfterDelivery::Remove => files::remove(file),
        AfterDelivery::Keep => moved(watched, file, DONE).map(drop),
    }
}

/// Nothing of it went on; `why` stands beside it. `NotFound`: another file stands there.
pub(super) fn failed(watched: &Watched, file: &Path, which: Which, why: &str) -> io::Result<()> {
    still(watched, file, which)?;
    let to = moved(watched, file, FAILED)?;
    let mut name = to.into_os_string();
    name.push(REASON);
    files::replace(Path::new(&name), format!("{why}\n").as_bytes(), Readable::Everybody)
}

/// It is the file that had the answer.
fn still(watched: &Watched, file: &Path, which: Which) -> io::Result<()> {
    let is_it = is_beneath(watched, file)? && Which::of(&fs::symlink_metadata(file)?) == which;
    is_it.then_some(()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Moves it into a folder of ours, below the same folders as before; one of the same name that is there stays.
fn moved(watched: &Watched, file: &Path, folder: &str) -> io::Result<PathBuf> {
    let below = file.strip_prefix(&watched.dir).unwrap_or(file);
    let to = watched.dir.join(folder).join(below);
    if let Some(parent) = to.parent() {
        files::create_folder(parent)?;
    }
    if !is_beneath(watched, &to)? {
        return Err(io::Error::other("a link stands where `done` and `failed` should be"));
    }
    for number in 0..NUMBERS_MAX {
        let to = numbered(&to, number);
        match files::move_new(file, &to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            moved => return moved.map(|()| to),
        }
    }
    Err(io::Error::other("too many files of that name"))
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
        assert_eq!(done(&watched, &file, before).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read("a/one.dcm"), "after it was sent");
        watched.delivered = AfterDelivery::Remove;
        write("fourth");
        done(&watched, &file, which()).unwrap();
        assert!(!file.exists() && !dir.path().join("done/a/one.dcm.3").exists());
    }
}
