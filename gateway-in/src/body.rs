//! An opened data set on its way to a destination. Every byte in it is authenticated; that it is
//! complete is known only when [`Body::next`] has answered `None`.

use std::collections::VecDeque;

use base::Digest;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::room::Held;

/// Pieces of a streamed body that wait between the opener and the destination. A piece is at most one
/// opened chunk (64 KiB).
pub const STREAM_PIECES_MAX: usize = 16;

/// What is known of a body once its final chunk has verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// SHA-256 of the sealed body.
    pub body_digest: Digest,
    /// SHA-256 of the data set.
    pub data_digest: Digest,
    /// Length of the data set in bytes.
    pub data_len: u64,
}

/// The body ended before its final chunk verified. Whoever sent parts of it on must abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed body ended before its final chunk verified")]
pub struct Incomplete;

/// See the module.
#[derive(Debug)]
pub enum Body {
    /// Verified as a whole before anybody saw it; its memory is counted by the permit.
    Whole {
        /// The pieces not yet taken.
        pieces: VecDeque<Bytes>,
        /// What the opener found.
        verified: Verified,
        /// Its share of the buffer budget.
        permit: Option<Held>,
    },
    /// Larger than `verify_first`: passed on while it arrives.
    Streamed {
        /// From the opener.
        pieces: mpsc::Receiver<StreamPiece>,
        /// Set with the last piece.
        verified: Option<Verified>,
    },
}

/// What the opener passes on of a streamed body. The channel closing without `End` means abandoned.
#[derive(Debug)]
pub enum StreamPiece {
    /// Authenticated data set bytes.
    Data(Bytes),
    /// The final chunk has verified.
    End(Verified),
}

impl Body {
    /// The next piece; `None` once the whole body has been given and its final chunk has verified.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Incomplete> {
        match self {
            Self::Whole { pieces, .. } => Ok(pieces.pop_front()),
            Self::Streamed { verified: Some(_), .. } => Ok(None),
            Self::Streamed { pieces, verified } => match pieces.recv().await {
                Some(StreamPiece::Data(bytes)) => Ok(Some(bytes)),
                Some(StreamPiece::End(end)) => {
                    *verified = Some(end);
                    Ok(None)
                }
                None => Err(Incomplete),
            },
        }
    }

    /// What is known once [`Body::next`] has answered `None`.
    pub fn verified(&self) -> Result<Verified, Incomplete> {
        match self {
            Self::Whole { verified, .. } => Ok(*verified),
            Self::Streamed { verified, .. } => verified.ok_or(Incomplete),
        }
    }

    /// Whether parts of it may be passed on before the whole is known to be good.
    pub fn is_streamed(&self) -> bool {
        matches!(self, Self::Streamed { .. })
    }
}
