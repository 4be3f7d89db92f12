//! Bytes to PDUs and PDVs, without a socket.
//!
//! A-ASSOCIATE PDUs come out whole, to be read by dicom-ul's codec. P-DATA-TF is the hot path and is cut
//! here, on [`Bytes`], without copying: dicom-ul copies each presentation data value three times (socket
//! buffer, PDU, `Vec`). Every length is checked before anything is buffered under it.

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    Violation,
    limits::{
        ASSOCIATE_BYTES_MAX, HANDSHAKE_READ_BYTES, PIECE_BYTES, PROGRESS_BYTES, READ_BYTES,
        SHORT_PDU_BYTES_MAX,
    },
};

/// PDU types (PS3.8 §9.3.1).
pub(crate) mod pdu_type {
    pub(crate) const ASSOCIATE_RQ: u8 = 0x01;
    pub(crate) const ASSOCIATE_AC: u8 = 0x02;
    pub(crate) const ASSOCIATE_RJ: u8 = 0x03;
    pub(crate) const P_DATA: u8 = 0x04;
    pub(crate) const RELEASE_RQ: u8 = 0x05;
    pub(crate) const RELEASE_RP: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x07;
}

/// PDU type, reserved byte, length.
pub(crate) const PDU_HEADER_BYTES: usize = 6;
/// PDV length, presentation context id, message control header.
pub(crate) const PDV_HEADER_BYTES: usize = 6;

/// Which PDUs may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// An acceptor waits for the A-ASSOCIATE-RQ.
    Request,
    /// A requestor waits for the answer to it.
    Answer,
    /// The association is established.
    Established,
    /// A requestor waits for the A-RELEASE-RP; what was under way may still come.
    Releasing,
}

/// A presentation data value, or a piece of one (PS3.8 §9.3.5.1). Pieces of a long PDV are as good as
/// separate PDVs: only the one with its last byte can say `is_last`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdv {
    /// Presentation context id.
    pub context: u8,
    /// Command set or data set.
    pub is_command: bool,
    /// The last fragment of its command set or data set.
    pub is_last: bool,
    /// The fragment.
    pub bytes: Bytes,
}

/// What the framer finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A PDU other than P-DATA-TF, without its header.
    Control {
        /// PDU type.
        pdu_type: u8,
        /// What follows the header.
        body: Bytes,
    },
    /// A PDV of a P-DATA-TF.
    Pdv(Pdv),
}

/// Cuts what comes from a peer into frames.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    phase: Phase,
    max_pdu: u32,
    state: State,
    milestone: u64,
    /// Data bytes of the running P-DATA-TF that were handed on.
    taken: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Header,
    Control {
        pdu_type: u8,
        length: usize,
    },
    /// Between two PDVs; so many bytes of the PDU are left.
    Data {
        left: u32,
    },
    /// Within a PDV.
    Value {
        context: u8,
        control: u8,
        value_left: u32,
        pdu_left: u32,
    },
}

impl Framer {
    /// `max_pdu` is the longest P-DATA-TF that is accepted, 0 for any: what is buffered stays bounded
    /// because long PDVs are handed on in pieces.
    pub fn new(phase: Phase, max_pdu: u32) -> Self {
        let max_pdu = if max_pdu == 0 { u32::MAX } else { max_pdu };
        Self { buffer: BytesMut::new(), phase, max_pdu, state: State::Header, milestone: 0, taken: 0 }
    }

    /// Says which PDUs may come from now on.
    pub fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// The buffer with room to read into. Its contents are only ever appended to.
    pub fn room(&mut self) -> &mut BytesMut {
        let wanted = if self.phase == Phase::Established { READ_BYTES } else { HANDSHAKE_READ_BYTES };
        if self.buffer.capacity() - self.buffer.len() < wanted / 8 {
            // In place when nobody holds slices of it any more.
            self.buffer.reserve(wanted);
        }
        &mut self.buffer
    }

    /// Part of a PDU has come, and the rest has not.
    pub fn is_inside_pdu(&self) -> bool {
        !matches!(self.state, State::Header) || !self.buffer.is_empty()
    }

    /// Grows with each PDU that is complete and brought something, and with each [`PROGRESS_BYTES`] of a
    /// longer one: what a progress timer is set again by. Empty PDVs do not count.
    pub fn milestone(&self) -> u64 {
        self.milestone
    }

    /// The next frame, or `None` when more bytes are needed.
    pub fn poll(&mut self) -> Result<Option<Frame>, Violation> {
        loop {
            match self.state {
                State::Header => {
                    let Some((pdu_type, length)) = self.header()? else { return Ok(None) };
                    self.state = if pdu_type == pdu_type::P_DATA {
                        self.taken = 0;
                        State::Data { left: length }
                    } else {
                        State::Control { pdu_type, length: length as usize }
                    };
                }
                State::Control { pdu_type, length } => {
                    if self.buffer.len() < length {
                        return Ok(None);
                    }
                    let body = self.buffer.split_to(length).freeze();
                    self.state = State::Header;
                    self.milestone += 1;
                    return Ok(Some(Frame::Control { pdu_type, body }));
                }
                State::Data { left: 0 } => {
                    self.milestone += u64::from(self.taken > 0);
                    self.state = State::Header;
                }
                State::Data { left } => {
                    let Some(state) = self.pdv_header(left)? else { return Ok(None) };
                    self.state = state;
                }
                State::Value { .. } => return Ok(self.value().map(Frame::Pdv)),
            }
        }
    }

    /// Reads a PDU header once it is there; its type is judged as soon as its first byte is.
    fn header(&mut self) -> Result<Option<(u8, u32)>, Violation> {
        let Some(&pdu_type) = self.buffer.first() else { return Ok(None) };
        let max = self.length_max(pdu_type)?;
        let Some(&[_, _, a, b, c, d]) = self.buffer.first_chunk::<PDU_HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if length > max {
            return Err(Violation::PduTooLong { pdu_type, length, max });
        }
        let least = if pdu_type == pdu_type::P_DATA { PDV_HEADER_BYTES as u32 } else { 4 };
        if length < least {
            return Err(Violation::PduTooShort { pdu_type, length });
        }
        self.buffer.advance(PDU_HEADER_BYTES);
        Ok(Some((pdu_type, length)))
    }

    /// The longest that a PDU of this type may be now.
    fn length_max(&self, pdu_type: u8) -> Result<u32, Violation> {
        use pdu_type::{ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, ASSOCIATE_RQ, P_DATA, RELEASE_RP, RELEASE_RQ};
        match (self.phase, pdu_type) {
            (Phase::Request, ASSOCIATE_RQ) | (Phase::Answer, ASSOCIATE_AC) => Ok(ASSOCIATE_BYTES_MAX),
            (Phase::Answer, ASSOCIATE_RJ) | (Phase::Releasing, RELEASE_RP) => Ok(SHORT_PDU_BYTES_MAX),
            (Phase::Established | Phase::Releasing, P_DATA) => Ok(self.max_pdu),
            (Phase::Established | Phase::Releasing, RELEASE_RQ) | (_, ABORT) => Ok(SHORT_PDU_BYTES_MAX),
            (_, ASSOCIATE_RQ..=ABORT) => Err(Violation::UnexpectedPdu(pdu_type)),
            _ => Err(Violation::UnknownPdu(pdu_type)),
        }
    }

    fn pdv_header(&mut self, pdu_left: u32) -> Result<Option<State>, Violation> {
        let Some(pdu_left) = pdu_left.checked_sub(4) else {
            return Err(Violation::PdvLength { length: 0, left: pdu_left });
        };
        let Some(&[a, b, c, d]) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        if length < 2 || length > pdu_left {
            return Err(Violation::PdvLength { length, left: pdu_left });
        }
        let Some(&[_, _, _, _, context, control]) = self.buffer.first_chunk::<PDV_HEADER_BYTES>() else {
            return Ok(None);
        };
        self.buffer.advance(PDV_HEADER_BYTES);
        Ok(Some(State::Value { context, control, value_left: length - 2, pdu_left: pdu_left - length }))
    }

    /// The rest of the running PDV, or a piece of at least [`PIECE_BYTES`].
    fn value(&mut self) -> Option<Pdv> {
        let State::Value { context, control, value_left, pdu_left } = self.state else { return None };
        let available = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX).min(value_left);
        let is_end = available == value_left;
        if !is_end && (available as usize) < PIECE_BYTES {
            return None;
        }
        let bytes = self.buffer.split_to(available as usize).freeze();
        let before = self.taken / PROGRESS_BYTES;
        self.taken += u64::from(available);
        self.milestone += self.taken / PROGRESS_BYTES - before;
        self.state = if is_end {
            State::Data { left: pdu_left }
        } else {
            State::Value { context, control, value_left: value_left - available, pdu_left }
        };
        Some(Pdv { context, is_command: control & 1 != 0, is_last: is_end && control & 2 != 0, bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pdv(context: u8, control: u8, value: &[u8]) -> Vec<u8> {
        let mut pdv = (value.len() as u32 + 2).to_be_bytes().to_vec();
        pdv.extend_from_slice(&[context, control]);
        pdv.extend_from_slice(value);
        pdv
    }

    fn p_data(pdvs: &[u8]) -> Vec<u8> {
        let mut pdu = vec![4, 0];
        pdu.extend_from_slice(&(pdvs.len() as u32).to_be_bytes());
        pdu.extend_from_slice(pdvs);
        pdu
    }

    fn frames(framer: &mut Framer, bytes: &[u8]) -> Result<Vec<Frame>, Violation> {
        framer.room().extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = framer.poll()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn a_length_is_judged_before_anything_is_buffered_under_it() {
        let cases: [(Phase, &[u8], Violation); 6] = [
            (Phase::Request, b"P", Violation::UnknownPdu(b'P')),
            (Phase::Request, &[4], Violation::UnexpectedPdu(4)),
            (
                Phase::Request,
                &[1, 0, 0x7F, 0xFF, 0xFF, 0xFF],
                Violation::PduTooLong { pdu_type: 1, length: i32::MAX as u32, max: ASSOCIATE_BYTES_MAX },
            ),
            (
                Phase::Established,
                &[4, 0, 0, 0, 0x10, 1],
                Violation::PduTooLong { pdu_type: 4, length: 4097, max: 4096 },
            ),
            (Phase::Established, &[4, 0, 0, 0, 0, 5], Violation::PduTooShort { pdu_type: 4, length: 5 }),
            (
                Phase::Established,
                &[4, 0, 0, 0, 0, 6, 0, 0, 0, 3],
                Violation::PdvLength { length: 3, left: 2 },
            ),
        ];
        for (phase, bytes, want) in cases {
            let mut framer = Framer::new(phase, 4096);
            assert_eq!(frames(&mut framer, bytes), Err(want));
        }
    }

    #[test]
    fn a_long_pdv_is_handed_on_in_pieces_and_only_its_last_one_is_last() {
        let value = vec![7; 300_000];
        let bytes = p_data(&pdv(1, 2, &value));
        let mut framer = Framer::new(Phase::Established, 0);
        let (mut pieces, mut buffered) = (Vec::new(), 0);
        for chunk in bytes.chunks(1448) {
            for frame in frames(&mut framer, chunk).unwrap() {
                let Frame::Pdv(pdv) = frame else { panic!("{frame:?}") };
                pieces.push((pdv.bytes.len(), pdv.is_last));
            }
            buffered = framer.buffer.len().max(buffered);
        }
        assert!(buffered < PIECE_BYTES);
        assert_eq!(pieces.iter().map(|piece| piece.0).sum::<usize>(), value.len());
        let (last, others) = pieces.split_last().unwrap();
        assert!(last.1 && others.iter().all(|piece| piece.0 >= PIECE_BYTES && !piece.1));
    }

    #[test]
    fn progress_is_a_pdu_that_brought_something_or_a_part_of_a_long_one() {
        let mut framer = Framer::new(Phase::Established, 0);
        frames(&mut framer, &p_data(&pdv(1, 0, &[]))).unwrap();
        assert_eq!(framer.milestone(), 0);
        frames(&mut framer, &p_data(&pdv(1, 0, &[1]))).unwrap();
        assert_eq!(framer.milestone(), 1);
        let long = p_data(&pdv(1, 0, &vec![0; 3 << 20]));
        frames(&mut framer, &long[..long.len() - 1]).unwrap();
        assert!(framer.milestone() >= 3 && framer.is_inside_pdu());
        frames(&mut framer, &long[long.len() - 1..]).unwrap();
        assert!(!framer.is_inside_pdu());
    }

    proptest! {
        /// Whatever comes: no panic, and no more buffered than a piece.
        #[test]
        fn any_bytes_are_frames_or_a_violation(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            head in 0usize..5,
        ) {
            let heads: [&[u8]; 5] = [&[], &[4, 0, 0, 0, 1], &[4, 0, 0, 0, 0, 200, 0, 0, 0], &[1, 0, 0, 0], &[7, 0, 0, 0, 0, 4]];
            for phase in [Phase::Request, Phase::Answer, Phase::Established, Phase::Releasing] {
                let mut framer = Framer::new(phase, 1 << 20);
                let input = [heads[head], &bytes].concat();
                let _ = frames(&mut framer, &input);
            }
        }

        /// Where the stream is cut means nothing.
        #[test]
        fn frames_do_not_depend_on_how_the_bytes_arrive(
            values in proptest::collection::vec((any::<u8>(), 0u8..4, 0usize..300), 1..12),
            cuts in proptest::collection::vec(1usize..500, 1..40),
        ) {
            let mut bytes = Vec::new();
            for (context, control, length) in &values {
                bytes.extend(p_data(&pdv(*context, *control, &vec![*context; *length])));
            }
            let whole = frames(&mut Framer::new(Phase::Established, 4096), &bytes).unwrap();
            let mut framer = Framer::new(Phase::Established, 4096);
            let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                pieces.extend(frames(&mut framer, head).unwrap());
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(whole, pieces);
            prop_assert!(!framer.is_inside_pdu());
        }
    }
}
