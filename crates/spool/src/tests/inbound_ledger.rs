//! CUSTODY, "Repeats" and "Order of durable writes", at gateway-in.

use super::*;

pub(crate) const COUNTERSIGNED: &[u8] = b"countersigned";

pub(crate) fn arrival(number: u8, attempt: u32) -> Arrival {
    Arrival {
        delivery: DeliveryId([number; 32]),
        attempt: Attempt(attempt),
        object: ObjectId([number; 16]),
        sender: name("hospital-a"),
        route: route_id(1),
        destination: name("pacs1"),
        sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
        data_len: 1000,
    }
}

pub(crate) fn answer(arrival: &Arrival, outcome: Outcome) -> Answer {
    Answer {
        arrival: arrival.clone(),
        outcome,
        status: Status(if outcome == Outcome::Stored { 0 } else { 0xc000 }),
        level: 1,
        answered_at: at(1),
        receipt: b"the receipt in clear".to_vec(),
        record: b"the receipt sealed".to_vec(),
        pledge: None,
    }
}

pub(crate) fn signature(arrival: &Arrival) -> Signature {
    Signature { delivery: arrival.delivery, attempt: arrival.attempt, settlement: b"signed".to_vec() }
}

async fn ledger_state(ledger: &Inbound, number: u8) -> InboundState {
    ledger.lookup(DeliveryId([number; 32])).await.unwrap().unwrap().state
}

#[tokio::test]
async fn a_settled_delivery_is_answered_from_the_ledger_until_acknowledged_and_then_known_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    let first = arrival(1, 1);
    assert_eq!(ledger.lookup(first.delivery).await.unwrap(), None);
    assert_eq!(ledger.attempt_sent(first.clone(), T0).await, Ok(Sent { maybe_stored: false }));
    ledger.answered(answer(&first, Outcome::Stored), at(1)).await.unwrap();
    let unsigned = ledger.unsigned(10).await.unwrap();
    let want = UnsignedAnswer {
        delivery: first.delivery,
        attempt: first.attempt,
        receipt: b"the receipt in clear".to_vec(),
        record: b"the receipt sealed".to_vec(),
    };
    assert_eq!(unsigned, [want]);
    ledger.signed(vec![signature(&first)], at(2)).await.unwrap();
    ledger.signed(vec![signature(&first)], at(2)).await.unwrap();
    assert_eq!(ledger.unsigned(10).await.unwrap(), []);
    let row = ledger.lookup(first.delivery).await.unwrap().unwrap();
    assert_eq!((row.state, row.outcome, row.repeats), (InboundState::Signed, Some(Outcome::Stored), 0));
    assert_eq!(row.settlement.as_deref(), Some(b"signed".as_slice()));
    assert_eq!(row.record.as_deref(), Some(b"the receipt sealed".as_slice()));
    assert_eq!(ledger.unacknowledged(10).await.unwrap(), [row]);

    for attempt in [1, 2] {
        let again = arrival(1, attempt);
        assert_eq!(
            ledger.attempt_sent(again.clone(), at(3)).await,
            Err(InboundError::Settled(first.delivery))
        );
        let refused = ledger.answered(answer(&again, Outcome::Refused), at(3)).await;
        assert_eq!(refused, Err(InboundError::Settled(first.delivery)));
    }
    ledger.acked(first.delivery, Attempt(1), COUNTERSIGNED.to_vec(), at(4)).await.unwrap();
    ledger.acked(first.delivery, Attempt(1), COUNTERSIGNED.to_vec(), at(4)).await.unwrap();
    let row = ledger.lookup(first.delivery).await.unwrap().unwrap();
    assert_eq!((row.state, row.status), (InboundState::Acknowledged, Some(Status(0))));
    assert_eq!((row.record, row.manifest.as_deref()), (None, Some(COUNTERSIGNED)));
    assert!(row.receipt.is_some() && row.settlement.is_some(), "what both have signed stays");
    assert_eq!(ledger.attempt_sent(arrival(1, 3), at(5)).await, Err(InboundError::Settled(first.delivery)));
    let counts = ledger.counts().await.unwrap();
    assert_eq!(counts.states, [(InboundState::Acknowledged, 1)]);
    assert_eq!((counts.stored, counts.refused, counts.repeats), (1, 0, 0));
    let nobody = DeliveryId([9; 32]);
    assert_eq!(
        ledger.acked(nobody, Attempt(1), COUNTERSIGNED.to_vec(), T0).await,
        Err(InboundError::Unknown(nobody))
    );
}

#[tokio::test]
async fn a_repeat_is_counted_only_where_the_outcome_was_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    for (number, step, repeat) in [(1, "unknown", true), (2, "not stored", false), (3, "not reported", true)]
    {
        let first = arrival(number, 1);
        ledger.attempt_sent(first.clone(), T0).await.unwrap();
        match step {
            "unknown" => ledger.outcome_unknown(first.delivery, Attempt(1), T0).await.unwrap(),
            "not stored" => {
                let status = Some(Status(0xa700));
                ledger.not_stored(first.delivery, Attempt(1), status, T0).await.unwrap();
            }
            _ => {}
        }
        assert_eq!(
            ledger.attempt_sent(arrival(number, 2), at(1)).await,
            Ok(Sent { maybe_stored: repeat }),
            "{step}"
        );
        // A later refusal to take it says nothing of the attempt before.
        ledger.not_stored(first.delivery, Attempt(2), Some(Status(0xa700)), at(2)).await.unwrap();
        assert_eq!(
            ledger.attempt_sent(arrival(number, 3), at(3)).await,
            Ok(Sent { maybe_stored: repeat }),
            "{step}"
        );
        let row = ledger.lookup(first.delivery).await.unwrap().unwrap();
        assert_eq!(row.repeats, if repeat { 2 } else { 0 }, "{step}");
    }
    assert_eq!(ledger.counts().await.unwrap().repeats, 4);
}

#[tokio::test]
async fn reports_about_attempts_that_are_over_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    ledger.attempt_sent(arrival(1, 1), T0).await.unwrap();
    ledger.not_stored(arrival(1, 1).delivery, Attempt(1), None, T0).await.unwrap();
    ledger.attempt_sent(arrival(1, 2), T0).await.unwrap();
    ledger.outcome_unknown(arrival(1, 1).delivery, Attempt(1), T0).await.unwrap();
    assert_eq!(ledger_state(&ledger, 1).await, InboundState::Sent);
    ledger.answered(answer(&arrival(1, 2), Outcome::Stored), T0).await.unwrap();
    ledger.outcome_unknown(arrival(1, 2).delivery, Attempt(2), T0).await.unwrap();
    assert_eq!(ledger_state(&ledger, 1).await, InboundState::Answered);
    let stale = ledger.signed(vec![signature(&arrival(1, 1))], T0).await;
    assert_eq!(stale, Err(InboundError::Unknown(arrival(1, 1).delivery)));
    ledger.acked(arrival(1, 2).delivery, Attempt(2), COUNTERSIGNED.to_vec(), T0).await.unwrap();
    assert_eq!(ledger_state(&ledger, 1).await, InboundState::Answered, "not before it is signed");
}

#[tokio::test]
async fn a_refused_delivery_is_tried_again_by_a_later_attempt_only() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    let first = arrival(1, 1);
    // Refused before anything was sent: no presentation context was accepted.
    ledger.answered(answer(&first, Outcome::Refused), T0).await.unwrap();
    ledger.signed(vec![signature(&first)], T0).await.unwrap();
    assert_eq!(ledger.attempt_sent(first.clone(), T0).await, Err(InboundError::Settled(first.delivery)));
    assert_eq!(ledger.attempt_sent(arrival(1, 2), at(1)).await, Ok(Sent { maybe_stored: false }));
    let row = ledger.lookup(first.delivery).await.unwrap().unwrap();
    assert_eq!((row.state, row.outcome, row.settlement), (InboundState::Sent, None, None));
    ledger.answered(answer(&arrival(1, 2), Outcome::Stored), at(2)).await.unwrap();
    assert_eq!(ledger.attempt_sent(arrival(1, 3), at(3)).await, Err(InboundError::Settled(first.delivery)));
}

#[tokio::test]
async fn one_process_at_a_time_and_clones_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    assert!(matches!(Inbound::open(dir.path(), T0), Err(OpenError::Locked(_))));
    let clone = ledger.clone();
    drop(ledger);
    clone.attempt_sent(arrival(1, 1), T0).await.unwrap();
    let looking = Inbound::open_admin(dir.path()).unwrap();
    assert_eq!(ledger_state(&looking, 1).await, InboundState::Sent, "a look interrupts nothing");
    drop((clone, looking));
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    assert_eq!(ledger_state(&ledger, 1).await, InboundState::Unknown);
    assert!(matches!(Inbound::open_admin(&dir.path().join("nowhere")), Err(OpenError::NotInitialised(_))));
}

#[tokio::test]
async fn a_batch_is_signed_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    for number in 1..=3 {
        ledger.answered(answer(&arrival(number, 1), Outcome::Stored), T0).await.unwrap();
    }
    let batch = vec![signature(&arrival(1, 1)), signature(&arrival(9, 1)), signature(&arrival(2, 1))];
    assert!(ledger.signed(batch, T0).await.is_err());
    assert_eq!(ledger.unsigned(10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn receipts_are_listed_and_found_by_the_beginning_of_their_id() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    for number in 1..=4 {
        ledger.answered(answer(&arrival(number, 1), Outcome::Stored), T0).await.unwrap();
    }
    let signed = [1, 3, 4].map(|number| signature(&arrival(number, 1)));
    ledger.signed(signed.to_vec(), T0).await.unwrap();
    ledger.acked(arrival(3, 1).delivery, Attempt(1), COUNTERSIGNED.to_vec(), T0).await.unwrap();
    let page = ledger.receipts(0, 2).await.unwrap();
    let deliveries = |page: &[(u64, InboundRow)]| {
        page.iter().map(|(_, row)| row.arrival.delivery.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(deliveries(&page), [1, 3]);
    assert_eq!(page[1].1.manifest.as_deref(), Some(COUNTERSIGNED));
    assert_eq!(deliveries(&ledger.receipts(page[1].0, 2).await.unwrap()), [4]);
    let cases = [("02020202", 1), ("0202020202", 1), ("02020203", 0), ("0202", 0), ("not an id", 0)];
    for (digits, count) in cases {
        assert_eq!(ledger.find(digits, 5).await.unwrap().len(), count, "{digits}");
    }
}

#[tokio::test]
async fn receipts_without_a_proof_are_found_until_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    for number in 1..=4 {
        let first = arrival(number, 1);
        ledger.attempt_sent(first.clone(), T0).await.unwrap();
        ledger.answered(answer(&first, Outcome::Stored), at(1)).await.unwrap();
        if number < 4 {
            ledger.signed(vec![signature(&first)], at(2)).await.unwrap();
        }
    }
    let unlogged = async |limit| {
        let rows = ledger.unlogged(limit).await.unwrap();
        rows.into_iter().map(|row| row.arrival.delivery.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(unlogged(10).await, [3, 2, 1], "what is not signed yet has nothing to prove");
    let proof = NewLogProof {
        delivery: DeliveryId([2; 32]),
        attempt: Attempt(1),
        level: 1,
        proof: "proof".to_owned(),
        checkpoint: "checkpoint".to_owned(),
    };
    ledger.logged(vec![proof]).await.unwrap();
    assert_eq!((unlogged(10).await, unlogged(1).await), (vec![3, 1], vec![3]));
}
