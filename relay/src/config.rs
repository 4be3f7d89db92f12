use std::net::SocketAddr;
use std::path::PathBuf;

use base::Name;
use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Span};
use service::peers::{AdminTable, IdentityTable};
use service::telemetry::LogConfig;

/// `relay.toml`. Relative paths start at the file's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this relay is.
    pub identity: IdentityTable,
    /// Where gateways connect.
    pub quic: QuicTable,
    /// What it may hold.
    #[serde(default)]
    pub memory: MemoryTable,
    /// The gateways it serves.
    #[serde(default, rename = "tenant")]
    pub tenants: Vec<TenantTable>,
    /// Health and status over HTTP.
    pub admin: AdminTable,
    /// What is logged, to standard error.
    #[serde(default)]
    pub log: LogConfig,
}

/// `[quic]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuicTable {
    /// Address and UDP port.
    pub listen: SocketAddr,
}

/// `[memory]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryTable {
    /// Bytes of all bodies and waiting settlements together. Default 1 GiB. The process needs about 10 % more.
    pub budget: ByteSize,
    /// A body above this passes through without being held as a whole. Default 128 MiB.
    pub hold_max: ByteSize,
    /// How long a body that nobody has under lease is held. Default 15 min: well below the hour that a session lives.
    pub ttl: Span,
    /// A lease ends this long after its last renewal. Default 30 s.
    pub lease: Span,
}

impl Default for MemoryTable {
    fn default() -> Self {
        Self {
            budget: ByteSize(1024 * 1024 * 1024),
            hold_max: ByteSize(128 * 1024 * 1024),
            ttl: Span::from_secs(15 * 60),
            lease: Span::from_secs(30),
        }
    }
}

/// `[[tenant]]`: a pinned gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantTable {
    /// The name on its card.
    pub name: Name,
    /// Its card file.
    pub card: PathBuf,
    /// Bytes that its deposits may hold. Default: four fifths of the whole budget, which is also the most.
    #[serde(default)]
    pub budget: Option<ByteSize>,
    /// The tenants it may deposit for. Empty for a gateway that only collects.
    #[serde(default)]
    pub deposit_for: Vec<Name>,
}
