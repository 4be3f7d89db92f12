//! Memory and slots that all admitted bodies share, and how much of them one destination may have: one
//! that stands still keeps what it has, and must not keep it all.

use std::{collections::HashMap, sync::Arc};

use base::Name;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::CollectTable;

/// Buffer is counted in these.
const UNIT_BYTES: u64 = 1024;

/// Memory for bodies that are verified first, slots for larger ones.
#[derive(Debug)]
pub struct Room {
    buffer: Shared,
    streams: Shared,
    verify_first: u64,
}

/// One body's share.
#[derive(Debug)]
pub enum Share {
    /// Announced, and small enough to be verified first.
    Whole(Held),
    /// Announced as larger.
    Streamed(Held),
    /// Not announced: verified first while it fits, streamed beyond.
    Either(Held, Held),
}

impl Share {
    /// The buffer that a body holds which was verified as a whole.
    pub fn into_buffer(self) -> Option<Held> {
        match self {
            Self::Whole(buffer) | Self::Either(buffer, _) => Some(buffer),
            Self::Streamed(_) => None,
        }
    }
}

/// Given back when dropped.
#[derive(Debug)]
pub struct Held {
    _of_destination: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// A number of permits, and the most that one destination may have of them.
#[derive(Debug)]
struct Shared {
    all: Arc<Semaphore>,
    each_units: u32,
    each: HashMap<Name, Arc<Semaphore>>,
}

impl Shared {
    /// An equal part for each destination: what all of them together may have is there.
    fn new(units: u32, destinations: &[Name]) -> Self {
        let parts = u32::try_from(destinations.len()).unwrap_or(u32::MAX).max(1);
        let each_units = (units / parts).clamp(1, units);
        let semaphore = |units: u32| Arc::new(Semaphore::new(units as usize));
        let each = destinations.iter().map(|name| (name.clone(), semaphore(each_units))).collect();
        Self { all: semaphore(units), each_units, each }
    }

    /// The destination's own part first: whoever waits for that holds nothing of the others.
    async fn take(&self, destination: &Name, units: u32) -> Option<Held> {
        let units = units.clamp(1, self.each_units);
        let of_destination = Arc::clone(self.each.get(destination)?).acquire_many_owned(units).await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_many_owned(units).await.ok()?;
        Some(Held { _of_destination: of_destination, _of_all: of_all })
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

impl Room {
    /// Divides the configured memory. A destination's part holds at least one body of `verify_first`, so
    /// that those that stand still never keep the others waiting.
    pub fn new(collect: &CollectTable, destinations: &[Name]) -> Self {
        let streams = u32::try_from(collect.streams(destinations.len())).unwrap_or(u32::MAX);
        let buffer = units(collect.buffer_bytes(destinations.len())).max(1);
        Self {
            buffer: Shared::new(buffer, destinations),
            streams: Shared::new(streams, destinations),
            verify_first: collect.verify_first.0,
        }
    }

    /// Waits for this body's share. Called in the order of a route's offers only: whoever holds a
    /// share waits for earlier offers of its route at most, and these have theirs.
    pub async fn take(&self, destination: &Name, size: Option<u64>) -> Option<Share> {
        let (buffer, streams) = (&self.buffer, &self.streams);
        match size {
            Some(size) if size <= self.verify_first => {
                buffer.take(destination, units(size)).await.map(Share::Whole)
            }
            Some(_) => streams.take(destination, 1).await.map(Share::Streamed),
            None => Some(Share::Either(
                buffer.take(destination, units(self.verify_first)).await?,
                streams.take(destination, 1).await?,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use service::config::ByteSize;

    use super::*;

    #[test]
    fn one_destination_cannot_keep_all() {
        let names = ["a", "b"].map(|name| Name::parse(name).unwrap());
        let collect = CollectTable {
            verify_first: ByteSize(1 << 20),
            buffer: Some(ByteSize(4 << 20)),
            streams_max: Some(2),
            ..CollectTable::default()
        };
        let room = Room::new(&collect, &names);
        let take = |name: &Name, size| room.take(name, size).now_or_never().flatten();
        let mib = Some(1 << 20);
        let _held = (take(&names[0], mib).unwrap(), take(&names[0], mib).unwrap());
        assert!(take(&names[0], mib).is_none());
        let other = (take(&names[1], mib).unwrap(), take(&names[1], mib).unwrap());
        drop(other);
        let large = Some(5 << 20);
        let _held = take(&names[0], large).unwrap();
        assert!(take(&names[0], large).is_none());
        assert!(take(&names[1], large).is_some());
    }

    #[test]
    fn many_that_stand_still_keep_no_other_waiting() {
        let names: Vec<_> = (0..100).map(|n| Name::parse(&format!("d{n}")).unwrap()).collect();
        let (last, standing) = names.split_last().unwrap();
        let room = Room::new(&CollectTable::default(), &names);
        let whole = Some(CollectTable::default().verify_first.0);
        let large = Some(1 << 40);
        let mut held = Vec::new();
        for name in standing {
            for size in [whole, large] {
                while let Some(share) = room.take(name, size).now_or_never() {
                    held.push(share.unwrap());
                }
            }
        }
        assert_eq!(held.len(), 2 * standing.len());
        for size in [whole, large] {
            held.push(room.take(last, size).now_or_never().flatten().unwrap());
        }
    }
}
