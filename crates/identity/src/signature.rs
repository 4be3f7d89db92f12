use std::fmt;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

/// A signature by both algorithms over the same bytes and context.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Signature {
    /// Ed25519 over the padded context followed by the bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub ed25519: [u8; Self::ED25519_BYTES],
    /// ML-DSA-65 over the bytes with the context as `ctx`.
    #[n(1)]
    pub ml_dsa: Box<ByteArray<{ Self::ML_DSA_BYTES }>>,
}

impl Signature {
    /// Length of an Ed25519 signature.
    pub const ED25519_BYTES: usize = 64;
    /// Length of an ML-DSA-65 signature (FIPS 204, table 2).
    pub const ML_DSA_BYTES: usize = 3309;
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature")
    }
}
