//! Questions of a sender to a recipient through the relay: who waits for which answer.

use std::collections::HashMap;
use std::time::Duration;

use base::{Fingerprint, RouteId};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::{SenderFrame, UnansweredCode};

use crate::limits;
use crate::link::{SendError, Unavailable};
use crate::uplink::Uplink;

/// Why a question has no answer.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum AskError {
    /// Not connected, or too much is waiting to be sent.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// The relay says why.
    #[error("{0}")]
    Unanswered(UnansweredCode),
    /// The connection was lost before the answer.
    #[error("the connection to the relay was lost before the answer")]
    Lost,
    /// Not even the relay has said anything in time.
    #[error("no answer from the relay in time")]
    TimedOut,
}

impl From<Unavailable> for AskError {
    fn from(error: Unavailable) -> Self {
        Self::NotSent(error.into())
    }
}

type Waiter = oneshot::Sender<Result<Vec<u8>, UnansweredCode>>;

/// Those of one connection.
pub(crate) struct Asks {
    /// Begins anywhere, so that a late answer to a question of an earlier connection is none of this one's.
    next: u64,
    waiting: HashMap<u64, Waiter>,
}

impl Asks {
    pub(crate) fn new() -> Self {
        Self { next: u64::from_be_bytes(base::random_bytes()), waiting: HashMap::new() }
    }

    /// The answer to a question; nobody may wait any more.
    pub(crate) fn answer(&mut self, id: u64, answer: Result<Vec<u8>, UnansweredCode>) {
        if let Some(waiter) = self.waiting.remove(&id) {
            let _ = waiter.send(answer);
        }
    }

    fn enter(&mut self, waiter: Waiter) -> Option<u64> {
        // Whoever has given up is not waited for.
        self.waiting.retain(|_, waiter| !waiter.is_closed());
        if self.waiting.len() >= limits::ASKS_MAX {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(self.next, waiter);
        Some(self.next)
    }
}

pub(crate) async fn ask(
    uplink: &Uplink,
    recipient: Fingerprint,
    route: RouteId,
    question: Vec<u8>,
    within: Duration,
) -> Result<Vec<u8>, AskError> {
    SendError::check("question", question.len(), wire::QUESTION_BYTES_MAX)?;
    let (answer, answered) = oneshot::channel();
    let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX).min(wire::ASK_MS_MAX);
    {
        let mut live = uplink.shared.lock();
        let live = live.as_mut().ok_or(Unavailable)?;
        let id = live.asks.enter(answer).ok_or(Unavailable)?;
        let frame = SenderFrame::Ask { id, recipient, route, within_ms, question: question.into() };
        if live.control.try_send(frame).is_err() {
            live.asks.answer(id, Err(UnansweredCode::Busy));
            return Err(Unavailable.into());
        }
    }
    // The relay says itself when the time is over; its word may need a moment more.
    match timeout(within + limits::ASK_GRACE, answered).await {
        Ok(Ok(answer)) => answer.map_err(AskError::Unanswered),
        Ok(Err(_)) => Err(AskError::Lost),
        Err(_) => Err(AskError::TimedOut),
    }
}
