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
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
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
pub fn verify_path(
    leaf: &[u8],
    index: u64,
    leaves: u64,
    path: &[Digest],
    root: Digest,
) -> Result<(), PathError> {
    if index >= leaves {
        return Err(PathError::IndexOutOfRange { index, leaves });
    }
    let proof = InclusionProof::<Sha256>::try_from_bytes(path.iter().flat_map(|d| d.0).collect())
        .map_err(|_| PathError::Length(path.len()))?;
    RootHash::<Sha256>::new(root.0.into(), leaves).verify_inclusion(&leaf, index, &proof).map_err(|e| match e
    {
        ct_merkle::InclusionVerifError::MalformedProof => PathError::Length(path.len()),
        _ => PathError::OtherRoot,
    })
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::*;

    /// RFC 6962 §2.1 written down directly, as an oracle.
    fn tree_hash(leaves: &[Vec<u8>]) -> Digest {
        let hash = |parts: &[&[u8]]| Digest(Sha256::digest(parts.concat()).into());
        match leaves {
            [] => hash(&[]),
            [leaf] => hash(&[&[0], leaf]),
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                hash(&[&[1], &tree_hash(left).0, &tree_hash(right).0])
            }
        }
    }

    #[test]
    fn roots_and_paths_are_those_of_the_rfc() {
        let mut tree = Tree::new();
        let mut leaves: Vec<Vec<u8>> = Vec::new();
        for size in 1..=65u64 {
            let leaf = size.to_be_bytes().to_vec();
            leaves.push(leaf.clone());
            tree.push(leaf);
            let root = tree_hash(&leaves);
            assert_eq!((tree.leaves(), tree.root()), (size, root));
            for (index, leaf) in (0..).zip(&leaves) {
                let path = tree.path(index).unwrap();
                assert_eq!(verify_path(leaf, index, size, &path, root), Ok(()));
                let other = verify_path(leaf, (index + 1) % size, size, &path, root);
                assert_eq!(other.is_ok(), size == 1, "{index} of {size}");
            }
            assert_eq!(tree.path(size), None);
        }
    }

    #[test]
    fn a_node_does_not_pass_for_a_leaf() {
        let mut tree = Tree::new();
        tree.push(b"a".to_vec());
        tree.push(b"b".to_vec());
        let node = [tree.path(1).unwrap(), tree.path(0).unwrap()]
            .concat()
            .iter()
            .flat_map(|d| d.0)
            .collect::<Vec<_>>();
        assert_eq!(verify_path(&node, 0, 1, &[], tree.root()), Err(PathError::OtherRoot));
        assert_eq!(
            verify_path(b"a", 0, 0, &[], tree.root()),
            Err(PathError::IndexOutOfRange { index: 0, leaves: 0 })
        );
        assert_eq!(verify_path(b"a", 0, 2, &[], tree.root()), Err(PathError::Length(0)));
    }
}
