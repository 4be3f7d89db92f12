//! The tables of the outbox. A step, once released, is never edited: later formats are further steps.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::{IndexKey, OpenError, OutboxKey, db};

/// Bytes in clear are ids, digests of sealed bytes, sizes, times, class, route and state; everything that
/// leads to a patient is a keyed hash or sealed. `wrapped_key` and `record` are NULL once nothing is owed.
/// `tally` is kept by triggers, so that a page with counts costs the same at ten and at ten million rows.
pub(crate) const STEPS: &[&str] = &[
    "
CREATE TABLE setting(name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE way(
    id INTEGER PRIMARY KEY,
    route BLOB NOT NULL,
    receiver TEXT NOT NULL,
    destination TEXT NOT NULL,
    UNIQUE(route, receiver, destination)
) STRICT;

CREATE TABLE object(
    id INTEGER PRIMARY KEY,
    object BLOB NOT NULL UNIQUE,
    spooled INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    sop_class TEXT NOT NULL,
    suite INTEGER NOT NULL,
    commitment BLOB NOT NULL,
    profile BLOB NOT NULL,
    body_digest BLOB NOT NULL,
    sealed_len INTEGER NOT NULL,
    data_len INTEGER NOT NULL,
    instance_hash BLOB NOT NULL,
    study_hash BLOB,
    series_hash BLOB,
    accession_hash BLOB,
    patient_hash BLOB,
    content_hash BLOB NOT NULL,
    wrapped_key BLOB,
    record BLOB,
    ended_at INTEGER,
    purged_at INTEGER
) STRICT;
CREATE INDEX object_instance ON object(instance_hash);
CREATE INDEX object_study ON object(study_hash) WHERE study_hash IS NOT NULL;
CREATE INDEX object_series ON object(series_hash) WHERE series_hash IS NOT NULL;
CREATE INDEX object_accession ON object(accession_hash) WHERE accession_hash IS NOT NULL;
CREATE INDEX object_patient ON object(patient_hash) WHERE patient_hash IS NOT NULL;
CREATE INDEX object_content ON object(content_hash);
CREATE INDEX object_unpurged ON object(ended_at, sealed_len, object) WHERE purged_at IS NULL;

CREATE TABLE delivery(
    id INTEGER PRIMARY KEY,
    delivery BLOB NOT NULL UNIQUE,
    object_id INTEGER NOT NULL REFERENCES object(id),
    way_id INTEGER NOT NULL REFERENCES way(id),
    state INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    running INTEGER NOT NULL,
    boot BLOB,
    next_at INTEGER,
    deferrals INTEGER NOT NULL DEFAULT 0,
    nacks INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    joined INTEGER NOT NULL DEFAULT 0,
    waits_for INTEGER REFERENCES delivery(id),
    changed_content INTEGER NOT NULL,
    alarm INTEGER NOT NULL,
    status INTEGER,
    reason TEXT,
    received_at INTEGER NOT NULL,
    age_from INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE INDEX delivery_object ON delivery(object_id);
CREATE INDEX delivery_due ON delivery(next_at) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_due_on ON delivery(way_id, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_open ON delivery(id) WHERE ended_at IS NULL;
CREATE INDEX delivery_oldest ON delivery(way_id, received_at) WHERE ended_at IS NULL;
CREATE INDEX delivery_alarm ON delivery(id) WHERE alarm = 1;
CREATE INDEX delivery_waiting ON delivery(waits_for) WHERE waits_for IS NOT NULL;
CREATE INDEX delivery_boot ON delivery(boot) WHERE boot IS NOT NULL;

CREATE TABLE event(
    id INTEGER PRIMARY KEY,
    delivery_id INTEGER NOT NULL REFERENCES delivery(id),
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    status INTEGER,
    detail TEXT
) STRICT;
CREATE INDEX event_delivery ON event(delivery_id);

CREATE TABLE receipt(
    id INTEGER PRIMARY KEY,
    delivery_id INTEGER NOT NULL REFERENCES delivery(id),
    attempt INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    status INTEGER NOT NULL,
    level INTEGER NOT NULL,
    answered_at INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    late INTEGER NOT NULL,
    receipt BLOB NOT NULL,
    settlement BLOB NOT NULL,
    manifest BLOB NOT NULL,
    UNIQUE(delivery_id, attempt)
) STRICT;

CREATE TABLE checkpoint(id INTEGER PRIMARY KEY, note TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE logged(
    receipt_id INTEGER PRIMARY KEY,
    checkpoint_id INTEGER NOT NULL REFERENCES checkpoint(id),
    proof TEXT NOT NULL
) STRICT;

CREATE TABLE act(
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    delivery BLOB,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE tally(
    way_id INTEGER NOT NULL,
    state INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY(way_id, state)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER delivery_counted AFTER INSERT ON delivery BEGIN
    INSERT INTO tally SELECT new.way_id, new.state, 1, sealed_len FROM object WHERE id = new.object_id
    ON CONFLICT DO UPDATE SET deliveries = deliveries + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER delivery_recounted AFTER UPDATE OF state ON delivery WHEN old.state <> new.state BEGIN
    UPDATE tally SET deliveries = deliveries - 1,
        bytes = bytes - (SELECT sealed_len FROM object WHERE id = old.object_id)
        WHERE way_id = old.way_id AND state = old.state;
    INSERT INTO tally SELECT new.way_id, new.state, 1, sealed_len FROM object WHERE id = new.object_id
    ON CONFLICT DO UPDATE SET deliveries = deliveries + 1, bytes = bytes + excluded.bytes;
END;
",
    COMMITMENT,
    crate::pseudonyms::TABLES,
    SECOND_RECEIPTS,
    crate::pseudonyms::REPORTS,
];

/// Who sent what, and who asked whether it is safe. `sent` has a row for each delivery that carries a C-STORE: its
/// source, and which C-STORE of that source (`sending`, growing). AE titles are keyed hashes but for the peer's, which
/// stands in the configuration. Of a transaction that has ended the hashes and verdicts stay, and `record` is NULL.
const COMMITMENT: &str = "
CREATE TABLE source(
    id INTEGER PRIMARY KEY,
    calling BLOB NOT NULL,
    called BLOB NOT NULL,
    UNIQUE(calling, called)
) STRICT;

CREATE TABLE sent(
    id INTEGER PRIMARY KEY,
    delivery_id INTEGER NOT NULL REFERENCES delivery(id),
    source_id INTEGER NOT NULL REFERENCES source(id),
    sending INTEGER NOT NULL
) STRICT;
CREATE INDEX sent_delivery ON sent(delivery_id);

CREATE TABLE commitment(
    id INTEGER PRIMARY KEY,
    commitment BLOB NOT NULL UNIQUE,
    peer TEXT NOT NULL,
    transaction_hash BLOB NOT NULL,
    request_hash BLOB NOT NULL,
    callers BLOB NOT NULL,
    called BLOB NOT NULL,
    means INTEGER NOT NULL,
    state INTEGER NOT NULL,
    instances INTEGER NOT NULL,
    failed INTEGER NOT NULL DEFAULT 0,
    asked_at INTEGER NOT NULL,
    arrival_until INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    decided_at INTEGER,
    ended_at INTEGER,
    tries INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER,
    reason TEXT,
    record BLOB,
    UNIQUE(peer, transaction_hash)
) STRICT;
CREATE INDEX commitment_open ON commitment(id) WHERE ended_at IS NULL;

CREATE TABLE commitment_instance(
    commitment_id INTEGER NOT NULL REFERENCES commitment(id),
    number INTEGER NOT NULL,
    instance_hash BLOB NOT NULL,
    sop_class TEXT NOT NULL,
    verdict INTEGER,
    PRIMARY KEY(commitment_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX commitment_instance_hash ON commitment_instance(instance_hash);
";

/// A delivery may have a second receipt, of level 2: what its destination said when it was asked to commit.
/// `pledge_follows` is 1 where the first one promises it.
const SECOND_RECEIPTS: &str = "
ALTER TABLE receipt RENAME TO first_receipt;
CREATE TABLE receipt(
    id INTEGER PRIMARY KEY,
    delivery_id INTEGER NOT NULL REFERENCES delivery(id),
    attempt INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    status INTEGER NOT NULL,
    level INTEGER NOT NULL,
    pledge_follows INTEGER NOT NULL,
    answered_at INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    late INTEGER NOT NULL,
    receipt BLOB NOT NULL,
    settlement BLOB NOT NULL,
    manifest BLOB NOT NULL,
    UNIQUE(delivery_id, attempt, level)
) STRICT;
INSERT INTO receipt SELECT id, delivery_id, attempt, outcome, status, level, 0, answered_at, stored_at, late, receipt,
    settlement, manifest FROM first_receipt;
DROP TABLE first_receipt;
";

const OUTBOX_CHECK: &str = "outbox key check";
const INDEX_CHECK: &str = "index key check";

/// Writes the values by which the keys are known again, unless they are there: `false`.
pub(crate) fn write_checks(
    connection: &mut Connection,
    key: &OutboxKey,
    index: &IndexKey,
) -> Result<bool, OpenError> {
    let mut write = || -> rusqlite::Result<bool> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if stored(&transaction, OUTBOX_CHECK)?.is_some() {
            return Ok(false);
        }
        write_outbox_check(&transaction, key)?;
        put(&transaction, INDEX_CHECK, &index.check_value())?;
        transaction.commit()?;
        Ok(true)
    };
    write().map_err(|error| OpenError::Store(db::store_error(&error)))
}

pub(crate) fn write_outbox_check(connection: &Connection, key: &OutboxKey) -> rusqlite::Result<()> {
    put(connection, OUTBOX_CHECK, &key.check_value())
}

/// Refuses keys that the outbox was not made with. There is no way around it: a wrong key would make
/// everything that is held unreadable one instance at a time.
pub(crate) fn check_keys(
    connection: &Connection,
    dir: &Path,
    key: &OutboxKey,
    index: &IndexKey,
) -> Result<(), OpenError> {
    let check = |name: &str, value: [u8; 16], wrong: OpenError| match stored(connection, name) {
        Ok(Some(stored)) if stored == value => Ok(()),
        Ok(Some(_)) => Err(wrong),
        Ok(None) => Err(OpenError::NotInitialised(dir.to_owned())),
        Err(error) => Err(OpenError::Store(db::store_error(&error))),
    };
    check(OUTBOX_CHECK, key.check_value(), OpenError::WrongKey)?;
    check(INDEX_CHECK, index.check_value(), OpenError::WrongIndexKey)
}

fn stored(connection: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.query_row("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn put(connection: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO setting VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    connection.execute(sql, (name, value)).map(drop)
}
