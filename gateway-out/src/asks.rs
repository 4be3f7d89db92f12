//! Asks the receiving gateway of a leg something beside deliveries, through the first relay that reaches it, sealed in
//! the leg's session. One question of a leg at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{Name, RouteId};
use enquiry::{Answer, Question};
use envelope::AnswerError;
use tokio::time::{Instant, timeout};
use tracing::debug;
use transport::{AskError, Uplink};
use wire::UnansweredCode;

use crate::{app::Shared, routes::Leg, sessions::NoSession};

/// Keeps the questions of a leg one after another.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<RouteId, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn of(&self, route: RouteId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(route).or_default())
    }
}

/// An answer and its way.
#[derive(Debug)]
pub struct Replied {
    /// What the receiver says.
    pub answer: Answer,
    /// Through which relay.
    pub relay: Name,
    /// From the question to the answer.
    pub took: Duration,
    /// The round trip to that relay.
    pub to_relay: Duration,
}

/// How far a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Not to a relay.
    Relay,
    /// Not to the receiving gateway, or not back from it.
    Receiver,
    /// To the destination and no further.
    Destination,
}

impl Reached {
    /// As `echo` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Receiver => "gateway-in",
            Self::Destination => "destination",
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// No relay is connected, or none whose log has kept its promise.
    #[error("no relay is connected")]
    NoRelay,
    /// No session could be had.
    #[error("through relay {relay}: {error}")]
    Session {
        /// Through which.
        relay: Name,
        /// Why.
        error: NoSession,
    },
    /// The relay says why, or is gone.
    #[error("through relay {relay}: {error}")]
    Relay {
        /// Which.
        relay: Name,
        /// Why.
        error: AskError,
    },
    /// What came is no answer.
    #[error("through relay {relay}: {error}")]
    Answer {
        /// Which.
        relay: Name,
        /// Why.
        error: AnswerError,
    },
    /// Not in time, whatever was slow.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl Unanswered {
    /// Where it ended.
    pub fn reached(&self) -> Reached {
        match self {
            Self::NoRelay
            | Self::Session { error: NoSession::Unavailable(_), .. }
            | Self::Relay { error: AskError::NotSent(_) | AskError::Lost | AskError::TimedOut, .. }
            | Self::TimedOut(_) => Reached::Relay,
            Self::Relay { error: AskError::Unanswered(code), .. } => match code {
                UnansweredCode::Away | UnansweredCode::Expired => Reached::Receiver,
                UnansweredCode::NotAdmitted | UnansweredCode::Busy | UnansweredCode::Malformed => {
                    Reached::Relay
                }
            },
            Self::Session { .. } | Self::Answer { .. } => Reached::Receiver,
        }
    }

    /// Another relay may reach the receiver.
    fn is_of_this_relay(&self) -> bool {
        match self {
            Self::Session { error: NoSession::Unavailable(_) | NoSession::NoPrekey, .. } => true,
            Self::Relay { error, .. } => !matches!(error, AskError::Unanswered(UnansweredCode::Expired)),
            _ => false,
        }
    }
}

/// Asks, and waits for the answer for so long.
pub async fn ask(
    shared: &Shared,
    leg: &Leg,
    question: &Question,
    within: Duration,
) -> Result<Replied, Unanswered> {
    let began = Instant::now();
    let turn = shared.turns.of(leg.id);
    let asking = async {
        let _turn = turn.lock().await;
        let mut last = Unanswered::NoRelay;
        let relays = shared.settings.relays.iter().zip(&shared.uplinks).zip(&shared.witnesses);
        for ((relay, uplink), witness) in relays {
            if !uplink.is_connected() || !witness.is_trusted() {
                continue;
            }
            let left = within.saturating_sub(began.elapsed());
            match through(shared, (&relay.name, uplink), leg, question, left).await {
                Err(error) if error.is_of_this_relay() => last = error,
                ended => return ended,
            }
        }
        Err(last)
    };
    // The relay says itself what was slow when the time is over, a moment before we stop to listen.
    timeout(within + Duration::from_secs(1), asking).await.unwrap_or(Err(Unanswered::TimedOut(within)))
}

async fn through(
    shared: &Shared,
    (relay, uplink): (&Name, &Uplink),
    leg: &Leg,
    question: &Question,
    within: Duration,
) -> Result<Replied, Unanswered> {
    let first = once(shared, (relay, uplink), leg, question, within).await;
    match first {
        // It was restarted, or has dropped the session: the next question opens another.
        Err(Unanswered::Answer { error: AnswerError::Refused(reason), .. }) if reason.ends_session() => {
            debug!(ae = %leg.ae, %reason, "question asked again in another session");
            shared.sessions.forget(leg.id);
            once(shared, (relay, uplink), leg, question, within).await
        }
        first => first,
    }
}

async fn once(
    shared: &Shared,
    (relay, uplink): (&Name, &Uplink),
    leg: &Leg,
    question: &Question,
    within: Duration,
) -> Result<Replied, Unanswered> {
    let began = Instant::now();
    let plaintext = question.to_bytes();
    let sealed = shared.sessions.question(uplink, leg, &plaintext).await;
    let sealed = sealed.map_err(|error| Unanswered::Session { relay: relay.clone(), error })?;
    let recipient = leg.receiver.id();
    let answer = uplink.ask(recipient, leg.id, sealed.bytes, within.saturating_sub(began.elapsed())).await;
    let answer = answer.map_err(|error| Unanswered::Relay { relay: relay.clone(), error })?;
    let no_answer = |error| Unanswered::Answer { relay: relay.clone(), error };
    let opened = sealed.answer.open(&answer).map_err(no_answer)?;
    // Whoever answered has the session's keys.
    shared.sessions.opening_known(leg.id, sealed.session);
    let answer = Answer::from_bytes(&opened).map_err(|_| no_answer(AnswerError::Malformed))?;
    let to_relay = uplink.round_trip().unwrap_or_default();
    Ok(Replied { answer, relay: relay.clone(), took: began.elapsed(), to_relay })
}
