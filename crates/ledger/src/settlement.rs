use base::{Attempt, DeliveryId, Digest};
use identity::{Context, IdentityKey, IdentityPublic};
use minicbor::{Decode, Encode};

use crate::batch::{BatchError, BatchProof, RootCache, VerifyError, sign_leaves, signed_by_any};
use crate::codec::{self, DecodeError};
use crate::{Deferred, Head, Receipt};

/// How one attempt ended, signed by the recipient: all that the relay learns about it, and what frees its copy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Settlement {
    /// What is signed.
    #[n(0)]
    pub core: SettlementCore,
    /// The signature over a batch of them, and the way to this one.
    #[n(1)]
    pub proof: BatchProof,
}

/// The signed content of a [`Settlement`]: one leaf of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SettlementCore {
    /// The delivery.
    #[n(0)]
    pub delivery: DeliveryId,
    /// The deposit that is settled.
    #[n(1)]
    pub attempt: Attempt,
    /// How it ended.
    #[n(2)]
    pub class: Class,
}

/// How an attempt ended, and the digest of the record that says more, for the sender only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Class {
    /// The destination answered for good: [`Receipt::digest`].
    #[n(1)]
    Final(#[n(0)] Digest),
    /// The destination may take it later: [`Deferred::digest`].
    #[n(2)]
    Deferred(#[n(0)] Digest),
    /// It never came to the destination. There is no record: without a header that opens there is no key to seal it
    /// with.
    #[n(3)]
    Nack(#[n(0)] NackReason),
}

/// A fault on the way. It frees the relay's copy and changes nothing about custody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum NackReason {
    /// The header is not readable or lacks a field.
    #[n(1)]
    Malformed,
    /// The session opening or the header carries a signature that does not verify.
    #[n(2)]
    BadSignature,
    /// The sender is not pinned for this route.
    #[n(3)]
    NotPinned,
    /// The route does not exist here, or leads to another destination than the header says.
    #[n(4)]
    WrongDestination,
    /// The suite is not the one that the route is pinned to.
    #[n(5)]
    WrongSuite,
    /// The prekey is not known here (any more).
    #[n(6)]
    UnknownPrekey,
    /// The one-time prekey was taken by another session.
    #[n(7)]
    PrekeyUsed,
    /// The header names a session whose opening has not been seen, or was dropped.
    #[n(8)]
    UnknownSession,
    /// The session or its prekey is past its life.
    #[n(9)]
    Expired,
    /// The session's sequence number was seen with other values.
    #[n(10)]
    Replay,
    /// The header does not authenticate.
    #[n(11)]
    BadHeader,
    /// The content key does not fit the commitment.
    #[n(12)]
    BadCommitment,
    /// A chunk of the body does not authenticate.
    #[n(13)]
    BadTag,
    /// The body ended before its final chunk.
    #[n(14)]
    Truncated,
    /// The body authenticates, but its records contradict each other or its digest.
    #[n(15)]
    BadBody,
    /// The body did not come in time, or the relay lost it on the way.
    #[n(16)]
    Interrupted,
    /// The sender asked for it.
    #[n(17)]
    Cancelled,
    /// A limit of the receiver.
    #[n(18)]
    LimitExceeded,
    /// A fault of the receiver's own, for instance its disk.
    #[n(19)]
    Internal,
}

/// Signs settlements together: one signature of each kind for all of them, and for the heads of relays' logs that
/// the signer had seen.
pub fn sign_batch(
    identity: &IdentityKey,
    settlements: &[SettlementCore],
    heads: &[Head],
) -> Result<Vec<Settlement>, BatchError> {
    let leaves = settlements.iter().map(SettlementCore::leaf);
    let proofs = sign_leaves(identity, Context::BATCH, leaves, heads)?;
    let signed = settlements.iter().zip(proofs);
    Ok(signed.map(|(core, proof)| Settlement { core: core.clone(), proof }).collect())
}

impl Settlement {
    /// The canonical encoding: what goes to the relay.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads the canonical encoding and no other. Nothing is verified yet.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }

    /// The delivery.
    pub fn delivery(&self) -> DeliveryId {
        self.core.delivery
    }

    /// The deposit that is settled.
    pub fn attempt(&self) -> Attempt {
        self.core.attempt
    }

    /// How it ended.
    pub fn class(&self) -> Class {
        self.core.class
    }

    /// Checks path and both signatures.
    pub fn verify(&self, signer: &IdentityPublic) -> Result<(), VerifyError> {
        self.proof.verify(Context::BATCH, &self.core.leaf(), signer)
    }

    /// As [`Settlement::verify_cached`], by any of a peer's identities: it has two while its keys are rotated.
    pub fn verify_any<'a>(
        &self,
        signers: impl IntoIterator<Item = &'a IdentityPublic>,
        cache: &mut RootCache,
    ) -> Result<(), VerifyError> {
        signed_by_any(signers, |signer| self.verify_cached(signer, cache))
    }

    /// As [`Settlement::verify`], but the two signatures of a root are checked once for all of its leaves.
    pub fn verify_cached(&self, signer: &IdentityPublic, cache: &mut RootCache) -> Result<(), VerifyError> {
        self.proof.verify_cached(Context::BATCH, &self.core.leaf(), signer, cache)
    }
}

impl SettlementCore {
    /// The settlement of an attempt that the destination answered for good.
    pub fn for_receipt(receipt: &Receipt) -> Self {
        Self { delivery: receipt.delivery, attempt: receipt.attempt, class: Class::Final(receipt.digest()) }
    }

    /// The settlement of an attempt that has to be made again later.
    pub fn for_deferred(deferred: &Deferred) -> Self {
        Self {
            delivery: deferred.delivery,
            attempt: deferred.attempt,
            class: Class::Deferred(deferred.digest()),
        }
    }

    /// The settlement of an attempt that failed on the way.
    pub fn nack(delivery: DeliveryId, attempt: Attempt, reason: NackReason) -> Self {
        Self { delivery, attempt, class: Class::Nack(reason) }
    }

    /// The bytes of the leaf.
    pub(crate) fn leaf(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

impl Class {
    /// The digest of the sealed record that travels beside the settlement; a nack has none.
    pub fn record_digest(&self) -> Option<Digest> {
        match self {
            Self::Final(digest) | Self::Deferred(digest) => Some(*digest),
            Self::Nack(_) => None,
        }
    }
}

impl NackReason {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::BadSignature,
        Self::NotPinned,
        Self::WrongDestination,
        Self::WrongSuite,
        Self::UnknownPrekey,
        Self::PrekeyUsed,
        Self::UnknownSession,
        Self::Expired,
        Self::Replay,
        Self::BadHeader,
        Self::BadCommitment,
        Self::BadTag,
        Self::Truncated,
        Self::BadBody,
        Self::Interrupted,
        Self::Cancelled,
        Self::LimitExceeded,
        Self::Internal,
    ];

    /// The word for logs and screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed header",
            Self::BadSignature => "bad signature",
            Self::NotPinned => "sender not pinned",
            Self::WrongDestination => "wrong destination",
            Self::WrongSuite => "wrong suite",
            Self::UnknownPrekey => "unknown prekey",
            Self::PrekeyUsed => "prekey used",
            Self::UnknownSession => "unknown session",
            Self::Expired => "session expired",
            Self::Replay => "replay",
            Self::BadHeader => "bad header tag",
            Self::BadCommitment => "bad key commitment",
            Self::BadTag => "bad chunk tag",
            Self::Truncated => "truncated body",
            Self::BadBody => "contradictory body",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::LimitExceeded => "limit exceeded",
            Self::Internal => "internal fault",
        }
    }

    /// True where a header in a fresh session is the remedy, so that the sender need not wait long.
    pub fn asks_for_fresh_session(self) -> bool {
        matches!(
            self,
            Self::UnknownPrekey
                | Self::PrekeyUsed
                | Self::UnknownSession
                | Self::Expired
                | Self::Replay
                | Self::BadHeader
        )
    }
}

impl std::fmt::Display for NackReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
