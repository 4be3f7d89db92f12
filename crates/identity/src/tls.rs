//! The two DER wrappers of an Ed25519 key that TLS libraries take (RFC 8410 §4 and §7). Both have a
//! fixed length, so they are a constant followed by the key.

use base::Secret;
use zeroize::Zeroize;

const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// PrivateKeyInfo of an Ed25519 seed.
pub(crate) fn pkcs8(seed: &Secret<[u8; 32]>) -> Secret<Vec<u8>> {
    let mut der = Vec::with_capacity(PKCS8_PREFIX.len() + 32);
    der.extend_from_slice(&PKCS8_PREFIX);
    der.extend_from_slice(seed.expose());
    Secret::new(der)
}

/// SubjectPublicKeyInfo that belongs to an Ed25519 seed.
pub(crate) fn spki(seed: &Secret<[u8; 32]>) -> Vec<u8> {
    let mut bytes = *seed.expose();
    let public = ed25519_dalek::SigningKey::from_bytes(&bytes).verifying_key();
    bytes.zeroize();
    let mut der = Vec::with_capacity(SPKI_PREFIX.len() + 32);
    der.extend_from_slice(&SPKI_PREFIX);
    der.extend_from_slice(public.as_bytes());
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410 §10.3 and §10.1: the same key pair as private and as public key.
    #[test]
    fn wrappers_match_the_example_of_rfc_8410() {
        let seed = "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";
        let mut bytes = [0; 32];
        hex::decode_to_slice(seed, &mut bytes).unwrap();
        let seed = Secret::new(bytes);
        let private = "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";
        let public =
            "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        assert_eq!(hex::encode(pkcs8(&seed).expose()), private);
        assert_eq!(hex::encode(spki(&seed)), public);
    }
}
