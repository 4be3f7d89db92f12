//! CUSTODY: the instances of one association go to a destination in their order over one association,
//! and no two senders share one.

use std::collections::HashMap;

use spool::State;

use crate::common::{Bed, Envoy, OTHER, OUT, Pacs, Plan, RouteSpec, dicom, route_id, send, slices, until};

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
    let arrived: Vec<_> = seen.complete.iter().map(|got| &got.data).collect();
    assert!(arrived == samples.iter().map(|sample| &sample.data).collect::<Vec<_>>(), "another order");
    let titles: Vec<_> = seen.associations.iter().map(|title| title.as_str()).collect();
    assert_eq!(titles, ["CT_ROOM_7"]);
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
