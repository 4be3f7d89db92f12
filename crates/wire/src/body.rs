use base::Digest;
use thiserror::Error;

use crate::Transfer;

/// A body stream begins with the transfer id, big endian.
pub const PREAMBLE_BYTES: usize = 8;
/// A body stream ends with the SHA-256 of the sealed body, then FIN.
pub const TRAILER_BYTES: usize = Digest::LEN;

/// Why a body stream is unusable.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// FIN came before the digest was complete.
    #[error("body stream ended before its digest")]
    Truncated,
}

/// The first bytes of a body stream.
pub fn preamble(transfer: Transfer) -> [u8; PREAMBLE_BYTES] {
    transfer.to_be_bytes()
}

/// The transfer a body stream belongs to.
pub fn transfer_of(preamble: [u8; PREAMBLE_BYTES]) -> Transfer {
    Transfer::from_be_bytes(preamble)
}

/// Splits what follows the preamble into body and digest. Where the body ends is known at FIN only, so
/// that the last 32 bytes seen are always held back.
#[derive(Debug, Default)]
pub struct BodyDecoder {
    tail: Vec<u8>,
    body_bytes: u64,
}

impl BodyDecoder {
    /// How many body bytes `incoming` more stream bytes set free: what [`BodyDecoder::feed`] will append.
    pub fn body_bytes_of(&self, incoming: usize) -> usize {
        (self.tail.len() + incoming).saturating_sub(TRAILER_BYTES)
    }

    /// Takes the pieces of a stream in their order and appends the body bytes they set free to `out`.
    pub fn feed<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]> + Clone, out: &mut Vec<u8>) {
        let incoming = pieces.clone().map(<[u8]>::len).sum();
        let mut free = self.body_bytes_of(incoming);
        self.body_bytes += u64::try_from(free).unwrap_or(u64::MAX);
        let from_tail = free.min(self.tail.len());
        out.extend(self.tail.drain(..from_tail));
        free -= from_tail;
        for piece in pieces {
            let (body, held) = piece.split_at(free.min(piece.len()));
            free -= body.len();
            out.extend_from_slice(body);
            self.tail.extend_from_slice(held);
        }
    }

    /// Body bytes set free so far.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// At FIN: the digest.
    pub fn finish(self) -> Result<Digest, BodyError> {
        Digest::from_slice(&self.tail).ok_or(BodyError::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn body_and_digest_are_told_apart_however_they_are_cut(
            body in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(1usize..80, 1..20),
        ) {
            let mut stream = body.clone();
            stream.extend_from_slice(&[0xAB; TRAILER_BYTES]);
            let (mut decoder, mut got, mut rest, mut at) = (BodyDecoder::default(), Vec::new(), stream.as_slice(), 0);
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(cuts[at % cuts.len()].min(rest.len()));
                let middle = piece.len() / 2;
                let before = got.len();
                let promised = decoder.body_bytes_of(piece.len());
                decoder.feed([&piece[..middle], &piece[middle..]].into_iter(), &mut got);
                prop_assert_eq!(got.len() - before, promised);
                rest = later;
                at += 1;
            }
            prop_assert_eq!(decoder.body_bytes(), body.len() as u64);
            prop_assert_eq!(decoder.finish(), Ok(Digest([0xAB; 32])));
            prop_assert_eq!(got, body);
        }
    }

    #[test]
    fn a_stream_shorter_than_its_digest_is_truncated() {
        for length in 0..TRAILER_BYTES {
            let (mut decoder, mut out) = (BodyDecoder::default(), Vec::new());
            decoder.feed([vec![1u8; length].as_slice()].into_iter(), &mut out);
            assert_eq!(decoder.finish(), Err(BodyError::Truncated));
            assert!(out.is_empty());
        }
    }
}
