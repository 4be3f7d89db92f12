//! `check --connect`: what a configuration cannot say by itself, tried out.
//!
//! Nothing is changed by it. Where the daemon runs it is asked for its links: a second connection under the same key would only
//! be in its way.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use base::{Name, Timestamp};
use identity::{PeerCard, Validity};
use serde_json::Value;

/// The longest wait for a relay.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// Less room than this is worth a warning before the first study comes.
const ROOM_BYTES: u64 = 10 << 30;

/// What was tried so far; each line is printed when it is known.
#[derive(Debug, Default)]
pub struct Trial {
    tried: usize,
    failed: usize,
}

impl Trial {
    /// It works.
    pub fn good(&mut self, what: &str, how: &str) {
        self.tried += 1;
        println!("ok       {what}: {how}");
    }

    /// It works, but somebody should look at it.
    pub fn warn(&mut self, what: &str, why: &str) {
        self.tried += 1;
        println!("warning  {what}: {why}");
    }

    /// It does not work.
    pub fn bad(&mut self, what: &str, why: &str) {
        self.tried += 1;
        self.failed += 1;
        println!("FAILED   {what}: {why}");
    }

    /// One or the other.
    pub fn outcome(&mut self, what: &str, outcome: Result<String, String>) {
        match outcome {
            Ok(how) => self.good(what, &how),
            Err(why) => self.bad(what, &why),
        }
    }

    /// An error when something failed.
    pub fn finish(self) -> Result<()> {
        match self.failed {
            0 => Ok(()),
            failed => bail!("{failed} of {} did not work", self.tried),
        }
    }

    /// What is the same for every gateway: its host, the room below its folder, its own card and those of its peers.
    pub async fn gateway<'a>(
        &mut self,
        folder: &Path,
        own: &PeerCard,
        peers: impl IntoIterator<Item = (&'a Name, &'a PeerCard)>,
        now: Timestamp,
    ) {
        self.clock().await;
        self.credentials();
        self.disk(folder);
        self.card("own card", own, now);
        let peers: BTreeMap<_, _> = peers.into_iter().collect();
        for (name, card) in peers {
            self.card(&format!("card of {name}"), card, now);
        }
    }

    /// Room below a folder that the daemon writes to.
    fn disk(&mut self, folder: &Path) {
        let what = format!("disk of {}", folder.display());
        // Before the first start the folder may not be there yet; it will lie where its parent lies.
        let there = folder.ancestors().find(|folder| folder.is_dir());
        let Some(Ok(found)) = there.map(rustix::fs::statvfs) else {
            return self.bad(&what, "cannot be looked at");
        };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let text = format!("{:.1} GiB free", free as f64 / (1_u64 << 30) as f64);
        match free {
            0 => self.bad(&what, "full: nothing can be accepted"),
            free if free < ROOM_BYTES => self.warn(&what, &format!("{text}: a day of CT may need more")),
            _ => self.good(&what, &text),
        }
    }

    /// Whether this machine's clock is kept right: cards end by it, and receipts carry it.
    async fn clock(&mut self) {
        let ask = ["show", "--property=NTPSynchronized", "--value"];
        let said = tokio::process::Command::new("timedatectl").args(ask).output().await;
        let said =
            said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()).unwrap_or_default();
        match said.as_str() {
            "yes" => self.good("clock", "synchronised"),
            "no" => self.warn("clock", "not synchronised: switch on systemd-timesyncd or chrony"),
            _ => self.warn("clock", "nobody here says whether it is synchronised (timedatectl)"),
        }
    }

    /// When a card ends.
    pub fn card(&mut self, whose: &str, card: &PeerCard, now: Timestamp) {
        let text = crate::own::describe(card, now);
        match card.validity(now) {
            Validity::Unlimited | Validity::Valid(_) => self.good(whose, &text),
            Validity::EndsSoon(_) => self.warn(whose, &text),
            _ => self.bad(whose, &text),
        }
    }

    /// What the service manager hands over. Nothing is said where it hands over nothing.
    fn credentials(&mut self) {
        let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return };
        let folder = Path::new(&folder);
        match std::fs::read_dir(folder).map(|entries| entries.flatten().count()) {
            Ok(count) => self.good("systemd credentials", &format!("{count} in {}", folder.display())),
            Err(error) => self.bad("systemd credentials", &format!("{}: {error}", folder.display())),
        }
    }

    /// A relay, as the running daemon sees it.
    pub fn relay_of_daemon(&mut self, name: &str, status: &Value) {
        let relays = status.get("relays").and_then(Value::as_array);
        let relay = relays
            .and_then(|relays| relays.iter().find(|relay| relay.get("name").is_some_and(|one| one == name)));
        let what = format!("relay {name}");
        let Some(relay) = relay else {
            return self.bad(&what, "the running daemon does not know it yet: reload it");
        };
        let refused = relay.get("refused").and_then(Value::as_str);
        match (relay.get("connected").and_then(Value::as_bool), refused) {
            (Some(true), _) => self.good(&what, "the running daemon is connected to it"),
            (_, Some(why)) => self.bad(&what, why),
            _ => self.bad(&what, "the running daemon does not reach it"),
        }
    }

    /// A relay to which a link was just started.
    pub async fn relay(
        &mut self,
        name: &str,
        address: &str,
        connected: impl Fn() -> bool,
        refusal: impl Fn() -> Option<String>,
    ) {
        let what = format!("relay {name} at {address}");
        let begin = Instant::now();
        while begin.elapsed() < CONNECT_WITHIN {
            if connected() {
                return self.good(
                    &what,
                    &format!("connected in {} ms, its key is the pinned one", begin.elapsed().as_millis()),
                );
            }
            if let Some(why) = refusal() {
                return self.bad(&what, &why);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let seconds = CONNECT_WITHIN.as_secs();
        self.bad(
            &what,
            &format!("no answer in {seconds} s: is UDP to it let through, and is its key the pinned one?"),
        );
    }
}
