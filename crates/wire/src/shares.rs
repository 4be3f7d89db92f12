use std::collections::BTreeMap;

/// How much of what is free a single key may hold, as a multiple of what stays free.
const SHARE_OF_FREE: u64 = 4;

/// A bounded amount (bytes, slots) shared by keys that must not starve each other.
///
/// A key may grow while it holds at most four times what is still free (a dynamic threshold, as in
/// shared-memory switches). One key alone gets four fifths; when it is stuck there, a newcomer still
/// finds a fifth, and two stuck keys leave a ninth. Nothing has to be configured per key, and an idle
/// key costs nothing.
#[derive(Clone, Debug)]
pub struct Shares<K> {
    capacity: u64,
    used: u64,
    held: BTreeMap<K, u64>,
}

impl<K: Ord + Clone> Shares<K> {
    /// All of it is free.
    pub fn new(capacity: u64) -> Self {
        Self { capacity, used: 0, held: BTreeMap::new() }
    }

    /// What this key could take now, at most `want`.
    pub fn room(&self, key: &K, want: u64) -> u64 {
        let (free, held) = (self.free(), self.held(key));
        // Largest t with held + t <= SHARE_OF_FREE * (free - t). A key that holds nothing may have all
        // that is free: else a small capacity would serve nobody.
        let fair =
            if held == 0 { free } else { (SHARE_OF_FREE * free).saturating_sub(held) / (SHARE_OF_FREE + 1) };
        want.min(free).min(fair)
    }

    /// Takes all of `want`, or nothing.
    pub fn take(&mut self, key: &K, want: u64) -> bool {
        if self.room(key, want) < want {
            return false;
        }
        self.charge(key, want);
        true
    }

    /// Takes regardless of fairness and capacity: for what is here already and cannot be refused.
    pub fn charge(&mut self, key: &K, amount: u64) {
        if amount > 0 {
            self.used += amount;
            *self.held.entry(key.clone()).or_default() += amount;
        }
    }

    /// Gives back; more than the key holds cannot be.
    pub fn give(&mut self, key: &K, amount: u64) {
        let Some(held) = self.held.get_mut(key) else { return };
        let amount = amount.min(*held);
        *held -= amount;
        self.used -= amount;
        if *held == 0 {
            self.held.remove(key);
        }
    }

    /// There is as much from now on. What is held stays held, even where it is more.
    pub fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    /// What the key holds.
    pub fn held(&self, key: &K) -> u64 {
        self.held.get(key).copied().unwrap_or(0)
    }

    /// What all keys hold.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// What nobody holds.
    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    /// All there is.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stuck_key_leaves_room_for_the_others() {
        let mut shares = Shares::new(1000);
        while shares.take(&"stuck", 10) {}
        assert_eq!(shares.held(&"stuck"), 800);
        while shares.take(&"second", 10) {}
        assert!(shares.held(&"second") >= 150, "{}", shares.held(&"second"));
        assert!(shares.take(&"third", 10));
        shares.give(&"stuck", 800);
        assert!(shares.take(&"third", 300));
    }

    #[test]
    fn a_key_that_holds_nothing_may_have_all_that_is_free() {
        let mut shares = Shares::new(10);
        assert!(shares.take(&1, 10));
        assert!(!shares.take(&2, 1));
        shares.give(&1, 10);
        assert_eq!((shares.used(), shares.free()), (0, 10));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_overdrawn(steps in proptest::collection::vec((0u8..4, 0u64..300, any::<bool>()), 0..200)) {
            let mut shares = Shares::new(1000);
            for (key, amount, take) in steps {
                if take { shares.take(&key, amount); } else { shares.give(&key, amount); }
                let sum: u64 = (0..4).map(|k| shares.held(&k)).sum();
                prop_assert_eq!(sum, shares.used());
                prop_assert!(shares.used() <= shares.capacity());
            }
        }
    }
}
