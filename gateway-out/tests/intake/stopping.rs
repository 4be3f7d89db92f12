//! Stopping: what is idle goes at once, what is within a message may finish it.

use std::time::{Duration, Instant};

use base::Status;

use crate::bed::{Bed, associate, slice, store};

/// Far below the time that a data set under way is given.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn idle_associations_do_not_delay_it() {
    let bed = Bed::start(|_| {}).await;
    let mut used = associate(bed.dicom, "CT1", "GW").await.unwrap();
    let mut fresh = associate(bed.dicom, "CT1", "GW").await.unwrap();
    assert_eq!(store(&mut used, &slice(70, 64)).await, 0);
    let began = Instant::now();
    let _dir = bed.stop().await;
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    for association in [&mut used, &mut fresh] {
        let sample = slice(71, 64);
        let sent = match association.store_begin(&sample.meta).await {
            Ok(()) => association.store_data(sample.data.clone()).await,
            Err(error) => Err(error),
        };
        assert!(sent.is_err() || association.store_finish().await.is_err(), "the association is still there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_set_under_way_is_taken_and_answered() {
    let bed = Bed::start(|_| {}).await;
    let sample = slice(72, 512);
    let mut association = associate(bed.dicom, "CT1", "GW").await.unwrap();
    association.store_begin(&sample.meta).await.unwrap();
    let (first, rest) = sample.data.split_at(sample.data.len() / 2);
    association.store_data(first.to_vec()).await.unwrap();
    // Its bytes have come when there is a body.
    let begun = testkit::eventually(AT_ONCE, async || !bed.bodies().is_empty());
    assert!(begun.await);
    let began = Instant::now();
    let stopping = tokio::spawn(bed.stop());
    association.store_data(rest.to_vec()).await.unwrap();
    assert_eq!(association.store_finish().await.unwrap().status, Status::SUCCESS);
    let dir = stopping.await.unwrap();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(std::fs::read_dir(dir.path().join("outbox/objects")).unwrap().count(), 1);
}
