use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Fingerprint, Name, Timestamp};
use identity::PeerCard;
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Loaded};
use service::own::Own;
use service::peers::load_card;
use service::{AdminTls, Fixed};
use wire::Role;

use crate::config::{Config, MemoryTable, TransparencyTable};
use crate::log::LogLimits;
use crate::vault::{Limits, Policy, Rates, Tenant};

/// With less, fair shares of it are smaller than one body's window.
const BUDGET_MIN: u64 = 4 * 1024 * 1024;
/// A head costs half a millisecond of signing.
const LOG_INTERVAL_MIN: Duration = Duration::from_millis(50);
const LOG_INTERVAL_MAX: Duration = Duration::from_secs(3600);
const LOG_ENTRIES_MIN: u64 = 1000;
/// Shorter leases would lapse with one late renewal.
const LEASE_MIN: Duration = Duration::from_secs(2);

/// A checked configuration, with all files read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This relay's keys and its card.
    pub own: Own,
    /// Where gateways connect.
    pub quic: SocketAddr,
    /// Health and status.
    pub admin: SocketAddr,
    /// Its certificate and key, if it speaks TLS.
    pub admin_tls: Option<AdminTls>,
    /// Pace and size of the log.
    pub log: LogLimits,
    /// Where the log is kept over restarts, if it is.
    pub log_dir: Option<PathBuf>,
    /// Who may do what.
    pub policy: Policy,
    /// The pinned gateways' keys.
    pub keys: Keys,
    /// All tenants as the operator knows them, revoked ones too.
    pub directory: Directory,
    /// What a reload does not take over.
    pub fixed: Fixed,
    /// The file that all of this comes from, to be read again; none in tests.
    pub source: Option<PathBuf>,
}

/// All tenants as the operator knows them, in the order of the files.
pub type Directory = Vec<Entry>;

/// One `[[tenant]]`, for people. Nothing here decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// As the operator calls it.
    pub name: Name,
    /// What names it, whichever keys it uses: of its first identity.
    pub id: Fingerprint,
    /// Of the identity on its card.
    pub fingerprint: Fingerprint,
    /// Whom it may deposit for, by name.
    pub deposit_for: Vec<Name>,
    /// When it was revoked, if it was.
    pub revoked: Option<String>,
    /// When its card ends, if it does.
    pub card_ends: Option<Timestamp>,
}

/// The pinned gateways' keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    by_id: BTreeMap<Fingerprint, PeerCard>,
    /// With the end of a key that was rotated.
    by_tls: HashMap<Vec<u8>, (Fingerprint, Option<Timestamp>)>,
    senders: BTreeSet<Fingerprint>,
    recipients: BTreeSet<Fingerprint>,
}

impl Settings {
    /// Checks everything that can be checked before a port opens.
    pub fn check(loaded: &Loaded<Config>) -> Result<Self, ConfigError> {
        let config = &loaded.config;
        let own = Own::load(loaded, &config.identity)?;
        let limits = limits(loaded, &config.memory)?;
        if let Some(alarm) = &config.alarm {
            alarm.check(loaded)?;
        }
        let cards = config
            .tenants
            .iter()
            .enumerate()
            .map(|(i, tenant)| load_card(loaded, &format!("tenant[{i}]"), &tenant.name, &tenant.card));
        let cards: Vec<PeerCard> = cards.collect::<Result<_, _>>()?;
        let by_name = by_name(loaded, &cards)?;
        let pairs = pairs(loaded, &by_name)?;
        let collecting: BTreeSet<_> = pairs.values().flatten().copied().collect();
        let (mut tenants, mut directory) = (BTreeMap::new(), Directory::new());
        for (table, card) in config.tenants.iter().zip(&cards) {
            let id = card.id();
            let deposit_for = pairs.get(&table.name).cloned().unwrap_or_default();
            let names = by_name.iter().filter(|(_, peer)| deposit_for.contains(peer));
            let revoked = config.revoked.iter().find(|revoked| revoked.means(card));
            directory.push(Entry {
                name: table.name.clone(),
                id,
                fingerprint: card.identity.fingerprint(),
                deposit_for: names.map(|(name, _)| name.clone()).collect(),
                revoked: revoked.map(|revoked| revoked.at.clone()),
                card_ends: card.not_after,
            });
            if revoked.is_some() {
                continue;
            }
            let rates = Rates {
                bytes_per_second: table.bytes_per_second.map(|rate| rate.0),
                deliveries_per_second: table.deliveries_per_second,
            };
            let tenant = Tenant {
                name: table.name.clone(),
                budget: table.budget.map_or(limits.budget, |budget| budget.0),
                deposit_for,
                collects: collecting.contains(&id),
                rates,
            };
            tenants.insert(id, tenant);
        }
        let keys = Keys::new(&cards, &tenants);
        let policy = Policy { limits, tenants };
        let source = Some(loaded.path().to_owned());
        Ok(Self {
            own,
            log: log_limits(loaded, &config.transparency)?,
            log_dir: log_dir(loaded)?,
            quic: config.quic.listen,
            admin: config.admin.listen,
            admin_tls: config.admin.check(loaded)?,
            policy,
            keys,
            directory,
            fixed: crate::reload::fixed(config),
            source,
        })
    }
}

/// Who may deposit for whom, by the senders' names: what both sides' tables say together.
fn pairs(
    loaded: &Loaded<Config>,
    by_name: &BTreeMap<Name, Fingerprint>,
) -> Result<BTreeMap<Name, BTreeSet<Fingerprint>>, ConfigError> {
    let known = |key: String, name: &Name| {
        by_name.get(name).copied().ok_or_else(|| {
            let known = by_name.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            loaded.error(&key, format!("there is no [[tenant]] called {name}; the tenants are: {known}"))
        })
    };
    let mut pairs: BTreeMap<Name, BTreeSet<Fingerprint>> = BTreeMap::new();
    for (i, table) in loaded.config.tenants.iter().enumerate() {
        for (j, name) in table.deposit_for.iter().enumerate() {
            let recipient = known(format!("tenant[{i}].deposit_for[{j}]"), name)?;
            pairs.entry(table.name.clone()).or_default().insert(recipient);
        }
        let own = by_name.get(&table.name).copied();
        for (j, name) in table.deposit_from.iter().enumerate() {
            known(format!("tenant[{i}].deposit_from[{j}]"), name)?;
            pairs.entry(name.clone()).or_default().extend(own);
        }
    }
    Ok(pairs)
}

fn log_limits(loaded: &Loaded<Config>, table: &TransparencyTable) -> Result<LogLimits, ConfigError> {
    let TransparencyTable { interval, entries_max, .. } = table;
    if !(LOG_INTERVAL_MIN..=LOG_INTERVAL_MAX).contains(&interval.duration()) {
        return Err(
            loaded.error("transparency.interval", "give 50ms to 1h: nothing is proved before the next head")
        );
    }
    if *entries_max < LOG_ENTRIES_MIN {
        return Err(loaded
            .error("transparency.entries_max", "give at least 1000: each new epoch alarms the gateways"));
    }
    Ok(LogLimits { interval: interval.duration(), entries_max: *entries_max })
}

/// The relay may write there: nothing that it reads, or was started from, lies in it.
fn log_dir(loaded: &Loaded<Config>) -> Result<Option<PathBuf>, ConfigError> {
    let config = &loaded.config;
    let Some(dir) = config.transparency.dir.as_deref().map(|dir| loaded.resolve(dir)) else {
        return Ok(None);
    };
    let refuse = |reason: String| Err(loaded.error("transparency.dir", reason));
    let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    let Ok(place) = whole(&dir) else { return refuse(format!("{} is no path", dir.display())) };
    if dir.exists() && !dir.is_dir() {
        return refuse(format!("{} is not a folder; name one that may be made", dir.display()));
    }
    let cards = config.tenants.iter().map(|tenant| loaded.resolve(&tenant.card));
    let files = cards.chain(config.identity.files().map(|file| loaded.resolve(file)));
    for file in files.chain([loaded.path().to_owned()]) {
        if whole(&file).is_ok_and(|file| file.starts_with(&place)) {
            return refuse(format!(
                "the relay may write there, and {} lies in it: give the log a folder of its own",
                file.display()
            ));
        }
    }
    Ok(Some(dir))
}

fn limits(loaded: &Loaded<Config>, memory: &MemoryTable) -> Result<Limits, ConfigError> {
    let MemoryTable { budget, hold_max, ttl, lease } = memory;
    if budget.0 < BUDGET_MIN {
        return Err(loaded.error("memory.budget", "at least \"4 MiB\" is needed to pass bodies through"));
    }
    if lease.duration() < LEASE_MIN {
        return Err(loaded.error(
            "memory.lease",
            "a lease of less than 2 s lapses with one late renewal; give at least \"2s\"",
        ));
    }
    if ttl.duration() > base::limits::SESSION_LIFE_MAX {
        return Err(
            loaded.error("memory.ttl", "a body is worth nothing after its session's hour; give at most 1h")
        );
    }
    Ok(Limits::new(budget.0, hold_max.0, ttl.duration(), lease.duration()))
}

fn by_name(loaded: &Loaded<Config>, cards: &[PeerCard]) -> Result<BTreeMap<Name, Fingerprint>, ConfigError> {
    let mut names = BTreeMap::new();
    for (i, card) in cards.iter().enumerate() {
        let twice = |what: &str| {
            Err(loaded.error(
                &format!("tenant[{i}].card"),
                format!("{what} of {} is in another [[tenant]] too; remove one of the two", card.name),
            ))
        };
        let any = Timestamp(0);
        let tls = |other: &PeerCard| other.tls_keys(any).any(|one| card.tls_keys(any).any(|two| one == two));
        if cards.iter().take(i).any(tls) {
            return twice("the TLS key");
        }
        let identity = |other: &PeerCard| {
            other.id() == card.id()
                || other.all_identities().any(|one| card.all_identities().any(|two| one == two))
        };
        if cards.iter().take(i).any(identity) {
            return twice("the identity");
        }
        if names.insert(card.name.clone(), card.id()).is_some() {
            return Err(loaded.error(
                &format!("tenant[{i}].name"),
                format!("two [[tenant]] tables are called {}; remove one", card.name),
            ));
        }
    }
    Ok(names)
}

impl Keys {
    /// Of those cards that are tenants'.
    pub fn new(cards: &[PeerCard], tenants: &BTreeMap<Fingerprint, Tenant>) -> Self {
        let mut keys = Self::default();
        for card in cards {
            let id = card.id();
            let Some(tenant) = tenants.get(&id) else { continue };
            keys.by_tls.insert(card.tls_spki.clone(), (id, None));
            if let Some(earlier) = &card.earlier {
                keys.by_tls.entry(earlier.tls_spki.clone()).or_insert((id, Some(earlier.until)));
            }
            keys.by_id.insert(id, card.clone());
            if !tenant.deposit_for.is_empty() {
                keys.senders.insert(id);
            }
            if tenant.collects {
                keys.recipients.insert(id);
            }
        }
        keys
    }

    /// The cards of all admitted peers.
    pub(crate) fn cards(&self) -> impl Iterator<Item = &PeerCard> {
        self.by_id.values()
    }

    /// All admitted peers.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Fingerprint> {
        self.by_id.keys()
    }

    pub(crate) fn knows(&self, peer: &Fingerprint) -> bool {
        self.by_id.contains_key(peer)
    }

    /// The peer whose TLS key this is, if the key counts at this time.
    pub(crate) fn peer(&self, tls_spki: &[u8], now: Timestamp) -> Option<Fingerprint> {
        let (peer, until) = self.by_tls.get(tls_spki)?;
        until.is_none_or(|until| now < until).then_some(*peer)
    }

    /// Whether a peer may connect in a role.
    pub(crate) fn admits(&self, peer: &Fingerprint, role: Role) -> bool {
        match role {
            Role::Sender => self.senders.contains(peer),
            Role::Recipient => self.recipients.contains(peer),
        }
    }

    /// The card of a pinned gateway: whose signatures count.
    pub fn card(&self, peer: &Fingerprint) -> Option<&PeerCard> {
        self.by_id.get(peer)
    }

    /// When earlier keys of peers end.
    pub(crate) fn moments(&self) -> Vec<Timestamp> {
        self.by_id.values().filter_map(|card| Some(card.earlier.as_ref()?.until)).collect()
    }
}
