//! Checking proofs, as RFC 9162 §2.1.3.2 and §2.1.4.2 say, from hashes alone.

use base::Digest;
use thiserror::Error;

use super::tree::{empty_root, node_hash};
use crate::tree::PathError;

/// Why one tree does not continue another.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ConsistencyError {
    /// The later tree is smaller.
    #[error("the log went back from {old} to {new} entries")]
    Smaller {
        /// Entries before.
        old: u64,
        /// Entries now.
        new: u64,
    },
    /// The proof does not have the length that the sizes call for.
    #[error("proof of {0} hashes does not fit the two tree sizes")]
    Length(usize),
    /// The proof does not contain the earlier tree.
    #[error("the proof does not lead to the earlier root")]
    OldRoot,
    /// The proof does not lead to the later tree.
    #[error("the proof does not lead to the later root")]
    NewRoot,
}

/// Checks that the leaf with this hash is number `index` of the `size` leaves that `root` stands for.
pub fn verify_inclusion(
    leaf_hash: &Digest,
    index: u64,
    size: u64,
    path: &[Digest],
    root: &Digest,
) -> Result<(), PathError> {
    if index >= size {
        return Err(PathError::IndexOutOfRange { index, leaves: size });
    }
    let too_long_or_short = PathError::Length(path.len());
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf_hash);
    for sibling in path {
        if last == 0 {
            return Err(too_long_or_short);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match last {
        0 if hash == *root => Ok(()),
        0 => Err(PathError::OtherRoot),
        _ => Err(too_long_or_short),
    }
}

/// Checks that the tree of `new` leaves with `new_root` begins with the tree of `old` leaves with `old_root`.
pub fn verify_consistency(
    (old, old_root): (u64, &Digest),
    (new, new_root): (u64, &Digest),
    path: &[Digest],
) -> Result<(), ConsistencyError> {
    if new < old {
        return Err(ConsistencyError::Smaller { old, new });
    }
    let wrong_length = ConsistencyError::Length(path.len());
    if old == 0 || old == new {
        return match path {
            [_, ..] => Err(wrong_length),
            [] if old == 0 && *old_root != empty_root() => Err(ConsistencyError::OldRoot),
            [] if old == new && old_root != new_root => Err(ConsistencyError::NewRoot),
            [] => Ok(()),
        };
    }
    // An old tree that is a complete subtree is not in the proof: the verifier has it.
    let mut siblings = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { siblings.next() };
    let first = *first.ok_or(wrong_length)?;
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in siblings {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match last {
        0 if old_hash != *old_root => Err(ConsistencyError::OldRoot),
        0 if new_hash != *new_root => Err(ConsistencyError::NewRoot),
        0 => Ok(()),
        _ => Err(wrong_length),
    }
}
