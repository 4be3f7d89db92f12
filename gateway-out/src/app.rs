//! Puts gateway-out together: what its parts share, and the order in which they start and stop.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use base::{Digest, Name, Timestamp};
use dimse::{Passed, Tracer};
use identity::IdentityKey;
use serde_json::Value;
use service::{
    Clocks, Contacts, LastReload, Live, Reloads, Supervisor, Tasks,
    admin::Admin,
    config::FilesRead,
    expiry,
    own::LiveOwn,
    pages::{Answer, Ask},
    peers::{self, Relay},
    rotation, trace,
    witness::LogWitness,
};
use spool::{IndexKey, Outbox, OutboxConfig, OutboxKey, RetryPolicy};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transport::{Uplink, UplinkConfig};

use crate::{
    asks,
    commitment::{self, Commitments},
    countersign::{self, Countersign},
    dispatch::{self, Dispatch},
    echo,
    flights::{self, Flights},
    folders, intake,
    lanes::Lanes,
    mirror, pseudonymize, rejections, relays, reload, rotate,
    sessions::Sessions,
    settings::{OutboxSettings, Settings},
    settle,
    strays::Strays,
    tail::Memory,
    waiting::Waiting,
};

/// How long running associations and deposits may take to end after the signal to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// What all parts of a running gateway-out share.
pub struct Shared {
    /// The checked configuration.
    pub settings: Settings,
    /// Our keys of this moment.
    pub own: LiveOwn,
    /// The durable outbox.
    pub outbox: Outbox,
    /// Wakes the dispatcher.
    pub dispatch: Dispatch,
    /// Which instances go at once, and which wait in the outbox.
    pub lanes: Lanes,
    /// What is known of deposits under way.
    pub flights: Flights,
    /// Small bodies in memory.
    pub memory: Memory,
    /// Large headers in memory, of instances that are pseudonymized.
    pub headers: pseudonymize::stage::Places,
    /// One session a leg.
    pub sessions: Sessions,
    /// Signs what was sent, once its receipt is here.
    pub countersign: Countersign,
    /// Requests for storage commitment.
    pub commitment: Commitments,
    /// Watched folders.
    pub folders: folders::Folders,
    /// PACS that wait for a destination's answer (`respond = "delivered"`).
    pub waiting: Waiting,
    /// Answers for deliveries that the outbox does not know.
    pub strays: Strays,
    /// Links to relays, the preferred one first.
    pub uplinks: Vec<Uplink>,
    /// The relays as they are pinned now.
    pub pinned_relays: Live<Vec<Relay>>,
    /// Where what was deposited may still lie.
    pub relays: relays::Watch,
    /// What is believed of each relay's log, in the order of the links.
    pub witnesses: Vec<Arc<LogWitness>>,
    /// Questions of a route, one after another.
    pub turns: asks::Turns,
    /// What the destinations accept.
    pub tables: mirror::Tables,
    /// The last C-ECHO through the whole path, for each route.
    pub echoes: echo::Echoes,
    /// Who was turned away lately.
    pub rejections: rejections::Lately,
    /// Counts of this run.
    pub counters: crate::status::Counters,
    /// Shows what passes on associations to who asks for it.
    pub tracer: Tracer,
    /// Who was heard of, and when.
    pub heard: Heard,
    /// How the last reload ended, if there was one.
    pub last_reload: Mutex<Option<LastReload>>,
    /// The configuration as it was read last and could be used.
    pub files: Live<FilesRead>,
    /// When this run began.
    pub started_at: Timestamp,
    /// The sequence of the newest delivery of the runs before.
    pub newest_at_start: u64,
}

/// When somebody was heard of last.
#[derive(Debug, Default)]
pub struct Heard {
    /// Receiving gateways, by settlements that verified.
    pub receivers: Contacts,
    /// Relays.
    pub relays: Contacts,
    /// The clocks of receiving gateways, by their receipts.
    pub clocks: Clocks,
}

impl Shared {
    /// Our identity of this moment.
    pub fn identity(&self) -> Arc<IdentityKey> {
        self.own.identity()
    }

    /// Our name, whichever keys we use.
    pub fn name(&self) -> &Name {
        self.settings.own.identity.name()
    }

    /// Cards that end soon: ours, and those that we have pinned.
    pub fn alarms(&self, now: Timestamp) -> Vec<String> {
        let legs = self.settings.routes.legs();
        let peers = legs.iter().map(|leg| &leg.receiver);
        let relays = self.pinned_relays.now();
        let relays = relays.iter().map(|relay| &relay.card);
        let mut alarms = expiry::all_alarms(&self.own.now(), peers.chain(relays), now);
        alarms.extend(self.heard.clocks.alarms());
        alarms
    }

    /// All that somebody has to look at.
    pub fn all_alarms(&self, now: Timestamp) -> Vec<String> {
        let silent = self.witnesses.iter().filter_map(|witness| witness.alarm());
        self.alarms(now).into_iter().chain(silent).chain(self.folders.alarms()).collect()
    }

    /// Notes how a reload ended.
    pub fn reloaded(&self, reloaded: &service::Reloaded) {
        let last = LastReload::now(reloaded);
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// The first relay that is connected and whose log has kept its promise.
    pub fn uplink(&self) -> Option<&Uplink> {
        let usable =
            |(uplink, witness): &(&Uplink, &Arc<LogWitness>)| uplink.is_connected() && witness.is_trusted();
        self.uplinks.iter().zip(&self.witnesses).find(usable).map(|(uplink, _)| uplink)
    }

    /// How the DICOM port accepts.
    pub fn acceptor(&self) -> dimse::AcceptorConfig {
        self.settings.dicom.acceptor()
    }

    /// The profile digest of a route without pseudonymization.
    pub fn no_profile() -> Digest {
        spool::SealedFacts::no_profile()
    }
}

/// Ports that are open already, so that tests choose them and nothing is opened on a bad configuration.
#[derive(Debug)]
pub struct Listeners {
    /// C-STORE comes in here.
    pub dicom: intake::Ports,
    /// Health and status.
    pub admin: TcpListener,
    /// The service manager, which hears when all of it is served.
    pub supervisor: Supervisor,
}

impl Listeners {
    /// Takes over ports that were opened before the runtime started: DICOM without and with TLS, and the admin port.
    pub fn adopt(
        plain: Option<std::net::TcpListener>,
        tls: Option<std::net::TcpListener>,
        admin: std::net::TcpListener,
        supervisor: Supervisor,
    ) -> std::io::Result<Self> {
        let dicom = intake::Ports {
            plain: plain.map(TcpListener::from_std).transpose()?,
            tls: tls.map(TcpListener::from_std).transpose()?,
        };
        Ok(Self { dicom, admin: TcpListener::from_std(admin)?, supervisor })
    }
}

/// Opens the outbox with its two keys.
pub fn outbox_config(settings: &OutboxSettings, retry: RetryPolicy) -> OutboxConfig {
    OutboxConfig {
        bytes_max: settings.bytes_max,
        reserve_bytes: settings.reserve,
        retry,
        ..OutboxConfig::new(settings.dir.clone())
    }
}

/// The keys of the outbox.
pub fn outbox_keys(settings: &OutboxSettings) -> Result<(OutboxKey, IndexKey)> {
    Ok((OutboxKey::load(&settings.key)?, IndexKey::load(&settings.index_key)?))
}

/// Runs until `stop` ends: then nothing new is accepted, what is under way ends, and the rest waits in
/// the outbox.
pub async fn run(settings: Settings, listeners: Listeners, stop: CancellationToken) -> Result<()> {
    let retry = settings.retry.policy();
    let outbox = rotate::open(&settings.outbox, |key, index_key| {
        Outbox::open(outbox_config(&settings.outbox, retry), key, index_key, Timestamp::now())
    })?;
    let newest_at_start = outbox.newest().await?;
    let (dispatch, orders) = Dispatch::new();
    let mut links = Vec::new();
    let (mut uplinks, mut witnesses) = (Vec::new(), Vec::new());
    for relay in &settings.relays {
        let config = UplinkConfig::new(relay.address.to_string(), relay.card.clone(), &settings.own.identity);
        let (uplink, events, task) = Uplink::start(config);
        let (log, own) = (relay.card.log.clone(), Arc::clone(&settings.own.log_key));
        let witness = LogWitness::open(&settings.outbox.dir, &relay.name, log, own)?;
        witness.pin(&relay.card);
        let witness = Arc::new(witness.with_silence(settings.transparency.silent_after.duration()));
        witnesses.push(Arc::clone(&witness));
        uplinks.push(uplink.clone());
        links.push((relay.name.clone(), uplink, witness, events, task));
    }
    let own = LiveOwn::new(settings.own.clone());
    let sessions = Sessions::new(own.signs(), settings.routes.legs().iter().map(|leg| leg.id));
    let pinned_relays = Live::new(Arc::new(settings.relays.clone()));
    let files = Live::new(Arc::new(settings.files.clone()));
    let lanes = Lanes::new(settings.retry.deposits_per_route);
    let relays = relays::Watch::new(uplinks.len(), settings.retry.fail_over.0, Timestamp::now());
    let (countersign, to_sign) = Countersign::new();
    let tables =
        mirror::Tables::open(&settings.outbox.dir, settings.own.id(), &mirror::legs(&settings.routes));
    let folders = folders::Folders::new(&settings.watched);
    let shared = Arc::new(Shared {
        own,
        settings,
        outbox,
        dispatch,
        lanes,
        flights: Flights::default(),
        memory: Memory::default(),
        headers: pseudonymize::stage::Places::default(),
        sessions,
        countersign,
        commitment: Commitments::default(),
        folders,
        waiting: Waiting::default(),
        strays: Strays::default(),
        relays,
        pinned_relays,
        uplinks,
        witnesses,
        turns: asks::Turns::default(),
        tables,
        echoes: echo::Echoes::default(),
        rejections: rejections::Lately::default(),
        counters: crate::status::Counters::default(),
        tracer: Tracer::default(),
        heard: Heard::default(),
        last_reload: Mutex::default(),
        files,
        started_at: Timestamp::now(),
        newest_at_start,
    });

    // Groups, stopped one after the other: who accepts, who sends, who hears answers, who signs for them.
    let (mut accepting, mut sending, mut answering) = (Tasks::new(), Tasks::new(), Tasks::new());
    accepting.spawn("intake", intake::run(Arc::clone(&shared), listeners.dicom, accepting.token()));
    accepting.spawn("watched folders", folders::run(Arc::clone(&shared), accepting.token()));
    sending.spawn("dispatch", dispatch::run(Arc::clone(&shared), orders, sending.token()));
    sending.spawn("commitment", commitment::run(Arc::clone(&shared), sending.token()));
    let mut signing = Tasks::new();
    let countersigning =
        countersign::run(shared.own.signs(), shared.witnesses.clone(), to_sign, signing.token());
    signing.spawn("countersign", countersigning);
    sending.spawn("mirror", mirror::run(Arc::clone(&shared), sending.token()));
    answering.spawn("flights", flights::run(Arc::clone(&shared), answering.token()));
    let mut link_tasks = Vec::new();
    for (place, (name, uplink, witness, events, task)) in links.into_iter().enumerate() {
        let settling = settle::run(Arc::clone(&shared), (place, name.clone()), (uplink, witness), events);
        answering.spawn(format!("settle {name}"), settling);
        link_tasks.push(task);
    }
    let mut admin_tasks = Tasks::new();
    let watched = Arc::clone(&shared);
    admin_tasks.spawn("expiry", expiry::watch(move |now| watched.alarms(now), admin_tasks.token()));
    let (ours, stopped) = (Arc::clone(&shared), admin_tasks.token());
    admin_tasks.spawn("clock", async move { ours.heard.clocks.watch(stopped).await });
    let (reloads, requests) = Reloads::new()?;
    let (watched, pinned) = (shared.own.clone(), shared.pinned_relays.clone());
    let moments = move || [watched.now().moments(), peers::moments(&pinned.now())].concat();
    let moments = rotation::watch(moments, reloads.clone(), admin_tasks.token());
    admin_tasks.spawn("rotation", moments);
    let (rewraps, rewrapping) = Reloads::without_signal();
    let asks = [("/reload", reloads), (rotate::PATH, rewraps)];
    let admin = serve_admin(Arc::clone(&shared), listeners.admin, asks, admin_tasks.token());
    admin_tasks.spawn("admin", admin);
    info!(
        dicom = shared.settings.dicom.listen.map(tracing::field::display),
        dicom_tls = shared.settings.dicom.tls.as_ref().map(|tls| tracing::field::display(tls.listen)),
        routes = shared.settings.routes.iter().count(),
        fingerprint = %identity::fingerprint_text(&shared.identity().fingerprint()),
        "gateway-out is running"
    );
    let supervisor = listeners.supervisor;
    supervisor.ready();
    answering.spawn("supervisor", supervisor.clone().keep_informed::<anyhow::Error>(answering.token()));

    let failed = tokio::select! {
        () = stop.cancelled() => None,
        () = reload::run(&shared, requests) => None,
        () = rotate::serve(&shared, rewrapping) => None,
        ended = first_failure([&mut accepting, &mut sending, &mut answering, &mut signing, &mut admin_tasks]) => Some(ended),
    };
    info!("stopping: no new associations; what is under way ends first");
    supervisor.stopping();
    for group in [&mut accepting, &mut sending] {
        report(&group.drain(DRAIN_DEADLINE).await);
    }
    for task in link_tasks {
        task.stop().await;
    }
    report(&answering.drain(DRAIN_DEADLINE).await);
    report(&signing.drain(Duration::from_secs(1)).await);
    report(&admin_tasks.drain(Duration::from_secs(1)).await);
    match failed {
        None => Ok(()),
        Some(ended) => Err(anyhow::anyhow!("{ended}")),
    }
}

/// None of the tasks ends by itself.
async fn first_failure(groups: [&mut Tasks; 5]) -> service::Ended {
    let [a, b, c, d, e] = groups;
    tokio::select! {
        Some(ended) = a.next_ended() => ended,
        Some(ended) = b.next_ended() => ended,
        Some(ended) = c.next_ended() => ended,
        Some(ended) = d.next_ended() => ended,
        Some(ended) = e.next_ended() => ended,
        else => std::future::pending().await,
    }
}

fn report(drained: &service::Drained) {
    for ended in &drained.failed {
        warn!(task = %ended, "failed while stopping");
    }
    for name in &drained.late {
        warn!(task = %name, "did not stop in time and was aborted");
    }
}

async fn serve_admin(
    shared: Arc<Shared>,
    listener: TcpListener,
    asks: [(&'static str, Reloads); 2],
    stop: CancellationToken,
) -> std::io::Result<()> {
    let (tls, tracer) = (shared.settings.admin_tls.clone(), shared.tracer.clone());
    let shown = Arc::clone(&shared);
    let ready = {
        let shared = Arc::clone(&shared);
        move || {
            let shared = Arc::clone(&shared);
            async move { crate::status::readiness(&shared) }
        }
    };
    let status = {
        let shared = Arc::clone(&shared);
        move || {
            let shared = Arc::clone(&shared);
            async move { crate::status::status(&shared).await }
        }
    };
    let (echoing, mirroring, turning_away) = (Arc::clone(&shared), Arc::clone(&shared), shared);
    let echo = move |ask: Value| {
        let shared = Arc::clone(&echoing);
        async move { echo::command(&shared, &ask).await }
    };
    let mirror = move |ask: Value| {
        let shared = Arc::clone(&mirroring);
        async move { mirror::command(&shared, &ask).await }
    };
    let rejections = move |_: Value| {
        let shared = Arc::clone(&turning_away);
        async move { Ok(shared.rejections.json()) }
    };
    let pages = move |ask: Ask| {
        let shared = Arc::clone(&shown);
        async move {
            match ask.path.as_str() {
                "/metrics" => Answer::text(crate::metrics::render(&shared).await),
                _ => Answer::html(crate::page::overview(&shared, Timestamp::now()).await.render()),
            }
        }
    };
    let admin = Admin::new(ready, status).with_tls(tls).with_pages(&["/", "/metrics"], pages);
    let admin = asks.into_iter().fold(admin, |admin, (path, ask)| admin.with_request(path, ask));
    let admin = admin.with_action("/echo", echo).with_action("/mirror", mirror);
    let admin = admin.merge(trace::routes(move || tracer.follow(), Passed::is_of, stop.clone()));
    admin.with_action("/rejections", rejections).serve(listener, stop).await
}
