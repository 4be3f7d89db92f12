//! CUSTODY: the instances of one association go to a destination in their order over one association,
//! and no two senders share one.

use std::collections::HashMap;

use spool::State;

use crate::common::{
    Act, Bed, Envoy, OTHER, OUT, Pacs, Plan, RouteSpec, Sample, dicom, route_id, send, slices, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_study_arrives_in_its_order_over_one_association() {
    let pacs = Pacs::good().await;
    let plan = Plan::one(dicom(pacs.address))
        .inn(|config| config.destinations[0].calling = Some("original".to_owned()));
    let bed = Bed::start(plan).await;
    let samples: Vec<_> = slices(80, 50, 64).into_iter().map(|sample| sample.to("CT_ROOM_7", "GW")).collect();
    assert_eq!(send(bed.dicom, "GW", &samples).await, [0; 50]);
    bed.all_in(State::Purged, 50).await;
    let seen = pacs.seen();
    let at = |data: &Vec<u8>| samples.iter().position(|sample| sample.data == *data).unwrap();
    let arrived: Vec<_> = seen.complete.iter().map(|got| at(&got.data)).collect();
    assert_eq!(arrived, (0..50).collect::<Vec<_>>());
    let titles: Vec<_> = seen.associations.iter().map(|title| title.as_str()).collect();
    assert_eq!(titles, ["CT_ROOM_7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_takes_one_association_under_the_original_title() {
    let pacs = Pacs::good().await;
    let plan = Plan::one(dicom(pacs.address))
        .inn(|config| config.destinations[0].calling = Some("original".to_owned()));
    let bed = Bed::start(plan).await;
    let samples: Vec<_> = slices(86, 30, 64).into_iter().map(|sample| sample.to("CT_ROOM_7", "GW")).collect();
    assert_eq!(send(bed.dicom, "GW", &samples).await, [0; 30]);
    bed.all_in(State::Purged, 30).await;
    let titles: Vec<_> = pacs.seen().associations.iter().map(|title| title.as_str().to_owned()).collect();
    assert_eq!(titles, ["CT_ROOM_7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_destination_has_left_another_association_is_opened_at_once() {
    let pacs = Pacs::scripted(|_, _| Act::AnswerAndLeave).await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    for (count, sample) in (1..).zip(slices(87, 4, 64)) {
        assert_eq!(send(bed.dicom, "GW", &[sample]).await, [0]);
        let rows = bed.all_in(State::Purged, count).await;
        assert!(rows.iter().all(|row| row.deferrals == 0), "a closed association cost an attempt");
    }
    assert_eq!(pacs.seen().associations.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_in_order_arrives_in_order() {
    let pacs = Pacs::good().await;
    let bed = Bed::receiving(Plan::one(dicom(pacs.address))).await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    // Sizes differ, so that a small one could overtake a large one on the way.
    let samples: Vec<_> = slices(84, 15, 512).into_iter().zip(slices(85, 15, 64)).collect();
    let samples: Vec<_> = samples.into_iter().flat_map(|(large, small)| [large, small]).collect();
    let letters: Vec<_> = samples.iter().map(|sample| envoy.seal(sample)).collect();
    let mut headers = Vec::new();
    for letter in &letters {
        headers.push(envoy.header(letter));
    }
    // Side by side; each is polled, and so offered, in its turn.
    let deposits = letters.iter().zip(headers).map(|(letter, header)| envoy.deposit(letter, header));
    for deposited in tokio::task::unconstrained(futures_util::future::join_all(deposits)).await {
        deposited.unwrap();
    }
    until("all", async || pacs.complete() == samples.len()).await;
    assert_eq!(
        places(&pacs, &samples),
        [(0..30).step_by(2).collect(), (1..30).step_by(2).collect::<Vec<_>>()]
    );
}

/// Which of the samples arrived, in that order: those of the first study, those of the second.
fn places(pacs: &Pacs, samples: &[Sample]) -> [Vec<usize>; 2] {
    let arrived = pacs.seen().complete;
    let at = |data: &Vec<u8>| samples.iter().position(|sample| sample.data == *data).unwrap();
    let (even, odd) = arrived.iter().map(|got| at(&got.data)).partition(|place| place % 2 == 0);
    [even, odd]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_senders_never_share_an_association() {
    let pacs = Pacs::good().await;
    let routes = vec![RouteSpec::new(1, "GW", "pacs"), RouteSpec::new(2, "GW2", "pacs").from(OTHER)];
    let plan = Plan::new(routes, vec![("pacs", dicom(pacs.address))])
        // So few that workers have to change between senders.
        .inn(|config| config.destinations[0].max_associations = 2);
    let bed = Bed::receiving(plan).await;
    let mut senders = HashMap::new();
    let (mut one, mut other) =
        (Envoy::new(&bed, OUT, route_id(1)).await, Envoy::new(&bed, OTHER, route_id(2)).await);
    // Three studies, each of which both have.
    let studies: Vec<_> = (81..84).map(|seed| slices(seed, 6, 64)).collect();
    for at in 0..6 {
        for study in &studies {
            for (who, envoy) in [(OUT, &mut one), (OTHER, &mut other)] {
                let mut sample = study[at].clone();
                sample.meta.calling = crate::common::ae(who);
                let letter = envoy.seal(&sample);
                envoy.send(&letter).await;
            }
        }
    }
    until("all", async || pacs.complete() == 36).await;
    for got in pacs.seen().complete {
        let who = got.meta.sop_instance.reveal().as_str().to_owned();
        senders.entry(got.association).or_insert_with(Vec::new).push(who);
    }
    // Both sent the same 18 instances: an association that has one of them twice had two senders.
    for (association, mut uids) in senders {
        let count = uids.len();
        uids.sort();
        uids.dedup();
        assert_eq!(uids.len(), count, "association {association} was shared");
    }
}
