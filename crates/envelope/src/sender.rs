use base::limits::{SESSION_INSTANCES_MAX, SESSION_LIFE_MAX};
use base::{Digest, PrekeyId, RouteId, Secret, SessionId, Timestamp};
use identity::{IdentityKey, IdentityPublic};
use thiserror::Error;

use crate::header::{self, Close, Core, OpeningPart};
use crate::kem::{self, Exporter};
use crate::opening::{self, Info};
use crate::prekey::Bundle;
use crate::question::{self, NoQuestion, QUESTIONS_MAX, SealedQuestion};
use crate::{BundleError, FORMAT_VERSION, HeaderFields, SealedHeader, Suite, cbor};

/// One encapsulation to one prekey, shared by all associations of a route. Never stored: a sender that
/// was restarted opens another.
pub struct SenderSession {
    id: SessionId,
    prekey: PrekeyId,
    route: RouteId,
    suite: Suite,
    exporter: Box<dyn Exporter>,
    opening: Vec<u8>,
    opening_digest: Digest,
    opening_known: bool,
    next_sequence: u32,
    next_question: u32,
    expires: Timestamp,
}

/// What a session is opened with.
#[derive(Clone, Copy, Debug)]
pub struct SessionRequest<'a> {
    /// The prekey bundle, as the relay handed it out.
    pub bundle: &'a [u8],
    /// The pinned recipient that must have signed it.
    pub recipient: &'a IdentityPublic,
    /// Who opens the session and signs the opening.
    pub sender: &'a IdentityKey,
    /// The route, as configured.
    pub route: RouteId,
    /// The route's suite, as configured.
    pub suite: Suite,
}

/// Why a session gives no header for this body. Open another one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SessionSpent {
    /// It has carried as many instances as it may.
    #[error("session has carried {SESSION_INSTANCES_MAX} instances, the most it may")]
    Instances,
    /// Its life is over.
    #[error("session expired")]
    Expired,
    /// The body was sealed with another suite than the route's: no session of this route can carry it.
    #[error(
        "body was sealed with suite {body}, the route has suite {route}; route it over one with suite {body}"
    )]
    Suite {
        /// The body's suite.
        body: Suite,
        /// The session's suite.
        route: Suite,
    },
}

impl SenderSession {
    /// Random bytes that a session takes: its id and the encapsulation's seed.
    pub const RANDOM_BYTES: usize = 48;

    /// Verifies the bundle, encapsulates to its key and signs the opening.
    pub fn open(
        request: &SessionRequest<'_>,
        now: Timestamp,
        random: &Secret<[u8; Self::RANDOM_BYTES]>,
    ) -> Result<Self, BundleError> {
        let SessionRequest { bundle, recipient, sender, route, suite } = *request;
        let bundle = Bundle::verify(bundle, recipient, route, suite, now)?;
        let (id, seed) = split_random(random);
        let info = Info {
            version: FORMAT_VERSION,
            suite,
            route,
            sender: sender.fingerprint(),
            receiver: recipient.fingerprint(),
            prekey: bundle.id,
            session: id,
        }
        .encode();
        let (encapsulated, exporter) =
            kem::encapsulate(suite, &bundle.public_key, &info, &seed).ok_or(BundleError::Key)?;
        let prekey_digest = Digest::of(&bundle.public_key);
        let opening = opening::sign(sender, &info, &encapsulated, prekey_digest, bundle.not_after);
        // Where the clocks differ by more than the prekey's life, its end says nothing on this clock.
        let own_end = now.after(SESSION_LIFE_MAX);
        let expires = if bundle.not_after > now { own_end.min(bundle.not_after) } else { own_end };
        Ok(Self {
            id,
            prekey: bundle.id,
            route,
            suite,
            exporter,
            opening_digest: Digest::of(&opening),
            opening,
            opening_known: false,
            next_sequence: 0,
            next_question: 0,
            expires,
        })
    }

    /// Addresses a body: wraps its content key under the key of the next sequence number.
    pub fn next_header(
        &mut self,
        fields: &HeaderFields,
        content_key: &Secret<[u8; 32]>,
        now: Timestamp,
    ) -> Result<SealedHeader, SessionSpent> {
        if fields.body.suite != self.suite {
            return Err(SessionSpent::Suite { body: fields.body.suite, route: self.suite });
        }
        if now >= self.expires {
            return Err(SessionSpent::Expired);
        }
        if self.next_sequence >= SESSION_INSTANCES_MAX {
            return Err(SessionSpent::Instances);
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let core = Core {
            version: FORMAT_VERSION,
            session: self.id,
            opening: self.opening_part(),
            sequence,
            delivery: fields.delivery,
            attempt: fields.attempt,
            body: fields.body,
            commitment: fields.commitment,
        };
        let bytes = header::seal(&core, self.suite, self.exporter.as_ref(), content_key);
        Ok(SealedHeader { bytes, session: self.id, sequence })
    }

    /// Seals a question to the receiver, of at most [`QUESTION_BYTES_MAX`](crate::QUESTION_BYTES_MAX).
    pub fn next_question(&mut self, plaintext: &[u8], now: Timestamp) -> Result<SealedQuestion, NoQuestion> {
        if now >= self.expires {
            return Err(SessionSpent::Expired.into());
        }
        if self.next_question >= QUESTIONS_MAX {
            return Err(SessionSpent::Instances.into());
        }
        let number = self.next_question;
        let core = question::Core {
            version: FORMAT_VERSION,
            session: self.id,
            opening: self.opening_part(),
            number,
        };
        let sealed = question::seal(&core, self.suite, self.exporter.as_ref(), plaintext)?;
        self.next_question += 1;
        Ok(sealed)
    }

    fn opening_part(&self) -> OpeningPart<'_> {
        match self.opening_known {
            true => OpeningPart::Known(self.opening_digest),
            false => OpeningPart::Full(self.opening.as_slice().into()),
        }
    }

    /// The receiver has answered a header or a question of this session: from now on they carry the opening's
    /// digest only, some 5 KiB less.
    pub fn opening_known(&mut self) {
        self.opening_known = true;
    }

    /// Ends the session. The result tells the receiver how many headers there were, so that it can
    /// wipe its secret as soon as they are settled.
    pub fn close(self) -> Vec<u8> {
        let count = self.next_sequence;
        let tag = *header::close_tag(self.exporter.as_ref(), count).expose();
        cbor::encode(&Close { version: FORMAT_VERSION, session: self.id, count, tag })
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The prekey it was opened to.
    pub fn prekey(&self) -> PrekeyId {
        self.prekey
    }

    /// Its route.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// Its suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// When it stops giving headers; nothing addressed by it should stay at a relay for longer.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

fn split_random(random: &Secret<[u8; SenderSession::RANDOM_BYTES]>) -> (SessionId, Secret<[u8; 32]>) {
    let id = SessionId(*random.expose().first_chunk().unwrap_or(&[0; SessionId::LEN]));
    let seed = Secret::new(*random.expose().last_chunk().unwrap_or(&[0; 32]));
    (id, seed)
}

impl std::fmt::Debug for SenderSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SenderSession({}, {} headers)", self.id, self.next_sequence)
    }
}
