use base::{Digest, Secret};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroize as _;

use crate::aead::Cipher;
use crate::record::{Record, Records};
use crate::sealer::nonce;
use crate::{BodyContext, BodyMeta, Commitment, SEALED_CHUNK_BYTES, TAG_BYTES};

/// Opens one sealed body while it arrives. Data comes out only of chunks that verified; the opener
/// holds one chunk. That the data set is complete is known only when [`BodyOpener::finish`] returns.
pub struct BodyOpener {
    cipher: Cipher,
    /// Sealed bytes of the running chunk.
    chunk: Vec<u8>,
    chunks: u64,
    phase: Phase,
    meta: Option<BodyMeta>,
    data_hash: Sha256,
    data_len: u64,
    sealed_hash: Sha256,
    sealed_len: u64,
    failed: Option<BodyError>,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Meta,
    Data,
    Padding,
    End { data_len: u64, data_digest: Digest },
}

/// What is known of a body that opened completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedBody {
    /// The meta record.
    pub meta: BodyMeta,
    /// Length of the data set.
    pub data_len: u64,
    /// SHA-256 of the data set, equal to the one in the trailer.
    pub data_digest: Digest,
    /// SHA-256 of all sealed bytes: compare it with the one that follows the body.
    pub digest: Digest,
    /// Count of all sealed bytes.
    pub sealed_len: u64,
}

/// Why a body does not open. All of them: give up this attempt and answer with a nack; nothing that
/// came out of the body is a complete data set.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// The content key does not belong to this body or this context.
    #[error("key commitment does not match: another key, object, suite or profile")]
    Commitment,
    /// A chunk was altered, swapped, or taken from another body; or it is where the body was cut.
    #[error("chunk {number} does not verify: altered, out of place or cut off")]
    Chunk {
        /// Counted from 0.
        number: u64,
    },
    /// The body ended without a last chunk.
    #[error("body ends after {sealed_len} bytes without its last chunk")]
    Truncated {
        /// Sealed bytes that came.
        sealed_len: u64,
    },
    /// A verified chunk holds something else than the records of the format, in another order, or too few.
    #[error("chunk {number} holds no valid records: the sender does not follow the format")]
    Records {
        /// Counted from 0.
        number: u64,
    },
    /// The data set is not as long as the sender says, or another one.
    #[error("data set of {data_len} bytes does not match the trailer: the sender does not follow the format")]
    Trailer {
        /// Bytes that came.
        data_len: u64,
    },
}

impl BodyOpener {
    /// Checks the commitment of the header before anything else.
    pub fn new(
        context: &BodyContext,
        content_key: &Secret<[u8; 32]>,
        commitment: &Commitment,
    ) -> Result<Self, BodyError> {
        let keys = context.body_keys(content_key);
        if !keys.commitment.matches(commitment) {
            return Err(BodyError::Commitment);
        }
        Ok(Self {
            cipher: Cipher::new(context.suite, &keys.key),
            chunk: Vec::with_capacity(SEALED_CHUNK_BYTES),
            chunks: 0,
            phase: Phase::Meta,
            meta: None,
            data_hash: Sha256::new(),
            data_len: 0,
            sealed_hash: Sha256::new(),
            sealed_len: 0,
            failed: None,
        })
    }

    /// The meta record, once the first chunk verified: with a body of one chunk, that is at the end.
    pub fn meta(&self) -> Option<&BodyMeta> {
        self.meta.as_ref()
    }

    /// Bytes of the data set that came out so far.
    pub fn data_len(&self) -> u64 {
        self.data_len
    }

    /// Takes the next sealed bytes, in pieces of any size, and appends the data of the chunks that they
    /// complete. After an error nothing comes out any more.
    pub fn feed(&mut self, mut sealed: &[u8], sink: &mut Vec<u8>) -> Result<(), BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while !sealed.is_empty() {
            let room = SEALED_CHUNK_BYTES - self.chunk.len();
            let (now, later) = sealed.split_at(room.min(sealed.len()));
            self.chunk.extend_from_slice(now);
            self.sealed_len += now.len() as u64;
            if self.chunk.len() == SEALED_CHUNK_BYTES {
                // The last chunk is shorter, so this is none, whatever follows.
                self.open_chunk(false, sink).inspect_err(|error| self.failed = Some(*error))?;
            }
            sealed = later;
        }
        Ok(())
    }

    /// No more sealed bytes: verifies the last chunk and the trailer, then appends the last data.
    pub fn finish(mut self, sink: &mut Vec<u8>) -> Result<OpenedBody, BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.chunk.len() <= TAG_BYTES {
            return Err(BodyError::Truncated { sealed_len: self.sealed_len });
        }
        self.open_chunk(true, sink)?;
        let (Some(meta), Phase::End { data_len, data_digest }) = (self.meta.take(), self.phase) else {
            return Err(BodyError::Records { number: self.chunks.saturating_sub(1) });
        };
        let digest = Digest(std::mem::take(&mut self.sealed_hash).finalize().into());
        Ok(OpenedBody { meta, data_len, data_digest, digest, sealed_len: self.sealed_len })
    }

    fn open_chunk(&mut self, last: bool, sink: &mut Vec<u8>) -> Result<(), BodyError> {
        let number = self.chunks;
        self.chunks += 1;
        self.sealed_hash.update(&self.chunk);
        // Out of `self` while its records are read; back for the next chunk.
        let mut chunk = std::mem::take(&mut self.chunk);
        let result = match self.cipher.open(&nonce(number, last), &[], &mut chunk) {
            Some(plaintext) => self.take_records(number, plaintext, last, sink),
            None => Err(BodyError::Chunk { number }),
        };
        if result.is_err() {
            chunk.zeroize();
        }
        chunk.clear();
        self.chunk = chunk;
        result
    }

    fn take_records(
        &mut self,
        number: u64,
        chunk: &[u8],
        last: bool,
        sink: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        for record in Records(chunk) {
            let next = record.and_then(|record| self.take_record(&record));
            self.phase = next.ok_or(BodyError::Records { number })?;
        }
        match self.phase {
            Phase::End { data_len, data_digest } if last => {
                let digest = Digest(self.data_hash.clone().finalize().into());
                if (data_len, data_digest) != (self.data_len, digest) {
                    return Err(BodyError::Trailer { data_len: self.data_len });
                }
            }
            Phase::Data | Phase::Padding if !last => {}
            _ => return Err(BodyError::Records { number }),
        }
        // Only now: a chunk gives its data when all of it has been checked.
        for record in Records(chunk) {
            if let Some(Record::Data(data)) = record {
                sink.extend_from_slice(data);
            }
        }
        Ok(())
    }

    /// What may come after this record; `None` where it must not be here.
    fn take_record(&mut self, record: &Record<'_>) -> Option<Phase> {
        match (self.phase, record) {
            (Phase::Meta, Record::Meta(bytes)) => {
                let short = bytes.len() <= BodyMeta::BYTES_MAX;
                self.meta = Some(short.then(|| BodyMeta::decode(bytes)).flatten()?);
                Some(Phase::Data)
            }
            (Phase::Data, Record::Data(data)) => {
                self.data_hash.update(data);
                self.data_len += data.len() as u64;
                Some(Phase::Data)
            }
            (Phase::Data | Phase::Padding, Record::Padding) => Some(Phase::Padding),
            (Phase::Data | Phase::Padding, Record::Trailer { data_len, data_digest }) => {
                Some(Phase::End { data_len: *data_len, data_digest: *data_digest })
            }
            _ => None,
        }
    }
}

impl Drop for BodyOpener {
    /// The chunk has held plaintext.
    fn drop(&mut self) {
        self.chunk.zeroize();
    }
}

impl std::fmt::Debug for BodyOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodyOpener({} bytes of data)", self.data_len)
    }
}
