//! `[[watch]]`: folders into which somebody drops DICOM files. What is found goes through our own C-STORE port as from any sender: the
//! same routes, refusals, pseudonymization and custody. A file leaves its place only after the answer: with success for `done/` (or
//! it is removed), with a refusal that a repeat would not change for `failed/`, beside a text that says why. It moves only as the file
//! that was sent: what stands in its place by then is another one. After a crash in between it is sent again, and the outbox knows it.
//!
//! Folders are looked through at intervals: that also sees what came before the start, and what another host writes to a network
//! file system.

mod place;
mod seen;
mod state;
mod table;
mod taken;
mod work;

use std::{sync::Arc, time::Duration};

use service::{Ended, Tasks};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use state::{Folder, Folders};
pub use table::{AfterDelivery, WatchTable, Watched};
pub(crate) use table::{Ours, check};

use crate::app::Shared;

/// What is left of the time that a stop has for batches under way, when they are cut off.
const ENDING: Duration = Duration::from_secs(18);
/// While the folder, or one above or below it, still gets answers under an earlier table.
const AFTER_ANOTHER: &str =
    "files that are under way from it by the earlier configuration get their answers first";

/// Whether some folder counts from the next start only, whatever the configuration says by now.
pub(crate) fn wait_for_the_next_start(shared: &Shared) -> bool {
    shared.folders.now().iter().any(|folder| work::unreachable(shared, folder).is_some())
}

/// A folder that somebody looks after.
struct Running {
    folder: Arc<Folder>,
    /// Of its task.
    name: String,
    stop: CancellationToken,
}

/// Looks after the folders of the moment until it is told to stop. Ends by itself only with the failure of one of them.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut changes = shared.folders.changes();
    let mut tasks = Tasks::child_of(&stop);
    let mut running: Vec<Running> = Vec::new();
    let mut started = 0_u64;
    let mut failed = None;
    while failed.is_none() && !stop.is_cancelled() {
        let folders = changes.borrow_and_update().clone();
        running
            .iter()
            .filter(|one| !state::contains(&folders, &one.folder))
            .for_each(|one| one.stop.cancel());
        for folder in folders {
            // Two never look through one folder.
            match running.iter().find(|one| one.folder.overlaps(&folder)) {
                Some(one) if Arc::ptr_eq(&one.folder, &folder) => continue,
                Some(_) => folder.hindered(Some(AFTER_ANOTHER.to_owned())),
                None => {
                    folder.hindered(None);
                    started += 1;
                    let name = format!("watched folder {started} {}", folder.watched().dir.display());
                    let stop = tasks.token().child_token();
                    tasks.spawn(
                        &name,
                        work::look_after(Arc::clone(&shared), Arc::clone(&folder), stop.clone()),
                    );
                    running.push(Running { folder, name, stop });
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            _ = changes.changed() => {}
            Some(Ended { name, end }) = tasks.next_ended() => {
                running.retain(|one| one.name != name);
                failed = end.is_failure().then_some(Ended { name, end });
            }
        }
    }
    // Also where one has failed, the files of the others get their answers.
    let drained = tasks.drain(ENDING).await;
    drained.late.iter().for_each(|name| warn!(task = %name, "did not stop in time and was aborted"));
    match failed.or_else(|| drained.failed.into_iter().next()) {
        Some(failed) => Err(anyhow::anyhow!("{failed}")),
        None => Ok(()),
    }
}
