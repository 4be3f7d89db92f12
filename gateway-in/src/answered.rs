//! What destinations answered in this run, counted: for a status page, in memory only. Counts by status, never a word that a
//! destination added.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base::{Name, Status, Timestamp};
use ledger::{NackReason, Outcome};
use service::throughput::{Day, Throughput};

use crate::outcome::Ending;

/// Deliveries that were not stored for a fault on the way, by reason, since the start.
#[derive(Debug, Default)]
pub struct Nacks([AtomicU64; NackReason::ALL.len()]);

impl Nacks {
    /// Once more.
    pub(crate) fn count(&self, reason: NackReason) {
        let counted = NackReason::ALL.iter().zip(&self.0).find(|(one, _)| **one == reason);
        if let Some((_, count)) = counted {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The reasons that were given.
    pub fn given(&self) -> impl Iterator<Item = (NackReason, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        NackReason::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// Counts by destination. Names are those of the configuration, statuses are two bytes: there are only so many. The lock is never
/// held across an await.
#[derive(Debug, Default)]
pub struct Answers(Mutex<BTreeMap<Name, Counts>>);

/// Of one destination.
#[derive(Debug, Default)]
struct Counts {
    stored: Throughput,
    said: BTreeMap<(Said, u16), u64>,
    last: Option<Timestamp>,
}

/// What an answer other than success came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// Not ever: its sender has to decide.
    Refused,
    /// Not now: its sender tries again.
    Deferred,
}

impl Said {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Deferred => "deferred",
        }
    }
}

impl Answers {
    /// A delivery ended so; `status` is what the destination said, if it said something.
    pub(crate) fn count(&self, destination: &Name, ending: &Ending, status: Option<Status>, now: Timestamp) {
        let said = match ending {
            Ending::Final(receipt) if receipt.outcome == Outcome::Stored => None,
            Ending::Final(receipt) => Some((Said::Refused, receipt.status.0)),
            Ending::Deferred(deferred) => match deferred.status {
                Some(status) => Some((Said::Deferred, status.0)),
                None => return,
            },
            Ending::Nack { .. } => return,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.entry(destination.clone()).or_default();
        if status.is_some() {
            counts.last = Some(now);
        }
        match (said, ending) {
            (Some(said), _) => *counts.said.entry(said).or_default() += 1,
            (None, Ending::Final(receipt)) => counts.stored.count(receipt.data_bytes, now),
            (None, _) => {}
        }
    }

    /// What a destination stored in the last day.
    pub fn day_of(&self, destination: &Name, now: Timestamp) -> Day {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(destination).map_or_else(|| Day::empty(now), |counts| counts.stored.day(now))
    }

    /// What all of them stored in the last day.
    pub fn day(&self, now: Timestamp) -> Day {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().fold(Day::empty(now), |day, counts| day.with(&counts.stored.day(now)))
    }

    /// When a destination answered last.
    pub fn last(&self, destination: &Name) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(destination)?.last
    }

    /// How often which one said what, other than success.
    pub fn refusals(&self) -> Vec<(Name, Said, Status, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(name, counts): (&Name, &Counts)| {
            let said = counts.said.iter();
            said.map(|((said, status), count)| (name.clone(), *said, Status(*status), *count))
                .collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use base::{Attempt, DeliveryId};
    use ledger::{DeferReason, Deferred};

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn only_what_a_destination_said_is_counted() {
        let answers = Answers::default();
        let archive = Name::parse("archive").unwrap();
        let deferred = |status| {
            Ending::Deferred(Deferred {
                delivery: DeliveryId([1; 32]),
                attempt: Attempt(1),
                reason: DeferReason::Status,
                status,
                not_before: NOW,
                salt: [0; 16],
            })
        };
        let busy = Some(Status(0xA700));
        for status in [busy, None, busy] {
            answers.count(&archive, &deferred(status), status, NOW);
        }
        assert_eq!(answers.refusals(), [(archive.clone(), Said::Deferred, Status(0xA700), 2)]);
        assert_eq!((answers.last(&archive), answers.day(NOW).total().instances), (Some(NOW), 0));
    }
}
