//! The sender's side: offers, places, grants, arriving bytes.

use std::cmp::Reverse;
use std::time::Instant;

use base::limits::BODY_WINDOW_BYTES;
use base::{DeliveryId, Digest, Fingerprint};
use bytes::Bytes;
use ledger::log::EntryKind;
use tracing::{debug, warn};
use transport::ConnectionId;
use wire::{CloseCode, DeclineCode, Inflow, RelayState, ToSender, Transfer, Urgency};

use super::held::Held;
use super::state::overhead;
use super::{Blob, Command, End, Flow, Key, Offered, Phase, Record, SettlementCheck, Timer, Vault, answers};

/// What a body of unknown or large size is granted first.
const FIRST_GRANT_BYTES: u64 = 256 * 1024;
/// A grant is not raised by less, unless that reaches the body's end.
const RAISE_BYTES_MIN: u64 = 128 * 1024;
/// The most that one body is granted ahead of what came, where there is plenty: what fills a long fat line.
const GRANT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// What a body in pass-through may hold where there is plenty.
const PASS_WINDOW_BYTES: u64 = 4 * 1024 * 1024;

impl<C: SettlementCheck> Vault<C> {
    /// Takes an offer, or answers it at once. The deposit key is (delivery, attempt).
    pub(super) fn offer(&mut self, connection: ConnectionId, key: Key, offered: Offered) {
        let transfer = offered.transfer;
        self.counters.offers += 1;
        let answer = self.refuse_offer(&key, &offered).or_else(|| self.known_offer(&key, &offered));
        if let Some(frame) = answer {
            if matches!(frame, ToSender::Declined { .. }) {
                self.counters.declined += 1;
            }
            debug!(delivery = %key.delivery.short(), attempt = %offered.attempt, ?frame, "offer answered");
            self.commands.push(Command::ToSender(connection, frame));
            return;
        }
        // Only a lower attempt can still be here: the higher one replaces it.
        self.end(key, End::Replaced);
        self.sequence += 1;
        let sequence = self.sequence;
        let Offered { transfer: _, attempt, flow, header, size, announced, urgency } = offered;
        let sender = self.sender(key.sender);
        sender.transfers.insert(transfer, key.delivery);
        sender.pending.entry(flow).or_default().insert(sequence, key.delivery);
        sender.pending_count += 1;
        let blob = Blob {
            attempt,
            flow,
            header,
            size,
            announced,
            urgency,
            sequence,
            phase: Phase::Pending { connection, transfer },
            held: Held::default(),
            reserved: 0,
            tight: size.is_some_and(|size| size > self.policy.limits.hold_max),
            lease: None,
            expiry: None,
            expires: self.now,
        };
        self.blobs.insert(key, blob);
        self.hungry.insert(key.sender);
        self.freed = true;
    }

    fn refuse_offer(&self, key: &Key, offered: &Offered) -> Option<ToSender> {
        let transfer = offered.transfer;
        let recipient = &offered.flow.recipient;
        let sender = self.senders.get(&key.sender);
        let code = if !self.policy.may_deposit(&key.sender, recipient) {
            DeclineCode::NotAdmitted
        } else if offered.header.len() > wire::HEADER_BYTES_MAX
            || sender.is_some_and(|sender| sender.transfers.contains_key(&transfer))
        {
            DeclineCode::Malformed
        } else if self.draining
            || sender.is_some_and(|sender| sender.pending_count >= self.policy.limits.pending)
        {
            DeclineCode::Busy
        } else {
            return None;
        };
        Some(ToSender::Declined { transfer, code })
    }

    /// An equal or lower attempt is answered with what is known of it.
    fn known_offer(&mut self, key: &Key, offered: &Offered) -> Option<ToSender> {
        let Offered { transfer, attempt, announced, .. } = *offered;
        let declined = |code| Some(ToSender::Declined { transfer, code });
        if let Some(blob) = self.blobs.get(key) {
            if attempt > blob.attempt {
                return None;
            }
            if attempt < blob.attempt {
                return declined(DeclineCode::LowerAttempt);
            }
            let Phase::Complete { digest } = blob.phase else { return declined(DeclineCode::Running) };
            if announced.is_some_and(|announced| announced != digest) {
                return declined(DeclineCode::OtherBody);
            }
            let collected = blob.lease.as_ref().is_some_and(|lease| lease.collected);
            let state = if collected { RelayState::Collected } else { RelayState::Relayed };
            return Some(ToSender::Known { transfer, state, digest: Some(digest) });
        }
        let (answered, settled) = self.sender(key.sender).answers.of(&key.delivery)?;
        if attempt < answered {
            return declined(DeclineCode::LowerAttempt);
        }
        if attempt == answered && settled {
            self.resend_answer(*key);
            return Some(ToSender::Known { transfer, state: RelayState::Settled, digest: None });
        }
        // A notice is overtaken by the new deposit; so is the settlement of a lower attempt once its own comes.
        if !settled {
            self.drop_answer(*key);
        }
        None
    }

    /// Gives places and grants to those that wait for them, as far as there are any.
    pub(super) fn feed_hungry(&mut self, now: Instant) {
        while std::mem::take(&mut self.freed) {
            for sender in self.hungry.clone() {
                let mut starved: Vec<_> = self.sender(sender).starved.iter().copied().collect();
                starved.sort_by_key(|delivery| Reverse(self.urgency(sender, *delivery)));
                for delivery in starved {
                    self.extend(Key { sender, delivery });
                }
                self.admit_pending(sender, now);
                let books = self.sender(sender);
                if books.starved.is_empty() && books.pending.is_empty() {
                    self.hungry.remove(&sender);
                }
            }
        }
    }

    /// The most urgent offers first, and one offer of each flow in turn, so that a long queue of one does not stand
    /// before the others. Where less urgent ones wait, they have their turn now and then.
    fn admit_pending(&mut self, sender: Fingerprint, now: Instant) {
        loop {
            let heads = self.sender(sender).pending.values().filter_map(|queue| queue.values().next());
            let heads: Vec<_> = heads.copied().collect();
            let mut heads: Vec<_> =
                heads.into_iter().map(|delivery| (self.urgency(sender, delivery), delivery)).collect();
            heads.sort_by_key(|(urgency, _)| Reverse(*urgency));
            let lowest = heads.last().map(|(urgency, _)| *urgency);
            if self.sender(sender).turns.is_of_the_lowest() {
                heads.reverse();
            }
            let mut admitted = None;
            for (urgency, delivery) in heads {
                // Only those that are as urgent as the first: then it is looked again.
                if admitted.is_none_or(|first| first == urgency) && self.admit(Key { sender, delivery }, now)
                {
                    admitted = Some(urgency);
                    let waits = lowest.is_some_and(|lowest| lowest < urgency);
                    self.sender(sender).turns.took(waits);
                }
            }
            if admitted.is_none() {
                return;
            }
        }
    }

    fn urgency(&self, sender: Fingerprint, delivery: DeliveryId) -> Urgency {
        self.blobs.get(&Key { sender, delivery }).map_or(Urgency::Normal, |blob| blob.urgency)
    }

    /// Reserves an offer's window for its whole life and lets it come. False: no place yet.
    fn admit(&mut self, key: Key, now: Instant) -> bool {
        let expires = now + self.policy.limits.ttl;
        let Some(blob) = self.blobs.get(&key) else { return false };
        let Phase::Pending { connection, transfer } = blob.phase else { return false };
        let (flow, size, sequence) = (blob.flow, blob.size, blob.sequence);
        let overhead = overhead(&blob.header, size);
        let window = floor(size);
        if self.is_closed(&flow) {
            return false;
        }
        if self.memory.room(&key.sender, window + overhead) < window + overhead {
            return false;
        }
        let sender = self.sender(key.sender);
        if sender.streams.room(&flow, 1) < 1 || sender.places.room(&flow, 1) < 1 {
            return false;
        }
        if let Some(again) = sender.pace.delivery_wait(now) {
            self.wait_for_pace(key.sender, again);
            return false;
        }
        if !sender.memory.take(&flow, window + overhead) {
            return false;
        }
        sender.pace.begin_delivery();
        sender.streams.charge(&flow, 1);
        sender.places.charge(&flow, 1);
        sender.drop_pending(&flow, sequence);
        self.memory.charge(&key.sender, window + overhead);
        if let Some(blob) = self.blobs.get_mut(&key) {
            blob.reserved = window;
            self.commands.push(Command::Log(Record {
                kind: EntryKind::Accepted,
                delivery: key.delivery,
                attempt: blob.attempt,
                digest: Digest::of(&blob.header),
                sender: key.sender,
                recipient: blob.flow.recipient,
            }));
            blob.phase = Phase::Receiving { connection, inflow: Inflow::new(transfer, size) };
            (blob.expires, blob.expiry) = (expires, Some(expires));
        }
        self.timers.insert((expires, Timer::Expiry(key)));
        self.extend(key);
        // Cut through: the recipient hears of it before its first byte is here.
        self.queue_for_collection(key, now);
        true
    }

    /// Grants a body what it can use, as far as there is memory for it, and marks it starved where there is not.
    pub(super) fn extend(&mut self, key: Key) {
        self.sender(key.sender).starved.remove(&key.delivery);
        let hold_max = self.policy.limits.hold_max;
        let Some(blob) = self.blobs.get_mut(&key) else { return };
        let Phase::Receiving { connection, inflow } = &blob.phase else { return };
        let (connection, inflow, flow) = (*connection, *inflow, blob.flow);
        let end = blob.size.unwrap_or(u64::MAX);
        let wish = match blob.size {
            Some(size) if size <= BODY_WINDOW_BYTES => size,
            _ => inflow
                .received()
                .saturating_add(inflow.received().clamp(FIRST_GRANT_BYTES, GRANT_BYTES_MAX))
                .min(end),
        };
        let enough = wish < inflow.granted() + RAISE_BYTES_MIN
            && wish < end
            && inflow.outstanding() >= RAISE_BYTES_MIN;
        if enough || inflow.granted_to_end() {
            return;
        }
        // What was tight for want of memory only, and has lost nothing yet, may be held after all.
        let must_pass = end != u64::MAX && end > hold_max;
        blob.tight = blob.tight && (must_pass || blob.held.base() > 0);
        let short = wish.saturating_sub(blob.limit());
        let mut starved = short > 0 && self.grow(key, short) < short;
        if starved {
            self.make_tight(key);
        }
        let limit = self.blobs.get(&key).map_or(0, Blob::limit);
        let more = wish.min(limit).saturating_sub(inflow.granted());
        let now = self.now;
        let sender = self.sender(key.sender);
        let share = sender.outstanding.room(&flow, more);
        let (share, again) = sender.pace.grant(share, RAISE_BYTES_MIN, now);
        sender.outstanding.charge(&flow, share);
        if let Some(again) = again {
            self.wait_for_pace(key.sender, again);
        }
        starved |= share < more;
        if starved {
            self.sender(key.sender).starved.insert(key.delivery);
            self.hungry.insert(key.sender);
        }
        let Some(Blob { phase: Phase::Receiving { inflow, .. }, .. }) = self.blobs.get_mut(&key) else {
            return;
        };
        if let Some(up_to) = inflow.grant(inflow.granted() + share) {
            let transfer = inflow.transfer();
            self.commands.push(Command::ToSender(connection, ToSender::Grant { transfer, up_to }));
        }
    }

    /// The sender has done what it may at this moment: back-pressure until then, never a drop.
    fn wait_for_pace(&mut self, sender: Fingerprint, again: Instant) {
        let books = self.sender(sender);
        if books.pace_timer.is_some_and(|due| due <= again) {
            return;
        }
        let old = books.pace_timer.replace(again);
        if let Some(old) = old {
            self.timers.remove(&(old, Timer::Pace(sender)));
        }
        self.timers.insert((again, Timer::Pace(sender)));
    }

    /// Reserves more for a body, as its mode and the shares allow. Gives how much.
    fn grow(&mut self, key: Key, want: u64) -> u64 {
        let hold_max = self.policy.limits.hold_max;
        let Some(blob) = self.blobs.get(&key) else { return 0 };
        let ceiling = if blob.tight { PASS_WINDOW_BYTES } else { hold_max }.max(floor(blob.size));
        let rest = blob.size.unwrap_or(u64::MAX).saturating_sub(blob.limit());
        let want = want.max(FIRST_GRANT_BYTES).min(rest).min(ceiling.saturating_sub(blob.reserved));
        let flow = blob.flow;
        let want = self.memory.room(&key.sender, want);
        let want = self.sender(key.sender).memory.room(&flow, want);
        self.sender(key.sender).memory.charge(&flow, want);
        self.memory.charge(&key.sender, want);
        if let Some(blob) = self.blobs.get_mut(&key) {
            blob.reserved += want;
        }
        want
    }

    fn make_tight(&mut self, key: Key) {
        if let Some(blob) = self.blobs.get_mut(&key) {
            blob.tight = true;
        }
        self.free_taken(key);
    }

    /// In pass-through: forgets what the recipient has taken, and gives back what is not needed for the rest.
    pub(super) fn free_taken(&mut self, key: Key) {
        let Some(blob) = self.blobs.get_mut(&key) else { return };
        let Some(lease) = blob.lease.as_ref().filter(|_| blob.tight) else { return };
        let whole = blob.held.base() == 0;
        let freed = blob.held.free_to(lease.outflow.taken());
        if freed == 0 {
            return;
        }
        self.held -= freed;
        self.counters.passed_through += u64::from(whole);
        self.shrink(key);
    }

    /// Gives back what a body has reserved beyond its need.
    fn shrink(&mut self, key: Key) {
        let Some(blob) = self.blobs.get_mut(&key) else { return };
        let needed = match &blob.phase {
            Phase::Pending { .. } => return,
            Phase::Receiving { inflow, .. } => floor(blob.size).max(inflow.granted() - blob.held.base()),
            Phase::Complete { .. } => floor(Some(blob.held.end())).max(blob.held.bytes()),
        };
        let spare = blob.reserved.saturating_sub(needed);
        blob.reserved -= spare;
        let flow = blob.flow;
        self.memory.give(&key.sender, spare);
        self.sender(key.sender).memory.give(&flow, spare);
        self.freed = true;
    }

    /// The body that a stream of this connection says it is.
    pub(super) fn arriving(&self, connection: ConnectionId, transfer: Transfer) -> Option<Key> {
        let (sender, _) = self.connections.get(&connection)?;
        let delivery = *self.senders.get(sender)?.transfers.get(&transfer)?;
        Some(Key { sender: *sender, delivery })
    }

    pub(super) fn body(&mut self, connection: ConnectionId, transfer: Transfer, bytes: Bytes, now: Instant) {
        let Some(key) = self.arriving(connection, transfer) else {
            self.commands.push(Command::Stop(connection, transfer));
            return;
        };
        let Some(blob) = self.blobs.get_mut(&key) else { return };
        let flow = blob.flow;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let received = match &mut blob.phase {
            Phase::Receiving { inflow, .. } => inflow.receive(count),
            _ => Err(wire::Violation::OutOfState(transfer)),
        };
        if let Err(violation) = received {
            self.violated(connection, key.sender, &violation, now);
            return;
        }
        blob.held.push(bytes);
        self.held += count;
        self.held_peak = self.held_peak.max(self.held);
        self.counters.bytes_in += count;
        self.sender(key.sender).outstanding.give(&flow, count);
        self.push_out(key);
        self.extend(key);
        if !self.sender(key.sender).starved.is_empty() {
            self.freed = true;
        }
    }

    pub(super) fn body_end(
        &mut self,
        connection: ConnectionId,
        transfer: Transfer,
        digest: Digest,
        now: Instant,
    ) {
        let Some(key) = self.arriving(connection, transfer) else { return };
        let Some(blob) = self.blobs.get_mut(&key) else { return };
        let finished = match &blob.phase {
            Phase::Receiving { inflow, .. } => inflow.finish().map(|()| *inflow),
            _ => Err(wire::Violation::OutOfState(transfer)),
        };
        let inflow = match finished {
            Ok(inflow) => inflow,
            Err(violation) => {
                self.violated(connection, key.sender, &violation, now);
                return;
            }
        };
        if blob.announced.is_some_and(|announced| announced != digest) {
            self.end(key, End::OtherBody);
            return;
        }
        blob.phase = Phase::Complete { digest };
        let flow = blob.flow;
        debug!(delivery = %key.delivery.short(), attempt = %blob.attempt, bytes = blob.held.end(), "deposited");
        let sender = self.sender(key.sender);
        sender.transfers.remove(&transfer);
        sender.starved.remove(&key.delivery);
        sender.streams.give(&flow, 1);
        sender.outstanding.give(&flow, inflow.outstanding());
        sender.pace.unused(inflow.outstanding());
        self.counters.deposited += 1;
        self.freed = true;
        self.shrink(key);
        self.commands.push(Command::ToSender(connection, ToSender::Deposited { transfer }));
        self.push_out(key);
        // After that: a recipient that keeps up has the loose pieces already.
        if let Some(blob) = self.blobs.get_mut(&key) {
            blob.held.complete();
        }
    }

    fn violated(
        &mut self,
        connection: ConnectionId,
        sender: Fingerprint,
        violation: &wire::Violation,
        now: Instant,
    ) {
        warn!(%sender, %violation, "sender broke the protocol");
        self.commands.push(Command::Close(connection, CloseCode::Violation));
        self.disconnected(connection, now);
    }

    /// Answers count into memory and places of the flow they are about.
    pub(super) fn charge_answer(&mut self, sender: Fingerprint, flow: &Flow, bytes: u64) {
        self.memory.charge(&sender, bytes);
        let books = self.sender(sender);
        books.memory.charge(flow, bytes);
        books.places.charge(flow, 1);
    }

    /// And are given back when acknowledged.
    pub(super) fn refund_answer(&mut self, sender: Fingerprint, answer: &answers::Answer) {
        self.memory.give(&sender, answer.bytes());
        let books = self.sender(sender);
        books.memory.give(&answer.flow, answer.bytes());
        books.places.give(&answer.flow, 1);
        self.freed = true;
    }
}

/// What an admitted body has for its whole life.
fn floor(size: Option<u64>) -> u64 {
    size.unwrap_or(u64::MAX).min(BODY_WINDOW_BYTES)
}
