//! Questions from a sender to a recipient, and the answers back: passed on or refused at once, never kept. All that is
//! remembered is who waits, for at most [`wire::ASK_MS_MAX`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base::{Fingerprint, RouteId};
use tracing::debug;
use transport::ConnectionId;
use wire::{Octets, ToRecipient, ToSender, UnansweredCode};

use super::rate::Bucket;
use super::{Command, SettlementCheck, Timer, Vault};

/// Questions of one sender that wait for an answer.
const OPEN_MAX: usize = 64;
/// Questions of one sender in a second, and at once: each of a few hundred routes asks when a link stands.
const PER_SECOND: u64 = 8;
const BURST: u64 = 256;

/// A question as it came.
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) recipient: Fingerprint,
    pub(super) route: RouteId,
    pub(super) within_ms: u32,
    pub(super) question: Octets,
}

/// One that waits.
#[derive(Debug)]
struct Open {
    connection: ConnectionId,
    recipient: Fingerprint,
    route: RouteId,
    until: Instant,
}

/// All that wait, and how fast each sender asks.
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: HashMap<(Fingerprint, u64), Open>,
    pace: HashMap<Fingerprint, Bucket>,
}

impl Asks {
    fn take(&mut self, sender: Fingerprint, now: Instant) -> bool {
        let bucket = self.pace.entry(sender).or_insert_with(|| Bucket::new(PER_SECOND, BURST, now));
        let may = bucket.available(now) > 0;
        if may {
            bucket.take(1);
        }
        may
    }

    fn is_busy(&self, sender: &Fingerprint, route: RouteId) -> bool {
        let mut own = self.open.iter().filter(|((asker, _), _)| asker == sender);
        own.clone().count() >= OPEN_MAX || own.any(|(_, open)| open.route == route)
    }
}

impl<C: SettlementCheck> Vault<C> {
    pub(super) fn ask(&mut self, connection: ConnectionId, sender: Fingerprint, asked: Asked) {
        self.counters.asks += 1;
        let Asked { id, recipient, route, within_ms, question } = asked;
        let to = match self.may_ask((sender, id), recipient, route, question.len()) {
            Ok(to) => to,
            Err(code) => return self.unanswered(connection, (sender, id), code),
        };
        let within_ms = within_ms.min(wire::ASK_MS_MAX);
        let until = self.now + Duration::from_millis(u64::from(within_ms));
        self.asks.open.insert((sender, id), Open { connection, recipient, route, until });
        self.timers.insert((until, Timer::Ask(sender, id)));
        let frame = ToRecipient::Ask { sender, id, route, within_ms, question };
        self.commands.push(Command::ToRecipient(to, frame));
    }

    /// The recipient's connection, if this question may go there.
    fn may_ask(
        &mut self,
        (sender, id): (Fingerprint, u64),
        recipient: Fingerprint,
        route: RouteId,
        bytes: usize,
    ) -> Result<ConnectionId, UnansweredCode> {
        if bytes > wire::QUESTION_BYTES_MAX || self.asks.open.contains_key(&(sender, id)) {
            return Err(UnansweredCode::Malformed);
        }
        if !self.policy.may_deposit(&sender, &recipient) {
            return Err(UnansweredCode::NotAdmitted);
        }
        if self.asks.is_busy(&sender, route) || !self.asks.take(sender, self.now) {
            return Err(UnansweredCode::Busy);
        }
        self.connection_of(&recipient).ok_or(UnansweredCode::Away)
    }

    /// Passes an answer on, from the one who was asked and to the one who waits for it.
    pub(super) fn pass_answer(&mut self, from: Fingerprint, sender: Fingerprint, id: u64, answer: Octets) {
        let asked = self.asks.open.get(&(sender, id)).is_some_and(|open| open.recipient == from);
        if !asked || answer.len() > wire::ANSWER_BYTES_MAX {
            return;
        }
        if let Some(open) = self.close_ask(sender, id) {
            self.commands.push(Command::ToSender(open.connection, ToSender::Answer { id, answer }));
        }
    }

    pub(super) fn expire_ask(&mut self, sender: Fingerprint, id: u64) {
        self.end_ask(sender, id, UnansweredCode::Expired);
    }

    /// The recipient is gone, and its answers with it.
    pub(super) fn end_asks_to(&mut self, recipient: Fingerprint) {
        self.end_asks(UnansweredCode::Away, |_, open| open.recipient == recipient);
    }

    /// The sender is gone: nobody waits.
    pub(super) fn forget_asks_of(&mut self, sender: Fingerprint) {
        for (asker, id) in self.asks_where(|asker, _| *asker == sender) {
            self.close_ask(asker, id);
        }
    }

    /// After another policy: who may not ask any more gets no answer, and nothing is kept of who is gone.
    pub(super) fn end_unadmitted_asks(&mut self) {
        let policy = self.policy.clone();
        self.end_asks(UnansweredCode::NotAdmitted, |asker, open| !policy.may_deposit(asker, &open.recipient));
        self.asks.pace.retain(|peer, _| policy.tenants.contains_key(peer));
    }

    fn end_asks(&mut self, code: UnansweredCode, over: impl Fn(&Fingerprint, &Open) -> bool) {
        for (asker, id) in self.asks_where(over) {
            self.end_ask(asker, id, code);
        }
    }

    fn asks_where(&self, wanted: impl Fn(&Fingerprint, &Open) -> bool) -> Vec<(Fingerprint, u64)> {
        let found = self.asks.open.iter().filter(|((asker, _), open)| wanted(asker, open));
        let mut found: Vec<_> = found.map(|(key, _)| *key).collect();
        found.sort_unstable();
        found
    }

    fn end_ask(&mut self, sender: Fingerprint, id: u64, code: UnansweredCode) {
        if let Some(open) = self.close_ask(sender, id) {
            self.unanswered(open.connection, (sender, id), code);
        }
    }

    fn unanswered(
        &mut self,
        connection: ConnectionId,
        (sender, id): (Fingerprint, u64),
        code: UnansweredCode,
    ) {
        debug!(%sender, %code, "question without an answer");
        self.counters.asks_unanswered += 1;
        self.commands.push(Command::ToSender(connection, ToSender::Unanswered { id, code }));
    }

    fn close_ask(&mut self, sender: Fingerprint, id: u64) -> Option<Open> {
        let open = self.asks.open.remove(&(sender, id))?;
        self.timers.remove(&(open.until, Timer::Ask(sender, id)));
        Some(open)
    }
}
