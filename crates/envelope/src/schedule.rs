//! Keys that follow from a content key.

use std::fmt;

use base::{DeliveryId, Digest, ObjectId, Secret};
use hkdf::Hkdf;
use minicbor::{Decode, Encode};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::{FORMAT_VERSION, Suite};

/// What a body is bound to besides its content key. A body opens only in the context it was sealed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct BodyContext {
    /// The suite whose AEAD seals the body: that of every route it goes to.
    #[n(0)]
    pub suite: Suite,
    /// The object.
    #[n(1)]
    pub object: ObjectId,
    /// Digest of the pseudonymization profile that was applied; that of no bytes where none was.
    #[n(2)]
    pub profile: Digest,
}

/// Ties a body to exactly one content key and context: no second key opens the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Commitment(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl Commitment {
    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Commitment(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

pub(crate) struct BodyKeys {
    pub(crate) key: Secret<[u8; 32]>,
    pub(crate) commitment: Commitment,
}

const BODY_SALT: &[u8] = b"sluis/1 content key";
const CONTEXT_BYTES: usize = 2 + ObjectId::LEN + Digest::LEN;

impl BodyContext {
    /// Fixed length, so that label and context cannot run into each other.
    fn bytes(&self) -> [u8; CONTEXT_BYTES] {
        let mut bytes = [0; CONTEXT_BYTES];
        let parts = [&[FORMAT_VERSION, self.suite.code()][..], &self.object.0, &self.profile.0];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    /// Key and commitment are outputs of one HKDF under different labels: finding two content keys
    /// with the same commitment takes a collision of SHA-256.
    pub(crate) fn body_keys(&self, content_key: &Secret<[u8; 32]>) -> BodyKeys {
        let hkdf = Hkdf::<Sha256>::new(Some(BODY_SALT), content_key.expose());
        let context = self.bytes();
        BodyKeys {
            key: Secret::new(expand(&hkdf, &[b"body key\0", &context])),
            commitment: Commitment(expand(&hkdf, &[b"commitment\0", &context])),
        }
    }

    /// One key for each (delivery, attempt, salt): with a fresh salt it seals one message.
    pub(crate) fn record_key(
        &self,
        content_key: &Secret<[u8; 32]>,
        delivery: DeliveryId,
        attempt: base::Attempt,
        salt: &[u8; 32],
    ) -> Secret<[u8; 32]> {
        let hkdf = Hkdf::<Sha256>::new(Some(salt), content_key.expose());
        let attempt = attempt.0.to_be_bytes();
        Secret::new(expand(&hkdf, &[b"sluis/1 record\0", &self.bytes(), &delivery.0, &attempt]))
    }
}

pub(crate) fn expand(hkdf: &Hkdf<Sha256>, info: &[&[u8]]) -> [u8; 32] {
    let mut key = [0; 32];
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 refuses only outputs above 8160 bytes")]
    hkdf.expand_multi_info(info, &mut key).expect("32 bytes can be expanded");
    key
}
