//! The settled ledger of gateway-in: which attempts went out to a destination, what it answered, and the
//! receipts, with what their senders signed about them.

mod key;
mod pledge;
mod rows;
mod schema;

use std::{fs::File, path::Path};

use base::{Attempt, DeliveryId, Name, Timestamp};
use rusqlite::Connection;

use crate::{
    InboundError, OpenError, StoreError,
    db::{self, Db, JobError},
    faults::{Faults, Kind},
    log::{self, NewLogProof, Receipts},
    outbox::IdPrefix,
};

pub use key::{LedgerKey, PledgedInstance};
pub use pledge::{
    Asked, DecidedPledge, Gathering, NewPledge, Pledge, PledgeState, Question, QuestionState, SignedPledge,
    Told,
};
pub use rows::{Answer, Arrival, InboundCounts, InboundRow, InboundState, Sent, Signature, UnsignedAnswer};

/// The durable side of gateway-in. One process per identity: the folder is locked. Each change is answered
/// after its transaction; reads see what was answered before. Clones share it.
///
/// The order of CUSTODY: [`Inbound::attempt_sent`] → last PDV → [`Inbound::answered`] → the batch is signed
/// → [`Inbound::signed`] → settlement → [`Inbound::acked`].
#[derive(Debug, Clone)]
pub struct Inbound {
    shared: std::sync::Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: Db,
    _lock: File,
}

impl Inbound {
    /// Opens the ledger of a folder, or makes an empty one. What was out when an earlier process ended has
    /// an unknown outcome from now on.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, OpenError> {
        Self::open_with(dir, now, Faults::none())
    }

    pub(crate) fn open_with(dir: &Path, now: Timestamp, faults: Faults) -> Result<Self, OpenError> {
        db::create_dir(dir)?;
        let lock = db::lock(dir)?;
        let mut connection = db::connect(dir, true)?;
        db::migrate(&mut connection, schema::STEPS)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(db::io_error(dir))?;
        rows::interrupt(&connection, now).map_err(|error| OpenError::Store(db::store_error(&error)))?;
        Ok(Self {
            shared: std::sync::Arc::new(Shared { db: Db::start(dir, connection, faults)?, _lock: lock }),
        })
    }

    /// Opens the ledger for one command of an operator beside the running daemon. It should only look.
    pub fn open_admin(dir: &Path) -> Result<Self, OpenError> {
        let connection = db::connect(dir, false)?;
        db::check_format(&connection, schema::STEPS)?;
        // Not the lock of the daemon: any open file will do in its place.
        let lock = File::open(dir).map_err(db::io_error(dir))?;
        Ok(Self {
            shared: std::sync::Arc::new(Shared {
                db: Db::start(dir, connection, Faults::none())?,
                _lock: lock,
            }),
        })
    }

    async fn change<T: Send + 'static>(
        &self,
        kind: Kind,
        run: impl FnOnce(&Connection) -> Result<T, JobError<InboundError>> + Send + 'static,
    ) -> Result<T, InboundError> {
        self.shared.db.writer.call(kind, run).await
    }

    /// Before the last PDV leaves: after a crash we know that we do not know. Answers whether an earlier
    /// attempt may have stored it, which makes this one a repeat (counted) and 0111 a success. Refused
    /// once it is settled, unless it was refused and this attempt is a later one.
    pub async fn attempt_sent(&self, arrival: Arrival, now: Timestamp) -> Result<Sent, InboundError> {
        self.change(Kind::InboundAttempt, move |connection| rows::attempt_sent(connection, &arrival, now))
            .await
    }

    /// The destination answered, and did not take it now; or the last PDV did not leave.
    pub async fn not_stored(
        &self,
        delivery: DeliveryId,
        attempt: Attempt,
        status: Option<base::Status>,
        now: Timestamp,
    ) -> Result<(), InboundError> {
        let run = move |connection: &Connection| rows::not_stored(connection, delivery, attempt, status, now);
        self.change(Kind::InboundAttempt, run).await
    }

    /// Time-out, abort or lost connection after the last PDV: only the destination knows.
    pub async fn outcome_unknown(
        &self,
        delivery: DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<(), InboundError> {
        let run = move |connection: &Connection| rows::outcome_unknown(connection, delivery, attempt, now);
        self.change(Kind::InboundAttempt, run).await
    }

    /// The destination's final answer, with all that is needed to sign and settle it after a crash.
    pub async fn answered(&self, answer: Answer, now: Timestamp) -> Result<(), InboundError> {
        self.change(Kind::InboundAnswer, move |connection| rows::answered(connection, &answer, now)).await
    }

    /// Answers that are durable and not signed, oldest first: all of them are signed at start.
    pub async fn unsigned(&self, limit: u32) -> Result<Vec<UnsignedAnswer>, StoreError> {
        self.shared.db.reader.call(move |connection| rows::unsigned(connection, limit)).await
    }

    /// The signatures of one batch, in one transaction. Settle after it.
    pub async fn signed(&self, batch: Vec<Signature>, now: Timestamp) -> Result<(), InboundError> {
        self.change(Kind::InboundSigned, move |connection| rows::signed(connection, &batch, now)).await
    }

    /// The sender has the receipt and countersigned it: the sealed copy goes, what both signed stays.
    pub async fn acked(
        &self,
        delivery: DeliveryId,
        attempt: Attempt,
        manifest: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), InboundError> {
        let run = move |connection: &Connection| rows::acked(connection, delivery, attempt, &manifest, now);
        self.change(Kind::InboundAcked, run).await
    }

    /// Proofs from a relay's log, beside the receipts that they are of.
    pub async fn logged(&self, proofs: Vec<NewLogProof>) -> Result<(), InboundError> {
        let run = move |connection: &Connection| Ok(log::store(connection, Receipts::Inbound, &proofs)?);
        self.change(Kind::Progress, run).await
    }

    /// What is known of a delivery: a signed row answers a repeat on its header alone.
    pub async fn lookup(&self, delivery: DeliveryId) -> Result<Option<InboundRow>, StoreError> {
        self.shared.db.reader.call(move |connection| rows::lookup(connection, delivery)).await
    }

    /// Attempts whose outcome nobody knows, oldest first.
    pub async fn unknown(&self, limit: u32) -> Result<Vec<InboundRow>, StoreError> {
        self.shared
            .db
            .reader
            .call(move |connection| rows::in_state(connection, InboundState::Unknown, limit))
            .await
    }

    /// Receipts that are signed and that the sender has not acknowledged, oldest first: settled again when
    /// a relay connects.
    pub async fn unacknowledged(&self, limit: u32) -> Result<Vec<InboundRow>, StoreError> {
        self.shared
            .db
            .reader
            .call(move |connection| rows::in_state(connection, InboundState::Signed, limit))
            .await
    }

    /// Of the latest deliveries, those with a signed receipt that no relay has proven to be in its log, the newest first.
    pub async fn unlogged(&self, limit: u32) -> Result<Vec<InboundRow>, StoreError> {
        self.shared.db.reader.call(move |connection| rows::unlogged(connection, limit)).await
    }

    /// Deliveries with a signed receipt and their sequence, oldest first, behind the sequence `after`.
    pub async fn receipts(&self, after: u64, limit: u32) -> Result<Vec<(u64, InboundRow)>, StoreError> {
        self.shared.db.reader.call(move |connection| rows::receipts(connection, after, limit)).await
    }

    /// Deliveries whose id begins with these hexadecimal digits (at least eight), newest first.
    pub async fn find(&self, digits: &str, limit: u32) -> Result<Vec<InboundRow>, StoreError> {
        let Some(prefix) = IdPrefix::parse(digits) else { return Ok(Vec::new()) };
        self.shared.db.reader.call(move |connection| rows::find(connection, &prefix, limit)).await
    }

    /// Numbers for a status page.
    pub async fn counts(&self) -> Result<InboundCounts, StoreError> {
        self.shared.db.reader.call(rows::counts).await
    }

    /// The error that has stopped the store, if one has.
    pub fn health(&self) -> Result<(), StoreError> {
        self.shared.db.health.index()
    }
}

/// What destinations are asked to commit.
impl Inbound {
    /// Makes a question of instances that belong together, where some have waited long enough. It is durable then, and
    /// has the transaction that the destination is to be sent.
    pub async fn question_gather(
        &self,
        destination: Name,
        transaction: [u8; 16],
        rule: Gathering,
        now: Timestamp,
    ) -> Result<Option<Question>, InboundError> {
        let run =
            move |connection: &Connection| pledge::gather(connection, &destination, transaction, rule, now);
        self.change(Kind::Commitment, run).await
    }

    /// Questions that the destination is to be sent now, oldest first: also those of an earlier run.
    pub async fn questions_due(
        &self,
        destination: Name,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Question>, StoreError> {
        let look = move |connection: &Connection| pledge::due(connection, &destination, now, limit);
        self.shared.db.reader.call(look).await
    }

    /// The question with this transaction, with the instances of which nothing is known.
    pub async fn question(&self, transaction: [u8; 16]) -> Result<Option<Question>, StoreError> {
        self.shared.db.reader.call(move |connection| pledge::by_transaction(connection, transaction)).await
    }

    /// The destination has taken the question, and has until then to report.
    pub async fn question_sent(&self, question: i64, report_until: Timestamp) -> Result<(), InboundError> {
        self.change(Kind::Commitment, move |connection| pledge::sent(connection, question, report_until))
            .await
    }

    /// It has not, and is sent it again.
    pub async fn question_unsent(&self, question: i64, again_at: Timestamp) -> Result<(), InboundError> {
        self.change(Kind::Commitment, move |connection| pledge::unsent(connection, question, again_at)).await
    }

    /// What the destination said of instances of a question, by their rows: answer its report after `Ok`, never before.
    pub async fn question_told(
        &self,
        question: i64,
        said: Vec<(i64, Told)>,
        now: Timestamp,
    ) -> Result<(), InboundError> {
        self.change(Kind::Commitment, move |connection| pledge::told(connection, question, &said, now)).await
    }

    /// Questions without a report in time are asked anew; what is wanted since `wanted_before` is given up. Answers how
    /// many of each.
    pub async fn questions_expire(
        &self,
        destination: Name,
        wanted_before: Timestamp,
        now: Timestamp,
    ) -> Result<(usize, usize), InboundError> {
        let run = move |connection: &Connection| pledge::expire(connection, &destination, wanted_before, now);
        self.change(Kind::Commitment, run).await
    }

    /// What is decided and not signed, and whose sender has acknowledged the first receipt.
    pub async fn pledges_to_sign(&self, limit: u32) -> Result<Vec<DecidedPledge>, StoreError> {
        self.shared.db.reader.call(move |connection| pledge::to_sign(connection, limit)).await
    }

    /// Second receipts of one batch. Settle after it.
    pub async fn pledges_signed(&self, batch: Vec<SignedPledge>) -> Result<(), InboundError> {
        self.change(Kind::InboundSigned, move |connection| pledge::signed(connection, &batch)).await
    }

    /// The sender has the second receipt.
    pub async fn pledge_acked(&self, delivery: DeliveryId, manifest: Vec<u8>) -> Result<(), InboundError> {
        self.change(Kind::InboundAcked, move |connection| pledge::acked(connection, delivery, &manifest))
            .await
    }

    /// Second receipts that the sender may not have, oldest first.
    /// A page of them: those behind `after`, which is 0 or the last one's place.
    pub async fn pledges_unacknowledged(&self, after: i64, limit: u32) -> Result<Vec<Pledge>, StoreError> {
        self.shared.db.reader.call(move |connection| pledge::unacknowledged(connection, after, limit)).await
    }

    /// First receipts that their senders may not have, and without which no second one is signed.
    pub async fn unacknowledged_before_pledges(&self, limit: u32) -> Result<Vec<InboundRow>, StoreError> {
        self.shared.db.reader.call(move |connection| rows::before_pledges(connection, limit)).await
    }

    /// Destinations that were asked, or are to be asked, and have not said it.
    pub async fn pledging_destinations(&self) -> Result<Vec<Name>, StoreError> {
        self.shared.db.reader.call(pledge::destinations).await
    }

    /// What is known of the pledge for a delivery.
    pub async fn pledge(&self, delivery: DeliveryId) -> Result<Option<Pledge>, StoreError> {
        self.shared.db.reader.call(move |connection| pledge::of(connection, delivery)).await
    }

    /// How many stand where, without those that are over.
    pub async fn pledge_counts(&self) -> Result<Vec<(PledgeState, u64)>, StoreError> {
        self.shared.db.reader.call(pledge::counts).await
    }
}
