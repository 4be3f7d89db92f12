use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::{Fingerprint, Name};
use wire::Role;

/// Bounds of a vault. The defaults are for a relay; tests choose smaller ones.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of all bodies and waiting settlements together.
    pub budget: u64,
    /// A body above this runs in pass-through.
    pub hold_max: u64,
    /// How long an unleased body is held.
    pub ttl: Duration,
    /// A lease ends this long after its last renewal.
    pub lease: Duration,
    /// Blobs and unacknowledged answers of one sender.
    pub deliveries: u64,
    /// Bodies of one sender that arrive at once.
    pub streams: u64,
    /// Bytes granted to one sender connection and not yet here.
    pub outstanding: u64,
    /// Offers of one sender that wait for a place; more are declined as busy.
    pub pending: usize,
    /// Unacknowledged answers on the way to one sender.
    pub answers_in_flight: usize,
    /// Leases of one recipient.
    pub leases: usize,
}

impl Limits {
    /// The usual bounds around a budget.
    pub fn new(budget: u64, hold_max: u64, ttl: Duration, lease: Duration) -> Self {
        Self {
            budget,
            hold_max,
            ttl,
            lease,
            deliveries: 32 * 1024,
            streams: u64::from(transport::limits::BODY_STREAMS_MAX) * 9 / 10,
            outstanding: transport::limits::OUTSTANDING_GRANTS_MAX,
            pending: 1024,
            answers_in_flight: 256,
            leases: transport::limits::LEASES_MAX as usize,
        }
    }
}

/// A pinned gateway.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// As the operator calls it.
    pub name: Name,
    /// Bytes that its deposits may hold.
    pub budget: u64,
    /// Whom it may deposit for.
    pub deposit_for: BTreeSet<Fingerprint>,
    /// Whether somebody may deposit for it, so that it may connect to collect.
    pub collects: bool,
    /// How fast it may deposit.
    pub rates: Rates,
}

/// What a sender may do in a second; no limit where none is given. More waits at the sender for its grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Body bytes.
    pub bytes_per_second: Option<u64>,
    /// Deposits that begin.
    pub deliveries_per_second: Option<u64>,
}

/// Who may do what, and within which bounds.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The bounds.
    pub limits: Limits,
    /// All pinned gateways.
    pub tenants: BTreeMap<Fingerprint, Tenant>,
}

impl Policy {
    /// Whether this sender is admitted for this recipient.
    pub fn may_deposit(&self, sender: &Fingerprint, recipient: &Fingerprint) -> bool {
        self.tenants.contains_key(recipient)
            && self.tenants.get(sender).is_some_and(|tenant| tenant.deposit_for.contains(recipient))
    }

    /// Whether this peer may connect in that role.
    pub fn admits(&self, peer: &Fingerprint, role: Role) -> bool {
        self.tenants.get(peer).is_some_and(|tenant| match role {
            Role::Sender => !tenant.deposit_for.is_empty(),
            Role::Recipient => tenant.collects,
        })
    }

    pub(super) fn rates_of(&self, sender: &Fingerprint) -> Rates {
        self.tenants.get(sender).map(|tenant| tenant.rates).unwrap_or_default()
    }

    /// Four fifths of the whole at most, which is what fair sharing leaves to one sender anyway: within it
    /// the sender's own flows are shared fairly too.
    pub(super) fn budget_of(&self, sender: &Fingerprint) -> u64 {
        let whole = self.limits.budget / 5 * 4;
        self.tenants.get(sender).map_or(0, |tenant| tenant.budget.min(whole))
    }
}
