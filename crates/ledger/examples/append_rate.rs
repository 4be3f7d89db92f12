//! Measures the log: `cargo run --release -p ledger --example append_rate -- [entries]`. It asserts nothing about speed.

use std::time::{Duration, Instant};

use base::{DeliveryId, Digest, EpochId, Name, Secret};
use identity::LogKey;
use ledger::log::{Checkpoint, Entry, EntryKind, LogTree, Salt, TreeHead, origin, verify_inclusion};

const TAIL: u64 = 100_000;

fn main() {
    let entries = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000u64);
    let mut tree = LogTree::new();
    println!("first {entries} entries: {} µs each", micros(fill(&mut tree, entries), entries));
    println!("memory: {:.1} bytes an entry", tree.bytes() as f64 / tree.size() as f64);
    let before = tree.size();
    println!("next {TAIL} entries, at {before}: {} µs each", micros(fill(&mut tree, TAIL), TAIL));
    let start = Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(std::hint::black_box(&tree).root());
    }
    println!("root of {}: {} µs", tree.size(), micros(start.elapsed(), 1000));
    let start = Instant::now();
    let root = tree.root();
    for i in 0..1000 {
        let index = i * 7919 % tree.size();
        std::hint::black_box(tree.prove_inclusion(index, tree.size()));
    }
    println!("inclusion proof: {} µs", micros(start.elapsed(), 1000));
    let start = Instant::now();
    for i in 0..1000 {
        std::hint::black_box(tree.prove_consistency(i * 7919 % tree.size(), tree.size()));
    }
    println!("consistency proof: {} µs", micros(start.elapsed(), 1000));
    let (Some(path), Some(entry)) = (tree.prove_inclusion(77, tree.size()), tree.entry(77)) else { return };
    let verified = verify_inclusion(&ledger::log::leaf_hash(&entry), 77, tree.size(), &path, &root);
    println!("a path of {} hashes verifies: {}", path.len(), verified.is_ok());
    let start = Instant::now();
    let view = tree.clone();
    println!("view: {} µs", micros(start.elapsed(), 1));
    let Ok(name) = Name::parse("relay") else { return };
    let key = LogKey::generate(name.clone(), &Secret::random());
    let head = TreeHead { origin: origin(&name, EpochId([0; 16])), size: view.size(), root };
    let start = Instant::now();
    for time in 0..200 {
        std::hint::black_box(Checkpoint::sign(head.clone(), &key, time));
    }
    println!("checkpoint, signed twice: {} µs", micros(start.elapsed(), 200));
    let checkpoint = Checkpoint::sign(head, &key, 0).to_text();
    let start = Instant::now();
    for _ in 0..200 {
        let _ = std::hint::black_box(Checkpoint::parse(&checkpoint, key.public()));
    }
    println!("checkpoint of {} bytes, verified twice: {} µs", checkpoint.len(), micros(start.elapsed(), 200));
}

fn fill(tree: &mut LogTree, count: u64) -> Duration {
    let start = Instant::now();
    for number in 0..count {
        let digest = Digest([number as u8; 32]);
        let entry = Entry::new(EntryKind::Accepted, &Salt([0; 16]), &DeliveryId(digest.0), &digest);
        tree.push(entry.to_bytes());
    }
    start.elapsed()
}

fn micros(time: Duration, count: u64) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e6 / count as f64)
}
