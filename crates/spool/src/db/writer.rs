//! The thread that writes. It takes all requests that wait, runs them in one transaction (each in a
//! savepoint of its own, so that one that fails takes nothing with it), commits once, and answers all.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    StoreError,
    faults::{Faults, Kind, Point},
};

use super::{Health, store_error};

/// The most requests that share a transaction: bounds how long the first of them waits.
const BATCH_MAX: usize = 256;
/// How often BEGIN is tried (each waits for the busy timeout) before the requests are answered `Busy`.
const BEGIN_TRIES_MAX: u32 = 3;
/// How long erased keys may stay readable in the write-ahead log.
const TRUNCATE_AFTER: Duration = Duration::from_secs(3);
/// How long one attempt to truncate the log waits for readers.
const TRUNCATE_WAIT: Duration = Duration::from_millis(20);

/// Why a request did not change anything: its own error, or the store's.
#[derive(Debug)]
pub(crate) enum JobError<E> {
    Own(E),
    Sql(rusqlite::Error),
}

impl<E> From<rusqlite::Error> for JobError<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Told whether the transaction was committed.
type Answer = Box<dyn FnOnce(Result<(), &StoreError>) + Send>;
/// Runs inside the transaction; `Err` undoes it alone. Without a connection there is no transaction: it
/// only hands over its answer.
type Run = Box<dyn FnOnce(Option<&Connection>) -> (Result<(), Undo>, Answer) + Send>;

/// The savepoint must be rolled back; where the index itself failed, with its error.
struct Undo(Option<StoreError>);

struct Job {
    kind: Kind,
    /// Whether it erases a key, so that the log must be truncated soon.
    erases: bool,
    run: Run,
}

#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    health: Health,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn start(connection: Connection, health: Health, faults: Faults) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let health_of_worker = health.clone();
        let mut worker =
            Worker { connection, queue, health: health_of_worker, faults, truncate_at: None, durable: true };
        let thread = thread::Builder::new().name("spool-write".to_owned()).spawn(move || worker.run())?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), health })
    }

    /// Queues a request (as many wait as there are callers: each awaits its answer); `then` gets its result after the commit, on the writing thread: it must not block
    /// for long.
    pub(crate) fn submit<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        kind: Kind,
        run: impl FnOnce(&Connection) -> Result<T, JobError<E>> + Send + 'static,
        then: impl FnOnce(Result<T, E>) + Send + 'static,
    ) {
        let run: Run = Box::new(move |connection| match connection.map(run) {
            Some(Ok(value)) => (
                Ok(()),
                Box::new(move |committed| {
                    then(committed.map(|()| value).map_err(|error| error.clone().into()))
                }),
            ),
            Some(Err(JobError::Own(error))) => (Err(Undo(None)), Box::new(move |_| then(Err(error)))),
            Some(Err(JobError::Sql(error))) => {
                let error = store_error(&error);
                let own = error.clone();
                let answer = move |committed: Result<(), &StoreError>| {
                    then(Err(committed.err().cloned().unwrap_or(own).into()));
                };
                (Err(Undo(Some(error))), Box::new(answer))
            }
            None => {
                let stopped = StoreError::Failed("the transaction did not begin".to_owned());
                let answer = move |committed: Result<(), &StoreError>| {
                    then(Err(committed.err().cloned().unwrap_or(stopped).into()));
                };
                (Err(Undo(None)), Box::new(answer))
            }
        });
        // A send fails only when the thread is gone; the dropped request then answers its caller.
        if let Some(jobs) = &self.jobs {
            let erases = matches!(kind, Kind::Receipt | Kind::CommitmentEnded | Kind::InboundAcked);
            let _ = jobs.send(Job { kind, erases, run });
        }
    }

    /// Runs a request in the next transaction and answers after its commit.
    pub(crate) async fn call<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        kind: Kind,
        run: impl FnOnce(&Connection) -> Result<T, JobError<E>> + Send + 'static,
    ) -> Result<T, E> {
        self.health.index()?;
        let (answer, answered) = oneshot::channel();
        self.submit(kind, run, move |result| {
            let _ = answer.send(result);
        });
        answered
            .await
            .unwrap_or_else(|_| Err(StoreError::Failed("the writing thread has ended".to_owned()).into()))
    }
}

impl Drop for Writer {
    /// Finishes what is queued and leaves no log behind.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    connection: Connection,
    queue: mpsc::Receiver<Job>,
    health: Health,
    faults: Faults,
    truncate_at: Option<Instant>,
    /// As the connection is set: whether a commit waits for the disk.
    durable: bool,
}

impl Worker {
    fn run(&mut self) {
        loop {
            let first = match self.truncate_at {
                None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.queue.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(first) => self.batch(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.truncate_at.is_some_and(|at| at <= Instant::now()) {
                self.truncate();
            }
        }
        self.truncate();
    }

    fn batch(&mut self, first: Job) {
        let mut jobs = vec![first];
        while jobs.len() < BATCH_MAX {
            match self.queue.try_recv() {
                Ok(job) => jobs.push(job),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let erases = jobs.iter().any(|job| job.erases);
        let mut answers = Vec::with_capacity(jobs.len());
        let outcome = self.transaction(jobs, &mut answers);
        if let Err(error @ (StoreError::Failed(_) | StoreError::Damaged(_))) = &outcome {
            self.health.fail_index(error.to_string());
        }
        for answer in answers {
            answer(outcome.as_ref().copied());
        }
        if erases && self.truncate_at.is_none() {
            self.truncate_at = Some(Instant::now() + TRUNCATE_AFTER);
        }
    }

    /// One transaction. Every request hands over its answer, whether it ran or not.
    fn transaction(&mut self, jobs: Vec<Job>, answers: &mut Vec<Answer>) -> Result<(), StoreError> {
        let mut kinds: Vec<Kind> = Vec::new();
        let durable = jobs.iter().any(|job| job.kind.is_durable());
        let mut outcome =
            self.health.index().and_then(|()| self.wait_for_disk(durable)).and_then(|()| self.begin());
        for job in jobs {
            if outcome.is_err() {
                answers.push((job.run)(None).1);
                continue;
            }
            if !kinds.contains(&job.kind) {
                kinds.push(job.kind);
            }
            outcome = self.savepoint(job, answers);
        }
        outcome = outcome.and_then(|()| self.commit(&kinds));
        if outcome.is_err() {
            self.roll_back();
        }
        outcome
    }

    /// A commit that waits for the disk takes all before it along, whether they waited or not.
    fn wait_for_disk(&mut self, durable: bool) -> Result<(), StoreError> {
        if self.durable != durable {
            let level = if durable { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level).map_err(|error| store_error(&error))?;
            self.durable = durable;
        }
        Ok(())
    }

    fn begin(&self) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| store_error(&error)) {
                Err(StoreError::Busy) if tries < BEGIN_TRIES_MAX => {}
                other => return other,
            }
        }
    }

    fn savepoint(&self, job: Job, answers: &mut Vec<Answer>) -> Result<(), StoreError> {
        let execute = |sql: &str| {
            let done = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(()));
            done.map(drop).map_err(|error| store_error(&error))
        };
        let begun = execute("SAVEPOINT request");
        let (result, answer) = (job.run)(begun.is_ok().then_some(&self.connection));
        answers.push(answer);
        begun?;
        match result {
            Ok(()) => {}
            Err(Undo(Some(error @ StoreError::Failed(_)))) => return Err(error),
            // Some errors (no space, I/O) end the whole transaction inside SQLite.
            Err(Undo(cause)) if self.connection.is_autocommit() => {
                return Err(cause.unwrap_or(StoreError::Full));
            }
            Err(Undo(_)) => execute("ROLLBACK TO request")?,
        }
        execute("RELEASE request")
    }

    fn commit(&self, kinds: &[Kind]) -> Result<(), StoreError> {
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull => StoreError::Full,
            _ => StoreError::Failed(error.to_string()),
        };
        for kind in kinds {
            self.faults.before(Point::Commit(*kind)).map_err(io)?;
        }
        self.connection.execute_batch("COMMIT").map_err(|error| store_error(&error))?;
        for kind in kinds {
            self.faults.after(Point::Commit(*kind)).map_err(io)?;
        }
        Ok(())
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// Moves everything into the index and empties the log, so that no erased key stays in it. When a
    /// reader of another process is in the way it is tried again later: nobody waits for it.
    fn truncate(&mut self) {
        let truncated = || -> rusqlite::Result<bool> {
            self.connection.busy_timeout(TRUNCATE_WAIT)?;
            let busy: i64 =
                self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
            Ok(busy == 0)
        };
        let done = self.health.index().is_err() || truncated().unwrap_or(false);
        let _ = self.connection.busy_timeout(super::BUSY_TIMEOUT);
        self.truncate_at = (!done).then(|| Instant::now() + TRUNCATE_AFTER);
    }
}
