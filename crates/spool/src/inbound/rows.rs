//! The states of a delivery at gateway-in, and the transactions that change them.

use std::fmt;

use base::{Attempt, DeliveryId, Name, ObjectId, RouteId, Status, Timestamp, Uid};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::pledge::{self, NewPledge};
use crate::{
    InboundError, Outcome,
    db::{
        JobError,
        column::{self, length, millis},
    },
    outbox::IdPrefix,
    row::{UnknownWord, codes},
};

type Change<T> = Result<T, JobError<InboundError>>;

codes! {
    /// Where a delivery stands at the receiving gateway.
    InboundState {
        /// Its last PDV is about to leave, or has left.
        Sent = 1 "sent",
        /// After its last PDV no answer came: it may be stored.
        Unknown = 2 "unknown",
        /// The destination did not take it; it will come again.
        NotStored = 3 "not-stored",
        /// The destination has answered for good; the answer is not signed yet.
        Answered = 4 "answered",
        /// The receipt is signed; the sender may not have it yet.
        Signed = 5 "signed",
        /// The sender has the receipt and has signed that it sent this.
        Acknowledged = 6 "acknowledged",
    }
}

impl InboundState {
    /// Whether the destination has answered for good.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Answered | Self::Signed | Self::Acknowledged)
    }
}

/// A delivery that goes to its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The sender's attempt.
    pub attempt: Attempt,
    /// The instance.
    pub object: ObjectId,
    /// The pinned sender.
    pub sender: Name,
    /// The way it came.
    pub route: RouteId,
    /// Where it goes.
    pub destination: Name,
    /// Its SOP class.
    pub sop_class: Uid,
    /// Length of its data set.
    pub data_len: u64,
}

/// What is known as the last PDV leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// An earlier attempt may have stored it: this one is a repeat, and 0111 means stored.
    pub maybe_stored: bool,
}

/// A final answer of a destination, ready to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The delivery and its attempt. Its row is made here where nothing was sent (no accepted
    /// presentation context, for instance).
    pub arrival: Arrival,
    /// Stored or refused.
    pub outcome: Outcome,
    /// The destination's status.
    pub status: Status,
    /// 1: the destination answered; 2: it committed.
    pub level: u8,
    /// When it answered.
    pub answered_at: Timestamp,
    /// The receipt, to be signed.
    pub receipt: Vec<u8>,
    /// The receipt sealed for the sender: sealed now, since the content key does not survive a crash.
    pub record: Vec<u8>,
    /// The destination is to be asked to commit. Durable with the answer, so that no crash comes between.
    pub pledge: Option<NewPledge>,
}

/// An answer without a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedAnswer {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt that was answered.
    pub attempt: Attempt,
    /// The receipt.
    pub receipt: Vec<u8>,
    /// The sealed receipt, whose digest is signed.
    pub record: Vec<u8>,
}

/// One signature of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt that was answered.
    pub attempt: Attempt,
    /// The settlement: signature and path.
    pub settlement: Vec<u8>,
}

/// All that is known of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundRow {
    /// What came.
    pub arrival: Arrival,
    /// Where it stands.
    pub state: InboundState,
    /// An attempt had no known outcome.
    pub maybe_stored: bool,
    /// Attempts that were sent although an earlier one may have stored it.
    pub repeats: u32,
    /// Stored or refused, once settled.
    pub outcome: Option<Outcome>,
    /// The destination's last status.
    pub status: Option<Status>,
    /// The receipt's level.
    pub level: Option<u8>,
    /// The receipt.
    pub receipt: Option<Vec<u8>>,
    /// The sealed receipt; erased with the acknowledgement.
    pub record: Option<Vec<u8>>,
    /// Signature and path.
    pub settlement: Option<Vec<u8>>,
    /// The sender's countersignature; comes with the acknowledgement.
    pub manifest: Option<Vec<u8>>,
    /// The proof that the settlement is in the relay's log, once it came: a C2SP tlog-proof.
    pub log: Option<String>,
    /// When it was first seen.
    pub first_at: Timestamp,
    /// When the destination answered for good.
    pub answered_at: Option<Timestamp>,
}

/// Numbers for a status page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InboundCounts {
    /// Deliveries in each state.
    pub states: Vec<(InboundState, u64)>,
    /// C-STOREs repeated where the outcome was unknown.
    pub repeats: u64,
    /// Final answers "stored".
    pub stored: u64,
    /// Final answers "refused".
    pub refused: u64,
}

const COLUMNS: &str = "SELECT delivery, attempt, object, sender, route, destination, sop_class, data_len, state,
    maybe_stored, repeats, outcome, status, level, receipt, record, settlement, manifest, first_at, answered_at, inbound.id,
    l.proof || char(10) || char(10) || c.note FROM inbound LEFT JOIN logged l ON l.inbound_id = inbound.id
    LEFT JOIN checkpoint c ON c.id = l.checkpoint_id ";

fn inbound(row: &Row<'_>) -> rusqlite::Result<InboundRow> {
    let arrival = Arrival {
        delivery: DeliveryId(row.get(0)?),
        attempt: Attempt(row.get(1)?),
        object: ObjectId(row.get(2)?),
        sender: column::name(row, 3)?,
        route: RouteId(row.get(4)?),
        destination: column::name(row, 5)?,
        sop_class: column::parsed(row, 6, |text| Uid::parse(text).ok())?,
        data_len: column::number(row, 7)?,
    };
    let outcome: Option<i64> = row.get(11)?;
    Ok(InboundRow {
        arrival,
        state: column::coded(row, 8, InboundState::from_code)?,
        maybe_stored: row.get(9)?,
        repeats: row.get(10)?,
        outcome: outcome.and_then(Outcome::from_code),
        status: row.get::<_, Option<u16>>(12)?.map(Status),
        level: row.get(13)?,
        receipt: row.get(14)?,
        record: row.get(15)?,
        settlement: row.get(16)?,
        manifest: row.get(17)?,
        log: row.get(21)?,
        first_at: Timestamp(column::number(row, 18)?),
        answered_at: column::time(row, 19)?,
    })
}

pub(crate) fn lookup(connection: &Connection, delivery: DeliveryId) -> rusqlite::Result<Option<InboundRow>> {
    let mut statement = connection.prepare_cached(&format!("{COLUMNS}WHERE delivery = ?1"))?;
    statement.query_row([delivery.0], inbound).optional()
}

pub(crate) fn receipts(
    connection: &Connection,
    after: u64,
    limit: u32,
) -> rusqlite::Result<Vec<(u64, InboundRow)>> {
    let condition = "WHERE settlement IS NOT NULL AND inbound.id > ?1 ORDER BY inbound.id LIMIT ?2";
    let mut statement = connection.prepare_cached(&format!("{COLUMNS}{condition}"))?;
    let read = |row: &Row<'_>| Ok((column::number(row, 20)?, inbound(row)?));
    statement.query_map((length(after), limit), read)?.collect()
}

pub(crate) fn find(
    connection: &Connection,
    IdPrefix { first, last }: &IdPrefix,
    limit: u32,
) -> rusqlite::Result<Vec<InboundRow>> {
    let condition = "WHERE delivery BETWEEN ?1 AND ?2 ORDER BY inbound.id DESC LIMIT ?3";
    let mut statement = connection.prepare_cached(&format!("{COLUMNS}{condition}"))?;
    statement.query_map((first, last, limit), inbound)?.collect()
}

pub(crate) fn unlogged(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<InboundRow>> {
    let condition = "WHERE settlement IS NOT NULL AND l.inbound_id IS NULL
        AND inbound.id > (SELECT coalesce(max(id), 0) FROM inbound) - 10000 ORDER BY inbound.id DESC LIMIT ?1";
    let mut statement = connection.prepare_cached(&format!("{COLUMNS}{condition}"))?;
    statement.query_map([limit], inbound)?.collect()
}

pub(crate) fn in_state(
    connection: &Connection,
    state: InboundState,
    limit: u32,
) -> rusqlite::Result<Vec<InboundRow>> {
    let condition = "WHERE state = ?1 AND state <= 5 ORDER BY inbound.id LIMIT ?2";
    let mut statement = connection.prepare_cached(&format!("{COLUMNS}{condition}"))?;
    statement.query_map((state.code(), limit), inbound)?.collect()
}

/// First receipts that their senders may not have, and that hold a second one up.
pub(crate) fn before_pledges(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<InboundRow>> {
    let condition = "WHERE state = ?1 AND state <= 5 AND EXISTS (SELECT 1 FROM pledge p
        WHERE p.inbound_id = inbound.id AND p.state = 3 AND p.state <= 4) ORDER BY inbound.id LIMIT ?2";
    let mut statement = connection.prepare_cached(&format!("{COLUMNS}{condition}"))?;
    statement.query_map((InboundState::Signed.code(), limit), inbound)?.collect()
}

/// What a change looks at.
struct Standing {
    state: InboundState,
    attempt: Attempt,
    maybe_stored: bool,
    outcome: Option<Outcome>,
}

fn standing(connection: &Connection, delivery: DeliveryId) -> rusqlite::Result<Option<Standing>> {
    let sql = "SELECT state, attempt, maybe_stored, outcome FROM inbound WHERE delivery = ?1";
    let read = |row: &Row<'_>| {
        let outcome: Option<i64> = row.get(3)?;
        Ok(Standing {
            state: column::coded(row, 0, InboundState::from_code)?,
            attempt: Attempt(row.get(1)?),
            maybe_stored: row.get(2)?,
            outcome: outcome.and_then(Outcome::from_code),
        })
    };
    connection.prepare_cached(sql)?.query_row([delivery.0], read).optional()
}

pub(crate) fn attempt_sent(connection: &Connection, arrival: &Arrival, now: Timestamp) -> Change<Sent> {
    let Some(row) = standing(connection, arrival.delivery)? else {
        insert(connection, arrival, InboundState::Sent, now)?;
        return Ok(Sent { maybe_stored: false });
    };
    let again = row.outcome == Some(Outcome::Refused) && arrival.attempt > row.attempt;
    if row.state.is_settled() && !again {
        return Err(JobError::Own(InboundError::Settled(arrival.delivery)));
    }
    // A row that still says "sent" is an attempt whose end nobody reported.
    let maybe_stored = row.maybe_stored || row.state == InboundState::Sent;
    let sql = "UPDATE inbound SET state = ?2, attempt = ?3, maybe_stored = ?4, repeats = repeats + ?4, changed_at = ?5,
        data_len = ?6, outcome = NULL, status = NULL, level = NULL, receipt = NULL, record = NULL, settlement = NULL,
        manifest = NULL, answered_at = NULL, signed_at = NULL, acked_at = NULL WHERE delivery = ?1";
    connection.prepare_cached(sql)?.execute(params![
        arrival.delivery.0,
        InboundState::Sent.code(),
        arrival.attempt.0,
        maybe_stored,
        millis(now),
        length(arrival.data_len),
    ])?;
    forget_proof(connection, arrival.delivery)?;
    if maybe_stored {
        count(connection, "repeats")?;
    }
    Ok(Sent { maybe_stored })
}

fn insert(
    connection: &Connection,
    arrival: &Arrival,
    state: InboundState,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO inbound(delivery, object, sender, route, destination, sop_class, data_len, state, attempt,
        maybe_stored, repeats, first_at, changed_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, ?10, ?10)";
    let values = params![
        arrival.delivery.0,
        arrival.object.0,
        arrival.sender.as_str(),
        arrival.route.0,
        arrival.destination.as_str(),
        arrival.sop_class.as_str(),
        length(arrival.data_len),
        state.code(),
        arrival.attempt.0,
        millis(now),
    ];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// The row, if it is this attempt's and not settled. Anything else is a report that came too late.
fn open_attempt(connection: &Connection, delivery: DeliveryId, attempt: Attempt) -> Change<Option<Standing>> {
    let row = standing(connection, delivery)?.ok_or(JobError::Own(InboundError::Unknown(delivery)))?;
    Ok((row.attempt == attempt && !row.state.is_settled()).then_some(row))
}

pub(crate) fn not_stored(
    connection: &Connection,
    delivery: DeliveryId,
    attempt: Attempt,
    status: Option<Status>,
    now: Timestamp,
) -> Change<()> {
    if open_attempt(connection, delivery, attempt)?.is_none() {
        return Ok(());
    }
    let sql = "UPDATE inbound SET state = ?2, status = ?3, changed_at = ?4 WHERE delivery = ?1";
    let values = (delivery.0, InboundState::NotStored.code(), status.map(|status| status.0), millis(now));
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

pub(crate) fn outcome_unknown(
    connection: &Connection,
    delivery: DeliveryId,
    attempt: Attempt,
    now: Timestamp,
) -> Change<()> {
    if open_attempt(connection, delivery, attempt)?.is_none() {
        return Ok(());
    }
    let sql = "UPDATE inbound SET state = ?2, maybe_stored = 1, changed_at = ?3 WHERE delivery = ?1";
    connection.prepare_cached(sql)?.execute((delivery.0, InboundState::Unknown.code(), millis(now)))?;
    Ok(())
}

pub(crate) fn answered(connection: &Connection, answer: &Answer, now: Timestamp) -> Change<()> {
    let arrival = &answer.arrival;
    match standing(connection, arrival.delivery)? {
        None => insert(connection, arrival, InboundState::Answered, now)?,
        Some(row) if row.state.is_settled() => {
            let again = row.outcome == Some(Outcome::Refused) && arrival.attempt > row.attempt;
            if !again {
                return Err(JobError::Own(InboundError::Settled(arrival.delivery)));
            }
        }
        Some(_) => {}
    }
    let sql =
        "UPDATE inbound SET state = ?2, attempt = ?3, outcome = ?4, status = ?5, level = ?6, receipt = ?7,
        record = ?8, settlement = NULL, manifest = NULL, answered_at = ?9, signed_at = NULL, acked_at = NULL, changed_at = ?10
        WHERE delivery = ?1";
    connection.prepare_cached(sql)?.execute(params![
        arrival.delivery.0,
        InboundState::Answered.code(),
        arrival.attempt.0,
        answer.outcome.code(),
        answer.status.0,
        answer.level,
        answer.receipt,
        answer.record,
        millis(answer.answered_at),
        millis(now),
    ])?;
    forget_proof(connection, arrival.delivery)?;
    if let Some(new) = &answer.pledge {
        pledge::want(connection, arrival.delivery, new, now)?;
    }
    Ok(count(connection, answer.outcome.as_str())?)
}

/// A proof of an earlier attempt's receipt is none of this one's.
fn forget_proof(connection: &Connection, delivery: DeliveryId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM logged WHERE inbound_id = (SELECT id FROM inbound WHERE delivery = ?1)";
    connection.prepare_cached(sql)?.execute([delivery.0]).map(drop)
}

pub(crate) fn unsigned(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<UnsignedAnswer>> {
    let sql = "SELECT delivery, attempt, receipt, record FROM inbound WHERE state = ?1 AND state <= 5
        ORDER BY id LIMIT ?2";
    let read = |row: &Row<'_>| {
        Ok(UnsignedAnswer {
            delivery: DeliveryId(row.get(0)?),
            attempt: Attempt(row.get(1)?),
            receipt: row.get(2)?,
            record: row.get(3)?,
        })
    };
    connection.prepare_cached(sql)?.query_map((InboundState::Answered.code(), limit), read)?.collect()
}

pub(crate) fn signed(connection: &Connection, batch: &[Signature], now: Timestamp) -> Change<()> {
    let sql = "UPDATE inbound SET state = ?3, settlement = ?4, signed_at = ?5, changed_at = ?5
        WHERE delivery = ?1 AND attempt = ?2 AND state IN (?6, ?3)";
    let mut statement = connection.prepare_cached(sql)?;
    for one in batch {
        let signed = InboundState::Signed.code();
        let answered = InboundState::Answered.code();
        let values = (one.delivery.0, one.attempt.0, signed, &one.settlement, millis(now), answered);
        // Acknowledged while it was signed anew: nobody waits for another signature.
        let over = |row: Standing| row.state == InboundState::Acknowledged && row.attempt == one.attempt;
        if statement.execute(values)? != 1 && !standing(connection, one.delivery)?.is_some_and(over) {
            return Err(JobError::Own(InboundError::Unknown(one.delivery)));
        }
    }
    Ok(())
}

pub(crate) fn acked(
    connection: &Connection,
    delivery: DeliveryId,
    attempt: Attempt,
    manifest: &[u8],
    now: Timestamp,
) -> Change<()> {
    let sql = "UPDATE inbound SET state = ?3, record = NULL, manifest = ?6, acked_at = ?4, changed_at = ?4
        WHERE delivery = ?1 AND attempt = ?2 AND state = ?5";
    let (acknowledged, signed) = (InboundState::Acknowledged.code(), InboundState::Signed.code());
    let values = (delivery.0, attempt.0, acknowledged, millis(now), signed, manifest);
    let changed = connection.prepare_cached(sql)?.execute(values)?;
    // Acknowledged twice, or for an attempt that a later one has replaced: nothing to do.
    if changed == 0 && standing(connection, delivery)?.is_none() {
        return Err(JobError::Own(InboundError::Unknown(delivery)));
    }
    Ok(())
}

fn count(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE inbound_total SET value = value + 1 WHERE name = ?1";
    connection.prepare_cached(sql)?.execute([name]).map(drop)
}

pub(crate) fn counts(connection: &Connection) -> rusqlite::Result<InboundCounts> {
    let sql = "SELECT state, deliveries FROM inbound_tally WHERE deliveries > 0 ORDER BY state";
    let read = |row: &Row<'_>| Ok((column::coded(row, 0, InboundState::from_code)?, column::number(row, 1)?));
    let states = connection.prepare_cached(sql)?.query_map((), read)?.collect::<Result<_, _>>()?;
    let total = |name: &str| {
        let sql = "SELECT value FROM inbound_total WHERE name = ?1";
        connection.prepare_cached(sql)?.query_row([name], |row| column::number(row, 0))
    };
    Ok(InboundCounts {
        states,
        repeats: total("repeats")?,
        stored: total("stored")?,
        refused: total("refused")?,
    })
}

/// At start: what was out is unknown.
pub(crate) fn interrupt(connection: &Connection, now: Timestamp) -> rusqlite::Result<usize> {
    let sql =
        "UPDATE inbound SET state = ?2, maybe_stored = 1, changed_at = ?3 WHERE state = ?1 AND state <= 5";
    connection.execute(sql, (InboundState::Sent.code(), InboundState::Unknown.code(), millis(now)))
}
