//! RFC 6962 §2.1 hashing with SHA-256: a leaf is hashed after 0x00, a node after 0x01, so that no node passes for a leaf.

use base::Digest;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{InclusionProof, RootHash};
use sha2::Sha256;
use thiserror::Error;

/// A tree whose leaves are all in memory.
#[derive(Default)]
pub struct Tree(MemoryBackedTree<Sha256, Vec<u8>>);

/// Why a path does not show that a leaf is in a tree.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PathError {
    /// The index is not below the number of leaves.
    #[error("leaf {index} is out of range: the tree has {leaves} leaves")]
    IndexOutOfRange {
        /// What was asked for.
        index: u64,
        /// How many there are.
        leaves: u64,
    },
    /// The path does not have the length that index and size call for.
    #[error("path of {0} hashes does not fit leaf and tree size")]
    Length(usize),
    /// The path leads to another root.
    #[error("path does not lead from this leaf to the root")]
    OtherRoot,
}

impl Tree {
    /// A tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Vec<u8>) {
        self.0.push(leaf);
    }

    /// The number of leaves.
    pub fn leaves(&self) -> u64 {
        self.0.len()
    }

    /// The Merkle Tree Hash of all leaves.
    pub fn root(&self) -> Digest {
        Digest((*self.0.root().as_bytes()).into())
    }

    /// The audit path of a leaf, lowest sibling first.
    pub fn path(&self, index: u64) -> Option<Vec<Digest>> {
        if index >= self.leaves() {
            return None;
        }
        let proof = self.0.prove_inclusion(usize::try_from(index).ok()?);
        Some(proof.as_bytes().chunks_exact(Digest::LEN).filter_map(Digest::from_slice).collect())
    }
}

/// Checks that `leaf` is number `index` of the `leaves` that `root` stands for. Size and root must come from
/// something signed: a path alone proves no size.
pub fn verify_path(leaf: &[u8], index: u64, leaves: u64, path: &[Digest], root: Digest) -> Result<(), PathError> {
    if index >= leaves {
        return Err(PathError::IndexOutOfRange { index, leaves });
    }
    let proof = InclusionProof::<Sha256>::try_from_bytes(path.iter().flat_map(|d| d.0).collect())
        .map_err(|_| PathError::Length(path.len()))?;
    RootHash::<Sha256>::new(root.0.into(), leaves).verify_inclusion(&leaf, index, &proof).map_err(|e| match e {
        ct_merkle::InclusionVerifError::MalformedProof => PathError::Length(path.len()),
        _ => PathError::OtherRoot,
    })
}
