//! Instances that a destination is asked to commit: asked once, told once, and told the sender only after the first receipt.

use super::{inbound_ledger::*, *};

const HERE: [u8; 16] = [7; 16];

fn rule(now: Timestamp) -> Gathering {
    let ago = |seconds: u64| Timestamp(now.0 - seconds * 1000);
    Gathering { quiet_since: ago(5), waited_since: ago(60), instances_max: 3 }
}

async fn stored(ledger: &Inbound, number: u8, group: u8, now: Timestamp) -> Arrival {
    let arrival = arrival(number, 1);
    ledger.attempt_sent(arrival.clone(), now).await.unwrap();
    let pledge = Some(NewPledge { group: [group; 16], sealed: vec![number; 40] });
    ledger.answered(Answer { pledge, ..answer(&arrival, Outcome::Stored) }, now).await.unwrap();
    arrival
}

async fn gather(ledger: &Inbound, transaction: u8, now: Timestamp) -> Option<Question> {
    ledger.question_gather(name("pacs1"), [transaction; 16], rule(now), now).await.unwrap()
}

fn numbers(question: &Question) -> Vec<u8> {
    question.instances.iter().map(|one| one.sealed[0]).collect()
}

async fn state(ledger: &Inbound, number: u8) -> (PledgeState, Option<Outcome>, Option<u16>) {
    let pledge = ledger.pledge(DeliveryId([number; 32])).await.unwrap().unwrap();
    (pledge.state, pledge.outcome, pledge.status.map(|status| status.0))
}

#[tokio::test]
async fn what_belongs_together_is_asked_for_together_once_it_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    for (number, group, second) in [(1, 1, 100), (2, 2, 100), (3, 1, 104)] {
        stored(&ledger, number, group, at(second)).await;
    }
    assert_eq!(gather(&ledger, 1, at(104)).await, None);
    assert_eq!(numbers(&gather(&ledger, 1, at(105)).await.unwrap()), [2], "the other group goes on");
    assert_eq!(gather(&ledger, 2, at(105)).await, None);
    assert_eq!(numbers(&gather(&ledger, 2, at(109)).await.unwrap()), [1, 3]);
    // A full question waits for nobody, nor does one that has waited for long.
    for number in 4..=7 {
        stored(&ledger, number, 3, at(200)).await;
    }
    assert_eq!(numbers(&gather(&ledger, 3, at(200)).await.unwrap()), [4, 5, 6]);
    for second in [230, 257, 260] {
        stored(&ledger, u8::try_from(second - 200).unwrap(), 3, at(second)).await;
    }
    assert_eq!(numbers(&gather(&ledger, 4, at(260)).await.unwrap()), [7, 30, 57]);
    let elsewhere = ledger.question_gather(name("pacs2"), [9; 16], rule(at(900)), at(900)).await.unwrap();
    assert_eq!(elsewhere, None, "each destination is asked for its own");
}

#[tokio::test]
async fn a_question_survives_and_is_answered_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    for number in 1..=3 {
        stored(&ledger, number, 1, at(1)).await;
    }
    let made = gather(&ledger, 7, at(10)).await.unwrap();
    drop(ledger);
    let ledger = Inbound::open(dir.path(), at(11)).unwrap();
    let due = |second| ledger.questions_due(name("pacs1"), at(second), 10);
    assert_eq!(due(11).await.unwrap(), std::slice::from_ref(&made));
    ledger.question_unsent(made.id, at(20)).await.unwrap();
    assert_eq!(due(19).await.unwrap(), []);
    assert_eq!(due(20).await.unwrap()[0].tries, 1);
    ledger.question_sent(made.id, at(100)).await.unwrap();
    assert_eq!(due(99).await.unwrap(), []);
    assert_eq!(ledger.question([8; 16]).await.unwrap(), None);
    let open = ledger.question(HERE).await.unwrap().unwrap();
    assert_eq!((open.state, numbers(&open)), (QuestionState::Sent, vec![1, 2, 3]));
    let row = |number: usize| open.instances[number].row;
    let said = vec![(row(0), Told::Committed), (row(1), Told::Refused(Status(0x0112)))];
    ledger.question_told(open.id, said, at(30)).await.unwrap();
    assert_eq!(numbers(&ledger.question(HERE).await.unwrap().unwrap()), [3], "a report may name a part");
    ledger.question_told(open.id, vec![(row(2), Told::Later(at(50)))], at(31)).await.unwrap();
    // Said again, and otherwise: the first word stands.
    ledger.question_told(open.id, vec![(row(0), Told::Refused(Status(0x0110)))], at(32)).await.unwrap();
    assert_eq!(state(&ledger, 1).await, (PledgeState::Decided, Some(Outcome::Stored), None));
    assert_eq!(state(&ledger, 2).await, (PledgeState::Decided, Some(Outcome::Refused), Some(0x0112)));
    assert_eq!(state(&ledger, 3).await, (PledgeState::Wanted, None, None));
    assert_eq!(ledger.question(HERE).await.unwrap().unwrap().state, QuestionState::Ended);
    assert_eq!(gather(&ledger, 9, at(49)).await, None);
    assert_eq!(numbers(&gather(&ledger, 9, at(50)).await.unwrap()), [3]);
}

#[tokio::test]
async fn silence_is_asked_anew_and_given_up_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    stored(&ledger, 1, 1, at(1)).await;
    let made = gather(&ledger, 7, at(10)).await.unwrap();
    ledger.question_sent(made.id, at(100)).await.unwrap();
    let expire = |wanted, now| ledger.questions_expire(name("pacs1"), at(wanted), at(now));
    assert_eq!(ledger.pledging_destinations().await.unwrap(), [name("pacs1")]);
    assert_eq!(expire(0, 99).await.unwrap(), (0, 0));
    assert_eq!(expire(0, 100).await.unwrap(), (1, 0));
    assert_eq!(expire(0, 100).await.unwrap(), (0, 0));
    assert_eq!(numbers(&gather(&ledger, 8, at(100)).await.unwrap()), [1]);
    assert_eq!(expire(1, 101).await.unwrap(), (0, 1));
    assert_eq!(state(&ledger, 1).await, (PledgeState::Decided, None, None));
    assert_eq!(ledger.questions_due(name("pacs1"), at(999), 10).await.unwrap(), []);
    assert_eq!(ledger.pledging_destinations().await.unwrap(), []);
}

#[tokio::test]
async fn the_sender_is_told_after_it_has_the_first_receipt_and_until_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Inbound::open(dir.path(), T0).unwrap();
    let arrival = stored(&ledger, 1, 1, at(1)).await;
    let made = gather(&ledger, 7, at(10)).await.unwrap();
    ledger.question_told(made.id, vec![(made.instances[0].row, Told::Committed)], at(11)).await.unwrap();
    let to_sign = || ledger.pledges_to_sign(10);
    assert_eq!(to_sign().await.unwrap(), []);
    ledger.signed(vec![signature(&arrival)], at(12)).await.unwrap();
    assert_eq!(to_sign().await.unwrap(), []);
    let [held_up] = ledger.unacknowledged_before_pledges(10).await.unwrap().try_into().unwrap();
    assert_eq!(held_up.arrival.delivery, arrival.delivery);
    ledger.acked(arrival.delivery, Attempt(1), COUNTERSIGNED.to_vec(), at(13)).await.unwrap();
    assert_eq!(ledger.unacknowledged_before_pledges(10).await.unwrap(), []);
    // Signed anew meanwhile: too late, and no fault.
    ledger.signed(vec![signature(&arrival)], at(14)).await.unwrap();
    let [decided] = to_sign().await.unwrap().try_into().unwrap();
    assert_eq!((decided.said, decided.status), (Some(Outcome::Stored), None));
    assert_eq!(decided.first, b"the receipt in clear");
    let second = SignedPledge { delivery: arrival.delivery, receipt: vec![2], settlement: vec![3] };
    ledger.pledges_signed(vec![second.clone()]).await.unwrap();
    assert_eq!(to_sign().await.unwrap(), []);
    assert_eq!(ledger.pledges_unacknowledged(0, 10).await.unwrap()[0].settlement, Some(vec![3]));
    // Signed anew, with other keys.
    let anew = SignedPledge { settlement: vec![4], ..second.clone() };
    ledger.pledges_signed(vec![anew]).await.unwrap();
    let [shown] = ledger.pledges_unacknowledged(0, 10).await.unwrap().try_into().unwrap();
    assert_eq!(shown.settlement, Some(vec![4]));
    assert_eq!(ledger.pledges_unacknowledged(shown.sequence, 10).await.unwrap(), [], "the next page");
    assert_eq!(ledger.pledge_counts().await.unwrap(), [(PledgeState::Signed, 1)]);
    for _ in 0..2 {
        ledger.pledge_acked(arrival.delivery, COUNTERSIGNED.to_vec()).await.unwrap();
        ledger.pledges_signed(vec![second.clone()]).await.unwrap();
    }
    assert_eq!(ledger.pledges_unacknowledged(0, 10).await.unwrap(), []);
    assert_eq!(state(&ledger, 1).await, (PledgeState::Acknowledged, Some(Outcome::Stored), None));
    assert_eq!(ledger.pledge_counts().await.unwrap(), []);
    assert_eq!(ledger.pledge(DeliveryId([9; 32])).await.unwrap(), None);
}

#[tokio::test]
async fn a_commitment_waits_for_the_second_receipt_where_the_first_one_promises_it() {
    let place = Place::new();
    let outbox = place.open();
    let sample = |number| Sample::new(number, number, 1).cut_through();
    for number in 1..=3 {
        sample(number).commit(&outbox, T0).await;
        let first = NewReceipt { pledge_follows: true, ..sample(number).receipt(1, 0) };
        outbox.settled_stored(first, at(1)).await.unwrap();
    }
    let asked = commitment::new(1, &[1, 2]);
    outbox.commitment_asked(asked.clone(), at(2)).await.unwrap();
    assert!(matches!(outbox.commitment_decide(asked.id, at(3)).await.unwrap(), Decided::NotYet(0)));
    let second = |number, status| NewReceipt {
        level: 2,
        receipt: b"second".to_vec(),
        ..sample(number).receipt(1, status)
    };
    let said = outbox.pledged(second(1, 0), Outcome::Stored, at(4)).await.unwrap();
    assert_eq!(said, Applied::Yes);
    // One word is enough, and the first one stands.
    let again = outbox.pledged(second(1, 0x0110), Outcome::Refused, at(5)).await.unwrap();
    assert_eq!(again, Applied::Already);
    assert!(matches!(outbox.commitment_decide(asked.id, at(6)).await.unwrap(), Decided::NotYet(1)));
    outbox.pledged(second(2, 0x0112), Outcome::Refused, at(7)).await.unwrap();
    assert_eq!(
        outbox.commitment_decide(asked.id, at(8)).await.unwrap(),
        Decided::Now { instances: 2, failed: 1 }
    );
    let report = outbox.commitment_report(asked.id).await.unwrap();
    assert_eq!(report.failed[0].1, Verdict::DestinationHasNot);
    let levels: Vec<_> = outbox
        .receipts_of(sample(2).delivery())
        .await
        .unwrap()
        .iter()
        .map(|receipt| (receipt.level, receipt.outcome))
        .collect();
    assert_eq!(levels, [(1, Outcome::Stored), (2, Outcome::Refused)]);
    let history = outbox.history(sample(2).delivery()).await.unwrap();
    assert!(
        history
            .iter()
            .any(|event| event.kind == EventKind::NotCommitted && event.status == Some(Status(0x0112)))
    );
}

#[tokio::test]
async fn an_outbox_of_the_format_before_keeps_its_receipts() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1).cut_through();
    sample.commit(&outbox, T0).await;
    outbox.settled_stored(sample.receipt(1, 0), at(1)).await.unwrap();
    let before = outbox.receipts_of(sample.delivery()).await.unwrap();
    outbox.close();
    // The table as it was in the format before this one.
    let connection = rusqlite::Connection::open(place.dir.join("index.db")).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE old(id INTEGER PRIMARY KEY, delivery_id INTEGER NOT NULL REFERENCES delivery(id),
                attempt INTEGER NOT NULL, outcome INTEGER NOT NULL, status INTEGER NOT NULL, level INTEGER NOT NULL,
                answered_at INTEGER NOT NULL, stored_at INTEGER NOT NULL, late INTEGER NOT NULL, receipt BLOB NOT NULL,
                settlement BLOB NOT NULL, manifest BLOB NOT NULL, UNIQUE(delivery_id, attempt)) STRICT;
            INSERT INTO old SELECT id, delivery_id, attempt, outcome, status, level, answered_at, stored_at, late, receipt,
                settlement, manifest FROM receipt;
            DROP TABLE receipt; ALTER TABLE old RENAME TO receipt;
            DROP TABLE report; ALTER TABLE object DROP COLUMN report; PRAGMA user_version = 3;",
        )
        .unwrap();
    drop(connection);
    let outbox = place.open_at(at(2));
    assert_eq!(outbox.receipts_of(sample.delivery()).await.unwrap(), before);
    let asked = commitment::new(1, &[1]);
    outbox.commitment_asked(asked.clone(), at(2)).await.unwrap();
    assert_eq!(
        outbox.commitment_decide(asked.id, at(3)).await.unwrap(),
        Decided::Now { instances: 1, failed: 0 }
    );
}
