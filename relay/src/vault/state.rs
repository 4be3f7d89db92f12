//! What the vault remembers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use base::{Attempt, DeliveryId, Digest, Fingerprint, RouteId};
use transport::ConnectionId;
use wire::{Inflow, NoticeKind, Octets, Outflow, Shares, Transfer, Urgency};

use crate::pages::GRAIN_BYTES;

use super::answers::Answers;
use super::held::Held;
use super::policy::Limits;
use super::rate::Pace;
use super::turns::Turns;

/// How long after being given back a blob is offered again.
pub(super) const RELEASE_PAUSE: Duration = Duration::from_secs(2);

/// One delivery of one sender. Two senders that name the same delivery never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) sender: Fingerprint,
    pub(super) delivery: DeliveryId,
}

/// What shares are counted by, within one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) recipient: Fingerprint,
    pub(super) route: RouteId,
}

/// One offered, arriving or held body.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) attempt: Attempt,
    pub(super) flow: Flow,
    pub(super) header: Octets,
    pub(super) size: Option<u64>,
    pub(super) announced: Option<Digest>,
    /// Which of those that wait goes first.
    pub(super) urgency: Urgency,
    /// Order of arrival, kept over every lease.
    pub(super) sequence: u64,
    pub(super) phase: Phase,
    pub(super) held: Held,
    /// Body bytes that this blob has a place for.
    pub(super) reserved: u64,
    /// True: bytes that the recipient has taken are freed at once (pass-through).
    pub(super) tight: bool,
    pub(super) lease: Option<Lease>,
    /// The timer of its time to live, while it is unleased.
    pub(super) expiry: Option<Instant>,
    /// How long it may wait unleased.
    pub(super) expires: Instant,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Offered; no place for it yet.
    Pending { connection: ConnectionId, transfer: Transfer },
    /// Admitted.
    Receiving { connection: ConnectionId, inflow: Inflow },
    /// All of it came.
    Complete { digest: Digest },
}

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: ConnectionId,
    pub(super) transfer: Transfer,
    pub(super) outflow: Outflow,
    /// Handed to the stream, not yet taken by it.
    pub(super) pieces: u32,
    /// Renewed up to here.
    pub(super) until: Instant,
    /// Its timer, which may be earlier.
    pub(super) timer: Instant,
    pub(super) finished: bool,
    pub(super) collected: bool,
    /// The recipient stopped the stream; its settlement is awaited.
    pub(super) refused: bool,
}

/// A sender as the vault sees it.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) connection: Option<ConnectionId>,
    /// Bodies of this connection that are not complete.
    pub(super) transfers: HashMap<Transfer, DeliveryId>,
    /// Offers without a place, per flow in their order.
    pub(super) pending: BTreeMap<Flow, BTreeMap<u64, DeliveryId>>,
    pub(super) pending_count: usize,
    /// Whose turn it is among offers that differ in urgency.
    pub(super) turns: Turns,
    /// Bodies that could not be granted what they could use.
    pub(super) starved: BTreeSet<DeliveryId>,
    /// Bytes.
    pub(super) memory: Shares<Flow>,
    /// Blobs and unacknowledged answers.
    pub(super) places: Shares<Flow>,
    /// Bodies that are arriving.
    pub(super) streams: Shares<Flow>,
    /// Bytes granted and not yet here, on this connection.
    pub(super) outstanding: Shares<Flow>,
    pub(super) answers: Answers,
    /// How fast it may go.
    pub(super) pace: Pace,
    /// When its pace lets something more happen.
    pub(super) pace_timer: Option<Instant>,
}

/// Why a blob ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its recipient settled it.
    Settled,
    /// Its sender called it off.
    Cancelled,
    /// A higher attempt is here.
    Replaced,
    /// Its sender gave up, or is gone, in the middle.
    Abandoned,
    /// Its body is not the one that was announced.
    OtherBody,
    /// Nobody had it within its time to live.
    Expired,
    /// Its recipient went away after part of it was freed.
    Gone,
    /// Its sender may not deposit for its recipient any more.
    NotAdmitted,
    /// Its sender is not admitted any more: nobody is left to be told.
    Revoked,
}

/// A deadline. Whether it still means anything is seen when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// An unleased blob expires.
    Expiry(Key),
    /// A lease lapses.
    Lease(Fingerprint, Transfer),
    /// A blob that was given back may be offered again.
    Again(Key),
    /// A sender that is there has left an answer unacknowledged for long.
    Answers(Fingerprint),
    /// A sender that went too fast may go on.
    Pace(Fingerprint),
    /// Nobody waits for the answer to a question any more.
    Ask(Fingerprint, u64),
}

/// An offer as it came.
pub(super) struct Offered {
    pub(super) transfer: Transfer,
    pub(super) attempt: Attempt,
    pub(super) flow: Flow,
    pub(super) header: Octets,
    pub(super) size: Option<u64>,
    pub(super) announced: Option<Digest>,
    pub(super) urgency: Urgency,
}

/// A settlement as it came.
pub(super) struct Settled {
    pub(super) attempt: Attempt,
    pub(super) settlement: Octets,
    pub(super) record: Octets,
}

/// A deadline is forgotten with its cause: at hundreds of bodies a second they would pile up.
pub(super) fn stop_expiry(timers: &mut BTreeSet<(Instant, Timer)>, key: Key, blob: &mut Blob) {
    if let Some(at) = blob.expiry.take() {
        timers.remove(&(at, Timer::Expiry(key)));
    }
}

impl End {
    pub(super) fn notice(self) -> Option<NoticeKind> {
        match self {
            Self::Expired => Some(NoticeKind::Expired),
            Self::Gone => Some(NoticeKind::Gone),
            Self::NotAdmitted => Some(NoticeKind::NotAdmitted),
            Self::Settled
            | Self::Cancelled
            | Self::Replaced
            | Self::Abandoned
            | Self::OtherBody
            | Self::Revoked => None,
        }
    }
}

impl Blob {
    /// The offset up to which there is a place for its bytes.
    pub(super) fn limit(&self) -> u64 {
        self.held.base() + self.reserved
    }

    /// What it costs beside its body.
    pub(super) fn overhead(&self) -> u64 {
        match self.phase {
            Phase::Pending { .. } => 0,
            _ => overhead(&self.header, self.size),
        }
    }
}

/// The header, and what the last page of the body takes beyond its bytes.
pub(super) fn overhead(header: &[u8], size: Option<u64>) -> u64 {
    let rest = size.map_or(0, |size| size.next_multiple_of(GRAIN_BYTES) - size);
    rest + u64::try_from(header.len()).unwrap_or(0)
}

impl Sender {
    pub(super) fn new(limits: &Limits, budget: u64, pace: Pace) -> Self {
        Self {
            connection: None,
            transfers: HashMap::new(),
            pending: BTreeMap::new(),
            pending_count: 0,
            turns: Turns::default(),
            starved: BTreeSet::new(),
            memory: Shares::new(budget),
            places: Shares::new(limits.deliveries),
            streams: Shares::new(limits.streams),
            outstanding: Shares::new(limits.outstanding),
            answers: Answers::default(),
            pace,
            pace_timer: None,
        }
    }

    pub(super) fn drop_pending(&mut self, flow: &Flow, sequence: u64) {
        if let Some(queue) = self.pending.get_mut(flow) {
            if queue.remove(&sequence).is_some() {
                self.pending_count -= 1;
            }
            if queue.is_empty() {
                self.pending.remove(flow);
            }
        }
    }
}
