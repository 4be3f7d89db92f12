//! The work on one folder: look, send, put away.

use std::{collections::HashMap, convert::Infallible, io, path::PathBuf, sync::Arc, time::Duration};

use base::Status;
use dimse::Retry;
use tokio::{task::block_in_place, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    place,
    seen::{self, Opened, Seen, Settled, Which},
    state::{Answer, Folder},
    taken::NotPut,
};
use crate::{
    app::Shared,
    send::{self, Instance, Outcome, Sent, Target},
};

/// Files that are open at one time, and go over one association.
const BATCH: usize = 100;
/// How long a file that has been answered may be out of sight, below a share that is not mounted for instance, and is the same after all.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a folder is left alone after something that a repeat may mend: no room, no port, no association.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Looks after one folder until it is told to stop.
pub(super) async fn look_after(
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let folder = folder.as_ref();
    let mut work = Work { folder, seen: Seen::default(), trouble: None };
    while !stop.is_cancelled() {
        let looked = match unreachable(&shared, folder) {
            None => block_in_place(|| work.seen.look(folder.watched()))
                .map_err(|error| format!("it cannot be read: {error}")),
            Some(why) => Err(why),
        };
        match looked {
            Ok(settled) => {
                folder.found(work.seen.len());
                work.take(&shared, settled, &stop).await;
                work.trouble = work.trouble.take().or_else(|| work.seen.hidden());
            }
            Err(why) => work.trouble = Some(why),
        }
        let trouble = work.trouble.take();
        let pause = if trouble.is_some() { PAUSE_AFTER_FAILURE } else { folder.watched().every };
        folder.hindered(trouble);
        stop.run_until_cancelled(sleep(pause)).await;
    }
    Ok(())
}

/// Why a folder that came with a reload can only be served after the next start.
pub(super) fn unreachable(shared: &Shared, folder: &Folder) -> Option<String> {
    if shared.settings.dicom.listen.is_none() {
        return Some("[dicom] `listen` came after the start: the next start opens that port".to_owned());
    }
    let report = sandbox::report().filter(|report| report.enforced)?;
    let reaches = report.writable.iter().any(|writable| folder.watched().dir.starts_with(writable));
    (!reaches).then(|| {
        "it came after the start, and the running process has locked itself out of other folders: the next start lets it in".to_owned()
    })
}

/// One folder, and what was found in it.
struct Work<'a> {
    folder: &'a Folder,
    seen: Seen,
    /// Why something has to wait.
    trouble: Option<String>,
}

impl Work<'_> {
    /// Sends what has settled, batch after batch.
    async fn take(&mut self, shared: &Shared, settled: Vec<Settled>, stop: &CancellationToken) {
        let watched = self.folder.watched();
        let Some(address) = shared.settings.dicom.listen else { return };
        let target = Target {
            address: service::ports::local(address),
            calling: watched.calling.clone(),
            called: watched.ae.clone(),
        };
        block_in_place(|| self.folder.answers().forget_gone(&watched.dir, FORGET_AFTER));
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
            if let Err(error) = send::send(&target, &instances, stop, told).await {
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
            if let Some(answer) = self.folder.answers().of(&one.path, one.which) {
                self.end(one.path.clone(), one.which, answer);
                continue;
            }
            match seen::open(self.folder.watched(), one) {
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
        let watched = self.folder.watched();
        let placed = match &answer {
            Ok(()) => place::done(watched, &path, which),
            Err(why) => place::failed(watched, &path, which, why),
        };
        match placed {
            Ok(()) => {
                self.folder.put_away(&answer);
                self.folder.answers().forget(&path);
            }
            // It was replaced meanwhile: what stands there now is another one, and is met at the next look.
            Err(NotPut::Another) => {}
            Err(NotPut::Stuck { error, which }) => {
                self.trouble = Some(format!("an answered file cannot be moved away: {error}"));
                self.folder.answers().remember(path, which, answer);
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
