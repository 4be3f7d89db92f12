//! What the operator writes: one struct per table of `gateway-in.toml`, each field with its unit,
//! default and reason. [`Config::check`] turns it into [`Settings`], which cannot be wrong.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use base::{Name, RouteId};
use envelope::Suite;
use identity::PeerCard;
use serde::{Deserialize, Serialize};
use service::{
    AdminTls, Fixed, TransparencyTable,
    alarm::AlarmTable,
    config::{ByteSize, ConfigError, FilesRead, Loaded, Span, unknown_name},
    own::{IdentityTable, Own},
    peers::{AdminTable, PeerTable, Relay, RelayTable, load_peers, load_relays},
    telemetry::LogConfig,
};

use crate::{
    coercion::Coercion,
    commitment::{self, CommitmentSettings, CommitmentTable},
};

mod coercion;
mod destination;
mod probe;
mod proposes;
mod stow;

pub use self::stow::{Credentials, StowTarget, TlsTable};
pub use coercion::CoercionTable;
pub use destination::{
    DestinationSettings, DestinationTable, DicomTarget, Kind, PrivateVrRule, Reencode, Target,
};
pub use probe::{Probe, ProbeSettings};
pub use proposes::{Proposes, UserTable};

/// `gateway-in.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this gateway is.
    pub identity: IdentityTable,
    /// Where attempts, answers and receipts are kept.
    pub ledger: LedgerTable,
    /// Limits of what is collected at one time.
    #[serde(default)]
    pub collect: CollectTable,
    /// Relays; all of them are collected from.
    #[serde(rename = "relay", default)]
    pub relays: Vec<RelayTable>,
    /// Sending gateways, pinned by their card.
    #[serde(rename = "peer", default)]
    pub peers: Vec<PeerTable>,
    /// Where instances go.
    #[serde(rename = "destination", default)]
    pub destinations: Vec<DestinationTable>,
    /// Which sender reaches which destination.
    #[serde(rename = "route", default)]
    pub routes: Vec<RouteTable>,
    /// Which attributes get other values, by sender and destination.
    #[serde(rename = "coercion", default)]
    pub coercions: Vec<CoercionTable>,
    /// What is needed where destinations are asked for storage commitment.
    pub commitment: Option<CommitmentTable>,
    /// What is expected of the relays' logs.
    #[serde(default)]
    pub transparency: TransparencyTable,
    /// Who is told when something is wrong.
    pub alarm: Option<AlarmTable>,
    /// Health and status over HTTP.
    pub admin: AdminTable,
    /// Log lines.
    #[serde(default)]
    pub log: LogConfig,
}

/// `[ledger]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerTable {
    /// The folder of the settled ledger. One process at a time uses it.
    pub dir: PathBuf,
}

/// `[collect]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectTable {
    /// Instances up to this size are verified as a whole before the destination sees a byte. Default 16 MiB.
    pub verify_first: ByteSize,
    /// Memory for instances that are verified as a whole, all routes together. A destination may have an equal
    /// part of it: one that stands still keeps no more. So it holds `verify_first` for each destination at
    /// least. Default 32 MiB, or that much.
    pub buffer: Option<ByteSize>,
    /// What a larger instance may have under way between relay and destination. Default 2 MiB.
    pub stream_window: ByteSize,
    /// Larger instances under way at one time, all routes together, divided as `buffer` is: at least one for
    /// each destination. Default 4, or that many.
    pub streams_max: Option<usize>,
    /// Unsettled instances of one route at one time. Default 32.
    pub window: u32,
    /// Without a byte for this long a body is given up. Default 30 s.
    pub stall_timeout: Span,
}

impl Default for CollectTable {
    fn default() -> Self {
        Self {
            verify_first: ByteSize(16 << 20),
            buffer: None,
            stream_window: ByteSize(2 << 20),
            streams_max: None,
            window: 32,
            stall_timeout: Span(Duration::from_secs(30)),
        }
    }
}

/// What `buffer` is at least where it is not configured.
const BUFFER_DEFAULT_BYTES: u64 = 32 << 20;
/// What `streams_max` is at least where it is not configured.
const STREAMS_DEFAULT: usize = 4;

impl CollectTable {
    /// `buffer`, which holds one body of `verify_first` for each of so many destinations.
    pub fn buffer_bytes(&self, destinations: usize) -> u64 {
        let needed = self.buffer_needed_bytes(destinations);
        self.buffer.map_or(BUFFER_DEFAULT_BYTES, |buffer| buffer.0).max(needed)
    }

    /// `streams_max`, at least one for each of so many destinations.
    pub fn streams(&self, destinations: usize) -> usize {
        self.streams_max.unwrap_or(STREAMS_DEFAULT).max(destinations).max(1)
    }

    fn buffer_needed_bytes(&self, destinations: usize) -> u64 {
        self.verify_first.0.saturating_mul(u64::try_from(destinations.max(1)).unwrap_or(u64::MAX))
    }
}

/// `[[route]]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// Random id shared with the sending gateway; the relay sees only this.
    pub id: RouteId,
    /// The sending gateway.
    pub from: Name,
    /// Where its instances go.
    pub destination: Name,
    /// Cipher suite: `"B"` (default) or `"A"`; must be the sender's.
    #[serde(default)]
    pub suite: Suite,
    /// `"accepted"`: the sender's patient ids may enter the destination as they are, as where both sites have one
    /// patient index. Without it, and without a `[[coercion]]`, `check` warns.
    pub foreign_ids: Option<ForeignIds>,
}

/// What is known of the sender's identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignIds {
    /// They mean the same at the destination, or somebody has decided that they may enter it.
    Accepted,
}

/// A checked configuration.
#[derive(Debug)]
pub struct Settings {
    /// Our keys and our card.
    pub own: Own,
    /// The folder of the settled ledger.
    pub ledger_dir: PathBuf,
    /// Limits of collecting.
    pub collect: CollectTable,
    /// Relays with their pinned cards.
    pub relays: Vec<Relay>,
    /// What is expected of their logs.
    pub transparency: TransparencyTable,
    /// Routes by id.
    pub routes: HashMap<RouteId, Arc<Route>>,
    /// Destinations by name.
    pub destinations: HashMap<Name, Arc<DestinationSettings>>,
    /// Key and ports for asking destinations, where any is asked.
    pub commitment: Option<CommitmentSettings>,
    /// Admin listener.
    pub admin: SocketAddr,
    /// Its certificate and key, if it speaks TLS.
    pub admin_tls: Option<AdminTls>,
    /// Log lines.
    pub log: LogConfig,
    /// What a reload does not take over.
    pub fixed: Fixed,
    /// The file that all of this comes from, to be read again.
    pub source: PathBuf,
    /// What was read.
    pub files: FilesRead,
}

/// One sender's way to one destination.
#[derive(Debug)]
pub struct Route {
    /// The id shared with the sender.
    pub id: RouteId,
    /// The sender's pinned card.
    pub sender: PeerCard,
    /// How our configuration calls the sender.
    pub from: Name,
    /// Where instances go.
    pub destination: Name,
    /// Cipher suite.
    pub suite: Suite,
    /// What is changed of its instances.
    pub coercion: Option<Arc<Coercion>>,
    /// The sender's identifiers may enter the destination as they are.
    pub foreign_ids_accepted: bool,
}

impl Route {
    /// What an operator should think about twice.
    pub fn warning(&self) -> Option<String> {
        (self.coercion.is_none() && !self.foreign_ids_accepted).then(|| {
            format!(
                "route {} takes patient ids and accession numbers of {} into {} as if they were its own: give a \
                 [[coercion]], or write foreign_ids = \"accepted\" where they mean the same there",
                self.id, self.from, self.destination
            )
        })
    }

    /// Whether sessions of the one go on as sessions of the other.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.sender.continues(&other.sender) || other.sender.continues(&self.sender))
            && self.from == other.from
            && self.suite == other.suite
            && self.destination == other.destination
    }
}

impl Config {
    /// Reads the files that the configuration names and checks all of it, before any port opens.
    pub fn check(loaded: &Loaded<Self>) -> Result<Settings, ConfigError> {
        let config = &loaded.config;
        let peers = load_peers(loaded, &config.peers)?;
        let mut destinations = HashMap::new();
        for (i, table) in config.destinations.iter().enumerate() {
            let checked = Arc::new(destination::check(loaded, i, table)?);
            if destinations.insert(table.name.clone(), checked).is_some() {
                let message = format!("two [[destination]] tables are called {}; rename one", table.name);
                return Err(loaded.error(&format!("destination[{i}].name"), message));
            }
        }
        check_collect(loaded, destinations.len())?;
        config.transparency.check(loaded)?;
        if let Some(alarm) = &config.alarm {
            alarm.check(loaded)?;
        }
        let own = Own::load(loaded, &config.identity)?;
        let coercions = coercion::check(loaded, own.identity.name(), &peers, &destinations)?;
        Ok(Settings {
            own,
            ledger_dir: loaded.resolve(&config.ledger.dir),
            collect: config.collect.clone(),
            relays: load_relays(loaded, &config.relays)?,
            transparency: config.transparency,
            routes: check_routes(loaded, &peers, &destinations, &coercions)?,
            destinations,
            commitment: commitment::config::check(loaded)?,
            admin: config.admin.listen,
            admin_tls: config.admin.check(loaded)?,
            log: config.log.clone(),
            fixed: crate::reload::fixed(config),
            source: loaded.path().to_owned(),
            files: loaded.files_read(),
        })
    }
}

/// With less than one share for each destination, some that stand still could keep the others waiting.
fn check_collect(loaded: &Loaded<Config>, destinations: usize) -> Result<(), ConfigError> {
    let collect = &loaded.config.collect;
    let needed = collect.buffer_needed_bytes(destinations);
    if collect.buffer.is_some_and(|buffer| buffer.0 < needed) {
        let message = format!(
            "less than `verify_first` for each of {destinations} destinations: one that stands still could keep the \
            others waiting; give at least \"{} KiB\", or lower `verify_first`",
            needed.div_ceil(1024)
        );
        return Err(loaded.error("collect.buffer", message));
    }
    if collect.streams_max.is_some_and(|streams| streams < destinations.max(1)) {
        let message = format!(
            "fewer than the {destinations} destinations: one that stands still could keep the others waiting; give at \
            least {}",
            destinations.max(1)
        );
        return Err(loaded.error("collect.streams_max", message));
    }
    Ok(())
}

fn check_routes(
    loaded: &Loaded<Config>,
    peers: &[PeerCard],
    destinations: &HashMap<Name, Arc<DestinationSettings>>,
    coercions: &coercion::Coercions,
) -> Result<HashMap<RouteId, Arc<Route>>, ConfigError> {
    let mut routes = HashMap::new();
    for (i, table) in loaded.config.routes.iter().enumerate() {
        let refuse = |key: &str, message: String| Err(loaded.error(&format!("route[{i}].{key}"), message));
        let Some(sender) = peers.iter().find(|card| card.name == table.from) else {
            let known: Vec<_> = peers.iter().map(|card| card.name.as_str()).collect();
            return refuse("from", unknown_name("peer", table.from.as_str(), &known));
        };
        if !destinations.contains_key(&table.destination) {
            let known: Vec<_> = destinations.keys().map(Name::as_str).collect();
            return refuse("destination", unknown_name("destination", table.destination.as_str(), &known));
        }
        let route = Route {
            id: table.id,
            sender: sender.clone(),
            from: table.from.clone(),
            destination: table.destination.clone(),
            suite: table.suite,
            coercion: coercions.get(&(table.from.clone(), table.destination.clone())).cloned(),
            foreign_ids_accepted: table.foreign_ids == Some(ForeignIds::Accepted),
        };
        if routes.insert(table.id, Arc::new(route)).is_some() {
            return refuse(
                "id",
                format!("two [[route]] tables have the id {}; each has its own, the sender's", table.id),
            );
        }
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error that `[collect]` is refused with, where so many destinations are configured.
    fn collect_error(collect: &str, destinations: usize) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        let rest = "relay = []\nidentity = { key = \"key\", log_key = \"log\", card = \"card\" }\nledger.dir = \"ledger\"\nadmin.listen = \"127.0.0.1:0\"\n";
        std::fs::write(&file, format!("{rest}[collect]\n{collect}")).unwrap();
        let loaded = service::config::load::<Config>(&file, "SLUIS_NOT_SET_").unwrap();
        check_collect(&loaded, destinations).err().map(|error| error.to_string())
    }

    #[test]
    fn each_destination_has_room_for_one_body_or_the_file_is_refused() {
        let cases = [
            ("", 0, None),
            ("", 100, None),
            ("buffer = \"32 MiB\"", 2, None),
            ("buffer = \"32 MiB\"", 3, Some("at least \"49152 KiB\"")),
            ("buffer = \"8 MiB\"", 0, Some("collect.buffer")),
            ("buffer = \"8 MiB\"\nverify_first = \"2 MiB\"", 4, None),
            ("streams_max = 3", 3, None),
            ("streams_max = 3", 4, Some("at least 4")),
            ("streams_max = 0", 0, Some("collect.streams_max")),
        ];
        for (collect, destinations, refused) in cases {
            let error = collect_error(collect, destinations);
            match (refused, &error) {
                (None, None) => {}
                (Some(text), Some(error)) if error.contains(text) => {}
                _ => panic!("{collect:?} with {destinations}: {error:?}"),
            }
        }
    }

    #[test]
    fn what_is_not_configured_grows_with_the_destinations() {
        let collect = CollectTable::default();
        let sizes = [1, 2, 3, 100].map(|count| (collect.buffer_bytes(count) >> 20, collect.streams(count)));
        assert_eq!(sizes, [(32, 4), (32, 4), (48, 4), (1600, 100)]);
    }
}
