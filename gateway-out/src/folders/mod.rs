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
    collections::HashMap,
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
use tokio::{task::block_in_place, time::sleep};
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

/// What `status` says of a folder.
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
        let hindrance = self.hindrance.lock().unwrap_or_else(PoisonError::into_inner).clone();
        json!({
            "dir": self.watched.dir, "ae": self.watched.ae, "waiting": self.waiting.load(Ordering::Relaxed),
            "taken": self.taken.load(Ordering::Relaxed), "failed": self.failed.load(Ordering::Relaxed),
            "hindered_by": hindrance,
        })
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

/// Looks after one folder until it is told to stop.
pub async fn run(shared: Arc<Shared>, number: usize, stop: CancellationToken) -> Result<(), Infallible> {
    let Some(folder) = shared.folders.get(number) else {
        stop.cancelled().await;
        return Ok(());
    };
    let mut work = Work { folder, seen: Seen::default(), answered: HashMap::new(), trouble: None };
    loop {
        let looked = block_in_place(|| work.seen.look(&folder.watched));
        match looked {
            Ok(settled) => {
                folder.waiting.store(work.seen.len(), Ordering::Relaxed);
                work.take(&shared, settled, &stop).await;
            }
            Err(error) => work.trouble = Some(format!("it cannot be read: {error}")),
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
        self.answered.retain(|path, _| settled.iter().any(|one| one.path == *path));
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
