//! Puts gateway-in together: what its parts share, and the order in which they start and stop.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use base::Timestamp;
use dimse::Passed;
use ledger::Party;
use serde_json::{Value, json};
use service::{
    Contacts, Ended, LastReload, Reloads, Supervisor, Tasks,
    admin::{Admin, Readiness},
    config::FilesRead,
    expiry,
    own::LiveOwn,
    pages::{Answer, Ask},
    peers::{self, Relay},
    rotation, trace,
    witness::LogWitness,
};
use spool::Inbound;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transport::{Downlink, DownlinkConfig};

use crate::{
    acks,
    asked::Desk,
    commitment,
    config::Settings,
    destination::{self, Changes, Destination, HealthState},
    inbox::Inbox,
    links::Link,
    reload::{self, Last, Live, RouteQueues},
    signer::{self, Signer},
    tables::Table,
};

/// How long running deliveries may take to end after the signal to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// The opened ports.
#[derive(Debug)]
pub struct Listeners {
    /// Of the admin interface.
    pub admin: TcpListener,
    /// Of destinations that report on associations of their own.
    pub reports: commitment::Ports,
    /// The service manager, which hears when all of it is served.
    pub supervisor: Supervisor,
}

impl From<TcpListener> for Listeners {
    fn from(admin: TcpListener) -> Self {
        Self { admin, reports: commitment::Ports::default(), supervisor: Supervisor::default() }
    }
}

/// Runs until `stop` ends: then nothing new is collected, what is under way ends, and the rest stays
/// with the relay and its sender.
pub async fn run(settings: Settings, listeners: impl Into<Listeners>, stop: CancellationToken) -> Result<()> {
    let Listeners { admin, reports, supervisor } = listeners.into();
    let inbound = Inbound::open(&settings.ledger_dir, Timestamp::now())?;
    let left_over = signer::sign_left_over(&settings.own.identity, &inbound).await?;
    if left_over > 0 {
        info!(answers = left_over, "answers of an earlier run signed");
    }
    // Stopped one after the other: who collects, who delivers, who signs and answers.
    let (mut collecting, mut delivering, mut signing) = (Tasks::new(), Tasks::new(), Tasks::new());
    let changes = Changes::default();
    let mut destinations = HashMap::new();
    for (name, table) in &settings.destinations {
        let destination = Destination::open(table, &changes, &mut delivering)
            .with_context(|| format!("destination {name} cannot be opened"))?;
        destinations.insert(name.clone(), Arc::new(destination));
    }
    let tables = destinations.iter().map(|(name, destination)| {
        (name.clone(), Table::open(&settings.ledger_dir, destination, &mut delivering))
    });
    let tables = tables.collect::<HashMap<_, _>>();
    let own = LiveOwn::new(settings.own.clone());
    let receiver = Party { name: settings.own.identity.name().clone(), fingerprint: settings.own.id() };
    let mut witnesses = Vec::new();
    for relay in &settings.relays {
        let (log, own) = (relay.card.log.clone(), Arc::clone(&settings.own.log_key));
        let witness = LogWitness::open(&settings.ledger_dir, &relay.name, log, own)?;
        witness.pin(&relay.card);
        witnesses.push(Arc::new(witness.with_silence(settings.transparency.silent_after.duration())));
    }
    let signer = Signer::start(own.signs(), witnesses.clone(), inbound.clone(), &mut signing);
    let inbox = Arc::new(Inbox::new(&settings, destinations, receiver, changes, inbound, signer));

    let desk = Arc::new(Desk::new(Arc::clone(&inbox), own.signs(), tables));

    let (route_queues, adding) = RouteQueues::new();
    collecting.spawn("admission", reload::admit_all(Arc::clone(&inbox), adding));
    for route in inbox.all_routes() {
        route_queues.add(route.id).await;
    }
    let (acks, acknowledged) = acks::queue();
    collecting.spawn("acknowledgements", acks::run(Arc::clone(&inbox), witnesses.clone(), acknowledged));
    let heard = Arc::new(Contacts::default());
    let mut links = Vec::new();
    let mut downlinks = Vec::new();
    for (relay, witness) in settings.relays.iter().zip(&witnesses) {
        let witness = Arc::clone(witness);
        let config =
            DownlinkConfig::new(relay.address.to_string(), relay.card.clone(), &settings.own.identity);
        let (downlink, events, task) = Downlink::start(config);
        downlinks.push((relay.name.clone(), downlink.clone()));
        let link = Link {
            name: relay.name.clone(),
            own: own.clone(),
            inbox: Arc::clone(&inbox),
            downlink,
            queues: route_queues.queues(),
            acks: acks.clone(),
            witness,
            resubmit_after: settings.transparency.resubmit_after.duration(),
            desk: Arc::clone(&desk),
            heard: Arc::clone(&heard),
        };
        collecting.spawn(format!("relay {}", relay.name), link.run(events, collecting.token()));
        links.push(task);
    }
    drop(acks);
    let linked = downlinks.iter().map(|(_, downlink)| downlink.clone()).collect();
    let tell = (own.clone(), linked);
    commitment::start(&inbox, settings.commitment.as_ref(), reports, tell, &mut collecting).await?;
    let mut answering = Tasks::new();
    let (reloads, requests) = Reloads::new()?;
    let (source, last) = (settings.source.clone(), Last::default());
    let files = service::Live::new(Arc::new(settings.files.clone()));
    let relays = service::Live::new(Arc::new(settings.relays.clone()));
    let live = Live {
        inbox: Arc::clone(&inbox),
        queues: route_queues,
        downlinks: downlinks.clone(),
        relays: relays.clone(),
        commitment: settings.commitment.clone(),
        looked: Timestamp::now(),
        own: own.clone(),
        witnesses: witnesses.clone(),
        last: Arc::clone(&last),
        fixed: settings.fixed.clone(),
        files: files.clone(),
    };
    let settings = Arc::new(settings);
    let (watched, pinned) = (own.clone(), relays.clone());
    let moments = move || [watched.now().moments(), peers::moments(&pinned.now())].concat();
    let moments = rotation::watch(moments, reloads.clone(), answering.token());
    answering.spawn("rotation", moments);
    let status = Status {
        inbox: Arc::clone(&inbox),
        downlinks,
        settings,
        own,
        relays,
        last,
        witnesses,
        desk,
        heard,
        files,
        started_at: Timestamp::now(),
    };
    let watched = status.clone();
    answering.spawn("expiry", expiry::watch(move |now| watched.alarms(now), answering.token()));
    answering.spawn("admin", serve_admin(status, admin, reloads, answering.token()));
    info!(routes = inbox.all_routes().count(), "gateway-in is running");
    supervisor.ready();
    answering.spawn("supervisor", supervisor.clone().keep_informed::<anyhow::Error>(answering.token()));

    let failed = tokio::select! {
        () = stop.cancelled() => None,
        () = live.run(&source, requests) => None,
        ended = first_ended([&mut collecting, &mut delivering, &mut signing, &mut answering]) => Some(ended),
    };
    info!("stopping: nothing new is collected; what is under way ends first");
    supervisor.stopping();
    report(&collecting.drain(DRAIN_DEADLINE).await);
    drop(inbox);
    for task in links {
        task.stop().await;
    }
    report(&answering.drain(Duration::from_secs(1)).await);
    report(&delivering.drain(Duration::from_secs(5)).await);
    report(&signing.drain(Duration::from_secs(5)).await);
    match failed {
        None => Ok(()),
        Some(ended) => Err(anyhow::anyhow!("{ended}")),
    }
}

/// None of the tasks ends by itself.
async fn first_ended(groups: [&mut Tasks; 4]) -> Ended {
    let [a, b, c, d] = groups;
    tokio::select! {
        Some(ended) = a.next_ended() => ended,
        Some(ended) = b.next_ended() => ended,
        Some(ended) = c.next_ended() => ended,
        Some(ended) = d.next_ended() => ended,
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

/// What the admin port tells. No patient data.
#[derive(Clone)]
pub(crate) struct Status {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) downlinks: Vec<(base::Name, Downlink)>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) own: LiveOwn,
    pub(crate) relays: service::Live<Vec<Relay>>,
    pub(crate) last: Last,
    pub(crate) witnesses: Vec<Arc<LogWitness>>,
    desk: Arc<Desk>,
    /// Relays, by whatever came from them.
    pub(crate) heard: Arc<Contacts>,
    pub(crate) files: service::Live<FilesRead>,
    pub(crate) started_at: Timestamp,
}

impl Status {
    /// Ready is: the ledger can be written, and no relay's log broke its promise. A relay or destination that is away makes instances wait.
    pub(crate) fn readiness(&self) -> Readiness {
        let broken = self.settings.relays.iter().zip(&self.witnesses);
        if let Some((relay, distrust)) =
            broken.filter_map(|(relay, log)| Some((relay, log.distrust()?))).next()
        {
            return Readiness::NotReady(format!("relay {} is not used: {distrust}", relay.name));
        }
        match self.inbox.inbound.health() {
            Ok(()) => Readiness::Ready,
            Err(error) => Readiness::NotReady(error.to_string()),
        }
    }

    /// Cards that end soon: ours, and those that we have pinned.
    pub(crate) fn alarms(&self, now: Timestamp) -> Vec<String> {
        let routes: Vec<_> = self.inbox.all_routes().collect();
        let peers = routes.iter().map(|route| &route.sender);
        let relays = self.relays.now();
        let relays = relays.iter().map(|relay| &relay.card);
        expiry::all_alarms(&self.own.now(), peers.chain(relays), now)
    }

    /// When our card and the pinned ones end.
    fn card_ends(&self) -> Vec<(String, u64)> {
        let (own, routes) = (self.own.now(), self.inbox.all_routes().collect::<Vec<_>>());
        let relays = self.relays.now();
        let cards = std::iter::once(&own.card)
            .chain(routes.iter().map(|route| &route.sender))
            .chain(relays.iter().map(|relay| &relay.card));
        service::metrics::card_ends(cards)
    }

    async fn json(&self) -> Value {
        let relays = self
            .downlinks
            .iter()
            .zip(&self.witnesses)
            .map(|((name, link), witness)| json!({ "name": name, "connected": link.is_connected(), "round_trip_us": link.round_trip().map(|time| time.as_micros()), "refused": link.refusal(), "log": witness.json() }));
        let silent = self.witnesses.iter().filter_map(|witness| witness.alarm());
        let destinations = self.inbox.all_destinations().map(|destination| {
            json!({
                "name": destination.settings.name,
                "up": destination.health.may_be_asked(),
                "tried": destination.health.state() != HealthState::Untried,
                "accepts": self.desk.table_json(&destination.settings.name),
            })
        });
        json!({
            "role": "gateway-in",
            "version": env!("CARGO_PKG_VERSION"),
            "name": self.settings.own.identity.name(),
            "fingerprint": identity::fingerprint_text(&self.own.identity().fingerprint()),
            "alarms": self.alarms(Timestamp::now()).into_iter().chain(silent).collect::<Vec<_>>(),
            "last_reload": self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(LastReload::json),
            "relays": relays.collect::<Vec<_>>(),
            "destinations": destinations.collect::<Vec<_>>(),
            "in_flight": self.inbox.in_flight(),
            "nacks": self.inbox.nacks.given().map(|(reason, count)| (reason.as_str(), count)).collect::<BTreeMap<_, _>>(),
            "commitment": pledges_json(&self.inbox.inbound).await,
            "ledger": ledger_json(&self.inbox.inbound).await,
        })
    }
}

/// What destinations are asked to commit to, and senders wait for.
async fn pledges_json(inbound: &Inbound) -> Value {
    match inbound.pledge_counts().await {
        Ok(counts) => {
            let states = counts.iter().map(|(state, count)| (state.to_string(), json!(count)));
            Value::Object(states.collect())
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Counts of the settled ledger. Also what `status` shows when the daemon is not running.
pub async fn ledger_json(inbound: &Inbound) -> Value {
    match inbound.counts().await {
        Ok(counts) => {
            let states = counts.states.iter().map(|(state, count)| (state.to_string(), json!(count)));
            json!({
                "states": states.collect::<serde_json::Map<_, _>>(),
                "stored": counts.stored,
                "refused": counts.refused,
                "repeats_after_unknown_outcome": counts.repeats,
            })
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

async fn serve_admin(
    status: Status,
    listener: TcpListener,
    reloads: Reloads,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let ready = {
        let status = status.clone();
        move || {
            let status = status.clone();
            async move { status.readiness() }
        }
    };
    let (probing, echoing) = (Arc::clone(&status.desk), Arc::clone(&status.desk));
    let tls = status.settings.admin_tls.clone();
    let shown = status.clone();
    let json = move || {
        let status = status.clone();
        async move { status.json().await }
    };
    let probe = move |ask: Value| {
        let desk = Arc::clone(&probing);
        async move { desk.probe_command(&ask).await }
    };
    let echo = move |ask: Value| {
        let desk = Arc::clone(&echoing);
        async move { desk.echo_command(&ask).await }
    };
    let pages = move |ask: Ask| {
        let status = shown.clone();
        async move {
            if ask.path == "/" {
                return Answer::html(crate::page::overview(&status, Timestamp::now()).await.render());
            }
            let ready = status.readiness() == Readiness::Ready;
            let (ledger, ends) = (status.settings.ledger_dir.clone(), status.card_ends());
            Answer::text(crate::metrics::render(&status.json().await, ready, &ledger, &ends))
        }
    };
    let admin =
        Admin::new(ready, json).with_tls(tls).with_reload(reloads).with_pages(&["/", "/metrics"], pages);
    let admin = admin.merge(trace::routes(|| destination::tracer().follow(), Passed::is_of, stop.clone()));
    admin.with_action("/probe", probe).with_action("/echo", echo).serve(listener, stop).await
}
