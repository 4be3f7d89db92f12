//! The outbox: opening it, and the calls of gateway-out. Everything else is in the modules below, each of
//! which runs inside a transaction and knows nothing of threads.

mod act;
mod deliver;
mod flush;
mod intake;
mod load;
mod look;
mod place;
mod purge;
mod queue;
mod recover;
mod schema;
mod sent;
mod shared;
mod types;

use std::{fs::File, ops::Deref, path::Path, sync::Arc};

use base::{Attempt, BootId, DeliveryId, ObjectId, Timestamp};
use rusqlite::Connection;

use crate::{
    BeginError, BodyFile, CommitError, DeliveryError, IndexKey, OpenError, OutboxKey, StoreError, Usage,
    body::Bodies,
    db::{self, Db},
    disk::Disk,
    faults::{Faults, Kind},
    log::{self, NewLogProof, Receipts},
};

pub(crate) use load::state as load_state;
pub(crate) use look::{IdPrefix, Identifiers};
pub use queue::Queue;
pub use types::{
    Applied, ChangedContent, Committed, Decision, Deferral, Loss, NewDelivery, NewObject, NewReceipt,
    NewUnspooled, OutboxConfig, Placed, Progress, SealedFacts, Settled, Step, UnspooledDecision,
};

use deliver::Pace;
use intake::Intake;
use purge::Purger;
use shared::KeyRing;

pub(crate) use shared::{Context, Inner, audit};

const BODIES_DIR: &str = "objects";

/// The outbox of a running gateway-out. It owns an instance from 0000H until its receipt. One process at
/// a time; all its calls are answered after their transaction is durable. What an operator sees and does
/// is in [`Queue`], which it dereferences to.
#[derive(Debug)]
pub struct Outbox {
    /// Dropped first: no new object comes while the rest ends.
    intake: Intake,
    queue: Queue,
    _lock: File,
}

impl Deref for Outbox {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

/// Making, opening, closing.
impl Outbox {
    /// Makes an empty outbox in a folder, for these keys. Never touches one that is there; one that was
    /// only half made is completed.
    pub fn init(dir: &Path, key: &OutboxKey, index_key: &IndexKey) -> Result<(), OpenError> {
        db::create_dir(dir)?;
        let _lock = db::lock(dir)?;
        db::create_dir(&dir.join(BODIES_DIR))?;
        let mut connection = db::connect(dir, true)?;
        db::migrate(&mut connection, schema::STEPS)?;
        if !schema::write_checks(&mut connection, key, index_key)? {
            return Err(OpenError::AlreadyInitialised(dir.to_owned()));
        }
        drop(connection);
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(db::io_error(dir))
    }

    /// Opens it for the daemon: takes the lock, checks both keys, removes bodies without a row, and puts
    /// back into the queue what an earlier process had begun. Reads the whole folder: call it before the
    /// runtime is busy.
    pub fn open(
        config: OutboxConfig,
        key: OutboxKey,
        index_key: IndexKey,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        Self::open_with(config, key, index_key, now, Faults::none())
    }

    pub(crate) fn open_with(
        config: OutboxConfig,
        key: OutboxKey,
        index_key: IndexKey,
        now: Timestamp,
        faults: Faults,
    ) -> Result<Self, OpenError> {
        let lock = if config.dir.is_dir() {
            db::lock(&config.dir)?
        } else {
            return Err(OpenError::NotInitialised(config.dir));
        };
        let mut connection = db::connect(&config.dir, false)?;
        db::migrate(&mut connection, schema::STEPS)?;
        schema::check_keys(&connection, &config.dir, &key, &index_key)?;
        recover::recover(&mut connection, &config.dir.join(BODIES_DIR), now)?;
        let queue = start(config, connection, key, index_key, faults)?;
        let intake =
            Intake::start(Arc::clone(queue.inner())).map_err(db::io_error(Path::new("spool thread")))?;
        Ok(Self { intake, queue, _lock: lock })
    }

    /// Opens it for one command of an operator, while the daemon may be running: reads, and changes
    /// deliveries; takes no new objects.
    pub fn open_admin(config: OutboxConfig, key: OutboxKey, index_key: IndexKey) -> Result<Queue, OpenError> {
        if !config.dir.is_dir() {
            return Err(OpenError::NotInitialised(config.dir));
        }
        let connection = db::connect(&config.dir, false)?;
        db::check_format(&connection, schema::STEPS)?;
        schema::check_keys(&connection, &config.dir, &key, &index_key)?;
        start(config, connection, key, index_key, Faults::none())
    }

    /// Finishes what is queued and frees the lock. Blocks for the length of a transaction. Clones of the
    /// [`Queue`] must be gone for the index to be closed.
    pub fn close(self) {
        drop(self);
    }
}

fn start(
    config: OutboxConfig,
    connection: Connection,
    key: OutboxKey,
    index_key: IndexKey,
    faults: Faults,
) -> Result<Queue, OpenError> {
    let sql = |error: rusqlite::Error| OpenError::Store(db::store_error(&error));
    let held = look::bytes_held(&connection).map_err(sql)?;
    let version = look::data_version(&connection).map_err(sql)?;
    let disk = Disk::new(&config.dir, config.bytes_max, config.reserve_bytes, held);
    let path = config.dir.join(BODIES_DIR);
    let bodies = Arc::new(Bodies::open(path.clone(), disk, faults.clone()).map_err(db::io_error(&path))?);
    let db = Arc::new(Db::start(&config.dir, connection, faults)?);
    let purger = Purger::start(Arc::clone(&db), Arc::clone(&bodies)).map_err(db::io_error(&path))?;
    let context = Context { config, keys: KeyRing::new(key), index_key };
    Ok(Queue::new(Inner { purger, db, bodies, context: Arc::new(context), version: version.into() }))
}

/// Receiving.
impl Outbox {
    /// Opens the body of a new object. Everything appended to it is removed again unless it is committed.
    pub fn begin(&self, object: ObjectId) -> Result<BodyFile, BeginError> {
        let inner = self.queue.inner();
        inner.db.health.intake()?;
        inner.bodies.create(object)
    }

    /// Makes an object durable: fdatasync of the body, fsync of the folder, one transaction; each shared
    /// with the other callers that wait. Answer 0000H after `Ok`, never before.
    pub async fn commit(
        &self,
        body: BodyFile,
        new: NewObject,
        now: Timestamp,
    ) -> Result<Committed, CommitError> {
        self.intake.commit(body, new, now).await
    }

    /// Makes the row of a `respond = "delivered"` instance; release its final chunk after `New`.
    pub async fn begin_unspooled(
        &self,
        new: NewUnspooled,
        now: Timestamp,
    ) -> Result<UnspooledDecision, CommitError> {
        let inner = Arc::clone(self.queue.inner());
        inner.db.health.intake()?;
        let prepared = intake::prepare_unspooled(new, &inner.context.index_key);
        let config = inner.context.config.clone();
        let run = move |connection: &Connection| place::place_unspooled(connection, &prepared, &config, now);
        inner.db.writer.call(Kind::Change, run).await
    }

    /// A receipt that came too late for the PACS and answers this content now, if there is one within
    /// [`OutboxConfig::delivered_repeat`]; the same look-up as in [`Outbox::begin_unspooled`].
    pub async fn recent_delivered(
        &self,
        record: &crate::InstanceRecord,
        route: base::RouteId,
        now: Timestamp,
    ) -> Result<Option<UnspooledDecision>, StoreError> {
        let inner = self.queue.inner();
        let (content, window) =
            (record.hashes(&inner.context.index_key).content, inner.context.config.delivered_repeat);
        inner
            .db
            .reader
            .call(move |connection| place::late_answer(connection, content, route, window, now))
            .await
    }

    /// What it uses of what it may; ask [`Usage::is_above_watermark`] before accepting an association.
    pub fn usage(&self) -> Result<Usage, BeginError> {
        let inner = self.queue.inner();
        inner.db.health.intake()?;
        inner.bodies.disk().usage().map_err(BeginError::Io)
    }

    /// Whether new objects are taken: the error says why not.
    pub fn health(&self) -> Result<(), StoreError> {
        self.queue.inner().db.health.intake()
    }
}

type ApplyReceipt =
    fn(&Connection, &NewReceipt, Timestamp) -> Result<(Settled, ObjectId), db::JobError<DeliveryError>>;

/// Sending: each report is applied in a transaction and answered after it.
impl Outbox {
    async fn change<T: Send + 'static>(
        &self,
        kind: Kind,
        run: impl FnOnce(&Connection) -> Result<T, db::JobError<DeliveryError>> + Send + 'static,
    ) -> Result<T, DeliveryError> {
        self.queue.inner().db.writer.call(kind, run).await
    }

    /// Counts the next attempt; deposit with the number it answers. A power failure may take the number back:
    /// the same attempt is then deposited again, which the relay answers with its state.
    pub async fn start_attempt(
        &self,
        delivery: DeliveryId,
        now: Timestamp,
    ) -> Result<Attempt, DeliveryError> {
        self.change(Kind::Progress, move |connection| deliver::start_attempt(connection, delivery, now)).await
    }

    /// A step of a deposit.
    pub async fn progress(&self, step: Progress) -> Result<Applied, DeliveryError> {
        self.change(Kind::Progress, move |connection| deliver::progress(connection, &step)).await
    }

    /// Steps of several deposits, in one request. What comes too late for its delivery changes nothing.
    pub async fn progress_all(&self, steps: Vec<Progress>) -> Result<(), DeliveryError> {
        self.change(Kind::Progress, move |connection| deliver::progress_all(connection, &steps)).await
    }

    /// The relay process `boot` has all of it.
    pub async fn relayed(
        &self,
        delivery: DeliveryId,
        attempt: Attempt,
        boot: BootId,
        at: Timestamp,
    ) -> Result<Applied, DeliveryError> {
        self.progress(Progress { delivery, attempt, step: Step::Relayed(boot), at }).await
    }

    /// The receiving gateway has taken it.
    pub async fn collected(
        &self,
        delivery: DeliveryId,
        attempt: Attempt,
        at: Timestamp,
    ) -> Result<Applied, DeliveryError> {
        self.progress(Progress { delivery, attempt, step: Step::Collected, at }).await
    }

    /// The deposit ended without success (connection lost, declined, abandoned): due again at `again_at`.
    /// `reason` is our own wording.
    pub async fn deposit_failed(
        &self,
        delivery: DeliveryId,
        attempt: Attempt,
        reason: impl Into<String>,
        again_at: Timestamp,
        now: Timestamp,
    ) -> Result<Applied, DeliveryError> {
        let reason = reason.into();
        let run = move |connection: &Connection| {
            deliver::deposit_failed(connection, delivery, attempt, &reason, again_at, now)
        };
        self.change(Kind::Progress, run).await
    }

    /// A verified deferral: due again after a growing wait, parked beyond `age_max`. `jitter` is a random
    /// number from 0 to 1.
    pub async fn deferred(
        &self,
        delivery: DeliveryId,
        attempt: Attempt,
        deferral: Deferral,
        jitter: f64,
        now: Timestamp,
    ) -> Result<Applied, DeliveryError> {
        let policy = self.queue.inner().context.config.retry;
        let run = move |connection: &Connection| {
            deliver::deferred(connection, delivery, attempt, &deferral, Pace { policy: &policy, jitter }, now)
        };
        self.change(Kind::Change, run).await
    }

    /// A verified nack: due again after a growing wait, parked after `nacks_max`.
    pub async fn nacked(
        &self,
        delivery: DeliveryId,
        attempt: Attempt,
        reason: impl Into<String>,
        jitter: f64,
        now: Timestamp,
    ) -> Result<Applied, DeliveryError> {
        let (policy, reason) = (self.queue.inner().context.config.retry, reason.into());
        let run = move |connection: &Connection| {
            deliver::nacked(connection, delivery, attempt, &reason, Pace { policy: &policy, jitter }, now)
        };
        self.change(Kind::Change, run).await
    }

    /// The relay's notice that it has the blob no longer: due again.
    pub async fn lost(
        &self,
        delivery: DeliveryId,
        attempt: Attempt,
        loss: Loss,
        jitter: f64,
        now: Timestamp,
    ) -> Result<Applied, DeliveryError> {
        let policy = self.queue.inner().context.config.retry;
        let run = move |connection: &Connection| {
            deliver::lost(connection, delivery, attempt, loss, Pace { policy: &policy, jitter }, now)
        };
        self.change(Kind::Change, run).await
    }

    /// All that lies at a relay process other than `alive` is due again. Call it with every connection,
    /// and at fail-over without the relay that was given up.
    pub async fn relay_lost(
        &self,
        alive: &[BootId],
        now: Timestamp,
    ) -> Result<Vec<DeliveryId>, DeliveryError> {
        let alive = alive.to_vec();
        self.change(Kind::Change, move |connection| deliver::relay_lost(connection, &alive, now)).await
    }

    /// A verified receipt that says stored: it is kept, and where it was the object's last delivery the
    /// key is erased in the same transaction and the body removed after it.
    pub async fn settled_stored(
        &self,
        receipt: NewReceipt,
        now: Timestamp,
    ) -> Result<Settled, DeliveryError> {
        self.settle(receipt, now, deliver::settled_stored).await
    }

    /// Proofs from a relay's log, beside the receipts that they are of. What a power failure takes back is asked for again.
    pub async fn logged(&self, proofs: Vec<NewLogProof>) -> Result<(), DeliveryError> {
        let run = move |connection: &Connection| Ok(log::store(connection, Receipts::Outbox, &proofs)?);
        self.change(Kind::Progress, run).await
    }

    /// A verified second receipt: the destination commits (stored), or does not (refused).
    pub async fn pledged(
        &self,
        receipt: NewReceipt,
        outcome: crate::Outcome,
        now: Timestamp,
    ) -> Result<Applied, DeliveryError> {
        self.change(Kind::Change, move |connection| deliver::pledged(connection, &receipt, outcome, now))
            .await
    }

    /// A verified receipt that says refused: parks the delivery; without a body it ends there.
    pub async fn refused(&self, receipt: NewReceipt, now: Timestamp) -> Result<Settled, DeliveryError> {
        self.settle(receipt, now, deliver::refused).await
    }

    async fn settle(
        &self,
        receipt: NewReceipt,
        now: Timestamp,
        apply: ApplyReceipt,
    ) -> Result<Settled, DeliveryError> {
        let (settled, object) =
            self.change(Kind::Receipt, move |connection| apply(connection, &receipt, now)).await?;
        if settled.object_ended {
            self.queue.inner().purger.purge(object, now);
        }
        Ok(settled)
    }

    /// `respond = "delivered"`: the PACS was answered A700, or has gone. A receipt that still comes is kept.
    pub async fn returned(
        &self,
        delivery: DeliveryId,
        reason: impl Into<String>,
        now: Timestamp,
    ) -> Result<Applied, DeliveryError> {
        let reason = reason.into();
        self.change(Kind::Change, move |connection| deliver::returned(connection, delivery, &reason, now))
            .await
    }

    /// Parks what waits for longer than `age_max`. Call it every minute or so.
    pub async fn park_overdue(&self, limit: u32, now: Timestamp) -> Result<Vec<DeliveryId>, DeliveryError> {
        let policy = self.queue.inner().context.config.retry;
        self.change(Kind::Change, move |connection| deliver::park_overdue(connection, &policy, limit, now))
            .await
    }

    /// Whether another process has changed the queue since the last call. What it discarded is counted
    /// and its bodies are removed here.
    pub async fn changed(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.queue.inner().catch_up(now).await
    }

    /// Wraps every key and record under another outbox key, in one transaction. Write the new key's file
    /// first and remove the old one's after; until both is done keep both.
    pub async fn rewrap(
        &self,
        new_key: OutboxKey,
        by: crate::Operator,
        now: Timestamp,
    ) -> Result<u64, crate::BodyError> {
        self.queue.inner().rewrap(new_key, by, now).await
    }
}
