//! What the operator writes: one struct per table of `gateway-out.toml`, each field with its unit,
//! default and reason. [`Config::check`] turns it into [`Settings`](crate::settings::Settings), which
//! cannot be wrong.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use base::{AeTitle, Name, RouteId};
use dimse::{ListenTls, PeerTls};
use envelope::{Padding, Suite};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use service::{
    TransparencyTable,
    alarm::AlarmTable,
    config::{ByteSize, Span},
    own::IdentityTable,
    peers::{AdminTable, PeerTable, RelayTable},
    telemetry::LogConfig,
};
use wire::Urgency;

use crate::{
    commitment::CommitmentTable, folders::WatchTable, pseudonymize::PseudonymizeTable,
    user_identity::OnIdentity,
};

/// `gateway-out.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this gateway is.
    pub identity: IdentityTable,
    /// Where instances wait until their receipt is in.
    pub outbox: OutboxTable,
    /// The port that the PACS sends to.
    pub dicom: DicomTable,
    /// Retry pace and limits of deliveries.
    #[serde(default)]
    pub retry: RetryTable,
    /// Relays, the preferred one first.
    #[serde(rename = "relay", default)]
    pub relays: Vec<RelayTable>,
    /// Receiving gateways, pinned by their card.
    #[serde(rename = "peer", default)]
    pub peers: Vec<PeerTable>,
    /// Peers under one name: calling AE titles (with `*` and `?`), networks and addresses. Routes call them `@NAME` in
    /// `calling` and `sources`.
    #[serde(default)]
    pub groups: BTreeMap<Name, Vec<String>>,
    /// What routes say where they leave a key away.
    #[serde(default)]
    pub route_defaults: RouteDefaults,
    /// What comes to which AE title, and where it goes; in this order, where several have one title.
    #[serde(rename = "route", default)]
    pub routes: Vec<RouteTable>,
    /// Who may ask for storage commitment.
    #[serde(rename = "commitment", default)]
    pub commitments: Vec<CommitmentTable>,
    /// Folders into which somebody drops DICOM files.
    #[serde(default)]
    pub watch: Vec<WatchTable>,
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

impl Config {
    /// The files that the daemon reads, as they stand in it: keys, cards, certificates, secrets, rules.
    pub fn files(&self) -> Vec<&Path> {
        let mut files: Vec<&PathBuf> = self.identity.files().into();
        files.extend([&self.outbox.key, &self.outbox.index_key]);
        files.extend(self.peers.iter().map(|peer| &peer.card));
        files.extend(self.relays.iter().map(|relay| &relay.card));
        files.extend(self.dicom.tls.iter().flat_map(ListenTls::files));
        files.extend(&self.dicom.users);
        let pseudonymize = self.routes.iter().map(|route| &route.pseudonymize);
        let pseudonymize = pseudonymize.chain([&self.route_defaults.pseudonymize]).flatten();
        files.extend(pseudonymize.flat_map(PseudonymizeTable::files));
        let commitment = self.commitments.iter().filter_map(|table| table.tls.as_ref());
        files.extend(commitment.flat_map(PeerTls::files));
        files.extend(self.admin.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]));
        files.into_iter().map(PathBuf::as_path).collect()
    }
}

/// `[outbox]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxTable {
    /// The folder with sealed bodies and the index.
    pub dir: PathBuf,
    /// The key that wraps content keys; outside `dir`, so that a stolen outbox is worth nothing.
    pub key: PathBuf,
    /// The key of the hashes that `why` looks up; outside `dir`.
    pub index_key: PathBuf,
    /// The most sealed bytes the outbox holds; beyond it C-STORE is answered A700. Default 100 GiB.
    #[serde(default = "outbox_bytes_max")]
    pub bytes_max: ByteSize,
    /// Free space of the file system that no body uses, at least 64 MiB: the index needs some to write the
    /// receipts that end custody. Default 1 GiB.
    #[serde(default = "outbox_reserve")]
    pub reserve: ByteSize,
    /// How sealed sizes are blurred: `"padme"` (default, about 3 %), `"none"`, or `"block:BYTES"`.
    #[serde(default)]
    pub padding: Padding,
}

/// `[dicom]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DicomTable {
    /// Address and port of the DICOM listener. May be left away where there is `tls`: then there is no port without it.
    pub listen: Option<SocketAddr>,
    /// `{ listen = "0.0.0.0:2762", cert = "…", key = "…", clients = "…" }`: another port, on which peers speak TLS 1.2 or
    /// 1.3 and show a certificate of one of the authorities in `clients`. Files are PEM, and read again on a reload. Default: none.
    pub tls: Option<ListenTls>,
    /// Maximum PDU length that we announce, 4096 to 1048576 bytes; 0 announces no limit. Default 256 KiB.
    #[serde(default = "max_pdu_default")]
    pub max_pdu: u32,
    /// Associations at one time; more are rejected "local limit exceeded". Default 64.
    #[serde(default = "associations_max")]
    pub associations_max: usize,
    /// Associations at one time from one address. Default 32.
    #[serde(default = "associations_per_peer_max")]
    pub associations_per_peer_max: usize,
    /// The whole A-ASSOCIATE handshake. Default 30 s.
    #[serde(default = "handshake_timeout")]
    pub handshake_timeout: Span,
    /// An association without a message. Default 10 min.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Span,
    /// One PDU, from its first byte to its last. Default 60 s.
    #[serde(default = "progress_timeout")]
    pub progress_timeout: Span,
    /// Operations that a peer may have outstanding where it proposes that; 0 is any number. They are served in their order,
    /// and those that wait cost no memory here. Default 1: each waits for the answer before it, as most peers do.
    #[serde(default = "async_operations")]
    pub async_operations: u16,
    /// What becomes of a user identity: `"ignored"` (default), `"accepted"` or `"refused"`. One that is not accepted is
    /// rejected; a peer that offers none is admitted by titles and addresses in any case.
    #[serde(default)]
    pub user_identity: OnIdentity,
    /// `user_identity = "accepted"`: a file that only the daemon may read, with a line `NAME` or `NAME:PASSCODE` for each user
    /// that is accepted. It is read again on a reload. Default: any name is.
    pub users: Option<PathBuf>,
}

fn async_operations() -> u16 {
    1
}

impl DicomTable {
    /// As `dimse` needs it.
    pub fn acceptor(&self) -> dimse::AcceptorConfig {
        dimse::AcceptorConfig {
            max_pdu: self.max_pdu,
            timers: dimse::Timers {
                handshake: self.handshake_timeout.0,
                idle: self.idle_timeout.0,
                progress: self.progress_timeout.0,
            },
            async_operations: self.async_operations,
        }
    }
}

/// `[retry]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryTable {
    /// The first wait after a deferral; doubles each time. Default 5 s.
    pub first: Span,
    /// The longest wait between two attempts. Default 15 min.
    pub max: Span,
    /// Nacks after which a delivery is parked. Default 8.
    pub nacks_max: u32,
    /// Age at which an undelivered instance is parked. Default 30 days.
    pub age_max: Span,
    /// Deposits of one route under way at one time. Default 32.
    pub deposits_per_route: usize,
    /// How long a relay may be away before what lies there is deposited at another one. Default 15 s: a relay
    /// that is restarted is back by then, and the receiver may still be collecting from it.
    pub fail_over: Span,
    /// `respond = "delivered"`: the longest wait for the destination's answer. Default 25 s.
    pub delivered_timeout: Span,
}

impl Default for RetryTable {
    fn default() -> Self {
        Self {
            first: Span(Duration::from_secs(5)),
            max: Span(Duration::from_secs(15 * 60)),
            nacks_max: 8,
            age_max: Span(Duration::from_secs(30 * 24 * 3600)),
            deposits_per_route: 32,
            fail_over: Span(Duration::from_secs(15)),
            delivered_timeout: Span(Duration::from_secs(25)),
        }
    }
}

impl RetryTable {
    /// As the outbox needs it.
    pub fn policy(&self) -> spool::RetryPolicy {
        spool::RetryPolicy {
            first: self.first.0,
            slowest: self.max.0,
            nacks_max: self.nacks_max,
            age_max: self.age_max.0,
        }
    }
}

/// `[[route]]`. What is left away here stands in `[route_defaults]`, or has the default named here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// The AE title that the PACS sends to.
    pub ae: AeTitle,
    /// Random id shared with the receiving gateway; the relay sees only this. With several destinations each has
    /// its own.
    pub id: Option<RouteId>,
    /// The receiving gateway; with several destinations, of those that name none.
    pub to: Option<Name>,
    /// The destination's name in the receiving gateway's configuration; or several `[[route.destination]]`, to each
    /// of which every instance goes.
    pub destination: Destinations,
    /// Which instances it takes, as in `Modality == "CT"`; docs/routing.md has the language. Default: all. Several
    /// routes may have one AE title: the first one of the file whose rule holds takes the instance.
    pub when: Option<String>,
    /// Cipher suite: `"B"` (ML-KEM-768 + P-256, AES-256-GCM; default) or `"A"` (X-Wing, ChaCha20-Poly1305).
    pub suite: Option<Suite>,
    /// When the PACS sees success: `"spooled"` (default) or `"delivered"`.
    pub respond: Option<Respond>,
    /// `"urgent"` instances go before `"normal"` ones (default), those before `"bulk"`: on the line to the relay, at the
    /// relay, and at the destination. Less urgent ones always get a part. The relay learns which of the three it is.
    pub priority: Option<Priority>,
    /// When deposits may begin, as in `"Mon-Fri 20:00-06:00"`, one or several. Default: always. What the PACS is
    /// answered never waits for it.
    pub window: Option<Texts>,
    /// The time zone of `window`, as in `"Europe/Amsterdam"`. Default `"local"`: the host's.
    pub time_zone: Option<String>,
    /// How fast deposits go, as in `"20 MB/s"` or `"5 instances/s"`, one or several. Default: as fast as they can.
    pub rate: Option<Texts>,
    /// Calling AE titles that may use the route, with `*` and `?` as wild cards, and `@NAME` for those of a group;
    /// `["*"]` (default) is any.
    pub calling: Option<Vec<String>>,
    /// Source networks that may use the route (CIDR), single addresses, and `@NAME` for those of a group. Default:
    /// loopback only.
    pub sources: Option<Vec<String>>,
    /// SOP classes outside the standard's storage classes. Default true: they pass through.
    pub private_sop_classes: Option<bool>,
    /// Same SOP Instance UID, other content: `"accept"` (default; flagged, sent after the earlier one) or `"refuse"`.
    pub changed_content: Option<ChangedContent>,
    /// What the PACS is offered: `"all"` (default) is every storage class and transfer syntax, so that what the destination
    /// does not take is told after the sending; `"mirror"` is what the destination accepts, as the receiving gateway finds
    /// it out. As long as that is not known, everything, too.
    pub negotiate: Option<Negotiate>,
    /// Who answers a C-ECHO: `"local"` (default), this gateway; or `"end-to-end"`, the destination through the whole path.
    pub echo: Option<Echo>,
    /// The longest wait for the destination's answer to a C-ECHO, 1 to 25 s. Default 5 s: less than a PACS waits.
    pub echo_timeout: Option<Span>,
    /// Transfer syntax UIDs, most wanted first, when a context offers several. Default: Explicit VR Little Endian, then lossless
    /// compressed ones, Implicit VR Little Endian, Deflated, and lossy ones only where nothing else is offered.
    pub prefer: Option<Vec<base::Uid>>,
    /// `[route.pseudonymize]`: its instances are pseudonymized before anything of them leaves (PS3.15 Annex E). Default: they
    /// pass as they are. Storage commitment is never confirmed for them.
    pub pseudonymize: Option<PseudonymizeTable>,
}

impl Config {
    /// Fills in what routes leave away, for showing what holds.
    pub fn complete(&mut self) {
        let defaults = &self.route_defaults;
        for route in &mut self.routes {
            route.suite = route.suite.or(defaults.suite).or_else(|| Some(Suite::default()));
            route.respond = route.respond.or(defaults.respond).or_else(|| Some(Respond::default()));
            route.priority = route.priority.or(defaults.priority).or_else(|| Some(Priority::default()));
            let yes = || Some(true);
            route.private_sop_classes =
                route.private_sop_classes.or(defaults.private_sop_classes).or_else(yes);
            let accept = || Some(ChangedContent::default());
            route.changed_content = route.changed_content.or(defaults.changed_content).or_else(accept);
            fill(&mut route.to, &defaults.to);
            fill(&mut route.window, &defaults.window);
            fill(&mut route.time_zone, &defaults.time_zone);
            fill(&mut route.rate, &defaults.rate);
            fill(&mut route.calling, &defaults.calling);
            fill(&mut route.sources, &defaults.sources);
            fill(&mut route.prefer, &defaults.prefer);
            fill(&mut route.pseudonymize, &defaults.pseudonymize);
            route.negotiate = route.negotiate.or(defaults.negotiate).or_else(|| Some(Negotiate::default()));
            route.echo = route.echo.or(defaults.echo).or_else(|| Some(Echo::default()));
            route.echo_timeout =
                route.echo_timeout.or(defaults.echo_timeout).or_else(|| Some(echo_timeout()));
            route.calling.get_or_insert_with(|| vec!["*".to_owned()]);
            route.sources.get_or_insert_with(|| LOOPBACK.map(str::to_owned).into());
            route.prefer.get_or_insert_default();
        }
    }
}

/// The networks that may use a route which names none.
pub const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

fn fill<T: Clone>(own: &mut Option<T>, default: &Option<T>) {
    if own.is_none() {
        own.clone_from(default);
    }
}

/// `[route_defaults]`: what a `[[route]]` says where it leaves a key away. The keys mean what they mean there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteDefaults {
    /// The receiving gateway. No default.
    pub to: Option<Name>,
    /// Default `"B"`.
    pub suite: Option<Suite>,
    /// Default `"spooled"`.
    pub respond: Option<Respond>,
    /// Default `"normal"`.
    pub priority: Option<Priority>,
    /// Default: always open.
    pub window: Option<Texts>,
    /// Default `"local"`.
    pub time_zone: Option<String>,
    /// Default: no limit.
    pub rate: Option<Texts>,
    /// Default `["*"]`.
    pub calling: Option<Vec<String>>,
    /// Default: loopback only.
    pub sources: Option<Vec<String>>,
    /// Default true.
    pub private_sop_classes: Option<bool>,
    /// Default `"accept"`.
    pub changed_content: Option<ChangedContent>,
    /// Default: as in `[[route]]`.
    pub prefer: Option<Vec<base::Uid>>,
    /// Default `"all"`.
    pub negotiate: Option<Negotiate>,
    /// Default `"local"`.
    pub echo: Option<Echo>,
    /// Default 5 s.
    pub echo_timeout: Option<Span>,
    /// Default: instances pass as they are. A route says `pseudonymize.profile = "none"` to have that nevertheless.
    pub pseudonymize: Option<PseudonymizeTable>,
}

/// A text, or several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTexts;
        impl<'de> Visitor<'de> for TextOrTexts {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or an array of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, texts: A) -> Result<Texts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(texts)).map(Texts)
            }
        }
        deserializer.deserialize_any(TextOrTexts)
    }
}

/// `destination`: a name, or tables.
#[derive(Debug, Clone)]
pub enum Destinations {
    /// `destination = "NAME"`, with `id` and `to` beside it.
    One(Name),
    /// `[[route.destination]]`, once or more.
    Several(Vec<DestinationTable>),
}

/// `[[route.destination]]`: one of several destinations of a route.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationTable {
    /// Random id shared with the receiving gateway; the relay sees only this. Another one for each destination.
    pub id: RouteId,
    /// The receiving gateway. Default: the route's.
    pub to: Option<Name>,
    /// The destination's name in the receiving gateway's configuration.
    pub name: Name,
    /// When deposits for it may begin. Default: the route's.
    pub window: Option<Texts>,
    /// How fast deposits for it go. Default: the route's, for each destination by itself.
    pub rate: Option<Texts>,
}

impl Serialize for Destinations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(name) => name.serialize(serializer),
            Self::Several(tables) => tables.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Destinations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand, so that an error inside a table keeps its place in the file.
        struct NameOrTables;
        impl<'de> Visitor<'de> for NameOrTables {
            type Value = Destinations;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a destination, or [[route.destination]] tables")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Destinations, E> {
                Name::parse(text).map(Destinations::One).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<Destinations, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(tables)).map(Destinations::Several)
            }
        }
        deserializer.deserialize_any(NameOrTables)
    }
}

/// When the PACS sees success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Respond {
    /// After the sealed instance is on disk.
    #[default]
    Spooled,
    /// After the destination's own answer, which is passed on.
    Delivered,
}

/// Whose turn comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    Urgent,
    /// As most are.
    #[default]
    Normal,
    /// When nothing else is to be done.
    Bulk,
}

impl From<Priority> for Urgency {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Urgent => Self::Urgent,
            Priority::Normal => Self::Normal,
            Priority::Bulk => Self::Bulk,
        }
    }
}

/// What the PACS is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negotiate {
    /// Every storage class and transfer syntax.
    #[default]
    All,
    /// What the destination accepts.
    Mirror,
}

/// Who answers a C-ECHO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Echo {
    /// This gateway.
    #[default]
    Local,
    /// The destination.
    EndToEnd,
}

/// What happens to a known SOP Instance UID with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangedContent {
    /// Taken, flagged, and sent only after the earlier version has settled.
    #[default]
    Accept,
    /// Refused with a status of ours in the Cxxx range.
    Refuse,
}

fn outbox_bytes_max() -> ByteSize {
    ByteSize(100 << 30)
}
fn outbox_reserve() -> ByteSize {
    ByteSize(1 << 30)
}
fn max_pdu_default() -> u32 {
    256 * 1024
}
fn associations_max() -> usize {
    64
}
fn associations_per_peer_max() -> usize {
    32
}
fn handshake_timeout() -> Span {
    Span(Duration::from_secs(30))
}
fn idle_timeout() -> Span {
    Span(Duration::from_secs(600))
}
fn progress_timeout() -> Span {
    Span(Duration::from_secs(60))
}
/// Of a C-ECHO through the whole path.
pub fn echo_timeout() -> Span {
    Span(Duration::from_secs(5))
}
