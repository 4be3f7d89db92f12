//! Receipts: what a receiving gateway signs about an instance, and how anybody checks it; and the relay's log.
//!
//! A receiving gateway ends each attempt with one [`Settlement`]: final, deferred or nack. Up to 256 of them share
//! one signature over the root of an RFC 6962 Merkle tree; each carries its own path, so that one file verifies alone.
//! The relay sees settlements only; the [`Receipt`] that a final one commits to travels sealed past it. The sender
//! answers it with a [`Manifest`], signed in batches too: its own word that it sent this. FORMAT.md has the bytes.
//!
//! What it does not do: no clock, no socket, no disk, no random source. It does not decide what a status means (the
//! receiving gateway does) nor what ends custody (the sending gateway does). Of the
//! relay's log it has tree, checkpoints and proofs ([`log`]), not the decision when a head is signed.
//!
//! Read first: [`Receipt`], [`Settlement`], [`ReceiptFile`]; of the log [`log::LogTree`], [`log::Checkpoint`].

mod batch;
mod codec;
mod deferred;
mod file;
pub mod log;
mod log_proof;
mod manifest;
mod pledge;
mod receipt;
mod says;
mod settlement;
pub mod tree;
mod witness;

pub use batch::{BATCH_LEAVES_MAX, BatchError, BatchProof, HEADS_MAX, RootCache, VerifyError};
pub use codec::DecodeError;
pub use deferred::{DeferReason, Deferred};
pub use file::{Cards, Proven, ReceiptFile, ReceiptFileError};
pub use log_proof::{LogProof, LogProofError};
pub use manifest::{Manifest, ManifestCore, sign_manifests};
pub use pledge::Pledge;
pub use receipt::{Changed, Destination, Expectation, Level, Mismatch, Outcome, Party, Receipt, Remark};
pub use settlement::{Class, NackReason, Settlement, SettlementCore, sign_batch};
pub use witness::{Breach, Disbelief, Distrust, Head, Seen, Witness};
