//! Who a peer is: its key pairs, the card others pin, the fingerprint two people read to each other.
//!
//! A peer signs with two algorithms at once, Ed25519 (RFC 8032) and ML-DSA-65 (FIPS 204), and a
//! signature counts only when both verify, under a [`Context`] that says what was signed.
//!
//! What it does not do: no encryption (the relay links this crate), no network, no random source
//! (seeds are arguments), no clock. Of files it knows one kind, the identity key file.
//!
//! Read first: [`IdentityKey`], [`PeerCard`], [`Context`].

mod card;
mod cbor;
mod context;
mod fingerprint;
mod key;
mod key_file;
mod public;
mod signature;
mod tls;

pub use card::{CardError, CardUpdateError, PeerCard};
pub use context::Context;
pub use fingerprint::{fingerprint_text, fingerprint_words};
pub use key::{IdentityKey, SEEDS_BYTES};
pub use key_file::{KeyFileError, KeyFileFault};
pub use public::{IdentityPublic, VerifyError};
pub use signature::Signature;
