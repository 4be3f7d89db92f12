//! Signs outcomes in batches. One task owns it, so that one signature of each kind covers up to 256
//! instances, and each durable step is taken once for all of them.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base::Timestamp;
use futures_util::future::join_all;
use identity::IdentityKey;
use ledger::{BATCH_LEAVES_MAX, Head, Receipt, RootCache, Settlement, SettlementCore, sign_batch};
use service::{Live, own::LiveOwn, witness::LogWitness};
use spool::{Answer, Inbound, InboundError, InboundRow, Pledge, Signature, SignedPledge};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tracing::{error, info};

/// How long the first outcome of a batch waits for company, as long as there are deliveries under way that
/// could join it. A signature costs 2 ms of a core; at 250 instances a second this shares it among ten.
const BATCH_WAIT: Duration = Duration::from_millis(80);
/// Outcomes that wait for the signer; beyond it the deliveries wait.
const QUEUE_MAX: usize = 1024;

/// How one attempt ended.
#[derive(Debug)]
struct Ended {
    core: SettlementCore,
    /// For a final answer: what must be durable before it is signed.
    answered: Option<Answer>,
    reply: oneshot::Sender<Vec<u8>>,
}

/// Hands outcomes to the signing task.
#[derive(Debug, Clone)]
pub struct Signer {
    queue: mpsc::Sender<Ended>,
    under_way: Arc<AtomicUsize>,
}

/// Held while a delivery is under way: an outcome may come of it.
#[derive(Debug)]
pub struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Signer {
    /// Starts the signing task; it ends when the last handle is dropped.
    pub fn start(
        identity: Live<IdentityKey>,
        witnesses: Vec<Arc<LogWitness>>,
        inbound: Inbound,
        tasks: &mut service::Tasks,
    ) -> Self {
        let (queue, ended) = mpsc::channel(QUEUE_MAX);
        let under_way = Arc::new(AtomicUsize::new(0));
        tasks.spawn("signer", run(identity, witnesses, inbound, ended, Arc::clone(&under_way)));
        Self { queue, under_way }
    }

    /// A delivery begins.
    pub fn begin(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.under_way))
    }

    /// The encoded settlement. For a final answer, the answer was durable before it was signed and the
    /// receipt is durable now. `None` where a durable step failed: nothing is said, the lease ends, and
    /// the sender deposits again.
    pub async fn sign(&self, core: SettlementCore, answered: Option<Answer>) -> Option<Vec<u8>> {
        let (reply, settlement) = oneshot::channel();
        self.queue.send(Ended { core, answered, reply }).await.ok()?;
        settlement.await.ok()
    }
}

async fn run(
    identity: Live<IdentityKey>,
    witnesses: Vec<Arc<LogWitness>>,
    inbound: Inbound,
    mut queue: mpsc::Receiver<Ended>,
    under_way: Arc<AtomicUsize>,
) -> Result<(), Infallible> {
    while let Some(first) = queue.recv().await {
        let mut batch = vec![first];
        let until = Instant::now() + BATCH_WAIT;
        // Whoever is alone (a PACS that waits for each answer, mostly) waits for nobody.
        while batch.len() < BATCH_LEAVES_MAX.min(under_way.load(Ordering::Relaxed)) {
            match timeout_at(until, queue.recv()).await {
                Ok(Some(next)) => batch.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        // What we have seen of relays' logs goes with it, for the senders to compare.
        let heads = witnesses.iter().filter_map(|witness| witness.head()).collect();
        settle(&identity.now(), &inbound, batch, heads).await;
    }
    Ok(())
}

/// The order of durable writes: answers, signature, receipts; then whoever waits may speak. What could
/// not be recorded is not signed.
async fn settle(identity: &Arc<IdentityKey>, inbound: &Inbound, mut batch: Vec<Ended>, heads: Vec<Head>) {
    let now = Timestamp::now();
    // Together, so that they share a transaction.
    let recorded = join_all(batch.iter_mut().map(|ended| {
        let answered = ended.answered.take();
        async move {
            match answered {
                Some(answer) => inbound.answered(answer, now).await.map(|()| true),
                None => Ok(false),
            }
        }
    }));
    let mut finals = HashSet::new();
    let mut ready = Vec::new();
    let recorded = recorded.await;
    for (ended, recorded) in batch.into_iter().zip(recorded) {
        match recorded {
            Ok(is_final) => {
                if is_final {
                    finals.insert(ended.core.delivery);
                }
                ready.push(ended);
            }
            Err(error) => {
                error!(delivery = %ended.core.delivery.short(), %error, "an answer could not be recorded; it is not signed");
            }
        }
    }
    if ready.is_empty() {
        return;
    }
    let cores = ready.iter().map(|ended| ended.core.clone()).collect();
    let Some(signed) = sign(identity, cores, heads).await else { return };
    let receipts =
        signed.iter().filter(|settlement| finals.contains(&settlement.delivery())).map(signature).collect();
    if !finals.is_empty()
        && let Err(error) = inbound.signed(receipts, Timestamp::now()).await
    {
        error!(%error, "receipts could not be recorded; they are signed again at the next start");
        return;
    }
    for (ended, settlement) in ready.into_iter().zip(signed) {
        // Nobody waits any more only when the daemon is stopping; the ledger has the receipt.
        let _ = ended.reply.send(settlement.encode());
    }
}

fn signature(settlement: &Settlement) -> Signature {
    Signature {
        delivery: settlement.delivery(),
        attempt: settlement.attempt(),
        settlement: settlement.encode(),
    }
}

/// Signing is CPU work of some milliseconds: not on a task that others wait for.
pub(crate) async fn sign(
    identity: &Arc<IdentityKey>,
    cores: Vec<SettlementCore>,
    heads: Vec<Head>,
) -> Option<Vec<Settlement>> {
    let identity = Arc::clone(identity);
    match tokio::task::spawn_blocking(move || sign_batch(&identity, &cores, &heads)).await {
        Ok(Ok(signed)) => Some(signed),
        Ok(Err(error)) => {
            error!(%error, "batch could not be signed");
            None
        }
        Err(error) => {
            error!(%error, "signer stopped");
            None
        }
    }
}

/// Signs what an earlier run had recorded and not yet signed. Answers how many that were.
pub async fn sign_left_over(identity: &Arc<IdentityKey>, inbound: &Inbound) -> anyhow::Result<usize> {
    let mut count = 0;
    loop {
        let rows = inbound.unsigned(u32::try_from(BATCH_LEAVES_MAX).unwrap_or(u32::MAX)).await?;
        if rows.is_empty() {
            return Ok(count);
        }
        count += rows.len();
        let cores = rows
            .iter()
            .map(|row| Receipt::decode(&row.receipt).map(|receipt| SettlementCore::for_receipt(&receipt)))
            .collect::<Result<Vec<_>, _>>()?;
        let signed = sign(identity, cores, Vec::new())
            .await
            .ok_or_else(|| anyhow::anyhow!("answers of an earlier run cannot be signed"))?;
        inbound.signed(signed.iter().map(signature).collect(), Timestamp::now()).await?;
    }
}

/// What we have signed and its sender has not acknowledged.
pub(crate) trait Owed: Send {
    /// The receipt and its settlement.
    fn signed(&self) -> Option<(&[u8], &[u8])>;
    /// It has this settlement from now on.
    fn put(&mut self, settlement: Vec<u8>);
    /// Makes a batch of settlements durable.
    fn keep(
        inbound: &Inbound,
        batch: &[(Receipt, Settlement)],
    ) -> impl Future<Output = Result<(), InboundError>> + Send;
}

impl Owed for InboundRow {
    fn signed(&self) -> Option<(&[u8], &[u8])> {
        Some((self.receipt.as_deref()?, self.settlement.as_deref()?))
    }

    fn put(&mut self, settlement: Vec<u8>) {
        self.settlement = Some(settlement);
    }

    async fn keep(inbound: &Inbound, batch: &[(Receipt, Settlement)]) -> Result<(), InboundError> {
        let batch = batch.iter().map(|(_, settlement)| signature(settlement)).collect();
        inbound.signed(batch, Timestamp::now()).await
    }
}

impl Owed for Pledge {
    fn signed(&self) -> Option<(&[u8], &[u8])> {
        Some((self.receipt.as_deref()?, self.settlement.as_deref()?))
    }

    fn put(&mut self, settlement: Vec<u8>) {
        self.settlement = Some(settlement);
    }

    async fn keep(inbound: &Inbound, batch: &[(Receipt, Settlement)]) -> Result<(), InboundError> {
        inbound.pledges_signed(batch.iter().map(second).collect()).await
    }
}

/// A second receipt, as it is kept.
pub(crate) fn second((receipt, settlement): &(Receipt, Settlement)) -> SignedPledge {
    SignedPledge { delivery: receipt.delivery, receipt: receipt.encode(), settlement: settlement.encode() }
}

/// These as they are sent now: during a rotation, those that an earlier identity of ours has signed are signed anew, since
/// their senders may not count that signature for much longer. Nothing else of a receipt changes.
pub(crate) async fn present<T: Owed>(
    own: &LiveOwn,
    inbound: &Inbound,
    mut rows: Vec<T>,
) -> anyhow::Result<Vec<T>> {
    if own.now().card.earlier.is_none() {
        return Ok(rows);
    }
    let identity = own.identity();
    let (signer, mut cache) = (identity.public().clone(), RootCache::default());
    let mut is_ours = |row: &T| {
        row.signed().is_none_or(|(_, settlement)| {
            Settlement::decode(settlement).is_ok_and(|one| one.verify_cached(&signer, &mut cache).is_ok())
        })
    };
    let anew: Vec<_> = tokio::task::block_in_place(|| rows.iter_mut().filter(|row| !is_ours(row)).collect());
    let mut anew = anew.into_iter();
    loop {
        let mut batch: Vec<_> = anew.by_ref().take(BATCH_LEAVES_MAX).collect();
        if batch.is_empty() {
            return Ok(rows);
        }
        let receipts =
            batch.iter().filter_map(|row| row.signed()).map(|(receipt, _)| Receipt::decode(receipt));
        let receipts = receipts.collect::<Result<Vec<_>, _>>()?;
        let signed = sign(&identity, receipts.iter().map(SettlementCore::for_receipt).collect(), Vec::new())
            .await
            .ok_or_else(|| anyhow::anyhow!("receipts cannot be signed with the new keys"))?;
        let signed: Vec<_> = receipts.into_iter().zip(signed).collect();
        T::keep(inbound, &signed).await?;
        for (row, (_, settlement)) in batch.iter_mut().zip(&signed) {
            row.put(settlement.encode());
        }
        info!(receipts = signed.len(), "receipts that are not acknowledged are signed with the new keys");
    }
}
