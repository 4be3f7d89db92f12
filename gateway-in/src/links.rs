//! The link to each relay: prekeys are published, windows are opened and closed with the
//! destinations, offers go to their route's queue, acknowledgements to the ledger.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base::{RouteId, Secret, Timestamp, limits::SESSION_LIFE_MAX};
use envelope::{PrekeyKind, PrekeySecret, Suite};
use identity::IdentityKey;
use service::{Contacts, own::LiveOwn, witness::LogWitness};
use spool::InboundRow;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use transport::{Downlink, DownlinkEvent, IncomingOffer, Prekeys};

use crate::{
    acks::{Ack, Acks},
    asked::{Asked, Desk},
    commitment,
    config::Route,
    inbox::Inbox,
    logbook::{self, Logbook},
    signer,
};

/// One-time prekeys that a route has at a relay. A session takes one and carries 10,000 instances or
/// an hour's; a sender that is restarted again and again falls back to the last-resort key.
const ONE_TIME_PREKEYS: usize = 8;
/// A last-resort prekey is replaced at half its life.
const REFRESH: Duration = Duration::from_secs(SESSION_LIFE_MAX.as_secs() / 2);
/// Receipts settled again when a relay connects.
const UNACKNOWLEDGED_MAX: u32 = 10_000;

/// Queues of offers, one for each route.
///
/// The lock guards the map only and is never held across an await.
#[derive(Clone, Default)]
pub struct Queues(Arc<RwLock<HashMap<RouteId, Queue>>>);

type Queue = mpsc::Sender<(Downlink, IncomingOffer)>;

impl Queues {
    /// A route has one from now on.
    pub fn insert(&self, route: RouteId, queue: Queue) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(route, queue);
    }

    /// A route has none any more.
    pub fn remove(&self, route: RouteId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&route);
    }

    fn get(&self, route: RouteId) -> Option<Queue> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&route).cloned()
    }
}

/// One relay's link.
pub struct Link {
    /// How logs call the relay.
    pub name: base::Name,
    /// Our identity of the moment signs the bundles.
    pub own: LiveOwn,
    /// What the offers are handed to.
    pub inbox: Arc<Inbox>,
    /// The link itself.
    pub downlink: Downlink,
    /// Where offers go.
    pub queues: Queues,
    /// Where acknowledgements go.
    pub acks: Acks,
    /// What is believed of its log.
    pub witness: Arc<LogWitness>,
    /// How long a receipt waits for its proof before it is submitted again.
    pub resubmit_after: Duration,
    /// Who answers what senders ask.
    pub desk: Arc<Desk>,
    /// Told of whatever comes from the relay.
    pub heard: Arc<Contacts>,
}

impl Link {
    /// Handles events until the link ends.
    pub async fn run(
        self,
        mut events: mpsc::Receiver<DownlinkEvent>,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let mut refresh = Instant::now() + REFRESH;
        let mut health = self.inbox.health_changes();
        let mut closed = self.inbox.closed_routes();
        let (inbox, witness) = (Arc::clone(&self.inbox), Arc::clone(&self.witness));
        let mut logbook =
            Logbook::new(inbox, self.name.clone(), self.downlink.clone(), witness, self.resubmit_after);
        let mut turns = interval(logbook::TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trusted = self.witness.is_trusted();
        let mut answering = JoinSet::new();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(refresh) => {
                    refresh = Instant::now() + REFRESH;
                    self.inbox.with_sessions(|sessions| sessions.expire(Timestamp::now()));
                    self.publish_all(false).await;
                    continue;
                }
                _ = turns.tick() => {
                    logbook.turn().await;
                    if std::mem::replace(&mut trusted, self.witness.is_trusted()) != trusted {
                        self.open_windows().await;
                    }
                    continue;
                }
                Some(_) = answering.join_next() => continue,
                _ = health.changed() => {
                    self.open_windows().await;
                    continue;
                }
                _ = closed.changed() => {
                    let gone = closed.borrow_and_update().clone();
                    self.routes_changed(gone).await;
                    continue;
                }
                event = events.recv() => match event {
                    Some(event) => event,
                    None => return Ok(()),
                },
            };
            self.heard.heard(&self.name, Timestamp::now());
            match event {
                DownlinkEvent::LogHead(head) => logbook.head(head).await,
                DownlinkEvent::Logged(logged) => logbook.logged(logged),
                DownlinkEvent::Asked { sender, id, route, within, question } => {
                    let (desk, downlink) = (Arc::clone(&self.desk), self.downlink.clone());
                    answering.spawn(async move {
                        let answer = desk.answer(Asked { sender, route, within, question }).await;
                        // Without a connection nobody waits for it.
                        let _ = downlink.answer(sender, id, answer).await;
                    });
                }
                event => {
                    if matches!(event, DownlinkEvent::Connected { .. }) {
                        logbook.connected().await;
                    }
                    self.handle(event).await;
                }
            }
        }
    }

    async fn handle(&self, event: DownlinkEvent) {
        match event {
            DownlinkEvent::Connected { .. } => {
                info!(relay = %self.name, "relay connected");
                self.publish_all(true).await;
                self.settle_again().await;
                self.open_windows().await;
            }
            // The log's, and the desk's.
            DownlinkEvent::LogHead(_) | DownlinkEvent::Logged(_) | DownlinkEvent::Asked { .. } => {}
            DownlinkEvent::Disconnected => warn!(relay = %self.name, "relay disconnected"),
            DownlinkEvent::Offered(offer) => {
                // What is offered was admitted, and that is logged.
                self.witness.active();
                self.offered(offer);
            }
            DownlinkEvent::PrekeysLow { route, left } => {
                debug!(%route, left, "prekeys are low");
                if let Some(route) = self.inbox.route(route) {
                    self.publish(&route, ONE_TIME_PREKEYS.saturating_sub(left as usize), false, false).await;
                }
            }
            DownlinkEvent::Cancelled { delivery, .. } => self.inbox.cancel(delivery),
            DownlinkEvent::Acked { sender, delivery, attempt, manifest } => {
                // Fails only when the daemon is stopping; it comes again.
                let _ = self.acks.send(Ack { sender, delivery, attempt, manifest }).await;
            }
            DownlinkEvent::SessionClosed { bytes, .. } => {
                if let Err(error) = self.inbox.with_sessions(|sessions| sessions.close(&bytes)) {
                    debug!(%error, "session close refused");
                }
            }
        }
    }

    fn offered(&self, offer: IncomingOffer) {
        if !self.witness.is_trusted() {
            // Dropping the offer gives its lease back; its sender finds another way, or waits.
            return;
        }
        let Some(queue) = self.queues.get(offer.route) else {
            warn!(route = %offer.route, sender = %offer.sender, "an offer for a route that is not configured");
            return;
        };
        if queue.try_send((self.downlink.clone(), offer)).is_err() {
            // Dropping the offer gives its lease back; it comes again.
            warn!("more offers than windows allow; one given back");
        }
    }

    /// Receipts that the sender may not have.
    async fn settle_again(&self) {
        let rows = match self.inbox.inbound.unacknowledged(UNACKNOWLEDGED_MAX).await {
            Ok(rows) => rows,
            Err(error) => {
                warn!(%error, "settled ledger cannot be read");
                return;
            }
        };
        if settle(&self.inbox, &self.own, &self.downlink, rows).await {
            commitment::settle_again(&self.inbox, &self.own, &self.downlink).await;
        }
    }

    /// Nothing is offered on routes that are gone; those that are new, or another sender's, get their own prekeys.
    async fn routes_changed(&self, gone: Vec<RouteId>) {
        for route in gone {
            let nothing = Prekeys { replace: true, ..Prekeys::default() };
            let _ = self.downlink.publish(route, nothing).await;
            let _ = self.downlink.window(route, 0).await;
        }
        self.publish_all(true).await;
        self.open_windows().await;
    }

    /// A route is open while its destination is up, and the relay's log has kept its promise.
    async fn open_windows(&self) {
        for route in self.inbox.all_routes() {
            let up = self.inbox.destination(&route).is_some_and(|to| to.health.may_be_asked());
            let deliveries = if up && self.witness.is_trusted() { self.inbox.collect.window } else { 0 };
            if self.downlink.window(route.id, deliveries).await.is_err() {
                return;
            }
        }
    }

    async fn publish_all(&self, replace: bool) {
        for route in self.inbox.all_routes() {
            let one_time = if replace { ONE_TIME_PREKEYS } else { 0 };
            self.publish(&route, one_time, true, replace).await;
        }
    }

    async fn publish(&self, route: &Arc<Route>, one_time: usize, last_resort: bool, replace: bool) {
        let (identity, id, suite) = (self.own.identity(), route.id, route.suite);
        let made = tokio::task::spawn_blocking(move || {
            let one = |kind| make(&identity, id, suite, kind);
            let one_time = (0..one_time).map(|_| one(PrekeyKind::OneTime)).collect::<Vec<_>>();
            (one_time, last_resort.then(|| one(PrekeyKind::LastResort)))
        });
        let Ok((one_time, last_resort)) = made.await else { return };
        let mut prekeys = Prekeys { replace, ..Prekeys::default() };
        let kept = self.inbox.with_sessions(|sessions| {
            for (secret, bundle) in one_time {
                sessions.publish(secret)?;
                prekeys.one_time.push(bundle);
            }
            if let Some((secret, bundle)) = last_resort {
                sessions.publish(secret)?;
                prekeys.last_resort = Some(bundle);
            }
            Ok::<(), envelope::TableFull>(())
        });
        if let Err(error) = kept {
            warn!(%error, "prekeys could not be kept");
        }
        // Without a connection they are published with the next one.
        let _ = self.downlink.publish(id, prekeys).await;
    }
}

/// Sends first receipts again. False: they cannot be sent now.
pub(crate) async fn settle(inbox: &Inbox, own: &LiveOwn, downlink: &Downlink, rows: Vec<InboundRow>) -> bool {
    let rows = match signer::present(own, &inbox.inbound, rows).await {
        Ok(rows) => rows,
        Err(error) => {
            warn!(%error, "receipts could not be signed with the new keys");
            return false;
        }
    };
    for row in rows {
        let (Some(settlement), Some(record)) = (row.settlement, row.record) else { continue };
        let Some(route) = inbox.route(row.arrival.route) else { continue };
        let sender = route.sender.id();
        let (delivery, attempt) = (row.arrival.delivery, row.arrival.attempt);
        if downlink.settle(sender, delivery, attempt, settlement, record).await.is_err() {
            return false;
        }
    }
    true
}

fn make(identity: &IdentityKey, route: RouteId, suite: Suite, kind: PrekeyKind) -> (PrekeySecret, Vec<u8>) {
    let not_after = Timestamp::now().after(SESSION_LIFE_MAX);
    let secret = PrekeySecret::generate(suite, route, kind, not_after, Secret::random());
    let bundle = secret.bundle(identity);
    (secret, bundle)
}
