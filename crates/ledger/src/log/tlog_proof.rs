//! Proofs in one file (C2SP tlog-proof v1): index, path and checkpoint, and what opens the entry.

use base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::LogPublic;
use thiserror::Error;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::note::NOTE_BYTES_MAX;
use super::proof::verify_inclusion;
use crate::tree::PathError;

/// The most hashes of a path: the height of a tree of 2^63 leaves.
pub const TLOG_PROOF_PATH_MAX: usize = 63;
const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
const EXTRA_BYTES_MAX: usize = 4096;

/// That an entry is in a log, to be checked offline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Of the application's own, unsigned: here the salt of the entry.
    pub extra: Option<Vec<u8>>,
    /// Which entry.
    pub index: u64,
    /// Its audit path, lowest sibling first.
    pub path: Vec<Digest>,
    /// The checkpoint, as its log gave it.
    pub checkpoint: String,
}

/// Why a text is no proof, or proves nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TlogProofError {
    /// Another kind of file.
    #[error("a proof starts with the line {FIRST_LINE}")]
    Kind,
    /// More than any proof has.
    #[error("the proof has {0} bytes, more than any has")]
    TooLong(usize),
    /// A line that cannot be read, counted from 1.
    #[error("line {0} of the proof is damaged")]
    Line(usize),
    /// The checkpoint.
    #[error("the checkpoint of the proof: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The path.
    #[error("the path of the proof: {0}")]
    Path(PathError),
}

impl TlogProof {
    /// The text of it.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        if let Some(extra) = &self.extra {
            text.extend(["extra ", &STANDARD.encode(extra), "\n"]);
        }
        text.extend(["index ", &self.index.to_string(), "\n"]);
        for hash in &self.path {
            text.extend([&STANDARD.encode(hash.0), "\n"]);
        }
        text.extend(["\n", &self.checkpoint]);
        text
    }

    /// Reads a proof in its one form; verifies nothing.
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        if text.len() > 2 * NOTE_BYTES_MAX {
            return Err(TlogProofError::TooLong(text.len()));
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(TlogProofError::Kind)?;
        let mut lines = head.split('\n').zip(1..).peekable();
        if lines.next().is_none_or(|(line, _)| line != FIRST_LINE) {
            return Err(TlogProofError::Kind);
        }
        let mut extra = None;
        if let Some((line, number)) = lines.peek().copied()
            && let Some(encoded) = line.strip_prefix("extra ")
        {
            let bytes = STANDARD.decode(encoded).ok().filter(|bytes| bytes.len() <= EXTRA_BYTES_MAX);
            extra = Some(bytes.ok_or(TlogProofError::Line(number))?);
            lines.next();
        }
        let (line, number) = lines.next().ok_or(TlogProofError::Line(2))?;
        let digits = line.strip_prefix("index ").ok_or(TlogProofError::Line(number))?;
        let index: u64 = digits.parse().map_err(|_| TlogProofError::Line(number))?;
        if index.to_string() != digits {
            return Err(TlogProofError::Line(number));
        }
        let mut path = Vec::new();
        for (line, number) in lines {
            let hash = STANDARD.decode(line).ok().and_then(|hash| Digest::from_slice(&hash));
            path.push(hash.filter(|_| path.len() < TLOG_PROOF_PATH_MAX).ok_or(TlogProofError::Line(number))?);
        }
        Ok(Self { extra, index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Verifies that an entry with this leaf hash is in the log with this key; gives the checkpoint that says so.
    pub fn verify(&self, leaf_hash: &Digest, log: &LogPublic) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::parse(&self.checkpoint, log)?;
        let head = checkpoint.head();
        verify_inclusion(leaf_hash, self.index, head.size, &self.path, &head.root)
            .map_err(TlogProofError::Path)?;
        Ok(checkpoint)
    }
}
