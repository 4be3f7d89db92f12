//! The second receipt of a delivery: rebuilt from the first and a digest, or not at all.

use base::{Attempt, Digest, Status};
use ledger::{Level, Outcome, Pledge, Receipt, Remark};

use crate::common::receipt;

fn first() -> Receipt {
    Receipt { level: Level::Awaited, ..receipt(1) }
}

#[test]
fn the_sender_finds_each_pledge_by_its_digest() {
    let refused = |code| Pledge::Refused(Status(code));
    let cases = [
        (Pledge::Committed, Pledge::Committed),
        (Pledge::Unanswered, Pledge::Unanswered),
        (refused(0x0110), refused(0x0110)),
        (refused(0x0112), refused(0x0112)),
        (refused(0x0119), refused(0x0119)),
        (refused(0x0122), refused(0x0122)),
        (refused(0x0131), refused(0x0131)),
        (refused(0x0213), refused(0x0213)),
        // What the standard does not know says no more than the first.
        (refused(0xA700), refused(0x0110)),
        (refused(0), refused(0x0110)),
    ];
    for (said, found) in cases {
        let second = first().second(said);
        assert_eq!(first().second_of(Attempt(3), second.digest()), Some((found, second.clone())), "{said:?}");
        assert_eq!(second.level, Level::Committed);
        assert_eq!(second.outcome == Outcome::Stored, said == Pledge::Committed);
        assert_eq!(second.remark == Some(Remark::Unanswered), said == Pledge::Unanswered);
        assert_eq!(Receipt::decode(&second.encode()).unwrap(), second);
    }
}

#[test]
fn a_receipt_of_another_deposit_leads_to_the_same_second_one() {
    let second = Receipt { attempt: Attempt(1), ..first() }.second(Pledge::Committed);
    let (pledge, found) = first().second_of(Attempt(1), second.digest()).unwrap();
    assert_eq!((pledge, found.attempt), (Pledge::Committed, Attempt(1)));
    assert_eq!(first().second_of(Attempt(3), second.digest()), None);
}

#[test]
fn nothing_else_is_a_second_receipt() {
    let committed = first().second(Pledge::Committed).digest();
    let others = [
        Receipt { level: Level::Answered, ..first() },
        Receipt { outcome: Outcome::Refused, ..first() },
        Receipt { data_digest: Digest::of(b"other data"), ..first() },
        first().second(Pledge::Committed),
    ];
    for other in others {
        assert_eq!(other.second_of(Attempt(3), committed), None, "{:?}", other.level);
    }
    assert_eq!(first().second_of(Attempt(3), first().digest()), None);
    assert_eq!(first().second_of(Attempt(3), Digest::of(b"anything")), None);
}
