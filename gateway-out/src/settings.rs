//! The checked configuration: files read, names resolved, contradictions refused.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf, sync::Arc};

use base::{AeTitle, AeTitleError};
use envelope::Padding;
use identity::PeerCard;
use service::{
    TransparencyTable,
    config::{ConfigError, Loaded},
    own::Own,
    peers::{Relay, load_peers, load_relays},
    telemetry::LogConfig,
};

use crate::{
    commitment,
    config::{Config, DicomTable, RetryTable, RouteTable},
    routes::{Route, Routes},
};

/// A checked configuration.
#[derive(Debug)]
pub struct Settings {
    /// Our keys and our card.
    pub own: Own,
    /// The outbox's folder, keys and limits.
    pub outbox: OutboxSettings,
    /// The DICOM listener and its limits.
    pub dicom: DicomTable,
    /// Pace and limits of deliveries.
    pub retry: RetryTable,
    /// Relays, the preferred one first.
    pub relays: Vec<Relay>,
    /// What is expected of their logs.
    pub transparency: TransparencyTable,
    /// One AE title each.
    pub routes: Routes,
    /// Who may ask for storage commitment.
    pub commitment: commitment::Peers,
    /// Admin listener.
    pub admin: SocketAddr,
    /// Log lines.
    pub log: LogConfig,
    /// The file that all of this comes from, to be read again.
    pub source: PathBuf,
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
            retry: config.retry.clone(),
            relays: load_relays(loaded, &config.relays)?,
            transparency: config.transparency,
            routes: Routes::new(check_routes(loaded, &peers)?),
            commitment: commitment::Peers::check(loaded)?,
            admin: config.admin.listen,
            log: config.log.clone(),
            source: loaded.path().to_owned(),
        })
    }
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

fn check_routes(loaded: &Loaded<Config>, peers: &[PeerCard]) -> Result<Vec<Arc<Route>>, ConfigError> {
    let (mut ids, mut titles) = (HashSet::new(), HashSet::new());
    let mut routes = Vec::new();
    for (i, table) in loaded.config.routes.iter().enumerate() {
        let refuse = |key: &str, message: String| Err(loaded.error(&format!("route[{i}].{key}"), message));
        if !ids.insert(table.id) {
            return refuse("id", format!("two [[route]] tables have the id {}", table.id));
        }
        if !titles.insert(&table.ae) {
            return refuse("ae", format!("two [[route]] tables have the AE title {}", table.ae));
        }
        let Some(receiver) = peers.iter().find(|card| card.name == table.to) else {
            return refuse("to", format!("no [[peer]] is called {}", table.to));
        };
        let calling = match calling(table) {
            Ok(calling) => calling,
            Err(error) => return refuse("calling", error.to_string()),
        };
        routes.push(Arc::new(Route {
            id: table.id,
            ae: table.ae.clone(),
            receiver: receiver.clone(),
            destination: table.destination.clone(),
            suite: table.suite,
            respond: table.respond,
            calling,
            sources: table.sources.clone(),
            private_sop_classes: table.private_sop_classes,
            changed_content: table.changed_content,
            prefer: table.prefer.clone(),
        }));
    }
    Ok(routes)
}

fn calling(table: &RouteTable) -> Result<Option<Vec<AeTitle>>, AeTitleError> {
    if table.calling.iter().any(|title| title == "*") {
        return Ok(None);
    }
    table.calling.iter().map(|title| AeTitle::parse(title)).collect::<Result<_, _>>().map(Some)
}
