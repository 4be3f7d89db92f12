//! What the tests of this crate share: two peers with fixed keys, and a receipt between them.

use base::{Attempt, DeliveryId, Digest, Name, ObjectId, RouteId, Secret, Status, Timestamp, Uid};
use identity::{IdentityKey, PeerCard};
use ledger::{Destination, Level, Outcome, Party, Receipt, ReceiptFile, Remark, SettlementCore, sign_batch};

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn identity(text: &str, seed: u8) -> IdentityKey {
    IdentityKey::generate(name(text), &Secret::new([seed; 96]))
}

pub(crate) fn receiver() -> IdentityKey {
    identity("munich", 2)
}

pub(crate) fn card(key: &IdentityKey) -> PeerCard {
    key.card(1, &[1, 2])
}

pub(crate) fn party(key: &IdentityKey) -> Party {
    Party { name: key.name().clone(), fingerprint: key.fingerprint() }
}

pub(crate) fn receipt(number: u8) -> Receipt {
    let sender = identity("utrecht", 1);
    let (object, destination) = (ObjectId([number; 16]), name("archive"));
    Receipt {
        delivery: DeliveryId::derive(sender.name(), object, RouteId([9; 16]), &destination),
        attempt: Attempt(3),
        object,
        body_digest: Digest::of(b"sealed"),
        data_digest: Digest::of(b"data"),
        data_bytes: 524_288,
        sender: party(&sender),
        receiver: party(&receiver()),
        destination,
        kind: Destination::Dicom("ARCHIVE".parse().unwrap()),
        sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
        uid_hash: Digest::of(b"keyed"),
        status: Status::SUCCESS,
        outcome: Outcome::Stored,
        level: Level::Answered,
        remark: Some(Remark::Repeated),
        received_at: Timestamp(1_790_000_000_000),
        answered_at: Timestamp(1_790_000_000_250),
    }
}

pub(crate) fn signed(receipt: Receipt) -> ReceiptFile {
    let settlement = sign_batch(&receiver(), &[SettlementCore::for_receipt(&receipt)]).unwrap().remove(0);
    ReceiptFile::new(receipt, settlement).unwrap()
}
