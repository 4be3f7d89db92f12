//! Any role may be restarted at any time: what is owed is delivered all the same.

use base::Timestamp;
use ledger::{Destination, Level, Outcome, Party, Receipt};
use spool::{Answer, Arrival, EventKind, Inbound, State};

use crate::common::{
    Act, Bed, Envoy, IN, OUT, Pacs, Plan, ae, dicom, name, route_id, seal, send, slice, slices, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_the_outbox_goes_after_a_restart() {
    let pacs = Pacs::good().await;
    let mut bed = Bed::laid_out(Plan::one(dicom(pacs.address)));
    bed.start_out().await;
    let samples = slices(70, 5, 64);
    assert_eq!(send(bed.dicom, "GW", &samples).await, [0; 5]);
    bed.stop_out().await;
    bed.start_relay().await;
    bed.start_in().await;
    bed.start_out().await;
    bed.all_in(State::Purged, 5).await;
    assert_eq!(pacs.complete(), 5);
}

/// The relay holds five instances for a receiving gateway that is away.
async fn five_at_the_relay() -> (Pacs, Bed) {
    let pacs = Pacs::good().await;
    let mut bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    assert_eq!(send(bed.dicom, "GW", &[slice(74, 64)]).await, [0]);
    bed.all_in(State::Purged, 1).await;
    bed.stop_in().await;
    assert_eq!(send(bed.dicom, "GW", &slices(71, 5, 64)).await, [0; 5]);
    let held = async || bed.deliveries().await.iter().filter(|row| row.state == State::Relayed).count() == 5;
    until("five at the relay", held).await;
    (pacs, bed)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_held_is_deposited_again_after_its_restart() {
    let (pacs, mut bed) = five_at_the_relay().await;
    bed.stop_relay().await;
    bed.start_relay().await;
    bed.start_in().await;
    let rows = bed.all_in(State::Purged, 6).await;
    assert_eq!(pacs.complete(), 6);
    let history = bed.queue().history(rows[5].delivery).await.unwrap();
    assert!(history.iter().any(|event| event.kind == EventKind::RelayLost), "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_to_lost_prekeys_is_addressed_again() {
    let (pacs, mut bed) = five_at_the_relay().await;
    bed.start_in().await;
    let rows = bed.all_in(State::Purged, 6).await;
    assert_eq!(pacs.complete(), 6);
    let history = bed.queue().history(rows[5].delivery).await.unwrap();
    assert!(history.iter().any(|event| event.kind == EventKind::Nacked), "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_destination_answered_while_the_relay_was_away_is_not_stored_twice() {
    let pacs = Pacs::scripted(|_, _| Act::Late).await;
    let mut bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    assert_eq!(send(bed.dicom, "GW", &slices(72, 5, 64)).await, [0; 5]);
    until("the first", async || pacs.complete() == 1).await;
    bed.stop_relay().await;
    pacs.answer_now();
    until("a receipt in the ledger", async || bed.status_in().await["ledger"]["stored"].as_u64() >= Some(1))
        .await;
    bed.start_relay().await;
    bed.all_in(State::Purged, 5).await;
    let mut uids: Vec<_> =
        pacs.seen().complete.iter().map(|got| got.meta.sop_instance.reveal().clone()).collect();
    uids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    let sent = uids.len();
    uids.dedup();
    assert_eq!((sent, uids.len()), (5, 5), "stored twice although the outcome was known");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_not_signed_before_a_crash_is_signed_at_the_start() {
    let pacs = Pacs::good().await;
    let mut bed = Bed::laid_out(Plan::one(dicom(pacs.address)));
    let sample = slice(73, 64);
    let letter = seal(&name(OUT), route_id(1), &name("pacs"), &sample);
    let receipt = answered_and_not_signed(&bed, &letter).await;
    bed.start_relay().await;
    bed.start_in().await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    assert_eq!(envoy.answer_to(&letter).await.receipt(&letter), receipt);
    // And the delivery, deposited again by a sender that never heard of it, is not stored again.
    let again = crate::common::Letter { attempt: base::Attempt(2), ..letter };
    envoy.send(&again).await;
    envoy.answer_to(&again).await.receipt(&again);
    assert_eq!(pacs.seen().begun, 0);
}

/// The ledger as a crash between the answer and its signature leaves it.
async fn answered_and_not_signed(bed: &Bed, letter: &crate::common::Letter) -> Receipt {
    let sample = slice(73, 64);
    let party = |who: &str| Party { name: name(who), fingerprint: bed.card(who).identity.fingerprint() };
    let now = Timestamp::now();
    let receipt = Receipt {
        delivery: letter.delivery,
        attempt: letter.attempt,
        object: letter.body.object,
        body_digest: base::Digest::of(&letter.sealed),
        data_digest: base::Digest::of(&sample.data),
        data_bytes: sample.data.len() as u64,
        sender: party(OUT),
        receiver: party(IN),
        destination: name("pacs"),
        kind: Destination::Dicom(ae("STORE")),
        sop_class: sample.meta.sop_class.clone(),
        uid_hash: base::Digest::of(b"hash"),
        status: base::Status::SUCCESS,
        outcome: Outcome::Stored,
        level: Level::Answered,
        remark: None,
        received_at: now,
        answered_at: now,
        changed: None,
    };
    let arrival = Arrival {
        delivery: letter.delivery,
        attempt: letter.attempt,
        object: letter.body.object,
        sender: name(OUT),
        route: route_id(1),
        destination: name("pacs"),
        sop_class: sample.meta.sop_class.clone(),
        data_len: sample.data.len() as u64,
    };
    let (random, plain) = (base::random_bytes(), receipt.encode());
    let (body, key) = (&letter.body, &letter.content_key);
    let record = envelope::seal_record(body, key, letter.delivery, letter.attempt, &random, &plain);
    let answer = Answer {
        arrival: arrival.clone(),
        outcome: spool::Outcome::Stored,
        status: receipt.status,
        level: 1,
        answered_at: now,
        receipt: plain,
        record,
        pledge: None,
    };
    let inbound = Inbound::open(&bed.path("ledger"), now).unwrap();
    inbound.attempt_sent(arrival, now).await.unwrap();
    inbound.answered(answer, now).await.unwrap();
    receipt
}
