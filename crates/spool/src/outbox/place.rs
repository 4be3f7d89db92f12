//! CUSTODY, "Repeats": what becomes of a new object, decided in the transaction that stores it, by keyed
//! hashes only.

use std::time::Duration;

use base::{DeliveryId, ObjectId, RouteId, Status, Timestamp, Uid};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::{
    CommitError, EventKind, Outcome, State,
    db::{
        JobError,
        column::{self, length, millis},
    },
    outbox::{
        load::{self, NewEvent},
        sent,
        types::{
            ChangedContent, Committed, Decision, NewDelivery, OutboxConfig, Placed, SealedFacts,
            UnspooledDecision,
        },
    },
    record::Hashes,
};

/// Repeats that the history names; the row counts all of them.
const HISTORY_JOINED: u32 = 16;

const LOOP_REASON: &str = "routing loop or endless re-send?";

/// A new object, sealed and hashed.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) object: ObjectId,
    /// `None` for `respond = "delivered"`.
    pub(crate) held: Option<HeldParts>,
    pub(crate) hashes: Hashes,
    pub(crate) sop_class: Uid,
    pub(crate) sealed: SealedFacts,
    pub(crate) deliveries: Vec<NewDelivery>,
    pub(crate) changed_content: ChangedContent,
    pub(crate) received_at: Timestamp,
}

/// What is erased when custody ends.
#[derive(Debug)]
pub(crate) struct HeldParts {
    pub(crate) wrapped_key: Vec<u8>,
    pub(crate) record: Vec<u8>,
}

/// A decision, and what the row needs for it.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    decision: Decision,
    waits_for: Option<i64>,
    changed_content: bool,
}

/// Stores a spooled object, or joins it to what is held already.
pub(crate) fn place(
    connection: &Connection,
    new: &Prepared,
    config: &OutboxConfig,
    now: Timestamp,
) -> Result<Committed, JobError<CommitError>> {
    let mut verdicts = Vec::with_capacity(new.deliveries.len());
    for delivery in &new.deliveries {
        verdicts.push(judge(connection, new, delivery, config, now)?);
    }
    if verdicts.is_empty() {
        return Err(JobError::Own(CommitError::Object(new.object)));
    }
    let joined = |verdict: &Verdict| matches!(verdict.decision, Decision::Joined { .. });
    let object_id = if verdicts.iter().all(joined) { None } else { Some(insert_object(connection, new)?) };
    let mut carriers = Vec::with_capacity(verdicts.len());
    for (delivery, verdict) in new.deliveries.iter().zip(&verdicts) {
        carriers.push(match (verdict.decision, object_id) {
            (Decision::Joined { delivery: carrier, .. }, _) => join(connection, carrier, now)?,
            (_, Some(object_id)) => insert_delivery(connection, new, object_id, delivery, *verdict, now)?,
            (_, None) => return Err(JobError::Own(CommitError::Object(new.object))),
        });
    }
    sent::note(connection, &new.hashes, &carriers)?;
    let placed = new.deliveries.iter().zip(&verdicts);
    let placed =
        placed.map(|(one, verdict)| Placed { delivery: one.delivery, decision: verdict.decision }).collect();
    Ok(Committed { object: new.object, placed })
}

fn judge(
    connection: &Connection,
    new: &Prepared,
    delivery: &NewDelivery,
    config: &OutboxConfig,
    now: Timestamp,
) -> Result<Verdict, JobError<CommitError>> {
    let open = latest_open(connection, new, delivery)?;
    // Only the latest counts: joining to a version that another one waits behind would let the far side
    // end with content that is not the sender's last.
    if let Some(open) = open.as_ref().filter(|open| open.same_content && open.spooled) {
        let decision = Decision::Joined { delivery: open.delivery, state: open.state };
        return Ok(Verdict { decision, waits_for: None, changed_content: false });
    }
    let changed = other_content(connection, new, delivery)?;
    if let (Some(earlier), ChangedContent::Refuse) = (changed, new.changed_content) {
        return Err(JobError::Own(CommitError::ChangedContent { earlier }));
    }
    let verdict = |decision| Verdict {
        decision,
        waits_for: open.as_ref().map(|open| open.id),
        changed_content: changed.is_some(),
    };
    let count = times_sent(connection, new, delivery, config, now)?;
    if count >= config.loop_limit {
        return Ok(verdict(Decision::HeldLoop { count }));
    }
    Ok(verdict(match &open {
        Some(open) => Decision::After { earlier: open.delivery },
        None => Decision::New { changed_content: changed.is_some() },
    }))
}

/// The delivery of the same SOP Instance UID on the same route that came last and has not ended.
struct Open {
    id: i64,
    delivery: DeliveryId,
    state: State,
    same_content: bool,
    spooled: bool,
}

fn latest_open(
    connection: &Connection,
    new: &Prepared,
    delivery: &NewDelivery,
) -> rusqlite::Result<Option<Open>> {
    let sql = "SELECT d.id, d.delivery, d.state, o.content_hash = ?3, o.spooled
        FROM object o JOIN delivery d ON d.object_id = o.id JOIN way w ON w.id = d.way_id
        WHERE o.instance_hash = ?1 AND w.route = ?2 AND d.ended_at IS NULL ORDER BY d.id DESC LIMIT 1";
    let parameters = (new.hashes.instance, delivery.route.0, new.hashes.content);
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Open {
            id: row.get(0)?,
            delivery: DeliveryId(row.get(1)?),
            state: load::state(row, 2)?,
            same_content: row.get(3)?,
            spooled: row.get(4)?,
        })
    };
    statement.query_row(parameters, read).optional()
}

/// The last delivery with other content under the same UID on this route. What the far side never got
/// (discarded, refused, returned) does not count.
fn other_content(
    connection: &Connection,
    new: &Prepared,
    delivery: &NewDelivery,
) -> rusqlite::Result<Option<DeliveryId>> {
    let sql =
        "SELECT d.delivery FROM object o JOIN delivery d ON d.object_id = o.id JOIN way w ON w.id = d.way_id
        WHERE o.instance_hash = ?1 AND w.route = ?2 AND o.content_hash <> ?3 AND d.state NOT IN (?4, ?5, ?6)
        ORDER BY d.id DESC LIMIT 1";
    let parameters = params![
        new.hashes.instance,
        delivery.route.0,
        new.hashes.content,
        State::Discarded.code(),
        State::Refused.code(),
        State::Returned.code(),
    ];
    connection.prepare_cached(sql)?.query_row(parameters, |row| row.get(0).map(DeliveryId)).optional()
}

/// How often the same content was taken for the same destination within the window, over all routes. What
/// was given back to the PACS does not count: coming again is what it was told to do.
fn times_sent(
    connection: &Connection,
    new: &Prepared,
    delivery: &NewDelivery,
    config: &OutboxConfig,
    now: Timestamp,
) -> rusqlite::Result<u32> {
    let since = now.0.saturating_sub(u64::try_from(config.loop_window.as_millis()).unwrap_or(u64::MAX));
    let sql =
        "SELECT count(*) FROM object o JOIN delivery d ON d.object_id = o.id JOIN way w ON w.id = d.way_id
        WHERE o.content_hash = ?1 AND w.receiver = ?2 AND w.destination = ?3 AND d.received_at > ?4
        AND d.state NOT IN (?5, ?6)";
    let parameters = params![
        new.hashes.content,
        delivery.receiver.as_str(),
        delivery.destination.as_str(),
        millis(Timestamp(since)),
        State::Refused.code(),
        State::Returned.code(),
    ];
    connection.prepare_cached(sql)?.query_row(parameters, |row| row.get(0))
}

fn insert_object(connection: &Connection, new: &Prepared) -> Result<i64, JobError<CommitError>> {
    let sql = "INSERT INTO object(object, spooled, received_at, sop_class, suite, commitment, profile, body_digest,
        sealed_len, data_len, instance_hash, study_hash, series_hash, accession_hash, patient_hash, content_hash,
        wrapped_key, record, purged_at, report)
        VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";
    let received_at = millis(new.received_at);
    let mut statement = connection.prepare_cached(sql)?;
    let inserted = statement.insert(params![
        new.object.0,
        new.held.is_some(),
        received_at,
        new.sop_class.as_str(),
        new.sealed.suite,
        new.sealed.commitment,
        new.sealed.profile.0,
        new.sealed.body_digest.0,
        length(new.sealed.sealed_len),
        length(new.sealed.data_len),
        new.hashes.instance,
        new.hashes.study,
        new.hashes.series,
        new.hashes.accession,
        new.hashes.patient,
        new.hashes.content,
        new.held.as_ref().map(|held| &held.wrapped_key),
        new.held.as_ref().map(|held| &held.record),
        new.held.is_none().then_some(received_at),
        new.sealed.report.map(|report| report.0),
    ]);
    inserted.map_err(|error| known(error, new.object))
}

fn insert_delivery(
    connection: &Connection,
    new: &Prepared,
    object_id: i64,
    delivery: &NewDelivery,
    verdict: Verdict,
    now: Timestamp,
) -> Result<i64, JobError<CommitError>> {
    let (state, reason) = match verdict.decision {
        Decision::HeldLoop { .. } => (State::Held, Some(LOOP_REASON)),
        Decision::After { .. } => (State::WaitingForEarlier, None),
        Decision::New { .. } | Decision::Joined { .. } => (State::Sealed, None),
    };
    let running = state == State::Sealed && delivery.cut_through;
    let due = state == State::Sealed && !running;
    // Where attempt 1 is abandoned its number is used up all the same: the relay has seen it.
    let attempt = base::Attempt(u32::from(delivery.cut_through));
    let sql = "INSERT INTO delivery(delivery, object_id, way_id, state, attempt, running, next_at, waits_for,
        changed_content, alarm, reason, received_at, age_from, changed_at)
        VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?13)";
    let way = way_id(connection, delivery)?;
    let mut statement = connection.prepare_cached(sql)?;
    let inserted = statement.insert(params![
        delivery.delivery.0,
        object_id,
        way,
        state.code(),
        attempt.0,
        running,
        due.then_some(millis(now)),
        verdict.waits_for,
        verdict.changed_content,
        state == State::Held,
        reason,
        millis(new.received_at),
        millis(now),
    ]);
    let id = inserted.map_err(|error| known(error, new.object))?;
    NewEvent::plain(new.received_at, EventKind::Received, base::Attempt(0)).write(connection, id)?;
    if new.held.is_some() {
        NewEvent::plain(now, EventKind::Sealed, base::Attempt(0)).write(connection, id)?;
    }
    let detail = match state {
        State::Held => Some(EventKind::Held),
        State::WaitingForEarlier => Some(EventKind::Waiting),
        _ => running.then_some(EventKind::Attempt),
    };
    if let Some(kind) = detail {
        NewEvent { at: now, kind, attempt, status: None, detail: reason }.write(connection, id)?;
    }
    Ok(id)
}

fn way_id(connection: &Connection, delivery: &NewDelivery) -> rusqlite::Result<i64> {
    let values = (delivery.route.0, delivery.receiver.as_str(), delivery.destination.as_str());
    let sql = "SELECT id FROM way WHERE route = ?1 AND receiver = ?2 AND destination = ?3";
    match connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()? {
        Some(id) => Ok(id),
        None => connection
            .prepare_cached("INSERT INTO way(route, receiver, destination) VALUES(?1, ?2, ?3)")?
            .insert(values),
    }
}

fn join(connection: &Connection, carrier: DeliveryId, now: Timestamp) -> rusqlite::Result<i64> {
    let sql = "UPDATE delivery SET joined = joined + 1, changed_at = ?2 WHERE delivery = ?1
        RETURNING id, attempt, joined";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, base::Attempt(row.get(1)?), row.get::<_, u32>(2)?));
    let (id, attempt, joined) = statement.query_row((carrier.0, millis(now)), read)?;
    // A sender that repeats itself all day is counted, and does not fill the history.
    if joined <= HISTORY_JOINED {
        NewEvent::plain(now, EventKind::Joined, attempt).write(connection, id)?;
    }
    Ok(id)
}

fn known(error: rusqlite::Error, object: ObjectId) -> JobError<CommitError> {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => JobError::Own(CommitError::Object(object)),
        _ => JobError::Sql(error),
    }
}

/// Makes the row of a `respond = "delivered"` instance, before its final chunk may leave.
pub(crate) fn place_unspooled(
    connection: &Connection,
    new: &Prepared,
    config: &OutboxConfig,
    now: Timestamp,
) -> Result<UnspooledDecision, JobError<CommitError>> {
    let [delivery] = new.deliveries.as_slice() else {
        return Err(JobError::Own(CommitError::Object(new.object)));
    };
    if let Some(answer) =
        late_answer(connection, new.hashes.content, delivery.route, config.delivered_repeat, now)?
    {
        answered_from(connection, &answer)?;
        return Ok(answer);
    }
    if let Some(open) = latest_open(connection, new, delivery)? {
        return Ok(UnspooledDecision::Earlier { earlier: open.delivery });
    }
    let verdict = judge(connection, new, delivery, config, now)?;
    let changed_content = match verdict.decision {
        Decision::HeldLoop { count } => return Ok(UnspooledDecision::HeldLoop { count }),
        _ => verdict.changed_content,
    };
    let object_id = insert_object(connection, new)?;
    let id = insert_delivery(connection, new, object_id, delivery, verdict, now)?;
    sent::note(connection, &new.hashes, &[id])?;
    Ok(UnspooledDecision::New { changed_content })
}

/// The latest receipt that came too late for the PACS, for the same content on the same route. One that
/// was passed on in time never answers again: "please send it once more" must really send.
pub(crate) fn late_answer(
    connection: &Connection,
    content: [u8; 32],
    route: RouteId,
    window: Duration,
    now: Timestamp,
) -> rusqlite::Result<Option<UnspooledDecision>> {
    let since = now.0.saturating_sub(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    let sql = "SELECT d.delivery, r.outcome, r.status, r.late
        FROM object o JOIN delivery d ON d.object_id = o.id JOIN way w ON w.id = d.way_id
            JOIN receipt r ON r.delivery_id = d.id
        WHERE o.content_hash = ?1 AND w.route = ?2 AND NOT o.spooled AND r.late AND r.stored_at > ?3
        ORDER BY r.id DESC LIMIT 1";
    let parameters = (content, route.0, millis(Timestamp(since)));
    let read = |row: &rusqlite::Row<'_>| {
        Ok(UnspooledDecision::AnswerFrom {
            delivery: DeliveryId(row.get(0)?),
            outcome: column::coded(row, 1, Outcome::from_code)?,
            status: Status(row.get(2)?),
            first: row.get::<_, u8>(3)? == LATE,
        })
    };
    connection.prepare_cached(sql)?.query_row(parameters, read).optional()
}

/// `receipt.late` of one that came too late, and of one that has answered since.
const LATE: u8 = 1;
const LATE_AND_ANSWERED: u8 = 2;

fn answered_from(connection: &Connection, answer: &UnspooledDecision) -> rusqlite::Result<()> {
    if let UnspooledDecision::AnswerFrom { delivery, first: true, .. } = answer {
        let sql = "UPDATE receipt SET late = ?2 WHERE delivery_id = (SELECT id FROM delivery WHERE delivery = ?1) AND late";
        connection.prepare_cached(sql)?.execute((delivery.0, LATE_AND_ANSWERED))?;
    }
    Ok(())
}
