//! What a status page, `queue` and `why` see of a delivery.

use std::fmt;

use base::{Attempt, BootId, DeliveryId, Digest, Name, ObjectId, RouteId, Status, Timestamp, Uid};

use crate::SealedFacts;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for it, in logs, pages and `--json`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub(crate) const fn code(self) -> i64 {
                match self { $(Self::$variant => $code,)* }
            }

            pub(crate) const fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or(UnknownWord)
            }
        }
    };
}
pub(crate) use codes;

/// Not one of the words of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown word; see --help for the list")]
pub struct UnknownWord;

codes! {
    /// Where a delivery stands. The way of an ordinary one is sealed, relayed, collected, receipted,
    /// purged; its history names the points in between.
    State {
        /// Durable here; waits for its deposit, or the deposit is running.
        Sealed = 1 "sealed",
        /// A relay holds it.
        Relayed = 2 "relayed",
        /// The receiving gateway has taken it from the relay.
        Collected = 3 "collected",
        /// The destination did not take it now; it is tried again.
        Deferred = 4 "deferred",
        /// Nothing is sent until an operator releases it.
        Held = 5 "held",
        /// It goes no further by itself; an operator must retry or discard it.
        Parked = 6 "parked",
        /// Same SOP Instance UID as an earlier delivery, other content: that one goes first.
        WaitingForEarlier = 7 "waiting-for-earlier",
        /// The verified receipt is stored and the key erased; the body is about to go.
        Receipted = 8 "receipted",
        /// Receipted, and the body is gone.
        Purged = 9 "purged",
        /// An operator gave it up.
        Discarded = 10 "discarded",
        /// `respond = "delivered"`: the destination's refusal was passed on; the PACS owns it.
        Refused = 11 "refused",
        /// `respond = "delivered"`: no answer came in time; the PACS was told so and owns it.
        Returned = 12 "returned",
    }
}

impl State {
    /// Whether nothing more is owed.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Receipted | Self::Purged | Self::Discarded | Self::Refused | Self::Returned)
    }
}

codes! {
    /// What happened to a delivery.
    EventKind {
        /// The first byte of the instance came.
        Received = 1 "received",
        /// Its sealed body and its row are durable.
        Sealed = 2 "sealed",
        /// A deposit was begun.
        Attempt = 3 "attempt",
        /// The relay has all of it.
        Relayed = 4 "relayed",
        /// The receiving gateway took it.
        Collected = 5 "collected",
        /// The destination stored it (at the time it said so).
        Stored = 6 "stored",
        /// The receipt is stored here and the key erased.
        Receipted = 7 "receipted",
        /// The body is gone.
        Purged = 8 "purged",
        /// A deposit did not succeed.
        DepositFailed = 9 "deposit-failed",
        /// The destination did not take it now.
        Deferred = 10 "deferred",
        /// The receiving gateway could not use it.
        Nacked = 11 "nacked",
        /// The relay held it too long.
        Expired = 12 "expired",
        /// The relay had to free its memory.
        Gone = 13 "gone",
        /// The relay was restarted, or given up for another.
        RelayLost = 14 "relay-lost",
        /// It needs an operator.
        Parked = 15 "parked",
        /// The destination refused it.
        Refused = 16 "refused",
        /// It was held.
        Held = 17 "held",
        /// It was released.
        Released = 18 "released",
        /// An operator had it tried again.
        Retried = 19 "retried",
        /// An operator gave it up.
        Discarded = 20 "discarded",
        /// The same content came again and was joined to it.
        Joined = 21 "joined",
        /// It waits for an earlier version.
        Waiting = 22 "waiting-for-earlier",
        /// The earlier version has ended.
        EarlierEnded = 23 "earlier-ended",
        /// `respond = "delivered"`: given back to the PACS without an answer.
        Returned = 24 "returned",
        /// A receipt came after the delivery had ended without one.
        LateReceipt = 25 "late-receipt",
        /// We were stopped while a deposit was running.
        Interrupted = 26 "interrupted",
        /// The sealed record was opened for an operator.
        Revealed = 27 "revealed",
        /// Its destination has committed itself to it.
        Committed = 28 "committed",
        /// Its destination was asked to commit, and does not.
        NotCommitted = 29 "not-committed",
    }
}

codes! {
    /// What a receipt says.
    Outcome {
        /// The destination has it.
        Stored = 1 "stored",
        /// The destination does not want it.
        Refused = 2 "refused",
    }
}

/// One delivery, with what is needed to show it and to send it. No patient data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Position in the index: grows with each delivery; the cursor of [`Filter::after`].
    pub sequence: u64,
    /// The id that queue, relay, ledger and receipt use.
    pub delivery: DeliveryId,
    /// The instance.
    pub object: ObjectId,
    /// The way it takes.
    pub route: RouteId,
    /// The receiving gateway.
    pub receiver: Name,
    /// The destination's name at the receiving gateway.
    pub destination: Name,
    /// SOP class of the instance.
    pub sop_class: Uid,
    /// What the next header needs to know of the sealed body.
    pub sealed: SealedFacts,
    /// Whether we hold (or held) a body: false for `respond = "delivered"`.
    pub spooled: bool,
    /// Where it stands.
    pub state: State,
    /// The deposit that was begun last; 0 before the first.
    pub attempt: Attempt,
    /// Whether that deposit is under way in this process.
    pub running: bool,
    /// The relay process that holds it.
    pub boot: Option<BootId>,
    /// When it is due again.
    pub next_at: Option<Timestamp>,
    /// Deferrals since it was accepted or retried.
    pub deferrals: u32,
    /// Nacks since it was accepted, retried, or last understood by the receiver.
    pub nacks: u32,
    /// Repeats of the same content that were joined to it.
    pub joined: u32,
    /// The delivery it waits for.
    pub waits_for: Option<DeliveryId>,
    /// Another content came before under this SOP Instance UID on this route.
    pub changed_content: bool,
    /// An operator should look.
    pub alarm: bool,
    /// The destination's last status.
    pub status: Option<Status>,
    /// Why it is where it is, in our own words.
    pub reason: Option<String>,
    /// When its first byte came.
    pub received_at: Timestamp,
    /// When its row last changed.
    pub changed_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// One line of a delivery's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// Of which attempt; 0 before the first.
    pub attempt: Attempt,
    /// The destination's status, where there was one.
    pub status: Option<Status>,
    /// Detail in our own words, or the reason that the operator gave.
    pub detail: Option<String>,
}

/// Which deliveries to list, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Only these states; empty is any.
    pub states: Vec<State>,
    /// Only those that have not ended.
    pub open: bool,
    /// Only those that an operator should look at.
    pub alarm: bool,
    /// Only this route.
    pub route: Option<RouteId>,
    /// Only the deliveries of this object.
    pub object: Option<ObjectId>,
    /// Only those behind this [`Delivery::sequence`]: the next page.
    pub after: Option<u64>,
    /// At most this many.
    pub limit: u32,
}

impl Default for Filter {
    /// The first thousand that have not ended.
    fn default() -> Self {
        Self {
            states: Vec::new(),
            open: true,
            alarm: false,
            route: None,
            object: None,
            after: None,
            limit: 1000,
        }
    }
}

/// How many deliveries of a route are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The route.
    pub route: RouteId,
    /// The receiving gateway.
    pub receiver: Name,
    /// The destination's name there.
    pub destination: Name,
    /// The state.
    pub state: State,
    /// How many.
    pub deliveries: u64,
    /// Their sealed bytes, held or not.
    pub bytes: u64,
}

/// The oldest delivery of a route that has not ended: its age is the main alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oldest {
    /// The route.
    pub route: RouteId,
    /// The receiving gateway.
    pub receiver: Name,
    /// The destination's name there.
    pub destination: Name,
    /// The delivery.
    pub delivery: DeliveryId,
    /// When its first byte came.
    pub received_at: Timestamp,
}

/// Deliveries of a route that need an operator: how many, and what their destination said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarmed {
    /// The route.
    pub route: RouteId,
    /// The state.
    pub state: State,
    /// The destination's last status, where it gave one.
    pub status: Option<Status>,
    /// How many.
    pub deliveries: u64,
}

/// A delivery that `why` found, and by which of its identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The identifier that matched.
    pub by: FoundBy,
    /// The row.
    pub delivery: Delivery,
}

/// The identifier that a search matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FoundBy {
    /// SOP Instance UID.
    Instance,
    /// Study Instance UID.
    Study,
    /// Series Instance UID.
    Series,
    /// Accession Number.
    Accession,
    /// Patient ID.
    Patient,
    /// The delivery id or its first digits.
    Delivery,
    /// The object id or its first digits.
    Object,
}

impl fmt::Display for FoundBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Instance => "SOP Instance UID",
            Self::Study => "Study Instance UID",
            Self::Series => "Series Instance UID",
            Self::Accession => "Accession Number",
            Self::Patient => "Patient ID",
            Self::Delivery => "delivery id",
            Self::Object => "object id",
        })
    }
}

/// Receipts are known by their delivery and the attempt they answer: one, or two where the destination was asked to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiptId {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt that the destination answered.
    pub attempt: Attempt,
}

/// A verified receipt as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Position in the index: the cursor for the next page.
    pub sequence: u64,
    /// Its name.
    pub id: ReceiptId,
    /// What it says.
    pub outcome: Outcome,
    /// The destination's status.
    pub status: Status,
    /// 1: the destination answered; 2: it was asked to commit, and has (stored) or has not (refused).
    pub level: u8,
    /// When the destination answered, by the receiver's clock.
    pub answered_at: Timestamp,
    /// When it was stored here.
    pub stored_at: Timestamp,
    /// The receipt as signed.
    pub receipt: Vec<u8>,
    /// The settlement that proves it.
    pub settlement: Vec<u8>,
    /// Our own countersignature.
    pub manifest: Vec<u8>,
    /// SHA-256 of the sealed body that the delivery's row names.
    pub body_digest: Digest,
    /// The proof that the settlement is in the relay's log, once it came: a C2SP tlog-proof.
    pub log: Option<String>,
}

/// Who does something by hand, and why. Both go into the audit table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Who: a login name, for instance.
    pub who: String,
    /// Why, in the operator's words. No patient data.
    pub reason: String,
}

/// One line of the audit table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What: retry, discard, hold, release, reveal, rewrap.
    pub what: String,
    /// To which delivery, where it was one.
    pub delivery: Option<DeliveryId>,
    /// Why.
    pub reason: String,
}
