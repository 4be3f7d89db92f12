//! What a gateway believes of a relay's log, and what ends that belief: a pure state, no socket, no disk, no clock.
//!
//! A log that a gateway has seen may only grow, and has to prove that it did. A relay that starts anew without its log
//! is another *epoch*, under another origin; that is worth an alarm and stops nothing. Two heads of one epoch that
//! cannot both be true are the end: nobody but the relay can have signed them.

use std::collections::VecDeque;
use std::fmt;

use base::{Digest, Name};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::log::{TreeHead, verify_consistency};

/// Heads of the running epoch that are remembered, to compare with what others have seen.
const HEADS_MAX: usize = 1024;
/// Ended epochs that are remembered, so that none comes back.
const EPOCHS_MAX: usize = 64;

/// One state of a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct Head {
    /// Which log: the relay's name and the epoch, `name/epoch`.
    #[n(0)]
    pub origin: String,
    /// How many leaves it has.
    #[n(1)]
    pub size: u64,
    /// RFC 6962 tree hash of them.
    #[n(2)]
    pub root: Digest,
}

/// Everything that a gateway remembers of one relay's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    relay: Name,
    /// The latest one believed.
    head: Option<Head>,
    /// Size and root of heads of this epoch, oldest first.
    heads: VecDeque<(u64, Digest)>,
    /// The last heads of ended epochs, oldest first.
    ended: VecDeque<Head>,
    distrust: Option<Distrust>,
}

/// What a head that was believed brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The first one of this relay.
    First,
    /// The one that is known.
    Same,
    /// The log grew, and proved it.
    Grown,
    /// The relay began anew: what its log held before is proven by no later head. To be alarmed.
    NewEpoch {
        /// Where the earlier epoch had come to.
        ended: Head,
    },
}

/// Why a relay is not used any more, until an operator says otherwise: two statements that exclude each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distrust {
    /// What happened.
    pub why: Breach,
    /// What was believed.
    pub believed: Head,
    /// What contradicts it.
    pub shown: Head,
}

/// How a log broke its promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breach {
    /// Fewer leaves than before, or an epoch that had ended.
    RolledBack,
    /// Other leaves than before.
    Forked,
    /// Another gateway was shown another log.
    SplitView,
}

/// Why a head is not believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Disbelief {
    /// Another log's name.
    #[error("the relay showed the log {0}, which is not its own")]
    OtherLog(String),
    /// The proof starts elsewhere: the relay must be told again where we are.
    #[error("the relay proved growth from {from} leaves, we know {known}")]
    OtherBase {
        /// Where its proof starts.
        from: u64,
        /// Where we are.
        known: u64,
    },
    /// The relay is, or is from now on, not used.
    #[error("{0}")]
    Distrusted(Box<Distrust>),
}

impl Witness {
    /// Nothing seen yet.
    pub fn new(relay: Name) -> Self {
        Self { relay, head: None, heads: VecDeque::new(), ended: VecDeque::new(), distrust: None }
    }

    /// The latest head that is believed: what the relay has to continue.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Why the relay is not used, if it is not.
    pub fn distrust(&self) -> Option<&Distrust> {
        self.distrust.as_ref()
    }

    /// Looks at a head whose signatures verify. `proof` is the relay's consistency proof from `from` leaves.
    pub fn observe(&mut self, shown: Head, from: u64, proof: &[Digest]) -> Result<Seen, Disbelief> {
        self.belongs(&shown)?;
        let Some(believed) = self.head.clone() else {
            self.believe(shown);
            return Ok(Seen::First);
        };
        if shown.origin != believed.origin {
            if let Some(over) = self.ended.iter().find(|over| over.origin == shown.origin) {
                let believed = over.clone();
                return Err(self.breach(Breach::RolledBack, believed, shown));
            }
            self.ended.push_back(believed.clone());
            if self.ended.len() > EPOCHS_MAX {
                self.ended.pop_front();
            }
            self.heads.clear();
            self.believe(shown);
            return Ok(Seen::NewEpoch { ended: believed });
        }
        if shown.size < believed.size {
            return Err(self.breach(Breach::RolledBack, believed, shown));
        }
        if shown.size == believed.size {
            return match shown.root == believed.root {
                true => Ok(Seen::Same),
                false => Err(self.breach(Breach::Forked, believed, shown)),
            };
        }
        if from != believed.size {
            return Err(Disbelief::OtherBase { from, known: believed.size });
        }
        let (old, new) = ((believed.size, &believed.root), (shown.size, &shown.root));
        if verify_consistency(old, new, proof).is_err() {
            return Err(self.breach(Breach::Forked, believed, shown));
        }
        self.believe(shown);
        Ok(Seen::Grown)
    }

    /// Compares with a head that another gateway was shown and has signed. `Ok(false)`: it cannot be compared, as we were
    /// shown none of that size.
    pub fn compare(&mut self, theirs: &Head) -> Result<bool, Disbelief> {
        if let Some(distrust) = &self.distrust {
            return Err(Disbelief::Distrusted(Box::new(distrust.clone())));
        }
        let Some(head) = self.head.as_ref().filter(|head| head.origin == theirs.origin) else {
            return Ok(false);
        };
        let Some((size, root)) = self.heads.iter().find(|(size, _)| *size == theirs.size) else {
            return Ok(false);
        };
        if *root == theirs.root {
            return Ok(true);
        }
        let believed = Head { origin: head.origin.clone(), size: *size, root: *root };
        Err(self.breach(Breach::SplitView, believed, theirs.clone()))
    }

    /// An operator's decision: the relay is used again, and what it shows next is a new beginning.
    pub fn trust_again(&mut self) -> Option<Distrust> {
        let ended = self.distrust.take()?;
        (self.head, self.heads) = (None, VecDeque::new());
        // Its other epochs stay over. The one that broke may go on from what it shows next.
        Some(ended)
    }

    fn belongs(&self, shown: &Head) -> Result<(), Disbelief> {
        if let Some(distrust) = &self.distrust {
            return Err(Disbelief::Distrusted(Box::new(distrust.clone())));
        }
        let epoch = shown.origin.strip_prefix(self.relay.as_str()).and_then(|rest| rest.strip_prefix('/'));
        match epoch {
            Some(epoch) if !epoch.is_empty() => Ok(()),
            _ => Err(Disbelief::OtherLog(shown.origin.chars().take(128).collect())),
        }
    }

    fn believe(&mut self, head: Head) {
        self.heads.push_back((head.size, head.root));
        if self.heads.len() > HEADS_MAX {
            self.heads.pop_front();
        }
        self.head = Some(head);
    }

    fn breach(&mut self, why: Breach, believed: Head, shown: Head) -> Disbelief {
        let distrust = Distrust { why, believed, shown };
        self.distrust = Some(distrust.clone());
        Disbelief::Distrusted(Box::new(distrust))
    }
}

impl From<&TreeHead> for Head {
    fn from(head: &TreeHead) -> Self {
        Self { origin: head.origin.to_string(), size: head.size, root: head.root }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} leaves and root {}", self.origin, self.size, self.root)
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Breach::RolledBack => "the relay rolled its log back",
            Breach::Forked => "the relay's log forked",
            Breach::SplitView => "the relay showed another gateway another log",
        };
        write!(f, "{why}: {} is not a continuation of {}", self.shown, self.believed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{ENTRY_BYTES, LogTree};

    fn tree(leaves: &[u32]) -> LogTree {
        let mut tree = LogTree::new();
        for leaf in leaves {
            let mut entry = [0; ENTRY_BYTES];
            entry[..4].copy_from_slice(&leaf.to_be_bytes());
            tree.push(entry);
        }
        tree
    }

    fn hash(leaves: &[u32]) -> Digest {
        tree(leaves).root()
    }

    fn proof(old: usize, leaves: &[u32]) -> Vec<Digest> {
        tree(leaves).prove_consistency(old as u64, leaves.len() as u64).unwrap()
    }

    fn head(epoch: &str, leaves: &[u32]) -> Head {
        Head { origin: format!("relay/{epoch}"), size: leaves.len() as u64, root: hash(leaves) }
    }

    fn witness() -> Witness {
        Witness::new(Name::parse("relay").unwrap())
    }

    fn breach(result: Result<Seen, Disbelief>) -> Breach {
        match result {
            Err(Disbelief::Distrusted(distrust)) => distrust.why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_log_grows_from_every_size_to_every_other() {
        let leaves: Vec<u32> = (0..40).collect();
        for old in 0..=leaves.len() {
            for new in old..=leaves.len() {
                let mut witness = witness();
                assert_eq!(witness.observe(head("a", &leaves[..old]), 0, &[]), Ok(Seen::First));
                let path = proof(old, &leaves[..new]);
                let want = if old == new { Seen::Same } else { Seen::Grown };
                assert_eq!(
                    witness.observe(head("a", &leaves[..new]), old as u64, &path),
                    Ok(want),
                    "{old} {new}"
                );
                assert_eq!(witness.head().unwrap().size, new as u64);
            }
        }
    }

    #[test]
    fn another_log_of_any_size_is_a_fork_and_the_end() {
        let leaves: Vec<u32> = (0..20).collect();
        let mut other = leaves.clone();
        other[3] = 99;
        for old in 4..=20 {
            for new in old..=20 {
                let mut witness = witness();
                witness.observe(head("a", &leaves[..old]), 0, &[]).unwrap();
                let shown = head("a", &other[..new]);
                let path = proof(old, &other[..new]);
                assert_eq!(breach(witness.observe(shown, old as u64, &path)), Breach::Forked, "{old} {new}");
                // Not even the right one is believed now, nor another epoch.
                let again = witness.observe(head("a", &leaves[..old]), 0, &[]);
                assert_eq!(breach(again), Breach::Forked);
                assert_eq!(breach(witness.observe(head("b", &[]), 0, &[])), Breach::Forked);
            }
        }
    }

    #[test]
    fn a_proof_with_anything_missing_added_or_changed_is_none() {
        let leaves: Vec<u32> = (0..13).collect();
        let good = proof(6, &leaves);
        let mut cases = vec![vec![], good[1..].to_vec(), good[..good.len() - 1].to_vec()];
        cases.push([good.clone(), vec![hash(&leaves)]].concat());
        cases.extend((0..good.len()).map(|at| {
            let mut changed = good.clone();
            changed[at].0[0] ^= 1;
            changed
        }));
        cases.push(good.iter().rev().copied().collect());
        for path in cases {
            let mut witness = witness();
            witness.observe(head("a", &leaves[..6]), 0, &[]).unwrap();
            assert_eq!(breach(witness.observe(head("a", &leaves), 6, &path)), Breach::Forked);
        }
    }

    #[test]
    fn a_log_that_shrinks_or_returns_is_rolled_back() {
        let leaves: Vec<u32> = (0..9).collect();
        let mut shrinking = witness();
        shrinking.observe(head("a", &leaves), 0, &[]).unwrap();
        assert_eq!(breach(shrinking.observe(head("a", &leaves[..8]), 0, &[])), Breach::RolledBack);

        let mut returning = witness();
        returning.observe(head("a", &leaves), 0, &[]).unwrap();
        let ended = head("a", &leaves);
        assert_eq!(returning.observe(head("b", &[]), 0, &[]), Ok(Seen::NewEpoch { ended }));
        let mut longer = leaves.clone();
        longer.push(9);
        let back = returning.observe(head("a", &longer), 9, &proof(9, &longer));
        assert_eq!(breach(back), Breach::RolledBack, "even where it would have grown");
    }

    #[test]
    fn what_is_no_proof_of_guilt_changes_nothing() {
        let leaves: Vec<u32> = (0..9).collect();
        let mut witness = witness();
        for origin in ["other/a", "relay", "relay/", "relayed/a"] {
            let shown = Head { origin: origin.to_owned(), ..head("a", &leaves) };
            assert_eq!(witness.observe(shown, 0, &[]), Err(Disbelief::OtherLog(origin.to_owned())));
        }
        witness.observe(head("a", &leaves[..5]), 0, &[]).unwrap();
        let from = witness.observe(head("a", &leaves), 4, &proof(4, &leaves));
        assert_eq!(from, Err(Disbelief::OtherBase { from: 4, known: 5 }));
        assert_eq!(witness.observe(head("a", &leaves), 5, &proof(5, &leaves)), Ok(Seen::Grown));
    }

    #[test]
    fn two_gateways_find_out_that_they_were_shown_two_logs() {
        let (ours, mut theirs): (Vec<u32>, Vec<u32>) = ((0..12).collect(), (0..12).collect());
        let mut witness = witness();
        witness.observe(head("a", &ours[..4]), 0, &[]).unwrap();
        witness.observe(head("a", &ours), 4, &proof(4, &ours)).unwrap();
        for (theirs, comparable) in [(&ours[..4], true), (&ours[..12], true), (&ours[..7], false)] {
            assert_eq!(witness.compare(&head("a", theirs)), Ok(comparable));
        }
        assert_eq!(witness.compare(&head("b", &theirs)), Ok(false), "of another epoch");
        theirs[2] = 99;
        let Err(Disbelief::Distrusted(found)) = witness.compare(&head("a", &theirs[..4])) else { panic!() };
        assert_eq!(
            (found.why, &found.believed, &found.shown),
            (Breach::SplitView, &head("a", &ours[..4]), &head("a", &theirs[..4]))
        );
        assert!(
            found
                .to_string()
                .starts_with("the relay showed another gateway another log: relay/a with 4 leaves")
        );
        assert_eq!(witness.distrust(), Some(&*found));
    }

    #[test]
    fn trust_comes_back_by_decision_only_and_begins_anew() {
        let leaves: Vec<u32> = (0..9).collect();
        let mut witness = witness();
        assert_eq!(witness.trust_again(), None);
        witness.observe(head("a", &leaves), 0, &[]).unwrap();
        witness.observe(head("b", &[]), 0, &[]).unwrap();
        assert_eq!(breach(witness.observe(head("a", &leaves), 0, &[])), Breach::RolledBack);
        // As it is kept on disk.
        let kept = serde_json::to_string(&witness).unwrap();
        let mut witness: Witness = serde_json::from_str(&kept).unwrap();
        assert_eq!(witness.trust_again().unwrap().why, Breach::RolledBack);
        assert_eq!(witness.observe(head("b", &[7]), 0, &[]), Ok(Seen::First));
        assert_eq!(breach(witness.observe(head("a", &leaves), 0, &[])), Breach::RolledBack);
    }

    #[test]
    fn memory_of_heads_and_epochs_is_bounded() {
        let mut witness = witness();
        for epoch in 0..(EPOCHS_MAX + 5) {
            witness.observe(head(&epoch.to_string(), &[]), 0, &[]).unwrap();
        }
        assert_eq!(witness.ended.len(), EPOCHS_MAX);
        for size in 0..(HEADS_MAX as u64 + 5) {
            witness.believe(Head { size, ..head("x", &[]) });
        }
        assert_eq!(witness.heads.len(), HEADS_MAX);
    }
}
