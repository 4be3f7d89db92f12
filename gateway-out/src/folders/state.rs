//! Which folders are watched, and what is known of each.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Watched, seen::Which};

/// The folders that are watched at this moment.
#[derive(Debug)]
pub struct Folders {
    listed: watch::Sender<Vec<Arc<Folder>>>,
    /// Of all that were watched since the start.
    known: Mutex<HashMap<PathBuf, Arc<Known>>>,
    answers: Arc<Answers>,
}

impl Folders {
    /// As the configuration has them.
    pub fn new(watched: &[Watched]) -> Self {
        let folders =
            Self { listed: watch::Sender::new(Vec::new()), known: Mutex::default(), answers: Arc::default() };
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
            let (number, ae) = (folder.number(), &folder.watched.ae);
            Some(format!("watched folder #{number} for {ae} waits: {}", folder.hindrance()?))
        };
        self.now().iter().filter_map(line).collect()
    }

    /// From now on it is these; gives how many are new, are other than before, or are watched no more. What is known of a folder stays
    /// known, also under another table, and after a time without one.
    pub fn exchange(&self, watched: &[Watched]) -> usize {
        let before = self.now();
        let after: Vec<_> = watched
            .iter()
            .map(|one| match before.iter().find(|folder| folder.watched == *one) {
                Some(unchanged) => Arc::clone(unchanged),
                None => Arc::new(Folder::new(one.clone(), self.known(&one.dir), Arc::clone(&self.answers))),
            })
            .collect();
        let changed = after.iter().filter(|folder| !contains(&before, folder)).count();
        let is_watched = |folder: &Arc<Folder>| after.iter().any(|one| one.watched.dir == folder.watched.dir);
        let gone = before.iter().filter(|folder| !is_watched(folder)).count();
        self.listed.send_replace(after);
        changed + gone
    }

    fn known(&self, dir: &Path) -> Arc<Known> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let number = all.len() as u64 + 1;
        let new = || Arc::new(Known { number, ..Known::default() });
        Arc::clone(all.entry(dir.to_owned()).or_insert_with(new))
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
    answers: Arc<Answers>,
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
}

/// Files that have had their answer, and could not be moved away yet: they are not sent again, in whichever folder they are found. The
/// lock is never held across an await, nor while a file is looked at.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<HashMap<PathBuf, Answered>>);

#[derive(Debug)]
struct Answered {
    which: Which,
    answer: Answer,
    gone_since: Option<Instant>,
}

/// What came of a file: it is in custody, or why not and never.
pub(super) type Answer = Result<(), String>;

impl Answers {
    fn all(&self) -> MutexGuard<'_, HashMap<PathBuf, Answered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this very file was answered with.
    pub(super) fn of(&self, path: &Path, which: Which) -> Option<Answer> {
        self.all()
            .get(path)
            .filter(|answered| answered.which == which)
            .map(|answered| answered.answer.clone())
    }

    pub(super) fn remember(&self, path: PathBuf, which: Which, answer: Answer) {
        self.all().insert(path, Answered { which, answer, gone_since: None });
    }

    pub(super) fn forget(&self, path: &Path) {
        self.all().remove(path);
    }

    /// Forgets those below a folder that have not been there for so long.
    pub(super) fn forget_gone(&self, dir: &Path, patience: Duration) {
        let below: Vec<PathBuf> = self.all().keys().filter(|path| path.starts_with(dir)).cloned().collect();
        for path in below {
            let is_there = fs::symlink_metadata(&path).is_ok();
            let mut all = self.all();
            let Some(answered) = all.get_mut(&path) else { continue };
            answered.gone_since = (!is_there).then(|| answered.gone_since.unwrap_or_else(Instant::now));
            if answered.gone_since.is_some_and(|since| since.elapsed() >= patience) {
                all.remove(&path);
            }
        }
    }
}

impl Folder {
    fn new(watched: Watched, known: Arc<Known>, answers: Arc<Answers>) -> Self {
        Self { watched, known, answers, hindrance: Mutex::default() }
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

    pub(super) fn answers(&self) -> &Answers {
        &self.answers
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
            (vec![a], 3, vec![(1, 0)]),
            (vec![], 1, vec![]),
            (vec![b], 1, vec![(2, 1)]),
        ];
        for (tables, differ, want) in cases {
            assert_eq!(folders.exchange(&tables), differ, "{tables:?}");
            let found: Vec<_> = folders.now().iter().map(|one| (one.number(), one.counts()[1])).collect();
            assert_eq!(found, want, "{tables:?}");
        }
    }

    #[test]
    fn an_answer_is_forgotten_with_its_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let [path, gone] = ["one.dcm", "two.dcm"].map(|name| dir.path().join(name));
        let which = |path: &Path| Which::at(path).unwrap();
        for path in [&path, &gone] {
            fs::write(path, b"1").unwrap();
        }
        let folders = Folders::new(&[watched("/a", 1)]);
        let first = folders.now();
        let of_gone = which(&gone);
        first[0].answers().remember(path.clone(), which(&path), Ok(()));
        first[0].answers().remember(gone.clone(), of_gone, Ok(()));
        fs::remove_file(&gone).unwrap();
        // Whichever folder it is found in.
        folders.exchange(&[watched("/b", 1)]);
        let later = folders.now();
        for (below, patience, known) in [
            (Path::new("/elsewhere"), Duration::ZERO, Some(Ok(()))),
            (dir.path(), Duration::from_secs(60), Some(Ok(()))),
            (dir.path(), Duration::ZERO, None),
        ] {
            later[0].answers().forget_gone(below, patience);
            assert_eq!(later[0].answers().of(&gone, of_gone), known, "{} {patience:?}", below.display());
        }
        assert_eq!(later[0].answers().of(&path, which(&path)), Some(Ok(())));
        assert_eq!(later[0].answers().of(&path, of_gone), None, "another file");
    }
}
