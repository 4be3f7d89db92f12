//! Whether a relay's log keeps silent: something was deposited or settled there, and no new head came. That is no proof of
//! anything and ends nothing; somebody has to look.

use std::time::{Duration, Instant};

use base::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Loaded, Span};

/// After a new connection the relay has this long to show where its log is.
const AFTER_CONNECT: Duration = Duration::from_secs(30);

/// `[transparency]` of a gateway: what it expects of the relays' logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransparencyTable {
    /// A relay that takes or gives instances and shows no new head of its log for so long is alarmed; nothing is stopped.
    /// Default 10 min: heads come every half second; give more than the longest `interval` of your relays.
    pub silent_after: Span,
    /// A receipt that has waited so long for the proof of its place in a log is submitted to the relay again. Default
    /// 1 min: proofs come with the next head.
    pub resubmit_after: Span,
}

impl Default for TransparencyTable {
    fn default() -> Self {
        Self { silent_after: Span::from_secs(600), resubmit_after: Span::from_secs(60) }
    }
}

impl TransparencyTable {
    /// Refuses what would alarm or ask all the time.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let second = Duration::from_secs(1);
        if self.silent_after.duration() < second * 5 {
            return Err(
                loaded.error("transparency.silent_after", "give at least 5s: a head may take a moment")
            );
        }
        if !(second..=second * 86_400).contains(&self.resubmit_after.duration()) {
            return Err(loaded.error("transparency.resubmit_after", "give 1s to 24h"));
        }
        Ok(())
    }
}

/// The state of one relay's log in this respect.
#[derive(Debug)]
pub(crate) struct Silence {
    after: Duration,
    /// Since when something waits for a head.
    waits: Option<(Instant, Timestamp)>,
    /// Not alarmed before.
    earliest: Option<Instant>,
    told: bool,
}

impl Silence {
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, waits: None, earliest: None, told: false }
    }

    /// Something was done that belongs into the log.
    pub(crate) fn active(&mut self, now: Instant, wall: Timestamp) {
        self.waits.get_or_insert((now, wall));
    }

    /// The relay is there (again).
    pub(crate) fn connected(&mut self, now: Instant) {
        self.earliest = Some(now + AFTER_CONNECT.min(self.after));
    }

    /// A new head came. True if the silence before it was alarmed.
    pub(crate) fn head(&mut self) -> bool {
        self.waits = None;
        std::mem::take(&mut self.told)
    }

    /// Since when the log is silent, if it is for too long.
    pub(crate) fn since(&self, now: Instant) -> Option<Timestamp> {
        let long = |at: &Instant| now.saturating_duration_since(*at) >= self.after;
        let early = self.earliest.is_some_and(|earliest| now < earliest);
        self.waits.filter(|(at, _)| long(at) && !early).map(|(_, wall)| wall)
    }

    /// The same, once for each silence.
    pub(crate) fn begins(&mut self, now: Instant) -> Option<Timestamp> {
        let since = self.since(now).filter(|_| !self.told)?;
        self.told = true;
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn silence_is_what_follows_activity_without_a_head() {
        let start = Instant::now();
        let at = |minutes: u32| start + MINUTE * minutes;
        let mut silence = Silence::new(MINUTE * 10);
        assert_eq!(silence.begins(at(100)), None, "nothing was done");
        silence.active(at(100), Timestamp(1));
        silence.active(at(105), Timestamp(2));
        assert_eq!((silence.since(at(109)), silence.begins(at(110))), (None, Some(Timestamp(1))));
        assert_eq!(
            (silence.begins(at(111)), silence.since(at(111))),
            (None, Some(Timestamp(1))),
            "told once"
        );
        assert!(silence.head());
        assert_eq!((silence.head(), silence.since(at(200))), (false, None));
        silence.active(at(200), Timestamp(3));
        assert!(!silence.head(), "in time");
        silence.active(at(300), Timestamp(4));
        assert_eq!(silence.begins(at(310)), Some(Timestamp(4)), "another one");
    }

    #[test]
    fn a_relay_that_was_away_may_speak_first() {
        let start = Instant::now();
        let mut silence = Silence::new(MINUTE);
        silence.active(start, Timestamp(1));
        silence.connected(start + MINUTE * 5);
        assert_eq!(silence.since(start + MINUTE * 5), None);
        assert_eq!(silence.since(start + MINUTE * 5 + AFTER_CONNECT), Some(Timestamp(1)));
    }
}
