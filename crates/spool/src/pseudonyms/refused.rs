//! The last instances that were refused, and why.

use base::{AeTitle, Phi, Status, Timestamp, Uid};
use rusqlite::{Connection, params};

use crate::{
    FoundBy, IndexKey,
    db::column::{millis, number, parsed},
    outbox::Identifiers,
    record::{Identifier, identifier},
};

/// Rows that are kept; the oldest go.
const KEPT_MAX: u32 = 10_000;

/// An instance that was refused.
#[derive(Debug, Clone)]
pub struct NewRefusal {
    /// The AE title of our route.
    pub called: AeTitle,
    /// What the peer was answered.
    pub status: Status,
    /// Why, in our own words, without patient data.
    pub reason: String,
    /// Its SOP class.
    pub sop_class: Uid,
    /// Whose it is.
    pub ids: RefusedIds,
}

/// Whose an instance is, as far as that is known.
#[derive(Debug, Clone)]
pub struct RefusedIds {
    /// SOP Instance UID.
    pub instance: Phi<Uid>,
    /// Study Instance UID.
    pub study: Option<Phi<Uid>>,
    /// Series Instance UID.
    pub series: Option<Phi<Uid>>,
    /// Accession Number.
    pub accession: Option<Phi<String>>,
    /// Patient ID.
    pub patient_id: Option<Phi<String>>,
}

/// A refusal as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// The AE title of our route.
    pub called: AeTitle,
    /// What the peer was answered.
    pub status: Status,
    /// Why.
    pub reason: String,
    /// Its SOP class.
    pub sop_class: Uid,
    /// What led to it, where something was looked for.
    pub by: Option<FoundBy>,
}

/// The keyed hashes of whose it is.
#[derive(Debug, Clone)]
pub(crate) struct RefusalHashes {
    instance: [u8; 16],
    study: Option<[u8; 16]>,
    series: Option<[u8; 16]>,
    accession: Option<[u8; 16]>,
    patient: Option<[u8; 16]>,
}

impl NewRefusal {
    pub(crate) fn hashes(&self, key: &IndexKey) -> RefusalHashes {
        let RefusedIds { instance, study, series, accession, patient_id } = &self.ids;
        let uid = |kind, uid: &Phi<Uid>| identifier(key, kind, uid.reveal().as_str());
        let text = |kind, text: &Phi<String>| identifier(key, kind, text.reveal());
        RefusalHashes {
            instance: uid(Identifier::Instance, instance),
            study: study.as_ref().map(|one| uid(Identifier::Study, one)),
            series: series.as_ref().map(|one| uid(Identifier::Series, one)),
            accession: accession.as_ref().map(|one| text(Identifier::Accession, one)),
            patient: patient_id.as_ref().map(|one| text(Identifier::Patient, one)),
        }
    }
}

pub(crate) fn add(
    connection: &Connection,
    refusal: &NewRefusal,
    hashes: &RefusalHashes,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let NewRefusal { called, status, reason, sop_class, .. } = refusal;
    let sql =
        "INSERT INTO refusal(at, called, status, reason, sop_class, instance_hash, study_hash, series_hash,
        accession_hash, patient_hash) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    connection.prepare_cached(sql)?.execute(params![
        millis(now),
        called.as_str(),
        status.0,
        reason,
        sop_class.as_str(),
        hashes.instance,
        hashes.study,
        hashes.series,
        hashes.accession,
        hashes.patient,
    ])?;
    let sql = "DELETE FROM refusal WHERE id <= (SELECT max(id) FROM refusal) - ?1";
    connection.prepare_cached(sql)?.execute([KEPT_MAX]).map(drop)
}

const COLUMNS: &str = "SELECT at, called, status, reason, sop_class FROM refusal ";

fn row(row: &rusqlite::Row<'_>, by: Option<FoundBy>) -> rusqlite::Result<Refused> {
    Ok(Refused {
        at: Timestamp(number(row, 0)?),
        called: parsed(row, 1, |text| AeTitle::parse(text).ok())?,
        status: Status(row.get(2)?),
        reason: row.get(3)?,
        sop_class: parsed(row, 4, |text| Uid::parse(text).ok())?,
        by,
    })
}

pub(crate) fn last(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Refused>> {
    let mut statement = connection.prepare_cached(&format!("{COLUMNS}ORDER BY id DESC LIMIT ?1"))?;
    statement.query_map([limit], |found| row(found, None))?.collect()
}

pub(crate) fn of(
    connection: &Connection,
    hashes: &Identifiers,
    limit: u32,
) -> rusqlite::Result<Vec<Refused>> {
    let mut refused = Vec::new();
    for (by, column, hash) in hashes.each() {
        let sql = format!("{COLUMNS}WHERE {column} = ?1 ORDER BY id DESC LIMIT ?2");
        let mut statement = connection.prepare_cached(&sql)?;
        let found = statement.query_map(params![hash, limit], |found| row(found, Some(by)))?;
        refused.extend(found.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(refused)
}
