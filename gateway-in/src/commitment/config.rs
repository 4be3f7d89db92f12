//! `[commitment]`, and `means = "committed"` of a `[[destination]]` with its `[destination.commitment]`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use dimse::{Doorkeeper, ListenTls};
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Loaded, Span};
use spool::LedgerKey;

use crate::config::{Config, DestinationTable, Kind};

/// What counts as delivered for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// The destination has stored it.
    #[default]
    Delivered,
    /// It is also asked for storage commitment, and senders are told what it says.
    Committed,
}

/// `[commitment]`: what is needed to ask destinations for storage commitment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitmentTable {
    /// File of the key that seals which instances a destination is asked for, until it has answered; made by
    /// `gateway-in key ledger FILE`. Without it the question would leave UIDs of patients in the ledger.
    pub key: PathBuf,
    /// Address and port where destinations report on associations of their own, as most do. Without one, and without
    /// `tls`, only reports on the association that asked arrive.
    pub listen: Option<SocketAddr>,
    /// `{ listen = "…", cert = "…", key = "…", clients = "…" }`, PEM files: the port on which they report over TLS.
    pub tls: Option<ListenTls>,
}

/// `[destination.commitment]`: how a destination is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AskTable {
    /// Instances of one study are asked for together, as soon as none has come for this long. Default 5 s; after 12 times
    /// as long those that are there are asked for in any case.
    pub quiet: Span,
    /// Instances of one N-ACTION at most, 1 to 10000. Default 500.
    pub instances_max: u32,
    /// How long the association that asked is kept open for the report. Default 10 s.
    pub stay: Span,
    /// Without a report for this long it is asked anew, under another Transaction UID. Default 1 h.
    pub report_timeout: Span,
    /// What the destination has not answered by then, from its C-STORE on, is reported to the sender as not committed.
    /// Default 20 h: before the 24 h that a sending gateway gives its modalities.
    pub timeout: Span,
    /// Addresses from which it reports. Default: its own `address`.
    pub from: Vec<IpAddr>,
}

impl Default for AskTable {
    fn default() -> Self {
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        Self {
            quiet: seconds(5),
            instances_max: 500,
            stay: seconds(10),
            report_timeout: seconds(3600),
            timeout: seconds(20 * 3600),
            from: Vec::new(),
        }
    }
}

/// A checked `[commitment]`.
#[derive(Debug, Clone)]
pub struct CommitmentSettings {
    /// Seals names of instances.
    pub key: Arc<LedgerKey>,
    /// The port without TLS.
    pub listen: Option<SocketAddr>,
    /// The port with TLS, and its certificates.
    pub tls: Option<(SocketAddr, Doorkeeper)>,
}

/// How a destination is asked, checked.
#[derive(Debug, Clone)]
pub struct AskSettings {
    /// As it was written.
    pub table: AskTable,
    /// Addresses from which it reports.
    pub from: Vec<IpAddr>,
}

const INSTANCES_MAX: u32 = 10_000;
/// So many times `quiet` a group is waited for at most, however busy it is.
const QUIETS_MAX: u32 = 12;

impl AskSettings {
    /// How long a group is waited for at most; and what a destination has no room for, until it is asked for anew.
    pub fn again_after(&self) -> Duration {
        self.table.quiet.0.saturating_mul(QUIETS_MAX).max(Duration::from_secs(1))
    }
}

/// Checks `[commitment]`.
pub(crate) fn check(loaded: &Loaded<Config>) -> Result<Option<CommitmentSettings>, ConfigError> {
    let Some(table) = &loaded.config.commitment else { return Ok(None) };
    let refuse = |key: &str, message: String| loaded.error(&format!("commitment.{key}"), message);
    let key = LedgerKey::load(&loaded.resolve(&table.key)).map_err(|error| {
        refuse("key", format!("{error}; `gateway-in key ledger FILE` makes one that is not there yet"))
    })?;
    let tls = match &table.tls {
        None => None,
        Some(tls) => {
            let keeper = tls.read(|file| loaded.resolve(file));
            let keeper =
                keeper.map_err(|refused| refuse(&format!("tls.{}", refused.key), refused.to_string()))?;
            Some((tls.listen, keeper))
        }
    };
    Ok(Some(CommitmentSettings { key: Arc::new(key), listen: table.listen, tls }))
}

/// Checks `means` and `[destination.commitment]`.
pub(crate) fn check_destination(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<Option<AskSettings>, ConfigError> {
    let refuse = |key: &str, message: String| Err(loaded.error(&format!("destination[{i}].{key}"), message));
    if table.means == Means::Delivered {
        return match table.commitment {
            Some(_) => refuse("commitment", "it is not asked: write `means = \"committed\"`, too".to_owned()),
            None => Ok(None),
        };
    }
    let (true, Some(address)) = (table.kind == Kind::Dicom, table.address) else {
        let message = "only an application entity can commit itself, a folder cannot; remove it";
        return refuse("means", message.to_owned());
    };
    if loaded.config.commitment.is_none() {
        let message = format!(
            "there is no [commitment] table with the `key` that asking {} needs; add one",
            table.name
        );
        return refuse("means", message);
    }
    let ask = table.commitment.clone().unwrap_or_default();
    if !(1..=INSTANCES_MAX).contains(&ask.instances_max) {
        let message = format!("{} is out of range; give 1 to {INSTANCES_MAX}", ask.instances_max);
        return refuse("commitment.instances_max", message);
    }
    if ask.report_timeout.0.is_zero() {
        return refuse("commitment.report_timeout", "0: no report would be in time".to_owned());
    }
    if ask.timeout.0 <= ask.quiet.0 {
        let message = "not longer than `quiet`: it would be given up before it is asked".to_owned();
        return refuse("commitment.timeout", message);
    }
    let from = if ask.from.is_empty() { vec![address.ip()] } else { ask.from.clone() };
    Ok(Some(AskSettings { table: ask, from }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused_where_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        LedgerKey::generate_file(&dir.path().join("ledger.key")).unwrap();
        let file = dir.path().join("x.toml");
        let rest = "relay = []\nidentity = { key = \"key\", log_key = \"log\", card = \"card\" }\nledger.dir = \"ledger\"\nadmin.listen = \"127.0.0.1:0\"\n";
        let pacs = "[[destination]]\nname = \"p\"\nkind = \"dicom\"\nae = \"P\"\naddress = \"192.0.2.7:104\"\ncalling = \"GW\"\n";
        let folder = "[[destination]]\nname = \"f\"\nkind = \"folder\"\ndir = \"f\"\n";
        let (with, means) = ("[commitment]\nkey = \"ledger.key\"\n", "means = \"committed\"\n");
        let cases = [
            (format!("{with}{pacs}{means}"), ""),
            (format!("{with}{pacs}{means}commitment = {{ from = [\"192.0.2.9\"] }}\n"), ""),
            (pacs.to_owned(), ""),
            (format!("{pacs}{means}"), "no [commitment] table"),
            (format!("{with}{folder}{means}"), "a folder cannot"),
            (format!("{with}{pacs}commitment = {{ quiet = \"1s\" }}\n"), "write `means = \"committed\"`"),
            (format!("{with}{pacs}{means}commitment = {{ instances_max = 0 }}\n"), "give 1 to 10000"),
            (
                format!("{with}{pacs}{means}commitment = {{ timeout = \"5s\" }}\n"),
                "given up before it is asked",
            ),
            (format!("{with}{pacs}{means}commitment = {{ report_timeout = \"0s\" }}\n"), "in time"),
            (format!("{with}{pacs}{means}commitment = {{ quite = \"1s\" }}\n"), "quite"),
            (format!("[commitment]\nkey = \"nowhere.key\"\n{pacs}{means}"), "gateway-in key ledger"),
        ];
        for (tables, refused) in cases {
            std::fs::write(&file, format!("{rest}{tables}")).unwrap();
            let checked = service::config::load::<Config>(&file, "SLUIS_NOT_SET_").and_then(|loaded| {
                check(&loaded)?;
                check_destination(&loaded, 0, &loaded.config.destinations[0])
            });
            match (checked, refused) {
                (Ok(_), "") => {}
                (Err(error), refused) if !refused.is_empty() => {
                    let error = error.to_string();
                    assert!(error.contains(refused) && error.contains("x.toml"), "{error}");
                }
                (outcome, _) => panic!("{tables}: {outcome:?}"),
            }
        }
    }
}
