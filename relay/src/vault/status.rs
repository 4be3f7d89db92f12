//! What an operator may see of a vault: names and numbers.

use serde::{Deserialize, Serialize};

use super::{Phase, SettlementCheck, Vault};

/// Since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each name says what is counted")]
pub struct Counters {
    pub offers: u64,
    pub declined: u64,
    pub deposited: u64,
    pub abandoned: u64,
    pub cancelled: u64,
    pub offered: u64,
    pub collected: u64,
    pub burned: u64,
    pub expired: u64,
    pub gone: u64,
    pub revoked: u64,
    pub leases_lapsed: u64,
    pub passed_through: u64,
    pub settlements: u64,
    pub settlements_unknown: u64,
    pub settlements_refused: u64,
    pub settlements_dropped: u64,
    pub asks: u64,
    pub asks_unanswered: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// One pinned gateway at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantStatus {
    /// As the operator calls it.
    pub name: String,
    /// Its first eight hexadecimal digits of fingerprint.
    pub fingerprint: String,
    /// Connected to deposit.
    pub sender: bool,
    /// Connected to collect.
    pub recipient: bool,
    /// Bytes that its deposits have reserved.
    pub bytes_reserved: u64,
    /// Bytes that they may reserve.
    pub budget: u64,
    /// Its bodies here, complete or arriving.
    pub blobs: u64,
    /// Its offers that wait for a place.
    pub offers_waiting: u64,
    /// Settlements and notices that it has not acknowledged.
    pub settlements_waiting: u64,
    /// Leases it holds as a recipient.
    pub leases: u64,
}

impl TenantStatus {
    /// Whether it is here, and as what.
    pub fn connected(&self) -> &'static str {
        match (self.sender, self.recipient) {
            (true, true) => "connected as sender and recipient",
            (true, false) => "connected as sender",
            (false, true) => "connected as recipient",
            (false, false) => "not connected",
        }
    }
}

/// A vault at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Bodies here, complete or arriving.
    pub blobs: u64,
    /// Bytes of them in memory.
    pub bytes_held: u64,
    /// The most of them since the start.
    pub bytes_held_peak: u64,
    /// Bytes that have a place, with waiting settlements and headers.
    pub bytes_reserved: u64,
    /// Bytes that may have one.
    pub budget: u64,
    /// Bodies under lease.
    pub leases: u64,
    /// Offers that wait for a place.
    pub offers_waiting: u64,
    /// Settlements and notices that no sender has acknowledged yet.
    pub settlements_waiting: u64,
    /// Since the start.
    pub counters: Counters,
    /// All pinned gateways, by name.
    pub tenants: Vec<TenantStatus>,
}

impl<C: SettlementCheck> Vault<C> {
    /// Counts everything.
    pub fn status(&self) -> Status {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let here = || self.blobs.iter().filter(|(_, blob)| !matches!(blob.phase, Phase::Pending { .. }));
        let mut tenants: Vec<_> = self
            .policy
            .tenants
            .iter()
            .map(|(peer, tenant)| {
                let (sender, recipient) = (self.senders.get(peer), self.recipients.get(peer));
                TenantStatus {
                    name: tenant.name.to_string(),
                    fingerprint: peer.to_string().chars().take(8).collect(),
                    sender: sender.is_some_and(|sender| sender.connection.is_some()),
                    recipient: recipient.is_some_and(|recipient| recipient.connection.is_some()),
                    bytes_reserved: sender.map_or(0, |sender| sender.memory.used()),
                    budget: self.policy.budget_of(peer),
                    blobs: count(here().filter(|(key, _)| key.sender == *peer).count()),
                    offers_waiting: count(sender.map_or(0, |sender| sender.pending_count)),
                    settlements_waiting: count(sender.map_or(0, |sender| sender.answers.len())),
                    leases: count(recipient.map_or(0, super::Recipient::leases)),
                }
            })
            .collect();
        tenants.sort_by(|a, b| a.name.cmp(&b.name));
        Status {
            blobs: count(here().count()),
            bytes_held: self.held,
            bytes_held_peak: self.held_peak,
            bytes_reserved: self.memory.used(),
            budget: self.memory.capacity(),
            leases: tenants.iter().map(|tenant| tenant.leases).sum(),
            offers_waiting: tenants.iter().map(|tenant| tenant.offers_waiting).sum(),
            settlements_waiting: tenants.iter().map(|tenant| tenant.settlements_waiting).sum(),
            counters: self.counters,
            tenants,
        }
    }
}
