//! The table of the settled ledger. A step, once released, is never edited.

/// No patient data: ids, names of the configuration, the SOP class, sizes, times, statuses; the receipt
/// carries a hash of the UID under a key that is not kept; the sealed record goes when the sender has it.
pub(crate) const STEPS: &[&str] = &[
    "
CREATE TABLE inbound(
    id INTEGER PRIMARY KEY,
    delivery BLOB NOT NULL UNIQUE,
    object BLOB NOT NULL,
    sender TEXT NOT NULL,
    route BLOB NOT NULL,
    destination TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    data_len INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    maybe_stored INTEGER NOT NULL,
    repeats INTEGER NOT NULL,
    outcome INTEGER,
    status INTEGER,
    level INTEGER,
    receipt BLOB,
    record BLOB,
    settlement BLOB,
    manifest BLOB,
    first_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    answered_at INTEGER,
    signed_at INTEGER,
    acked_at INTEGER
) STRICT;
CREATE INDEX inbound_open ON inbound(state, id) WHERE state <= 5;
CREATE TABLE checkpoint(id INTEGER PRIMARY KEY, note TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE logged(
    inbound_id INTEGER PRIMARY KEY,
    checkpoint_id INTEGER NOT NULL REFERENCES checkpoint(id),
    proof TEXT NOT NULL
) STRICT;
CREATE TABLE inbound_tally(state INTEGER PRIMARY KEY, deliveries INTEGER NOT NULL) STRICT;
CREATE TABLE inbound_total(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO inbound_total VALUES('repeats', 0), ('stored', 0), ('refused', 0);
CREATE TRIGGER inbound_counted AFTER INSERT ON inbound BEGIN
    INSERT INTO inbound_tally VALUES(new.state, 1) ON CONFLICT DO UPDATE SET deliveries = deliveries + 1;
END;
CREATE TRIGGER inbound_recounted AFTER UPDATE OF state ON inbound WHEN old.state <> new.state BEGIN
    UPDATE inbound_tally SET deliveries = deliveries - 1 WHERE state = old.state;
    INSERT INTO inbound_tally VALUES(new.state, 1) ON CONFLICT DO UPDATE SET deliveries = deliveries + 1;
END;
",
    PLEDGES,
];

/// What destinations are asked to commit. `sealed` names an instance, and is NULL as soon as the destination has answered.
const PLEDGES: &str = "
CREATE TABLE question(
    id INTEGER PRIMARY KEY,
    transaction_id BLOB NOT NULL UNIQUE,
    destination TEXT NOT NULL,
    state INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    made_at INTEGER NOT NULL
) STRICT;
CREATE INDEX question_open ON question(state, destination, next_at) WHERE state <= 2;
CREATE TABLE pledge(
    inbound_id INTEGER PRIMARY KEY REFERENCES inbound(id),
    state INTEGER NOT NULL,
    grouping BLOB NOT NULL,
    sealed BLOB,
    question_id INTEGER REFERENCES question(id),
    wanted_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    outcome INTEGER,
    status INTEGER,
    decided_at INTEGER,
    receipt BLOB,
    settlement BLOB,
    manifest BLOB
) STRICT;
CREATE INDEX pledge_open ON pledge(state, inbound_id) WHERE state <= 4;
CREATE INDEX pledge_question ON pledge(question_id) WHERE question_id IS NOT NULL;
";
