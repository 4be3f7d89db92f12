//! What passes on a connection, for somebody who looks on: PDUs, command sets, and how long data sets are. Never a byte of a data set.
//!
//! It hangs on the connection itself, so that it sees what is on the wire: also what is rejected, aborted, or answered by this crate.

use std::{fmt, sync::Arc};

use bytes::{Buf, Bytes};

use crate::{
    command::CommandSet,
    framing::{Frame, PDU_HEADER_BYTES, PDV_HEADER_BYTES, Pdv, pdu_type},
    limits::COMMAND_BYTES_MAX,
    link::Outgoing,
};

/// Somebody who looks on. Called from the connection's own task, so it must not wait.
pub trait Onlooker: fmt::Debug + Send + Sync {
    /// Whether anybody looks now; nothing is taken apart where nobody does.
    fn looks(&self) -> bool;
    /// This has passed. The A-ASSOCIATE-RQ comes in any case: what it says is needed later.
    fn saw(&self, seen: Seen<'_>);
}

/// Which way something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

/// Something that has passed.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// A PDU other than P-DATA-TF (PS3.8 §9.3).
    Pdu {
        /// From whom.
        way: Way,
        /// PDU type.
        pdu_type: u8,
        /// What follows the header of six bytes.
        body: &'a [u8],
    },
    /// A command set (PS3.7 §6.3).
    Command {
        /// From whom.
        way: Way,
        /// Presentation context id.
        context: u8,
        /// The command set.
        command: &'a CommandSet,
    },
    /// The end of a data set.
    DataSet {
        /// From whom.
        way: Way,
        /// Presentation context id.
        context: u8,
        /// Its length.
        bytes: u64,
    },
    /// The connection is closed.
    End,
}

/// An onlooker of a connection, and what of a message has passed so far.
#[derive(Debug)]
pub(crate) struct Watched {
    onlooker: Arc<dyn Onlooker>,
    received: Passing,
    sent: Passing,
}

#[derive(Debug, Default)]
struct Passing {
    command: Vec<u8>,
    data: u64,
}

impl Watched {
    pub(crate) fn new(onlooker: Arc<dyn Onlooker>) -> Self {
        Self { onlooker, received: Passing::default(), sent: Passing::default() }
    }

    /// This came from the peer.
    pub(crate) fn received(&mut self, frame: &Frame) {
        match frame {
            Frame::Control { pdu_type, body } => self.control(Way::Received, *pdu_type, body),
            Frame::Pdv(_) if !self.onlooker.looks() => self.received = Passing::default(),
            Frame::Pdv(Pdv { context, is_command: true, is_last, bytes }) => {
                self.received.command(self.onlooker.as_ref(), Way::Received, *context, (bytes, *is_last));
            }
            Frame::Pdv(Pdv { context, is_last, bytes, .. }) => {
                self.received.data(self.onlooker.as_ref(), Way::Received, *context, (bytes.len(), *is_last));
            }
        }
    }

    /// These whole PDUs are about to be sent.
    pub(crate) fn sends(&mut self, out: &Outgoing) {
        if !self.onlooker.looks() && !is_request(out.chunk()) {
            self.sent = Passing::default();
            return;
        }
        // Slices are shared; only command sets are copied.
        let mut out = out.clone();
        while out.remaining() >= PDU_HEADER_BYTES {
            let (pdu_type, _, length) = (out.get_u8(), out.get_u8(), bytes(out.get_u32()));
            if pdu_type != pdu_type::P_DATA {
                let Some(body) = take(&mut out, length) else { return };
                self.control(Way::Sent, pdu_type, &body);
                continue;
            }
            let end = out.remaining().saturating_sub(length);
            while out.remaining() >= end + PDV_HEADER_BYTES {
                let (length, context, control) = (out.get_u32(), out.get_u8(), out.get_u8());
                // The length counts the two bytes behind it.
                let length = bytes(length.saturating_sub(2));
                let is_last = control & 2 != 0;
                if control & 1 == 0 {
                    out.advance(length.min(out.remaining()));
                    self.sent.data(self.onlooker.as_ref(), Way::Sent, context, (length, is_last));
                    continue;
                }
                let Some(command) = take(&mut out, length) else { return };
                self.sent.command(self.onlooker.as_ref(), Way::Sent, context, (&command, is_last));
            }
        }
    }

    /// The same for one PDU.
    pub(crate) fn sends_last(&mut self, pdu: &[u8]) {
        self.sends(&pdu.to_vec().into());
    }

    fn control(&self, way: Way, pdu_type: u8, body: &[u8]) {
        if pdu_type == pdu_type::ASSOCIATE_RQ || self.onlooker.looks() {
            self.onlooker.saw(Seen::Pdu { way, pdu_type, body });
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.onlooker.looks() {
            self.onlooker.saw(Seen::End);
        }
    }
}

fn is_request(pdu: &[u8]) -> bool {
    pdu.first() == Some(&pdu_type::ASSOCIATE_RQ)
}

fn bytes(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn take(from: &mut impl Buf, length: usize) -> Option<Bytes> {
    (from.remaining() >= length).then(|| from.copy_to_bytes(length))
}

impl Passing {
    fn data(&mut self, onlooker: &dyn Onlooker, way: Way, context: u8, (length, is_last): (usize, bool)) {
        self.data += length as u64;
        if is_last {
            onlooker.saw(Seen::DataSet { way, context, bytes: std::mem::take(&mut self.data) });
        }
    }

    fn command(&mut self, onlooker: &dyn Onlooker, way: Way, context: u8, (bytes, is_last): (&[u8], bool)) {
        if self.command.len() + bytes.len() <= COMMAND_BYTES_MAX {
            self.command.extend_from_slice(bytes);
        }
        if is_last {
            // Where it is looked at from its middle on, or is no command set, its own reader says so.
            if let Ok(command) = CommandSet::parse(std::mem::take(&mut self.command).into()) {
                onlooker.saw(Seen::Command { way, context, command: &command });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;
    use crate::{
        command::{CommandWriter, element, field},
        fragment::{Fragmenter, command_pdus},
        framing::{Framer, Phase},
    };

    #[derive(Debug, Default)]
    struct Notes {
        closed_eyes: AtomicBool,
        seen: Mutex<Vec<String>>,
    }

    impl Onlooker for Notes {
        fn looks(&self) -> bool {
            !self.closed_eyes.load(Ordering::SeqCst)
        }

        fn saw(&self, seen: Seen<'_>) {
            let note = match seen {
                Seen::Pdu { way, pdu_type, body } => format!("{way:?} {pdu_type} {}", body.len()),
                Seen::Command { way, context, command } => {
                    format!("{way:?} command {context} {:?}", command.message_id())
                }
                Seen::DataSet { way, context, bytes } => format!("{way:?} data {context} {bytes}"),
                Seen::End => "end".to_owned(),
            };
            self.seen.lock().unwrap().push(note);
        }
    }

    /// A C-STORE-RQ and a data set of this length, in PDUs that are too short for either.
    fn message(message_id: u16, length: usize) -> Outgoing {
        let command = CommandWriter::new()
            .us(element::COMMAND_FIELD, field::C_STORE_RQ)
            .us(element::MESSAGE_ID, message_id)
            .data_set(true)
            .finish();
        let mut out = Outgoing::from(command_pdus(3, &command, 20));
        let mut fragmenter = Fragmenter::new(3, 100);
        fragmenter.push(Bytes::from(vec![7; length]));
        fragmenter.finish(&mut out);
        out
    }

    #[test]
    fn what_is_sent_and_received_is_seen_alike_however_it_is_cut() {
        let notes = Arc::new(Notes::default());
        let mut watched = Watched::new(notes.clone());
        let mut wire = Vec::new();
        for message_id in [1, 2] {
            let mut out = message(message_id, 1000);
            watched.sends(&out);
            wire.extend_from_slice(&out.copy_to_bytes(out.remaining()));
        }
        watched.sends_last(&[pdu_type::RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
        let mut framer = Framer::new(Phase::Established, 0);
        for byte in wire {
            framer.room().extend_from_slice(&[byte]);
            while let Some(frame) = framer.poll().unwrap() {
                watched.received(&frame);
            }
        }
        drop(watched);
        let of = |way: &str| {
            [1, 2].map(|id| vec![format!("{way} command 3 Ok({id})"), format!("{way} data 3 1000")]).concat()
        };
        let want = [of("Sent"), vec!["Sent 5 4".to_owned()], of("Received"), vec!["end".to_owned()]].concat();
        assert_eq!(*notes.seen.lock().unwrap(), want);
    }

    #[test]
    fn only_the_request_is_seen_while_nobody_looks_and_half_a_message_is_no_message() {
        let notes = Arc::new(Notes::default());
        notes.closed_eyes.store(true, Ordering::SeqCst);
        let mut watched = Watched::new(notes.clone());
        watched.sends_last(&[pdu_type::ASSOCIATE_RQ, 0, 0, 0, 0, 2, 0, 1]);
        watched.sends(&message(1, 10));
        let frames = |message_id| {
            let mut framer = Framer::new(Phase::Established, 0);
            let mut out = message(message_id, 10);
            framer.room().extend_from_slice(&out.copy_to_bytes(out.remaining()));
            std::iter::from_fn(move || framer.poll().unwrap()).collect::<Vec<_>>()
        };
        let (first, second) = (frames(1), frames(2));
        watched.received(&first[0]);
        notes.closed_eyes.store(false, Ordering::SeqCst);
        first[1..].iter().chain(&second).for_each(|frame| watched.received(frame));
        assert_eq!(
            *notes.seen.lock().unwrap(),
            ["Sent 1 2", "Received data 3 10", "Received command 3 Ok(2)", "Received data 3 10"]
        );
    }
}
