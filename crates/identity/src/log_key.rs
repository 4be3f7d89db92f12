use std::fmt;
use std::path::Path;

use base::{Fingerprint, Name, Secret};
use ed25519_dalek::Signer as _;
use ml_dsa::MlDsa44;

use crate::key_file::{self, Content, Form};
use crate::note::cosigned_text;
use crate::{KeyFileError, LogPublic, NoteName, NoteSignature, SignatureType, SignedHead, fingerprint_text};

/// Random bytes that make a log key: one 32-byte seed for each of its two keys.
pub const LOG_SEEDS_BYTES: usize = 64;

/// The secret half of a log key: what a relay signs its log with, and a gateway the heads that it has
/// found consistent. Apart from the identity, since it signs in other people's formats. Wiped when
/// dropped.
pub struct LogKey {
    name: Name,
    ed25519: ed25519_dalek::SigningKey,
    ml_dsa: Box<ml_dsa::SigningKey<MlDsa44>>,
    public: LogPublic,
}

const FILE: Form<2> = Form {
    kind: "log key file",
    first_line: "sluis log key 1",
    note: "Whoever has this file can sign tree heads as this peer. Keep a copy in a safe place.",
    fields: ["ed25519", "ml-dsa-44"],
    check: b"sluis/1 log key file",
};

impl LogKey {
    /// Makes a log key from random bytes, which the caller takes from the operating system.
    pub fn generate(name: Name, seeds: &Secret<[u8; LOG_SEEDS_BYTES]>) -> Self {
        let (parts, _) = seeds.expose().as_chunks::<32>();
        let mut parts = parts.iter().map(|part| Secret::new(*part));
        let mut next = || parts.next().unwrap_or_else(|| Secret::new([0; 32]));
        Self::from_seeds(name, [next(), next()])
    }

    fn from_seeds(name: Name, [ed25519, ml_dsa]: [Secret<[u8; 32]>; 2]) -> Self {
        let ed25519 = ed25519_dalek::SigningKey::from_bytes(ed25519.expose());
        let ml_dsa = Box::new(ml_dsa::SigningKey::<MlDsa44>::from_seed(ml_dsa.expose().into()));
        let public_ml_dsa = ml_dsa.as_ref().as_ref().encode().into();
        #[expect(clippy::expect_used, reason = "a clamped scalar times the base point has full order")]
        let public = LogPublic::from_keys(&ed25519.verifying_key().to_bytes(), &public_ml_dsa)
            .expect("own public keys are valid");
        Self { name, ed25519, ml_dsa, public }
    }

    /// Reads a log key file. Refuses one that others can read.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let Content { name, seeds } = key_file::load(&FILE, path)?;
        Ok(Self::from_seeds(name, seeds))
    }

    /// Writes a log key file that only its owner can read. It appears complete or not at all, and never
    /// replaces a file.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let seeds = [Secret::new(self.ed25519.to_bytes()), Secret::new((*self.ml_dsa.as_seed()).into())];
        let content = Content { name: self.name.clone(), seeds };
        key_file::save(&FILE, &content, &fingerprint_text(&self.fingerprint()), path)
    }

    /// The peer this key belongs to.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The public half, as it stands in the peer's card.
    pub fn public(&self) -> &LogPublic {
        &self.public
    }

    /// SHA-256 over the public keys.
    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }

    /// A log's own Ed25519 signature (type 0x01) over a note's text, under the key name `signer`.
    pub fn sign_note(&self, signer: &NoteName, text: &str) -> NoteSignature {
        let signature = self.ed25519.sign(text.as_bytes()).to_bytes();
        self.signature(SignatureType::Ed25519, signer, signature.to_vec())
    }

    /// An Ed25519 cosignature (type 0x04) over a note's text, made at `time_s`.
    pub fn cosign_note(&self, signer: &NoteName, time_s: u64, text: &str) -> NoteSignature {
        let signature = self.ed25519.sign(cosigned_text(time_s, text).as_bytes()).to_bytes();
        self.signature(SignatureType::Ed25519Cosignature, signer, timed(time_s, &signature))
    }

    /// An ML-DSA-44 signature (type 0x06) over a tree head. Deterministic (FIPS 204 §3.4), with an
    /// empty `ctx`, as tlog-cosignature wants it: the label is in the message.
    pub fn sign_head(&self, head: &SignedHead<'_>) -> NoteSignature {
        #[expect(clippy::expect_used, reason = "ML-DSA refuses only a ctx above 255 bytes")]
        let signature = self
            .ml_dsa
            .expanded_key()
            .sign_deterministic(&head.message(), &[])
            .expect("an empty context fits ML-DSA's ctx");
        let bytes = timed(head.time_s, &signature.encode());
        self.signature(SignatureType::MlDsa44Cosignature, head.signer, bytes)
    }

    fn signature(&self, kind: SignatureType, signer: &NoteName, bytes: Vec<u8>) -> NoteSignature {
        NoteSignature { kind, key_id: self.public.key_id(kind, signer), bytes }
    }
}

fn timed(time_s: u64, signature: &[u8]) -> Vec<u8> {
    [&time_s.to_be_bytes(), signature].concat()
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({}, {:?})", self.name, self.public)
    }
}
