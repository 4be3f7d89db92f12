//! The protocol between a gateway and a relay (ALPN `sluis/1`): frames, the layout of a body stream, and
//! the accounting each side keeps of one transfer.
//!
//! ```text
//!  sender                     relay                      recipient
//!    │ Hello ───────────────▶ │ ◀──────────────── Hello   │
//!    │ ◀────────────── Welcome│Welcome ─────────────────▶ │
//!    │                        │ ◀─────────────── Publish  │  prekey bundles, per route
//!    │ PrekeyRequest ───────▶ │ ◀──────────────── Window  │  how many deliveries a route may run
//!    │ ◀─────────────── Prekey│                           │
//!    │ Offer ───────────────▶ │  (admitted)               │
//!    │ ◀──────────────── Grant│Offer ───────────────────▶ │  a lease
//!    │                        │ ◀───────────────── Grant  │
//!    │ ══ body, digest, FIN ═▶│══ body, digest, FIN ════▶ │  cut through: while still receiving
//!    │ ◀──────────── Deposited│                           │
//!    │ ◀──────────── Collected│ ◀──────────────── Renew   │  while the destination is at work
//!    │                        │ ◀──────────── Settlement  │  signed: only this burns the relay's copy
//!    │ ◀─────────── Settlement│                           │
//!    │ Ack ─────────────────▶ │Acked ───────────────────▶ │
//!    │ ◀───── LogHead, Logged │LogHead, Logged ─────────▶ │  the settlement is in the relay's log
//!    │ Witness ─────────────▶ │ ◀──────────────── Witness │  seen, consistent, cosigned
//!    │ Resubmit ────────────▶ │ ◀─────────────── Resubmit │  a settlement whose place was not proved
//!    │ Ask ─────────────────▶ │Ask ─────────────────────▶ │  a sealed question, beside all deliveries
//!    │ ◀────────────── Answer │ ◀───────────────── Answer │  never kept at the relay
//! ```
//!
//! One bidirectional stream, opened by the gateway, carries the frames; one unidirectional stream per
//! body carries the transfer id, the sealed bytes and their digest. A sender sends only what it was
//! granted, so that nobody ever has to leave a stream unread.
//!
//! What it does not do: no socket, no clock, no task, no random bytes, no signature. It does not know
//! what a body, a header, a bundle or a settlement contains, and it decides nothing about custody: what
//! burns a blob is the relay's `vault`. An `Ack` of a receipt carries the sender's countersignature.
//!
//! Read first: [`SenderFrame`] and [`ToSender`] (and their two sisters), [`Deposit`], [`Shares`].

mod body;
mod code;
mod codec;
mod collect;
mod custody;
mod deposit;
mod frame;
mod shares;
mod urgency;

pub use body::{BodyDecoder, BodyError, PREAMBLE_BYTES, TRAILER_BYTES, preamble, transfer_of};
pub use code::{CloseCode, DeclineCode, NoticeKind, RelayState, Role, StreamCode, UnansweredCode};
pub use codec::{FrameDecoder, FrameError, encode_frame};
pub use collect::{Collect, CollectError};
pub use custody::{Inflow, Outflow};
pub use deposit::{Deposit, Verdict};
pub use frame::{
    Greeting, Hello, LogHead, Logged, Octets, RecipientFrame, SenderFrame, ToRecipient, ToSender, Transfer,
};
pub use shares::Shares;
pub use urgency::Urgency;

use thiserror::Error;

/// The application protocol of the TLS handshake.
pub const ALPN: &[u8] = b"sluis/1";
/// The version a [`Hello`] names.
pub const PROTOCOL: u16 = 1;

/// The longest header of an offer: a session opening with its two signatures and the wrapped key need less than 8 KiB.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The longest settlement together with its sealed record.
pub const SETTLEMENT_BYTES_MAX: usize = 32 * 1024;
/// The longest prekey bundle (a suite B bundle with both signatures is 5 KiB).
pub const BUNDLE_BYTES_MAX: usize = 16 * 1024;
/// Prekey bundles of one `Publish` frame.
pub const BUNDLES_PER_FRAME_MAX: usize = 8;
/// The longest manifest of an acknowledgement: two signatures and a path.
pub const MANIFEST_BYTES_MAX: usize = 8 * 1024;
/// The longest checkpoint, with the signatures of the log and of one gateway.
pub const CHECKPOINT_BYTES_MAX: usize = 16 * 1024;
/// The longest forwarded session close.
pub const SESSION_CLOSE_BYTES_MAX: usize = 8 * 1024;
/// The longest sealed question: as a header, with a session opening or without.
pub const QUESTION_BYTES_MAX: usize = 8 * 1024;
/// The longest sealed answer: three blocks of 16 KiB, and what sealing adds.
pub const ANSWER_BYTES_MAX: usize = 48 * 1024 + 64;
/// The longest that a question may wait for its answer.
pub const ASK_MS_MAX: u32 = 30_000;
/// Leases named by one `Renew` frame.
pub const RENEWED_PER_FRAME_MAX: usize = 4096;
/// The longest text of a `Bye`.
pub const BYE_TEXT_BYTES_MAX: usize = 200;

/// The peer broke the protocol; its connection or its transfer ends.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// More body bytes than were granted.
    #[error("the peer sent {received} body bytes of transfer {transfer} where {granted} were granted")]
    BeyondGrant {
        /// The transfer.
        transfer: Transfer,
        /// Bytes received with the offending ones.
        received: u64,
        /// Bytes granted so far.
        granted: u64,
    },
    /// A body of another length than its offer said.
    #[error("transfer {transfer} was announced with {announced} body bytes and has {received}")]
    Length {
        /// The transfer.
        transfer: Transfer,
        /// What the offer said.
        announced: u64,
        /// Bytes received.
        received: u64,
    },
    /// A frame or a byte that does not fit the state of its transfer.
    #[error("transfer {0} is not in a state for that")]
    OutOfState(Transfer),
}
