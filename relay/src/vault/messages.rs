use base::{Attempt, DeliveryId, Digest, Fingerprint};
use bytes::Bytes;
use ledger::log::EntryKind;
use transport::ConnectionId;
use wire::{CloseCode, RecipientFrame, Role, SenderFrame, ToRecipient, ToSender, Transfer, Urgency};

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A pinned peer is there. An older connection of the same peer and role is replaced.
    Connected {
        /// Where.
        connection: ConnectionId,
        /// Who.
        peer: Fingerprint,
        /// As what.
        role: Role,
    },
    /// A connection is gone.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// A sender said something.
    FromSender {
        /// Where.
        connection: ConnectionId,
        /// What.
        frame: SenderFrame,
    },
    /// A recipient said something.
    FromRecipient {
        /// Where.
        connection: ConnectionId,
        /// What.
        frame: RecipientFrame,
    },
    /// Bytes of a body on its way in.
    Body {
        /// Where.
        connection: ConnectionId,
        /// Which.
        transfer: Transfer,
        /// In order.
        bytes: Bytes,
    },
    /// A body on its way in is complete.
    BodyEnd {
        /// Where.
        connection: ConnectionId,
        /// Which.
        transfer: Transfer,
        /// As its sender says.
        digest: Digest,
    },
    /// A body on its way in was abandoned.
    BodyReset {
        /// Where.
        connection: ConnectionId,
        /// Which.
        transfer: Transfer,
    },
    /// The stream of a lease has taken one piece.
    Written {
        /// Where.
        connection: ConnectionId,
        /// Which.
        transfer: Transfer,
        /// Of how many bytes.
        bytes: u64,
    },
    /// The recipient's transport has all of a lease's body.
    Delivered {
        /// Where.
        connection: ConnectionId,
        /// Which.
        transfer: Transfer,
    },
    /// The recipient wants no more bytes of a lease.
    Refused {
        /// Where.
        connection: ConnectionId,
        /// Which.
        transfer: Transfer,
    },
    /// A deadline may have passed.
    Tick,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Admitted or settled.
    pub kind: EntryKind,
    /// The delivery.
    pub delivery: DeliveryId,
    /// Which attempt.
    pub attempt: Attempt,
    /// That of its header or of its receipt.
    pub digest: Digest,
    /// Whose.
    pub sender: Fingerprint,
    /// For whom.
    pub recipient: Fingerprint,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Say this to a sender.
    ToSender(ConnectionId, ToSender),
    /// Say this to a recipient.
    ToRecipient(ConnectionId, ToRecipient),
    /// Want no more of a body on its way in.
    Stop(ConnectionId, Transfer),
    /// Open the stream of a lease, whose bytes go before those of less urgent ones.
    Open(ConnectionId, Transfer, Urgency),
    /// Hand a piece to it; its `Written` is awaited.
    Write(ConnectionId, Transfer, Bytes),
    /// Finish it.
    Finish(ConnectionId, Transfer, Digest),
    /// Reset it.
    Reset(ConnectionId, Transfer),
    /// Write down what became of a delivery.
    Log(Record),
    /// Close a connection.
    Close(ConnectionId, CloseCode),
}
