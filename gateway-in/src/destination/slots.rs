//! How many associations a destination serves at one time, as far as it has shown.
//!
//! Some serve one: the next waits in their backlog until it times out. That is not a destination that is down. Workers stand in line
//! for a slot, and whoever is left out although a sibling's association stands takes its slot out of the game for a while.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// How long a slot stays out before it is tried again.
const NARROW_FOR: Duration = Duration::from_secs(10 * 60);
/// How long an association may go on while a sibling waits for its slot.
pub(super) const TURN: Duration = Duration::from_secs(10);

/// Slots of one destination. Who waits gets one in the order of asking.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    max: usize,
    waiting: AtomicUsize,
    standing: Arc<Standing>,
    // Owned by `take` and `narrow`; never held across an await.
    out: Mutex<Vec<Instant>>,
}

/// The associations that stand. The lock is never held across an await.
#[derive(Debug, Default)]
struct Standing(Mutex<Stood>);

#[derive(Debug, Default)]
struct Stood {
    count: usize,
    /// When the last one ended.
    until: Option<Instant>,
}

impl Standing {
    fn now(&self) -> MutexGuard<'_, Stood> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one stands, or stood at any time since. Its turn is over about when those time out that waited beside it.
    fn since(&self, moment: Instant) -> bool {
        let stood = self.now();
        stood.count > 0 || stood.until.is_some_and(|until| until > moment)
    }
}

/// A worker's, as long as it dials or its association stands.
#[derive(Debug)]
pub(super) struct Slot {
    permit: OwnedSemaphorePermit,
    taken: Instant,
    standing: Arc<Standing>,
    stands: bool,
}

impl Slot {
    /// The association stands.
    pub(super) fn stands(mut self) -> Self {
        self.standing.now().count += 1;
        self.stands = true;
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.stands {
            let mut stood = self.standing.now();
            stood.count -= 1;
            stood.until = Some(Instant::now());
        }
    }
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max)),
            max,
            waiting: AtomicUsize::new(0),
            standing: Arc::default(),
            out: Mutex::default(),
        }
    }

    /// Waits for a slot. Cancel-safe. `None` only when the destination has ended.
    pub(super) async fn take(&self) -> Option<Slot> {
        self.widen();
        let _waiting = Waiting::new(&self.waiting);
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(Slot { permit, taken: Instant::now(), standing: Arc::clone(&self.standing), stands: false })
    }

    /// Slots that were out for long enough are tried again.
    fn widen(&self) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let before = out.len();
        out.retain(|since| since.elapsed() < NARROW_FOR);
        self.free.add_permits(before - out.len());
    }

    /// Whether somebody waits for a slot.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The destination did not take an association in time. Where a sibling's stood meanwhile, this slot stays out; gives how many are
    /// left. Else the destination is not there, and the slot is free again.
    pub(super) fn narrow(&self, mut slot: Slot) -> Option<usize> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // That of the sibling is not this one; the last one is never taken all the same.
        if !self.standing.since(slot.taken) || out.len() + 1 >= self.max {
            // What was out was out beside siblings that are gone, too.
            self.free.add_permits(out.drain(..).count());
            return None;
        }
        if let Some(permit) = slot.permit.split(1) {
            permit.forget();
        }
        out.push(Instant::now());
        Some(self.max - out.len())
    }
}

/// Counts who waits, also when the wait is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_destination_that_serves_one_is_asked_by_one_until_it_is_tried_again() {
        let slots = Slots::new(3);
        let first = slots.take().await.unwrap().stands();
        let second = slots.take().await.unwrap();
        assert_eq!(slots.narrow(second), Some(2), "a sibling's stands");
        let third = slots.take().await.unwrap();
        assert_eq!(slots.narrow(third), Some(1));
        let mut waiting = std::pin::pin!(slots.take());
        assert!(waiting.as_mut().now_or_never().is_none() && slots.is_wanted());
        drop(first);
        let next = waiting.await.unwrap();
        assert!(!slots.is_wanted());
        assert_eq!(slots.narrow(next), None, "nobody's stands: it is not there");
        // The sibling's turn is over in the moment in which the others have waited for too long.
        let [first, second, third] = [(); 3].map(|()| slots.take().now_or_never().flatten().unwrap());
        let first = first.stands();
        tokio::time::advance(TURN).await;
        drop(first);
        assert_eq!((slots.narrow(second), slots.narrow(third)), (Some(2), Some(1)), "it stood meanwhile");
        let last = slots.take().await.unwrap();
        tokio::time::advance(TURN).await;
        assert_eq!(slots.narrow(last), None, "none has stood since");
        // Narrowed again, and tried again after a while.
        let first = slots.take().await.unwrap().stands();
        let second = slots.take().await.unwrap();
        assert_eq!(slots.narrow(second), Some(2));
        drop(first);
        tokio::time::advance(NARROW_FOR).await;
        let all = [slots.take().await.unwrap(), slots.take().await.unwrap(), slots.take().await.unwrap()];
        assert!(slots.take().now_or_never().is_none());
        drop(all);
    }
}
