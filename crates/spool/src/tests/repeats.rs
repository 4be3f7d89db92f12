//! CUSTODY, "Repeats", at gateway-out.

use super::*;

#[tokio::test]
async fn identical_content_joins_while_the_earlier_delivery_is_unsettled() {
    let place = Place::new();
    let outbox = place.open();
    let first = Sample::new(1, 1, 1).cut_through();
    first.commit(&outbox, T0).await;
    // Whatever the state of the earlier one, as long as it has not ended.
    for (number, step) in (2..).zip(["running", "relayed", "collected", "deferred", "parked"]) {
        let boot = base::BootId([1; 16]);
        match step {
            "relayed" => outbox.relayed(first.delivery(), Attempt(1), boot, T0).await.map(drop).unwrap(),
            "collected" => outbox.collected(first.delivery(), Attempt(1), T0).await.map(drop).unwrap(),
            "deferred" => {
                outbox.deferred(first.delivery(), Attempt(1), Deferral::default(), 0.5, T0).await.unwrap();
            }
            "parked" => {
                assert_eq!(outbox.start_attempt(first.delivery(), at(9)).await, Ok(Attempt(2)));
                outbox.refused(first.receipt(2, 0xc000), at(9)).await.unwrap();
            }
            _ => {}
        }
        let again = Sample::new(number, 1, 1).cut_through();
        let state = state(&outbox, first.delivery()).await;
        let decisions = again.commit(&outbox, at(10)).await;
        assert_eq!(decisions, [Decision::Joined { delivery: first.delivery(), state }], "{step}");
        assert_eq!(outbox.delivery(again.delivery()).await, Ok(None), "it has no row of its own");
        assert_eq!(row(&outbox, first.delivery()).await.joined, number - 1);
    }
    assert_eq!(place.bodies(), [first.object.to_string()], "one body for all of them");
    assert_eq!(outbox.usage().unwrap().bytes_used, first.body().len() as u64);
}

#[tokio::test]
async fn once_settled_the_same_content_is_sent_again() {
    let place = Place::new();
    let outbox = place.open();
    let (first, again) = (Sample::new(1, 1, 1).cut_through(), Sample::new(2, 1, 1));
    first.commit(&outbox, T0).await;
    outbox.settled_stored(first.receipt(1, 0), at(1)).await.unwrap();
    assert_eq!(again.commit(&outbox, at(2)).await, [Decision::New { changed_content: false }]);
    assert_eq!(due(&outbox, at(2)).await, [again.delivery()]);
}

#[tokio::test]
async fn other_content_waits_for_the_earlier_version_and_is_flagged() {
    let place = Place::new();
    let outbox = place.open();
    let versions = [Sample::new(1, 1, 1), Sample::new(2, 1, 2), Sample::new(3, 1, 3)];
    assert_eq!(versions[0].commit(&outbox, T0).await, [Decision::New { changed_content: false }]);
    assert_eq!(versions[1].commit(&outbox, T0).await, [Decision::After { earlier: versions[0].delivery() }]);
    assert_eq!(versions[2].commit(&outbox, T0).await, [Decision::After { earlier: versions[1].delivery() }]);
    assert!(row(&outbox, versions[1].delivery()).await.changed_content);
    assert_eq!(row(&outbox, versions[1].delivery()).await.waits_for, Some(versions[0].delivery()));
    for (position, version) in versions.iter().enumerate() {
        assert_eq!(due(&outbox, T0).await, [version.delivery()], "one after the other");
        outbox.start_attempt(version.delivery(), T0).await.unwrap();
        let settled = outbox.settled_stored(version.receipt(1, 0), T0).await.unwrap();
        assert_eq!(settled.released, position < 2);
    }
    assert_eq!(due(&outbox, T0).await, []);
}

#[tokio::test]
async fn the_first_version_again_goes_behind_the_second_so_that_the_last_one_sent_arrives_last() {
    let place = Place::new();
    let outbox = place.open();
    let (first, second) = (Sample::new(1, 1, 1), Sample::new(2, 1, 2));
    let (first_again, third_again) = (Sample::new(3, 1, 1), Sample::new(4, 1, 1));
    first.commit(&outbox, T0).await;
    second.commit(&outbox, T0).await;
    assert_eq!(first_again.commit(&outbox, T0).await, [Decision::After { earlier: second.delivery() }]);
    let joined = Decision::Joined { delivery: first_again.delivery(), state: State::WaitingForEarlier };
    assert_eq!(third_again.commit(&outbox, T0).await, [joined]);
}

#[tokio::test]
async fn a_version_in_the_middle_that_is_given_up_releases_nothing_too_early() {
    let place = Place::new();
    let outbox = place.open();
    let versions = [Sample::new(1, 1, 1), Sample::new(2, 1, 2), Sample::new(3, 1, 3)];
    for version in &versions {
        version.commit(&outbox, T0).await;
    }
    outbox.discard(versions[1].delivery(), operator(), T0).await.unwrap();
    assert_eq!(state(&outbox, versions[2].delivery()).await, State::WaitingForEarlier);
    assert_eq!(row(&outbox, versions[2].delivery()).await.waits_for, Some(versions[0].delivery()));
    outbox.discard(versions[0].delivery(), operator(), T0).await.unwrap();
    assert_eq!(due(&outbox, T0).await, [versions[2].delivery()]);
}

#[tokio::test]
async fn other_content_is_refused_where_the_route_says_so() {
    let place = Place::new();
    let outbox = place.open();
    let first = Sample::new(1, 1, 1).refusing();
    first.commit(&outbox, T0).await;
    let refused = Err(CommitError::ChangedContent { earlier: first.delivery() });
    assert_eq!(Sample::new(2, 1, 2).refusing().try_commit(&outbox, T0).await, refused);
    outbox.start_attempt(first.delivery(), T0).await.unwrap();
    outbox.settled_stored(first.receipt(1, 0), T0).await.unwrap();
    assert_eq!(
        Sample::new(3, 1, 2).refusing().try_commit(&outbox, T0).await,
        refused,
        "also once it is settled"
    );
    assert_eq!(place_after(&place, outbox), Vec::<String>::new(), "nothing of a refused one is kept");

    // What was given up never reached the far side: its correction is welcome.
    let outbox = place.open();
    let (bad, corrected) = (Sample::new(4, 2, 1).refusing(), Sample::new(5, 2, 2).refusing());
    bad.commit(&outbox, T0).await;
    outbox.discard(bad.delivery(), operator(), T0).await.unwrap();
    assert_eq!(corrected.commit(&outbox, T0).await, [Decision::New { changed_content: false }]);
}

fn place_after(place: &Place, outbox: Outbox) -> Vec<String> {
    outbox.close();
    place.bodies()
}

#[tokio::test]
async fn other_content_after_a_settled_version_is_flagged_and_sent_at_once() {
    let place = Place::new();
    let outbox = place.open();
    let (first, second) = (Sample::new(1, 1, 1).cut_through(), Sample::new(2, 1, 2).cut_through());
    first.commit(&outbox, T0).await;
    outbox.settled_stored(first.receipt(1, 0), T0).await.unwrap();
    assert_eq!(second.commit(&outbox, T0).await, [Decision::New { changed_content: true }]);
    let row = row(&outbox, second.delivery()).await;
    assert!(row.changed_content && row.running && row.attempt == Attempt(1));
}

#[tokio::test]
async fn the_same_content_more_than_five_times_in_a_day_is_held() {
    let place = Place::new();
    let outbox = place.open();
    for number in 0..5 {
        let sample = Sample::new(number, 1, 1).cut_through();
        assert_eq!(sample.commit(&outbox, at(60)).await, [Decision::New { changed_content: false }]);
        outbox.settled_stored(sample.receipt(1, 0), at(60)).await.unwrap();
    }
    // Another route to the same destination counts, another destination does not.
    let other = Sample::new(10, 1, 1).along(&[2]);
    assert_eq!(other.commit(&outbox, at(70)).await, [Decision::New { changed_content: false }]);
    let sixth = Sample::new(11, 1, 1).along(&[11]).cut_through();
    assert_eq!(sixth.commit(&outbox, at(70)).await, [Decision::HeldLoop { count: 5 }]);
    let row = row(&outbox, sixth.delivery()).await;
    assert_eq!((row.state, row.alarm, row.running), (State::Held, true, false));
    assert_eq!(row.attempt, Attempt(1), "its number was seen by the relay");
    assert_eq!(row.reason.as_deref(), Some("routing loop or endless re-send?"));
    assert!(has_key(&outbox, &sixth).await, "it is in our custody all the same");
    assert!(!due(&outbox, at(70)).await.contains(&sixth.delivery()));

    assert_eq!(outbox.release(sixth.delivery(), operator(), at(80)).await, Ok(State::Sealed));
    assert!(due(&outbox, at(80)).await.contains(&sixth.delivery()));
    let a_day_later = Sample::new(12, 1, 1);
    let now = at(60 + 24 * 3600 + 11);
    assert_eq!(a_day_later.commit(&outbox, now).await, [Decision::New { changed_content: false }]);
}

#[tokio::test]
async fn a_held_version_keeps_its_place_behind_the_earlier_one() {
    let mut place = Place::new();
    place.config.loop_limit = 1;
    let outbox = place.open();
    let (earlier, settled) = (Sample::new(1, 1, 1), Sample::new(3, 1, 2).along(&[11]).cut_through());
    settled.commit(&outbox, T0).await;
    outbox.settled_stored(settled.receipt(1, 0), T0).await.unwrap();
    earlier.commit(&outbox, T0).await;
    let held = Sample::new(2, 1, 2);
    assert_eq!(held.commit(&outbox, T0).await, [Decision::HeldLoop { count: 1 }]);
    assert_eq!(outbox.release(held.delivery(), operator(), T0).await, Ok(State::WaitingForEarlier));
    outbox.discard(earlier.delivery(), operator(), T0).await.unwrap();
    assert_eq!(due(&outbox, T0).await, [held.delivery()]);
}

#[tokio::test]
async fn each_destination_of_an_object_is_judged_alone() {
    let place = Place::new();
    let outbox = place.open();
    let first = Sample::new(1, 1, 1).along(&[1]);
    first.commit(&outbox, T0).await;
    let both = Sample::new(2, 1, 1).along(&[1, 2]);
    let joined = Decision::Joined { delivery: first.delivery(), state: State::Sealed };
    assert_eq!(both.commit(&outbox, T0).await, [joined, Decision::New { changed_content: false }]);
    assert_eq!(outbox.delivery(both.delivery_on(1)).await, Ok(None));
    assert_eq!(state(&outbox, both.delivery_on(2)).await, State::Sealed);
    assert!(has_key(&outbox, &both).await);
    assert_eq!(place.bodies().len(), 2);
}

#[tokio::test]
async fn an_object_or_delivery_that_is_known_is_the_callers_mistake_and_changes_nothing() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    let body = outbox.begin(sample.object).unwrap();
    assert!(matches!(outbox.begin(sample.object), Err(BeginError::Exists(_))));
    drop(body);
    assert_eq!(place.bodies().len(), 0, "an abandoned body is removed");

    sample.commit(&outbox, T0).await;
    assert!(matches!(outbox.begin(sample.object), Err(BeginError::Exists(_))));
    let unknown = Err(CommitError::Object(Sample::new(2, 2, 2).object));
    assert_eq!(Sample::new(2, 2, 2).along(&[]).try_commit(&outbox, T0).await, unknown);
    let other = Sample::new(2, 2, 2);
    let mut stolen = other.new_object(T0);
    stolen.deliveries[0].delivery = sample.delivery();
    let mut body = outbox.begin(other.object).unwrap();
    body.append(&other.body()).unwrap();
    assert_eq!(outbox.commit(body, stolen, T0).await, unknown);
    let mut body = outbox.begin(other.object).unwrap();
    body.append(b"shorter than the sealer says").unwrap();
    assert_eq!(outbox.commit(body, other.new_object(T0), T0).await, unknown);
    assert_eq!(place.bodies(), [sample.object.to_string()]);
    assert_eq!(outbox.list(Filter::default()).await.unwrap().len(), 1);
}
