//! Memory and slots that all admitted bodies share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::CollectTable;

/// Buffer is counted in these.
const UNIT_BYTES: u64 = 1024;

/// Memory for bodies that are verified first, slots for larger ones.
#[derive(Debug)]
pub struct Room {
    buffer: Arc<Semaphore>,
    buffer_units: u32,
    streams: Arc<Semaphore>,
    verify_first: u64,
}

/// One body's share.
#[derive(Debug)]
pub enum Share {
    /// Announced, and small enough to be verified first.
    Whole(OwnedSemaphorePermit),
    /// Announced as larger.
    Streamed(OwnedSemaphorePermit),
    /// Not announced: verified first while it fits, streamed beyond.
    Either(OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Share {
    /// The buffer that a body holds which was verified as a whole.
    pub fn into_buffer(self) -> Option<OwnedSemaphorePermit> {
        match self {
            Self::Whole(buffer) | Self::Either(buffer, _) => Some(buffer),
            Self::Streamed(_) => None,
        }
    }
}

impl Room {
    /// Divides the configured memory.
    pub fn new(collect: &CollectTable) -> Self {
        let units = |bytes: u64| u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(1);
        let buffer_units = units(collect.buffer.0);
        Self {
            buffer: Arc::new(Semaphore::new(buffer_units as usize)),
            buffer_units,
            streams: Arc::new(Semaphore::new(collect.streams_max.max(1))),
            verify_first: collect.verify_first.0.min(collect.buffer.0),
        }
    }

    /// Waits for this body's share. Called in the order of a route's offers only: whoever holds a
    /// share waits for earlier offers of its route at most, and these have theirs.
    pub async fn take(&self, size: Option<u64>) -> Option<Share> {
        match size {
            Some(size) if size <= self.verify_first => self.buffer(size).await.map(Share::Whole),
            Some(_) => self.stream().await.map(Share::Streamed),
            None => Some(Share::Either(self.buffer(self.verify_first).await?, self.stream().await?)),
        }
    }

    async fn buffer(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.buffer_units);
        Arc::clone(&self.buffer).acquire_many_owned(units).await.ok()
    }

    async fn stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).acquire_owned().await.ok()
    }
}
