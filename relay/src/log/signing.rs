use std::sync::Arc;

use base::{EpochId, Name, Timestamp};
use identity::LogKey;
use ledger::log::{Checkpoint, Column, Entry, LogTree, TreeHead, origin};

/// An epoch's entries at one moment.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which epoch.
    pub epoch: EpochId,
    /// All of its entries.
    pub tree: LogTree,
    /// When each was appended.
    pub times: Column<Timestamp>,
    /// Heads of earlier epochs, with the entry that links each.
    pub linked: Vec<(TreeHead, u64)>,
}

/// What wants to be under a signed head: an epoch's entries; where it ends, also the first ones of the next.
#[derive(Debug)]
pub struct ToSign {
    /// The time that the signatures name.
    pub wall: Timestamp,
    /// The running epoch.
    pub part: Part,
    /// The next one, if this head is the last.
    pub next: Option<Part>,
    /// What it is signed with.
    pub key: Arc<LogKey>,
}

/// What was signed.
#[derive(Debug)]
pub struct Signed {
    pub(super) wall: Timestamp,
    pub(super) head: Checkpoint,
    pub(super) next: Option<(Part, Checkpoint)>,
}

impl Default for Part {
    fn default() -> Self {
        let (tree, times) = (LogTree::new(), Column::default());
        Self { epoch: EpochId([0; 16]), tree, times, linked: Vec::new() }
    }
}

impl Part {
    /// Size and root of it.
    pub fn head(&self, relay: &Name) -> TreeHead {
        TreeHead { origin: origin(relay, self.epoch), size: self.tree.size(), root: self.tree.root() }
    }

    /// Its head, signed.
    pub fn sign(&self, key: &LogKey, wall: Timestamp) -> Checkpoint {
        Checkpoint::sign(self.head(key.name()), key, wall.0 / 1000)
    }

    pub(super) fn link(&mut self, head: TreeHead, wall: Timestamp) {
        let index = self.tree.push(Entry::linked(&head).to_bytes());
        self.times.push(wall);
        self.linked.push((head, index));
    }
}

impl ToSign {
    /// Signs it as it is.
    pub fn sign(self) -> Signed {
        let Self { wall, part, next, key } = self;
        let next = next.map(|next| {
            let head = next.sign(&key, wall);
            (next, head)
        });
        Signed { wall, head: part.sign(&key, wall), next }
    }
}
