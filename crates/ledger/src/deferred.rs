use base::{Attempt, DeliveryId, Digest, Hasher, Status, Timestamp};
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};

/// A retryable answer of the destination, or none at all: the sender waits and deposits again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Deferred {
    /// The delivery that waits.
    #[n(0)]
    pub delivery: DeliveryId,
    /// The deposit that was not taken.
    #[n(1)]
    pub attempt: Attempt,
    /// What happened.
    #[n(2)]
    pub reason: DeferReason,
    /// The destination's status, if it gave one.
    #[n(3)]
    pub status: Option<Status>,
    /// Before this time another attempt is in vain.
    #[n(4)]
    pub not_before: Timestamp,
    /// Random, so that nobody who sees [`Deferred::digest`] can find the status by trying all of them.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub salt: [u8; 16],
}

/// Why a destination did not take an instance for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum DeferReason {
    /// It answered with a status that asks for another try (A7xx, 0110, 0213, …).
    #[n(1)]
    Status,
    /// It did not answer in time; the instance may be stored.
    #[n(2)]
    TimeOut,
    /// It aborted the association or the connection broke; the instance may be stored.
    #[n(3)]
    Aborted,
    /// No connection could be made.
    #[n(4)]
    Unreachable,
    /// It rejected the association transiently, or a web service cannot serve now.
    #[n(5)]
    RejectedTransient,
    /// It rejected the association permanently, for instance because our AE title is not known there; or a web service refuses our
    /// requests, for instance for our credentials.
    #[n(6)]
    RejectedPermanent,
    /// The folder could not be written (full, missing, not writable).
    #[n(7)]
    FolderFailed,
    /// The receiver holds the destination back because it is known to be down.
    #[n(8)]
    DestinationDown,
}

impl Deferred {
    /// The canonical encoding: what is sealed for the sender.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads the canonical encoding and no other.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }

    /// What a deferred settlement commits to.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(b"sluis/1 deferred");
        hasher.field(&self.encode());
        hasher.finish()
    }
}

impl DeferReason {
    /// True where a person has to change something at the destination: retried at the slowest pace, alarmed at once.
    pub fn needs_operator(self) -> bool {
        matches!(self, Self::RejectedPermanent)
    }
}
