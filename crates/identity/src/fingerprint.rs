use base::{Digest, Fingerprint, Hasher};
use bip39::{Language, Mnemonic};

/// Bytes of a fingerprint that a person compares: 128 bits, so that finding another key that shows
/// the same text takes 2^128 attempts.
const SHOWN_BYTES: usize = 16;

pub(crate) fn of_keys(domain: &[u8], ed25519: &[u8], ml_dsa: &[u8]) -> Fingerprint {
    let mut hasher = Hasher::new(domain);
    hasher.field(ed25519);
    hasher.field(ml_dsa);
    let Digest(bytes) = hasher.finish();
    Fingerprint(bytes)
}

/// The first 128 bits in eight groups of four hexadecimal digits, for a screen or a telephone call.
pub fn fingerprint_text(fingerprint: &Fingerprint) -> String {
    let shown = fingerprint.0.first_chunk::<SHOWN_BYTES>().unwrap_or(&[0; SHOWN_BYTES]);
    let groups: Vec<String> = shown.chunks(2).map(hex::encode).collect();
    groups.join("-")
}

/// The first 128 bits as twelve words of the English BIP-39 list; the last word holds a checksum, so
/// that one word heard wrong is likely to be noticed.
pub fn fingerprint_words(fingerprint: &Fingerprint) -> String {
    let shown = fingerprint.0.first_chunk::<SHOWN_BYTES>().unwrap_or(&[0; SHOWN_BYTES]);
    #[expect(clippy::expect_used, reason = "128 bits is one of the entropy lengths of BIP-39")]
    let mnemonic = Mnemonic::from_entropy_in(Language::English, shown).expect("128 bits have words");
    let words: Vec<&str> = mnemonic.words().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_words_show_the_first_128_bits() {
        let mut bytes = [0x7f; 32];
        assert_eq!(
            fingerprint_words(&Fingerprint(bytes)),
            // Test vector of BIP-39 (trezor/python-mnemonic, vectors.json).
            "legal winner thank year wave sausage worth useful legal winner thank yellow"
        );
        assert_eq!(fingerprint_text(&Fingerprint(bytes)), "7f7f-7f7f-7f7f-7f7f-7f7f-7f7f-7f7f-7f7f");
        bytes[15] = 0x7e;
        assert_ne!(fingerprint_words(&Fingerprint(bytes)), fingerprint_words(&Fingerprint([0x7f; 32])));
        assert_ne!(fingerprint_text(&Fingerprint(bytes)), fingerprint_text(&Fingerprint([0x7f; 32])));
    }
}
