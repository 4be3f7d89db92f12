//! `init`: identity, outbox keys, and a commented configuration to complete.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use base::{AeTitle, Name, RouteId, Timestamp};
use envelope::Suite;
use identity::PeerCard;
use service::own::OwnKeys;
use spool::{IndexKey, OpenError, Outbox, OutboxKey};

use crate::config::Respond;

/// What a new configuration says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The DICOM listener.
    pub listen: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
    /// The folder of sealed bodies and index, relative to the configuration.
    pub outbox: PathBuf,
    /// The folder of the keys, relative to the configuration.
    pub keys: PathBuf,
    /// Its own card, relative to the configuration.
    pub card: PathBuf,
    /// Relays: name, address, card file.
    pub relays: Vec<(Name, SocketAddr, PathBuf)>,
    /// Receiving gateways: name, card file.
    pub peers: Vec<(Name, PathBuf)>,
    /// Routes.
    pub routes: Vec<RouteOptions>,
}

/// One `[[route]]` of a new configuration.
#[derive(Debug, Clone)]
pub struct RouteOptions {
    /// Shared with the receiving gateway.
    pub id: RouteId,
    /// The AE title that the PACS sends to.
    pub ae: AeTitle,
    /// The receiving gateway.
    pub to: Name,
    /// The destination's name there.
    pub destination: Name,
    /// Cipher suite.
    pub suite: Suite,
    /// When the PACS sees success.
    pub respond: Respond,
}

/// What its key files are called after.
pub const ROLE: &str = "gateway-out";
/// The key that wraps content keys, inside [`Options::keys`].
pub const OUTBOX_KEY: &str = "outbox.key";
/// The key of the index's hashes.
pub const INDEX_KEY: &str = "index.key";

/// Makes identity, log key and the outbox's keys below `dir`; those that are there already stay.
pub fn create_keys(dir: &Path, name: &Name) -> Result<OwnKeys> {
    let keys = OwnKeys::create(dir, ROLE, name)?;
    if !dir.join(OUTBOX_KEY).exists() {
        OutboxKey::generate_file(&dir.join(OUTBOX_KEY))?;
    }
    if !dir.join(INDEX_KEY).exists() {
        IndexKey::generate_file(&dir.join(INDEX_KEY))?;
    }
    Ok(keys)
}

/// Makes an empty outbox that belongs to the keys; one that is there already stays.
pub fn create_outbox(dir: &Path, keys: &Path) -> Result<()> {
    let (key, index_key) = (OutboxKey::load(&keys.join(OUTBOX_KEY))?, IndexKey::load(&keys.join(INDEX_KEY))?);
    match Outbox::init(dir, &key, &index_key) {
        Ok(()) | Err(OpenError::AlreadyInitialised(_)) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make the outbox {}", dir.display())),
    }
}

/// Writes this gateway's card, so that it can be given to others.
pub fn write_card(path: &Path, keys: &OwnKeys) -> io::Result<PeerCard> {
    keys.write_card(path, &Suite::ALL.map(Suite::code), Timestamp::now())
}

/// The text of `gateway-out.toml`.
pub fn config_text(options: &Options) -> String {
    let Options { listen, admin, outbox, keys, card: own, relays, peers, routes } = options;
    let key = |name: &str| keys.join(name).display().to_string();
    let [identity, log] = OwnKeys::file_names(ROLE);
    let mut text = format!(
        "# Sluis gateway-out: takes instances from a PACS by C-STORE and owes them until a receipt is in.\n\
         # Relative paths start at this file's folder. `gateway-out check --config FILE` says what is missing.\n\
         \n[identity]\nkey = {identity:?}\nlog_key = {log:?}\ncard = {own:?}\n\
         \n# Sealed instances wait here. Both keys lie outside `dir`: a stolen outbox is worth nothing.\n\
         # Keep a copy of both keys elsewhere: without them what waits in the outbox is lost.\n\
         [outbox]\ndir = {outbox:?}\nkey = {outbox_key:?}\nindex_key = {index_key:?}\n\
         # bytes_max = \"100 GiB\"\n\
         \n[dicom]\nlisten = \"{listen}\"\n\
         \n[admin]\nlisten = \"{admin}\"\n",
        identity = key(&identity),
        log = key(&log),
        own = show(own),
        outbox = outbox.display().to_string(),
        outbox_key = key(OUTBOX_KEY),
        index_key = key(INDEX_KEY),
    );
    for (name, address, card) in relays {
        let _ = write!(
            text,
            "\n[[relay]]\nname = \"{name}\"\naddress = \"{address}\"\ncard = {:?}\n",
            show(card)
        );
    }
    for (name, card) in peers {
        let _ = write!(text, "\n[[peer]]\nname = \"{name}\"\ncard = {:?}\n", show(card));
    }
    if routes.is_empty() {
        let _ = write!(
            text,
            "\n# One AE title, one way: what comes to `ae` arrives at `destination` behind the gateway `to`. The id is shared with the\n\
             # receiving gateway: give its people this table. `gateway-out trust CARD` pins gateway and relay.\n\
             # calling: who may send here (\"*\": any AE title), sources: from where.\n\
             # [[route]]\n# id = \"{id}\"\n# ae = \"SLUIS\"\n# to = \"clinic\"\n# destination = \"archive\"\n\
             # calling = [\"PACS\"]\n# sources = [\"10.0.0.0/24\"]\n",
            id = RouteId(base::random_bytes()),
        );
    }
    for route in routes {
        let RouteOptions { id, ae, to, destination, suite, respond } = route;
        let respond = match respond {
            Respond::Spooled => "spooled",
            Respond::Delivered => "delivered",
        };
        let _ = write!(
            text,
            "\n# One AE title, one way: the PACS sends to `ae`, the instance arrives at `destination` behind `to`.\n\
             # The id is shared with the receiving gateway; the relay sees nothing else of the route.\n\
             [[route]]\nid = \"{id}\"\nae = \"{ae}\"\nto = \"{to}\"\ndestination = \"{destination}\"\n\
             suite = \"{suite}\"\nrespond = \"{respond}\"\n\
             calling = [\"*\"]\nsources = [\"127.0.0.0/8\", \"::1/128\"]\n"
        );
    }
    text
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
