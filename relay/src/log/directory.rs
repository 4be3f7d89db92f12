//! The log's directory: hashes and times only, so that the log outlives the process. FORMAT.md of `ledger` has the bytes.
//!
//! Entries are on the disk before a head that covers them is signed, and the head is on the disk before anybody is shown
//! it. So whatever is found here reaches at least as far as what was shown; where it does not, somebody put an older state
//! back, and the relay must not go on from it.

mod records;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use base::{EpochId, Timestamp};
use identity::{LogKey, LogPublic};
use ledger::log::{Checkpoint, CheckpointError, Entry, TreeHead, parse_origin};
use service::files::{self, Readable};
use thiserror::Error;
use tracing::{info, warn};

use super::signing::{Part, Signed, ToSign};
use records::{Records, ScanError};

const CHECKPOINT: &str = "checkpoint";
const LOCK: &str = "lock";

/// A log directory that this process has to itself.
#[derive(Debug)]
pub struct LogDir {
    dir: PathBuf,
    epoch: EpochId,
    entries: Records,
    /// How many links of this epoch its file has.
    linked: usize,
    /// Held for as long as the process lives.
    _lock: File,
}

/// What a directory holds: entries up to the last signed head, and those behind it that are whole.
#[derive(Debug)]
pub struct Found {
    /// The running epoch.
    pub part: Part,
    /// Its last signed head.
    pub head: Checkpoint,
    /// When it was signed.
    pub signed: Timestamp,
    /// Epochs that are over.
    pub closed: BTreeSet<EpochId>,
    /// Bytes behind the last whole entry: a write that was under way.
    pub torn: u64,
}

/// Why a log directory cannot be used.
#[derive(Debug, Error)]
pub enum LogDirError {
    /// Two relays would write into each other.
    #[error("{}: another relay uses this log directory", .0.display())]
    InUse(PathBuf),
    /// The operating system.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// What is there is less than what was signed.
    #[error(
        "{}: {what}, but this relay has signed a head of {signed} entries: to go on from here would roll the log back, and the \
         gateways would stop using this relay. Put the directory back as it was; or move it away, and another log begins, \
         which the gateways are told",
        path.display()
    )]
    RolledBack {
        /// The file of entries.
        path: PathBuf,
        /// What was found.
        what: String,
        /// Up to where it has to be whole.
        signed: u64,
    },
    /// Entries without a head.
    #[error(
        "{}: missing, but the directory has entries: put it back as it was; or move the directory away, and another log begins, which the \
         gateways are told",
        .0.display()
    )]
    NoCheckpoint(PathBuf),
    /// A head that is not ours.
    #[error(
        "{}: not the head that this relay signed ({reason}): put it back as it was; or, if the relay has another log key now, move the \
         directory away, and another log begins, which the gateways are told",
        path.display()
    )]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> LogDirError {
    let path = path.to_owned();
    move |source| LogDirError::File { path, source }
}

fn entries_path(dir: &Path, epoch: EpochId) -> PathBuf {
    dir.join(format!("entries-{epoch}"))
}

fn links_path(dir: &Path, epoch: EpochId) -> PathBuf {
    dir.join(format!("linked-{epoch}"))
}

fn closed_path(dir: &Path, epoch: EpochId) -> PathBuf {
    dir.join(format!("{CHECKPOINT}-{epoch}"))
}

impl LogDir {
    /// Takes a directory and what it holds; repairs the end of a write that was under way. An empty one begins with this
    /// epoch.
    pub fn open(
        dir: &Path,
        key: &LogKey,
        earlier: Option<&LogPublic>,
        epoch: EpochId,
        wall: Timestamp,
    ) -> Result<(Self, Found), LogDirError> {
        let lock = take_lock(dir)?;
        files::remove_drafts(dir, std::time::Duration::ZERO).map_err(file_error(dir))?;
        let found = match Self::inspect(dir, key, earlier)? {
            Some(found) => found,
            None => begin(dir, key, epoch, wall)?,
        };
        let path = entries_path(dir, found.part.epoch);
        let entries =
            Records::open(&path, found.part.epoch, found.part.tree.size()).map_err(file_error(&path))?;
        if found.torn > 0 {
            warn!(path = %path.display(), bytes = found.torn, "the end of a write that was under way is cut off; no signed head covers it");
        }
        let (epoch, linked) = (found.part.epoch, found.part.linked.len());
        let dir = dir.to_owned();
        Ok((Self { dir, epoch, entries, linked, _lock: lock }, found))
    }

    /// What a directory holds, without changing it; also while a relay writes to it. None: nothing yet.
    /// The last head may be signed by an earlier key of this relay.
    pub fn inspect(
        dir: &Path,
        key: &LogKey,
        earlier: Option<&LogPublic>,
    ) -> Result<Option<Found>, LogDirError> {
        let path = dir.join(CHECKPOINT);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return if has_entries(dir)? { Err(LogDirError::NoCheckpoint(path)) } else { Ok(None) };
            }
            Err(source) => return Err(LogDirError::File { path, source }),
        };
        let foreign = |reason: String| LogDirError::Checkpoint { path: path.clone(), reason };
        let mut by = key.public();
        let mut head = Checkpoint::parse(&text, by);
        if let Some(earlier) = earlier.filter(|_| head.is_err())
            && let Ok(good) = Checkpoint::parse(&text, earlier)
        {
            (by, head) = (earlier, Ok(good));
        }
        let head = head.map_err(|error: CheckpointError| foreign(error.to_string()))?;
        let epoch = match parse_origin(&head.head().origin) {
            Ok((name, epoch)) if name == *key.name() => epoch,
            _ => return Err(foreign(format!("it is of the log {}", head.head().origin))),
        };
        let (part, torn) = read_entries(dir, epoch, head.head())?;
        let signed = Timestamp(head.time_s(by).unwrap_or(0).saturating_mul(1000));
        Ok(Some(Found { part, head, signed, closed: closed(dir)?, torn }))
    }

    /// Writes what is not there yet, and signs it. Nothing is signed where this fails, and it may be tried again.
    pub fn keep(&mut self, job: ToSign) -> Result<Signed, LogDirError> {
        let ToSign { wall, part, next, key } = job;
        let head = self.keep_part(&part, &key, wall)?;
        let Some(next) = next else { return Ok(Signed { wall, head, next: None }) };
        let closed = closed_path(&self.dir, self.epoch);
        files::replace(&closed, head.to_text().as_bytes(), Readable::Everybody)
            .map_err(file_error(&closed))?;
        let path = entries_path(&self.dir, next.epoch);
        let entries = Records::create(&path, next.epoch).map_err(file_error(&path))?;
        let earlier = (self.epoch, std::mem::replace(&mut self.entries, entries), self.linked);
        (self.epoch, self.linked) = (next.epoch, 0);
        match self.keep_part(&next, &key, wall) {
            Ok(first) => Ok(Signed { wall, head, next: Some((next, first)) }),
            Err(error) => {
                // Nobody is shown its head: the earlier epoch goes on, and the next attempt begins the file anew.
                (self.epoch, self.entries, self.linked) = earlier;
                Err(error)
            }
        }
    }

    fn keep_part(&mut self, part: &Part, key: &LogKey, wall: Timestamp) -> Result<Checkpoint, LogDirError> {
        let path = entries_path(&self.dir, self.epoch);
        self.entries.append(&part.tree, &part.times).map_err(file_error(&path))?;
        if part.linked.len() != self.linked {
            write_links(&links_path(&self.dir, part.epoch), &part.linked)?;
        }
        let head = part.sign(key, wall);
        let path = self.dir.join(CHECKPOINT);
        files::replace(&path, head.to_text().as_bytes(), Readable::Everybody).map_err(file_error(&path))?;
        self.linked = part.linked.len();
        Ok(head)
    }
}

fn take_lock(dir: &Path) -> Result<File, LogDirError> {
    let path = dir.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(file_error(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(LogDirError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(LogDirError::File { path, source }),
    }
}

/// Another log: its empty file, then its first head.
fn begin(dir: &Path, key: &LogKey, epoch: EpochId, wall: Timestamp) -> Result<Found, LogDirError> {
    let part = Part { epoch, ..Part::default() };
    let path = entries_path(dir, epoch);
    Records::create(&path, epoch).map_err(file_error(&path))?;
    let head = part.sign(key, wall);
    let path = dir.join(CHECKPOINT);
    files::replace(&path, head.to_text().as_bytes(), Readable::Everybody).map_err(file_error(&path))?;
    warn!(dir = %dir.display(), origin = %head.head().origin, "the log directory was empty: another log begins");
    Ok(Found { part, head, signed: wall, closed: closed(dir)?, torn: 0 })
}

fn read_entries(dir: &Path, epoch: EpochId, head: &TreeHead) -> Result<(Part, u64), LogDirError> {
    let path = entries_path(dir, epoch);
    let rolled_back = |what: String| LogDirError::RolledBack { path: path.clone(), what, signed: head.size };
    let scan = match records::scan(&path, epoch) {
        Ok(scan) => scan,
        Err(ScanError::Missing) => return Err(rolled_back("missing".to_owned())),
        Err(ScanError::Header) => return Err(rolled_back("not a file of this log's entries".to_owned())),
        Err(ScanError::File(source)) => return Err(LogDirError::File { path, source }),
    };
    let size = scan.tree.size();
    if size < head.size {
        return Err(rolled_back(match scan.damaged {
            true => format!("entry {size} is damaged"),
            false => format!("only {size} entries are there"),
        }));
    }
    if scan.tree.root_at(head.size) != Some(head.root) {
        return Err(rolled_back("the entries are others than those that were signed".to_owned()));
    }
    let linked = read_links(&links_path(dir, epoch), &scan.tree)?;
    Ok((Part { epoch, tree: scan.tree, times: scan.times, linked }, scan.behind))
}

/// Whether any epoch has an entry: a head was signed before the first one was written.
fn has_entries(dir: &Path) -> Result<bool, LogDirError> {
    for (name, path) in names(dir)? {
        if epoch_of(&name, "entries-").is_some() {
            let length = fs::metadata(&path).map_err(file_error(&path))?.len();
            if length > records::HEADER_BYTES {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn closed(dir: &Path) -> Result<BTreeSet<EpochId>, LogDirError> {
    let names = names(dir)?;
    Ok(names.iter().filter_map(|(name, _)| epoch_of(name, "checkpoint-")).collect())
}

fn names(dir: &Path) -> Result<Vec<(String, PathBuf)>, LogDirError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(file_error(dir))?;
    Ok(entries.iter().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect())
}

fn epoch_of(name: &str, prefix: &str) -> Option<EpochId> {
    EpochId::from_hex(name.strip_prefix(prefix)?).ok()
}

/// Each link: the index of its entry, and the three lines of the head.
fn write_links(path: &Path, linked: &[(TreeHead, u64)]) -> Result<(), LogDirError> {
    let text: String = linked.iter().map(|(head, index)| format!("{index}\n{}", head.text())).collect();
    files::replace(path, text.as_bytes(), Readable::Everybody).map_err(file_error(path))
}

/// The tree vouches for each of them. What it does not vouch for was not signed yet, or is damaged: the entries have their
/// hashes all the same.
fn read_links(path: &Path, tree: &ledger::log::LogTree) -> Result<Vec<(TreeHead, u64)>, LogDirError> {
    let text = match fs::read(path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LogDirError::File { path: path.to_owned(), source }),
    };
    let lines: Vec<&str> = text.lines().collect();
    let linked = lines.chunks(4).filter_map(|lines| {
        let (index, head) = lines.split_first()?;
        let (index, head) = (index.parse().ok()?, TreeHead::parse(&format!("{}\n", head.join("\n"))).ok()?);
        (tree.entry(index)? == Entry::linked(&head).to_bytes()).then_some((head, index))
    });
    let linked: Vec<_> = linked.collect();
    if linked.len() < lines.len().div_ceil(4) {
        info!(path = %path.display(), "heads of earlier epochs that no entry links are left out");
    }
    Ok(linked)
}

#[cfg(test)]
mod tests;
