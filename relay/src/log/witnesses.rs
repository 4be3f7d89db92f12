//! What the gateways are told of the log, as a value: heads that continue what each has seen, and the places of its
//! settlements under them.
//!
//! A gateway is shown another head only after it has said what it believes, so that none is overtaken. What it cannot be
//! told, since it is away for too long or too slow, its sender submits again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use base::{Attempt, DeliveryId, EpochId, Fingerprint};
use transport::ConnectionId;
use wire::{LogHead, Logged, Role};

use super::{Appended, LogView};

/// Settlements of one gateway that wait for a head. With a head they go out together, and have to fit its queue.
const WAITING_MAX: usize = 2048;
/// Settlements that one gateway may submit again within [`RESUBMIT_WINDOW`].
const RESUBMITTED_MAX: u32 = 512;
const RESUBMIT_WINDOW: Duration = Duration::from_secs(60);
/// Words about heads that a gateway has at the beginning: what it hands back, and a correction.
const WORDS_FIRST: u32 = 2;
/// Words that it may save up.
const WORDS_MAX: u32 = 8;

/// A gateway in one of its roles.
pub type Peer = (Fingerprint, Role);

/// What a gateway is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    /// A head.
    Head(LogHead),
    /// The place of a settlement below the head before.
    Logged(Logged),
}

/// A settlement whose place is not proved yet.
#[derive(Clone, Copy, Debug)]
struct Unproved {
    delivery: DeliveryId,
    attempt: Attempt,
    place: Appended,
}

#[derive(Debug, Default)]
struct Gateway {
    connection: Option<ConnectionId>,
    /// The size that it believes, of the running epoch.
    believes: u64,
    /// From and to which size it was shown a head last, on this connection and in this epoch.
    shown: Option<(u64, u64)>,
    /// How often it may still speak about heads.
    words: u32,
    waiting: VecDeque<Unproved>,
    /// Since when it submitted how much again.
    resubmitted: Option<(Instant, u32)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Witnesses {
    gateways: HashMap<Peer, Gateway>,
    connections: HashMap<ConnectionId, Peer>,
}

impl Witnesses {
    /// A gateway is there, and is told where the log stands.
    pub fn connected(&mut self, connection: ConnectionId, peer: Peer, view: &LogView) -> Vec<Telling> {
        let gateway = self.gateways.entry(peer).or_default();
        if let Some(older) = gateway.connection.replace(connection) {
            self.connections.remove(&older);
        }
        (gateway.shown, gateway.words) = (None, WORDS_FIRST);
        self.connections.insert(connection, peer);
        gateway.tell(view)
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        if let Some(peer) = self.connections.remove(&connection)
            && let Some(gateway) = self.gateways.get_mut(&peer)
        {
            gateway.connection = None;
        }
    }

    /// Forgets who is not admitted any more.
    pub fn retain(&mut self, admitted: impl Fn(&Peer) -> bool) {
        self.gateways.retain(|peer, _| admitted(peer));
        self.connections.retain(|_, peer| admitted(peer));
    }

    /// A settlement found its place: both gateways want to have it proved.
    pub fn settled(&mut self, peers: [Peer; 2], delivery: DeliveryId, attempt: Attempt, place: Appended) {
        for peer in peers {
            let waiting = &mut self.gateways.entry(peer).or_default().waiting;
            if waiting.len() == WAITING_MAX {
                waiting.pop_front();
            }
            waiting.push_back(Unproved { delivery, attempt, place });
        }
    }

    /// Another head was signed: what each gateway that can be told is told.
    pub fn head(&mut self, view: &LogView) -> Vec<(ConnectionId, Role, Telling)> {
        let mut tellings = Vec::new();
        for ((_, role), gateway) in &mut self.gateways {
            if let Some(connection) = gateway.connection {
                tellings.extend(gateway.tell(view).into_iter().map(|telling| (connection, *role, telling)));
            }
        }
        tellings
    }

    /// The epoch is over, and `last` was its last head. Nothing that waited for another one will be proved.
    pub fn epoch_ended(&mut self, last: &LogView) -> Vec<(ConnectionId, Role, Telling)> {
        let tellings = self.head(last);
        for gateway in self.gateways.values_mut() {
            (gateway.believes, gateway.shown) = (0, None);
            gateway.waiting.clear();
        }
        tellings
    }

    /// Whose word about a head may be looked at: to verify one costs.
    pub fn may_speak(&mut self, connection: ConnectionId) -> Option<Peer> {
        let peer = *self.connections.get(&connection)?;
        let gateway = self.gateways.get_mut(&peer)?;
        gateway.words = gateway.words.checked_sub(1)?;
        Some(peer)
    }

    /// A gateway believes the head of this size in the running epoch.
    pub fn believed(&mut self, peer: &Peer, size: u64, view: &LogView) -> Vec<Telling> {
        let Some(gateway) = self.gateways.get_mut(peer) else { return Vec::new() };
        gateway.believes = size;
        gateway.tell(view)
    }

    /// Whether a gateway may submit one more settlement again.
    pub fn may_resubmit(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let Some(peer) = self.connections.get(&connection) else { return false };
        let Some(gateway) = self.gateways.get_mut(peer) else { return false };
        let (since, count) = gateway
            .resubmitted
            .filter(|(since, _)| now.saturating_duration_since(*since) < RESUBMIT_WINDOW)
            .unwrap_or((now, 0));
        gateway.resubmitted = Some((since, count.saturating_add(1)));
        count < RESUBMITTED_MAX
    }
}

impl Gateway {
    /// The head, if it is news and the last one was answered, with the settlements below it.
    fn tell(&mut self, view: &LogView) -> Vec<Telling> {
        let size = view.size();
        let due = match self.shown {
            None => true,
            Some((from, to)) if to > self.believes => from != self.believes,
            Some(_) => size > self.believes,
        };
        // One that says that it is ahead of the head is shown that head.
        let Some(consistency) = view.prove_consistency(self.believes.min(size), size).filter(|_| due) else {
            return Vec::new();
        };
        let from = self.believes.min(size);
        self.shown = Some((self.believes, size));
        self.words = (self.words + 1).min(WORDS_MAX);
        let head = LogHead { checkpoint: view.text().to_owned(), from, consistency };
        let epoch = view.epoch();
        let mut tellings = vec![Telling::Head(head)];
        self.waiting.retain(|unproved| match unproved.logged(epoch, view) {
            Some(logged) => {
                tellings.push(Telling::Logged(logged));
                false
            }
            None => true,
        });
        tellings
    }
}

impl Unproved {
    fn logged(&self, epoch: EpochId, view: &LogView) -> Option<Logged> {
        let Self { delivery, attempt, place } = *self;
        let path = (place.epoch == epoch).then(|| view.prove_inclusion(place.index, view.size()))??;
        Some(Logged { delivery, attempt, salt: place.salt.0, index: place.index, size: view.size(), path })
    }
}

#[cfg(test)]
mod tests;
