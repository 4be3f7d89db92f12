//! Where a file goes that has had its answer.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use service::files::{self, Readable};
use tracing::warn;

use super::{
    AfterDelivery, Watched,
    seen::Which,
    taken::{self, NotPut, Taken},
};

const DONE: &str = "done";
const FAILED: &str = "failed";
/// Behind the name of a file that failed.
const REASON: &str = ".reason.txt";

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

/// It is the file that had the answer, as it was then.
fn still(watched: &Watched, file: &Path, which: Which) -> Result<(), NotPut> {
    let is_it = || io::Result::Ok(is_beneath(watched, file)? && Which::at(file)? == which);
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
    let stuck = |error| NotPut::Stuck { error, which: which.as_it_is(file) };
    let to = target(watched, file, folder).map_err(stuck)?;
    // What stands where its reason would be was dropped by somebody, too.
    let is_free = |to: &PathBuf| folder != FAILED || fs::symlink_metadata(reason(to)).is_err();
    let free = || taken::names(&to).filter(is_free);
    for to in free() {
        // Again and again: to make folders, and to find a name, takes time.
        still(watched, file, which)?;
        match fs::hard_link(file, &to) {
            Ok(()) => {}
            // An earlier move was interrupted here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && Which::is_same(file, &to) => {}
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
            Err(_) => return renamed(file, free(), which),
        }
        let linked = Which::at(&to).map_err(stuck)?;
        if !linked.is_alike(which) {
            // Another file, which keeps the name that it has; or links have identities of their own there.
            fs::remove_file(&to).map_err(stuck)?;
            return renamed(file, free(), which);
        }
        return leave(watched, file, linked, to, folder);
    }
    Err(stuck(taken::no_free_name()))
}

/// Takes away the name that it had. Its place, a link that is known by `linked`, is no place for what has another content by now.
fn leave(
    watched: &Watched,
    file: &Path,
    linked: Which,
    to: PathBuf,
    folder: &str,
) -> Result<PathBuf, NotPut> {
    let stuck = |error| NotPut::Stuck { error, which: linked };
    let left = still(watched, file, linked)
        .and_then(|()| lasts(&to, folder).map_err(stuck))
        .and_then(|()| Taken::take(file, linked)?.remove());
    match left {
        Ok(()) => Ok(to),
        // It was written into since it was sent, and is to be sent again.
        Err(NotPut::Another) if Which::is_same(file, &to) => {
            fs::remove_file(&to).map_err(stuck)?;
            Err(NotPut::Another)
        }
        // What was sent has its place. What stands where it was is met at the next look.
        Err(NotPut::Another) => Ok(to),
        Err(stuck) => Err(stuck),
    }
}

/// What went on is in custody, whether or not its name here lasts; what failed is nowhere else. Whether a file system can promise that
/// is not asked.
fn lasts(to: &Path, folder: &str) -> io::Result<()> {
    match files::sync_folder(to) {
        Err(error)
            if folder == FAILED
                && matches!(Errno::from_io_error(&error), Some(Errno::IO | Errno::NOSPC | Errno::DQUOT)) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Moves it without a link, to the first of these names that is free.
fn renamed(file: &Path, names: impl Iterator<Item = PathBuf>, which: Which) -> Result<PathBuf, NotPut> {
    let taken = Taken::take(file, which)?;
    for to in names {
        match taken::rename_to_ours(&taken.path, &to) {
            Ok(()) => {
                let _ = (files::sync_folder(&to), files::sync_folder(file));
                return Ok(to);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(taken.stuck(error)),
        }
    }
    Err(taken.stuck(taken::no_free_name()))
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
        let which = || Which::at(&file).unwrap();
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
        // Written into, or exchanged, in the moment after its link.
        let to = watched.dir.join("done/linked.dcm");
        let link = |text: &str| {
            write(text);
            fs::hard_link(&file, &to).unwrap();
            Which::at(&to).unwrap()
        };
        let linked = link("sent");
        // Of another length: two writes within one tick of the kernel have the same times.
        fs::write(&file, "written into").unwrap();
        assert!(matches!(leave(&watched, &file, linked, to.clone(), DONE), Err(NotPut::Another)));
        assert!(!to.exists());
        assert_eq!(read("a/one.dcm"), "written into");
        let linked = link("sent");
        fs::remove_file(&file).unwrap();
        write("another");
        assert_eq!(leave(&watched, &file, linked, to.clone(), FAILED).map_err(|_| ()), Ok(to.clone()));
        assert_eq!((read("done/linked.dcm"), read("a/one.dcm")), ("sent".into(), "another".into()));
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
}
