//! What senders are told until they acknowledge it: settlements and notices.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use base::{Attempt, DeliveryId, Fingerprint, RouteId};
use transport::ConnectionId;
use wire::{NoticeKind, Octets, ToRecipient, ToSender};

use super::{Command, Flow, Key, SettlementCheck, Timer, Vault};

/// Stands for the route of a delivery that the vault does not know.
pub(super) const NO_ROUTE: RouteId = RouteId([0; 16]);

/// An answer that a sender has had this long without acknowledging it is sent again, behind the others: one that it
/// cannot record must not stand in their way for ever.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// The answers to one sender, in order.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_sequence: BTreeMap<u64, Answer>,
    by_delivery: HashMap<DeliveryId, u64>,
    next: u64,
    /// On this connection: all before it are sent.
    sent_before: u64,
    in_flight: usize,
    /// The timer of the oldest one that is sent.
    timer: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Answer {
    delivery: DeliveryId,
    attempt: Attempt,
    pub(super) flow: Flow,
    kind: Kind,
    sent: Option<Instant>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Settlement { settlement: Octets, record: Octets },
    Notice(NoticeKind),
}

impl Answer {
    pub(super) fn bytes(&self) -> u64 {
        match &self.kind {
            Kind::Settlement { settlement, record } => {
                u64::try_from(settlement.len() + record.len()).unwrap_or(0)
            }
            Kind::Notice(_) => 0,
        }
    }

    fn frame(&self) -> ToSender {
        let Self { delivery, attempt, .. } = *self;
        match &self.kind {
            Kind::Settlement { settlement, record } => ToSender::Settlement {
                delivery,
                attempt,
                settlement: settlement.clone(),
                record: record.clone(),
            },
            Kind::Notice(kind) => ToSender::Notice { delivery, attempt, kind: *kind },
        }
    }
}

impl Answers {
    /// Unacknowledged answers.
    pub(super) fn len(&self) -> usize {
        self.by_sequence.len()
    }

    /// The timer of the oldest one that is sent.
    pub(super) fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// The attempt that a delivery was answered for, and whether by a settlement.
    pub(super) fn of(&self, delivery: &DeliveryId) -> Option<(Attempt, bool)> {
        let answer = self.by_sequence.get(self.by_delivery.get(delivery)?)?;
        Some((answer.attempt, matches!(answer.kind, Kind::Settlement { .. })))
    }

    /// On a new connection everything is sent again.
    pub(super) fn rewind(&mut self) {
        (self.sent_before, self.in_flight) = (0, 0);
    }

    fn remove(&mut self, delivery: &DeliveryId) -> Option<Answer> {
        let sequence = self.by_delivery.remove(delivery)?;
        if sequence < self.sent_before {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        self.by_sequence.remove(&sequence)
    }

    fn insert(&mut self, answer: Answer) {
        self.by_delivery.insert(answer.delivery, self.next);
        self.by_sequence.insert(self.next, answer);
        self.next += 1;
    }

    /// When the oldest unacknowledged one is due again.
    fn due(&self) -> Option<Instant> {
        let (sequence, oldest) = self.by_sequence.first_key_value()?;
        oldest.sent.filter(|_| *sequence < self.sent_before).map(|sent| sent + REPEAT_AFTER)
    }

    /// Puts what is due behind the others, to be sent again.
    fn put_back(&mut self, now: Instant) {
        while self.due().is_some_and(|due| due <= now) {
            let Some((_, mut answer)) = self.by_sequence.pop_first() else { return };
            self.in_flight = self.in_flight.saturating_sub(1);
            answer.sent = None;
            self.insert(answer);
        }
    }

    fn next_to_send(&mut self, in_flight_max: usize, now: Instant) -> Option<ToSender> {
        if self.in_flight >= in_flight_max {
            return None;
        }
        let (sequence, answer) = self.by_sequence.range_mut(self.sent_before..).next()?;
        answer.sent = Some(now);
        self.sent_before = sequence + 1;
        self.in_flight += 1;
        Some(answer.frame())
    }
}

impl<C: SettlementCheck> Vault<C> {
    /// Keeps an answer until it is acknowledged, and sends it as soon as its sender has room for it.
    pub(super) fn answer(&mut self, key: Key, flow: Flow, attempt: Attempt, kind: Kind) {
        let sender = self.sender(key.sender);
        if sender.answers.of(&key.delivery).is_some_and(|(answered, _)| answered > attempt) {
            return;
        }
        self.drop_answer(key);
        let answer = Answer { delivery: key.delivery, attempt, flow, kind, sent: None };
        self.charge_answer(key.sender, &flow, answer.bytes());
        self.sender(key.sender).answers.insert(answer);
        self.send_answers(key.sender);
    }

    /// Whether an answer about a delivery that is not here may be kept. (One whose blob has just ended takes the place
    /// that the blob gives back.)
    pub(super) fn has_room_for_answer(&mut self, key: &Key, flow: &Flow, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let whole = self.memory.room(&key.sender, bytes) == bytes;
        let sender = self.sender(key.sender);
        let replaces = sender.answers.of(&key.delivery).is_some();
        replaces || (whole && sender.memory.room(flow, bytes) == bytes && sender.places.room(flow, 1) == 1)
    }

    pub(super) fn send_answers(&mut self, sender: Fingerprint) {
        let (in_flight_max, now) = (self.policy.limits.answers_in_flight, self.now);
        let books = self.sender(sender);
        let Some(connection) = books.connection else { return };
        let mut frames = Vec::new();
        while let Some(frame) = books.answers.next_to_send(in_flight_max, now) {
            frames.push(Command::ToSender(connection, frame));
        }
        let due = books.answers.due();
        let old = std::mem::replace(&mut books.answers.timer, due);
        self.commands.extend(frames);
        if old != due {
            self.timers.extend(due.map(|due| (due, Timer::Answers(sender))));
            if let Some(old) = old {
                self.timers.remove(&(old, Timer::Answers(sender)));
            }
        }
    }

    /// What a sender has not acknowledged for long goes to the end of the queue.
    pub(super) fn repeat_answers(&mut self, sender: Fingerprint) {
        let now = self.now;
        let books = self.sender(sender);
        books.answers.timer = None;
        if books.connection.is_some() {
            books.answers.put_back(now);
            self.send_answers(sender);
        }
    }

    /// Sends an answer again to a sender that asks for what was answered already.
    pub(super) fn resend_answer(&mut self, key: Key) {
        let books = self.sender(key.sender);
        let Some(connection) = books.connection else { return };
        let sequence = books.answers.by_delivery.get(&key.delivery).copied();
        let Some(sequence) = sequence.filter(|sequence| *sequence < books.answers.sent_before) else {
            return;
        };
        let frame = books.answers.by_sequence.get(&sequence).map(Answer::frame);
        self.commands.extend(frame.map(|frame| Command::ToSender(connection, frame)));
    }

    /// The sender has recorded the answer to this attempt: it is forgotten here, and the recipient hears of it, with
    /// what the sender signed for it.
    pub(super) fn acknowledge(
        &mut self,
        key: Key,
        attempt: Attempt,
        recipient: Fingerprint,
        manifest: Option<Octets>,
    ) {
        let Key { sender, delivery } = key;
        let answered = self.sender(sender).answers.of(&delivery);
        if answered.is_some_and(|(answered, _)| answered <= attempt) {
            self.drop_answer(key);
            self.send_answers(sender);
        }
        // A notice was the relay's own and is no news to the recipient.
        if !matches!(answered, Some((_, false))) {
            let manifest = manifest.filter(|bytes| bytes.len() <= wire::MANIFEST_BYTES_MAX);
            let acked = ToRecipient::Acked { sender, delivery, attempt, manifest };
            self.tell_recipient(sender, recipient, acked);
        }
    }

    pub(super) fn drop_answer(&mut self, key: Key) {
        if let Some(answer) = self.sender(key.sender).answers.remove(&key.delivery) {
            self.refund_answer(key.sender, &answer);
        }
    }

    /// The connection of a recipient, if it is there.
    pub(super) fn connection_of(&self, recipient: &Fingerprint) -> Option<ConnectionId> {
        self.recipients.get(recipient).and_then(|recipient| recipient.connection)
    }
}
