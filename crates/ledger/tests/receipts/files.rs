//! A receipt file verifies alone and offline, and not after any change.

use crate::common::{
    card, complete, identity, log_key, logged, manifest, name, party, pseudonymized, receipt, receiver,
    relay_card, sender, sent, signed, web_service,
};
use base::{Digest, Name, ObjectId, ServiceUrl};
use identity::{CardFields, IdentityKey, Overlap, PeerCard};
use ledger::{
    Cards, Class, Destination, Expectation, Level, ManifestCore, Mismatch, NackReason, Outcome, Receipt,
    ReceiptFile, ReceiptFileError, RootCache, SettlementCore, sign_batch, sign_manifests,
};

#[test]
fn a_receipt_file_says_who_where_when_and_verifies_by_the_receivers_card() {
    let text = signed(receipt(1)).to_text();
    let file = ReceiptFile::parse(&text).unwrap();
    assert_eq!(file.verify(&card(&receiver())).unwrap(), &receipt(1));
    for line in [
        r#""outcome": "stored""#,
        r#""status": "0x0000""#,
        r#""destination": "archive (AE ARCHIVE)""#,
        r#""sender": "utrecht "#,
        r#""receiver": "munich "#,
        r#""received_at": "2026-09-21T14:13:20Z""#,
        r#""answered_at": "2026-09-21T14:13:20.25Z""#,
        r#""level": "1 (the destination answered)""#,
        r#""remark": "an earlier attempt had an unknown outcome""#,
        r#""sop_class": "1.2.840.10008.5.1.4.1.1.2""#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn no_byte_of_a_receipt_file_can_be_changed() {
    let (text, to, from) = (complete(receipt(1)).to_text(), card(&receiver()), card(&sender()));
    let relay = relay_card(4);
    let cards = Cards { receiver: &to, sender: Some(&from), relay: Some(&relay) };
    assert_eq!(ReceiptFile::parse(&text).unwrap().check(&cards).unwrap().unchecked, [""; 0]);
    for position in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[position] ^= 1;
        let changed = String::from_utf8(bytes).unwrap();
        let verified = ReceiptFile::parse(&changed).and_then(|file| file.check(&cards));
        assert!(verified.is_err(), "byte {position}");
    }
    for len in 0..text.len() {
        // The dash before a signature of a note has three bytes.
        let Some(cut) = text.get(..len) else { continue };
        assert!(ReceiptFile::parse(cut).is_err(), "{len} bytes");
    }
    assert_eq!(ReceiptFile::parse(&text.replace('\n', "\r\n")), Ok(complete(receipt(1))));
}

#[test]
fn what_pseudonymization_did_is_bound_by_the_sender_and_cannot_be_changed() {
    let (to, from) = (card(&receiver()), card(&sender()));
    let cards = Cards { receiver: &to, sender: Some(&from), relay: None };
    let file = pseudonymized(receipt(1));
    let said = ("pseudonymized", format!("report {}", Digest::of(b"report")));
    assert!(file.check(&cards).unwrap().says.contains(&said));
    let text = file.to_text();
    assert!(text.contains("\"pseudonymized\": \"report "));
    for position in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[position] ^= 1;
        let changed = String::from_utf8(bytes).unwrap();
        let verified = ReceiptFile::parse(&changed).and_then(|file| file.check(&cards));
        assert!(verified.is_err(), "byte {position}");
    }
    // Another digest under the same signature, whatever the readable part says.
    let mut manifest = file.manifest().unwrap().clone();
    manifest.core.report = Some(Digest::of(b"another report"));
    let forged = signed(receipt(1)).with_manifest(manifest.clone()).unwrap();
    assert!(matches!(forged.check(&cards), Err(ReceiptFileError::VerifyManifest(_))));
    manifest.core.report = None;
    let left_out = signed(receipt(1)).with_manifest(manifest).unwrap();
    assert!(matches!(left_out.check(&cards), Err(ReceiptFileError::VerifyManifest(_))));
    // One without a report is what it always was: seven fields.
    let before = signed(receipt(1)).manifest().unwrap().encode();
    assert_eq!(before[..4], [0x82, 1, 0x82, 0x87]);
    assert!(!signed(receipt(1)).to_text().contains("pseudonymized"));
}

#[test]
fn no_bit_of_the_signed_parts_can_be_changed() {
    let (file, card) = (signed(receipt(1)), card(&receiver()));
    let (receipt, settlement) = (file.unverified().encode(), file.settlement().encode());
    let verify = |receipt: &[u8], settlement: &[u8]| {
        ReceiptFile::from_parts(receipt, settlement, None).and_then(|file| file.verify(&card).map(|_| ()))
    };
    verify(&receipt, &settlement).unwrap();
    for (position, bit) in (0..receipt.len()).flat_map(|p| (0..8).map(move |b| (p, b))) {
        let mut flipped = receipt.clone();
        flipped[position] ^= 1 << bit;
        assert!(verify(&flipped, &settlement).is_err(), "receipt byte {position} bit {bit}");
    }
    for position in 0..settlement.len() {
        let mut flipped = settlement.clone();
        flipped[position] ^= 0x80;
        assert!(verify(&receipt, &flipped).is_err(), "settlement byte {position}");
    }
}

#[test]
fn the_reason_for_a_refusal_is_named() {
    let good = signed(receipt(1));
    let text = good.to_text();
    let cases = [
        (text.replace("stored", "refused"), r#"the readable field "outcome" differs from what is signed"#),
        (text.replace("utrecht", "leiden"), r#"the readable field "sender" differs from what is signed"#),
        (text.replace("0x0000", "0xA700"), r#"the readable field "status" differs from what is signed"#),
        (
            text.replace(r#""says": {"#, r#""says": { "note": "x","#),
            "the text differs from the form in which receipt files are written",
        ),
        (
            text.replace("sluis receipt 2", "sluis receipt 1"),
            r#"not a receipt file: it does not say "format": "sluis receipt 2""#,
        ),
        (
            text.replace(r#""receipt": ""#, r#""receipt": "!"#),
            r#"not a receipt file: "receipt" is not base64"#,
        ),
        (
            text.replace(r#""settlement""#, r#""settlemend""#),
            r#"not a receipt file: "settlement" is missing"#,
        ),
        (text.replace(r#""log""#, r#""lag""#), r#"not a receipt file: "log" is missing"#),
        (text.replace(r#""manifest""#, r#""manifesd""#), r#"not a receipt file: "manifest" is missing"#),
        (" ".repeat(40_000), "not a receipt file: 40000 bytes exceed 32768"),
    ];
    for (text, want) in cases {
        assert_eq!(ReceiptFile::parse(&text).unwrap_err().to_string(), want);
    }
    let other_keys = good.verify(&card(&identity("munich", 7))).unwrap_err();
    assert_eq!(other_keys, ReceiptFileError::OtherKeys(name("munich")));
    let other_name = good.verify(&card(&identity("berlin", 2))).unwrap_err();
    assert_eq!(other_name.to_string(), "the receipt is signed for receiver munich, the card is of berlin");
}

#[test]
fn somebody_else_cannot_sign_in_the_receivers_name() {
    let mallory = identity("munich", 66);
    let receipt = receipt(1);
    let settlement = sign_batch(&mallory, &[SettlementCore::for_receipt(&receipt)], &[]).unwrap().remove(0);
    let file = ReceiptFile::new(receipt, settlement).unwrap();
    assert!(matches!(file.verify(&card(&receiver())), Err(ReceiptFileError::Verify(_))));
    assert!(matches!(file.verify(&card(&mallory)), Err(ReceiptFileError::OtherKeys(_))));
}

#[test]
fn a_receipt_joins_no_settlement_but_its_own() {
    let cores = [
        SettlementCore::for_receipt(&receipt(2)),
        SettlementCore::nack(receipt(1).delivery, receipt(1).attempt, NackReason::BadTag),
        SettlementCore {
            class: Class::Deferred(receipt(1).digest()),
            ..SettlementCore::for_receipt(&receipt(1))
        },
        SettlementCore { class: Class::Final(Digest([0; 32])), ..SettlementCore::for_receipt(&receipt(1)) },
        SettlementCore { attempt: base::Attempt(4), ..SettlementCore::for_receipt(&receipt(1)) },
    ];
    let errors: Vec<_> = sign_batch(&receiver(), &cores, &[])
        .unwrap()
        .into_iter()
        .map(|settlement| ReceiptFile::new(receipt(1), settlement).unwrap_err())
        .collect();
    use ReceiptFileError::{NotFinal, OtherReceipt};
    assert_eq!(errors, [OtherReceipt, NotFinal, NotFinal, OtherReceipt, OtherReceipt]);
}

#[test]
fn a_genuine_receipt_about_something_else_does_not_end_custody() {
    let (receipt, key) = (receipt(1), receiver());
    let (file, receiver) = (signed(receipt.clone()), party(&key));
    let (sender, destination): (&Name, &Name) = (&receipt.sender.name, &receipt.destination);
    let right = Expectation {
        delivery: receipt.delivery,
        object: receipt.object,
        body_digest: receipt.body_digest,
        sender,
        receiver: &receiver,
        destination,
    };
    let mut cache = RootCache::default();
    assert_eq!(file.verify_for(&right, [key.public()], &mut cache), Ok(&receipt));
    let other = name("other");
    let wrong = [
        ("delivery", Expectation { delivery: crate::common::receipt(2).delivery, ..right.clone() }),
        ("object", Expectation { object: ObjectId([0; 16]), ..right.clone() }),
        ("body digest", Expectation { body_digest: Digest([0; 32]), ..right.clone() }),
        ("sender", Expectation { sender: &other, ..right.clone() }),
        ("destination", Expectation { destination: &other, ..right.clone() }),
    ];
    for (field, want) in wrong {
        let error = file.verify_for(&want, [key.public()], &mut cache).unwrap_err();
        assert_eq!(error, ReceiptFileError::Mismatch(Mismatch { field }));
    }
    let stranger = identity("munich", 7);
    let error = file.verify_for(&right, [stranger.public()], &mut cache).unwrap_err();
    assert!(matches!(error, ReceiptFileError::Verify(_)), "{error}");
    let named = Expectation { receiver: &party(&stranger), ..right.clone() };
    let error = file.verify_for(&named, [stranger.public()], &mut cache).unwrap_err();
    assert_eq!(error, ReceiptFileError::OtherKeys(name("munich")));
    // While its keys are rotated the receiver has two identities, and either of them counts.
    assert_eq!(file.verify_for(&right, [stranger.public(), key.public()], &mut cache), Ok(&receipt));
    assert!(file.verify_for(&right, [], &mut cache).is_err());
}

#[test]
fn every_kind_of_receipt_survives_its_encoding() {
    let long = "1".repeat(64);
    let longest_url = format!("https://{:a<1$}", "pacs.example/", ServiceUrl::CHARACTERS_MAX - 8);
    for receipt in [
        receipt(1),
        Receipt { remark: None, ..receipt(1) },
        Receipt {
            kind: Destination::Folder,
            level: Level::Committed,
            outcome: Outcome::Refused,
            ..receipt(1)
        },
        Receipt { kind: web_service(), ..receipt(1) },
        Receipt { kind: Destination::Stow(longest_url.parse().unwrap()), ..receipt(1) },
        Receipt { sop_class: long.parse().unwrap(), data_bytes: u64::MAX, ..receipt(1) },
        Receipt { received_at: base::Timestamp(u64::MAX), ..receipt(1) },
    ] {
        assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt.clone()));
        let file = signed(receipt);
        assert_eq!(ReceiptFile::parse(&file.to_text()), Ok(file));
    }
}

#[test]
fn a_receipt_of_a_web_service_says_where_it_is_in_one_form_only() {
    let file = signed(Receipt { kind: web_service(), ..receipt(1) });
    let line = r#""destination": "archive (STOW-RS https://pacs.example:8443/dicom-web)""#;
    assert!(file.to_text().contains(line), "{}", file.to_text());
    // The record as FORMAT.md has it, and with its URL in another form, which nobody signs.
    let bytes = file.unverified().encode();
    let kind = b"\x82\x02\x81\x78\x23https://pacs.example:8443/dicom-web";
    let at = bytes.windows(kind.len()).position(|window| window == kind).unwrap();
    let mut other = bytes.clone();
    other[at + kind.len() - 1] = b'/';
    assert!(Receipt::decode(&other).is_err());
    other[at + kind.len() - 1] = b'?';
    assert!(Receipt::decode(&other).is_err());
}

#[test]
fn the_senders_signature_proves_who_sent() {
    let file = signed(receipt(1));
    assert_eq!(file.verify_sender(&card(&sender())), Ok(()));
    assert_eq!(ReceiptFile::parse(&file.to_text()), Ok(file.clone()));

    let alone = ReceiptFile::new(receipt(1), file.settlement().clone()).unwrap();
    assert!(alone.to_text().contains("\"manifest\": null,\n  \"log\": null\n"), "{}", alone.to_text());
    assert_eq!(ReceiptFile::parse(&alone.to_text()), Ok(alone.clone()));
    assert_eq!(alone.verify_sender(&card(&sender())), Err(ReceiptFileError::NoManifest));

    let stranger = identity("utrecht", 66);
    let cases = [
        (card(&receiver()), "the receipt is for what utrecht sent, the card is of munich"),
        (card(&stranger), "the sender's manifest: it names other identity keys than this peer's"),
    ];
    for (card, want) in cases {
        assert_eq!(file.verify_sender(&card).unwrap_err().to_string(), want);
    }
    // Somebody else who says that he is the sender, and somebody else who says that the sender sent.
    for core in [ManifestCore { sender: stranger.fingerprint(), ..sent(&receipt(1)) }, sent(&receipt(1))] {
        let forged = sign_manifests(&stranger, &[core], &[]).unwrap().remove(0);
        let forged = file.clone().with_manifest(forged).unwrap();
        assert!(matches!(forged.verify_sender(&card(&sender())), Err(ReceiptFileError::VerifyManifest(_))));
    }
}

/// A card of other keys that the ones of `earlier` vouch for, which end at that time.
fn rotated(earlier: &IdentityKey, seed: u8, until: base::Timestamp) -> (IdentityKey, PeerCard) {
    let key = identity(earlier.name().as_str(), seed);
    let overlap = Overlap { switch: base::Timestamp(0), until };
    let card = key.succeed(earlier, &card(earlier), CardFields::new(9, &[]), overlap);
    (key, card)
}

#[test]
fn rotated_keys_count_for_receipts_of_their_time() {
    let (file, receipt) = (signed(receipt(1)), receipt(1));
    let at = receipt.answered_at;
    let after = base::Timestamp(at.0 + 1);
    for (until, good) in [(after, true), (at, false)] {
        let (_, to) = rotated(&receiver(), 71, until);
        assert_eq!(file.verify(&to).is_ok(), good, "{until:?}");
        let (_, from) = rotated(&sender(), 72, until);
        assert_eq!(file.verify_sender(&from).is_ok(), good, "{until:?}");
    }
    // Signed by the new keys about the same receipt: the peer is the same, and the earlier card knows nothing of them.
    let (key, to) = rotated(&receiver(), 71, after);
    let core = SettlementCore::for_receipt(&receipt);
    let settlement = sign_batch(&key, &[core], &[]).unwrap().remove(0);
    let file = ReceiptFile::new(receipt, settlement).unwrap();
    assert!(file.verify(&to).is_ok());
    assert!(matches!(file.verify(&card(&receiver())), Err(ReceiptFileError::Verify(_))));
}

#[test]
fn a_receipt_joins_no_manifest_but_its_own() {
    let core = sent(&receipt(1));
    let others = [
        sent(&receipt(2)),
        ManifestCore { attempt: base::Attempt(4), ..core.clone() },
        ManifestCore { object: ObjectId([0; 16]), ..core.clone() },
        ManifestCore { body_digest: Digest([0; 32]), ..core.clone() },
        ManifestCore { receiver: sender().fingerprint(), ..core.clone() },
        ManifestCore { receipt: Digest([0; 32]), ..core },
    ];
    for manifest in sign_manifests(&sender(), &others, &[]).unwrap() {
        let joined = signed(receipt(1)).with_manifest(manifest);
        assert_eq!(joined, Err(ReceiptFileError::OtherManifest));
    }
}

#[test]
fn a_settlement_signature_is_no_manifest_signature() {
    let (core, key) = (sent(&receipt(1)), sender());
    let mut manifest = manifest(&receipt(1));
    let mut cache = RootCache::default();
    manifest.verify_cached(key.public(), &mut cache).unwrap();
    assert_eq!(manifest.core, core);
    let settled = sign_batch(&key, &[SettlementCore::for_receipt(&receipt(1))], &[]).unwrap().remove(0);
    settled.verify_cached(key.public(), &mut cache).unwrap();
    manifest.proof.signature = settled.proof.signature;
    assert!(manifest.verify_cached(key.public(), &mut cache).is_err());
}

#[test]
fn a_check_says_what_is_proven_and_what_is_not() {
    let (to, from) = (card(&receiver()), card(&sender()));
    let file = signed(receipt(1));
    let alone = ReceiptFile::new(receipt(1), file.settlement().clone()).unwrap();
    let unsigned = "utrecht, by the receiver's word: the file has no signature of it";
    let unchecked = "utrecht, by the receiver's word: without its card its signature was not checked";
    let cases = [
        (&file, Some(&from), "utrecht, signed by it", vec![]),
        (&file, None, unchecked, vec!["the sender's signature"]),
        (&alone, None, unsigned, vec![]),
    ];
    for (file, sender, sent_by, left) in cases {
        let proven = file.check(&Cards { receiver: &to, sender, relay: None }).unwrap();
        assert!(proven.says.contains(&("log", "not in a log".to_owned())), "{:?}", proven.says);
        assert_eq!(proven.unchecked, left);
        assert!(proven.says.contains(&("sent_by", sent_by.to_owned())), "{:?}", proven.says);
        assert!(proven.says.contains(&("received_by", "munich, signed by it".to_owned())));
    }
    let refused = |cards| alone.check(&cards).unwrap_err();
    assert_eq!(
        refused(Cards { receiver: &to, sender: Some(&from), relay: None }),
        ReceiptFileError::NoManifest
    );
    let relay = relay_card(4);
    assert_eq!(refused(Cards { receiver: &to, sender: None, relay: Some(&relay) }), ReceiptFileError::NoLog);
}

#[test]
fn a_proof_of_another_delivery_tree_or_log_is_refused() {
    use ledger::LogProofError as E;
    let file = complete(receipt(1));
    let place = "entry 3 of 9 in relay/01010101010101010101010101010101, signed by the relay".to_owned();
    let relay = relay_card(4);
    let (to, from) = (card(&receiver()), card(&sender()));
    let cards = Cards { receiver: &to, sender: Some(&from), relay: Some(&relay) };
    assert!(file.check(&cards).unwrap().says.contains(&("log", place)));
    let unchecked = file.check(&Cards { relay: None, ..cards }).unwrap().unchecked;
    assert_eq!(unchecked, ["the log's signature"]);

    // Swapped in from elsewhere: refused before any key is looked at.
    let swap = |proof: ledger::log::TlogProof| signed(receipt(1)).with_log_text(&proof.to_text());
    let good = logged(&receipt(1), &log_key(4), 1);
    let other_delivery = swap(logged(&receipt(2), &log_key(4), 1));
    assert!(matches!(other_delivery, Err(ReceiptFileError::Log(E::OtherEntry(_)))), "{other_delivery:?}");
    let mut other_receipt = receipt(1);
    other_receipt.status = base::Status::OUT_OF_RESOURCES;
    let other_receipt = swap(logged(&other_receipt, &log_key(4), 1));
    assert!(matches!(other_receipt, Err(ReceiptFileError::Log(E::OtherEntry(_)))), "{other_receipt:?}");
    let other_tree = logged(&receipt(2), &log_key(4), 1).checkpoint;
    let other_tree = swap(ledger::log::TlogProof { checkpoint: other_tree, ..good.clone() });
    assert!(matches!(other_tree, Err(ReceiptFileError::Log(E::OtherEntry(_)))), "{other_tree:?}");
    for change in [
        ledger::log::TlogProof { index: 4, ..good.clone() },
        ledger::log::TlogProof { path: good.path[1..].to_vec(), ..good.clone() },
        ledger::log::TlogProof { extra: None, ..good.clone() },
        ledger::log::TlogProof { extra: Some(vec![8; 16]), ..good.clone() },
    ] {
        assert!(matches!(swap(change.clone()), Err(ReceiptFileError::Log(_))), "{change:?}");
    }

    // Signed by somebody else, or the log of somebody else.
    let resized = ledger::log::TlogProof { checkpoint: good.checkpoint.replace("\n9\n", "\n10\n"), ..good };
    assert!(matches!(swap(resized).unwrap().verify_log(&relay), Err(ReceiptFileError::Log(E::Proof(_)))));
    let stranger = swap(logged(&receipt(1), &log_key(5), 1)).unwrap();
    assert!(matches!(stranger.verify_log(&relay), Err(ReceiptFileError::Log(E::Proof(_)))));
    assert!(stranger.verify_log(&relay_card(5)).is_ok());
    assert!(matches!(file.verify_log(&to), Err(ReceiptFileError::Log(E::OtherRelay { .. }))));
    let no_key = card(&identity("relay", 3));
    assert_eq!(file.verify_log(&no_key), Err(ReceiptFileError::Log(E::NoLogKey(name("relay")))));
}
