use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wire::Urgency;

/// So many pieces of what is more urgent let one piece of what is less urgent pass: the ageing floor of the line.
const FLOOR_PIECES: u32 = 16;

/// Decides whose bytes go next over a connection that cannot carry them all: the most urgent bodies first, and now and
/// then a piece of the others, so that nobody starves. Where the connection is free nobody waits.
///
/// A piece is under way from when it asked until the connection has taken it; while it is, less urgent pieces stay
/// back. Bodies without credit have no piece under way: one that is stuck keeps nobody back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    // Never held across an await.
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// Pieces under way, by urgency.
    under_way: [u32; Urgency::COUNT],
    /// Pieces that went while a less urgent one stayed back, since the last of those passed; by who stays back.
    ahead: [u32; Urgency::COUNT],
    /// Pieces that stay back, by urgency.
    back: [u32; Urgency::COUNT],
}

impl State {
    /// Whether a piece may go now; then it is under way.
    fn enter(&mut self, urgency: Urgency) -> bool {
        let level = urgency.level();
        let is_kept_back = self.under_way.iter().skip(level + 1).any(|count| *count > 0);
        let floor = self.ahead.get_mut(level).is_some_and(|ahead| {
            let due = *ahead >= FLOOR_PIECES;
            if due {
                *ahead = 0;
            }
            due
        });
        if is_kept_back && !floor {
            return false;
        }
        add(&mut self.under_way, level, 1);
        true
    }

    fn leave(&mut self, urgency: Urgency) {
        let level = urgency.level();
        if let Some(count) = self.under_way.get_mut(level) {
            *count = count.saturating_sub(1);
        }
        for (back, ahead) in self.back.iter().zip(&mut self.ahead).take(level) {
            if *back > 0 {
                *ahead = ahead.saturating_add(1);
            }
        }
    }
}

fn add(counts: &mut [u32; Urgency::COUNT], level: usize, one: u32) {
    if let Some(count) = counts.get_mut(level) {
        *count = count.saturating_add(one);
    }
}

/// A piece under way; dropped when the connection has taken it, or will not.
pub(crate) struct UnderWay<'a> {
    gate: &'a Gate,
    urgency: Urgency,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.gate.lock().leave(self.urgency);
        self.gate.changed.notify_waiters();
    }
}

/// A piece that stays back.
struct Back<'a> {
    gate: &'a Gate,
    urgency: Urgency,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if let Some(count) = state.back.get_mut(self.urgency.level()) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a piece may go.
    pub(crate) async fn pass(&self, urgency: Urgency) -> UnderWay<'_> {
        if self.lock().enter(urgency) {
            return UnderWay { gate: self, urgency };
        }
        add(&mut self.lock().back, urgency.level(), 1);
        let _back = Back { gate: self, urgency };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listen before looking, else a change in between would be missed.
            changed.as_mut().enable();
            if self.lock().enter(urgency) {
                return UnderWay { gate: self, urgency };
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn less_urgent_pieces_stay_back_while_urgent_ones_are_under_way() {
        let gate = Gate::default();
        let urgent = gate.pass(Urgency::Urgent).now_or_never().unwrap();
        let mut normal = Box::pin(gate.pass(Urgency::Normal));
        let mut bulk = Box::pin(gate.pass(Urgency::Bulk));
        assert!(normal.as_mut().now_or_never().is_none() && bulk.as_mut().now_or_never().is_none());
        let another = gate.pass(Urgency::Urgent).now_or_never().unwrap();
        drop(urgent);
        assert!(normal.as_mut().now_or_never().is_none());
        drop(another);
        let normal = normal.now_or_never().unwrap();
        assert!(bulk.as_mut().now_or_never().is_none());
        drop(normal);
        drop(bulk.now_or_never().unwrap());
        assert_eq!(gate.lock().back, [0; Urgency::COUNT]);
        assert_eq!(gate.lock().under_way, [0; Urgency::COUNT]);
    }

    #[test]
    fn nobody_starves_while_urgent_pieces_never_end() {
        let gate = Gate::default();
        let mut under_way = gate.pass(Urgency::Urgent).now_or_never().unwrap();
        let mut bulk = Box::pin(gate.pass(Urgency::Bulk));
        assert!(bulk.as_mut().now_or_never().is_none());
        let mut pieces = 0;
        let passed = loop {
            let next = gate.pass(Urgency::Urgent).now_or_never().unwrap();
            drop(std::mem::replace(&mut under_way, next));
            pieces += 1;
            if let Some(passed) = bulk.as_mut().now_or_never() {
                break passed;
            }
        };
        assert_eq!(pieces, FLOOR_PIECES);
        drop(passed);
        assert!(gate.pass(Urgency::Bulk).now_or_never().is_none(), "one piece, not all of them");
        drop(under_way);
        assert!(gate.pass(Urgency::Bulk).now_or_never().is_some());
    }
}
