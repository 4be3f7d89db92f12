//! Who holds which sealed body, for whom, and what burns it: the relay's custody rules, without a socket or a clock.
//!
//! A blob is burned by one thing only: a settlement of that attempt, signed by the recipient it is addressed
//! to (`Vault::settle`). A read burns nothing. Without a settlement a blob ends by its sender's word (cancel,
//! abandon, a higher attempt), by its time to live while nobody has it under lease, or, where part of it was
//! freed already (pass-through), with its lease; the last two are told to the sender until it acknowledges.
//!
//! Memory is promised before it is used: an admitted body reserves its window first, and what may come is
//! granted, so that bytes are never left unread and never dropped.

mod admission;
mod answers;
mod asks;
mod collection;
mod held;
mod messages;
mod policy;
mod prekeys;
mod rate;
mod revoke;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use base::{Attempt, DeliveryId, Digest, Fingerprint, RouteId};
use ledger::log::EntryKind;
use tracing::debug;
use transport::ConnectionId;
use wire::{
    CloseCode, DeclineCode, RecipientFrame, RelayState, Role, SenderFrame, Shares, ToRecipient, ToSender,
    Transfer,
};

pub use messages::{Command, Input, Record};
pub use policy::{Limits, Policy, Rates, Tenant};
pub use status::{Counters, Status, TenantStatus};

use asks::Asks;
use collection::Recipient;
use prekeys::Prekeys;
use rate::Pace;
use state::{
    Blob, End, Flow, Key, Lease, Offered, Phase, RELEASE_PAUSE, Sender, Settled, Timer, stop_expiry,
};

/// How a settlement ends an attempt, as far as a relay learns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The destination answered for good; the digest is that of the receipt.
    Final(Digest),
    /// Not for good: deferred, or a fault on the way.
    Passing,
}

/// Whether a settlement is the recipient's own.
pub trait SettlementCheck {
    /// What `settlement` says, if it is about this attempt and signed by `recipient`.
    fn check(
        &mut self,
        recipient: &Fingerprint,
        delivery: DeliveryId,
        attempt: Attempt,
        settlement: &[u8],
    ) -> Option<Verdict>;
}

/// The relay's custody, as a value. See the module.
pub struct Vault<C> {
    policy: Policy,
    check: C,
    /// Of the input that is being handled.
    now: Instant,
    connections: HashMap<ConnectionId, (Fingerprint, Role)>,
    senders: HashMap<Fingerprint, Sender>,
    recipients: HashMap<Fingerprint, Recipient>,
    blobs: HashMap<Key, Blob>,
    prekeys: Prekeys,
    /// Questions that wait for their answer.
    asks: Asks,
    /// Bytes, by sender.
    memory: Shares<Fingerprint>,
    /// Senders with something in `pending` or `starved`.
    hungry: BTreeSet<Fingerprint>,
    /// Something was freed since the hungry were last looked at.
    freed: bool,
    /// No new bodies and no new leases.
    draining: bool,
    /// Routes of recipients whose window has room again.
    offers_due: BTreeSet<(Fingerprint, RouteId)>,
    timers: BTreeSet<(Instant, Timer)>,
    sequence: u64,
    /// Body bytes in memory, now and at most.
    held: u64,
    held_peak: u64,
    commands: Vec<Command>,
    counters: Counters,
}

impl<C: SettlementCheck> Vault<C> {
    /// An empty vault.
    pub fn new(policy: Policy, check: C, now: Instant) -> Self {
        Self {
            now,
            memory: Shares::new(policy.limits.budget),
            policy,
            check,
            connections: HashMap::new(),
            senders: HashMap::new(),
            recipients: HashMap::new(),
            blobs: HashMap::new(),
            prekeys: Prekeys::default(),
            asks: Asks::default(),
            hungry: BTreeSet::new(),
            freed: false,
            draining: false,
            offers_due: BTreeSet::new(),
            timers: BTreeSet::new(),
            sequence: 0,
            held: 0,
            held_peak: 0,
            commands: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Takes what happened and gives what is to be done, in order.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Command> {
        self.now = now;
        match input {
            Input::Connected { connection, peer, role } => self.connected(connection, peer, role, now),
            Input::Disconnected { connection } => self.disconnected(connection, now),
            Input::FromSender { connection, frame } => {
                if let Some((sender, Role::Sender)) = self.connections.get(&connection).copied() {
                    self.sender_says(connection, sender, frame);
                }
            }
            Input::FromRecipient { connection, frame } => {
                if let Some((recipient, Role::Recipient)) = self.connections.get(&connection).copied() {
                    self.recipient_says(connection, recipient, frame, now);
                }
            }
            Input::Body { connection, transfer, bytes } => self.body(connection, transfer, bytes, now),
            Input::BodyEnd { connection, transfer, digest } => {
                self.body_end(connection, transfer, digest, now)
            }
            Input::BodyReset { connection, transfer } => {
                if let Some(key) = self.arriving(connection, transfer) {
                    self.counters.abandoned += 1;
                    self.end(key, End::Abandoned);
                }
            }
            Input::Written { connection, transfer, bytes } => self.written(connection, transfer, bytes),
            Input::Delivered { connection, transfer } => self.delivered(connection, transfer),
            Input::Refused { connection, transfer } => self.refused(connection, transfer),
            Input::Tick => {}
        }
        self.settle_down(now)
    }

    /// Whatever follows from what has just happened.
    fn settle_down(&mut self, now: Instant) -> Vec<Command> {
        self.expire(now);
        self.offer_due(now);
        self.feed_hungry(now);
        std::mem::take(&mut self.commands)
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.policy.limits
    }

    /// Who may do what.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// From now on: no new bodies and no new leases.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// True when nothing is under lease and every sender that is there has acknowledged its answers.
    pub fn is_quiet(&self) -> bool {
        self.recipients.values().all(|recipient| recipient.leases() == 0)
            && self.senders.values().all(|sender| sender.connection.is_none() || sender.answers.len() == 0)
    }

    /// When [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn connected(&mut self, connection: ConnectionId, peer: Fingerprint, role: Role, now: Instant) {
        if !self.policy.admits(&peer, role) {
            // It was greeted before the policy changed.
            self.commands.push(Command::Close(connection, CloseCode::Revoked));
            return;
        }
        let older = match role {
            Role::Sender => self.sender(peer).connection,
            Role::Recipient => self.recipients.entry(peer).or_default().connection,
        };
        if let Some(older) = older {
            self.commands.push(Command::Close(older, CloseCode::Replaced));
            // What it had ends as if it were gone; its own end comes later and finds nothing.
            self.disconnected(older, now);
        }
        self.connections.insert(connection, (peer, role));
        match role {
            Role::Sender => {
                let outstanding = Shares::new(self.policy.limits.outstanding);
                let sender = self.sender(peer);
                sender.connection = Some(connection);
                sender.outstanding = outstanding;
                sender.answers.rewind();
                self.send_answers(peer);
            }
            Role::Recipient => self.recipient_connected(connection, peer),
        }
    }

    fn disconnected(&mut self, connection: ConnectionId, now: Instant) {
        match self.connections.remove(&connection) {
            Some((peer, Role::Sender)) => {
                let sender = self.sender(peer);
                sender.connection = None;
                let broken: Vec<_> = sender.transfers.values().copied().collect();
                for delivery in broken {
                    self.counters.abandoned += 1;
                    self.end(Key { sender: peer, delivery }, End::Abandoned);
                }
                self.forget_asks_of(peer);
            }
            Some((peer, Role::Recipient)) => {
                self.recipient_disconnected(peer, now);
                self.end_asks_to(peer);
            }
            None => {}
        }
    }

    fn sender_says(&mut self, connection: ConnectionId, sender: Fingerprint, frame: SenderFrame) {
        match frame {
            SenderFrame::PrekeyRequest { recipient, route } => {
                self.give_prekey(connection, sender, recipient, route)
            }
            SenderFrame::Offer {
                transfer,
                delivery,
                attempt,
                recipient,
                route,
                header,
                size,
                digest,
                urgency,
            } => {
                let flow = Flow { recipient, route };
                let offered = Offered { transfer, attempt, flow, header, size, announced: digest, urgency };
                self.offer(connection, Key { sender, delivery }, offered);
            }
            SenderFrame::Cancel { recipient, delivery, attempt } => {
                self.cancel(Key { sender, delivery }, attempt, recipient);
            }
            SenderFrame::Ack { recipient, delivery, attempt, manifest } => {
                self.acknowledge(Key { sender, delivery }, attempt, recipient, manifest);
            }
            SenderFrame::SessionClose { recipient, route, bytes } => {
                if bytes.len() <= wire::SESSION_CLOSE_BYTES_MAX {
                    self.tell_recipient(
                        sender,
                        recipient,
                        ToRecipient::SessionClosed { sender, route, bytes },
                    );
                }
            }
            // Of the log, not of custody.
            SenderFrame::Witness { .. } => {}
            SenderFrame::Resubmit { recipient, delivery, attempt, settlement } => {
                self.resubmit(Key { sender, delivery }, recipient, attempt, &settlement);
            }
            SenderFrame::Ask { id, recipient, route, within_ms, question } => {
                self.ask(connection, sender, asks::Asked { id, recipient, route, within_ms, question });
            }
            SenderFrame::Abandon { transfer } => {
                if let Some(key) = self.arriving(connection, transfer) {
                    self.counters.abandoned += 1;
                    self.end(key, End::Abandoned);
                }
            }
        }
    }

    fn recipient_says(
        &mut self,
        connection: ConnectionId,
        recipient: Fingerprint,
        frame: RecipientFrame,
        now: Instant,
    ) {
        match frame {
            RecipientFrame::Publish { route, replace, one_time, last_resort } => {
                self.publish(recipient, route, replace, one_time, last_resort);
            }
            RecipientFrame::Window { route, deliveries } => {
                self.window(connection, recipient, route, deliveries, now)
            }
            RecipientFrame::Grant { transfer, up_to } => self.granted(recipient, transfer, up_to),
            RecipientFrame::Settlement { sender, delivery, attempt, settlement, record } => {
                let answer = Settled { attempt, settlement, record };
                self.settle(recipient, Key { sender, delivery }, answer);
            }
            RecipientFrame::Renew { transfers } => self.renew(recipient, &transfers, now),
            // Of the log, not of custody.
            RecipientFrame::Witness { .. } => {}
            RecipientFrame::Resubmit { sender, delivery, attempt, settlement } => {
                self.resubmit(Key { sender, delivery }, recipient, attempt, &settlement);
            }
            RecipientFrame::Release { transfer } => self.release(recipient, transfer, now),
            RecipientFrame::Answer { sender, id, answer } => {
                self.pass_answer(recipient, sender, id, answer);
            }
        }
    }

    /// The one place where a recipient's word burns a blob: signed by the recipient this delivery is addressed to,
    /// and about the attempt that is here. What it says (stored, refused, deferred, nack) is the sender's business.
    fn settle(&mut self, recipient: Fingerprint, key: Key, answer: Settled) {
        let Settled { attempt, settlement, record } = answer;
        let long = settlement.len() + record.len() > wire::SETTLEMENT_BYTES_MAX;
        let check = || self.check.check(&recipient, key.delivery, attempt, &settlement);
        let Some(verdict) = (!long).then(check).flatten() else {
            self.counters.settlements_refused += 1;
            tracing::warn!(%recipient, delivery = %key.delivery.short(), "settlement does not verify");
            return;
        };
        // Said again until it is acknowledged, but logged once.
        let news = self.sender(key.sender).answers.of(&key.delivery) != Some((attempt, true));
        let addressed = self.blobs.get(&key).map(|blob| (blob.flow, blob.attempt));
        let flow = match addressed {
            Some((flow, _)) if flow.recipient != recipient => {
                self.counters.settlements_refused += 1;
                tracing::warn!(%recipient, delivery = %key.delivery.short(), "settlement by another than the recipient");
                return;
            }
            Some((flow, here)) => {
                if here == attempt {
                    self.end(key, End::Settled);
                    self.counters.burned += 1;
                }
                flow
            }
            // Burned, expired or lost with an earlier run: the answer counts all the same.
            None if self.policy.may_deposit(&key.sender, &recipient) => {
                self.counters.settlements_unknown += 1;
                let flow = Flow { recipient, route: answers::NO_ROUTE };
                if !self.has_room_for_answer(&key, &flow, settlement.len() + record.len()) {
                    // Its recipient keeps it until it is acknowledged, and says it again.
                    self.counters.settlements_dropped += 1;
                    return;
                }
                flow
            }
            None => return,
        };
        debug!(delivery = %key.delivery.short(), %attempt, "settled");
        self.counters.settlements += 1;
        if let (Verdict::Final(receipt), true) = (verdict, news) {
            self.log_settled(&key, recipient, attempt, receipt);
        }
        self.answer(key, flow, attempt, answers::Kind::Settlement { settlement, record });
    }

    /// A settlement whose proof never came to one of its gateways is logged again, and changes nothing else.
    fn resubmit(&mut self, key: Key, recipient: Fingerprint, attempt: Attempt, settlement: &[u8]) {
        if !self.policy.may_deposit(&key.sender, &recipient) || settlement.len() > wire::SETTLEMENT_BYTES_MAX
        {
            return;
        }
        if let Some(Verdict::Final(receipt)) = self.check.check(&recipient, key.delivery, attempt, settlement)
        {
            self.log_settled(&key, recipient, attempt, receipt);
        }
    }

    fn log_settled(&mut self, key: &Key, recipient: Fingerprint, attempt: Attempt, digest: Digest) {
        let Key { sender, delivery } = *key;
        let kind = EntryKind::Settled;
        self.commands.push(Command::Log(Record { kind, delivery, attempt, digest, sender, recipient }));
    }

    fn cancel(&mut self, key: Key, attempt: Attempt, recipient: Fingerprint) {
        if let Some(blob) = self.blobs.get(&key)
            && blob.attempt <= attempt
            && blob.flow.recipient == recipient
        {
            self.counters.cancelled += 1;
            self.end(key, End::Cancelled);
        }
        // The recipient may run an attempt that this relay no longer knows.
        let Key { sender, delivery } = key;
        self.tell_recipient(sender, recipient, ToRecipient::Cancelled { sender, delivery, attempt });
    }

    /// Ends a blob: gives back everything it held, and tells both sides what they need to know.
    fn end(&mut self, key: Key, why: End) {
        let Some(mut blob) = self.blobs.remove(&key) else { return };
        self.freed = true;
        self.held -= blob.held.bytes();
        stop_expiry(&mut self.timers, key, &mut blob);
        self.memory.give(&key.sender, blob.reserved + blob.overhead());
        let sender = self.sender(key.sender);
        sender.starved.remove(&key.delivery);
        if !matches!(blob.phase, Phase::Pending { .. }) {
            sender.memory.give(&blob.flow, blob.reserved + blob.overhead());
            sender.places.give(&blob.flow, 1);
        }
        let arriving = match &blob.phase {
            Phase::Pending { connection, transfer } => {
                sender.drop_pending(&blob.flow, blob.sequence);
                Some((*connection, *transfer))
            }
            Phase::Receiving { connection, inflow } => {
                sender.streams.give(&blob.flow, 1);
                sender.outstanding.give(&blob.flow, inflow.outstanding());
                sender.pace.unused(inflow.outstanding());
                Some((*connection, inflow.transfer()))
            }
            Phase::Complete { .. } => None,
        };
        if let Some((connection, transfer)) = arriving {
            sender.transfers.remove(&transfer);
            self.tell_end_to_sender(connection, transfer, why);
        }
        self.leave_collection(key, &blob, why);
        if let Some(kind) = why.notice() {
            self.answer(key, blob.flow, blob.attempt, answers::Kind::Notice(kind));
        }
    }

    fn tell_end_to_sender(&mut self, connection: ConnectionId, transfer: Transfer, why: End) {
        let verdict = match why {
            End::Abandoned | End::Revoked => None,
            End::NotAdmitted => Some(ToSender::Declined { transfer, code: DeclineCode::NotAdmitted }),
            End::Settled => Some(ToSender::Known { transfer, state: RelayState::Settled, digest: None }),
            End::Replaced => Some(ToSender::Declined { transfer, code: DeclineCode::LowerAttempt }),
            End::OtherBody => Some(ToSender::Declined { transfer, code: DeclineCode::OtherBody }),
            End::Cancelled | End::Expired | End::Gone => {
                Some(ToSender::Declined { transfer, code: DeclineCode::Ended })
            }
        };
        self.commands.extend(verdict.map(|frame| Command::ToSender(connection, frame)));
        self.commands.push(Command::Stop(connection, transfer));
    }

    /// Carries out the deadlines that have passed.
    fn expire(&mut self, now: Instant) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Expiry(key) => self.expire_blob(key),
                Timer::Lease(recipient, transfer) => self.expire_lease(recipient, transfer, now),
                Timer::Again(key) => self.queue_for_collection(key, now),
                Timer::Answers(sender) => self.repeat_answers(sender),
                Timer::Ask(sender, id) => self.expire_ask(sender, id),
                Timer::Pace(sender) => {
                    self.sender(sender).pace_timer = None;
                    self.hungry.insert(sender);
                    self.freed = true;
                }
            }
        }
    }

    /// A leased blob does not expire, and neither does an offer that still waits for its place.
    fn expire_blob(&mut self, key: Key) {
        let Some(blob) = self.blobs.get(&key) else { return };
        if blob.lease.is_some() || matches!(blob.phase, Phase::Pending { .. }) {
            return;
        }
        self.counters.expired += 1;
        debug!(delivery = %key.delivery.short(), attempt = %blob.attempt, "expired");
        self.end(key, End::Expired);
    }

    /// A sender's books; every pinned peer may have some.
    fn sender(&mut self, sender: Fingerprint) -> &mut Sender {
        let limits = &self.policy.limits;
        let (budget, rates, now) = (self.policy.budget_of(&sender), self.policy.rates_of(&sender), self.now);
        self.senders.entry(sender).or_insert_with(|| Sender::new(limits, budget, Pace::new(rates, now)))
    }

    /// Says something to a recipient that this sender may deposit for, if it is there.
    fn tell_recipient(&mut self, sender: Fingerprint, recipient: Fingerprint, frame: ToRecipient) {
        if !self.policy.may_deposit(&sender, &recipient) {
            return;
        }
        if let Some(connection) = self.recipients.get(&recipient).and_then(|recipient| recipient.connection) {
            self.commands.push(Command::ToRecipient(connection, frame));
        }
    }
}
