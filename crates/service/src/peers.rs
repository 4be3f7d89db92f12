//! The tables that name whom a daemon has pinned, the same in all three configurations.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base::Name;
use identity::PeerCard;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, ENVIRONMENT_PREFIX, Loaded, peek};

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
}

/// Where the daemon of this configuration is asked, also when the rest of the configuration cannot be used.
pub fn admin_address(config: &Path) -> Result<SocketAddr, ConfigError> {
    #[derive(Deserialize)]
    struct Only {
        admin: AdminTable,
    }
    let only: Only = peek(config, ENVIRONMENT_PREFIX)?;
    Ok(only.admin.listen)
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
    let text = std::fs::read_to_string(&path).map_err(|error| refuse(error.to_string()))?;
    let card = PeerCard::parse(text.trim()).map_err(|error| refuse(error.to_string()))?;
    if card.name != *name {
        return Err(refuse(format!("this is the card of {}; the table is called {name}", card.name)));
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
            return Err(loaded
                .error(&format!("{key}.name"), format!("two [[peer]] tables are called {}", table.name)));
        }
        cards.push(card);
    }
    Ok(cards)
}

/// Reads the card files of all `[[relay]]` tables, of which there is at least one.
pub fn load_relays<T>(loaded: &Loaded<T>, tables: &[RelayTable]) -> Result<Vec<Relay>, ConfigError> {
    if tables.is_empty() {
        return Err(loaded.error("relay", "there is no [[relay]]; name at least one"));
    }
    tables
        .iter()
        .enumerate()
        .map(|(i, table)| {
            let card = load_card(loaded, &format!("relay[{i}]"), &table.name, &table.card)?;
            Ok(Relay { name: table.name.clone(), address: table.address, card })
        })
        .collect()
}
