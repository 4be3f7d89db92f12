//! Signatures of notes and tree heads count for one key, name, type, time and text.

use base::{Digest, Name, Secret};
use identity::{
    IdentityPublic, LOG_SEEDS_BYTES, LogKey, LogPublic, LogVerifyError, NoteName, NoteSignature,
    SignatureType, SignedHead, VerifyError,
};

const TEXT: &str = "relay-1/01\n7\nAAAA\n";

#[test]
fn each_type_verifies_what_it_signed_and_nothing_else() {
    let (key, signer) = (key(1), note_name("relay-1/01"));
    let note = key.sign_note(&signer, TEXT);
    assert_eq!(key.public().verify_note(TEXT, &note.bytes), Ok(()));
    assert_eq!(note.time_s(), None);
    let cosigned = key.cosign_note(&signer, 42, TEXT);
    assert_eq!(key.public().verify_cosigned_note(TEXT, &cosigned.bytes), Ok(42));
    assert_eq!(cosigned.time_s(), Some(42));

    let stranger = self::key(2);
    assert_eq!(stranger.public().verify_note(TEXT, &note.bytes), Err(LogVerifyError::Signature));
    for text in ["", "relay-1/01\n8\nAAAA\n", "relay-1/01\n7\nAAAA\n\n", &TEXT[1..]] {
        assert_eq!(key.public().verify_note(text, &note.bytes), Err(LogVerifyError::Signature));
        assert_eq!(key.public().verify_cosigned_note(text, &cosigned.bytes), Err(LogVerifyError::Signature));
    }
    let other_time = [&43u64.to_be_bytes()[..], &cosigned.bytes[8..]].concat();
    assert_eq!(key.public().verify_cosigned_note(TEXT, &other_time), Err(LogVerifyError::Signature));
    // Neither type takes the other's signature, with or without the time.
    assert_eq!(key.public().verify_note(TEXT, &cosigned.bytes[8..]), Err(LogVerifyError::Signature));
    let timed = [&0u64.to_be_bytes()[..], &note.bytes].concat();
    assert_eq!(key.public().verify_cosigned_note(TEXT, &timed), Err(LogVerifyError::Signature));
    assert_eq!(
        key.public().verify_note(TEXT, &cosigned.bytes),
        Err(LogVerifyError::Length { given: 72, expected: 64 })
    );
}

#[test]
fn a_head_is_bound_to_each_of_its_fields() {
    let key = key(1);
    let (a, b) = (note_name("relay-1/01"), note_name("relay-1/02"));
    let head = SignedHead { signer: &a, time_s: 7, origin: &a, start: 0, end: 9, root: Digest([3; 32]) };
    let good = key.sign_head(&head);
    assert_eq!(good.bytes.len(), 8 + LogPublic::ML_DSA_SIGNATURE_BYTES);
    assert_eq!(key.public().verify_head(&head, &good.bytes), Ok(()));
    let others = [
        SignedHead { signer: &b, ..head },
        SignedHead { time_s: 8, ..head },
        SignedHead { origin: &b, ..head },
        SignedHead { start: 1, ..head },
        SignedHead { end: 10, ..head },
        SignedHead { root: Digest([4; 32]), ..head },
    ];
    for other in others {
        assert_eq!(
            key.public().verify_head(&other, &good.bytes),
            Err(LogVerifyError::Signature),
            "{other:?}"
        );
    }
    assert_eq!(self::key(2).public().verify_head(&head, &good.bytes), Err(LogVerifyError::Signature));
    for at in (0..good.bytes.len()).step_by(61) {
        let mut bad = good.bytes.clone();
        bad[at] ^= 1;
        assert_eq!(key.public().verify_head(&head, &bad), Err(LogVerifyError::Signature), "byte {at}");
    }
    for length in [0, 8, 64, 72, good.bytes.len() - 1] {
        let want = LogVerifyError::Length { given: length, expected: 2428 };
        assert_eq!(key.public().verify_head(&head, &good.bytes[..length]), Err(want));
    }
}

/// The key id and the verifier key of the Go checksum database, as its note package prints them
/// (golang.org/x/mod/sumdb/note, example of the package).
#[test]
fn key_ids_are_those_of_other_tools() {
    let key = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, key).unwrap();
    let ed25519: [u8; 32] = bytes[1..].try_into().unwrap();
    let public = LogPublic::from_keys(&ed25519, &[0; LogPublic::ML_DSA_BYTES]).unwrap();
    let name = note_name("PeterNeumann");
    assert_eq!(bytes[0], SignatureType::Ed25519.code());
    assert_eq!(public.verifier_key(SignatureType::Ed25519, &name), format!("PeterNeumann+c74f20a3+{key}"));
    let ids = [SignatureType::Ed25519, SignatureType::Ed25519Cosignature, SignatureType::MlDsa44Cosignature]
        .map(|kind| public.key_id(kind, &name));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    assert_ne!(public.key_id(SignatureType::Ed25519, &note_name("other")), ids[0]);
}

#[test]
fn keys_of_small_order_are_refused_and_nothing_secret_is_printed() {
    let ml_dsa = [0; LogPublic::ML_DSA_BYTES];
    let mut identity_point = [0; LogPublic::ED25519_BYTES];
    identity_point[0] = 1;
    assert_eq!(LogPublic::from_keys(&identity_point, &ml_dsa).err(), Some(VerifyError::Key));
    let key = key(4);
    let signature: NoteSignature = key.sign_note(&note_name("x"), TEXT);
    let text = format!("{key:?} {signature:?}");
    assert!(!text.contains(&hex::encode([4u8; 8])), "{text}");
    assert_ne!(IdentityPublic::ML_DSA_BYTES, LogPublic::ML_DSA_BYTES, "the two key types cannot be confused");
}

fn note_name(text: &str) -> NoteName {
    NoteName::parse(text).unwrap()
}

fn key(seed: u8) -> LogKey {
    LogKey::generate(Name::parse("relay-1").unwrap(), &Secret::new([seed; LOG_SEEDS_BYTES]))
}
