//! The order in which one worker of a destination takes instances: the most urgent first, and in the order in which
//! they came among their equals.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use wire::Urgency;

/// One in so many is taken from the least urgent that wait, so that those never starve.
const FLOOR: u32 = 8;

/// Puts something into the queue.
#[derive(Debug, Clone)]
pub(super) struct Sender<T>(mpsc::Sender<(Urgency, T)>);

/// Takes from the queue.
#[derive(Debug)]
pub(super) struct Receiver<T> {
    arriving: mpsc::Receiver<(Urgency, T)>,
    waiting: Waiting<T>,
    max: usize,
}

/// A queue of at most about twice `max`: so many that nobody has looked at, and so many in their order.
pub(super) fn queue<T>(max: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, arriving) = mpsc::channel(max);
    (Sender(sender), Receiver { arriving, waiting: Waiting::default(), max })
}

impl<T> Sender<T> {
    /// False: the queue is full, or nobody takes from it any more.
    pub(super) fn put(&self, urgency: Urgency, one: T) -> bool {
        self.0.try_send((urgency, one)).is_ok()
    }
}

impl<T> Receiver<T> {
    /// The next one; `None` when all senders are gone and nothing is left. Cancel-safe.
    pub(super) async fn recv(&mut self) -> Option<T> {
        loop {
            while self.waiting.len() < self.max
                && let Ok((urgency, one)) = self.arriving.try_recv()
            {
                self.waiting.put(urgency, one);
            }
            if let Some(next) = self.waiting.take() {
                return Some(next);
            }
            let (urgency, one) = self.arriving.recv().await?;
            self.waiting.put(urgency, one);
        }
    }
}

#[derive(Debug)]
struct Waiting<T> {
    by_level: [VecDeque<T>; Urgency::COUNT],
    /// Taken since the least urgent had their turn, while they waited.
    ahead: u32,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { by_level: std::array::from_fn(|_| VecDeque::new()), ahead: 0 }
    }
}

impl<T> Waiting<T> {
    fn len(&self) -> usize {
        self.by_level.iter().map(VecDeque::len).sum()
    }

    fn put(&mut self, urgency: Urgency, one: T) {
        if let Some(level) = self.by_level.get_mut(urgency.level()) {
            level.push_back(one);
        }
    }

    fn take(&mut self) -> Option<T> {
        let lowest = self.by_level.iter().position(|level| !level.is_empty())?;
        let highest = self.by_level.iter().rposition(|level| !level.is_empty())?;
        let turn = lowest == highest || self.ahead + 1 >= FLOOR;
        self.ahead = if turn { 0 } else { self.ahead + 1 };
        self.by_level.get_mut(if turn { lowest } else { highest })?.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_urgent_go_first_and_the_others_never_starve() {
        let (sender, mut receiver) = queue(1000);
        for n in 0..100 {
            assert!(sender.put(Urgency::Bulk, ("bulk", n)));
        }
        for n in 0..20 {
            assert!(sender.put(Urgency::Normal, ("normal", n)) && sender.put(Urgency::Urgent, ("urgent", n)));
        }
        let order: Vec<_> = std::iter::from_fn(|| receiver.recv().now_or_never().flatten()).collect();
        assert_eq!(order.len(), 140);
        let places = |name: &str| -> Vec<usize> {
            let of = |(place, one): (usize, &(&str, i32))| (one.0 == name).then_some(place);
            order.iter().enumerate().filter_map(of).collect()
        };
        // Two bulk ones had their turn among twenty urgent ones.
        assert_eq!(*places("urgent").last().unwrap(), 21);
        assert_eq!(places("bulk")[..3], [7, 15, 23]);
        assert!(places("normal").iter().all(|place| *place > 21));
        for name in ["bulk", "normal", "urgent"] {
            let numbers: Vec<_> = order.iter().filter(|one| one.0 == name).map(|one| one.1).collect();
            assert!(numbers.is_sorted(), "{name} keeps its order");
        }
        drop(sender);
        assert_eq!(receiver.recv().now_or_never(), Some(None));
    }

    #[test]
    fn what_is_full_says_so() {
        let (sender, mut receiver) = queue(2);
        assert!(
            sender.put(Urgency::Bulk, 1) && sender.put(Urgency::Bulk, 2) && !sender.put(Urgency::Urgent, 3)
        );
        assert_eq!(receiver.recv().now_or_never(), Some(Some(1)));
        assert!(sender.put(Urgency::Urgent, 4));
        assert_eq!(receiver.recv().now_or_never(), Some(Some(4)));
        drop(receiver);
        assert!(!sender.put(Urgency::Bulk, 5));
    }
}
