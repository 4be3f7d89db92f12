//! One signature for many settlements, and none of them verifies by another's proof.

use crate::common::{identity, receipt, receiver};
use base::{Attempt, DeliveryId, Digest, Status, Timestamp};
use ledger::tree::PathError;
use ledger::{
    BATCH_LEAVES_MAX, Class, DecodeError, DeferReason, Deferred, NackReason, Receipt, RootCache, Settlement,
    SettlementCore, VerifyError, sign_batch,
};

fn cores(count: usize) -> Vec<SettlementCore> {
    (0..count)
        .map(|i| {
            SettlementCore::nack(DeliveryId(Digest::of(&i.to_be_bytes()).0), Attempt(1), NackReason::BadTag)
        })
        .collect()
}

#[test]
fn every_leaf_of_every_batch_size_verifies() {
    let (key, mut cache) = (receiver(), RootCache::new(300));
    for count in 1..=BATCH_LEAVES_MAX {
        for (core, settlement) in cores(count).iter().zip(sign_batch(&key, &cores(count), &[]).unwrap()) {
            assert_eq!(&settlement.core, core);
            settlement.verify_cached(key.public(), &mut cache).unwrap();
        }
    }
    assert_eq!(cache.len(), BATCH_LEAVES_MAX, "one signature check a batch");
}

#[test]
fn sizes_outside_the_limit_are_not_signed() {
    for count in [0, BATCH_LEAVES_MAX + 1] {
        let error = sign_batch(&receiver(), &cores(count), &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("a batch has 1 to 256 leaves, not {count}"));
    }
}

#[test]
fn a_settlement_with_anything_of_another_is_refused() {
    let key = receiver();
    let batch = sign_batch(&key, &cores(7), &[]).unwrap();
    let other = sign_batch(&key, &cores(5), &[]).unwrap();
    let changed = |change: fn(&mut Settlement, &Settlement)| {
        let mut settlement = batch[2].clone();
        change(&mut settlement, &other[1]);
        settlement.verify(key.public()).unwrap_err()
    };
    let path = VerifyError::Path(PathError::OtherRoot);
    let signature = VerifyError::Signature(identity::VerifyError::Ed25519);
    let range = VerifyError::Path(PathError::IndexOutOfRange { index: 7, leaves: 7 });
    assert_eq!(changed(|s, o| s.core = o.core.clone()), path);
    assert_eq!(changed(|s, _| s.core.attempt = Attempt(2)), path);
    assert_eq!(changed(|s, _| s.core.class = Class::Nack(NackReason::Replay)), path);
    assert_eq!(changed(|s, _| s.proof.index = 3), path);
    assert_eq!(changed(|s, _| s.proof.index = 7), range);
    assert_eq!(changed(|s, _| s.proof.leaves = 8), signature);
    assert_eq!(changed(|s, _| s.proof.leaves = 0), VerifyError::BatchSize(0));
    assert_eq!(changed(|s, _| s.proof.leaves = 257), VerifyError::BatchSize(257));
    assert_eq!(changed(|s, o| s.proof.root = o.proof.root), path);
    assert_eq!(changed(|s, o| s.proof.path = o.proof.path.clone()), path);
    assert_eq!(changed(|s, _| s.proof.path.reverse()), path);
    assert_eq!(changed(|s, _| s.proof.path.clear()), VerifyError::Path(PathError::Length(0)));
    assert_eq!(changed(|s, _| s.proof.path.push(Digest([0; 32]))), VerifyError::Path(PathError::Length(4)));
    assert_eq!(changed(|s, o| s.proof.signature = o.proof.signature.clone()), signature);
    let ml_dsa = VerifyError::Signature(identity::VerifyError::MlDsa);
    assert_eq!(changed(|s, _| s.proof.signature.ml_dsa[100] ^= 1), ml_dsa);
}

#[test]
fn another_peer_has_not_signed_it() {
    let settlement = sign_batch(&receiver(), &cores(1), &[]).unwrap().remove(0);
    let error = settlement.verify(identity("munich", 7).public()).unwrap_err();
    assert_eq!(error.to_string(), "batch is not signed by this peer: the Ed25519 signature does not verify");
}

#[test]
fn a_known_root_lets_no_bad_signature_through() {
    let (key, mut cache) = (receiver(), RootCache::new(4));
    let batch = sign_batch(&key, &cores(2), &[]).unwrap();
    batch[0].verify_cached(key.public(), &mut cache).unwrap();
    let mut forged = batch[1].clone();
    forged.proof.signature.ml_dsa[0] ^= 1;
    assert!(forged.verify_cached(key.public(), &mut cache).is_err());
    assert!(batch[1].verify_cached(identity("other", 5).public(), &mut cache).is_err());
    assert_eq!(cache.len(), 1);
    batch[1].verify_cached(key.public(), &mut cache).unwrap();
}

#[test]
fn the_cache_stays_within_its_bound() {
    let (key, mut cache) = (receiver(), RootCache::new(3));
    for count in 1..=10 {
        sign_batch(&key, &cores(count), &[]).unwrap()[0].verify_cached(key.public(), &mut cache).unwrap();
    }
    assert_eq!(cache.len(), 3);
    assert!(RootCache::new(0).is_empty());
}

#[test]
fn a_final_settlement_fits_its_receipt_and_a_deferred_one_its_deferral() {
    let receipt = receipt(1);
    let deferred = Deferred {
        delivery: receipt.delivery,
        attempt: receipt.attempt,
        reason: DeferReason::Status,
        status: Some(Status::OUT_OF_RESOURCES),
        not_before: Timestamp(5),
        salt: [7; 16],
    };
    assert_eq!(SettlementCore::for_receipt(&receipt).class.record_digest(), Some(receipt.digest()));
    assert_eq!(SettlementCore::for_deferred(&deferred).class, Class::Deferred(deferred.digest()));
    assert_eq!(Deferred::decode(&deferred.encode()), Ok(deferred.clone()));
    let salted = Deferred { salt: [8; 16], ..deferred };
    assert_ne!(SettlementCore::for_deferred(&salted).class.record_digest(), Some(receipt.digest()));
    assert!(Receipt::decode(&salted.encode()).is_err() && Deferred::decode(&receipt.encode()).is_err());
}

#[test]
fn settlements_survive_their_encoding_and_nothing_else_decodes() {
    let key = receiver();
    for settlement in sign_batch(&key, &cores(256), &[]).unwrap() {
        assert_eq!(Settlement::decode(&settlement.encode()), Ok(settlement));
    }
    let bytes = sign_batch(&key, &cores(3), &[]).unwrap()[1].encode();
    for len in 0..bytes.len() {
        assert!(Settlement::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Settlement::decode(&longer), Err(DecodeError::NotCanonical));
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            // The signatures are checked for one bit a byte: each check costs a fraction of a millisecond.
            let Ok(settlement) = Settlement::decode(&flipped) else { continue };
            assert!(bit > 0 || settlement.verify(key.public()).is_err(), "byte {position} bit {bit}");
        }
    }
}
