use std::time::Duration;

use crate::limits;

/// The pause before the next attempt to connect: doubled each time, with jitter, so that the gateways of
/// a restarted relay do not all come at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A connection stood: the next pause is the first one again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next pause, between a half and the whole of its step.
    pub(crate) fn pause(&mut self, random: u32) -> Duration {
        let (first, longest) = limits::RECONNECT_PAUSE;
        let step = first.saturating_mul(2u32.saturating_pow(self.failures.min(16))).min(longest);
        self.failures = self.failures.saturating_add(1);
        step / 2 + (step / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_start_again() {
        let (first, longest) = limits::RECONNECT_PAUSE;
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(0), first / 2);
        assert_eq!(backoff.pause(u32::MAX), first * 2);
        for _ in 0..40 {
            assert!(backoff.pause(u32::MAX) <= longest);
        }
        assert!(backoff.pause(0) >= longest / 2);
        backoff.reset();
        assert_eq!(backoff.pause(u32::MAX), first);
    }
}
