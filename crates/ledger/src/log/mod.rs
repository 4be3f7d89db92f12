//! The append-only log of a relay: entries, RFC 6962 tree, C2SP checkpoints, proofs. `FORMAT.md` has the bytes.
//!
//! What it does not do: no disk, no clock, no random source, no decision about when a head is signed (the relay's
//! `log` does that) or what follows from a misbehaving log (the gateways do that).
//!
//! Read first: [`LogTree`], [`Checkpoint`], [`judge()`].

mod checkpoint;
mod column;
mod entry;
mod judge;
mod note;
mod origin;
mod proof;
mod tile;
mod tlog_proof;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError, CosignError, TreeHead, TreeHeadError};
pub use column::Column;
pub use entry::{Entry, EntryKind, Salt};
pub use judge::{Misbehaviour, Progress, judge};
pub use note::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX, NoteError, NoteLine, SignedNote};
pub use origin::{OriginError, origin, parse_origin};
pub use proof::{ConsistencyError, verify_consistency, verify_inclusion};
pub use tile::{TILE_WIDTH, Tile, TileKind};
pub use tlog_proof::{TLOG_PROOF_PATH_MAX, TlogProof, TlogProofError};
pub use tree::{ENTRY_BYTES, LogTree, empty_root, leaf_hash};
