//! The relay's append-only log, as a value: what was accepted and what was settled, in an order that cannot be changed
//! afterwards. `crates/ledger/FORMAT.md` has the bytes.
//!
//! It holds salted digests and times, nothing else. Without a log directory each start is an epoch of its own, with an
//! origin of its own; the heads of earlier epochs that gateways hand back become entries of the new one, so that the epochs
//! hang together by what others remember. With one ([`LogDir`]) an epoch goes on over restarts. A full epoch is closed
//! with a last head and followed by the next.
//!
//! Appending is cheap; signing is not, so heads are signed in batches: at most one an interval, and only for a log that has
//! grown. What wants to be signed is a value ([`ToSign`]), so that it can be made durable elsewhere before it is.

mod directory;
mod signing;
mod view;
mod witnesses;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{DeliveryId, Digest, EpochId, Name, Timestamp};
use identity::{LogKey, LogPublic, NoteName};
use ledger::log::{
    Checkpoint, CheckpointError, Column, CosignError, Entry, EntryKind, LogTree, Salt, TreeHead, parse_origin,
};
use thiserror::Error;

pub use directory::{Found, LogDir, LogDirError};
pub use signing::{Part, Signed, ToSign};
pub use view::{EntryView, LogView};
pub use witnesses::{Peer, Telling, Witnesses};

/// Earlier epochs whose last heads are remembered, and linked.
const PREVIOUS_MAX: usize = 16;
/// Gateways whose cosignatures are remembered.
const COSIGNERS_MAX: usize = 1024;

/// Pace and size of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// The shortest time between two signed heads.
    pub interval: Duration,
    /// Entries of one epoch.
    pub entries_max: u64,
}

/// An entry that has just found its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// In which epoch.
    pub epoch: EpochId,
    /// Where, counted from 0.
    pub index: u64,
    /// What opens it, with delivery and digest.
    pub salt: Salt,
}

/// What is known of a gateway's cosignatures in this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// The size of the largest head that it cosigned.
    pub size: u64,
    /// When, in seconds since 1970, by its clock.
    pub time_s: u64,
}

/// What became of a checkpoint that a gateway handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedBack {
    /// It is of this epoch, of this size, and was known.
    Known(u64),
    /// It is of an earlier epoch and its highest so far: linked by this entry.
    Linked(u64),
    /// It is of an earlier epoch, of which a higher one is known, or of one too many.
    Older,
}

/// Why a checkpoint that a gateway handed back is not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HandBackError {
    /// This relay did not sign it.
    #[error("not a checkpoint of this relay: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// It names another relay.
    #[error("a checkpoint of another relay")]
    OtherRelay,
    /// It is signed with this relay's key, is of this epoch, and is not of this tree: somebody else uses the key.
    #[error(
        "this relay's key has signed a head of {0} entries that this log never had: is the key used elsewhere?"
    )]
    Foreign(u64),
    /// The cosignature.
    #[error(transparent)]
    Cosignature(#[from] CosignError),
}

/// See the module.
pub struct Log {
    name: Name,
    key: Arc<LogKey>,
    /// Of heads that this relay signed with keys that it used before.
    earlier: Option<LogPublic>,
    limits: LogLimits,
    epoch: EpochId,
    tree: LogTree,
    times: Column<Timestamp>,
    head: Checkpoint,
    /// The head's text as we signed it: without what gateways add, which has no bound.
    text: Arc<str>,
    signed: Instant,
    signed_wall: Timestamp,
    cosigners: BTreeMap<Name, Cosigned>,
    /// The highest known head of each earlier epoch, with the entry that links it.
    previous: BTreeMap<EpochId, (TreeHead, u64)>,
    /// Epochs of this process or directory that are closed: no head of them is news.
    closed: BTreeSet<EpochId>,
    /// Links of this epoch whose heads were forgotten with the process that made them.
    old_links: HashSet<Digest>,
    /// Something was given away to be signed, and is not back.
    signing: bool,
    /// The head is signed with a key that is not used any more.
    resign: bool,
}

impl Log {
    /// An empty log; its head is signed at once, so that there is always one.
    pub fn new(key: Arc<LogKey>, epoch: EpochId, limits: LogLimits, now: Instant, wall: Timestamp) -> Self {
        let part = Part { epoch, ..Part::default() };
        let head = part.sign(&key, wall);
        let (name, tree) = (key.name().clone(), part.tree);
        Self {
            name,
            key,
            earlier: None,
            limits,
            epoch,
            tree,
            times: Column::default(),
            text: head.to_text().into(),
            head,
            signed: now,
            signed_wall: wall,
            cosigners: BTreeMap::new(),
            previous: BTreeMap::new(),
            closed: BTreeSet::new(),
            old_links: HashSet::new(),
            signing: false,
            resign: false,
        }
    }

    /// A log that goes on where its directory ends.
    pub fn restored(key: Arc<LogKey>, limits: LogLimits, found: Found, now: Instant) -> Self {
        let Found { part: Part { epoch, tree, times, linked }, head, closed, signed, .. } = found;
        let known: HashSet<u64> = linked.iter().map(|(_, index)| *index).collect();
        let links = (0..tree.size()).filter(|index| !known.contains(index));
        let entries = links.filter_map(|index| Entry::from_bytes(&tree.entry(index)?));
        let old_links = entries.filter(|entry| entry.kind == EntryKind::Linked).map(|entry| entry.commitment);
        let previous = linked.into_iter().filter_map(|(head, index)| {
            let (_, epoch) = parse_origin(&head.origin).ok()?;
            Some((epoch, (head, index)))
        });
        // It ended with the key before this one.
        let resign = Checkpoint::parse(&head.to_text(), key.public()).is_err();
        Self {
            name: key.name().clone(),
            key,
            earlier: None,
            limits,
            epoch,
            old_links: old_links.collect(),
            tree,
            times,
            text: head.to_text().into(),
            head,
            signed: now,
            signed_wall: signed,
            cosigners: BTreeMap::new(),
            previous: previous.collect(),
            closed,
            signing: false,
            resign,
        }
    }

    /// Signs with this key from now on, the last head anew as well. Heads that `earlier` signed are ours all the same.
    pub fn sign_with(&mut self, key: Arc<LogKey>, earlier: Option<LogPublic>) {
        self.resign |= key.public() != self.key.public();
        (self.key, self.earlier) = (key, earlier);
    }

    /// A body was admitted; `header` is the digest of its sealed header.
    pub fn accepted(
        &mut self,
        delivery: &DeliveryId,
        header: &Digest,
        salt: Salt,
        wall: Timestamp,
    ) -> Appended {
        self.append(Entry::new(EntryKind::Accepted, &salt, delivery, header), salt, wall)
    }

    /// A delivery was settled for good; `receipt` is the digest that its recipient signed.
    pub fn settled(
        &mut self,
        delivery: &DeliveryId,
        receipt: &Digest,
        salt: Salt,
        wall: Timestamp,
    ) -> Appended {
        self.append(Entry::new(EntryKind::Settled, &salt, delivery, receipt), salt, wall)
    }

    /// Whether the next entry needs another epoch: see [`Log::roll`].
    pub fn is_full(&self) -> bool {
        self.tree.size() >= self.limits.entries_max
    }

    /// When [`Log::due`] will give something; none as long as nothing is new and the key is the same, or something is being signed.
    pub fn deadline(&self) -> Option<Instant> {
        let due = !self.signing && (self.resign || self.tree.size() > self.head.head().size);
        due.then(|| self.signed + self.limits.interval)
    }

    /// What is to be signed now: all of the log, if it has grown and the interval is over. Nothing else is due until
    /// [`Log::signed`] or [`Log::not_signed`] says what became of it.
    pub fn due(&mut self, now: Instant, wall: Timestamp) -> Option<ToSign> {
        if self.deadline().is_none_or(|due| due > now) {
            return None;
        }
        (self.signing, self.resign) = (true, false);
        Some(ToSign { wall, part: self.part(), next: None, key: Arc::clone(&self.key) })
    }

    /// Closes the epoch with a last head, and begins another that links it. None while something is being signed.
    pub fn end_epoch(&mut self, epoch: EpochId, wall: Timestamp) -> Option<ToSign> {
        if self.signing {
            return None;
        }
        self.signing = true;
        let part = self.part();
        let mut next = Part { epoch, ..Part::default() };
        // The oldest are linked by what is linked here.
        let mut earlier: Vec<_> = self.previous.values().cloned().collect();
        earlier.sort_by_key(|(_, index)| *index);
        let too_many = (earlier.len() + 1).saturating_sub(PREVIOUS_MAX);
        let earlier = earlier.into_iter().skip(too_many).map(|(head, _)| head);
        for head in earlier.chain([part.head(&self.name)]) {
            next.link(head, wall);
        }
        self.resign = false;
        Some(ToSign { wall, part, next: Some(next), key: Arc::clone(&self.key) })
    }

    /// Takes what was signed. Gives the last view of the epoch, if that has ended: whoever waits for a proof of it gets it
    /// now.
    pub fn signed(&mut self, signed: Signed, now: Instant) -> Option<LogView> {
        self.signing = false;
        let Signed { wall, head, next } = signed;
        self.show(head, now, wall);
        let (next, head) = next?;
        let last = self.view();
        self.closed.insert(self.epoch);
        self.previous.clear();
        for (head, index) in &next.linked {
            if let Ok((_, epoch)) = parse_origin(&head.origin) {
                self.previous.insert(epoch, (head.clone(), *index));
            }
        }
        (self.epoch, self.tree, self.times) = (next.epoch, next.tree, next.times);
        self.cosigners.clear();
        self.old_links.clear();
        self.show(head, now, wall);
        Some(last)
    }

    /// It could not be signed; it is due again.
    pub fn not_signed(&mut self) {
        self.signing = false;
    }

    /// Signs what was given, where nothing has to be durable first.
    pub fn sign(&self, job: ToSign) -> Signed {
        job.sign()
    }

    /// Signs a head at once if one is due; gives it if so. Not for a log with a directory, where entries are made durable
    /// first.
    pub fn checkpoint(&mut self, now: Instant, wall: Timestamp) -> Option<&Checkpoint> {
        let signed = self.due(now, wall)?.sign();
        self.signed(signed, now);
        Some(&self.head)
    }

    /// As [`Log::end_epoch`], signed at once.
    pub fn roll(&mut self, epoch: EpochId, now: Instant, wall: Timestamp) -> Option<LogView> {
        let signed = self.end_epoch(epoch, wall)?.sign();
        self.signed(signed, now)
    }

    /// The last signed head. Entries after it are not proved yet.
    pub fn head(&self) -> &Checkpoint {
        &self.head
    }

    /// The running epoch.
    pub fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// Its origin.
    pub fn origin(&self) -> &NoteName {
        &self.head.head().origin
    }

    /// The key that signs.
    pub fn public(&self) -> &LogPublic {
        self.key.public()
    }

    /// Entries, signed or not.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The path of an entry in the last signed head; none for what is not below it.
    pub fn prove_inclusion(&self, index: u64) -> Option<Vec<Digest>> {
        self.tree.prove_inclusion(index, self.head.head().size)
    }

    /// That the last signed head continues the tree of the first `old` entries.
    pub fn prove_consistency(&self, old: u64) -> Option<Vec<Digest>> {
        self.tree.prove_consistency(old, self.head.head().size)
    }

    /// Takes the last checkpoint that a gateway remembers. One of an earlier epoch becomes an entry of this one.
    pub fn handed_back(&mut self, text: &str, wall: Timestamp) -> Result<HandedBack, HandBackError> {
        let (epoch, checkpoint) = self.own_checkpoint(text)?;
        let head = checkpoint.head();
        if epoch == self.epoch {
            self.check_own(head)?;
            return Ok(HandedBack::Known(head.size));
        }
        if self.closed.contains(&epoch) {
            return Ok(HandedBack::Older);
        }
        let known = self.previous.get(&epoch);
        let higher = known.map_or(self.previous.len() < PREVIOUS_MAX, |(known, _)| head.size > known.size);
        if !higher || self.is_full() || self.old_links.contains(&Entry::linked(head).commitment) {
            return Ok(HandedBack::Older);
        }
        Ok(HandedBack::Linked(self.link(head.clone(), wall)))
    }

    /// Takes the cosignature of a gateway from a copy of a head of this epoch.
    pub fn cosigned(&mut self, text: &str, name: &Name, key: &LogPublic) -> Result<Cosigned, HandBackError> {
        let (epoch, checkpoint) = self.own_checkpoint(text)?;
        if epoch != self.epoch {
            return Err(HandBackError::Cosignature(CosignError::Missing("matching")));
        }
        self.check_own(checkpoint.head())?;
        let time_s = checkpoint.verify_cosigner(name, key)?;
        let cosigned = Cosigned { size: checkpoint.head().size, time_s };
        if *self.head.head() == *checkpoint.head() {
            self.head.adopt(&checkpoint, name, key)?;
        }
        let known = self.cosigners.get(name).is_some_and(|known| known.size > cosigned.size);
        if !known && (self.cosigners.len() < COSIGNERS_MAX || self.cosigners.contains_key(name)) {
            self.cosigners.insert(name.clone(), cosigned);
        }
        Ok(cosigned)
    }

    /// All of it as it is now, for a reader elsewhere; it costs little.
    pub fn view(&self) -> LogView {
        LogView::new(
            self.tree.clone(),
            self.times.clone(),
            (self.epoch, self.head.clone(), self.text.clone()),
            self.signed_wall,
            self.key.public().clone(),
            self.cosigners.clone(),
            self.previous.values().map(|(head, entry)| (head.clone(), *entry)).collect(),
        )
    }

    fn append(&mut self, entry: Entry, salt: Salt, wall: Timestamp) -> Appended {
        let index = self.tree.push(entry.to_bytes());
        self.times.push(wall);
        Appended { epoch: self.epoch, index, salt }
    }

    fn link(&mut self, head: TreeHead, wall: Timestamp) -> u64 {
        let entry = Entry::linked(&head);
        let index = self.append(entry, Salt([0; 16]), wall).index;
        if let Ok((_, epoch)) = parse_origin(&head.origin) {
            self.previous.insert(epoch, (head, index));
        }
        index
    }

    fn part(&self) -> Part {
        let linked = self.previous.values().cloned().collect();
        Part { epoch: self.epoch, tree: self.tree.clone(), times: self.times.clone(), linked }
    }

    fn show(&mut self, head: Checkpoint, now: Instant, wall: Timestamp) {
        self.text = head.to_text().into();
        (self.head, self.signed, self.signed_wall) = (head, now, wall);
    }

    fn own_checkpoint(&self, text: &str) -> Result<(EpochId, Checkpoint), HandBackError> {
        let ours = Checkpoint::parse(text, self.key.public());
        let earlier = |_| Checkpoint::parse(text, self.earlier.as_ref()?).ok();
        let checkpoint = match ours {
            Ok(checkpoint) => checkpoint,
            Err(error) => earlier(()).ok_or(error)?,
        };
        match parse_origin(&checkpoint.head().origin) {
            Ok((name, epoch)) if name == self.name => Ok((epoch, checkpoint)),
            _ => Err(HandBackError::OtherRelay),
        }
    }

    fn check_own(&self, head: &TreeHead) -> Result<(), HandBackError> {
        if self.tree.root_at(head.size) == Some(head.root) {
            Ok(())
        } else {
            Err(HandBackError::Foreign(head.size))
        }
    }
}

#[cfg(test)]
mod tests;
