//! One destination that stands still takes nothing from another.

use std::time::{Duration, Instant};

use crate::common::{Act, Bed, Pacs, Plan, RouteSpec, dicom, send, slices, until};

const COUNT: u32 = 24;

/// Sends and waits for the arrival.
async fn passage(bed: &Bed, pacs: &Pacs, seed: u64) -> Duration {
    let samples = slices(seed, COUNT, 1024);
    let (before, start) = (pacs.complete(), Instant::now());
    assert!(send(bed.dicom, "GOOD", &samples).await.iter().all(|status| *status == 0));
    until("the arrival", async || pacs.complete() == before + COUNT as usize).await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_destination_takes_nothing_from_another() {
    let (good, frozen) = (Pacs::good().await, Pacs::scripted(|_, _| Act::Freeze).await);
    let routes = vec![RouteSpec::new(1, "GOOD", "good"), RouteSpec::new(2, "FROZEN", "frozen")];
    let destinations = vec![("good", dicom(good.address)), ("frozen", dicom(frozen.address))];
    let bed = Bed::start(Plan::new(routes, destinations)).await;
    passage(&bed, &good, 90).await;
    let alone = passage(&bed, &good, 91).await;
    // 2 MiB each: more than all buffers on the way hold.
    assert!(send(bed.dicom, "FROZEN", &slices(92, COUNT, 1024)).await.iter().all(|status| *status == 0));
    until("the standstill", async || frozen.seen().begun >= 1).await;
    let beside = passage(&bed, &good, 93).await;
    let part = alone.as_secs_f64() / beside.as_secs_f64();
    println!("{COUNT} of 2 MiB: {alone:?} alone, {beside:?} beside a frozen one: {:.0} %", part * 100.0);
    assert!(part > 0.3, "{alone:?} alone, {beside:?} beside a frozen destination");
    assert_eq!(frozen.complete(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_instances_for_a_frozen_destination_take_no_slot_of_another() {
    let (good, frozen) = (Pacs::good().await, Pacs::scripted(|_, _| Act::Freeze).await);
    let routes = vec![RouteSpec::new(1, "GOOD", "good"), RouteSpec::new(2, "FROZEN", "frozen")];
    let destinations = vec![("good", dicom(good.address)), ("frozen", dicom(frozen.address))];
    let plan = Plan::new(routes, destinations)
        .inn(|config| config.collect.verify_first = service::config::ByteSize(512 << 10));
    let bed = Bed::start(plan).await;
    for seed in 94..100 {
        // A study each, so that each has a worker of its own.
        assert_eq!(send(bed.dicom, "FROZEN", &slices(seed, 1, 2048)).await, [0]);
    }
    until("the standstill", async || frozen.seen().begun >= 1).await;
    passage(&bed, &good, 100).await;
    assert_eq!(frozen.complete(), 0);
}
