//! `[[watch]]`: folders into which somebody drops DICOM files. What is found goes through our own C-STORE port as from any sender: the
//! same routes, refusals, pseudonymization and custody. A file leaves its place only after the answer: with success for `done/` (or
//! it is removed), with a refusal that a repeat would not change for `failed/`, beside a text that says why. It moves only as the file
//! that was sent: what stands in its place by then is another one. After a crash in between it is sent again, and the outbox knows it.
//!
//! Folders are looked through at intervals: that also sees what came before the start, and what another host writes to a network
//! file system.

mod place;
mod seen;
mod table;

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base::Status;
use dimse::Retry;
use serde_json::{Value, json};
use service::{Ended, Tasks};
use tokio::{sync::watch, task::block_in_place, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use table::check;
pub use table::{AfterDelivery, WatchTable, Watched};

use crate::{
    app::Shared,
    send::{self, Instance, Outcome, Sent, Target},
};
use seen::{Opened, Seen, Settled, Which};

/// Files that are open at one time, and go over one association.
const BATCH: usize = 100;
/// How long a folder is left alone after something that a repeat may mend: no room, no port, no association.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// The folders that are watched at this moment.
#[derive(Debug)]
pub struct Folders(watch::Sender<Vec<Arc<Folder>>>);

impl Folders {
    /// As the configuration has them.
    pub fn new(watched: &[Watched]) -> Self {
        Self(watch::Sender::new(watched.iter().cloned().map(Folder::new).map(Arc::new).collect()))
    }

    /// In the order of the configuration.
    pub fn now(&self) -> Vec<Arc<Folder>> {
        self.0.borrow().clone()
    }

    /// A line for each whose files do not go on. The folder stays out of it, since alarms are also mailed.
    pub fn alarms(&self) -> Vec<String> {
        let line = |folder: &Arc<Folder>| {
            Some(format!("watched folder for {} waits: {}", folder.watched.ae, folder.hindrance()?))
        };
        self.now().iter().filter_map(line).collect()
    }

    /// From now on it is these; gives how many are new, are other than before, or are watched no more. One that stays as it was goes on
    /// with what it had found out.
    pub fn exchange(&self, watched: &[Watched]) -> usize {
        let before = self.now();
        let same = |one: &Watched| before.iter().find(|folder| folder.watched == *one).map(Arc::clone);
        let after: Vec<_> = watched
            .iter()
            .map(|one| same(one).unwrap_or_else(|| Arc::new(Folder::new(one.clone()))))
            .collect();
        let stayed = after.iter().filter(|folder| contains(&before, folder)).count();
        let changed = after.len() + before.len() - 2 * stayed;
        if changed > 0 {
            self.0.send_replace(after);
        }
        changed
    }
}

fn contains(folders: &[Arc<Folder>], one: &Arc<Folder>) -> bool {
    folders.iter().any(|folder| Arc::ptr_eq(folder, one))
}

/// What a folder is for, and what has come of it since it is watched so.
#[derive(Debug)]
pub struct Folder {
    watched: Watched,
    waiting: AtomicU64,
    taken: AtomicU64,
    failed: AtomicU64,
    hindrance: Mutex<Option<String>>,
}

impl Folder {
    /// One that has not been looked through.
    pub fn new(watched: Watched) -> Self {
        Self {
            watched,
            waiting: AtomicU64::default(),
            taken: AtomicU64::default(),
            failed: AtomicU64::default(),
            hindrance: Mutex::default(),
        }
    }

    /// For `status`. No patient data: the folder is the configuration's.
    pub fn json(&self) -> Value {
        let [waiting, taken, failed] = self.counts();
        json!({
            "dir": self.watched.dir, "ae": self.watched.ae, "waiting": waiting, "taken": taken, "failed": failed,
            "hindered_by": self.hindrance(),
        })
    }

    /// What is found in it: waiting, taken and failed files.
    pub fn counts(&self) -> [u64; 3] {
        [&self.waiting, &self.taken, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }

    /// Its table.
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Why its files do not go on.
    pub fn hindrance(&self) -> Option<String> {
        self.hindrance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says once why nothing goes on, and once that it does again.
    fn hindered(&self, why: Option<String>) {
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

/// Looks after the folders of the moment until it is told to stop. Ends by itself only with the failure of one of them.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut changes = shared.folders.0.subscribe();
    let mut tasks = Tasks::child_of(&stop);
    let mut running: Vec<(Arc<Folder>, CancellationToken)> = Vec::new();
    loop {
        let folders = changes.borrow_and_update().clone();
        let (stays, goes): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|(folder, _)| contains(&folders, folder));
        goes.iter().for_each(|(_, stop)| stop.cancel());
        // Two never look through one folder: the batch of one that goes has its answers first.
        while tasks.len() > stays.len() {
            ended_well(tasks.next_ended().await)?;
        }
        running = stays;
        for folder in folders {
            if running.iter().any(|(other, _)| Arc::ptr_eq(other, &folder)) {
                continue;
            }
            let stop = tasks.token().child_token();
            let watching = look_after(Arc::clone(&shared), Arc::clone(&folder), stop.clone());
            tasks.spawn(format!("watched folder {}", folder.watched.dir.display()), watching);
            running.push((folder, stop));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
            ended = tasks.next_ended(), if !tasks.is_empty() => ended_well(ended)?,
        }
    }
    while let Some(ended) = tasks.next_ended().await {
        ended_well(Some(ended))?;
    }
    Ok(())
}

fn ended_well(ended: Option<Ended>) -> anyhow::Result<()> {
    let failed = ended.filter(|ended| ended.end.is_failure());
    failed.map_or(Ok(()), |failed| Err(anyhow::anyhow!("{failed}")))
}

/// Looks after one folder until it is told to stop.
async fn look_after(
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let folder = folder.as_ref();
    let mut work = Work { folder, seen: Seen::default(), answered: HashMap::new(), trouble: None };
    loop {
        let looked = match unreachable(&shared, folder) {
            None => block_in_place(|| work.seen.look(&folder.watched))
                .map_err(|error| format!("it cannot be read: {error}")),
            Some(why) => Err(why),
        };
        match looked {
            Ok(settled) => {
                folder.waiting.store(work.seen.len(), Ordering::Relaxed);
                work.take(&shared, settled, &stop).await;
            }
            Err(why) => work.trouble = Some(why),
        }
        let trouble = work.trouble.take();
        let pause = if trouble.is_some() { PAUSE_AFTER_FAILURE } else { folder.watched.every };
        folder.hindered(trouble);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
    }
}

/// Why a folder that came with a reload can only be served after the next start.
fn unreachable(shared: &Shared, folder: &Folder) -> Option<String> {
    if shared.settings.dicom.listen.is_none() {
        return Some("[dicom] `listen` came after the start: the next start opens that port".to_owned());
    }
    let report = sandbox::report().filter(|report| report.enforced)?;
    let reaches = report.writable.iter().any(|writable| folder.watched.dir.starts_with(writable));
    (!reaches).then(|| {
        "it came after the start, and the running process has locked itself out of other folders: the next start lets it in".to_owned()
    })
}

/// What came of a file: it is in custody, or why not and never.
type Answer = Result<(), String>;

/// One folder, and what was found out about it.
struct Work<'a> {
    folder: &'a Folder,
    seen: Seen,
    /// Files that have had their answer, and could not be moved away yet: they are not sent again.
    answered: HashMap<PathBuf, (Which, Answer)>,
    /// Why something has to wait.
    trouble: Option<String>,
}

impl Work<'_> {
    /// Sends what has settled, batch after batch.
    async fn take(&mut self, shared: &Shared, settled: Vec<Settled>, stop: &CancellationToken) {
        let watched = &self.folder.watched;
        let Some(address) = shared.settings.dicom.listen else { return };
        let target = Target {
            address: service::ports::local(address),
            calling: watched.calling.clone(),
            called: watched.ae.clone(),
        };
        let there: HashSet<_> = settled.iter().map(|one| &one.path).collect();
        self.answered.retain(|path, _| there.contains(path));
        for batch in settled.chunks(BATCH) {
            if stop.is_cancelled() {
                return;
            }
            let instances = block_in_place(|| self.open(batch, &target));
            if instances.is_empty() {
                continue;
            }
            let which: HashMap<PathBuf, Which> =
                batch.iter().map(|one| (one.path.clone(), one.which)).collect();
            let told = |sent: &Sent| block_in_place(|| self.told(sent, &which));
            if let Err(error) = send::send(&target, &instances, told).await {
                // No association: the next batch would get none either.
                self.trouble = Some(format!("{error:#}"));
                return;
            }
        }
    }

    /// Opens files of a batch that can be sent, and puts away those that cannot.
    fn open(&mut self, batch: &[Settled], target: &Target) -> Vec<Instance> {
        let mut instances = Vec::new();
        for one in batch {
            let known = self.answered.get(&one.path).filter(|(which, _)| *which == one.which).cloned();
            if let Some((_, answer)) = known {
                self.end(one.path.clone(), one.which, answer);
                continue;
            }
            match seen::open(&self.folder.watched, one) {
                Ok(Opened::Another) => {}
                Ok(Opened::File(file)) => match send::instance_of(&one.path, file, target) {
                    Ok(instance) => instances.push(instance),
                    Err(error) if is_passing(&error) => {
                        self.trouble = Some(format!("a file cannot be read: {error}"))
                    }
                    Err(error) => self.end(one.path.clone(), one.which, Err(format!("{error:#}"))),
                },
                // Who copies it may set its mode last; a network file system comes back.
                Err(error) => self.trouble = Some(format!("a file cannot be read: {error}")),
            }
        }
        instances
    }

    /// A file has had its answer.
    fn told(&mut self, sent: &Sent, which: &HashMap<PathBuf, Which>) {
        let Some(which) = which.get(&sent.path) else { return };
        match verdict(sent) {
            Verdict::Ended(answer) => self.end(sent.path.clone(), *which, answer),
            Verdict::Later(why) => self.trouble = Some(why),
        }
    }

    /// Puts it away. One that cannot be moved is remembered, so that only the move is tried again.
    fn end(&mut self, path: PathBuf, which: Which, answer: Answer) {
        let watched = &self.folder.watched;
        let placed = match &answer {
            Ok(()) => place::done(watched, &path, which),
            Err(why) => place::failed(watched, &path, which, why),
        };
        match placed {
            Ok(()) => {
                let counter = if answer.is_ok() { &self.folder.taken } else { &self.folder.failed };
                counter.fetch_add(1, Ordering::Relaxed);
                self.folder.waiting.fetch_sub(1, Ordering::Relaxed);
                self.answered.remove(&path);
            }
            // It was replaced meanwhile: what stands there now is another one, and is met at the next look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.trouble = Some(format!("an answered file cannot be moved away: {error}"));
                self.answered.insert(path, (which, answer));
            }
        }
    }
}

/// Whether the file could not be read, rather than being none of ours.
fn is_passing(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| !matches!(io.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData))
}

enum Verdict {
    Ended(Answer),
    Later(String),
}

fn verdict(sent: &Sent) -> Verdict {
    match &sent.outcome {
        Outcome::Answered(status) => match dimse::retry(dimse::Service::Store, *status) {
            _ if sent.is_accepted() => Verdict::Ended(Ok(())),
            Retry::Done => Verdict::Ended(Ok(())),
            Retry::AfterChange => Verdict::Ended(Err(said(*status))),
            Retry::Later => Verdict::Later(said(*status)),
        },
        Outcome::NotAccepted(why) => Verdict::Ended(Err(why.clone())),
        Outcome::Failed(why) => Verdict::Later(why.clone()),
    }
}

fn said(status: Status) -> String {
    let meaning = dimse::status_row(dimse::Service::Store, status).map_or("", |row| row.meaning);
    format!("answered with status {:04X} {meaning}; `gateway-out why` and the log say more", status.0)
}
