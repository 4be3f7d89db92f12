//! What destinations are asked to commit (PS3.4 Annex J), from their success to the second receipt.
//!
//! A `pledge` is one instance, a `question` one N-ACTION. The order of durable writes: the pledge with the answer that it
//! follows → the question → N-ACTION → N-EVENT-REPORT → what was said, and only then its answer → the second receipt, once
//! the sender has the first.

use std::fmt;

use base::{Attempt, DeliveryId, Name, ObjectId, RouteId, Status, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::InboundState;
use crate::{
    InboundError, Outcome,
    db::{
        JobError,
        column::{self, millis},
    },
    row::{UnknownWord, codes},
};

type Change<T> = Result<T, JobError<InboundError>>;

codes! {
    /// Where a pledge stands.
    PledgeState {
        /// The destination is to be asked.
        Wanted = 1 "wanted",
        /// A question names it.
        Asked = 2 "asked",
        /// The destination has said it, or the time is over.
        Decided = 3 "decided",
        /// The second receipt is signed.
        Signed = 4 "signed",
        /// The sender has it.
        Acknowledged = 5 "acknowledged",
    }
}

codes! {
    /// Where a question stands.
    QuestionState {
        /// The destination has not taken it.
        Unsent = 1 "unsent",
        /// It has, and is to report.
        Sent = 2 "sent",
        /// Nothing is expected any more.
        Ended = 3 "ended",
    }
}

/// Goes with an answer whose destination is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPledge {
    /// Pledges of one group are asked for together.
    pub group: [u8; 16],
    /// Names the instance: sealed, and erased as soon as the destination has answered.
    pub sealed: Vec<u8>,
}

/// When a group is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathering {
    /// Its last instance came before this.
    pub quiet_since: Timestamp,
    /// Or its first one before this.
    pub waited_since: Timestamp,
    /// Or it has so many: no question has more.
    pub instances_max: u32,
}

/// One N-ACTION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its row.
    pub id: i64,
    /// Random: names the transaction.
    pub transaction: [u8; 16],
    /// Who is asked.
    pub destination: Name,
    /// Where it stands.
    pub state: QuestionState,
    /// How often it did not come through.
    pub tries: u32,
    /// What it names and nothing is known of.
    pub instances: Vec<Asked>,
}

/// An instance of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its row.
    pub row: i64,
    /// The object that was delivered: what the sealed part is bound to.
    pub object: ObjectId,
    /// Names the instance.
    pub sealed: Vec<u8>,
}

/// What a destination said of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It commits.
    Committed,
    /// It does not, and will not.
    Refused(Status),
    /// It does not now: it is asked anew from then on.
    Later(Timestamp),
}

/// A pledge for which a second receipt is to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedPledge {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The first receipt.
    pub first: Vec<u8>,
    /// What the destination said; `None` where it said nothing in time.
    pub said: Option<Outcome>,
    /// Why it does not commit.
    pub status: Option<Status>,
}

/// A second receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPledge {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The receipt.
    pub receipt: Vec<u8>,
    /// Signature and path.
    pub settlement: Vec<u8>,
}

/// All that is known of a pledge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pledge {
    /// Its place among all of them.
    pub sequence: i64,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt of its receipts.
    pub attempt: Attempt,
    /// The way that it came.
    pub route: RouteId,
    /// Where it stands.
    pub state: PledgeState,
    /// What the destination said, once it is decided.
    pub outcome: Option<Outcome>,
    /// Why it does not commit.
    pub status: Option<Status>,
    /// The second receipt.
    pub receipt: Option<Vec<u8>>,
    /// Its signature and path.
    pub settlement: Option<Vec<u8>>,
    /// The sender's countersignature.
    pub manifest: Option<Vec<u8>>,
}

pub(crate) fn want(
    connection: &Connection,
    delivery: DeliveryId,
    new: &NewPledge,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO pledge(inbound_id, state, grouping, sealed, wanted_at, not_before)
        SELECT id, ?2, ?3, ?4, ?5, ?5 FROM inbound WHERE delivery = ?1 ON CONFLICT DO NOTHING";
    let values = (delivery.0, PledgeState::Wanted.code(), new.group, &new.sealed, millis(now));
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Makes a question of the first group whose time has come.
pub(crate) fn gather(
    connection: &Connection,
    destination: &Name,
    transaction: [u8; 16],
    rule: Gathering,
    now: Timestamp,
) -> Change<Option<Question>> {
    let sql = "SELECT p.grouping FROM pledge p JOIN inbound i ON i.id = p.inbound_id
        WHERE p.state = 1 AND p.state <= 4 AND i.destination = ?1 AND p.not_before <= ?2 GROUP BY p.grouping
        HAVING max(p.wanted_at) <= ?3 OR min(p.wanted_at) <= ?4 OR count(*) >= ?5 ORDER BY min(p.wanted_at) LIMIT 1";
    let values = params![
        destination.as_str(),
        millis(now),
        millis(rule.quiet_since),
        millis(rule.waited_since),
        rule.instances_max,
    ];
    let group: Option<[u8; 16]> =
        connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
    let Some(group) = group else { return Ok(None) };
    let sql = "INSERT INTO question(transaction_id, destination, state, tries, next_at, made_at) VALUES(?1, ?2, ?3, 0, ?4, ?4)";
    let values = (transaction, destination.as_str(), QuestionState::Unsent.code(), millis(now));
    let id = connection.prepare_cached(sql)?.insert(values)?;
    let sql = "UPDATE pledge SET state = ?2, question_id = ?1 WHERE inbound_id IN (SELECT p.inbound_id FROM pledge p
        JOIN inbound i ON i.id = p.inbound_id WHERE p.state = 1 AND p.state <= 4 AND p.grouping = ?3 AND i.destination = ?4
        AND p.not_before <= ?5 ORDER BY p.inbound_id LIMIT ?6)";
    let asked = PledgeState::Asked.code();
    connection.prepare_cached(sql)?.execute(params![
        id,
        asked,
        group,
        destination.as_str(),
        millis(now),
        rule.instances_max
    ])?;
    let state = QuestionState::Unsent;
    let instances = instances(connection, id)?;
    Ok(Some(Question { id, transaction, destination: destination.clone(), state, tries: 0, instances }))
}

fn instances(connection: &Connection, question: i64) -> rusqlite::Result<Vec<Asked>> {
    let sql = "SELECT p.inbound_id, i.object, p.sealed FROM pledge p JOIN inbound i ON i.id = p.inbound_id
        WHERE p.question_id = ?1 AND p.state = ?2 AND p.sealed IS NOT NULL ORDER BY p.inbound_id";
    let read =
        |row: &Row<'_>| Ok(Asked { row: row.get(0)?, object: ObjectId(row.get(1)?), sealed: row.get(2)? });
    connection.prepare_cached(sql)?.query_map((question, PledgeState::Asked.code()), read)?.collect()
}

const QUESTION: &str = "SELECT id, transaction_id, destination, state, tries FROM question ";

fn question(row: &Row<'_>) -> rusqlite::Result<Question> {
    Ok(Question {
        id: row.get(0)?,
        transaction: row.get(1)?,
        destination: column::name(row, 2)?,
        state: column::coded(row, 3, QuestionState::from_code)?,
        tries: row.get(4)?,
        instances: Vec::new(),
    })
}

/// Questions that the destination is to be sent now, oldest first.
pub(crate) fn due(
    connection: &Connection,
    destination: &Name,
    now: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<Question>> {
    let condition =
        "WHERE state = 1 AND state <= 2 AND destination = ?1 AND next_at <= ?2 ORDER BY id LIMIT ?3";
    let mut statement = connection.prepare_cached(&format!("{QUESTION}{condition}"))?;
    let found = statement.query_map((destination.as_str(), millis(now), limit), question)?;
    let with = |found: rusqlite::Result<Question>| {
        let found = found?;
        Ok(Question { instances: instances(connection, found.id)?, ..found })
    };
    found.map(with).collect()
}

/// The question with this transaction.
pub(crate) fn by_transaction(
    connection: &Connection,
    transaction: [u8; 16],
) -> rusqlite::Result<Option<Question>> {
    let mut statement = connection.prepare_cached(&format!("{QUESTION}WHERE transaction_id = ?1"))?;
    let Some(found) = statement.query_row([transaction], question).optional()? else { return Ok(None) };
    Ok(Some(Question { instances: instances(connection, found.id)?, ..found }))
}

/// The destination has taken it. A report may have been faster.
pub(crate) fn sent(connection: &Connection, id: i64, report_until: Timestamp) -> Change<()> {
    let sql = "UPDATE question SET state = ?2, next_at = ?3 WHERE id = ?1 AND state = ?4";
    let (sent, unsent) = (QuestionState::Sent.code(), QuestionState::Unsent.code());
    connection.prepare_cached(sql)?.execute((id, sent, millis(report_until), unsent))?;
    Ok(())
}

/// The destination has not taken it.
pub(crate) fn unsent(connection: &Connection, id: i64, again_at: Timestamp) -> Change<()> {
    let sql = "UPDATE question SET tries = tries + 1, next_at = ?2 WHERE id = ?1 AND state = ?3";
    connection.prepare_cached(sql)?.execute((id, millis(again_at), QuestionState::Unsent.code()))?;
    Ok(())
}

/// What the destination said; a second time changes nothing.
pub(crate) fn told(connection: &Connection, id: i64, said: &[(i64, Told)], now: Timestamp) -> Change<()> {
    for (row, told) in said {
        match told {
            Told::Committed => decide(connection, *row, Some(Outcome::Stored), None, now)?,
            Told::Refused(status) => decide(connection, *row, Some(Outcome::Refused), Some(*status), now)?,
            Told::Later(at) => {
                let sql = "UPDATE pledge SET state = ?2, question_id = NULL, not_before = ?3
                    WHERE inbound_id = ?1 AND state = ?4";
                let (wanted, asked) = (PledgeState::Wanted.code(), PledgeState::Asked.code());
                connection.prepare_cached(sql)?.execute((row, wanted, millis(*at), asked))?;
            }
        }
    }
    end_if_answered(connection, id)
}

fn decide(
    connection: &Connection,
    row: i64,
    said: Option<Outcome>,
    status: Option<Status>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "UPDATE pledge SET state = ?2, outcome = ?3, status = ?4, decided_at = ?5, sealed = NULL
        WHERE inbound_id = ?1 AND state <= ?6";
    connection
        .prepare_cached(sql)?
        .execute(params![
            row,
            PledgeState::Decided.code(),
            said.map(Outcome::code),
            status.map(|status| status.0),
            millis(now),
            PledgeState::Asked.code(),
        ])
        .map(drop)
}

fn end_if_answered(connection: &Connection, id: i64) -> Change<()> {
    let sql = "UPDATE question SET state = ?2 WHERE id = ?1
        AND NOT EXISTS (SELECT 1 FROM pledge WHERE question_id = ?1 AND state = ?3)";
    let values = (id, QuestionState::Ended.code(), PledgeState::Asked.code());
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Questions of which no report came are asked anew, under another transaction; instances that were wanted before
/// `wanted_before` are given up. Answers how many of each.
pub(crate) fn expire(
    connection: &Connection,
    destination: &Name,
    wanted_before: Timestamp,
    now: Timestamp,
) -> Change<(usize, usize)> {
    let sql = "SELECT p.inbound_id, p.question_id FROM pledge p JOIN inbound i ON i.id = p.inbound_id
        WHERE p.state <= 2 AND p.state <= 4 AND i.destination = ?1 AND p.wanted_at <= ?2";
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?));
    let mut statement = connection.prepare_cached(sql)?;
    let over: Vec<_> = statement
        .query_map((destination.as_str(), millis(wanted_before)), read)?
        .collect::<rusqlite::Result<_>>()?;
    for (row, question) in &over {
        decide(connection, *row, None, None, now)?;
        if let Some(question) = question {
            end_if_answered(connection, *question)?;
        }
    }
    let sql = "SELECT id FROM question WHERE state = 2 AND state <= 2 AND destination = ?1 AND next_at <= ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let late: Vec<i64> = statement
        .query_map((destination.as_str(), millis(now)), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in &late {
        let sql = "UPDATE pledge SET state = ?2, question_id = NULL, not_before = ?3 WHERE question_id = ?1 AND state = ?4";
        let (wanted, asked) = (PledgeState::Wanted.code(), PledgeState::Asked.code());
        connection.prepare_cached(sql)?.execute((id, wanted, millis(now), asked))?;
        end_if_answered(connection, *id)?;
    }
    Ok((late.len(), over.len()))
}

/// What is decided, and whose first receipt the sender has: the relay keeps one answer for a delivery.
pub(crate) fn to_sign(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<DecidedPledge>> {
    let sql = "SELECT i.delivery, i.receipt, p.outcome, p.status FROM pledge p JOIN inbound i ON i.id = p.inbound_id
        WHERE p.state = 3 AND p.state <= 4 AND i.state = ?1 AND i.receipt IS NOT NULL ORDER BY p.inbound_id LIMIT ?2";
    let read = |row: &Row<'_>| {
        let said: Option<i64> = row.get(2)?;
        Ok(DecidedPledge {
            delivery: DeliveryId(row.get(0)?),
            first: row.get(1)?,
            said: said.and_then(Outcome::from_code),
            status: row.get::<_, Option<u16>>(3)?.map(Status),
        })
    };
    let values = (InboundState::Acknowledged.code(), limit);
    connection.prepare_cached(sql)?.query_map(values, read)?.collect()
}

/// For the first time, or anew with other keys.
pub(crate) fn signed(connection: &Connection, batch: &[SignedPledge]) -> Change<()> {
    let sql = "UPDATE pledge SET state = ?2, receipt = ?3, settlement = ?4
        WHERE inbound_id = (SELECT id FROM inbound WHERE delivery = ?1) AND state IN (?5, ?2)";
    let (signed, decided) = (PledgeState::Signed.code(), PledgeState::Decided.code());
    let mut statement = connection.prepare_cached(sql)?;
    for one in batch {
        statement.execute(params![one.delivery.0, signed, one.receipt, one.settlement, decided])?;
    }
    Ok(())
}

pub(crate) fn acked(connection: &Connection, delivery: DeliveryId, manifest: &[u8]) -> Change<()> {
    let sql = "UPDATE pledge SET state = ?2, manifest = ?3
        WHERE inbound_id = (SELECT id FROM inbound WHERE delivery = ?1) AND state = ?4";
    let (acknowledged, signed) = (PledgeState::Acknowledged.code(), PledgeState::Signed.code());
    connection.prepare_cached(sql)?.execute((delivery.0, acknowledged, manifest, signed))?;
    Ok(())
}

const PLEDGE: &str =
    "SELECT i.delivery, i.attempt, i.route, p.state, p.outcome, p.status, p.receipt, p.settlement,
    p.manifest, p.inbound_id FROM pledge p JOIN inbound i ON i.id = p.inbound_id ";

fn pledge(row: &Row<'_>) -> rusqlite::Result<Pledge> {
    let outcome: Option<i64> = row.get(4)?;
    Ok(Pledge {
        sequence: row.get(9)?,
        delivery: DeliveryId(row.get(0)?),
        attempt: Attempt(row.get(1)?),
        route: RouteId(row.get(2)?),
        state: column::coded(row, 3, PledgeState::from_code)?,
        outcome: outcome.and_then(Outcome::from_code),
        status: row.get::<_, Option<u16>>(5)?.map(Status),
        receipt: row.get(6)?,
        settlement: row.get(7)?,
        manifest: row.get(8)?,
    })
}

pub(crate) fn of(connection: &Connection, delivery: DeliveryId) -> rusqlite::Result<Option<Pledge>> {
    let mut statement = connection.prepare_cached(&format!("{PLEDGE}WHERE i.delivery = ?1"))?;
    statement.query_row([delivery.0], pledge).optional()
}

/// Second receipts that the sender may not have, oldest first, from the place behind `after` on.
pub(crate) fn unacknowledged(
    connection: &Connection,
    after: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Pledge>> {
    let condition = "WHERE p.state = 4 AND p.state <= 4 AND p.inbound_id > ?1 ORDER BY p.inbound_id LIMIT ?2";
    let mut statement = connection.prepare_cached(&format!("{PLEDGE}{condition}"))?;
    statement.query_map((after, limit), pledge)?.collect()
}

/// Destinations of which something is still expected.
pub(crate) fn destinations(connection: &Connection) -> rusqlite::Result<Vec<Name>> {
    let sql = "SELECT DISTINCT i.destination FROM pledge p JOIN inbound i ON i.id = p.inbound_id
        WHERE p.state <= 2 AND p.state <= 4 ORDER BY i.destination";
    connection.prepare_cached(sql)?.query_map((), |row| column::name(row, 0))?.collect()
}

/// How many stand where, without those that are over.
pub(crate) fn counts(connection: &Connection) -> rusqlite::Result<Vec<(PledgeState, u64)>> {
    let sql = "SELECT state, count(*) FROM pledge WHERE state <= 4 GROUP BY state ORDER BY state";
    let read = |row: &Row<'_>| Ok((column::coded(row, 0, PledgeState::from_code)?, column::number(row, 1)?));
    connection.prepare_cached(sql)?.query_map((), read)?.collect()
}
