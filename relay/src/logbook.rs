//! The log as the relay's loop has it: what is appended, when a head is signed and by whom, and what the gateways are told.
//!
//! With a log directory a task of its own writes and signs ([`Writer`]), and the loop never waits for the disk. While
//! that does not take anything, nothing is signed; instances are carried on, and their entries wait in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{EpochId, Timestamp, random_bytes};
use identity::{LogKey, LogPublic, PeerCard};
use ledger::log::{EntryKind, Salt};
use serde_json::{Value, json};
use service::Tasks;
use tokio::sync::mpsc;
use tracing::{error, info, warn};
use transport::ConnectionId;
use wire::Role;

use crate::log::{
    Appended, Found, HandBackError, HandedBack, Log, LogDir, LogLimits, LogView, Peer, Signed, Telling,
    ToSign, Witnesses,
};
use crate::settings::Keys;
use crate::vault::Record;

/// What the directory did not take is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// An answer of the disk that takes longer is worth a line.
const SLOW: Duration = Duration::from_secs(10);
/// Entries that wait for the next epoch while the disk does not take the end of this one.
const PARKED_MAX: usize = 64 * 1024;

/// Who is told what.
pub(crate) type Tell = (ConnectionId, Role, Telling);
/// What the writer answers.
pub(crate) type Kept = Result<Signed, String>;

/// See the module.
pub(crate) struct Logbook {
    log: Log,
    witnesses: Witnesses,
    writer: Option<Writer>,
    /// When the writer was given what it has not answered yet.
    given: Option<Instant>,
    /// That it takes long was said.
    slow: bool,
    /// The name of the next epoch: the same for each attempt to begin it.
    next: EpochId,
    parked: VecDeque<Record>,
    /// Entries that are lost to the log, since too many were parked.
    skipped: u64,
    failing: Option<Failing>,
    /// A gateway has a head of ours that this log never had.
    foreign: Option<String>,
}

/// The directory does not take anything.
struct Failing {
    since: Timestamp,
    reason: String,
    again: Instant,
}

/// Writes to the log directory, and signs what is there.
pub(crate) struct Writer {
    jobs: mpsc::Sender<ToSign>,
    kept: mpsc::Receiver<Kept>,
}

impl Writer {
    /// Starts the task that has the directory.
    pub(crate) fn start(dir: LogDir, tasks: &mut Tasks) -> Self {
        // One job at a time: the next covers all that came meanwhile.
        let (jobs, asked) = mpsc::channel(1);
        let (answers, kept) = mpsc::channel(1);
        tasks.spawn("log directory", write(dir, asked, answers));
        Self { jobs, kept }
    }
}

async fn write(
    dir: LogDir,
    mut jobs: mpsc::Receiver<ToSign>,
    answers: mpsc::Sender<Kept>,
) -> Result<(), tokio::task::JoinError> {
    let mut dir = dir;
    while let Some(job) = jobs.recv().await {
        let (back, kept) = tokio::task::spawn_blocking(move || {
            let kept = dir.keep(job).map_err(|error| service::exit::chain(&error));
            (dir, kept)
        })
        .await?;
        dir = back;
        if answers.send(kept).await.is_err() {
            break;
        }
    }
    Ok(())
}

impl Logbook {
    /// A log in memory: an epoch of its own.
    pub(crate) fn in_memory(key: Arc<LogKey>, limits: LogLimits) -> Self {
        let log = Log::new(key, EpochId(random_bytes()), limits, Instant::now(), Timestamp::now());
        info!(origin = %log.origin(), "log begins");
        Self::new(log, None)
    }

    /// A log that goes on where its directory ends.
    pub(crate) fn restored(key: Arc<LogKey>, limits: LogLimits, found: Found, writer: Writer) -> Self {
        let log = Log::restored(key, limits, found, Instant::now());
        let signed = log.head().head().size;
        info!(origin = %log.origin(), signed, entries = log.size(), "log goes on");
        Self::new(log, Some(writer))
    }

    fn new(log: Log, writer: Option<Writer>) -> Self {
        Self {
            log,
            witnesses: Witnesses::default(),
            writer,
            given: None,
            slow: false,
            next: EpochId(random_bytes()),
            parked: VecDeque::new(),
            skipped: 0,
            failing: None,
            foreign: None,
        }
    }

    /// Signs with this key from now on; heads that `earlier` signed stay ours.
    pub(crate) fn sign_with(&mut self, key: Arc<LogKey>, earlier: Option<LogPublic>) {
        self.log.sign_with(key, earlier);
    }

    pub(crate) fn view(&self) -> LogView {
        self.log.view()
    }

    /// When [`Logbook::turn`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if let Some(given) = self.given {
            return (!self.slow).then(|| given + SLOW);
        }
        let parked = || (!self.parked.is_empty()).then(Instant::now);
        let due = self.log.deadline().or_else(parked)?;
        Some(self.failing.as_ref().map_or(due, |failing| due.max(failing.again)))
    }

    /// Signs, or has signed, what is due.
    pub(crate) fn turn(&mut self, now: Instant) -> Vec<Tell> {
        if let Some(given) = self.given {
            if !self.slow && now >= given + SLOW {
                self.slow = true;
                warn!(
                    "the log directory has not answered for {} s; no head is signed, instances are carried on",
                    SLOW.as_secs()
                );
            }
            return Vec::new();
        }
        if self.failing.as_ref().is_some_and(|failing| failing.again > now) {
            return Vec::new();
        }
        let wall = Timestamp::now();
        let job = match self.parked.is_empty() {
            true => self.log.due(now, wall),
            false => self.log.end_epoch(self.next, wall),
        };
        job.map_or_else(Vec::new, |job| self.sign(job, now))
    }

    /// Appends to the log. A full one is closed first, and the next begins.
    pub(crate) fn record(&mut self, record: Record, now: Instant) -> Vec<Tell> {
        if !self.log.is_full() && self.parked.is_empty() {
            self.append(&record);
            return Vec::new();
        }
        if self.parked.len() < PARKED_MAX {
            self.parked.push_back(record);
        } else {
            // A settlement without a place in the log is submitted again by its gateways.
            self.skipped += 1;
        }
        self.turn(now)
    }

    fn append(&mut self, record: &Record) {
        let Record { kind, delivery, attempt, digest, sender, recipient } = record;
        let (salt, wall) = (Salt(random_bytes()), Timestamp::now());
        match kind {
            // Only what is settled is proved to the gateways.
            EntryKind::Accepted => drop(self.log.accepted(delivery, digest, salt, wall)),
            EntryKind::Settled => {
                let place: Appended = self.log.settled(delivery, digest, salt, wall);
                let peers = [(*sender, Role::Sender), (*recipient, Role::Recipient)];
                self.witnesses.settled(peers, *delivery, *attempt, place);
            }
            EntryKind::Linked => {}
        }
    }

    fn sign(&mut self, job: ToSign, now: Instant) -> Vec<Tell> {
        let Some(writer) = &self.writer else {
            let signed = self.log.sign(job);
            return self.signed(signed, now);
        };
        match writer.jobs.try_send(job) {
            Ok(()) => self.given = Some(now),
            Err(_) => self.failed("the task that writes the log has ended".to_owned(), now),
        }
        Vec::new()
    }

    /// The next answer of the writer. Cancel safe.
    pub(crate) async fn kept(&mut self) -> Kept {
        match &mut self.writer {
            Some(writer) if self.given.is_some() => match writer.kept.recv().await {
                Some(kept) => kept,
                None => Err("the task that writes the log has ended".to_owned()),
            },
            _ => std::future::pending().await,
        }
    }

    /// What the writer answered.
    pub(crate) fn take(&mut self, kept: Kept, now: Instant) -> Vec<Tell> {
        (self.given, self.slow) = (None, false);
        match kept {
            Ok(signed) => {
                if let Some(failing) = self.failing.take() {
                    let since = service::text::utc(failing.since);
                    info!(since, "the log directory takes entries again");
                }
                self.signed(signed, now)
            }
            Err(reason) => {
                self.failed(reason, now);
                Vec::new()
            }
        }
    }

    fn failed(&mut self, reason: String, now: Instant) {
        self.log.not_signed();
        let known = self.failing.as_ref().filter(|failing| failing.reason == reason);
        if known.is_none() {
            error!(
                reason,
                waiting = self.waiting(),
                "THE LOG DIRECTORY CANNOT BE WRITTEN: no head is signed, nothing is proved; instances are carried on"
            );
        }
        let since = self.failing.as_ref().map_or_else(Timestamp::now, |failing| failing.since);
        self.failing = Some(Failing { since, reason, again: now + RETRY });
    }

    fn signed(&mut self, signed: Signed, now: Instant) -> Vec<Tell> {
        let closed = self.log.origin().clone();
        let Some(last) = self.log.signed(signed, now) else {
            return self.witnesses.head(&self.log.view());
        };
        info!(%closed, size = last.size(), origin = %self.log.origin(), "log full: another epoch begins");
        self.next = EpochId(random_bytes());
        let tells = self.witnesses.epoch_ended(&last);
        for record in std::mem::take(&mut self.parked) {
            match self.log.is_full() {
                false => self.append(&record),
                true => self.parked.push_back(record),
            }
        }
        tells
    }

    /// Entries that no signed head covers.
    fn waiting(&self) -> u64 {
        self.log.size() - self.log.head().head().size + self.parked.len() as u64
    }

    /// The end: what is not under a head yet is signed, where it outlives the process.
    pub(crate) async fn finish(&mut self) {
        if self.writer.is_none() {
            return;
        }
        loop {
            if self.given.is_some() {
                let kept = self.kept().await;
                self.take(kept, Instant::now());
            }
            if self.failing.is_some() {
                return;
            }
            // Whatever is due at any time is due now.
            let (later, wall) = (Instant::now() + Duration::from_secs(24 * 3600), Timestamp::now());
            let job = match self.parked.is_empty() {
                true => self.log.due(later, wall),
                false => self.log.end_epoch(self.next, wall),
            };
            let Some(job) = job else { return };
            self.sign(job, Instant::now());
        }
    }

    /// A gateway is there.
    pub(crate) fn connected(&mut self, connection: ConnectionId, peer: Peer) -> Vec<Tell> {
        let tellings = self.witnesses.connected(connection, peer, &self.log.view());
        tellings.into_iter().map(|telling| (connection, peer.1, telling)).collect()
    }

    /// A gateway is gone.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId) {
        self.witnesses.disconnected(connection);
    }

    /// Forgets who is not admitted any more.
    pub(crate) fn retain(&mut self, admitted: impl Fn(&Peer) -> bool) {
        self.witnesses.retain(admitted);
    }

    /// Whether a gateway may submit one more settlement again.
    pub(crate) fn may_resubmit(&mut self, connection: ConnectionId, now: Instant) -> bool {
        self.witnesses.may_resubmit(connection, now)
    }

    /// A gateway says which head of this log, or of an earlier one of ours, it believes.
    pub(crate) fn witnessed(&mut self, connection: ConnectionId, text: &str, keys: &Keys) -> Vec<Tell> {
        if text.len() > wire::CHECKPOINT_BYTES_MAX {
            return Vec::new();
        }
        let Some(peer) = self.witnesses.may_speak(connection) else { return Vec::new() };
        let Some(card) = keys.card(&peer.0) else { return Vec::new() };
        let cosigned =
            card.log_keys(Timestamp::now()).find_map(|key| self.log.cosigned(text, &card.name, key).ok());
        let size = match cosigned {
            Some(cosigned) => Some(cosigned.size),
            // Of an earlier epoch, or with no cosignature that we can verify.
            None => self.handed_back(text, card),
        };
        let Some(size) = size else { return Vec::new() };
        let tellings = self.witnesses.believed(&peer, size, &self.log.view());
        tellings.into_iter().map(|telling| (connection, peer.1, telling)).collect()
    }

    fn handed_back(&mut self, text: &str, card: &PeerCard) -> Option<u64> {
        match self.log.handed_back(text, Timestamp::now()) {
            Ok(HandedBack::Known(size)) => return Some(size),
            // A directory that was kept has no earlier epoch that it does not know.
            Ok(HandedBack::Linked(entry)) if self.writer.is_some() => {
                warn!(gateway = %card.name, entry, "a head of an epoch that the log directory does not have was handed back, and linked: was the directory removed?");
            }
            Ok(HandedBack::Linked(entry)) => {
                info!(gateway = %card.name, entry, "a head of an earlier epoch was handed back, and linked");
            }
            Ok(HandedBack::Older) => {}
            Err(error @ HandBackError::Foreign(_)) => {
                error!(gateway = %card.name, %error, "a head of our log that we never signed");
                self.foreign =
                    Some(format!("{} has a head of this log that it never had: {error}", card.name));
            }
            Err(error) => {
                warn!(gateway = %card.name, %error, "a head was handed back that is none of ours");
            }
        }
        None
    }

    /// What is wrong with the log, in sentences.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let waiting = self.waiting();
        let failing = self.failing.as_ref().map(|Failing { since, reason, .. }| {
            let since = service::text::utc(*since);
            format!(
                "the log directory cannot be written since {since}: {reason}; no head is signed, {waiting} entries wait, instances are carried on"
            )
        });
        let slow = self.slow.then(|| "the log directory does not answer; no head is signed".to_owned());
        let skipped = (self.skipped > 0).then(|| {
            format!(
                "{} entries found no place in the log while its directory could not be written",
                self.skipped
            )
        });
        [failing, slow, skipped, self.foreign.clone()].into_iter().flatten().collect()
    }

    /// For the status.
    pub(crate) fn json(&self) -> Value {
        let head = self.log.head().head();
        json!({
            "origin": head.origin.as_str(), "size": head.size, "root": head.root, "entries": self.log.size(), "durable": self.writer.is_some(),
            "failing": self.failing.is_some() || self.slow, "waiting": self.waiting(), "skipped": self.skipped,
        })
    }
}

#[cfg(test)]
mod tests;
