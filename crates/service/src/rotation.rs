//! `key rotate`: other keys for a daemon, with a time in which the earlier ones are good beside them. The same in all
//! three roles, and done from outside of the daemon, which is told to read its keys again.
//!
//! Three files are written beside those that `[identity]` names, each with `.next` behind its name: the identity, the log
//! key, and at last the card, which the earlier identity has signed, too. The card is what counts: without it the other two
//! are nothing, and the next rotation removes them. When the overlap is over, the three take the places of the
//! earlier ones, the card last, so that whoever reads them in between finds the keys that it names under either name.

use std::convert::Infallible;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use base::{Secret, Timestamp};
use identity::{
    CardFields, IdentityKey, KeyFileError, LogKey, Overlap, PeerCard, fingerprint_text, fingerprint_words,
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::Reloads;
use crate::config::{Loaded, Span};
use crate::files::{self, Readable};
use crate::own::{CARD_LIFE, IdentityTable, Own, OwnKeys};
use crate::pins;
use crate::text::utc;

/// The overlap where none is given: time enough for every far side to take the card.
pub const OVERLAP: Span = Span::from_secs(30 * 24 * 60 * 60);
/// Longer, and the earlier keys would outlive many a card.
const OVERLAP_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// A daemon looks this often whether a moment has come.
const LOOK: Duration = Duration::from_secs(1);
/// What could not be read again is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// The files that `[identity]` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// The identity.
    pub key: PathBuf,
    /// The log key.
    pub log_key: PathBuf,
    /// The card.
    pub card: PathBuf,
}

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Other keys. The earlier ones are used for half of the overlap, or not at all any more, and count for all of it.
    Begin {
        /// How long the earlier keys count.
        overlap: Duration,
        /// Use the new ones at once.
        switch: bool,
    },
    /// A rotation is under way: use its keys now.
    Switch,
    /// Its overlap is over: remove the earlier keys.
    Finish,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotated {
    /// There is another card, to be given to every peer.
    Card {
        /// The card.
        card: Box<PeerCard>,
        /// Where it lies.
        path: PathBuf,
    },
    /// The earlier keys are gone.
    Finished,
}

/// Why keys are not rotated. Nothing was changed.
#[derive(Debug, Error)]
pub enum RotateError {
    /// Another command is at it.
    #[error("another `key rotate` is at work on {}", .0.display())]
    Busy(PathBuf),
    /// One after the other.
    #[error(
        "a rotation is under way: its keys {}, the earlier ones count until {until}; wait until then, or say --switch to use the \
         new ones now",
        match switch { Some(switch) => format!("are used from {switch} on"), None => "are used".to_owned() }
    )]
    UnderWay {
        /// When the new ones are used, where they are not yet.
        switch: Option<String>,
        /// When the earlier ones end.
        until: String,
    },
    /// Nothing to switch.
    #[error("the new keys are used already, since {0}")]
    Switched(String),
    /// Nothing to switch or to finish.
    #[error("no rotation is under way; `key rotate` begins one")]
    None,
    /// Too early.
    #[error("the earlier keys count until {0}; they are removed after that")]
    NotOver(String),
    /// A length that makes no sense.
    #[error("an overlap lasts 1s to 366days, not {0}")]
    Overlap(Span),
    /// The keys and the card do not belong together.
    #[error("{}: this card does not name the keys in {}; give the card that was made with them", card.display(), key.display())]
    OtherCard {
        /// The card.
        card: PathBuf,
        /// The identity.
        key: PathBuf,
    },
    /// A card.
    #[error("{}: {reason}", path.display())]
    Card {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of keys.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The operating system.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> RotateError {
    let path = path.to_owned();
    move |source| RotateError::File { path, source }
}

/// Where what follows on a file lies until it has its place.
pub fn next(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".next");
    path.with_file_name(name)
}

/// Reads a card file.
pub fn read_card(path: &Path) -> Result<PeerCard, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    PeerCard::parse(&text).map_err(|error| error.to_string())
}

impl KeyFiles {
    /// Those of a configuration.
    pub fn of<T>(loaded: &Loaded<T>, table: &IdentityTable) -> Self {
        let [key, log_key, card] = table.files().map(|path| loaded.resolve(path));
        Self { key, log_key, card }
    }

    /// The keys of a rotation, under whichever name each of them has; none where there are none.
    pub(crate) fn newer(&self) -> Result<Option<OwnKeys>, KeyFileError> {
        let [key, log_key] = [&self.key, &self.log_key].map(|path| (path, next(path)));
        if !key.1.exists() && !log_key.1.exists() {
            return Ok(None);
        }
        let named = |(path, next): (&PathBuf, PathBuf)| if next.exists() { next } else { path.clone() };
        let identity = Arc::new(IdentityKey::load(&named(key))?);
        Ok(Some(OwnKeys { identity, log_key: Arc::new(LogKey::load(&named(log_key))?) }))
    }

    /// Does what is asked for. One command at a time.
    pub fn rotate(&self, ask: Ask, now: Timestamp) -> Result<Rotated, RotateError> {
        let _lock = self.lock()?;
        let card = |path: &Path| {
            read_card(path).map_err(|reason| RotateError::Card { path: path.to_owned(), reason })
        };
        let path = next(&self.card);
        let under_way = if path.exists() { Some(card(&path)?) } else { None };
        let over = |card: &PeerCard| card.overlap(now).is_none();
        match (ask, under_way) {
            (Ask::Switch | Ask::Finish, None) => Err(RotateError::None),
            (Ask::Switch, Some(pending)) => self.switch(&pending, now),
            (Ask::Finish, Some(pending)) if !over(&pending) => Err(RotateError::NotOver(ends(&pending))),
            (Ask::Finish, Some(_)) => self.finish().map(|()| Rotated::Finished),
            (Ask::Begin { .. }, Some(pending)) if !over(&pending) => {
                Err(RotateError::UnderWay { switch: switches(&pending, now), until: ends(&pending) })
            }
            (Ask::Begin { overlap, switch }, pending) => {
                let whole = Duration::from_secs(1)..=OVERLAP_MAX;
                if !whole.contains(&overlap) {
                    return Err(RotateError::Overlap(Span(overlap)));
                }
                if pending.is_some() {
                    self.finish()?;
                }
                self.begin(&card(&self.card)?, overlap, switch, now)
            }
        }
    }

    /// The folder of the keys itself is locked: no file is left behind by it, and it ends with the process.
    fn lock(&self) -> Result<File, RotateError> {
        let folder = folder_of(&self.key);
        let lock = File::open(folder).map_err(file_error(folder))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(RotateError::Busy(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(file_error(folder)(source)),
        }
    }

    /// The keys first, each whole or not there; then the card that makes them count.
    fn begin(
        &self,
        card: &PeerCard,
        overlap: Duration,
        switch: bool,
        now: Timestamp,
    ) -> Result<Rotated, RotateError> {
        let earlier = IdentityKey::load(&self.key)?;
        let keys = OwnKeys { identity: Arc::new(earlier), log_key: Arc::new(LogKey::load(&self.log_key)?) };
        if !keys.own(card) {
            return Err(RotateError::OtherCard { card: self.card.clone(), key: self.key.clone() });
        }
        self.remove_left_over()?;
        let name = keys.identity.name().clone();
        let identity = IdentityKey::generate(name.clone(), &Secret::random());
        let log_key = LogKey::generate(name, &Secret::random());
        identity.save(&next(&self.key))?;
        like(&self.key)?;
        log_key.save(&next(&self.log_key))?;
        like(&self.log_key)?;
        let switch = now.after(if switch { Duration::ZERO } else { overlap / 2 });
        let overlap = Overlap { switch, until: now.after(overlap) };
        let fields = CardFields {
            log: Some(log_key.public().clone()),
            not_after: Some(now.after(CARD_LIFE)),
            ..CardFields::new(card.serial + 1, &card.suites)
        };
        self.commit(identity.succeed(&keys.identity, card, fields, overlap))
    }

    /// The same keys and another card, by which the new ones are used from now on.
    fn switch(&self, pending: &PeerCard, now: Timestamp) -> Result<Rotated, RotateError> {
        let Some(earlier) = pending.earlier.as_ref().filter(|earlier| now < earlier.switch) else {
            let since = pending.earlier.as_ref().map_or_else(String::new, |earlier| utc(earlier.switch));
            return Err(RotateError::Switched(since));
        };
        let other = || RotateError::OtherCard { card: next(&self.card), key: next(&self.key) };
        let keys = self.newer()?.filter(|keys| keys.own(pending)).ok_or_else(other)?;
        let first = IdentityKey::load(&self.key)?;
        if *first.public() != earlier.identity {
            return Err(other());
        }
        let card =
            read_card(&self.card).map_err(|reason| RotateError::Card { path: self.card.clone(), reason })?;
        let overlap = Overlap { switch: now, until: earlier.until };
        let fields = CardFields { serial: pending.serial + 1, ..pending.fields() };
        self.commit(keys.identity.succeed(&first, &card, fields, overlap))
    }

    fn commit(&self, card: PeerCard) -> Result<Rotated, RotateError> {
        let path = next(&self.card);
        let text = format!("{}\n", card.to_line());
        files::replace(&path, text.as_bytes(), Readable::Everybody).map_err(file_error(&path))?;
        like(&self.card)?;
        Ok(Rotated::Card { card: Box::new(card), path })
    }

    /// The new files take the names of the earlier ones, which are gone with that. May be done again after any step.
    fn finish(&self) -> Result<(), RotateError> {
        for path in [&self.key, &self.log_key, &self.card] {
            let next = next(path);
            if next.exists() {
                files::rename(&next, path).map_err(file_error(path))?;
            }
        }
        Ok(())
    }

    /// Keys of a rotation that was killed before its card was there, and drafts of any of its files.
    fn remove_left_over(&self) -> Result<(), RotateError> {
        for path in [&self.key, &self.log_key, &self.card] {
            let (folder, next) = (folder_of(path), next(path));
            let name = next.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_draft = |found: &str| {
                let key = found.strip_prefix(&name).is_some_and(|rest| rest.ends_with(".new"));
                let file = found.strip_prefix('.').and_then(|found| found.strip_prefix(&name));
                key || file.is_some_and(|rest| rest.starts_with('.'))
            };
            for entry in fs::read_dir(folder).map_err(file_error(folder))? {
                let found = entry.map_err(file_error(folder))?.file_name();
                let found = found.to_string_lossy();
                if *found == name || is_draft(&found) {
                    let left = folder.join(&*found);
                    files::remove(&left).map_err(file_error(&left))?;
                }
            }
        }
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// What follows on a file belongs to whom the file belongs: root may have given the command, and the daemon has to read it.
fn like(path: &Path) -> Result<(), RotateError> {
    let (earlier, next) = (fs::metadata(path).map_err(file_error(path))?, next(path));
    let made = fs::metadata(&next).map_err(file_error(&next))?;
    if (earlier.uid(), earlier.gid()) != (made.uid(), made.gid()) {
        chown(&next, Some(earlier.uid()), Some(earlier.gid())).map_err(file_error(&next))?;
    }
    Ok(())
}

fn switches(card: &PeerCard, now: Timestamp) -> Option<String> {
    card.earlier.as_ref().filter(|earlier| now < earlier.switch).map(|earlier| utc(earlier.switch))
}

fn ends(card: &PeerCard) -> String {
    card.earlier.as_ref().map_or_else(String::new, |earlier| utc(earlier.until))
}

/// What is to be done about our own rotation, and until when: for `check`, `status` and the log.
pub fn said(own: &Own, now: Timestamp) -> Option<String> {
    let Own { card, unfinished, .. } = own;
    let until = ends(card);
    if *unfinished {
        return Some(format!(
            "keys were rotated, and the earlier ones are over since {until}: remove them by `key rotate --finish`"
        ));
    }
    card.overlap(now)?;
    Some(match switches(card, now) {
        Some(switch) => format!(
            "keys are being rotated: from {switch} on the new ones are used, and whoever has not taken our card {} by then is cut off until it does",
            card.serial
        ),
        None => format!("keys were rotated: the new ones are used, the earlier ones count until {until}"),
    })
}

/// What a command prints of it, a line each.
pub fn lines(rotated: &Rotated, now: Timestamp) -> Vec<String> {
    let Rotated::Card { card, path } = rotated else {
        return vec!["the earlier keys are removed; the new ones have their names".to_owned()];
    };
    let fingerprint = card.identity.fingerprint();
    let mut lines = vec![
        format!("card {:<9} {}", card.serial, path.display()),
        format!("fingerprint    {}", fingerprint_text(&fingerprint)),
        format!("in words       {}", fingerprint_words(&fingerprint)),
    ];
    if let Some(earlier) = &card.earlier {
        lines.push(format!("vouched for by {}", fingerprint_text(&earlier.identity.fingerprint())));
        lines.push(format!(
            "new keys       are used {}",
            switches(card, now).map_or_else(|| "from now on".to_owned(), |at| format!("from {at} on"))
        ));
        lines.push(format!("earlier keys   count until {}", utc(earlier.until)));
    }
    lines.push(
        "Give the card to every peer before the new keys are used; each takes it by `peer update CARD` (a gateway) or `relay admit CARD` (a relay)."
            .to_owned(),
    );
    lines
}

/// `key rotate`: does it, says it, and has the running daemon read its keys again.
pub async fn command(config: &Path, files: &KeyFiles, ask: Ask) -> Result<()> {
    files::refuse_foreign(config)?;
    let now = Timestamp::now();
    let rotated = match files.rotate(ask, now) {
        // Of one that is under way `--switch` says that its keys are to be used.
        Err(RotateError::UnderWay { switch: Some(_), .. })
            if matches!(ask, Ask::Begin { switch: true, .. }) =>
        {
            files.rotate(Ask::Switch, now)?
        }
        rotated => rotated?,
    };
    for line in lines(&rotated, now) {
        println!("{line}");
    }
    pins::tell(config).await
}

/// Has the daemon read its keys again when a moment of a rotation comes: `moments` tells them as they are then.
pub async fn watch(
    moments: impl Fn() -> Vec<Timestamp> + Send,
    reloads: Reloads,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let (mut looked, mut again): (Timestamp, Option<Timestamp>) = (Timestamp::now(), None);
    loop {
        let now = Timestamp::now();
        let passed = moments().into_iter().any(|moment| looked < moment && moment <= now);
        // A clock that was set back must not make a moment come twice.
        looked = looked.max(now);
        if passed || again.is_some_and(|again| again <= now) {
            info!("a moment of a key rotation has come: keys and cards are read again");
            let reloaded = reloads.ask().await;
            again = reloaded.is_err().then(|| now.after(AGAIN));
        }
        let wait =
            moments().into_iter().filter(|moment| looked < *moment).map(|moment| moment.since(now)).min();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait.unwrap_or(LOOK).min(LOOK)) => {}
        }
    }
}

#[cfg(test)]
mod tests;
