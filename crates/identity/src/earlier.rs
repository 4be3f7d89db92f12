use base::Timestamp;
use minicbor::{Decode, Encode};

use crate::{IdentityPublic, LogPublic};

/// The keys that a peer had before it rotated them, as its card names them: good beside the new ones for a while.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Earlier {
    /// Its identity keys. They have signed the card that names them.
    #[n(0)]
    pub identity: IdentityPublic,
    /// Its TLS key, SubjectPublicKeyInfo DER.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub tls_spki: Vec<u8>,
    /// Its log key.
    #[n(2)]
    pub log: Option<LogPublic>,
    /// When the peer begins to use its new keys. Whoever has not taken the card until then does not know them.
    #[n(3)]
    pub switch: Timestamp,
    /// When these stop to count.
    #[n(4)]
    pub until: Timestamp,
}

/// The times of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// As [`Earlier::switch`].
    pub switch: Timestamp,
    /// As [`Earlier::until`]; not before `switch`.
    pub until: Timestamp,
}
