//! What an operator and a status page see of the outbox, and what an operator does to it. Every act is in
//! the audit table, in the same transaction.

use std::{
    collections::HashSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use base::{DeliveryId, ObjectId, RouteId, Secret, Timestamp};
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use crate::{
    Act, BodyError, BodyReader, Count, Delivery, DeliveryError, Event, EventKind, Filter, Found, FoundBy,
    IndexKey, InstanceRecord, Oldest, Operator, OutboxConfig, OutboxKey, Outcome, Receipt, ReceiptId, State,
    StoreError,
    body::Bodies,
    db::{
        Db, JobError,
        column::{self, millis},
    },
    faults::Kind,
    outbox::{
        deliver, load,
        purge::{self, Purger},
        schema,
    },
    record::{self, Identifier},
};

/// The view of an operator: clones share one index. [`Outbox`](crate::Outbox) dereferences to it;
/// [`Outbox::open_admin`](crate::Outbox::open_admin) opens it beside a running daemon.
#[derive(Debug, Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

/// What the parts of an outbox share. The order of the fields is the order in which they end.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) purger: Purger,
    pub(crate) db: Arc<Db>,
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) context: Arc<Context>,
    /// SQLite's count of other processes' transactions, as last seen.
    pub(crate) version: AtomicI64,
}

/// What a request takes with it to the index's thread. It must own no thread: the last to let go of it may
/// be that thread itself.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: OutboxConfig,
    pub(crate) keys: KeyRing,
    pub(crate) index_key: IndexKey,
}

/// The outbox key, and for the length of a rotation the one before it: a reader may still see its rows.
#[derive(Debug)]
pub(crate) struct KeyRing {
    keys: RwLock<(OutboxKey, Option<OutboxKey>)>,
}

impl KeyRing {
    pub(crate) fn new(key: OutboxKey) -> Self {
        Self { keys: RwLock::new((key, None)) }
    }

    pub(crate) fn current(&self) -> OutboxKey {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn each(&self) -> impl Iterator<Item = OutboxKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(keys.0.clone()).chain(keys.1.clone())
    }

    fn replace(&self, key: OutboxKey) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut keys.0, key);
        keys.1 = Some(before);
    }

    /// Undoes a replacement by the key with this check value.
    fn take_back(&self, check: &[u8; 16]) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.0.check_value() == *check
            && let Some(before) = keys.1.take()
        {
            keys.0 = before;
        }
    }
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
        let condition = "WHERE d.way_id IN (SELECT id FROM way WHERE route = ?1) AND d.next_at <= ?2
            ORDER BY d.next_at, d.id LIMIT ?3";
        self.read(move |connection| {
            load::deliveries(connection, condition, params![route.0, millis(now), limit])
        })
        .await
    }

    /// When the next delivery becomes due; in the past where some are due by now.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT min(next_at) FROM delivery WHERE next_at IS NOT NULL";
        self.read(move |connection| connection.prepare_cached(sql)?.query_row((), |row| column::time(row, 0)))
            .await
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
        self.read(move |connection| list(connection, &filter)).await
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
        self.read(move |connection| find(connection, &hashes, prefix.as_ref(), limit)).await
    }

    /// How many deliveries of each route are in each state.
    pub async fn counts(&self) -> Result<Vec<Count>, StoreError> {
        self.read(counts).await
    }

    /// The oldest delivery of each route that has not ended.
    pub async fn oldest(&self) -> Result<Vec<Oldest>, StoreError> {
        self.read(oldest).await
    }

    /// What happened to a delivery, in order.
    pub async fn history(&self, delivery: DeliveryId) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection| history(connection, delivery)).await
    }

    /// Receipts in the order in which they were stored, behind the sequence `after`.
    pub async fn receipts(&self, after: Option<u64>, limit: u32) -> Result<Vec<Receipt>, StoreError> {
        let after = after.map_or(0, column::length);
        let condition = "WHERE r.id > ?1 ORDER BY r.id LIMIT ?2";
        self.read(move |connection| receipts(connection, condition, params![after, limit])).await
    }

    /// The receipts of one delivery: of each attempt that the destination answered for good.
    pub async fn receipts_of(&self, delivery: DeliveryId) -> Result<Vec<Receipt>, StoreError> {
        let condition = "WHERE d.delivery = ?1 ORDER BY r.id";
        self.read(move |connection| receipts(connection, condition, params![delivery.0])).await
    }

    /// One receipt.
    pub async fn receipt(&self, id: ReceiptId) -> Result<Option<Receipt>, StoreError> {
        let condition = "WHERE d.delivery = ?1 AND r.attempt = ?2";
        let query = move |connection: &Connection| {
            receipts(connection, condition, params![id.delivery.0, id.attempt.0]).map(|mut found| found.pop())
        };
        self.read(query).await
    }

    /// The audit table, latest first.
    pub async fn acts(&self, limit: u32) -> Result<Vec<Act>, StoreError> {
        self.read(move |connection| acts(connection, limit)).await
    }
}

/// Acting: each is audited.
impl Queue {
    /// Tries a deferred, parked or waiting-for-its-time delivery now, with fresh counters.
    pub async fn retry(
        &self,
        delivery: DeliveryId,
        by: Operator,
        now: Timestamp,
    ) -> Result<State, DeliveryError> {
        self.act("retry", delivery, by, now, deliver::retry).await
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
            let ended = deliver::discard(connection, row.clone(), &by.reason, now)?;
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
        self.act("hold", delivery, by, now, deliver::hold).await
    }

    /// Releases a held delivery.
    pub async fn release(
        &self,
        delivery: DeliveryId,
        by: Operator,
        now: Timestamp,
    ) -> Result<State, DeliveryError> {
        self.act("release", delivery, by, now, deliver::release).await
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
        apply: fn(&Connection, &mut load::Standing, &str, Timestamp) -> Result<(), JobError<DeliveryError>>,
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

impl Inner {
    /// Notices what another process did: counts again, and removes what it discarded.
    pub(crate) async fn catch_up(&self, now: Timestamp) -> Result<bool, StoreError> {
        let look = |connection: &Connection| Ok::<_, JobError<StoreError>>(data_version(connection)?);
        let version = self.db.writer.call(Kind::Change, look).await?;
        if self.version.swap(version, Ordering::Relaxed) == version {
            return Ok(false);
        }
        let look =
            |connection: &Connection| Ok((bytes_held(connection)?, purge::ended_unpurged(connection)?));
        let (held, ended) = self.db.reader.call(look).await?;
        self.bodies.disk().recount(held);
        for object in ended {
            self.purger.purge(object, now);
        }
        Ok(true)
    }

    pub(crate) async fn rewrap(
        &self,
        new: OutboxKey,
        by: Operator,
        now: Timestamp,
    ) -> Result<u64, BodyError> {
        let (context, undo) = (Arc::clone(&self.context), Arc::clone(&self.context));
        let check = new.check_value();
        let run = move |connection: &Connection| {
            let count = rewrap(connection, &context.keys.current(), &new)?;
            schema::write_outbox_check(connection, &new)?;
            audit(connection, &by, "rewrap", None, now)?;
            // Here and not after the commit: the next request of this transaction wraps under the new key. If
            // the commit fails, so do all of them, and the old key comes back.
            context.keys.replace(new);
            Ok(count)
        };
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.db.writer.submit(Kind::Change, run, move |result: Result<u64, BodyError>| {
            if result.is_err() {
                undo.keys.take_back(&check);
            }
            let _ = answer.send(result);
        });
        let ended = || BodyError::Store(StoreError::Failed("the writing thread has ended".to_owned()));
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn audit(
    connection: &Connection,
    by: &Operator,
    what: &str,
    delivery: Option<DeliveryId>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO act(at, who, what, delivery, reason) VALUES(?1, ?2, ?3, ?4, ?5)";
    let values = (millis(now), &by.who, what, delivery.map(|delivery| delivery.0), &by.reason);
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

fn rewrap(connection: &Connection, old: &OutboxKey, new: &OutboxKey) -> Result<u64, JobError<BodyError>> {
    let sql = "SELECT id, object, wrapped_key, record FROM object WHERE wrapped_key IS NOT NULL";
    let read = |row: &rusqlite::Row<'_>| {
        Ok((
            row.get::<_, i64>(0)?,
            ObjectId(row.get(1)?),
            row.get::<_, Vec<u8>>(2)?,
            row.get::<_, Vec<u8>>(3)?,
        ))
    };
    let held: Vec<_> = connection.prepare_cached(sql)?.query_map((), read)?.collect::<Result<_, _>>()?;
    let mut update =
        connection.prepare_cached("UPDATE object SET wrapped_key = ?2, record = ?3 WHERE id = ?1")?;
    let mut count = 0;
    for (id, object, wrapped, record) in held {
        let sealed = |_| JobError::Own(BodyError::Sealed(object));
        let key = old.unwrap(object, &wrapped).map_err(sealed)?;
        let record = old.open_record(object, &record).map_err(sealed)?;
        let wrapped = new.wrap(object, &key).map_err(sealed)?;
        update.execute((id, wrapped, new.seal_record(object, &record).map_err(sealed)?))?;
        count += 1;
    }
    Ok(count)
}

/// What a transaction of another process changes, and one of ours does not.
pub(crate) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// Sealed bytes that lie in the folder and have a row.
pub(crate) fn bytes_held(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT COALESCE(sum(sealed_len), 0) FROM object WHERE purged_at IS NULL";
    connection.query_row(sql, (), |row| column::number(row, 0))
}

/// Objects whose custody has not ended.
pub(crate) fn held_objects(connection: &Connection) -> rusqlite::Result<HashSet<ObjectId>> {
    let sql = "SELECT object FROM object WHERE purged_at IS NULL AND ended_at IS NULL";
    connection.prepare(sql)?.query_map((), |row| row.get(0).map(ObjectId))?.collect()
}

fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Delivery>> {
    let mut condition = String::from("WHERE d.id > ?1");
    let after = filter.after.map_or(0, column::length);
    let route = filter.route.map(|route| route.0);
    let object = filter.object.map(|object| object.0);
    let mut parameters: Vec<&dyn ToSql> = vec![&after];
    if let Some(route) = &route {
        parameters.push(route);
        condition += &format!(" AND w.route = ?{}", parameters.len());
    }
    if let Some(object) = &object {
        parameters.push(object);
        condition += &format!(" AND o.object = ?{}", parameters.len());
    }
    if filter.open {
        condition += " AND d.ended_at IS NULL";
    }
    if filter.alarm {
        condition += " AND d.alarm = 1";
    }
    if !filter.states.is_empty() {
        let codes: Vec<String> = filter.states.iter().map(|state| state.code().to_string()).collect();
        condition += &format!(" AND d.state IN ({})", codes.join(", "));
    }
    parameters.push(&filter.limit);
    condition += &format!(" ORDER BY d.id LIMIT ?{}", parameters.len());
    load::deliveries(connection, &condition, &parameters)
}

/// The keyed hashes of one text, as each kind of identifier.
struct Identifiers([(FoundBy, &'static str, [u8; 16]); 5]);

impl Identifiers {
    fn of(key: &IndexKey, text: &str) -> Self {
        let hash = |kind| record::identifier(key, kind, text);
        Self([
            (FoundBy::Instance, "instance_hash", hash(Identifier::Instance)),
            (FoundBy::Study, "study_hash", hash(Identifier::Study)),
            (FoundBy::Series, "series_hash", hash(Identifier::Series)),
            (FoundBy::Accession, "accession_hash", hash(Identifier::Accession)),
            (FoundBy::Patient, "patient_hash", hash(Identifier::Patient)),
        ])
    }
}

/// The ids that start with some hexadecimal digits, as a range of bytes.
struct IdPrefix {
    first: Vec<u8>,
    last: Vec<u8>,
}

impl IdPrefix {
    const DIGITS_MIN: usize = 8;

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.len();
        if !(Self::DIGITS_MIN..=2 * DeliveryId::LEN).contains(&digits) {
            return None;
        }
        let padded =
            |with: char| hex::decode(format!("{text}{}", String::from(with).repeat(64 - digits))).ok();
        Some(Self { first: padded('0')?, last: padded('f')? })
    }
}

fn find(
    connection: &Connection,
    hashes: &Identifiers,
    prefix: Option<&IdPrefix>,
    limit: u32,
) -> rusqlite::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut add = |by, condition: String, parameters: &[&dyn ToSql]| {
        let rows = load::deliveries(connection, &condition, parameters)?;
        found.extend(rows.into_iter().map(|delivery| Found { by, delivery }));
        Ok::<_, rusqlite::Error>(())
    };
    for (by, column, hash) in &hashes.0 {
        add(*by, format!("WHERE o.{column} = ?1 ORDER BY d.id DESC LIMIT ?2"), params![hash, limit])?;
    }
    if let Some(IdPrefix { first, last }) = prefix {
        let range = |column| format!("WHERE {column} BETWEEN ?1 AND ?2 ORDER BY d.id DESC LIMIT ?3");
        add(FoundBy::Delivery, range("d.delivery"), params![first, last, limit])?;
        // An object id has half the length: a longer prefix matches none, as it should.
        let half = |bytes: &[u8]| bytes.get(..ObjectId::LEN).unwrap_or_default().to_vec();
        if last.get(ObjectId::LEN..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0xff)) {
            add(FoundBy::Object, range("o.object"), params![half(first), half(last), limit])?;
        }
    }
    Ok(found)
}

fn counts(connection: &Connection) -> rusqlite::Result<Vec<Count>> {
    let sql = "SELECT w.route, w.receiver, w.destination, t.state, t.deliveries, t.bytes
        FROM tally t JOIN way w ON w.id = t.way_id WHERE t.deliveries > 0 ORDER BY t.way_id, t.state";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Count {
            route: RouteId(row.get(0)?),
            receiver: column::name(row, 1)?,
            destination: column::name(row, 2)?,
            state: load::state(row, 3)?,
            deliveries: column::number(row, 4)?,
            bytes: column::number(row, 5)?,
        })
    };
    connection.prepare_cached(sql)?.query_map((), read)?.collect()
}

fn oldest(connection: &Connection) -> rusqlite::Result<Vec<Oldest>> {
    let sql = "SELECT w.route, w.receiver, w.destination, d.delivery, d.received_at FROM way w JOIN delivery d
        ON d.id = (SELECT id FROM delivery WHERE way_id = w.id AND ended_at IS NULL ORDER BY received_at LIMIT 1)";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Oldest {
            route: RouteId(row.get(0)?),
            receiver: column::name(row, 1)?,
            destination: column::name(row, 2)?,
            delivery: DeliveryId(row.get(3)?),
            received_at: Timestamp(column::number(row, 4)?),
        })
    };
    connection.prepare_cached(sql)?.query_map((), read)?.collect()
}

fn history(connection: &Connection, delivery: DeliveryId) -> rusqlite::Result<Vec<Event>> {
    let sql = "SELECT e.at, e.kind, e.attempt, e.status, e.detail FROM event e
        JOIN delivery d ON d.id = e.delivery_id WHERE d.delivery = ?1 ORDER BY e.id";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Event {
            at: Timestamp(column::number(row, 0)?),
            kind: column::coded(row, 1, EventKind::from_code)?,
            attempt: base::Attempt(row.get(2)?),
            status: row.get::<_, Option<u16>>(3)?.map(base::Status),
            detail: row.get(4)?,
        })
    };
    connection.prepare_cached(sql)?.query_map([delivery.0], read)?.collect()
}

fn receipts(
    connection: &Connection,
    condition: &str,
    parameters: &[&dyn ToSql],
) -> rusqlite::Result<Vec<Receipt>> {
    let sql = "SELECT r.id, d.delivery, r.attempt, r.outcome, r.status, r.level, r.answered_at, r.stored_at,
        r.receipt, r.settlement, o.body_digest FROM receipt r JOIN delivery d ON d.id = r.delivery_id
        JOIN object o ON o.id = d.object_id ";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Receipt {
            sequence: column::number(row, 0)?,
            id: ReceiptId { delivery: DeliveryId(row.get(1)?), attempt: base::Attempt(row.get(2)?) },
            outcome: column::coded(row, 3, Outcome::from_code)?,
            status: base::Status(row.get(4)?),
            level: row.get(5)?,
            answered_at: Timestamp(column::number(row, 6)?),
            stored_at: Timestamp(column::number(row, 7)?),
            receipt: row.get(8)?,
            settlement: row.get(9)?,
            body_digest: base::Digest(row.get(10)?),
        })
    };
    connection.prepare_cached(&format!("{sql}{condition}"))?.query_map(parameters, read)?.collect()
}

fn acts(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Act>> {
    let sql = "SELECT at, who, what, delivery, reason FROM act ORDER BY id DESC LIMIT ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Act {
            at: Timestamp(column::number(row, 0)?),
            who: row.get(1)?,
            what: row.get(2)?,
            delivery: row.get::<_, Option<[u8; 32]>>(3)?.map(DeliveryId),
            reason: row.get(4)?,
        })
    };
    connection.prepare_cached(sql)?.query_map([limit], read)?.collect()
}
