//! The tables that name whom a daemon has pinned, the same in all three configurations.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Name, Timestamp};
use identity::{CardError, PeerCard};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::Live;
use crate::config::{ConfigError, ENVIRONMENT_PREFIX, Loaded, peek};
use crate::tls::{Access, AdminTls, AdminTlsError, AdminTlsTable};

/// `[[peer]]`: a gateway on the other side.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerTable {
    /// The name on its card; routes call it by this.
    pub name: Name,
    /// Its card file. What it holds is pinned.
    pub card: PathBuf,
}

/// `[[relay]]`: a relay as a gateway sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayTable {
    /// The name on its card.
    pub name: Name,
    /// Address and UDP port.
    pub address: SocketAddr,
    /// Its card file. The TLS key in it is pinned.
    pub card: PathBuf,
}

/// `[admin]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminTable {
    /// Address and TCP port of `/healthz`, `/readyz` and `/status`.
    pub listen: SocketAddr,
    /// Certificate and key, for TLS 1.3. Default: none, plain HTTP, which is for a loopback address. The files are read again on
    /// SIGHUP.
    #[serde(default)]
    pub tls: Option<AdminTlsTable>,
    /// `true`: plain HTTP also where `listen` is no loopback address, as in a container behind something that speaks TLS.
    /// Default `false`: such an address needs `tls`.
    #[serde(default)]
    pub without_tls: bool,
}

impl AdminTable {
    /// Reads certificate and key, and refuses a port that others could read on their way.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<Option<AdminTls>, ConfigError> {
        let Self { listen, tls, without_tls } = self;
        let Some(AdminTlsTable { cert, key }) = tls else {
            if listen.ip().is_loopback() || *without_tls {
                return Ok(None);
            }
            return Err(loaded.error(
                "admin.listen",
                format!("{listen} is no loopback address, and the port asks for no password: give tls = {{ cert = …, key = … }}, or write without_tls = true"),
            ));
        };
        if *without_tls {
            return Err(loaded.error("admin.without_tls", "there is `tls`, too: remove one of the two"));
        }
        let read = AdminTls::read(loaded.resolve(cert), loaded.resolve(key));
        read.map(Some).map_err(|error| {
            let key = match &error {
                AdminTlsError::Cert { .. } => "admin.tls.cert",
                AdminTlsError::Key { .. } | AdminTlsError::Pair { .. } => "admin.tls.key",
            };
            loaded.error(key, error.to_string())
        })
    }
}

/// Where the daemon of this configuration is asked, also when the rest of the configuration cannot be used.
pub fn admin_access(config: &Path) -> Result<Access, ConfigError> {
    #[derive(Deserialize)]
    struct Only {
        admin: AdminTable,
    }
    let Only { admin: AdminTable { listen, tls, .. } } = peek(config, ENVIRONMENT_PREFIX)?;
    let Some(AdminTlsTable { cert, .. }) = tls else { return Ok(Access::from(listen)) };
    let refuse = |reason: String| ConfigError::Read { path: config.to_owned(), reason };
    let absolute = std::path::absolute(config).map_err(|error| refuse(error.to_string()))?;
    let cert = absolute.parent().map_or_else(|| cert.clone(), |dir| dir.join(&cert));
    Access::with_certificate(listen, &cert).map_err(|error| refuse(format!("admin.tls.cert: {error}")))
}

/// A relay with its pinned card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// The name on its card.
    pub name: Name,
    /// Address and UDP port.
    pub address: SocketAddr,
    /// Its card.
    pub card: PeerCard,
}

impl Relay {
    /// What becomes of a link when the relay is configured so from now on. `since` is when that was looked at last: a key
    /// that ended meanwhile may be the one that the link was made with.
    fn link(&self, later: &Self, since: Timestamp, now: Timestamp) -> LinkChange {
        let ended = |until: Timestamp| since < until && until <= now;
        if self.address != later.address || later.card.earlier.as_ref().is_some_and(|it| ended(it.until)) {
            return LinkChange::Anew;
        }
        match self.card == later.card {
            true => LinkChange::None,
            false if later.card.continues(&self.card) => LinkChange::NextTime,
            false => LinkChange::Anew,
        }
    }
}

/// The relays of a daemon before and after its configuration was read again.
#[derive(Debug)]
pub struct RelaysReloaded {
    before: Arc<Vec<Relay>>,
    after: Arc<Vec<Relay>>,
    since: Timestamp,
    now: Timestamp,
    rotated: bool,
}

impl RelaysReloaded {
    /// Takes `after` over. `looked` is when they were looked at last, and is now from here on; `rotated` says whether our own
    /// keys have changed with them.
    pub fn exchange(
        live: &Live<Vec<Relay>>,
        after: Vec<Relay>,
        looked: &mut Timestamp,
        rotated: bool,
    ) -> Self {
        let (now, after) = (Timestamp::now(), Arc::new(after));
        let since = std::mem::replace(looked, now);
        Self { before: live.exchange(Arc::clone(&after)), after, since, now, rotated }
    }

    /// What becomes of the link to the relay of this name, and the relay as it is configured from now on, if it still is. A
    /// relay that is gone, or has another address or card, or one that is to see other keys of ours, gets no link or another
    /// one; a card of keys that the pinned ones vouch for ends none.
    pub fn link(&self, name: &Name) -> (LinkChange, Option<&Relay>) {
        let before = self.before.iter().find(|relay| relay.name == *name);
        let after = self.after.iter().find(|relay| relay.name == *name);
        let change = match (before, after) {
            (Some(before), Some(after)) if !self.rotated => before.link(after, self.since, self.now),
            (None, None) => LinkChange::None,
            _ => LinkChange::Anew,
        };
        (change, after)
    }

    /// What of it counts from the next start: relays to which there is no link yet, and another order of the others. `linked` are those
    /// with a link, the preferred one first.
    pub fn waiting<'a>(&self, linked: impl Iterator<Item = &'a Name> + Clone) -> Vec<String> {
        let is_linked = |relay: &&Relay| linked.clone().any(|name| *name == relay.name);
        let (known, new): (Vec<&Relay>, Vec<&Relay>) = self.after.iter().partition(is_linked);
        let mut waiting: Vec<_> = new.iter().map(|relay| format!("relay {}", relay.name)).collect();
        let is_there = |name: &&Name| known.iter().any(|relay| relay.name == **name);
        if !linked.clone().filter(is_there).eq(known.iter().map(|relay| &relay.name)) {
            waiting.push("the order of relays".to_owned());
        }
        waiting.iter().for_each(|what| warn!(what, "used from the next start on"));
        waiting
    }
}

/// See [`RelaysReloaded::link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// It stays as it is.
    None,
    /// It stays, and is made another way the next time.
    NextTime,
    /// It ends, and is made anew.
    Anew,
}

/// When earlier keys of these relays end.
pub fn moments(relays: &[Relay]) -> Vec<Timestamp> {
    relays.iter().filter_map(|relay| Some(relay.card.earlier.as_ref()?.until)).collect()
}

/// Reads a card file and checks that it is the card of `name`. `key` is the place in the configuration.
pub fn load_card<T>(
    loaded: &Loaded<T>,
    key: &str,
    name: &Name,
    path: &Path,
) -> Result<PeerCard, ConfigError> {
    let path = loaded.resolve(path);
    let refuse =
        |reason: String| loaded.error(&format!("{key}.card"), format!("{}: {reason}", path.display()));
    let remedy = "correct the path, or put the card there";
    let text = std::fs::read_to_string(&path).map_err(|error| refuse(format!("{error}; {remedy}")))?;
    let card = PeerCard::parse(text.trim()).map_err(|error| match error {
        CardError::Version(_) => {
            refuse(format!("{error}; ask for a card of one of these, or install a newer version"))
        }
        _ => refuse(error.to_string()),
    })?;
    if card.name != *name {
        return Err(refuse(format!(
            "this is the card of {}; the table is called {name}: correct one of the two",
            card.name
        )));
    }
    Ok(card)
}

/// Reads the card files of all `[[peer]]` tables.
pub fn load_peers<T>(loaded: &Loaded<T>, tables: &[PeerTable]) -> Result<Vec<PeerCard>, ConfigError> {
    let mut cards: Vec<PeerCard> = Vec::new();
    for (i, table) in tables.iter().enumerate() {
        let key = format!("peer[{i}]");
        let card = load_card(loaded, &key, &table.name, &table.card)?;
        if cards.iter().any(|other| other.name == card.name) {
            return Err(loaded.error(
                &format!("{key}.name"),
                format!("two [[peer]] tables are called {}; remove one", table.name),
            ));
        }
        cards.push(card);
    }
    Ok(cards)
}

/// Reads the card files of all `[[relay]]` tables, of which there is at least one.
pub fn load_relays<T>(loaded: &Loaded<T>, tables: &[RelayTable]) -> Result<Vec<Relay>, ConfigError> {
    if tables.is_empty() {
        let remedy = "there is no [[relay]]: `trust CARD --relay ADDRESS:PORT` pins one";
        return Err(loaded.error("relay", remedy));
    }
    tables
        .iter()
        .enumerate()
        .map(|(i, table)| {
            if tables.iter().take(i).any(|other| other.name == table.name) {
                let message = format!("two [[relay]] tables are called {}; remove one", table.name);
                return Err(loaded.error(&format!("relay[{i}].name"), message));
            }
            let card = load_card(loaded, &format!("relay[{i}]"), &table.name, &table.card)?;
            Ok(Relay { name: table.name.clone(), address: table.address, card })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use base::Secret;
    use identity::{CardFields, IdentityKey, Overlap};

    use super::*;

    #[test]
    fn a_link_stays_where_the_peer_is_the_same_and_its_keys_count() {
        let key = |seed| IdentityKey::generate(Name::parse("relay").unwrap(), &Secret::new([seed; 96]));
        let first = key(1).card(CardFields::new(1, &[]));
        let overlap = Overlap { switch: Timestamp(50), until: Timestamp(100) };
        let second = key(2).succeed(&key(1), &first, CardFields::new(2, &[]), overlap);
        let stranger = key(3).card(CardFields::new(9, &[]));
        let relay = |card: &PeerCard, port: u16| Relay {
            name: card.name.clone(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            card: card.clone(),
        };
        let pinned = relay(&first, 1);
        // (from, to, looked at last, now)
        for (from, to, since, now, want) in [
            (&pinned, &pinned, 0, 500, LinkChange::None),
            (&pinned, &relay(&first, 2), 0, 0, LinkChange::Anew),
            (&pinned, &relay(&second, 1), 0, 99, LinkChange::NextTime),
            (&relay(&second, 1), &relay(&second, 1), 0, 99, LinkChange::None),
            (&relay(&second, 1), &relay(&second, 1), 99, 100, LinkChange::Anew),
            (&relay(&second, 1), &relay(&second, 1), 100, 500, LinkChange::None),
            (&pinned, &relay(&second, 1), 0, 100, LinkChange::Anew),
            (&pinned, &relay(&stranger, 1), 0, 0, LinkChange::Anew),
            (&relay(&second, 1), &pinned, 0, 0, LinkChange::Anew),
        ] {
            assert_eq!(from.link(to, Timestamp(since), Timestamp(now)), want, "{since} {now}");
        }
        assert_eq!(moments(&[pinned, relay(&second, 1)]), [Timestamp(100)]);
    }

    #[test]
    fn a_reload_says_of_each_relay_what_becomes_of_its_link() {
        let relay = |name: &str, port: u16| {
            let name = Name::parse(name).unwrap();
            let card =
                IdentityKey::generate(name.clone(), &Secret::new([7; 96])).card(CardFields::new(1, &[]));
            Relay { name, address: SocketAddr::from(([127, 0, 0, 1], port)), card }
        };
        let changes = |rotated| {
            let live = Live::new(Arc::new(vec![relay("stays", 1), relay("moves", 1), relay("goes", 1)]));
            let mut looked = Timestamp(0);
            let after = vec![relay("stays", 1), relay("moves", 2), relay("comes", 1)];
            let reloaded = RelaysReloaded::exchange(&live, after, &mut looked, rotated);
            assert!(looked > Timestamp(0) && live.now().len() == 3);
            ["stays", "moves", "goes", "comes", "never"].map(|name| {
                let (change, after) = reloaded.link(&Name::parse(name).unwrap());
                (change, after.map(|relay| relay.address.port()))
            })
        };
        let (none, anew) = (LinkChange::None, LinkChange::Anew);
        let want = [(none, Some(1)), (anew, Some(2)), (anew, None), (anew, Some(1)), (none, None)];
        assert_eq!(changes(false), want);
        assert_eq!(changes(true).map(|(change, _)| change), [anew, anew, anew, anew, none]);
    }
}
