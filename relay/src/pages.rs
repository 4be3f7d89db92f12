//! Memory for held bodies, apart from the heap: whole pages from the kernel that go back to it when a body is burned. A heap
//! keeps what is freed between things that live longer, and under `mlockall` cannot give back its middle at all.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

/// A body is held in pieces of this size, and a last one of the size that is left.
pub(crate) const PAGE_BYTES: usize = 64 * 1024;
/// What the kernel hands out at once: a piece takes up to so many bytes more than it holds.
pub(crate) const GRAIN_BYTES: u64 = 4096;
/// Wiped pages kept for the next body, 2 MiB of them, so that bodies that pass by cost no system calls.
const SPARE_PAGES: usize = 32;

static SPARE: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

/// Memory that is being filled.
pub(crate) struct Page {
    block: Block,
    filled: usize,
}

enum Block {
    Mapped(MmapMut),
    /// The process has as many mappings as the kernel allows: rather the heap than no place.
    Heap(Vec<u8>),
}

impl Page {
    /// Room for exactly so many bytes, at most [`PAGE_BYTES`].
    pub(crate) fn with_room(bytes: usize) -> Self {
        let spare = (bytes == PAGE_BYTES).then(|| spare_pages().pop()).flatten();
        let block = match spare.map_or_else(|| MmapMut::map_anon(bytes), Ok) {
            Ok(mapped) => Block::Mapped(mapped),
            Err(_) => Block::Heap(vec![0; bytes]),
        };
        Self { block, filled: 0 }
    }

    /// Takes as much from the front of `bytes` as there is room for. Gives how much.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        let room = self.block.bytes_mut().get_mut(self.filled..).unwrap_or_default();
        let count = room.len().min(bytes.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.filled += count;
        count
    }

    /// What was filled. Wiped and given back with its last reader.
    pub(crate) fn freeze(self) -> Bytes {
        let filled = self.filled;
        Bytes::from_owner(self).slice(..filled)
    }
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        match &self.block {
            Block::Mapped(mapped) => mapped,
            Block::Heap(bytes) => bytes,
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let bytes = self.block.bytes_mut();
        // A plain fill runs at memory speed; the barrier keeps the compiler from leaving it out.
        bytes.fill(0);
        zeroize::optimization_barrier(bytes);
        let block = std::mem::replace(&mut self.block, Block::Heap(Vec::new()));
        if let Block::Mapped(mapped) = block
            && mapped.len() == PAGE_BYTES
        {
            let mut spare = spare_pages();
            if spare.len() < SPARE_PAGES {
                spare.push(mapped);
            }
        }
    }
}

impl Block {
    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Heap(bytes) => bytes,
        }
    }
}

/// Nothing that can panic happens under this lock.
fn spare_pages() -> std::sync::MutexGuard<'static, Vec<MmapMut>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_what_it_has_room_for() {
        for room in [1usize, 4096, 20_500, PAGE_BYTES] {
            let mut page = Page::with_room(room);
            assert_eq!(page.take(&vec![7; room / 2]), room / 2);
            assert_eq!(page.take(&vec![8; PAGE_BYTES]), room - room / 2);
            assert_eq!(page.take(&[9]), 0);
            let bytes = page.freeze();
            assert_eq!((bytes.len(), bytes.first(), bytes.last()), (room, bytes.first(), Some(&8)));
        }
    }

    #[test]
    fn spare_pages_are_empty_and_few() {
        let pages: Vec<_> = (0..3 * SPARE_PAGES)
            .map(|_| {
                let mut page = Page::with_room(PAGE_BYTES);
                page.take(&vec![7; PAGE_BYTES]);
                page.freeze()
            })
            .collect();
        drop(pages);
        let spare = spare_pages();
        assert!(spare.len() <= SPARE_PAGES);
        assert!(spare.iter().all(|page| page.iter().all(|byte| *byte == 0)));
    }
}
