//! Under which key a study is.

use base::{Digest, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::db::column::millis;

pub(crate) fn bind(
    connection: &Connection,
    ring: Digest,
    study: [u8; 16],
    current: Digest,
    now: Timestamp,
) -> rusqlite::Result<Digest> {
    let sql =
        "INSERT INTO study_key(ring, study_hash, key, since) VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![ring.0, study, current.0, millis(now)])?;
    let sql = "SELECT key FROM study_key WHERE ring = ?1 AND study_hash = ?2";
    connection.prepare_cached(sql)?.query_row(params![ring.0, study], |row| row.get(0).map(Digest))
}

pub(crate) fn known(
    connection: &Connection,
    ring: Digest,
    study: [u8; 16],
) -> rusqlite::Result<Option<Digest>> {
    let sql = "SELECT key FROM study_key WHERE ring = ?1 AND study_hash = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row(params![ring.0, study], |row| row.get(0).map(Digest)).optional()
}
