//! `init`: identity, card, and a commented configuration to complete.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base::{Name, Secret};
use identity::IdentityKey;
use service::files::{self, Readable};

/// What a new configuration says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where gateways connect.
    pub listen: SocketAddr,
    /// Health and status.
    pub admin: SocketAddr,
    /// The folder of the keys, relative to the configuration.
    pub keys: PathBuf,
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

/// File name inside [`Options::keys`].
pub const IDENTITY_KEY: &str = "relay.key";

/// Makes the identity below `dir`; one that is there already stays.
pub fn create_keys(dir: &Path, name: &Name) -> Result<IdentityKey> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let path = dir.join(IDENTITY_KEY);
    if !path.exists() {
        let key = IdentityKey::generate(name.clone(), &Secret::random());
        key.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(IdentityKey::load(&path)?)
}

/// Writes this relay's card, so that it can be given to the gateways.
pub fn write_card(path: &Path, identity: &IdentityKey) -> io::Result<()> {
    files::replace(path, format!("{}\n", identity.card(1, &[]).to_line()).as_bytes(), Readable::Everybody)
}

/// The text of `relay.toml`.
pub fn config_text(options: &Options) -> String {
    let Options { listen, admin, keys, tenants } = options;
    let mut text = format!(
        "# Sluis relay: holds sealed bodies in memory between two gateways; it cannot open them and writes nothing.\n\
         # Relative paths start at this file's folder. `relay check --config FILE` says what is missing.\n\
         \n[identity]\nkey = {:?}\n\
         \n# Gateways connect here (UDP).\n[quic]\nlisten = \"{listen}\"\n\
         \n# budget: all bodies together; the process needs about a tenth more. A body above hold_max passes through\n\
         # without being held as a whole. ttl: how long a body waits for a gateway that is not there.\n\
         [memory]\nbudget = \"1 GiB\"\nhold_max = \"128 MiB\"\nttl = \"15m\"\n\
         \n[admin]\nlisten = \"{admin}\"\n\
         \n# Where memory could be swapped out, the relay does not start. \"accept\" starts it and says so.\n\
         # [sandbox]\n# swap = \"refuse\"\n",
        keys.join(IDENTITY_KEY).display().to_string(),
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
