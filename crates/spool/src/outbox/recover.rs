//! What an earlier process left, at the start.

use std::{collections::HashSet, path::Path};

use base::{ObjectId, Timestamp};
use rusqlite::Connection;

use crate::{
    EventKind, OpenError, State,
    body::Bodies,
    db,
    outbox::{
        deliver::{again, give_back, park},
        load, look, purge,
    },
};

/// After a crash: bodies without a row go; ended objects lose their body; nothing is running; and what
/// has a row but no body needs an operator.
pub(crate) fn recover(connection: &mut Connection, bodies: &Path, now: Timestamp) -> Result<(), OpenError> {
    let sql = |error: rusqlite::Error| OpenError::Store(db::store_error(&error));
    let held: HashSet<ObjectId> = look::held_objects(connection).map_err(sql)?;
    let removed = Bodies::remove_orphans(bodies, &held).map_err(db::io_error(bodies))?;
    if removed > 0 {
        tracing::info!(removed, "bodies without a row removed");
    }
    let mut missing = Vec::new();
    for object in held {
        if !bodies.join(object.to_string()).exists() {
            missing.push(object);
        }
    }
    let transaction = connection.transaction().map_err(sql)?;
    let purged = purge::mark_all_ended(&transaction, now).map_err(sql)?;
    let interrupted = interrupt(&transaction, now).map_err(sql)?;
    for object in missing {
        tracing::error!(%object, "its body is missing; discard it and ask for it again, or restore the folder");
        body_missing(&transaction, object, now).map_err(sql)?;
    }
    transaction.commit().map_err(sql)?;
    tracing::debug!(purged, interrupted, "outbox recovered");
    Ok(())
}

/// At start: nothing that an earlier process began is still running.
fn interrupt(connection: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    let mut count = 0;
    for mut row in load::standings(connection, "WHERE d.running = 1 AND d.ended_at IS NULL", &[])? {
        row.note(connection, now, EventKind::Interrupted, None)?;
        again(connection, &mut row, now, Some("we were stopped during the deposit"), now)?;
        count += 1;
    }
    let condition = "WHERE d.ended_at IS NULL AND NOT o.spooled";
    for mut row in load::standings(connection, condition, &[])? {
        give_back(connection, &mut row, "we were stopped before the answer came", now)?;
        count += 1;
    }
    Ok(count)
}

/// A row whose body is not in the folder: somebody removed it, or restored only the index.
fn body_missing(connection: &Connection, object: ObjectId, now: Timestamp) -> rusqlite::Result<()> {
    let condition = "WHERE o.object = ?1 AND d.ended_at IS NULL";
    for mut row in load::standings(connection, condition, &[&object.0])? {
        if row.state != State::Parked {
            park(connection, &mut row, "its body is missing from the outbox", now)?;
        }
    }
    Ok(())
}
