//! How much the outbox may hold, and how much of the file system it leaves alone.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::BeginError;

/// How many bytes are written between two looks at the free space: the reserve is overshot by no more.
const LOOK_EVERY_BYTES: u64 = 8 << 20;
/// At this share of `bytes_max` new associations are turned away, so that those under way can finish.
const WATERMARK_PERCENT: u64 = 95;

/// What the outbox uses of what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Sealed bytes held, those still coming included.
    pub bytes_used: u64,
    /// The most it holds.
    pub bytes_max: u64,
    /// Free bytes of the file system.
    pub bytes_free: u64,
    /// What must stay free.
    pub reserve_bytes: u64,
}

impl Usage {
    /// Whether new associations should be rejected (transient, local limit exceeded).
    pub fn is_above_watermark(&self) -> bool {
        self.bytes_used >= self.bytes_max / 100 * WATERMARK_PERCENT
            || self.bytes_free < self.reserve_bytes.saturating_add(self.reserve_bytes / 20)
    }
}

/// Counts bytes; asks the file system now and then.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    bytes_max: u64,
    reserve_bytes: u64,
    /// Bodies with a row, as the index says.
    stored: AtomicU64,
    /// Bodies still coming, or not yet committed.
    coming: AtomicU64,
    /// Written since the last look.
    unseen: AtomicU64,
}

impl Disk {
    pub(crate) fn new(dir: &Path, bytes_max: u64, reserve_bytes: u64, stored: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            bytes_max,
            reserve_bytes,
            stored: AtomicU64::new(stored),
            coming: AtomicU64::new(0),
            unseen: AtomicU64::new(0),
        }
    }

    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        Ok(Usage {
            bytes_used: self.used(),
            bytes_max: self.bytes_max,
            bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
            reserve_bytes: self.reserve_bytes,
        })
    }

    fn used(&self) -> u64 {
        self.stored.load(Ordering::Relaxed).saturating_add(self.coming.load(Ordering::Relaxed))
    }

    /// Whether one more body may begin.
    pub(crate) fn admit(&self) -> Result<(), BeginError> {
        let Usage { bytes_used: used, bytes_max, bytes_free: free, reserve_bytes: reserve } =
            self.usage().map_err(BeginError::Io)?;
        if used >= bytes_max {
            return Err(BeginError::Full { used, bytes_max });
        }
        if free < reserve {
            return Err(BeginError::Reserve { free, reserve });
        }
        Ok(())
    }

    /// Counts bytes before they are written; `false` and uncounted when there is no room.
    pub(crate) fn reserve(&self, bytes: u64) -> bool {
        let coming = self.coming.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let in_quota = coming.saturating_add(self.stored.load(Ordering::Relaxed)) <= self.bytes_max;
        let look = self.unseen.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) >= LOOK_EVERY_BYTES;
        let fits = in_quota && (!look || self.reserve_is_free());
        if !fits {
            self.release(bytes);
        }
        fits
    }

    fn reserve_is_free(&self) -> bool {
        self.unseen.store(0, Ordering::Relaxed);
        self.usage().is_ok_and(|usage| usage.bytes_free >= self.reserve_bytes)
    }

    /// A body that was coming is gone.
    pub(crate) fn release(&self, bytes: u64) {
        subtract(&self.coming, bytes);
    }

    /// A body that was coming has its row.
    pub(crate) fn keep(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
        subtract(&self.coming, bytes);
    }

    /// A body with a row is gone.
    pub(crate) fn free(&self, bytes: u64) {
        subtract(&self.stored, bytes);
    }

    /// What the index says, after another process has changed it.
    pub(crate) fn recount(&self, stored: u64) {
        self.stored.store(stored, Ordering::Relaxed);
    }
}

fn subtract(counter: &AtomicU64, bytes: u64) {
    let _ =
        counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(bytes)));
}
