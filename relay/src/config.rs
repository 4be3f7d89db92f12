use std::net::SocketAddr;
use std::path::PathBuf;

use base::{Fingerprint, Name};
use identity::PeerCard;
use sandbox::SandboxTable;
use serde::{Deserialize, Serialize};
use service::alarm::AlarmTable;
use service::config::{ByteSize, Span};
use service::own::IdentityTable;
use service::peers::AdminTable;
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
    /// Gateways that are not admitted, whatever the tables above say. Written by `relay revoke`.
    #[serde(default)]
    pub revoked: Vec<RevokedTable>,
    /// The verifiable log.
    #[serde(default)]
    pub transparency: TransparencyTable,
    /// Who is told when something is wrong.
    #[serde(default)]
    pub alarm: Option<AlarmTable>,
    /// Health and status over HTTP.
    pub admin: AdminTable,
    /// What is logged, to standard error.
    #[serde(default)]
    pub log: LogConfig,
    /// How the process is locked down.
    #[serde(default)]
    pub sandbox: SandboxTable,
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

/// `[transparency]`: the log of what was accepted and settled (`[log]` is what goes to standard error).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransparencyTable {
    /// The shortest time between two signed heads. Default 500 ms: a proof waits so long at most, and signing costs
    /// little.
    pub interval: Span,
    /// Entries of one epoch, two for each instance. Default 4,194,304. Each costs about 45 bytes of memory, beside
    /// `memory.budget`. A full epoch is closed and another begins, which the gateways are told.
    pub entries_max: u64,
    /// A folder of its own, where the log is kept over restarts: salted digests and times, 48 bytes an entry, nothing else. It is made
    /// when it is not there. Default: none; each start begins another log, and the relay may write no file at all.
    pub dir: Option<PathBuf>,
}

impl Default for TransparencyTable {
    fn default() -> Self {
        Self { interval: Span::from_millis(500), entries_max: 4 * 1024 * 1024, dir: None }
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
    /// The tenants that may deposit for it: the same said from the other side, so that a new receiver needs no change
    /// of its senders' tables.
    #[serde(default)]
    pub deposit_from: Vec<Name>,
    /// Body bytes that it may deposit in a second. Default: no limit. More waits at the sender and is never dropped.
    #[serde(default)]
    pub bytes_per_second: Option<ByteSize>,
    /// Deposits that it may begin in a second. Default: no limit.
    #[serde(default)]
    pub deliveries_per_second: Option<u64>,
}

impl RevokedTable {
    /// Whether it is about the gateway of this card: by what names it, or by any of its identities.
    pub(crate) fn means(&self, card: &PeerCard) -> bool {
        card.id() == self.fingerprint
            || card.all_identities().any(|identity| identity.fingerprint() == self.fingerprint)
    }
}

impl TenantTable {
    /// A gateway that may do nothing yet.
    pub fn new(name: Name, card: PathBuf) -> Self {
        Self {
            name,
            card,
            budget: None,
            deposit_for: Vec::new(),
            deposit_from: Vec::new(),
            bytes_per_second: None,
            deliveries_per_second: None,
        }
    }

    /// The table as a file of `conf.d`.
    pub fn to_toml(&self) -> String {
        let card = self.card.display().to_string();
        let mut text = format!(
            "# Written by `relay admit`; may be edited.\n[[tenant]]\nname = \"{}\"\ncard = {card:?}\n",
            self.name
        );
        for (key, names) in [("deposit_for", &self.deposit_for), ("deposit_from", &self.deposit_from)] {
            let names: Vec<_> = names.iter().map(Name::as_str).collect();
            if !names.is_empty() {
                text.push_str(&format!("{key} = {names:?}\n"));
            }
        }
        for (key, size) in [("budget", self.budget), ("bytes_per_second", self.bytes_per_second)] {
            text.extend(size.map(|size| format!("{key} = \"{size}\"\n")));
        }
        text.extend(self.deliveries_per_second.map(|rate| format!("deliveries_per_second = {rate}\n")));
        text
    }
}

/// `[[revoked]]`: a gateway that is not admitted any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedTable {
    /// As its `[[tenant]]` is called; for people.
    pub name: Name,
    /// All of the fingerprint of its first identity, or of one on its card, 64 hexadecimal digits: no card with these keys, or of
    /// keys that follow on them, is admitted.
    pub fingerprint: Fingerprint,
    /// When; for people.
    #[serde(default)]
    pub at: String,
}
