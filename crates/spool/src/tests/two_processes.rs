//! A command of an operator beside the running daemon: two connections to one index, as two processes have.

use super::*;

#[tokio::test]
async fn the_daemon_picks_up_what_a_command_changed() {
    let place = Place::new();
    let outbox = place.open();
    let (parked, discarded) = (Sample::new(1, 1, 1).cut_through(), Sample::new(2, 2, 1).cut_through());
    parked.commit(&outbox, T0).await;
    discarded.commit(&outbox, T0).await;
    outbox.refused(parked.receipt(1, 0xc000), T0).await.unwrap();
    assert_eq!(outbox.changed(T0).await, Ok(false), "our own changes are none");

    let admin = place.admin();
    assert_eq!(state(&admin, parked.delivery()).await, State::Parked);
    admin.retry(parked.delivery(), operator(), at(1)).await.unwrap();
    assert_eq!(due(&outbox, at(1)).await, [parked.delivery()]);
    admin.discard(discarded.delivery(), operator(), at(1)).await.unwrap();
    drop(admin);
    assert_eq!(outbox.changed(at(2)).await, Ok(true));
    assert_eq!(outbox.changed(at(2)).await, Ok(false));
    assert_eq!(place.bodies(), [parked.object.to_string()]);
    assert_eq!(outbox.usage().unwrap().bytes_used, parked.body().len() as u64);
    assert!(!has_key(&outbox, &discarded).await);
}

#[tokio::test]
async fn looking_never_waits_for_the_daemon_and_takes_no_lock() {
    let place = Place::new();
    let admin = place.admin();
    let outbox = place.open();
    let second = place.admin();
    Sample::new(1, 1, 1).commit(&outbox, T0).await;
    for queue in [&admin, &second] {
        assert_eq!(queue.list(Filter::default()).await.unwrap().len(), 1);
    }
    outbox.close();
    assert_eq!(admin.list(Filter::default()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_write_at_the_same_time_and_nothing_is_lost() {
    let place = Place::new();
    let outbox = std::sync::Arc::new(place.open());
    let admin = place.admin();
    let held: Vec<_> = (0..50).map(|number| Sample::new(number, number, 1)).collect();
    for sample in &held {
        sample.commit(&outbox, T0).await;
    }
    let writing = tokio::spawn({
        let outbox = outbox.clone();
        async move {
            for number in 100..200 {
                Sample::new(number, number, 1).commit(&outbox, T0).await;
            }
        }
    });
    for sample in &held {
        admin.hold(sample.delivery(), operator(), T0).await.unwrap();
    }
    writing.await.unwrap();
    let rows = outbox.list(Filter::default()).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.state == State::Held).count(), 50);
    assert_eq!(rows.iter().filter(|row| row.state == State::Sealed).count(), 100);
}
