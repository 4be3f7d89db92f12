//! Peers, relays and routes are read again while gateway-in runs: all of it is taken over at once, or nothing.

use std::{
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use base::{Name, RouteId, Timestamp};
use serde_json::json;
use service::{
    Fixed, LastReload, ReloadRequests, Reloaded,
    config::{self, FilesRead},
    own::LiveOwn,
    peers::{LinkChange, Relay, RelaysReloaded},
    witness::LogWitness,
};
use tokio::sync::mpsc;
use tracing::{info, warn};
use transport::{Downlink, DownlinkConfig, IncomingOffer};

use crate::{
    commitment,
    config::{Config, Settings, Target},
    inbox::{self, Inbox, OFFERS_MAX},
    links::Queues,
};

/// Routes that wait for their admission to begin.
const ADDED_MAX: usize = 1024;

/// A route's queue of offers.
pub type Offers = mpsc::Receiver<(Downlink, IncomingOffer)>;

/// How the last reload ended, if there was one.
pub type Last = Arc<Mutex<Option<LastReload>>>;

/// Gives routes a queue each, and takes it away.
#[derive(Clone)]
pub struct RouteQueues {
    queues: Queues,
    added: mpsc::Sender<Offers>,
}

impl RouteQueues {
    /// Both ends: the second runs [`admit_all`].
    pub fn new() -> (Self, mpsc::Receiver<Offers>) {
        let (added, adding) = mpsc::channel(ADDED_MAX);
        (Self { queues: Queues::default(), added }, adding)
    }

    /// Where links find them.
    pub fn queues(&self) -> Queues {
        self.queues.clone()
    }

    /// A queue for this route.
    pub async fn add(&self, route: RouteId) {
        let (queue, offers) = mpsc::channel(OFFERS_MAX);
        self.queues.insert(route, queue);
        // It ends only with the daemon.
        let _ = self.added.send(offers).await;
    }

    fn remove(&self, route: RouteId) {
        self.queues.remove(route);
    }
}

/// Admits the offers of every route that is added, until no more are added and all queues are closed.
pub async fn admit_all(inbox: Arc<Inbox>, mut adding: mpsc::Receiver<Offers>) -> Result<(), Infallible> {
    let mut running = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            offers = adding.recv() => match offers {
                Some(offers) => drop(running.spawn(inbox::admit(Arc::clone(&inbox), offers))),
                None => break,
            },
            Some(ended) = running.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a route's admission stopped");
                }
            }
        }
    }
    while running.join_next().await.is_some() {}
    Ok(())
}

/// What a reload changes.
pub struct Live {
    /// Sessions, routes, deliveries under way.
    pub inbox: Arc<Inbox>,
    /// The routes' queues.
    pub queues: RouteQueues,
    /// Links of the relays known at the start.
    pub downlinks: Vec<(Name, Downlink)>,
    /// The relays as they are now.
    pub relays: service::Live<Vec<Relay>>,
    /// The ports for commitment reports.
    pub commitment: Option<commitment::CommitmentSettings>,
    /// When they were looked at last.
    pub looked: Timestamp,
    /// Our keys.
    pub own: LiveOwn,
    /// What is believed of the relays' logs, in the order of the links.
    pub witnesses: Vec<Arc<LogWitness>>,
    /// Told to `status`.
    pub last: Last,
    /// What a reload does not take over.
    pub fixed: Fixed,
    /// The configuration as it was read last and could be used.
    pub files: service::Live<FilesRead>,
}

impl Live {
    /// Takes over whatever the files say, each time somebody asks. Never ends by itself.
    pub async fn run(mut self, source: &Path, mut requests: ReloadRequests) {
        loop {
            let request = requests.next().await;
            let reloaded = match tokio::task::block_in_place(|| read(source)) {
                Err(error) => Err(error.to_string()),
                Ok(settings) => self.take_over(settings).await,
            };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(LastReload::now(&reloaded));
            request.answer(reloaded);
        }
    }

    async fn take_over(&mut self, settings: Settings) -> Reloaded {
        if let Some(route) = settings.routes.values().find(|route| self.inbox.destination(route).is_none()) {
            return Err(format!("destination {} is new: restart to use it", route.destination));
        }
        if let Some(why) = self.own.refuses(&settings.own) {
            return Err(why);
        }
        let mut waiting = self.fixed.waiting(&settings.fixed);
        self.exchange_certificates(&settings);
        let routes = settings.routes.len();
        let (over, new) = self.inbox.exchange_routes(settings.routes);
        for route in &over {
            self.queues.remove(*route);
        }
        for route in &new {
            self.queues.add(route.id).await;
        }
        self.inbox.routes_changed(&over);
        let rotated = self.own.exchange(settings.own);
        let own = self.own.now();
        self.inbox.with_sessions(|sessions| sessions.are(own.fingerprints()));
        if rotated {
            let fingerprint = identity::fingerprint_text(&own.identity.fingerprint());
            info!(fingerprint, card = own.card.serial, "our new keys are used from now on");
            self.witnesses.iter().for_each(|witness| witness.cosign_with(Arc::clone(&own.log_key)));
        }
        self.files.exchange(Arc::new(settings.files));
        let (relays_changed, relays_waiting) = self.retarget(settings.relays, rotated);
        waiting.extend(relays_waiting);
        Ok(json!({
            "routes": routes, "routes_ended": over.len(), "routes_opened": new.len(), "relays_changed": relays_changed,
            "keys_changed": rotated, "count_from_the_next_start": waiting,
        }))
    }

    /// Files of the same names may hold new certificates, tokens and passwords.
    fn exchange_certificates(&self, settings: &Settings) {
        let tls = |settings: &Option<commitment::CommitmentSettings>| {
            settings.as_ref().and_then(|commitment| commitment.tls.clone())
        };
        if let (Some((_, running)), Some((_, now))) = (tls(&self.commitment), tls(&settings.commitment)) {
            running.exchange(&now);
        }
        for destination in self.inbox.all_destinations() {
            let now = settings.destinations.get(&destination.settings.name).map(|now| &now.target);
            match (&destination.settings.target, now) {
                (Target::Dicom(running), Some(Target::Dicom(now))) => {
                    let name = destination.settings.name.as_str();
                    running.exchange(now, self.fixed.is_same(&settings.fixed, "destination", name));
                }
                (Target::Stow(running), Some(Target::Stow(now))) => running.exchange(now),
                _ => {}
            }
        }
    }

    fn retarget(&mut self, later: Vec<Relay>, rotated: bool) -> (usize, Vec<String>) {
        let reloaded = RelaysReloaded::exchange(&self.relays, later, &mut self.looked, rotated);
        let mut changed = 0;
        for ((name, downlink), witness) in self.downlinks.iter().zip(&self.witnesses) {
            let (change, after) = reloaded.link(name);
            let config = after.map(|relay| {
                witness.pin(&relay.card);
                DownlinkConfig::new(relay.address.to_string(), relay.card.clone(), &self.own.identity())
            });
            match (change, config) {
                (LinkChange::None, _) => continue,
                (LinkChange::NextTime, Some(config)) => downlink.renew(config),
                (_, config) => downlink.retarget(config),
            }
            changed += 1;
        }
        (changed, reloaded.waiting(self.downlinks.iter().map(|(name, _)| name)))
    }
}

fn read(source: &Path) -> Result<Settings, config::ConfigError> {
    Config::check(&config::load::<Config>(source, config::ENVIRONMENT_PREFIX)?)
}

/// What is the same for the whole life of the process. Paths of certificates and credentials are read anew, wherever they lead.
pub(crate) fn fixed(config: &Config) -> Fixed {
    const TAKEN_OVER: [&str; 12] = [
        "peer",
        "relay",
        "route",
        "coercion",
        "destination.tls.ca",
        "destination.tls.cert",
        "destination.tls.key",
        "destination.bearer",
        "destination.user",
        "commitment.tls.cert",
        "commitment.tls.key",
        "commitment.tls.clients",
    ];
    Fixed::new(config, &TAKEN_OVER)
}
