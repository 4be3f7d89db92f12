//! DIMSE messages out of PDVs: a pure state machine (PS3.7 §6.3, PS3.8 Annex E).

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::{command::CommandSet, framing::Pdv};

/// The longest command set that is gathered; real ones have some hundred bytes.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;

/// What a PDV brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageEvent {
    /// A command set is complete; its data set, if it has one, follows.
    Command(u8, CommandSet),
    /// A fragment of the running data set.
    Data(Bytes),
    /// The last fragment of the running data set; may be empty.
    LastData(Bytes),
}

/// PDVs that do not make a message.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// A context that was not accepted.
    #[error("presentation context {0} was not accepted")]
    Context(u8),
    /// The context changed within a message.
    #[error("presentation context {got} within a message of context {want}")]
    ContextChanged {
        /// Of the message.
        want: u8,
        /// Of the PDV.
        got: u8,
    },
    /// A data set fragment without a command that announced one.
    #[error("a data set fragment that no command announced")]
    UnannouncedData,
    /// A command while a data set is not complete.
    #[error("a command before the data set is complete")]
    CommandWithinData,
    /// The command is longer than any.
    #[error("a command set of more than {COMMAND_BYTES_MAX} bytes")]
    CommandTooLong,
    /// The command's elements do not add up.
    #[error("a command set that cannot be read")]
    Command,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Messages {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Command(u8, BytesMut),
    Data(u8),
}

impl Messages {
    /// Takes one PDV. `accepted` says whether a context may be used.
    pub fn handle(&mut self, pdv: Pdv, accepted: impl Fn(u8) -> bool) -> Result<Option<MessageEvent>, MessageError> {
        if !accepted(pdv.context) {
            return Err(MessageError::Context(pdv.context));
        }
        if pdv.command { self.command(pdv) } else { self.data(pdv) }
    }

    /// Whether nothing is half done.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether a data set is running.
    pub fn in_data(&self) -> bool {
        matches!(self.state, State::Data(_))
    }

    fn command(&mut self, pdv: Pdv) -> Result<Option<MessageEvent>, MessageError> {
        let mut gathered = match std::mem::take(&mut self.state) {
            State::Idle => BytesMut::new(),
            State::Command(context, gathered) => {
                same_context(context, &pdv)?;
                gathered
            }
            State::Data(_) => return Err(MessageError::CommandWithinData),
        };
        if gathered.len() + pdv.data.len() > COMMAND_BYTES_MAX {
            return Err(MessageError::CommandTooLong);
        }
        gathered.extend_from_slice(&pdv.data);
        if !pdv.last {
            self.state = State::Command(pdv.context, gathered);
            return Ok(None);
        }
        let command = CommandSet::parse(&gathered).ok_or(MessageError::Command)?;
        if command.command_field().is_none() {
            return Err(MessageError::Command);
        }
        if command.has_data_set() {
            self.state = State::Data(pdv.context);
        }
        Ok(Some(MessageEvent::Command(pdv.context, command)))
    }

    fn data(&mut self, pdv: Pdv) -> Result<Option<MessageEvent>, MessageError> {
        let State::Data(context) = self.state else { return Err(MessageError::UnannouncedData) };
        same_context(context, &pdv)?;
        if pdv.last {
            self.state = State::Idle;
            return Ok(Some(MessageEvent::LastData(pdv.data)));
        }
        // Empty fragments occur; they bring nothing.
        Ok((!pdv.data.is_empty()).then_some(MessageEvent::Data(pdv.data)))
    }
}

fn same_context(want: u8, pdv: &Pdv) -> Result<(), MessageError> {
    if pdv.context == want { Ok(()) } else { Err(MessageError::ContextChanged { want, got: pdv.context }) }
}

#[cfg(test)]
mod tests {
    use base::Uid;

    use super::*;

    fn echo() -> Vec<u8> {
        CommandSet::echo_request(1, &Uid::parse("1.2.840.10008.1.1").unwrap()).encode()
    }

    fn store() -> Vec<u8> {
        let mut bytes = echo();
        // The Command Data Set Type is the last element.
        let at = bytes.len() - 2;
        bytes[at..].copy_from_slice(&[1, 0]);
        bytes
    }

    fn pdv(context: u8, command: bool, last: bool, data: &[u8]) -> Pdv {
        Pdv { context, command, last, data: Bytes::copy_from_slice(data) }
    }

    #[test]
    fn split_commands_and_empty_fragments_make_one_message() {
        let mut messages = Messages::default();
        let store = store();
        for byte in &store[..store.len() - 1] {
            assert_eq!(messages.handle(pdv(1, true, false, &[*byte]), |_| true), Ok(None));
        }
        let last = messages.handle(pdv(1, true, true, &store[store.len() - 1..]), |_| true).unwrap();
        assert!(matches!(last, Some(MessageEvent::Command(1, _))));
        assert_eq!(messages.handle(pdv(1, false, false, &[]), |_| true), Ok(None));
        assert_eq!(messages.handle(pdv(1, false, false, b"ab"), |_| true), Ok(Some(MessageEvent::Data(Bytes::from_static(b"ab")))));
        assert_eq!(messages.handle(pdv(1, false, true, &[]), |_| true), Ok(Some(MessageEvent::LastData(Bytes::new()))));
        assert!(messages.is_idle());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (echo, store) = (echo(), store());
        let cases: Vec<(Vec<Pdv>, MessageError)> = vec![
            (vec![pdv(9, true, true, &echo)], MessageError::Context(9)),
            (vec![pdv(1, false, true, b"x")], MessageError::UnannouncedData),
            (vec![pdv(1, true, true, &echo), pdv(1, false, true, b"x")], MessageError::UnannouncedData),
            (vec![pdv(1, true, true, &store), pdv(1, true, true, &echo)], MessageError::CommandWithinData),
            (vec![pdv(1, true, true, &store), pdv(3, false, true, b"x")], MessageError::ContextChanged { want: 1, got: 3 }),
            (vec![pdv(1, true, false, &echo), pdv(1, false, true, b"x")], MessageError::UnannouncedData),
            (vec![pdv(1, true, true, &echo[..echo.len() - 1])], MessageError::Command),
            (vec![pdv(1, true, true, &[])], MessageError::Command),
            (vec![pdv(1, true, false, &vec![0; COMMAND_BYTES_MAX]), pdv(1, true, true, &[0])], MessageError::CommandTooLong),
        ];
        for (pdvs, want) in cases {
            let mut messages = Messages::default();
            let got = pdvs.into_iter().find_map(|pdv| messages.handle(pdv, |context| context != 9).err());
            assert_eq!(got, Some(want));
        }
    }
}
