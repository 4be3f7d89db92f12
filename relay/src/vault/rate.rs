//! How fast one sender may deposit: token buckets, as values.

use std::time::{Duration, Instant};

use base::limits::BODY_WINDOW_BYTES;

use super::policy::Rates;

const NANOS: u128 = 1_000_000_000;

/// Fills by `rate` units a second, up to `burst`.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: u64,
    burst: u64,
    /// Units times 10⁹, so that nothing is lost between two looks.
    level: u128,
    at: Instant,
}

impl Bucket {
    /// Full.
    pub(super) fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let (rate, burst) = (rate.max(1), burst.max(1));
        Self { rate, burst, level: u128::from(burst) * NANOS, at: now }
    }

    /// What may be taken now.
    pub(super) fn available(&mut self, now: Instant) -> u64 {
        let gained = now.saturating_duration_since(self.at).as_nanos().saturating_mul(u128::from(self.rate));
        self.at = self.at.max(now);
        self.level = self.level.saturating_add(gained).min(u128::from(self.burst) * NANOS);
        u64::try_from(self.level / NANOS).unwrap_or(u64::MAX)
    }

    /// Takes what was found available.
    pub(super) fn take(&mut self, amount: u64) {
        self.level = self.level.saturating_sub(u128::from(amount) * NANOS);
    }

    /// Puts back what was taken and not used.
    pub(super) fn give(&mut self, amount: u64) {
        self.level = (self.level + u128::from(amount) * NANOS).min(u128::from(self.burst) * NANOS);
    }

    /// When so much, or a full bucket, is available.
    pub(super) fn ready_at(&self, amount: u64, now: Instant) -> Instant {
        let missing = (u128::from(amount.min(self.burst)) * NANOS).saturating_sub(self.level);
        let nanos = missing.div_ceil(u128::from(self.rate));
        now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// One sender's buckets; none where it has no limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    pub(super) bytes: Option<Bucket>,
    pub(super) deliveries: Option<Bucket>,
}

impl Pace {
    /// With a second's worth each, and never less than one body's window.
    pub(super) fn new(rates: Rates, now: Instant) -> Self {
        let bytes = |rate: u64| Bucket::new(rate, rate.max(BODY_WINDOW_BYTES), now);
        Self {
            bytes: rates.bytes_per_second.map(bytes),
            deliveries: rates.deliveries_per_second.map(|rate| Bucket::new(rate, rate, now)),
        }
    }

    /// How much of `want` may be granted now. Where that is less, when to ask again; then it is nothing, or at least
    /// `least`, so that grants do not come in crumbs.
    pub(super) fn grant(&mut self, want: u64, least: u64, now: Instant) -> (u64, Option<Instant>) {
        let Some(bucket) = self.bytes.as_mut().filter(|_| want > 0) else { return (want, None) };
        let share = want.min(bucket.available(now));
        let share = if share < want.min(least) { 0 } else { share };
        bucket.take(share);
        let again = (share < want).then(|| bucket.ready_at((want - share).min(least), now));
        (share, again)
    }

    /// Grants that were not used.
    pub(super) fn unused(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.bytes {
            bucket.give(bytes);
        }
    }

    /// When one more delivery may begin; none: now.
    pub(super) fn delivery_wait(&mut self, now: Instant) -> Option<Instant> {
        let bucket = self.deliveries.as_mut()?;
        (bucket.available(now) < 1).then(|| bucket.ready_at(1, now))
    }

    /// One more delivery begins.
    pub(super) fn begin_delivery(&mut self) {
        if let Some(bucket) = &mut self.deliveries {
            bucket.take(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, 500, start);
        assert_eq!(bucket.available(start), 500);
        bucket.take(500);
        // (milliseconds, available)
        for (millis, want) in [(0, 0), (1, 1), (250, 250), (500, 500), (10_000, 500), (9_000, 500)] {
            assert_eq!(bucket.clone().available(after(start, millis)), want, "{millis}");
        }
        assert_eq!(bucket.ready_at(100, start), after(start, 100));
        assert_eq!(bucket.ready_at(100_000, start), after(start, 500), "more than the burst never comes");
        bucket.give(100_000);
        assert_eq!(bucket.available(start), 500);
    }

    #[test]
    fn nothing_is_lost_between_many_looks_and_nothing_gained() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, 3, start);
        bucket.take(3);
        let mut taken = 0;
        for micros in (0..10_000_000).step_by(777) {
            let now = start + Duration::from_micros(micros);
            let available = bucket.available(now);
            bucket.take(available);
            taken += available;
        }
        assert_eq!(taken, 29, "3 a second for just under 10 s");
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, 1000, after(start, 1000));
        bucket.take(1000);
        assert_eq!(bucket.available(start), 0);
        assert_eq!(bucket.available(after(start, 1000)), 0);
        assert_eq!(bucket.available(after(start, 1500)), 500);
    }

    #[test]
    fn grants_do_not_come_in_crumbs() {
        let start = Instant::now();
        let rates = Rates { bytes_per_second: Some(1 << 20), deliveries_per_second: None };
        let mut pace = Pace::new(rates, start);
        assert_eq!(pace.grant(1 << 20, 4096, start), (1 << 20, None));
        let (none, again) = pace.grant(8192, 4096, start);
        assert_eq!(none, 0);
        let again = again.unwrap();
        assert_eq!(pace.grant(8192, 4096, again - Duration::from_micros(1)).0, 0);
        assert_eq!(pace.grant(8192, 4096, again).0, 4096);
        assert_eq!(pace.grant(100, 4096, after(again, 1)), (100, None), "all that is wanted is no crumb");
        assert_eq!(Pace::default().grant(u64::MAX, 1, start), (u64::MAX, None));
        assert_eq!(Pace::default().delivery_wait(start), None);
    }
}
