//! The DICOM ports, with TLS and without: who may associate, and one task for each association.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base::{AeTitle, Timestamp};
use dimse::{
    AcceptError, Admission, Association, AssociationError, Incoming, Normalized, Onlooker, OtherRequest,
    Proposal, Terms, TlsAcceptor, TlsFailure, Verdict,
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
    rejections::{Rejected, TurnedAway},
    routes::Refusal,
    routing::{self, Candidates},
};

/// Connections beyond `associations_max` that are still listened to, so that they get a proper
/// A-ASSOCIATE-RJ. More than these are closed unheard.
const REJECTIONS_AT_ONCE_MAX: usize = 64;
/// After an error of the listener (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where peers connect.
#[derive(Debug)]
pub struct Ports {
    /// Without TLS.
    pub plain: Option<TcpListener>,
    /// With TLS.
    pub tls: Option<TcpListener>,
}

impl Ports {
    /// The next connection, and whether it is to speak TLS.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, bool)> {
        async fn next(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
            match listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            accepted = next(self.plain.as_ref()) => accepted.map(|(stream, peer)| (stream, peer, false)),
            accepted = next(self.tls.as_ref()) => accepted.map(|(stream, peer)| (stream, peer, true)),
        }
    }
}

/// Accepts until `stop` ends. Then an association within a message may finish and answer it; one that is
/// idle, or that has come to its next message, is aborted: the PACS sends the rest again later.
pub async fn run(shared: Arc<Shared>, ports: Ports, stop: CancellationToken) -> io::Result<()> {
    let slots = Slots::new(&shared);
    let mut associations = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = associations.join_next(), if !associations.is_empty() => continue,
            accepted = ports.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer, secure)) => {
                let keeper = shared.settings.dicom_tls.as_ref().filter(|_| secure);
                let connection = Connection { stream, peer, tls: keeper.map(dimse::Doorkeeper::now) };
                if let Some(slot) = slots.take(peer.ip()) {
                    let span = info_span!("association", %peer);
                    associations
                        .spawn(serve(Arc::clone(&shared), connection, slot, stop.clone()).instrument(span));
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
    drop(ports);
    while associations.join_next().await.is_some() {}
    Ok(())
}

/// Somebody who has connected.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl Connection {
    async fn associate(
        self,
        config: &dimse::AcceptorConfig,
        door: &Door<'_>,
    ) -> Result<Association, AcceptError> {
        match self.tls {
            Some(tls) => dimse::accept_tls(self.stream, &tls, config, door).await,
            None => dimse::accept(self.stream, config, door).await,
        }
    }
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
    /// Set when it is rejected by [`Door::decide`].
    turned_away: AtomicBool,
}

impl Admission for Door<'_> {
    fn onlooker(&self, peer: SocketAddr) -> Option<Arc<dyn Onlooker>> {
        Some(self.shared.tracer.onlooker(peer))
    }

    fn decide(&self, proposal: &Proposal) -> Verdict {
        let (calling, called) = (&proposal.calling, &proposal.called);
        let candidates = match self.shared.settings.routes.admit(calling, called, proposal.peer.ip()) {
            Ok(candidates) => candidates,
            Err(refusal) => {
                let nearest =
                    self.shared.settings.routes.nearest(called).filter(|_| refusal == Refusal::Called);
                warn!(%calling, %called, did_you_mean = nearest.as_ref().map(tracing::field::display), "association rejected: {refusal}");
                return self.reject(proposal, refusal.into(), nearest, refusal.to_string());
            }
        };
        let identity = proposal.user_identity.as_ref();
        let Ok(identity_response) = self.shared.settings.identities.now().answer(identity) else {
            warn!(%calling, %called, "association rejected: its user identity is not accepted");
            let why = "its user identity is not accepted".to_owned();
            return self.reject(proposal, TurnedAway::Identity, None, why);
        };
        if !self.open {
            warn!(%calling, %called, "association rejected: associations_max or associations_per_peer_max is reached");
            let why = "associations_max or associations_per_peer_max is reached".to_owned();
            return self.reject(proposal, TurnedAway::Crowded, None, why);
        }
        if let Err(error) = self.room() {
            warn!(%calling, %called, %error, "association rejected: the outbox takes nothing more");
            let why = format!("the outbox takes nothing more: {error}");
            return self.reject(proposal, TurnedAway::OutboxFull, None, why);
        }
        let mut contexts = self.shared.tables.decide(&candidates, proposal);
        *self.candidates.lock().unwrap_or_else(PoisonError::into_inner) = Some(candidates);
        self.shared.settings.commitment.offer(proposal, &mut contexts);
        Verdict::Accept(Terms { contexts, identity_response, ..Terms::default() })
    }
}

impl Door<'_> {
    fn reject(
        &self,
        proposal: &Proposal,
        cause: TurnedAway,
        did_you_mean: Option<AeTitle>,
        why: String,
    ) -> Verdict {
        self.turned_away.store(true, Ordering::Relaxed);
        let titles = Some((proposal.calling.clone(), proposal.called.clone()));
        let remedy = cause.remedy(&proposal.calling, &proposal.called, proposal.peer.ip());
        let rejected =
            Rejected { at: Timestamp::now(), peer: proposal.peer, titles, did_you_mean, why, remedy };
        self.shared.rejections.add(rejected);
        Verdict::Reject(cause.reason())
    }

    /// Above the watermark new associations are turned away, while running ones may end.
    fn room(&self) -> Result<(), String> {
        match self.shared.outbox.usage() {
            Ok(usage) if usage.is_above_watermark() => Err("outbox above its watermark".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

async fn serve(shared: Arc<Shared>, connection: Connection, slot: Slot, stop: CancellationToken) {
    let config = shared.acceptor();
    let door = Door {
        shared: &shared,
        open: matches!(slot, Slot::Association { .. }),
        candidates: Mutex::new(None),
        turned_away: AtomicBool::new(false),
    };
    let (peer, tls) = (connection.peer, connection.tls.is_some());
    let accepted = tokio::select! {
        accepted = connection.associate(&config, &door) => accepted,
        () = stop.cancelled() => return,
    };
    let association = match accepted {
        Ok(association) => association,
        Err(error) => {
            not_associated(&door, peer, &error);
            return;
        }
    };
    let candidates = door.candidates.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Some(candidates) = candidates else { return };
    shared.counters.association();
    info!(calling = %association.calling(), called = %association.called(), tls, "association opened");
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

/// Nobody who only looks whether the port is open takes the place of one who is kept.
fn not_associated(door: &Door<'_>, peer: SocketAddr, error: &AcceptError) {
    door.shared.counters.rejected();
    let is_known = door.turned_away.load(Ordering::Relaxed);
    let has_gone = match error {
        AcceptError::Tls(TlsFailure::Handshake(error)) => error.kind() == io::ErrorKind::UnexpectedEof,
        AcceptError::Failed(error) => matches!(error, AssociationError::Closed),
        AcceptError::Tls(TlsFailure::NotTls | TlsFailure::Incompatible(_))
        | AcceptError::Rejected(_)
        | AcceptError::TimedOut(_) => false,
    };
    if is_known || has_gone {
        debug!(%peer, %error, "no association");
        return;
    }
    if matches!(error, AcceptError::Tls(_)) {
        warn!(%peer, %error, "no association");
    } else {
        debug!(%peer, %error, "no association");
    }
    let (at, why) = (Timestamp::now(), error.to_string());
    door.shared.rejections.add(Rejected { at, peer, titles: None, did_you_mean: None, why, remedy: None });
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
        let begun = Instant::now();
        let answer = self.answer(request).await?;
        match answer.status {
            base::Status::SUCCESS => self.instances += 1,
            status => {
                self.refused += 1;
                self.shared.counters.refused();
                info!(ae = %self.association.called(), %status, comment = answer.comment.as_deref(), "instance refused");
            }
        }
        self.shared.counters.answered(self.association.called(), answer.status, begun.elapsed());
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
