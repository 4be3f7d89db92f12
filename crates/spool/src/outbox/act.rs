//! What an operator may do to a delivery, and in which states. The audit line is written by the caller, in
//! the same transaction.

use base::Timestamp;
use rusqlite::Connection;

use crate::{
    DeliveryError, EventKind, State,
    db::JobError,
    outbox::{
        deliver::{Change, Ended, end},
        load::Standing,
    },
};

pub(crate) fn retry(connection: &Connection, row: &mut Standing, reason: &str, now: Timestamp) -> Change<()> {
    let waits = row.state == State::Sealed && !row.running;
    if !(waits || matches!(row.state, State::Deferred | State::Parked)) {
        return not_now(row, "only what is deferred, parked or waits for its time can be retried");
    }
    (row.deferrals, row.nacks, row.losses, row.alarm) = (0, 0, 0, false);
    // Its age counts from now: the operator has just decided that it is not too old.
    (row.state, row.next_at, row.age_from) = (State::Sealed, Some(now), now);
    row.save(connection, now)?;
    Ok(row.note(connection, now, EventKind::Retried, Some(reason))?)
}

pub(crate) fn hold(connection: &Connection, row: &mut Standing, reason: &str, now: Timestamp) -> Change<()> {
    let waits = row.state == State::Sealed && !row.running;
    if !(waits || matches!(row.state, State::Deferred | State::WaitingForEarlier)) {
        return not_now(row, "only what waits can be held");
    }
    (row.state, row.next_at, row.reason) = (State::Held, None, Some(reason.to_owned()));
    row.save(connection, now)?;
    Ok(row.note(connection, now, EventKind::Held, Some(reason))?)
}

pub(crate) fn release(
    connection: &Connection,
    row: &mut Standing,
    reason: &str,
    now: Timestamp,
) -> Change<()> {
    if row.state != State::Held {
        return not_now(row, "only what is held can be released");
    }
    (row.state, row.next_at) = match row.waits_for {
        Some(_) => (State::WaitingForEarlier, None),
        None => (State::Sealed, Some(now)),
    };
    (row.alarm, row.reason, row.age_from) = (false, None, now);
    row.save(connection, now)?;
    Ok(row.note(connection, now, EventKind::Released, Some(reason))?)
}

pub(crate) fn discard(
    connection: &Connection,
    mut row: Standing,
    reason: &str,
    now: Timestamp,
) -> Change<Ended> {
    if row.state.is_ended() || !row.spooled {
        return not_now(&row, "only what is held here and has not ended can be discarded");
    }
    row.note(connection, now, EventKind::Discarded, Some(reason))?;
    (row.alarm, row.reason) = (false, Some(reason.to_owned()));
    Ok(end(connection, &mut row, State::Discarded, now)?)
}

fn not_now<T>(row: &Standing, remedy: &'static str) -> Change<T> {
    Err(JobError::Own(DeliveryError::NotNow { delivery: row.delivery, state: row.state, remedy }))
}
