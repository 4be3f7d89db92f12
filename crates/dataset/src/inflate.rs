use flate2::{Decompress, FlushDecompress, Status};
use thiserror::Error;

use crate::limits::{INFLATED_FREE_BYTES, INFLATED_RATIO_MAX, TRAILING_ZEROS_MAX};

/// Inflated bytes handed on at once.
const BUFFER_BYTES: usize = 32 * 1024;
/// What may stand behind the compressed stream besides zeros: encoders made from a gzip or zlib library leave
/// its trailer there (CRC-32 and length, or Adler-32).
const TRAILER_BYTES_MAX: u64 = 8;

/// What is wrong with a deflated data set (PS3.5 A.5). Whoever wrote it has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InflateError {
    /// No RFC 1951 stream.
    #[error(
        "deflated data set is damaged at byte {offset} of the compressed stream; send the whole instance again"
    )]
    Corrupt {
        /// In compressed bytes.
        offset: u64,
    },
    /// The stream has no end.
    #[error(
        "deflated data set is truncated: its compressed stream ends early, at byte {offset}; send the whole instance again"
    )]
    Truncated {
        /// In compressed bytes.
        offset: u64,
    },
    /// A bomb, or a very empty image.
    #[error(
        "deflated data set expands to more than {ratio} times its size beyond {free} bytes; send it in another transfer syntax",
        ratio = INFLATED_RATIO_MAX,
        free = INFLATED_FREE_BYTES
    )]
    Expansion,
    /// Bytes after the compressed stream.
    #[error("deflated data set has more than padding after its compressed stream, at byte {offset}")]
    TrailingBytes {
        /// In compressed bytes.
        offset: u64,
    },
}

/// Inflates beside the stream into one bounded buffer.
pub(crate) struct Inflater {
    state: Box<Decompress>,
    buffer: Box<[u8]>,
    bytes_in: u64,
    /// Bytes that may come out whatever the ratio.
    free: u64,
    ended: bool,
    /// Bytes after the end of the compressed stream.
    trailing: u64,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self::with_free_bytes(INFLATED_FREE_BYTES)
    }

    fn with_free_bytes(free: u64) -> Self {
        Self {
            state: Box::new(Decompress::new(false)),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            bytes_in: 0,
            free,
            ended: false,
            trailing: 0,
        }
    }

    /// Takes bytes from `input` and returns what they inflate to, possibly nothing. Call it until `input` is
    /// empty and nothing comes out.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<&[u8], InflateError> {
        if self.ended {
            self.padding(input)?;
            return Ok(&[]);
        }
        let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
        let status = self.state.decompress(input, &mut self.buffer, FlushDecompress::None);
        let taken = usize::try_from(self.state.total_in() - before_in).unwrap_or(usize::MAX).min(input.len());
        *input = input.get(taken..).unwrap_or_default();
        self.bytes_in += taken as u64;
        match status {
            Ok(Status::StreamEnd) => self.ended = true,
            Ok(Status::Ok | Status::BufError) => {}
            Err(_) => return Err(InflateError::Corrupt { offset: self.bytes_in }),
        }
        let out = self.state.total_out();
        if !input.is_empty() && taken == 0 && out == before_out && !self.ended {
            return Err(InflateError::Corrupt { offset: self.bytes_in });
        }
        if out > self.free && out / INFLATED_RATIO_MAX > self.bytes_in {
            return Err(InflateError::Expansion);
        }
        let produced = usize::try_from(out - before_out).unwrap_or(usize::MAX);
        Ok(self.buffer.get(..produced).unwrap_or_default())
    }

    /// PS3.5 A.5 pads an odd stream with one zero byte; some writers fill up further.
    fn padding(&mut self, input: &mut &[u8]) -> Result<(), InflateError> {
        for byte in std::mem::take(input) {
            let allowed = if *byte == 0 { TRAILING_ZEROS_MAX } else { TRAILER_BYTES_MAX };
            if self.trailing >= allowed {
                return Err(InflateError::TrailingBytes { offset: self.bytes_in });
            }
            self.trailing += 1;
            self.bytes_in += 1;
        }
        Ok(())
    }

    pub(crate) fn finish(&self) -> Result<(), InflateError> {
        if self.ended { Ok(()) } else { Err(InflateError::Truncated { offset: self.bytes_in }) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(mut bytes: &[u8], free: u64) -> Result<u64, InflateError> {
        let (mut inflater, mut total) = (Inflater::with_free_bytes(free), 0);
        loop {
            let piece = inflater.next(&mut bytes)?.len() as u64;
            assert!(piece <= BUFFER_BYTES as u64);
            total += piece;
            if piece == 0 && bytes.is_empty() {
                return inflater.finish().map(|()| total);
            }
        }
    }

    #[test]
    fn expansion_is_limited_by_its_ratio_beyond_a_free_amount() {
        let bomb = deflated(&vec![0; 4 << 20]);
        assert!(bomb.len() * 900 < 4 << 20, "deflate packs zeros about a thousand times");
        assert_eq!(inflate(&bomb, 4 << 20), Ok(4 << 20));
        assert_eq!(inflate(&bomb, 1 << 20), Err(InflateError::Expansion));
        let mut noise = 1u32;
        let image: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_be_bytes()[0]
        })
        .take(1 << 20)
        .collect();
        assert_eq!(inflate(&deflated(&image), 0), Ok(1 << 20));
    }

    #[test]
    fn a_short_trailer_and_zeros_may_follow_and_nothing_else() {
        let stream = deflated(b"a data set");
        let cases = [
            (vec![], true),
            (vec![0], true),
            (vec![1, 2, 3, 4, 5, 6, 7, 8], true),
            (vec![1, 2, 3, 4, 5, 6, 7, 8, 0], true),
            (vec![1, 2, 3, 4, 5, 6, 7, 8, 9], false),
            (vec![0; 65536], true),
            (vec![0; 65537], false),
        ];
        for (tail, passes) in cases {
            let result = inflate(&[stream.clone(), tail.clone()].concat(), 1 << 20);
            assert_eq!(result.is_ok(), passes, "{} bytes", tail.len());
        }
    }
}
