//! Which worker of a destination takes an instance. A study stays with its worker, so that its instances keep their order, as far
//! as they are equally urgent; parallelism is across studies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{Name, Phi, Uid};
use tokio::{sync::oneshot, time::Instant};

use super::{Instance, NotAnswered, Outcome, queue};

/// Instances that wait for one worker. The windows that we grant to relays keep it far below; it is the backstop.
const JOBS_MAX: usize = 1024;

/// One instance and whoever waits for its outcome.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) instance: Instance,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// Hands instances to workers.
#[derive(Debug)]
pub(super) struct Dispatch {
    workers: Vec<queue::Sender<Job>>,
    // Owned by `assign`, `store` and `pending`; never held across an await.
    studies: Arc<Mutex<HashMap<StudyKey, Share>>>,
    linger: Duration,
}

type StudyKey = (Name, Option<Phi<Uid>>);

/// What one worker has of one study.
#[derive(Debug)]
struct Share {
    worker: usize,
    pending: usize,
    last: Instant,
}

impl Dispatch {
    /// To so many workers, each of which takes from one of the queues. A study is forgotten when none of it came for `linger`.
    pub(super) fn new(workers: usize, linger: Duration) -> (Self, Vec<queue::Receiver<Job>>) {
        let (workers, queues) = (0..workers).map(|_| queue::queue(JOBS_MAX)).unzip();
        (Self { workers, studies: Arc::default(), linger }, queues)
    }

    /// Instances that wait or are under way.
    pub(super) fn pending(&self) -> usize {
        let studies = self.studies.lock().unwrap_or_else(PoisonError::into_inner);
        studies.values().map(|share| share.pending).sum()
    }

    /// Queues an instance at once, in the order of the calls, and waits for its outcome.
    pub(super) fn store(&self, instance: Instance) -> impl Future<Output = Outcome> + use<> {
        let key = (instance.sender.clone(), instance.study.clone());
        let worker = self.assign(&key);
        let (reply, outcome) = oneshot::channel();
        let urgency = instance.urgency;
        let sent = self.workers.get(worker).is_some_and(|queue| queue.put(urgency, Job { instance, reply }));
        let studies = Arc::clone(&self.studies);
        async move {
            let outcome = if sent { outcome.await.ok() } else { None };
            let mut studies = studies.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(share) = studies.get_mut(&key) {
                share.pending = share.pending.saturating_sub(1);
                share.last = Instant::now();
            }
            outcome.unwrap_or(Outcome::NotAnswered(NotAnswered::Interrupted))
        }
    }

    /// The worker that has this study, or the one with the least to do.
    fn assign(&self, key: &StudyKey) -> usize {
        let now = Instant::now();
        let mut studies = self.studies.lock().unwrap_or_else(PoisonError::into_inner);
        studies.retain(|_, share| share.pending > 0 || now.duration_since(share.last) < self.linger);
        if let Some(share) = studies.get_mut(key) {
            share.pending += 1;
            return share.worker;
        }
        let load = |worker: usize| {
            studies.values().filter(|s| s.worker == worker).map(|s| s.pending + 1).sum::<usize>()
        };
        let worker = (0..self.workers.len()).min_by_key(|worker| load(*worker)).unwrap_or(0);
        studies.insert(key.clone(), Share { worker, pending: 1, last: now });
        worker
    }
}
