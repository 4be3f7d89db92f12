//! What an operator and a status page see of the outbox, and what an operator does to it. Every act is in
//! the audit table, in the same transaction.

use std::sync::Arc;

use base::{DeliveryId, ObjectId, RouteId, Secret, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    Act, Alarmed, BodyError, BodyReader, Count, Delivery, DeliveryError, Event, EventKind, Filter, Found,
    InstanceRecord, Oldest, Operator, Receipt, ReceiptId, State, StoreError,
    db::{
        JobError,
        column::{length, millis, number},
    },
    faults::Kind,
    outbox::{
        act, deliver, load,
        look::{self, IdPrefix, Identifiers},
        shared::{Inner, audit},
    },
};

/// The view of an operator: clones share one index. [`Outbox`](crate::Outbox) dereferences to it;
/// [`Outbox::open_admin`](crate::Outbox::open_admin) opens it beside a running daemon.
#[derive(Debug, Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

impl Queue {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inner.db.reader.call(query).await
    }
}

/// What is due, and what a deposit needs.
impl Queue {
    /// Deliveries that are due, the longest due first.
    pub async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let condition = "WHERE d.next_at <= ?1 ORDER BY d.next_at, d.id LIMIT ?2";
        self.read(move |connection| load::deliveries(connection, condition, params![millis(now), limit]))
            .await
    }

    /// As [`Queue::due`], of one route: a route whose destination is down hides nothing of another.
    pub async fn due_on(
        &self,
        route: RouteId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.read(move |connection| look::due_on(connection, route, now, limit)).await
    }

    /// When the next delivery becomes due; in the past where some are due by now.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(look::next_due).await
    }

    /// The content key of an object that is held.
    pub async fn content_key(&self, object: ObjectId) -> Result<Secret<[u8; 32]>, BodyError> {
        let wrapped = self.sealed_part("wrapped_key", object).await?;
        let mut keys = self.inner.context.keys.each();
        keys.find_map(|key| key.unwrap(object, &wrapped).ok()).ok_or(BodyError::Sealed(object))
    }

    /// The body of an object that is held.
    pub fn body(&self, object: ObjectId) -> Result<BodyReader, BodyError> {
        self.inner.bodies.reader(object)
    }

    async fn sealed_part(&self, column: &'static str, object: ObjectId) -> Result<Vec<u8>, BodyError> {
        let query = move |connection: &Connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {column} FROM object WHERE object = ?1"))?;
            statement.query_row([object.0], |row| row.get::<_, Option<Vec<u8>>>(0)).optional()
        };
        self.read(query).await?.ok_or(BodyError::Unknown(object))?.ok_or(BodyError::Ended(object))
    }
}

/// Looking.
impl Queue {
    /// Deliveries, oldest first.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Delivery>, StoreError> {
        self.read(move |connection| look::list(connection, &filter)).await
    }

    /// [`Delivery::sequence`] of the newest one; 0 where there was none yet.
    pub async fn newest(&self) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(max(id), 0) FROM delivery";
        self.read(move |connection| connection.query_row(sql, [], |row| number(row, 0))).await
    }

    /// One delivery.
    pub async fn delivery(&self, delivery: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let query = move |connection: &Connection| {
            load::deliveries(connection, "WHERE d.delivery = ?1", params![delivery.0])
                .map(|mut found| found.pop())
        };
        self.read(query).await
    }

    /// What `why` looks up: a UID, an accession number, a patient id (as received; by keyed hash), or the
    /// first eight or more digits of a delivery or object id. The latest `limit` of each kind.
    pub async fn find(&self, text: &str, limit: u32) -> Result<Vec<Found>, StoreError> {
        let hashes = Identifiers::of(&self.inner.context.index_key, text);
        let prefix = IdPrefix::parse(text);
        self.read(move |connection| look::find(connection, &hashes, prefix.as_ref(), limit)).await
    }

    /// How many deliveries of each route are in each state.
    pub async fn counts(&self) -> Result<Vec<Count>, StoreError> {
        self.read(look::counts).await
    }

    /// The oldest delivery of each route that has not ended.
    pub async fn oldest(&self) -> Result<Vec<Oldest>, StoreError> {
        self.read(look::oldest).await
    }

    /// What needs an operator, by route, state and last status.
    pub async fn alarmed(&self) -> Result<Vec<Alarmed>, StoreError> {
        self.read(look::alarmed).await
    }

    /// What happened to a delivery, in order.
    pub async fn history(&self, delivery: DeliveryId) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection| look::history(connection, delivery)).await
    }

    /// Of the latest receipts, those that no relay has proven to be in its log, the newest first.
    pub async fn unlogged(&self, limit: u32) -> Result<Vec<Receipt>, StoreError> {
        let condition =
            "WHERE r.id > (SELECT coalesce(max(id), 0) FROM receipt) - 10000 AND l.receipt_id IS NULL
            ORDER BY r.id DESC LIMIT ?1";
        self.read(move |connection| look::receipts(connection, condition, params![limit])).await
    }

    /// Receipts in the order in which they were stored, behind the sequence `after`.
    pub async fn receipts(&self, after: Option<u64>, limit: u32) -> Result<Vec<Receipt>, StoreError> {
        let after = after.map_or(0, length);
        let condition = "WHERE r.id > ?1 ORDER BY r.id LIMIT ?2";
        self.read(move |connection| look::receipts(connection, condition, params![after, limit])).await
    }

    /// The receipts of one delivery: of each attempt that the destination answered for good.
    pub async fn receipts_of(&self, delivery: DeliveryId) -> Result<Vec<Receipt>, StoreError> {
        let condition = "WHERE d.delivery = ?1 ORDER BY r.id";
        self.read(move |connection| look::receipts(connection, condition, params![delivery.0])).await
    }

    /// The first receipt of that name.
    pub async fn receipt(&self, id: ReceiptId) -> Result<Option<Receipt>, StoreError> {
        let condition = "WHERE d.delivery = ?1 AND r.attempt = ?2 ORDER BY r.level DESC";
        let query = move |connection: &Connection| {
            look::receipts(connection, condition, params![id.delivery.0, id.attempt.0])
                .map(|mut found| found.pop())
        };
        self.read(query).await
    }

    /// The audit table, latest first.
    pub async fn acts(&self, limit: u32) -> Result<Vec<Act>, StoreError> {
        self.read(move |connection| look::acts(connection, limit)).await
    }
}

type ApplyAct = fn(&Connection, &mut load::Standing, &str, Timestamp) -> Result<(), JobError<DeliveryError>>;

/// Acting: each is audited.
impl Queue {
    /// Tries a deferred, parked or waiting-for-its-time delivery now, with fresh counters.
    pub async fn retry(
        &self,
        delivery: DeliveryId,
        by: Operator,
        now: Timestamp,
    ) -> Result<State, DeliveryError> {
        self.act("retry", delivery, by, now, act::retry).await
    }

    /// Gives an instance up: its key is erased where no other delivery needs it. Nothing brings it back.
    pub async fn discard(
        &self,
        delivery: DeliveryId,
        by: Operator,
        now: Timestamp,
    ) -> Result<State, DeliveryError> {
        let run = move |connection: &Connection| {
            let row = deliver::load(connection, delivery)?;
            let ended = act::discard(connection, row.clone(), &by.reason, now)?;
            audit(connection, &by, "discard", Some(delivery), now)?;
            Ok::<_, JobError<DeliveryError>>((ended.object && row.spooled).then_some(row.object))
        };
        // A receipt's kind: it erases a key, so the log is truncated after it.
        if let Some(object) = self.inner.db.writer.call(Kind::Receipt, run).await? {
            self.inner.purger.purge(object, now);
        }
        Ok(State::Discarded)
    }

    /// Keeps a delivery from being sent until it is released. Not while it is under way.
    pub async fn hold(
        &self,
        delivery: DeliveryId,
        by: Operator,
        now: Timestamp,
    ) -> Result<State, DeliveryError> {
        self.act("hold", delivery, by, now, act::hold).await
    }

    /// Releases a held delivery.
    pub async fn release(
        &self,
        delivery: DeliveryId,
        by: Operator,
        now: Timestamp,
    ) -> Result<State, DeliveryError> {
        self.act("release", delivery, by, now, act::release).await
    }

    /// Opens the sealed record of an instance that is under way. Audited before it is shown.
    pub async fn reveal(
        &self,
        delivery: DeliveryId,
        by: Operator,
        now: Timestamp,
    ) -> Result<InstanceRecord, BodyError> {
        let found = self.delivery(delivery).await?.ok_or(BodyError::NoDelivery(delivery))?;
        let object = found.object;
        let run = move |connection: &Connection| {
            if let Some(row) = load::standing(connection, delivery)? {
                row.note(connection, now, EventKind::Revealed, Some(&by.reason))?;
            }
            Ok(audit(connection, &by, "reveal", Some(delivery), now)?)
        };
        self.inner.db.writer.call::<(), StoreError>(Kind::Change, run).await?;
        let sealed = self.sealed_part("record", object).await?;
        let mut keys = self.inner.context.keys.each();
        let opened =
            keys.find_map(|key| key.open_record(object, &sealed).ok()).ok_or(BodyError::Sealed(object))?;
        InstanceRecord::decode(&opened).ok_or(BodyError::Sealed(object))
    }

    async fn act(
        &self,
        what: &'static str,
        delivery: DeliveryId,
        by: Operator,
        now: Timestamp,
        apply: ApplyAct,
    ) -> Result<State, DeliveryError> {
        let run = move |connection: &Connection| {
            let mut row = deliver::load(connection, delivery)?;
            apply(connection, &mut row, &by.reason, now)?;
            audit(connection, &by, what, Some(delivery), now)?;
            Ok(row.state)
        };
        self.inner.db.writer.call(Kind::Change, run).await
    }
}
