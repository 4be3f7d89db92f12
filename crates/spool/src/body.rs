//! Sealed bodies: one file per object, flat in one folder. Flat, because a group commit then flushes one
//! directory whatever number of bodies it has; ext4 and XFS index directories of millions of names.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use base::ObjectId;
use bytes::Bytes;

use crate::{
    AppendError, BeginError, BodyError,
    disk::Disk,
    faults::{Faults, Point},
};

/// Writeback is started whenever this much has been appended, so that the flush before 0000H finds
/// little left to do, of a large instance too.
const WRITEBACK_EVERY_BYTES: u64 = 4 << 20;

/// The folder of bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    path: PathBuf,
    dir: File,
    disk: Disk,
    faults: Faults,
}

/// A body that is being written. It has its final name at once; without a row the next start removes
/// it. Dropped without a commit it is removed.
#[derive(Debug)]
pub struct BodyFile {
    object: ObjectId,
    shared: Arc<Shared>,
    bodies: Arc<Bodies>,
    /// The last sealed bytes, counted against the quota and not written yet.
    unwritten: Option<Bytes>,
    /// Up to where writeback has been started.
    pushed: u64,
    /// What happens to the file when this value is dropped.
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Remove,
    /// It has a row.
    Kept,
    /// It may have one: the next start will know.
    Unknown,
}

#[derive(Debug)]
struct Shared {
    file: File,
    len: AtomicU64,
}

/// Reads a body at offsets, also while it grows. It stays readable after the body has been purged.
#[derive(Debug, Clone)]
pub struct BodyReader {
    shared: Arc<Shared>,
}

impl Bodies {
    pub(crate) fn open(path: PathBuf, disk: Disk, faults: Faults) -> io::Result<Self> {
        let dir = File::open(&path)?;
        Ok(Self { path, dir, disk, faults })
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    fn path_of(&self, object: ObjectId) -> PathBuf {
        self.path.join(object.to_string())
    }

    pub(crate) fn create(self: &Arc<Self>, object: ObjectId) -> Result<BodyFile, BeginError> {
        self.disk.admit()?;
        self.faults.before(Point::BodyCreate).map_err(BeginError::Io)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create_new(true).mode(0o600).open(self.path_of(object));
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BeginError::Exists(object),
            _ => BeginError::Io(error),
        })?;
        let shared = Arc::new(Shared { file, len: AtomicU64::new(0) });
        Ok(BodyFile {
            object,
            shared,
            bodies: Arc::clone(self),
            unwritten: None,
            pushed: 0,
            fate: Fate::Remove,
        })
    }

    pub(crate) fn reader(&self, object: ObjectId) -> Result<BodyReader, BodyError> {
        let opened = File::open(self.path_of(object)).and_then(|file| {
            let len = file.metadata()?.len();
            Ok(Shared { file, len: AtomicU64::new(len) })
        });
        match opened {
            Ok(shared) => Ok(BodyReader { shared: Arc::new(shared) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(BodyError::Ended(object)),
            Err(error) => Err(BodyError::Io { object, error }),
        }
    }

    /// Makes the names of new bodies durable.
    pub(crate) fn sync_dir(&self) -> io::Result<()> {
        self.faults.before(Point::DirSync)?;
        self.dir.sync_all()?;
        self.faults.after(Point::DirSync)
    }

    /// Removes a body whose custody has ended. Doing it twice is fine.
    pub(crate) fn unlink(&self, object: ObjectId) -> io::Result<()> {
        self.faults.before(Point::Unlink)?;
        match fs::remove_file(self.path_of(object)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.faults.after(Point::Unlink)
    }

    /// Removes every body that is not in `held`: those whose commit never happened, and those whose
    /// custody ended just before we were stopped. Returns how many.
    pub(crate) fn remove_orphans(path: &Path, held: &HashSet<ObjectId>) -> io::Result<u64> {
        let mut removed = 0;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            // Only what is named like a body is ours to remove.
            let Some(object) = name.to_str().and_then(|name| ObjectId::from_hex(name).ok()) else { continue };
            if !held.contains(&object) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl BodyFile {
    /// The object it is the body of.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// Appends sealed bytes. Blocks as long as a write to the page cache does. After an error nothing
    /// more may be appended; drop it.
    pub fn append(&mut self, sealed: &[u8]) -> Result<(), AppendError> {
        self.write_rest()?;
        if !self.bodies.disk.reserve(sealed.len() as u64) {
            return Err(AppendError::Full);
        }
        self.write(sealed)
    }

    /// Appends the last sealed bytes without blocking: they are written by the thread that commits the body,
    /// before its flush.
    pub fn append_last(&mut self, sealed: Bytes) -> Result<(), AppendError> {
        self.write_rest()?;
        if !self.bodies.disk.reserve(sealed.len() as u64) {
            return Err(AppendError::Full);
        }
        self.unwritten = Some(sealed);
        Ok(())
    }

    /// Writes what [`BodyFile::append_last`] left.
    pub(crate) fn write_rest(&mut self) -> Result<(), AppendError> {
        self.unwritten.take().map_or(Ok(()), |sealed| self.write(&sealed))
    }

    /// Writes bytes that the quota has counted.
    fn write(&mut self, sealed: &[u8]) -> Result<(), AppendError> {
        let count = sealed.len() as u64;
        let written =
            self.bodies.faults.before(Point::BodyAppend).and_then(|()| (&self.shared.file).write_all(sealed));
        if let Err(error) = written {
            self.bodies.disk.release(count);
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            return Err(if full { AppendError::Full } else { AppendError::Io(error) });
        }
        let len = self.shared.len.fetch_add(count, Ordering::Release).saturating_add(count);
        self.start_writeback(len);
        Ok(())
    }

    /// Asking the kernel to drop the dirty range from its cache starts its writeback at once and waits
    /// for nothing. It is a hint: nothing depends on it.
    fn start_writeback(&mut self, len: u64) {
        let Some(range) = std::num::NonZeroU64::new(len.saturating_sub(self.pushed)) else { return };
        if range.get() >= WRITEBACK_EVERY_BYTES {
            let _ = rustix::fs::fadvise(
                &self.shared.file,
                self.pushed,
                Some(range),
                rustix::fs::Advice::DontNeed,
            );
            self.pushed = len;
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.shared.len.load(Ordering::Acquire)
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A reader of the growing file.
    pub fn reader(&self) -> BodyReader {
        BodyReader { shared: Arc::clone(&self.shared) }
    }

    /// What another thread needs to make it durable.
    pub(crate) fn to_sync(&self) -> BodySync {
        BodySync { shared: Arc::clone(&self.shared), bodies: Arc::clone(&self.bodies) }
    }

    /// The row is durable: the outbox owns the file now.
    pub(crate) fn keep(mut self) {
        self.fate = Fate::Kept;
    }

    /// A failed write left open whether there is a row.
    pub(crate) fn leave(mut self) {
        self.fate = Fate::Unknown;
    }
}

/// A body to be flushed.
#[derive(Debug)]
pub(crate) struct BodySync {
    shared: Arc<Shared>,
    bodies: Arc<Bodies>,
}

impl BodySync {
    /// fdatasync: content and length are durable afterwards, the name is not.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.bodies.faults.before(Point::BodySync)?;
        self.shared.file.sync_data()?;
        self.bodies.faults.after(Point::BodySync)
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        let disk = &self.bodies.disk;
        match self.fate {
            Fate::Kept => disk.keep(self.len()),
            Fate::Unknown => {}
            Fate::Remove => {
                let unwritten = self.unwritten.as_ref().map_or(0, |sealed| sealed.len() as u64);
                disk.release(self.len().saturating_add(unwritten));
                if let Err(error) = fs::remove_file(self.bodies.path_of(self.object)) {
                    tracing::warn!(object = %self.object, %error, "abandoned body not removed; the next start removes it");
                }
            }
        }
    }
}

impl BodyReader {
    /// Bytes that can be read by now.
    pub fn len(&self) -> u64 {
        self.shared.len.load(Ordering::Acquire)
    }

    /// Whether nothing can be read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` from `offset`; an error when the body does not reach that far yet.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.shared.file.read_exact_at(buffer, offset)
    }

    /// Reads what there is at `offset`; 0 at the present end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.shared.file.read_at(buffer, offset)
    }
}
