use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Attempt, BootId, DeliveryId, Fingerprint, RouteId};
use identity::{IdentityKey, PeerCard};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use wire::{CloseCode, Deposit, NoticeKind, Role, SenderFrame, ToSender, Transfer, UnansweredCode};

use crate::ask::{AskError, Asks};
use crate::backoff::Backoff;
use crate::control::{ControlError, ControlReader, write_queue};
use crate::deposit::Registered;
use crate::gate::Gate;
use crate::link::{Established, LinkTask, Refusal, Remote, SendError, Unavailable, close, pause};
use crate::slots::Slots;
use crate::{BodySource, DepositError, Deposited, Offer, Offered, Timing, TlsIdentity, limits};

/// How an uplink reaches its relay.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// `host:port`, resolved anew at each attempt to connect.
    pub address: String,
    /// The relay's pinned card.
    pub relay: PeerCard,
    /// Our TLS key.
    pub identity: TlsIdentity,
    /// Clocks of the connection.
    pub timing: Timing,
}

impl UplinkConfig {
    fn remote(self) -> Remote {
        let Self { address, relay, identity, timing } = self;
        Remote { address, card: relay, identity, timing }
    }

    /// With the usual clocks.
    pub fn new(address: String, relay: PeerCard, identity: &IdentityKey) -> Self {
        Self { address, relay, identity: TlsIdentity::of(identity), timing: Timing::default() }
    }
}

/// What the relay says by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkEvent {
    /// The link stands. Another boot id than the last one: what the relay held is gone.
    Connected {
        /// This run of the relay.
        boot: BootId,
    },
    /// The link is lost; running deposits have failed, and it connects again by itself.
    Disconnected,
    /// The recipient's signed answer. Record it durably, then [`Uplink::ack`]: until then it comes again.
    Settlement {
        /// The delivery.
        delivery: DeliveryId,
        /// The attempt.
        attempt: Attempt,
        /// A `ledger::Settlement`.
        settlement: Vec<u8>,
        /// Sealed receipt or deferral.
        record: Vec<u8>,
    },
    /// The relay no longer has this attempt, and it was not settled. Record, then [`Uplink::ack`] as well.
    Notice {
        /// The delivery.
        delivery: DeliveryId,
        /// The attempt.
        attempt: Attempt,
        /// Why.
        kind: NoticeKind,
    },
    /// A head of the relay's log.
    LogHead(wire::LogHead),
    /// Where a settlement stands in it.
    Logged(wire::Logged),
    /// The recipient has the whole body. Information only: left out when its owner is slow to take events.
    Collected {
        /// The delivery.
        delivery: DeliveryId,
        /// The attempt.
        attempt: Attempt,
    },
}

/// A sender's link to one relay. Clones are the same link.
#[derive(Clone)]
pub struct Uplink {
    pub(crate) shared: Arc<Shared>,
}

/// What the link's task and its users share. The lock guards maps only and is never held across an await.
pub(crate) struct Shared {
    live: Mutex<Option<Live>>,
    refusal: Refusal,
    target: watch::Sender<Option<Remote>>,
    pub(crate) slots: Slots,
    pub(crate) gate: Gate,
}

/// Gets the bundle, or None where none is published.
type PrekeyWaiter = oneshot::Sender<Option<Vec<u8>>>;

/// The standing connection. Its task makes and clears it; users register what they wait for.
pub(crate) struct Live {
    pub(crate) connection: quinn::Connection,
    pub(crate) control: mpsc::Sender<SenderFrame>,
    pub(crate) boot: BootId,
    transfers: HashMap<Transfer, watch::Sender<Deposit>>,
    next_transfer: Transfer,
    prekeys: HashMap<(Fingerprint, RouteId), VecDeque<PrekeyWaiter>>,
    prekeys_open: usize,
    pub(crate) asks: Asks,
}

impl Uplink {
    /// Starts the link. It connects, and connects again, until its task is stopped or the events are dropped.
    /// Take the events all the time: nothing but the link's own queue stands between them and the grants.
    pub fn start(config: UplinkConfig) -> (Self, mpsc::Receiver<UplinkEvent>, LinkTask) {
        let (events, received) = mpsc::channel(limits::EVENT_QUEUE);
        let shared = Arc::new(Shared {
            live: Mutex::new(None),
            refusal: Refusal::default(),
            target: watch::Sender::new(Some(config.remote())),
            slots: Slots::new(limits::DEPOSITS_MAX),
            gate: Gate::default(),
        });
        let driver = Driver { shared: shared.clone(), events };
        let task = LinkTask::spawn(|stop| driver.run(stop));
        (Self { shared }, received, task)
    }

    /// From now on reaches the relay so, or not at all. A standing connection ends.
    pub fn retarget(&self, config: Option<UplinkConfig>) {
        self.shared.refusal.clear();
        self.shared.target.send_replace(config.map(UplinkConfig::remote));
    }

    /// From the next attempt to connect on reaches the relay so. A standing connection is left alone.
    pub fn renew(&self, config: UplinkConfig) {
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

    /// A prekey bundle that this recipient published for a route; None when it has none at the moment.
    pub async fn prekey(
        &self,
        recipient: Fingerprint,
        route: RouteId,
    ) -> Result<Option<Vec<u8>>, Unavailable> {
        let (answer, answered) = oneshot::channel();
        {
            // Question and waiter enter within one lock, so that answers come in the order of the waiters.
            let mut live = self.shared.lock();
            let live = live.as_mut().ok_or(Unavailable)?;
            if live.prekeys_open >= limits::PREKEY_REQUESTS_MAX {
                return Err(Unavailable);
            }
            live.control
                .try_send(SenderFrame::PrekeyRequest { recipient, route })
                .map_err(|_| Unavailable)?;
            live.prekeys_open += 1;
            live.prekeys.entry((recipient, route)).or_default().push_back(answer);
        }
        match timeout(limits::ANSWER_TIMEOUT, answered).await {
            Ok(Ok(bundle)) => Ok(bundle),
            _ => Err(Unavailable),
        }
    }

    /// Asks a recipient something about a route, and waits for its answer for so long. Both are opaque here.
    pub async fn ask(
        &self,
        recipient: Fingerprint,
        route: RouteId,
        question: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, AskError> {
        crate::ask::ask(self, recipient, route, question, within).await
    }

    /// The round trip to the relay, as the connection measures it.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.lock().as_ref().map(|live| live.connection.rtt())
    }

    /// Deposits one attempt of a delivery. Returns when the relay has the whole body, or why it has not.
    /// Dropping the future abandons the body.
    pub async fn deposit(&self, offer: Offer, body: impl BodySource) -> Result<Deposited, DepositError> {
        self.offer(offer).await?.send(body).await
    }

    /// The first half of a deposit: returns as soon as the offer is on its way, so that offers made one
    /// after another keep their order while their bodies travel side by side.
    pub async fn offer(&self, offer: Offer) -> Result<Offered, DepositError> {
        crate::deposit::offer(self, offer).await
    }

    /// Calls a delivery off, up to this attempt, at the relay and at its recipient.
    pub async fn cancel(
        &self,
        recipient: Fingerprint,
        delivery: DeliveryId,
        attempt: Attempt,
    ) -> Result<(), SendError> {
        self.send(SenderFrame::Cancel { recipient, delivery, attempt }).await
    }

    /// Says that the settlement or notice of this attempt is durably recorded; a receipt is acknowledged with the
    /// sender's countersignature.
    pub async fn ack(
        &self,
        recipient: Fingerprint,
        delivery: DeliveryId,
        attempt: Attempt,
        manifest: Option<Vec<u8>>,
    ) -> Result<(), SendError> {
        let bytes = manifest.as_ref().map_or(0, Vec::len);
        SendError::check("manifest", bytes, wire::MANIFEST_BYTES_MAX)?;
        let manifest = manifest.map(Into::into);
        self.send(SenderFrame::Ack { recipient, delivery, attempt, manifest }).await
    }

    /// Tells the recipient that a session ended.
    pub async fn close_session(
        &self,
        recipient: Fingerprint,
        route: RouteId,
        bytes: Vec<u8>,
    ) -> Result<(), SendError> {
        SendError::check("session close", bytes.len(), wire::SESSION_CLOSE_BYTES_MAX)?;
        self.send(SenderFrame::SessionClose { recipient, route, bytes: bytes.into() }).await
    }

    /// Says which head of the relay's log we believe.
    pub async fn witness(&self, checkpoint: String) -> Result<(), SendError> {
        SendError::check("checkpoint", checkpoint.len(), wire::CHECKPOINT_BYTES_MAX)?;
        self.send(SenderFrame::Witness { checkpoint }).await
    }

    /// Asks for a settlement to be logged again: its proof has not come.
    pub async fn resubmit(
        &self,
        recipient: Fingerprint,
        (delivery, attempt): (DeliveryId, Attempt),
        settlement: Vec<u8>,
    ) -> Result<(), SendError> {
        SendError::check("settlement", settlement.len(), wire::SETTLEMENT_BYTES_MAX)?;
        let settlement = settlement.into();
        self.send(SenderFrame::Resubmit { recipient, delivery, attempt, settlement }).await
    }

    async fn send(&self, frame: SenderFrame) -> Result<(), SendError> {
        let control = self.shared.lock().as_ref().map(|live| live.control.clone()).ok_or(Unavailable)?;
        control.send(frame).await.map_err(|_| Unavailable.into())
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standing connection's queue, if there is one.
    pub(crate) fn control(&self) -> Option<mpsc::Sender<SenderFrame>> {
        self.lock().as_ref().map(|live| live.control.clone())
    }

    /// Registers a deposit on the connection whose queue the permit is of.
    pub(crate) fn register(
        self: &Arc<Self>,
        permit: mpsc::OwnedPermit<SenderFrame>,
    ) -> Result<(Registered, watch::Receiver<Deposit>), Unavailable> {
        let mut live = self.lock();
        let live = live.as_mut().ok_or(Unavailable)?;
        let transfer = live.next_transfer;
        live.next_transfer += 1;
        let (news, deposit) = watch::channel(Deposit::offered(transfer));
        live.transfers.insert(transfer, news);
        let registered = Registered::new(
            self.clone(),
            transfer,
            live.connection.clone(),
            live.control.clone(),
            live.boot,
            permit,
        );
        Ok((registered, deposit))
    }

    /// Forgets a deposit, unless its connection is gone already.
    pub(crate) fn forget(&self, transfer: Transfer, connection: &quinn::Connection) {
        if let Some(live) = self.lock().as_mut()
            && live.connection.stable_id() == connection.stable_id()
        {
            live.transfers.remove(&transfer);
        }
    }
}

struct Driver {
    shared: Arc<Shared>,
    events: mpsc::Sender<UplinkEvent>,
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
                connected = remote.connect::<ToSender>(Role::Sender) => connected,
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
                    warn!(relay = %remote.card.name, %error, "no uplink");
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
        link: Established<ToSender>,
        remote: &Remote,
        stop: &CancellationToken,
        target: &mut watch::Receiver<Option<Remote>>,
    ) -> Served {
        let Established { endpoint, connection, control_out, mut control_in, boot, lease_ms: _ } = link;
        let (control, queue) = mpsc::channel(limits::CONTROL_QUEUE_FRAMES);
        *self.shared.lock() = Some(Live {
            connection: connection.clone(),
            control,
            boot,
            transfers: HashMap::new(),
            next_transfer: 1,
            prekeys: HashMap::new(),
            prekeys_open: 0,
            asks: Asks::new(),
        });
        info!(relay = %remote.card.name, %boot, "uplink stands");
        let served = tokio::select! {
            () = stop.cancelled() => Served::Stopped,
            _ = target.changed() => Served::Retargeted,
            end = write_queue(control_out, queue) => Served::lost(end.err()),
            end = self.read(&mut control_in, boot) => end,
        };
        // Dropping what users wait on tells each of them that the connection is gone.
        *self.shared.lock() = None;
        let code = if served == Served::Violated { CloseCode::Violation } else { CloseCode::Stopping };
        // Closing ourselves overwrites the other side's reason.
        let ended = connection.close_reason();
        self.shared.refusal.closed(&remote.card.name, ended.as_ref());
        close(&endpoint, &connection, code).await;
        info!(relay = %remote.card.name, reason = ended.as_ref().map(ToString::to_string), "uplink lost");
        if served != Served::Stopped {
            let _ = self.events.send(UplinkEvent::Disconnected).await;
        }
        served
    }

    async fn read(&self, control: &mut ControlReader<ToSender>, boot: BootId) -> Served {
        if self.events.send(UplinkEvent::Connected { boot }).await.is_err() {
            return Served::Stopped;
        }
        loop {
            let event = match control.next().await {
                Ok(frame) => self.handle(frame),
                Err(error) => return Served::lost(Some(error)),
            };
            match event {
                Ok(None) => {}
                Ok(Some(event)) => {
                    if self.events.send(event).await.is_err() {
                        return Served::Stopped;
                    }
                }
                Err(violation) => {
                    warn!(%violation, "relay broke the protocol");
                    return Served::Violated;
                }
            }
        }
    }

    fn handle(&self, frame: ToSender) -> Result<Option<UplinkEvent>, wire::Violation> {
        match frame {
            ToSender::Prekey { recipient, route, bundle } => {
                self.answer_prekey((recipient, route), bundle.map(Into::into));
                Ok(None)
            }
            ToSender::Grant { transfer, .. }
            | ToSender::Declined { transfer, .. }
            | ToSender::Known { transfer, .. }
            | ToSender::Deposited { transfer } => {
                let mut live = self.shared.lock();
                let Some(news) = live.as_mut().and_then(|live| live.transfers.get(&transfer)) else {
                    debug!(transfer, "frame for a transfer that ended");
                    return Ok(None);
                };
                let mut result = Ok(());
                news.send_modify(|deposit| result = deposit.handle(&frame));
                result.map(|()| None)
            }
            ToSender::Answer { id, answer } => {
                self.answer_ask(id, Ok(answer.into()));
                Ok(None)
            }
            ToSender::Unanswered { id, code } => {
                self.answer_ask(id, Err(code));
                Ok(None)
            }
            ToSender::LogHead(head) => Ok(Some(UplinkEvent::LogHead(head))),
            ToSender::Logged(logged) => Ok(Some(UplinkEvent::Logged(logged))),
            ToSender::Collected { delivery, attempt } => {
                Ok(Some(UplinkEvent::Collected { delivery, attempt }))
            }
            ToSender::Notice { delivery, attempt, kind } => {
                Ok(Some(UplinkEvent::Notice { delivery, attempt, kind }))
            }
            ToSender::Settlement { delivery, attempt, settlement, record } => {
                Ok(Some(UplinkEvent::Settlement {
                    delivery,
                    attempt,
                    settlement: settlement.into(),
                    record: record.into(),
                }))
            }
        }
    }

    fn answer_ask(&self, id: u64, answer: Result<Vec<u8>, UnansweredCode>) {
        if let Some(live) = self.shared.lock().as_mut() {
            live.asks.answer(id, answer);
        }
    }

    fn answer_prekey(&self, key: (Fingerprint, RouteId), bundle: Option<Vec<u8>>) {
        let mut live = self.shared.lock();
        let Some(live) = live.as_mut() else { return };
        let Some(waiting) = live.prekeys.get_mut(&key) else { return };
        // A waiter that gave up keeps its place, so that each answer reaches the one who asked for it.
        if let Some(waiter) = waiting.pop_front() {
            live.prekeys_open = live.prekeys_open.saturating_sub(1);
            let _ = waiter.send(bundle);
        }
        if waiting.is_empty() {
            live.prekeys.remove(&key);
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// Our owner wants no more.
    Stopped,
    /// Our owner wants another relay, or none.
    Retargeted,
    /// The connection was lost.
    Lost,
    /// The relay broke the protocol.
    Violated,
}

impl Served {
    fn lost(error: Option<ControlError>) -> Self {
        match error {
            Some(ControlError::Frame(error)) => {
                warn!(%error, "control stream unusable");
                Self::Violated
            }
            _ => Self::Lost,
        }
    }
}
