//! The relay's log between the three roles: each receipt comes to prove its place, and a relay whose log breaks its
//! promise is not used, whatever it says.

use std::{net::UdpSocket, sync::Arc, time::Duration};

use base::{BootId, Digest, Fingerprint, Timestamp};
use identity::PeerCard;
use ledger::log::{Checkpoint, TreeHead};
use spool::State;
use transport::{Admission, RelayConfig, RelayEvent, RelayListener, Timing, TlsIdentity};
use wire::{LogHead, Role, ToRecipient, ToSender};

use crate::common::{Bed, IN, OUT, Pacs, Plan, dicom, name, send, slice, slices, until};

struct Pinned([PeerCard; 2]);

impl Admission for Pinned {
    fn peer(&self, tls_spki: &[u8]) -> Option<Fingerprint> {
        self.0.iter().find(|card| card.tls_spki == tls_spki).map(|card| card.identity.fingerprint())
    }

    fn admits(&self, _: &Fingerprint, _: Role) -> bool {
        true
    }
}

/// Runs a relay with the true keys that shows each gateway this head, until both of them have had enough.
async fn show(bed: &Bed, head: TreeHead, from: u64) {
    let own = bed.relay_settings().own;
    let checkpoint = Checkpoint::sign(head, &own.log_key, Timestamp::now().0 / 1000).to_text();
    let shown = LogHead { checkpoint, from, consistency: vec![Digest([8; 32]); 2] };
    let config = RelayConfig {
        boot: BootId([9; 16]),
        hold_max: 1 << 20,
        lease: Duration::from_secs(30),
        identity: TlsIdentity::of(&own.identity),
        resets: TlsIdentity::of(&own.identity),
        admission: Arc::new(Pinned([OUT, IN].map(|who| bed.card(who)))),
        timing: Timing::default(),
    };
    let mut bound = None;
    until("the relay's port", async || {
        bound = UdpSocket::bind(bed.relay_address()).ok();
        bound.is_some()
    })
    .await;
    let (listener, mut events) = RelayListener::start(bound.unwrap(), config).unwrap();
    let telling = tokio::spawn(async move {
        let mut links = Vec::new();
        while let Some(event) = events.recv().await {
            let RelayEvent::Connected { role, link, .. } = event else { continue };
            let _ = match role {
                Role::Sender => link.to_sender(ToSender::LogHead(shown.clone())),
                Role::Recipient => link.to_recipient(ToRecipient::LogHead(shown.clone())),
            };
            links.push(link);
        }
    });
    until("distrust at both gateways", async || {
        let statuses = [bed.status_out().await, bed.status_in().await];
        statuses.iter().all(|status| status["relays"][0]["log"]["distrust"].is_string())
    })
    .await;
    telling.abort();
    listener.stop().await;
}

/// What gateway-out has of its only delivery's place, as an auditor verifies it.
async fn proved_head(bed: &Bed, delivery: base::DeliveryId) -> TreeHead {
    let queue = bed.queue();
    let stored = async || queue.receipts_of(delivery).await.unwrap().pop().unwrap();
    until("a proof", async || stored().await.log.is_some()).await;
    let file = gateway_out::receipts::file(&stored().await).unwrap();
    let again = ledger::ReceiptFile::parse(&file.to_text()).unwrap();
    again.verify(&bed.card(IN)).unwrap();
    again.verify_log(&bed.relay_card()).unwrap();
    again.verify_log(&bed.card(OUT)).unwrap_err();
    again.log().unwrap().head().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_receipt_comes_to_prove_its_place_in_the_relays_log() {
    let pacs = Pacs::good().await;
    let mut bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    assert_eq!(send(bed.dicom, "GW", &slices(95, 3, 64)).await, [0; 3]);
    for row in bed.all_in(State::Purged, 3).await {
        proved_head(&bed, row.delivery).await;
    }
    // Another run of the relay is another epoch: an alarm, and no obstacle.
    bed.stop_relay().await;
    bed.start_relay().await;
    assert_eq!(send(bed.dicom, "GW", &[slice(96, 64)]).await, [0]);
    let mut heads = Vec::new();
    for row in bed.all_in(State::Purged, 4).await {
        heads.push(proved_head(&bed, row.delivery).await.origin);
    }
    assert_ne!(heads[0], heads[3]);
}

/// Deliveries wait while the relay is not trusted, and go on when an operator says so.
async fn is_not_used_after(seed: u64, contradiction: impl Fn(&TreeHead) -> TreeHead, why: &str) {
    let pacs = Pacs::good().await;
    let mut bed = Bed::start(Plan::one(dicom(pacs.address))).await;
    assert_eq!(send(bed.dicom, "GW", &[slice(seed, 64)]).await, [0]);
    let row = bed.all_in(State::Purged, 1).await.remove(0);
    let head = proved_head(&bed, row.delivery).await;
    until("both gateways to have seen it", async || {
        let statuses = [bed.status_out().await, bed.status_in().await];
        statuses.iter().all(|status| status["relays"][0]["log"]["head"]["size"] == head.size)
    })
    .await;
    bed.stop_relay().await;
    show(&bed, contradiction(&head), head.size).await;
    for status in [bed.status_out().await, bed.status_in().await] {
        let distrust = status["relays"][0]["log"]["distrust"].as_str().unwrap().to_owned();
        assert!(distrust.contains(why), "{distrust}");
    }

    // The honest one comes back, and both gateways start again: that makes nothing good.
    bed.stop_out().await;
    bed.stop_in().await;
    bed.start_relay().await;
    bed.start_in().await;
    bed.start_out().await;
    bed.connected_to(&[0]).await;
    assert_eq!(send(bed.dicom, "GW", &[slice(seed + 1, 64)]).await, [0]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let waiting = bed.deliveries().await.into_iter().filter(|row| row.state != State::Purged);
    assert_eq!(waiting.map(|row| row.state).collect::<Vec<_>>(), [State::Sealed]);
    assert_eq!(pacs.complete(), 1);

    for dir in ["outbox", "ledger"] {
        let cleared =
            service::witness::trust_again(&bed.path(dir), &name("relay"), "a test", Timestamp::now());
        assert!(cleared.unwrap().is_some(), "{dir}");
    }
    bed.all_in(State::Purged, 2).await;
    assert_eq!(pacs.complete(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_rolls_its_log_back_is_not_used_any_more() {
    let shorter = |head: &TreeHead| TreeHead { size: head.size - 1, root: Digest([7; 32]), ..head.clone() };
    is_not_used_after(97, shorter, "rolled its log back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_log_forks_is_not_used_any_more() {
    let longer = |head: &TreeHead| TreeHead { size: head.size + 3, root: Digest([7; 32]), ..head.clone() };
    is_not_used_after(99, longer, "forked").await;
}
