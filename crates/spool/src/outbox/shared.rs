//! What the parts of one opened outbox share: its threads, its folder, its keys.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicI64, Ordering},
};

use base::{DeliveryId, ObjectId, Timestamp};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    BodyError, IndexKey, Operator, OutboxConfig, OutboxKey, StoreError,
    body::Bodies,
    commitment,
    db::{Db, JobError, column::millis},
    faults::Kind,
    outbox::{
        look,
        purge::{self, Purger},
        schema,
    },
};

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

    pub(crate) fn each(&self) -> impl Iterator<Item = OutboxKey> {
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

impl Inner {
    /// Notices what another process did: counts again, and removes what it discarded.
    pub(crate) async fn catch_up(&self, now: Timestamp) -> Result<bool, StoreError> {
        let look = |connection: &Connection| Ok::<_, JobError<StoreError>>(look::data_version(connection)?);
        let version = self.db.writer.call(Kind::Change, look).await?;
        if self.version.swap(version, Ordering::Relaxed) == version {
            return Ok(false);
        }
        let look =
            |connection: &Connection| Ok((look::bytes_held(connection)?, purge::ended_unpurged(connection)?));
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
        let (answer, answered) = oneshot::channel();
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

pub(crate) fn audit(
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
    let sql = "SELECT id, object, wrapped_key, record FROM object
        WHERE purged_at IS NULL AND wrapped_key IS NOT NULL";
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
    commitment::rewrap(connection, old, new)?;
    Ok(count)
}
