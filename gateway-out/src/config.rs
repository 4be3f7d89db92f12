//! What the operator writes: one struct per table of `gateway-out.toml`, each field with its unit,
//! default and reason. [`Config::check`] turns it into [`Settings`](crate::settings::Settings), which
//! cannot be wrong.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use base::{AeTitle, Name, RouteId};
use envelope::{Padding, Suite};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use service::{
    TransparencyTable,
    config::{ByteSize, Span},
    own::IdentityTable,
    peers::{AdminTable, PeerTable, RelayTable},
    telemetry::LogConfig,
};

use crate::commitment::CommitmentTable;

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
    #[serde(rename = "relay")]
    pub relays: Vec<RelayTable>,
    /// Receiving gateways, pinned by their card.
    #[serde(rename = "peer", default)]
    pub peers: Vec<PeerTable>,
    /// One AE title each.
    #[serde(rename = "route", default)]
    pub routes: Vec<RouteTable>,
    /// Who may ask for storage commitment.
    #[serde(rename = "commitment", default)]
    pub commitments: Vec<CommitmentTable>,
    /// What is expected of the relays' logs.
    #[serde(default)]
    pub transparency: TransparencyTable,
    /// Health and status over HTTP.
    pub admin: AdminTable,
    /// Log lines.
    #[serde(default)]
    pub log: LogConfig,
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
    /// Address and port of the DICOM listener.
    pub listen: SocketAddr,
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
            ..dimse::AcceptorConfig::default()
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

/// `[[route]]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// Random id shared with the receiving gateway; the relay sees only this.
    pub id: RouteId,
    /// The AE title that the PACS sends to.
    pub ae: AeTitle,
    /// The receiving gateway.
    pub to: Name,
    /// The destination's name in the receiving gateway's configuration.
    pub destination: Name,
    /// Cipher suite: `"B"` (ML-KEM-768 + P-256, AES-256-GCM; default) or `"A"` (X-Wing, ChaCha20-Poly1305).
    #[serde(default)]
    pub suite: Suite,
    /// When the PACS sees success: `"spooled"` (default) or `"delivered"`.
    #[serde(default)]
    pub respond: Respond,
    /// Calling AE titles that may use the route; `["*"]` (default) is any.
    #[serde(default = "any")]
    pub calling: Vec<String>,
    /// Source networks that may use the route (CIDR). Default: loopback only.
    #[serde(default = "loopback")]
    pub sources: Vec<IpNet>,
    /// SOP classes outside the standard's storage classes. Default true: they pass through.
    #[serde(default = "yes")]
    pub private_sop_classes: bool,
    /// Same SOP Instance UID, other content: `"accept"` (default; flagged, sent after the earlier one) or `"refuse"`.
    #[serde(default)]
    pub changed_content: ChangedContent,
    /// Transfer syntax UIDs, most wanted first, when a context offers several. Default: the rule of DESIGN §6.
    #[serde(default)]
    pub prefer: Vec<base::Uid>,
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
fn any() -> Vec<String> {
    vec!["*".to_owned()]
}
fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse().ok()).collect()
}
fn yes() -> bool {
    true
}
