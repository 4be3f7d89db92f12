use base::Digest;
use sha2::{Digest as _, Sha256};

use super::column::Column;

/// Bytes of one entry: see [`super::Entry`].
pub const ENTRY_BYTES: usize = 33;

/// Levels of the tree between two that are kept. What lies between is hashed again when a proof needs it: at most 31
/// hashes, in place of half of the memory.
const STRIDE: u32 = 4;

/// An RFC 6962 tree that only grows. Appending costs two hashes on average, whatever its size; a clone is a view that
/// stays as it is (see [`Column`]).
#[derive(Clone, Debug, Default)]
pub struct LogTree {
    entries: Column<[u8; ENTRY_BYTES]>,
    /// Hashes of complete subtrees of 16, 256, 4096, … entries.
    levels: Vec<Column<Digest>>,
}

impl LogTree {
    /// Without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.entries.len()
    }

    /// Appends an entry and gives its index.
    pub fn push(&mut self, entry: [u8; ENTRY_BYTES]) -> u64 {
        let index = self.size();
        self.entries.push(entry);
        let mut level = STRIDE;
        while let (complete, 0) = (self.size() >> level, self.size() % (1 << level)) {
            let slot = usize::try_from(level / STRIDE - 1).unwrap_or(usize::MAX);
            if slot == self.levels.len() {
                self.levels.push(Column::default());
            }
            let Some(hash) =
                self.node(level - 1, 2 * complete - 2).zip(self.node(level - 1, 2 * complete - 1))
            else {
                break;
            };
            if let Some(column) = self.levels.get_mut(slot) {
                column.push(node_hash(&hash.0, &hash.1));
            }
            level += STRIDE;
        }
        index
    }

    /// An entry.
    pub fn entry(&self, index: u64) -> Option<[u8; ENTRY_BYTES]> {
        self.entries.get(index)
    }

    /// The Merkle Tree Hash of all entries.
    pub fn root(&self) -> Digest {
        self.hash(0, self.size()).unwrap_or_else(empty_root)
    }

    /// The Merkle Tree Hash of the first `size` entries, if there are so many.
    pub fn root_at(&self, size: u64) -> Option<Digest> {
        if size == 0 { Some(empty_root()) } else { self.hash(0, size) }
    }

    /// The audit path of an entry in the tree of the first `size` entries, lowest sibling first (RFC 6962 §2.1.1).
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        if index >= size || size > self.size() {
            return None;
        }
        let mut path = Vec::new();
        let (mut start, mut end) = (0, size);
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.hash(middle, end)?);
                end = middle;
            } else {
                path.push(self.hash(start, middle)?);
                start = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// The proof that the tree of the first `new` entries continues that of the first `old` (RFC 6962 §2.1.2). Empty
    /// where there is nothing to prove.
    pub fn prove_consistency(&self, old: u64, new: u64) -> Option<Vec<Digest>> {
        if old > new || new > self.size() {
            return None;
        }
        let mut path = Vec::new();
        if old == 0 || old == new {
            return Some(path);
        }
        let (mut start, mut end) = (0, new);
        while end != old {
            let middle = start + split(end - start);
            if old <= middle {
                path.push(self.hash(middle, end)?);
                end = middle;
            } else {
                path.push(self.hash(start, middle)?);
                start = middle;
            }
        }
        // The verifier has the old root itself where the old tree is a complete subtree.
        if start != 0 {
            path.push(self.hash(start, end)?);
        }
        path.reverse();
        Some(path)
    }

    /// The hash of `2^level` entries from `index * 2^level`, if all of them are there.
    pub fn node(&self, level: u32, index: u64) -> Option<Digest> {
        if level == 0 {
            return self.entries.get(index).map(|entry| leaf_hash(&entry));
        }
        if level.is_multiple_of(STRIDE) {
            let slot = usize::try_from(level / STRIDE - 1).ok()?;
            return self.levels.get(slot)?.get(index);
        }
        Some(node_hash(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?))
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.entries.bytes() + self.levels.iter().map(Column::bytes).sum::<usize>()
    }

    /// The Merkle Tree Hash of the entries from `start` to before `end`, where `start` is a multiple of the smallest
    /// power of two that is not below their number.
    fn hash(&self, start: u64, end: u64) -> Option<Digest> {
        let count = end.checked_sub(start).filter(|count| *count > 0)?;
        if count.is_power_of_two() {
            let level = count.trailing_zeros();
            return self.node(level, start >> level);
        }
        let middle = start + split(count);
        Some(node_hash(&self.hash(start, middle)?, &self.hash(middle, end)?))
    }
}

/// The hash of an entry as a leaf: SHA-256(0x00, entry).
pub fn leaf_hash(entry: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(entry);
    Digest(hasher.finalize().into())
}

/// The hash of a node: SHA-256(0x01, left, right).
pub(crate) fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left.0);
    hasher.update(right.0);
    Digest(hasher.finalize().into())
}

/// The root of a log without entries: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    Digest::of(&[])
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}
