//! When an instance is committed: the one rule, in one place.

use base::{Digest, Status, Uid};
use rusqlite::{Connection, Row};

use crate::{Means, Outcome, SealedFacts, State, Verdict, db::column::parsed, outbox::load_state};

/// `refused: SOP class not supported` (PS3.7 C.5.23); the one refusal that has a failure reason of its own.
const SOP_CLASS_NOT_SUPPORTED: Status = Status(0x0122);

/// Who asks, and for what kind of answer.
#[derive(Debug)]
pub(crate) struct Question {
    /// Hashes of the calling AE titles whose instances count.
    pub(crate) callers: Vec<[u8; 16]>,
    /// Hash of the AE title that was asked.
    pub(crate) called: [u8; 16],
    pub(crate) means: Means,
    /// What has not come yet may still come.
    pub(crate) may_arrive: bool,
}

/// A delivery that carries the instance.
#[derive(Debug, Clone)]
pub(crate) struct Carrier {
    pub(crate) called: [u8; 16],
    /// Which C-STORE of its source it carries; grows.
    pub(crate) sending: i64,
    pub(crate) state: State,
    pub(crate) status: Option<Status>,
    pub(crate) sop_class: Uid,
    pub(crate) profile: Digest,
    pub(crate) spooled: bool,
    /// What its receipts say.
    pub(crate) proof: Proof,
}

/// How far a destination has bound itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// There is no receipt that says stored.
    None,
    /// It has stored it.
    Stored,
    /// It has stored it, and is being asked to commit: the receiving gateway has signed that it will tell.
    Awaited,
    /// It has committed itself.
    Committed,
    /// It does not commit, for this reason.
    NotCommitted(Status),
}

/// What is to be said of an instance now; `None` as long as that is not decided.
pub(crate) fn judge(
    connection: &Connection,
    question: &Question,
    instance: &[u8; 16],
    sop_class: &Uid,
) -> rusqlite::Result<Option<Verdict>> {
    Ok(decide(question, carriers(connection, question, instance)?, sop_class))
}

fn carriers(
    connection: &Connection,
    question: &Question,
    instance: &[u8; 16],
) -> rusqlite::Result<Vec<Carrier>> {
    let sql = "SELECT f.calling, f.called, s.sending, d.state, d.status, o.sop_class, o.profile, o.spooled,
            (SELECT max(pledge_follows) FROM receipt WHERE delivery_id = d.id AND level = 1 AND outcome = 1),
            p.outcome, p.status
        FROM object o JOIN delivery d ON d.object_id = o.id JOIN sent s ON s.delivery_id = d.id
            JOIN source f ON f.id = s.source_id
            LEFT JOIN receipt p ON p.delivery_id = d.id AND p.level = 2
        WHERE o.instance_hash = ?1";
    let read = |row: &Row<'_>| {
        let carrier = Carrier {
            called: row.get(1)?,
            sending: row.get(2)?,
            state: load_state(row, 3)?,
            status: row.get::<_, Option<u16>>(4)?.map(Status),
            sop_class: parsed(row, 5, |text| Uid::parse(text).ok())?,
            profile: Digest(row.get(6)?),
            spooled: row.get(7)?,
            proof: proof(row)?,
        };
        Ok((row.get::<_, [u8; 16]>(0)?, carrier))
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut carriers = Vec::new();
    for row in statement.query_map([instance], read)? {
        let (calling, carrier) = row?;
        if question.callers.contains(&calling) {
            carriers.push(carrier);
        }
    }
    Ok(carriers)
}

fn proof(row: &Row<'_>) -> rusqlite::Result<Proof> {
    let pledge: Option<i64> = row.get(9)?;
    Ok(match (pledge.and_then(Outcome::from_code), row.get::<_, Option<bool>>(8)?) {
        (_, None) => Proof::None,
        (Some(Outcome::Stored), _) => Proof::Committed,
        (Some(Outcome::Refused), _) => Proof::NotCommitted(Status(row.get(10)?)),
        (None, Some(true)) => Proof::Awaited,
        (None, Some(false)) => Proof::Stored,
    })
}

/// What was sent to the AE title that is asked counts alone, if there is any; else what was sent to each of the others.
/// Of each the latest C-STORE counts, since that is what the sender still has; and of that every delivery.
fn decide(question: &Question, mut carriers: Vec<Carrier>, sop_class: &Uid) -> Option<Verdict> {
    if carriers.iter().any(|carrier| carrier.called == question.called) {
        carriers.retain(|carrier| carrier.called == question.called);
    }
    let latest = |carrier: &Carrier| {
        !carriers.iter().any(|other| other.called == carrier.called && other.sending > carrier.sending)
    };
    let latest: Vec<_> = carriers.iter().filter(|carrier| latest(carrier)).collect();
    if latest.is_empty() {
        return (!question.may_arrive).then_some(Verdict::NotReceived);
    }
    let each = latest.into_iter().map(|carrier| of_carrier(question.means, carrier, sop_class));
    // A failure decides at once, whatever the others still wait for.
    let (mut undecided, mut failed) = (false, None);
    for verdict in each {
        match verdict {
            None => undecided = true,
            Some(Verdict::Committed) => {}
            Some(other) => failed = failed.or(Some(other)),
        }
    }
    failed.or_else(|| (!undecided).then_some(Verdict::Committed))
}

fn of_carrier(means: Means, carrier: &Carrier, sop_class: &Uid) -> Option<Verdict> {
    if carrier.sop_class != *sop_class {
        return Some(Verdict::OtherClass);
    }
    // Never, whatever the destination says: the sender would delete the only original.
    if carrier.profile != SealedFacts::no_profile() {
        return Some(Verdict::Pseudonymized);
    }
    let refused = || match carrier.status {
        Some(SOP_CLASS_NOT_SUPPORTED) => Verdict::ClassRefused,
        _ => Verdict::Refused,
    };
    match carrier.state {
        State::Receipted | State::Purged => of_proof(means, carrier.proof),
        State::Refused => Some(refused()),
        State::Parked if carrier.status.is_some_and(is_refusal) => Some(refused()),
        State::Parked => Some(Verdict::Parked),
        State::Discarded => Some(Verdict::Discarded),
        State::Returned => Some(Verdict::Returned),
        State::Sealed
        | State::Relayed
        | State::Collected
        | State::Deferred
        | State::Held
        | State::WaitingForEarlier => {
            (means == Means::Outbox && carrier.spooled).then_some(Verdict::Committed)
        }
    }
}

/// Where the receiving gateway has promised to say whether the destination commits, nobody is told before, however
/// little he asked for; but what is enough in the outbox is enough at a destination.
fn of_proof(means: Means, proof: Proof) -> Option<Verdict> {
    match (proof, means) {
        (Proof::None, _) => None,
        (Proof::Stored, Means::Committed) => Some(Verdict::NotAsked),
        (Proof::Awaited, Means::Outbox) | (Proof::Stored | Proof::Committed, _) => Some(Verdict::Committed),
        (Proof::Awaited, _) => None,
        (Proof::NotCommitted(status), _) => Some(match status.0 {
            0x0112 => Verdict::DestinationHasNot,
            0x0119 => Verdict::DestinationConflict,
            0x0122 => Verdict::DestinationClass,
            _ => Verdict::DestinationFailed,
        }),
    }
}

/// A parked delivery's last status may be one that only asked to come again.
fn is_refusal(status: Status) -> bool {
    !matches!(status.0, 0xA700..=0xA7FF | 0x0110 | 0x0213)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    fn carrier(state: State) -> Carrier {
        Carrier {
            called: [1; 16],
            sending: 1,
            state,
            status: None,
            sop_class: class("1.2.840.10008.5.1.4.1.1.2"),
            profile: SealedFacts::no_profile(),
            spooled: true,
            proof: match state {
                State::Receipted | State::Purged => Proof::Stored,
                _ => Proof::None,
            },
        }
    }

    fn ask(means: Means, carriers: &[Carrier]) -> Option<Verdict> {
        let question = Question { callers: Vec::new(), called: [1; 16], means, may_arrive: false };
        decide(&question, carriers.to_vec(), &class("1.2.840.10008.5.1.4.1.1.2"))
    }

    #[test]
    fn each_state_has_its_verdict() {
        use Verdict::*;
        for state in State::ALL.iter().copied() {
            let (delivered, outbox) = match state {
                State::Receipted | State::Purged => (Some(Committed), Some(Committed)),
                State::Discarded => (Some(Discarded), Some(Discarded)),
                State::Refused => (Some(Refused), Some(Refused)),
                State::Returned => (Some(Returned), Some(Returned)),
                State::Parked => (Some(Parked), Some(Parked)),
                _ => (None, Some(Committed)),
            };
            assert_eq!(ask(Means::Delivered, &[carrier(state)]), delivered, "{state}");
            assert_eq!(ask(Means::Outbox, &[carrier(state)]), outbox, "{state}");
            let committed = Carrier { proof: Proof::Committed, ..carrier(state) };
            let want = delivered;
            assert_eq!(ask(Means::Committed, &[committed]), want, "{state}");
        }
        // What the outbox never held it cannot answer for.
        let unspooled = Carrier { spooled: false, ..carrier(State::Sealed) };
        assert_eq!(ask(Means::Outbox, &[unspooled]), None);
        let no_receipt = Carrier { proof: Proof::None, ..carrier(State::Purged) };
        assert_eq!(ask(Means::Delivered, &[no_receipt]), None);
    }

    #[test]
    fn nobody_is_told_before_a_destination_that_is_asked_has_answered() {
        let not = |code| Proof::NotCommitted(Status(code));
        let cases = [
            (Proof::Stored, Some(Verdict::Committed), Some(Verdict::NotAsked)),
            (Proof::Awaited, None, None),
            (Proof::Committed, Some(Verdict::Committed), Some(Verdict::Committed)),
            (not(0x0110), Some(Verdict::DestinationFailed), Some(Verdict::DestinationFailed)),
            (not(0x0112), Some(Verdict::DestinationHasNot), Some(Verdict::DestinationHasNot)),
            (not(0x0119), Some(Verdict::DestinationConflict), Some(Verdict::DestinationConflict)),
            (not(0x0122), Some(Verdict::DestinationClass), Some(Verdict::DestinationClass)),
            (not(0x0213), Some(Verdict::DestinationFailed), Some(Verdict::DestinationFailed)),
        ];
        for (proof, delivered, committed) in cases {
            let purged = Carrier { proof, ..carrier(State::Purged) };
            assert_eq!(ask(Means::Delivered, std::slice::from_ref(&purged)), delivered, "{proof:?}");
            assert_eq!(ask(Means::Committed, &[purged]), committed, "{proof:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_from_a_wait_that_was_too_long() {
        let cases = [
            (0x0122, Verdict::ClassRefused),
            (0xA900, Verdict::Refused),
            (0xC001, Verdict::Refused),
            (0xA700, Verdict::Parked),
            (0x0110, Verdict::Parked),
            (0x0213, Verdict::Parked),
        ];
        for (status, want) in cases {
            let parked = Carrier { status: Some(Status(status)), ..carrier(State::Parked) };
            assert_eq!(ask(Means::Delivered, &[parked]), Some(want), "{status:04X}");
        }
    }

    #[test]
    fn what_was_pseudonymized_is_never_committed() {
        for state in State::ALL.iter().copied() {
            for means in Means::ALL.iter().copied() {
                let changed =
                    Carrier { profile: Digest::of(b"a profile"), proof: Proof::Committed, ..carrier(state) };
                let both = [Carrier { proof: Proof::Committed, ..carrier(State::Purged) }, changed];
                assert_eq!(ask(means, &both), Some(Verdict::Pseudonymized), "{state} {means}");
            }
        }
    }

    #[test]
    fn every_delivery_of_the_latest_c_store_counts() {
        let stored = carrier(State::Purged);
        let waiting = carrier(State::Deferred);
        let refused = Carrier { status: Some(Status(0xC000)), ..carrier(State::Parked) };
        let later = |carrier: &Carrier| Carrier { sending: 2, ..carrier.clone() };
        let elsewhere = |carrier: &Carrier| Carrier { called: [2; 16], ..carrier.clone() };
        let cases: [(&[Carrier], Option<Verdict>); 9] = [
            (&[stored.clone(), stored.clone()], Some(Verdict::Committed)),
            (&[stored.clone(), waiting.clone()], None),
            (&[waiting.clone(), refused.clone(), stored.clone()], Some(Verdict::Refused)),
            // What came before under the same UID is what the sender has replaced.
            (&[refused.clone(), later(&stored)], Some(Verdict::Committed)),
            (&[stored.clone(), later(&waiting)], None),
            // Another route of ours does not matter, unless the one that is asked has never seen it.
            (&[stored.clone(), elsewhere(&refused)], Some(Verdict::Committed)),
            (&[elsewhere(&stored)], Some(Verdict::Committed)),
            (&[elsewhere(&stored), Carrier { called: [3; 16], ..waiting.clone() }], None),
            (&[], Some(Verdict::NotReceived)),
        ];
        for (number, (carriers, want)) in cases.into_iter().enumerate() {
            assert_eq!(ask(Means::Delivered, carriers), want, "case {number}");
        }
        let other = Carrier { sop_class: class("1.2.840.10008.5.1.4.1.1.4"), ..stored };
        assert_eq!(ask(Means::Delivered, &[other]), Some(Verdict::OtherClass));
        let waits = Question { callers: vec![], called: [1; 16], means: Means::Delivered, may_arrive: true };
        assert_eq!(decide(&waits, Vec::new(), &class("1.2")), None);
    }
}
