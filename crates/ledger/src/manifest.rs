use base::{Attempt, DeliveryId, Digest, Fingerprint, ObjectId};
use identity::{Context, IdentityKey, IdentityPublic};
use minicbor::{Decode, Encode};

use crate::batch::{BatchError, BatchProof, RootCache, VerifyError, sign_leaves};
use crate::codec::{self, DecodeError};
use crate::{Head, Receipt};

/// The sender's word that it sent what a receipt is about: its countersignature, which acknowledges the receipt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Manifest {
    /// What is signed.
    #[n(0)]
    pub core: ManifestCore,
    /// The signature over a batch of them, and the way to this one.
    #[n(1)]
    pub proof: BatchProof,
}

/// The signed content of a [`Manifest`]: one leaf of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ManifestCore {
    /// The delivery.
    #[n(0)]
    pub delivery: DeliveryId,
    /// The deposit that was settled.
    #[n(1)]
    pub attempt: Attempt,
    /// The object that was sent.
    #[n(2)]
    pub object: ObjectId,
    /// SHA-256 of the sealed body that was sent.
    #[n(3)]
    pub body_digest: Digest,
    /// The signer.
    #[n(4)]
    pub sender: Fingerprint,
    /// To whom it was sent.
    #[n(5)]
    pub receiver: Fingerprint,
    /// [`Receipt::digest`] of the receipt that the sender was given for it.
    #[n(6)]
    pub receipt: Digest,
    /// SHA-256 of the report of what the sender's pseudonymization did to the instance, where its route pseudonymizes.
    #[n(7)]
    pub report: Option<Digest>,
}

/// Signs what was sent: one signature of each kind for all of it, and for the heads that were seen.
pub fn sign_manifests(
    identity: &IdentityKey,
    sent: &[ManifestCore],
    heads: &[Head],
) -> Result<Vec<Manifest>, BatchError> {
    let proofs = sign_leaves(identity, Context::MANIFEST, sent.iter().map(ManifestCore::leaf), heads)?;
    Ok(sent.iter().zip(proofs).map(|(core, proof)| Manifest { core: core.clone(), proof }).collect())
}

impl Manifest {
    /// The canonical encoding: what travels to the receiver with the acknowledgement.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads the canonical encoding and no other. Nothing is verified yet.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }

    /// Checks path and both signatures, and that the signer is the sender it names.
    pub fn verify(&self, signer: &IdentityPublic) -> Result<(), VerifyError> {
        self.named(signer)?;
        self.proof.verify(Context::MANIFEST, &self.core.leaf(), signer)
    }

    /// As [`Manifest::verify`], but the two signatures of a root are checked once for all of its leaves.
    pub fn verify_cached(&self, signer: &IdentityPublic, cache: &mut RootCache) -> Result<(), VerifyError> {
        self.named(signer)?;
        self.proof.verify_cached(Context::MANIFEST, &self.core.leaf(), signer, cache)
    }

    fn named(&self, signer: &IdentityPublic) -> Result<(), VerifyError> {
        if self.core.sender == signer.fingerprint() { Ok(()) } else { Err(VerifyError::OtherSigner) }
    }

    /// Whether it is about this very receipt: every field that both have says the same. The sender's keys may differ,
    /// where they were rotated between deposit and receipt; [`Manifest::verify`] says whose these are.
    pub fn is_about(&self, receipt: &Receipt) -> bool {
        let ManifestCore {
            delivery,
            attempt,
            object,
            body_digest,
            sender: _,
            receiver,
            receipt: digest,
            report: _,
        } = &self.core;
        *delivery == receipt.delivery
            && *attempt == receipt.attempt
            && *object == receipt.object
            && *body_digest == receipt.body_digest
            && *receiver == receipt.receiver.fingerprint
            && *digest == receipt.digest()
    }
}

impl ManifestCore {
    fn leaf(&self) -> Vec<u8> {
        codec::encode(self)
    }
}
