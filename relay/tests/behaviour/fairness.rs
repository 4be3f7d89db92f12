//! Two destinations on one connection, one of them frozen: the other keeps its rate.

use std::time::{Duration, Instant};

use base::RouteId;
use relay::vault::Limits;
use transport::{DownlinkEvent, IncomingBody, UplinkEvent};

use crate::common::*;

const FROZEN: RouteId = RouteId([2; 16]);
const BODIES: usize = 60;
const BYTES: usize = 1 << 20;

/// Sends the bodies of the running route, a few at a time, and gives the time until all are settled.
async fn run(bed: &Bed, freeze: bool) -> Duration {
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(8).await;
    recipient.link.window(FROZEN, 8).await.unwrap();
    sender.connected().await;
    if freeze {
        for n in 0..100 {
            // Large and small ones: one fills the relay's memory, the other its places and the sender's.
            let size = if n % 2 == 0 { 64 << 20 } else { 300_000 };
            let (link, offer) = (sender.link.clone(), sender.offer(delivery(), FROZEN, Some(size as u64)));
            tokio::spawn(async move { link.deposit(offer, body(size)).await });
        }
    }
    let (held, mut frozen) = tokio::sync::mpsc::channel::<IncomingBody>(100);
    let collector = tokio::spawn(async move {
        let Recipient { link, mut events, task: _task, key } = recipient;
        while let Some(event) = events.recv().await {
            let DownlinkEvent::Offered(offer) = event else { continue };
            if offer.route == FROZEN {
                // Taken, granted, and then not read: the worst a destination can do.
                held.send(offer.accept(8 << 20).await.unwrap()).await.unwrap();
            } else {
                tokio::spawn(take_and_settle(link.clone(), key.clone(), offer, 1 << 20));
            }
        }
    });
    let mut bodies = Vec::new();
    if freeze {
        bed.until("the frozen route at its limit", |status| status.leases == 8 && status.offers_waiting > 10)
            .await;
        while bodies.len() < 8 {
            bodies.push(soon("a frozen body", frozen.recv()).await.unwrap());
        }
        bed.at_rest().await;
    }
    let start = Instant::now();
    let mut settled = 0;
    for n in 0..BODIES {
        let (link, offer) = (sender.link.clone(), sender.offer(delivery(), ROUTE, Some(BYTES as u64)));
        tokio::spawn(async move { link.deposit(offer, body(BYTES)).await });
        if n >= 8 {
            settle_one(&mut sender, &mut settled).await;
        }
    }
    while settled < BODIES {
        settle_one(&mut sender, &mut settled).await;
    }
    let took = start.elapsed();
    assert_eq!(bed.status().await.leases, if freeze { 8 } else { 0 });
    collector.abort();
    let _ = collector.await;
    sender.task.stop().await;
    took
}

async fn settle_one(sender: &mut Sender, settled: &mut usize) {
    let UplinkEvent::Settlement { delivery, attempt, .. } = sender.answer().await else { panic!() };
    sender.link.ack(sender.recipient, delivery, attempt, None).await.unwrap();
    *settled += 1;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_route_leaves_the_other_its_rate() {
    let limits = Limits::new(64 << 20, 32 << 20, Duration::from_secs(900), Duration::from_secs(30));
    // The machine may be busy with something else in one of the runs: the best of some counts.
    let mut best = 0.0f64;
    for _ in 0..6 {
        let alone = run(&Bed::with_limits(limits.clone()).await, false).await;
        let beside = run(&Bed::with_limits(limits.clone()).await, true).await;
        best = best.max(alone.as_secs_f64() / beside.as_secs_f64());
        println!("alone {alone:?}, beside a frozen route {beside:?}");
        if best >= 0.8 {
            return;
        }
    }
    panic!("beside a frozen route the other kept {:.0} % of its rate at best", best * 100.0);
}
