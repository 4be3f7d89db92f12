//! The DICOM port: who may associate, and one task for each association.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dimse::{
    Admission, Association, AssociationError, Incoming, Normalized, OtherRequest, Proposal, Verdict,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::{
    answers::{self, Answer},
    app::Shared,
    commitment::{self, Desk},
    echo, pipeline,
    rejections::TurnedAway,
    routes::Refusal,
    routing::{self, Candidates},
};

/// Connections beyond `associations_max` that are still listened to, so that they get a proper
/// A-ASSOCIATE-RJ. More than these are closed unheard.
const REJECTIONS_AT_ONCE_MAX: usize = 64;
/// After an error of the listener (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Accepts until `stop` ends. Then an association within a message may finish and answer it; one that is
/// idle, or that has come to its next message, is aborted: the PACS sends the rest again later.
pub async fn run(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    let slots = Slots::new(&shared);
    let mut associations = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = associations.join_next(), if !associations.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(slot) = slots.take(peer.ip()) {
                    let span = info_span!("association", %peer);
                    associations
                        .spawn(serve(Arc::clone(&shared), stream, peer, slot, stop.clone()).instrument(span));
                } else {
                    warn!(%peer, "connection closed unheard: far more connections than associations_max");
                }
            }
            Err(error) => {
                error!(%error, "no connection can be accepted for the moment");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while associations.join_next().await.is_some() {}
    Ok(())
}

/// Limits of associations at one time.
#[derive(Debug)]
struct Slots {
    associations: Arc<Semaphore>,
    rejections: Arc<Semaphore>,
    per_peer_max: usize,
    // Owned by `take` and `PeerSlot::drop`; never held across an await.
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// What a connection may become.
#[derive(Debug)]
enum Slot {
    /// An association.
    Association { _permit: OwnedSemaphorePermit, _peer: PeerSlot },
    /// A rejection.
    Rejection { _permit: OwnedSemaphorePermit },
}

#[derive(Debug)]
struct PeerSlot {
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Drop for PeerSlot {
    fn drop(&mut self) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

impl Slots {
    fn new(shared: &Shared) -> Self {
        let dicom = &shared.settings.dicom;
        Self {
            associations: Arc::new(Semaphore::new(dicom.associations_max)),
            rejections: Arc::new(Semaphore::new(REJECTIONS_AT_ONCE_MAX)),
            per_peer_max: dicom.associations_per_peer_max,
            peers: Arc::default(),
        }
    }

    fn take(&self, peer: IpAddr) -> Option<Slot> {
        let rejection = || {
            Arc::clone(&self.rejections).try_acquire_owned().ok().map(|_permit| Slot::Rejection { _permit })
        };
        let Ok(permit) = Arc::clone(&self.associations).try_acquire_owned() else { return rejection() };
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        if *count >= self.per_peer_max {
            return rejection();
        }
        *count += 1;
        let _peer = PeerSlot { peers: Arc::clone(&self.peers), peer };
        Some(Slot::Association { _permit: permit, _peer })
    }
}

/// Decides about one A-ASSOCIATE-RQ.
struct Door<'a> {
    shared: &'a Shared,
    /// There is a slot.
    open: bool,
    /// Set when the association is accepted.
    candidates: Mutex<Option<Candidates>>,
}

impl Admission for Door<'_> {
    fn decide(&self, proposal: &Proposal) -> Verdict {
        let (calling, called) = (&proposal.calling, &proposal.called);
        let candidates = match self.shared.settings.routes.admit(calling, called, proposal.peer.ip()) {
            Ok(candidates) => candidates,
            Err(refusal) => {
                let nearest =
                    self.shared.settings.routes.nearest(called).filter(|_| refusal == Refusal::Called);
                warn!(%calling, %called, did_you_mean = nearest.as_ref().map(tracing::field::display), "association rejected: {refusal}");
                return Verdict::Reject(TurnedAway::from(refusal).reason());
            }
        };
        if !self.open {
            warn!(%calling, %called, "association rejected: associations_max or associations_per_peer_max is reached");
            return Verdict::Reject(TurnedAway::Crowded.reason());
        }
        if let Err(error) = self.room() {
            warn!(%calling, %called, %error, "association rejected: the outbox takes nothing more");
            return Verdict::Reject(TurnedAway::OutboxFull.reason());
        }
        let mut contexts = self.shared.tables.decide(&candidates, proposal);
        *self.candidates.lock().unwrap_or_else(PoisonError::into_inner) = Some(candidates);
        self.shared.settings.commitment.offer(proposal, &mut contexts);
        Verdict::Accept(contexts.into())
    }
}

impl Door<'_> {
    /// Above the watermark new associations are turned away, while running ones may end.
    fn room(&self) -> Result<(), String> {
        match self.shared.outbox.usage() {
            Ok(usage) if usage.is_above_watermark() => Err("outbox above its watermark".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    slot: Slot,
    stop: CancellationToken,
) {
    let config = shared.acceptor();
    let door = Door {
        shared: &shared,
        open: matches!(slot, Slot::Association { .. }),
        candidates: Mutex::new(None),
    };
    let accepted = tokio::select! {
        accepted = dimse::accept(stream, &config, &door) => accepted,
        () = stop.cancelled() => return,
    };
    let association = match accepted {
        Ok(association) => association,
        Err(error) => {
            debug!(%peer, %error, "no association");
            shared.counters.rejected();
            return;
        }
    };
    let candidates = door.candidates.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Some(candidates) = candidates else { return };
    shared.counters.association();
    info!(calling = %association.calling(), called = %association.called(), "association opened");
    let desk = shared.commitment.desk();
    let mut served = Served { shared: &shared, candidates, association, desk, instances: 0, refused: 0 };
    let end = served.run(&stop).await;
    let (instances, refused) = (served.instances, served.refused);
    match end {
        Ok(End::Released) => info!(instances, refused, "association released"),
        Ok(End::Stopping) => {
            info!(instances, refused, "association aborted between two messages: stopping");
            served.association.abort().await;
        }
        Err(error) => warn!(instances, refused, %error, "association ended"),
    }
    drop(slot);
}

/// A running association.
struct Served<'a> {
    shared: &'a Arc<Shared>,
    candidates: Candidates,
    association: Association,
    /// Commitment reports that go back here.
    desk: Desk,
    instances: u64,
    refused: u64,
}

/// How an association ends without an error.
enum End {
    Released,
    /// We are stopping, and no message is under way.
    Stopping,
}

impl Served<'_> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<End, AssociationError> {
        loop {
            let incoming = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Stopping),
                report = self.desk.next() => {
                    self.desk.send(&mut self.association, report).await?;
                    continue;
                }
                incoming = self.association.receive() => incoming?,
            };
            match incoming {
                Incoming::Echo(request) => {
                    let status =
                        echo::status(self.shared, self.candidates.routes(), self.association.calling()).await;
                    self.association.respond_echo(&request, status).await?
                }
                Incoming::Store(request) => self.store(&request).await?,
                Incoming::Other(request) => self.other(&request).await?,
                Incoming::Released => return Ok(End::Released),
            }
        }
    }

    async fn other(&mut self, request: &OtherRequest) -> Result<(), AssociationError> {
        match request.normalized() {
            Some(Normalized::Action(action)) => {
                commitment::ask::action(self.shared, &mut self.association, &action, &mut self.desk).await
            }
            Some(Normalized::Response(response)) => {
                self.desk.answered(&response);
                Ok(())
            }
            Some(Normalized::EventReport(_)) | None => {
                debug!(field = request.command_field, "operation that is not offered");
                self.association.respond_other(request, answers::NOT_OFFERED).await
            }
        }
    }

    async fn store(&mut self, request: &dimse::StoreRequest) -> Result<(), AssociationError> {
        let answer = self.answer(request).await?;
        match answer.status {
            base::Status::SUCCESS => self.instances += 1,
            status => {
                self.refused += 1;
                self.shared.counters.refused();
                info!(ae = %self.association.called(), %status, comment = answer.comment.as_deref(), "instance refused");
            }
        }
        self.association.respond_store(request, answer.status, answer.comment.as_deref()).await
    }
    /// Receives the data set and decides what to answer.
    async fn answer(&mut self, request: &dimse::StoreRequest) -> Result<Answer, AssociationError> {
        let (chosen, mut fragments) =
            routing::choose(&self.candidates, &mut self.association, &request.meta).await?;
        match chosen {
            Ok(route) => pipeline::store(self.shared, &route, &mut fragments, request).await,
            Err(cause) => {
                self.shared.counters.without_route(cause);
                fragments.drain().await?;
                Ok(cause.into())
            }
        }
    }
}
