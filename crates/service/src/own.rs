//! What a daemon is to its peers: its identity, its log key, and the card that says so. The same in all three roles.
//!
//! While keys are being rotated there are two pairs on the disk, and the card names both: which one is used is decided by the
//! time when they are read ([`Own::load`]), so that a daemon that is restarted and one that reads them again agree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Fingerprint, Name, Secret, Timestamp};
use identity::{
    CardFields, IdentityKey, IdentityPublic, KeyFileError, KeyFileFault, LogKey, LogPublic, PeerCard,
    Validity, fingerprint_text,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Live;
use crate::config::{ConfigError, Loaded};
use crate::files::{self, Readable};
use crate::rotation::{self, KeyFiles};

/// How long the first card of a daemon is good for: two years.
pub const CARD_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// `[identity]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityTable {
    /// The identity key file (mode 0600), made by `init`.
    pub key: PathBuf,
    /// The log key file (mode 0600), made by `init`: signs tree heads.
    pub log_key: PathBuf,
    /// This daemon's own card, as given to its peers.
    pub card: PathBuf,
}

impl IdentityTable {
    /// The files that it names, for a sandbox that lets them be read again.
    pub fn files(&self) -> [&PathBuf; 3] {
        [&self.key, &self.log_key, &self.card]
    }
}

/// Secret keys of a daemon.
#[derive(Debug, Clone)]
pub struct OwnKeys {
    /// Signs what peers rely on.
    pub identity: Arc<IdentityKey>,
    /// Signs tree heads.
    pub log_key: Arc<LogKey>,
}

/// Keys of a daemon, those of them that it uses now, with the card that its peers have or are to take.
#[derive(Debug, Clone)]
pub struct Own {
    /// Signs what peers rely on.
    pub identity: Arc<IdentityKey>,
    /// Signs tree heads.
    pub log_key: Arc<LogKey>,
    /// The newest card. It names the keys in use, as its own or, before the switch of a rotation, as its earlier ones.
    pub card: PeerCard,
    /// Of the identities on the disk the one that was there first: what has to be the same before and after a switch is
    /// derived from it.
    pub first: Arc<IdentityKey>,
    /// A rotation that is over has still its earlier keys on the disk.
    pub unfinished: bool,
}

/// What a daemon signs with at this moment; clones see the same, and a reload exchanges all of it.
#[derive(Debug, Clone)]
pub struct LiveOwn {
    own: Live<Own>,
    identity: Live<IdentityKey>,
}

impl LiveOwn {
    /// Begins with these.
    pub fn new(own: Own) -> Self {
        let identity = Live::new(Arc::clone(&own.identity));
        Self { own: Live::new(Arc::new(own)), identity }
    }

    /// Those of this moment.
    pub fn now(&self) -> Arc<Own> {
        self.own.now()
    }

    /// The identity of this moment.
    pub fn identity(&self) -> Arc<IdentityKey> {
        self.identity.now()
    }

    /// For whoever only signs.
    pub fn signs(&self) -> Live<IdentityKey> {
        self.identity.clone()
    }

    /// Why what was read again cannot be taken over: to its peers, and in all that it has recorded, a daemon is its name.
    pub fn refuses(&self, own: &Own) -> Option<String> {
        let (name, now) = (own.identity.name().clone(), self.now());
        let before = now.identity.name();
        (name != *before).then(|| format!("the keys are of {name}, and the running process is {before}: another name counts from a start only"))
    }

    /// Takes over what was read again. True: from now on other keys are used.
    pub fn exchange(&self, own: Own) -> bool {
        let changed = *self.identity().public() != *own.identity.public();
        self.identity.exchange(Arc::clone(&own.identity));
        self.own.exchange(Arc::new(own));
        changed
    }
}

/// The keys of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Own,
    Earlier,
}

/// Why keys cannot be made.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The folder.
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file of keys.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

impl OwnKeys {
    /// The files in a folder of keys: identity and log key of that role.
    pub fn file_names(role: &str) -> [String; 2] {
        [format!("{role}.key"), format!("{role}-log.key")]
    }

    /// Makes both keys below `dir`; one that is there already stays.
    pub fn create(dir: &Path, role: &str, name: &Name) -> Result<Self, CreateError> {
        fs::create_dir_all(dir).map_err(|source| CreateError::Folder { path: dir.to_owned(), source })?;
        let [identity, log] = Self::file_names(role).map(|file| dir.join(file));
        if !identity.exists() {
            IdentityKey::generate(name.clone(), &Secret::random()).save(&identity)?;
        }
        let identity = IdentityKey::load(&identity)?;
        if !log.exists() {
            LogKey::generate(identity.name().clone(), &Secret::random()).save(&log)?;
        }
        Ok(Self { identity: Arc::new(identity), log_key: Arc::new(LogKey::load(&log)?) })
    }

    /// Whether a card names these keys as its own.
    pub fn own(&self, card: &PeerCard) -> bool {
        self.named_in(card) == Some(Which::Own)
    }

    /// As which a card names these keys.
    fn named_in(&self, card: &PeerCard) -> Option<Which> {
        if card.name != *self.identity.name() {
            return None;
        }
        let are = |identity: &IdentityPublic, tls: &[u8], log: Option<&LogPublic>| {
            identity == self.identity.public()
                && tls == self.identity.tls_spki()
                && log == Some(self.log_key.public())
        };
        if are(&card.identity, &card.tls_spki, card.log.as_ref()) {
            return Some(Which::Own);
        }
        let earlier = card.earlier.as_ref()?;
        are(&earlier.identity, &earlier.tls_spki, earlier.log.as_ref()).then_some(Which::Earlier)
    }

    /// Writes the first card of these keys. A card of theirs that is there already
    /// stays: peers may have it.
    pub fn write_card(&self, path: &Path, suites: &[u8], now: Timestamp) -> io::Result<PeerCard> {
        let there = fs::read_to_string(path).ok().and_then(|line| PeerCard::parse(&line).ok());
        if let Some(card) = there.filter(|card| self.own(card)) {
            return Ok(card);
        }
        let card = self.first_card(suites, now);
        files::replace(path, format!("{}\n", card.to_line()).as_bytes(), Readable::Everybody)?;
        Ok(card)
    }

    /// The first card of these keys, good for [`CARD_LIFE`] from `now`.
    pub fn first_card(&self, suites: &[u8], now: Timestamp) -> PeerCard {
        self.identity.card(CardFields {
            log: Some(self.log_key.public().clone()),
            not_after: Some(now.after(CARD_LIFE)),
            ..CardFields::new(1, suites)
        })
    }
}

impl Own {
    /// Of one pair of keys.
    pub fn new(keys: OwnKeys, card: PeerCard) -> Self {
        let OwnKeys { identity, log_key } = keys;
        Self { first: Arc::clone(&identity), identity, log_key, card, unfinished: false }
    }

    /// Reads what `[identity]` names, and what a rotation has put beside it, and checks that it belongs together.
    pub fn load<T>(loaded: &Loaded<T>, table: &IdentityTable) -> Result<Self, ConfigError> {
        Self::load_at(loaded, table, Timestamp::now())
    }

    /// As [`Own::load`], at another time.
    pub fn load_at<T>(
        loaded: &Loaded<T>,
        table: &IdentityTable,
        now: Timestamp,
    ) -> Result<Self, ConfigError> {
        let identity = load_identity(loaded, table)?;
        let log_key = LogKey::load(&loaded.resolve(&table.log_key))
            .map(Arc::new)
            .map_err(|error| loaded.error("identity.log_key", unusable(&error)))?;
        if log_key.name() != identity.name() {
            let message = format!(
                "this is the log key of {}, the identity is {}: give the one that was made with it",
                log_key.name(),
                identity.name()
            );
            return Err(loaded.error("identity.log_key", message));
        }
        let files = KeyFiles::of(loaded, table);
        let refuse = |path: &Path, reason: String| {
            loaded.error("identity.card", format!("{}: {reason}", path.display()))
        };
        let read = |path: &Path| rotation::read_card(path).map_err(|reason| refuse(path, reason));
        let keys = OwnKeys { identity, log_key };
        let other = "this card does not name these keys; give the card that was made with them";
        let next = rotation::next(&files.card);
        if !next.exists() {
            let card = read(&files.card)?;
            if !keys.own(&card) {
                return Err(refuse(&files.card, other.to_owned()));
            }
            return Ok(Self::new(keys, card));
        }
        let card = read(&next)?;
        let newer = files.newer().map_err(|error| loaded.error("identity.key", error.to_string()))?;
        let first = Arc::clone(&keys.identity);
        let used = std::iter::once(keys).chain(newer).filter(|keys| keys.named_in(&card).is_some());
        let before_switch = card.earlier.as_ref().is_some_and(|earlier| now < earlier.switch);
        // Those that are meant for this time, else the others: their files may have been put in place already.
        let used = used.min_by_key(|keys| (keys.named_in(&card) == Some(Which::Earlier)) != before_switch);
        let Some(OwnKeys { identity, log_key }) = used else { return Err(refuse(&next, other.to_owned())) };
        let unfinished = card.overlap(now).is_none();
        Ok(Self { identity, log_key, card, first, unfinished })
    }

    /// What names us to peers, whichever keys we use.
    pub fn id(&self) -> Fingerprint {
        self.card.id()
    }

    /// All that we are called by in what is addressed to us.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.card.all_identities().map(IdentityPublic::fingerprint).collect()
    }

    /// When the keys in use, or those that count, change by a rotation.
    pub fn moments(&self) -> Vec<Timestamp> {
        self.card.earlier.iter().flat_map(|earlier| [earlier.switch, earlier.until]).collect()
    }

    /// What `check` says about it, a line each.
    pub fn lines(&self, now: Timestamp) -> Vec<String> {
        let Self { identity, log_key, card, .. } = self;
        let mut lines = vec![
            format!("name {}, fingerprint {}", identity.name(), fingerprint_text(&identity.fingerprint())),
            format!("log key, fingerprint {}", fingerprint_text(&log_key.fingerprint())),
            format!("card {} {}", card.serial, describe(card, now)),
        ];
        lines.extend(rotation::said(self, now));
        lines
    }
}

/// Reads the identity key that `[identity]` names.
pub fn load_identity<T>(loaded: &Loaded<T>, table: &IdentityTable) -> Result<Arc<IdentityKey>, ConfigError> {
    IdentityKey::load(&loaded.resolve(&table.key))
        .map(Arc::new)
        .map_err(|error| loaded.error("identity.key", unusable(&error)))
}

/// A key file's error with what helps, where it does not say that itself.
fn unusable(error: &KeyFileError) -> String {
    match error.fault {
        KeyFileFault::Io(_) => format!("{error}; correct the path, or restore the file from its copy"),
        _ => error.to_string(),
    }
}

/// How long a card is good for, in words that follow "card 3".
pub fn describe(card: &PeerCard, now: Timestamp) -> String {
    let days = |span: Duration| span.as_secs() / (24 * 60 * 60);
    match card.validity(now) {
        Validity::Unlimited => "does not expire".to_owned(),
        Validity::Valid(left) => format!("expires in {} days", days(left)),
        Validity::EndsSoon(left) => {
            format!("expires in {} days: make and exchange a new one now", days(left))
        }
        Validity::Ended(since) => {
            format!("expired {} days ago: make and exchange a new one now", days(since))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        identity: IdentityTable,
    }

    fn made(dir: &Path, name: &str) -> OwnKeys {
        OwnKeys::create(dir, "relay", &Name::parse(name).unwrap()).unwrap()
    }

    fn loaded(dir: &Path) -> Result<Own, ConfigError> {
        let text = "[identity]\nkey = \"relay.key\"\nlog_key = \"relay-log.key\"\ncard = \"relay.card\"\n";
        let path = dir.join("relay.toml");
        fs::write(&path, text).unwrap();
        let loaded = load::<Config>(&path, "SLUIS_TEST_OWN_").unwrap();
        Own::load(&loaded, &loaded.config.identity)
    }

    #[test]
    fn keys_and_card_are_made_once_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        let keys = made(dir.path(), "relay-1");
        let path = dir.path().join("relay.card");
        let card = keys.write_card(&path, &[2, 1], Timestamp(1_000)).unwrap();
        assert_eq!((card.serial, card.suites.as_slice()), (1, &[1, 2][..]));
        assert_eq!(card.log.as_ref(), Some(keys.log_key.public()));
        let again = made(dir.path(), "another-name");
        assert!(again.own(&card), "what is there stays, under its name");
        assert_eq!(again.write_card(&path, &[1, 2], Timestamp(2_000)).unwrap(), card);
        let own = loaded(dir.path()).unwrap();
        assert_eq!(own.card, card);
        let lines = own.lines(Timestamp(1_000));
        assert!(lines[0].starts_with("name relay-1, fingerprint "), "{lines:?}");
        assert!(lines[1].starts_with("log key, fingerprint "), "{lines:?}");
        assert_eq!(lines[2], "card 1 expires in 730 days");
    }

    #[test]
    fn what_does_not_belong_together_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let keys = made(dir.path(), "relay-1");
        let card = dir.path().join("relay.card");
        let error = loaded(dir.path()).unwrap_err().to_string();
        assert!(error.contains("identity.card") && error.contains("relay.card"), "{error}");

        let other = tempfile::tempdir().unwrap();
        made(other.path(), "relay-1").write_card(&card, &[], Timestamp(0)).unwrap();
        let error = loaded(dir.path()).unwrap_err().to_string();
        assert!(error.contains("does not name these keys"), "{error}");

        keys.write_card(&card, &[], Timestamp(0)).unwrap();
        assert!(loaded(dir.path()).is_ok());
        fs::remove_file(dir.path().join("relay-log.key")).unwrap();
        let error = loaded(dir.path()).unwrap_err().to_string();
        assert!(error.contains("identity.log_key") && error.contains("log key file"), "{error}");

        LogKey::generate(Name::parse("relay-2").unwrap(), &Secret::new([1; 64]))
            .save(&dir.path().join("relay-log.key"))
            .unwrap();
        let error = loaded(dir.path()).unwrap_err().to_string();
        assert!(error.contains("this is the log key of relay-2"), "{error}");
    }

    #[test]
    fn a_card_is_described_by_what_to_do_about_it() {
        let dir = tempfile::tempdir().unwrap();
        let keys = made(dir.path(), "relay-1");
        let card = |not_after| keys.identity.card(CardFields { not_after, ..CardFields::new(1, &[]) });
        let end = 100 * DAY_MS;
        let cases = [
            (None, 0, "does not expire"),
            (Some(end), 0, "expires in 100 days"),
            (Some(end), 70 * DAY_MS - 1, "expires in 30 days"),
            (Some(end), 70 * DAY_MS, "expires in 30 days: make and exchange a new one now"),
            (Some(end), end - 1, "expires in 0 days: make and exchange a new one now"),
            (Some(end), end, "expired 0 days ago: make and exchange a new one now"),
            (Some(end), end + 2 * DAY_MS, "expired 2 days ago: make and exchange a new one now"),
        ];
        for (not_after, now, want) in cases {
            assert_eq!(
                describe(&card(not_after.map(Timestamp)), Timestamp(now)),
                want,
                "{not_after:?} {now}"
            );
        }
    }
}
