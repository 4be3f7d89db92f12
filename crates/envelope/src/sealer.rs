use base::{Digest, Secret};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroize as _;

use crate::aead::{Cipher, NONCE_BYTES};
use crate::record::{self, HEAD_BYTES, TRAILER_BYTES};
use crate::{BodyContext, BodyMeta, CHUNK_BYTES, Commitment, Padding, SEALED_CHUNK_BYTES, TAG_BYTES};

/// Nonce of a chunk: its number, and whether it is the last one (STREAM: Hoang, Reyhanitabar, Rogaway
/// and Vizár, CRYPTO 2015). The key belongs to one body, so numbers start at 0.
pub(crate) fn nonce(number: u64, last: bool) -> [u8; NONCE_BYTES] {
    let number = number.to_be_bytes();
    let mut nonce = [0; NONCE_BYTES];
    for (to, from) in nonce.iter_mut().skip(3).zip(number.into_iter().chain([u8::from(last)])) {
        *to = from;
    }
    nonce
}

/// Seals one data set while it arrives. Sealed chunks are appended to the caller's vector as soon as
/// they are full; the sealer holds one chunk. Dropping it abandons the body: without its last chunk
/// nothing opens completely.
pub struct BodySealer {
    cipher: Cipher,
    commitment: Commitment,
    padding: Padding,
    /// Plaintext of the running chunk.
    chunk: Vec<u8>,
    /// Where in `chunk` the data record starts that can still grow.
    data_record: Option<usize>,
    chunks: u64,
    data_hash: Sha256,
    data_len: u64,
    sealed_hash: Sha256,
    sealed_len: u64,
}

/// The end of a body: padding that may be large (of a 4 GiB instance up to 64 MiB), then the last chunk.
pub struct BodyTail {
    sealer: BodySealer,
    /// Chunks before the last one that are not sealed yet, the running one among them.
    full_chunks: u64,
    /// Plaintext bytes of the last chunk.
    last_bytes: usize,
    sealed_len: u64,
}

/// What is known of a body after its last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedBody {
    /// SHA-256 of all sealed bytes.
    pub digest: Digest,
    /// Count of all sealed bytes.
    pub sealed_len: u64,
    /// Length of the data set.
    pub data_len: u64,
    /// SHA-256 of the data set.
    pub data_digest: Digest,
}

impl BodySealer {
    /// Starts a body. The content key must be fresh: two bodies under one key, object id and profile
    /// would use the same nonces.
    pub fn new(
        context: &BodyContext,
        content_key: &Secret<[u8; 32]>,
        padding: Padding,
        meta: &BodyMeta,
    ) -> Self {
        let keys = context.body_keys(content_key);
        let mut encoded = meta.encode();
        // One allocation for the life of the chunk, so that no plaintext is left in an outgrown one.
        let mut chunk = Vec::with_capacity(SEALED_CHUNK_BYTES);
        chunk.extend_from_slice(&record::head(record::META, encoded.len()));
        chunk.extend_from_slice(&encoded);
        encoded.zeroize();
        Self {
            cipher: Cipher::new(context.suite, &keys.key),
            commitment: keys.commitment,
            padding,
            chunk,
            data_record: None,
            chunks: 0,
            data_hash: Sha256::new(),
            data_len: 0,
            sealed_hash: Sha256::new(),
            sealed_len: 0,
        }
    }

    /// What the header carries, so that the opener can check its key before anything else.
    pub fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// Bytes of the data set so far.
    pub fn data_len(&self) -> u64 {
        self.data_len
    }

    /// Sealed bytes given out so far.
    pub fn sealed_len(&self) -> u64 {
        self.sealed_len
    }

    /// Takes the next bytes of the data set and appends the chunks that they complete: for n bytes at
    /// most `n / CHUNK_BYTES + 2` of them. With an empty `out`, the first is handed over without a copy.
    pub fn data(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            if self.data_record.is_none() {
                self.data_record = Some(self.chunk.len());
                self.chunk.extend_from_slice(&record::head(record::DATA, 0));
            }
            let room = CHUNK_BYTES - self.chunk.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.data_hash.update(now);
            self.data_len += now.len() as u64;
            self.chunk.extend_from_slice(now);
            if self.chunk.len() == CHUNK_BYTES {
                // The trailer still has to come: a full chunk is never the last.
                self.seal_chunk(false, out);
            }
            data = later;
        }
    }

    /// No more data. The end comes out piece by piece.
    pub fn tail(mut self) -> BodyTail {
        self.end_data_record();
        let chunk = self.chunk.len();
        let fits_here = chunk + TRAILER_BYTES < CHUNK_BYTES;
        let last = if fits_here { chunk + TRAILER_BYTES } else { TRAILER_BYTES };
        let full = self.chunks + u64::from(!fits_here);
        let least = full * SEALED_CHUNK_BYTES as u64 + (last + TAG_BYTES) as u64;
        let (full, last) = layout(self.padding, least);
        let sealed_len = full * SEALED_CHUNK_BYTES as u64 + (last + TAG_BYTES) as u64;
        BodyTail { full_chunks: full - self.chunks, last_bytes: last, sealed_len, sealer: self }
    }

    /// No more data: appends all that is left at once. With padding that can be an eighth of a small
    /// body and 64 MiB of a very large one; [`BodySealer::tail`] gives it out chunk by chunk.
    pub fn finish(self, out: &mut Vec<u8>) -> SealedBody {
        self.tail().finish(out)
    }

    fn end_data_record(&mut self) {
        let Some(start) = self.data_record.take() else { return };
        let head = record::head(record::DATA, self.chunk.len() - start - HEAD_BYTES);
        for (to, from) in self.chunk.iter_mut().skip(start).zip(head) {
            *to = from;
        }
    }

    fn seal_chunk(&mut self, last: bool, out: &mut Vec<u8>) {
        self.end_data_record();
        self.cipher.seal(&nonce(self.chunks, last), &[], &mut self.chunk);
        self.sealed_hash.update(&self.chunk);
        self.sealed_len += self.chunk.len() as u64;
        self.chunks += 1;
        if out.is_empty() {
            std::mem::swap(out, &mut self.chunk);
            self.chunk.reserve_exact(SEALED_CHUNK_BYTES);
        } else {
            out.extend_from_slice(&self.chunk);
            self.chunk.clear();
        }
    }
}

/// Full chunks, and plaintext bytes of the last one, of the shortest padded length that the format can
/// have: the last chunk is shorter than a full one and holds the trailer.
fn layout(padding: Padding, least: u64) -> (u64, usize) {
    let mut length = padding.length(least);
    loop {
        let full = length / SEALED_CHUNK_BYTES as u64;
        let last = (length % SEALED_CHUNK_BYTES as u64) as usize;
        if last >= TRAILER_BYTES + TAG_BYTES {
            return (full, last - TAG_BYTES);
        }
        length = padding.length(length + 1);
    }
}

impl BodyTail {
    /// Appends one chunk of padding; false when only the last chunk is left, which
    /// [`BodyTail::finish`] appends.
    pub fn padding(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(left) = self.full_chunks.checked_sub(1) else { return false };
        self.full_chunks = left;
        let room = CHUNK_BYTES - self.sealer.chunk.len();
        record::pad(&mut self.sealer.chunk, room);
        self.sealer.seal_chunk(false, out);
        true
    }

    /// How long the whole sealed body will be.
    pub fn sealed_len(&self) -> u64 {
        self.sealed_len
    }

    /// Length of the data set.
    pub fn data_len(&self) -> u64 {
        self.sealer.data_len
    }

    /// Appends the padding that is left and the last chunk. From here on the body can be opened
    /// completely: call it when every check has passed.
    pub fn finish(mut self, out: &mut Vec<u8>) -> SealedBody {
        while self.padding(out) {}
        let Self { mut sealer, last_bytes, sealed_len, .. } = self;
        let room = last_bytes - TRAILER_BYTES - sealer.chunk.len();
        record::pad(&mut sealer.chunk, room);
        let data_digest = Digest(std::mem::take(&mut sealer.data_hash).finalize().into());
        record::trailer(&mut sealer.chunk, sealer.data_len, &data_digest);
        sealer.seal_chunk(true, out);
        debug_assert_eq!(sealer.sealed_len, sealed_len);
        let digest = Digest(std::mem::take(&mut sealer.sealed_hash).finalize().into());
        SealedBody { digest, sealed_len: sealer.sealed_len, data_len: sealer.data_len, data_digest }
    }
}

impl Drop for BodySealer {
    /// An abandoned chunk is plaintext.
    fn drop(&mut self) {
        self.chunk.zeroize();
    }
}

impl std::fmt::Debug for BodySealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodySealer({} bytes of data)", self.data_len)
    }
}

impl std::fmt::Debug for BodyTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodyTail({} bytes of data)", self.sealer.data_len)
    }
}
