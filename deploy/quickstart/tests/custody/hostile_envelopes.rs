//! CUSTODY, "What ends custody" 4 and "Repeats": nothing forged, altered, cut or replayed reaches a
//! destination as a complete instance.

use base::{Attempt, DeliveryId, Secret};
use envelope::SEALED_CHUNK_BYTES;
use ledger::{ManifestCore, NackReason};
use service::config::ByteSize;

use crate::common::{
    Bed, Envoy, Letter, MALLORY, OUT, Pacs, Plan, RouteSpec, dicom, envoy_header, name, route_id, slice,
    until,
};

/// A destination, and a receiving gateway in front of it that streams what is larger than 256 KiB.
async fn bed() -> (Pacs, Bed) {
    let pacs = Pacs::good().await;
    let routes = vec![RouteSpec::new(1, "GW", "pacs"), RouteSpec::new(2, "GW2", "other")];
    let destinations = vec![("pacs", dicom(pacs.address)), ("other", dicom(pacs.address))];
    let plan =
        Plan::new(routes, destinations).inn(|config| config.collect.verify_first = ByteSize(256 << 10));
    let bed = Bed::receiving(plan).await;
    (pacs, bed)
}

/// A pixel side below and one above what is verified as a whole.
const SIDES: [u16; 2] = [128, 1024];

fn nothing_arrived(pacs: &Pacs, case: &str) {
    assert_eq!(pacs.complete(), 0, "{case}: a complete instance reached the destination");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_is_not_pinned_for_the_route_is_refused() {
    let logs = testkit::Logs::of_process();
    let (pacs, bed) = bed().await;
    let mut mallory = Envoy::new(&bed, MALLORY, route_id(1)).await;
    let letter = mallory.seal(&slice(1, 64));
    mallory.send(&letter).await;
    assert_eq!(mallory.answer_to(&letter).await.nack(), NackReason::NotPinned);
    assert_eq!(pacs.seen().begun, 0);
    assert!(!logs.lines_with(NackReason::NotPinned.as_str()).is_empty(), "the log says why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_any_chunk_reaches_no_destination_whole() {
    let (pacs, bed) = bed().await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    for side in SIDES {
        let whole = envoy.seal(&slice(2, side));
        let len = whole.sealed.len();
        for at in [0, len / 2, len - 1] {
            let mut letter = envoy.seal(&slice(2, side));
            letter.sealed[at] ^= 0x10;
            envoy.send(&letter).await;
            let case = format!("side {side}, bit at {at} of {len}");
            assert_eq!(envoy.answer_to(&letter).await.nack(), NackReason::BadTag, "{case}");
            nothing_arrived(&pacs, &case);
        }
    }
    let seen = pacs.seen();
    assert!(seen.begun > 0, "none was streamed");
    until("aborts", async || pacs.seen().broken == seen.begun).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_cut_at_a_chunk_boundary_reaches_no_destination_whole() {
    let (pacs, bed) = bed().await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    for side in [256, 1024] {
        let chunks = envoy.seal(&slice(3, side)).sealed.len() / SEALED_CHUNK_BYTES;
        assert!(chunks > 1);
        for kept in [0, 1, chunks] {
            let mut letter = envoy.seal(&slice(3, side));
            letter.sealed.truncate(kept * SEALED_CHUNK_BYTES);
            envoy.send(&letter).await;
            let case = format!("side {side}, {kept} of {chunks} full chunks");
            assert_eq!(envoy.answer_to(&letter).await.nack(), NackReason::Truncated, "{case}");
            nothing_arrived(&pacs, &case);
        }
    }
    let seen = pacs.seen();
    assert!(seen.begun > 0, "none was streamed");
    until("aborts", async || pacs.seen().broken == seen.begun).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_two_bodies_are_not_mixed() {
    let (pacs, bed) = bed().await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    let (one, other) = (envoy.seal(&slice(4, 1024)), envoy.seal(&slice(5, 1024)));
    let middle = 4 * SEALED_CHUNK_BYTES..5 * SEALED_CHUNK_BYTES;
    let mut mixed = one.clone();
    mixed.sealed[middle.clone()].copy_from_slice(&other.sealed[middle.clone()]);
    envoy.send(&mixed).await;
    assert_eq!(envoy.answer_to(&mixed).await.nack(), NackReason::BadTag);
    let mut swapped = envoy.seal(&slice(4, 1024));
    let first = swapped.sealed[..SEALED_CHUNK_BYTES].to_vec();
    swapped.sealed.copy_within(middle, 0);
    swapped.sealed[4 * SEALED_CHUNK_BYTES..5 * SEALED_CHUNK_BYTES].copy_from_slice(&first);
    envoy.send(&swapped).await;
    assert_eq!(envoy.answer_to(&swapped).await.nack(), NackReason::BadTag);
    nothing_arrived(&pacs, "mixed chunks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_only_where_its_header_was_signed_to_go() {
    let (pacs, bed) = bed().await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    // The relay, or whoever has the header, offers it on the other route.
    let letter = envoy.seal(&slice(6, 64));
    let header = envoy.header(&letter);
    envoy.deposit_to(route_id(2), &letter, header).await.unwrap();
    let reason = envoy.answer_to(&letter).await.nack();
    assert!(matches!(reason, NackReason::WrongDestination | NackReason::NotPinned), "{reason:?}");
    // The pinned sender itself names another destination than the route's.
    let object = envoy.seal(&slice(6, 64));
    let delivery = DeliveryId::derive(&name(OUT), object.body.object, route_id(1), &name("other"));
    let elsewhere = Letter { delivery, ..object };
    envoy.send(&elsewhere).await;
    assert_eq!(envoy.answer_to(&elsewhere).await.nack(), NackReason::WrongDestination);
    // The header of one delivery with the label of another.
    let (one, other) = (envoy.seal(&slice(6, 64)), envoy.seal(&slice(7, 64)));
    let header = envoy.header(&one);
    envoy.deposit(&other, header).await.unwrap();
    assert_eq!(envoy.answer_to(&other).await.nack(), NackReason::BadHeader);
    assert_eq!(pacs.seen().begun, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_number_carries_one_body_only() {
    let (pacs, bed) = bed().await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    // One random start makes one session twice over.
    let random = Secret::random();
    let (mut first, mut again) = (envoy.session(&random), envoy.session(&random));
    let letter = envoy.seal(&slice(8, 64));
    envoy.deposit(&letter, envoy_header(&mut first, &letter)).await.unwrap();
    envoy.answer_to(&letter).await.receipt(&letter);
    assert_eq!(pacs.complete(), 1);
    let replay = envoy.seal(&slice(9, 64));
    first.opening_known();
    again.opening_known();
    envoy.deposit(&replay, envoy_header(&mut again, &replay)).await.unwrap();
    let reason = envoy.answer_to(&replay).await.nack();
    assert!(matches!(reason, NackReason::Replay | NackReason::BadSignature), "{reason:?}");
    // A good header with the body of another: its key does not fit.
    let other = Letter { sealed: envoy.seal(&slice(10, 64)).sealed, ..envoy.seal(&slice(11, 64)) };
    envoy.deposit(&other, envoy_header(&mut first, &other)).await.unwrap();
    assert_eq!(envoy.answer_to(&other).await.nack(), NackReason::BadTag);
    assert_eq!(pacs.complete(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_delivery_is_answered_from_the_ledger() {
    let (pacs, bed) = bed().await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    let letter = envoy.seal(&slice(12, 64));
    envoy.send(&letter).await;
    let receipt = envoy.answer_to(&letter).await.receipt(&letter);
    let again = Letter { attempt: Attempt(2), ..letter.clone() };
    envoy.send(&again).await;
    let repeated = envoy.answer_to(&again).await.receipt(&again);
    assert_eq!(ledger::Receipt { attempt: receipt.attempt, ..repeated }, receipt);
    assert_eq!(pacs.complete(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_replayed_after_its_receipt_was_acknowledged_is_not_stored_again() {
    let (pacs, bed) = bed().await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    let letter = envoy.seal(&slice(13, 64));
    let header = envoy.header(&letter);
    envoy.deposit(&letter, header.clone()).await.unwrap();
    let receipt = envoy.answer_to(&letter).await.receipt(&letter);
    envoy.ack(&receipt).await;
    let acknowledged = async || bed.status_in().await["ledger"]["states"]["acknowledged"] == 1;
    until("the acknowledgement", acknowledged).await;
    // The very same bytes, as somebody between the gateways may have kept them.
    envoy.deposit(&letter, header).await.unwrap();
    assert_eq!(envoy.answer_to(&letter).await.nack(), NackReason::Replay);
    let again = Letter { attempt: Attempt(2), ..letter };
    envoy.send(&again).await;
    assert_eq!(envoy.answer_to(&again).await.nack(), NackReason::Replay);
    assert_eq!(pacs.complete(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_senders_own_signature_acknowledges_a_receipt() {
    let logs = testkit::Logs::of_process();
    let (_pacs, bed) = bed().await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    let letter = envoy.seal(&slice(14, 64));
    envoy.send(&letter).await;
    let receipt = envoy.answer_to(&letter).await.receipt(&letter);

    let signed = |who: &str, core: ManifestCore| {
        let manifest = ledger::sign_manifests(&bed.key(who), &[core], &[]).unwrap().remove(0);
        Some(manifest.encode())
    };
    let core = envoy.sent(&receipt);
    let mut cut = signed(OUT, core.clone()).unwrap();
    cut.pop();
    let other_body = ManifestCore { body_digest: base::Digest::of(b"another"), ..core.clone() };
    let other_receipt = ManifestCore { receipt: base::Digest::of(b"another"), ..core.clone() };
    let mallory = bed.key(MALLORY).fingerprint();
    let cases = [
        ("none, as a relay could say it by itself", None, "the sender has not signed it"),
        ("cut", Some(cut), "manifest: record is not readable"),
        ("of another body", signed(OUT, other_body), "another receipt"),
        ("of another receipt", signed(OUT, other_receipt), "another receipt"),
        ("signed by another", signed(MALLORY, core.clone()), "manifest: batch is not signed"),
        ("of another", signed(MALLORY, ManifestCore { sender: mallory, ..core }), "not pinned"),
    ];
    for (case, manifest, why) in cases {
        envoy.ack_with(&receipt, manifest).await;
        until(case, async || !logs.lines_with(why).is_empty()).await;
        assert_eq!(bed.status_in().await["ledger"]["states"]["signed"], 1, "{case}");
    }
    envoy.ack(&receipt).await;
    until("the acknowledgement", async || bed.status_in().await["ledger"]["states"]["acknowledged"] == 1)
        .await;
}
