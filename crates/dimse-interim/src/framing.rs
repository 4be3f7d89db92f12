//! PDUs out of a byte stream, and PDVs out of P-DATA-TF PDUs, without a copy (PS3.8 §9.3).
//!
//! dicom-ul's codec reads every other PDU; P-DATA-TF is the hot path, where it copies each PDV three
//! times, so it is taken apart here on [`Bytes`]. Nothing beyond a PDU's announced and allowed length
//! is ever buffered.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// PDU types (PS3.8 §9.3.1).
pub mod pdu_type {
    /// A-ASSOCIATE-RQ
    pub const ASSOCIATE_RQ: u8 = 0x01;
    /// A-ASSOCIATE-AC
    pub const ASSOCIATE_AC: u8 = 0x02;
    /// A-ASSOCIATE-RJ
    pub const ASSOCIATE_RJ: u8 = 0x03;
    /// P-DATA-TF
    pub const P_DATA_TF: u8 = 0x04;
    /// A-RELEASE-RQ
    pub const RELEASE_RQ: u8 = 0x05;
    /// A-RELEASE-RP
    pub const RELEASE_RP: u8 = 0x06;
    /// A-ABORT
    pub const ABORT: u8 = 0x07;
}

/// Type, reserved byte, length.
pub const PDU_HEADER_BYTES: usize = 6;
/// Length, context id, message control header.
pub const PDV_HEADER_BYTES: usize = 6;
/// The longest PDU that is not P-DATA-TF: 128 contexts with dozens of transfer syntaxes need 200 KiB.
pub const CONTROL_PDU_BYTES_MAX: u32 = 1024 * 1024;

/// How a byte stream fails to be PDUs.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FramingError {
    /// The first byte is no PDU type: another protocol, or garbage.
    #[error("byte {0:02X}H is no PDU type")]
    Type(u8),
    /// Longer than we take.
    #[error("a PDU of type {pdu_type:02X}H announces {length} bytes; at most {max} are taken")]
    TooLong {
        /// PS3.8 §9.3.1.
        pdu_type: u8,
        /// Announced.
        length: u32,
        /// Allowed.
        max: u32,
    },
    /// A PDV whose length does not fit its PDU.
    #[error("a PDV announces {length} bytes where {left} are left in its PDU")]
    PdvLength {
        /// Announced.
        length: u32,
        /// Left.
        left: usize,
    },
}

/// One PDU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawPdu {
    /// PS3.8 §9.3.1.
    pub pdu_type: u8,
    /// Everything after the length.
    pub body: Bytes,
}

/// Takes the next PDU off the front of `buffer`. `Ok(None)`: more bytes are needed. `data_max` bounds
/// P-DATA-TF PDUs.
pub fn next_pdu(buffer: &mut BytesMut, data_max: u32) -> Result<Option<RawPdu>, FramingError> {
    let Some(length) = announced(buffer, data_max)? else { return Ok(None) };
    let whole = PDU_HEADER_BYTES + length;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    let mut pdu = buffer.split_to(whole).freeze();
    let pdu_type = pdu.get_u8();
    pdu.advance(PDU_HEADER_BYTES - 1);
    Ok(Some(RawPdu { pdu_type, body: pdu }))
}

/// The length that the PDU at the front announces, checked as soon as its first bytes are there.
fn announced(buffer: &[u8], data_max: u32) -> Result<Option<usize>, FramingError> {
    let Some(&pdu_type) = buffer.first() else { return Ok(None) };
    if !(pdu_type::ASSOCIATE_RQ..=pdu_type::ABORT).contains(&pdu_type) {
        return Err(FramingError::Type(pdu_type));
    }
    let Some([_, _, a, b, c, d]) = buffer.first_chunk::<PDU_HEADER_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    let max = match pdu_type {
        pdu_type::P_DATA_TF => data_max,
        pdu_type::ASSOCIATE_RQ | pdu_type::ASSOCIATE_AC => CONTROL_PDU_BYTES_MAX,
        // Reject, release and abort have four bytes (PS3.8 Tables 9-21 to 9-26).
        _ => 64,
    };
    if length > max {
        return Err(FramingError::TooLong { pdu_type, length, max });
    }
    Ok(usize::try_from(length).ok())
}

/// A presentation data value (PS3.8 §9.3.5.1, Annex E.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdv {
    /// Presentation context id.
    pub context: u8,
    /// Command rather than data set.
    pub command: bool,
    /// The last fragment of its command or data set.
    pub last: bool,
    /// The fragment.
    pub data: Bytes,
}

/// Takes the next PDV off the front of a P-DATA-TF body.
pub fn next_pdv(body: &mut Bytes) -> Result<Option<Pdv>, FramingError> {
    if body.is_empty() {
        return Ok(None);
    }
    let Some([a, b, c, d]) = body.first_chunk::<4>() else {
        return Err(FramingError::PdvLength { length: 0, left: body.len() });
    };
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    let left = body.len() - 4;
    let fits = usize::try_from(length).ok().filter(|length| (2..=left).contains(length));
    let Some(whole) = fits else { return Err(FramingError::PdvLength { length, left }) };
    body.advance(4);
    let mut data = body.split_to(whole);
    let context = data.get_u8();
    let control = data.get_u8();
    Ok(Some(Pdv { context, command: control & 1 != 0, last: control & 2 != 0, data }))
}

/// The twelve bytes before a single PDV in a P-DATA-TF PDU.
pub fn data_head(context: u8, command: bool, last: bool, bytes: usize) -> [u8; PDU_HEADER_BYTES + PDV_HEADER_BYTES] {
    // Callers keep fragments below CONTROL_PDU_BYTES_MAX.
    let pdv = u32::try_from(bytes + 2).unwrap_or(u32::MAX);
    let pdu = pdv.saturating_add(4);
    let ([a, b, c, d], [e, f, g, h]) = (pdu.to_be_bytes(), pdv.to_be_bytes());
    let control = u8::from(command) | (u8::from(last) << 1);
    [pdu_type::P_DATA_TF, 0, a, b, c, d, e, f, g, h, context, control]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pdu(pdvs: &[(u8, bool, bool, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (context, command, last, data) in pdvs {
            body.extend_from_slice(&(data.len() as u32 + 2).to_be_bytes());
            body.extend_from_slice(&[*context, u8::from(*command) | (u8::from(*last) << 1)]);
            body.extend_from_slice(data);
        }
        let mut pdu = vec![4, 0];
        pdu.extend_from_slice(&(body.len() as u32).to_be_bytes());
        pdu.extend_from_slice(&body);
        pdu
    }

    #[test]
    fn hostile_starts_end_at_once() {
        let cases: &[(&[u8], FramingError)] = &[
            (b"GET / HTTP/1.1\r\n", FramingError::Type(b'G')),
            (&[0x16, 3, 1], FramingError::Type(0x16)),
            (&[0], FramingError::Type(0)),
            (&[1, 0, 0x7F, 0xFF, 0xFF, 0xFF], FramingError::TooLong { pdu_type: 1, length: 0x7FFF_FFFF, max: 1 << 20 }),
            (&[4, 0, 0, 0, 0x10, 1], FramingError::TooLong { pdu_type: 4, length: 4097, max: 4096 }),
            (&[5, 0, 0, 0, 1, 0], FramingError::TooLong { pdu_type: 5, length: 256, max: 64 }),
        ];
        for (bytes, want) in cases {
            assert_eq!(next_pdu(&mut BytesMut::from(*bytes), 4096).unwrap_err(), *want);
        }
    }

    #[test]
    fn a_pdv_must_fit_its_pdu() {
        for bytes in [&[0u8, 0, 0][..], &[0, 0, 0, 1, 1], &[0, 0, 0, 0, 1, 3], &[0, 0, 0, 9, 1, 3, 7], &[255, 255, 255, 255, 1, 3]] {
            assert!(next_pdv(&mut Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_pdvs(
            pdus in prop::collection::vec(
                prop::collection::vec((any::<u8>(), any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..50)), 0..4),
                1..6),
            cut in 1usize..40,
        ) {
            let stream = pdus.iter().flat_map(|pdvs| pdu(pdvs)).collect::<Vec<_>>();
            let mut buffer = BytesMut::new();
            let mut got = Vec::new();
            for piece in stream.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(mut pdu) = next_pdu(&mut buffer, 4096).unwrap() {
                    while let Some(pdv) = next_pdv(&mut pdu.body).unwrap() {
                        got.push((pdv.context, pdv.command, pdv.last, pdv.data.to_vec()));
                    }
                }
            }
            prop_assert_eq!(got, pdus.concat());
            prop_assert!(buffer.is_empty());
        }
    }
}
