//! A tenant's rates over a socket: what is above them waits at its sender, and all of it comes.

use std::time::{Duration, Instant};

use base::limits::BODY_WINDOW_BYTES;
use relay::vault::Rates;

use crate::common::*;

/// Deposits so many bodies of this size, one after the other, and gives the time until the last is settled.
async fn deposited(rates: Rates, count: usize, bytes: usize) -> Duration {
    let bed = Bed::with_rates(rates).await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(64).await;
    sender.connected().await;
    let collector = settle_all(recipient, 1 << 20);
    let start = Instant::now();
    for _ in 0..count {
        let offer = sender.offer(delivery(), ROUTE, Some(bytes as u64));
        soon("the deposit", sender.link.deposit(offer, body(bytes))).await.unwrap();
    }
    let took = start.elapsed();
    let status = bed.until("all to be settled", |status| status.counters.settlements == count as u64).await;
    assert_eq!(status.counters.bytes_in, (count * bytes) as u64, "nothing is dropped");
    collector.abort();
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_above_the_rate_wait() {
    // A bucket is full at first: one window goes at once, two more need a second each.
    let window = usize::try_from(BODY_WINDOW_BYTES).unwrap();
    let rates = Rates { bytes_per_second: Some(BODY_WINDOW_BYTES), deliveries_per_second: None };
    let took = deposited(rates, 3, window).await;
    assert!(took >= Duration::from_millis(1500), "{took:?} for three seconds' worth");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_above_the_rate_wait() {
    let rates = Rates { bytes_per_second: None, deliveries_per_second: Some(10) };
    let took = deposited(rates, 30, 1000).await;
    assert!(took >= Duration::from_millis(1500), "{took:?} for three seconds' worth");
    let took = deposited(Rates::default(), 30, 1000).await;
    assert!(took < Duration::from_secs(30), "{took:?} without a limit");
}
