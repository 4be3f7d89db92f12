use flate2::{Decompress, FlushDecompress, Status};
use thiserror::Error;

use crate::limits::{INFLATED_FREE_BYTES, INFLATED_RATIO_MAX, TRAILING_ZEROS_MAX};

/// Inflated bytes handed on at once.
const BUFFER_BYTES: usize = 32 * 1024;

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
    ended: bool,
    zeros: u64,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self {
            state: Box::new(Decompress::new(false)),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            bytes_in: 0,
            ended: false,
            zeros: 0,
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
        if out > INFLATED_FREE_BYTES && out / INFLATED_RATIO_MAX > self.bytes_in {
            return Err(InflateError::Expansion);
        }
        let produced = usize::try_from(out - before_out).unwrap_or(usize::MAX);
        Ok(self.buffer.get(..produced).unwrap_or_default())
    }

    /// PS3.5 A.5 pads an odd stream with one zero byte; some writers fill up further.
    fn padding(&mut self, input: &mut &[u8]) -> Result<(), InflateError> {
        let count = input.iter().take_while(|byte| **byte == 0).count() as u64;
        if count < input.len() as u64 || self.zeros + count > TRAILING_ZEROS_MAX {
            return Err(InflateError::TrailingBytes { offset: self.bytes_in + count });
        }
        self.zeros += count;
        self.bytes_in += count;
        *input = &[];
        Ok(())
    }

    pub(crate) fn finish(&self) -> Result<(), InflateError> {
        if self.ended { Ok(()) } else { Err(InflateError::Truncated { offset: self.bytes_in }) }
    }
}
