//! The status page of a gateway: a value that says what stands where, and its rendering. Who asks may be anybody who reaches the
//! admin port, and the page may hang on a wall: names of the configuration, counts, ages and statuses, and nothing that an instance
//! or a destination says in its own words.
//!
//! A state is a word with a sign of its own, so that it is read without its colour.

mod chart;
mod page;
mod sections;
mod table;
pub mod words;

use std::path::PathBuf;
use std::time::Duration;

use base::Timestamp;
use identity::{PeerCard, Validity};

use crate::config::FilesRead;
use crate::throughput::Day;
use crate::witness::Shown;

pub use chart::Series;
pub use table::{Cell, Table};

/// How good it is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing is owed, or it is on its way.
    Good,
    /// It waits for something that comes by itself, such as a time window.
    Waiting,
    /// Something is away or asks to wait: it goes on by itself when that is over.
    HeldUp,
    /// It does not go on before somebody acts.
    Alarmed,
}

impl Standing {
    /// The word that is shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Waiting => "waiting",
            Self::HeldUp => "held up",
            Self::Alarmed => "alarmed",
        }
    }

    /// A sign beside the word; each has its own shape.
    const fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Waiting => "…",
            Self::HeldUp => "‖",
            Self::Alarmed => "!",
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Good => "standing is-good",
            Self::Waiting => "standing is-waiting",
            Self::HeldUp => "standing is-held-up",
            Self::Alarmed => "standing is-alarmed",
        }
    }
}

/// A standing and why it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How good it is.
    pub standing: Standing,
    /// In words.
    pub why: String,
}

impl Verdict {
    /// Both.
    pub fn new(standing: Standing, why: impl Into<String>) -> Self {
        Self { standing, why: why.into() }
    }
}

/// Everything that a page shows.
#[derive(Debug)]
pub struct Overview {
    /// What the daemon is called, as in `gateway-out`.
    pub role: &'static str,
    /// The name on its card.
    pub name: String,
    /// Its version.
    pub version: &'static str,
    /// The fingerprint of its identity, as people compare it.
    pub fingerprint: String,
    /// When all of this was so.
    pub now: Timestamp,
    /// When the process started: counts begin there.
    pub started_at: Timestamp,
    /// Why it is not ready, if it is not.
    pub not_ready: Option<String>,
    /// What `status` shows as alarms.
    pub alarms: Vec<String>,
    /// Why the last reload was refused, if it was.
    pub reload_refused: Option<String>,
    /// The figures at the top.
    pub figures: Vec<Figure>,
    /// What passed in the last day.
    pub series: Vec<Series>,
    /// Each way that instances take.
    pub routes: Vec<RouteLine>,
    /// Tables of the one role only.
    pub tables: Vec<Table>,
    /// Links to relays.
    pub relays: Vec<RelayLine>,
    /// Gateways on the other side, and we ourselves.
    pub peers: Vec<PeerLine>,
    /// Disks that can become full.
    pub disks: Vec<Disk>,
    /// What was read, and when.
    pub configuration: FilesRead,
}

/// One large figure.
#[derive(Debug)]
pub struct Figure {
    /// What is counted.
    pub label: &'static str,
    /// The figure.
    pub value: String,
    /// What belongs to it.
    pub note: String,
}

/// One way that instances take.
#[derive(Debug)]
pub struct RouteLine {
    /// Where it begins.
    pub from: String,
    /// Where it leads.
    pub to: String,
    /// How it stands.
    pub verdict: Verdict,
    /// The age of the oldest instance that has not ended.
    pub oldest: Option<Duration>,
    /// How many are in which state, in the order of a life. Zeroes are left out.
    pub states: Vec<(&'static str, u64)>,
    /// Bytes of those that have not ended, where they are known.
    pub bytes: Option<u64>,
}

/// A link to a relay.
#[derive(Debug)]
pub struct RelayLine {
    /// Its name.
    pub name: String,
    /// The link stands.
    pub connected: bool,
    /// Why the relay does not let us in, as far as it has said so.
    pub refused: Option<String>,
    /// Something came from it last.
    pub last_contact: Option<Timestamp>,
    /// Its log.
    pub log: Shown,
}

impl RelayLine {
    /// How it stands. `alone`: no other relay is connected in its place.
    pub fn verdict(&self, alone: bool) -> Verdict {
        if let Some(distrust) = &self.log.distrust {
            return Verdict::new(Standing::Alarmed, format!("not used: {distrust}"));
        }
        if let Some(refused) = self.refused.as_ref().filter(|_| !self.connected) {
            return Verdict::new(Standing::Alarmed, refused.clone());
        }
        if let Some(since) = self.log.silent_since {
            let since = crate::text::utc(since);
            return Verdict::new(Standing::Alarmed, format!("no new head of its log since {since}"));
        }
        match (self.connected, alone) {
            (true, _) => Verdict::new(Standing::Good, "connected"),
            (false, true) => Verdict::new(Standing::HeldUp, "not connected, and there is no other"),
            (false, false) => Verdict::new(Standing::Waiting, "not connected; another relay is used"),
        }
    }

    fn is_used(&self) -> bool {
        self.connected && self.log.distrust.is_none()
    }
}

/// Somebody with a card.
#[derive(Debug)]
pub struct PeerLine {
    /// The name on the card.
    pub name: String,
    /// What it is to us.
    pub part: &'static str,
    /// When the card ends, and with it the keys that it names.
    pub card: Verdict,
    /// Something verified came from it last. `None`: we ourselves, or nothing since the start.
    pub last_contact: Option<Timestamp>,
}

impl PeerLine {
    /// From its card.
    pub fn of(card: &PeerCard, part: &'static str, last_contact: Option<Timestamp>, now: Timestamp) -> Self {
        let utc = card.not_after.map(crate::text::utc);
        let day = utc.as_deref().and_then(|utc| utc.get(..10)).unwrap_or("never");
        let (standing, why) = match card.validity(now) {
            Validity::Unlimited => (Standing::Good, "never".to_owned()),
            Validity::Valid(left) => (Standing::Good, format!("{day}, in {}", words::age(left))),
            Validity::EndsSoon(left) => {
                (Standing::Alarmed, format!("{day}, in {}: rotate", words::age(left)))
            }
            Validity::Ended(ago) => (Standing::Alarmed, format!("{day}, {} ago", words::age(ago))),
        };
        Self { name: card.name.to_string(), part, card: Verdict::new(standing, why), last_contact }
    }
}

/// A disk, and how fast it fills.
#[derive(Debug)]
pub struct Disk {
    /// What lies there.
    pub what: String,
    /// The folder.
    pub folder: PathBuf,
    /// Bytes that are left for us; `None` where the system does not say.
    pub left: Option<u64>,
    /// Bytes per hour that come at present, where any do.
    pub bytes_per_hour: Option<u64>,
    /// What the hours count on.
    pub provided: &'static str,
}

impl Disk {
    /// Hours until nothing is left at the present rate.
    pub fn hours_left(&self) -> Option<u64> {
        self.left?.checked_div(self.bytes_per_hour?)
    }
}

/// What the file system of a folder has left for us.
pub fn bytes_left(folder: &std::path::Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

impl Overview {
    /// The worst of all of it.
    pub fn standing(&self) -> Standing {
        let told = !self.alarms.is_empty() || self.reload_refused.is_some() || self.not_ready.is_some();
        let alarmed = told.then_some(Standing::Alarmed);
        let routes = self.routes.iter().map(|route| route.verdict.standing);
        let cards = self.peers.iter().map(|peer| peer.card.standing);
        let relays = self.relay_verdicts().map(|(_, verdict)| verdict.standing);
        alarmed.into_iter().chain(routes).chain(cards).chain(relays).max().unwrap_or(Standing::Good)
    }

    /// Each relay, and how it stands.
    fn relay_verdicts(&self) -> impl Iterator<Item = (&RelayLine, Verdict)> {
        let alone = !self.relays.iter().any(RelayLine::is_used);
        self.relays.iter().map(move |relay| (relay, relay.verdict(alone)))
    }

    /// The page. Nothing on it changes anything.
    pub fn render(&self) -> String {
        page::render(self)
    }
}

/// A series of the chart: `label` says what is counted.
pub fn series(label: &'static str, day: Day) -> Series {
    Series { label, day }
}

#[cfg(test)]
mod tests;
