use base::{InstanceMeta, Uid};

use crate::command::CommandSet;

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// C-ECHO-RQ.
    Echo(EchoRequest),
    /// C-STORE-RQ. Its data set is read by [`Association::data`](crate::Association::data).
    Store(StoreRequest),
    /// Anything else.
    Other(OtherRequest),
    /// The peer released the association; it was answered and the association is over.
    Released,
}

/// A C-ECHO-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EchoRequest {
    /// Presentation context id.
    pub context: u8,
    /// Message ID (0000,0110).
    pub message_id: u16,
}

/// A C-STORE-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRequest {
    /// Presentation context id.
    pub context: u8,
    /// Message ID (0000,0110).
    pub message_id: u16,
    /// The abstract syntax of the context; the command may name another SOP class.
    pub abstract_syntax: Uid,
    /// Whether a data set was announced; where not, there is nothing to store.
    pub has_data_set: bool,
    /// What the command and the association say of the instance.
    pub meta: InstanceMeta,
}

/// A message that this crate does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherRequest {
    /// Presentation context id.
    pub context: u8,
    /// Command Field (0000,0100).
    pub command_field: u16,
    /// Message ID (0000,0110); responses and C-CANCEL have none.
    pub message_id: Option<u16>,
    /// Whether a data set was announced; it is read by [`Association::data`](crate::Association::data).
    pub has_data_set: bool,
    /// The whole command set.
    pub command: CommandSet,
}
