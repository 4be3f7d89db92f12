use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use base::Fingerprint;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Decoder, Encode, Encoder};
use ml_dsa::MlDsa65;
use thiserror::Error;

use crate::{Context, Signature, fingerprint};

/// The public half of an identity. Cloning shares the keys.
#[derive(Clone)]
pub struct IdentityPublic(Arc<Keys>);

struct Keys {
    ed25519: ed25519_dalek::VerifyingKey,
    ml_dsa: ml_dsa::VerifyingKey<MlDsa65>,
    fingerprint: Fingerprint,
}

/// Why a signature does not count, or a key is none. All of them: do not use what came with it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum VerifyError {
    /// The Ed25519 half is wrong.
    #[error("the Ed25519 signature does not verify")]
    Ed25519,
    /// The ML-DSA-65 half is wrong.
    #[error("the ML-DSA-65 signature does not verify")]
    MlDsa,
    /// Not the encoding of an Ed25519 key of full order.
    #[error("not an Ed25519 public key")]
    Key,
}

impl IdentityPublic {
    /// Length of the Ed25519 public key.
    pub const ED25519_BYTES: usize = 32;
    /// Length of the ML-DSA-65 public key (FIPS 204, table 2).
    pub const ML_DSA_BYTES: usize = 1952;

    /// Reads both keys. An Ed25519 key of small order is refused: it would accept signatures that
    /// nobody made.
    pub fn from_keys(
        ed25519: &[u8; Self::ED25519_BYTES],
        ml_dsa: &[u8; Self::ML_DSA_BYTES],
    ) -> Result<Self, VerifyError> {
        let ed = ed25519_key(ed25519)?;
        Ok(Self(Arc::new(Keys {
            ed25519: ed,
            ml_dsa: ml_dsa::VerifyingKey::decode(&(*ml_dsa).into()),
            fingerprint: fingerprint::of_keys(b"sluis/1 identity", ed25519, ml_dsa),
        })))
    }

    /// SHA-256 over both keys: how cards, sessions and the relay name this peer.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// The Ed25519 public key.
    pub fn ed25519(&self) -> [u8; Self::ED25519_BYTES] {
        self.0.ed25519.to_bytes()
    }

    /// The ML-DSA-65 public key.
    pub fn ml_dsa(&self) -> [u8; Self::ML_DSA_BYTES] {
        self.0.ml_dsa.encode().into()
    }

    /// Both signatures must verify, over these bytes and in this context.
    pub fn verify(&self, context: Context, bytes: &[u8], signature: &Signature) -> Result<(), VerifyError> {
        let ed = ed25519_dalek::Signature::from_bytes(&signature.ed25519);
        self.0.ed25519.verify_strict(&context.prefixed(bytes), &ed).map_err(|_| VerifyError::Ed25519)?;
        let ml =
            ml_dsa::Signature::<MlDsa65>::decode(&(**signature.ml_dsa).into()).ok_or(VerifyError::MlDsa)?;
        if !self.0.ml_dsa.verify_with_context(bytes, context.as_str().as_bytes(), &ml) {
            return Err(VerifyError::MlDsa);
        }
        Ok(())
    }
}

/// Reads an Ed25519 key of full order in its one encoding.
pub(crate) fn ed25519_key(bytes: &[u8; 32]) -> Result<ed25519_dalek::VerifyingKey, VerifyError> {
    let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| VerifyError::Key)?;
    // A second encoding of the same point would be a second identity of the same key.
    if key.is_weak() || key.to_edwards().compress().as_bytes() != bytes {
        return Err(VerifyError::Key);
    }
    Ok(key)
}

impl PartialEq for IdentityPublic {
    fn eq(&self, other: &Self) -> bool {
        self.0.fingerprint == other.0.fingerprint
    }
}

impl Eq for IdentityPublic {}

impl Hash for IdentityPublic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.fingerprint.hash(state);
    }
}

impl fmt::Debug for IdentityPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityPublic({})", crate::fingerprint_text(&self.0.fingerprint))
    }
}

impl<C> Encode<C> for IdentityPublic {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?.bytes(&self.ed25519())?.bytes(&self.ml_dsa())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for IdentityPublic {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.array()? != Some(2) {
            return Err(minicbor::decode::Error::message("not a pair of identity keys"));
        }
        let ed25519 = <ByteArray<{ Self::ED25519_BYTES }>>::decode(d, ctx)?;
        let ml_dsa = <ByteArray<{ Self::ML_DSA_BYTES }>>::decode(d, ctx)?;
        Self::from_keys(&ed25519, &ml_dsa)
            .map_err(|_| minicbor::decode::Error::message("not an identity key"))
    }
}
