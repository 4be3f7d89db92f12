//! `[[watch]]`: folders into which somebody drops DICOM files. What is found goes through our own C-STORE port as from any sender: the
//! same routes, refusals, pseudonymization and custody. A file leaves its place only after the answer: with success for `done/` (or
//! it is removed), with a refusal that a repeat would not change for `failed/`, beside a text that says why. After a crash in between
//! it is sent again, and the outbox knows it.
//!
//! Folders are looked through at intervals: that also sees what came before the start, and what another host writes to a network
//! file system.

mod place;
mod seen;
mod table;

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base::Status;
use dimse::Retry;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use table::check;
pub use table::{AfterDelivery, WatchTable, Watched};

use crate::{
    app::Shared,
    send::{self, Instance, Sent, Target},
};
use place::Placed;
use seen::Seen;

/// Files of one association, so that a folder that never ends is not one association that never ends.
const BATCH: usize = 500;
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
    let mut seen = Seen::default();
    loop {
        let watched = folder.watched.clone();
        let (looked, back) = tokio::task::spawn_blocking(move || {
            let looked = seen.look(&watched);
            (looked, seen)
        })
        .await
        .unwrap_or_else(|_| (Err(io::Error::other("looking through it failed")), Seen::default()));
        seen = back;
        let pause = match looked {
            Ok(settled) => {
                folder.waiting.store(seen.len(), Ordering::Relaxed);
                take(&shared, folder, settled, &stop).await
            }
            Err(error) => {
                folder.hindered(Some(format!("it cannot be read: {error}")));
                PAUSE_AFTER_FAILURE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
    }
}

/// Sends what has settled, batch after batch, and gives how long to wait before the next look.
async fn take(shared: &Shared, folder: &Folder, settled: Vec<PathBuf>, stop: &CancellationToken) -> Duration {
    let watched = &folder.watched;
    let Some(address) = shared.settings.dicom.listen else { return PAUSE_AFTER_FAILURE };
    let target = Target {
        address: service::ports::local(address),
        calling: watched.calling.clone(),
        called: watched.ae.clone(),
    };
    for batch in settled.chunks(BATCH) {
        if stop.is_cancelled() {
            return Duration::ZERO;
        }
        let mut instances = Vec::new();
        for path in batch {
            match send::instance(path, &target) {
                Ok(instance) => instances.push(instance),
                Err(error) => end(folder, path, Err(format!("{error:#}"))).await,
            }
        }
        if let Some(why) = send_all(folder, &target, instances).await {
            folder.hindered(Some(why));
            return PAUSE_AFTER_FAILURE;
        }
        folder.hindered(None);
    }
    watched.every
}

/// Sends a batch over one association; gives why the rest has to wait, where it has to.
async fn send_all(folder: &Folder, target: &Target, instances: Vec<Instance>) -> Option<String> {
    if instances.is_empty() {
        return None;
    }
    let results = match send::send(target, &instances, |_| {}).await {
        Ok(results) => results,
        Err(error) => return Some(format!("{error:#}")),
    };
    let mut waits = None;
    for sent in results {
        match verdict(&sent) {
            Verdict::Taken => end(folder, &sent.path, Ok(())).await,
            Verdict::Refused(why) => end(folder, &sent.path, Err(why)).await,
            Verdict::Later(why) => waits = Some(why),
        }
    }
    waits
}

enum Verdict {
    Taken,
    Refused(String),
    Later(String),
}

fn verdict(sent: &Sent) -> Verdict {
    match &sent.outcome {
        _ if sent.is_accepted() => Verdict::Taken,
        Ok(status) => {
            let text = said(*status);
            match dimse::retry(dimse::Service::Store, *status) {
                Retry::AfterChange | Retry::Done => Verdict::Refused(text),
                Retry::Later => Verdict::Later(text),
            }
        }
        Err(why) => Verdict::Later(why.clone()),
    }
}

fn said(status: Status) -> String {
    let meaning = dimse::status_row(dimse::Service::Store, status).map_or("", |row| row.meaning);
    format!("answered with status {:04X} {meaning}; `gateway-out why` and the log say more", status.0)
}

/// A file has had its answer. One that cannot be moved is met again at the next look.
async fn end(folder: &Folder, path: &Path, outcome: Result<(), String>) {
    let (watched, from) = (folder.watched.clone(), path.to_owned());
    let counter = if outcome.is_ok() { &folder.taken } else { &folder.failed };
    let moved = tokio::task::spawn_blocking(move || match outcome {
        Ok(()) => place::done(&watched, &from),
        Err(why) => place::failed(&watched, &from, &why),
    });
    match moved.await {
        Ok(Ok(Placed)) => {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Err(error)) => {
            folder.hindered(Some(format!("an answered file cannot be moved away: {error}")));
        }
        Err(_) => folder.hindered(Some("an answered file cannot be moved away".to_owned())),
    }
}
