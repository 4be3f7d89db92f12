//! CUSTODY, "What ends custody" 1 to 5: what each answer, or none, of a destination does to a delivery.

use std::{collections::BTreeMap, time::Duration};

use base::{Status, Timestamp};
use dimse::{
    ContextChoice, ContextDecision, ContextRejection, Proposal, RejectReason, StoragePolicy, Verdict,
};
use fixtures::{CtSeries, Subject, TransferSyntax};
use gateway_in::forward::{StatusOverrides, Verdict as Meaning};
use ledger::{Outcome, Remark};
use service::config::Span;
use spool::{EventKind, State};

use crate::common::{Act, Bed, Pacs, Plan, dicom, sample, send, slice, slices, until};

#[tokio::test(flavor = "multi_thread")]
async fn out_of_resources_is_tried_again_until_the_destination_takes_it() {
    let script = |_: &_, nth| if nth < 2 { Act::Answer(0xA700) } else { Act::Answer(0xB000) };
    let pacs = Pacs::scripted(script).await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    let sent = slice(20, 64);
    assert_eq!(send(bed.dicom, "GW", std::slice::from_ref(&sent)).await, [0]);
    let row = bed.all_in(State::Purged, 1).await.remove(0);
    assert_eq!((row.deferrals, row.status), (2, Some(Status(0xB000))));
    let receipt = bed.receipts(&row).await.remove(0);
    assert_eq!((receipt.status, receipt.outcome), (Status(0xB000), Outcome::Stored));
    assert_eq!(receipt.remark, None, "each attempt had an answer, so none is a repeat in the dark");
    let seen = pacs.seen();
    assert_eq!(seen.complete.len(), 3);
    assert!(seen.complete.iter().all(|got| got.data == sent.data && got.meta.calling.as_str() == "SLUIS_IN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_instance_is_parked_and_the_others_go_on() {
    let samples = slices(21, 6, 64);
    let answers: BTreeMap<String, u16> =
        samples.iter().map(|sample| sample.uid()).zip([0, 0xA900, 0, 0xC000, 0x0124, 0]).collect();
    let told = answers.clone();
    let pacs =
        Pacs::scripted(move |request, _| Act::Answer(told[request.meta.sop_instance.reveal().as_str()]))
            .await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    assert_eq!(send(bed.dicom, "GW", &samples).await, [0; 6]);
    let ended =
        async || bed.deliveries().await.iter().all(|row| row.next_at.is_none() && row.status.is_some());
    until("all answers", ended).await;
    let queue = bed.queue();
    for (uid, status) in answers {
        let row = queue.find(&uid, 2).await.unwrap().remove(0).delivery;
        assert_eq!(row.status, Some(Status(status)));
        if status == 0 {
            until("the purge", async || {
                bed.queue().delivery(row.delivery).await.unwrap().unwrap().state == State::Purged
            })
            .await;
            assert!(queue.content_key(row.object).await.is_err(), "the key of a stored instance is left");
        } else {
            assert_eq!((row.state, row.alarm), (State::Parked, true));
            assert_eq!(bed.receipts(&row).await[0].outcome, Outcome::Refused);
            queue.content_key(row.object).await.unwrap();
            assert_eq!(queue.body(row.object).unwrap().len(), row.sealed.sealed_len);
        }
    }
    assert_eq!(pacs.complete(), 6, "a refusal is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_in_the_middle_is_tried_again() {
    let turn = std::sync::atomic::AtomicBool::new(true);
    let script = move |_: &_, _| match turn.swap(false, std::sync::atomic::Ordering::SeqCst) {
        true => Act::AbortDuring,
        false => Act::Answer(0),
    };
    let pacs = Pacs::scripted(script).await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    let sent = slice(22, 1024);
    assert_eq!(send(bed.dicom, "GW", std::slice::from_ref(&sent)).await, [0]);
    bed.all_in(State::Purged, 1).await;
    let seen = pacs.seen();
    assert_eq!((seen.begun, seen.complete.len(), seen.broken), (2, 1, 1));
    assert_eq!(seen.complete[0].data, sent.data);
}

/// No answer after the last fragment: (what the destination does first, then, what counts).
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_outcome_is_unknown_is_sent_again_and_counted() {
    let cases = [
        (Act::AbortAfter, 0x0000, Status(0)),
        (Act::Silence, 0x0000, Status(0)),
        // It had stored it the first time, and says so in its own way.
        (Act::AbortAfter, 0x0111, Status(0x0111)),
    ];
    for (first, then, status) in cases {
        let pacs = Pacs::scripted(move |_, nth| if nth == 0 { first } else { Act::Answer(then) }).await;
        let plan = Plan::one(dicom(pacs.address)).inn(|config| {
            config.destinations[0].response_timeout = Span(Duration::from_millis(300));
        });
        let bed = Bed::start(plan).await;
        assert_eq!(send(bed.dicom, "GW", &[slice(23, 64)]).await, [0]);
        let row = bed.all_in(State::Purged, 1).await.remove(0);
        let receipt = bed.receipts(&row).await.remove(0);
        let said = (receipt.status, receipt.outcome, receipt.remark);
        assert_eq!(said, (status, Outcome::Stored, Some(Remark::Repeated)), "{first:?} {then:04X}");
        assert_eq!(pacs.complete(), 2, "{first:?} {then:04X}");
        assert_eq!(bed.status_in().await["ledger"]["repeats_after_unknown_outcome"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_that_was_never_sent_before_is_not_taken_for_stored() {
    let pacs = Pacs::scripted(|_, _| Act::Answer(0x0111)).await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    assert_eq!(send(bed.dicom, "GW", &[slice(24, 64)]).await, [0]);
    until("two attempts", async || pacs.complete() >= 2).await;
    let row = bed.deliveries().await.remove(0);
    assert!(row.deferrals >= 1 && !row.state.is_ended(), "{:?}", row.state);
    assert!(bed.receipts(&row).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_for_good_is_alarmed_and_tried_again_slowly() {
    let door = |_: &Proposal| Verdict::Reject(RejectReason::CalledAeTitleNotRecognized);
    let pacs = Pacs::at(([127, 0, 0, 1], 0).into(), |_, _| Act::Answer(0), door).await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    assert_eq!(send(bed.dicom, "GW", &[slice(25, 64)]).await, [0]);
    let row = bed.all_in(State::Deferred, 1).await.remove(0);
    let wait = row.next_at.unwrap().since(Timestamp::now());
    assert!(row.alarm && wait > Duration::from_secs(120), "alarm {}, next in {wait:?}", row.alarm);
    assert_eq!(row.deferrals, 1);
    assert_eq!(bed.status_in().await["destinations"][0]["up"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_rejection_is_tried_again_soon() {
    let turn = std::sync::atomic::AtomicBool::new(true);
    let any = Pacs::any();
    let door = move |proposal: &Proposal| match turn.swap(false, std::sync::atomic::Ordering::SeqCst) {
        true => Verdict::Reject(RejectReason::LocalLimitExceeded),
        false => any(proposal),
    };
    let pacs = Pacs::at(([127, 0, 0, 1], 0).into(), |_, _| Act::Answer(0), door).await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    assert_eq!(send(bed.dicom, "GW", &[slice(26, 64)]).await, [0]);
    let row = bed.all_in(State::Purged, 1).await.remove(0);
    assert_eq!((row.deferrals, row.alarm), (1, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_presentation_context_takes_is_refused_at_once_and_stalls_nothing() {
    let implicit = "1.2.840.10008.1.2";
    let door = move |proposal: &Proposal| {
        let policy = StoragePolicy { private_sop_classes: true, prefer: Vec::new() };
        let strict = policy.decide(proposal).into_iter().map(|decision| match &decision.choice {
            ContextChoice::Accept(syntax) if syntax.as_str() == implicit => ContextDecision {
                choice: ContextChoice::Reject(ContextRejection::TransferSyntaxesNotSupported),
                ..decision
            },
            _ => decision,
        });
        Verdict::Accept(strict.collect::<Vec<_>>().into())
    };
    let pacs = Pacs::at(([127, 0, 0, 1], 0).into(), |_, _| Act::Answer(0), door).await;
    let bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    let series = CtSeries { subject: Subject::new(27), slices: 3, side: 64 };
    let syntaxes =
        [TransferSyntax::ExplicitLittle, TransferSyntax::ImplicitLittle, TransferSyntax::ExplicitLittle];
    let samples: Vec<_> =
        (0..).zip(&syntaxes).map(|(number, syntax)| sample(&series.slice(number), syntax)).collect();
    assert_eq!(send(bed.dicom, "GW", &samples).await, [0; 3]);
    let ended = async || {
        let states: Vec<_> = bed.deliveries().await.iter().map(|row| row.state).collect();
        states == [State::Purged, State::Parked, State::Purged]
    };
    until("two stored, one parked", ended).await;
    let parked = bed.deliveries().await.remove(1);
    assert_eq!((parked.status, parked.alarm), (Some(Status::SOP_CLASS_NOT_SUPPORTED), true));
    assert_eq!(pacs.seen().begun, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_down_holds_nothing_up_and_is_probed() {
    let address = testkit::free_tcp_address().unwrap();
    let good = Pacs::good().await;
    let routes =
        vec![crate::common::RouteSpec::new(1, "GW", "pacs"), crate::common::RouteSpec::new(2, "GW2", "good")];
    let destinations = vec![("pacs", dicom(address)), ("good", dicom(good.address))];
    let bed = Bed::start(Plan::new(routes, destinations)).await;
    assert_eq!(send(bed.dicom, "GW", &slices(28, 5, 64)).await, [0; 5]);
    until("the alarm", async || bed.status_in().await["destinations"].to_string().contains("false")).await;
    assert_eq!(send(bed.dicom, "GW2", &slices(29, 5, 64)).await, [0; 5]);
    until("the other destination's", async || good.complete() == 5).await;
    let pacs = Pacs::at(address, |_, _| Act::Answer(0), Pacs::any()).await;
    let rows = bed.all_in(State::Purged, 10).await;
    assert!(rows.iter().all(|row| row.nacks == 0));
    let seen = pacs.seen();
    assert!(seen.echoes >= 1, "it was not asked by C-ECHO");
    assert_eq!(seen.complete.len(), 5);
    let history = bed.queue().history(rows[0].delivery).await.unwrap();
    assert!(history.iter().any(|event| event.kind == EventKind::Deferred), "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_may_use_codes_in_a_sense_of_its_own() {
    let pacs = Pacs::scripted(|_, nth| Act::Answer(if nth == 0 { 0xC001 } else { 0 })).await;
    let plan = Plan::one(dicom(pacs.address)).inn(|config| {
        let moved = BTreeMap::from([("C0xx".to_owned(), Meaning::Deferred)]);
        config.destinations[0].status = StatusOverrides::try_from(moved).unwrap();
    });
    let bed = Bed::start(plan).await;
    assert_eq!(send(bed.dicom, "GW", &[slice(30, 64)]).await, [0]);
    let row = bed.all_in(State::Purged, 1).await.remove(0);
    assert_eq!((row.deferrals, pacs.complete()), (1, 2));
}
