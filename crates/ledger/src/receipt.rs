use base::{
    AeTitle, Attempt, DeliveryId, Digest, Fingerprint, Hasher, Name, ObjectId, ServiceUrl, Status, Timestamp,
    Uid,
};
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::codec::{self, DecodeError, text};

/// What a destination answered about one instance, as the receiving gateway signs it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// The delivery that this attempt ended.
    #[n(0)]
    pub delivery: DeliveryId,
    /// The deposit that reached the destination.
    #[n(1)]
    pub attempt: Attempt,
    /// The object that was delivered.
    #[n(2)]
    pub object: ObjectId,
    /// SHA-256 of the sealed body.
    #[n(3)]
    pub body_digest: Digest,
    /// SHA-256 of the data set as it was handed to the destination.
    #[n(4)]
    pub data_digest: Digest,
    /// Length of that data set.
    #[n(5)]
    pub data_bytes: u64,
    /// The pinned peer that sealed the object.
    #[n(6)]
    pub sender: Party,
    /// The signer.
    #[n(7)]
    pub receiver: Party,
    /// The destination's name in the receiver's configuration.
    #[n(8)]
    pub destination: Name,
    /// What kind of destination it is.
    #[n(9)]
    pub kind: Destination,
    /// SOP class of the instance.
    #[n(10)]
    #[cbor(with = "text")]
    pub sop_class: Uid,
    /// SOP Instance UID, hashed under the key in the sealed meta record: only the two gateways can tell which it is.
    #[n(11)]
    pub uid_hash: Digest,
    /// The destination's DIMSE status; 0000H for a file that was written; for a web service the warning or failure reason that it
    /// gave, 0000H where it gave none and has the instance, or what its HTTP status comes to.
    #[n(12)]
    pub status: Status,
    /// What that status means at the receiver.
    #[n(13)]
    pub outcome: Outcome,
    /// How far the destination bound itself.
    #[n(14)]
    pub level: Level,
    /// Something an auditor should know.
    #[n(15)]
    pub remark: Option<Remark>,
    /// When the receiver had verified the final chunk.
    #[n(16)]
    pub received_at: Timestamp,
    /// When the destination answered.
    #[n(17)]
    pub answered_at: Timestamp,
    /// What the receiver changed of the data set, where its operator wants that.
    #[n(18)]
    pub changed: Option<Changed>,
}

/// What a receiver changed of a data set before it handed it over. The digest and the length of the receipt itself are those of
/// the data set as it was handed over.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Changed {
    /// The transfer syntax in which it came.
    #[n(0)]
    #[cbor(with = "text")]
    pub received_syntax: Uid,
    /// The one in which it was handed over.
    #[n(1)]
    #[cbor(with = "text")]
    pub stored_syntax: Uid,
    /// SHA-256 of the data set as it came: the sender has the same one.
    #[n(2)]
    pub received_digest: Digest,
    /// Length of that data set.
    #[n(3)]
    pub received_bytes: u64,
    /// Of the rules by which attributes were coerced, where there were any.
    #[n(4)]
    pub rules: Option<Digest>,
}

/// A peer as the signer has pinned it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Party {
    /// Its configured name.
    #[n(0)]
    pub name: Name,
    /// Its identity keys.
    #[n(1)]
    pub fingerprint: Fingerprint,
}

/// Where the data set went.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Destination {
    /// A C-STORE to this application entity.
    #[n(0)]
    Dicom(
        #[n(0)]
        #[cbor(with = "text")]
        AeTitle,
    ),
    /// A Part 10 file in a folder.
    #[n(1)]
    Folder,
    /// A POST to the Studies Service with this root (STOW-RS, PS3.18 §10.5).
    #[n(2)]
    Stow(
        #[n(0)]
        #[cbor(with = "text")]
        ServiceUrl,
    ),
}

/// What an answer of the destination means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Outcome {
    /// The destination has the instance.
    #[n(1)]
    Stored,
    /// The destination will not take it; nobody retries by himself.
    #[n(2)]
    Refused,
}

/// How far a destination bound itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Level {
    /// It answered the C-STORE.
    #[n(1)]
    Answered,
    /// It answered the C-STORE, and is asked for storage commitment: a second receipt follows.
    #[n(3)]
    Awaited,
    /// It was asked for storage commitment (PS3.4 Annex J): with [`Outcome::Stored`] it gave it.
    #[n(2)]
    Committed,
}

impl Level {
    /// 1 or 2, as people and indexes say it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Answered | Self::Awaited => 1,
            Self::Committed => 2,
        }
    }
}

/// What was unusual about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Remark {
    /// The folder already held an identical file.
    #[n(1)]
    AlreadyThere,
    /// The folder held another file for the same instance: this one was numbered and nothing overwritten.
    #[n(2)]
    Numbered,
    /// The outcome of an earlier attempt was unknown, so that the destination may have seen the instance before.
    #[n(3)]
    Repeated,
    /// The status is the receiver's own: it could not re-encode the data set as its destination needs it.
    #[n(4)]
    NotReencoded,
    /// The status is the receiver's own: it could not coerce the data set as it is configured for its destination.
    #[n(5)]
    NotCoerced,
    /// Of a second receipt: the destination did not say in time whether it commits.
    #[n(6)]
    Unanswered,
}

/// What a sending gateway knows about a delivery before it believes a receipt for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation<'a> {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its object.
    pub object: ObjectId,
    /// SHA-256 of the sealed body.
    pub body_digest: Digest,
    /// The name under which the receiver has pinned the sender.
    pub sender: &'a Name,
    /// The receiver as pinned.
    pub receiver: &'a Party,
    /// The destination that the route asked for.
    pub destination: &'a Name,
}

/// A receipt that is genuine, but about something else.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("receipt does not fit the delivery: {field} differs")]
pub struct Mismatch {
    /// Which field.
    pub field: &'static str,
}

impl Receipt {
    /// The canonical encoding: what is sealed for the sender and kept in receipt files.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads the canonical encoding and no other.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }

    /// What a final settlement commits to. The keyed UID hash in it keeps the relay from guessing the rest.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(b"sluis/1 receipt");
        hasher.field(&self.encode());
        hasher.finish()
    }

    /// Checks that this receipt is about the delivery it is meant to end. An earlier attempt of it counts.
    pub fn expect(&self, want: &Expectation<'_>) -> Result<(), Mismatch> {
        let checks = [
            ("delivery", self.delivery == want.delivery),
            ("object", self.object == want.object),
            ("body digest", self.body_digest == want.body_digest),
            ("sender", self.sender.name == *want.sender),
            ("receiver", self.receiver == *want.receiver),
            ("destination", self.destination == *want.destination),
        ];
        match checks.into_iter().find(|(_, same)| !same) {
            Some((field, _)) => Err(Mismatch { field }),
            None => Ok(()),
        }
    }
}
