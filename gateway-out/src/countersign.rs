//! Signs, in batches, what was sent: the acknowledgement of a receipt carries it, so that whoever holds
//! the receipt can prove who sent. One task owns it, so that one signature of each kind covers up to 256.

use std::{convert::Infallible, sync::Arc, time::Duration};

use identity::IdentityKey;
use ledger::{BATCH_LEAVES_MAX, Head, Manifest, ManifestCore, sign_manifests};
use service::{Live, witness::LogWitness};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// How long the first of a batch waits for company, where nobody waits for it. A signature costs 1 ms of
/// a core; at 250 instances a second this shares it among twelve.
const BATCH_WAIT: Duration = Duration::from_millis(50);
/// Receipts that wait for it; beyond it their recording waits.
const QUEUE_MAX: usize = 1024;

/// What is to be signed.
#[derive(Debug)]
struct Sent {
    core: ManifestCore,
    /// Somebody waits for this one: its batch is closed at once.
    urgent: bool,
    reply: oneshot::Sender<Vec<u8>>,
}

/// Hands to the signing task what was sent.
#[derive(Debug, Clone)]
pub struct Countersign(mpsc::Sender<Sent>);

/// The signing task's own end of [`Countersign`].
#[derive(Debug)]
pub struct ToSign(mpsc::Receiver<Sent>);

impl Countersign {
    /// Both ends.
    pub fn new() -> (Self, ToSign) {
        let (queue, sent) = mpsc::channel(QUEUE_MAX);
        (Self(queue), ToSign(sent))
    }

    /// The encoded manifest. `None` where it cannot be signed: the receipt is not recorded then, and comes
    /// again.
    pub async fn sign(&self, core: ManifestCore, urgent: bool) -> Option<Vec<u8>> {
        let (reply, manifest) = oneshot::channel();
        self.0.send(Sent { core, urgent, reply }).await.ok()?;
        manifest.await.ok()
    }
}

/// Signs until `stop` ends.
pub async fn run(
    identity: Live<IdentityKey>,
    witnesses: Vec<Arc<LogWitness>>,
    ToSign(mut queue): ToSign,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let first = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            first = queue.recv() => first,
        };
        let Some(first) = first else { return Ok(()) };
        let batch = gather(first, &mut queue).await;
        // What we have seen of relays' logs goes with it, for the receiver to compare.
        let heads = witnesses.iter().filter_map(|witness| witness.head()).collect();
        sign(identity.now(), batch, heads).await;
    }
}

/// The first one and those that come soon after it.
async fn gather(first: Sent, queue: &mut mpsc::Receiver<Sent>) -> Vec<Sent> {
    let until = Instant::now() + BATCH_WAIT;
    let mut urgent = first.urgent;
    let mut batch = vec![first];
    while batch.len() < BATCH_LEAVES_MAX {
        let next = match urgent {
            true => queue.try_recv().ok(),
            false => timeout_at(until, queue.recv()).await.ok().flatten(),
        };
        let Some(next) = next else { break };
        urgent |= next.urgent;
        batch.push(next);
    }
    batch
}

/// Signing is CPU work of a millisecond: not on a task that others wait for.
async fn sign(identity: Arc<IdentityKey>, batch: Vec<Sent>, heads: Vec<Head>) {
    // Of several keys that we may have had meanwhile, it names those that sign.
    let sender = identity.fingerprint();
    let named = |sent: Sent| (ManifestCore { sender, ..sent.core }, sent.reply);
    let (cores, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(named).unzip();
    let signed = tokio::task::spawn_blocking(move || sign_manifests(&identity, &cores, &heads));
    let manifests = match signed.await {
        Ok(Ok(manifests)) => manifests,
        Ok(Err(error)) => return error!(%error, "what was sent could not be signed"),
        Err(error) => return error!(%error, "the signer of what was sent stopped"),
    };
    for (manifest, reply) in manifests.iter().map(Manifest::encode).zip(replies) {
        // Nobody waits any more only when the daemon is stopping; the settlement comes again.
        let _ = reply.send(manifest);
    }
}

#[cfg(test)]
mod tests {
    use base::{Attempt, DeliveryId, Digest, Fingerprint, Name, ObjectId, Secret};

    use super::*;

    fn identity() -> Arc<IdentityKey> {
        let name = Name::parse("utrecht").unwrap();
        Arc::new(IdentityKey::generate(name, &Secret::new([1; identity::SEEDS_BYTES])))
    }

    fn core(number: u8) -> ManifestCore {
        ManifestCore {
            delivery: DeliveryId([number; 32]),
            attempt: Attempt(1),
            object: ObjectId([number; 16]),
            body_digest: Digest::of(&[number]),
            sender: identity().fingerprint(),
            receiver: Fingerprint([9; 32]),
            receipt: Digest::of(b"receipt"),
            report: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_together_shares_a_signature_and_nobody_waits_for_the_urgent() {
        let (countersign, queue) = Countersign::new();
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(Live::new(identity()), Vec::new(), queue, stop.clone()));
        let begun = Instant::now();
        let together = futures_util::future::join_all((0..5).map(|n| countersign.sign(core(n), false))).await;
        assert!(begun.elapsed() >= BATCH_WAIT);
        let roots = (0u8..).zip(together).map(|(number, manifest)| {
            let manifest = Manifest::decode(&manifest.unwrap()).unwrap();
            manifest.verify(identity().public()).unwrap();
            assert_eq!(manifest.core, core(number), "each gets its own");
            manifest.proof.root
        });
        assert_eq!(roots.collect::<std::collections::HashSet<_>>().len(), 1);

        let begun = Instant::now();
        let pair = tokio::join!(countersign.sign(core(6), false), countersign.sign(core(7), true));
        assert!(begun.elapsed() < BATCH_WAIT, "the urgent one closes the batch");
        let pair = [pair.0, pair.1].map(|manifest| Manifest::decode(&manifest.unwrap()).unwrap());
        assert_eq!(pair[0].proof.root, pair[1].proof.root);
        stop.cancel();
        task.await.unwrap().unwrap();
        assert_eq!(countersign.sign(core(8), false).await, None);
    }
}
