//! Which folders are watched, and what is known of each.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Watched, seen::Which};

/// The folders that are watched at this moment.
#[derive(Debug)]
pub struct Folders {
    listed: watch::Sender<Vec<Arc<Folder>>>,
    /// The last one that was given.
    number: AtomicU64,
}

impl Folders {
    /// As the configuration has them.
    pub fn new(watched: &[Watched]) -> Self {
        let folders = Self { listed: watch::Sender::new(Vec::new()), number: AtomicU64::new(0) };
        folders.exchange(watched);
        folders
    }

    /// In the order of the configuration.
    pub fn now(&self) -> Vec<Arc<Folder>> {
        self.listed.borrow().clone()
    }

    /// To hear of others.
    pub(super) fn changes(&self) -> watch::Receiver<Vec<Arc<Folder>>> {
        self.listed.subscribe()
    }

    /// A line for each whose files do not go on. The folder stays out of it, since alarms are also mailed.
    pub fn alarms(&self) -> Vec<String> {
        let line = |folder: &Arc<Folder>| {
            Some(format!("watched folder for {} waits: {}", folder.watched.ae, folder.hindrance()?))
        };
        self.now().iter().filter_map(line).collect()
    }

    /// From now on it is these; gives how many are new, are other than before, or are watched no more. What is known of a folder stays
    /// known, also under another table.
    pub fn exchange(&self, watched: &[Watched]) -> usize {
        let before = self.now();
        let made = |one: &Watched| {
            let earlier = before.iter().find(|folder| folder.watched.dir == one.dir);
            match earlier {
                Some(earlier) if earlier.watched == *one => Arc::clone(earlier),
                Some(earlier) => Arc::new(Folder::new(one.clone(), Arc::clone(&earlier.known))),
                None => {
                    let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
                    Arc::new(Folder::new(one.clone(), Arc::new(Known { number, ..Known::default() })))
                }
            }
        };
        let after: Vec<_> = watched.iter().map(made).collect();
        let changed = after.iter().filter(|folder| !contains(&before, folder)).count();
        let is_watched = |folder: &Arc<Folder>| after.iter().any(|one| one.watched.dir == folder.watched.dir);
        let gone = before.iter().filter(|folder| !is_watched(folder)).count();
        self.listed.send_replace(after);
        changed + gone
    }
}

pub(super) fn contains(folders: &[Arc<Folder>], one: &Arc<Folder>) -> bool {
    folders.iter().any(|folder| Arc::ptr_eq(folder, one))
}

/// A table of a folder, while it holds.
#[derive(Debug)]
pub struct Folder {
    watched: Watched,
    known: Arc<Known>,
    hindrance: Mutex<Option<String>>,
}

/// What is known of a folder, whatever its table says.
#[derive(Debug, Default)]
struct Known {
    /// Names it in figures as long as the process runs.
    number: u64,
    waiting: AtomicU64,
    taken: AtomicU64,
    failed: AtomicU64,
    /// Files that have had their answer, and could not be moved away yet: they are not sent again. The lock is never held across an await.
    answered: Mutex<Answered>,
}

pub(super) type Answered = HashMap<PathBuf, (Which, Answer)>;

/// What came of a file: it is in custody, or why not and never.
pub(super) type Answer = Result<(), String>;

impl Folder {
    fn new(watched: Watched, known: Arc<Known>) -> Self {
        Self { watched, known, hindrance: Mutex::default() }
    }

    /// For `status`. No patient data: the folder is the configuration's.
    pub fn json(&self) -> Value {
        let [waiting, taken, failed] = self.counts();
        json!({
            "folder": self.number(), "dir": self.watched.dir, "ae": self.watched.ae, "waiting": waiting, "taken": taken,
            "failed": failed, "hindered_by": self.hindrance(),
        })
    }

    /// Names it in figures: a path may be named after somebody.
    pub fn number(&self) -> u64 {
        self.known.number
    }

    /// What is found in it: waiting, taken and failed files.
    pub fn counts(&self) -> [u64; 3] {
        let Known { waiting, taken, failed, .. } = self.known.as_ref();
        [waiting, taken, failed].map(|count| count.load(Ordering::Relaxed))
    }

    /// Its table.
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Why its files do not go on.
    pub fn hindrance(&self) -> Option<String> {
        self.hindrance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a file may be found in both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (one, other) = (&self.watched.dir, &other.watched.dir);
        one.starts_with(other) || other.starts_with(one)
    }

    pub(super) fn found(&self, waiting: u64) {
        self.known.waiting.store(waiting, Ordering::Relaxed);
    }

    /// One of what was found is put away.
    pub(super) fn put_away(&self, answer: &Answer) {
        let counter = if answer.is_ok() { &self.known.taken } else { &self.known.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.known.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self) -> MutexGuard<'_, Answered> {
        self.known.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once why nothing goes on, and once that it does again.
    pub(super) fn hindered(&self, why: Option<String>) {
        let mut hindrance = self.hindrance.lock().unwrap_or_else(PoisonError::into_inner);
        if *hindrance != why {
            match &why {
                Some(why) => warn!(dir = %self.watched.dir.display(), "watched folder waits: {why}"),
                None => info!(dir = %self.watched.dir.display(), "watched folder goes on"),
            }
            *hindrance = why;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::AeTitle;

    use super::*;
    use crate::folders::AfterDelivery;

    fn watched(dir: &str, every: u64) -> Watched {
        let ae = AeTitle::parse("RESEARCH").unwrap();
        Watched {
            dir: dir.into(),
            calling: ae.clone(),
            ae,
            settle: Duration::ZERO,
            every: Duration::from_secs(every),
            delivered: AfterDelivery::Keep,
        }
    }

    #[test]
    fn what_is_known_of_a_folder_outlives_its_table_and_its_place() {
        let [a, b, c] = ["/a", "/b", "/c"].map(|dir| watched(dir, 1));
        let folders = Folders::new(&[a.clone(), b.clone()]);
        let first = folders.now();
        first.iter().for_each(|folder| folder.found(3));
        first[1].put_away(&Ok(()));
        // (tables, how many differ, (number, taken) of each)
        let cases = [
            (vec![a.clone(), b.clone()], 0, vec![(1, 0), (2, 1)]),
            (vec![b.clone(), a.clone()], 0, vec![(2, 1), (1, 0)]),
            (vec![watched("/b", 9), a.clone()], 1, vec![(2, 1), (1, 0)]),
            (vec![c.clone(), watched("/b", 9)], 2, vec![(3, 0), (2, 1)]),
            (vec![a], 3, vec![(4, 0)]),
            (vec![], 1, vec![]),
            (vec![b], 1, vec![(5, 0)]),
        ];
        for (tables, differ, want) in cases {
            assert_eq!(folders.exchange(&tables), differ, "{tables:?}");
            let found: Vec<_> = folders.now().iter().map(|one| (one.number(), one.counts()[1])).collect();
            assert_eq!(found, want, "{tables:?}");
        }
    }
}
