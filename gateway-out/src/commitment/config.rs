//! `[[commitment]]`: who may ask for storage commitment, and how it is answered.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base::AeTitle;
use dimse::{
    ContextChoice, ContextDecision, ContextRejection, Dialer, EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN, PeerTls, Proposal, STORAGE_COMMITMENT,
};
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Loaded, Span};

use crate::config::Config;

/// `[[commitment]]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitmentTable {
    /// The AE title that asks (calling), and that is told (called).
    pub ae: AeTitle,
    /// Address and port where it listens for the N-EVENT-REPORT. Required: also a peer that waits on its own association
    /// may have to be told on a new one.
    pub address: Option<SocketAddr>,
    /// `{ ca = "…", cert = "…", key = "…", name = "…" }`, PEM files: it is told over TLS 1.2 or 1.3, where it is told on a
    /// new association. It has to show a certificate of `ca` with the `name` (default: its address; `"*"` is any), and is
    /// shown `cert`. Default: without TLS.
    pub tls: Option<PeerTls>,
    /// Other calling AE titles under which it sends instances. Default none: it may ask only for what came under `ae`.
    #[serde(default)]
    pub sends_as: Vec<AeTitle>,
    /// Where the report goes: `"new"` (default), an association of our own; or `"same"`, the one that asked, as long as it
    /// is open. Many peers release that one at once, and a report would meet their release.
    #[serde(default)]
    pub on: On,
    /// What "committed" means: `"delivered"` (default), every destination has stored it, and has committed itself where the
    /// receiving gateway asks it to; `"committed"`, every destination has committed itself, and one that is not asked to has
    /// failed; or `"outbox"`, it is on our disk, and a destination may still refuse it.
    #[serde(default)]
    pub means: Means,
    /// What is not decided by then is reported as failed, so that the peer keeps its copy. Default 24 h.
    #[serde(default = "timeout_default")]
    pub timeout: Span,
    /// How long after the request an instance may still come that was not sent before. Default 10 min: some modalities ask
    /// while they send.
    #[serde(default = "arrival_default")]
    pub arrival: Span,
    /// Requests of this peer that may be open at one time; more are answered 0213. Default 1000.
    #[serde(default = "open_max_default")]
    pub open_max: u32,
    /// Instances of one request; more are answered 0213. Default 20000, at most 100000.
    #[serde(default = "instances_max_default")]
    pub instances_max: u32,
}

/// Where a report goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// An association of its own.
    #[default]
    New,
    /// The one that asked, while it is open; else as `New`.
    Same,
}

/// What "committed" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// A receipt that says stored from every destination; and a second one that it has committed itself, where the first
    /// one says that it is asked to.
    #[default]
    Delivered,
    /// A receipt from every destination that it has committed itself.
    Committed,
    /// Durable in the outbox.
    Outbox,
}

impl From<Means> for spool::Means {
    fn from(means: Means) -> Self {
        match means {
            Means::Delivered => Self::Delivered,
            Means::Committed => Self::Committed,
            Means::Outbox => Self::Outbox,
        }
    }
}

fn timeout_default() -> Span {
    Span(Duration::from_secs(24 * 3600))
}
fn arrival_default() -> Span {
    Span(Duration::from_secs(600))
}
fn open_max_default() -> u32 {
    1000
}
fn instances_max_default() -> u32 {
    20_000
}

/// A checked entry.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The table as it was written.
    pub table: CommitmentTable,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is called: with TLS, or without.
    pub dialer: Dialer,
}

impl Peer {
    /// Calling AE titles whose instances it may ask for.
    pub fn callers(&self) -> Vec<AeTitle> {
        let titles = std::iter::once(&self.table.ae).chain(&self.table.sends_as);
        titles.cloned().collect()
    }

    /// What an operator should think about twice.
    pub fn warning(&self) -> Option<String> {
        let outbox = self.table.means == Means::Outbox;
        outbox.then(|| {
            format!(
                "commitment for {}: means = \"outbox\" tells it that its instances are safe before any destination has \
                 stored them; if it deletes its copies then, the outbox has the only ones",
                self.table.ae
            )
        })
    }
}

/// All entries. A reload exchanges them.
///
/// The lock guards the list only and is never held across an await.
#[derive(Debug, Default)]
pub struct Peers(RwLock<Arc<Vec<Arc<Peer>>>>);

impl Peers {
    /// Checks the tables of a configuration.
    pub fn check(loaded: &Loaded<Config>) -> Result<Self, ConfigError> {
        let (mut titles, mut peers) = (HashSet::new(), Vec::new());
        for (i, table) in loaded.config.commitments.iter().enumerate() {
            let refuse =
                |key: &str, message: String| Err(loaded.error(&format!("commitment[{i}].{key}"), message));
            if !titles.insert(&table.ae) {
                return refuse(
                    "ae",
                    format!("two [[commitment]] tables have the AE title {}; put both into one", table.ae),
                );
            }
            let Some(address) = table.address else {
                let message = format!(
                    "missing; give the address and port where {} listens for the N-EVENT-REPORT",
                    table.ae
                );
                return refuse("address", message);
            };
            if table.timeout.0.is_zero() {
                return refuse(
                    "timeout",
                    "0: every request would fail at once; give hours, as in \"24h\"".to_owned(),
                );
            }
            if table.arrival.0 > table.timeout.0 {
                return refuse(
                    "arrival",
                    "it is longer than `timeout`, which ends the request; give less".to_owned(),
                );
            }
            let most = u32::try_from(dataset::commitment::INSTANCES_MAX).unwrap_or(u32::MAX);
            if !(1..=most).contains(&table.instances_max) {
                return refuse(
                    "instances_max",
                    format!("{} is out of range; give 1 to {most}", table.instances_max),
                );
            }
            if table.open_max == 0 {
                return refuse("open_max", "0: no request would be taken; leave the table out".to_owned());
            }
            let dialer = Dialer::of(table.tls.as_ref(), |file| loaded.resolve(file), address.ip());
            let dialer = match dialer {
                Ok(dialer) => dialer,
                Err(refused) => return refuse(&format!("tls.{}", refused.key), refused.to_string()),
            };
            peers.push(Arc::new(Peer { table: table.clone(), address, dialer }));
        }
        Ok(Self(RwLock::new(Arc::new(peers))))
    }

    /// The entry of a calling AE title.
    pub fn of(&self, calling: &AeTitle) -> Option<Arc<Peer>> {
        self.now().iter().find(|peer| peer.table.ae == *calling).cloned()
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Peer>> + use<> {
        self.now().as_ref().clone().into_iter()
    }

    /// Exchanges all of them.
    pub fn exchange(&self, peers: &Self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = peers.now();
    }

    /// Accepts contexts of Storage Commitment for those who may ask, whatever was decided about them before.
    pub fn offer(&self, proposal: &Proposal, decisions: &mut [ContextDecision]) {
        if self.of(&proposal.calling).is_none() {
            return;
        }
        let ours = |id| {
            let mut contexts = proposal.contexts.iter();
            contexts
                .find(|context| context.id == id && context.abstract_syntax.as_str() == STORAGE_COMMITMENT)
        };
        for decision in decisions {
            if let Some(context) = ours(decision.id) {
                let readable = |uid: &&base::Uid| {
                    [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN].contains(&uid.as_str())
                };
                decision.choice = match context.transfer_syntaxes.iter().find(readable) {
                    Some(uid) => ContextChoice::Accept(uid.clone()),
                    None => ContextChoice::Reject(ContextRejection::TransferSyntaxesNotSupported),
                };
            }
        }
    }

    fn now(&self) -> Arc<Vec<Arc<Peer>>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tables: &str) -> Result<Peers, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        let rest = "relay = []\nidentity = { key = \"key\", log_key = \"log\", card = \"card\" }\n\
            outbox = { dir = \"outbox\", key = \"key\", index_key = \"key\" }\n\
            dicom.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n";
        std::fs::write(&file, format!("{rest}{tables}")).unwrap();
        let loaded =
            service::config::load::<Config>(&file, "SLUIS_NOT_SET_").map_err(|error| error.to_string())?;
        Peers::check(&loaded).map_err(|error| error.to_string())
    }

    #[test]
    fn contradictions_are_refused_where_they_stand() {
        let good = "[[commitment]]\nae = \"CT1\"\naddress = \"192.0.2.7:104\"\n";
        let cases = [
            (good.to_owned(), ""),
            ("[[commitment]]\nae = \"CT1\"\n".to_owned(), "where CT1 listens for the N-EVENT-REPORT"),
            (good.repeat(2), "two [[commitment]] tables have the AE title CT1"),
            (format!("{good}timeout = \"0s\""), "would fail at once"),
            (format!("{good}timeout = \"5min\""), "longer than `timeout`"),
            (format!("{good}instances_max = 0"), "give 1 to 100000"),
            (format!("{good}instances_max = 100001"), "give 1 to 100000"),
            (format!("{good}open_max = 0"), "leave the table out"),
            (format!("{good}on = \"other\""), "on"),
            (
                format!("{good}tls = {{ ca = \"ca\", cert = \"cert\", key = \"key\" }}"),
                "`commitment[0].tls.cert`: ",
            ),
            (format!("{good}adress = \"192.0.2.7:104\""), "adress"),
        ];
        for (tables, refused) in cases {
            match (check(&tables), refused) {
                (Ok(_), "") => {}
                (Err(error), refused) if !refused.is_empty() && error.contains(refused) => {
                    assert!(error.contains("x.toml:"), "{error}");
                }
                (outcome, _) => panic!("{tables}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn only_what_is_risky_is_warned_about() {
        let of = |rest: &str| {
            let table = format!(
                "[[commitment]]\nae = \"CT1\"\naddress = \"192.0.2.7:104\"\nsends_as = [\"CT2\"]\n{rest}"
            );
            check(&table).unwrap().of(&AeTitle::parse("CT1").unwrap()).unwrap()
        };
        assert_eq!(of("").warning(), None);
        assert_eq!(of("").callers().len(), 2);
        assert!(of("means = \"outbox\"").warning().unwrap().contains("CT1"));
    }
}
