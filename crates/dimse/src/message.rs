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
