use std::fmt;
use std::sync::Arc;

use base::{Digest, Fingerprint};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Decoder, Encode, Encoder};
use ml_dsa::MlDsa44;
use thiserror::Error;

use crate::note::cosigned_text;
use crate::public::ed25519_key;
use crate::{NoteName, SignatureType, SignedHead, VerifyError, fingerprint};

/// The public half of a log key. Cloning shares the keys.
#[derive(Clone)]
pub struct LogPublic(Arc<Keys>);

struct Keys {
    ed25519: ed25519_dalek::VerifyingKey,
    ml_dsa: ml_dsa::VerifyingKey<MlDsa44>,
    fingerprint: Fingerprint,
}

/// Why a signature of a note does not count. All of them: do not use what was signed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LogVerifyError {
    /// Not as long as a signature of its type.
    #[error("the signature has {given} bytes instead of {expected}")]
    Length {
        /// Bytes given.
        given: usize,
        /// Bytes of that type, with the time.
        expected: usize,
    },
    /// Made at another time, with another key, or over something else.
    #[error("the signature of the note does not verify")]
    Signature,
}

impl LogPublic {
    /// Length of the Ed25519 public key.
    pub const ED25519_BYTES: usize = 32;
    /// Length of the ML-DSA-44 public key (FIPS 204, table 2).
    pub const ML_DSA_BYTES: usize = 1312;
    /// Length of an Ed25519 signature.
    pub const ED25519_SIGNATURE_BYTES: usize = 64;
    /// Length of an ML-DSA-44 signature (FIPS 204, table 2).
    pub const ML_DSA_SIGNATURE_BYTES: usize = 2420;
    const TIME_BYTES: usize = 8;

    /// Reads both keys; see [`crate::IdentityPublic::from_keys`].
    pub fn from_keys(
        ed25519: &[u8; Self::ED25519_BYTES],
        ml_dsa: &[u8; Self::ML_DSA_BYTES],
    ) -> Result<Self, VerifyError> {
        Ok(Self(Arc::new(Keys {
            ed25519: ed25519_key(ed25519)?,
            ml_dsa: ml_dsa::VerifyingKey::decode(&(*ml_dsa).into()),
            fingerprint: fingerprint::of_keys(b"sluis/1 log key", ed25519, ml_dsa),
        })))
    }

    /// SHA-256 over both keys.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// The Ed25519 public key.
    pub fn ed25519(&self) -> [u8; Self::ED25519_BYTES] {
        self.0.ed25519.to_bytes()
    }

    /// The ML-DSA-44 public key.
    pub fn ml_dsa(&self) -> [u8; Self::ML_DSA_BYTES] {
        self.0.ml_dsa.encode().into()
    }

    /// What a note calls the key: the first four bytes of SHA-256(name, line end, type, key).
    pub fn key_id(&self, kind: SignatureType, name: &NoteName) -> [u8; 4] {
        let hashed = [name.as_str().as_bytes(), b"\n", &self.typed_key(kind)].concat();
        let Digest(digest) = Digest::of(&hashed);
        *digest.first_chunk().unwrap_or(&[0; 4])
    }

    /// The key as one line for the command lines of other log tools: `name+id+base64(type, key)`.
    pub fn verifier_key(&self, kind: SignatureType, name: &NoteName) -> String {
        let (id, key) = (hex::encode(self.key_id(kind, name)), STANDARD.encode(self.typed_key(kind)));
        format!("{name}+{id}+{key}")
    }

    fn typed_key(&self, kind: SignatureType) -> Vec<u8> {
        let mut typed = vec![kind.code()];
        match kind {
            SignatureType::Ed25519 | SignatureType::Ed25519Cosignature => typed.extend(self.ed25519()),
            SignatureType::MlDsa44Cosignature => typed.extend(self.ml_dsa()),
        }
        typed
    }

    /// Checks a type 0x01 signature over a note's text.
    pub fn verify_note(&self, text: &str, signature: &[u8]) -> Result<(), LogVerifyError> {
        let signature = exactly::<{ Self::ED25519_SIGNATURE_BYTES }>(signature)?;
        self.verify_ed25519(text.as_bytes(), &signature)
    }

    /// Checks a type 0x04 cosignature over a note's text; gives its time in seconds since 1970.
    pub fn verify_cosigned_note(&self, text: &str, signature: &[u8]) -> Result<u64, LogVerifyError> {
        let signature = exactly::<{ Self::TIME_BYTES + Self::ED25519_SIGNATURE_BYTES }>(signature)?;
        let (time_s, signature) = untimed(&signature);
        let signature = exactly::<{ Self::ED25519_SIGNATURE_BYTES }>(signature)?;
        self.verify_ed25519(cosigned_text(time_s, text).as_bytes(), &signature)?;
        Ok(time_s)
    }

    /// Checks a type 0x06 signature over a tree head, whose time must be the one in the signature.
    pub fn verify_head(&self, head: &SignedHead<'_>, signature: &[u8]) -> Result<(), LogVerifyError> {
        let signature = exactly::<{ Self::TIME_BYTES + Self::ML_DSA_SIGNATURE_BYTES }>(signature)?;
        let (time_s, signature) = untimed(&signature);
        let signature = exactly::<{ Self::ML_DSA_SIGNATURE_BYTES }>(signature)?;
        let decoded = ml_dsa::Signature::<MlDsa44>::decode(&signature.into());
        let verifies = |signature| {
            time_s == head.time_s && self.0.ml_dsa.verify_with_context(&head.message(), &[], &signature)
        };
        if decoded.is_some_and(verifies) { Ok(()) } else { Err(LogVerifyError::Signature) }
    }

    fn verify_ed25519(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), LogVerifyError> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.ed25519.verify_strict(message, &signature).map_err(|_| LogVerifyError::Signature)
    }
}

fn exactly<const N: usize>(signature: &[u8]) -> Result<[u8; N], LogVerifyError> {
    signature.try_into().map_err(|_| LogVerifyError::Length { given: signature.len(), expected: N })
}

fn untimed(signature: &[u8]) -> (u64, &[u8]) {
    match signature.split_first_chunk() {
        Some((time, rest)) => (u64::from_be_bytes(*time), rest),
        None => (0, signature),
    }
}

impl PartialEq for LogPublic {
    fn eq(&self, other: &Self) -> bool {
        self.0.fingerprint == other.0.fingerprint
    }
}

impl Eq for LogPublic {}

impl fmt::Debug for LogPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogPublic({})", crate::fingerprint_text(&self.0.fingerprint))
    }
}

impl<C> Encode<C> for LogPublic {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?.bytes(&self.ed25519())?.bytes(&self.ml_dsa())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for LogPublic {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.array()? != Some(2) {
            return Err(minicbor::decode::Error::message("not a pair of log keys"));
        }
        let ed25519 = <ByteArray<{ Self::ED25519_BYTES }>>::decode(d, ctx)?;
        let ml_dsa = <ByteArray<{ Self::ML_DSA_BYTES }>>::decode(d, ctx)?;
        Self::from_keys(&ed25519, &ml_dsa).map_err(|_| minicbor::decode::Error::message("not a log key"))
    }
}
