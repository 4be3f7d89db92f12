//! What a body goes through between two gateways, over real sockets.

use base::Attempt;

use crate::common::*;
use transport::{DepositError, DownlinkEvent, UplinkEvent};
use wire::{DeclineCode, RelayState};

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_deposited_collected_settled_and_acknowledged() {
    let bed = Bed::new().await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(4).await;
    sender.connected().await;
    for size in [0usize, 1, 31, 32, 33, 1000, 70_000, 3 << 20] {
        for announced in [true, false] {
            let delivery = delivery();
            let offer = sender.offer(delivery, ROUTE, announced.then_some(size as u64));
            let link = sender.link.clone();
            let deposit = tokio::spawn(async move { link.deposit(offer, body(size)).await });
            let offer = recipient.offered().await;
            assert_eq!(
                (offer.delivery, offer.route, offer.sender),
                (delivery, ROUTE, bed.sender_key.fingerprint())
            );
            assert_eq!(offer.header, vec![7; 300]);
            let settling = Settling::from(&offer);
            let lease = offer.lease();
            assert_eq!(take(offer, 100_000).await, Ok((size as u64, true)), "{size} {announced}");
            soon("the deposit", deposit).await.unwrap().unwrap();
            assert_eq!(sender.next().await, UplinkEvent::Collected { delivery, attempt: Attempt(1) });
            recipient.settle(&settling).await;
            drop(lease);
            let UplinkEvent::Settlement { delivery: settled, attempt, .. } = sender.next().await else {
                panic!()
            };
            assert_eq!((settled, attempt), (delivery, Attempt(1)));
            sender.link.ack(sender.recipient, delivery, attempt, None).await.unwrap();
            let DownlinkEvent::Acked { delivery: acked, .. } = recipient.next().await else { panic!() };
            assert_eq!(acked, delivery);
        }
    }
    let status = bed.status().await;
    assert_eq!((status.blobs, status.bytes_held, status.bytes_reserved, status.leases), (0, 0, 0, 0));
    assert_eq!((status.settlements_waiting, status.counters.burned), (0, 16));
    sender.task.stop().await;
    recipient.task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_waits_for_a_recipient_that_is_away() {
    let bed = Bed::new().await;
    let mut sender = bed.uplink();
    sender.connected().await;
    let first = delivery();
    sender.link.deposit(sender.offer(first, ROUTE, Some(500_000)), body(500_000)).await.unwrap();
    let again = sender.link.deposit(sender.offer(first, ROUTE, Some(500_000)), body(500_000)).await;
    assert!(
        matches!(again, Err(DepositError::Known { state: RelayState::Relayed, digest: Some(_), .. })),
        "{again:?}"
    );
    let mut recipient = bed.downlink();
    recipient.ready(4).await;
    let offer = recipient.offered().await;
    assert_eq!(offer.delivery, first);
    assert_eq!(take(offer, 1 << 20).await, Ok((500_000, true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_is_not_admitted_for_a_recipient_is_declined() {
    let bed = Bed::new().await;
    let mut sender = bed.uplink();
    sender.connected().await;
    let mut offer = sender.offer(delivery(), ROUTE, None);
    offer.recipient = bed.sender_key.fingerprint();
    assert_eq!(
        sender.link.deposit(offer, body(10)).await,
        Err(DepositError::Declined(DeclineCode::NotAdmitted))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn prekeys_and_session_ends_pass_through() {
    let bed = Bed::new().await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(1).await;
    sender.connected().await;
    assert_eq!(sender.link.prekey(sender.recipient, ROUTE).await, Ok(None));
    // As many as do not fit into one frame.
    let bundles: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 5000]).collect();
    recipient.publish(ROUTE, bundles.clone(), Some(vec![99; 5000])).await;
    let mut got = Vec::new();
    while got.len() < 40 {
        // Published and asked for on two connections: the first answers may be none.
        match sender.link.prekey(sender.recipient, ROUTE).await.unwrap() {
            Some(bundle) if bundle.first() != Some(&99) => got.push(bundle),
            _ => tokio::task::yield_now().await,
        }
    }
    assert_eq!(got, bundles);
    assert_eq!(sender.link.prekey(sender.recipient, ROUTE).await, Ok(Some(vec![99; 5000])));
    sender.link.close_session(sender.recipient, ROUTE, vec![1, 2, 3]).await.unwrap();
    let DownlinkEvent::SessionClosed { bytes, sender: who, .. } = recipient.next().await else { panic!() };
    assert_eq!((bytes, who), (vec![1, 2, 3], bed.sender_key.fingerprint()));
}
