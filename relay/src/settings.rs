use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Fingerprint, Name};
use identity::{IdentityKey, IdentityPublic, PeerCard};
use service::config::{ConfigError, Loaded};
use service::peers::{load_card, load_identity};
use transport::Admission;
use wire::Role;

use crate::config::{Config, MemoryTable};
use crate::vault::{Limits, Policy, Tenant};

/// With less, fair shares of it are smaller than one body's window.
const BUDGET_MIN: u64 = 4 * 1024 * 1024;
/// Shorter leases would lapse with one late renewal.
const LEASE_MIN: Duration = Duration::from_secs(2);

/// A checked configuration, with all files read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This relay.
    pub identity: Arc<IdentityKey>,
    /// Where gateways connect.
    pub quic: SocketAddr,
    /// Health and status.
    pub admin: SocketAddr,
    /// Who may do what.
    pub policy: Policy,
    /// The pinned gateways' keys.
    pub keys: Keys,
}

/// The pinned gateways' keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    identities: HashMap<Fingerprint, IdentityPublic>,
    by_tls: HashMap<Vec<u8>, Fingerprint>,
    senders: BTreeSet<Fingerprint>,
    recipients: BTreeSet<Fingerprint>,
}

impl Settings {
    /// Checks everything that can be checked before a port opens.
    pub fn check(loaded: &Loaded<Config>) -> Result<Self, ConfigError> {
        let config = &loaded.config;
        let identity = load_identity(loaded, &config.identity)?;
        let limits = limits(loaded, &config.memory)?;
        let cards = config
            .tenants
            .iter()
            .enumerate()
            .map(|(i, tenant)| load_card(loaded, &format!("tenant[{i}]"), &tenant.name, &tenant.card));
        let cards: Vec<PeerCard> = cards.collect::<Result<_, _>>()?;
        let by_name = by_name(loaded, &cards)?;
        let mut tenants = BTreeMap::new();
        for (i, (table, card)) in config.tenants.iter().zip(&cards).enumerate() {
            let deposit_for = table.deposit_for.iter().enumerate().map(|(j, name)| {
                by_name.get(name).copied().ok_or_else(|| {
                    let known = by_name.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    loaded.error(
                        &format!("tenant[{i}].deposit_for[{j}]"),
                        format!("there is no [[tenant]] called {name}; the tenants are: {known}"),
                    )
                })
            });
            let deposit_for = deposit_for.collect::<Result<_, _>>()?;
            let budget = table.budget.map_or(limits.budget, |budget| budget.0);
            tenants.insert(
                card.identity.fingerprint(),
                Tenant { name: table.name.clone(), budget, deposit_for },
            );
        }
        let keys = Keys::new(&cards, &tenants);
        let policy = Policy { limits, tenants };
        Ok(Self { identity, quic: config.quic.listen, admin: config.admin.listen, policy, keys })
    }
}

fn limits(loaded: &Loaded<Config>, memory: &MemoryTable) -> Result<Limits, ConfigError> {
    let MemoryTable { budget, hold_max, ttl, lease } = memory;
    if budget.0 < BUDGET_MIN {
        return Err(loaded.error("memory.budget", "at least 4 MiB is needed to pass bodies through"));
    }
    if lease.duration() < LEASE_MIN {
        return Err(loaded.error("memory.lease", "a lease of less than 2 s lapses with one late renewal"));
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
                format!("{what} of {} is in another [[tenant]] too", card.name),
            ))
        };
        if cards.iter().take(i).any(|other| other.tls_spki == card.tls_spki) {
            return twice("the TLS key");
        }
        if names.values().any(|fingerprint| *fingerprint == card.identity.fingerprint()) {
            return twice("the identity");
        }
        if names.insert(card.name.clone(), card.identity.fingerprint()).is_some() {
            return Err(loaded.error(
                &format!("tenant[{i}].name"),
                format!("two [[tenant]] tables are called {}", card.name),
            ));
        }
    }
    Ok(names)
}

impl Keys {
    /// Of the tenants with these cards.
    pub fn new(cards: &[PeerCard], tenants: &BTreeMap<Fingerprint, Tenant>) -> Self {
        let mut keys = Self::default();
        for card in cards {
            let fingerprint = card.identity.fingerprint();
            keys.by_tls.insert(card.tls_spki.clone(), fingerprint);
            keys.identities.insert(fingerprint, card.identity.clone());
        }
        for (fingerprint, tenant) in tenants {
            if !tenant.deposit_for.is_empty() {
                keys.senders.insert(*fingerprint);
            }
            keys.recipients.extend(&tenant.deposit_for);
        }
        keys
    }

    /// The identity that a pinned gateway signs with.
    pub fn identity(&self, peer: &Fingerprint) -> Option<&IdentityPublic> {
        self.identities.get(peer)
    }
}

impl Admission for Keys {
    fn peer(&self, tls_spki: &[u8]) -> Option<Fingerprint> {
        self.by_tls.get(tls_spki).copied()
    }

    fn admits(&self, peer: &Fingerprint, role: Role) -> bool {
        match role {
            Role::Sender => self.senders.contains(peer),
            Role::Recipient => self.recipients.contains(peer),
        }
    }
}
