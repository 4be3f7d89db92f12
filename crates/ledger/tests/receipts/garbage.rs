//! Bytes from outside never panic, and whatever is read is written back the same.

use ledger::{Deferred, Manifest, Receipt, ReceiptFile, Settlement, SettlementCore, sign_batch};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::{receipt, receiver, signed};

fn check(bytes: &[u8]) {
    if let Ok(receipt) = Receipt::decode(bytes) {
        assert_eq!(receipt.encode(), bytes);
    }
    if let Ok(deferred) = Deferred::decode(bytes) {
        assert_eq!(deferred.encode(), bytes);
    }
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes);
        let _ = manifest.verify(receiver().public());
    }
    if let Ok(settlement) = Settlement::decode(bytes) {
        assert_eq!(settlement.encode(), bytes);
        // Verifying walks the path with whatever sizes were read.
        let _ = settlement.verify(receiver().public());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..600)) {
        check(&bytes);
    }

    #[test]
    fn receipts_with_random_damage(edits in vec((any::<usize>(), any::<u8>()), 1..4), cut in 0usize..8) {
        let mut bytes = receipt(1).encode();
        bytes.truncate(bytes.len() - cut);
        for (at, value) in edits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        check(&bytes);
    }

    #[test]
    fn receipt_files_with_random_damage(at in any::<prop::sample::Index>(), put in "\\PC{0,3}", cut in 0usize..5) {
        let text = signed(receipt(1)).to_text();
        let at = at.index(text.len());
        let damaged = format!("{}{put}{}", &text[..at], &text[(at + cut).min(text.len())..]);
        if let Ok(file) = ReceiptFile::parse(&damaged) {
            assert_eq!(file.to_text(), damaged);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn settlements_with_random_damage_in_front(edits in vec((0usize..150, any::<u8>()), 1..4)) {
        let cores: Vec<_> = (0..3).map(|i| SettlementCore::for_receipt(&receipt(i))).collect();
        let mut bytes = sign_batch(&receiver(), &cores, &[]).unwrap()[1].encode();
        for (at, value) in edits {
            bytes[at] = value;
        }
        check(&bytes);
    }
}
