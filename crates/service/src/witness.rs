//! What a gateway keeps of the log of each relay, durably: see [`ledger::Witness`]. A relay whose log broke its promise
//! is not used until an operator clears it by [`trust_again`], with a reason.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base::{Name, Timestamp};
use identity::{LogKey, LogPublic, PeerCard};
use ledger::log::{Checkpoint, CheckpointError, TlogProof, parse_origin};
use ledger::{Disbelief, Distrust, Head, LogProof, LogProofError, Receipt, Seen, Witness};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::Live;
use crate::files::{self, Readable};
use crate::silence::{Silence, TransparencyTable};

/// Acts of operators that a file remembers.
const ACTS_MAX: usize = 64;

/// The witness of one relay's log. All that follows from its state stands in the file before it is acted upon.
#[derive(Debug)]
pub struct LogWitness {
    relay: Name,
    /// Verify its heads, the newest first, an earlier one until its end; a relay without any has no log. Never held across
    /// an await.
    log: RwLock<Vec<(LogPublic, Option<Timestamp>)>>,
    own: Live<LogKey>,
    path: PathBuf,
    // Never held across an await.
    kept: Mutex<Kept>,
    silence: Mutex<Silence>,
    /// When a head was shown and believed last, in this run.
    seen_at: Mutex<Option<Timestamp>>,
}

/// How a relay's log stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The latest head that is believed.
    pub head: Option<Head>,
    /// When a head was shown and believed last, in this run.
    pub seen_at: Option<Timestamp>,
    /// Why the relay is not used, if it is not.
    pub distrust: Option<String>,
    /// Since when its log is silent although it had something to say.
    pub silent_since: Option<Timestamp>,
}

/// The content of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    witness: Witness,
    /// The checkpoint of the latest head, cosigned by us.
    checkpoint: Option<String>,
    acts: Vec<Act>,
}

/// An operator's decision to use a relay again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    at: Timestamp,
    who: String,
    reason: String,
    distrust: Distrust,
}

/// Why a head of a relay's log is not taken.
#[derive(Debug, Error)]
pub enum NotBelieved {
    /// The relay's card has no log key.
    #[error("the card of {0} has no log key, so that its log cannot be verified; pin a card that has")]
    NoKey(Name),
    /// A decision without one.
    #[error("give a --reason; it is kept with the decision")]
    NoReason,
    /// Not a checkpoint, or not signed by the relay.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It contradicts what is known.
    #[error(transparent)]
    Disbelief(#[from] Disbelief),
    /// The file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file is not one of ours.
    #[error("{}: {reason}; restore it from its copy", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn path_of(dir: &Path, relay: &Name) -> PathBuf {
    dir.join(format!("log-of-{relay}.json"))
}

fn read(path: &Path) -> Result<Option<Kept>, NotBelieved> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(NotBelieved::File { path: path.to_owned(), source }),
    };
    let damaged =
        |e: serde_json::Error| NotBelieved::Damaged { path: path.to_owned(), reason: e.to_string() };
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

fn write(path: &Path, kept: &Kept) -> Result<(), NotBelieved> {
    let file_error = |source| NotBelieved::File { path: path.to_owned(), source };
    let text = serde_json::to_vec_pretty(kept).map_err(|e| file_error(io::Error::other(e)))?;
    files::replace(path, &text, Readable::Owner).map_err(file_error)
}

impl LogWitness {
    /// Reads what is kept in a folder. A damaged file is an error: what was believed must not be forgotten.
    pub fn open(
        dir: &Path,
        relay: &Name,
        log: Option<LogPublic>,
        own: Arc<LogKey>,
    ) -> Result<Self, NotBelieved> {
        let path = path_of(dir, relay);
        let new = || Kept { witness: Witness::new(relay.clone()), checkpoint: None, acts: Vec::new() };
        let kept = Mutex::new(read(&path)?.unwrap_or_else(new));
        let silence = Mutex::new(Silence::new(TransparencyTable::default().silent_after.duration()));
        let log = RwLock::new(log.into_iter().map(|key| (key, None)).collect());
        let (relay, own, seen_at) = (relay.clone(), Live::new(own), Mutex::default());
        let witness = Self { relay, log, own, path, kept, silence, seen_at };
        if let Some(distrust) = witness.distrust() {
            error!(relay = %witness.relay, %distrust, "this relay is not used; `relay trust NAME --reason TEXT` says otherwise");
        }
        Ok(witness)
    }

    /// From now on the heads of this relay are verified by the log keys of this card.
    pub fn pin(&self, card: &PeerCard) {
        let keys = card.all_log_keys().map(|(key, until)| (key.clone(), until)).collect();
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// From now on we cosign with this key.
    pub fn cosign_with(&self, own: Arc<LogKey>) {
        self.own.exchange(own);
    }

    /// Verifies a head by whichever key of the relay counts now.
    fn verified(&self, text: &str, now: Timestamp) -> Result<Checkpoint, NotBelieved> {
        let keys = self.log.read().unwrap_or_else(PoisonError::into_inner);
        let mut refused = None;
        for (key, _) in keys.iter().filter(|(_, until)| until.is_none_or(|until| now < until)) {
            match Checkpoint::parse(text, key) {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.map_or_else(|| NotBelieved::NoKey(self.relay.clone()), NotBelieved::from))
    }

    /// With another limit for its silence than the default.
    #[must_use]
    pub fn with_silence(mut self, after: Duration) -> Self {
        self.silence = Mutex::new(Silence::new(after));
        self
    }

    /// Something was deposited or settled at the relay: its log has to grow.
    pub fn active(&self) {
        self.silence().active(Instant::now(), Timestamp::now());
    }

    /// The relay is connected (again).
    pub fn connected(&self) {
        self.silence().connected(Instant::now());
    }

    /// Since when the relay's log is silent although it had something to say.
    pub fn silent_since(&self) -> Option<Timestamp> {
        self.silence().since(Instant::now())
    }

    /// Says once that the log is silent, if it is. To be called now and then while the relay is connected.
    pub fn warn_of_silence(&self) {
        let begins = self.silence().begins(Instant::now());
        if let Some(since) = begins {
            warn!(relay = %self.relay, since = crate::text::utc(since), "the relay takes and gives instances and shows no new head of its log; instances are carried on, their receipts get no place in a log");
        }
    }

    /// The same as a sentence for `status`.
    pub fn alarm(&self) -> Option<String> {
        let since = crate::text::utc(self.silent_since()?);
        Some(format!(
            "relay {} shows no new head of its log since {since}, although it takes and gives instances",
            self.relay
        ))
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the relay is not used, if it is not. While it is not, the file is looked at: an operator may have decided.
    pub fn distrust(&self) -> Option<Distrust> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.witness.distrust()?;
        if let Ok(Some(now)) = read(&self.path)
            && now.witness.distrust().is_none()
        {
            info!(relay = %self.relay, "an operator has decided to use this relay again");
            *kept = now;
        }
        kept.witness.distrust().cloned()
    }

    /// Whether the relay may be used.
    pub fn is_trusted(&self) -> bool {
        self.distrust().is_none()
    }

    /// The latest head that is believed, as the relay signed it and we cosigned it: to be handed back to it.
    pub fn checkpoint(&self) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).checkpoint.clone()
    }

    /// The latest head that is believed.
    pub fn head(&self) -> Option<Head> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).witness.head().cloned()
    }

    /// Looks at a head that the relay showed. Believed, it is cosigned and kept, and answered for the relay.
    pub fn observe(&self, shown: &wire::LogHead, now: Timestamp) -> Result<Checkpoint, NotBelieved> {
        let mut checkpoint = self.verified(&shown.checkpoint, now)?;
        let head = Head::from(checkpoint.head());
        let named = parse_origin(&checkpoint.head().origin).is_ok_and(|(name, _)| name == self.relay);
        if !named {
            return Err(Disbelief::OtherLog(head.origin).into());
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = kept.witness.observe(head, shown.from, &shown.consistency);
        self.breach(&kept, seen.as_ref().err())?;
        let seen = seen?;
        *self.seen_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        match seen {
            Seen::Same => return Ok(checkpoint),
            Seen::First | Seen::NewEpoch { .. } | Seen::Grown if self.silence().head() => {
                info!(relay = %self.relay, "the relay shows heads of its log again");
            }
            _ => {}
        }
        match seen {
            Seen::Same | Seen::Grown => {}
            Seen::First => {
                info!(relay = %self.relay, log = %checkpoint.head().origin, "first head of the relay's log")
            }
            Seen::NewEpoch { ended } => {
                warn!(relay = %self.relay, log = %checkpoint.head().origin, %ended, "the relay began another log; what it logged before is proven by what was kept only");
            }
        }
        checkpoint.cosign(&self.own.now(), now.0 / 1000);
        kept.checkpoint = Some(checkpoint.to_text());
        write(&self.path, &kept)?;
        Ok(checkpoint)
    }

    /// Compares with what another gateway has signed that it was shown. False where it contradicts ours: from then on the
    /// relay is not used.
    pub fn compare(&self, theirs: &[Head]) -> Result<(), NotBelieved> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for head in theirs {
            // One that cannot be compared is no proof of anything.
            let compared = kept.witness.compare(head);
            self.breach(&kept, compared.as_ref().err())?;
            compared?;
        }
        Ok(())
    }

    /// A relay that broke its promise stays out across restarts.
    fn breach(&self, kept: &Kept, disbelief: Option<&Disbelief>) -> Result<(), NotBelieved> {
        let Some(Disbelief::Distrusted(distrust)) = disbelief else { return Ok(()) };
        error!(relay = %self.relay, %distrust, "THIS RELAY IS NOT USED ANY MORE; `relay trust NAME --reason TEXT` says otherwise");
        write(&self.path, kept)
    }

    /// For a status page.
    pub fn shown(&self) -> Shown {
        let (distrust, head) = (self.distrust(), self.head());
        let seen_at = *self.seen_at.lock().unwrap_or_else(PoisonError::into_inner);
        Shown {
            head,
            seen_at,
            distrust: distrust.map(|distrust| distrust.to_string()),
            silent_since: self.silent_since(),
        }
    }

    /// For `status`.
    pub fn json(&self) -> Value {
        let distrust = self.distrust().map(|distrust| distrust.to_string());
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "head": kept.witness.head().map(|head| json!({ "origin": head.origin, "size": head.size, "root": head.root })),
            "distrust": distrust,
            "silent_since": self.silent_since().map(crate::text::utc),
        })
    }
}

/// An operator's decision to use a relay again; answers what had been wrong. The daemon may be running.
pub fn trust_again(
    dir: &Path,
    relay: &Name,
    reason: &str,
    now: Timestamp,
) -> Result<Option<Distrust>, NotBelieved> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(NotBelieved::NoReason);
    }
    let login = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let who = login.unwrap_or_else(|| "unknown".to_owned());
    let path = path_of(dir, relay);
    let Some(mut kept) = read(&path)? else { return Ok(None) };
    let Some(distrust) = kept.witness.trust_again() else { return Ok(None) };
    kept.checkpoint = None;
    let act = Act { at: now, who, reason: reason.to_owned(), distrust: distrust.clone() };
    kept.acts.push(act);
    if kept.acts.len() > ACTS_MAX {
        kept.acts.remove(0);
    }
    write(&path, &kept)?;
    Ok(Some(distrust))
}

/// Proofs that came and are not stored yet. They wait a moment, since the settlement they are of may be on its way to the
/// disk still.
#[derive(Debug, Default)]
pub struct Proofs {
    /// Size and text of the head that proofs lead to, as the relay signed it.
    head: Option<(u64, String)>,
    waiting: Vec<Proof>,
}

/// A proof that came, with the checkpoint it leads to.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Whose.
    pub logged: wire::Logged,
    /// The checkpoint, with the signatures of its log only.
    pub checkpoint: String,
    /// It was put back once.
    waited: bool,
}

/// Proofs that wait; more are dropped, and asked for again.
const PROOFS_MAX: usize = 8192;

impl Proofs {
    /// A head that was believed: proofs lead to it from now on.
    pub fn head(&mut self, believed: &Checkpoint, shown: &wire::LogHead) {
        self.head = Some((believed.head().size, shown.checkpoint.clone()));
    }

    /// A proof came. One of another head than the last is of no use.
    pub fn push(&mut self, logged: wire::Logged) {
        let Some((size, checkpoint)) = &self.head else { return };
        if *size == logged.size && self.waiting.len() < PROOFS_MAX {
            self.waiting.push(Proof { logged, checkpoint: checkpoint.clone(), waited: false });
        }
    }

    /// Puts back what came before its receipt was on the disk, once.
    pub fn put_back(&mut self, proof: Proof) {
        if !proof.waited && self.waiting.len() < PROOFS_MAX {
            self.waiting.push(Proof { waited: true, ..proof });
        }
    }

    /// All that wait, to be stored.
    pub fn take(&mut self) -> Vec<Proof> {
        std::mem::take(&mut self.waiting)
    }
}

impl Proof {
    /// The proof that goes with a receipt, if it is one of that receipt: as text up to the empty line, and the checkpoint.
    pub fn texts(&self, receipt: &Receipt) -> Result<(String, String), LogProofError> {
        let text = self.of(receipt)?.to_text();
        let head = text.strip_suffix(&self.checkpoint).and_then(|head| head.strip_suffix("\n\n"));
        Ok((head.unwrap_or(&text).to_owned(), self.checkpoint.clone()))
    }

    fn of(&self, receipt: &Receipt) -> Result<LogProof, LogProofError> {
        let proof = TlogProof {
            extra: Some(self.logged.salt.to_vec()),
            index: self.logged.index,
            path: self.logged.path.clone(),
            checkpoint: self.checkpoint.clone(),
        };
        LogProof::of(proof, &receipt.delivery, &receipt.digest())
    }
}

#[cfg(test)]
mod tests {
    use base::{Digest, EpochId, Secret};
    use ledger::log::{ENTRY_BYTES, LogTree, TreeHead, origin};

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn key(owner: &str, seed: u8) -> Arc<LogKey> {
        Arc::new(LogKey::generate(name(owner), &Secret::new([seed; 64])))
    }

    fn open(dir: &Path) -> LogWitness {
        let log = key("relay", 1).public().clone();
        LogWitness::open(dir, &name("relay"), Some(log), key("gateway", 2)).unwrap()
    }

    /// A log of entries that begin with these bytes.
    fn tree(entries: &[u8]) -> LogTree {
        let mut tree = LogTree::new();
        for entry in entries {
            tree.push([*entry; ENTRY_BYTES]);
        }
        tree
    }

    fn shown(epoch: u8, entries: &[u8], from: u64) -> wire::LogHead {
        let tree = tree(entries);
        let head = TreeHead {
            origin: origin(&name("relay"), EpochId([epoch; 16])),
            size: tree.size(),
            root: tree.root(),
        };
        let checkpoint = Checkpoint::sign(head, &key("relay", 1), 1).to_text();
        wire::LogHead { checkpoint, from, consistency: tree.prove_consistency(from, tree.size()).unwrap() }
    }

    const NOW: Timestamp = Timestamp(5_000);

    #[test]
    fn what_is_believed_is_cosigned_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = key("gateway", 2);
        let witness = open(dir.path());
        assert_eq!((witness.checkpoint(), witness.head()), (None, None));
        let believed = witness.observe(&shown(1, &[1, 2], 0), NOW).unwrap();
        assert_eq!(believed.verify_cosigner(&name("gateway"), gateway.public()), Ok(5));
        witness.observe(&shown(1, &[1, 2, 3], 2), NOW).unwrap();
        drop(witness);
        let witness = open(dir.path());
        assert_eq!(witness.head().unwrap().size, 3);
        let kept = Checkpoint::parse(&witness.checkpoint().unwrap(), key("relay", 1).public()).unwrap();
        assert_eq!((kept.head().size, kept.verify_cosigner(&name("gateway"), gateway.public())), (3, Ok(5)));
        // Another epoch is told and stops nothing.
        witness.observe(&shown(2, &[9], 0), NOW).unwrap();
        assert!(witness.is_trusted());
    }

    #[test]
    fn a_relay_that_forks_rolls_back_or_shows_two_logs_is_out_until_an_operator_decides() {
        type Breaks = fn(&LogWitness) -> NotBelieved;
        let cases: [(&str, Breaks); 4] = [
            ("forked", |witness| witness.observe(&shown(1, &[1, 9, 3, 4], 3), NOW).unwrap_err()),
            ("forked", |witness| witness.observe(&shown(1, &[1, 2, 9], 3), NOW).unwrap_err()),
            ("rolled its log back", |witness| witness.observe(&shown(1, &[1, 2], 0), NOW).unwrap_err()),
            ("showed another gateway another log", |witness| {
                let theirs = tree(&[1, 2, 9]);
                let origin = witness.head().unwrap().origin;
                witness.compare(&[Head { origin, size: 3, root: theirs.root() }]).unwrap_err()
            }),
        ];
        for (what, breaks) in cases {
            let dir = tempfile::tempdir().unwrap();
            let witness = open(dir.path());
            witness.observe(&shown(1, &[1, 2, 3], 0), NOW).unwrap();
            let error = breaks(&witness).to_string();
            assert!(error.contains(what), "{error}");
            drop(witness);
            let witness = open(dir.path());
            assert!(!witness.is_trusted(), "{what}: after a restart");
            assert!(witness.observe(&shown(1, &[1, 2, 3, 4], 3), NOW).is_err(), "{what}");
            assert!(witness.json()["distrust"].as_str().unwrap().contains(what));

            let relay = name("relay");
            let refused = trust_again(dir.path(), &relay, "  ", NOW);
            assert!(matches!(refused, Err(NotBelieved::NoReason)));
            assert!(!witness.is_trusted());
            let distrust = trust_again(dir.path(), &relay, "restored from a backup", NOW).unwrap();
            assert!(distrust.unwrap().to_string().contains(what));
            assert!(witness.is_trusted(), "{what}: the running daemon sees the decision");
            witness.observe(&shown(1, &[1, 2, 9], 0), NOW).unwrap();
            assert_eq!(trust_again(dir.path(), &relay, "again", NOW).unwrap(), None);
            let file = std::fs::read_to_string(path_of(dir.path(), &relay)).unwrap();
            assert!(file.contains("restored from a backup"), "the decision is kept");
        }
    }

    #[test]
    fn what_the_relay_did_not_sign_or_prove_is_not_believed_and_breaks_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let witness = open(dir.path());
        witness.observe(&shown(1, &[1, 2], 0), NOW).unwrap();
        let good = shown(1, &[1, 2, 3], 2);
        let mut unsigned = good.clone();
        unsigned.checkpoint = unsigned.checkpoint.replace("\n3\n", "\n4\n");
        assert!(matches!(witness.observe(&unsigned, NOW), Err(NotBelieved::Checkpoint(_))));
        let elsewhere = shown(1, &[1, 2, 3], 1);
        let refused = witness.observe(&elsewhere, NOW);
        assert!(matches!(refused, Err(NotBelieved::Disbelief(Disbelief::OtherBase { from: 1, known: 2 }))));
        assert!(witness.is_trusted());
        witness.observe(&good, NOW).unwrap();

        let path = path_of(dir.path(), &name("relay"));
        std::fs::write(&path, "{}").unwrap();
        let opened = LogWitness::open(dir.path(), &name("relay"), None, key("gateway", 2));
        assert!(matches!(opened, Err(NotBelieved::Damaged { .. })), "what was believed is not forgotten");
        std::fs::remove_file(&path).unwrap();
        let keyless = LogWitness::open(dir.path(), &name("relay"), None, key("gateway", 2)).unwrap();
        assert!(matches!(keyless.observe(&good, NOW), Err(NotBelieved::NoKey(_))));
    }

    #[test]
    fn a_rotated_log_key_counts_until_its_end_and_the_new_one_from_the_card_on() {
        let dir = tempfile::tempdir().unwrap();
        let witness = open(dir.path());
        let identity = |seed| identity::IdentityKey::generate(name("relay"), &Secret::new([seed; 96]));
        let fields = |serial, seed| identity::CardFields {
            log: Some(key("relay", seed).public().clone()),
            ..identity::CardFields::new(serial, &[])
        };
        let first = identity(1).card(fields(1, 1));
        let overlap = identity::Overlap { switch: NOW, until: NOW.after(Duration::from_secs(10)) };
        let second = identity(2).succeed(&identity(1), &first, fields(2, 9), overlap);
        let of_new_key = |entries: &[u8], from| {
            let tree = tree(entries);
            let head = TreeHead {
                origin: origin(&name("relay"), EpochId([1; 16])),
                size: tree.size(),
                root: tree.root(),
            };
            let checkpoint = Checkpoint::sign(head, &key("relay", 9), NOW.0 / 1000).to_text();
            wire::LogHead { checkpoint, ..shown(1, entries, from) }
        };
        witness.observe(&shown(1, &[1], 0), NOW).unwrap();
        let refused = witness.observe(&of_new_key(&[1, 2], 1), NOW);
        assert!(matches!(refused, Err(NotBelieved::Checkpoint(_))), "its card is not pinned yet");
        witness.pin(&second);
        witness.observe(&of_new_key(&[1, 2], 1), NOW).unwrap();
        witness.observe(&shown(1, &[1, 2, 3], 2), NOW).unwrap();
        let after = NOW.after(Duration::from_secs(10));
        assert!(witness.observe(&shown(1, &[1, 2, 3, 4], 3), after).is_err(), "the earlier key is over");
        witness.observe(&of_new_key(&[1, 2, 3, 4], 3), after).unwrap();
        assert!(witness.is_trusted());
        // And ours.
        let gateway = key("gateway", 7);
        witness.cosign_with(gateway.clone());
        let cosigned = witness.observe(&of_new_key(&[1, 2, 3, 4, 5], 4), after).unwrap();
        assert!(cosigned.verify_cosigner(&name("gateway"), gateway.public()).is_ok());
    }

    #[test]
    fn proofs_belong_to_the_head_that_was_shown_before_them() {
        let dir = tempfile::tempdir().unwrap();
        let witness = open(dir.path());
        let head = shown(1, &[1, 2], 0);
        let believed = witness.observe(&head, NOW).unwrap();
        let logged = |size| wire::Logged {
            delivery: base::DeliveryId([1; 32]),
            attempt: base::Attempt(1),
            salt: [0; 16],
            index: 0,
            size,
            path: vec![Digest([0; 32])],
        };
        let mut proofs = Proofs::default();
        proofs.push(logged(2));
        assert!(proofs.take().is_empty(), "no head yet");
        proofs.head(&believed, &head);
        proofs.push(logged(3));
        proofs.push(logged(2));
        let waiting = proofs.take();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].checkpoint, head.checkpoint, "without our cosignatures");
        assert!(proofs.take().is_empty());
    }
}
