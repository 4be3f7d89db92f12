//! Bodies whose custody has ended: their key is erased already, so what is removed here is noise.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use base::{ObjectId, Timestamp};
use rusqlite::{Connection, params};

use crate::{
    EventKind, State, StoreError,
    body::Bodies,
    db::{
        Db,
        column::{self, millis},
    },
    faults::Kind,
    outbox::load,
};

/// How long an ended body waits for others. Its key is gone: nobody waits for its removal.
const LINGER: Duration = Duration::from_millis(100);
/// The most bodies that one transaction marks.
const GROUP_MAX: usize = 256;

/// The thread that unlinks: the file system may take long over a large file.
#[derive(Debug)]
pub(crate) struct Purger {
    ended: Option<mpsc::Sender<(ObjectId, Timestamp)>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Purger {
    pub(crate) fn start(db: Arc<Db>, bodies: Arc<Bodies>) -> io::Result<Self> {
        let (ended, queue) = mpsc::channel::<(ObjectId, Timestamp)>();
        let thread = thread::Builder::new().name("spool-purge".to_owned()).spawn(move || {
            while let Ok(first) = queue.recv() {
                let mut group = with_company(first, &queue);
                group.retain(|(object, _)| match bodies.unlink(*object) {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::warn!(%object, %error, "ended body not removed; the next start tries again");
                        false
                    }
                });
                let disk = Arc::clone(&bodies);
                let run = move |connection: &Connection| Ok(mark(connection, &group)?);
                db.writer.submit(Kind::Purged, run, move |freed: Result<u64, StoreError>| {
                    disk.disk().free(freed.unwrap_or(0));
                });
            }
        })?;
        Ok(Self { ended: Some(ended), thread: Some(thread) })
    }

    pub(crate) fn purge(&self, object: ObjectId, now: Timestamp) {
        if let Some(ended) = &self.ended {
            let _ = ended.send((object, now));
        }
    }
}

/// What comes within a moment, so that one transaction marks all of it.
fn with_company(
    first: (ObjectId, Timestamp),
    queue: &mpsc::Receiver<(ObjectId, Timestamp)>,
) -> Vec<(ObjectId, Timestamp)> {
    let until = Instant::now() + LINGER;
    let mut group = vec![first];
    while group.len() < GROUP_MAX {
        match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(next) => group.push(next),
            Err(_) => break,
        }
    }
    group
}

impl Drop for Purger {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Their bodies are gone. Answers the bytes that became free.
fn mark(connection: &Connection, objects: &[(ObjectId, Timestamp)]) -> rusqlite::Result<u64> {
    let sql =
        "UPDATE object SET purged_at = ?2 WHERE object = ?1 AND purged_at IS NULL AND ended_at IS NOT NULL
        RETURNING id, sealed_len";
    let mut freed = 0u64;
    for (object, now) in objects {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query((object.0, millis(*now)))?;
        while let Some(row) = rows.next()? {
            freed = freed.saturating_add(column::number(row, 1)?);
            mark_deliveries(connection, row.get(0)?, *now)?;
        }
    }
    Ok(freed)
}

fn mark_deliveries(connection: &Connection, object_id: i64, now: Timestamp) -> rusqlite::Result<()> {
    let condition = "WHERE d.object_id = ?1 AND d.state = ?2";
    for mut row in load::standings(connection, condition, params![object_id, State::Receipted.code()])? {
        row.state = State::Purged;
        row.save(connection, now)?;
        row.note(connection, now, EventKind::Purged, None)?;
    }
    Ok(())
}

/// Objects that have ended and whose bodies are still named.
pub(crate) fn ended_unpurged(connection: &Connection) -> rusqlite::Result<Vec<ObjectId>> {
    let sql = "SELECT object FROM object WHERE purged_at IS NULL AND ended_at IS NOT NULL";
    connection.prepare_cached(sql)?.query_map((), |row| row.get(0).map(ObjectId))?.collect()
}

/// At start, after their bodies were removed.
pub(crate) fn mark_all_ended(connection: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    let ended = ended_unpurged(connection)?;
    let ended: Vec<_> = ended.into_iter().map(|object| (object, now)).collect();
    mark(connection, &ended)?;
    Ok(ended.len() as u64)
}
