//! What happens to a delivery after it was accepted: CUSTODY, "What ends custody", one function per report.
//! Each runs inside the transaction that makes it durable.

use base::{Attempt, BootId, DeliveryId, ObjectId, Timestamp};
use rusqlite::{Connection, params};

use crate::{
    DeliveryError, EventKind, Outcome, RetryPolicy, State,
    db::{JobError, column::millis},
    outbox::{
        load::{self, NewEvent, Standing},
        types::{Applied, Deferral, Loss, NewReceipt, Progress, Settled, Step},
    },
};

/// The level of a second receipt.
pub(crate) const LEVEL_COMMITTED: u8 = 2;

/// Attempts, beside the first, whose steps the history keeps.
pub(crate) const HISTORY_ATTEMPTS: u32 = 16;

pub(crate) type Change<T> = Result<T, JobError<DeliveryError>>;

pub(crate) fn load(connection: &Connection, delivery: DeliveryId) -> Change<Standing> {
    load::standing(connection, delivery)?.ok_or(JobError::Own(DeliveryError::Unknown(delivery)))
}

/// Takes the next attempt number, before the deposit.
pub(crate) fn start_attempt(
    connection: &Connection,
    delivery: DeliveryId,
    now: Timestamp,
) -> Change<Attempt> {
    let mut row = load(connection, delivery)?;
    let waits = matches!(row.state, State::Sealed | State::Deferred) && !row.running && row.spooled;
    if !waits {
        let remedy = "it is not due";
        return Err(JobError::Own(DeliveryError::NotNow { delivery, state: row.state, remedy }));
    }
    row.attempt = Attempt(row.attempt.0.saturating_add(1));
    (row.state, row.running, row.next_at, row.boot) = (State::Sealed, true, None, None);
    row.save(connection, now)?;
    row.note(connection, now, EventKind::Attempt, None)?;
    forget_middle_attempts(connection, &row)?;
    Ok(row.attempt)
}

/// A destination that is down for a month causes thousands of attempts: the history keeps the first one
/// and the last few.
fn forget_middle_attempts(connection: &Connection, row: &Standing) -> rusqlite::Result<()> {
    let Some(until) = row.attempt.0.checked_sub(HISTORY_ATTEMPTS).filter(|until| *until > 1) else {
        return Ok(());
    };
    // The kinds above this one are ends and acts of operators: they stay.
    let steps = EventKind::RelayLost.code();
    let sql = "DELETE FROM event WHERE delivery_id = ?1 AND attempt > 1 AND attempt <= ?2
        AND (kind <= ?3 OR kind = ?4)";
    let values = (row.id, until, steps, EventKind::Interrupted.code());
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Takes a step of a deposit down: the relay has all of it, or the receiving gateway has taken it.
pub(crate) fn progress(connection: &Connection, step: &Progress) -> Change<Applied> {
    let mut row = load(connection, step.delivery)?;
    let applied = advance(connection, &mut row, step)?;
    if applied == Applied::Yes {
        row.save(connection, step.at)?;
    }
    Ok(applied)
}

/// Several of them, each on its own: one that comes too late changes nothing.
pub(crate) fn progress_all(connection: &Connection, steps: &[Progress]) -> Change<()> {
    for step in steps {
        match progress(connection, step) {
            Ok(_) | Err(JobError::Own(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Changes the row, which the caller saves after `Yes`, and adds the line to its history.
fn advance(connection: &Connection, row: &mut Standing, step: &Progress) -> rusqlite::Result<Applied> {
    let current = row.attempt == step.attempt;
    let running = row.state == State::Sealed && row.running;
    match step.step {
        // The receiver was faster than the relay's answer.
        Step::Relayed(boot) if row.state == State::Collected && current && row.boot.is_none() => {
            (row.boot, row.running) = (Some(boot), false);
            Ok(Applied::Yes)
        }
        Step::Relayed(boot) if row.state == State::Relayed && current && row.boot == Some(boot) => {
            Ok(Applied::Already)
        }
        Step::Relayed(boot) if current && running => {
            (row.state, row.running, row.boot) = (State::Relayed, false, Some(boot));
            row.note(connection, step.at, EventKind::Relayed, None)?;
            Ok(Applied::Yes)
        }
        Step::Collected if row.state == State::Collected && current => Ok(Applied::Already),
        Step::Collected if current && (running || row.state == State::Relayed) => {
            row.state = State::Collected;
            row.note(connection, step.at, EventKind::Collected, None)?;
            Ok(Applied::Yes)
        }
        Step::Relayed(_) | Step::Collected => Ok(Applied::Stale),
    }
}

/// The row that a receipt is for, and whether the steps that came with the receipt changed it.
fn load_with_progress(connection: &Connection, receipt: &NewReceipt) -> Change<(Standing, bool)> {
    let mut row = load(connection, receipt.delivery)?;
    let mut moved = false;
    for step in receipt.progress.iter().filter(|step| step.delivery == receipt.delivery) {
        moved |= advance(connection, &mut row, step)? == Applied::Yes;
    }
    Ok((row, moved))
}

/// Whether a report about this attempt still matters: it is the latest one, and it is under way.
fn is_current(row: &Standing, attempt: Attempt) -> bool {
    let under_way =
        matches!(row.state, State::Relayed | State::Collected) || (row.state == State::Sealed && row.running);
    row.attempt == attempt && under_way
}

/// The deposit did not come to its end (connection lost, declined, abandoned). Nobody is to blame: the
/// caller says when it is due again.
pub(crate) fn deposit_failed(
    connection: &Connection,
    delivery: DeliveryId,
    attempt: Attempt,
    reason: &str,
    again_at: Timestamp,
    now: Timestamp,
) -> Change<Applied> {
    let mut row = load(connection, delivery)?;
    if !(row.attempt == attempt && row.running && matches!(row.state, State::Sealed | State::Collected)) {
        return Ok(Applied::Stale);
    }
    row.note(connection, now, EventKind::DepositFailed, Some(reason))?;
    again(connection, &mut row, again_at, Some(reason), now)?;
    Ok(Applied::Yes)
}

/// The destination did not take it now: wait, longer each time.
pub(crate) fn deferred(
    connection: &Connection,
    delivery: DeliveryId,
    attempt: Attempt,
    deferral: &Deferral,
    pace: Pace<'_>,
    now: Timestamp,
) -> Change<Applied> {
    let mut row = load(connection, delivery)?;
    if !is_current(&row, attempt) {
        return Ok(Applied::Stale);
    }
    // The receiver has opened it: whatever was wrong with earlier headers is over.
    (row.deferrals, row.nacks) = (row.deferrals.saturating_add(1), 0);
    (row.status, row.alarm) = (deferral.status, deferral.permanent);
    let event = NewEvent {
        at: now,
        kind: EventKind::Deferred,
        attempt,
        status: deferral.status,
        detail: Some(&deferral.reason),
    };
    event.write(connection, row.id)?;
    let policy = pace.policy;
    let wait =
        if deferral.permanent { policy.slow(pace.jitter) } else { policy.wait(row.deferrals, pace.jitter) };
    let wished = deferral.not_before.unwrap_or(now).min(now.after(policy.slowest));
    if row.spooled && policy.is_too_old(row.age_from, now) {
        park(connection, &mut row, &deferral.reason, now)?;
        return Ok(Applied::Yes);
    }
    row.state = State::Deferred;
    again(connection, &mut row, now.after(wait).max(wished), Some(&deferral.reason), now)?;
    Ok(Applied::Yes)
}

/// The receiving gateway could not use it: a new header may help, a few times.
pub(crate) fn nacked(
    connection: &Connection,
    delivery: DeliveryId,
    attempt: Attempt,
    reason: &str,
    pace: Pace<'_>,
    now: Timestamp,
) -> Change<Applied> {
    let mut row = load(connection, delivery)?;
    if !is_current(&row, attempt) {
        return Ok(Applied::Stale);
    }
    row.nacks = row.nacks.saturating_add(1);
    row.note(connection, now, EventKind::Nacked, Some(reason))?;
    let over = row.nacks > pace.policy.nacks_max || pace.policy.is_too_old(row.age_from, now);
    if row.spooled && over {
        park(connection, &mut row, reason, now)?;
        return Ok(Applied::Yes);
    }
    let at = now.after(pace.policy.wait(row.nacks, pace.jitter));
    again(connection, &mut row, at, Some(reason), now)?;
    Ok(Applied::Yes)
}

/// The relay has it no longer. The first time it is due at once; a relay that keeps losing it is asked
/// less and less often.
pub(crate) fn lost(
    connection: &Connection,
    delivery: DeliveryId,
    attempt: Attempt,
    loss: Loss,
    pace: Pace<'_>,
    now: Timestamp,
) -> Change<Applied> {
    let mut row = load(connection, delivery)?;
    if !is_current(&row, attempt) {
        return Ok(Applied::Stale);
    }
    let (kind, reason) = match loss {
        Loss::Expired => (EventKind::Expired, "the relay held it too long"),
        Loss::Gone => (EventKind::Gone, "the relay had to free its memory"),
        Loss::NotAdmitted => (EventKind::Gone, "the relay does not admit us for this receiver any more"),
    };
    row.note(connection, now, kind, None)?;
    row.losses = row.losses.saturating_add(1);
    let at = match row.losses {
        1 => now,
        repeated => now.after(pace.policy.wait(repeated - 1, pace.jitter)),
    };
    again(connection, &mut row, at, Some(reason), now)?;
    Ok(Applied::Yes)
}

/// Every delivery at a relay process other than these is due: its memory went with it, or it was given up
/// for another relay.
pub(crate) fn relay_lost(
    connection: &Connection,
    alive: &[BootId],
    now: Timestamp,
) -> Change<Vec<DeliveryId>> {
    let mut lost = Vec::new();
    for mut row in load::standings(connection, "WHERE d.boot IS NOT NULL AND d.ended_at IS NULL", &[])? {
        if row.boot.is_some_and(|boot| alive.contains(&boot)) {
            continue;
        }
        row.note(connection, now, EventKind::RelayLost, None)?;
        again(connection, &mut row, now, Some("the relay was lost"), now)?;
        lost.push(row.delivery);
    }
    Ok(lost)
}

/// Jitter and policy always go together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace<'a> {
    pub(crate) policy: &'a RetryPolicy,
    pub(crate) jitter: f64,
}

/// It goes back to the queue; or, without a body, back to the PACS: it had one attempt.
pub(crate) fn again(
    connection: &Connection,
    row: &mut Standing,
    at: Timestamp,
    reason: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    if !row.spooled {
        return give_back(connection, row, reason.unwrap_or("no answer"), now);
    }
    if row.state != State::Deferred {
        row.state = State::Sealed;
    }
    (row.running, row.boot, row.next_at, row.reason) = (false, None, Some(at), reason.map(str::to_owned));
    row.save(connection, now)
}

/// It goes no further by itself. Key and body stay.
pub(crate) fn park(
    connection: &Connection,
    row: &mut Standing,
    reason: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    (row.state, row.alarm, row.reason) = (State::Parked, true, Some(reason.to_owned()));
    (row.running, row.boot, row.next_at) = (false, None, None);
    row.save(connection, now)?;
    row.note(connection, now, EventKind::Parked, Some(reason))
}

/// Parks what waits and is older than the policy allows: a relay that is down for a month causes no
/// deferral that could do it.
pub(crate) fn park_overdue(
    connection: &Connection,
    policy: &RetryPolicy,
    limit: u32,
    now: Timestamp,
) -> Change<Vec<DeliveryId>> {
    let age_ms = u64::try_from(policy.age_max.as_millis()).unwrap_or(u64::MAX);
    let Some(before) = now.0.checked_sub(age_ms) else { return Ok(Vec::new()) };
    // By next_at, so that the index of what waits is walked and not the table.
    let condition = "WHERE d.next_at IS NOT NULL AND d.age_from <= ?1 ORDER BY d.next_at LIMIT ?2";
    let mut parked = Vec::new();
    for mut row in load::standings(connection, condition, params![millis(Timestamp(before)), limit])? {
        park(connection, &mut row, "older than age_max", now)?;
        parked.push(row.delivery);
    }
    Ok(parked)
}

/// `respond = "delivered"`: no answer in time.
pub(crate) fn returned(
    connection: &Connection,
    delivery: DeliveryId,
    reason: &str,
    now: Timestamp,
) -> Change<Applied> {
    let mut row = load(connection, delivery)?;
    match row.state {
        State::Returned => return Ok(Applied::Already),
        // The receipt came while the PACS was being answered without it: to the PACS it is a late one.
        State::Receipted | State::Refused if !row.spooled => {
            let sql = "UPDATE receipt SET late = 1 WHERE delivery_id = ?1";
            connection.prepare_cached(sql)?.execute([row.id])?;
            row.note(connection, now, EventKind::LateReceipt, Some(reason))?;
            return Ok(Applied::Stale);
        }
        state if state.is_ended() => return Ok(Applied::Stale),
        state if row.spooled => {
            let remedy = "only what was never spooled can be returned";
            return Err(JobError::Own(DeliveryError::NotNow { delivery, state, remedy }));
        }
        _ => give_back(connection, &mut row, reason, now)?,
    }
    Ok(Applied::Yes)
}

pub(crate) fn give_back(
    connection: &Connection,
    row: &mut Standing,
    reason: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    row.note(connection, now, EventKind::Returned, Some(reason))?;
    row.reason = Some(reason.to_owned());
    end(connection, row, State::Returned, now).map(drop)
}

/// A receipt that says stored ends custody, whatever attempt it answers and wherever the delivery stands.
pub(crate) fn settled_stored(
    connection: &Connection,
    receipt: &NewReceipt,
    now: Timestamp,
) -> Change<(Settled, ObjectId)> {
    let (mut row, moved) = load_with_progress(connection, receipt)?;
    // Where the way to the relay broke, the receiver answers each deposit of it: one receipt says it all, and they
    // may come side by side.
    if matches!(row.state, State::Receipted | State::Purged) {
        return Ok(unchanged(&row, Applied::Already));
    }
    let late = row.state.is_ended();
    if !store_receipt(connection, row.id, receipt, Outcome::Stored, late, now)? {
        if moved {
            row.save(connection, now)?;
        }
        return Ok(unchanged(&row, Applied::Already));
    }
    let event = |at, kind| NewEvent {
        at,
        kind,
        attempt: receipt.attempt,
        status: Some(receipt.status),
        detail: None,
    };
    event(receipt.answered_at, EventKind::Stored).write(connection, row.id)?;
    row.status = Some(receipt.status);
    match row.state {
        // An operator's act, or an answer that the PACS has, is not undone by what comes later.
        State::Discarded => {
            event(now, EventKind::LateReceipt).write(connection, row.id)?;
            row.save(connection, now)?;
            return Ok(unchanged(&row, Applied::Yes));
        }
        State::Refused | State::Returned => event(now, EventKind::LateReceipt).write(connection, row.id)?,
        _ => event(now, EventKind::Receipted).write(connection, row.id)?,
    }
    (row.alarm, row.reason, row.attempt) = (false, None, row.attempt.max(receipt.attempt));
    let ended = end(connection, &mut row, State::Receipted, now)?;
    Ok(changed(&row, ended))
}

/// A refusal erases nothing: the instance is parked. Where the PACS is still waiting for the answer it
/// gets the refusal itself, and owns the instance.
pub(crate) fn refused(
    connection: &Connection,
    receipt: &NewReceipt,
    now: Timestamp,
) -> Change<(Settled, ObjectId)> {
    let (mut row, moved) = load_with_progress(connection, receipt)?;
    let late = row.state.is_ended();
    if moved {
        row.save(connection, now)?;
    }
    if !store_receipt(connection, row.id, receipt, Outcome::Refused, late, now)? {
        return Ok(unchanged(&row, Applied::Already));
    }
    let event = NewEvent {
        at: now,
        kind: EventKind::Refused,
        attempt: receipt.attempt,
        status: Some(receipt.status),
        detail: None,
    };
    event.write(connection, row.id)?;
    if late || !is_current(&row, receipt.attempt) {
        return Ok(unchanged(&row, Applied::Stale));
    }
    row.status = Some(receipt.status);
    let reason = format!("the destination refused it with {}", receipt.status);
    if !row.spooled {
        row.reason = Some(reason);
        let ended = end(connection, &mut row, State::Refused, now)?;
        return Ok(changed(&row, ended));
    }
    park(connection, &mut row, &reason, now)?;
    Ok(unchanged(&row, Applied::Yes))
}

/// A second receipt: what the destination said when it was asked to commit. Custody has ended before and stays so; it
/// is what a commitment of ours waits for.
pub(crate) fn pledged(
    connection: &Connection,
    receipt: &NewReceipt,
    outcome: Outcome,
    now: Timestamp,
) -> Change<Applied> {
    let mut row = load(connection, receipt.delivery)?;
    // One for a delivery, whichever of its deposits it names: what was told to a peer is not taken back.
    let sql = "SELECT count(*) FROM receipt WHERE delivery_id = ?1 AND level = ?2";
    let known: i64 =
        connection.prepare_cached(sql)?.query_row((row.id, LEVEL_COMMITTED), |row| row.get(0))?;
    if known > 0 || !store_receipt(connection, row.id, receipt, outcome, false, now)? {
        return Ok(Applied::Already);
    }
    let kind = match outcome {
        Outcome::Stored => EventKind::Committed,
        Outcome::Refused => EventKind::NotCommitted,
    };
    let status = (outcome == Outcome::Refused).then_some(receipt.status);
    let event = NewEvent { at: now, kind, attempt: receipt.attempt, status, detail: None };
    event.write(connection, row.id)?;
    if let Some(status) = status {
        row.reason = Some(format!("the destination has it and does not commit to it: {status}"));
        row.save(connection, now)?;
    }
    Ok(Applied::Yes)
}

fn unchanged(row: &Standing, applied: Applied) -> (Settled, ObjectId) {
    (Settled { applied, state: row.state, object_ended: false, released: false }, row.object)
}

fn changed(row: &Standing, ended: Ended) -> (Settled, ObjectId) {
    let Ended { object: object_ended, released } = ended;
    (Settled { applied: Applied::Yes, state: row.state, object_ended, released }, row.object)
}

/// Whether it was new.
fn store_receipt(
    connection: &Connection,
    id: i64,
    new: &NewReceipt,
    outcome: Outcome,
    late: bool,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO receipt(delivery_id, attempt, outcome, status, level, answered_at, stored_at, late, receipt,
        settlement, manifest, pledge_follows) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
        ON CONFLICT DO NOTHING";
    let inserted = connection.prepare_cached(sql)?.execute(params![
        id,
        new.attempt.0,
        outcome.code(),
        new.status.0,
        new.level,
        millis(new.answered_at),
        millis(now),
        late,
        new.receipt,
        new.settlement,
        new.manifest,
        new.pledge_follows,
    ])?;
    Ok(inserted == 1)
}

/// What the end of a delivery brought about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) object: bool,
    pub(crate) released: bool,
}

/// Ends a delivery: what waited for it goes on, and with the object's last delivery its key and its
/// record are erased.
pub(crate) fn end(
    connection: &Connection,
    row: &mut Standing,
    state: State,
    now: Timestamp,
) -> rusqlite::Result<Ended> {
    let ahead = row.waits_for;
    row.state = state;
    row.save(connection, now)?;
    let released = release_waiting(connection, row.id, ahead, now)?;
    let sql = "UPDATE object SET ended_at = ?2, wrapped_key = NULL, record = NULL WHERE id = ?1 AND ended_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM delivery WHERE object_id = ?1 AND ended_at IS NULL)";
    let object = connection.prepare_cached(sql)?.execute((row.object_id, millis(now)))? == 1;
    Ok(Ended { object, released })
}

/// What waited for this delivery is due; or, where this one was itself waiting, waits for that one now.
fn release_waiting(
    connection: &Connection,
    ended: i64,
    ahead: Option<i64>,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let mut released = false;
    for mut row in load::standings(connection, "WHERE d.waits_for = ?1", &[&ended])? {
        row.waits_for = ahead;
        if ahead.is_none() && row.state == State::WaitingForEarlier {
            (row.state, row.next_at, released) = (State::Sealed, Some(now), true);
            row.note(connection, now, EventKind::EarlierEnded, None)?;
        }
        row.save(connection, now)?;
    }
    Ok(released)
}
