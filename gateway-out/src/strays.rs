//! Answers for deliveries that this outbox does not know. The relay repeats what is not acknowledged, so
//! they must end some time; when, depends on what they are worth.
//!
//! An outbox that was restored from an older backup has no row of what came after it, and nothing is owed for
//! that here. But so does a wrong outbox, and the right one still waits for its receipts: what would end
//! custody there is left at the relay for so long that somebody reads the log.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base::{Attempt, DeliveryId, Timestamp};

/// How long a final answer is left at the relay after it was first seen in this run.
const FINAL_KEPT: Duration = Duration::from_secs(3600);
/// Strays that are remembered; beyond it they are left at the relay.
const STRAYS_MAX: usize = 10_000;

/// What is done with a stray answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Tell the operator that it is there; the relay keeps it.
    Tell,
    /// Nothing: it was told before.
    Leave,
    /// Tell the operator that it is given up, and acknowledge it.
    Acknowledge,
}

/// What a stray answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// A nack, a deferral, a notice: the far side has nothing, and whoever has the body deposits it again.
    Nothing,
    /// A receipt, or what cannot be read: perhaps some other outbox's custody ends with it.
    Custody,
}

/// The strays of this run. The lock guards the map only and is never held across an await.
#[derive(Debug, Default)]
pub struct Strays(Mutex<HashMap<(DeliveryId, Attempt), Timestamp>>);

impl Strays {
    /// Decides about one stray answer, which may have come before.
    pub fn judge(&self, delivery: DeliveryId, attempt: Attempt, worth: Worth, now: Timestamp) -> Verdict {
        if worth == Worth::Nothing {
            return Verdict::Acknowledge;
        }
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seen.len();
        match seen.get(&(delivery, attempt)) {
            Some(first) if now.since(*first) >= FINAL_KEPT => {
                seen.remove(&(delivery, attempt));
                Verdict::Acknowledge
            }
            Some(_) => Verdict::Leave,
            None if count >= STRAYS_MAX => Verdict::Leave,
            None => {
                seen.insert((delivery, attempt), now);
                Verdict::Tell
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVERY: DeliveryId = DeliveryId([7; 32]);

    #[test]
    fn what_is_worth_nothing_ends_at_once_and_a_receipt_only_after_it_was_told() {
        let strays = Strays::default();
        let start = Timestamp(1_000_000);
        let judge = |worth, at: Timestamp| strays.judge(DELIVERY, Attempt(1), worth, at);
        assert_eq!(judge(Worth::Nothing, start), Verdict::Acknowledge);
        assert_eq!(judge(Worth::Custody, start), Verdict::Tell);
        let cases = [
            (Duration::ZERO, Verdict::Leave),
            (Duration::from_secs(60), Verdict::Leave),
            (FINAL_KEPT - Duration::from_millis(1), Verdict::Leave),
            (FINAL_KEPT, Verdict::Acknowledge),
            // The acknowledgement may have been lost: the relay says it again, and it is told again.
            (FINAL_KEPT, Verdict::Tell),
        ];
        for (after, verdict) in cases {
            assert_eq!(judge(Worth::Custody, start.after(after)), verdict, "{after:?}");
        }
    }

    #[test]
    fn attempts_are_told_apart_and_no_number_of_them_takes_all_memory() {
        let strays = Strays::default();
        let judge = |attempt| strays.judge(DELIVERY, Attempt(attempt), Worth::Custody, Timestamp(0));
        let max = u32::try_from(STRAYS_MAX).unwrap();
        assert!((0..max).all(|attempt| judge(attempt) == Verdict::Tell));
        assert_eq!(judge(max), Verdict::Leave);
    }
}
