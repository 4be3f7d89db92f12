//! What goes in and out of the outbox.

use std::{path::PathBuf, time::Duration};

use base::{Attempt, BootId, DeliveryId, Digest, Name, ObjectId, RouteId, Secret, Status, Timestamp};

use crate::{InstanceRecord, Outcome, RetryPolicy, State};

/// How an outbox behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxConfig {
    /// The state directory. The keys live elsewhere.
    pub dir: PathBuf,
    /// The most sealed bytes it holds.
    pub bytes_max: u64,
    /// Free bytes of the file system that it leaves alone.
    pub reserve_bytes: u64,
    /// Times the same content may go to the same destination within `loop_window`; the next one is held.
    pub loop_limit: u32,
    /// See `loop_limit`.
    pub loop_window: Duration,
    /// `respond = "delivered"`: how long a receipt that came too late answers the same content.
    pub delivered_repeat: Duration,
    /// Pace and limits of repeated deposits.
    pub retry: RetryPolicy,
}

impl OutboxConfig {
    /// 100 GiB, 1 GiB reserve, 5 times in 24 h, 1 h, and the default pace.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            bytes_max: 100 << 30,
            reserve_bytes: 1 << 30,
            loop_limit: 5,
            loop_window: Duration::from_secs(24 * 3600),
            delivered_repeat: Duration::from_secs(3600),
            retry: RetryPolicy::default(),
        }
    }
}

/// What the next header needs to know of a sealed body, and what a receipt is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedFacts {
    /// The envelope's code of the suite that the body was sealed with.
    pub suite: u8,
    /// Commits the body to its content key.
    pub commitment: [u8; 32],
    /// Digest of the pseudonymization profile: the body goes only to routes with the same.
    pub profile: Digest,
    /// Of the report of what pseudonymization did to it, where it was: for the sender's part of a receipt.
    pub report: Option<Digest>,
    /// SHA-256 of all sealed bytes.
    pub body_digest: Digest,
    /// Length of the sealed body.
    pub sealed_len: u64,
    /// Length of the data set.
    pub data_len: u64,
}

impl SealedFacts {
    /// The profile digest of what is passed on as it came.
    pub fn no_profile() -> Digest {
        Digest::of(b"")
    }
}

/// One way that a new object shall take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Derived from sender, object, route and destination.
    pub delivery: DeliveryId,
    /// The route.
    pub route: RouteId,
    /// The receiving gateway.
    pub receiver: Name,
    /// The destination's name there.
    pub destination: Name,
    /// Attempt 1 is under way already (cut-through): the row is made with it. Otherwise the delivery is
    /// due at once.
    pub cut_through: bool,
}

/// What happens to other content under a known SOP Instance UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChangedContent {
    /// It is taken, flagged, and sent after the earlier version has ended.
    #[default]
    AfterEarlier,
    /// It is refused with a status of ours.
    Refuse,
}

/// An instance whose body is complete.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Seals the body. Wrapped before it is stored.
    pub content_key: Secret<[u8; 32]>,
    /// What the sealer found.
    pub sealed: SealedFacts,
    /// Whose it is. Sealed and hashed before it is stored.
    pub record: InstanceRecord,
    /// Where it shall go; at least one.
    pub deliveries: Vec<NewDelivery>,
    /// The route's rule.
    pub changed_content: ChangedContent,
    /// When its first byte came.
    pub received_at: Timestamp,
}

/// An instance of a `respond = "delivered"` route that has passed every check; its final chunk is held
/// back until the row is durable.
#[derive(Debug, Clone)]
pub struct NewUnspooled {
    /// The instance.
    pub object: ObjectId,
    /// What the sealer found.
    pub sealed: SealedFacts,
    /// Whose it is: hashed, not stored.
    pub record: InstanceRecord,
    /// Where it goes. Its attempt 1 is under way.
    pub delivery: NewDelivery,
    /// The route's rule.
    pub changed_content: ChangedContent,
    /// When its first byte came.
    pub received_at: Timestamp,
}

/// What became of a new object: durable, so 0000H may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The object.
    pub object: ObjectId,
    /// One for each of [`NewObject::deliveries`], in that order. Where all are [`Decision::Joined`] the
    /// body is removed: its content is held already.
    pub placed: Vec<Placed>,
}

/// What became of one delivery of a new object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its id.
    pub delivery: DeliveryId,
    /// What was decided.
    pub decision: Decision,
}

/// CUSTODY, "Repeats".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on its way (attempt 1 if it was cut through, else it is due).
    New {
        /// Other content went to this route under the same UID before.
        changed_content: bool,
    },
    /// The same content is unsettled on this route: this one has no row of its own, and its uplink must
    /// be abandoned.
    Joined {
        /// The delivery that carries the content.
        delivery: DeliveryId,
        /// Where that one stands; parked and held ones still need an operator.
        state: State,
    },
    /// Accepted and flagged; waits for the earlier version. Its uplink must be abandoned.
    After {
        /// The delivery it waits for.
        earlier: DeliveryId,
    },
    /// Accepted and held, with the alarm "routing loop or endless re-send?". Its uplink must be
    /// abandoned.
    HeldLoop {
        /// How often the content went to that destination within the window.
        count: u32,
    },
}

/// What an instance of a `respond = "delivered"` route gets before its final chunk leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnspooledDecision {
    /// The row is durable, attempt 1 runs.
    New {
        /// Other content went to this route under the same UID before.
        changed_content: bool,
    },
    /// The same content got this answer too late for the PACS: pass it on, send nothing.
    AnswerFrom {
        /// The delivery that it was sent with.
        delivery: DeliveryId,
        /// What the destination said.
        outcome: Outcome,
        /// Its status.
        status: Status,
        /// Whether nobody was answered from it before.
        first: bool,
    },
    /// Another version, or the same content, is on its way: answer A700, the PACS will come again.
    Earlier {
        /// The delivery under way.
        earlier: DeliveryId,
    },
    /// Too often to the same destination: answer A700 and alarm. Nothing was recorded.
    HeldLoop {
        /// How often.
        count: u32,
    },
}

/// A verified receipt. Whoever calls has checked signer, sender, delivery, body digest and destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReceipt {
    /// The delivery it is for.
    pub delivery: DeliveryId,
    /// The attempt it answers.
    pub attempt: Attempt,
    /// The destination's status.
    pub status: Status,
    /// 1: the destination answered; 2: it was asked to commit.
    pub level: u8,
    /// A receipt of level 2 follows.
    pub pledge_follows: bool,
    /// When the destination answered, by the receiver's clock.
    pub answered_at: Timestamp,
    /// The receipt as signed.
    pub receipt: Vec<u8>,
    /// The settlement that proves it.
    pub settlement: Vec<u8>,
    /// Our own countersignature: that we sent this.
    pub manifest: Vec<u8>,
    /// Steps of its deposit that were not reported yet, written with the receipt.
    pub progress: Vec<Progress>,
}

/// How far a deposit came: nothing that custody rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt.
    pub attempt: Attempt,
    /// How far.
    pub step: Step,
    /// When.
    pub at: Timestamp,
}

/// A step of a deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The relay process has all of it.
    Relayed(BootId),
    /// The receiving gateway has taken it.
    Collected,
}

/// Whether a report changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It did.
    Yes,
    /// It was known already.
    Already,
    /// It speaks of an attempt, or of a state, that is over. Nothing changed.
    Stale,
}

/// What a receipt did. All of it is durable: the receipt may be acknowledged to the relay in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Whether it changed the delivery.
    pub applied: Applied,
    /// Where the delivery stands now.
    pub state: State,
    /// Whether the object's custody ended with it: its key is erased.
    pub object_ended: bool,
    /// Whether a delivery that waited for this one became due.
    pub released: bool,
}

/// A signed `deferred`, or a failure that is treated like one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deferral {
    /// The destination's status, where it answered.
    pub status: Option<Status>,
    /// Why, in our own words.
    pub reason: String,
    /// Not to be tried before. Bounded by the slowest pace, since it comes from another clock.
    pub not_before: Option<Timestamp>,
    /// A permanent rejection: retried at the slowest pace, alarmed at once.
    pub permanent: bool,
}

/// What the relay says of a blob that it has no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nobody collected it in time.
    Expired,
    /// Its memory was freed while it was passed through.
    Gone,
    /// The relay does not admit the sender for the receiver any more.
    NotAdmitted,
}
