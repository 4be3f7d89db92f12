//! What was done to the attributes of a study.

use base::{Digest, Phi, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::db::column::{length, millis, number};

/// How often something was done to one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Group and element, as one number.
    pub attribute: u32,
    /// What was done, in the words of the report.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// What was done to one instance.
#[derive(Debug, Clone)]
pub struct StudyDeeds {
    /// The Study Instance UID that it came with.
    pub study: Phi<String>,
    /// The profile and the key.
    pub profile: Digest,
    /// Attribute by attribute.
    pub deeds: Vec<Deed>,
    /// The report on the instance; its SHA-256 is in the receipt.
    pub report: String,
}

/// What was done to a study under one profile and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeedCount {
    /// The profile and the key.
    pub profile: Digest,
    /// How many instances.
    pub instances: u64,
    /// The first of them.
    pub first_at: Timestamp,
    /// The last of them.
    pub last_at: Timestamp,
    /// Attribute by attribute, ascending.
    pub deeds: Vec<Deed>,
    /// Digests of the reports on its instances, as receipts have them, and how many have each.
    pub reports: Vec<(Digest, u64)>,
}

pub(crate) fn add(
    connection: &Connection,
    study: [u8; 16],
    deeds: &StudyDeeds,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO deed_study(study_hash, profile, instances, first_at, last_at) VALUES(?1, ?2, 1, ?3, ?3)
        ON CONFLICT DO UPDATE SET instances = instances + 1, last_at = excluded.last_at RETURNING id";
    let id: i64 = connection
        .prepare_cached(sql)?
        .query_row(params![study, deeds.profile.0, millis(now)], |row| row.get(0))?;
    let sql =
        "INSERT INTO deed VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET count = count + excluded.count";
    let mut statement = connection.prepare_cached(sql)?;
    for deed in &deeds.deeds {
        statement.execute(params![id, deed.attribute, deed.what, length(deed.count)])?;
    }
    // Images of one series have the same one, nearly always.
    let sql = "INSERT INTO report VALUES(?1, ?2, 1, ?3) ON CONFLICT DO UPDATE SET instances = instances + 1";
    let digest = Digest::of(deeds.report.as_bytes());
    connection.prepare_cached(sql)?.execute(params![id, digest.0, deeds.report])?;
    Ok(())
}

pub(crate) fn report(
    connection: &Connection,
    study: [u8; 16],
    digest: Digest,
) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT r.text FROM report r JOIN deed_study s ON s.id = r.deed_study_id
        WHERE s.study_hash = ?1 AND r.digest = ?2";
    connection.prepare_cached(sql)?.query_row(params![study, digest.0], |row| row.get(0)).optional()
}

pub(crate) fn of(connection: &Connection, study: [u8; 16]) -> rusqlite::Result<Vec<DeedCount>> {
    let sql =
        "SELECT id, profile, instances, first_at, last_at FROM deed_study WHERE study_hash = ?1 ORDER BY id";
    let read = |row: &rusqlite::Row<'_>| {
        let count = DeedCount {
            profile: Digest(row.get(1)?),
            instances: number(row, 2)?,
            first_at: Timestamp(number(row, 3)?),
            last_at: Timestamp(number(row, 4)?),
            deeds: Vec::new(),
            reports: Vec::new(),
        };
        Ok((row.get::<_, i64>(0)?, count))
    };
    let mut statement = connection.prepare_cached(sql)?;
    let studies: Vec<_> = statement.query_map([study], read)?.collect::<Result<_, _>>()?;
    let sql = "SELECT attribute, what, count FROM deed WHERE deed_study_id = ?1 ORDER BY attribute, what";
    let mut statement = connection.prepare_cached(sql)?;
    let mut counts = Vec::new();
    for (id, mut count) in studies {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Deed { attribute: row.get(0)?, what: row.get(1)?, count: number(row, 2)? })
        };
        count.deeds = statement.query_map([id], read)?.collect::<Result<_, _>>()?;
        count.reports = reports(connection, id)?;
        counts.push(count);
    }
    Ok(counts)
}

fn reports(connection: &Connection, id: i64) -> rusqlite::Result<Vec<(Digest, u64)>> {
    let sql = "SELECT digest, instances FROM report WHERE deed_study_id = ?1 ORDER BY digest";
    let read = |row: &rusqlite::Row<'_>| Ok((Digest(row.get(0)?), number(row, 1)?));
    connection.prepare_cached(sql)?.query_map([id], read)?.collect()
}
