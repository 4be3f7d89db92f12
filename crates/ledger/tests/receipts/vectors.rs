//! `vectors.json`: one good receipt, and changes to it with the verdict that each must get. Another implementation
//! of the verifier (there is one in `conformance`) reads the same file.
//!
//! `SLUIS_WRITE_VECTORS=1` writes it anew after a change of the format.

use std::fs;
use std::path::PathBuf;

use base::{Digest, Status};
use ledger::{Outcome, Receipt, ReceiptFile, Remark};
use serde_json::{Value, json};

use crate::common::{card, changed, complete, identity, receipt, receiver, relay_card, sender, web_service};

struct Case {
    name: &'static str,
    receipt: Vec<u8>,
    settlement: Vec<u8>,
    card: String,
}

/// The good receipt is number 4 of a batch of 6, so that its path has a hole in it.
fn good() -> Case {
    let cores: Vec<_> = (0..6).map(|i| ledger::SettlementCore::for_receipt(&receipt(i))).collect();
    let settlement = ledger::sign_batch(&receiver(), &cores, &[]).unwrap().remove(4);
    Case {
        name: "good",
        receipt: receipt(4).encode(),
        settlement: settlement.encode(),
        card: card(&receiver()).to_line(),
    }
}

fn cases() -> Vec<Case> {
    let splice = |bytes: Vec<u8>, find: &[u8], put: &[u8]| {
        let at = bytes.windows(find.len()).position(|w| w == find).unwrap();
        [&bytes[..at], put, &bytes[at + find.len()..]].concat()
    };
    let flip = |mut bytes: Vec<u8>, from_end: usize| {
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        bytes
    };
    let alone =
        ledger::sign_batch(&receiver(), &[ledger::SettlementCore::for_receipt(&receipt(4))], &[]).unwrap();
    let mallory = identity("munich", 66);
    let forged =
        ledger::sign_batch(&mallory, &[ledger::SettlementCore::for_receipt(&receipt(4))], &[]).unwrap();
    let nack =
        ledger::SettlementCore::nack(receipt(4).delivery, receipt(4).attempt, ledger::NackReason::BadTag);
    let nack = ledger::sign_batch(&receiver(), &[nack], &[]).unwrap();
    let other =
        ledger::sign_batch(&receiver(), &[ledger::SettlementCore::for_receipt(&receipt(5))], &[]).unwrap();
    let mut wrong_index = ledger::Settlement::decode(&good().settlement).unwrap();
    wrong_index.proof.index = 5;
    let mut no_path = ledger::Settlement::decode(&good().settlement).unwrap();
    no_path.proof.path.clear();
    let mut out_of_range = ledger::Settlement::decode(&good().settlement).unwrap();
    out_of_range.proof.index = 6;
    let base = good;
    let of = |receipt: &Receipt| {
        let cores = [ledger::SettlementCore::for_receipt(receipt)];
        ledger::sign_batch(&receiver(), &cores, &[]).unwrap().remove(0).encode()
    };
    let mut reencoded = changed(4);
    reencoded.changed.as_mut().unwrap().rules = None;
    let own = Receipt {
        status: Status(0xC010),
        outcome: Outcome::Refused,
        remark: Some(Remark::NotReencoded),
        ..receipt(4)
    };
    let web = Receipt { kind: web_service(), ..receipt(4) };
    vec![
        good(),
        Case { name: "alone in its batch", settlement: alone[0].encode(), ..base() },
        Case {
            name: "of a changed data set",
            receipt: changed(4).encode(),
            settlement: of(&changed(4)),
            ..base()
        },
        Case {
            name: "of a re-encoded data set",
            receipt: reencoded.encode(),
            settlement: of(&reencoded),
            ..base()
        },
        Case { name: "refused by the receiver", receipt: own.encode(), settlement: of(&own), ..base() },
        Case { name: "to a web service", receipt: web.encode(), settlement: of(&web), ..base() },
        Case {
            name: "web service renamed",
            receipt: splice(web.encode(), b"pacs.example", b"pacs.example".to_ascii_uppercase().as_slice()),
            settlement: of(&web),
            ..base()
        },
        Case {
            name: "digest of what came changed",
            receipt: splice(changed(4).encode(), &Digest::of(b"data as it came").0, &Digest::of(b"data").0),
            settlement: of(&changed(4)),
            ..base()
        },
        Case {
            name: "no change said in another form",
            receipt: [&[0x82, 1, 0x93], &base().receipt[3..], &[0xf6]].concat(),
            ..base()
        },
        Case { name: "sender renamed", receipt: splice(base().receipt, b"utrecht", b"utrechT"), ..base() },
        Case {
            name: "destination renamed",
            receipt: splice(base().receipt, b"archive", b"archivf"),
            ..base()
        },
        Case { name: "time moved", receipt: flip(base().receipt, 1), ..base() },
        Case { name: "receipt truncated", receipt: base().receipt[..100].to_vec(), ..base() },
        Case { name: "receipt with a byte behind it", receipt: [base().receipt, vec![0]].concat(), ..base() },
        Case {
            name: "attempt in a longer integer",
            receipt: splice(base().receipt, &[3, 0x50], &[0x18, 3, 0x50]),
            ..base()
        },
        Case { name: "of another format", receipt: [&[0x82, 2], &base().receipt[2..]].concat(), ..base() },
        Case { name: "ML-DSA signature changed", settlement: flip(base().settlement, 1), ..base() },
        Case {
            name: "Ed25519 signature changed",
            settlement: flip(base().settlement, 3309 + 3 + 1),
            ..base()
        },
        Case { name: "place of the neighbour", settlement: wrong_index.encode(), ..base() },
        Case { name: "place behind the last leaf", settlement: out_of_range.encode(), ..base() },
        Case { name: "path missing", settlement: no_path.encode(), ..base() },
        Case { name: "settlement of another receipt", settlement: other[0].encode(), ..base() },
        Case { name: "settlement is a nack", settlement: nack[0].encode(), ..base() },
        Case { name: "signed by somebody of the same name", settlement: forged[0].encode(), ..base() },
        Case { name: "card of somebody of the same name", card: card(&mallory).to_line(), ..base() },
        Case { name: "card of another peer", card: card(&identity("berlin", 2)).to_line(), ..base() },
    ]
}

fn verdict(case: &Case) -> String {
    let card = identity::PeerCard::parse(&case.card).unwrap();
    match ReceiptFile::from_parts(&case.receipt, &case.settlement, None)
        .and_then(|f| f.verify(&card).map(|_| ()))
    {
        Ok(()) => "valid".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_vector_gets_its_verdict() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/receipts/vectors.json");
    let base = good();
    // Only what differs from the good case is written out: signatures are long.
    let vector = |case: &Case| {
        let mut vector = json!({ "name": case.name, "verdict": verdict(case) });
        let parts =
            [("receipt", &case.receipt, &base.receipt), ("settlement", &case.settlement, &base.settlement)];
        for (key, bytes, good) in parts {
            if case.name == "good" || bytes != good {
                vector[key] = hex::encode(bytes).into();
            }
        }
        if case.name == "good" || case.card != base.card {
            vector["card"] = case.card.clone().into();
        }
        vector
    };
    let now = Value::Array(cases().iter().map(vector).collect());
    if std::env::var_os("SLUIS_WRITE_VECTORS").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let committed: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(now, committed);
    let valid: Vec<_> = cases().iter().map(|case| (case.name, verdict(case) == "valid")).collect();
    assert!(valid.iter().enumerate().all(|(i, (_, valid))| *valid == (i < 6)), "{valid:?}");
}

/// A file with everything in it, and the cards that verify it, for other implementations.
#[test]
fn the_complete_file_is_the_committed_one() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/receipts/complete");
    let files = [
        ("receipt.json", complete(receipt(1)).to_text()),
        ("receiver.card", card(&receiver()).to_line() + "\n"),
        ("sender.card", card(&sender()).to_line() + "\n"),
        ("relay.card", relay_card(4).to_line() + "\n"),
    ];
    for (name, text) in files {
        if std::env::var_os("SLUIS_WRITE_VECTORS").is_some() {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(name), &text).unwrap();
        }
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), text, "{name}");
    }
}
