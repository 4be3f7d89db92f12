//! The second receipt of a delivery: what the destination said when it was asked for storage commitment.

use base::{Attempt, Digest, Status};

use crate::receipt::{Level, Outcome, Receipt, Remark};

/// What a destination said of an instance that it had stored (PS3.4 J.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pledge {
    /// It has committed itself.
    Committed,
    /// It does not commit, and says why: Failure Reason (0008,1197).
    Refused(Status),
    /// It did not say in time.
    Unanswered,
}

/// Failure Reasons that a second receipt knows (PS3.3 C.14.1.1); every other is the first of them, which says as little.
const REASONS: [u16; 6] = [0x0110, 0x0112, 0x0119, 0x0122, 0x0131, 0x0213];

impl Pledge {
    /// As a second receipt can say it.
    fn known(self) -> Self {
        match self {
            Self::Refused(status) if !REASONS.contains(&status.0) => Self::Refused(Status(0x0110)),
            other => other,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let refused = REASONS.into_iter().map(|code| Self::Refused(Status(code)));
        [Self::Committed, Self::Unanswered].into_iter().chain(refused)
    }
}

impl Receipt {
    /// The receipt that follows this one. It is this one but for what the pledge says, so that the sender, who has this
    /// one, needs to be told no more than its digest: the content key that seals records is gone by then.
    pub fn second(&self, pledge: Pledge) -> Self {
        let first = Self { level: Level::Committed, ..self.clone() };
        match pledge.known() {
            Pledge::Committed => first,
            Pledge::Refused(status) => Self { outcome: Outcome::Refused, status, ..first },
            Pledge::Unanswered => Self {
                outcome: Outcome::Refused,
                status: Status(0x0110),
                remark: Some(Remark::Unanswered),
                ..first
            },
        }
    }

    /// The second receipt of this one that has that digest. None where this one promised none.
    pub fn second_of(&self, attempt: Attempt, digest: Digest) -> Option<(Pledge, Self)> {
        if self.level != Level::Awaited || self.outcome != Outcome::Stored {
            return None;
        }
        // Other deposits of a delivery were answered with the same receipt but for the attempt.
        let first = Self { attempt, ..self.clone() };
        let each = Pledge::all().map(|pledge| (pledge, first.second(pledge)));
        each.into_iter().find(|(_, second)| second.digest() == digest)
    }
}
