//! What passed in the last day, counted in slots of ten minutes. In memory only: enough for a chart and for a rate, and gone with
//! the process.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::Timestamp;

/// Slots of a day.
pub const SLOTS: usize = 144;
const SLOTS_OF_A_DAY: u64 = 144;
/// Length of a slot in milliseconds.
const SLOT_MS: u64 = 10 * 60 * 1000;
/// A rate is that of the running slot and of this many before it: an hour.
const RATE_SLOTS: u64 = 5;
/// A process that has run for less has no rate yet.
const RATE_AFTER: Duration = Duration::from_secs(60);

/// Counts by slot. The lock is never held across an await.
#[derive(Debug, Default)]
pub struct Throughput(Mutex<VecDeque<Counted>>);

#[derive(Clone, Copy, Debug)]
struct Counted {
    number: u64,
    slot: Slot,
}

/// What passed in ten minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// How many instances.
    pub instances: u64,
    /// Bytes of their data sets.
    pub bytes: u64,
}

impl Slot {
    fn add(&mut self, other: Self) {
        self.instances = self.instances.saturating_add(other.instances);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A day up to now, the oldest slot first and the running one last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    slots: Vec<Slot>,
    ends: Timestamp,
}

impl Throughput {
    /// One instance of so many bytes passed now. A clock that was set back goes on counting in the latest slot.
    pub fn count(&self, bytes: u64, now: Timestamp) {
        let number = now.0 / SLOT_MS;
        let one = Slot { instances: 1, bytes };
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.back_mut() {
            Some(last) if last.number >= number => last.slot.add(one),
            _ => slots.push_back(Counted { number, slot: one }),
        }
        while slots.front().is_some_and(|first| first.number.saturating_add(SLOTS_OF_A_DAY) <= number) {
            slots.pop_front();
        }
    }

    /// The last day.
    pub fn day(&self, now: Timestamp) -> Day {
        let mut day = Day::empty(now);
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = now.0 / SLOT_MS;
        for Counted { number, slot } in counted.iter() {
            let back = last.saturating_sub(*number);
            let place = SLOTS_OF_A_DAY.checked_sub(back.saturating_add(1));
            let place = place.and_then(|place| usize::try_from(place).ok());
            if let Some(found) = place.and_then(|place| day.slots.get_mut(place)) {
                found.add(*slot);
            }
        }
        day
    }
}

impl Day {
    /// One in which nothing passed.
    pub fn empty(now: Timestamp) -> Self {
        Self { slots: vec![Slot::default(); SLOTS], ends: now }
    }

    /// Both together.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.slots.iter_mut().zip(&other.slots).for_each(|(slot, more)| slot.add(*more));
        self
    }

    /// All slots, the oldest first.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// All of it.
    pub fn total(&self) -> Slot {
        let mut total = Slot::default();
        self.slots.iter().for_each(|slot| total.add(*slot));
        total
    }

    /// How many slots, from the oldest on, had ended before this time: nothing is known of them.
    pub fn unknown(&self, since: Timestamp) -> usize {
        let back = (self.ends.0 / SLOT_MS).saturating_sub(since.0 / SLOT_MS);
        let known = usize::try_from(back.saturating_add(1)).unwrap_or(usize::MAX);
        SLOTS.saturating_sub(known)
    }

    /// Bytes per hour, by the last hour. `since` is when counting began. `None` where nothing passed, or too short a time.
    pub fn bytes_per_hour(&self, since: Timestamp) -> Option<u64> {
        let from = (self.ends.0 / SLOT_MS).saturating_sub(RATE_SLOTS).saturating_mul(SLOT_MS);
        let took = self.ends.since(Timestamp(from.max(since.0)));
        let slots = usize::try_from(RATE_SLOTS + 1).unwrap_or(SLOTS);
        let bytes: u64 = self.slots.iter().rev().take(slots).map(|slot| slot.bytes).sum();
        if bytes == 0 || took < RATE_AFTER {
            return None;
        }
        let per_hour = u128::from(bytes) * 3_600_000 / took.as_millis().max(1);
        u64::try_from(per_hour).ok().filter(|rate| *rate > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000 * SLOT_MS);

    fn after_minutes(minutes: u64) -> Timestamp {
        Timestamp(START.0 + minutes * 60_000)
    }

    #[test]
    fn a_day_forgets_what_is_older_than_a_day() {
        let throughput = Throughput::default();
        for minutes in [0, 9, 10, 60, 24 * 60 - 1] {
            throughput.count(100, after_minutes(minutes));
        }
        let day = throughput.day(after_minutes(24 * 60 - 1));
        assert_eq!(day.total(), Slot { instances: 5, bytes: 500 });
        assert_eq!(day.slots()[0], Slot { instances: 2, bytes: 200 });
        assert_eq!(day.slots()[SLOTS - 1].instances, 1);
        assert_eq!(throughput.day(after_minutes(24 * 60)).total().instances, 3);
        assert_eq!(throughput.day(after_minutes(60 * 60)).total().instances, 0);
        assert_eq!(day.clone().with(&day).total().bytes, 1000);
    }

    #[test]
    fn a_clock_that_is_set_back_loses_nothing() {
        let throughput = Throughput::default();
        throughput.count(1, after_minutes(30));
        throughput.count(1, after_minutes(5));
        assert_eq!(throughput.day(after_minutes(30)).total().instances, 2);
        assert_eq!(throughput.day(after_minutes(6)).slots()[SLOTS - 1].instances, 2);
    }

    #[test]
    fn a_rate_is_that_of_the_last_hour_or_of_the_time_since_the_start() {
        let throughput = Throughput::default();
        throughput.count(600, after_minutes(1));
        // (minutes, since, bytes per hour)
        let cases =
            [(1, 1, None), (2, 1, Some(36_000)), (31, 1, Some(1200)), (59, 0, Some(610)), (70, 0, None)];
        for (minutes, since, want) in cases {
            let day = throughput.day(after_minutes(minutes));
            assert_eq!(day.bytes_per_hour(after_minutes(since)), want, "after {minutes} minutes");
        }
    }

    #[test]
    fn what_was_before_the_start_is_not_known() {
        let day = Day::empty(after_minutes(25));
        assert_eq!(day.unknown(after_minutes(25)), SLOTS - 1);
        assert_eq!(day.unknown(START), SLOTS - 3);
        assert_eq!(day.unknown(Timestamp(0)), 0);
    }
}
