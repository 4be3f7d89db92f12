//! Seals a stream of bytes for one recipient, and opens it: the envelope format `sluis/1`, byte by byte
//! in `FORMAT.md` beside this crate.
//!
//! - A **body** is sealed once, under its own content key, chunk by chunk ([`BodySealer`], [`BodyOpener`]).
//! - A **session** is one HPKE encapsulation to a **prekey** of the receiver, signed by the sender
//!   ([`SenderSession`], [`ReceiverSessions`]).
//! - A **header** wraps the content key of one body under one key of one session. A new header
//!   addresses the same body again, to a new prekey or another receiver.
//! - A **record** travels back from the receiver under the content key ([`seal_record`]).
//! - A **question** of the sender and its answer travel under keys of the session ([`AnswerKey`]).
//!
//! What it does not do: no file, socket, clock or random source (times and random bytes are
//! arguments), no DICOM, no durable state. It does not store content keys and does not know what an
//! outbox, a relay or a receipt is.
//!
//! Read first: [`BodySealer`], [`SenderSession`], [`ReceiverSessions`].

mod aead;
mod cbor;
mod header;
mod kem;
mod meta;
mod opener;
mod opening;
mod padding;
mod prekey;
mod question;
mod receiver;
mod record;
mod refusal;
mod schedule;
mod sealed_record;
mod sealer;
mod sender;
mod session_table;
mod suite;

pub use header::{HeaderFields, SealedHeader};
pub use meta::BodyMeta;
pub use opener::{BodyError, BodyOpener, OpenedBody};
pub use padding::{Padding, PaddingBlock, PaddingError};
pub use prekey::{BundleError, PrekeyKind, PrekeySecret};
pub use question::{
    ANSWER_BYTES_MAX, AnswerError, AnswerKey, NoQuestion, OpenedQuestion, QUESTION_BYTES_MAX, SealedQuestion,
    refuse_question,
};
pub use receiver::{OpenedHeader, Pinned, ReceiverSessions, TableFull};
pub use refusal::HeaderError;
pub use schedule::{BodyContext, Commitment};
pub use sealed_record::{RECORD_BYTES_MAX, RecordError, open_record, seal_record};
pub use sealer::{BodySealer, BodyTail, SealedBody};
pub use sender::{SenderSession, SessionRequest, SessionSpent};
pub use suite::{Suite, UnknownSuite};

/// Version of everything in this crate that is signed, sealed or bound into a key.
pub const FORMAT_VERSION: u8 = 1;

/// Plaintext bytes of every chunk but the last, which has fewer.
pub const CHUNK_BYTES: usize = base::limits::CHUNK_BYTES;

/// Sealed bytes of every chunk but the last, which has fewer: so a chunk of this length is never the last.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// Length of an authentication tag, the same in both suites.
pub const TAG_BYTES: usize = 16;

/// The longest header that is read.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// The longest prekey bundle that is read.
pub const BUNDLE_BYTES_MAX: usize = 8 * 1024;
