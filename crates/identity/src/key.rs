use std::fmt;
use std::path::Path;

use base::{Fingerprint, Name, Secret};
use ed25519_dalek::Signer;
use minicbor::bytes::ByteArray;
use ml_dsa::MlDsa65;

use crate::key_file::{self, Content, Form};
use crate::{
    CardFields, Context, IdentityPublic, KeyFileError, Overlap, PeerCard, Signature, fingerprint_text, tls,
};

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

const FILE: Form<3> = Form {
    kind: "identity key file",
    first_line: "sluis identity key 1",
    note: "Whoever has this file can act as this peer. Keep a copy in a safe place.",
    fields: ["ed25519", "ml-dsa-65", "tls"],
    check: b"sluis/1 identity key file",
};

impl IdentityKey {
    /// Makes an identity from random bytes, which the caller takes from the operating system.
    pub fn generate(name: Name, seeds: &Secret<[u8; SEEDS_BYTES]>) -> Self {
        let (parts, _) = seeds.expose().as_chunks::<32>();
        let mut parts = parts.iter().map(|part| Secret::new(*part));
        let mut next = || parts.next().unwrap_or_else(|| Secret::new([0; 32]));
        Self::from_seeds(name, [next(), next(), next()])
    }

    fn from_seeds(name: Name, [ed25519, ml_dsa, tls_seed]: [Secret<[u8; 32]>; 3]) -> Self {
        let ed25519 = ed25519_dalek::SigningKey::from_bytes(ed25519.expose());
        let ml_dsa = Box::new(ml_dsa::SigningKey::<MlDsa65>::from_seed(ml_dsa.expose().into()));
        let public_ed25519 = ed25519.verifying_key().to_bytes();
        let public_ml_dsa = ml_dsa.as_ref().as_ref().encode().into();
        #[expect(clippy::expect_used, reason = "a clamped scalar times the base point has full order")]
        let public =
            IdentityPublic::from_keys(&public_ed25519, &public_ml_dsa).expect("own public keys are valid");
        Self { name, ed25519, ml_dsa, tls_seed, public }
    }

    /// Reads an identity key file. Refuses one that others can read.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let Content { name, seeds } = key_file::load(&FILE, path)?;
        Ok(Self::from_seeds(name, seeds))
    }

    /// Writes an identity key file that only its owner can read. It appears complete or not at all,
    /// and never replaces a file.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let seeds = [
            Secret::new(self.ed25519.to_bytes()),
            Secret::new((*self.ml_dsa.as_seed()).into()),
            self.tls_seed.clone(),
        ];
        let content = Content { name: self.name.clone(), seeds };
        key_file::save(&FILE, &content, &fingerprint_text(&self.fingerprint()), path)
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

    /// This peer's card, signed over these fields and the peer's name and keys.
    pub fn card(&self, fields: CardFields) -> PeerCard {
        PeerCard::sign(self, fields)
    }

    /// The card by which these keys follow on `earlier`, which signs it as well. `pinned` is the card that peers have of the
    /// earlier keys.
    pub fn succeed(
        &self,
        earlier: &Self,
        pinned: &PeerCard,
        fields: CardFields,
        overlap: Overlap,
    ) -> PeerCard {
        PeerCard::sign_successor(self, earlier, pinned, fields, overlap)
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({}, {:?})", self.name, self.public)
    }
}
