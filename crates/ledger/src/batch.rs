use std::collections::{HashSet, VecDeque};

use base::{Digest, Hasher};
use identity::{Context, IdentityKey, IdentityPublic, Signature};
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::Head;
use crate::codec;
use crate::tree::{PathError, Tree, verify_path};

/// The most leaves that share one signature.
pub const BATCH_LEAVES_MAX: usize = 256;

/// The most heads of logs that a batch tells of.
pub const HEADS_MAX: usize = 4;

/// The signature over a batch, and the path from one leaf to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BatchProof {
    /// The leaf's place, from 0.
    #[n(0)]
    pub index: u16,
    /// How many leaves the batch has.
    #[n(1)]
    pub leaves: u16,
    /// RFC 6962 tree hash of the leaves.
    #[n(2)]
    pub root: Digest,
    /// The leaf's siblings, lowest first.
    #[n(3)]
    pub path: Vec<Digest>,
    /// What the signer had seen of relays' logs, so that the other side can tell whether it was shown the same; at most
    /// [`HEADS_MAX`].
    #[n(4)]
    pub heads: Vec<Head>,
    /// Over number of leaves, root and heads.
    #[n(5)]
    pub signature: Signature,
}

/// What a signature is over.
#[derive(Encode)]
struct Statement<'a> {
    #[n(0)]
    leaves: u16,
    #[n(1)]
    root: Digest,
    #[n(2)]
    heads: &'a [Head],
}

/// Why a batch cannot be signed: the caller's fault.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a batch has 1 to {BATCH_LEAVES_MAX} leaves, not {leaves}")]
pub struct BatchError {
    /// How many were given.
    pub leaves: usize,
}

/// Why a settlement or a manifest is not the signer's word.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum VerifyError {
    /// A batch of a size that nobody signs.
    #[error("batch of {0} leaves; 1 to {BATCH_LEAVES_MAX} are allowed")]
    BatchSize(u16),
    /// More heads than anybody signs.
    #[error("batch tells of {0} logs; at most {HEADS_MAX} are allowed")]
    Heads(usize),
    /// The leaf is not in the batch.
    #[error("not part of its batch: {0}")]
    Path(#[from] PathError),
    /// It names another signer.
    #[error("it names other identity keys than this peer's")]
    OtherSigner,
    /// The root is not signed by this identity.
    #[error("batch is not signed by this peer: {0}")]
    Signature(#[from] identity::VerifyError),
}

/// Signs leaves together: one signature of each kind for all of them. The proofs come in the order of the leaves.
pub(crate) fn sign_leaves(
    identity: &IdentityKey,
    context: Context,
    encoded: impl IntoIterator<Item = Vec<u8>>,
    heads: &[Head],
) -> Result<Vec<BatchProof>, BatchError> {
    let mut tree = Tree::new();
    for leaf in encoded {
        tree.push(leaf);
    }
    let count = usize::try_from(tree.leaves()).unwrap_or(usize::MAX);
    let leaves = match u16::try_from(count) {
        Ok(leaves) if leaves > 0 && count <= BATCH_LEAVES_MAX => leaves,
        _ => return Err(BatchError { leaves: count }),
    };
    let root = tree.root();
    let heads = heads.get(..HEADS_MAX).unwrap_or(heads);
    let signature = identity.sign(context, &codec::encode(&Statement { leaves, root, heads }));
    let proof = |index: u16| {
        let path = tree.path(index.into()).unwrap_or_default();
        BatchProof { index, leaves, root, path, heads: heads.to_vec(), signature: signature.clone() }
    };
    Ok((0..leaves).map(proof).collect())
}

impl BatchProof {
    /// Checks the path, then both signatures.
    pub(crate) fn verify(
        &self,
        context: Context,
        leaf: &[u8],
        signer: &IdentityPublic,
    ) -> Result<(), VerifyError> {
        self.verify_path(leaf)?;
        self.verify_signature(context, signer)
    }

    /// Checks the path, then both signatures unless the cache has seen exactly these succeed.
    pub(crate) fn verify_cached(
        &self,
        context: Context,
        leaf: &[u8],
        signer: &IdentityPublic,
        cache: &mut RootCache,
    ) -> Result<(), VerifyError> {
        self.verify_path(leaf)?;
        let key = self.cache_key(context, signer);
        if !cache.contains(&key) {
            self.verify_signature(context, signer)?;
            cache.insert(key);
        }
        Ok(())
    }

    fn verify_path(&self, leaf: &[u8]) -> Result<(), VerifyError> {
        if self.leaves == 0 || usize::from(self.leaves) > BATCH_LEAVES_MAX {
            return Err(VerifyError::BatchSize(self.leaves));
        }
        if self.heads.len() > HEADS_MAX {
            return Err(VerifyError::Heads(self.heads.len()));
        }
        Ok(verify_path(leaf, self.index.into(), self.leaves.into(), &self.path, self.root)?)
    }

    fn verify_signature(&self, context: Context, signer: &IdentityPublic) -> Result<(), VerifyError> {
        Ok(signer.verify(context, &self.statement(), &self.signature)?)
    }

    fn statement(&self) -> Vec<u8> {
        codec::encode(&Statement { leaves: self.leaves, root: self.root, heads: &self.heads })
    }

    /// Binds context, signer, statement and the signature bytes: a good root must not carry a bad signature into a receipt file.
    fn cache_key(&self, context: Context, signer: &IdentityPublic) -> Digest {
        let mut hasher = Hasher::new(b"sluis/1 batch cache");
        hasher.field(context.as_str().as_bytes());
        hasher.field(&signer.fingerprint().0);
        hasher.field(&self.statement());
        hasher.field(&codec::encode(&self.signature));
        hasher.finish()
    }
}

/// Whether one of several identities of a peer has signed. Why not, is said of the first: the newest.
pub(crate) fn signed_by_any<'a>(
    signers: impl IntoIterator<Item = &'a IdentityPublic>,
    mut check: impl FnMut(&IdentityPublic) -> Result<(), VerifyError>,
) -> Result<(), VerifyError> {
    let mut refused = None;
    for signer in signers {
        match check(signer) {
            Ok(()) => return Ok(()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(VerifyError::OtherSigner))
}

/// Remembers the batch signatures that verified, up to a fixed number, oldest out first.
#[derive(Debug)]
pub struct RootCache {
    roots_max: usize,
    known: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl RootCache {
    /// Remembers at most this many roots (at least one).
    pub fn new(roots_max: usize) -> Self {
        Self { roots_max: roots_max.max(1), known: HashSet::new(), order: VecDeque::new() }
    }

    /// How many roots are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True before the first one.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn contains(&self, key: &Digest) -> bool {
        self.known.contains(key)
    }

    fn insert(&mut self, key: Digest) {
        if !self.known.insert(key) {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > self.roots_max {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

impl Default for RootCache {
    /// Enough for what arrives while one batch is under way.
    fn default() -> Self {
        Self::new(1024)
    }
}
