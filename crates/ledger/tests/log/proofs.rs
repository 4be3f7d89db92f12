//! Proofs hold for what they were made for, and for nothing else.

use base::Digest;
use ledger::log::{
    ConsistencyError, LogTree, Misbehaviour, Progress, TlogProof, TlogProofError, empty_root, judge,
    verify_consistency, verify_inclusion,
};
use ledger::tree::PathError;
use proptest::prelude::*;

use crate::{checkpoint, entry, head, key, tree};

#[test]
fn every_entry_of_every_small_tree_is_proved_and_no_other_in_its_place() {
    let whole = tree(70);
    for size in 1..=70 {
        let root = whole.root_at(size).unwrap();
        for index in 0..size {
            let path = whole.prove_inclusion(index, size).unwrap();
            let verify = |leaf, index, size, root| verify_inclusion(&leaf, index, size, &path, root);
            assert_eq!(verify(entry(index).leaf_hash(), index, size, &root), Ok(()), "{index} of {size}");
            let other = verify(entry(index + 1).leaf_hash(), index, size, &root);
            assert_eq!(other, Err(PathError::OtherRoot), "{index} of {size}");
            assert!(verify(entry(index).leaf_hash(), index ^ 1, size, &root).is_err(), "{index} of {size}");
            let wrong_root = verify(entry(index).leaf_hash(), index, size, &empty_root());
            assert_eq!(wrong_root, Err(PathError::OtherRoot));
        }
        assert_eq!(whole.prove_inclusion(size, size), None);
    }
    assert_eq!(whole.prove_inclusion(0, 71), None);
    assert_eq!(whole.root_at(71), None);
}

#[test]
fn every_pair_of_small_trees_is_proved_and_no_fork() {
    let whole = tree(70);
    for new in 0..=70 {
        let new_root = whole.root_at(new).unwrap();
        for old in 0..=new {
            let old_root = whole.root_at(old).unwrap();
            let path = whole.prove_consistency(old, new).unwrap();
            assert_eq!(verify_consistency((old, &old_root), (new, &new_root), &path), Ok(()), "{old} {new}");
            if old > 0 {
                let fork = Digest([0xff; 32]);
                assert!(verify_consistency((old, &fork), (new, &new_root), &path).is_err(), "{old} {new}");
                assert!(verify_consistency((old, &old_root), (new, &fork), &path).is_err(), "{old} {new}");
            }
        }
    }
    assert_eq!(whole.prove_consistency(2, 1), None);
    assert_eq!(whole.prove_consistency(2, 71), None);
}

#[test]
fn truncated_lengthened_and_swapped_paths_are_refused() {
    let whole = tree(1000);
    let (index, size) = (333, 1000);
    let root = whole.root();
    let path = whole.prove_inclusion(index, size).unwrap();
    let leaf = entry(index).leaf_hash();
    for damaged in damaged(&path) {
        assert!(verify_inclusion(&leaf, index, size, &damaged, &root).is_err(), "{}", damaged.len());
    }
    // Not those of the same shape around it: a path alone proves no size, the signed head does.
    for other in [334, 512, 2000] {
        assert!(verify_inclusion(&leaf, index, other, &path, &root).is_err(), "size {other}");
    }
    for beyond in [0, 1, index] {
        let want = Err(PathError::IndexOutOfRange { index, leaves: beyond });
        assert_eq!(verify_inclusion(&leaf, index, beyond, &path, &root), want);
    }
    let (old, old_root) = (700, whole.root_at(700).unwrap());
    let path = whole.prove_consistency(old, size).unwrap();
    for damaged in damaged(&path) {
        assert!(verify_consistency((old, &old_root), (size, &root), &damaged).is_err(), "{}", damaged.len());
    }
    for other in [1, 350, 512, 699, 701] {
        assert!(verify_consistency((other, &old_root), (size, &root), &path).is_err(), "old size {other}");
    }
    assert_eq!(
        verify_consistency((1000, &root), (700, &old_root), &path),
        Err(ConsistencyError::Smaller { old: 1000, new: 700 })
    );
    // Nothing to prove: then no proof may be there.
    assert_eq!(
        verify_consistency((1000, &root), (1000, &root), &path),
        Err(ConsistencyError::Length(path.len()))
    );
    assert_eq!(verify_consistency((0, &empty_root()), (1000, &root), &[]), Ok(()));
    assert_eq!(verify_consistency((0, &root), (1000, &root), &[]), Err(ConsistencyError::OldRoot));
    assert_eq!(
        verify_consistency((0, &empty_root()), (1000, &root), &path),
        Err(ConsistencyError::Length(path.len()))
    );
}

/// One hash less at either end, one more, two neighbours swapped, one changed.
fn damaged(path: &[Digest]) -> Vec<Vec<Digest>> {
    assert!(path.len() > 2);
    let mut all = vec![Vec::new(), path[1..].to_vec(), path[..path.len() - 1].to_vec()];
    all.push([path, &[Digest([0; 32])]].concat());
    all.push([path, path].concat());
    for at in 0..path.len() - 1 {
        let mut swapped = path.to_vec();
        swapped.swap(at, at + 1);
        all.push(swapped);
    }
    for at in 0..path.len() {
        let mut changed = path.to_vec();
        changed[at].0[31] ^= 1;
        all.push(changed);
    }
    all
}

#[test]
fn a_rollback_and_a_fork_are_told_from_growth_and_from_a_new_epoch() {
    let whole = tree(100);
    let at = |size| {
        let mut head = head(&whole);
        (head.size, head.root) = (size, whole.root_at(size).unwrap());
        head
    };
    let (old, new) = (at(40), at(100));
    let proof = whole.prove_consistency(40, 100).unwrap();
    assert_eq!(judge(None, &new, &[]), Ok(Progress::First));
    assert_eq!(judge(Some(&old), &new, &proof), Ok(Progress::Grown(60)));
    assert_eq!(judge(Some(&new), &new, &[]), Ok(Progress::Same));
    assert_eq!(judge(Some(&new), &old, &proof), Err(Misbehaviour::RolledBack { old: 100, new: 40 }));

    let mut forked = LogTree::new();
    for number in 0..100 {
        forked.push(entry(if number == 39 { 1_000_000 } else { number }).to_bytes());
    }
    let mut other = head(&forked);
    assert_eq!(judge(Some(&new), &other, &[]), Err(Misbehaviour::Forked(100)));
    let its_proof = forked.prove_consistency(40, 100).unwrap();
    for proof in [&proof, &its_proof, &Vec::new()] {
        assert!(matches!(judge(Some(&old), &other, proof), Err(Misbehaviour::Inconsistent(_))));
    }
    assert_eq!(
        judge(Some(&at(39)), &other, &forked.prove_consistency(39, 100).unwrap()),
        Ok(Progress::Grown(61))
    );
    other.origin = ledger::log::origin(&crate::name("relay-1"), base::EpochId([9; 16]));
    assert_eq!(judge(Some(&old), &other, &[]), Ok(Progress::OtherEpoch));
}

#[test]
fn a_proof_file_verifies_alone_and_no_change_to_it_does() {
    let whole = tree(37);
    let log = key("relay-1", 1);
    let proof = TlogProof {
        extra: Some(vec![7; 16]),
        index: 20,
        path: whole.prove_inclusion(20, 37).unwrap(),
        checkpoint: checkpoint(&whole).to_text(),
    };
    let text = proof.to_text();
    let parsed = TlogProof::parse(&text).unwrap();
    assert_eq!(parsed, proof);
    let leaf = entry(20).leaf_hash();
    assert_eq!(parsed.verify(&leaf, log.public()).unwrap().head(), &head(&whole));
    assert!(matches!(parsed.verify(&entry(21).leaf_hash(), log.public()), Err(TlogProofError::Path(_))));
    assert!(matches!(parsed.verify(&leaf, key("relay-1", 2).public()), Err(TlogProofError::Checkpoint(_))));
    let without = TlogProof { extra: None, ..proof };
    assert_eq!(TlogProof::parse(&without.to_text()), Ok(without));

    let first_hash = text.lines().nth(3).unwrap();
    let cases = [
        String::new(),
        text.replace("proof@v1", "proof@v2"),
        text.replace("index 20", "index 020"),
        text.replace("index 20", "index +20"),
        text.replace("index 20", "index -1"),
        text.replace("index 20\n", ""),
        text.replace("extra ", "extra"),
        text.replace("extra ", "Extra "),
        text.replace(first_hash, &first_hash[1..]),
        text.replace(first_hash, &first_hash.replace('=', "")),
        text.replace(first_hash, &format!("{first_hash} ")),
        text.replace('\n', "\r\n"),
        format!("\n{text}"),
        text.replacen("\n\n", "\n", 1),
    ];
    for case in cases {
        let bad = TlogProof::parse(&case).and_then(|proof| proof.verify(&leaf, log.public()));
        assert!(bad.is_err(), "{case:.120}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_hashes_prove_nothing(index in 0u64..300, size in 0u64..300, old in 0u64..300, path in proptest::collection::vec(any::<[u8; 32]>(), 0..12)) {
        let path: Vec<_> = path.into_iter().map(Digest).collect();
        let root = Digest([1; 32]);
        prop_assert!(verify_inclusion(&Digest([2; 32]), index, size, &path, &root).is_err());
        let result = verify_consistency((old, &Digest([3; 32])), (size, &root), &path);
        prop_assert!(result.is_err());
    }

    #[test]
    fn any_text_is_refused_without_panic(text in "[ -~\n]{0,300}") {
        prop_assert!(TlogProof::parse(&text).is_err());
        let _ = TlogProof::parse(&format!("c2sp.org/tlog-proof@v1\nindex 1\n{text}"));
    }
}
