//! By how much the clocks of others differ from ours at least, as what they sign shows.
//!
//! Nothing is asked for it: whoever signs that something happened at a time has seen it after we sent it, and before we hear of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::{Name, Timestamp};

use crate::overview::words;

/// A difference that is worth a word: receipts carry times, and keys end by them.
const ALARM_FROM: Duration = Duration::from_secs(60);

/// Our clock has been put right meanwhile if its time has gone by so much faster or slower than the time since the start of the machine.
const STEP: Duration = Duration::from_secs(10);

/// The last difference of each. Names are those of the configuration. The lock is never held across an await.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<BTreeMap<Name, Difference>>);

#[derive(Clone, Copy, Debug)]
struct Difference {
    ahead_ms: i64,
    /// When it was found out: by our clock, and by one that nobody puts right.
    found: (Timestamp, Instant),
}

impl Difference {
    /// It says nothing once our clock has been put right.
    fn stands(&self, now: (Timestamp, Instant)) -> bool {
        let passed = now.1.saturating_duration_since(self.found.1);
        let want =
            Timestamp(self.found.0.0.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)));
        now.0.since(want).max(want.since(now.0)) < STEP
    }
}

impl Clocks {
    /// Somebody says that it was `said`, which by our clock was not before `earliest` and not after `latest`.
    pub fn said(&self, name: &Name, said: Timestamp, (earliest, latest): (Timestamp, Timestamp)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if latest < earliest {
            // Ours went back in between: it shows nothing of theirs.
            all.remove(name);
            return;
        }
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = millis(said.since(latest)) - millis(earliest.since(said));
        all.insert(name.clone(), Difference { ahead_ms, found: (Timestamp::now(), Instant::now()) });
    }

    /// Milliseconds by which each is ahead at least; behind, where they are negative.
    pub fn all(&self) -> Vec<(Name, i64)> {
        let (all, now) =
            (self.0.lock().unwrap_or_else(PoisonError::into_inner), (Timestamp::now(), Instant::now()));
        let standing = all.iter().filter(|(_, difference)| difference.stands(now));
        standing.map(|(name, difference)| (name.clone(), difference.ahead_ms)).collect()
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
        let second = |seconds: u64| Timestamp(seconds * 1000);
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
        let clocks = Clocks::default();
        for (said, ahead, alarm) in cases {
            clocks.said(&name, second(said), between);
            assert_eq!(clocks.all(), [(name.clone(), ahead)], "{said}");
            assert_eq!(clocks.alarms().concat(), alarm, "{said}");
        }
        clocks.said(&name, second(2000), (second(1010), second(1000)));
        assert!(clocks.all().is_empty(), "our own clock went back");
    }

    #[test]
    fn a_clock_of_ours_that_was_put_right_ends_what_it_had_shown() {
        let (at, start) = (Timestamp(1_000_000), Instant::now());
        let found = Difference { ahead_ms: 90_000, found: (at, start) };
        let hour = Duration::from_secs(3600);
        // (by our clock after the start, milliseconds; whether it stands an hour later)
        for (wall, stands) in [
            (3_600_000, true),
            (3_609_999, true),
            (3_590_001, true),
            (3_610_000, false),
            (3_590_000, false),
            (0, false),
        ] {
            assert_eq!(found.stands((Timestamp(at.0 + wall), start + hour)), stands, "{wall}");
        }
    }
}
