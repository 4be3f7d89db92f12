use minicbor::{Decode, Encode};
use thiserror::Error;

/// The version that every record of this crate starts with.
const VERSION: u8 = 1;
/// The longest record that is looked at; the largest real one (a settlement with two signatures) is half of it.
pub(crate) const RECORD_BYTES_MAX: usize = 8 * 1024;

/// Why bytes are not a record of this crate. All of them are the other side's to mend.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// More bytes than any record has.
    #[error("record of {0} bytes exceeds {RECORD_BYTES_MAX}")]
    TooLong(usize),
    /// Not CBOR, or not the fields that were expected.
    #[error("record is not readable: {0}")]
    Malformed(String),
    /// A format of another release.
    #[error("record has format {0}; this release reads format {VERSION}")]
    Version(u8),
    /// Readable, but not the one encoding that could have been signed.
    #[error("record is not in its canonical encoding")]
    NotCanonical,
}

/// Encodes `[version, value]`.
#[expect(
    clippy::expect_used,
    reason = "writing to memory does not fail and no encoder of ours returns an error"
)]
pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec((VERSION, value)).expect("encoding into memory succeeds")
}

/// Decodes `[version, value]` and refuses every encoding but the one that [`encode`] makes.
pub(crate) fn decode<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let malformed = |e: minicbor::decode::Error| DecodeError::Malformed(e.to_string());
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.array().map_err(malformed)?;
    let version = decoder.u8().map_err(malformed)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let value: T = decoder.decode().map_err(malformed)?;
    if encode(&value) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}

/// CBOR text for types that are parsed from text.
pub(crate) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use minicbor::encode::Write;
    use minicbor::{Decoder, Encoder};

    pub(crate) fn encode<Ctx, T: Display, W: Write>(
        value: &T,
        e: &mut Encoder<W>,
        _: &mut Ctx,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&value.to_string())?.ok()
    }

    pub(crate) fn decode<Ctx, T: FromStr>(
        d: &mut Decoder<'_>,
        _: &mut Ctx,
    ) -> Result<T, minicbor::decode::Error> {
        d.str()?
            .parse()
            .map_err(|_| minicbor::decode::Error::message("text field has a value that is not allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_encoding_is_accepted_and_every_other_refused() {
        assert_eq!(decode::<u32>(&[0x82, 1, 5]), Ok(5));
        type Case = (&'static str, &'static [u8], fn(&DecodeError) -> bool);
        let cases: [Case; 8] = [
            ("empty", &[], |e| matches!(e, DecodeError::Malformed(_))),
            ("no array", &[5], |e| matches!(e, DecodeError::Malformed(_))),
            ("no value", &[0x81, 1], |e| matches!(e, DecodeError::Malformed(_))),
            ("other version", &[0x82, 2, 5], |e| *e == DecodeError::Version(2)),
            ("longer integer", &[0x82, 1, 0x18, 5], |e| *e == DecodeError::NotCanonical),
            ("indefinite array", &[0x9f, 1, 5, 0xff], |e| *e == DecodeError::NotCanonical),
            ("trailing byte", &[0x82, 1, 5, 0], |e| *e == DecodeError::NotCanonical),
            ("three elements", &[0x83, 1, 5, 0], |e| *e == DecodeError::NotCanonical),
        ];
        for (name, bytes, want) in cases {
            let error = decode::<u32>(bytes).unwrap_err();
            assert!(want(&error), "{name}: {error}");
        }
        assert_eq!(
            decode::<u32>(&vec![0; RECORD_BYTES_MAX + 1]),
            Err(DecodeError::TooLong(RECORD_BYTES_MAX + 1))
        );
    }
}
