//! Reports how fast one core seals and opens bodies, and what a session and a header cost. Never asserts.
//!
//! `cargo run -p envelope --release --example throughput [MiB]`
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement, not a service"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use base::{
    AeTitle, Attempt, DeliveryId, Digest, InstanceMeta, Name, ObjectId, Phi, Priority, RouteId, Secret,
    Timestamp, Uid,
};
use envelope::{
    BodyContext, BodyMeta, BodyOpener, BodySealer, HeaderFields, Padding, Pinned, PrekeyKind, PrekeySecret,
    ReceiverSessions, SenderSession, SessionRequest, Suite,
};
use identity::IdentityKey;
use sha2::{Digest as _, Sha256};

/// What a PDU of 64 KiB leaves to one data fragment.
const FRAGMENT_BYTES: usize = 65_530;

fn main() {
    let mib: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(256);
    let data: Vec<u8> = (0..mib << 20).map(|i: usize| (i ^ (i >> 9)) as u8).collect();
    let (_, spent) = timed(|| Sha256::digest(&data));
    println!("SHA-256 alone        {:>6.0} MB/s", rate(data.len(), spent));
    for suite in Suite::ALL {
        body(suite, &data);
        session(suite);
    }
}

fn body(suite: Suite, data: &[u8]) {
    let context = BodyContext { suite, object: ObjectId([1; 16]), profile: Digest::of(b"") };
    let key = Secret::new([2; 32]);
    let mut sealed = Vec::with_capacity(data.len() / 8 * 9 + (1 << 20));
    let mut commitment = None;
    let (_, spent) = timed(|| {
        let mut sealer = BodySealer::new(&context, &key, Padding::Padme, &meta());
        commitment = Some(sealer.commitment());
        for fragment in data.chunks(FRAGMENT_BYTES) {
            let mut out = Vec::new();
            sealer.data(fragment, &mut out);
            black_box(&out);
        }
        black_box(sealer.finish(&mut Vec::new()))
    });
    println!("suite {suite} sealing      {:>6.0} MB/s", rate(data.len(), spent));

    let mut sealer = BodySealer::new(&context, &key, Padding::None, &meta());
    sealer.data(data, &mut sealed);
    sealer.finish(&mut sealed);
    let (_, spent) = timed(|| {
        let mut opener = BodyOpener::new(&context, &key, &commitment.expect("set above")).unwrap();
        let mut sink = Vec::new();
        for fragment in sealed.chunks(FRAGMENT_BYTES) {
            sink.clear();
            opener.feed(fragment, &mut sink).unwrap();
            black_box(&sink);
        }
        black_box(opener.finish(&mut sink).unwrap())
    });
    println!("suite {suite} opening      {:>6.0} MB/s", rate(data.len(), spent));

    let slice = &data[..526_000.min(data.len())];
    let rounds = 200u32;
    let (_, spent) = timed(|| {
        for _ in 0..rounds {
            let mut out = Vec::new();
            let mut sealer = BodySealer::new(&context, &key, Padding::Padme, &meta());
            sealer.data(slice, &mut out);
            black_box(sealer.finish(&mut out));
        }
    });
    println!("suite {suite} CT slice     {:>6.0} µs (526 kB, Padmé)", micros(spent) / f64::from(rounds));
}

fn session(suite: Suite) {
    let sender = IdentityKey::generate(Name::parse("sender").unwrap(), &Secret::new([1; 96]));
    let receiver = IdentityKey::generate(Name::parse("receiver").unwrap(), &Secret::new([2; 96]));
    let (route, now) = (RouteId([3; 16]), Timestamp(1_000));
    let not_after = Timestamp(10_000_000);
    let (prekey, spent) =
        timed(|| PrekeySecret::generate(suite, route, PrekeyKind::OneTime, not_after, Secret::new([4; 32])));
    println!("suite {suite} prekey       {:>6.0} µs", micros(spent));
    let (bundle, spent) = timed(|| prekey.bundle(&receiver));
    println!("suite {suite} bundle       {:>6.0} µs", micros(spent));
    let request =
        SessionRequest { bundle: &bundle, recipient: receiver.public(), sender: &sender, route, suite };
    let (session, spent) = timed(|| SenderSession::open(&request, now, &Secret::new([5; 48])));
    println!("suite {suite} open session {:>6.0} µs", micros(spent));
    let mut session = session.unwrap();
    let mut sessions = ReceiverSessions::new(receiver.fingerprint());
    sessions.publish(prekey).unwrap();
    let destination = Name::parse("archive").unwrap();
    let body = BodyContext { suite, object: ObjectId([1; 16]), profile: Digest::of(b"") };
    let key = Secret::new([6; 32]);
    let commitment = BodySealer::new(&body, &key, Padding::None, &meta()).commitment();
    let delivery = DeliveryId::derive(sender.name(), body.object, route, &destination);
    let fields = HeaderFields { delivery, attempt: Attempt(1), body, commitment };
    let pin = |_| {
        Some(Pinned {
            identities: vec![sender.public().clone()],
            suite,
            name: sender.name().clone(),
            destination: destination.clone(),
        })
    };
    for (case, rounds) in [("first header", 1u32), ("next headers", 1000)] {
        let (headers, spent) = timed(|| {
            (0..rounds).map(|_| session.next_header(&fields, &key, now).unwrap()).collect::<Vec<_>>()
        });
        println!("suite {suite} {case} sealed {:>6.0} µs", micros(spent) / f64::from(rounds));
        let (_, spent) = timed(|| {
            for header in &headers {
                black_box(sessions.open_header(&header.bytes, pin, now).unwrap());
            }
        });
        println!("suite {suite} {case} opened {:>6.0} µs", micros(spent) / f64::from(rounds));
        session.opening_known();
    }
}

fn meta() -> BodyMeta {
    let uid = |text| Uid::parse(text).unwrap();
    let title = |text| AeTitle::parse(text).unwrap();
    BodyMeta {
        instance: InstanceMeta {
            sop_class: uid("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance: Phi::new(uid("2.25.1")),
            transfer_syntax: uid("1.2.840.10008.1.2.1"),
            calling: title("MODALITY"),
            called: title("SLUIS"),
            move_originator: None,
            priority: Priority::Medium,
        },
        uid_hash_key: Secret::new([7; 32]),
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn rate(bytes: usize, spent: Duration) -> f64 {
    bytes as f64 / spent.as_secs_f64() / 1e6
}

fn micros(spent: Duration) -> f64 {
    spent.as_secs_f64() * 1e6
}
