//! The log: what it proves, what it refuses, and what other people's code says about it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests")]

mod checkpoints;
mod oracles;
mod proofs;
mod tiles;

use base::{DeliveryId, Digest, EpochId, Name, Secret};
use identity::LogKey;
use ledger::log::{Checkpoint, Entry, EntryKind, LogTree, Salt, TreeHead, origin};

pub(crate) const EPOCH: EpochId = EpochId([0x0e; 16]);

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn key(text: &str, seed: u8) -> LogKey {
    LogKey::generate(name(text), &Secret::new([seed; 64]))
}

pub(crate) fn entry(number: u64) -> Entry {
    let kind = if number.is_multiple_of(2) { EntryKind::Accepted } else { EntryKind::Settled };
    let digest = Digest::of(&number.to_be_bytes());
    Entry::new(kind, &Salt([7; 16]), &DeliveryId(digest.0), &digest)
}

pub(crate) fn tree(size: u64) -> LogTree {
    let mut tree = LogTree::new();
    for number in 0..size {
        assert_eq!(tree.push(entry(number).to_bytes()), number);
    }
    tree
}

pub(crate) fn head(tree: &LogTree) -> TreeHead {
    TreeHead { origin: origin(&name("relay-1"), EPOCH), size: tree.size(), root: tree.root() }
}

pub(crate) fn checkpoint(tree: &LogTree) -> Checkpoint {
    Checkpoint::sign(head(tree), &key("relay-1", 1), 1_700_000_000)
}
