//! Who sent what: a C-STORE, its source, and the deliveries that carry it. Storage Commitment asks for it.

use rusqlite::{Connection, OptionalExtension};

use crate::record::Hashes;

/// Notes that these deliveries carry one more C-STORE of this source. A repeat takes the place of the one before.
pub(crate) fn note(connection: &Connection, hashes: &Hashes, carriers: &[i64]) -> rusqlite::Result<()> {
    let source = source(connection, hashes)?;
    // Never used before, and greater than all before: the newest row of the table is never removed.
    let sql = "SELECT coalesce(max(id), 0) + 1 FROM sent";
    let sending: i64 = connection.prepare_cached(sql)?.query_row((), |row| row.get(0))?;
    for delivery in carriers {
        let sql = "INSERT INTO sent(delivery_id, source_id, sending) VALUES(?1, ?2, ?3)";
        let id = connection.prepare_cached(sql)?.insert((delivery, source, sending))?;
        let sql = "DELETE FROM sent WHERE delivery_id = ?1 AND source_id = ?2 AND id < ?3";
        connection.prepare_cached(sql)?.execute((delivery, source, id))?;
    }
    Ok(())
}

fn source(connection: &Connection, hashes: &Hashes) -> rusqlite::Result<i64> {
    let values = (hashes.calling, hashes.called);
    let sql = "SELECT id FROM source WHERE calling = ?1 AND called = ?2";
    match connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()? {
        Some(id) => Ok(id),
        None => {
            connection.prepare_cached("INSERT INTO source(calling, called) VALUES(?1, ?2)")?.insert(values)
        }
    }
}
