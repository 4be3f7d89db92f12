//! Another policy while bodies pass: who is not admitted any more is out at once, and so is what was his.

use std::collections::BTreeSet;
use std::time::Instant;

use base::Fingerprint;
use tracing::{info, warn};
use wire::CloseCode;

use super::rate::Pace;
use super::{Command, End, Key, Policy, SettlementCheck, Timer, Vault};

impl<C: SettlementCheck> Vault<C> {
    /// Takes over another policy. `changed` are peers that stay and have another key: their connections are closed, so
    /// that they show it.
    pub fn reconfigure(
        &mut self,
        policy: Policy,
        changed: &BTreeSet<Fingerprint>,
        now: Instant,
    ) -> Vec<Command> {
        self.now = now;
        self.policy = policy;
        self.memory.set_capacity(self.policy.limits.budget);
        self.burn_unadmitted();
        self.close_unadmitted(changed, now);
        self.end_unadmitted_asks();
        self.forget_unadmitted();
        for (peer, books) in &mut self.senders {
            books.memory.set_capacity(self.policy.budget_of(peer));
            books.pace = Pace::new(self.policy.rates_of(peer), now);
        }
        self.freed = true;
        self.hungry.extend(self.senders.keys());
        self.settle_down(now)
    }

    /// A sender that stays hears of what it has to deposit again, or cannot.
    fn burn_unadmitted(&mut self) {
        let refused = |key: &Key, recipient: &Fingerprint| !self.policy.may_deposit(&key.sender, recipient);
        let blobs = self.blobs.iter().filter(|(key, blob)| refused(key, &blob.flow.recipient));
        let mut keys: Vec<Key> = blobs.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        if !keys.is_empty() {
            warn!(blobs = keys.len(), "burned: their sender may not deposit for their recipient any more");
        }
        for key in keys {
            let known = self.policy.tenants.contains_key(&key.sender);
            self.counters.revoked += 1;
            self.end(key, if known { End::NotAdmitted } else { End::Revoked });
        }
    }

    fn close_unadmitted(&mut self, changed: &BTreeSet<Fingerprint>, now: Instant) {
        let mut ended = Vec::new();
        for (connection, (peer, role)) in &self.connections {
            let code = if !self.policy.tenants.contains_key(peer) {
                CloseCode::Revoked
            } else if !self.policy.admits(peer, *role) {
                CloseCode::NotAdmitted
            } else if changed.contains(peer) {
                CloseCode::Changed
            } else {
                continue;
            };
            ended.push((*connection, *peer, *role, code));
        }
        ended.sort_unstable_by_key(|(connection, ..)| *connection);
        for (connection, peer, role, code) in ended {
            info!(%peer, ?role, connection = connection.0, reason = code.text(), "connection closed");
            self.commands.push(Command::Close(connection, code));
            self.disconnected(connection, now);
        }
    }

    /// Nothing is kept of a peer that is gone. When it is admitted again, it is told that this relay has lost its
    /// bodies, as after a restart.
    fn forget_unadmitted(&mut self) {
        let tenants = &self.policy.tenants;
        let senders = self.senders.keys().filter(|peer| !tenants.contains_key(peer));
        for peer in senders.copied().collect::<Vec<_>>() {
            let Some(books) = self.senders.remove(&peer) else { continue };
            if let Some(due) = books.answers.timer() {
                self.timers.remove(&(due, Timer::Answers(peer)));
            }
            if let Some(due) = books.pace_timer {
                self.timers.remove(&(due, Timer::Pace(peer)));
            }
            self.hungry.remove(&peer);
            self.memory.give(&peer, self.memory.held(&peer));
        }
        let tenants = &self.policy.tenants;
        self.recipients.retain(|peer, _| tenants.contains_key(peer));
        self.prekeys.retain(|peer| tenants.contains_key(peer));
        self.offers_due.retain(|(peer, _)| tenants.contains_key(peer));
    }
}
