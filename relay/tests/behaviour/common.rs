//! One relay in this process, with gateways that send random bytes as sealed bodies.
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use base::{Attempt, DeliveryId, Hasher, Name, RouteId, Secret, Timestamp, random_bytes};
use bytes::Bytes;
use identity::{CardFields, IdentityKey, LogKey};
use ledger::{NackReason, SettlementCore, sign_batch};
use relay::log::LogLimits;
use relay::vault::{Limits, Policy, Rates, Status, Tenant};
use relay::{Listeners, Settings};
use service::own::{Own, OwnKeys};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use transport::{
    Downlink, DownlinkConfig, DownlinkEvent, IncomingOffer, LinkTask, Offer, Piece, Prekeys, Uplink,
    UplinkConfig, UplinkEvent, WholeBody,
};

/// Longer than any step of any test takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const ROUTE: RouteId = RouteId([1; 16]);

/// Waits for something that must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

pub(crate) fn key(name: &str) -> IdentityKey {
    IdentityKey::generate(Name::parse(name).unwrap(), &Secret::random())
}

/// The three identities, and the relay between them.
pub(crate) struct Bed {
    pub(crate) relay_key: Arc<IdentityKey>,
    pub(crate) sender_key: Arc<IdentityKey>,
    pub(crate) recipient_key: Arc<IdentityKey>,
    pub(crate) limits: Limits,
    /// Of the sender.
    pub(crate) rates: Rates,
    pub(crate) relay: Option<Running>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

pub(crate) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), relay::RunError>>,
}

impl Bed {
    pub(crate) fn limits() -> Limits {
        Limits::new(256 << 20, 64 << 20, Duration::from_secs(900), Duration::from_secs(30))
    }

    pub(crate) async fn new() -> Self {
        Self::with_limits(Self::limits()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        Self::with(limits, Rates::default()).await
    }

    pub(crate) async fn with_rates(rates: Rates) -> Self {
        Self::with(Self::limits(), rates).await
    }

    async fn with(limits: Limits, rates: Rates) -> Self {
        let mut bed = Self {
            relay_key: Arc::new(key("relay")),
            sender_key: Arc::new(key("out")),
            recipient_key: Arc::new(key("in")),
            limits,
            rates,
            relay: None,
            address: ([127, 0, 0, 1], 0).into(),
            admin: ([127, 0, 0, 1], 0).into(),
        };
        bed.start().await;
        bed
    }

    /// Starts the relay, at the same address as before.
    pub(crate) async fn start(&mut self) {
        // A relay that was killed lets go of its port a moment later.
        let quic = soon("the port", async {
            loop {
                match UdpSocket::bind(self.address) {
                    Ok(socket) => return socket,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await;
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.address = quic.local_addr().unwrap();
        self.admin = admin.local_addr().unwrap();
        let tenant = |name: &IdentityKey, deposit_for: &[&IdentityKey]| Tenant {
            name: name.name().clone(),
            budget: self.limits.budget,
            deposit_for: deposit_for.iter().map(|key| key.fingerprint()).collect(),
            collects: true,
            rates: if deposit_for.is_empty() { Rates::default() } else { self.rates },
        };
        let tenants = BTreeMap::from([
            (self.sender_key.fingerprint(), tenant(&self.sender_key, &[&self.recipient_key])),
            (self.recipient_key.fingerprint(), tenant(&self.recipient_key, &[])),
        ]);
        let cards =
            [self.sender_key.card(CardFields::new(1, &[])), self.recipient_key.card(CardFields::new(1, &[]))];
        let settings = Settings {
            own: own(&self.relay_key),
            log: LogLimits { interval: Duration::from_millis(50), entries_max: 1_000_000 },
            quic: self.address,
            admin: self.admin,
            admin_tls: None,
            keys: relay::Keys::new(&cards, &tenants),
            policy: Policy { limits: self.limits.clone(), tenants },
            log_dir: None,
            directory: Vec::new(),
            fixed: Default::default(),
            source: None,
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(relay::run(
            settings,
            Listeners { quic, admin, supervisor: Default::default() },
            shutdown.clone(),
        ));
        self.relay = Some(Running { shutdown, task });
    }

    /// Ends the relay as a crash would.
    pub(crate) async fn kill(&mut self) {
        let running = self.relay.take().unwrap();
        running.task.abort();
        let _ = running.task.await;
    }

    /// Ends the relay as SIGTERM would.
    pub(crate) async fn stop(&mut self) {
        let running = self.relay.take().unwrap();
        running.shutdown.cancel();
        running.task.await.unwrap().unwrap();
    }

    pub(crate) async fn status(&self) -> Status {
        let status = service::admin::fetch_status(self.admin).await.unwrap();
        serde_json::from_value(status).unwrap()
    }

    /// Polls the status until it is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        soon(what, async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Waits until nothing moves any more.
    pub(crate) async fn at_rest(&self) {
        soon("rest", async {
            let mut before = None;
            loop {
                let counters = self.status().await.counters;
                if before == Some((counters.bytes_in, counters.bytes_out)) {
                    return;
                }
                before = Some((counters.bytes_in, counters.bytes_out));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
        .await;
    }

    pub(crate) fn uplink(&self) -> Sender {
        let card = self.relay_key.card(CardFields::new(1, &[]));
        let (link, events, task) =
            Uplink::start(UplinkConfig::new(self.address.to_string(), card, &self.sender_key));
        Sender { link, events, task, recipient: self.recipient_key.fingerprint() }
    }

    pub(crate) fn downlink(&self) -> Recipient {
        let card = self.relay_key.card(CardFields::new(1, &[]));
        let (link, events, task) =
            Downlink::start(DownlinkConfig::new(self.address.to_string(), card, &self.recipient_key));
        Recipient { link, events, task, key: self.recipient_key.clone() }
    }
}

/// With a log key and a card that belong to the identity.
fn own(identity: &Arc<IdentityKey>) -> Own {
    let log_key = Arc::new(LogKey::generate(identity.name().clone(), &Secret::random()));
    let keys = OwnKeys { identity: identity.clone(), log_key };
    let card = keys.first_card(&[], Timestamp::now());
    Own::new(keys, card)
}

pub(crate) struct Sender {
    pub(crate) link: Uplink,
    pub(crate) events: mpsc::Receiver<UplinkEvent>,
    pub(crate) task: LinkTask,
    pub(crate) recipient: base::Fingerprint,
}

impl Sender {
    /// The next event that is not about the log.
    pub(crate) async fn next(&mut self) -> UplinkEvent {
        loop {
            match soon("an uplink event", self.events.recv()).await.unwrap() {
                UplinkEvent::LogHead(_) | UplinkEvent::Logged(_) => {}
                event => return event,
            }
        }
    }

    /// The next event that is neither `Collected` nor `Disconnected` nor `Connected`.
    pub(crate) async fn answer(&mut self) -> UplinkEvent {
        loop {
            match self.next().await {
                UplinkEvent::Collected { .. } | UplinkEvent::Disconnected | UplinkEvent::Connected { .. } => {
                }
                event => return event,
            }
        }
    }

    pub(crate) async fn connected(&mut self) -> base::BootId {
        loop {
            if let UplinkEvent::Connected { boot } = self.next().await {
                return boot;
            }
        }
    }

    pub(crate) fn offer(&self, delivery: DeliveryId, route: RouteId, size: Option<u64>) -> Offer {
        Offer {
            delivery,
            attempt: Attempt(1),
            recipient: self.recipient,
            route,
            header: vec![7; 300],
            size,
            digest: None,
            urgency: wire::Urgency::Normal,
        }
    }
}

pub(crate) struct Recipient {
    pub(crate) link: Downlink,
    pub(crate) events: mpsc::Receiver<DownlinkEvent>,
    pub(crate) task: LinkTask,
    pub(crate) key: Arc<IdentityKey>,
}

impl Recipient {
    pub(crate) async fn next(&mut self) -> DownlinkEvent {
        loop {
            match soon("a downlink event", self.events.recv()).await.unwrap() {
                DownlinkEvent::PrekeysLow { .. } | DownlinkEvent::LogHead(_) | DownlinkEvent::Logged(_) => {}
                event => return event,
            }
        }
    }

    pub(crate) async fn connected(&mut self) -> base::BootId {
        loop {
            if let DownlinkEvent::Connected { boot } = self.next().await {
                return boot;
            }
        }
    }

    /// Waits for the link and opens the usual route.
    pub(crate) async fn ready(&mut self, window: u32) {
        self.connected().await;
        self.link.window(ROUTE, window).await.unwrap();
    }

    pub(crate) async fn offered(&mut self) -> IncomingOffer {
        loop {
            if let DownlinkEvent::Offered(offer) = self.next().await {
                return offer;
            }
        }
    }

    pub(crate) async fn settle(&self, offer: &Settling) {
        let settlement = settlement(&self.key, offer.delivery, offer.attempt);
        self.link.settle(offer.sender, offer.delivery, offer.attempt, settlement, Vec::new()).await.unwrap();
    }

    pub(crate) async fn publish(&self, route: RouteId, one_time: Vec<Vec<u8>>, last_resort: Option<Vec<u8>>) {
        self.link.publish(route, Prekeys { replace: true, one_time, last_resort }).await.unwrap();
    }
}

/// What is needed to settle an offer after it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settling {
    pub(crate) sender: base::Fingerprint,
    pub(crate) delivery: DeliveryId,
    pub(crate) attempt: Attempt,
}

impl From<&IncomingOffer> for Settling {
    fn from(offer: &IncomingOffer) -> Self {
        Self { sender: offer.sender, delivery: offer.delivery, attempt: offer.attempt }
    }
}

/// A genuine settlement. (A nack is the simplest; the relay does not care.)
pub(crate) fn settlement(key: &IdentityKey, delivery: DeliveryId, attempt: Attempt) -> Vec<u8> {
    let core = SettlementCore::nack(delivery, attempt, NackReason::Internal);
    sign_batch(key, &[core], &[]).unwrap().remove(0).encode()
}

pub(crate) fn delivery() -> DeliveryId {
    DeliveryId(random_bytes())
}

/// A body of cheap pseudo-random bytes, in pieces as an outbox reads them.
pub(crate) fn body(bytes: usize) -> WholeBody {
    let mut hasher = Hasher::new(b"");
    let piece: Vec<u8> = (0..64 * 1024u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let piece = Bytes::from(piece);
    let mut pieces = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let now = piece.slice(..left.min(piece.len()));
        hasher.update(&now);
        left -= now.len();
        pieces.push(now);
    }
    WholeBody::new(pieces, hasher.finish())
}

/// Takes a whole body, granting `window` ahead. Its length, and whether its digest is right.
pub(crate) async fn take(offer: IncomingOffer, window: u64) -> Result<(u64, bool), transport::Lost> {
    let mut body = offer.accept(window).await?;
    let mut hasher = Hasher::new(b"");
    loop {
        match body.next().await? {
            Piece::Data(bytes) => {
                hasher.update(&bytes);
                body.grant(body.received() + window).await?;
            }
            Piece::End(digest) => return Ok((body.received(), digest == hasher.finish())),
        }
    }
}

/// Takes and settles everything that is offered, until dropped.
pub(crate) fn settle_all(recipient: Recipient, window: u64) -> JoinHandle<()> {
    tokio::spawn(async move {
        // The link lives for as long as its task does.
        let Recipient { link, mut events, task: _task, key } = recipient;
        while let Some(event) = events.recv().await {
            if let DownlinkEvent::Offered(offer) = event {
                tokio::spawn(take_and_settle(link.clone(), key.clone(), offer, window));
            }
        }
    })
}

/// Takes a whole body and settles it.
pub(crate) async fn take_and_settle(
    link: Downlink,
    key: Arc<IdentityKey>,
    offer: IncomingOffer,
    window: u64,
) {
    let (settling, lease) = (Settling::from(&offer), offer.lease());
    let Ok((_, whole)) = take(offer, window).await else { return };
    assert!(whole);
    let settled = settlement(&key, settling.delivery, settling.attempt);
    let _ = link.settle(settling.sender, settling.delivery, settling.attempt, settled, Vec::new()).await;
    drop(lease);
}
