//! Connections, gateways and relays that end at the wrong moment.

use std::time::Duration;

use base::{Attempt, Digest};
use bytes::Bytes;
use transport::{BodyPiece, BodySource, DepositError, DownlinkEvent, Lost, UplinkEvent};
use wire::{DeclineCode, NoticeKind};

use crate::common::*;

/// Sends some bytes, then waits for its end as the test says it.
struct Paused {
    pieces: Vec<Bytes>,
    end: tokio::sync::oneshot::Receiver<BodyPiece>,
}

impl BodySource for Paused {
    async fn next(&mut self, _: usize) -> BodyPiece {
        match self.pieces.pop() {
            Some(piece) => BodyPiece::Data(piece),
            None => (&mut self.end).await.unwrap_or(BodyPiece::Abandon),
        }
    }
}

fn paused(pieces: usize) -> (Paused, tokio::sync::oneshot::Sender<BodyPiece>) {
    let (say, end) = tokio::sync::oneshot::channel();
    (Paused { pieces: vec![Bytes::from(vec![3; 10_000]); pieces], end }, say)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_relay_has_another_boot_id_and_the_sender_deposits_again() {
    let mut bed = Bed::new().await;
    let mut sender = bed.uplink();
    let first = sender.connected().await;
    let delivery = delivery();
    sender.link.deposit(sender.offer(delivery, ROUTE, Some(1000)), body(1000)).await.unwrap();
    bed.kill().await;
    assert_eq!(sender.next().await, UplinkEvent::Disconnected);
    bed.start().await;
    let second = sender.connected().await;
    assert_ne!(first, second);
    let deposited = sender.link.deposit(sender.offer(delivery, ROUTE, Some(1000)), body(1000)).await.unwrap();
    assert_eq!(deposited.boot, second);
    let mut recipient = bed.downlink();
    recipient.ready(1).await;
    let offer = recipient.offered().await;
    // The relay is killed again while the recipient works, and knows nothing of what is settled then.
    let settling = Settling::from(&offer);
    let _lease = offer.lease();
    take(offer, 1 << 20).await.unwrap();
    bed.kill().await;
    bed.start().await;
    recipient.connected().await;
    sender.connected().await;
    recipient.settle(&settling).await;
    let UplinkEvent::Settlement { delivery: settled, .. } = sender.answer().await else { panic!() };
    assert_eq!(settled, delivery);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_relay_lets_a_lease_come_to_its_end() {
    let mut bed = Bed::new().await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(1).await;
    sender.connected().await;
    sender.link.deposit(sender.offer(delivery(), ROUTE, Some(1000)), body(1000)).await.unwrap();
    let offer = recipient.offered().await;
    let settling = Settling::from(&offer);
    let _lease = offer.lease();
    take(offer, 1 << 20).await.unwrap();
    let stopping = tokio::spawn(async move {
        bed.stop().await;
    });
    recipient.settle(&settling).await;
    let UplinkEvent::Settlement { delivery, attempt, .. } = sender.answer().await else { panic!() };
    sender.link.ack(sender.recipient, delivery, attempt, None).await.unwrap();
    soon("the relay's end", stopping).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_comes_back_is_offered_what_it_had_under_lease() {
    let bed = Bed::new().await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(2).await;
    sender.connected().await;
    let (whole, half) = (delivery(), delivery());
    sender.link.deposit(sender.offer(whole, ROUTE, Some(200_000)), body(200_000)).await.unwrap();
    let first = recipient.offered().await;
    let lease = first.lease();
    take(first, 1 << 20).await.unwrap();
    sender.link.deposit(sender.offer(half, ROUTE, Some(200_000)), body(200_000)).await.unwrap();
    let mut body = recipient.offered().await.accept(50_000).await.unwrap();
    soon("some bytes", body.next()).await.unwrap();
    recipient.task.stop().await;
    assert_eq!(soon("the loss", async { while body.next().await.is_ok() {} }).await, ());
    assert!(lease.has_ended());

    let mut recipient = bed.downlink();
    recipient.ready(2).await;
    for want in [whole, half] {
        let offer = recipient.offered().await;
        assert_eq!(offer.delivery, want);
        let settling = Settling::from(&offer);
        assert_eq!(take(offer, 1 << 20).await, Ok((200_000, true)));
        recipient.settle(&settling).await;
        let UplinkEvent::Settlement { delivery, .. } = sender.answer().await else { panic!() };
        assert_eq!(delivery, want);
    }
    assert_eq!(bed.status().await.blobs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_body_never_ends_as_a_whole_one() {
    let bed = Bed::new().await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(8).await;
    sender.connected().await;
    for how in ["abandoned", "dropped", "connection lost"] {
        let (source, say) = paused(20);
        let (link, offer) = (sender.link.clone(), sender.offer(delivery(), ROUTE, None));
        let deposit = tokio::spawn(async move { link.deposit(offer, source).await });
        let mut body = recipient.offered().await.accept(1 << 20).await.unwrap();
        while body.received() < 199_000 {
            soon("bytes", body.next()).await.unwrap();
        }
        match how {
            "abandoned" => {
                say.send(BodyPiece::Abandon).unwrap();
                assert_eq!(deposit.await.unwrap(), Err(DepositError::Abandoned));
            }
            "dropped" => {
                deposit.abort();
                assert!(deposit.await.unwrap_err().is_cancelled());
            }
            _ => {
                sender.task.stop().await;
                assert_eq!(deposit.await.unwrap(), Err(DepositError::Disconnected));
                sender = bed.uplink();
                sender.connected().await;
            }
        }
        let end = soon("the end", async {
            loop {
                match body.next().await {
                    Ok(transport::Piece::Data(_)) => {}
                    end => return end,
                }
            }
        });
        assert_eq!(end.await, Err(Lost::Withdrawn), "{how}");
        soon("the withdrawal", body.lease().ended()).await;
        bed.until("nothing left", |status| status.blobs == 0 && status.bytes_reserved == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_abandoned_before_its_place_is_forgotten() {
    let bed = Bed::new().await;
    let mut sender = bed.uplink();
    sender.connected().await;
    let (source, _say) = paused(0);
    let (link, offer) = (sender.link.clone(), sender.offer(delivery(), ROUTE, None));
    let deposit = tokio::spawn(async move { link.deposit(offer, source).await });
    bed.until("its place", |status| status.blobs == 1).await;
    deposit.abort();
    bed.until("nothing left", |status| status.blobs == 0 && status.bytes_reserved == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_delivery_ends_at_both_gateways() {
    let bed = Bed::new().await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(8).await;
    sender.connected().await;
    let (source, _say) = paused(5);
    let delivery = delivery();
    let (link, offer) = (sender.link.clone(), sender.offer(delivery, ROUTE, None));
    let deposit = tokio::spawn(async move { link.deposit(offer, source).await });
    let mut body = recipient.offered().await.accept(1 << 20).await.unwrap();
    soon("bytes", body.next()).await.unwrap();
    sender.link.cancel(sender.recipient, delivery, Attempt(1)).await.unwrap();
    assert_eq!(deposit.await.unwrap(), Err(DepositError::Declined(DeclineCode::Ended)));
    let DownlinkEvent::Cancelled { delivery: cancelled, .. } = recipient.next().await else { panic!() };
    assert_eq!(cancelled, delivery);
    soon("the end", async { while body.next().await.is_ok() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_without_a_byte_read_ends_the_deposit() {
    let bed = Bed::new().await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(8).await;
    sender.connected().await;
    let (source, _say) = paused(5);
    let (link, offer) = (sender.link.clone(), sender.offer(delivery(), ROUTE, None));
    let deposit = tokio::spawn(async move { link.deposit(offer, source).await });
    let offer = recipient.offered().await;
    recipient.settle(&Settling::from(&offer)).await;
    assert!(matches!(
        deposit.await.unwrap(),
        Err(DepositError::Known { state: wire::RelayState::Settled, .. })
    ));
    assert!(matches!(sender.answer().await, UplinkEvent::Settlement { .. }));
    drop(offer);
    assert_eq!(bed.status().await.counters.burned, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_given_back_is_offered_again() {
    let bed = Bed::new().await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(1).await;
    sender.connected().await;
    sender.link.deposit(sender.offer(delivery(), ROUTE, Some(100)), body(100)).await.unwrap();
    drop(recipient.offered().await);
    assert_eq!(take(recipient.offered().await, 1000).await, Ok((100, true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_for_as_long_as_it_is_kept() {
    let mut limits = Bed::limits();
    limits.lease = Duration::from_millis(1500);
    let bed = Bed::with_limits(limits).await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(1).await;
    sender.connected().await;
    sender.link.deposit(sender.offer(delivery(), ROUTE, Some(100)), body(100)).await.unwrap();
    let offer = recipient.offered().await;
    let settling = Settling::from(&offer);
    let lease = offer.lease();
    take(offer, 1000).await.unwrap();
    // Several lives of an unrenewed lease.
    assert!(tokio::time::timeout(Duration::from_millis(4000), lease.ended()).await.is_err());
    recipient.settle(&settling).await;
    assert!(matches!(sender.answer().await, UplinkEvent::Settlement { .. }));
    assert_eq!(bed.status().await.counters.leases_lapsed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_collects_expires_with_a_notice_until_it_is_acknowledged() {
    let mut limits = Bed::limits();
    limits.ttl = Duration::from_millis(200);
    let bed = Bed::with_limits(limits).await;
    let mut sender = bed.uplink();
    sender.connected().await;
    let delivery = delivery();
    sender.link.deposit(sender.offer(delivery, ROUTE, Some(100)), body(100)).await.unwrap();
    let notice = UplinkEvent::Notice { delivery, attempt: Attempt(1), kind: NoticeKind::Expired };
    assert_eq!(sender.answer().await, notice);
    sender.task.stop().await;
    let mut sender = bed.uplink();
    assert_eq!(sender.answer().await, notice);
    sender.link.ack(sender.recipient, delivery, Attempt(1), None).await.unwrap();
    bed.until("the acknowledgement", |status| status.settlements_waiting == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_settlement_burns_nothing() {
    let bed = Bed::new().await;
    let (mut sender, mut recipient) = (bed.uplink(), bed.downlink());
    recipient.ready(4).await;
    sender.connected().await;
    let delivery = delivery();
    sender.link.deposit(sender.offer(delivery, ROUTE, Some(100)), body(100)).await.unwrap();
    let offer = recipient.offered().await;
    let genuine = settlement(&bed.recipient_key, delivery, Attempt(1));
    let mut flipped = genuine.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let forgeries = [
        settlement(&key("in"), delivery, Attempt(1)),
        settlement(&bed.sender_key, delivery, Attempt(1)),
        settlement(&bed.recipient_key, delivery, Attempt(2)),
        settlement(&bed.recipient_key, crate::common::delivery(), Attempt(1)),
        flipped,
        Vec::new(),
        Digest([0; 32]).0.to_vec(),
    ];
    let count = forgeries.len() as u64;
    for forged in forgeries {
        recipient.link.settle(offer.sender, delivery, Attempt(1), forged, Vec::new()).await.unwrap();
    }
    let status = bed.until("the refusals", |status| status.counters.settlements_refused == count).await;
    assert_eq!((status.blobs, status.counters.burned), (1, 0));
    recipient.link.settle(offer.sender, delivery, Attempt(1), genuine, Vec::new()).await.unwrap();
    assert!(matches!(sender.answer().await, UplinkEvent::Settlement { .. }));
}

/// The real process, killed: nobody closes the connection, and its gateways must not wait for their idle time-out.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_that_comes_back_is_noticed_at_the_next_packet() {
    let dir = tempfile::tempdir().unwrap();
    let relay_key =
        relay::init::create_keys(&dir.path().join("keys"), &base::Name::parse("relay").unwrap()).unwrap();
    let (out, receiving) = (key("out"), key("in"));
    let card = |key: &identity::IdentityKey| {
        let file = std::path::PathBuf::from(format!("{}.card", key.name()));
        std::fs::write(dir.path().join(&file), key.card(identity::CardFields::new(1, &[])).to_line())
            .unwrap();
        file
    };
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tenants = vec![
        relay::init::TenantOptions {
            name: out.name().clone(),
            card: card(&out),
            deposit_for: vec![receiving.name().clone()],
        },
        relay::init::TenantOptions {
            name: receiving.name().clone(),
            card: card(&receiving),
            deposit_for: vec![],
        },
    ];
    let admin = ([127, 0, 0, 1], 0).into();
    let relay_card = relay::init::write_card(&dir.path().join("relay.card"), &relay_key).unwrap();
    let options =
        relay::init::Options { listen: free, admin, keys: "keys".into(), card: "relay.card".into(), tenants };
    let config = dir.path().join("relay.toml");
    std::fs::write(&config, relay::init::config_text(&options)).unwrap();
    let start = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_relay"));
        command.arg("run").arg("--config").arg(&config);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };

    let mut process = start();
    let mut link = transport::UplinkConfig::new(free.to_string(), relay_card, &out);
    link.timing.keep_alive = Duration::from_millis(200);
    let (_uplink, mut events, task) = transport::Uplink::start(link);
    let first = soon("connected", next(&mut events)).await;
    assert!(matches!(first, Some(UplinkEvent::Connected { .. })));
    process.kill().unwrap();
    process.wait().unwrap();
    let mut process = start();
    let lost = tokio::time::timeout(Duration::from_secs(15), next(&mut events)).await;
    assert_eq!(lost.unwrap(), Some(UplinkEvent::Disconnected));
    let second = soon("connected again", next(&mut events)).await;
    assert!(matches!(second, Some(UplinkEvent::Connected { .. })));
    assert_ne!(first, second);
    task.stop().await;
    process.kill().unwrap();
    process.wait().unwrap();
}

/// The next event that is not about the log.
async fn next(events: &mut tokio::sync::mpsc::Receiver<UplinkEvent>) -> Option<UplinkEvent> {
    loop {
        match events.recv().await {
            Some(UplinkEvent::LogHead(_) | UplinkEvent::Logged(_)) => {}
            event => return event,
        }
    }
}
