//! Where a file goes that has had its answer.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use service::files::{self, Readable};

use super::{AfterDelivery, Watched};

const DONE: &str = "done";
const FAILED: &str = "failed";
/// Behind the name of a file that failed.
const REASON: &str = ".reason.txt";
/// Files of one name that are kept apart by a number.
const NUMBERS_MAX: u32 = 100_000;

/// It is where it belongs, durably.
pub(super) struct Placed;

/// Whether it is one of our folders.
pub(super) fn is_ours(watched: &Watched, path: &Path) -> bool {
    [DONE, FAILED].into_iter().any(|name| path == watched.dir.join(name))
}

/// Its instance is in custody.
pub(super) fn done(watched: &Watched, file: &Path) -> io::Result<Placed> {
    match watched.delivered {
        AfterDelivery::Remove => files::remove(file)?,
        AfterDelivery::Keep => {
            moved(watched, file, DONE)?;
        }
    }
    Ok(Placed)
}

/// Nothing of it went on; `why` stands beside it.
pub(super) fn failed(watched: &Watched, file: &Path, why: &str) -> io::Result<Placed> {
    let to = moved(watched, file, FAILED)?;
    let mut name = to.clone().into_os_string();
    name.push(REASON);
    files::replace(Path::new(&name), format!("{why}\n").as_bytes(), Readable::Everybody)?;
    Ok(Placed)
}

/// Moves it into a folder of ours, below the same folders as before; one of the same name that is there stays.
fn moved(watched: &Watched, file: &Path, folder: &str) -> io::Result<PathBuf> {
    let below = file.strip_prefix(&watched.dir).unwrap_or(file);
    let to = watched.dir.join(folder).join(below);
    if let Some(parent) = to.parent() {
        files::create_folder(parent)?;
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
    use std::{fs, time::Duration};

    use super::*;

    #[test]
    fn files_of_one_name_are_kept_apart_and_a_reason_stands_beside() {
        let dir = tempfile::tempdir().unwrap();
        let ae = base::AeTitle::parse("RESEARCH").unwrap();
        let mut watched = Watched {
            dir: dir.path().to_owned(),
            calling: ae.clone(),
            ae,
            settle: Duration::ZERO,
            every: Duration::ZERO,
            delivered: AfterDelivery::Keep,
        };
        let file = dir.path().join("a/one.dcm");
        let write = |text: &str| {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
        };
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        for text in ["first", "second"] {
            write(text);
            done(&watched, &file).unwrap();
            assert!(!file.exists());
        }
        assert_eq!((read("done/a/one.dcm"), read("done/a/one.dcm.1")), ("first".into(), "second".into()));
        // Killed between the two steps of a move.
        write("again");
        fs::hard_link(&file, dir.path().join("done/a/one.dcm.2")).unwrap();
        done(&watched, &file).unwrap();
        assert!(!file.exists() && !dir.path().join("done/a/one.dcm.3").exists());
        write("third");
        failed(&watched, &file, "no DICM").unwrap();
        assert_eq!(
            (read("failed/a/one.dcm"), read("failed/a/one.dcm.reason.txt")),
            ("third".into(), "no DICM\n".into())
        );
        watched.delivered = AfterDelivery::Remove;
        write("fourth");
        done(&watched, &file).unwrap();
        assert!(!file.exists() && !dir.path().join("done/a/one.dcm.3").exists());
    }
}
