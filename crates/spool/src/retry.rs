//! When a delivery is tried again.

use std::time::Duration;

use base::Timestamp;

/// Pace and limits of repeated deposits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first wait; it doubles each time.
    pub first: Duration,
    /// The longest wait, and the pace of a permanent rejection.
    pub slowest: Duration,
    /// Nacked deposits that are repeated; the next nack parks the delivery.
    pub nacks_max: u32,
    /// Deferrals go on until the delivery is this old; then it is parked.
    pub age_max: Duration,
}

impl Default for RetryPolicy {
    /// 5 s, doubling to 15 min; 8 nacks; 30 days.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            slowest: Duration::from_secs(15 * 60),
            nacks_max: 8,
            age_max: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl RetryPolicy {
    /// The wait after failure number `count` (from 1). `jitter` from 0 to 1 spreads it over the upper
    /// half, so that what failed together does not come back together.
    pub fn wait(&self, count: u32, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(count.saturating_sub(1).min(31)));
        spread(doubled.min(self.slowest), jitter)
    }

    /// The wait where trying soon is useless.
    pub fn slow(&self, jitter: f64) -> Duration {
        spread(self.slowest, jitter)
    }

    pub(crate) fn is_too_old(&self, age_from: Timestamp, now: Timestamp) -> bool {
        now.since(age_from) >= self.age_max
    }
}

fn spread(wait: Duration, jitter: f64) -> Duration {
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
    wait.mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_slowest_and_are_spread_over_the_upper_half() {
        let policy = RetryPolicy::default();
        let cases = [
            (1, 1.0, 5_000),
            (1, 0.0, 2_500),
            (2, 1.0, 10_000),
            (3, 0.5, 15_000),
            (8, 1.0, 640_000),
            (9, 1.0, 900_000),
            (9, 0.0, 450_000),
            (u32::MAX, 1.0, 900_000),
            (1, f64::NAN, 5_000),
            (1, -7.0, 2_500),
            (1, 7.0, 5_000),
            (0, 1.0, 5_000),
        ];
        for (count, jitter, want_ms) in cases {
            assert_eq!(policy.wait(count, jitter), Duration::from_millis(want_ms), "{count} {jitter}");
        }
        assert_eq!(policy.slow(0.5), Duration::from_millis(675_000));
    }
}
