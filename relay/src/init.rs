//! `init`: identity, card, and a commented configuration to complete.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base::{Name, Timestamp};
use identity::PeerCard;
use service::own::{CreateError, OwnKeys};

/// What a new configuration says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where gateways connect.
    pub listen: SocketAddr,
    /// Health and status.
    pub admin: SocketAddr,
    /// The folder of the keys, relative to the configuration.
    pub keys: PathBuf,
    /// Its own card, relative to the configuration.
    pub card: PathBuf,
    /// The gateways it serves.
    pub tenants: Vec<TenantOptions>,
}

/// One `[[tenant]]` of a new configuration.
#[derive(Clone, Debug)]
pub struct TenantOptions {
    /// The name on its card.
    pub name: Name,
    /// Its card file, relative to the configuration.
    pub card: PathBuf,
    /// Whom it may deposit for.
    pub deposit_for: Vec<Name>,
}

/// What its key files are called after.
pub const ROLE: &str = "relay";

/// Makes identity and log key below `dir`; those that are there already stay.
pub fn create_keys(dir: &Path, name: &Name) -> Result<OwnKeys, CreateError> {
    OwnKeys::create(dir, ROLE, name)
}

/// Writes this relay's card, so that it can be given to the gateways.
pub fn write_card(path: &Path, keys: &OwnKeys) -> io::Result<PeerCard> {
    keys.write_card(path, &[], Timestamp::now())
}

/// The text of `relay.toml`.
pub fn config_text(options: &Options) -> String {
    let Options { listen, admin, keys, card, tenants } = options;
    let [identity, log] = OwnKeys::file_names(ROLE);
    let mut text = format!(
        "# Sluis relay: holds sealed bodies in memory between two gateways; it cannot open them and writes none.\n\
         # Relative paths start at this file's folder. `relay check --config FILE` says what is missing.\n\
         \n[identity]\nkey = {:?}\nlog_key = {:?}\ncard = {:?}\n\
         \n# Gateways connect here (UDP).\n[quic]\nlisten = \"{listen}\"\n\
         \n# budget: all bodies together; the process needs about a tenth more. A body above hold_max passes through\n\
         # without being held as a whole. ttl: how long a body waits for a gateway that is not there.\n\
         [memory]\nbudget = \"1 GiB\"\nhold_max = \"128 MiB\"\nttl = \"15m\"\n\
         \n# Status, and the page of the log: http://{admin}/. It asks for no password: another address than a loopback one needs\n\
         # tls = {{ cert = \"admin.crt\", key = \"admin.key\" }} (PEM).\n\
         [admin]\nlisten = \"{admin}\"\n\
         \n# The log of what was accepted and settled: salted digests in memory, 45 bytes each. interval: the shortest time\n\
         # between two signed heads. entries_max: of one epoch, two for each instance; then another begins. dir: a folder of its\n\
         # own, where the log goes on over restarts; without one each start begins another log, and no file is written at all.\n\
         # [transparency]\n# interval = \"500ms\"\n# entries_max = 4194304\n# dir = \"log\"\n\
         \n# Where memory could be swapped out, the relay does not start. \"accept\" starts it and says so.\n\
         # [sandbox]\n# swap = \"refuse\"\n",
        keys.join(identity).display().to_string(),
        keys.join(log).display().to_string(),
        card.display().to_string(),
    );
    if tenants.is_empty() {
        text.push_str(
            "\n# One table for each gateway. A sender names whom it may deposit for; a receiver names nobody.\n\
             # [[tenant]]\n# name = \"hospital-out\"\n# card = \"cards/hospital-out.card\"\n# deposit_for = [\"clinic-in\"]\n\
             # [[tenant]]\n# name = \"clinic-in\"\n# card = \"cards/clinic-in.card\"\n\
             # Limits of a sender: budget = \"200 MiB\", bytes_per_second = \"20 MB\", deliveries_per_second = 100\n\
             # `relay admit` and `relay revoke` write such tables to conf.d/relay/, also while the relay runs.\n",
        );
    }
    for TenantOptions { name, card, deposit_for } in tenants {
        let names: Vec<_> = deposit_for.iter().map(Name::as_str).collect();
        let card = card.display().to_string();
        let _ = write!(text, "\n[[tenant]]\nname = \"{name}\"\ncard = {card:?}\ndeposit_for = {names:?}\n");
    }
    text
}
