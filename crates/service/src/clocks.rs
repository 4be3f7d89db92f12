//! By how much the clocks of others differ from ours at least, as what they sign shows.
//!
//! Nothing is asked for it: whoever signs that something happened at a time has seen it after we sent it, and before we hear of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::{Name, Timestamp};

use crate::overview::words;

/// A difference that is worth a word: receipts carry times, and keys end by them.
const ALARM_FROM: Duration = Duration::from_secs(60);

/// The last difference of each. Names are those of the configuration. The lock is never held across an await.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<BTreeMap<Name, i64>>);

impl Clocks {
    /// Somebody says that it was `said`, which by our clock was not before `earliest` and not after `latest`.
    pub fn said(&self, name: &Name, said: Timestamp, (earliest, latest): (Timestamp, Timestamp)) {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let ahead = millis(said.since(latest)) - millis(earliest.since(said));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), ahead);
    }

    /// Milliseconds by which each is ahead at least; behind, where they are negative.
    pub fn all(&self) -> Vec<(Name, i64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, ahead)| (name.clone(), *ahead)).collect()
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
    }
}
