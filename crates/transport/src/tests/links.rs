//! Links against a bare listener, over the loopback interface.

use std::time::Duration;

use base::{Attempt, DeliveryId, Fingerprint, RouteId};
use bytes::Bytes;
use identity::{CardFields, IdentityKey};
use rustls::crypto::aws_lc_rs;
use tokio::sync::mpsc;
use wire::{CloseCode, Role, ToRecipient, ToSender};

use super::{key, listen, soon};
use crate::link::Remote;
use crate::{
    ConnectError, DepositError, Downlink, DownlinkConfig, DownlinkEvent, Lost, Offer, Piece, RelayEvent,
    RelayLink, Timing, TlsIdentity, Uplink, UplinkConfig, UplinkEvent, WholeBody,
};

const ROUTE: RouteId = RouteId([4; 16]);

fn remote(address: String, gateway: &IdentityKey, pinned: &IdentityKey) -> Remote {
    Remote {
        address,
        card: pinned.card(CardFields::new(1, &[])),
        identity: TlsIdentity::of(gateway),
        timing: Timing::default(),
    }
}

async fn link_of(events: &mut mpsc::Receiver<RelayEvent>) -> RelayLink {
    loop {
        if let RelayEvent::Connected { link, .. } = soon("a connection", events.recv()).await.unwrap() {
            return link;
        }
    }
}

#[tokio::test]
async fn wrong_keys_and_a_classical_handshake_do_not_connect() {
    let (relay, gateway, stranger) = (key("relay"), key("gateway"), key("stranger"));
    let (listener, mut events) = listen(&relay, &[gateway.card(CardFields::new(1, &[]))], Timing::default());
    let address = listener.local_addr().unwrap().to_string();
    let kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    let classical = rustls::crypto::CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let refused = [
        remote(address.clone(), &gateway, &stranger).connect::<ToSender>(Role::Sender).await.err(),
        remote(address.clone(), &stranger, &relay).connect::<ToSender>(Role::Sender).await.err(),
        remote(address.clone(), &gateway, &relay)
            .connect_with::<ToSender>(Role::Sender, classical.into())
            .await
            .err(),
    ];
    let [other_relay, stranger, classical] = refused;
    assert!(matches!(other_relay, Some(ConnectError::OtherRelay)), "{other_relay:?}");
    assert!(matches!(stranger, Some(ConnectError::NotAdmitted)), "{stranger:?}");
    assert!(matches!(classical, Some(ConnectError::Quic(_))), "{classical:?}");
    let connected = remote(address, &gateway, &relay).connect::<ToSender>(Role::Sender).await.unwrap();
    assert_eq!(connected.boot, base::BootId([1; 16]));
    let _link = link_of(&mut events).await;
    drop(events);
    listener.stop().await;
}

#[tokio::test]
async fn an_idle_link_stays_and_a_silent_one_is_noticed_and_made_anew() {
    let (relay, gateway) = (key("relay"), key("gateway"));
    for (keep_alive, stays) in [(Duration::from_millis(200), true), (Duration::from_secs(10), false)] {
        let timing = Timing { idle: Duration::from_millis(1500), keep_alive };
        let (listener, mut relay_events) = listen(&relay, &[gateway.card(CardFields::new(1, &[]))], timing);
        let mut config = UplinkConfig::new(
            listener.local_addr().unwrap().to_string(),
            relay.card(CardFields::new(1, &[])),
            &gateway,
        );
        config.timing = timing;
        let (_uplink, mut events, task) = Uplink::start(config);
        assert!(matches!(soon("connected", events.recv()).await, Some(UplinkEvent::Connected { .. })));
        let _link = link_of(&mut relay_events).await;
        // Several idle times of nothing to say.
        let next = tokio::time::timeout(Duration::from_millis(4000), events.recv()).await;
        assert_eq!(next.is_err(), stays, "{next:?}");
        if !stays {
            assert_eq!(next.unwrap(), Some(UplinkEvent::Disconnected));
            assert!(matches!(
                soon("connected again", events.recv()).await,
                Some(UplinkEvent::Connected { .. })
            ));
        }
        task.stop().await;
        drop(relay_events);
        listener.stop().await;
    }
}

#[tokio::test]
async fn an_unavailable_relay_fails_at_once_and_the_link_goes_on_trying() {
    let (relay, gateway) = (key("relay"), key("gateway"));
    let socket = crate::quic::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let config = UplinkConfig::new(
        socket.local_addr().unwrap().to_string(),
        relay.card(CardFields::new(1, &[])),
        &gateway,
    );
    let (uplink, _events, task) = Uplink::start(config);
    assert_eq!(uplink.prekey(Fingerprint([1; 32]), ROUTE).await, Err(crate::Unavailable));
    let deposited = uplink.deposit(offer(1), WholeBody::of(Bytes::from_static(b"x"))).await;
    assert_eq!(deposited, Err(DepositError::Disconnected));
    assert!(!uplink.is_connected());
    let mut long = offer(1);
    long.header = vec![0; wire::HEADER_BYTES_MAX + 1];
    let too_long = uplink.deposit(long, WholeBody::of(Bytes::new())).await;
    assert_eq!(too_long, Err(DepositError::HeaderTooLong(wire::HEADER_BYTES_MAX + 1)));
    soon("the end", task.stop()).await;
}

/// More handshakes at once than are taken without a proof of address: the rest is sent a Retry, and comes in too.
#[tokio::test]
async fn many_gateways_at_once_all_connect() {
    let (relay, gateway) = (key("relay"), key("gateway"));
    let (listener, mut events) = listen(&relay, &[gateway.card(CardFields::new(1, &[]))], Timing::default());
    let drain = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let remote = remote(listener.local_addr().unwrap().to_string(), &gateway, &relay);
    let mut connecting = tokio::task::JoinSet::new();
    for _ in 0..5 * crate::limits::RETRY_ABOVE {
        let remote = remote.clone();
        connecting.spawn(async move { remote.connect::<ToSender>(Role::Sender).await.map(|_| ()) });
    }
    while let Some(connected) = soon("a connection", connecting.join_next()).await {
        connected.unwrap().unwrap();
    }
    listener.stop().await;
    drain.await.unwrap();
}

fn offer(n: u8) -> Offer {
    Offer {
        delivery: DeliveryId([n; 32]),
        attempt: Attempt(1),
        recipient: Fingerprint([9; 32]),
        route: ROUTE,
        header: vec![1, 2, 3],
        size: None,
        digest: None,
        urgency: wire::Urgency::Normal,
    }
}

/// A sender sends what it was granted and not a byte more.
#[tokio::test]
async fn a_sender_keeps_to_its_grants() {
    let (relay, gateway) = (key("relay"), key("gateway"));
    let (listener, mut relay_events) =
        listen(&relay, &[gateway.card(CardFields::new(1, &[]))], Timing::default());
    let (uplink, mut events, task) = Uplink::start(UplinkConfig::new(
        listener.local_addr().unwrap().to_string(),
        relay.card(CardFields::new(1, &[])),
        &gateway,
    ));
    let link = link_of(&mut relay_events).await;
    assert!(matches!(soon("connected", events.recv()).await, Some(UplinkEvent::Connected { .. })));
    let deposit =
        tokio::spawn(async move { uplink.deposit(offer(1), WholeBody::of(vec![5; 300_000].into())).await });
    let transfer = loop {
        if let RelayEvent::FromSender { frame: wire::SenderFrame::Offer { transfer, .. }, .. } =
            soon("the offer", relay_events.recv()).await.unwrap()
        {
            break transfer;
        }
    };
    let mut received = 0;
    for up_to in [1, 100, 70_000, 150_000, 400_000] {
        link.to_sender(ToSender::Grant { transfer, up_to }).unwrap();
        // What could be the digest is held back until more comes.
        let sure = if up_to < 300_000 { up_to.saturating_sub(wire::TRAILER_BYTES as u64) } else { 300_000 };
        while received < sure {
            if let RelayEvent::Body { bytes, .. } = soon("bytes", relay_events.recv()).await.unwrap() {
                received += bytes.len() as u64;
                assert!(received <= up_to);
                assert!(bytes.iter().all(|byte| *byte == 5));
            }
        }
    }
    let RelayEvent::BodyEnd { digest, .. } = soon("the end", relay_events.recv()).await.unwrap() else {
        panic!()
    };
    assert_eq!(digest, base::Digest::of(&vec![5; 300_000]));
    link.to_sender(ToSender::Deposited { transfer }).unwrap();
    soon("the verdict", deposit).await.unwrap().unwrap();
    task.stop().await;
    drop(relay_events);
    listener.stop().await;
}

/// A relay that sends more than was granted, another length than it said, or no digest, is not believed.
#[tokio::test]
async fn a_recipient_refuses_what_it_did_not_grant() {
    let (relay, gateway) = (key("relay"), key("gateway"));
    let (listener, mut relay_events) =
        listen(&relay, &[gateway.card(CardFields::new(1, &[]))], Timing::default());
    let (_downlink, mut events, task) = Downlink::start(DownlinkConfig::new(
        listener.local_addr().unwrap().to_string(),
        relay.card(CardFields::new(1, &[])),
        &gateway,
    ));
    let mut link = link_of(&mut relay_events).await;
    let drain = tokio::spawn(async move { while relay_events.recv().await.is_some() {} });
    // Bytes sent, bytes granted, size announced, whether it ends well.
    let cases = [
        (1000usize, 1000u64, Some(1000u64), Ok(())),
        (1000, 2000, None, Ok(())),
        (1001, 1000, None, Err(Lost::Violation)),
        (500, 1000, Some(1000), Err(Lost::Violation)),
        (1000, 2000, Some(999), Err(Lost::Violation)),
    ];
    for (transfer, (sent, granted, size, want)) in (1..).zip(cases) {
        let frame = ToRecipient::Offer {
            transfer,
            delivery: DeliveryId([1; 32]),
            attempt: Attempt(transfer as u32),
            sender: Fingerprint([2; 32]),
            route: ROUTE,
            header: vec![].into(),
            size,
            urgency: wire::Urgency::Normal,
        };
        link.to_recipient(frame).unwrap();
        let incoming = loop {
            if let DownlinkEvent::Offered(offer) = soon("the offer", events.recv()).await.unwrap() {
                break offer;
            }
        };
        let mut body = incoming.accept(granted).await.unwrap();
        link.open(transfer, wire::Urgency::Normal);
        link.write(transfer, vec![1; sent].into());
        link.finish(transfer, base::Digest([3; 32]));
        let end = soon("the end", async {
            loop {
                match body.next().await {
                    Ok(Piece::Data(_)) => {}
                    Ok(Piece::End(_)) => return Ok(()),
                    Err(lost) => return Err(lost),
                }
            }
        });
        assert_eq!(end.await, want, "sent {sent} granted {granted} announced {size:?}");
    }
    link.close(CloseCode::Stopping);
    assert!(matches!(soon("the loss", events.recv()).await, Some(DownlinkEvent::Disconnected)));
    task.stop().await;
    drop(link);
    soon("the listener's end", listener.stop()).await;
    drain.await.unwrap();
}
