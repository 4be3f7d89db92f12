//! Measures sender, relay and recipient in one process: `cargo run --release -p relay --example throughput -- [bodies] [bytes] [budget] [relay binary]`.
//! It reports and asserts nothing about speed; all three share the processors, so the rate is that of a whole machine.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Attempt, DeliveryId, Hasher, Name, RouteId, Secret, Timestamp, random_bytes};
use bytes::Bytes;
use identity::{CardFields, IdentityKey, LogKey};
use ledger::{NackReason, SettlementCore, sign_batch};
use relay::init::{Options, TenantOptions, config_text};
use relay::log::LogLimits;
use relay::vault::{Limits, Policy, Tenant};
use relay::{Keys, Listeners, Settings};
use service::own::{Own, OwnKeys};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use transport::{
    Downlink, DownlinkConfig, DownlinkEvent, IncomingOffer, Offer, Piece, Uplink, UplinkConfig, UplinkEvent,
    WholeBody,
};

const ROUTE: RouteId = RouteId([1; 16]);
const CONCURRENT: usize = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let bodies = numbers.next().unwrap_or(1);
    let bytes = numbers.next().unwrap_or(1 << 30);
    let budget = numbers.next().unwrap_or(256 << 20) as u64;
    let key = |name: &str| anyhow::Ok(Arc::new(IdentityKey::generate(Name::parse(name)?, &Secret::random())));
    let (relay_key, out_key, in_key) = (key("relay")?, key("out")?, key("in")?);
    let relay = match std::env::args().nth(4) {
        Some(binary) => Relay::spawn(&binary, budget, [&relay_key, &out_key, &in_key])?,
        None => Relay::start(budget, [&relay_key, &out_key, &in_key]).await?,
    };
    let address = relay.address;

    let card = relay_key.card(CardFields::new(1, &[]));
    let (downlink, mut offers, down_task) =
        Downlink::start(DownlinkConfig::new(address.to_string(), card.clone(), &in_key));
    let (uplink, mut events, up_task) = Uplink::start(UplinkConfig::new(address.to_string(), card, &out_key));
    while !matches!(offers.recv().await, Some(DownlinkEvent::Connected { .. })) {}
    while !matches!(events.recv().await, Some(UplinkEvent::Connected { .. })) {}
    downlink.window(ROUTE, 64).await?;

    let collector = {
        let (downlink, in_key) = (downlink.clone(), in_key.clone());
        tokio::spawn(async move {
            let mut batch: Vec<(IncomingOfferId, SettlementCore)> = Vec::new();
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            let (done, mut finished) =
                tokio::sync::mpsc::channel::<(IncomingOfferId, transport::Lease)>(1024);
            loop {
                tokio::select! {
                    event = offers.recv() => match event {
                        Some(DownlinkEvent::Offered(offer)) => {
                            let done = done.clone();
                            tokio::spawn(async move {
                                let (id, lease) = ((offer.sender, offer.delivery, offer.attempt), offer.lease());
                                if take(offer).await.is_ok() {
                                    let _ = done.send((id, lease)).await;
                                }
                            });
                        }
                        Some(_) => {}
                        None => return,
                    },
                    Some((id, _lease)) = finished.recv() => {
                        batch.push((id, SettlementCore::nack(id.1, id.2, NackReason::Internal)));
                    }
                    // As a gateway signs: what came within 50 ms, at most 256.
                    _ = tick.tick(), if !batch.is_empty() => {
                        let now: Vec<_> = batch.drain(..batch.len().min(256)).collect();
                        let cores: Vec<_> = now.iter().map(|(_, core)| core.clone()).collect();
                        let Ok(signed) = sign_batch(&in_key, &cores, &[]) else { return };
                        for ((id, _), settlement) in now.into_iter().zip(signed) {
                            let _ = downlink.settle(id.0, id.1, id.2, settlement.encode(), Vec::new()).await;
                        }
                    }
                }
            }
        })
    };

    let body = body(bytes);
    let cpu_before = cpu_seconds(&std::fs::read_to_string("/proc/self/stat")?);
    let start = Instant::now();
    let places = Arc::new(tokio::sync::Semaphore::new(CONCURRENT));
    let depositing = {
        let (uplink, recipient) = (uplink.clone(), in_key.fingerprint());
        tokio::spawn(async move {
            for _ in 0..bodies {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let (uplink, body) = (uplink.clone(), body.clone());
                tokio::spawn(async move {
                    if let Err(error) = uplink.deposit(offer(recipient), body).await {
                        eprintln!("deposit: {error}");
                    }
                    drop(place);
                });
            }
        })
    };
    let mut settled = 0;
    while settled < bodies {
        if let Some(UplinkEvent::Settlement { delivery, attempt, .. }) = events.recv().await {
            settled += 1;
            uplink.ack(in_key.fingerprint(), delivery, attempt, None).await?;
        }
    }
    depositing.await?;
    let seconds = start.elapsed().as_secs_f64();
    let megabytes = (bodies * bytes) as f64 / 1e6;
    println!(
        "{bodies} bodies of {bytes} bytes: {seconds:.2} s, {:.0} MB/s, {:.0} bodies/s, {:.2} CPU s/GB and peak RSS {:.0} MB of this process",
        megabytes / seconds,
        bodies as f64 / seconds,
        (cpu_seconds(&std::fs::read_to_string("/proc/self/stat")?) - cpu_before) / (megabytes / 1000.0),
        peak_rss_megabytes(&std::fs::read_to_string("/proc/self/status")?),
    );
    up_task.stop().await;
    down_task.stop().await;
    collector.abort();
    relay.stop().await
}

/// With a log key and a card that belong to the identity.
fn own(identity: &Arc<IdentityKey>) -> Own {
    let log_key = Arc::new(LogKey::generate(identity.name().clone(), &Secret::random()));
    let keys = OwnKeys { identity: identity.clone(), log_key };
    let card = keys.first_card(&[], Timestamp::now());
    Own::new(keys, card)
}

/// In this process, or one of its own.
struct Relay {
    address: SocketAddr,
    here: Option<(CancellationToken, JoinHandle<Result<(), relay::RunError>>)>,
    apart: Option<(std::process::Child, SocketAddr, tempfile::TempDir)>,
}

impl Relay {
    async fn start(
        budget: u64,
        [relay_key, out_key, in_key]: [&Arc<IdentityKey>; 3],
    ) -> anyhow::Result<Self> {
        let quic = UdpSocket::bind("127.0.0.1:0")?;
        let admin = TcpListener::bind("127.0.0.1:0").await?;
        let address = quic.local_addr()?;
        let tenant = |key: &IdentityKey, deposit_for: &[&IdentityKey]| Tenant {
            name: key.name().clone(),
            budget,
            deposit_for: deposit_for.iter().map(|key| key.fingerprint()).collect(),
            collects: true,
            rates: Default::default(),
        };
        let tenants = BTreeMap::from([
            (out_key.fingerprint(), tenant(out_key, &[in_key])),
            (in_key.fingerprint(), tenant(in_key, &[])),
        ]);
        let limits = Limits::new(budget, budget / 2, Duration::from_secs(900), Duration::from_secs(30));
        let settings = Settings {
            own: own(relay_key),
            log: LogLimits { interval: Duration::from_millis(500), entries_max: 4_000_000 },
            quic: address,
            admin: admin.local_addr()?,
            admin_tls: None,
            keys: Keys::new(
                &[out_key.card(CardFields::new(1, &[])), in_key.card(CardFields::new(1, &[]))],
                &tenants,
            ),
            policy: Policy { limits, tenants },
            log_dir: None,
            directory: Vec::new(),
            fixed: Default::default(),
            source: None,
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(relay::run(
            settings,
            Listeners { quic, admin, supervisor: Default::default() },
            shutdown.clone(),
        ));
        Ok(Self { address, here: Some((shutdown, task)), apart: None })
    }

    fn spawn(
        binary: &str,
        budget: u64,
        [relay_key, out_key, in_key]: [&Arc<IdentityKey>; 3],
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        relay_key.save(&dir.path().join("relay.key"))?;
        let keys = OwnKeys::create(dir.path(), "relay", relay_key.name())?;
        keys.write_card(&dir.path().join("relay.card"), &[], Timestamp::now())?;
        let tenant = |key: &IdentityKey, deposit_for: Vec<Name>| {
            let card = PathBuf::from(format!("{}.card", key.name()));
            std::fs::write(dir.path().join(&card), key.card(CardFields::new(1, &[])).to_line())?;
            anyhow::Ok(TenantOptions { name: key.name().clone(), card, deposit_for })
        };
        let tenants = vec![tenant(out_key, vec![in_key.name().clone()])?, tenant(in_key, Vec::new())?];
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let admin = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let text = config_text(&Options {
            listen: address,
            admin,
            keys: PathBuf::new(),
            card: "relay.card".into(),
            tenants,
        });
        let text = text.replace("\"1 GiB\"", &format!("\"{budget} B\""));
        let text = text.replace("\"128 MiB\"", &format!("\"{} B\"", budget / 2));
        let config = dir.path().join("relay.toml");
        std::fs::write(&config, text)?;
        let child = std::process::Command::new(binary).arg("run").arg("--config").arg(config).spawn()?;
        Ok(Self { address, here: None, apart: Some((child, admin, dir)) })
    }

    async fn stop(self) -> anyhow::Result<()> {
        if let Some((shutdown, task)) = self.here {
            shutdown.cancel();
            task.await??;
        }
        if let Some((mut child, admin, _dir)) = self.apart {
            let held = service::admin::fetch_status(admin).await?;
            let held =
                held.get("bytes_held_peak").and_then(serde_json::Value::as_u64).unwrap_or(0) / 1_000_000;
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
            println!(
                "relay: held {held} MB at most, peak RSS {:.0} MB, {:.2} CPU s",
                peak_rss_megabytes(&status),
                cpu_seconds(&stat)
            );
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

fn offer(recipient: base::Fingerprint) -> Offer {
    Offer {
        delivery: DeliveryId(random_bytes()),
        attempt: Attempt(1),
        recipient,
        route: ROUTE,
        header: vec![1; 600],
        size: None,
        digest: None,
        urgency: wire::Urgency::Normal,
    }
}

type IncomingOfferId = (base::Fingerprint, DeliveryId, Attempt);

async fn take(offer: IncomingOffer) -> Result<(), transport::Lost> {
    let window = 1 << 20;
    let mut body = offer.accept(window).await?;
    let mut told = window;
    loop {
        match body.next().await? {
            Piece::Data(_) if body.received() + window / 2 > told => {
                told = body.received() + window;
                body.grant(told).await?;
            }
            Piece::Data(_) => {}
            Piece::End(_) => return Ok(()),
        }
    }
}

fn body(bytes: usize) -> WholeBody {
    let piece = Bytes::from(vec![0x5A; 64 * 1024]);
    let (mut pieces, mut hasher, mut left) = (Vec::new(), Hasher::new(b""), bytes);
    while left > 0 {
        let now = piece.slice(..left.min(piece.len()));
        hasher.update(&now);
        left -= now.len();
        pieces.push(now);
    }
    WholeBody::new(pieces, hasher.finish())
}

fn cpu_seconds(stat: &str) -> f64 {
    let ticks: f64 =
        stat.split_whitespace().skip(13).take(2).filter_map(|text| text.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn peak_rss_megabytes(status: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / 1000.0
}
