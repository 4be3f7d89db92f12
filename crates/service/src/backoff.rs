use std::time::Duration;

/// Exponential waiting times between `first` and `most`, each spread over its upper half, so that many waiters that
/// failed together do not come back together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first` and doubles up to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        let first = first.min(most);
        Self { first, most, next: first }
    }

    /// The next waiting time: half of the current step, plus a part of the other half by `random`, which the caller
    /// draws uniformly from all `u64`.
    pub fn wait(&mut self, random: u64) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.most);
        let half = step / 2;
        let spread_ns = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        // The high half of a 128-bit product maps `random` evenly onto 0..spread.
        let part_ns = (u128::from(random) * u128::from(spread_ns)) >> 64;
        step - half + Duration::from_nanos(u64::try_from(part_ns).unwrap_or(u64::MAX))
    }

    /// After a success: the next failure waits `first` again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let all_random: Vec<_> = (0..6).map(|_| backoff.wait(u64::MAX).as_millis()).collect();
        assert_eq!(all_random, [99, 199, 399, 799, 999, 999]);
        backoff.reset();
        let none_random: Vec<_> = (0..6).map(|_| backoff.wait(0).as_millis()).collect();
        assert_eq!(none_random, [50, 100, 200, 400, 500, 500]);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        assert!(backoff.wait(u64::MAX) <= Duration::MAX);
        assert_eq!(Backoff::new(Duration::ZERO, Duration::ZERO).wait(u64::MAX), Duration::ZERO);
        assert_eq!(
            Backoff::new(Duration::from_secs(9), Duration::from_secs(1)).wait(0),
            Duration::from_millis(500)
        );
    }
}
