//! A signature counts only when Ed25519 and ML-DSA-65 both verify, in the context it was made for.

use base::{Name, Secret};
use identity::{Context, IdentityKey, IdentityPublic, Signature, VerifyError};

#[test]
fn both_halves_verify_and_each_wrong_half_is_named() {
    let key = key(1);
    let good = key.sign(Context::SESSION, b"opening");
    assert_eq!(key.public().verify(Context::SESSION, b"opening", &good), Ok(()));

    let stranger = self::key(2).sign(Context::SESSION, b"opening");
    let zeroed = Signature { ed25519: [0; 64], ml_dsa: Box::new([0; Signature::ML_DSA_BYTES].into()) };
    let cases: [(&str, Signature, VerifyError); 5] = [
        ("stranger", stranger.clone(), VerifyError::Ed25519),
        ("all zero", zeroed.clone(), VerifyError::Ed25519),
        ("only ML-DSA valid", Signature { ed25519: stranger.ed25519, ..good.clone() }, VerifyError::Ed25519),
        ("only Ed25519 valid", Signature { ml_dsa: stranger.ml_dsa, ..good.clone() }, VerifyError::MlDsa),
        ("ML-DSA zeroed", Signature { ml_dsa: zeroed.ml_dsa, ..good.clone() }, VerifyError::MlDsa),
    ];
    for (case, signature, want) in cases {
        assert_eq!(key.public().verify(Context::SESSION, b"opening", &signature), Err(want), "{case}");
    }
}

#[test]
fn another_context_or_other_bytes_are_refused() {
    let key = key(1);
    let good = key.sign(Context::SESSION, b"opening");
    for context in Context::ALL.into_iter().filter(|c| *c != Context::SESSION) {
        assert!(key.public().verify(context, b"opening", &good).is_err(), "{context:?}");
    }
    for bytes in [&b""[..], b"opening ", b"Opening", b"pening"] {
        assert!(key.public().verify(Context::SESSION, bytes, &good).is_err());
    }
}

#[test]
fn the_ml_dsa_half_alone_is_bound_to_its_context() {
    let key = key(1);
    let session = key.sign(Context::SESSION, b"x");
    let prekey = key.sign(Context::PREKEY, b"x");
    let mixed = Signature { ed25519: session.ed25519, ml_dsa: prekey.ml_dsa };
    assert_eq!(key.public().verify(Context::SESSION, b"x", &mixed), Err(VerifyError::MlDsa));
}

#[test]
fn every_changed_byte_is_refused() {
    let key = key(3);
    let good = key.sign(Context::BATCH, b"root");
    for at in 0..64 {
        let mut bad = good.clone();
        bad.ed25519[at] ^= 1;
        assert!(key.public().verify(Context::BATCH, b"root", &bad).is_err(), "ed25519 byte {at}");
    }
    for at in (0..Signature::ML_DSA_BYTES).step_by(97) {
        let mut bad = good.clone();
        bad.ml_dsa[at] ^= 1;
        assert!(key.public().verify(Context::BATCH, b"root", &bad).is_err(), "ML-DSA byte {at}");
    }
}

#[test]
fn keys_of_small_order_are_refused() {
    let mut identity_point = [0; 32];
    identity_point[0] = 1;
    // The same point with the sign bit set, and p + 1: encodings that some decoders accept.
    let mut signed = identity_point;
    signed[31] = 0x80;
    let mut unreduced = [0xff; 32];
    unreduced[0] = 0xee;
    unreduced[31] = 0x7f;
    for bytes in [identity_point, [0; 32], signed, unreduced] {
        let got = IdentityPublic::from_keys(&bytes, &[0; IdentityPublic::ML_DSA_BYTES]);
        assert_eq!(got.err(), Some(VerifyError::Key), "{bytes:02x?}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let key = key(4);
    let text = format!("{key:?} {:?}", key.tls_pkcs8());
    assert!(!text.contains(&hex::encode([4u8; 8])), "{text}");
}

fn key(seed: u8) -> IdentityKey {
    let mut seeds = [seed; identity::SEEDS_BYTES];
    seeds[32..64].fill(seed ^ 0x40);
    seeds[64..].fill(seed ^ 0x80);
    IdentityKey::generate(Name::parse("hospital-a").unwrap(), &Secret::new(seeds))
}
