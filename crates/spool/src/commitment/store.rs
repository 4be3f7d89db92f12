//! The rows of transactions. Each function that changes them runs inside the transaction that makes it durable.

use base::{AeTitle, CommitmentId, Timestamp, Uid};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use crate::{
    Asked, Commitment, CommitmentCounts, CommitmentError, CommitmentState, Cursors, Decided, IndexKey, Means,
    Named, NewCommitment, RetryPolicy, Verdict, Watched,
    commitment::{
        judge::{self, Question},
        record,
    },
    db::{
        JobError,
        column::{coded, millis, number, parsed, time},
    },
    outbox::{Context, IdPrefix},
    record::{Identifier, identifier, title},
};

type Change<T> = Result<T, JobError<CommitmentError>>;

/// A transaction's row as a change reads it.
struct Standing {
    id: i64,
    commitment: CommitmentId,
    peer: AeTitle,
    state: CommitmentState,
    tries: u32,
    arrival_until: Timestamp,
    deadline: Timestamp,
    next_at: Option<Timestamp>,
    question: Question,
}

const STANDING: &str =
    "SELECT id, commitment, peer, state, tries, arrival_until, deadline, next_at, callers, called, means
    FROM commitment ";

fn standing_row(row: &Row<'_>) -> rusqlite::Result<Standing> {
    let callers: Vec<u8> = row.get(8)?;
    Ok(Standing {
        id: row.get(0)?,
        commitment: CommitmentId(row.get(1)?),
        peer: parsed(row, 2, |text| AeTitle::parse(text).ok())?,
        state: coded(row, 3, CommitmentState::from_code)?,
        tries: row.get(4)?,
        arrival_until: Timestamp(number(row, 5)?),
        deadline: Timestamp(number(row, 6)?),
        next_at: time(row, 7)?,
        question: Question {
            callers: callers.as_chunks::<16>().0.to_vec(),
            called: row.get(9)?,
            means: coded(row, 10, Means::from_code)?,
            may_arrive: true,
        },
    })
}

impl Standing {
    fn question_at(mut self, now: Timestamp) -> Self {
        self.question.may_arrive = now < self.arrival_until && now < self.deadline;
        self
    }
}

fn load(connection: &Connection, commitment: CommitmentId) -> Change<Standing> {
    let mut statement = connection.prepare_cached(&format!("{STANDING}WHERE commitment = ?1"))?;
    let found = statement.query_row([commitment.0], standing_row).optional()?;
    found.ok_or(JobError::Own(CommitmentError::Unknown(commitment)))
}

/// Takes a request over.
pub(crate) fn ask(
    connection: &Connection,
    context: &Context,
    new: &NewCommitment,
    now: Timestamp,
) -> Change<Asked> {
    let key = &context.index_key;
    let transaction = identifier(key, Identifier::Transaction, new.transaction.reveal().as_str());
    let request = request_hash(key, new);
    let sql =
        "SELECT commitment, state, request_hash FROM commitment WHERE peer = ?1 AND transaction_hash = ?2";
    let read = |row: &Row<'_>| {
        let state = coded(row, 1, CommitmentState::from_code)?;
        Ok((CommitmentId(row.get(0)?), state, row.get::<_, [u8; 32]>(2)?))
    };
    let mut statement = connection.prepare_cached(sql)?;
    let known = statement.query_row((new.peer.as_str(), transaction), read).optional()?;
    if let Some((id, state, before)) = known.filter(|(_, state, _)| !state.is_ended()) {
        if before != request {
            return Err(JobError::Own(CommitmentError::InUse(id)));
        }
        // Whoever asks again waits for it.
        let sql = "UPDATE commitment SET next_at = ?2 WHERE commitment = ?1 AND next_at IS NOT NULL";
        connection.prepare_cached(sql)?.execute((id.0, millis(now)))?;
        return Ok(Asked::Known(id, state));
    }
    let sql = "SELECT count(*) FROM commitment WHERE ended_at IS NULL AND peer = ?1";
    let open: u32 = connection.prepare_cached(sql)?.query_row([new.peer.as_str()], |row| row.get(0))?;
    if open >= new.open_max {
        let (peer, open_max) = (new.peer.clone(), new.open_max);
        return Err(JobError::Own(CommitmentError::TooManyOpen { peer, open_max }));
    }
    let asked = known.map_or(Asked::New(new.id), |(id, ..)| Asked::Again(id));
    if let Asked::Again(id) = asked {
        forget(connection, id)?;
    }
    insert(connection, context, new, asked.id(), (&transaction, &request), now)?;
    Ok(asked)
}

/// Which instances were asked for, whatever their order.
fn request_hash(key: &IndexKey, new: &NewCommitment) -> [u8; 32] {
    let mut fields: Vec<&[u8]> =
        new.instances.iter().map(|one| one.sop_instance.reveal().as_str().as_bytes()).collect();
    fields.sort_unstable();
    key.hash(b"sluis/1 index commitment request", &fields)
}

/// The row of an ended transaction, before it begins anew.
fn forget(connection: &Connection, commitment: CommitmentId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM commitment_instance
        WHERE commitment_id = (SELECT id FROM commitment WHERE commitment = ?1)";
    connection.prepare_cached(sql)?.execute([commitment.0])?;
    connection.prepare_cached("DELETE FROM commitment WHERE commitment = ?1")?.execute([commitment.0])?;
    Ok(())
}

fn insert(
    connection: &Connection,
    context: &Context,
    new: &NewCommitment,
    id: CommitmentId,
    (transaction, request): (&[u8; 16], &[u8; 32]),
    now: Timestamp,
) -> Change<()> {
    let key = &context.index_key;
    let sealed =
        record::seal(&context.keys.current(), new, id).ok_or(JobError::Own(CommitmentError::Sealed(id)))?;
    let callers: Vec<u8> = new.callers.iter().flat_map(|one| title(key, one)).collect();
    let sql = "INSERT INTO commitment(commitment, peer, transaction_hash, request_hash, callers, called, means, state,
        instances, asked_at, arrival_until, deadline, record) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let row = connection.prepare_cached(sql)?.insert(params![
        id.0,
        new.peer.as_str(),
        transaction,
        request,
        callers,
        title(key, &new.called),
        new.means.code(),
        CommitmentState::Open.code(),
        u32::try_from(new.instances.len()).unwrap_or(u32::MAX),
        millis(now),
        millis(new.arrival_until),
        millis(new.deadline),
        sealed,
    ])?;
    let sql = "INSERT INTO commitment_instance(commitment_id, number, instance_hash, sop_class) VALUES(?1, ?2, ?3, ?4)";
    let mut statement = connection.prepare_cached(sql)?;
    for (number, one) in (0u32..).zip(&new.instances) {
        let instance = identifier(key, Identifier::Instance, one.sop_instance.reveal().as_str());
        statement.execute((row, number, instance, one.sop_class.as_str()))?;
    }
    Ok(())
}

/// All that have not ended. The first instance of each that is not decided is the place from where it is looked at the
/// next time; [`decide`] looks at all again.
pub(crate) fn watch(
    connection: &Connection,
    cursors: &mut Cursors,
    now: Timestamp,
) -> rusqlite::Result<Vec<Watched>> {
    let mut statement =
        connection.prepare_cached(&format!("{STANDING}WHERE ended_at IS NULL ORDER BY id"))?;
    let open: Vec<_> = statement.query_map((), standing_row)?.collect::<Result<_, _>>()?;
    let mut watched = Vec::with_capacity(open.len());
    for row in open {
        let row = row.question_at(now);
        let is_ripe = match row.state {
            CommitmentState::Open => {
                let from = cursors.get(&row.commitment).copied().unwrap_or(0);
                let undecided = first_undecided(connection, &row, from)?;
                if let Some(number) = undecided {
                    cursors.insert(row.commitment, number);
                }
                undecided.is_none() || row.deadline <= now
            }
            _ => row.next_at.is_some_and(|at| at <= now),
        };
        watched.push(Watched { id: row.commitment, peer: row.peer, state: row.state, is_ripe });
    }
    cursors.retain(|id, _| watched.iter().any(|one| one.id == *id && one.state == CommitmentState::Open));
    Ok(watched)
}

fn first_undecided(connection: &Connection, row: &Standing, from: u32) -> rusqlite::Result<Option<u32>> {
    let mut found = None;
    each_instance(connection, row.id, from, |number, instance, sop_class| {
        let verdict = judge::judge(connection, &row.question, instance, sop_class)?;
        found = verdict.is_none().then_some(number);
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// Calls for each instance from a number on, until told to stop.
fn each_instance(
    connection: &Connection,
    id: i64,
    from: u32,
    mut with: impl FnMut(u32, &[u8; 16], &Uid) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let sql = "SELECT number, instance_hash, sop_class FROM commitment_instance
        WHERE commitment_id = ?1 AND number >= ?2 ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((id, from))?;
    while let Some(row) = rows.next()? {
        let sop_class = parsed(row, 2, |text| Uid::parse(text).ok())?;
        if !with(row.get(0)?, &row.get(1)?, &sop_class)? {
            break;
        }
    }
    Ok(())
}

/// Decides, or says which instance stands in the way.
pub(crate) fn decide(connection: &Connection, commitment: CommitmentId, now: Timestamp) -> Change<Decided> {
    let row = load(connection, commitment)?.question_at(now);
    if row.state != CommitmentState::Open {
        return Ok(Decided::Already(row.state));
    }
    let is_over = row.deadline <= now;
    let mut verdicts = Vec::new();
    let mut undecided = None;
    each_instance(connection, row.id, 0, |number, instance, sop_class| {
        let verdict = judge::judge(connection, &row.question, instance, sop_class)?;
        match verdict.or_else(|| is_over.then_some(Verdict::NotInTime)) {
            Some(verdict) => verdicts.push((number, verdict)),
            None => undecided = Some(number),
        }
        Ok(undecided.is_none())
    })?;
    if let Some(number) = undecided {
        return Ok(Decided::NotYet(number));
    }
    let sql = "UPDATE commitment_instance SET verdict = ?3 WHERE commitment_id = ?1 AND number = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    for (number, verdict) in &verdicts {
        statement.execute((row.id, number, verdict.code()))?;
    }
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let failed = count(verdicts.iter().filter(|(_, verdict)| *verdict != Verdict::Committed).count());
    let sql = "UPDATE commitment SET state = ?2, failed = ?3, decided_at = ?4, next_at = ?4 WHERE id = ?1";
    let values = (row.id, CommitmentState::Reporting.code(), failed, millis(now));
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(Decided::Now { instances: count(verdicts.len()), failed })
}

/// What a report is made of: the sealed record, and what was decided about each instance.
pub(crate) fn parts(
    connection: &Connection,
    commitment: CommitmentId,
) -> rusqlite::Result<Option<(Vec<u8>, Vec<Verdict>)>> {
    let sql = "SELECT id, record FROM commitment WHERE commitment = ?1 AND record IS NOT NULL";
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
    let Some((id, sealed)) = connection.prepare_cached(sql)?.query_row([commitment.0], read).optional()?
    else {
        return Ok(None);
    };
    let sql = "SELECT verdict FROM commitment_instance
        WHERE commitment_id = ?1 AND verdict IS NOT NULL ORDER BY number";
    let read = |row: &Row<'_>| coded(row, 0, Verdict::from_code);
    let verdicts = connection.prepare_cached(sql)?.query_map([id], read)?.collect::<Result<_, _>>()?;
    Ok(Some((sealed, verdicts)))
}

/// It is to be reported again later.
pub(crate) fn unreported(
    connection: &Connection,
    commitment: CommitmentId,
    reason: &str,
    (policy, jitter): (&RetryPolicy, f64),
    now: Timestamp,
) -> Change<()> {
    let row = load(connection, commitment)?;
    if row.state == CommitmentState::Reporting {
        let tries = row.tries.saturating_add(1);
        let next_at = now.after(policy.wait(tries, jitter));
        let sql = "UPDATE commitment SET tries = ?2, next_at = ?3, reason = ?4 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute((row.id, tries, millis(next_at), reason))?;
    }
    Ok(())
}

pub(crate) fn retry(connection: &Connection, commitment: CommitmentId, now: Timestamp) -> Change<()> {
    let row = load(connection, commitment)?;
    if row.state != CommitmentState::Reporting {
        let remedy = "only what is decided and not reported can be reported again";
        return Err(JobError::Own(CommitmentError::NotNow { commitment, state: row.state, remedy }));
    }
    let sql = "UPDATE commitment SET tries = 0, next_at = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((row.id, millis(now)))?;
    Ok(())
}

/// Nothing more is owed: its record goes. A second time changes nothing for a report, and is refused to an operator.
pub(crate) fn end(
    connection: &Connection,
    commitment: CommitmentId,
    state: CommitmentState,
    reason: Option<&str>,
    now: Timestamp,
) -> Change<()> {
    let row = load(connection, commitment)?;
    if row.state.is_ended() {
        if state == CommitmentState::Reported {
            return Ok(());
        }
        let remedy = "it has ended";
        return Err(JobError::Own(CommitmentError::NotNow { commitment, state: row.state, remedy }));
    }
    let sql = "UPDATE commitment SET state = ?2, ended_at = ?3, next_at = NULL, record = NULL, reason = ?4 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((row.id, state.code(), millis(now), reason))?;
    Ok(())
}

const COMMITMENT: &str =
    "SELECT c.commitment, c.peer, c.state, c.means, c.instances, c.failed, c.asked_at, c.deadline,
    c.decided_at, c.ended_at, c.tries, c.next_at, c.reason FROM commitment c ";

fn commitment(row: &Row<'_>) -> rusqlite::Result<Commitment> {
    Ok(Commitment {
        id: CommitmentId(row.get(0)?),
        peer: parsed(row, 1, |text| AeTitle::parse(text).ok())?,
        state: coded(row, 2, CommitmentState::from_code)?,
        means: coded(row, 3, Means::from_code)?,
        instances: row.get(4)?,
        failed: row.get(5)?,
        asked_at: Timestamp(number(row, 6)?),
        deadline: Timestamp(number(row, 7)?),
        decided_at: time(row, 8)?,
        ended_at: time(row, 9)?,
        tries: row.get(10)?,
        next_at: time(row, 11)?,
        reason: row.get(12)?,
    })
}

fn commitments(
    connection: &Connection,
    condition: &str,
    parameters: &[&dyn ToSql],
) -> rusqlite::Result<Vec<Commitment>> {
    let mut statement = connection.prepare_cached(&format!("{COMMITMENT}{condition}"))?;
    statement.query_map(parameters, commitment)?.collect()
}

pub(crate) fn list(connection: &Connection, open: bool, limit: u32) -> rusqlite::Result<Vec<Commitment>> {
    if open {
        return commitments(connection, "WHERE c.ended_at IS NULL ORDER BY c.id LIMIT ?1", &[&limit]);
    }
    let mut latest = commitments(connection, "ORDER BY c.id DESC LIMIT ?1", &[&limit])?;
    latest.reverse();
    Ok(latest)
}

pub(crate) fn by_id(
    connection: &Connection,
    prefix: &IdPrefix,
    limit: u32,
) -> rusqlite::Result<Vec<Commitment>> {
    let half = |bytes: &[u8]| bytes.get(..CommitmentId::LEN).unwrap_or_default().to_vec();
    let condition = "WHERE c.commitment BETWEEN ?1 AND ?2 ORDER BY c.id LIMIT ?3";
    commitments(connection, condition, params![half(&prefix.first), half(&prefix.last), limit])
}

pub(crate) fn naming(
    connection: &Connection,
    instance: &[u8; 16],
    transaction: &[u8; 16],
    limit: u32,
) -> rusqlite::Result<Vec<Named>> {
    let condition = "WHERE c.transaction_hash = ?1 ORDER BY c.id DESC LIMIT ?2";
    let named = |commitment| Named { commitment, verdict: None };
    let mut found: Vec<_> =
        commitments(connection, condition, params![transaction, limit])?.into_iter().map(named).collect();
    let sql = "SELECT commitment_id, verdict FROM commitment_instance WHERE instance_hash = ?1
        ORDER BY commitment_id DESC LIMIT ?2";
    let read = |row: &Row<'_>| {
        let verdict = match row.get::<_, Option<i64>>(1)? {
            Some(_) => Some(coded(row, 1, Verdict::from_code)?),
            None => None,
        };
        Ok((row.get::<_, i64>(0)?, verdict))
    };
    let mut statement = connection.prepare_cached(sql)?;
    let rows: Vec<_> = statement.query_map((instance, limit), read)?.collect::<Result<_, _>>()?;
    for (id, verdict) in rows {
        let of = commitments(connection, "WHERE c.id = ?1", &[&id])?;
        found.extend(of.into_iter().map(|commitment| Named { commitment, verdict }));
    }
    Ok(found)
}

pub(crate) fn counts(connection: &Connection) -> rusqlite::Result<CommitmentCounts> {
    let sql = "SELECT count(*) FILTER (WHERE state = ?1), count(*) FILTER (WHERE state <> ?1),
        count(*) FILTER (WHERE state <> ?1 AND tries > 0), min(asked_at) FROM commitment WHERE ended_at IS NULL";
    let read = |row: &Row<'_>| {
        Ok(CommitmentCounts {
            open: number(row, 0)?,
            reporting: number(row, 1)?,
            failing: number(row, 2)?,
            oldest: time(row, 3)?,
        })
    };
    connection.prepare_cached(sql)?.query_row([CommitmentState::Open.code()], read)
}
