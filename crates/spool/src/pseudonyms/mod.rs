//! What is remembered of pseudonymization: under which key a study is, what was done to it, and what was refused and why.
//! Tags, counts, digests and keyed hashes only: nothing here leads to a patient without the index key.

mod done;
mod refused;
mod study;

pub use done::{Deed, DeedCount, StudyDeeds};
pub use refused::{NewRefusal, Refused, RefusedIds};

use base::{Digest, Phi, Timestamp};
use rusqlite::Connection;

use crate::{
    Outbox, Queue, StoreError,
    faults::Kind,
    outbox::Identifiers,
    record::{Identifier, identifier},
};

/// A step of the outbox's format. `study_key` holds a study under the key that it was first seen with; `deed` counts what was
/// done to the attributes of a study under a profile; `refusal` has the last instances that were refused.
pub(crate) const TABLES: &str = "
CREATE TABLE study_key(
    ring BLOB NOT NULL,
    study_hash BLOB NOT NULL,
    key BLOB NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY(ring, study_hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE deed_study(
    id INTEGER PRIMARY KEY,
    study_hash BLOB NOT NULL,
    profile BLOB NOT NULL,
    instances INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    UNIQUE(study_hash, profile)
) STRICT;
CREATE TABLE deed(
    deed_study_id INTEGER NOT NULL REFERENCES deed_study(id),
    attribute INTEGER NOT NULL,
    what TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY(deed_study_id, attribute, what)
) STRICT, WITHOUT ROWID;

CREATE TABLE refusal(
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    called TEXT NOT NULL,
    status INTEGER NOT NULL,
    reason TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    instance_hash BLOB NOT NULL,
    study_hash BLOB,
    series_hash BLOB,
    accession_hash BLOB,
    patient_hash BLOB
) STRICT;
CREATE INDEX refusal_instance ON refusal(instance_hash);
CREATE INDEX refusal_study ON refusal(study_hash) WHERE study_hash IS NOT NULL;
CREATE INDEX refusal_series ON refusal(series_hash) WHERE series_hash IS NOT NULL;
CREATE INDEX refusal_accession ON refusal(accession_hash) WHERE accession_hash IS NOT NULL;
CREATE INDEX refusal_patient ON refusal(patient_hash) WHERE patient_hash IS NOT NULL;
";

/// A later step. `object.report` is the SHA-256 of what was done to an instance, as the sender signs it; `report` has the
/// texts that these digests are of, each once for a study under a profile.
pub(crate) const REPORTS: &str = "
ALTER TABLE object ADD COLUMN report BLOB;
CREATE TABLE report(
    deed_study_id INTEGER NOT NULL REFERENCES deed_study(id),
    digest BLOB NOT NULL,
    instances INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY(deed_study_id, digest)
) STRICT, WITHOUT ROWID;
";

impl Outbox {
    /// Under which of a ring's keys a study is: the one that it was first seen with, and for a study that is new the
    /// `current` one, from now on and for ever. Durable when it is answered.
    pub async fn study_key(
        &self,
        ring: Digest,
        study: &Phi<String>,
        current: Digest,
        now: Timestamp,
    ) -> Result<Digest, StoreError> {
        let inner = self.inner();
        let study = identifier(&inner.context.index_key, Identifier::Study, study.reveal());
        let run = move |connection: &Connection| Ok(study::bind(connection, ring, study, current, now)?);
        inner.db.writer.call(Kind::Change, run).await
    }

    /// Adds what was done to an instance to what is known of its study, soon. A power failure may take the last of it back.
    pub fn pseudonymized(&self, deeds: StudyDeeds, now: Timestamp) {
        let inner = self.inner();
        let study = identifier(&inner.context.index_key, Identifier::Study, deeds.study.reveal());
        let run = move |connection: &Connection| Ok(done::add(connection, study, &deeds, now)?);
        inner.db.writer.submit(Kind::Progress, run, tell);
    }

    /// Keeps why an instance was refused, for `why`; soon.
    pub fn pseudonymization_refused(&self, refusal: NewRefusal, now: Timestamp) {
        let inner = self.inner();
        let hashes = refusal.hashes(&inner.context.index_key);
        let run = move |connection: &Connection| Ok(refused::add(connection, &refusal, &hashes, now)?);
        inner.db.writer.submit(Kind::Change, run, tell);
    }
}

/// Nobody waits for these: no custody rests on them.
fn tell(written: Result<(), StoreError>) {
    if let Err(error) = written {
        tracing::warn!(%error, "a note about pseudonymization could not be kept");
    }
}

impl Queue {
    /// The last instances that were refused, the latest first.
    pub async fn refusals(&self, limit: u32) -> Result<Vec<Refused>, StoreError> {
        self.inner().db.reader.call(move |connection| refused::last(connection, limit)).await
    }

    /// Those that a UID, accession number or patient id (as received) leads to.
    pub async fn refusals_of(&self, text: &str, limit: u32) -> Result<Vec<Refused>, StoreError> {
        let hashes = Identifiers::of(&self.inner().context.index_key, text);
        self.inner().db.reader.call(move |connection| refused::of(connection, &hashes, limit)).await
    }

    /// Under which of a ring's keys a study is known to be.
    pub async fn known_study_key(
        &self,
        ring: Digest,
        study: &Phi<String>,
    ) -> Result<Option<Digest>, StoreError> {
        let study = identifier(&self.inner().context.index_key, Identifier::Study, study.reveal());
        self.inner().db.reader.call(move |connection| study::known(connection, ring, study)).await
    }

    /// The text of a report on an instance of a study, by its digest.
    pub async fn report(&self, study: &str, digest: Digest) -> Result<Option<String>, StoreError> {
        let study = identifier(&self.inner().context.index_key, Identifier::Study, study);
        self.inner().db.reader.call(move |connection| done::report(connection, study, digest)).await
    }

    /// What was done to a study, under each profile, by its Study Instance UID as received.
    pub async fn deeds(&self, study: &str) -> Result<Vec<DeedCount>, StoreError> {
        let study = identifier(&self.inner().context.index_key, Identifier::Study, study);
        self.inner().db.reader.call(move |connection| done::of(connection, study)).await
    }
}
