//! What a daemon is to its peers: its identity, its log key, and the card that says so. The same in all three roles.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Name, Secret, Timestamp};
use identity::{CardFields, IdentityKey, KeyFileError, LogKey, PeerCard, Validity, fingerprint_text};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{ConfigError, Loaded};
use crate::files::{self, Readable};

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

/// Keys of a daemon with the card that its peers have.
#[derive(Debug, Clone)]
pub struct Own {
    /// Signs what peers rely on.
    pub identity: Arc<IdentityKey>,
    /// Signs tree heads.
    pub log_key: Arc<LogKey>,
    /// The card; it belongs to the keys.
    pub card: PeerCard,
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

    /// Whether a card names these keys.
    pub fn own(&self, card: &PeerCard) -> bool {
        card.name == *self.identity.name()
            && card.identity == *self.identity.public()
            && card.tls_spki == self.identity.tls_spki()
            && card.log.as_ref() == Some(self.log_key.public())
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
    /// Reads what `[identity]` names and checks that it belongs together.
    pub fn load<T>(loaded: &Loaded<T>, table: &IdentityTable) -> Result<Self, ConfigError> {
        let identity = load_identity(loaded, table)?;
        let log_key = LogKey::load(&loaded.resolve(&table.log_key))
            .map(Arc::new)
            .map_err(|error| loaded.error("identity.log_key", error.to_string()))?;
        if log_key.name() != identity.name() {
            let message =
                format!("this is the log key of {}, the identity is {}", log_key.name(), identity.name());
            return Err(loaded.error("identity.log_key", message));
        }
        let path = loaded.resolve(&table.card);
        let refuse = |reason: String| loaded.error("identity.card", format!("{}: {reason}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| refuse(error.to_string()))?;
        let card = PeerCard::parse(&text).map_err(|error| refuse(error.to_string()))?;
        let keys = OwnKeys { identity, log_key };
        if !keys.own(&card) {
            return Err(refuse(
                "this card does not name these keys; give the card that was made with them".into(),
            ));
        }
        let OwnKeys { identity, log_key } = keys;
        Ok(Self { identity, log_key, card })
    }

    /// What `check` says about it, a line each.
    pub fn lines(&self, now: Timestamp) -> [String; 3] {
        let Self { identity, log_key, card } = self;
        [
            format!("name {}, fingerprint {}", identity.name(), fingerprint_text(&identity.fingerprint())),
            format!("log key, fingerprint {}", fingerprint_text(&log_key.fingerprint())),
            format!("card {} {}", card.serial, describe(card, now)),
        ]
    }
}

/// Reads the identity key that `[identity]` names.
pub fn load_identity<T>(loaded: &Loaded<T>, table: &IdentityTable) -> Result<Arc<IdentityKey>, ConfigError> {
    IdentityKey::load(&loaded.resolve(&table.key))
        .map(Arc::new)
        .map_err(|error| loaded.error("identity.key", error.to_string()))
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
