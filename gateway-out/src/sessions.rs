//! The running session of each leg of a route: opened to a prekey of the receiver when one is needed, used
//! until it is spent, never stored.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use base::{Attempt, DeliveryId, RouteId, Secret, SessionId, Timestamp};
use envelope::{
    BundleError, HeaderFields, NoQuestion, SealedHeader, SealedQuestion, SenderSession, SessionRequest,
    SessionSpent,
};
use identity::IdentityKey;
use service::Live;
use tracing::{debug, info, warn};
use transport::{Unavailable, Uplink};

use crate::routes::Leg;

/// Why no header can be made now.
#[derive(Debug, thiserror::Error)]
pub enum NoSession {
    /// The relay is not connected.
    #[error("the relay is not connected")]
    Unavailable(#[from] Unavailable),
    /// The receiver has not published a prekey at this relay.
    #[error("the relay has no prekey of the receiver: is it connected?")]
    NoPrekey,
    /// What the relay handed out is not the pinned receiver's.
    #[error("the prekey that the relay handed out is refused: {0}")]
    Bundle(#[from] BundleError),
    /// The session cannot carry the body.
    #[error("{0}")]
    Spent(#[from] SessionSpent),
    /// The session cannot carry the question.
    #[error("{0}")]
    Question(#[from] NoQuestion),
}

/// One session a leg.
pub struct Sessions {
    identity: Live<IdentityKey>,
    routes: HashMap<RouteId, tokio::sync::Mutex<()>>,
    // Never held across an await; the lock of the route is.
    open: Mutex<HashMap<RouteId, SenderSession>>,
    // Never held across an await.
    sent: Mutex<HashMap<(DeliveryId, Attempt), SessionId>>,
}

/// What a session gives.
enum Next {
    Header(SealedHeader),
    /// There is no session.
    None,
    /// There was one; what tells the receiver that it is over.
    Spent(Vec<u8>),
}

/// Attempts whose session is remembered.
const SENT_MAX: usize = 65_536;

impl Sessions {
    /// No session yet.
    pub fn new(identity: Live<IdentityKey>, routes: impl Iterator<Item = RouteId>) -> Self {
        let routes = routes.map(|route| (route, tokio::sync::Mutex::new(()))).collect();
        Self { identity, routes, open: Mutex::default(), sent: Mutex::default() }
    }

    /// Addresses a body, opening a session first where none can carry it.
    pub async fn header(
        &self,
        uplink: &Uplink,
        leg: &Leg,
        fields: &HeaderFields,
        content_key: &Secret<[u8; 32]>,
    ) -> Result<SealedHeader, NoSession> {
        let _opening = match self.routes.get(&leg.id) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        match self.next_header(leg.id, fields, content_key)? {
            Next::Header(header) => return Ok(header),
            Next::None => {}
            Next::Spent(close) => {
                // Lets the receiver wipe its secret early; without it, it does at the end of the session's life.
                let recipient = leg.receiver.id();
                let _ = uplink.close_session(recipient, leg.id, close).await;
            }
        }
        let session = self.open(uplink, leg).await?;
        self.with_open(|open| open.insert(leg.id, session));
        match self.next_header(leg.id, fields, content_key)? {
            Next::Header(header) => Ok(header),
            Next::None | Next::Spent(_) => Err(NoSession::Spent(SessionSpent::Expired)),
        }
    }

    /// Seals a question, opening a session first where none can carry it.
    pub async fn question(
        &self,
        uplink: &Uplink,
        leg: &Leg,
        plaintext: &[u8],
    ) -> Result<SealedQuestion, NoSession> {
        let _opening = match self.routes.get(&leg.id) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        match self.next_question(leg.id, plaintext) {
            None => {}
            Some(Err(NoQuestion::Spent(_))) => {
                let spent = self.with_open(|open| open.remove(&leg.id)).map(SenderSession::close);
                if let Some(close) = spent {
                    let recipient = leg.receiver.id();
                    let _ = uplink.close_session(recipient, leg.id, close).await;
                }
            }
            Some(sealed) => return Ok(sealed?),
        }
        let session = self.open(uplink, leg).await?;
        self.with_open(|open| open.insert(leg.id, session));
        let sealed = self.next_question(leg.id, plaintext);
        Ok(sealed.ok_or(NoSession::Spent(SessionSpent::Expired))??)
    }

    /// The receiver has answered in this session.
    pub fn opening_known(&self, route: RouteId, session: SessionId) {
        self.with_open(|open| {
            if let Some(current) = open.get_mut(&route).filter(|open| open.id() == session) {
                current.opening_known();
            }
        });
    }

    fn next_question(&self, route: RouteId, plaintext: &[u8]) -> Option<Result<SealedQuestion, NoQuestion>> {
        self.with_open(|open| Some(open.get_mut(&route)?.next_question(plaintext, Timestamp::now())))
    }

    /// Ends what is open of a route: it is gone, or leads to other keys.
    pub fn forget(&self, route: RouteId) {
        self.with_open(|open| open.remove(&route));
    }

    /// Ends all sessions: they were opened with keys that are not ours any more.
    pub fn forget_all(&self) {
        self.with_open(HashMap::clear);
    }

    /// Remembers in which session an attempt was addressed.
    pub fn sent(&self, delivery: DeliveryId, attempt: Attempt, session: SessionId) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() >= SENT_MAX {
            // What is forgotten only keeps its session's opening in the headers a little longer.
            sent.clear();
        }
        sent.insert((delivery, attempt), session);
    }

    /// The receiver has answered an attempt. If it does not know the attempt's session, or not any more,
    /// the next header opens another; otherwise it need not be told the opening again.
    pub fn answered(&self, route: RouteId, delivery: DeliveryId, attempt: Attempt, unknown: bool) {
        let session = self.sent.lock().unwrap_or_else(PoisonError::into_inner).remove(&(delivery, attempt));
        let Some(session) = session else { return };
        self.with_open(|open| {
            let Some(current) = open.get_mut(&route).filter(|open| open.id() == session) else { return };
            if unknown {
                open.remove(&route);
                info!(%route, "the receiver does not know our session; the next header opens another");
            } else {
                current.opening_known();
            }
        });
    }

    /// The next header of the running session, if there is one that can carry it.
    fn next_header(
        &self,
        route: RouteId,
        fields: &HeaderFields,
        content_key: &Secret<[u8; 32]>,
    ) -> Result<Next, SessionSpent> {
        self.with_open(|open| {
            let Some(session) = open.get_mut(&route) else { return Ok(Next::None) };
            match session.next_header(fields, content_key, Timestamp::now()) {
                Ok(header) => Ok(Next::Header(header)),
                Err(error @ SessionSpent::Suite { .. }) => Err(error),
                Err(spent) => {
                    debug!(%route, %spent, "session ends");
                    Ok(open.remove(&route).map_or(Next::None, |session| Next::Spent(session.close())))
                }
            }
        })
    }

    async fn open(&self, uplink: &Uplink, leg: &Leg) -> Result<SenderSession, NoSession> {
        let bundle = uplink.prekey(leg.receiver.id(), leg.id).await?.ok_or(NoSession::NoPrekey)?;
        let (sender, random, now) = (self.identity.now(), Secret::random(), Timestamp::now());
        // While the receiver's keys are rotated, either of two may have signed it.
        let mut opened = Err(BundleError::Signature);
        for recipient in leg.receiver.identities(now) {
            let request = SessionRequest {
                bundle: &bundle,
                recipient,
                sender: &sender,
                route: leg.id,
                suite: leg.suite,
            };
            opened = tokio::task::block_in_place(|| SenderSession::open(&request, now, &random));
            if !matches!(opened, Err(BundleError::Signature)) {
                break;
            }
        }
        let session = opened.inspect_err(|error| {
            let remedy = match error {
                BundleError::Signature => "if its keys were rotated, take its new card by `peer update CARD`",
                _ => "",
            };
            warn!(ae = %leg.ae, receiver = %leg.receiver.name, %error, remedy, "prekey refused");
        })?;
        debug!(ae = %leg.ae, session = %session.id(), "session opened");
        Ok(session)
    }

    fn with_open<T>(&self, act: impl FnOnce(&mut HashMap<RouteId, SenderSession>) -> T) -> T {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
