use std::sync::LazyLock;

use base::Secret;
use ledger::log::{Tile, leaf_hash, verify_consistency, verify_inclusion};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: LogLimits = LogLimits { interval: SECOND, entries_max: 100 };
const WALL: Timestamp = Timestamp(1_700_000_000_123);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn key(owner: &str, seed: u8) -> Arc<LogKey> {
    Arc::new(LogKey::generate(name(owner), &Secret::new([seed; 64])))
}

fn log(epoch: u8) -> Log {
    Log::new(key("relay-1", 1), EpochId([epoch; 16]), LIMITS, *START, WALL)
}

fn add(log: &mut Log, count: u64) {
    for number in 0..count {
        let digest = Digest::of(&number.to_be_bytes());
        log.accepted(&DeliveryId(digest.0), &digest, Salt([1; 16]), WALL);
    }
}

#[test]
fn another_key_signs_the_last_head_anew_and_what_the_earlier_one_signed_stays_ours() {
    let (old, new) = (key("relay-1", 1), key("relay-1", 2));
    let mut log = log(1);
    add(&mut log, 3);
    let earlier = log.checkpoint(*START + SECOND, WALL).unwrap().to_text();
    log.sign_with(old.clone(), Some(new.public().clone()));
    assert_eq!(log.deadline(), None, "the same key");
    log.sign_with(new.clone(), Some(old.public().clone()));
    let now = *START + SECOND * 3;
    let head = log.checkpoint(now, WALL).expect("due without news").to_text();
    assert_eq!(Checkpoint::parse(&head, new.public()).unwrap().head().size, 3);
    assert_eq!(log.deadline(), None);
    for text in [&earlier, &head] {
        assert_eq!(log.handed_back(text, WALL), Ok(HandedBack::Known(3)));
    }
    log.sign_with(new, None);
    assert!(matches!(log.handed_back(&earlier, WALL), Err(HandBackError::Checkpoint(_))));
}

#[test]
fn a_head_is_signed_at_most_once_an_interval_and_only_when_there_is_news() {
    let mut log = log(1);
    let public = log.public().clone();
    let empty = Checkpoint::parse(&log.head().to_text(), &public).unwrap();
    assert_eq!((empty.head().size, log.deadline()), (0, None));
    assert_eq!(log.checkpoint(*START + SECOND * 9, WALL), None, "nothing is new");

    let digest = Digest([2; 32]);
    let accepted = log.accepted(&DeliveryId([1; 32]), &digest, Salt([3; 16]), WALL);
    let settled = log.settled(&DeliveryId([1; 32]), &digest, Salt([4; 16]), WALL);
    assert_eq!((accepted.index, settled.index, settled.epoch), (0, 1, log.epoch()));
    assert_eq!(log.prove_inclusion(0), None, "not under a signed head yet");
    assert_eq!(log.deadline(), Some(*START + SECOND));
    assert_eq!(log.checkpoint(*START + SECOND / 2, WALL), None, "too early");
    let first = log.checkpoint(*START + SECOND, WALL).unwrap().clone();
    assert_eq!((first.head().size, log.deadline()), (2, None));
    assert_eq!(log.checkpoint(*START + SECOND * 9, WALL), None, "no news since");
    add(&mut log, 5);
    assert_eq!(log.deadline(), Some(*START + SECOND * 2), "an interval after the last one");
    let second = log.checkpoint(*START + SECOND * 3, WALL).unwrap().clone();

    let entry = Entry::new(EntryKind::Settled, &settled.salt, &DeliveryId([1; 32]), &digest);
    let path = log.prove_inclusion(settled.index).unwrap();
    let head = Checkpoint::parse(&second.to_text(), &public).unwrap();
    let TreeHead { size, root, .. } = head.head();
    assert_eq!(verify_inclusion(&entry.leaf_hash(), settled.index, *size, &path, root), Ok(()));
    let proof = log.prove_consistency(2).unwrap();
    assert_eq!(verify_consistency((2, &first.head().root), (*size, root), &proof), Ok(()));
    assert_eq!(log.prove_consistency(8), None);
}

#[test]
fn a_view_goes_as_far_as_the_signed_head_and_stays_as_it_was() {
    let mut log = log(1);
    add(&mut log, 5);
    log.checkpoint(*START + SECOND, WALL);
    add(&mut log, 3);
    let view = log.view();
    log.checkpoint(*START + SECOND * 2, WALL);
    assert_eq!((view.size(), view.unsigned(), log.view().size()), (5, 3, 8));
    assert!(view.bytes() > 0);
    let recent = view.recent(3);
    assert_eq!(recent.iter().map(|entry| entry.index).collect::<Vec<_>>(), [2, 3, 4]);
    let last = recent.last().unwrap();
    assert_eq!((last.kind, last.ts), ("accepted", WALL.0));
    assert_eq!(last.tree_hash, view.checkpoint().head().root.to_string());
    assert_eq!(view.recent(100).len(), 5);
    assert_eq!((view.entry(5), view.prove_inclusion(0, 6), view.prove_consistency(1, 6)), (None, None, None));
    assert_eq!((view.root_at(6), view.root_at(5)), (None, Some(view.checkpoint().head().root)));
    let tile = |path| view.tile(&Tile::parse(path).unwrap());
    assert_eq!(tile("0/000.p/5").map(|bytes| bytes.len()), Some(160));
    assert_eq!(
        tile("entries/000.p/5").map(|bytes| leaf_hash(&bytes[2..35]).to_string()),
        view.entry(0).map(|e| e.leaf_hash)
    );
    for beyond in
        ["0/000.p/6", "entries/000.p/6", "0/000", "1/000.p/1", "0/001.p/1", "7/000.p/1", "63/000.p/1"]
    {
        assert_eq!(tile(beyond), None, "{beyond}");
    }
    assert!(view.verifier_keys().iter().all(|line| line.starts_with(&format!("{}+", log.origin()))));
}

#[test]
fn a_full_epoch_is_closed_by_a_last_head_that_the_next_one_links() {
    let mut log = log(1);
    add(&mut log, 100);
    assert!(log.is_full());
    let last = log.roll(EpochId([2; 16]), *START + SECOND / 4, WALL).unwrap();
    assert_eq!((last.size(), last.unsigned()), (100, 0));
    assert_eq!(last.prove_inclusion(99, 100).unwrap().len(), 4);
    assert!(!log.is_full());
    assert_eq!((log.epoch(), log.size(), log.head().head().size), (EpochId([2; 16]), 1, 1));
    let view = log.view();
    assert_eq!(view.previous(), [(last.checkpoint().head().clone(), 0)]);
    let linked = Entry::linked(last.checkpoint().head());
    assert_eq!(view.entry(0).unwrap().commitment, linked.commitment.to_string());
    assert_eq!(view.entry(0).unwrap().kind, "linked");
    // What its gateways hand back of it now is no news.
    assert_eq!(log.handed_back(&last.checkpoint().to_text(), WALL), Ok(HandedBack::Older));
}

#[test]
fn the_highest_head_of_an_earlier_epoch_is_linked_and_a_foreign_one_refused() {
    let mut earlier = log(1);
    add(&mut earlier, 5);
    let low = earlier.checkpoint(*START + SECOND, WALL).unwrap().to_text();
    add(&mut earlier, 5);
    let high = earlier.checkpoint(*START + SECOND * 2, WALL).unwrap().to_text();

    let mut log = log(2);
    assert_eq!(log.handed_back(&low, WALL), Ok(HandedBack::Linked(0)));
    assert_eq!(log.handed_back(&low, WALL), Ok(HandedBack::Older));
    assert_eq!(log.handed_back(&high, WALL), Ok(HandedBack::Linked(1)));
    assert_eq!(log.handed_back(&low, WALL), Ok(HandedBack::Older));
    assert_eq!(log.view().previous().len(), 1);
    log.checkpoint(*START + SECOND, WALL);
    let own = log.head().to_text();
    assert_eq!(log.handed_back(&own, WALL), Ok(HandedBack::Known(log.head().head().size)));

    let mut twin = self::log(2);
    add(&mut twin, 2);
    let twin = twin.checkpoint(*START + SECOND, WALL).unwrap().to_text();
    assert_eq!(log.handed_back(&twin, WALL), Err(HandBackError::Foreign(2)), "the key is used twice");
    let other_name = Log::new(key("relay-2", 1), EpochId([3; 16]), LIMITS, *START, WALL).head().to_text();
    assert_eq!(log.handed_back(&other_name, WALL), Err(HandBackError::OtherRelay));
    let other_key = Log::new(key("relay-1", 2), EpochId([3; 16]), LIMITS, *START, WALL).head().to_text();
    assert!(matches!(log.handed_back(&other_key, WALL), Err(HandBackError::Checkpoint(_))));
    assert!(matches!(log.handed_back("", WALL), Err(HandBackError::Checkpoint(_))));
    let size = log.size();
    for epoch in 10..40 {
        let head = self::log(epoch).head().to_text();
        let _ = log.handed_back(&head, WALL);
    }
    assert_eq!(log.size() - size, 15, "no more than sixteen epochs are linked");
}

#[test]
fn cosignatures_are_kept_with_the_head_they_are_for() {
    let mut log = log(1);
    let (gateway, stranger) = (key("clinic-in", 5), key("clinic-in", 6));
    add(&mut log, 5);
    let mut old = log.checkpoint(*START + SECOND, WALL).unwrap().clone();
    old.cosign(&gateway, 7);
    let at = |size, time_s| Cosigned { size, time_s };
    assert_eq!(log.cosigned(&old.to_text(), &name("clinic-in"), gateway.public()), Ok(at(5, 7)));
    assert_eq!(log.head().verify_cosigner(&name("clinic-in"), gateway.public()), Ok(7));
    add(&mut log, 1);
    let mut new = log.checkpoint(*START + SECOND * 2, WALL).unwrap().clone();
    assert!(log.head().verify_cosigner(&name("clinic-in"), gateway.public()).is_err(), "another head");
    assert!(log.cosigned(&new.to_text(), &name("clinic-in"), gateway.public()).is_err(), "none there");
    new.cosign(&gateway, 8);
    assert_eq!(log.cosigned(&new.to_text(), &name("clinic-in"), gateway.public()), Ok(at(6, 8)));
    assert_eq!(log.cosigned(&old.to_text(), &name("clinic-in"), gateway.public()), Ok(at(5, 7)));
    assert_eq!(log.view().cosigners().get(&name("clinic-in")), Some(&at(6, 8)), "the larger one stays");
    assert!(log.cosigned(&new.to_text(), &name("clinic-in"), stranger.public()).is_err());
    let mut elsewhere = self::log(9).head().clone();
    elsewhere.cosign(&gateway, 9);
    assert!(log.cosigned(&elsewhere.to_text(), &name("clinic-in"), gateway.public()).is_err());
}

#[test]
fn what_is_being_signed_is_given_once_and_again_only_where_it_failed() {
    let mut log = log(1);
    add(&mut log, 3);
    let later = *START + SECOND * 2;
    let given = log.due(later, WALL).unwrap();
    assert_eq!((log.deadline(), log.due(later, WALL).is_none()), (None, true));
    assert!(log.end_epoch(EpochId([2; 16]), WALL).is_none());
    add(&mut log, 2);
    log.not_signed();
    assert_eq!(log.head().head().size, 0, "nothing was signed");
    drop(given);
    let given = log.due(later, WALL).unwrap();
    add(&mut log, 4);
    assert!(log.signed(given.sign(), later).is_none());
    assert_eq!((log.head().head().size, log.size(), log.view().unsigned()), (5, 9, 4));
}
