//! Three roles with real keys, cards and configuration files, started and stopped as a test wants.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base::{Name, RouteId};
use envelope::Suite;
use gateway_in::init as inward;
use gateway_out::{config::Respond, init as outward};
use identity::IdentityKey;
use service::{config::Span, own::OwnKeys};
use spool::{Delivery, Filter, Outbox, Queue, State};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Envoy, PATIENCE, ae, name, soon, until};

/// The sending gateway; pinned at the receiving one.
pub(crate) const OUT: &str = "hospital-out";
/// Another sender that is pinned.
pub(crate) const OTHER: &str = "other-out";
/// A tenant of the same relay that the receiving gateway has not pinned.
pub(crate) const MALLORY: &str = "mallory";
/// The receiving gateway.
pub(crate) const IN: &str = "clinic-in";
/// The preferred relay first; the second one only where a plan asks for it.
const RELAYS: [&str; 2] = ["relay", "relay-2"];

/// One route, as both sides write it.
#[derive(Clone, Debug)]
pub(crate) struct RouteSpec {
    pub(crate) id: RouteId,
    pub(crate) ae: String,
    pub(crate) from: &'static str,
    pub(crate) destination: &'static str,
    pub(crate) respond: Respond,
    pub(crate) suite: Suite,
}

impl RouteSpec {
    pub(crate) fn new(number: u8, ae: &str, destination: &'static str) -> Self {
        Self {
            id: route_id(number),
            ae: ae.to_owned(),
            from: OUT,
            destination,
            respond: Respond::Spooled,
            suite: Suite::B,
        }
    }

    pub(crate) fn delivered(self) -> Self {
        Self { respond: Respond::Delivered, ..self }
    }

    pub(crate) fn from(self, from: &'static str) -> Self {
        Self { from, ..self }
    }
}

pub(crate) fn route_id(number: u8) -> RouteId {
    RouteId([number; 16])
}

pub(crate) fn dicom(address: SocketAddr) -> inward::TargetOptions {
    inward::TargetOptions::Dicom { ae: ae("STORE"), address, calling: ae("SLUIS_IN") }
}

pub(crate) fn folder() -> inward::TargetOptions {
    inward::TargetOptions::Folder("files".into())
}

type Tweak<C> = Arc<dyn Fn(&mut C) + Send + Sync>;

/// What a test wants.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) routes: Vec<RouteSpec>,
    pub(crate) destinations: Vec<(&'static str, inward::TargetOptions)>,
    out: Tweak<gateway_out::config::Config>,
    inn: Tweak<gateway_in::config::Config>,
    relays: usize,
}

impl Plan {
    /// One route to one destination: AE title `GW`, route 1, destination `pacs`.
    pub(crate) fn one(target: inward::TargetOptions) -> Self {
        Self::new(vec![RouteSpec::new(1, "GW", "pacs")], vec![("pacs", target)])
    }

    pub(crate) fn new(
        routes: Vec<RouteSpec>,
        destinations: Vec<(&'static str, inward::TargetOptions)>,
    ) -> Self {
        Self { routes, destinations, out: Arc::new(|_| {}), inn: Arc::new(|_| {}), relays: 1 }
    }

    /// Both gateways have a second relay.
    pub(crate) fn two_relays(mut self) -> Self {
        self.relays = 2;
        self
    }

    pub(crate) fn out(
        mut self,
        tweak: impl Fn(&mut gateway_out::config::Config) + Send + Sync + 'static,
    ) -> Self {
        self.out = Arc::new(tweak);
        self
    }

    pub(crate) fn inn(
        mut self,
        tweak: impl Fn(&mut gateway_in::config::Config) + Send + Sync + 'static,
    ) -> Self {
        self.inn = Arc::new(tweak);
        self
    }
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(run: impl FnOnce(CancellationToken) -> JoinHandle<anyhow::Result<()>>) -> Self {
        let stop = CancellationToken::new();
        Self { stop: stop.clone(), task: run(stop) }
    }

    async fn stop(self) {
        self.stop.cancel();
        soon("the end of a role", self.task).await.unwrap().unwrap();
    }
}

/// See the module.
pub(crate) struct Bed {
    pub(crate) dir: TempDir,
    pub(crate) plan: Plan,
    /// Where the PACS sends to.
    pub(crate) dicom: SocketAddr,
    /// gateway-in's status.
    pub(crate) admin_in: SocketAddr,
    admin_out: SocketAddr,
    relay_addresses: [SocketAddr; 2],
    out: Option<Running>,
    relays: [Option<Running>; 2],
    inn: Option<Running>,
}

impl Bed {
    /// Everything runs.
    pub(crate) async fn start(plan: Plan) -> Self {
        let mut bed = Self::receiving(plan).await;
        // Until its prekeys are there, nothing can be addressed.
        let ours = bed.plan.routes.iter().find(|route| route.from == OUT).map(|route| route.id);
        drop(Envoy::new(&bed, OUT, ours.unwrap()).await);
        bed.start_out().await;
        until("the uplink", async || {
            let status = service::admin::fetch_status(bed.admin_out).await.unwrap();
            (0..bed.plan.relays).all(|number| status["relays"][number]["connected"] == true)
        })
        .await;
        bed
    }

    /// Relay and receiving gateway run.
    pub(crate) async fn receiving(plan: Plan) -> Self {
        let mut bed = Self::laid_out(plan);
        for number in 0..bed.plan.relays {
            bed.start_relay_number(number).await;
        }
        bed.start_in().await;
        bed
    }

    /// Files are written; nothing runs.
    pub(crate) fn laid_out(plan: Plan) -> Self {
        let unset = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bed = Self {
            dir: tempfile::tempdir().unwrap(),
            plan,
            dicom: unset,
            admin_in: unset,
            admin_out: unset,
            relay_addresses: [(); 2].map(|()| testkit::free_udp_address().unwrap()),
            out: None,
            relays: [None, None],
            inn: None,
        };
        bed.write();
        bed
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(below)
    }

    /// A sender's identity.
    pub(crate) fn key(&self, who: &str) -> IdentityKey {
        let file = if who == OUT { format!("{}.key", outward::ROLE) } else { format!("{who}.key") };
        IdentityKey::load(&self.path("keys").join(file)).unwrap()
    }

    pub(crate) fn card(&self, who: &str) -> identity::PeerCard {
        let line = fs::read_to_string(self.path(format!("cards/{who}.card"))).unwrap();
        identity::PeerCard::parse(line.trim()).unwrap()
    }

    pub(crate) fn relay_card(&self) -> identity::PeerCard {
        self.card(RELAYS[0])
    }

    pub(crate) fn relay_address(&self) -> SocketAddr {
        self.relay_addresses[0]
    }

    fn write(&self) {
        let (keys, cards) = (self.path("keys"), self.path("cards"));
        fs::create_dir_all(&cards).unwrap();
        let card = |who: &str| PathBuf::from(format!("cards/{who}.card"));
        let file = |who: &str| self.path(card(who));
        outward::write_card(&file(OUT), &outward::create_keys(&keys, &name(OUT)).unwrap()).unwrap();
        for who in RELAYS {
            let key = relay::init::create_keys(&self.path(format!("{who}-keys")), &name(who)).unwrap();
            relay::init::write_card(&file(who), &key).unwrap();
        }
        inward::write_card(&file(IN), &inward::create_keys(&keys, &name(IN)).unwrap()).unwrap();
        for who in [OTHER, MALLORY] {
            outward::write_card(&file(who), &OwnKeys::create(&keys, who, &name(who)).unwrap()).unwrap();
        }
        outward::create_outbox(&self.path("outbox"), &keys).unwrap();
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let relays: Vec<_> = RELAYS
            .iter()
            .zip(self.relay_addresses)
            .take(self.plan.relays)
            .map(|(who, address)| (name(who), address, card(who)))
            .collect();
        let ours = |route: &&RouteSpec| route.from == OUT;
        let out = outward::config_text(&outward::Options {
            listen: nowhere,
            admin: nowhere,
            outbox: "outbox".into(),
            keys: "keys".into(),
            card: card(OUT),
            relays: relays.clone(),
            peers: vec![(name(IN), card(IN))],
            routes: self.plan.routes.iter().filter(ours).map(outward_route).collect(),
        });
        let tenant = |who: &str, deposit_for: Vec<Name>| relay::init::TenantOptions {
            name: name(who),
            card: card(who),
            deposit_for,
        };
        let senders = [OUT, OTHER, MALLORY].map(|who| tenant(who, vec![name(IN)]));
        let tenants: Vec<_> = senders.into_iter().chain([tenant(IN, Vec::new())]).collect();
        for (who, listen) in RELAYS.iter().zip(self.relay_addresses) {
            let keys = PathBuf::from(format!("{who}-keys"));
            let (card, tenants) = (card(who), tenants.clone());
            let options = relay::init::Options { listen, admin: nowhere, keys, card, tenants };
            fs::write(self.path(format!("{who}.toml")), relay::init::config_text(&options)).unwrap();
        }
        let inn = inward::config_text(&inward::Options {
            admin: nowhere,
            ledger: "ledger".into(),
            keys: "keys".into(),
            card: card(IN),
            relays,
            peers: [OUT, OTHER].map(|who| (name(who), card(who))).into(),
            destinations: self.plan.destinations.iter().map(destination).collect(),
            routes: self.plan.routes.iter().map(inward_route).collect(),
        });
        for (role, text) in [("gateway-out", out), ("gateway-in", inn)] {
            fs::write(self.path(format!("{role}.toml")), text).unwrap();
        }
    }

    /// Those of the preferred relay.
    pub(crate) fn relay_settings(&self) -> relay::Settings {
        self.settings_of(RELAYS[0])
    }

    fn settings_of(&self, relay: &str) -> relay::Settings {
        let file = self.path(format!("{relay}.toml"));
        let loaded = service::config::load::<relay::Config>(&file, "SLUIS_NOT_SET_").unwrap();
        relay::Settings::check(&loaded).unwrap()
    }

    pub(crate) async fn start_relay(&mut self) {
        self.start_relay_number(0).await;
    }

    pub(crate) async fn start_relay_number(&mut self, number: usize) {
        let (settings, address) = (self.settings_of(RELAYS[number]), self.relay_addresses[number]);
        // One that was stopped a moment ago lets go of its port a moment later.
        let mut bound = None;
        until("the relay's port", async || {
            bound = UdpSocket::bind(address).ok();
            bound.is_some()
        })
        .await;
        let listeners =
            relay::Listeners { quic: bound.unwrap(), admin: listen().await, supervisor: Default::default() };
        self.relays[number] = Some(Running::start(|stop| {
            tokio::spawn(async move { Ok(relay::run(settings, listeners, stop).await?) })
        }));
    }

    pub(crate) async fn start_in(&mut self) {
        let file = self.path("gateway-in.toml");
        let mut loaded =
            service::config::load::<gateway_in::config::Config>(&file, "SLUIS_NOT_SET_").unwrap();
        for destination in &mut loaded.config.destinations {
            destination.probe_every = Span(Duration::from_millis(100));
        }
        (self.plan.inn)(&mut loaded.config);
        let settings = gateway_in::config::Config::check(&loaded).unwrap();
        let admin = listen().await;
        self.admin_in = admin.local_addr().unwrap();
        self.inn = Some(Running::start(|stop| tokio::spawn(gateway_in::app::run(settings, admin, stop))));
    }

    pub(crate) async fn start_out(&mut self) {
        let settings = self.out_settings();
        let plain = listen().await;
        self.dicom = plain.local_addr().unwrap();
        let ports = gateway_out::intake::Ports { plain: Some(plain), tls: None };
        let listeners = gateway_out::app::Listeners {
            dicom: ports,
            admin: listen().await,
            supervisor: Default::default(),
        };
        self.admin_out = listeners.admin.local_addr().unwrap();
        self.out =
            Some(Running::start(|stop| tokio::spawn(gateway_out::app::run(settings, listeners, stop))));
    }

    fn out_settings(&self) -> gateway_out::settings::Settings {
        let file = self.path("gateway-out.toml");
        let mut loaded =
            service::config::load::<gateway_out::config::Config>(&file, "SLUIS_NOT_SET_").unwrap();
        let config = &mut loaded.config;
        config.retry.first = Span(Duration::from_millis(100));
        config.retry.max = Span(Duration::from_secs(600));
        config.retry.fail_over = Span(Duration::from_secs(1));
        (self.plan.out)(config);
        gateway_out::config::Config::check(&loaded).unwrap()
    }

    pub(crate) async fn stop_out(&mut self) {
        self.out.take().unwrap().stop().await;
    }

    pub(crate) async fn stop_relay(&mut self) {
        self.stop_relay_number(0).await;
    }

    pub(crate) async fn stop_relay_number(&mut self, number: usize) {
        self.relays[number].take().unwrap().stop().await;
    }

    pub(crate) async fn stop_in(&mut self) {
        self.inn.take().unwrap().stop().await;
    }

    /// What an operator's commands see of the outbox, whether the gateway runs or not.
    pub(crate) fn queue(&self) -> Queue {
        let settings = self.out_settings();
        let (key, index_key) = gateway_out::app::outbox_keys(&settings.outbox).unwrap();
        let config = gateway_out::app::outbox_config(&settings.outbox, settings.retry.policy());
        Outbox::open_admin(config, key, index_key).unwrap()
    }

    /// All deliveries, oldest first.
    pub(crate) async fn deliveries(&self) -> Vec<Delivery> {
        all(&self.queue()).await
    }

    /// Waits until every delivery is in this state, and there are this many.
    pub(crate) async fn all_in(&self, state: State, count: usize) -> Vec<Delivery> {
        let queue = self.queue();
        let reached = async || {
            let rows = all(&queue).await;
            rows.len() == count && rows.iter().all(|row| row.state == state)
        };
        let there = testkit::eventually(PATIENCE, reached).await;
        let rows = all(&queue).await;
        let states = rows.iter().map(|row| (row.state, row.status, row.reason.clone())).collect::<Vec<_>>();
        assert!(there, "not {count} deliveries in {state}, but {states:?}");
        rows
    }

    /// The receipts of a delivery, verified as an auditor would.
    pub(crate) async fn receipts(&self, row: &Delivery) -> Vec<ledger::Receipt> {
        let receipts = self.queue().receipts_of(row.delivery).await.unwrap();
        let verified = receipts.iter().map(|stored| {
            let file =
                ledger::ReceiptFile::from_parts(&stored.receipt, &stored.settlement, Some(&stored.manifest))
                    .unwrap();
            file.verify(&self.card(IN)).unwrap().clone()
        });
        verified.collect()
    }

    /// Waits until gateway-out is connected to these relays, and to no other.
    pub(crate) async fn connected_to(&self, numbers: &[usize]) {
        until("the uplinks", async || {
            let status = service::admin::fetch_status(self.admin_out).await.unwrap();
            (0..self.plan.relays)
                .all(|number| (status["relays"][number]["connected"] == true) == numbers.contains(&number))
        })
        .await;
    }

    /// gateway-out's `/status`.
    pub(crate) async fn status_out(&self) -> serde_json::Value {
        service::admin::fetch_status(self.admin_out).await.unwrap()
    }

    /// gateway-in's `/status`.
    pub(crate) async fn status_in(&self) -> serde_json::Value {
        service::admin::fetch_status(self.admin_in).await.unwrap()
    }
}

async fn all(queue: &Queue) -> Vec<Delivery> {
    queue.list(Filter { open: false, ..Filter::default() }).await.unwrap()
}

async fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

fn outward_route(route: &RouteSpec) -> outward::RouteOptions {
    outward::RouteOptions {
        id: route.id,
        ae: ae(&route.ae),
        to: name(IN),
        destination: name(route.destination),
        suite: route.suite,
        respond: route.respond,
    }
}

fn inward_route(route: &RouteSpec) -> inward::RouteOptions {
    inward::RouteOptions {
        id: route.id,
        from: name(route.from),
        destination: name(route.destination),
        suite: route.suite,
    }
}

fn destination((called, target): &(&'static str, inward::TargetOptions)) -> inward::DestinationOptions {
    inward::DestinationOptions { name: name(called), target: target.clone() }
}
