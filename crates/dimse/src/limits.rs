//! The named limits of this crate.

use std::time::Duration;

/// The longest A-ASSOCIATE-RQ or -AC. 255 contexts with 60 transfer syntaxes each stay below it.
pub const ASSOCIATE_BYTES_MAX: u32 = 1024 * 1024;
/// The longest of the short PDUs (A-ASSOCIATE-RJ, A-RELEASE, A-ABORT): their body has four bytes.
pub const SHORT_PDU_BYTES_MAX: u32 = 64;
/// The least maximum PDU length that we announce, but for 0 (no limit).
pub const MAX_PDU_MIN: u32 = 4 * 1024;
/// The greatest maximum PDU length that we announce, and the longest PDU that we send.
pub const MAX_PDU_MAX: u32 = 1024 * 1024;
/// What we announce by default.
pub const MAX_PDU_DEFAULT: u32 = 256 * 1024;
/// A peer that announces less than this (and not 0) cannot even be sent a command in reason.
pub const PEER_MAX_PDU_MIN: u32 = 128;
/// The longest command set. A C-STORE-RQ has about 250 bytes.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;
/// A longer PDV is handed on in pieces of at least this size, so that what is buffered does not grow with
/// the PDU: also where we announce no limit and a peer sends one instance in one PDU.
pub const PIECE_BYTES: usize = 64 * 1024;
/// What is asked of the socket at once.
pub const READ_BYTES: usize = 256 * 1024;
/// The same before an association exists.
pub const HANDSHAKE_READ_BYTES: usize = 8 * 1024;
/// A PDU longer than this may take the progress time again for each such part of it.
pub const PROGRESS_BYTES: u64 = 1024 * 1024;
/// What is given to the socket under one write time-out.
pub const WRITE_BATCH_BYTES: usize = 1024 * 1024;
/// Presentation contexts that a requestor can propose (PS3.8 §9.3.2.2: odd ids of one byte).
pub const CONTEXTS_MAX: usize = 128;
/// An error comment (0000,0902) is an LO.
pub const COMMENT_CHARACTERS_MAX: usize = 64;
/// After an A-ABORT or A-ASSOCIATE-RJ: how long we wait for the peer to close, so that it can read ours.
pub const LINGER: Duration = Duration::from_secs(1);
/// What is read and thrown away meanwhile.
pub const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a requestor waits for the A-RELEASE-RP.
pub const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest data set of an N-EVENT-REPORT that a requestor takes: a storage commitment of 100,000 instances.
pub const EVENT_REPORT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// N-EVENT-REPORTs that a requestor keeps while it waits for another answer.
pub const EVENT_REPORTS_MAX: usize = 16;
