//! What a receiver remembers of the sessions that it accepted.

use std::collections::HashMap;

use base::{Digest, Fingerprint, Hasher, RouteId, SessionId, Timestamp};

use crate::header::Core;
use crate::kem::Exporter;
use crate::{HeaderError, Suite};

/// The most sessions remembered at once. With one an hour for each route that is 200 routes of 80 restarts.
pub(crate) const SESSIONS_MAX: usize = 16_384;
/// The most sessions of one sender on one route; the one that ends first makes room.
pub(crate) const SESSIONS_PER_ROUTE_MAX: usize = 64;

pub(crate) struct Session {
    pub(crate) opening: Digest,
    pub(crate) route: RouteId,
    pub(crate) sender: Fingerprint,
    pub(crate) suite: Suite,
    pub(crate) exporter: Box<dyn Exporter>,
    pub(crate) expires: Timestamp,
    seen: HashMap<u32, Seen>,
    settled: u32,
    closed_at: Option<u32>,
    /// Questions below this number are not taken any more.
    pub(crate) next_question: u32,
}

/// What a sequence number is bound to.
struct Seen {
    bound_to: [u8; 16],
    settled: bool,
}

impl Session {
    pub(crate) fn new(
        opening: Digest,
        info: &crate::opening::Info,
        exporter: Box<dyn Exporter>,
        expires: Timestamp,
    ) -> Self {
        Self {
            opening,
            route: info.route,
            sender: info.sender,
            suite: info.suite,
            exporter,
            expires,
            seen: HashMap::new(),
            settled: 0,
            closed_at: None,
            next_question: 0,
        }
    }

    /// Binds a sequence number to the first object and commitment seen with it. True for a redelivery.
    pub(crate) fn bind(&mut self, core: &Core<'_>) -> Result<bool, HeaderError> {
        let bound_to = binding(core);
        match self.seen.get(&core.sequence) {
            None => {
                self.seen.insert(core.sequence, Seen { bound_to, settled: false });
                Ok(false)
            }
            Some(seen) if seen.bound_to == bound_to => Ok(true),
            Some(_) => Err(HeaderError::Replay),
        }
    }

    pub(crate) fn settle(&mut self, sequence: u32) {
        if let Some(seen) = self.seen.get_mut(&sequence)
            && !std::mem::replace(&mut seen.settled, true)
        {
            self.settled += 1;
        }
    }

    pub(crate) fn close(&mut self, count: u32) {
        self.closed_at = Some(count);
    }

    /// Nothing of it can come any more that would have to be opened.
    pub(crate) fn is_done(&self) -> bool {
        self.closed_at.is_some_and(|count| self.settled >= count)
    }
}

fn binding(core: &Core<'_>) -> [u8; 16] {
    let mut hasher = Hasher::new(b"sluis/1 replay");
    hasher.field(&core.body.object.0);
    hasher.field(&core.commitment.0);
    let Digest(digest) = hasher.finish();
    *digest.first_chunk().unwrap_or(&[0; 16])
}

#[derive(Default)]
pub(crate) struct SessionTable(HashMap<SessionId, Session>);

impl SessionTable {
    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.0.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.0.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: SessionId) {
        self.0.remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes room for one more session of a sender on a route, at the cost of no other sender.
    pub(crate) fn make_room(&mut self, sender: Fingerprint, route: RouteId) -> Result<(), HeaderError> {
        let own = || self.0.iter().filter(|(_, session)| session.sender == sender && session.route == route);
        if own().count() >= SESSIONS_PER_ROUTE_MAX {
            let first = own().min_by_key(|(id, session)| (session.expires, **id)).map(|(id, _)| *id);
            if let Some(first) = first {
                self.0.remove(&first);
            }
        }
        if self.0.len() < SESSIONS_MAX { Ok(()) } else { Err(HeaderError::Busy) }
    }

    pub(crate) fn insert(&mut self, id: SessionId, session: Session) {
        self.0.insert(id, session);
    }

    pub(crate) fn forget(&mut self, mut gone: impl FnMut(&Session) -> bool) {
        self.0.retain(|_, session| !gone(session));
    }

    pub(crate) fn first_end(&self) -> Option<Timestamp> {
        self.0.values().map(|session| session.expires).min()
    }
}
