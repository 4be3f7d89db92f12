//! CUSTODY, "Repeats" at gateway-out.

use spool::State;

use crate::common::{Act, Bed, Pacs, Plan, dicom, send, slice, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_joins_what_is_unsettled_and_really_goes_again_after() {
    let pacs = Pacs::good().await;
    let mut bed = Bed::laid_out(Plan::one(dicom(pacs.address)));
    bed.start_out().await;
    let sample = slice(50, 64);
    for _ in 0..3 {
        assert_eq!(send(bed.dicom, "GW", std::slice::from_ref(&sample)).await, [0]);
    }
    let row = bed.all_in(State::Sealed, 1).await.remove(0);
    assert_eq!(row.joined, 2);
    bed.start_relay().await;
    bed.start_in().await;
    bed.all_in(State::Purged, 1).await;
    assert_eq!(pacs.complete(), 1);
    assert_eq!(send(bed.dicom, "GW", &[sample]).await, [0]);
    let rows = bed.all_in(State::Purged, 2).await;
    assert_ne!(rows[0].object, rows[1].object);
    assert_eq!(pacs.complete(), 2, "\"please send it again\" must really send");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_of_a_known_instance_waits_for_the_earlier_one() {
    let pacs = Pacs::scripted(|_, nth| if nth == 0 { Act::Late } else { Act::Answer(0) }).await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    let first = slice(51, 64);
    let second = first.changed();
    assert_eq!(send(bed.dicom, "GW", &[first.clone(), second.clone()]).await, [0, 0]);
    until("the first", async || pacs.complete() == 1).await;
    let rows = bed.deliveries().await;
    assert_eq!((rows[1].state, rows[1].waits_for), (State::WaitingForEarlier, Some(rows[0].delivery)));
    assert!(rows[1].changed_content);
    pacs.answer_now();
    bed.all_in(State::Purged, 2).await;
    let arrived: Vec<_> = pacs.seen().complete.into_iter().map(|got| got.data).collect();
    assert_eq!(arrived, [first.data, second.data]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixth_time_in_a_day_is_held_as_a_loop() {
    let pacs = Pacs::good().await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    let sample = slice(52, 64);
    for count in 1..=5 {
        assert_eq!(send(bed.dicom, "GW", std::slice::from_ref(&sample)).await, [0]);
        bed.all_in(State::Purged, count).await;
    }
    assert_eq!(send(bed.dicom, "GW", &[sample]).await, [0]);
    let row = bed.deliveries().await.remove(5);
    assert_eq!((row.state, row.alarm), (State::Held, true));
    assert_eq!(pacs.complete(), 5);
}
