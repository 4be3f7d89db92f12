//! What stands since when, and who was told what: a small file, so that a restart tells nothing twice.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use base::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AlarmTable, Condition};
use crate::files::{self, Readable};

/// Everything that stands, or is over and not told so to all who knew of it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    standing: BTreeMap<String, Standing>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// Since when.
    pub(super) since: Timestamp,
    /// As it was seen last.
    pub(super) text: String,
    /// What to do.
    pub(super) remedy: String,
    /// How long it has to stand.
    after: Duration,
    /// Since when it is gone.
    over: Option<Timestamp>,
    /// The ways that told it, and when they did last.
    told: BTreeMap<String, Timestamp>,
}

/// What one way has to tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Not told yet.
    pub(super) raised: Vec<Standing>,
    /// Told before, and gone.
    pub(super) over: Vec<Standing>,
    /// Told before, and still there; only filled when there is something else to tell, or it is time to tell it again.
    pub(super) still: Vec<Standing>,
}

impl News {
    /// There is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.raised.is_empty() && self.over.is_empty() && self.still.is_empty()
    }
}

impl Memory {
    /// Reads the file; without one nothing was told.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            files::make_folder(folder)?;
        }
        files::replace(path, &serde_json::to_vec_pretty(self)?, Readable::Owner)
    }

    /// Takes over what stands now. `complete` says that what is not among it is over: a daemon that does not answer says nothing of
    /// its destinations.
    pub(super) fn look(&mut self, found: &[Condition], complete: bool, table: &AlarmTable, now: Timestamp) {
        for condition in found {
            let standing = self.standing.entry(condition.key.clone()).or_insert_with(|| Standing {
                since: now,
                text: String::new(),
                remedy: String::new(),
                after: Duration::ZERO,
                over: None,
                told: BTreeMap::new(),
            });
            standing.text.clone_from(&condition.text);
            standing.remedy = condition.remedy.to_owned();
            standing.after = condition.after.unwrap_or_else(|| table.after.duration());
            // What is back before anybody was told that it is over has never been away.
            standing.over = None;
        }
        let is_there = |key: &str| found.iter().any(|condition| condition.key == *key);
        if complete {
            for (_, standing) in self.standing.iter_mut().filter(|(key, _)| !is_there(key)) {
                standing.over.get_or_insert(now);
            }
        }
        self.standing.retain(|_, standing| standing.over.is_none() || !standing.told.is_empty());
    }

    /// What this way has to tell now.
    pub(super) fn news(&self, way: &str, table: &AlarmTable, now: Timestamp) -> News {
        let (mut news, mut is_time) = (News::default(), false);
        for standing in self.standing.values() {
            let told = standing.told.get(way);
            match (standing.over, told) {
                (Some(over), Some(_)) if now.since(over) >= table.after.duration() => {
                    news.over.push(standing.clone())
                }
                // Perhaps it comes back.
                (Some(_), _) => {}
                (None, None) if now.since(standing.since) >= standing.after => {
                    news.raised.push(standing.clone())
                }
                (None, None) => {}
                (None, Some(told)) => {
                    is_time |= now.since(*told) >= table.repeat.duration();
                    news.still.push(standing.clone());
                }
            }
        }
        if !is_time && news.raised.is_empty() && news.over.is_empty() {
            news.still.clear();
        }
        news
    }

    /// This way has told all of it.
    pub(super) fn told(&mut self, way: &str, news: &News, now: Timestamp) {
        for standing in self.standing.values_mut() {
            if news.over.contains(standing) {
                standing.told.remove(way);
            } else if news.raised.contains(standing) || news.still.contains(standing) {
                standing.told.insert(way.to_owned(), now);
            }
        }
        self.standing.retain(|_, standing| standing.over.is_none() || !standing.told.is_empty());
    }

    /// Forgets what ways were told that are not configured any more: nobody would ever be told that it is over.
    pub(super) fn keep_ways(&mut self, ways: &[&str]) {
        for standing in self.standing.values_mut() {
            standing.told.retain(|way, _| ways.contains(&way.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    const MINUTE: u64 = 60_000;

    fn table() -> AlarmTable {
        AlarmTable { after: Span::from_secs(120), repeat: Span::from_secs(3600), ..AlarmTable::default() }
    }

    fn texts(of: &[Standing]) -> Vec<&str> {
        of.iter().map(|standing| standing.text.as_str()).collect()
    }

    /// Looks, and lets one way tell what it has to.
    fn told(
        memory: &mut Memory,
        found: &[Condition],
        minute: u64,
    ) -> (Vec<String>, Vec<String>, Vec<String>) {
        let now = Timestamp(minute * MINUTE);
        memory.look(found, true, &table(), now);
        let news = memory.news("mail", &table(), now);
        memory.told("mail", &news, now);
        let owned = |of: &[Standing]| texts(of).into_iter().map(str::to_owned).collect();
        (owned(&news.raised), owned(&news.still), owned(&news.over))
    }

    fn condition(key: &str) -> Condition {
        Condition::new(key, format!("{key} is wrong"), "mend it")
    }

    #[test]
    fn it_is_told_once_and_again_after_a_while_and_when_it_is_over() {
        let (mut memory, disk) = (Memory::default(), [condition("disk")]);
        let none = Vec::<String>::new;
        let one = || vec!["disk is wrong".to_owned()];
        // (minute, whether it stands, raised, still, over)
        let cases = [
            (0, true, none(), none(), none()),
            (1, true, none(), none(), none()),
            (2, true, one(), none(), none()),
            (3, true, none(), none(), none()),
            (61, true, none(), none(), none()),
            (62, true, none(), one(), none()),
            (63, false, none(), none(), none()),
            (64, true, none(), none(), none()),
            (65, false, none(), none(), none()),
            (67, false, none(), none(), one()),
            (68, false, none(), none(), none()),
            (69, true, none(), none(), none()),
            (71, true, one(), none(), none()),
        ];
        for (minute, stands, raised, still, over) in cases {
            let found: &[_] = if stands { &disk } else { &[] };
            assert_eq!(told(&mut memory, found, minute), (raised, still, over), "minute {minute}");
        }
    }

    #[test]
    fn what_was_over_before_it_was_told_is_never_told() {
        let mut memory = Memory::default();
        assert_eq!(told(&mut memory, &[condition("relay")], 0), Default::default());
        assert_eq!(told(&mut memory, &[], 1), Default::default());
        assert_eq!(told(&mut memory, &[condition("relay")], 2), Default::default());
        assert_eq!(memory.standing["relay"].since, Timestamp(2 * MINUTE));
    }

    #[test]
    fn a_way_that_failed_is_told_later_and_the_other_is_not_told_twice() {
        let (mut memory, table, now) = (Memory::default(), table(), Timestamp(10 * MINUTE));
        memory.look(&[condition("disk")], true, &table, Timestamp(0));
        let news = memory.news("mail", &table, now);
        memory.told("mail", &news, now);
        assert!(memory.news("mail", &table, now).is_empty());
        assert_eq!(texts(&memory.news("webhook", &table, now).raised), ["disk is wrong"]);
        // It is over: the webhook never knew of it.
        memory.look(&[], true, &table, Timestamp(11 * MINUTE));
        let later = Timestamp(20 * MINUTE);
        assert!(memory.news("webhook", &table, later).is_empty());
        let news = memory.news("mail", &table, later);
        assert_eq!(texts(&news.over), ["disk is wrong"]);
        memory.told("mail", &news, later);
        assert_eq!(memory, Memory::default());
    }

    #[test]
    fn a_daemon_that_does_not_answer_ends_no_alarm() {
        let (mut memory, table) = (Memory::default(), table());
        memory.look(&[condition("destination archive")], true, &table, Timestamp(0));
        memory.look(&[condition("unreachable")], false, &table, Timestamp(MINUTE));
        let news = memory.news("mail", &table, Timestamp(4 * MINUTE));
        assert_eq!(texts(&news.raised), ["destination archive is wrong", "unreachable is wrong"]);
    }

    #[test]
    fn the_file_is_private_and_what_it_says_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/alarm.json");
        assert_eq!(Memory::read(&path).unwrap(), Memory::default());
        let mut memory = Memory::default();
        memory.look(&[condition("disk")], true, &table(), Timestamp(1));
        memory.write(&path).unwrap();
        assert_eq!(Memory::read(&path).unwrap(), memory);
        std::fs::write(&path, "{").unwrap();
        assert!(Memory::read(&path).is_err());
    }

    #[test]
    fn a_way_that_is_configured_no_more_keeps_nothing() {
        let (mut memory, table) = (Memory::default(), table());
        memory.look(&[condition("disk")], true, &table, Timestamp(0));
        let news = memory.news("mail", &table, Timestamp(10 * MINUTE));
        memory.told("mail", &news, Timestamp(10 * MINUTE));
        memory.keep_ways(&["webhook"]);
        memory.look(&[], true, &table, Timestamp(11 * MINUTE));
        assert_eq!(memory, Memory::default());
    }
}
