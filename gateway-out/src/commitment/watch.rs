//! Watches open transactions: decides each as soon as it can be decided, and reports what was decided until the peer has
//! answered.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use base::{AeTitle, CommitmentId, Timestamp};
use spool::{CommitmentState, Cursors, Decided, Watched};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::report::{self, Unreported};
use crate::app::Shared;

/// Time passes, and operators act, without anybody saying so.
const TICK: Duration = Duration::from_secs(1);
/// Between two looks: receipts come by the hundreds.
const PAUSE: Duration = Duration::from_millis(100);
/// Looking takes at most one part in so many of the time.
const SHARE: u32 = 10;
/// Reports under way at one time, one for each peer.
const REPORTS_MAX: usize = 16;

/// Runs until `stop` ends. A report that is under way then is sent again after the next start.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), Infallible> {
    for warning in shared.settings.commitment.iter().filter_map(|peer| peer.warning()) {
        warn!("{warning}");
    }
    let mut watch =
        Watch { shared, cursors: Cursors::new(), reporting: JoinSet::new(), busy: HashSet::new() };
    let mut not_before = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = watch.shared.commitment.changed.notified() => {}
            () = sleep(TICK) => {}
            Some(peer) = watch.reporting.join_next() => {
                if let Ok(peer) = peer {
                    watch.busy.remove(&peer);
                } else if watch.reporting.is_empty() {
                    watch.busy.clear();
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep_until(not_before) => {}
        }
        let began = Instant::now();
        watch.look().await;
        not_before = Instant::now() + PAUSE.max(began.elapsed() * SHARE);
    }
}

struct Watch {
    shared: Arc<Shared>,
    cursors: Cursors,
    /// Reports under way; each answers its peer.
    reporting: JoinSet<AeTitle>,
    busy: HashSet<AeTitle>,
}

impl Watch {
    async fn look(&mut self) {
        let cursors = std::mem::take(&mut self.cursors);
        let open = match self.shared.outbox.commitments_watch(cursors, Timestamp::now()).await {
            Ok((open, cursors)) => {
                self.cursors = cursors;
                open
            }
            Err(error) => {
                error!(%error, "commitment transactions cannot be read");
                return;
            }
        };
        for Watched { id, peer, state, .. } in open.into_iter().filter(|one| one.is_ripe) {
            if state == CommitmentState::Open && !self.decide(id, &peer).await {
                continue;
            }
            if self.shared.commitment.is_answering(&peer) {
                continue;
            }
            if self.reporting.len() < REPORTS_MAX && self.busy.insert(peer.clone()) {
                self.reporting.spawn(report(Arc::clone(&self.shared), id, peer));
            }
        }
    }

    /// Whether it is to be reported.
    async fn decide(&mut self, id: CommitmentId, peer: &AeTitle) -> bool {
        match self.shared.outbox.commitment_decide(id, Timestamp::now()).await {
            Ok(Decided::Now { instances, failed }) => {
                info!(%peer, commitment = %id.short(), instances, failed, "storage commitment decided");
                true
            }
            Ok(Decided::Already(state)) => state == CommitmentState::Reporting,
            Ok(Decided::NotYet(number)) => {
                self.cursors.insert(id, number);
                false
            }
            Err(error) => {
                error!(%peer, commitment = %id.short(), %error, "storage commitment cannot be decided");
                false
            }
        }
    }
}

async fn report(shared: Arc<Shared>, id: CommitmentId, peer: AeTitle) -> AeTitle {
    let outcome = match tell(&shared, id, &peer).await {
        Ok(()) => {
            info!(%peer, commitment = %id.short(), "storage commitment reported");
            shared.outbox.commitment_reported(id, Timestamp::now()).await
        }
        Err(error) => {
            warn!(%peer, commitment = %id.short(), %error, "storage commitment not reported; tried again later");
            let (reason, jitter) = (error.to_string(), crate::jitter());
            shared.outbox.commitment_unreported(id, reason, jitter, Timestamp::now()).await
        }
    };
    if let Err(error) = outcome {
        error!(%peer, commitment = %id.short(), %error, "what became of a commitment report cannot be recorded");
    }
    peer
}

async fn tell(shared: &Shared, id: CommitmentId, peer: &AeTitle) -> Result<(), Unreported> {
    let entry = shared.settings.commitment.of(peer).ok_or(Unreported::NoPeer)?;
    let report = shared.outbox.commitment_report(id).await?;
    report::tell(&entry, shared.commitment.desks.of(id), id, report).await
}
