//! `init`: identity and a commented configuration to complete.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use base::{AeTitle, Name, RouteId, Timestamp};
use envelope::Suite;
use identity::PeerCard;
use service::own::{CreateError, OwnKeys};

/// What a new configuration says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The admin listener.
    pub admin: SocketAddr,
    /// The folder of the settled ledger, relative to the configuration.
    pub ledger: PathBuf,
    /// The folder of the keys, relative to the configuration.
    pub keys: PathBuf,
    /// Its own card, relative to the configuration.
    pub card: PathBuf,
    /// Relays: name, address, card file.
    pub relays: Vec<(Name, SocketAddr, PathBuf)>,
    /// Sending gateways: name, card file.
    pub peers: Vec<(Name, PathBuf)>,
    /// Where instances go.
    pub destinations: Vec<DestinationOptions>,
    /// Routes.
    pub routes: Vec<RouteOptions>,
}

/// One `[[destination]]` of a new configuration.
#[derive(Debug, Clone)]
pub struct DestinationOptions {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub target: TargetOptions,
}

/// What a destination is.
#[derive(Debug, Clone)]
pub enum TargetOptions {
    /// An application entity.
    Dicom {
        /// Its AE title.
        ae: AeTitle,
        /// Its address and port.
        address: SocketAddr,
        /// The AE title that we present.
        calling: AeTitle,
    },
    /// Part 10 files below this folder.
    Folder(PathBuf),
}

/// One `[[route]]` of a new configuration.
#[derive(Debug, Clone)]
pub struct RouteOptions {
    /// Shared with the sending gateway.
    pub id: RouteId,
    /// The sending gateway.
    pub from: Name,
    /// Where its instances go.
    pub destination: Name,
    /// Cipher suite.
    pub suite: Suite,
}

/// What its key files are called after.
pub const ROLE: &str = "gateway-in";

/// Makes identity and log key below `dir`; those that are there already stay.
pub fn create_keys(dir: &Path, name: &Name) -> Result<OwnKeys, CreateError> {
    OwnKeys::create(dir, ROLE, name)
}

/// Writes this gateway's card, so that it can be given to others.
pub fn write_card(path: &Path, keys: &OwnKeys) -> io::Result<PeerCard> {
    keys.write_card(path, &Suite::ALL.map(Suite::code), Timestamp::now())
}

/// The text of `gateway-in.toml`.
pub fn config_text(options: &Options) -> String {
    let Options { admin, ledger, keys, card: own, relays, peers, destinations, routes } = options;
    let [identity, log] = OwnKeys::file_names(ROLE);
    let mut text = format!(
        "# Sluis gateway-in: collects sealed instances, opens them, hands them to a destination, signs receipts.\n\
         # Relative paths start at this file's folder. `gateway-in check --config FILE` says what is missing.\n\
         \n[identity]\nkey = {:?}\nlog_key = {:?}\ncard = {:?}\n\
         \n# Attempts, answers and receipts. One process at a time uses it.\n\
         [ledger]\ndir = {:?}\n\
         \n[admin]\nlisten = \"{admin}\"\n",
        keys.join(identity).display().to_string(),
        keys.join(log).display().to_string(),
        own.display().to_string(),
        ledger.display().to_string(),
    );
    for (name, address, card) in relays {
        let card = card.display().to_string();
        let _ = write!(text, "\n[[relay]]\nname = \"{name}\"\naddress = \"{address}\"\ncard = {card:?}\n");
    }
    for (name, card) in peers {
        let _ = write!(text, "\n[[peer]]\nname = \"{name}\"\ncard = {:?}\n", card.display().to_string());
    }
    for DestinationOptions { name, target } in destinations {
        let _ = match target {
            TargetOptions::Folder(dir) => write!(
                text,
                "\n[[destination]]\nname = \"{name}\"\nkind = \"folder\"\ndir = {:?}\n",
                dir.display().to_string()
            ),
            TargetOptions::Dicom { ae, address, calling } => write!(
                text,
                "\n# `calling` is the AE title that the destination knows us by, or \"original\".\n\
                 [[destination]]\nname = \"{name}\"\nkind = \"dicom\"\nae = \"{ae}\"\naddress = \"{address}\"\n\
                 calling = \"{calling}\"\n"
            ),
        };
    }
    if routes.is_empty() {
        text.push_str(
            "\n# `calling` is the AE title that the destination knows us by.\n\
             # [[destination]]\n# name = \"archive\"\n# kind = \"dicom\"\n# ae = \"ARCHIVE\"\n# address = \"10.0.0.20:104\"\n# calling = \"SLUIS\"\n\
             \n# The sender's id of the route. `gateway-in trust CARD` pins sender and relay.\n\
             # Patient ids of another site: give a [[coercion]], or write foreign_ids = \"accepted\" where they mean the same here.\n\
             # [[route]]\n# id = \"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a\"\n# from = \"hospital\"\n# destination = \"archive\"\n",
        );
    }
    for RouteOptions { id, from, destination, suite } in routes {
        let _ = write!(
            text,
            "\n[[route]]\nid = \"{id}\"\nfrom = \"{from}\"\ndestination = \"{destination}\"\nsuite = \"{suite}\"\n\
             # Patient ids of another site: give a [[coercion]], or write `accepted` where they mean the same here.\n\
             # foreign_ids = \"accepted\"\n"
        );
    }
    text
}
