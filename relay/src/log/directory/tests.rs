use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{DeliveryId, Digest, Name, Secret};
use ledger::log::{LogTree, Salt, verify_consistency};

use super::*;
use crate::log::{HandedBack, Log, LogLimits};

const LIMITS: LogLimits = LogLimits { interval: Duration::from_secs(1), entries_max: 1000 };
const WALL: Timestamp = Timestamp(1_700_000_000_000);
const RECORD: u64 = 48;

fn key(seed: u8) -> Arc<LogKey> {
    Arc::new(LogKey::generate(Name::parse("relay-1").unwrap(), &Secret::new([seed; 64])))
}

fn open(dir: &Path) -> Result<(LogDir, Log), LogDirError> {
    let (store, found) = LogDir::open(dir, &key(1), None, EpochId([7; 16]), WALL)?;
    Ok((store, Log::restored(key(1), LIMITS, found, Instant::now())))
}

fn add(log: &mut Log, count: u64) {
    for number in 0..count {
        let digest = Digest::of(&(log.size() + number).to_be_bytes());
        log.accepted(&DeliveryId(digest.0), &digest, Salt([1; 16]), WALL);
    }
}

fn keep(store: &mut LogDir, log: &mut Log) -> Result<(), LogDirError> {
    let job = log.due(Instant::now() + LIMITS.interval * 2, WALL).unwrap();
    match store.keep(job) {
        Ok(signed) => {
            log.signed(signed, Instant::now());
            Ok(())
        }
        Err(error) => {
            log.not_signed();
            Err(error)
        }
    }
}

/// A directory with so many entries under a signed head, and `behind` whole ones behind it.
fn made(dir: &Path, signed: u64, behind: u64) -> PathBuf {
    let (mut store, mut log) = open(dir).unwrap();
    add(&mut log, signed);
    keep(&mut store, &mut log).unwrap();
    add(&mut log, behind);
    // As it is when the process is killed between the entries and their head.
    let job = log.due(Instant::now() + LIMITS.interval * 2, WALL);
    if let Some(job) = job {
        store.entries.append(&job.part.tree, &job.part.times).unwrap();
    }
    entries_path(dir, log.epoch())
}

fn copy(from: &Path, to: &Path) {
    for (name, path) in names(from).unwrap() {
        fs::copy(path, to.join(name)).unwrap();
    }
}

#[test]
fn a_log_goes_on_under_the_same_origin_and_proves_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut heads: Vec<TreeHead> = Vec::new();
    for run in 0..4u64 {
        let (mut store, mut log) = open(dir.path()).unwrap();
        assert_eq!((log.epoch(), log.size()), (EpochId([7; 16]), run * 10));
        if let Some(last) = heads.last() {
            assert_eq!(log.head().head(), last, "what was signed last is shown first");
            assert_eq!(log.view().entry(last.size - 1).unwrap().ts, WALL.0);
        }
        assert_eq!(log.view().signed(), WALL);
        add(&mut log, 10);
        keep(&mut store, &mut log).unwrap();
        heads.push(log.head().head().clone());
        for (old, new) in heads.iter().zip(heads.iter().skip(1)) {
            let proof = log.view().prove_consistency(old.size, new.size).unwrap();
            assert_eq!(verify_consistency((old.size, &old.root), (new.size, &new.root), &proof), Ok(()));
        }
    }
}

#[test]
fn two_relays_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(LogDirError::InUse(_))));
    assert!(LogDir::inspect(dir.path(), &key(1), None).unwrap().is_some(), "looking is allowed");
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn cut_at_each_byte_the_tail_is_repaired_and_what_was_signed_is_never_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), 5, 3);
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len() as u64, records::HEADER_BYTES + 8 * RECORD);
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let entries = (length as u64).saturating_sub(records::HEADER_BYTES) / RECORD;
        match open(dir.path()) {
            Ok((mut store, mut log)) => {
                assert!(entries >= 5, "{length}: less than what was signed was taken");
                assert_eq!((log.size(), log.head().head().size), (entries, 5), "{length}");
                assert_eq!(fs::metadata(&path).unwrap().len(), records::HEADER_BYTES + entries * RECORD);
                add(&mut log, 2);
                keep(&mut store, &mut log).unwrap();
                drop(store);
                let (_, log) = open(dir.path()).unwrap();
                assert_eq!(log.head().head().size, entries + 2, "{length}");
                // The next length begins with what was there at first.
                let again = tempfile::tempdir().unwrap();
                made(again.path(), 5, 0);
                fs::copy(again.path().join(CHECKPOINT), dir.path().join(CHECKPOINT)).unwrap();
            }
            Err(LogDirError::RolledBack { signed, .. }) => {
                assert!(entries < 5, "{length}: what was signed is there");
                assert_eq!(signed, 5);
                assert_eq!(fs::metadata(&path).unwrap().len(), length as u64, "nothing was changed");
            }
            Err(other) => panic!("{length}: {other}"),
        }
    }
}

#[test]
fn a_changed_byte_below_the_signed_head_is_noticed_and_above_it_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), 5, 2);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x40;
        fs::write(&path, &changed).unwrap();
        let entry = (at as u64).checked_sub(records::HEADER_BYTES).map(|at| at / RECORD);
        match (LogDir::inspect(dir.path(), &key(1), None), entry) {
            (Ok(Some(found)), Some(entry)) if entry >= 5 => assert_eq!(found.part.tree.size(), entry),
            (Err(LogDirError::RolledBack { what, .. }), Some(entry)) if entry < 5 => {
                assert_eq!(what, format!("entry {entry} is damaged"));
            }
            (Err(LogDirError::RolledBack { what, .. }), None) => {
                assert_eq!(what, "not a file of this log's entries");
            }
            (other, entry) => {
                panic!("byte {at} of entry {entry:?}: {:?}", other.map(|found| found.is_some()))
            }
        }
    }
}

/// Whoever can write there can make checks, too, but no signature.
#[test]
fn entries_of_somebody_else_do_not_have_the_root_that_was_signed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = made(dir.path(), 5, 0);
    let (mut store, mut log) = open(other.path()).unwrap();
    for number in 0..5 {
        log.settled(&DeliveryId([number; 32]), &Digest([9; 32]), Salt([1; 16]), WALL);
    }
    keep(&mut store, &mut log).unwrap();
    fs::copy(entries_path(other.path(), log.epoch()), &path).unwrap();
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("others than those that were signed") && error.contains("5 entries"), "{error}");
}

#[test]
fn what_is_missing_or_not_ours_is_said_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), 5, 0);
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Change<'_>); 5] = [
        ("missing, but this relay has signed", &|dir| {
            fs::remove_file(dir.join(path.file_name().unwrap())).unwrap()
        }),
        ("checkpoint: missing, but the directory has entries", &|dir| {
            fs::remove_file(dir.join(CHECKPOINT)).unwrap()
        }),
        ("not the head that this relay signed", &|dir| {
            let text = fs::read_to_string(dir.join(CHECKPOINT)).unwrap().replace("\n5\n", "\n4\n");
            fs::write(dir.join(CHECKPOINT), text).unwrap();
        }),
        ("not the head that this relay signed", &|dir| {
            let part = Part { epoch: EpochId([7; 16]), ..Part::default() };
            fs::write(dir.join(CHECKPOINT), part.sign(&key(2), WALL).to_text()).unwrap();
        }),
        ("it is of the log relay-2/", &|dir| {
            let key = LogKey::generate(Name::parse("relay-2").unwrap(), &Secret::new([1; 64]));
            fs::write(dir.join(CHECKPOINT), Part::default().sign(&key, WALL).to_text()).unwrap();
        }),
    ];
    for (said, change) in cases {
        let broken = tempfile::tempdir().unwrap();
        copy(dir.path(), broken.path());
        change(broken.path());
        let error = open(broken.path()).err().unwrap().to_string();
        assert!(error.contains(said) && error.contains("another log begins"), "{error}");
    }
}

#[test]
fn a_full_disk_signs_nothing_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, mut log) = open(dir.path()).unwrap();
    add(&mut log, 5);
    keep(&mut store, &mut log).unwrap();
    let before = fs::read(dir.path().join(CHECKPOINT)).unwrap();
    let file = std::mem::replace(
        &mut store.entries,
        Records::open(&entries_path(dir.path(), log.epoch()), log.epoch(), 5).unwrap(),
    );
    store.entries.break_off();
    add(&mut log, 3);
    for _ in 0..2 {
        let error = keep(&mut store, &mut log).unwrap_err();
        assert!(matches!(error, LogDirError::File { .. }), "{error}");
    }
    assert_eq!(log.head().head().size, 5);
    assert_eq!(fs::read(dir.path().join(CHECKPOINT)).unwrap(), before, "the head on the disk stays");
    store.entries = file;
    keep(&mut store, &mut log).unwrap();
    drop(store);
    let (_, log) = open(dir.path()).unwrap();
    assert_eq!((log.size(), log.head().head().size), (8, 8));
}

#[test]
fn a_full_epoch_ends_with_its_files_kept_and_the_next_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, mut log) = open(dir.path()).unwrap();
    add(&mut log, 1000);
    assert!(log.is_full());
    let next = EpochId([8; 16]);
    // The disk is full in the middle of it, once.
    let job = log.end_epoch(next, WALL).unwrap();
    let blocked = entries_path(dir.path(), next);
    fs::create_dir(&blocked).unwrap();
    assert!(store.keep(job).is_err());
    log.not_signed();
    fs::remove_dir(&blocked).unwrap();
    drop(store);
    let (mut store, found) = LogDir::open(dir.path(), &key(1), None, EpochId([9; 16]), WALL).unwrap();
    assert_eq!(
        (found.part.epoch, found.head.head().size),
        (EpochId([7; 16]), 1000),
        "the last head is there"
    );
    let mut log = Log::restored(key(1), LIMITS, found, Instant::now());
    let signed = store.keep(log.end_epoch(next, WALL).unwrap()).unwrap();
    let last = log.signed(signed, Instant::now()).unwrap();
    assert_eq!((last.size(), last.unsigned()), (1000, 0));
    add(&mut log, 3);
    keep(&mut store, &mut log).unwrap();
    drop(store);

    let (_, mut log) = open(dir.path()).unwrap();
    assert_eq!((log.epoch(), log.size()), (next, 4));
    assert_eq!(log.view().previous(), [(last.checkpoint().head().clone(), 0)], "the link is known again");
    assert_eq!(log.handed_back(&last.checkpoint().to_text(), WALL), Ok(HandedBack::Older), "it is over");
    let kept = fs::read_to_string(closed_path(dir.path(), EpochId([7; 16]))).unwrap();
    assert_eq!(Checkpoint::parse(&kept, key(1).public()).unwrap().head(), last.checkpoint().head());
}

#[test]
fn links_are_made_once_also_where_their_file_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut earlier = Log::new(key(1), EpochId([1; 16]), LIMITS, Instant::now(), WALL);
    add(&mut earlier, 5);
    let shown = earlier.checkpoint(Instant::now() + LIMITS.interval, WALL).unwrap().to_text();
    let (mut store, mut log) = open(dir.path()).unwrap();
    assert_eq!(log.handed_back(&shown, WALL), Ok(HandedBack::Linked(0)));
    keep(&mut store, &mut log).unwrap();
    drop(store);
    let (store, mut log) = open(dir.path()).unwrap();
    assert_eq!(log.view().previous().len(), 1);
    assert_eq!(log.handed_back(&shown, WALL), Ok(HandedBack::Older));
    drop(store);
    for damage in [None, Some("0\nnonsense\n"), Some("5\nrelay-1/x\n3\n")] {
        match damage {
            None => fs::remove_file(links_path(dir.path(), log.epoch())).unwrap(),
            Some(text) => fs::write(links_path(dir.path(), log.epoch()), text).unwrap(),
        }
        let (_, mut log) = open(dir.path()).unwrap();
        assert_eq!(log.handed_back(&shown, WALL), Ok(HandedBack::Older), "the entry is there: {damage:?}");
    }
}

#[test]
fn drafts_of_a_killed_relay_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), 2, 0);
    let draft = dir.path().join(format!(".{CHECKPOINT}.{}", EpochId([3; 16])));
    fs::write(&draft, "half").unwrap();
    open(dir.path()).unwrap();
    assert!(!draft.exists());
}

#[test]
fn a_folder_holds_hashes_and_times_only() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, mut log) = open(dir.path()).unwrap();
    let (delivery, receipt, salt) = (DeliveryId([0xD1; 32]), Digest([0xE2; 32]), Salt([0xF3; 16]));
    log.accepted(&delivery, &receipt, salt, WALL);
    log.settled(&delivery, &receipt, salt, WALL);
    keep(&mut store, &mut log).unwrap();
    let mut tree = LogTree::new();
    for kind in [ledger::log::EntryKind::Accepted, ledger::log::EntryKind::Settled] {
        tree.push(Entry::new(kind, &salt, &delivery, &receipt).to_bytes());
    }
    assert_eq!(log.head().head().root, tree.root());
    for (name, path) in names(dir.path()).unwrap() {
        let bytes = fs::read(path).unwrap();
        for hidden in [&delivery.0[..16], &receipt.0[..16], &salt.0[..]] {
            assert!(!bytes.windows(hidden.len()).any(|window| window == hidden), "{name}");
        }
    }
}
