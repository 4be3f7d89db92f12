//! The table of a watched folder.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use base::AeTitle;
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Loaded, Span, unknown_name};

use crate::config::Config;

/// `[[watch]]`: DICOM files that appear below a folder are sent to one of our AE titles.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchTable {
    /// The folder; what lies in folders below it is found, too. `done` and `failed` in it are ours.
    pub dir: PathBuf,
    /// The AE title of the route. Its `calling` and `sources`, where it has them, hold for what comes from here, from this host, too.
    pub ae: AeTitle,
    /// The AE title that calls. Default `"SLUIS_WATCH"`.
    pub calling: Option<AeTitle>,
    /// How long a file has to be as large and as old as it is. Default 3 s. Whoever writes slower renames at the end: names that begin
    /// with a dot or end in `.tmp`, `.part` or `.filepart` are not looked at.
    #[serde(default = "settle")]
    pub settle: Span,
    /// How often the folder is looked through. Default 1 s.
    #[serde(default = "every")]
    pub every: Span,
    /// What becomes of a file that is in custody: `"keep"` (default) moves it to `done`, `"remove"` removes it.
    #[serde(default)]
    pub delivered: AfterDelivery,
}

/// What becomes of a file once its instance is in custody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterDelivery {
    /// It is moved to `done`.
    #[default]
    Keep,
    /// It is removed.
    Remove,
}

/// The AE title that calls, unless a table says another.
const CALLING: &str = "SLUIS_WATCH";

fn settle() -> Span {
    Span(Duration::from_secs(3))
}

fn every() -> Span {
    Span(Duration::from_secs(1))
}

/// A checked table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Where files appear.
    pub dir: PathBuf,
    /// Whom they are for.
    pub ae: AeTitle,
    /// In whose name.
    pub calling: AeTitle,
    /// How long a file has to be as it is.
    pub settle: Duration,
    /// How often it is looked.
    pub every: Duration,
    /// What becomes of them.
    pub delivered: AfterDelivery,
}

/// Every folder is there, is nobody else's, and its AE title has a route.
pub(crate) fn check(loaded: &Loaded<Config>) -> Result<Vec<Watched>, ConfigError> {
    let (config, ours) = (&loaded.config, Ours::of(loaded));
    let mut all: Vec<Watched> = Vec::new();
    for (number, table) in config.watch.iter().enumerate() {
        let error = |key: &str, message: String| loaded.error(&format!("watch[{number}].{key}"), message);
        let dir = loaded.resolve(&table.dir);
        if !dir.is_dir() {
            let message =
                format!("{} is no folder; make it, writable for the user of gateway-out", dir.display());
            return Err(error("dir", message));
        }
        let dir = dir.canonicalize().map_err(|why| error("dir", format!("{}: {why}", dir.display())))?;
        let overlaps = |other: &Watched| other.dir.starts_with(&dir) || dir.starts_with(&other.dir);
        if let Some(other) = all.iter().find(|other| overlaps(other)) {
            let message = format!("it overlaps with {}: each file would be taken twice", other.dir.display());
            return Err(error("dir", message));
        }
        if let Some(message) = ours.clash(&dir) {
            return Err(error("dir", message));
        }
        if config.dicom.listen.is_none() {
            let message = "what is found goes through the plain DICOM port of this gateway: give [dicom] a `listen`, on 127.0.0.1 if nobody else may use it";
            return Err(error("dir", message.to_owned()));
        }
        let titles: Vec<&str> = config.routes.iter().map(|route| route.ae.as_str()).collect();
        if !titles.contains(&table.ae.as_str()) {
            return Err(error("ae", unknown_name("route", table.ae.as_str(), &titles)));
        }
        let calling = match &table.calling {
            Some(calling) => calling.clone(),
            None => AeTitle::parse(CALLING).map_err(|why| error("calling", why.to_string()))?,
        };
        all.push(Watched {
            dir,
            ae: table.ae.clone(),
            calling,
            settle: table.settle.0,
            every: table.every.0.max(Duration::from_millis(100)),
            delivered: table.delivered,
        });
    }
    Ok(all)
}

/// Outbox, configuration and keys: what must not be taken for something that was dropped. A process has its own as long as it runs,
/// whatever the files say meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    outbox: PathBuf,
    files: Vec<PathBuf>,
}

impl Ours {
    /// As this configuration names them.
    pub fn of(loaded: &Loaded<Config>) -> Self {
        let config = &loaded.config;
        let keys = config.identity.files().into_iter().chain([&config.outbox.key, &config.outbox.index_key]);
        let cards =
            config.peers.iter().map(|peer| &peer.card).chain(config.relays.iter().map(|relay| &relay.card));
        let files = keys.chain(cards).map(|path| loaded.resolve(path)).chain([loaded.path().to_owned()]);
        Self { outbox: loaded.resolve(&config.outbox.dir), files: files.collect() }
    }

    /// Why this folder, without links in its path, may not be watched.
    pub fn clash(&self, dir: &Path) -> Option<String> {
        // Only now: the outbox is made after the configuration was read for the first time.
        let outbox = canonical(&self.outbox);
        let mut all = self.files.iter().map(|file| canonical(file)).chain([outbox.clone()]);
        if let Some(within) = all.find(|ours| ours.starts_with(dir)) {
            return Some(format!(
                "{} lies in it, and would be moved away as no DICOM file",
                within.display()
            ));
        }
        dir.starts_with(&outbox).then(|| format!("it lies in the outbox {}", outbox.display()))
    }
}

/// Without links; as it stands where it is not there yet.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
