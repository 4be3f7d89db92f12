//! Bodies larger than what the relay may hold.

use std::time::Duration;

use relay::vault::Limits;
use transport::UplinkEvent;
use wire::NoticeKind;

use crate::common::*;

fn small() -> Limits {
    Limits::new(8 << 20, 4 << 20, Duration::from_secs(900), Duration::from_secs(30))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bodies_larger_than_the_budget_pass_side_by_side() {
    let bed = Bed::with_limits(small()).await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(4).await;
    sender.connected().await;
    let recipient = settle_all(recipient, 1 << 20);
    let size = 40 << 20;
    let deposits: Vec<_> = (0..3)
        .map(|n| {
            let (link, offer) =
                (sender.link.clone(), sender.offer(delivery(), ROUTE, (n > 0).then_some(size)));
            tokio::spawn(async move { link.deposit(offer, body(size as usize)).await })
        })
        .collect();
    for deposit in deposits {
        soon("the deposit", deposit).await.unwrap().unwrap();
    }
    for _ in 0..3 {
        let UplinkEvent::Settlement { delivery, attempt, .. } = sender.answer().await else { panic!() };
        sender.link.ack(sender.recipient, delivery, attempt, None).await.unwrap();
    }
    let status = bed.until("the acknowledgements", |status| status.settlements_waiting == 0).await;
    assert_eq!((status.bytes_reserved, status.counters.passed_through), (0, 3));
    recipient.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_passed_through_is_gone_with_its_recipient() {
    let bed = Bed::with_limits(small()).await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(1).await;
    sender.connected().await;
    let size = 40 << 20;
    let delivery = delivery();
    let (link, offer) = (sender.link.clone(), sender.offer(delivery, ROUTE, Some(size)));
    let deposit = tokio::spawn(async move { link.deposit(offer, body(size as usize)).await });
    let mut incoming = recipient.offered().await.accept(6 << 20).await.unwrap();
    while incoming.received() < 5 << 20 {
        soon("bytes", incoming.next()).await.unwrap();
    }
    recipient.task.stop().await;
    assert!(deposit.await.unwrap().is_err());
    let UplinkEvent::Notice { delivery: gone, kind, .. } = sender.answer().await else { panic!() };
    assert_eq!((gone, kind), (delivery, NoticeKind::Gone));
    assert_eq!(bed.status().await.blobs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_budget_waits_for_a_recipient_that_is_away_and_all_of_it_arrives() {
    let bed = Bed::with_limits(small()).await;
    let mut sender = bed.uplink();
    sender.connected().await;
    let deposits: Vec<_> = (0..30)
        .map(|_| {
            let (link, offer) = (sender.link.clone(), sender.offer(delivery(), ROUTE, Some(1 << 20)));
            tokio::spawn(async move { link.deposit(offer, body(1 << 20)).await })
        })
        .collect();
    let status =
        bed.until("a full vault", |status| status.counters.deposited >= 4 && status.offers_waiting > 0).await;
    assert!(status.bytes_reserved <= 8 << 20);
    let mut recipient = bed.downlink();
    recipient.ready(4).await;
    let recipient = settle_all(recipient, 1 << 20);
    for _ in 0..30 {
        let UplinkEvent::Settlement { delivery, attempt, .. } = sender.answer().await else { panic!() };
        sender.link.ack(sender.recipient, delivery, attempt, None).await.unwrap();
    }
    for deposit in deposits {
        // A body that was settled before its sender heard that it is there is as good.
        let ended = soon("the deposit", deposit).await.unwrap();
        assert!(matches!(ended, Ok(_) | Err(transport::DepositError::Known { .. })), "{ended:?}");
    }
    recipient.abort();
}
