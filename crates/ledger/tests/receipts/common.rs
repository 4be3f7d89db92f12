//! What the tests of this crate share: two peers with fixed keys, and a receipt between them.

use base::{Attempt, DeliveryId, Digest, EpochId, Name, ObjectId, RouteId, Secret, Status, Timestamp, Uid};
use identity::{CardFields, IdentityKey, LogKey, PeerCard};
use ledger::log::{Checkpoint, Entry, EntryKind, LogTree, Salt, TlogProof, TreeHead, origin};
use ledger::{
    Changed, Destination, Level, Manifest, ManifestCore, Outcome, Party, Receipt, ReceiptFile, Remark,
    SettlementCore, sign_batch, sign_manifests,
};

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn identity(text: &str, seed: u8) -> IdentityKey {
    IdentityKey::generate(name(text), &Secret::new([seed; 96]))
}

pub(crate) fn receiver() -> IdentityKey {
    identity("munich", 2)
}

pub(crate) fn sender() -> IdentityKey {
    identity("utrecht", 1)
}

pub(crate) fn card(key: &IdentityKey) -> PeerCard {
    key.card(CardFields::new(1, &[1, 2]))
}

pub(crate) fn party(key: &IdentityKey) -> Party {
    Party { name: key.name().clone(), fingerprint: key.fingerprint() }
}

pub(crate) fn receipt(number: u8) -> Receipt {
    let sender = sender();
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
        changed: None,
    }
}

/// Where STOW-RS goes.
pub(crate) fn web_service() -> Destination {
    Destination::Stow("https://pacs.example:8443/dicom-web".parse().unwrap())
}

/// One of a data set that was re-encoded and coerced.
pub(crate) fn changed(number: u8) -> Receipt {
    let changed = Changed {
        received_syntax: Uid::parse("1.2.840.10008.1.2").unwrap(),
        stored_syntax: Uid::parse("1.2.840.10008.1.2.1").unwrap(),
        received_digest: Digest::of(b"data as it came"),
        received_bytes: 524_266,
        rules: Some(Digest::of(b"rules")),
    };
    Receipt { changed: Some(changed), ..receipt(number) }
}

pub(crate) fn signed(receipt: Receipt) -> ReceiptFile {
    let settlement =
        sign_batch(&receiver(), &[SettlementCore::for_receipt(&receipt)], &[]).unwrap().remove(0);
    let manifest = manifest(&receipt);
    ReceiptFile::new(receipt, settlement).unwrap().with_manifest(manifest).unwrap()
}

/// What the sender signs about a receipt.
pub(crate) fn sent(receipt: &Receipt) -> ManifestCore {
    ManifestCore {
        delivery: receipt.delivery,
        attempt: receipt.attempt,
        object: receipt.object,
        body_digest: receipt.body_digest,
        sender: sender().fingerprint(),
        receiver: receipt.receiver.fingerprint,
        receipt: receipt.digest(),
        report: None,
    }
}

/// As [`signed`], by a sender whose route pseudonymizes.
pub(crate) fn pseudonymized(receipt: Receipt) -> ReceiptFile {
    let settlement =
        sign_batch(&receiver(), &[SettlementCore::for_receipt(&receipt)], &[]).unwrap().remove(0);
    let core = ManifestCore { report: Some(Digest::of(b"report")), ..sent(&receipt) };
    let manifest = sign_manifests(&sender(), &[core], &[]).unwrap().remove(0);
    ReceiptFile::new(receipt, settlement).unwrap().with_manifest(manifest).unwrap()
}

pub(crate) fn manifest(receipt: &Receipt) -> Manifest {
    sign_manifests(&sender(), &[sent(receipt)], &[]).unwrap().remove(0)
}

pub(crate) fn log_key(seed: u8) -> LogKey {
    LogKey::generate(name("relay"), &Secret::new([seed; 64]))
}

/// The relay's card.
pub(crate) fn relay_card(seed: u8) -> PeerCard {
    let fields = CardFields { log: Some(log_key(seed).public().clone()), ..CardFields::new(1, &[]) };
    identity("relay", 3).card(fields)
}

/// The proof that a receipt is number 3 in a log of 9 settlements.
pub(crate) fn logged(receipt: &Receipt, key: &LogKey, epoch: u8) -> TlogProof {
    let mut tree = LogTree::new();
    let salt = Salt([7; 16]);
    for number in 0..9u8 {
        let digest = if number == 3 { receipt.digest() } else { Digest::of(&[number]) };
        tree.push(Entry::new(EntryKind::Settled, &salt, &receipt.delivery, &digest).to_bytes());
    }
    let head = TreeHead { origin: origin(key.name(), EpochId([epoch; 16])), size: 9, root: tree.root() };
    let checkpoint = Checkpoint::sign(head, key, 1_790_000_000).to_text();
    let path = tree.prove_inclusion(3, 9).unwrap();
    TlogProof { extra: Some(salt.0.to_vec()), index: 3, path, checkpoint }
}

pub(crate) fn complete(receipt: Receipt) -> ReceiptFile {
    let proof = logged(&receipt, &log_key(4), 1);
    signed(receipt).with_log_text(&proof.to_text()).unwrap()
}
