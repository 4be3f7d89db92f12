//! `kind = "stow"`: a POST for each instance to the Studies Service of a DICOM web server (PS3.18 §10.5).
//!
//! A worker is one connection at most, kept for the next instance of the same sender. The end of a body, without which a server has
//! no instance, is held back as the last fragment of a C-STORE is.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::Name;
use bytes::Bytes;
use dataset::part10::{self, Implementation};
use dimse::{ConnectError, Stream};
use enquiry::EchoOutcome;
use spool::Sent;
use stow::{Boundary, Connection, Failure, Framing, Progress, Request, Response, Said};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Answer, Health, HealthState, Instance, NotAnswered, Outcome,
    dispatch::{Dispatch, Job},
    queue,
};
use crate::{
    body::Cut,
    change::Refusal,
    config::StowTarget,
    forward::{
        StatusOverrides,
        stow::{Meaning, leaves_open, meaning_of, row_of},
    },
};

/// Hands instances to workers.
#[derive(Debug)]
pub struct StowDestination {
    dispatch: Dispatch,
}

impl StowDestination {
    /// Starts the workers and the prober.
    pub fn start(
        name: &Name,
        target: &StowTarget,
        status: &StatusOverrides,
        health: &Health,
        tasks: &mut service::Tasks,
    ) -> Self {
        let (dispatch, queues) = Dispatch::new(target.max_associations, target.linger);
        let reach = Reach { name: name.clone(), health: health.clone(), pause: Arc::default() };
        for (number, queue) in queues.into_iter().enumerate() {
            let worker = Worker {
                target: target.clone(),
                status: status.clone(),
                reach: reach.clone(),
                open: None,
                fault: None,
            };
            tasks.spawn(format!("destination {name} worker {number}"), worker.run(queue));
        }
        tasks.spawn(format!("destination {name} prober"), prober(target.clone(), reach, tasks.token()));
        Self { dispatch }
    }

    /// Queues an instance at once, in the order of the calls, and waits for its outcome.
    pub fn store(&self, instance: Instance) -> impl Future<Output = Outcome> + use<> {
        self.dispatch.store(instance)
    }
}

/// Whether the service can be reached, and before when it need not be asked.
#[derive(Debug, Clone)]
struct Reach {
    name: Name,
    health: Health,
    // Owned by `busy` and `pause_left`; never held across an await.
    pause: Arc<Mutex<Option<Instant>>>,
}

impl Reach {
    fn announce(&self, state: HealthState) {
        if self.health.set(state) {
            match state {
                HealthState::Down => {
                    warn!(destination = %self.name, "destination is down; its instances wait at their senders");
                }
                _ => info!(destination = %self.name, "destination is up"),
            }
        }
    }

    /// It says that it cannot serve now; nothing is granted for it until it can.
    fn busy(&self, response: &Response) {
        let until = response.retry_after.map(|time| Instant::now() + time);
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.announce(HealthState::Down);
    }

    fn pause_left(&self) -> Duration {
        let until = *self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

/// One connection at most, and the queue of what goes over it.
struct Worker {
    target: StowTarget,
    status: StatusOverrides,
    reach: Reach,
    open: Option<(Connection, Name)>,
    /// The HTTP status of the last answer, where somebody has to mend something: it is said once.
    fault: Option<u16>,
}

/// Why a connection ends within an instance.
enum Broken {
    /// With this outcome.
    With(Outcome),
    /// The rest of the data set cannot be changed as it has to be.
    Refused(Refusal),
    /// The service has answered before it had all of it.
    Answered(Response),
}

impl From<Outcome> for Broken {
    fn from(outcome: Outcome) -> Self {
        Self::With(outcome)
    }
}

impl Worker {
    async fn run(mut self, mut queue: queue::Receiver<Job>) -> Result<(), Infallible> {
        let mut idle_since = Instant::now();
        loop {
            let job = tokio::select! {
                job = queue.recv() => job,
                () = sleep_until(idle_since + self.target.linger), if self.open.is_some() => {
                    self.open = None;
                    continue;
                }
            };
            let Some(Job { instance, reply }) = job else { return Ok(()) };
            let outcome = self.store(instance).await;
            idle_since = Instant::now();
            // Nobody waits any more only when the daemon is stopping; the ledger has the attempt.
            let _ = reply.send(outcome);
        }
    }

    async fn store(&mut self, mut instance: Instance) -> Outcome {
        if instance.cancel.is_cancelled() {
            return Outcome::Cancelled;
        }
        if !self.reach.health.may_be_asked() {
            return Outcome::NotAnswered(NotAnswered::Unreachable);
        }
        // A web service is asked nothing before: what it does not take it refuses.
        match instance.wanted.change_into(&instance.meta.transfer_syntax) {
            Ok(change) => instance.body.change(change),
            Err(refusal) => return super::refuse(&mut instance.body, refusal).await,
        }
        let mut connection = match self.connected(&instance).await {
            Ok(connection) => connection,
            Err(why) => return Outcome::NotAnswered(why),
        };
        match self.transfer(&mut connection, &mut instance).await {
            Ok((response, sent)) => {
                if connection.is_idle() {
                    self.open = Some((connection, instance.sender.clone()));
                }
                self.answered(&response, sent, &instance)
            }
            Err(Broken::With(outcome)) => outcome,
            // It is reset before the rest of the body is waited for.
            Err(Broken::Refused(refusal)) => {
                drop(connection);
                super::refuse(&mut instance.body, refusal).await
            }
            Err(Broken::Answered(response)) => {
                drop(connection);
                self.answered_early(&response, &mut instance).await
            }
        }
    }

    /// The connection that is kept, where it is this sender's and its server has not ended it; or another one.
    async fn connected(&mut self, instance: &Instance) -> Result<Connection, NotAnswered> {
        if let Some((mut connection, sender)) = self.open.take()
            && sender == instance.sender
            && connection.is_idle()
        {
            return Ok(connection);
        }
        let connecting = connect(&self.target, self.target.connect_timeout);
        let connected = tokio::select! {
            () = instance.cancel.cancelled() => return Err(NotAnswered::Interrupted),
            connected = connecting => connected,
        };
        match connected {
            // That it can be reached does not say that it can serve: a proxy before it can always be reached.
            Ok(connection) => Ok(connection),
            Err(error) => {
                tell_of_tls(&self.target, &error);
                debug!(destination = %self.reach.name, %error, "no connection");
                self.reach.announce(HealthState::Down);
                Err(NotAnswered::Unreachable)
            }
        }
    }

    /// Sends one instance. After an `Err` the connection is good for nothing more.
    async fn transfer(
        &self,
        connection: &mut Connection,
        instance: &mut Instance,
    ) -> Result<(Response, Sent), Broken> {
        let boundary = Boundary::random();
        let opening = [boundary.opening(), file_meta(instance)].concat();
        let closing = boundary.closing();
        let framing = match instance.body.known_bytes() {
            Some(bytes) => Framing::Length((opening.len() + closing.len()) as u64 + bytes),
            None => Framing::Chunked,
        };
        let request = request(&self.target, &boundary, framing);
        let cancel = instance.cancel.clone();
        self.left(&cancel, connection.begin(&request)).await?;
        // One piece behind, so that not even the data set is complete before its end may leave.
        let mut held = Bytes::from(opening);
        loop {
            let piece = tokio::select! {
                () = cancel.cancelled() => return Err(Outcome::Cancelled.into()),
                piece = instance.body.next() => piece,
            };
            match piece {
                Ok(Some(piece)) => {
                    let before = std::mem::replace(&mut held, piece);
                    self.left(&cancel, connection.send(before)).await?;
                }
                Ok(None) => break,
                Err(Cut::Incomplete(_)) => return Err(Outcome::Incomplete.into()),
                Err(Cut::Refused(refusal)) => return Err(Broken::Refused(refusal)),
            }
        }
        instance.body.verified().map_err(|_| Outcome::Incomplete)?;
        let Ok(sent) = instance.recorded.durable().await else {
            return Err(Outcome::NotAnswered(NotAnswered::Interrupted).into());
        };
        if cancel.is_cancelled() {
            return Err(Outcome::Cancelled.into());
        }
        let last = Bytes::from([&held[..], &closing].concat());
        match connection.finish(last, self.target.linger).await {
            Ok(response) => Ok((response, sent)),
            Err(error) => {
                warn!(destination = %self.reach.name, delivery = %instance.delivery.short(), %error, "no answer; the instance may be stored");
                Err(Outcome::NotAnswered(NotAnswered::Unknown).into())
            }
        }
    }

    /// A piece that is not the last: one that takes nothing must not keep its sender from taking the instance back.
    async fn left(
        &self,
        cancel: &CancellationToken,
        sending: impl Future<Output = Result<Progress, Failure>>,
    ) -> Result<(), Broken> {
        let sent = tokio::select! {
            () = cancel.cancelled() => return Err(Outcome::Cancelled.into()),
            sent = sending => sent,
        };
        match sent {
            Ok(Progress::Sent) => Ok(()),
            Ok(Progress::Answered(response)) => Err(Broken::Answered(response)),
            Err(error) => {
                debug!(destination = %self.reach.name, %error, "the connection ended before the instance was sent");
                Err(Outcome::NotAnswered(NotAnswered::Interrupted).into())
            }
        }
    }

    /// The service had all of it, or may have had.
    fn answered(&mut self, response: &Response, sent: Sent, instance: &Instance) -> Outcome {
        let Ok(verified) = instance.body.verified() else { return Outcome::Incomplete };
        match self.meaning(response, instance) {
            Ok(answer) => Outcome::Answered {
                answer,
                verified,
                maybe_stored: sent.maybe_stored,
                changed: instance.body.changed().cloned().map(Box::new),
            },
            Err(why) => Outcome::NotAnswered(why),
        }
    }

    /// It cannot have stored what it did not have; why it does not want the rest counts once it is known that the instance is good.
    async fn answered_early(&mut self, response: &Response, instance: &mut Instance) -> Outcome {
        let answer = match self.meaning(response, instance) {
            Ok(answer) => answer,
            Err(NotAnswered::Unknown) => return Outcome::NotAnswered(NotAnswered::Interrupted),
            Err(why) => return Outcome::NotAnswered(why),
        };
        let Ok(verified) = instance.body.drain().await else { return Outcome::Incomplete };
        match instance.recorded.durable().await {
            Ok(sent) => {
                Outcome::Answered { answer, verified, maybe_stored: sent.maybe_stored, changed: None }
            }
            Err(_) => Outcome::NotAnswered(NotAnswered::Interrupted),
        }
    }

    /// What the answer says. Its own words may name a patient, and stay behind.
    fn meaning(&mut self, response: &Response, instance: &Instance) -> Result<Answer, NotAnswered> {
        let body = response.body.as_deref().unwrap_or_default();
        let said = Said::of(body, &instance.meta.sop_instance);
        let meaning = meaning_of(response.status, response.is_early, said, &self.status);
        let (name, http, row) = (&self.reach.name, response.status, row_of(response.status));
        let is_news = self.fault.replace(http) != Some(http);
        if !response.is_early && said == Said::Nothing && leaves_open(http) {
            warn!(destination = %name, delivery = %instance.delivery.short(), http, meaning = row.meaning, "the service fails after it had all of the instance; it may be stored");
            return Err(NotAnswered::Unknown);
        }
        match meaning {
            Meaning::Status(status) => {
                // Named instances are told by their status, as those of every destination are.
                match said {
                    Said::Nothing if is_news => {
                        warn!(destination = %name, http, meaning = row.meaning, remedy = row.remedy, "the service did not take an instance");
                    }
                    Said::Nothing => {}
                    Said::Stored(_) | Said::Failed(_) => self.fault = None,
                }
                Ok(status.into())
            }
            Meaning::Unsaid => {
                warn!(destination = %name, delivery = %instance.delivery.short(), http, remedy = row.remedy, "the service does not say that it has the instance; it may be stored");
                Err(NotAnswered::Unknown)
            }
            Meaning::Fault => {
                if is_news {
                    warn!(destination = %name, http, meaning = row.meaning, remedy = row.remedy, "the service refuses our requests; its instances wait at their senders until that is mended");
                }
                Err(NotAnswered::Fault { http })
            }
            Meaning::Busy => {
                self.reach.busy(response);
                Err(NotAnswered::Busy { http })
            }
        }
    }
}

/// Preamble and file meta information, as a folder gets them.
fn file_meta(instance: &Instance) -> Vec<u8> {
    let class_uid = dimse::implementation_class_uid();
    let writer = Implementation { class_uid: &class_uid, version_name: dimse::IMPLEMENTATION_VERSION_NAME };
    part10::write_file_meta(&instance.meta, writer, Some(&instance.meta.calling))
}

fn request(target: &StowTarget, boundary: &Boundary, framing: Framing) -> Request {
    let authorization = target.credentials.now();
    let agent = dimse::IMPLEMENTATION_VERSION_NAME;
    Request::store(&target.url, authorization.as_ref(), agent, boundary, framing)
}

async fn connect(target: &StowTarget, within: Duration) -> Result<Connection<Stream>, ConnectError> {
    let stream = target.dialer.stream(target.address, target.connect_timeout.min(within)).await?;
    Ok(Connection::new(stream, target.response_timeout))
}

/// Somebody has to mend a certificate; a service that is off comes back by itself.
fn tell_of_tls(target: &StowTarget, error: &ConnectError) {
    if matches!(error, ConnectError::Tls(_)) {
        warn!(url = %target.url, address = %target.address, %error, "no TLS with the destination");
    }
}

/// A POST of a body without a part: nothing is stored and nothing is asked for, but the service has to be there, at that path,
/// and to take our credentials.
async fn post_nothing(target: &StowTarget, within: Duration) -> Result<Response, EchoOutcome> {
    let mut connection = connect(target, within).await.map_err(|error| {
        tell_of_tls(target, &error);
        match error {
            ConnectError::TimedOut(_) => EchoOutcome::TimedOut,
            _ => EchoOutcome::Unreachable,
        }
    })?;
    let boundary = Boundary::random();
    let nothing = Bytes::from(boundary.nothing());
    let request = request(target, &boundary, Framing::Length(nothing.len() as u64));
    let failed = |failure: Failure| match failure {
        Failure::NotTaken(_) | Failure::NoAnswer(_) => EchoOutcome::TimedOut,
        _ => EchoOutcome::Ended,
    };
    match connection.begin(&request).await.map_err(failed)? {
        Progress::Answered(response) => Ok(response),
        Progress::Sent => connection.finish(nothing, Duration::ZERO).await.map_err(|error| failed(error.0)),
    }
}

/// Whether a service answers, and would take something. That it complains of a body with nothing in it (400, 409) says that it does.
pub async fn echo_stow(target: &StowTarget, within: Duration) -> EchoOutcome {
    match timeout(within, post_nothing(target, within)).await {
        Err(_) => EchoOutcome::TimedOut,
        Ok(Err(outcome)) => outcome,
        Ok(Ok(response)) => match response.status {
            200..=299 | 400 | 409 => EchoOutcome::Answered,
            status => EchoOutcome::Http(status),
        },
    }
}

/// Asks a service that is down until it answers: anything but that it cannot serve now. Whether it takes instances is for the next
/// one to learn.
async fn prober(target: StowTarget, reach: Reach, stop: CancellationToken) -> Result<(), Infallible> {
    while reach.health.wait_down(|| target.probe_every.max(reach.pause_left()), &stop).await {
        let posted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            posted = post_nothing(&target, Duration::MAX) => posted,
        };
        match posted {
            Ok(response) if row_of(response.status).means == Meaning::Busy => reach.busy(&response),
            Ok(_) => reach.announce(HealthState::Up),
            Err(outcome) => debug!(destination = %reach.name, %outcome, "still down"),
        }
    }
    Ok(())
}
