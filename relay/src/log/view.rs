use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Digest, EpochId, Name, Timestamp};
use identity::{LogPublic, SignatureType};
use ledger::log::{Checkpoint, Column, Entry, LogTree, Tile, TreeHead};
use serde::Serialize;

use super::Cosigned;

/// A log as it was at one moment. Readers get no further than the signed head: what is after it may still be lost.
#[derive(Clone, Debug)]
pub struct LogView {
    tree: LogTree,
    times: Column<Timestamp>,
    epoch: EpochId,
    head: Checkpoint,
    signed: Timestamp,
    text: Arc<str>,
    key: LogPublic,
    cosigners: BTreeMap<Name, Cosigned>,
    previous: Vec<(TreeHead, u64)>,
}

/// One entry as readers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryView {
    /// From 0.
    pub index: u64,
    /// What it says.
    pub kind: &'static str,
    /// The commitment, hexadecimal.
    pub commitment: String,
    /// Its hash as a leaf, hexadecimal.
    pub leaf_hash: String,
    /// The root of the tree that ends with it, hexadecimal.
    pub tree_hash: String,
    /// When it was appended, in milliseconds since 1970.
    pub ts: u64,
}

impl LogView {
    pub(super) fn new(
        tree: LogTree,
        times: Column<Timestamp>,
        (epoch, head, text): (EpochId, Checkpoint, Arc<str>),
        signed: Timestamp,
        key: LogPublic,
        cosigners: BTreeMap<Name, Cosigned>,
        previous: Vec<(TreeHead, u64)>,
    ) -> Self {
        Self { tree, times, epoch, head, signed, text, key, cosigners, previous }
    }

    /// The signed head.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.head
    }

    /// When it was signed, by this relay's clock.
    pub fn signed(&self) -> Timestamp {
        self.signed
    }

    /// Its text as it was signed, without cosignatures.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Of this epoch.
    pub fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// Entries below the signed head.
    pub fn size(&self) -> u64 {
        self.head.head().size
    }

    /// Entries after it, which the next one will cover.
    pub fn unsigned(&self) -> u64 {
        self.tree.size() - self.size()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.tree.bytes() + self.times.bytes()
    }

    /// Who cosigned how far.
    pub fn cosigners(&self) -> &BTreeMap<Name, Cosigned> {
        &self.cosigners
    }

    /// The last known heads of earlier epochs, with the entry that links each.
    pub fn previous(&self) -> &[(TreeHead, u64)] {
        &self.previous
    }

    /// The lines that other log tools take as the key of this log.
    pub fn verifier_keys(&self) -> [String; 2] {
        [SignatureType::Ed25519, SignatureType::MlDsa44Cosignature]
            .map(|kind| self.key.verifier_key(kind, &self.head.head().origin))
    }

    /// The path of an entry in the tree of the first `size` entries.
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        (size <= self.size()).then(|| self.tree.prove_inclusion(index, size))?
    }

    /// That the tree of the first `new` entries continues that of the first `old`.
    pub fn prove_consistency(&self, old: u64, new: u64) -> Option<Vec<Digest>> {
        (new <= self.size()).then(|| self.tree.prove_consistency(old, new))?
    }

    /// The root of the first `size` entries.
    pub fn root_at(&self, size: u64) -> Option<Digest> {
        (size <= self.size()).then(|| self.tree.root_at(size))?
    }

    /// A tile, as far as the signed head goes.
    pub fn tile(&self, tile: &Tile) -> Option<Vec<u8>> {
        (tile.end()? <= self.size()).then(|| tile.bytes(&self.tree))?
    }

    /// An entry below the signed head.
    pub fn entry(&self, index: u64) -> Option<EntryView> {
        if index >= self.size() {
            return None;
        }
        let entry = Entry::from_bytes(&self.tree.entry(index)?)?;
        Some(EntryView {
            index,
            kind: entry.kind.as_str(),
            commitment: entry.commitment.to_string(),
            leaf_hash: entry.leaf_hash().to_string(),
            tree_hash: self.tree.root_at(index + 1)?.to_string(),
            ts: self.times.get(index)?.0,
        })
    }

    /// The last `limit` entries below the signed head, the newest last.
    pub fn recent(&self, limit: u64) -> Vec<EntryView> {
        let first = self.size().saturating_sub(limit);
        (first..self.size()).filter_map(|index| self.entry(index)).collect()
    }
}
