//! CUSTODY, "What ends custody", at gateway-out.

use base::BootId;

use super::*;

const BOOT: BootId = BootId([1; 16]);
const OTHER: BootId = BootId([2; 16]);

#[tokio::test]
async fn the_ordinary_way_ends_with_key_record_and_body_gone_and_the_row_kept() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1).cut_through();
    assert_eq!(sample.commit(&outbox, at(2)).await, [Decision::New { changed_content: false }]);
    let delivery = sample.delivery();
    let row_then = row(&outbox, delivery).await;
    assert_eq!((row_then.state, row_then.attempt, row_then.running), (State::Sealed, Attempt(1), true));
    assert_eq!(row_then.sealed, sample.sealed());
    assert_eq!(due(&outbox, at(9)).await, [], "its first attempt is under way");
    assert_eq!(outbox.relayed(delivery, Attempt(1), BOOT, at(3)).await, Ok(Applied::Yes));
    assert_eq!(outbox.relayed(delivery, Attempt(1), BOOT, at(3)).await, Ok(Applied::Already));
    assert_eq!(outbox.collected(delivery, Attempt(1), at(4)).await, Ok(Applied::Yes));
    assert_eq!(outbox.collected(delivery, Attempt(1), at(4)).await, Ok(Applied::Already));
    assert!(has_key(&outbox, &sample).await);
    let reader = outbox.body(sample.object).unwrap();
    let settled = outbox.settled_stored(sample.receipt(1, 0xb000), at(6)).await.unwrap();
    let want =
        Settled { applied: Applied::Yes, state: State::Receipted, object_ended: true, released: false };
    assert_eq!(settled, want);
    assert!(!has_key(&outbox, &sample).await);
    outbox.close();

    assert_eq!(place.bodies(), Vec::<String>::new());
    let mut read = vec![0; sample.body().len()];
    reader.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, sample.body(), "an open reader survives the purge");
    let outbox = place.open_at(at(100));
    let row = row(&outbox, delivery).await;
    assert_eq!(row.received_at, at(2));
    assert_eq!((row.state, row.status, row.ended_at), (State::Purged, Some(Status(0xb000)), Some(at(6))));
    let events = outbox.history(delivery).await.unwrap();
    let want = [
        (EventKind::Received, at(2), 0),
        (EventKind::Sealed, at(2), 0),
        (EventKind::Attempt, at(2), 1),
        (EventKind::Relayed, at(3), 1),
        (EventKind::Collected, at(4), 1),
        (EventKind::Stored, at(1), 1),
        (EventKind::Receipted, at(6), 1),
        (EventKind::Purged, at(6), 1),
    ];
    let got: Vec<_> = events.iter().map(|one| (one.kind, one.at, one.attempt.0)).collect();
    assert_eq!(got, want);
    let receipt = outbox.receipt(ReceiptId { delivery, attempt: Attempt(1) }).await.unwrap().unwrap();
    assert_eq!(receipt.receipt, sample.receipt(1, 0xb000).receipt);
    assert_eq!((receipt.outcome, receipt.body_digest), (Outcome::Stored, sample.sealed().body_digest));
    assert_eq!(outbox.receipts(None, 10).await.unwrap(), std::slice::from_ref(&receipt));
    assert_eq!(outbox.receipts(Some(receipt.sequence), 10).await.unwrap(), []);
    assert_eq!(outbox.usage().unwrap().bytes_used, 0);
}

#[tokio::test]
async fn steps_that_come_with_the_receipt_are_written_as_if_they_had_been_reported() {
    let place = Place::new();
    let outbox = place.open();
    let (reported, carried) = (Sample::new(1, 1, 1).cut_through(), Sample::new(2, 2, 2).cut_through());
    let step = |sample: &Sample, attempt, step, seconds| Progress {
        delivery: sample.delivery(),
        attempt: Attempt(attempt),
        step,
        at: at(seconds),
    };
    for sample in [&reported, &carried] {
        sample.commit(&outbox, at(2)).await;
    }
    for one in [step(&reported, 1, Step::Collected, 3), step(&reported, 1, Step::Relayed(BOOT), 4)] {
        assert_eq!(outbox.progress(one).await, Ok(Applied::Yes));
    }
    outbox.settled_stored(reported.receipt(1, 0), at(6)).await.unwrap();
    let mut receipt = carried.receipt(1, 0);
    receipt.progress = vec![
        step(&carried, 1, Step::Collected, 3),
        step(&carried, 1, Step::Relayed(BOOT), 4),
        // Neither of these is about it as it stands.
        step(&carried, 2, Step::Collected, 5),
        step(&reported, 1, Step::Collected, 5),
    ];
    outbox.settled_stored(receipt.clone(), at(6)).await.unwrap();
    assert_eq!(outbox.settled_stored(receipt.clone(), at(7)).await.unwrap().applied, Applied::Already);
    let mut lives = Vec::new();
    for sample in [&reported, &carried] {
        let events = outbox.history(sample.delivery()).await.unwrap();
        lives.push(events.iter().map(|one| (one.kind, one.at, one.attempt)).collect::<Vec<_>>());
        assert!(row(&outbox, sample.delivery()).await.state.is_ended());
    }
    // The purge comes when it comes.
    for life in &mut lives {
        life.retain(|(kind, ..)| *kind != EventKind::Purged);
    }
    assert_eq!(lives[0], lives[1]);
    assert!(lives[1].iter().any(|(kind, ..)| *kind == EventKind::Collected));

    // A refusal takes them along, too; and what is late, or of nobody, changes nothing.
    let refused = Sample::new(3, 3, 3).cut_through();
    refused.commit(&outbox, at(8)).await;
    let mut receipt = refused.receipt(1, 0xc000);
    receipt.progress = vec![step(&refused, 1, Step::Relayed(BOOT), 9)];
    assert_eq!(outbox.refused(receipt, at(10)).await.unwrap().state, State::Parked);
    let kinds: Vec<_> =
        outbox.history(refused.delivery()).await.unwrap().iter().map(|one| one.kind).collect();
    assert!(kinds.contains(&EventKind::Relayed) && kinds.contains(&EventKind::Parked), "{kinds:?}");
    let unknown = Sample::new(9, 9, 9);
    let waiting = Sample::new(4, 4, 4).cut_through();
    waiting.commit(&outbox, at(11)).await;
    let steps = vec![
        step(&unknown, 1, Step::Collected, 12),
        step(&reported, 1, Step::Relayed(OTHER), 12),
        step(&waiting, 1, Step::Relayed(OTHER), 12),
    ];
    outbox.progress_all(steps).await.unwrap();
    let states = [&reported, &refused, &waiting].map(|sample| row(&outbox, sample.delivery()));
    let [reported, refused, waiting] = states;
    assert!(reported.await.state.is_ended());
    assert_eq!((refused.await.state, waiting.await.state), (State::Parked, State::Relayed));
}

#[tokio::test]
async fn a_refusal_parks_and_erases_nothing() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1).cut_through();
    sample.commit(&outbox, T0).await;
    let settled = outbox.refused(sample.receipt(1, 0xc000), at(1)).await.unwrap();
    assert_eq!((settled.applied, settled.state, settled.object_ended), (Applied::Yes, State::Parked, false));
    let parked = row(&outbox, sample.delivery()).await;
    assert!(parked.alarm && parked.status == Some(Status(0xc000)));
    assert_eq!(parked.reason.as_deref(), Some("the destination refused it with 0xC000"));
    assert_eq!(due(&outbox, at(1_000_000)).await, []);
    outbox.close();
    let outbox = place.open_at(at(2));
    assert!(has_key(&outbox, &sample).await);
    assert_eq!(place.bodies().len(), 1);
    assert_eq!(outbox.receipts_of(sample.delivery()).await.unwrap()[0].outcome, Outcome::Refused);

    // The operator has the far side repaired and tries again. The old refusal, coming again, changes nothing.
    assert_eq!(outbox.retry(sample.delivery(), operator(), at(3)).await, Ok(State::Sealed));
    assert_eq!(outbox.start_attempt(sample.delivery(), at(3)).await, Ok(Attempt(2)));
    let settled = outbox.refused(sample.receipt(1, 0xc000), at(4)).await.unwrap();
    assert_eq!((settled.applied, settled.state), (Applied::Already, State::Sealed));
    let settled = outbox.settled_stored(sample.receipt(2, 0), at(5)).await.unwrap();
    assert_eq!((settled.state, settled.object_ended), (State::Receipted, true));
    let row = row(&outbox, sample.delivery()).await;
    assert!(!row.alarm && row.reason.is_none());
}

#[tokio::test]
async fn one_stored_receipt_is_kept_though_several_deposits_were_answered() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    sample.commit(&outbox, T0).await;
    for (attempt, applied) in
        [(2, Applied::Yes), (1, Applied::Already), (2, Applied::Already), (3, Applied::Already)]
    {
        let settled = outbox.settled_stored(sample.receipt(attempt, 0), at(1)).await.unwrap();
        assert_eq!(settled.applied, applied, "{attempt}");
    }
    let kept = outbox.receipts_of(sample.delivery()).await.unwrap();
    assert_eq!(kept.iter().map(|receipt| receipt.id.attempt).collect::<Vec<_>>(), [Attempt(2)]);
}

#[tokio::test]
async fn a_stored_receipt_ends_custody_wherever_the_delivery_stands() {
    let place = Place::new();
    let outbox = place.open();
    let steps = ["sealed", "running", "relayed", "deferred", "held", "parked", "second attempt"];
    for (number, step) in (1..).zip(steps) {
        let sample = Sample::new(number, number, 1).cut_through();
        let delivery = sample.delivery();
        sample.commit(&outbox, T0).await;
        let attempt = Attempt(1);
        match step {
            "sealed" | "second attempt" | "held" => {
                outbox.deposit_failed(delivery, attempt, "connection lost", T0, T0).await.unwrap();
            }
            "relayed" => outbox.relayed(delivery, attempt, BOOT, T0).await.map(drop).unwrap(),
            "deferred" => {
                outbox.deferred(delivery, attempt, Deferral::default(), 0.0, T0).await.map(drop).unwrap()
            }
            "parked" => outbox
                .refused(NewReceipt { attempt, ..sample.receipt(9, 0xc000) }, T0)
                .await
                .map(drop)
                .unwrap(),
            _ => {}
        }
        if step == "held" {
            outbox.hold(delivery, operator(), T0).await.unwrap();
        }
        if step == "second attempt" {
            outbox.start_attempt(delivery, T0).await.unwrap();
        }
        // A parked one was answered by a receipt of attempt 1 already: this is a later answer.
        let answered = if step == "parked" { 2 } else { 1 };
        let settled = outbox.settled_stored(sample.receipt(answered, 0), at(1)).await.unwrap();
        assert_eq!((settled.state, settled.object_ended), (State::Receipted, true), "{step}");
        assert!(!has_key(&outbox, &sample).await, "{step}");
        let again = outbox.settled_stored(sample.receipt(answered, 0), at(2)).await.unwrap();
        assert_eq!((again.applied, again.object_ended), (Applied::Already, false), "{step}");
    }
}

#[tokio::test]
async fn the_body_goes_with_the_last_of_its_deliveries() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1).along(&[1, 2, 3]);
    sample.commit(&outbox, T0).await;
    let receipt = |route| NewReceipt { delivery: sample.delivery_on(route), ..sample.receipt(1, 0) };
    assert!(!outbox.settled_stored(receipt(2), at(1)).await.unwrap().object_ended);
    outbox.discard(sample.delivery_on(3), operator(), at(1)).await.unwrap();
    assert!(has_key(&outbox, &sample).await);
    assert_eq!(state(&outbox, sample.delivery_on(2)).await, State::Receipted);
    assert!(outbox.settled_stored(receipt(1), at(2)).await.unwrap().object_ended);
    assert!(!has_key(&outbox, &sample).await);
    outbox.close();
    let outbox = place.open();
    for (route, want) in [(1, State::Purged), (2, State::Purged), (3, State::Discarded)] {
        assert_eq!(state(&outbox, sample.delivery_on(route)).await, want);
    }
    assert_eq!(place.bodies(), Vec::<String>::new());
}

#[tokio::test]
async fn a_deferral_waits_longer_each_time_and_a_permanent_one_the_longest_with_an_alarm() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    sample.commit(&outbox, T0).await;
    let mut now = T0;
    for (round, wait_s) in (1..).zip([5, 10, 20, 40, 80, 160, 320, 640, 900, 900]) {
        assert_eq!(outbox.start_attempt(sample.delivery(), now).await, Ok(Attempt(round)));
        let deferral = Deferral {
            status: Some(Status(0xa700)),
            reason: "out of resources".to_owned(),
            ..Deferral::default()
        };
        outbox.deferred(sample.delivery(), Attempt(round), deferral, 1.0, now).await.unwrap();
        let row = row(&outbox, sample.delivery()).await;
        let next = now.after(Duration::from_secs(wait_s));
        assert_eq!((row.state, row.next_at, row.deferrals), (State::Deferred, Some(next), round));
        assert!(!row.alarm && !row.running && row.status == Some(Status(0xa700)));
        assert_eq!(due(&outbox, Timestamp(next.0 - 1)).await, []);
        assert_eq!(due(&outbox, next).await, [sample.delivery()]);
        assert_eq!(outbox.next_due().await, Ok(Some(next)));
        now = next;
    }
    let cases = [
        (Deferral { permanent: true, ..Deferral::default() }, 900, true),
        (
            Deferral { not_before: Some(now.after(Duration::from_secs(1200))), ..Deferral::default() },
            900,
            false,
        ),
        (Deferral::default(), 900, false),
    ];
    for (deferral, wait_s, alarm) in cases {
        let attempt = outbox.start_attempt(sample.delivery(), now).await.unwrap();
        outbox.deferred(sample.delivery(), attempt, deferral.clone(), 1.0, now).await.unwrap();
        let row = row(&outbox, sample.delivery()).await;
        assert_eq!(row.next_at, Some(now.after(Duration::from_secs(wait_s))), "{deferral:?}");
        assert_eq!(row.alarm, alarm, "{deferral:?}");
    }
    // Far sides may ask for a longer wait than ours, within our slowest pace.
    let patient = Sample::new(2, 2, 1).cut_through();
    patient.commit(&outbox, now).await;
    let deferral = Deferral { not_before: Some(now.after(Duration::from_secs(60))), ..Deferral::default() };
    outbox.deferred(patient.delivery(), Attempt(1), deferral, 0.0, now).await.unwrap();
    assert_eq!(row(&outbox, patient.delivery()).await.next_at, Some(now.after(Duration::from_secs(60))));
}

#[tokio::test]
async fn nacks_are_repeated_a_few_times_and_then_parked() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    sample.commit(&outbox, T0).await;
    let mut now = T0;
    for round in 1..=9 {
        let attempt = outbox.start_attempt(sample.delivery(), now).await.unwrap();
        outbox.nacked(sample.delivery(), attempt, "unknown prekey", 1.0, now).await.unwrap();
        let row = row(&outbox, sample.delivery()).await;
        let want = if round <= 8 { State::Sealed } else { State::Parked };
        assert_eq!((row.state, row.nacks, row.alarm), (want, round, round == 9));
        now = row.next_at.unwrap_or(now);
    }
    assert!(has_key(&outbox, &sample).await);
    // A fresh start by the operator; and what the receiver could open starts the count again.
    outbox.retry(sample.delivery(), operator(), now).await.unwrap();
    for _ in 0..3 {
        for _ in 0..8 {
            let attempt = outbox.start_attempt(sample.delivery(), now).await.unwrap();
            outbox.nacked(sample.delivery(), attempt, "unknown prekey", 1.0, now).await.unwrap();
        }
        let attempt = outbox.start_attempt(sample.delivery(), now).await.unwrap();
        outbox.deferred(sample.delivery(), attempt, Deferral::default(), 1.0, now).await.unwrap();
    }
    assert_eq!(state(&outbox, sample.delivery()).await, State::Deferred);
}

#[tokio::test]
async fn what_is_older_than_age_max_is_parked() {
    let place = Place::new();
    let outbox = place.open();
    let month = Duration::from_secs(30 * 24 * 3600);
    let samples: Vec<_> = (1..=4).map(|number| Sample::new(number, number, 1)).collect();
    for sample in &samples {
        sample.commit(&outbox, T0).await;
    }
    let young = Sample::new(9, 9, 1);
    young.commit(&outbox, T0.after(month / 2)).await;
    let late = T0.after(month);
    for (sample, report) in samples.iter().zip(["retried", "deferred", "nacked", "waiting"]) {
        let delivery = sample.delivery();
        if report == "retried" {
            outbox.retry(delivery, operator(), T0.after(month / 2)).await.unwrap();
        }
        if report != "waiting" {
            outbox.start_attempt(delivery, late).await.unwrap();
        }
        let attempt = Attempt(1);
        match report {
            "nacked" => outbox.nacked(delivery, attempt, "bad tag", 1.0, late).await.map(drop).unwrap(),
            "waiting" => assert_eq!(outbox.park_overdue(10, late).await, Ok(vec![delivery])),
            _ => outbox.deferred(delivery, attempt, Deferral::default(), 1.0, late).await.map(drop).unwrap(),
        }
        let want = if report == "retried" { State::Deferred } else { State::Parked };
        assert_eq!(state(&outbox, delivery).await, want, "{report}");
    }
    assert_eq!(state(&outbox, young.delivery()).await, State::Sealed);
}

#[tokio::test]
async fn reports_about_attempts_that_are_over_change_nothing() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1).cut_through();
    let delivery = sample.delivery();
    sample.commit(&outbox, T0).await;
    outbox.deposit_failed(delivery, Attempt(1), "connection lost", T0, T0).await.unwrap();
    assert_eq!(outbox.start_attempt(delivery, T0).await, Ok(Attempt(2)));
    let before = row(&outbox, delivery).await;
    for attempt in [Attempt(1), Attempt(3)] {
        assert_eq!(outbox.relayed(delivery, attempt, BOOT, at(1)).await, Ok(Applied::Stale));
        assert_eq!(outbox.collected(delivery, attempt, at(1)).await, Ok(Applied::Stale));
        assert_eq!(outbox.deposit_failed(delivery, attempt, "x", at(1), at(1)).await, Ok(Applied::Stale));
        assert_eq!(
            outbox.deferred(delivery, attempt, Deferral::default(), 0.5, at(1)).await,
            Ok(Applied::Stale)
        );
        assert_eq!(outbox.nacked(delivery, attempt, "x", 0.5, at(1)).await, Ok(Applied::Stale));
        assert_eq!(outbox.lost(delivery, attempt, Loss::Gone, 0.5, at(1)).await, Ok(Applied::Stale));
    }
    assert_eq!(outbox.refused(sample.receipt(1, 0xc000), at(1)).await.unwrap().applied, Applied::Stale);
    assert_eq!(row(&outbox, delivery).await, before);
    let not_due = outbox.start_attempt(delivery, at(1)).await;
    assert!(matches!(not_due, Err(DeliveryError::NotNow { state: State::Sealed, .. })), "it is running");
    let unknown = Sample::new(2, 2, 2).delivery();
    assert_eq!(outbox.start_attempt(unknown, at(1)).await, Err(DeliveryError::Unknown(unknown)));
}

#[tokio::test]
async fn deposits_are_repeated_when_the_relay_has_them_no_longer() {
    let place = Place::new();
    let outbox = place.open();
    let samples: Vec<_> = (1..=4).map(|number| Sample::new(number, number, 1).cut_through()).collect();
    for sample in &samples {
        sample.commit(&outbox, T0).await;
    }
    let [here, there, collected, running] = samples.as_slice() else { unreachable!() };
    outbox.relayed(here.delivery(), Attempt(1), BOOT, T0).await.unwrap();
    outbox.relayed(there.delivery(), Attempt(1), OTHER, T0).await.unwrap();
    outbox.collected(collected.delivery(), Attempt(1), T0).await.unwrap();
    outbox.relayed(collected.delivery(), Attempt(1), OTHER, T0).await.unwrap();
    assert_eq!(
        row(&outbox, collected.delivery()).await.boot,
        Some(OTHER),
        "collected before the relay had all"
    );
    let lost = outbox.relay_lost(&[BOOT], at(1)).await.unwrap();
    assert_eq!(lost, [there.delivery(), collected.delivery()]);
    assert_eq!(due(&outbox, at(1)).await, [there.delivery(), collected.delivery()]);
    assert_eq!(state(&outbox, here.delivery()).await, State::Relayed);
    assert!(row(&outbox, running.delivery()).await.running, "its own connection tells");
    assert_eq!(outbox.relay_lost(&[BOOT], at(1)).await, Ok(vec![]));

    // Expired once: at once. Again and again: less and less often.
    let mut now = at(2);
    for wait_s in [0, 5, 10, 20] {
        let attempt = row(&outbox, here.delivery()).await.attempt;
        outbox.lost(here.delivery(), attempt, Loss::Expired, 1.0, now).await.unwrap();
        let next = row(&outbox, here.delivery()).await.next_at.unwrap();
        assert_eq!(next, now.after(Duration::from_secs(wait_s)));
        now = next;
        let attempt = outbox.start_attempt(here.delivery(), now).await.unwrap();
        outbox.relayed(here.delivery(), attempt, BOOT, now).await.unwrap();
    }
}

#[tokio::test]
async fn due_serves_the_longest_due_first_and_each_route_alone() {
    let place = Place::new();
    let outbox = place.open();
    let samples: Vec<_> = (1..=6).map(|n| Sample::new(n, n, 1).along(&[(n % 2) as u8 + 1])).collect();
    for (second, sample) in (0..).zip(&samples) {
        sample.commit(&outbox, at(second)).await;
    }
    let ids = |numbers: &[usize]| numbers.iter().map(|n| samples[*n].delivery()).collect::<Vec<_>>();
    assert_eq!(due(&outbox, at(9)).await, ids(&[0, 1, 2, 3, 4, 5]));
    assert_eq!(due(&outbox, at(2)).await, ids(&[0, 1, 2]));
    let on = |route, limit| outbox.due_on(route_id(route), at(9), limit);
    let of = |rows: Vec<Delivery>| rows.iter().map(|row| row.delivery).collect::<Vec<_>>();
    assert_eq!(of(on(1, 10).await.unwrap()), ids(&[1, 3, 5]));
    assert_eq!(of(on(2, 2).await.unwrap()), ids(&[0, 2]));
    assert_eq!(of(on(3, 2).await.unwrap()), ids(&[]));
}

#[tokio::test]
async fn delivered_mode_keeps_a_row_and_nothing_else() {
    let place = Place::new();
    let outbox = place.open();
    let cases = [("stored", State::Receipted), ("refused", State::Refused), ("returned", State::Returned)];
    for (number, (step, want)) in (1..).zip(cases) {
        let sample = Sample::new(number, number, 1);
        let decision = outbox.begin_unspooled(sample.new_unspooled(T0), T0).await;
        assert_eq!(decision, Ok(UnspooledDecision::New { changed_content: false }));
        let running = row(&outbox, sample.delivery()).await;
        assert!(running.running && !running.spooled && running.attempt == Attempt(1));
        assert_eq!(due(&outbox, at(9999)).await, [], "one attempt only");
        assert!(outbox.content_key(sample.object).await.is_err());
        match step {
            "stored" => outbox.settled_stored(sample.receipt(1, 0), at(1)).await.map(drop).unwrap(),
            "refused" => outbox.refused(sample.receipt(1, 0xa900), at(1)).await.map(drop).unwrap(),
            _ => outbox.returned(sample.delivery(), "no answer within 25 s", at(1)).await.map(drop).unwrap(),
        }
        assert_eq!(state(&outbox, sample.delivery()).await, want);
        // Answered in time: sent again means sent again.
        if step != "returned" {
            let again = Sample::new(number + 10, number, 1);
            assert_eq!(outbox.recent_delivered(&again.record(), route_id(1), at(2)).await, Ok(None));
            let decision = outbox.begin_unspooled(again.new_unspooled(at(2)), at(2)).await;
            assert_eq!(decision, Ok(UnspooledDecision::New { changed_content: false }), "{step}");
        }
    }
    assert_eq!(place.bodies(), Vec::<String>::new());
    assert_eq!(outbox.usage().unwrap().bytes_used, 0);
}

#[tokio::test]
async fn delivered_mode_gives_back_at_the_first_failure() {
    let place = Place::new();
    let outbox = place.open();
    let steps = ["deferred", "nacked", "gone", "deposit failed", "relay lost", "restart"];
    for (number, step) in (1..).zip(steps) {
        let sample = Sample::new(number, number, 1);
        let (delivery, attempt) = (sample.delivery(), Attempt(1));
        outbox.begin_unspooled(sample.new_unspooled(T0), T0).await.unwrap();
        match step {
            "deferred" => {
                outbox.deferred(delivery, attempt, Deferral::default(), 0.5, T0).await.map(drop).unwrap()
            }
            "nacked" => outbox.nacked(delivery, attempt, "bad tag", 0.5, T0).await.map(drop).unwrap(),
            "gone" => outbox.lost(delivery, attempt, Loss::Gone, 0.5, T0).await.map(drop).unwrap(),
            "deposit failed" => {
                outbox.deposit_failed(delivery, attempt, "connection lost", T0, T0).await.map(drop).unwrap();
            }
            "relay lost" => {
                outbox.relayed(delivery, attempt, BOOT, T0).await.unwrap();
                outbox.relay_lost(&[OTHER], T0).await.unwrap();
            }
            _ => break,
        }
        assert_eq!(state(&outbox, delivery).await, State::Returned, "{step}");
        assert_eq!(outbox.returned(delivery, "again", T0).await, Ok(Applied::Already));
    }
    outbox.close();
    let outbox = place.open();
    assert_eq!(state(&outbox, Sample::new(6, 6, 1).delivery()).await, State::Returned, "restart");
    let spooled = Sample::new(20, 20, 1);
    spooled.commit(&outbox, T0).await;
    let refused = outbox.returned(spooled.delivery(), "x", T0).await;
    assert!(matches!(refused, Err(DeliveryError::NotNow { .. })), "custody is never given back");
}

#[tokio::test]
async fn a_receipt_that_comes_too_late_answers_the_same_content_for_an_hour() {
    let place = Place::new();
    let outbox = place.open();
    for (number, outcome, status) in [(1, Outcome::Stored, 0), (2, Outcome::Refused, 0xa900)] {
        let sample = Sample::new(number, number, 1);
        outbox.begin_unspooled(sample.new_unspooled(T0), T0).await.unwrap();
        let earlier = UnspooledDecision::Earlier { earlier: sample.delivery() };
        let again = Sample::new(number + 10, number, 1);
        assert_eq!(outbox.begin_unspooled(again.new_unspooled(T0), T0).await, Ok(earlier), "while it is out");
        outbox.returned(sample.delivery(), "no answer within 25 s", at(25)).await.unwrap();
        let settled = match outcome {
            Outcome::Stored => outbox.settled_stored(sample.receipt(1, status), at(40)).await,
            Outcome::Refused => outbox.refused(sample.receipt(1, status), at(40)).await,
        };
        let want = if outcome == Outcome::Stored { State::Receipted } else { State::Returned };
        assert_eq!(settled.unwrap().state, want);
        let answer = |first| UnspooledDecision::AnswerFrom {
            delivery: sample.delivery(),
            outcome,
            status: Status(status),
            first,
        };
        for (first, now) in [(true, at(41)), (false, at(42)), (false, at(40 + 3599))] {
            let found = outbox.recent_delivered(&again.record(), route_id(1), now).await;
            assert_eq!(found, Ok(Some(answer(first))), "looking counts for nothing");
            assert_eq!(outbox.begin_unspooled(again.new_unspooled(now), now).await, Ok(answer(first)));
        }
        assert_eq!(outbox.delivery(again.delivery()).await, Ok(None));
        let other = Sample::new(number + 20, number, 2);
        assert_eq!(
            outbox.recent_delivered(&other.record(), route_id(1), at(41)).await,
            Ok(None),
            "other content"
        );
        assert_eq!(
            outbox.recent_delivered(&again.record(), route_id(2), at(41)).await,
            Ok(None),
            "other route"
        );
        let later = at(40 + 3600);
        let decision = outbox.begin_unspooled(again.new_unspooled(later), later).await;
        assert_eq!(decision, Ok(UnspooledDecision::New { changed_content: false }), "an hour is over");
    }
}

#[tokio::test]
async fn a_receipt_that_crosses_the_answer_to_the_pacs_counts_as_late() {
    let place = Place::new();
    let outbox = place.open();
    let (sample, again) = (Sample::new(1, 1, 1), Sample::new(2, 1, 1));
    outbox.begin_unspooled(sample.new_unspooled(T0), T0).await.unwrap();
    outbox.settled_stored(sample.receipt(1, 0), at(25)).await.unwrap();
    assert_eq!(outbox.returned(sample.delivery(), "no answer within 25 s", at(25)).await, Ok(Applied::Stale));
    assert_eq!(state(&outbox, sample.delivery()).await, State::Receipted);
    let answer = UnspooledDecision::AnswerFrom {
        delivery: sample.delivery(),
        outcome: Outcome::Stored,
        status: Status::SUCCESS,
        first: true,
    };
    assert_eq!(outbox.begin_unspooled(again.new_unspooled(at(60)), at(60)).await, Ok(answer));
}

#[tokio::test]
async fn delivered_mode_notices_loops_and_changed_content_too() {
    let place = Place::new();
    let outbox = place.open();
    for number in 1..=5 {
        let sample = Sample::new(number, 1, 1);
        outbox.begin_unspooled(sample.new_unspooled(T0), T0).await.unwrap();
        outbox.settled_stored(sample.receipt(1, 0), T0).await.unwrap();
    }
    // What was given back is no loop: the PACS was told to come again.
    for number in 11..=20 {
        let sample = Sample::new(number, 2, 1);
        let decision = outbox.begin_unspooled(sample.new_unspooled(T0), T0).await;
        assert_eq!(decision, Ok(UnspooledDecision::New { changed_content: false }));
        outbox.returned(sample.delivery(), "no answer within 25 s", T0).await.unwrap();
    }
    let sixth = Sample::new(6, 1, 1).new_unspooled(T0);
    assert_eq!(outbox.begin_unspooled(sixth, T0).await, Ok(UnspooledDecision::HeldLoop { count: 5 }));
    let other = Sample::new(7, 1, 2);
    let decision = outbox.begin_unspooled(other.new_unspooled(T0), T0).await;
    assert_eq!(decision, Ok(UnspooledDecision::New { changed_content: true }));
    let refused = Sample::new(8, 1, 3).refusing().new_unspooled(T0);
    outbox.returned(other.delivery(), "no answer within 25 s", T0).await.unwrap();
    let refused = outbox.begin_unspooled(refused, T0).await;
    assert!(matches!(refused, Err(CommitError::ChangedContent { .. })));
}

#[tokio::test]
async fn the_history_of_a_long_wait_stays_short() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    sample.commit(&outbox, T0).await;
    outbox.hold(sample.delivery(), operator(), T0).await.unwrap();
    outbox.release(sample.delivery(), operator(), T0).await.unwrap();
    for _ in 0..100 {
        let attempt = outbox.start_attempt(sample.delivery(), T0).await.unwrap();
        outbox.relayed(sample.delivery(), attempt, BOOT, T0).await.unwrap();
        outbox.deferred(sample.delivery(), attempt, Deferral::default(), 0.5, T0).await.unwrap();
    }
    for number in 2..=40 {
        Sample::new(number, 1, 1).commit(&outbox, T0).await;
    }
    let events = outbox.history(sample.delivery()).await.unwrap();
    let of = |attempt: u32| events.iter().filter(|event| event.attempt == Attempt(attempt)).count();
    assert_eq!((of(1), of(2), of(83), of(84), of(85), of(99)), (3, 0, 0, 0, 3, 3));
    let count = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!(count(EventKind::Joined), 16);
    assert_eq!(row(&outbox, sample.delivery()).await.joined, 39);
    assert_eq!((count(EventKind::Received), count(EventKind::Held), count(EventKind::Released)), (1, 1, 1));
}
