//! Several relays: the first that is connected is used, and none that dies takes anything with it.

use spool::State;

use crate::common::{Bed, Pacs, Plan, dicom, send, slice, slices, until};

/// Nothing was lost and nothing came twice.
fn assert_each_once(pacs: &Pacs, count: usize) {
    let complete = &pacs.seen().complete;
    let mut uids: Vec<_> =
        complete.iter().map(|got| got.meta.sop_instance.reveal().as_str().to_owned()).collect();
    uids.sort();
    let received = uids.len();
    uids.dedup();
    assert_eq!((received, uids.len()), (count, count));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_relay_dies_within_a_study_and_comes_back_and_then_the_second_one_dies() {
    let pacs = Pacs::good().await;
    let mut bed = Bed::start(Plan::one(dicom(pacs.address)).two_relays()).await;
    let samples = slices(90, 40, 128);
    let (address, study) = (bed.dicom, samples.clone());
    let sending = tokio::spawn(async move { send(address, "GW", &study).await });
    until("a part of the study", async || pacs.complete() >= 5).await;
    bed.stop_relay_number(0).await;
    assert_eq!(sending.await.unwrap(), [0; 40]);
    bed.all_in(State::Purged, 40).await;
    assert_each_once(&pacs, 40);

    bed.connected_to(&[1]).await;
    bed.start_relay_number(0).await;
    bed.connected_to(&[0, 1]).await;
    let (address, study) = (bed.dicom, slices(91, 40, 128));
    let sending = tokio::spawn(async move { send(address, "GW", &study).await });
    until("a part of the second study", async || pacs.complete() >= 45).await;
    // New deposits go to the first one again: this takes nothing away from them.
    bed.stop_relay_number(1).await;
    assert_eq!(sending.await.unwrap(), [0; 40]);
    bed.all_in(State::Purged, 80).await;
    assert_each_once(&pacs, 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_relay_held_is_deposited_at_the_other_one() {
    let pacs = Pacs::good().await;
    let mut bed = Bed::start(Plan::one(dicom(pacs.address)).two_relays()).await;
    assert_eq!(send(bed.dicom, "GW", &[slice(92, 64)]).await, [0]);
    bed.all_in(State::Purged, 1).await;
    bed.stop_in().await;
    assert_eq!(send(bed.dicom, "GW", &slices(93, 5, 64)).await, [0; 5]);
    let held = async || bed.deliveries().await.iter().filter(|row| row.state == State::Relayed).count() == 5;
    until("five at the first relay", held).await;
    bed.stop_relay_number(0).await;
    bed.start_in().await;
    bed.all_in(State::Purged, 6).await;
    assert_each_once(&pacs, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_without_its_first_relay_uses_the_second() {
    let pacs = Pacs::good().await;
    let mut bed = Bed::start(Plan::one(dicom(pacs.address)).two_relays()).await;
    bed.stop_in().await;
    assert_eq!(send(bed.dicom, "GW", &slices(94, 5, 64)).await, [0; 5]);
    let held = async || bed.deliveries().await.iter().filter(|row| row.state == State::Relayed).count() == 5;
    until("five at the first relay", held).await;
    bed.stop_out().await;
    bed.stop_relay_number(0).await;
    bed.start_in().await;
    bed.start_out().await;
    bed.all_in(State::Purged, 5).await;
    assert_each_once(&pacs, 5);
}
