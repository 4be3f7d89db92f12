//! CUSTODY, `respond = "delivered"`: the PACS gets the destination's own answer, and nothing is kept.

use std::{path::Path, time::Duration};

use service::config::Span;
use spool::State;

use crate::common::{Act, Bed, Pacs, Plan, RouteSpec, dicom, send, slice, slices, until};

fn plan(pacs: &Pacs, timeout_ms: u64) -> Plan {
    let routes = vec![RouteSpec::new(1, "GW", "pacs").delivered()];
    Plan::new(routes, vec![("pacs", dicom(pacs.address))])
        .out(move |config| config.retry.delivered_timeout = Span(Duration::from_millis(timeout_ms)))
}

/// Files of sealed bodies: everything below the outbox but the index, what belongs to it, and what is known of relays' logs.
fn bodies(outbox: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(outbox).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(bodies(&path));
        } else if !["index", "lock", "log-of-"].iter().any(|other| name.contains(other)) {
            found.push(path.display().to_string());
        }
    }
    found
}

async fn nothing_is_kept(bed: &Bed) {
    assert_eq!(bodies(&bed.path("outbox")), Vec::<String>::new());
    for row in bed.deliveries().await {
        assert!(!row.spooled && bed.queue().content_key(row.object).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pacs_gets_the_destinations_own_status() {
    let statuses = [0x0000, 0xB007, 0xA900, 0xC123, 0x0122];
    let samples = slices(40, 5, 64);
    let uids: Vec<_> = samples.iter().map(|sample| sample.uid()).collect();
    let pacs = Pacs::scripted(move |request, _| {
        let at = uids.iter().position(|uid| uid == request.meta.sop_instance.reveal().as_str());
        Act::Answer(statuses[at.unwrap()])
    })
    .await;
    let bed = Bed::start(plan(&pacs, 20_000)).await;
    assert_eq!(send(bed.dicom, "GW", &samples).await, statuses);
    let rows = bed.deliveries().await;
    assert!(rows.iter().all(|row| row.state.is_ended() && !row.alarm), "the PACS owns what was refused");
    assert_eq!(bed.receipts(&rows[2]).await[0].status.0, 0xA900);
    nothing_is_kept(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_destination_defers_is_given_back_at_once() {
    let pacs = Pacs::scripted(|_, nth| Act::Answer(if nth == 0 { 0xA701 } else { 0 })).await;
    let bed = Bed::start(plan(&pacs, 20_000)).await;
    let sample = slice(41, 64);
    assert_eq!(send(bed.dicom, "GW", std::slice::from_ref(&sample)).await, [0xA700]);
    bed.all_in(State::Returned, 1).await;
    assert_eq!(send(bed.dicom, "GW", &[sample]).await, [0]);
    assert_eq!(pacs.complete(), 2);
    nothing_is_kept(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_answers_the_same_content_the_next_time() {
    let pacs = Pacs::scripted(|_, _| Act::Late).await;
    let bed = Bed::start(plan(&pacs, 500)).await;
    let sample = slice(42, 64);
    assert_eq!(send(bed.dicom, "GW", std::slice::from_ref(&sample)).await, [0xA700]);
    nothing_is_kept(&bed).await;
    let row = bed.all_in(State::Returned, 1).await.remove(0);
    pacs.answer_now();
    until("the late receipt", async || !bed.receipts(&row).await.is_empty()).await;
    assert_eq!(send(bed.dicom, "GW", std::slice::from_ref(&sample)).await, [0]);
    assert_eq!(pacs.complete(), 1, "it was stored already");
    assert_eq!(send(bed.dicom, "GW", &[sample.changed()]).await, [0]);
    assert_eq!(pacs.complete(), 2, "other content is not answered from it");
    nothing_is_kept(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_back_before_its_last_fragment_left_does_not_arrive() {
    let pacs = Pacs::scripted(|_, _| Act::Freeze).await;
    let bed = Bed::start(plan(&pacs, 500)).await;
    // More than the sockets between us take.
    let sample = slice(43, 2048);
    assert_eq!(send(bed.dicom, "GW", &[sample]).await, [0xA700]);
    until("the abort", async || bed.status_in().await["in_flight"] == 0).await;
    assert_eq!(pacs.complete(), 0);
    nothing_is_kept(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_relay_the_pacs_is_told_to_wait() {
    let pacs = Pacs::good().await;
    let mut bed = Bed::laid_out(plan(&pacs, 500));
    bed.start_out().await;
    assert_eq!(send(bed.dicom, "GW", &[slice(44, 64)]).await, [0xA700]);
    nothing_is_kept(&bed).await;
}
