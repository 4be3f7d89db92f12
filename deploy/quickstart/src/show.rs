//! Sends the fixtures and follows each instance from received to receipted.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use base::{AeTitle, Digest, Hasher};
use dataset::part10;
use gateway_out::{
    app,
    config::Config,
    receipts,
    send::{self, Instance, Outcome, Target},
};
use service::{config, receipt::CardFiles};
use spool::{Delivery, Filter, Outbox, Queue, State};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::layout::Layout;

/// The same files at each start.
const SEED: u64 = 1;
/// How long all of them may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// Sends, follows, verifies, compares. An error names the first thing that did not hold.
pub(crate) async fn all(layout: &Layout) -> Result<()> {
    let fixtures = layout.dir.join("fixtures");
    let paths = fixtures::demo_set(&fixtures, SEED).context("cannot make the demonstration files")?;
    let target =
        Target { address: layout.listen, calling: AeTitle::parse("QUICKSTART")?, called: layout.ae.clone() };
    let instances = send::gather(&paths, &target)?;
    let queue = open_queue(layout)?;
    let before = queue.newest().await?;

    println!("\nC-STORE of {} instances to {} at {}", instances.len(), target.called, target.address);
    let started = Instant::now();
    let sent = send::send(&target, &instances, &CancellationToken::new(), |_| {}).await?;
    for one in &sent {
        match &one.outcome {
            Outcome::Answered(status) if status.0 == 0 => {}
            Outcome::Answered(status) => bail!("{} was answered {status}", one.path.display()),
            Outcome::NotAccepted(error) | Outcome::Failed(error) => bail!("{}: {error}", one.path.display()),
        }
    }
    println!("all answered 0x0000 after {:.2} s", started.elapsed().as_secs_f64());

    let rows = follow(&queue, before, instances.len()).await?;
    println!("all receipted after {:.2} s\n", started.elapsed().as_secs_f64());
    let digests = verify(layout, &queue, &rows).await?;
    compare(layout, &instances, &digests)?;
    Ok(())
}

fn open_queue(layout: &Layout) -> Result<Queue> {
    let loaded = config::load::<Config>(&layout.config("gateway-out"), config::ENVIRONMENT_PREFIX)?;
    let settings = Config::check(&loaded)?;
    let (outbox_key, index_key) = app::outbox_keys(&settings.outbox)?;
    let config = app::outbox_config(&settings.outbox, settings.retry.policy());
    Ok(Outbox::open_admin(config, outbox_key, index_key)?)
}

/// The last delivery of earlier starts.
/// Prints each change of state until all have a receipt.
async fn follow(queue: &Queue, before: u64, count: usize) -> Result<Vec<Delivery>> {
    let until = Instant::now() + DEADLINE;
    let mut seen: HashMap<u64, State> = HashMap::new();
    loop {
        let filter = Filter { open: false, after: Some(before), limit: 10_000, ..Filter::default() };
        let rows = queue.list(filter).await?;
        for row in &rows {
            if seen.insert(row.sequence, row.state) != Some(row.state) {
                println!("{}", line(row));
            }
            if matches!(row.state, State::Parked | State::Held | State::Discarded) {
                bail!(
                    "delivery {} is {}: {}",
                    row.delivery,
                    row.state,
                    row.reason.as_deref().unwrap_or("no reason")
                );
            }
        }
        if rows.len() == count && rows.iter().all(|row| matches!(row.state, State::Receipted | State::Purged))
        {
            return Ok(rows);
        }
        if Instant::now() >= until {
            bail!(
                "only {} of {count} instances arrived within {DEADLINE:?}",
                rows.iter().filter(|r| r.state.is_ended()).count()
            );
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn line(row: &Delivery) -> String {
    let age = row.changed_at.since(row.received_at);
    format!(
        "  {}  {:<10} +{:>6.3} s  {:>9} bytes  {}",
        row.delivery.short(),
        row.state.as_str(),
        age.as_secs_f64(),
        row.sealed.data_len,
        row.status.map_or_else(String::new, |status| status.to_string()),
    )
}

/// Every receipt as a file that stands alone, verified against the receiver's card. Answers the digests
/// of the data sets that they attest.
async fn verify(layout: &Layout, queue: &Queue, rows: &[Delivery]) -> Result<Vec<Digest>> {
    let dir = layout.dir.join("receipts");
    std::fs::create_dir_all(&dir)?;
    let (card, sender) = (layout.receiver_card(), layout.sender_card());
    let cards = CardFiles { receiver: card.clone(), sender: Some(sender.clone()), relay: None };
    let mut digests = Vec::new();
    for row in rows {
        let path = dir.join(format!("{}.json", row.delivery));
        let file = receipts::of(queue, &row.delivery.to_string()).await?;
        std::fs::write(&path, file.to_text())?;
        service::receipt::verify(&path, &cards)
            .with_context(|| format!("receipt {} does not verify", path.display()))?;
        digests.push(file.unverified().data_digest);
    }
    println!(
        "{} receipts verified offline against {} and {} (kept in {})",
        rows.len(),
        card.display(),
        sender.display(),
        dir.display()
    );
    Ok(digests)
}

/// The data sets that were sent are those that the receipts attest, and those that lie in the folder.
fn compare(layout: &Layout, instances: &[Instance], attested: &[Digest]) -> Result<()> {
    let mut attested = attested.to_vec();
    let arrived = match layout.inbox() {
        Some(inbox) => Some(arrivals(&inbox)?),
        None => None,
    };
    for instance in instances {
        let digest = data_set_digest(&instance.path, instance.offset)?;
        let at = attested.iter().position(|one| *one == digest);
        let at =
            at.ok_or_else(|| anyhow!("no receipt attests the data set of {}", instance.path.display()))?;
        attested.swap_remove(at);
        if let Some(arrived) = &arrived
            && !arrived.contains_key(&digest)
        {
            bail!("the data set of {} did not arrive as it was sent", instance.path.display());
        }
    }
    match &layout.inbox() {
        Some(inbox) => println!(
            "{} data sets compared byte by byte (SHA-256) with {}: identical",
            instances.len(),
            inbox.display()
        ),
        None => println!("{} data sets compared with the receipts' SHA-256: identical", instances.len()),
    }
    Ok(())
}

/// Files below the inbox by the digest of their data set.
fn arrivals(dir: &Path) -> Result<HashMap<Digest, PathBuf>> {
    let mut found = HashMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(meta) = part10::read_file_meta(File::open(&path)?) {
                found.insert(data_set_digest(&path, meta.data_set_offset)?, path);
            }
        }
    }
    Ok(found)
}

fn data_set_digest(path: &Path, offset: u64) -> Result<Digest> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut hasher = Hasher::new(b"");
    let mut buffer = vec![0u8; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}
