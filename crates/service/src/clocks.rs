//! By how much the clocks of others differ from ours at least, as what they sign shows.
//!
//! Nothing is asked for it: whoever signs that something happened at a time has seen it after we sent it, and before we hear of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::{Name, Timestamp};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::overview::words;

/// A difference that is worth a word: receipts carry times, and keys end by them.
const ALARM_FROM: Duration = Duration::from_secs(60);

/// Our clock has been put right if its time has gone by so much faster or slower than the time that nobody puts right.
const STEP: Duration = Duration::from_secs(1);

/// A step forth and back in less than this is not noticed.
const EVERY: Duration = Duration::from_secs(5);

/// The last difference of each. Names are those of the configuration. The lock is never held across an await.
#[derive(Debug)]
pub struct Clocks(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    ahead_ms: BTreeMap<Name, i64>,
    own: OwnClock,
}

/// Whether our own clock has been put right.
#[derive(Debug)]
struct OwnClock {
    /// The same moment by our clock, and by one that nobody puts right.
    anchor: (Timestamp, Instant),
    /// What our clock said up to here shows nothing: it was another clock.
    trusted_after: Timestamp,
}

impl OwnClock {
    fn new(now: (Timestamp, Instant)) -> Self {
        Self { anchor: now, trusted_after: now.0 }
    }

    /// Whether it was put right since the last look.
    fn was_put_right(&mut self, now: (Timestamp, Instant)) -> bool {
        let passed = now.1.saturating_duration_since(self.anchor.1).as_millis();
        let want = Timestamp(self.anchor.0.0.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)));
        if now.0.since(want).max(want.since(now.0)) < STEP {
            return false;
        }
        // Nothing that it said before, by either time.
        *self = Self { anchor: now, trusted_after: want.max(now.0) };
        true
    }
}

impl Default for Clocks {
    fn default() -> Self {
        let own = OwnClock::new((Timestamp::now(), Instant::now()));
        Self(Mutex::new(Seen { ahead_ms: BTreeMap::new(), own }))
    }
}

impl Clocks {
    /// Somebody says that it was `said`, which by our clock was not before `earliest` and not after `latest`.
    pub fn said(&self, name: &Name, said: Timestamp, (earliest, latest): (Timestamp, Timestamp)) {
        let mut seen = self.look();
        // Before the start, or before our own clock was put right: it shows nothing of theirs.
        if earliest < seen.own.trusted_after || latest < earliest {
            return;
        }
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = millis(said.since(latest)) - millis(earliest.since(said));
        seen.ahead_ms.insert(name.clone(), ahead_ms);
    }

    /// Notices that our own clock is put right, until `stop` is cancelled.
    pub async fn watch(&self, stop: CancellationToken) -> Result<(), Infallible> {
        while stop.run_until_cancelled(sleep(EVERY)).await.is_some() {
            drop(self.look());
        }
        Ok(())
    }

    /// What still holds.
    fn look(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.own.was_put_right((Timestamp::now(), Instant::now())) {
            seen.ahead_ms.clear();
        }
        seen
    }

    /// Milliseconds by which each is ahead at least; behind, where they are negative.
    pub fn all(&self) -> Vec<(Name, i64)> {
        self.look().ahead_ms.iter().map(|(name, ahead)| (name.clone(), *ahead)).collect()
    }

    /// A line for each that differs by more than a minute.
    pub fn alarms(&self) -> Vec<String> {
        let line = |(name, ahead): (Name, i64)| {
            let by = Duration::from_millis(ahead.unsigned_abs());
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            let by_text = words::age(by).replace('\u{a0}', " ");
            (by >= ALARM_FROM)
                .then(|| format!("the clock of {name} is {side} ours by {by_text} at least: look at both"))
        };
        self.all().into_iter().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_otherwise_is_a_difference() {
        let name = Name::parse("clinic").unwrap();
        let clocks = Clocks::default();
        let start = clocks.look().own.trusted_after;
        let second = |seconds: u64| Timestamp(start.0 - 1_000_000 + seconds * 1000);
        let between = (second(1000), second(1010));
        // (what is said, milliseconds, alarm)
        let cases = [
            (1000, 0, ""),
            (1010, 0, ""),
            (1069, 59_000, ""),
            (1070, 60_000, "the clock of clinic is ahead of ours by 1 min at least: look at both"),
            (940, -60_000, "the clock of clinic is behind ours by 1 min at least: look at both"),
            (941, -59_000, ""),
        ];
        for (said, ahead, alarm) in cases {
            clocks.said(&name, second(said), between);
            assert_eq!(clocks.all(), [(name.clone(), ahead)], "{said}");
            assert_eq!(clocks.alarms().concat(), alarm, "{said}");
        }
        // Our own clock went back meanwhile; and what came before the start.
        for nothing in [(second(1010), second(1000)), (second(999), second(1010))] {
            clocks.said(&name, second(2000), nothing);
            assert_eq!(clocks.all(), [(name.clone(), -59_000)]);
        }
    }

    #[test]
    fn a_clock_of_ours_that_was_put_right_shows_nothing_of_before() {
        let (at, start) = (Timestamp(10_000_000), Instant::now());
        let hour = Duration::from_secs(3600);
        // (by our clock after an hour, milliseconds; from when on it is trusted then, where it was put right)
        let cases = [
            (3_600_000, None),
            (3_600_999, None),
            (3_599_001, None),
            (3_601_000, Some(3_601_000)),
            (3_599_000, Some(3_600_000)),
            (0, Some(3_600_000)),
        ];
        for (wall, trusted) in cases {
            let mut own = OwnClock::new((at, start));
            let now = (Timestamp(at.0 + wall), start + hour);
            assert_eq!(own.was_put_right(now), trusted.is_some(), "{wall}");
            assert_eq!(own.trusted_after.0 - at.0, trusted.unwrap_or(0), "{wall}");
            assert!(!own.was_put_right(now), "{wall}: once");
        }
    }
}
