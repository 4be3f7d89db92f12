//! Answers what senders ask beside deliveries: whether the destination of their route answers now, and what it accepts.
//! Who may ask is who may send: a question opens in a session of the pinned sender of its route, or not at all.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base::{Fingerprint, Name, RouteId, Timestamp};
use enquiry::{Answer, EchoAnswer, EchoOutcome, NoTable, Question, TableAnswer};
use envelope::{HeaderError, OpenedQuestion, refuse_question};
use identity::IdentityKey;
use serde_json::{Value, json};
use service::Live;
use tokio::{sync::Semaphore, time::Instant};
use tracing::{debug, info};

use crate::{
    config::Route,
    inbox::Inbox,
    tables::{Probed, Table},
};

/// Questions that are being answered at one time; more are refused and may be asked again.
const AT_ONCE: usize = 32;
/// How long a command waits for a destination.
const COMMAND_WITHIN: Duration = Duration::from_secs(8);

/// Whoever answers.
pub struct Desk {
    inbox: Arc<Inbox>,
    identity: Live<IdentityKey>,
    tables: HashMap<Name, Arc<Table>>,
    slots: Arc<Semaphore>,
}

/// A question as it came.
pub struct Asked {
    /// Who asks, as the relay says.
    pub sender: Fingerprint,
    /// About which route, as the relay says.
    pub route: RouteId,
    /// How long the answer is waited for.
    pub within: Duration,
    /// Sealed.
    pub question: Vec<u8>,
}

impl Desk {
    /// With the tables of all destinations.
    pub fn new(inbox: Arc<Inbox>, identity: Live<IdentityKey>, tables: HashMap<Name, Arc<Table>>) -> Self {
        Self { inbox, identity, tables, slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The sealed answer, or why there is none.
    pub async fn answer(&self, asked: Asked) -> Vec<u8> {
        let began = Instant::now();
        let Ok(_slot) = self.slots.try_acquire() else { return refuse_question(HeaderError::Busy) };
        let (route, opened) = match self.open(&asked) {
            Ok(opened) => opened,
            Err(error) => {
                debug!(sender = %asked.sender, %error, "question refused");
                return refuse_question(error);
            }
        };
        let OpenedQuestion { plaintext, answer: seal, .. } = opened;
        let within = asked.within.saturating_sub(began.elapsed());
        let answer = match Question::from_bytes(&plaintext) {
            Ok(Question::Echo { calling }) => {
                let echo = self.echo(&route.destination, calling, within).await;
                info!(sender = %route.from, destination = %route.destination, outcome = %echo.outcome, took_ms = echo.took_ms, "echo end to end");
                Answer::Echo(echo)
            }
            Ok(Question::Table { known }) => Answer::Table(self.table(&route, known)),
            Err(_) => Answer::NotUnderstood,
        };
        seal.seal(&answer.to_bytes()).unwrap_or_else(|| refuse_question(HeaderError::Busy))
    }

    fn open(&self, asked: &Asked) -> Result<(Arc<Route>, OpenedQuestion), HeaderError> {
        let opened = self.inbox.open_question(&asked.question, Timestamp::now())?;
        if opened.route != asked.route {
            return Err(HeaderError::NotPinned);
        }
        let route = self.inbox.route(opened.route).ok_or(HeaderError::NotPinned)?;
        if route.sender.id() != asked.sender {
            return Err(HeaderError::NotPinned);
        }
        Ok((route, opened))
    }

    async fn echo(&self, destination: &Name, calling: Option<base::AeTitle>, within: Duration) -> EchoAnswer {
        match self.inbox.destinations.get(destination) {
            // A moment before nobody waits any more, so that the answer says what was slow.
            Some(destination) => destination.echo(calling, within.mul_f32(0.9)).await,
            None => EchoAnswer { outcome: EchoOutcome::Gone, took_ms: 0 },
        }
    }

    fn table(&self, route: &Route, known: Option<u64>) -> TableAnswer {
        let Some(table) = self.tables.get(&route.destination) else {
            return TableAnswer::None(NoTable::NotYet);
        };
        let sender = route.sender.id();
        // Two signatures, at most once for each new table of each route.
        tokio::task::block_in_place(|| table.tell(&self.identity.now(), route.id, sender, known))
    }

    /// For `status`.
    pub fn table_json(&self, destination: &Name) -> Value {
        self.tables.get(destination).map_or(Value::Null, |table| table.json())
    }

    /// For `gateway-in probe NAME`.
    pub async fn probe_command(&self, ask: &Value) -> Probed {
        let name = named(ask)?;
        let table = self.tables.get(&name).ok_or_else(|| format!("no [[destination]] is called {name}"))?;
        table.probe_now().await
    }

    /// For `gateway-in echo NAME`.
    pub async fn echo_command(&self, ask: &Value) -> Probed {
        let name = named(ask)?;
        if !self.inbox.destinations.contains_key(&name) {
            return Err(format!("no [[destination]] is called {name}"));
        }
        Ok(echo_json(&name, &self.echo(&name, None, COMMAND_WITHIN).await))
    }
}

fn named(ask: &Value) -> Result<Name, String> {
    let name = ask.get("destination").and_then(Value::as_str).ok_or("\"destination\" is missing")?;
    Name::parse(name).map_err(|error| error.to_string())
}

/// What `gateway-in echo` shows.
pub fn echo_json(destination: &Name, echo: &EchoAnswer) -> Value {
    json!({
        "destination": destination, "answered": echo.outcome.is_answered(), "outcome": echo.outcome.to_string(),
        "took_ms": echo.took_ms,
    })
}
