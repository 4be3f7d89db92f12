//! The typed records that fill the plaintext of a chunk. A record never crosses into the next chunk,
//! so that each chunk is read by itself.
//!
//! ```text
//! filler   00
//! meta     01 length(2) CBOR
//! data     02 length(2) bytes of the data set, at least one
//! padding  03 length(2) zeros
//! trailer  04 length(2)=40 length of the data set(8) SHA-256 of the data set(32)
//! ```

use base::Digest;

pub(crate) const META: u8 = 1;
pub(crate) const DATA: u8 = 2;
const FILLER: u8 = 0;
const PADDING: u8 = 3;
const TRAILER: u8 = 4;

/// Type and length in front of a record.
pub(crate) const HEAD_BYTES: usize = 3;
const TRAILER_VALUE_BYTES: usize = 8 + Digest::LEN;
/// A trailer with its head.
pub(crate) const TRAILER_BYTES: usize = HEAD_BYTES + TRAILER_VALUE_BYTES;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Meta(&'a [u8]),
    Data(&'a [u8]),
    Padding,
    Trailer { data_len: u64, data_digest: Digest },
}

/// Reads record after record; `None` inside where bytes are none.
pub(crate) struct Records<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Option<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.read();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record)
    }
}

impl<'a> Records<'a> {
    fn read(&mut self) -> Option<Record<'a>> {
        let (kind, rest) = self.0.split_first()?;
        if *kind == FILLER {
            self.0 = rest;
            return Some(Record::Padding);
        }
        let (length, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.0 = rest;
        match *kind {
            META => Some(Record::Meta(value)),
            DATA if !value.is_empty() => Some(Record::Data(value)),
            PADDING if value.iter().all(|byte| *byte == 0) => Some(Record::Padding),
            TRAILER => {
                let (data_len, digest) = value.split_first_chunk()?;
                let data_digest = Digest::from_slice(digest)?;
                Some(Record::Trailer { data_len: u64::from_be_bytes(*data_len), data_digest })
            }
            _ => None,
        }
    }
}

/// Head of a record; values fit a chunk, and so their length two bytes.
pub(crate) fn head(kind: u8, length: usize) -> [u8; HEAD_BYTES] {
    #[expect(clippy::expect_used, reason = "a record fits a chunk of 65536 bytes together with its head")]
    let length = u16::try_from(length).expect("a record fits a chunk");
    let [high, low] = length.to_be_bytes();
    [kind, high, low]
}

/// Appends exactly `bytes` bytes of padding, at most a chunk.
pub(crate) fn pad(chunk: &mut Vec<u8>, bytes: usize) {
    let end = chunk.len() + bytes;
    if let Some(zeros) = bytes.checked_sub(HEAD_BYTES) {
        chunk.extend_from_slice(&head(PADDING, zeros));
    }
    // Zeros of the record, or, where not even its head fits, fillers.
    chunk.resize(end, 0);
}

pub(crate) fn trailer(chunk: &mut Vec<u8>, data_len: u64, data_digest: &Digest) {
    chunk.extend_from_slice(&head(TRAILER, TRAILER_VALUE_BYTES));
    chunk.extend_from_slice(&data_len.to_be_bytes());
    chunk.extend_from_slice(&data_digest.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_of_every_length_is_read_back() {
        for bytes in (0..300).chain(65_500..=65_536) {
            let mut chunk = Vec::new();
            pad(&mut chunk, bytes);
            assert_eq!(chunk.len(), bytes);
            assert!(Records(&chunk).all(|record| record == Some(Record::Padding)), "{bytes}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let cases: [(&str, &[u8]); 10] = [
            ("unknown type", &[5, 0, 0]),
            ("type 255", &[255, 0, 1, 0]),
            ("length cut", &[2, 0]),
            ("value cut", &[2, 0, 2, 9]),
            ("empty data", &[2, 0, 0]),
            ("padding that is not zero", &[3, 0, 2, 0, 1]),
            ("short trailer", &[4, 0, 2, 0, 0]),
            ("empty trailer", &[4, 0, 0]),
            ("length beyond the chunk", &[3, 255, 255, 0]),
            ("good, then bad", &[0, 2, 0, 1, 7, 9]),
        ];
        for (case, bytes) in cases {
            assert_eq!(Records(bytes).last(), Some(None), "{case}");
        }
        let mut long = head(TRAILER, TRAILER_VALUE_BYTES + 1).to_vec();
        long.resize(HEAD_BYTES + TRAILER_VALUE_BYTES + 1, 0);
        assert_eq!(Records(&long).last(), Some(None), "long trailer");
    }
}
