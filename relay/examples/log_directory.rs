//! Measures the log directory: `cargo run --release -p relay --example log_directory -- [entries] [entries a head]`. It asserts
//! nothing about speed; the folder is made below the working directory, so that it lies on a disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use base::{DeliveryId, Digest, EpochId, Name, Secret, Timestamp};
use identity::LogKey;
use ledger::log::Salt;
use relay::log::{Log, LogDir, LogLimits};

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let (entries, batch) = (numbers.next().unwrap_or(1_000_000), numbers.next().unwrap_or(1000).max(1));
    let folder = tempfile::tempdir_in(".")?;
    let key = Arc::new(LogKey::generate(Name::parse("relay")?, &Secret::random()));
    let limits = LogLimits { interval: Duration::from_millis(500), entries_max: u64::MAX };
    let open = || LogDir::open(folder.path(), &key, None, EpochId([1; 16]), Timestamp::now());
    let restore = |found| Log::restored(key.clone(), limits, found, Instant::now());

    let (mut dir, found) = open()?;
    let mut log = restore(found);
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    while log.size() < entries {
        for _ in 0..batch.min(entries - log.size()) {
            let digest = Digest::of(&log.size().to_be_bytes());
            log.accepted(&DeliveryId(digest.0), &digest, Salt([1; 16]), Timestamp::now());
        }
        let at = Instant::now();
        let job = log.due(at + limits.interval * 2, Timestamp::now()).context("the log has grown")?;
        log.signed(dir.keep(job)?, at);
        slowest = slowest.max(at.elapsed());
    }
    let took = start.elapsed();
    let heads = entries.div_ceil(batch);
    println!(
        "{entries} entries under {heads} heads: {:.2} µs an entry",
        took.as_secs_f64() * 1e6 / entries as f64
    );
    println!(
        "a head with {batch} entries, durable: {:.2} ms, the slowest {} ms",
        took.as_secs_f64() * 1e3 / heads as f64,
        slowest.as_millis()
    );
    println!("memory of the log: {:.1} bytes an entry", log.view().bytes() as f64 / entries as f64);
    drop((dir, log));

    let start = Instant::now();
    let (_dir, found) = open()?;
    let log = restore(found);
    println!("start with {} entries, all verified: {} ms", log.size(), start.elapsed().as_millis());
    let bytes: u64 =
        std::fs::read_dir(folder.path())?.filter_map(|e| e.ok()?.metadata().ok()).map(|m| m.len()).sum();
    println!("on the disk: {:.1} bytes an entry", bytes as f64 / entries as f64);
    Ok(())
}
