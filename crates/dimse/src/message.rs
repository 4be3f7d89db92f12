//! PDVs to DIMSE messages, without a socket.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    Violation,
    command::{CommandError, CommandSet},
    framing::Pdv,
    limits::COMMAND_BYTES_MAX,
};

/// What a peer's PDVs amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A command set is complete. Its data set, if it announces one, follows.
    Command {
        /// Presentation context id.
        context: u8,
        /// The command set.
        command: CommandSet,
    },
    /// The next bytes of the data set; never empty.
    DataFragment(Bytes),
    /// The data set is complete.
    DataEnd,
}

/// Which presentation context ids are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContextIds([u64; 4]);

impl ContextIds {
    /// Whether this id is in use.
    pub fn contains(&self, id: u8) -> bool {
        self.0.get(usize::from(id >> 6)).is_some_and(|word| word >> (id & 63) & 1 == 1)
    }

    /// Adds an id; false when it was in use.
    pub fn insert(&mut self, id: u8) -> bool {
        let is_new = !self.contains(id);
        if let Some(word) = self.0.get_mut(usize::from(id >> 6)) {
            *word |= 1 << (id & 63);
        }
        is_new
    }
}

impl FromIterator<u8> for ContextIds {
    fn from_iter<I: IntoIterator<Item = u8>>(ids: I) -> Self {
        let mut set = Self::default();
        ids.into_iter().for_each(|id| {
            set.insert(id);
        });
        set
    }
}

/// Puts messages together: the events do not depend on how a peer cut its command and data sets into
/// PDVs, nor on how it packed those into PDUs. Data sets pass through fragment by fragment.
///
/// After a [`Violation`] it must not be used any more.
#[derive(Debug)]
pub struct Assembler {
    accepted: ContextIds,
    state: State,
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum State {
    /// Between two messages.
    Idle,
    /// Within a command set.
    Command { context: u8, so_far: BytesMut },
    /// Within, or right before, a data set.
    Data { context: u8 },
}

impl Assembler {
    /// For an association with these accepted presentation contexts.
    pub fn new(accepted: ContextIds) -> Self {
        Self { accepted, state: State::Idle, events: VecDeque::new() }
    }

    /// Between two messages, as far as was received.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle) && self.events.is_empty()
    }

    /// A command set has begun and is not complete.
    pub fn is_in_command(&self) -> bool {
        matches!(self.state, State::Command { .. })
    }

    /// Takes the next PDV.
    pub fn handle(&mut self, pdv: Pdv) -> Result<(), Violation> {
        if !self.accepted.contains(pdv.context) {
            return Err(Violation::UnknownContext(pdv.context));
        }
        if pdv.is_command { self.command(pdv) } else { self.data(pdv) }
    }

    /// The next event, if there is one.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn command(&mut self, pdv: Pdv) -> Result<(), Violation> {
        let mut so_far = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => BytesMut::new(),
            State::Command { context, so_far } if context == pdv.context => so_far,
            State::Command { context, .. } => {
                return Err(Violation::ContextChanged { from: context, to: pdv.context });
            }
            State::Data { .. } => return Err(Violation::DataMissing),
        };
        if so_far.len() + pdv.bytes.len() > COMMAND_BYTES_MAX {
            return Err(Violation::CommandTooLong);
        }
        // Copied: a command of 200 bytes must not keep a read buffer of 256 KiB alive.
        so_far.extend_from_slice(&pdv.bytes);
        if !pdv.is_last {
            self.state = State::Command { context: pdv.context, so_far };
            return Ok(());
        }
        let command = CommandSet::parse(so_far.freeze())?;
        self.state = if has_data_set(&command)? { State::Data { context: pdv.context } } else { State::Idle };
        self.events.push_back(Event::Command { context: pdv.context, command });
        Ok(())
    }

    fn data(&mut self, pdv: Pdv) -> Result<(), Violation> {
        match self.state {
            State::Data { context } if context == pdv.context => {}
            State::Data { context } | State::Command { context, .. } if context != pdv.context => {
                return Err(Violation::ContextChanged { from: context, to: pdv.context });
            }
            _ => return Err(Violation::DataUnexpected),
        }
        if !pdv.bytes.is_empty() {
            self.events.push_back(Event::DataFragment(pdv.bytes));
        }
        if pdv.is_last {
            self.state = State::Idle;
            self.events.push_back(Event::DataEnd);
        }
        Ok(())
    }
}

/// Every command set has a Command Field and says whether a data set follows.
fn has_data_set(command: &CommandSet) -> Result<bool, CommandError> {
    command.command_field()?;
    command.has_data_set()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        command::CommandWriter,
        framing::{Frame, Framer, Phase},
    };

    /// A command or data set that a peer sends, and how it cuts it.
    #[derive(Debug, Clone)]
    struct Part {
        context: u8,
        is_command: bool,
        bytes: Vec<u8>,
        cuts: Vec<usize>,
    }

    impl Part {
        fn pdvs(&self) -> Vec<Pdv> {
            let mut cuts: Vec<usize> = self.cuts.iter().map(|cut| cut % (self.bytes.len() + 1)).collect();
            cuts.extend([0, self.bytes.len()]);
            cuts.sort_unstable();
            let pdv = |range: &[usize]| Pdv {
                context: self.context,
                is_command: self.is_command,
                is_last: false,
                bytes: Bytes::copy_from_slice(&self.bytes[range[0]..range[1]]),
            };
            let mut pdvs: Vec<Pdv> = cuts.windows(2).map(pdv).collect();
            pdvs.last_mut().unwrap().is_last = true;
            pdvs
        }
    }

    /// The events of these PDVs, with neighbouring fragments joined.
    fn events(pdvs: impl IntoIterator<Item = Pdv>) -> Result<Vec<Event>, Violation> {
        let mut assembler = Assembler::new([1, 2, 255].into_iter().collect());
        let mut events = Vec::new();
        for pdv in pdvs {
            assembler.handle(pdv)?;
            while let Some(event) = assembler.poll() {
                match (events.last_mut(), event) {
                    (Some(Event::DataFragment(so_far)), Event::DataFragment(more)) => {
                        *so_far = [&so_far[..], &more].concat().into();
                    }
                    (_, event) => events.push(event),
                }
            }
        }
        Ok(events)
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let context = prop_oneof![Just(1u8), Just(2), Just(255)];
        let cuts = || proptest::collection::vec(0usize..5000, 0..5);
        let data = proptest::option::of((proptest::collection::vec(any::<u8>(), 0..3000), cuts()));
        let message = (context, any::<u16>(), cuts(), data).prop_map(|(context, id, cuts, data)| {
            let command = CommandWriter::new().us(0x0100, 1).us(0x0110, id).data_set(data.is_some()).finish();
            let mut parts = vec![Part { context, is_command: true, bytes: command, cuts }];
            parts.extend(data.map(|(bytes, cuts)| Part { context, is_command: false, bytes, cuts }));
            parts
        });
        proptest::collection::vec(message, 1..6).prop_map(|messages| messages.concat())
    }

    /// PDUs with so many PDVs each, in turn.
    fn pack(pdvs: &[Pdv], counts: &[usize]) -> Vec<u8> {
        let (mut bytes, mut rest) = (Vec::new(), pdvs);
        for count in counts.iter().cycle() {
            let (now, later) = rest.split_at((*count).min(rest.len()));
            let mut body = Vec::new();
            for pdv in now {
                body.extend_from_slice(&(pdv.bytes.len() as u32 + 2).to_be_bytes());
                body.extend_from_slice(&[pdv.context, u8::from(pdv.is_command) | u8::from(pdv.is_last) << 1]);
                body.extend_from_slice(&pdv.bytes);
            }
            bytes.extend_from_slice(&[4, 0]);
            bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&body);
            rest = later;
            if rest.is_empty() {
                return bytes;
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn events_depend_neither_on_pdvs_nor_on_pdus_nor_on_reads(
            parts in parts(),
            counts in proptest::collection::vec(1usize..6, 1..6),
            reads in proptest::collection::vec(1usize..4000, 1..6),
        ) {
            let whole = parts.iter().flat_map(|part| Part { cuts: Vec::new(), ..part.clone() }.pdvs());
            let want = events(whole).unwrap();
            let cut: Vec<Pdv> = parts.iter().flat_map(Part::pdvs).collect();
            let bytes = pack(&cut, &counts);
            let mut framer = Framer::new(Phase::Established, 0);
            let (mut pdvs, mut rest) = (Vec::new(), &bytes[..]);
            for read in reads.iter().cycle() {
                let (now, later) = rest.split_at((*read).min(rest.len()));
                framer.room().extend_from_slice(now);
                while let Some(frame) = framer.poll().unwrap() {
                    let Frame::Pdv(pdv) = frame else { panic!("{frame:?}") };
                    pdvs.push(pdv);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(events(pdvs).unwrap(), want);
        }

        #[test]
        fn a_message_that_is_cut_off_never_ends(parts in parts(), keep in any::<prop::sample::Index>()) {
            let pdvs: Vec<Pdv> = parts.iter().flat_map(Part::pdvs).collect();
            let kept = keep.index(pdvs.len());
            let ends = pdvs.iter().take(kept).filter(|pdv| pdv.is_last && !pdv.is_command).count();
            let events = events(pdvs.into_iter().take(kept)).unwrap();
            prop_assert_eq!(events.iter().filter(|event| **event == Event::DataEnd).count(), ends);
        }
    }

    #[test]
    fn pdvs_out_of_order_are_violations() {
        let command = |has_data_set| CommandWriter::new().us(0x0100, 1).data_set(has_data_set).finish();
        let pdv = |context, is_command, is_last, bytes: &[u8]| Pdv {
            context,
            is_command,
            is_last,
            bytes: Bytes::copy_from_slice(bytes),
        };
        let announced = || pdv(1, true, true, &command(true));
        let cases = [
            (vec![pdv(3, true, true, &command(true))], Violation::UnknownContext(3)),
            (vec![announced(), announced()], Violation::DataMissing),
            (vec![announced(), pdv(1, false, false, b"ab"), announced()], Violation::DataMissing),
            (vec![announced(), pdv(2, false, true, b"ab")], Violation::ContextChanged { from: 1, to: 2 }),
            (vec![pdv(1, false, true, b"ab")], Violation::DataUnexpected),
            (
                vec![pdv(1, true, true, &command(false)), pdv(1, false, true, b"ab")],
                Violation::DataUnexpected,
            ),
            (
                vec![announced(), pdv(1, false, true, b""), pdv(1, false, true, b"")],
                Violation::DataUnexpected,
            ),
            (vec![pdv(1, true, false, b""), pdv(1, false, true, b"")], Violation::DataUnexpected),
            (vec![pdv(1, true, false, &vec![0; COMMAND_BYTES_MAX + 1])], Violation::CommandTooLong),
        ];
        for (pdvs, want) in cases {
            assert_eq!(events(pdvs.clone()), Err(want), "{pdvs:?}");
        }
    }

    #[test]
    fn context_ids_are_a_set_of_256() {
        let mut ids = ContextIds::default();
        for id in 0..=u8::MAX {
            assert!(!ids.contains(id) && ids.insert(id) && !ids.insert(id) && ids.contains(id));
        }
    }
}
