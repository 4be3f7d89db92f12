use std::collections::HashMap;

use base::limits::{SESSION_INSTANCES_MAX, SESSION_LIFE_MAX};
use base::{Attempt, DeliveryId, Digest, Fingerprint, Name, PrekeyId, RouteId, Secret, SessionId, Timestamp};
use identity::IdentityPublic;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::header::{self, Close, Header, OpeningPart};
use crate::opening::{Info, Opening};
use crate::question::{OpenedQuestion, Question};
use crate::session_table::{Session, SessionTable};
use crate::{
    BodyContext, Commitment, FORMAT_VERSION, HeaderError, PrekeyKind, PrekeySecret, Suite, cbor, kem,
};

/// The receiver's prekeys and the sessions opened to them: all that opens headers, in memory only. After a
/// restart it is empty, and senders address their bodies anew.
pub struct ReceiverSessions {
    /// Ourselves: one, or two while keys are rotated.
    receivers: Vec<Fingerprint>,
    prekeys: HashMap<PrekeyId, Prekey>,
    sessions: SessionTable,
}

/// A published prekey, or what is left of it.
struct Prekey {
    /// None once its only session has been accepted.
    secret: Option<PrekeySecret>,
    route: RouteId,
    kind: PrekeyKind,
    not_after: Timestamp,
    /// Every session ever accepted: one that is over must not come back with an empty replay table.
    sessions: Vec<SessionId>,
}

/// Who may send on a route, as the operator configured it.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// The sender's identities: those whose signatures count now.
    pub identities: Vec<IdentityPublic>,
    /// The route's suite.
    pub suite: Suite,
    /// The sender's name: part of the delivery id.
    pub name: Name,
    /// The destination's name: part of the delivery id.
    pub destination: Name,
}

/// A header that verified: from a pinned sender, for this receiver, this route and this body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedHeader {
    /// The session.
    pub session: SessionId,
    /// Number in the session.
    pub sequence: u32,
    /// The route the session was opened for: decides the destination.
    pub route: RouteId,
    /// The sender's name, as pinned.
    pub sender: Name,
    /// The sender's identity that opened the session.
    pub sender_fingerprint: Fingerprint,
    /// The delivery; follows from sender, object, route and destination.
    pub delivery: DeliveryId,
    /// The attempt.
    pub attempt: Attempt,
    /// What the body was sealed for.
    pub body: BodyContext,
    /// The body's key commitment.
    pub commitment: Commitment,
    /// The body's content key.
    pub content_key: Secret<[u8; 32]>,
    /// Whether the same sequence number was opened before: the in-flight table and the settled ledger
    /// say what to do with it.
    pub redelivery: bool,
}

/// The receiver keeps as many prekeys as it may.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{max} prekeys are published, the most there may be; publish fewer for each route", max = ReceiverSessions::PREKEYS_MAX)]
pub struct TableFull;

impl ReceiverSessions {
    /// The most prekeys kept, used ones included until they expire.
    pub const PREKEYS_MAX: usize = 65_536;
    /// The most sessions that one last-resort prekey takes.
    pub const SESSIONS_PER_PREKEY_MAX: usize = 1024;

    /// Starts without any prekey.
    pub fn new(receiver: Fingerprint) -> Self {
        Self { receivers: vec![receiver], prekeys: HashMap::new(), sessions: SessionTable::default() }
    }

    /// From now on these are we. Sessions and prekeys stay: they belong to what was signed with each of the keys.
    pub fn are(&mut self, receivers: Vec<Fingerprint>) {
        self.receivers = receivers;
    }

    /// Takes the secret half of a prekey whose bundle is going to be published.
    pub fn publish(&mut self, secret: PrekeySecret) -> Result<PrekeyId, TableFull> {
        if self.prekeys.len() >= Self::PREKEYS_MAX {
            return Err(TableFull);
        }
        let id = secret.id;
        let (route, kind, not_after) = (secret.route, secret.kind, secret.not_after);
        self.prekeys.entry(id).or_insert(Prekey {
            secret: Some(secret),
            route,
            kind,
            not_after,
            sessions: Vec::new(),
        });
        Ok(id)
    }

    /// One-time prekeys of a route that no session has taken.
    pub fn unused(&self, route: RouteId, now: Timestamp) -> usize {
        let usable = |prekey: &&Prekey| {
            prekey.route == route
                && prekey.kind == PrekeyKind::OneTime
                && prekey.secret.is_some()
                && now < prekey.not_after
        };
        self.prekeys.values().filter(usable).count()
    }

    /// Sessions that are remembered.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Opens a header. `pin` says who may send on a route, and is asked each time, so that whoever is
    /// unpinned is refused from the next header on.
    ///
    /// That the delivery id and attempt are those of the offer which the header came with is for the
    /// caller to compare.
    pub fn open_header(
        &mut self,
        header: &[u8],
        pin: impl Fn(RouteId) -> Option<Pinned>,
        now: Timestamp,
    ) -> Result<OpenedHeader, HeaderError> {
        let header = Header::decode(header)?;
        if header.core.sequence >= SESSION_INSTANCES_MAX {
            return Err(HeaderError::Malformed);
        }
        let id = header.core.session;
        let pinned = self.session_of(id, &header.core.opening, pin, now)?;
        let session = self.sessions.get_mut(id).ok_or(HeaderError::UnknownSession)?;
        if header.core.body.suite != session.suite {
            return Err(HeaderError::SuiteMismatch);
        }
        let content_key = header.unwrap(session.suite, session.exporter.as_ref())?;
        let core = &header.core;
        let delivery = DeliveryId::derive(&pinned.name, core.body.object, session.route, &pinned.destination);
        if delivery != core.delivery {
            return Err(HeaderError::WrongDelivery);
        }
        let redelivery = session.bind(core)?;
        Ok(OpenedHeader {
            session: id,
            sequence: core.sequence,
            route: session.route,
            sender: pinned.name,
            sender_fingerprint: session.sender,
            delivery,
            attempt: core.attempt,
            body: core.body,
            commitment: core.commitment,
            content_key,
            redelivery,
        })
    }

    /// Opens a question. Each number of a session is taken once, and none below one that was taken.
    pub fn open_question(
        &mut self,
        question: &[u8],
        pin: impl Fn(RouteId) -> Option<Pinned>,
        now: Timestamp,
    ) -> Result<OpenedQuestion, HeaderError> {
        let question = Question::decode(question)?;
        let (id, number) = (question.core.session, question.core.number);
        self.session_of(id, &question.core.opening, pin, now)?;
        let session = self.sessions.get_mut(id).ok_or(HeaderError::UnknownSession)?;
        if number < session.next_question {
            return Err(HeaderError::Replay);
        }
        let (plaintext, answer) = question.open(session.suite, session.exporter.as_ref())?;
        session.next_question = number + 1;
        Ok(OpenedQuestion { route: session.route, sender_fingerprint: session.sender, plaintext, answer })
    }

    /// Makes sure that a session is known, lives, and belongs to whoever is pinned for its route now.
    fn session_of(
        &mut self,
        id: SessionId,
        opening: &OpeningPart<'_>,
        pin: impl Fn(RouteId) -> Option<Pinned>,
        now: Timestamp,
    ) -> Result<Pinned, HeaderError> {
        if self.sessions.get(id).is_none() {
            self.accept_opening(id, opening, &pin, now)?;
        }
        if self.sessions.get(id).is_some_and(|session| now >= session.expires) {
            self.sessions.remove(id);
            return Err(HeaderError::Expired);
        }
        let session = self.sessions.get(id).ok_or(HeaderError::UnknownSession)?;
        let (pinned, _) = check_pin(&pin, session.route, session.sender, session.suite)?;
        check_known(session, opening)?;
        Ok(pinned)
    }

    /// Verifies an opening and remembers its session. Everything cheap is checked before the signatures,
    /// and a prekey is used up only after them.
    fn accept_opening(
        &mut self,
        session: SessionId,
        opening: &OpeningPart<'_>,
        pin: &impl Fn(RouteId) -> Option<Pinned>,
        now: Timestamp,
    ) -> Result<(), HeaderError> {
        let OpeningPart::Full(bytes) = *opening else { return Err(HeaderError::UnknownSession) };
        let opening = Opening::decode(bytes)?;
        let info = opening.info;
        if info.version != FORMAT_VERSION {
            return Err(HeaderError::Version);
        }
        if info.session != session {
            return Err(HeaderError::OpeningMismatch);
        }
        if !self.receivers.contains(&info.receiver) {
            return Err(HeaderError::WrongReceiver);
        }
        let (_, identity) = check_pin(pin, info.route, info.sender, info.suite)?;
        let prekey = self.prekeys.get_mut(&info.prekey).ok_or(HeaderError::UnknownPrekey)?;
        let secret = prekey.check(&info, &opening, now)?;
        opening.verify(&identity)?;
        self.sessions.make_room(info.sender, info.route)?;
        let exporter = kem::decapsulate(info.suite, &secret.seed, &opening.encapsulated, &opening.info_bytes)
            .ok_or(HeaderError::OpeningMismatch)?;
        prekey.sessions.push(info.session);
        if prekey.kind == PrekeyKind::OneTime {
            prekey.secret = None;
        }
        let expires = now.after(SESSION_LIFE_MAX);
        self.sessions.insert(info.session, Session::new(Digest::of(bytes), &info, exporter, expires));
        Ok(())
    }

    /// A header of the session has been settled: its answer is final.
    pub fn settled(&mut self, session: SessionId, sequence: u32) {
        if let Some(known) = self.sessions.get_mut(session) {
            known.settle(sequence);
        }
        self.drop_if_done(session);
    }

    /// The sender's [`close`](crate::SenderSession::close). The session's secret is wiped when all of
    /// its headers are settled; where some never came, at the end of its life.
    pub fn close(&mut self, record: &[u8]) -> Result<(), HeaderError> {
        let close: Close = cbor::decode_canonical(record).ok_or(HeaderError::Malformed)?;
        if close.version != FORMAT_VERSION {
            return Err(HeaderError::Version);
        }
        let session = self.sessions.get_mut(close.session).ok_or(HeaderError::UnknownSession)?;
        let tag = header::close_tag(session.exporter.as_ref(), close.count);
        if !bool::from(tag.expose().ct_eq(&close.tag)) {
            return Err(HeaderError::BadTag);
        }
        session.close(close.count);
        self.drop_if_done(close.session);
        Ok(())
    }

    /// Drops every session of a sender at once: it was revoked, or has another card.
    pub fn forget_peer(&mut self, sender: Fingerprint) {
        self.sessions.forget(|session| session.sender == sender);
    }

    /// Drops the sessions and destroys the prekeys of a route.
    pub fn forget_route(&mut self, route: RouteId) {
        self.sessions.forget(|session| session.route == route);
        self.prekeys.retain(|_, prekey| prekey.route != route);
    }

    /// Wipes what has reached the end of its life.
    pub fn expire(&mut self, now: Timestamp) {
        self.sessions.forget(|session| now >= session.expires);
        self.prekeys.retain(|_, prekey| now < prekey.not_after);
    }

    /// When [`ReceiverSessions::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Timestamp> {
        let prekeys = self.prekeys.values().map(|prekey| prekey.not_after).min();
        prekeys.into_iter().chain(self.sessions.first_end()).min()
    }

    fn drop_if_done(&mut self, session: SessionId) {
        if self.sessions.get(session).is_some_and(Session::is_done) {
            self.sessions.remove(session);
        }
    }
}

impl Prekey {
    fn check(&self, info: &Info, opening: &Opening, now: Timestamp) -> Result<&PrekeySecret, HeaderError> {
        if self.sessions.contains(&info.session) {
            return Err(HeaderError::SessionOver);
        }
        if now >= self.not_after {
            return Err(HeaderError::Expired);
        }
        let secret = self.secret.as_ref().ok_or(HeaderError::PrekeyUsed)?;
        if self.sessions.len() >= ReceiverSessions::SESSIONS_PER_PREKEY_MAX {
            return Err(HeaderError::PrekeyUsed);
        }
        if secret.route != info.route {
            return Err(HeaderError::WrongRoute);
        }
        if secret.suite != info.suite {
            return Err(HeaderError::SuiteMismatch);
        }
        if secret.public_digest() != opening.prekey_digest || secret.not_after != opening.not_after {
            return Err(HeaderError::OpeningMismatch);
        }
        Ok(secret)
    }
}

/// Also the identity of the sender that the session belongs to.
fn check_pin(
    pin: &impl Fn(RouteId) -> Option<Pinned>,
    route: RouteId,
    sender: Fingerprint,
    suite: Suite,
) -> Result<(Pinned, IdentityPublic), HeaderError> {
    let pinned = pin(route).ok_or(HeaderError::NotPinned)?;
    let identity = pinned.identities.iter().find(|identity| identity.fingerprint() == sender);
    let identity = identity.cloned().ok_or(HeaderError::NotPinned)?;
    if pinned.suite != suite {
        return Err(HeaderError::SuiteMismatch);
    }
    Ok((pinned, identity))
}

/// Whatever comes of a remembered session has the same opening.
fn check_known(session: &Session, opening: &OpeningPart<'_>) -> Result<(), HeaderError> {
    let opening = match opening {
        OpeningPart::Known(digest) => *digest,
        OpeningPart::Full(bytes) => Digest::of(bytes),
    };
    if opening == session.opening { Ok(()) } else { Err(HeaderError::OpeningMismatch) }
}

impl std::fmt::Debug for ReceiverSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReceiverSessions({} prekeys, {} sessions)", self.prekeys.len(), self.sessions.len())
    }
}
