//! The file of one epoch's entries: a header, then records of one size. The root that was signed vouches for the entries
//! below it; a check in each record vouches for its time, and for what is above.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base::{EpochId, Hasher, Timestamp};
use ledger::log::{Column, ENTRY_BYTES, LogTree};

/// Sixteen bytes of epoch follow it.
const MAGIC: &[u8; 32] = b"sluis/1 relay log entries, v1  \n";
pub(super) const HEADER_BYTES: u64 = 48;
const RECORD_BYTES: usize = 48;
const CHECK_BYTES: usize = RECORD_BYTES - ENTRY_BYTES - size_of::<u64>();
/// Records in one write.
const PIECE: u64 = 16 * 1024;

/// The file, to be appended to.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    epoch: EpochId,
    /// Entries that are on the disk.
    kept: u64,
}

/// What a file holds.
pub(super) struct Scan {
    pub(super) tree: LogTree,
    pub(super) times: Column<Timestamp>,
    /// Bytes behind the last whole record.
    pub(super) behind: u64,
    /// What follows is a whole record, and a wrong one.
    pub(super) damaged: bool,
}

pub(super) enum ScanError {
    Missing,
    Header,
    File(io::Error),
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

fn header(epoch: EpochId) -> Vec<u8> {
    [&MAGIC[..], &epoch.0].concat()
}

fn offset(index: u64) -> u64 {
    HEADER_BYTES + index * RECORD_BYTES as u64
}

/// Of another index or epoch it would be another.
fn check(epoch: EpochId, index: u64, entry: &[u8], time: u64) -> [u8; CHECK_BYTES] {
    let mut hasher = Hasher::new(b"");
    hasher.update(b"sluis/1 relay log record\n");
    hasher.update(&epoch.0);
    hasher.update(&index.to_be_bytes());
    hasher.update(entry);
    hasher.update(&time.to_be_bytes());
    let mut check = [0; CHECK_BYTES];
    check.iter_mut().zip(hasher.finish().0).for_each(|(to, from)| *to = from);
    check
}

impl Records {
    /// A new file, durable with its name. One that an attempt before left is begun anew: no signed head covers it.
    pub(super) fn create(path: &Path, epoch: EpochId) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(&header(epoch), 0)?;
        file.sync_all()?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(Self { file, epoch, kept: 0 })
    }

    /// A file that is there; what is behind so many entries is cut off. What a killed process wrote may have reached the
    /// kernel only: a head may cover it, so it has to be on the disk.
    pub(super) fn open(path: &Path, epoch: EpochId, kept: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() != offset(kept) {
            file.set_len(offset(kept))?;
        }
        file.sync_all()?;
        Ok(Self { file, epoch, kept })
    }

    /// Writes what is not on the disk yet, and waits for the disk. After a failure all of it is written again: the
    /// kernel may have dropped what it could not write.
    pub(super) fn append(&mut self, tree: &LogTree, times: &Column<Timestamp>) -> io::Result<()> {
        let size = tree.size();
        let mut first = self.kept;
        while first < size {
            let end = size.min(first + PIECE);
            let mut bytes = Vec::with_capacity(usize::try_from(end - first).unwrap_or(0) * RECORD_BYTES);
            for index in first..end {
                let (entry, time) =
                    tree.entry(index).zip(times.get(index)).ok_or(io::ErrorKind::InvalidData)?;
                bytes.extend_from_slice(&entry);
                bytes.extend_from_slice(&time.0.to_be_bytes());
                bytes.extend_from_slice(&check(self.epoch, index, &entry, time.0));
            }
            self.file.write_all_at(&bytes, offset(first))?;
            first = end;
        }
        if size > self.kept {
            self.file.sync_data()?;
            self.kept = size;
        }
        Ok(())
    }

    /// As if the disk were full from here on.
    #[cfg(test)]
    pub(super) fn break_off(&mut self) {
        self.file = File::options().write(true).open("/dev/full").unwrap();
    }
}

/// Reads a file up to its first record that is not whole.
pub(super) fn scan(path: &Path, epoch: EpochId) -> Result<Scan, ScanError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ScanError::Missing),
        file => file?,
    };
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut head = vec![0; HEADER_BYTES as usize];
    match reader.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ScanError::Header),
        read => read?,
    }
    if head != header(epoch) {
        return Err(ScanError::Header);
    }
    let (mut tree, mut times, mut damaged) = (LogTree::new(), Column::default(), false);
    let mut record = [0; RECORD_BYTES];
    while length >= offset(tree.size() + 1) {
        reader.read_exact(&mut record)?;
        let Some((entry, time)) = parse(epoch, tree.size(), &record) else {
            damaged = true;
            break;
        };
        tree.push(entry);
        times.push(Timestamp(time));
    }
    let behind = length.saturating_sub(offset(tree.size()));
    Ok(Scan { tree, times, behind, damaged })
}

fn parse(epoch: EpochId, index: u64, record: &[u8; RECORD_BYTES]) -> Option<([u8; ENTRY_BYTES], u64)> {
    let (entry, rest) = record.split_first_chunk::<ENTRY_BYTES>()?;
    let (time, found) = rest.split_first_chunk()?;
    let time = u64::from_be_bytes(*time);
    (check(epoch, index, entry, time) == *found).then_some((*entry, time))
}
