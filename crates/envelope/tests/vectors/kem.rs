//! Other people's vectors for what the suites stand on, in both directions.

use hpke::aead::{Aead, AeadTag, AesGcm128, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::{MlKem768P256, XWing};
use hpke::{
    Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _, setup_receiver, setup_sender_with_rng,
};
use ml_kem::kem::Decapsulate as _;
use ml_kem::{FromSeed as _, MlKem768};
use serde_json::Value;
use sha3::{Digest as _, Sha3_256};

use crate::files::{self, array, bytes, text};
use crate::reference::Bytes;

#[test]
fn every_file_is_read_by_a_test_and_names_its_source() {
    let kinds: Vec<String> = files::read("kem")
        .into_values()
        .map(|vector| {
            assert!(text(&vector["source"]).contains("crates.io"));
            assert_eq!(text(&vector["verdict"]), "valid");
            text(&vector["kind"]).to_owned()
        })
        .collect();
    assert_eq!(kinds, ["hybrid-kem", "hybrid-kem", "hpke", "hpke", "x-wing"]);
}

#[test]
fn hpke_pq_vectors_of_suite_b() {
    // The working group's vector for this KEM with HKDF-SHA256 has AES-128-GCM for AEAD; KEM and key
    // schedule, from which suite B only exports, are the same.
    hpke_vectors::<AesGcm128, MlKem768P256>("hpke-pq-mlkem768-p256", 0x0050);
}

#[test]
fn hpke_pq_vectors_of_suite_a() {
    hpke_vectors::<ChaCha20Poly1305, XWing>("hpke-pq-mlkem768-x25519", 0x647a);
}

fn cases(name: &str) -> Vec<Value> {
    files::read("kem")[name]["cases"].as_array().unwrap().clone()
}

fn hpke_vectors<A: Aead, K: Kem>(name: &str, kem_id: u64) {
    for case in cases(name) {
        assert_eq!(case["kem_id"].as_u64(), Some(kem_id));
        let (secret, public) = K::derive_keypair(&bytes(&case["ikmR"]));
        assert_eq!(secret.to_bytes().to_vec(), bytes(&case["skRm"]), "{name}: secret key");
        assert_eq!(public.to_bytes().to_vec(), bytes(&case["pkRm"]), "{name}: public key");
        let encapsulated = K::EncappedKey::from_bytes(&bytes(&case["enc"])).unwrap();
        let shared = K::decap(&secret, None, &encapsulated).unwrap();
        assert_eq!(shared.0.to_vec(), bytes(&case["shared_secret"]), "{name}: shared secret");

        let mut context =
            setup_receiver::<A, HkdfSha256, K>(&OpModeR::Base, &secret, &encapsulated, &bytes(&case["info"]))
                .unwrap();
        for export in case["exports"].as_array().unwrap() {
            let mut out = vec![0; export["L"].as_u64().unwrap() as usize];
            context.export(&bytes(&export["exporter_context"]), &mut out).unwrap();
            assert_eq!(out, bytes(&export["exported_value"]), "{name}: export");
        }
        for message in case["encryptions"].as_array().unwrap() {
            let mut text = bytes(&message["ct"]);
            let tag = AeadTag::<A>::from_bytes(&text.split_off(text.len() - 16)).unwrap();
            context.open_inout_detached(text.as_mut_slice().into(), &bytes(&message["aad"]), &tag).unwrap();
            assert_eq!(text, bytes(&message["pt"]), "{name}: message");
        }
    }
}

#[test]
fn concrete_hybrid_vectors_of_suite_b_and_its_combiner() {
    for case in cases("concrete-hybrid-mlkem768-p256") {
        hybrid_case::<MlKem768P256>(&case);
        let ciphertext = bytes(&case["ciphertext"]);
        let (ct_pq, ct_t) = ciphertext.split_at(1088);
        let secret = p256::SecretKey::from_slice(&bytes(&case["decapsulation_key_t"])).unwrap();
        let point = p256::PublicKey::from_sec1_bytes(ct_t).unwrap();
        let ss_t = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), point.as_affine());
        combiner_case(&case, ct_pq, ss_t.raw_secret_bytes(), ct_t, b"MLKEM768-P256");
    }
}

#[test]
fn concrete_hybrid_vectors_of_suite_a_and_its_combiner() {
    for case in cases("concrete-hybrid-mlkem768-x25519") {
        hybrid_case::<XWing>(&case);
        let ciphertext = bytes(&case["ciphertext"]);
        let (ct_pq, ct_t) = ciphertext.split_at(1088);
        let secret = x25519_dalek::StaticSecret::from(array::<32>(&case["decapsulation_key_t"]));
        let ss_t = secret.diffie_hellman(&x25519_dalek::PublicKey::from(<[u8; 32]>::try_from(ct_t).unwrap()));
        combiner_case(&case, ct_pq, ss_t.as_bytes(), ct_t, br"\.//^\");
    }
}

fn hybrid_case<K: Kem>(case: &Value) {
    let secret = K::PrivateKey::from_bytes(&bytes(&case["seed"])).unwrap();
    let public = K::sk_to_pk(&secret);
    assert_eq!(public.to_bytes().to_vec(), bytes(&case["encapsulation_key"]));
    let mut random = Bytes(bytes(&case["randomness"]).into());
    let (shared, encapsulated) = K::encap_with_rng(&public, None, &mut random).unwrap();
    assert_eq!(encapsulated.to_bytes().to_vec(), bytes(&case["ciphertext"]));
    assert_eq!(shared.0.to_vec(), bytes(&case["shared_secret"]));
    assert_eq!(K::decap(&secret, None, &encapsulated).unwrap().0, shared.0);
}

/// SHA3-256(ss_PQ ‖ ss_T ‖ ct_T ‖ ek_T ‖ label), and either shared secret alone is not enough: without
/// the other the result is another.
fn combiner_case(case: &Value, ct_pq: &[u8], ss_t: &[u8], ct_t: &[u8], label: &[u8]) {
    let seed = array::<64>(&case["decapsulation_key_pq"]);
    let (dk_pq, _) = MlKem768::from_seed(&seed.into());
    let ss_pq = dk_pq.decapsulate(&<[u8; 1088]>::try_from(ct_pq).unwrap().into());
    let ek_t = &bytes(&case["encapsulation_key"])[1184..];
    let combined = |ss_pq: &[u8], ss_t: &[u8]| {
        let parts = [ss_pq, ss_t, ct_t, ek_t, label];
        Sha3_256::digest(parts.concat()).to_vec()
    };
    let shared = bytes(&case["shared_secret"]);
    assert_eq!(combined(&ss_pq, ss_t), shared);
    assert_ne!(combined(&[0; 32], ss_t), shared, "a broken ML-KEM alone");
    assert_ne!(combined(&ss_pq, &[0; 32]), shared, "a broken curve alone");
}

#[test]
fn x_wing_vectors() {
    for case in cases("x-wing") {
        let secret = <XWing as Kem>::PrivateKey::from_bytes(&bytes(&case["sk"])).unwrap();
        let public = XWing::sk_to_pk(&secret);
        assert_eq!(public.to_bytes().to_vec(), bytes(&case["pk"]));
        let mut random = Bytes(bytes(&case["eseed"]).into());
        let (shared, encapsulated) = XWing::encap_with_rng(&public, None, &mut random).unwrap();
        assert_eq!(encapsulated.to_bytes().to_vec(), bytes(&case["ct"]));
        assert_eq!(shared.0.to_vec(), bytes(&case["ss"]));
        assert_eq!(XWing::decap(&secret, None, &encapsulated).unwrap().0, shared.0);
    }
}

/// The sender's direction of the HPKE vectors: `ikmE` is what the encapsulation draws.
#[test]
fn hpke_encapsulation_draws_what_the_vectors_say() {
    fn check<A: Aead, K: Kem>(name: &str) {
        for case in cases(name) {
            let Some(ikm) = case.get("ikmE") else { continue };
            let public = K::PublicKey::from_bytes(&bytes(&case["pkRm"])).unwrap();
            let mut random = Bytes(bytes(ikm).into());
            let (encapsulated, _) =
                setup_sender_with_rng::<A, HkdfSha256, K>(&OpModeS::Base, &public, b"", &mut random).unwrap();
            assert_eq!(encapsulated.to_bytes().to_vec(), bytes(&case["enc"]), "{name}");
        }
    }
    check::<AesGcm128, MlKem768P256>("hpke-pq-mlkem768-p256");
    check::<ChaCha20Poly1305, XWing>("hpke-pq-mlkem768-x25519");
}
