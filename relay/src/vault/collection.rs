//! The recipient's side: windows, leases, bytes on their way out.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use base::limits::BODY_WINDOW_BYTES;
use base::{Fingerprint, RouteId};
use tracing::debug;
use transport::ConnectionId;
use wire::{Outflow, ToRecipient, ToSender, Transfer};

use super::turns::Waiting;
use super::{Blob, Command, End, Flow, Key, Lease, Phase, RELEASE_PAUSE, SettlementCheck, Timer, Vault};

/// Bytes handed to one stream before it has taken them.
const IN_FLIGHT_BYTES: u64 = BODY_WINDOW_BYTES;
/// Pieces handed to one stream before it has taken them; transport keeps room for a few more.
const IN_FLIGHT_PIECES: u32 = 120;

/// A recipient as the vault sees it.
#[derive(Debug, Default)]
pub(super) struct Recipient {
    pub(super) connection: Option<ConnectionId>,
    next_transfer: Transfer,
    pub(super) routes: BTreeMap<RouteId, Route>,
    /// Of this connection.
    leases: HashMap<Transfer, Key>,
}

#[derive(Debug, Default)]
pub(super) struct Route {
    /// The most leases at once; belongs to the connection.
    window: u32,
    /// Its recipient has said that the destination is down: nothing is admitted for it, so that a dead
    /// destination holds no memory here. Belongs to the connection.
    closed: bool,
    leased: u32,
    /// Unleased blobs, the most urgent first, and among equals in the order in which they were offered to the relay.
    waiting: Waiting,
}

impl Route {
    /// Nothing to remember: senders choose route ids, and may not fill this map with them.
    fn is_empty(&self) -> bool {
        self.window == 0 && !self.closed && self.leased == 0 && self.waiting.is_empty()
    }
}

impl Recipient {
    /// Leases at this moment.
    pub(super) fn leases(&self) -> usize {
        self.leases.len()
    }
}

impl<C: SettlementCheck> Vault<C> {
    pub(super) fn recipient_connected(&mut self, connection: ConnectionId, peer: Fingerprint) {
        let recipient = self.recipients.entry(peer).or_default();
        recipient.connection = Some(connection);
        for route in recipient.routes.values_mut() {
            (route.window, route.closed) = (0, false);
        }
    }

    /// All its leases end. What is still whole here will be offered again, in its old order.
    pub(super) fn recipient_disconnected(&mut self, peer: Fingerprint, now: Instant) {
        let Some(recipient) = self.recipients.get_mut(&peer) else { return };
        recipient.connection = None;
        self.freed = true;
        for route in recipient.routes.values_mut() {
            (route.window, route.closed) = (0, false);
        }
        let leases: Vec<_> = recipient.leases.keys().copied().collect();
        for transfer in leases {
            self.end_lease(peer, transfer, now, now);
        }
    }

    pub(super) fn window(
        &mut self,
        connection: ConnectionId,
        peer: Fingerprint,
        route: RouteId,
        deliveries: u32,
        now: Instant,
    ) {
        let routes_max = super::prekeys::ROUTES_MAX;
        let Some(recipient) = self.recipients.get_mut(&peer) else { return };
        if recipient.routes.len() >= routes_max && !recipient.routes.contains_key(&route) {
            return;
        }
        let books = recipient.routes.entry(route).or_default();
        // What waited outside because of it is looked at again.
        self.freed |= books.closed && deliveries > 0;
        (books.window, books.closed) = (deliveries, deliveries == 0);
        if deliveries > 0 {
            self.tell_prekeys_low(connection, peer, route);
        }
        self.offer_waiting(peer, route, now);
    }

    /// Whether a flow's recipient is here and its destination is down.
    pub(super) fn is_closed(&self, flow: &Flow) -> bool {
        let recipient =
            self.recipients.get(&flow.recipient).filter(|recipient| recipient.connection.is_some());
        recipient.and_then(|recipient| recipient.routes.get(&flow.route)).is_some_and(|route| route.closed)
    }

    /// Puts an admitted, unleased blob among those to be offered.
    pub(super) fn queue_for_collection(&mut self, key: Key, now: Instant) {
        let Some(blob) = self.blobs.get(&key) else { return };
        if blob.lease.is_some() || matches!(blob.phase, Phase::Pending { .. }) {
            return;
        }
        let (peer, route) = (blob.flow.recipient, blob.flow.route);
        let recipient = self.recipients.entry(peer).or_default();
        recipient.routes.entry(route).or_default().waiting.insert(blob.urgency, blob.sequence, key);
        self.offer_waiting(peer, route, now);
    }

    /// Leases as many of a route's blobs as its window allows.
    fn offer_waiting(&mut self, peer: Fingerprint, route_id: RouteId, now: Instant) {
        if self.draining {
            return;
        }
        let (leases_max, lease) = (self.policy.limits.leases, self.policy.limits.lease);
        let Some(recipient) = self.recipients.get_mut(&peer) else { return };
        let Some(connection) = recipient.connection else { return };
        let Some(route) = recipient.routes.get_mut(&route_id) else { return };
        while route.leased < route.window && recipient.leases.len() < leases_max {
            let Some(key) = route.waiting.pop() else { return };
            let Some(blob) = self.blobs.get_mut(&key) else { continue };
            recipient.next_transfer += 1;
            let transfer = recipient.next_transfer;
            recipient.leases.insert(transfer, key);
            route.leased += 1;
            let until = now + lease;
            self.timers.insert((until, Timer::Lease(peer, transfer)));
            super::stop_expiry(&mut self.timers, key, blob);
            blob.lease = Some(Lease::new(connection, transfer, until));
            let Blob { attempt, size, flow, urgency, .. } = *blob;
            let header = blob.header.clone();
            let (sender, delivery, route) = (key.sender, key.delivery, flow.route);
            let frame =
                ToRecipient::Offer { transfer, delivery, attempt, sender, route, header, size, urgency };
            self.commands.push(Command::ToRecipient(connection, frame));
            self.counters.offered += 1;
        }
    }

    pub(super) fn granted(&mut self, peer: Fingerprint, transfer: Transfer, up_to: u64) {
        let Some(key) = self.leased(peer, transfer) else { return };
        let Some(blob) = self.blobs.get_mut(&key) else { return };
        let urgency = blob.urgency;
        let Some(lease) = blob.lease.as_mut() else { return };
        if lease.outflow.grant(up_to) {
            let command = Command::Open(lease.connection, lease.transfer, urgency);
            self.commands.push(command);
        }
        self.push_out(key);
    }

    /// Hands to a lease's stream what is here, granted, and not too much at once.
    pub(super) fn push_out(&mut self, key: Key) {
        let Some(blob) = self.blobs.get_mut(&key) else { return };
        let Some(lease) = &mut blob.lease else { return };
        if !lease.outflow.open() || lease.refused || lease.finished {
            return;
        }
        while lease.pieces < IN_FLIGHT_PIECES {
            let room = lease.outflow.room();
            let Some(bytes) = blob.held.at(lease.outflow.next(), room).filter(|_| room > 0) else { break };
            let count = u64::try_from(bytes.len()).unwrap_or(0);
            lease.outflow.queue(count);
            lease.pieces += 1;
            self.counters.bytes_out += count;
            self.commands.push(Command::Write(lease.connection, lease.transfer, bytes));
        }
        if let Phase::Complete { digest } = blob.phase
            && lease.outflow.next() == blob.held.end()
            && lease.pieces < IN_FLIGHT_PIECES
        {
            lease.finished = true;
            self.commands.push(Command::Finish(lease.connection, lease.transfer, digest));
        }
    }

    pub(super) fn written(&mut self, connection: ConnectionId, transfer: Transfer, bytes: u64) {
        let Some(key) = self.leased_on(connection, transfer) else { return };
        let Some(lease) = self.blobs.get_mut(&key).and_then(|blob| blob.lease.as_mut()) else { return };
        lease.pieces = lease.pieces.saturating_sub(1);
        lease.outflow.written(bytes);
        self.push_out(key);
        self.free_taken(key);
        self.extend(key);
    }

    pub(super) fn delivered(&mut self, connection: ConnectionId, transfer: Transfer) {
        let Some(key) = self.leased_on(connection, transfer) else { return };
        let Some(blob) = self.blobs.get_mut(&key) else { return };
        let Some(lease) = &mut blob.lease else { return };
        lease.collected = true;
        let frame = ToSender::Collected { delivery: key.delivery, attempt: blob.attempt };
        self.counters.collected += 1;
        if let Some(connection) = self.sender(key.sender).connection {
            self.commands.push(Command::ToSender(connection, frame));
        }
    }

    /// The recipient wants no more bytes; what it has to say comes as a settlement or a release.
    pub(super) fn refused(&mut self, connection: ConnectionId, transfer: Transfer) {
        let Some(key) = self.leased_on(connection, transfer) else { return };
        if let Some(lease) = self.blobs.get_mut(&key).and_then(|blob| blob.lease.as_mut()) {
            lease.refused = true;
        }
    }

    pub(super) fn renew(&mut self, peer: Fingerprint, transfers: &[Transfer], now: Instant) {
        let until = now + self.policy.limits.lease;
        for transfer in transfers.iter().take(wire::RENEWED_PER_FRAME_MAX) {
            let Some(key) = self.leased(peer, *transfer) else { continue };
            if let Some(lease) = self.blobs.get_mut(&key).and_then(|blob| blob.lease.as_mut()) {
                // Its timer looks at this when it is due.
                lease.until = until;
            }
        }
    }

    pub(super) fn release(&mut self, peer: Fingerprint, transfer: Transfer, now: Instant) {
        self.end_lease(peer, transfer, now + RELEASE_PAUSE, now);
    }

    pub(super) fn expire_lease(&mut self, peer: Fingerprint, transfer: Transfer, now: Instant) {
        let Some(key) = self.leased(peer, transfer) else { return };
        let until = self.blobs.get(&key).and_then(|blob| blob.lease.as_ref()).map(|lease| lease.until);
        match until {
            Some(until) if until > now => {
                self.timers.insert((until, Timer::Lease(peer, transfer)));
                if let Some(lease) = self.blobs.get_mut(&key).and_then(|blob| blob.lease.as_mut()) {
                    lease.timer = until;
                }
            }
            Some(_) => {
                debug!(delivery = %key.delivery.short(), "lease lapsed");
                self.counters.leases_lapsed += 1;
                if let Some(connection) = self.connection_of(&peer) {
                    self.commands.push(Command::ToRecipient(connection, ToRecipient::Withdrawn { transfer }));
                }
                self.end_lease(peer, transfer, now + RELEASE_PAUSE, now);
            }
            None => {}
        }
    }

    /// A lease ends unsettled. What is whole waits for the next one; what was partly freed is gone.
    fn end_lease(&mut self, peer: Fingerprint, transfer: Transfer, again: Instant, now: Instant) {
        let Some(key) = self.leased(peer, transfer) else { return };
        let ttl = self.policy.limits.ttl;
        let Some(blob) = self.blobs.get_mut(&key) else { return };
        if blob.held.base() > 0 {
            self.counters.gone += 1;
            debug!(delivery = %key.delivery.short(), attempt = %blob.attempt, "gone");
            self.end(key, End::Gone);
            return;
        }
        let Some(lease) = blob.lease.take() else { return };
        // Lost with its recipient, it may wait anew. One that its recipient gives back time and again must end one day.
        if again <= now {
            blob.expires = now + ttl;
        }
        let (expires, route) = (blob.expires, blob.flow.route);
        blob.expiry = Some(expires);
        self.timers.insert((expires, Timer::Expiry(key)));
        self.forget_lease(peer, route, &lease);
        if again > now {
            self.timers.insert((again, Timer::Again(key)));
            self.offer_waiting(peer, route, now);
        } else {
            self.queue_for_collection(key, now);
        }
    }

    fn forget_lease(&mut self, peer: Fingerprint, route: RouteId, lease: &Lease) {
        if lease.outflow.open() && !lease.finished {
            self.commands.push(Command::Reset(lease.connection, lease.transfer));
        }
        self.timers.remove(&(lease.timer, Timer::Lease(peer, lease.transfer)));
        let Some(recipient) = self.recipients.get_mut(&peer) else { return };
        recipient.leases.remove(&lease.transfer);
        if let Some(route) = recipient.routes.get_mut(&route) {
            route.leased = route.leased.saturating_sub(1);
        }
    }

    /// A blob has ended: so does its lease, or its waiting. The next one of its route takes its place.
    pub(super) fn leave_collection(&mut self, key: Key, blob: &Blob, why: End) {
        let (peer, route_id) = (blob.flow.recipient, blob.flow.route);
        if let Some(lease) = &blob.lease {
            if why != End::Settled {
                let frame = ToRecipient::Withdrawn { transfer: lease.transfer };
                self.commands.push(Command::ToRecipient(lease.connection, frame));
            }
            self.forget_lease(peer, route_id, lease);
            self.offers_due.insert((peer, route_id));
        } else if let Some(recipient) = self.recipients.get_mut(&peer)
            && let Some(route) = recipient.routes.get_mut(&route_id)
            && route.waiting.remove(blob.urgency, blob.sequence, key)
        {
            self.offers_due.insert((peer, route_id));
        }
    }

    /// Routes whose window has room again, or that ended with their last blob.
    pub(super) fn offer_due(&mut self, now: Instant) {
        for (peer, route) in std::mem::take(&mut self.offers_due) {
            self.offer_waiting(peer, route, now);
            if let Some(recipient) = self.recipients.get_mut(&peer)
                && recipient.routes.get(&route).is_some_and(Route::is_empty)
            {
                recipient.routes.remove(&route);
            }
        }
    }

    fn leased(&self, peer: Fingerprint, transfer: Transfer) -> Option<Key> {
        self.recipients.get(&peer)?.leases.get(&transfer).copied()
    }

    fn leased_on(&self, connection: ConnectionId, transfer: Transfer) -> Option<Key> {
        let (peer, _) = self.connections.get(&connection)?;
        self.leased(*peer, transfer)
    }
}

impl Lease {
    fn new(connection: ConnectionId, transfer: Transfer, until: Instant) -> Self {
        let outflow = Outflow::new(IN_FLIGHT_BYTES);
        Self {
            connection,
            transfer,
            outflow,
            pieces: 0,
            until,
            timer: until,
            finished: false,
            collected: false,
            refused: false,
        }
    }
}
