use base::{Attempt, BootId, DeliveryId, Digest, Fingerprint, RouteId};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::{CloseCode, DeclineCode, NoticeKind, RelayState, Role, UnansweredCode, Urgency};

/// Names one body on one connection. The side that offers chooses it and never uses it twice there.
pub type Transfer = u64;

/// Bytes that the relay does not look into.
pub type Octets = ByteVec;

/// The gateway's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`crate::PROTOCOL`].
    #[n(0)]
    pub protocol: u16,
    /// Which of the two pairs of frame types this connection speaks.
    #[n(1)]
    pub role: Role,
}

/// The relay's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Greeting {
    /// The connection is ready.
    #[n(0)]
    Welcome {
        /// Another boot id than before: everything the relay held is gone.
        #[n(0)]
        boot: BootId,
        /// Bodies above this many bytes run in pass-through.
        #[n(1)]
        hold_max: u64,
        /// A lease ends this long after its last renewal.
        #[n(2)]
        lease_ms: u32,
    },
    /// The connection will be closed.
    #[n(1)]
    Bye {
        /// Why.
        #[n(0)]
        code: CloseCode,
        /// The same for a person.
        #[n(1)]
        text: String,
    },
}

/// A head of the relay's log, and the proof that it continues an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogHead {
    /// A C2SP checkpoint with the two signatures of its log; at most [`crate::CHECKPOINT_BYTES_MAX`].
    #[n(0)]
    pub checkpoint: String,
    /// The size that the proof starts from: that of the last `Witness` of this epoch, else 0.
    #[n(1)]
    pub from: u64,
    /// RFC 6962 consistency proof.
    #[n(2)]
    pub consistency: Vec<Digest>,
}

/// The place of a settlement in the relay's log, in the head of this size that was sent before.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Logged {
    /// The delivery.
    #[n(0)]
    pub delivery: DeliveryId,
    /// The attempt that was settled.
    #[n(1)]
    pub attempt: Attempt,
    /// Opens the entry.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub salt: [u8; 16],
    /// Which entry, from 0.
    #[n(3)]
    pub index: u64,
    /// In the tree of so many entries.
    #[n(4)]
    pub size: u64,
    /// RFC 6962 audit path.
    #[n(5)]
    pub path: Vec<Digest>,
}

/// What a sender says to the relay.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SenderFrame {
    /// Wants a prekey bundle for a route.
    #[n(0)]
    PrekeyRequest {
        /// Who published it.
        #[n(0)]
        recipient: Fingerprint,
        /// For which route.
        #[n(1)]
        route: RouteId,
    },
    /// Wants to deposit a body.
    #[n(1)]
    Offer {
        /// Names the body on this connection.
        #[n(0)]
        transfer: Transfer,
        /// The delivery.
        #[n(1)]
        delivery: DeliveryId,
        /// Which deposit of it.
        #[n(2)]
        attempt: Attempt,
        /// Who alone may collect it.
        #[n(3)]
        recipient: Fingerprint,
        /// The sender's route.
        #[n(4)]
        route: RouteId,
        /// Opaque; at most [`crate::HEADER_BYTES_MAX`].
        #[n(5)]
        header: Octets,
        /// Bytes of the sealed body, where they are known already.
        #[n(6)]
        size: Option<u64>,
        /// Digest of the sealed body, where it is known already; compared with what an equal attempt left.
        #[n(7)]
        digest: Option<Digest>,
        /// Which of the bodies that wait goes first.
        #[n(8)]
        urgency: Urgency,
    },
    /// The delivery is called off, up to this attempt.
    #[n(2)]
    Cancel {
        /// Whom to tell.
        #[n(0)]
        recipient: Fingerprint,
        /// The delivery.
        #[n(1)]
        delivery: DeliveryId,
        /// The highest attempt meant.
        #[n(2)]
        attempt: Attempt,
    },
    /// The settlement (or notice) of this attempt is durably recorded.
    #[n(3)]
    Ack {
        /// Whom to tell.
        #[n(0)]
        recipient: Fingerprint,
        /// The delivery.
        #[n(1)]
        delivery: DeliveryId,
        /// The attempt it was about.
        #[n(2)]
        attempt: Attempt,
        /// For a receipt: the sender's countersignature (a `ledger::Manifest`), at most
        /// [`crate::MANIFEST_BYTES_MAX`]. The relay does not look into it.
        #[n(3)]
        manifest: Option<Octets>,
    },
    /// A session ended; forwarded to its recipient.
    #[n(4)]
    SessionClose {
        /// Whom to tell.
        #[n(0)]
        recipient: Fingerprint,
        /// The session's route.
        #[n(1)]
        route: RouteId,
        /// Opaque; at most [`crate::SESSION_CLOSE_BYTES_MAX`].
        #[n(2)]
        bytes: Octets,
    },
    /// The body will not come to its end. Said beside RESET_STREAM, which may overtake the stream's
    /// first bytes and then names nothing; ignored once the whole body is there.
    #[n(5)]
    Abandon {
        /// The body.
        #[n(0)]
        transfer: Transfer,
    },
    /// The latest head of the relay's log that this gateway believes, as the relay signed it and cosigned by the gateway. Said
    /// at the beginning and after each new one; the relay proves its next head from there.
    #[n(6)]
    Witness {
        /// A C2SP checkpoint; at most [`crate::CHECKPOINT_BYTES_MAX`].
        #[n(0)]
        checkpoint: String,
    },
    /// A settlement whose proof has not come: to be logged (again).
    #[n(7)]
    Resubmit {
        /// Who signed it.
        #[n(0)]
        recipient: Fingerprint,
        /// What it settles.
        #[n(1)]
        delivery: DeliveryId,
        /// The attempt that it settles.
        #[n(2)]
        attempt: Attempt,
        /// A `ledger::Settlement`.
        #[n(3)]
        settlement: Octets,
    },
    /// A question to a recipient. Passed on or answered at once with why not; the relay keeps nothing of it but who
    /// waits. One at a time for each route.
    #[n(8)]
    Ask {
        /// Names it on this connection; never used twice there.
        #[n(0)]
        id: u64,
        /// Whom.
        #[n(1)]
        recipient: Fingerprint,
        /// The sender's route.
        #[n(2)]
        route: RouteId,
        /// After this long nobody waits for the answer; at most [`crate::ASK_MS_MAX`].
        #[n(3)]
        within_ms: u32,
        /// Sealed for the recipient; at most [`crate::QUESTION_BYTES_MAX`].
        #[n(4)]
        question: Octets,
    },
}

/// What the relay says to a sender.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToSender {
    /// Answers the oldest open request for that recipient and route.
    #[n(0)]
    Prekey {
        /// Who published it.
        #[n(0)]
        recipient: Fingerprint,
        /// For which route.
        #[n(1)]
        route: RouteId,
        /// None: nothing published at the moment.
        #[n(2)]
        bundle: Option<Octets>,
    },
    /// The body may be sent up to this offset. The first one also says that the offer is admitted.
    #[n(1)]
    Grant {
        /// The body.
        #[n(0)]
        transfer: Transfer,
        /// Absolute offset in the sealed body.
        #[n(1)]
        up_to: u64,
    },
    /// The offer is not taken.
    #[n(2)]
    Declined {
        /// The body.
        #[n(0)]
        transfer: Transfer,
        /// Why.
        #[n(1)]
        code: DeclineCode,
    },
    /// An equal attempt is here already, or the recipient has settled it meanwhile: no (more) bytes are wanted.
    #[n(3)]
    Known {
        /// The body.
        #[n(0)]
        transfer: Transfer,
        /// How far it is.
        #[n(1)]
        state: RelayState,
        /// Digest of the body the relay has, if it has all of it.
        #[n(2)]
        digest: Option<Digest>,
    },
    /// The whole body is here.
    #[n(4)]
    Deposited {
        /// The body.
        #[n(0)]
        transfer: Transfer,
    },
    /// The recipient has the whole body. Information only.
    #[n(5)]
    Collected {
        /// The delivery.
        #[n(0)]
        delivery: DeliveryId,
        /// The attempt.
        #[n(1)]
        attempt: Attempt,
    },
    /// The relay no longer has this attempt, and it was not settled. Repeated until acknowledged.
    #[n(6)]
    Notice {
        /// The delivery.
        #[n(0)]
        delivery: DeliveryId,
        /// The attempt.
        #[n(1)]
        attempt: Attempt,
        /// Why.
        #[n(2)]
        kind: NoticeKind,
    },
    /// The recipient's signed answer. Repeated until acknowledged.
    #[n(7)]
    Settlement {
        /// The delivery.
        #[n(0)]
        delivery: DeliveryId,
        /// The attempt.
        #[n(1)]
        attempt: Attempt,
        /// What the recipient signed.
        #[n(2)]
        settlement: Octets,
        /// Sealed for the sender.
        #[n(3)]
        record: Octets,
    },
    /// A head of the relay's log. What settles later is in a later one.
    #[n(8)]
    LogHead(#[n(0)] LogHead),
    /// Where the settlement of a delivery of this gateway stands in the log.
    #[n(9)]
    Logged(#[n(0)] Logged),
    /// The recipient's answer to a question.
    #[n(10)]
    Answer {
        /// The question.
        #[n(0)]
        id: u64,
        /// Sealed for the sender.
        #[n(1)]
        answer: Octets,
    },
    /// A question has no answer.
    #[n(11)]
    Unanswered {
        /// The question.
        #[n(0)]
        id: u64,
        /// Why.
        #[n(1)]
        code: UnansweredCode,
    },
}

/// What a recipient says to the relay.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RecipientFrame {
    /// Prekey bundles for a route.
    #[n(0)]
    Publish {
        /// The route.
        #[n(0)]
        route: RouteId,
        /// True: forget what was published for it before (those keys are dead).
        #[n(1)]
        replace: bool,
        /// Given out once each; at most [`crate::BUNDLES_PER_FRAME_MAX`].
        #[n(2)]
        one_time: Vec<Octets>,
        /// Given out when no one-time bundle is left; None keeps the earlier one.
        #[n(3)]
        last_resort: Option<Octets>,
    },
    /// The most unsettled leases of a route; 0 while its destination is down. Level-triggered.
    #[n(1)]
    Window {
        /// The route.
        #[n(0)]
        route: RouteId,
        /// Unsettled leases at once.
        #[n(1)]
        deliveries: u32,
    },
    /// The body may be sent up to this offset. The first one also takes the lease.
    #[n(2)]
    Grant {
        /// The lease.
        #[n(0)]
        transfer: Transfer,
        /// Absolute offset in the sealed body.
        #[n(1)]
        up_to: u64,
    },
    /// The signed answer to a delivery, also to an offer of which no byte was read.
    #[n(3)]
    Settlement {
        /// Who deposited it.
        #[n(0)]
        sender: Fingerprint,
        /// The delivery.
        #[n(1)]
        delivery: DeliveryId,
        /// The attempt.
        #[n(2)]
        attempt: Attempt,
        /// A `ledger::Settlement`.
        #[n(3)]
        settlement: Octets,
        /// Sealed for the sender; with `settlement` at most [`crate::SETTLEMENT_BYTES_MAX`].
        #[n(4)]
        record: Octets,
    },
    /// These leases are still being worked on; at most [`crate::RENEWED_PER_FRAME_MAX`].
    #[n(4)]
    Renew {
        /// The leases.
        #[n(0)]
        transfers: Vec<Transfer>,
    },
    /// The lease is given back unsettled: to be offered again, later.
    #[n(5)]
    Release {
        /// The lease.
        #[n(0)]
        transfer: Transfer,
    },
    /// The latest head of the relay's log that this gateway believes, as the relay signed it and cosigned by the gateway. Said
    /// at the beginning and after each new one; the relay proves its next head from there.
    #[n(6)]
    Witness {
        /// A C2SP checkpoint; at most [`crate::CHECKPOINT_BYTES_MAX`].
        #[n(0)]
        checkpoint: String,
    },
    /// A settlement of ours whose proof has not come: to be logged (again). Nobody is told of it.
    #[n(7)]
    Resubmit {
        /// Who deposited what it settles.
        #[n(0)]
        sender: Fingerprint,
        /// What it settles.
        #[n(1)]
        delivery: DeliveryId,
        /// The attempt that it settles.
        #[n(2)]
        attempt: Attempt,
        /// A `ledger::Settlement`.
        #[n(3)]
        settlement: Octets,
    },
    /// The answer to a question.
    #[n(8)]
    Answer {
        /// Who asked.
        #[n(0)]
        sender: Fingerprint,
        /// What.
        #[n(1)]
        id: u64,
        /// Sealed for the sender; at most [`crate::ANSWER_BYTES_MAX`].
        #[n(2)]
        answer: Octets,
    },
}

/// What the relay says to a recipient.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToRecipient {
    /// A body for this recipient. Its lease runs from now.
    #[n(0)]
    Offer {
        /// The lease, and the body's name on this connection.
        #[n(0)]
        transfer: Transfer,
        /// The delivery.
        #[n(1)]
        delivery: DeliveryId,
        /// The attempt.
        #[n(2)]
        attempt: Attempt,
        /// Who deposits it.
        #[n(3)]
        sender: Fingerprint,
        /// The sender's route.
        #[n(4)]
        route: RouteId,
        /// Opaque.
        #[n(5)]
        header: Octets,
        /// Bytes of the sealed body, where they are known.
        #[n(6)]
        size: Option<u64>,
        /// How urgent its sender says that it is.
        #[n(7)]
        urgency: Urgency,
    },
    /// Few one-time bundles are left for a route.
    #[n(1)]
    PrekeysLow {
        /// The route.
        #[n(0)]
        route: RouteId,
        /// How many.
        #[n(1)]
        left: u32,
    },
    /// The sender called the delivery off, up to this attempt.
    #[n(2)]
    Cancelled {
        /// Who.
        #[n(0)]
        sender: Fingerprint,
        /// The delivery.
        #[n(1)]
        delivery: DeliveryId,
        /// The highest attempt meant.
        #[n(2)]
        attempt: Attempt,
    },
    /// The sender has durably recorded the settlement.
    #[n(3)]
    Acked {
        /// Who.
        #[n(0)]
        sender: Fingerprint,
        /// The delivery.
        #[n(1)]
        delivery: DeliveryId,
        /// The attempt.
        #[n(2)]
        attempt: Attempt,
        /// What the sender signed.
        #[n(3)]
        manifest: Option<Octets>,
    },
    /// The lease ended from the relay's side: abandoned by its sender, replaced by a higher attempt, or lapsed.
    #[n(4)]
    Withdrawn {
        /// The lease.
        #[n(0)]
        transfer: Transfer,
    },
    /// A sender's session ended.
    #[n(5)]
    SessionClosed {
        /// Who.
        #[n(0)]
        sender: Fingerprint,
        /// The session's route.
        #[n(1)]
        route: RouteId,
        /// Opaque.
        #[n(2)]
        bytes: Octets,
    },
    /// A head of the relay's log. What settles later is in a later one.
    #[n(6)]
    LogHead(#[n(0)] LogHead),
    /// Where the settlement of a delivery of this gateway stands in the log.
    #[n(7)]
    Logged(#[n(0)] Logged),
    /// A sender's question.
    #[n(8)]
    Ask {
        /// Who.
        #[n(0)]
        sender: Fingerprint,
        /// Names it together with the sender.
        #[n(1)]
        id: u64,
        /// The sender's route.
        #[n(2)]
        route: RouteId,
        /// After this long nobody waits for the answer.
        #[n(3)]
        within_ms: u32,
        /// Opaque.
        #[n(4)]
        question: Octets,
    },
}
