//! Which files are there, and which of them nobody writes to any more.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::fs::OFlags;

use super::{Watched, place, taken};

/// Folders within folders.
const DEPTH_MAX: usize = 32;
/// Names of files that are still being written.
const UNFINISHED: [&str; 3] = ["tmp", "part", "filepart"];

/// Which file stands under a name, and in which state: what is sent, what is moved away and what stands there by then are compared by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Which {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Of the inode: nobody sets it as they like, and whoever copies over a file with its times (`cp -p`) has changed it.
    changed: (i64, i64),
}

impl Which {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of what stands there; links are not followed.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&fs::symlink_metadata(path)?))
    }

    /// Whether two paths name one file. Not by its number alone: some file systems that are made of several give one number twice.
    pub(super) fn is_same(one: &Path, other: &Path) -> bool {
        matches!((Self::at(one), Self::at(other)), (Ok(one), Ok(other)) if one == other)
    }

    /// Whether only `ctime` differs, as after a change of its name, mode or owner.
    pub(super) fn is_alike(self, other: Self) -> bool {
        Self { changed: other.changed, ..self } == other
    }

    /// What it is known by now: a link or another name changes `ctime`, and nothing else.
    pub(super) fn as_it_is(self, path: &Path) -> Self {
        Self::at(path).ok().filter(|now| now.is_alike(self)).unwrap_or(self)
    }
}

/// A file that nobody writes to any more.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub(super) path: PathBuf,
    pub(super) which: Which,
}

/// What [`open`] found.
pub(super) enum Opened {
    File(File),
    /// Another file stands there, or this one has changed.
    Another,
}

/// Opens a file to be sent, if it is still the one that has settled. Links are not followed, in no folder on the way.
pub(super) fn open(watched: &Watched, settled: &Settled) -> io::Result<Opened> {
    if !place::is_beneath(watched, &settled.path)? {
        return Ok(Opened::Another);
    }
    // A pipe in its place would be waited for without end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = match File::options().read(true).custom_flags(flags).open(&settled.path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Another),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let is_it = metadata.is_file() && Which::of(&metadata) == settled.which;
    Ok(if is_it { Opened::File(file) } else { Opened::Another })
}

/// What a file was like when it was last looked at, and since when it has been so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    which: Which,
    since: Instant,
}

/// Files of one folder.
#[derive(Debug, Default)]
pub(super) struct Seen {
    files: BTreeMap<PathBuf, Look>,
    /// Those that could not be given back the name that they had before a process was killed, and why not.
    hidden: Vec<io::Error>,
}

impl Seen {
    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        (self.files.len() + self.hidden.len()) as u64
    }

    /// Why some are left behind under names that nobody looks at.
    pub(super) fn hidden(&self) -> Option<String> {
        let (count, why) = (self.hidden.len(), self.hidden.first()?);
        Some(format!(
            "files that were taken to be moved cannot be given back their names ({count} of them): {why}"
        ))
    }

    /// Looks through the folder; gives the files that have settled, in the order of their names.
    pub(super) fn look(&mut self, watched: &Watched) -> io::Result<Vec<Settled>> {
        let mut found = Self::default();
        self.gather(watched, &watched.dir, 0, &mut found)?;
        *self = found;
        let is_settled = |look: &Look| look.since.elapsed() >= watched.settle;
        let settled = self.files.iter().filter(|(_, look)| is_settled(look));
        Ok(settled.map(|(path, look)| Settled { path: path.clone(), which: look.which }).collect())
    }

    fn gather(&self, watched: &Watched, folder: &Path, depth: usize, found: &mut Self) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            // A link may lead anywhere, also to what this gateway can read and its senders cannot. What has gone meanwhile is gone.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if let Some(put_back) = taken::put_back_left_behind(&path, &metadata) {
                // Found by the next look, under the name that it had.
                found.hidden.extend(put_back.err());
                continue;
            }
            if is_unfinished(&entry.file_name()) || place::is_ours(watched, &path) {
                continue;
            }
            if metadata.is_dir() && depth < DEPTH_MAX {
                // One that has gone, or that is not ours to read, is no reason to leave the others.
                let _ = self.gather(watched, &path, depth + 1, found);
            } else if metadata.is_file() {
                found.files.insert(path.clone(), self.look_at(&path, &metadata));
            }
        }
        Ok(())
    }

    fn look_at(&self, path: &Path, metadata: &Metadata) -> Look {
        let now = Look { which: Which::of(metadata), since: Instant::now() };
        match self.files.get(path) {
            // Who changes the mode of all files again and again does not write to them.
            Some(before) if before.which.is_alike(now.which) => Look { since: before.since, ..now },
            _ => now,
        }
    }
}

fn is_unfinished(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || name.rsplit_once('.').is_some_and(|(_, end)| UNFINISHED.contains(&end))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::folders::AfterDelivery;

    fn watched(dir: &Path, settle: Duration) -> Watched {
        let ae = base::AeTitle::parse("RESEARCH").unwrap();
        Watched {
            dir: dir.to_owned(),
            calling: ae.clone(),
            ae,
            settle,
            every: Duration::ZERO,
            delivered: AfterDelivery::Keep,
        }
    }

    fn names(found: &[Settled]) -> Vec<String> {
        found.iter().map(|one| one.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn only_the_file_that_has_settled_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (mut seen, watched) = (Seen::default(), watched(dir.path(), Duration::ZERO));
        let path = dir.path().join("below/one.dcm");
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(&path, b"first").unwrap();
        let [settled] = seen.look(&watched).unwrap().try_into().unwrap();
        let opens = || matches!(open(&watched, &settled).unwrap(), Opened::File(_));
        assert!(opens());
        fs::write(dir.path().join(".new"), b"other").unwrap();
        fs::rename(dir.path().join(".new"), &path).unwrap();
        assert!(!opens(), "another file of the same length");
        fs::remove_file(&path).unwrap();
        assert!(!opens(), "none");
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("one.dcm"), b"first").unwrap();
        fs::remove_dir(dir.path().join("below")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("below")).unwrap();
        assert!(!opens(), "a link on the way");
    }

    #[test]
    fn what_grows_or_has_no_final_name_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::create_dir_all(dir.path().join("done")).unwrap();
        for name in ["a/b/deep.dcm", "one.dcm", ".hidden.dcm", "two.dcm.part", "three.tmp", "done/old.dcm"] {
            fs::write(dir.path().join(name), b"1").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.dcm")).unwrap();
        let (mut seen, watched) = (Seen::default(), watched(dir.path(), Duration::from_millis(50)));
        assert!(seen.look(&watched).unwrap().is_empty(), "nothing has settled yet");
        std::thread::sleep(Duration::from_millis(60));
        fs::write(dir.path().join("one.dcm"), b"12").unwrap();
        assert_eq!(names(&seen.look(&watched).unwrap()), ["deep.dcm"]);
        std::thread::sleep(Duration::from_millis(60));
        fs::rename(dir.path().join("two.dcm.part"), dir.path().join("two.dcm")).unwrap();
        assert_eq!(names(&seen.look(&watched).unwrap()), ["deep.dcm", "one.dcm"]);
        assert_eq!(seen.len(), 3);
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(names(&seen.look(&watched).unwrap()), ["one.dcm", "two.dcm"]);
    }

    #[test]
    fn what_a_killed_process_had_taken_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut seen, watched) = (Seen::default(), watched(dir.path(), Duration::ZERO));
        fs::create_dir(dir.path().join("below")).unwrap();
        for name in ["below/.sluis-taken.one.dcm", ".sluis-taken.two.dcm", "two.dcm", ".sluis-taken."] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(".sluis-taken.link.dcm")).unwrap();
        seen.look(&watched).unwrap();
        assert_eq!(names(&seen.look(&watched).unwrap()), ["one.dcm", "two.dcm", "two.dcm.1"]);
        assert_eq!((seen.len(), seen.hidden()), (3, None));
        assert_eq!(fs::read_to_string(dir.path().join("two.dcm")).unwrap(), "two.dcm");
    }
}
