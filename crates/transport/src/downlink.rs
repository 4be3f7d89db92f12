use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Attempt, BootId, DeliveryId, Fingerprint, RouteId};
use identity::{IdentityKey, PeerCard};
use quinn::{Connection, RecvStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use wire::{CloseCode, Octets, PREAMBLE_BYTES, RecipientFrame, Role, StreamCode, ToRecipient, Transfer};

use crate::backoff::Backoff;
use crate::control::{ControlError, ControlReader, write_queue};
use crate::grants::GrantPool;
use crate::link::{Established, LinkTask, Refusal, Remote, SendError, Unavailable, close, pause};
use crate::offer::{IncomingOffer, Lease, LeaseInner};
use crate::{Timing, TlsIdentity, limits};

/// Leases are renewed this many times within their life.
const RENEWALS_PER_LEASE: u32 = 4;

/// How a downlink reaches its relay.
#[derive(Clone, Debug)]
pub struct DownlinkConfig {
    /// `host:port`, resolved anew at each attempt to connect.
    pub address: String,
    /// The relay's pinned card.
    pub relay: PeerCard,
    /// Our TLS key.
    pub identity: TlsIdentity,
    /// Clocks of the connection.
    pub timing: Timing,
}

impl DownlinkConfig {
    fn remote(self) -> Remote {
        let Self { address, relay, identity, timing } = self;
        Remote { address, card: relay, identity, timing }
    }

    /// With the usual clocks.
    pub fn new(address: String, relay: PeerCard, identity: &IdentityKey) -> Self {
        Self { address, relay, identity: TlsIdentity::of(identity), timing: Timing::default() }
    }
}

/// Prekey bundles to be given to a route's sender.
#[derive(Clone, Debug, Default)]
pub struct Prekeys {
    /// True: what was published for the route before is dead (this process made its keys anew).
    pub replace: bool,
    /// Each is given out once.
    pub one_time: Vec<Vec<u8>>,
    /// Given out when no one-time bundle is left; None keeps the earlier one.
    pub last_resort: Option<Vec<u8>>,
}

/// What the relay says by itself.
#[derive(Debug)]
pub enum DownlinkEvent {
    /// The link stands. The relay of another boot id knows no prekeys and no windows: publish and open them
    /// again (windows also of the same boot id: they belong to the connection). Settlements that were not
    /// acknowledged are to be sent again.
    Connected {
        /// This run of the relay.
        boot: BootId,
    },
    /// The link is lost, its leases have ended, and it connects again by itself.
    Disconnected,
    /// A body for us.
    Offered(IncomingOffer),
    /// Few one-time bundles are left for a route.
    PrekeysLow {
        /// The route.
        route: RouteId,
        /// How many.
        left: u32,
    },
    /// The sender called a delivery off, up to this attempt.
    Cancelled {
        /// Who.
        sender: Fingerprint,
        /// The delivery.
        delivery: DeliveryId,
        /// The highest attempt meant.
        attempt: Attempt,
    },
    /// The sender has durably recorded the settlement.
    Acked {
        /// Who.
        sender: Fingerprint,
        /// The delivery.
        delivery: DeliveryId,
        /// The attempt.
        attempt: Attempt,
        /// For a receipt: a `ledger::Manifest`, not verified yet.
        manifest: Option<Vec<u8>>,
    },
    /// A sender asks something. It waits for [`Downlink::answer`] for so long.
    Asked {
        /// Who.
        sender: Fingerprint,
        /// Names the question together with the sender.
        id: u64,
        /// The sender's route.
        route: RouteId,
        /// How long somebody waits.
        within: Duration,
        /// Opaque.
        question: Vec<u8>,
    },
    /// A head of the relay's log.
    LogHead(wire::LogHead),
    /// Where a settlement stands in it.
    Logged(wire::Logged),
    /// A sender's session ended.
    SessionClosed {
        /// Who.
        sender: Fingerprint,
        /// The session's route.
        route: RouteId,
        /// Opaque.
        bytes: Vec<u8>,
    },
}

/// A recipient's link to one relay. Clones are the same link.
#[derive(Clone)]
pub struct Downlink {
    shared: Arc<Shared>,
}

/// The lock guards the standing connection's handle only and is never held across an await.
struct Shared {
    live: Mutex<Option<Live>>,
    refusal: Refusal,
    target: watch::Sender<Option<Remote>>,
}

#[derive(Clone)]
struct Live {
    connection: Connection,
    control: mpsc::Sender<RecipientFrame>,
    leases: Leases,
}

impl Downlink {
    /// Starts the link. It connects, and connects again, until its task is stopped or the events are dropped.
    pub fn start(config: DownlinkConfig) -> (Self, mpsc::Receiver<DownlinkEvent>, LinkTask) {
        let (events, received) = mpsc::channel(limits::EVENT_QUEUE);
        let shared = Arc::new(Shared {
            live: Mutex::new(None),
            refusal: Refusal::default(),
            target: watch::Sender::new(Some(config.remote())),
        });
        let driver = Driver { shared: shared.clone(), events };
        let task = LinkTask::spawn(|stop| driver.run(stop));
        (Self { shared }, received, task)
    }

    /// From now on reaches the relay so, or not at all. A standing connection ends.
    pub fn retarget(&self, config: Option<DownlinkConfig>) {
        self.shared.refusal.clear();
        self.shared.target.send_replace(config.map(DownlinkConfig::remote));
    }

    /// From the next attempt to connect on reaches the relay so. A standing connection is left alone.
    pub fn renew(&self, config: DownlinkConfig) {
        let standing = self.is_connected();
        let renewed = Some(config.remote());
        self.shared.target.send_if_modified(|target| {
            *target = renewed;
            !standing
        });
    }

    /// Why the relay does not let us in, as far as it has said so: somebody has to act there or at its card.
    pub fn refusal(&self) -> Option<String> {
        self.shared.refusal.text()
    }

    /// True while the link stands.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().is_some()
    }

    /// The round trip to the relay, as the connection measures it.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.lock().as_ref().map(|live| live.connection.rtt())
    }

    /// Publishes prekey bundles, in as many frames as they need.
    pub async fn publish(&self, route: RouteId, prekeys: Prekeys) -> Result<(), SendError> {
        let Prekeys { mut replace, one_time, last_resort } = prekeys;
        for bundle in one_time.iter().chain(&last_resort) {
            SendError::check("prekey bundle", bundle.len(), wire::BUNDLE_BYTES_MAX)?;
        }
        let control = self.live()?.control;
        let mut last_resort = last_resort.map(Octets::from);
        let mut rest = one_time.into_iter().map(Octets::from).peekable();
        loop {
            let mut bytes = last_resort.as_ref().map_or(0, |bundle| bundle.len());
            let mut one_time = Vec::new();
            while let Some(next) = rest.peek() {
                bytes += next.len();
                if one_time.len() == wire::BUNDLES_PER_FRAME_MAX || bytes > PUBLISH_BYTES_MAX {
                    break;
                }
                one_time.extend(rest.next());
            }
            let frame = RecipientFrame::Publish { route, replace, one_time, last_resort: last_resort.take() };
            control.send(frame).await.map_err(|_| Unavailable)?;
            replace = false;
            if rest.peek().is_none() {
                return Ok(());
            }
        }
    }

    /// Sets how many unsettled leases a route may have; 0 while its destination is down.
    pub async fn window(&self, route: RouteId, deliveries: u32) -> Result<(), SendError> {
        self.send(RecipientFrame::Window { route, deliveries }).await
    }

    /// Answers a delivery with a signed settlement, whether or not any of its body was read. Its lease is done.
    pub async fn settle(
        &self,
        sender: Fingerprint,
        delivery: DeliveryId,
        attempt: Attempt,
        settlement: Vec<u8>,
        record: Vec<u8>,
    ) -> Result<(), SendError> {
        SendError::check("settlement", settlement.len() + record.len(), wire::SETTLEMENT_BYTES_MAX)?;
        let live = self.live()?;
        let (settlement, record) = (settlement.into(), record.into());
        let frame = RecipientFrame::Settlement { sender, delivery, attempt, settlement, record };
        live.control.send(frame).await.map_err(|_| Unavailable)?;
        live.leases.settled(sender, delivery, attempt);
        Ok(())
    }

    /// Answers a question of this sender.
    pub async fn answer(&self, sender: Fingerprint, id: u64, answer: Vec<u8>) -> Result<(), SendError> {
        SendError::check("answer", answer.len(), wire::ANSWER_BYTES_MAX)?;
        self.send(RecipientFrame::Answer { sender, id, answer: answer.into() }).await
    }

    /// Says which head of the relay's log we believe.
    pub async fn witness(&self, checkpoint: String) -> Result<(), SendError> {
        SendError::check("checkpoint", checkpoint.len(), wire::CHECKPOINT_BYTES_MAX)?;
        self.send(RecipientFrame::Witness { checkpoint }).await
    }

    /// Asks for a settlement of ours to be logged again: its proof has not come.
    pub async fn resubmit(
        &self,
        sender: Fingerprint,
        (delivery, attempt): (DeliveryId, Attempt),
        settlement: Vec<u8>,
    ) -> Result<(), SendError> {
        SendError::check("settlement", settlement.len(), wire::SETTLEMENT_BYTES_MAX)?;
        let settlement = settlement.into();
        self.send(RecipientFrame::Resubmit { sender, delivery, attempt, settlement }).await
    }

    async fn send(&self, frame: RecipientFrame) -> Result<(), SendError> {
        self.live()?.control.send(frame).await.map_err(|_| Unavailable.into())
    }

    fn live(&self) -> Result<Live, Unavailable> {
        self.shared.lock().clone().ok_or(Unavailable)
    }
}

/// Leaves room in a frame for ids and lengths.
const PUBLISH_BYTES_MAX: usize = base::limits::CONTROL_FRAME_BYTES_MAX - 1024;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The leases of one connection. The lock guards the map only and is never held across an await.
#[derive(Clone, Default)]
pub(crate) struct Leases {
    map: Arc<Mutex<HashMap<Transfer, Held>>>,
}

struct Held {
    key: (Fingerprint, DeliveryId, Attempt),
    stream: Option<oneshot::Sender<RecvStream>>,
    ended: CancellationToken,
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<Transfer, Held>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if it was there: neither settled nor withdrawn.
    pub(crate) fn remove(&self, transfer: Transfer) -> bool {
        self.lock().remove(&transfer).is_some()
    }

    fn settled(&self, sender: Fingerprint, delivery: DeliveryId, attempt: Attempt) {
        self.lock().retain(|_, held| held.key != (sender, delivery, attempt));
    }

    fn withdraw(&self, transfer: Transfer) {
        if let Some(held) = self.lock().remove(&transfer) {
            held.ended.cancel();
        }
    }

    fn end_all(&self) {
        for (_, held) in self.lock().drain() {
            held.ended.cancel();
        }
    }

    fn transfers(&self) -> Vec<Transfer> {
        self.lock().keys().copied().collect()
    }

    fn open(&self, transfer: Transfer, mut stream: RecvStream) {
        match self.lock().get_mut(&transfer).and_then(|held| held.stream.take()) {
            Some(waiting) => drop(waiting.send(stream)),
            None => {
                debug!(transfer, "stream of a lease that ended");
                let _ = stream.stop(StreamCode::Unwanted.code().into());
            }
        }
    }
}

struct Driver {
    shared: Arc<Shared>,
    events: mpsc::Sender<DownlinkEvent>,
}

/// One standing connection.
struct Session {
    connection: Connection,
    control: mpsc::Sender<RecipientFrame>,
    leases: Leases,
    pool: GrantPool,
    lease: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    Stopped,
    Retargeted,
    Lost,
    Violated,
}

impl Driver {
    async fn run(self, stop: CancellationToken) {
        let mut target = self.shared.target.subscribe();
        let mut backoff = Backoff::default();
        while !self.events.is_closed() {
            let Some(remote) = target.borrow_and_update().clone() else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = target.changed() => continue,
                }
            };
            let connected = tokio::select! {
                () = stop.cancelled() => return,
                _ = target.changed() => continue,
                connected = remote.connect::<ToRecipient>(Role::Recipient) => connected,
            };
            match connected {
                Ok(established) => {
                    backoff.reset();
                    self.shared.refusal.clear();
                    match self.serve(established, &remote, &stop, &mut target).await {
                        Served::Stopped => return,
                        Served::Retargeted => continue,
                        Served::Lost | Served::Violated => {}
                    }
                }
                Err(error) => {
                    warn!(relay = %remote.card.name, %error, "no downlink");
                    self.shared.refusal.note(&error);
                }
            }
            tokio::select! {
                _ = target.changed() => {}
                goes_on = pause(&mut backoff, &stop) => if !goes_on { return },
            }
        }
    }

    async fn serve(
        &self,
        link: Established<ToRecipient>,
        remote: &Remote,
        stop: &CancellationToken,
        target: &mut watch::Receiver<Option<Remote>>,
    ) -> Served {
        let Established { endpoint, connection, control_out, mut control_in, boot, lease_ms } = link;
        let (control, queue) = mpsc::channel(limits::CONTROL_QUEUE_FRAMES);
        let leases = Leases::default();
        *self.shared.lock() =
            Some(Live { connection: connection.clone(), control: control.clone(), leases: leases.clone() });
        let lease = Duration::from_millis(u64::from(lease_ms));
        let session =
            Session { connection: connection.clone(), control, leases, pool: GrantPool::new(), lease };
        info!(relay = %remote.card.name, %boot, "downlink stands");
        let served = tokio::select! {
            () = stop.cancelled() => Served::Stopped,
            _ = target.changed() => Served::Retargeted,
            end = write_queue(control_out, queue) => lost(end.err()),
            end = self.read(&mut control_in, &session, boot) => end,
            () = session.streams() => Served::Lost,
            () = session.renew() => Served::Lost,
        };
        *self.shared.lock() = None;
        let code = if served == Served::Violated { CloseCode::Violation } else { CloseCode::Stopping };
        // The queue is gone with the writer, so that a lease that ends now tells "disconnected".
        session.leases.end_all();
        // Closing ourselves overwrites the other side's reason.
        let ended = connection.close_reason();
        self.shared.refusal.closed(&remote.card.name, ended.as_ref());
        close(&endpoint, &connection, code).await;
        info!(relay = %remote.card.name, reason = ended.as_ref().map(ToString::to_string), "downlink lost");
        if served != Served::Stopped {
            let _ = self.events.send(DownlinkEvent::Disconnected).await;
        }
        served
    }

    async fn read(
        &self,
        control: &mut ControlReader<ToRecipient>,
        session: &Session,
        boot: BootId,
    ) -> Served {
        if self.events.send(DownlinkEvent::Connected { boot }).await.is_err() {
            return Served::Stopped;
        }
        loop {
            let frame = match control.next().await {
                Ok(frame) => frame,
                Err(error) => return lost(Some(error)),
            };
            let event = match session.handle(frame).await {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(served) => return served,
            };
            if self.events.send(event).await.is_err() {
                return Served::Stopped;
            }
        }
    }
}

impl Session {
    async fn handle(&self, frame: ToRecipient) -> Result<Option<DownlinkEvent>, Served> {
        Ok(Some(match frame {
            ToRecipient::Offer { transfer, delivery, attempt, sender, route, header, size, urgency } => {
                let (lease, stream) = self.lease(transfer, route, (sender, delivery, attempt)).await?;
                let header = header.into();
                DownlinkEvent::Offered(IncomingOffer {
                    delivery,
                    attempt,
                    sender,
                    route,
                    header,
                    size,
                    urgency,
                    lease,
                    stream,
                })
            }
            ToRecipient::Withdrawn { transfer } => {
                self.leases.withdraw(transfer);
                return Ok(None);
            }
            ToRecipient::PrekeysLow { route, left } => DownlinkEvent::PrekeysLow { route, left },
            ToRecipient::Cancelled { sender, delivery, attempt } => {
                DownlinkEvent::Cancelled { sender, delivery, attempt }
            }
            ToRecipient::Acked { sender, delivery, attempt, manifest } => {
                DownlinkEvent::Acked { sender, delivery, attempt, manifest: manifest.map(Into::into) }
            }
            ToRecipient::Ask { sender, id, route, within_ms, question } => DownlinkEvent::Asked {
                sender,
                id,
                route,
                within: Duration::from_millis(u64::from(within_ms.min(wire::ASK_MS_MAX))),
                question: question.into(),
            },
            ToRecipient::LogHead(head) => DownlinkEvent::LogHead(head),
            ToRecipient::Logged(logged) => DownlinkEvent::Logged(logged),
            ToRecipient::SessionClosed { sender, route, bytes } => {
                DownlinkEvent::SessionClosed { sender, route, bytes: bytes.into() }
            }
        }))
    }

    async fn lease(
        &self,
        transfer: Transfer,
        route: RouteId,
        key: (Fingerprint, DeliveryId, Attempt),
    ) -> Result<(Lease, oneshot::Receiver<RecvStream>), Served> {
        let release = self.control.clone().reserve_owned().await.map_err(|_| Served::Lost)?;
        let (opened, stream) = oneshot::channel();
        let ended = CancellationToken::new();
        {
            let mut leases = self.leases.lock();
            let held = Held { key, stream: Some(opened), ended: ended.clone() };
            if leases.len() >= limits::LEASES_MAX as usize || leases.insert(transfer, held).is_some() {
                warn!(transfer, "relay offers more than it may");
                return Err(Served::Violated);
            }
        }
        let inner = LeaseInner {
            transfer,
            route,
            leases: self.leases.clone(),
            pool: self.pool.clone(),
            control: self.control.clone(),
            ended,
            release: Some(release),
        };
        Ok((Lease::new(inner), stream))
    }

    /// Hands each body stream to its lease. Ends with the connection.
    async fn streams(&self) {
        let mut opening = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.connection.accept_uni() => match accepted {
                    Ok(stream) => { opening.spawn(preamble_of(stream)); }
                    Err(_) => return,
                },
                Some(opened) = opening.join_next() => {
                    if let Ok(Some((transfer, stream))) = opened {
                        self.leases.open(transfer, stream);
                    }
                }
            }
        }
    }

    /// Renews all leases that are neither settled nor withdrawn. Ends with the connection.
    async fn renew(&self) {
        let period = (self.lease / RENEWALS_PER_LEASE).max(Duration::from_millis(10));
        let mut tick = interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            for transfers in self.leases.transfers().chunks(wire::RENEWED_PER_FRAME_MAX) {
                if self.control.send(RecipientFrame::Renew { transfers: transfers.to_vec() }).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn preamble_of(mut stream: RecvStream) -> Option<(Transfer, RecvStream)> {
    let mut preamble = [0; PREAMBLE_BYTES];
    let read = timeout(limits::ANSWER_TIMEOUT, stream.read_exact(&mut preamble)).await;
    matches!(read, Ok(Ok(()))).then(|| (wire::transfer_of(preamble), stream))
}

fn lost(error: Option<ControlError>) -> Served {
    match error {
        Some(ControlError::Frame(error)) => {
            warn!(%error, "control stream unusable");
            Served::Violated
        }
        _ => Served::Lost,
    }
}
