//! The checked configuration: files read, names resolved, contradictions refused.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use dimse::Doorkeeper;
use envelope::Padding;
use service::{
    AdminTls, Fixed, Live, TransparencyTable, alarm,
    config::{ConfigError, FilesRead, Loaded},
    own::Own,
    peers::{Relay, load_peers, load_relays},
    telemetry::LogConfig,
};
use spool::{IndexKey, KeyFileError, OutboxKey};

use crate::{
    commitment,
    config::{Config, DicomTable, OutboxTable, RetryTable},
    folders::{self, Watched},
    reload,
    routes::Routes,
    user_identity::{IdentityRule, OnIdentity},
};

mod groups;
mod routes;

/// A checked configuration.
#[derive(Debug)]
pub struct Settings {
    /// Our keys and our card.
    pub own: Own,
    /// The outbox's folder, keys and limits.
    pub outbox: OutboxSettings,
    /// The DICOM listeners and their limits.
    pub dicom: DicomTable,
    /// The certificates of the one with TLS, where there is one.
    pub dicom_tls: Option<Doorkeeper>,
    /// What becomes of user identities, as it was read last.
    pub identities: Live<IdentityRule>,
    /// Pace and limits of deliveries.
    pub retry: RetryTable,
    /// Relays, the preferred one first.
    pub relays: Vec<Relay>,
    /// What is expected of their logs.
    pub transparency: TransparencyTable,
    /// What comes to which AE title, and where it goes.
    pub routes: Routes,
    /// Who may ask for storage commitment.
    pub commitment: commitment::Peers,
    /// Folders into which files are dropped.
    pub watched: Vec<Watched>,
    /// What none of them may hold.
    pub ours: folders::Ours,
    /// What a reload does not take over.
    pub fixed: Fixed,
    /// Admin listener.
    pub admin: SocketAddr,
    /// Its certificate and key, if it speaks TLS.
    pub admin_tls: Option<AdminTls>,
    /// Log lines.
    pub log: LogConfig,
    /// The file that all of this comes from, to be read again.
    pub source: PathBuf,
    /// What was read.
    pub files: FilesRead,
}

/// The outbox's folder, keys and limits.
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// Sealed bodies and the index.
    pub dir: PathBuf,
    /// File of the key that wraps content keys.
    pub key: PathBuf,
    /// File of the key of the index's hashes.
    pub index_key: PathBuf,
    /// The most sealed bytes.
    pub bytes_max: u64,
    /// Free space never used.
    pub reserve: u64,
    /// How sealed sizes are blurred.
    pub padding: Padding,
}

impl Config {
    /// Reads the files that the configuration names and checks all of it, before any port opens.
    pub fn check(loaded: &Loaded<Self>) -> Result<Settings, ConfigError> {
        let config = &loaded.config;
        let peers = load_peers(loaded, &config.peers)?;
        config.transparency.check(loaded)?;
        if let Some(alarm) = &config.alarm {
            alarm.check(loaded)?;
        }
        match config.dicom.max_pdu {
            0 | 4096..=1_048_576 => {}
            other => {
                let message =
                    format!("{other} is out of range; give 4096 to 1048576 bytes, or 0 to announce no limit");
                return Err(loaded.error("dicom.max_pdu", message));
            }
        }
        Ok(Settings {
            own: Own::load(loaded, &config.identity)?,
            outbox: check_outbox(loaded)?,
            dicom: config.dicom.clone(),
            dicom_tls: check_dicom_tls(loaded)?,
            identities: Live::new(Arc::new(check_identities(loaded)?)),
            retry: config.retry.clone(),
            relays: load_relays(loaded, &config.relays)?,
            transparency: config.transparency,
            routes: Routes::new(routes::check(loaded, &peers)?),
            commitment: commitment::Peers::check(loaded)?,
            watched: folders::check(loaded)?,
            ours: folders::Ours::of(loaded),
            fixed: reload::fixed(config),
            admin: config.admin.listen,
            admin_tls: config.admin.check(loaded)?,
            log: config.log.clone(),
            source: loaded.path().to_owned(),
            files: loaded.files_read(),
        })
    }
}

/// Reads what only a start, and `check`, look at: both keys of the outbox, which only the outbox can say more of (whether they are its
/// own), and what `[alarm]` names.
pub fn check_at_start(loaded: &Loaded<Config>) -> Result<(), ConfigError> {
    let OutboxTable { key, index_key, .. } = &loaded.config.outbox;
    let refuse = |name: &str, error: &KeyFileError| {
        let remedy = match error {
            KeyFileError::Io { .. } => "; correct the path, or restore the recovery copy",
            _ => "",
        };
        loaded.error(name, format!("{error}{remedy}"))
    };
    OutboxKey::load(&loaded.resolve(key)).map_err(|error| refuse("outbox.key", &error))?;
    IndexKey::load(&loaded.resolve(index_key)).map_err(|error| refuse("outbox.index_key", &error))?;
    alarm::check_files(loaded.config.alarm.as_ref(), loaded)
}

fn check_identities(loaded: &Loaded<Config>) -> Result<IdentityRule, ConfigError> {
    let table = &loaded.config.dicom;
    if table.users.is_some() && table.user_identity != OnIdentity::Accepted {
        let message = "nobody is compared with it: write `user_identity = \"accepted\"`, too";
        return Err(loaded.error("dicom.users", message));
    }
    let users = table.users.as_ref().map(|file| loaded.resolve(file));
    IdentityRule::read(table.user_identity, users.as_deref()).map_err(|error| {
        let file = users.as_deref().unwrap_or_else(|| Path::new("users")).display();
        loaded.error("dicom.users", format!("{file}: {error}"))
    })
}

fn check_dicom_tls(loaded: &Loaded<Config>) -> Result<Option<Doorkeeper>, ConfigError> {
    let table = &loaded.config.dicom;
    let Some(tls) = &table.tls else {
        let message =
            "missing, and there is no `tls`: nobody could send anything; give an address and a port";
        return table.listen.map(|_| None).ok_or_else(|| loaded.error("dicom.listen", message));
    };
    if table.listen == Some(tls.listen) && tls.listen.port() != 0 {
        let message =
            "the same address and port as `dicom.listen`; give TLS a port of its own, 2762 by convention";
        return Err(loaded.error("dicom.tls.listen", message));
    }
    let read = tls.read(|file| loaded.resolve(file));
    read.map(Some).map_err(|refused| loaded.error(&format!("dicom.tls.{}", refused.key), refused.to_string()))
}

/// The least `[outbox] reserve`. What is held can leave a full disk only by receipts, and each of them is
/// written to the index: its log grows to 16 MiB before it is folded into the index, which grows as well.
const RESERVE_MIN_BYTES: u64 = 64 << 20;

fn check_outbox(loaded: &Loaded<Config>) -> Result<OutboxSettings, ConfigError> {
    let table = &loaded.config.outbox;
    if table.reserve.0 < RESERVE_MIN_BYTES {
        let message = "less than 64 MiB: on a full disk the index would have no room for the receipts that end \
            custody; give at least \"64 MiB\"";
        return Err(loaded.error("outbox.reserve", message));
    }
    let dir = loaded.resolve(&table.dir);
    let (key, index_key) = (loaded.resolve(&table.key), loaded.resolve(&table.index_key));
    for (name, path) in [("outbox.key", &key), ("outbox.index_key", &index_key)] {
        if path.starts_with(&dir) {
            let message = "it lies inside `dir`; keep it elsewhere, so that a stolen outbox is worth nothing";
            return Err(loaded.error(name, message));
        }
    }
    Ok(OutboxSettings {
        dir,
        key,
        index_key,
        bytes_max: table.bytes_max.0,
        reserve: table.reserve.0,
        padding: table.padding,
    })
}
