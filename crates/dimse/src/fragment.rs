//! Messages to P-DATA-TF PDUs, without a socket.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    framing::{PDU_HEADER_BYTES, PDV_HEADER_BYTES, pdu_type},
    limits::{MAX_PDU_MAX, PEER_MAX_PDU_MIN},
    link::Outgoing,
};

/// Shorter pieces are copied together rather than written as slices of their own.
const COPY_BELOW: usize = 2 * 1024;

/// The longest P-DATA-TF that we send: what the peer takes (0 is no limit), but never more than we want.
pub(crate) fn pdu_length(peer_max: u32, own_max: u32) -> u32 {
    let own_max = own_max.clamp(PEER_MAX_PDU_MIN, MAX_PDU_MAX);
    if peer_max == 0 { own_max } else { peer_max.clamp(PEER_MAX_PDU_MIN, own_max) }
}

/// What one PDV can hold; even, so that all fragments but the last are (PS3.8 Annex E).
fn value_bytes(pdu_length: u32) -> usize {
    (pdu_length as usize).saturating_sub(PDV_HEADER_BYTES) & !1
}

/// A P-DATA-TF with one PDV: its 12 bytes in front of the value.
fn header(
    context: u8,
    is_command: bool,
    is_last: bool,
    length: usize,
) -> [u8; PDU_HEADER_BYTES + PDV_HEADER_BYTES] {
    let pdv = u32::try_from(length + 2).unwrap_or(u32::MAX).to_be_bytes();
    let pdu = u32::try_from(length + PDV_HEADER_BYTES).unwrap_or(u32::MAX).to_be_bytes();
    let control = u8::from(is_command) | u8::from(is_last) << 1;
    let ([a, b, c, d], [e, f, g, h]) = (pdu, pdv);
    [pdu_type::P_DATA, 0, a, b, c, d, e, f, g, h, context, control]
}

/// A command set as P-DATA-TF PDUs, one but for a peer with a tiny maximum.
pub(crate) fn command_pdus(context: u8, command: &[u8], peer_max: u32) -> Vec<u8> {
    let fragment = value_bytes(pdu_length(peer_max, MAX_PDU_MAX));
    let mut pdus = Vec::with_capacity(command.len() + 2 * (PDU_HEADER_BYTES + PDV_HEADER_BYTES));
    let mut fragments = command.chunks(fragment).peekable();
    while let Some(value) = fragments.next() {
        pdus.extend_from_slice(&header(context, true, fragments.peek().is_none(), value.len()));
        pdus.extend_from_slice(value);
    }
    pdus
}

/// Cuts one data set into PDUs. Its last byte is held back until [`Fragmenter::finish`], so that what was
/// sent before can never look complete: the last fragment is marked in the header in front of it.
#[derive(Debug)]
pub(crate) struct Fragmenter {
    context: u8,
    /// What one PDV holds.
    fragment: usize,
    held: VecDeque<Bytes>,
    /// Short pieces, copied together; they follow `held`.
    tail: BytesMut,
    held_bytes: usize,
}

impl Fragmenter {
    pub(crate) fn new(context: u8, pdu_length: u32) -> Self {
        let fragment = value_bytes(pdu_length);
        Self { context, fragment, held: VecDeque::new(), tail: BytesMut::new(), held_bytes: 0 }
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.held_bytes += bytes.len();
        if bytes.len() < COPY_BELOW {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        self.settle_tail();
        self.held.push_back(bytes);
    }

    /// Bytes that were pushed and not yet taken.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Moves PDUs to `out` while more than one fragment is held, and until `out` has `enough` bytes. At
    /// least one byte stays.
    pub(crate) fn take_full(&mut self, out: &mut Outgoing, enough: usize) {
        while self.held_bytes > self.fragment && out.len() < enough {
            self.fragment(out, self.fragment, false);
        }
    }

    /// There is more than one fragment left.
    pub(crate) fn has_full(&self) -> bool {
        self.held_bytes > self.fragment
    }

    /// Moves the last fragment to `out`. Call it when [`Fragmenter::has_full`] says no.
    pub(crate) fn finish(&mut self, out: &mut Outgoing) {
        let rest = self.held_bytes;
        self.fragment(out, rest, true);
    }

    fn fragment(&mut self, out: &mut Outgoing, length: usize, is_last: bool) {
        out.push(Bytes::copy_from_slice(&header(self.context, false, is_last, length)));
        self.settle_tail();
        let mut left = length;
        while left > 0 {
            let Some(front) = self.held.front_mut() else { break };
            if front.len() > left {
                out.push(front.split_to(left));
                left = 0;
            } else {
                left -= front.len();
                out.push(std::mem::take(front));
                self.held.pop_front();
            }
        }
        self.held_bytes -= length;
    }

    fn settle_tail(&mut self) {
        if !self.tail.is_empty() {
            self.held.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, BufMut};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        framing::{Frame, Framer, Phase},
        message::{Assembler, Event},
    };

    fn drain(out: &mut Outgoing) -> Vec<u8> {
        let mut bytes = vec![0; out.remaining()];
        out.copy_to_slice(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn data_sets_arrive_as_sent_and_never_complete_before_the_end(
            pieces in proptest::collection::vec(0usize..9000, 1..20),
            max in 128u32..5000,
        ) {
            let mut fragmenter = Fragmenter::new(7, pdu_length(0, max));
            let mut framer = Framer::new(Phase::Established, max);
            let mut assembler = Assembler::new([7].into_iter().collect());
            let command = crate::command::CommandWriter::new().us(0x0100, 1).data_set(true).finish();
            framer.room().put_slice(&command_pdus(7, &command, max));
            let (mut sent, mut received, mut ended) = (Vec::new(), Vec::new(), false);
            let mut receive = |bytes: &[u8], received: &mut Vec<u8>| -> bool {
                framer.room().extend_from_slice(bytes);
                let mut ended = false;
                while let Some(Frame::Pdv(pdv)) = framer.poll().unwrap() {
                    assembler.handle(pdv).unwrap();
                    while let Some(event) = assembler.poll() {
                        match event {
                            Event::DataFragment(bytes) => received.extend_from_slice(&bytes),
                            Event::DataEnd => ended = true,
                            Event::Command { .. } => {}
                        }
                    }
                }
                ended
            };
            let mut out = Outgoing::default();
            for (number, length) in pieces.iter().enumerate() {
                let piece: Vec<u8> = (0..*length).map(|at| (at * 7 + number) as u8).collect();
                sent.extend_from_slice(&piece);
                fragmenter.push(piece.into());
                fragmenter.take_full(&mut out, usize::MAX);
                prop_assert!(sent.is_empty() || fragmenter.held_bytes() >= 1);
                ended |= receive(&drain(&mut out), &mut received);
                prop_assert!(!ended);
            }
            fragmenter.finish(&mut out);
            prop_assert!(receive(&drain(&mut out), &mut received));
            prop_assert_eq!(sent, received);
        }
    }

    #[test]
    fn pdu_lengths_keep_to_both_sides_limits() {
        let cases = [
            (0, 262_144, 262_144),
            (16_384, 262_144, 16_384),
            (1 << 30, 262_144, 262_144),
            (0, 1 << 30, MAX_PDU_MAX),
            (128, 262_144, 128),
        ];
        for (peer, own, want) in cases {
            assert_eq!(pdu_length(peer, own), want, "peer {peer}, own {own}");
        }
    }

    #[test]
    fn a_command_is_one_pdu_and_split_only_for_a_tiny_maximum() {
        let command = vec![0xAB; 300];
        assert_eq!(command_pdus(3, &command, 16_384).len(), 312);
        let split = command_pdus(3, &command, 128);
        assert_eq!(split.len(), 300 + 3 * 12);
        assert_eq!(split[11], 1);
        assert_eq!(split[134 + 11], 1);
        assert_eq!(split[2 * 134 + 11], 3);
    }
}
