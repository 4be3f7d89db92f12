//! Whose turn it is among things that differ in urgency: the most urgent first, and one in so many for the least urgent,
//! so that those never starve.

use std::collections::BTreeMap;

use wire::Urgency;

use super::Key;

/// One in so many is of the least urgent that wait.
const FLOOR: u32 = 8;

/// Counts how many went while less urgent ones waited.
#[derive(Debug, Default)]
pub(super) struct Turns {
    ahead: u32,
}

impl Turns {
    /// Whether the least urgent are first now.
    pub(super) fn is_of_the_lowest(&self) -> bool {
        self.ahead + 1 >= FLOOR
    }

    /// One went; `waits`: a less urgent one did not.
    pub(super) fn took(&mut self, waits: bool) {
        self.ahead = if waits { self.ahead.saturating_add(1) } else { 0 };
    }
}

/// Blobs of one route that wait for a lease, in the order in which they came among their equals.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_level: [BTreeMap<u64, Key>; Urgency::COUNT],
    turns: Turns,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.by_level.iter().all(BTreeMap::is_empty)
    }

    pub(super) fn insert(&mut self, urgency: Urgency, sequence: u64, key: Key) {
        if let Some(level) = self.by_level.get_mut(urgency.level()) {
            level.insert(sequence, key);
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, urgency: Urgency, sequence: u64, key: Key) -> bool {
        let Some(level) = self.by_level.get_mut(urgency.level()) else { return false };
        level.get(&sequence) == Some(&key) && level.remove(&sequence).is_some()
    }

    pub(super) fn pop(&mut self) -> Option<Key> {
        let lowest = self.by_level.iter().position(|level| !level.is_empty())?;
        let highest = self.by_level.iter().rposition(|level| !level.is_empty())?;
        let chosen = if self.turns.is_of_the_lowest() { lowest } else { highest };
        self.turns.took(chosen > lowest);
        self.by_level.get_mut(chosen)?.pop_first().map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use base::{DeliveryId, Fingerprint};

    use super::*;

    #[test]
    fn the_urgent_go_first_and_the_others_have_their_turn() {
        let key = |n: u8| Key { sender: Fingerprint([1; 32]), delivery: DeliveryId([n; 32]) };
        let mut waiting = Waiting::default();
        for n in 0..20 {
            waiting.insert(Urgency::Bulk, u64::from(n), key(n));
            waiting.insert(Urgency::Urgent, u64::from(n) + 100, key(n + 100));
        }
        assert!(
            !waiting.remove(Urgency::Urgent, 0, key(0)) && waiting.remove(Urgency::Urgent, 100, key(100))
        );
        let order: Vec<_> = std::iter::from_fn(|| waiting.pop().map(|key| key.delivery.0[0])).collect();
        assert!(waiting.is_empty() && order.len() == 39);
        // Seven urgent ones, a bulk one, and so on.
        assert_eq!(order[..9], [101, 102, 103, 104, 105, 106, 107, 0, 108]);
        assert_eq!(order.iter().position(|n| *n == 119), Some(20));
    }
}
