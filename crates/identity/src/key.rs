use std::fmt;
use std::path::Path;

use base::{Fingerprint, Name, Secret};
use ed25519_dalek::Signer;
use minicbor::bytes::ByteArray;
use ml_dsa::MlDsa65;

use crate::{Context, IdentityPublic, KeyFileError, PeerCard, Signature, key_file, tls};

/// Random bytes that make an identity: one 32-byte seed for each of its three keys.
pub const SEEDS_BYTES: usize = 96;

/// The secret half of an identity: the two signing keys, the TLS key beside them, and the name of the
/// peer they belong to. Wiped when dropped.
pub struct IdentityKey {
    name: Name,
    ed25519: ed25519_dalek::SigningKey,
    ml_dsa: Box<ml_dsa::SigningKey<MlDsa65>>,
    tls_seed: Secret<[u8; 32]>,
    public: IdentityPublic,
}

pub(crate) struct Seeds {
    pub(crate) ed25519: Secret<[u8; 32]>,
    pub(crate) ml_dsa: Secret<[u8; 32]>,
    pub(crate) tls: Secret<[u8; 32]>,
}

impl IdentityKey {
    /// Makes an identity from random bytes, which the caller takes from the operating system.
    pub fn generate(name: Name, seeds: &Secret<[u8; SEEDS_BYTES]>) -> Self {
        let (parts, _) = seeds.expose().as_chunks::<32>();
        let mut parts = parts.iter().map(|part| Secret::new(*part));
        let mut next = || parts.next().unwrap_or_else(|| Secret::new([0; 32]));
        Self::from_seeds(name, Seeds { ed25519: next(), ml_dsa: next(), tls: next() })
    }

    pub(crate) fn from_seeds(name: Name, seeds: Seeds) -> Self {
        let ed25519 = ed25519_dalek::SigningKey::from_bytes(seeds.ed25519.expose());
        let ml_dsa = Box::new(ml_dsa::SigningKey::<MlDsa65>::from_seed(seeds.ml_dsa.expose().into()));
        let public_ed25519 = ed25519.verifying_key().to_bytes();
        let public_ml_dsa = ml_dsa.as_ref().as_ref().encode().into();
        #[expect(clippy::expect_used, reason = "a clamped scalar times the base point has full order")]
        let public =
            IdentityPublic::from_keys(&public_ed25519, &public_ml_dsa).expect("own public keys are valid");
        Self { name, ed25519, ml_dsa, tls_seed: seeds.tls, public }
    }

    pub(crate) fn seeds(&self) -> Seeds {
        Seeds {
            ed25519: Secret::new(self.ed25519.to_bytes()),
            ml_dsa: Secret::new((*self.ml_dsa.as_seed()).into()),
            tls: self.tls_seed.clone(),
        }
    }

    /// Reads an identity key file. Refuses one that others can read.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        key_file::load(path)
    }

    /// Writes an identity key file that only its owner can read. It appears complete or not at all,
    /// and never replaces a file.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        key_file::save(self, path)
    }

    /// The peer this key belongs to.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The public half.
    pub fn public(&self) -> &IdentityPublic {
        &self.public
    }

    /// SHA-256 over the public keys.
    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }

    /// Signs with both keys. ML-DSA in its deterministic variant (FIPS 204 §3.4), as no random source
    /// is at hand here; Ed25519 is deterministic anyway.
    pub fn sign(&self, context: Context, bytes: &[u8]) -> Signature {
        let ed25519 = self.ed25519.sign(&context.prefixed(bytes)).to_bytes();
        #[expect(
            clippy::expect_used,
            reason = "ML-DSA refuses only a ctx above 255 bytes; Context has at most 32"
        )]
        let ml_dsa = self
            .ml_dsa
            .expanded_key()
            .sign_deterministic(bytes, context.as_str().as_bytes())
            .expect("a context fits ML-DSA's ctx");
        Signature {
            ed25519,
            ml_dsa: Box::new(ByteArray::from(<[u8; Signature::ML_DSA_BYTES]>::from(ml_dsa.encode()))),
        }
    }

    /// The TLS private key as PKCS#8 DER (Ed25519).
    pub fn tls_pkcs8(&self) -> Secret<Vec<u8>> {
        tls::pkcs8(&self.tls_seed)
    }

    /// The TLS public key as SubjectPublicKeyInfo DER: what peers pin (RFC 7250).
    pub fn tls_spki(&self) -> Vec<u8> {
        tls::spki(&self.tls_seed)
    }

    /// The same identity with another TLS key; peers learn of it by a card with a higher serial.
    #[must_use]
    pub fn with_tls_seed(self, tls_seed: Secret<[u8; 32]>) -> Self {
        Self { tls_seed, ..self }
    }

    /// This peer's card. `suites` are codes of envelope suites, `serial` must be higher than that of
    /// any card given out before.
    pub fn card(&self, serial: u64, suites: &[u8]) -> PeerCard {
        PeerCard::sign(self, serial, suites)
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({}, {:?})", self.name, self.public)
    }
}
