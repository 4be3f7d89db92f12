//! How fast the outbox takes instances on this disk, and what one caller waits: prints, never asserts.
//!
//! `cargo run --release -p spool --example commit_rate -- [DIR] [BYTES] [COUNT]`
//! DIR (default: a new folder beside the current one) must lie on the disk that is asked about.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use base::{
    AeTitle, Attempt, BootId, DeliveryId, Digest, InstanceMeta, Name, ObjectId, Phi, Priority, RouteId,
    Secret, Status, Timestamp, Uid, random_bytes,
};
use spool::{
    ChangedContent, IndexKey, InstanceRecord, NewDelivery, NewObject, NewReceipt, Outbox, OutboxConfig,
    OutboxKey, SealedFacts,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let default = std::env::current_dir()?.join(format!("commit-rate-{}", std::process::id()));
    let dir = arguments.next().map_or(default, PathBuf::from);
    let bytes = arguments.next().map_or(Ok(525 * 1024), |text| text.parse())?;
    let count = arguments.next().map_or(Ok(400), |text| text.parse())?;
    let (key, index_key) = (OutboxKey::new(Secret::random()), IndexKey::new(Secret::random()));
    Outbox::init(&dir, &key, &index_key)?;
    let config = OutboxConfig { reserve_bytes: 0, ..OutboxConfig::new(&dir) };
    let outbox = Arc::new(Outbox::open(config, key, index_key, Timestamp::now())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{count} bodies of {bytes} bytes each, in {}", dir.display());
    println!("callers   rate/s    MB/s   commit p50   p95   append p50   whole way/s");
    for callers in [1, 4, 16] {
        let measured = runtime.block_on(measure(&outbox, callers, bytes, count))?;
        measured.print(callers, bytes);
    }
    drop(outbox);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

struct Measured {
    wall: Duration,
    /// Of receiving and all that comes after it, up to the purge.
    whole: Duration,
    appends: Vec<Duration>,
    commits: Vec<Duration>,
}

impl Measured {
    fn print(mut self, callers: usize, bytes: usize) {
        self.appends.sort();
        self.commits.sort();
        let at = |times: &[Duration], share: f64| {
            let index = (times.len() as f64 * share) as usize;
            times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        let rate = self.commits.len() as f64 / self.wall.as_secs_f64();
        println!(
            "{callers:7} {rate:8.0} {:7.0} {:9.2} ms {:5.2} {:9.2} ms {:10.0}",
            rate * bytes as f64 / 1e6,
            at(&self.commits, 0.5),
            at(&self.commits, 0.95),
            at(&self.appends, 0.5),
            self.commits.len() as f64 / self.whole.as_secs_f64(),
        );
    }
}

async fn measure(
    outbox: &Arc<Outbox>,
    callers: usize,
    bytes: usize,
    count: usize,
) -> Result<Measured, Failure> {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        tasks.spawn(receive(Arc::clone(outbox), bytes, count.div_ceil(callers)));
    }
    let (mut appends, mut commits, mut objects) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        for (object, append, commit) in done?? {
            appends.push(append);
            commits.push(commit);
            objects.push(object);
        }
    }
    let wall = start.elapsed();
    let mut tasks = tokio::task::JoinSet::new();
    for object in objects {
        tasks.spawn(settle(Arc::clone(outbox), object));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(Measured { wall, whole: start.elapsed(), appends, commits })
}

async fn receive(
    outbox: Arc<Outbox>,
    bytes: usize,
    count: usize,
) -> Result<Vec<(ObjectId, Duration, Duration)>, Failure> {
    let sealed = vec![0xa5; bytes];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let object = ObjectId(random_bytes());
        let start = Instant::now();
        let mut body = outbox.begin(object)?;
        for chunk in sealed.chunks(64 * 1024) {
            body.append(chunk)?;
        }
        let appended = start.elapsed();
        outbox.commit(body, new_object(object, bytes)?, Timestamp::now()).await?;
        times.push((object, appended, start.elapsed() - appended));
    }
    Ok(times)
}

async fn settle(outbox: Arc<Outbox>, object: ObjectId) -> Result<(), Failure> {
    let delivery = delivery(object)?;
    let (attempt, now) = (Attempt(1), Timestamp::now());
    outbox.relayed(delivery, attempt, BootId([1; 16]), now).await?;
    outbox.collected(delivery, attempt, now).await?;
    let receipt = NewReceipt {
        delivery,
        attempt,
        status: Status::SUCCESS,
        level: 1,
        pledge_follows: false,
        answered_at: now,
        receipt: vec![0; 400],
        settlement: vec![0; 3800],
        manifest: vec![0; 3800],
        progress: Vec::new(),
    };
    outbox.settled_stored(receipt, now).await?;
    Ok(())
}

fn delivery(object: ObjectId) -> Result<DeliveryId, Failure> {
    Ok(DeliveryId::derive(&Name::parse("here")?, object, RouteId([1; 16]), &Name::parse("pacs")?))
}

fn new_object(object: ObjectId, bytes: usize) -> Result<NewObject, Failure> {
    let number = u64::from_be_bytes(random_bytes());
    let uid = Phi::new(Uid::parse(&format!("2.25.{number}"))?);
    let record = InstanceRecord {
        meta: InstanceMeta {
            sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2")?,
            sop_instance: uid.clone(),
            transfer_syntax: Uid::parse("1.2.840.10008.1.2.1")?,
            calling: AeTitle::parse("BENCH")?,
            called: AeTitle::parse("SLUIS")?,
            move_originator: None,
            priority: Priority::Medium,
        },
        study: Some(uid.clone()),
        series: Some(uid),
        accession: Some(Phi::new("A1".to_owned())),
        patient_id: Some(Phi::new("P1".to_owned())),
        data_digest: Digest::of(&number.to_be_bytes()),
    };
    Ok(NewObject {
        content_key: Secret::random(),
        sealed: SealedFacts {
            suite: 2,
            commitment: [0; 32],
            profile: Digest([0; 32]),
            report: None,
            body_digest: Digest([0; 32]),
            sealed_len: bytes as u64,
            data_len: bytes as u64,
        },
        record,
        deliveries: vec![NewDelivery {
            delivery: delivery(object)?,
            route: RouteId([1; 16]),
            receiver: Name::parse("there")?,
            destination: Name::parse("pacs")?,
            cut_through: true,
        }],
        changed_content: ChangedContent::AfterEarlier,
        received_at: Timestamp::now(),
    })
}
