//! Rows as values: the one query that makes a [`Delivery`], and the small row that a transition needs.

use base::{Attempt, BootId, DeliveryId, Digest, ObjectId, RouteId, Status, Timestamp, Uid};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};

use crate::{
    Delivery, EventKind, SealedFacts, State,
    db::column::{coded, millis, name, number, parsed, time},
};

/// Everything of [`Delivery`], in the order that [`delivery`] reads it.
pub(crate) const DELIVERY: &str = "
SELECT d.id, d.delivery, o.object, w.route, w.receiver, w.destination, o.sop_class,
    o.suite, o.commitment, o.profile, o.body_digest, o.sealed_len, o.data_len, o.spooled,
    d.state, d.attempt, d.running, d.boot, d.next_at, d.deferrals, d.nacks, d.joined,
    e.delivery, d.changed_content, d.alarm, d.status, d.reason, d.received_at, d.changed_at, d.ended_at, o.report
FROM delivery d JOIN object o ON o.id = d.object_id JOIN way w ON w.id = d.way_id
    LEFT JOIN delivery e ON e.id = d.waits_for ";

pub(crate) fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        sequence: number(row, 0)?,
        delivery: DeliveryId(row.get(1)?),
        object: ObjectId(row.get(2)?),
        route: RouteId(row.get(3)?),
        receiver: name(row, 4)?,
        destination: name(row, 5)?,
        sop_class: parsed(row, 6, |text| Uid::parse(text).ok())?,
        sealed: SealedFacts {
            suite: row.get(7)?,
            commitment: row.get(8)?,
            profile: Digest(row.get(9)?),
            report: row.get::<_, Option<[u8; 32]>>(30)?.map(Digest),
            body_digest: Digest(row.get(10)?),
            sealed_len: number(row, 11)?,
            data_len: number(row, 12)?,
        },
        spooled: row.get(13)?,
        state: state(row, 14)?,
        attempt: Attempt(row.get(15)?),
        running: row.get(16)?,
        boot: row.get::<_, Option<[u8; 16]>>(17)?.map(BootId),
        next_at: time(row, 18)?,
        deferrals: row.get(19)?,
        nacks: row.get(20)?,
        joined: row.get(21)?,
        waits_for: row.get::<_, Option<[u8; 32]>>(22)?.map(DeliveryId),
        changed_content: row.get(23)?,
        alarm: row.get(24)?,
        status: row.get::<_, Option<u16>>(25)?.map(Status),
        reason: row.get(26)?,
        received_at: Timestamp(number(row, 27)?),
        changed_at: Timestamp(number(row, 28)?),
        ended_at: time(row, 29)?,
    })
}

/// Runs [`DELIVERY`] with a condition.
pub(crate) fn deliveries(
    connection: &Connection,
    condition: &str,
    parameters: &[&dyn ToSql],
) -> rusqlite::Result<Vec<Delivery>> {
    let mut statement = connection.prepare_cached(&format!("{DELIVERY}{condition}"))?;
    statement.query_map(parameters, delivery)?.collect()
}

/// A delivery's row as a transition reads, changes and saves it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) id: i64,
    pub(crate) delivery: DeliveryId,
    pub(crate) object_id: i64,
    pub(crate) object: ObjectId,
    pub(crate) spooled: bool,
    pub(crate) state: State,
    pub(crate) attempt: Attempt,
    pub(crate) running: bool,
    pub(crate) boot: Option<BootId>,
    pub(crate) next_at: Option<Timestamp>,
    pub(crate) deferrals: u32,
    pub(crate) nacks: u32,
    pub(crate) losses: u32,
    pub(crate) waits_for: Option<i64>,
    pub(crate) alarm: bool,
    pub(crate) status: Option<Status>,
    pub(crate) reason: Option<String>,
    pub(crate) age_from: Timestamp,
}

const STANDING: &str = "
SELECT d.id, d.delivery, d.object_id, o.object, o.spooled, d.state, d.attempt, d.running, d.boot, d.next_at,
    d.deferrals, d.nacks, d.losses, d.waits_for, d.alarm, d.status, d.reason, d.age_from
FROM delivery d JOIN object o ON o.id = d.object_id ";

fn standing_row(row: &Row<'_>) -> rusqlite::Result<Standing> {
    Ok(Standing {
        id: row.get(0)?,
        delivery: DeliveryId(row.get(1)?),
        object_id: row.get(2)?,
        object: ObjectId(row.get(3)?),
        spooled: row.get(4)?,
        state: state(row, 5)?,
        attempt: Attempt(row.get(6)?),
        running: row.get(7)?,
        boot: row.get::<_, Option<[u8; 16]>>(8)?.map(BootId),
        next_at: time(row, 9)?,
        deferrals: row.get(10)?,
        nacks: row.get(11)?,
        losses: row.get(12)?,
        waits_for: row.get(13)?,
        alarm: row.get(14)?,
        status: row.get::<_, Option<u16>>(15)?.map(Status),
        reason: row.get(16)?,
        age_from: Timestamp(number(row, 17)?),
    })
}

pub(crate) fn standing(connection: &Connection, delivery: DeliveryId) -> rusqlite::Result<Option<Standing>> {
    let mut statement = connection.prepare_cached(&format!("{STANDING}WHERE d.delivery = ?1"))?;
    statement.query_row([delivery.0], standing_row).optional()
}

pub(crate) fn standings(
    connection: &Connection,
    condition: &str,
    parameters: &[&dyn ToSql],
) -> rusqlite::Result<Vec<Standing>> {
    let mut statement = connection.prepare_cached(&format!("{STANDING}{condition}"))?;
    statement.query_map(parameters, standing_row)?.collect()
}

impl Standing {
    /// Writes the row back. A state that ends the delivery also takes it out of every queue.
    pub(crate) fn save(&mut self, connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        if self.state.is_ended() {
            (self.running, self.boot, self.next_at, self.waits_for) = (false, None, None, None);
        }
        let sql = "UPDATE delivery SET state = ?2, attempt = ?3, running = ?4, boot = ?5, next_at = ?6, deferrals = ?7,
            nacks = ?8, losses = ?9, waits_for = ?10, alarm = ?11, status = ?12, reason = ?13, age_from = ?14,
            changed_at = ?15, ended_at = CASE WHEN ?16 THEN COALESCE(ended_at, ?15) END WHERE id = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let changed = statement.execute(rusqlite::params![
            self.id,
            self.state.code(),
            self.attempt.0,
            self.running,
            self.boot.map(|boot| boot.0),
            self.next_at.map(millis),
            self.deferrals,
            self.nacks,
            self.losses,
            self.waits_for,
            self.alarm,
            self.status.map(|status| status.0),
            self.reason,
            millis(self.age_from),
            millis(now),
            self.state.is_ended(),
        ])?;
        if changed == 1 { Ok(()) } else { Err(rusqlite::Error::QueryReturnedNoRows) }
    }

    /// Adds a line to its history.
    pub(crate) fn note(
        &self,
        connection: &Connection,
        at: Timestamp,
        kind: EventKind,
        detail: Option<&str>,
    ) -> rusqlite::Result<()> {
        NewEvent { at, kind, attempt: self.attempt, status: None, detail }.write(connection, self.id)
    }
}

/// One line of history. `at` is the caller's `now`, or the time that a receipt states.
pub(crate) struct NewEvent<'a> {
    pub(crate) at: Timestamp,
    pub(crate) kind: EventKind,
    pub(crate) attempt: Attempt,
    pub(crate) status: Option<Status>,
    pub(crate) detail: Option<&'a str>,
}

impl NewEvent<'_> {
    pub(crate) fn plain(at: Timestamp, kind: EventKind, attempt: Attempt) -> Self {
        Self { at, kind, attempt, status: None, detail: None }
    }

    pub(crate) fn write(&self, connection: &Connection, delivery_id: i64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO event(delivery_id, at, kind, attempt, status, detail) VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
        let status = self.status.map(|status| status.0);
        let values = (delivery_id, millis(self.at), self.kind.code(), self.attempt.0, status, self.detail);
        connection.prepare_cached(sql)?.execute(values).map(drop)
    }
}

pub(crate) fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<State> {
    coded(row, column, State::from_code)
}
