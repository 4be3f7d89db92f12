//! What the operator writes: one struct per table of `gateway-in.toml`, each field with its unit,
//! default and reason. [`Config::check`] turns it into [`Settings`], which cannot be wrong.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use base::{AeTitle, Name, RouteId, ServiceUrl, Uid};
use dataset::PrivateVr;
use dimse::Dialer;
use envelope::Suite;
use identity::PeerCard;
use serde::{Deserialize, Serialize};
use service::{
    AdminTls, TransparencyTable,
    config::{ByteSize, ConfigError, FilesRead, Loaded, Span, unknown_name},
    own::{IdentityTable, Own},
    peers::{AdminTable, PeerTable, Relay, RelayTable, load_peers, load_relays},
    telemetry::LogConfig,
};

use crate::{
    coercion::Coercion,
    commitment::{self, AskSettings, AskTable, CommitmentSettings, CommitmentTable, Means},
    forward::StatusOverrides,
};

mod coercion;
mod probe;
mod proposes;
mod secret;
mod stow;

pub use self::stow::{Credentials, StowTarget, TlsTable};
pub use coercion::CoercionTable;
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

/// `[[destination]]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationTable {
    /// How routes and receipts call it.
    pub name: Name,
    /// `"dicom"`, `"folder"` or `"stow"`, a DICOM web service.
    pub kind: Kind,
    /// `folder`: where the files go.
    pub dir: Option<PathBuf>,
    /// `dicom`: the destination's AE title.
    pub ae: Option<AeTitle>,
    /// `dicom`, and `stow` where `url` has a name: its address and port. Names are not looked up.
    pub address: Option<SocketAddr>,
    /// `stow`: the root of its DICOM web services, as in `"https://pacs.example/dicom-web"`: instances go to `/studies` below it.
    /// It is part of each receipt. Redirects are not followed.
    pub url: Option<ServiceUrl>,
    /// `stow`: the file of a bearer token, in its first line, which only the daemon may read. It is read again on a reload, so that
    /// a token can be changed. Default: none; `user` is the other way.
    pub bearer: Option<PathBuf>,
    /// `dicom`, `stow`: `{ ca = "…", cert = "…", key = "…", name = "…" }`, PEM files: the destination is called over TLS 1.2 or
    /// 1.3. It has to show a certificate of `ca` with the `name` (default: its address, or the host in `url`; `"*"` is any), and is
    /// shown `cert`. Files are read again on a reload. Default: without TLS; `https` needs it.
    pub tls: Option<TlsTable>,
    /// `dicom`: the AE title that we present, or `"original"` for the one that the sender's PACS used.
    pub calling: Option<String>,
    /// `dicom`, `stow`: associations or connections at one time. Default 4; parallelism is across studies.
    #[serde(default = "max_associations")]
    pub max_associations: usize,
    /// `dicom`, `stow`: how long an idle association or connection is kept open. Default 10 s.
    #[serde(default = "linger")]
    pub linger: Span,
    /// `dicom`, `stow`: connecting and the handshakes of TLS and A-ASSOCIATE. Default 10 s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// `dicom`, `stow`: the wait for a C-STORE response, or an HTTP response. Default 60 s.
    #[serde(default = "response_timeout")]
    pub response_timeout: Span,
    /// `dicom`: the longest PDU that we send, whatever the destination allows. Default 256 KiB.
    #[serde(default = "max_pdu")]
    pub max_pdu: u32,
    /// `dicom`, `stow`: how often a destination that is down is asked by C-ECHO, or by a POST of nothing. Default 5 s.
    #[serde(default = "probe_every")]
    pub probe_every: Span,
    /// `dicom`: whether the destination is asked what it accepts: `"daily"` (default; at most once a day, and only while
    /// a sender has a use for it, `negotiate = "mirror"`) or `"off"`. `gateway-in probe NAME` asks in either case.
    #[serde(default)]
    pub probe: Probe,
    /// `dicom`: the AE title that a probe presents where `calling` is `"original"`: archives decide by it. Without one
    /// such a destination is not probed.
    pub probe_calling: Option<AeTitle>,
    /// `dicom`: SOP class UIDs that a probe asks about beside the standard's storage classes, such as private ones: what
    /// is not asked about is not offered to the senders' PACS. Default: none.
    #[serde(default)]
    pub probe_classes: Vec<Uid>,
    /// `dicom`: transfer syntax UIDs that a probe asks about. Default: the usual ones, 21 of them. Classes times syntaxes
    /// are the presentation contexts, 128 of them an association: by default some 4,700 in 37.
    pub probe_syntaxes: Option<Vec<Uid>>,
    /// `dicom`: `"syntax-only"` turns Implicit VR, Explicit VR and Deflated Little Endian into each other where the destination
    /// takes another one of them only; pixels are never touched. `"off"` (default): everything goes as it came, or is refused.
    #[serde(default)]
    pub reencode: Reencode,
    /// `dicom`, with `reencode`: what becomes of an instance with private elements whose value representation implicit VR
    /// cannot say: `"keep"` (default) refuses it with status C010, `"lose"` sends it without them.
    #[serde(default)]
    pub private_vr: PrivateVrRule,
    /// `dicom`: `{ name = "…", passcode = "FILE" }`: the user identity that each association proposes, for a destination that
    /// asks for one. The file has the passcode in its first line, and only the daemon may read it. Default: none is proposed.
    /// `stow`: the same as HTTP Basic credentials; the file is read again on a reload.
    pub user: Option<UserTable>,
    /// `dicom`: the asynchronous operations that are proposed as outstanding, for a destination that wants to be asked; 0 is
    /// any number. Each answer is waited for in any case. Default: nothing is proposed.
    pub async_operations: Option<u16>,
    /// Codes that this destination uses in another sense than the standard's table.
    #[serde(default)]
    pub status: StatusOverrides,
    /// `dicom`: what counts for whoever asks the sending gateway for storage commitment: `"delivered"` (default), that this
    /// destination has stored it; or `"committed"`, that it has committed itself, for which it is asked.
    #[serde(default)]
    pub means: Means,
    /// `means = "committed"`: how it is asked.
    pub commitment: Option<AskTable>,
}

/// Whether the layout of elements is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reencode {
    /// It is not.
    #[default]
    Off,
    /// Implicit, Explicit and Deflated Little Endian become each other.
    SyntaxOnly,
}

/// What becomes of value representations that implicit VR cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivateVrRule {
    /// The instance is refused.
    #[default]
    Keep,
    /// They are lost; the values stay.
    Lose,
}

/// What a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An application entity.
    Dicom,
    /// Part 10 files.
    Folder,
    /// The Studies Service of a DICOM web server (STOW-RS).
    Stow,
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

fn max_associations() -> usize {
    4
}
fn linger() -> Span {
    Span(Duration::from_secs(10))
}
fn connect_timeout() -> Span {
    Span(Duration::from_secs(10))
}
fn response_timeout() -> Span {
    Span(Duration::from_secs(60))
}
fn max_pdu() -> u32 {
    256 * 1024
}
fn probe_every() -> Span {
    Span(Duration::from_secs(5))
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

/// A checked `[[destination]]`.
#[derive(Debug)]
pub struct DestinationSettings {
    /// Its name.
    pub name: Name,
    /// What it is and how to reach it.
    pub target: Target,
    /// Codes used in another sense.
    pub status: StatusOverrides,
    /// It is asked for storage commitment, and how.
    pub commitment: Option<AskSettings>,
}

impl DestinationSettings {
    /// Whether Implicit, Explicit and Deflated Little Endian are turned into each other on the way to it.
    pub fn reencodes(&self) -> bool {
        matches!(&self.target, Target::Dicom(target) if target.reencode)
    }

    /// What becomes of private elements then.
    pub fn private_vr(&self) -> PrivateVr {
        match &self.target {
            Target::Dicom(target) => target.private_vr,
            Target::Folder(_) | Target::Stow(_) => PrivateVr::Keep,
        }
    }
}

/// How a destination is reached.
#[derive(Debug, Clone)]
pub enum Target {
    /// An application entity.
    Dicom(DicomTarget),
    /// Part 10 files below this folder.
    Folder(PathBuf),
    /// A DICOM web service.
    Stow(StowTarget),
}

/// A `kind = "dicom"` destination.
#[derive(Debug, Clone)]
pub struct DicomTarget {
    /// Called AE title.
    pub ae: AeTitle,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is called: with TLS, or without.
    pub dialer: Dialer,
    /// The AE title that we present; `None` is the original one.
    pub calling: Option<AeTitle>,
    /// Associations at one time.
    pub max_associations: usize,
    /// How long an idle association is kept.
    pub linger: Duration,
    /// Limit of connecting and handshake.
    pub connect_timeout: Duration,
    /// Limit of the wait for a response.
    pub response_timeout: Duration,
    /// The longest PDU that we send.
    pub max_pdu: u32,
    /// Pace of the C-ECHO to one that is down.
    pub probe_every: Duration,
    /// What it is asked about.
    pub probe: Arc<ProbeSettings>,
    /// Implicit, Explicit and Deflated Little Endian become each other.
    pub reencode: bool,
    /// What becomes of private elements then.
    pub private_vr: PrivateVr,
    /// What is proposed with each association.
    pub proposes: Arc<Proposes>,
}

impl DicomTarget {
    /// As whom it is asked what it accepts: the AE title of the real sends.
    pub fn probe_calling(&self) -> Option<&AeTitle> {
        self.calling.as_ref().or(self.probe.calling.as_ref())
    }
}

impl Config {
    /// Reads the files that the configuration names and checks all of it, before any port opens.
    pub fn check(loaded: &Loaded<Self>) -> Result<Settings, ConfigError> {
        let config = &loaded.config;
        let peers = load_peers(loaded, &config.peers)?;
        let mut destinations = HashMap::new();
        for (i, table) in config.destinations.iter().enumerate() {
            let checked = Arc::new(check_destination(loaded, i, table)?);
            if destinations.insert(table.name.clone(), checked).is_some() {
                let message = format!("two [[destination]] tables are called {}; rename one", table.name);
                return Err(loaded.error(&format!("destination[{i}].name"), message));
            }
        }
        check_collect(loaded, destinations.len())?;
        config.transparency.check(loaded)?;
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

fn check_destination(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<DestinationSettings, ConfigError> {
    if let Some(key) = stow::only_here(table) {
        let message = "only a destination of the kind \"stow\" has one; remove it, or write that kind";
        return Err(loaded.error(&format!("destination[{i}].{key}"), message));
    }
    let target = match table.kind {
        Kind::Folder => {
            let dir = table
                .dir
                .as_ref()
                .ok_or_else(|| missing(loaded, i, table, "dir", "name the folder that the files go to"))?;
            let refuse = |key: &str, message: &str| {
                Err(loaded.error(&format!("destination[{i}].{key}"), message.to_owned()))
            };
            if table.tls.is_some() {
                return refuse("tls", "a folder is called by nobody; remove it");
            }
            if table.reencode != Reencode::Off {
                return refuse("reencode", "a folder takes every transfer syntax; remove it");
            }
            Target::Folder(loaded.resolve(dir))
        }
        Kind::Dicom => Target::Dicom(check_dicom(loaded, i, table)?),
        Kind::Stow => Target::Stow(stow::check(loaded, i, table)?),
    };
    Ok(DestinationSettings {
        name: table.name.clone(),
        target,
        status: table.status.clone(),
        commitment: commitment::config::check_destination(loaded, i, table)?,
    })
}

fn missing(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
    key: &str,
    hint: &str,
) -> ConfigError {
    let message = format!("destination {} has no `{key}`: {hint}", table.name);
    loaded.error(&format!("destination[{i}]"), message)
}

fn check_dicom(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<DicomTarget, ConfigError> {
    let missing = |key: &str, hint: &str| missing(loaded, i, table, key, hint);
    let refuse = |key: &str, message: String| loaded.error(&format!("destination[{i}].{key}"), message);
    let ae = table.ae.clone().ok_or_else(|| missing("ae", "give the destination's AE title"))?;
    let hint = "give the destination's address and port";
    let address = table.address.ok_or_else(|| missing("address", hint))?;
    let calling = match table.calling.as_deref() {
        None => return Err(missing("calling", "give the AE title that it knows us by, or \"original\"")),
        Some("original") => None,
        Some(title) => Some(AeTitle::parse(title).map_err(|error| refuse("calling", error.to_string()))?),
    };
    if table.private_vr == PrivateVrRule::Lose && table.reencode == Reencode::Off {
        let message =
            "nothing is re-encoded for this destination; remove it, or set reencode = \"syntax-only\"";
        return Err(refuse("private_vr", message.to_owned()));
    }
    let tls = table.tls.as_ref().map(TlsTable::peer).transpose();
    let tls = tls.map_err(|why| refuse("tls", why.to_owned()))?;
    let dialer = Dialer::of(tls.as_ref(), |file| loaded.resolve(file), address.ip())
        .map_err(|refused| refuse(&format!("tls.{}", refused.key), refused.to_string()))?;
    Ok(DicomTarget {
        ae,
        address,
        dialer,
        calling,
        max_associations: table.max_associations.clamp(1, 64),
        linger: table.linger.0,
        connect_timeout: table.connect_timeout.0,
        response_timeout: table.response_timeout.0,
        max_pdu: table.max_pdu,
        probe_every: table.probe_every.0.max(Duration::from_millis(100)),
        probe: Arc::new(probe::check(loaded, i, table)?),
        reencode: table.reencode == Reencode::SyntaxOnly,
        private_vr: match table.private_vr {
            PrivateVrRule::Keep => PrivateVr::Keep,
            PrivateVrRule::Lose => PrivateVr::Lose,
        },
        proposes: Arc::new(proposes::check(loaded, i, table)?),
    })
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
