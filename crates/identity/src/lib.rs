//! Who a peer is: its key pairs, the card others pin, the fingerprint two people read to each other.
//!
//! A peer signs with two algorithms at once, Ed25519 (RFC 8032) and ML-DSA-65 (FIPS 204), and a
//! signature counts only when both verify, under a [`Context`] that says what was signed.
//!
//! A relay's log and the gateways that cosign it have keys of their own, [`LogKey`], whose signatures
//! have the form that other people's log tools read (C2SP signed notes).
//!
//! What it does not do: no encryption (the relay links this crate), no network, no random source
//! (seeds are arguments), no clock. Of files it knows two kinds, identity and log key files.
//!
//! Read first: [`IdentityKey`], [`PeerCard`], [`Context`].

mod card;
mod cbor;
mod context;
mod earlier;
mod fingerprint;
mod key;
mod key_file;
mod log_key;
mod log_public;
mod note;
mod public;
mod signature;
mod tls;

pub use card::{CardError, CardFields, CardUpdateError, PeerCard, Update, Validity};
pub use context::Context;
pub use earlier::{Earlier, Overlap};
pub use fingerprint::{fingerprint_text, fingerprint_words};
pub use key::{IdentityKey, SEEDS_BYTES};
pub use key_file::{KeyFileError, KeyFileFault};
pub use log_key::{LOG_SEEDS_BYTES, LogKey};
pub use log_public::{LogPublic, LogVerifyError};
pub use note::{NoteName, NoteNameError, NoteSignature, SignatureType, SignedHead};
pub use public::{IdentityPublic, VerifyError};
pub use signature::Signature;
