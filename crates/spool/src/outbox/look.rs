//! The queries behind [`Queue`](crate::Queue). They change nothing.

use std::collections::HashSet;

use base::{Attempt, DeliveryId, Digest, ObjectId, RouteId, Status, Timestamp};
use rusqlite::{Connection, ToSql, params};

use crate::{
    Act, Alarmed, Count, Delivery, Event, EventKind, Filter, Found, FoundBy, IndexKey, Oldest, Outcome,
    Receipt, ReceiptId,
    db::column::{self, length, millis, name, number, time},
    outbox::load,
    record::{self, Identifier},
};

/// What a transaction of another process changes, and one of ours does not.
pub(crate) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// What is due on a route. Way by way, each in the order of its index: the limit is met without looking at
/// all that is due.
pub(crate) fn due_on(
    connection: &Connection,
    route: RouteId,
    now: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<Delivery>> {
    let mut ways = connection.prepare_cached("SELECT id FROM way WHERE route = ?1")?;
    let ways: Vec<i64> = ways.query_map([route.0], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let condition = "WHERE d.way_id = ?1 AND d.next_at <= ?2 ORDER BY d.next_at, d.id LIMIT ?3";
    let mut due = Vec::new();
    for way in ways {
        due.extend(load::deliveries(connection, condition, params![way, millis(now), limit])?);
    }
    due.sort_by_key(|row| (row.next_at, row.sequence));
    due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(due)
}

/// When the next delivery becomes due.
pub(crate) fn next_due(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT min(next_at) FROM delivery WHERE next_at IS NOT NULL";
    connection.prepare_cached(sql)?.query_row((), |row| time(row, 0))
}

/// Sealed bytes that lie in the folder and have a row.
pub(crate) fn bytes_held(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT COALESCE(sum(sealed_len), 0) FROM object WHERE purged_at IS NULL";
    connection.query_row(sql, (), |row| number(row, 0))
}

/// Objects whose custody has not ended.
pub(crate) fn held_objects(connection: &Connection) -> rusqlite::Result<HashSet<ObjectId>> {
    let sql = "SELECT object FROM object WHERE purged_at IS NULL AND ended_at IS NULL";
    connection.prepare(sql)?.query_map((), |row| row.get(0).map(ObjectId))?.collect()
}

pub(crate) fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Delivery>> {
    let mut condition = String::from("WHERE d.id > ?1");
    let after = filter.after.map_or(0, length);
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
pub(crate) struct Identifiers([(FoundBy, &'static str, [u8; 16]); 5]);

impl Identifiers {
    pub(crate) fn of(key: &IndexKey, text: &str) -> Self {
        let hash = |kind| record::identifier(key, kind, text);
        Self([
            (FoundBy::Instance, "instance_hash", hash(Identifier::Instance)),
            (FoundBy::Study, "study_hash", hash(Identifier::Study)),
            (FoundBy::Series, "series_hash", hash(Identifier::Series)),
            (FoundBy::Accession, "accession_hash", hash(Identifier::Accession)),
            (FoundBy::Patient, "patient_hash", hash(Identifier::Patient)),
        ])
    }

    /// Each kind with its column and hash.
    pub(crate) fn each(&self) -> impl Iterator<Item = (FoundBy, &'static str, &[u8; 16])> {
        self.0.iter().map(|(by, column, hash)| (*by, *column, hash))
    }
}

/// The ids that start with some hexadecimal digits, as a range of bytes.
pub(crate) struct IdPrefix {
    pub(crate) first: Vec<u8>,
    pub(crate) last: Vec<u8>,
}

impl IdPrefix {
    const DIGITS_MIN: usize = 8;

    pub(crate) fn parse(text: &str) -> Option<Self> {
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

pub(crate) fn find(
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

pub(crate) fn counts(connection: &Connection) -> rusqlite::Result<Vec<Count>> {
    let sql = "SELECT w.route, w.receiver, w.destination, t.state, t.deliveries, t.bytes
        FROM tally t JOIN way w ON w.id = t.way_id WHERE t.deliveries > 0 ORDER BY t.way_id, t.state";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Count {
            route: RouteId(row.get(0)?),
            receiver: name(row, 1)?,
            destination: name(row, 2)?,
            state: load::state(row, 3)?,
            deliveries: number(row, 4)?,
            bytes: number(row, 5)?,
        })
    };
    connection.prepare_cached(sql)?.query_map((), read)?.collect()
}

pub(crate) fn oldest(connection: &Connection) -> rusqlite::Result<Vec<Oldest>> {
    let sql = "SELECT w.route, w.receiver, w.destination, d.delivery, d.received_at FROM way w JOIN delivery d
        ON d.id = (SELECT id FROM delivery WHERE way_id = w.id AND ended_at IS NULL ORDER BY received_at LIMIT 1)";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Oldest {
            route: RouteId(row.get(0)?),
            receiver: name(row, 1)?,
            destination: name(row, 2)?,
            delivery: DeliveryId(row.get(3)?),
            received_at: Timestamp(number(row, 4)?),
        })
    };
    connection.prepare_cached(sql)?.query_map((), read)?.collect()
}

pub(crate) fn alarmed(connection: &Connection) -> rusqlite::Result<Vec<Alarmed>> {
    let sql = "SELECT w.route, d.state, d.status, count(*) FROM delivery d JOIN way w ON w.id = d.way_id
        WHERE d.alarm = 1 AND d.ended_at IS NULL GROUP BY d.way_id, d.state, d.status
        ORDER BY d.way_id, d.state, d.status";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Alarmed {
            route: RouteId(row.get(0)?),
            state: load::state(row, 1)?,
            status: row.get::<_, Option<u16>>(2)?.map(Status),
            deliveries: number(row, 3)?,
        })
    };
    connection.prepare_cached(sql)?.query_map((), read)?.collect()
}

pub(crate) fn history(connection: &Connection, delivery: DeliveryId) -> rusqlite::Result<Vec<Event>> {
    let sql = "SELECT e.at, e.kind, e.attempt, e.status, e.detail FROM event e
        JOIN delivery d ON d.id = e.delivery_id WHERE d.delivery = ?1 ORDER BY e.id";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Event {
            at: Timestamp(number(row, 0)?),
            kind: column::coded(row, 1, EventKind::from_code)?,
            attempt: Attempt(row.get(2)?),
            status: row.get::<_, Option<u16>>(3)?.map(Status),
            detail: row.get(4)?,
        })
    };
    connection.prepare_cached(sql)?.query_map([delivery.0], read)?.collect()
}

pub(crate) fn receipts(
    connection: &Connection,
    condition: &str,
    parameters: &[&dyn ToSql],
) -> rusqlite::Result<Vec<Receipt>> {
    let sql = "SELECT r.id, d.delivery, r.attempt, r.outcome, r.status, r.level, r.answered_at, r.stored_at,
        r.receipt, r.settlement, r.manifest, o.body_digest, l.proof || char(10) || char(10) || c.note FROM receipt r
        LEFT JOIN logged l ON l.receipt_id = r.id LEFT JOIN checkpoint c ON c.id = l.checkpoint_id JOIN delivery d ON d.id = r.delivery_id
        JOIN object o ON o.id = d.object_id ";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Receipt {
            sequence: number(row, 0)?,
            id: ReceiptId { delivery: DeliveryId(row.get(1)?), attempt: Attempt(row.get(2)?) },
            outcome: column::coded(row, 3, Outcome::from_code)?,
            status: Status(row.get(4)?),
            level: row.get(5)?,
            answered_at: Timestamp(number(row, 6)?),
            stored_at: Timestamp(number(row, 7)?),
            receipt: row.get(8)?,
            settlement: row.get(9)?,
            manifest: row.get(10)?,
            body_digest: Digest(row.get(11)?),
            log: row.get(12)?,
        })
    };
    connection.prepare_cached(&format!("{sql}{condition}"))?.query_map(parameters, read)?.collect()
}

pub(crate) fn acts(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Act>> {
    let sql = "SELECT at, who, what, delivery, reason FROM act ORDER BY id DESC LIMIT ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Act {
            at: Timestamp(number(row, 0)?),
            who: row.get(1)?,
            what: row.get(2)?,
            delivery: row.get::<_, Option<[u8; 32]>>(3)?.map(DeliveryId),
            reason: row.get(4)?,
        })
    };
    connection.prepare_cached(sql)?.query_map([limit], read)?.collect()
}
