//! `trust CARD`, the same in both gateways: a card is shown, and pinned when somebody has compared its words.
//!
//! What a person wrote is not touched: the card goes to `cards/`, the table that names it to `conf.d/ROLE/`, each file as
//! a whole. A card of a name that is pinned already is for `peer update`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use base::{Name, Timestamp};
use clap::Args;
use identity::{PeerCard, fingerprint_text, fingerprint_words};
use serde::Deserialize;

use crate::config::{ENVIRONMENT_PREFIX, fragments_dir, peek};
use crate::exit::UsageError;
use crate::files::{self, Edits};
use crate::peers::{PeerTable, RelayTable};
use crate::pins::{earlier_keys, tell};
use crate::rotation::read_card;
use crate::text::utc;

/// `trust`
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// The card file that the other side gave you.
    card: PathBuf,
    /// It is the card of a relay, which is reached at this address and UDP port; without, it is the card of a gateway.
    #[arg(long, value_name = "ADDR")]
    relay: Option<SocketAddr>,
    /// Do not ask: the words were compared already.
    #[arg(long)]
    yes: bool,
}

/// Shows the card, asks, and pins it. `check` looks at the whole configuration; where that was good before, it must be good
/// afterwards, or nothing is changed.
pub async fn trust(args: &TrustArgs, config: &Path, check: impl Fn() -> Result<()>) -> Result<()> {
    let TrustArgs { card: file, relay, yes } = args;
    let card = read_card(file).map_err(|reason| anyhow!("{}: {reason}", file.display()))?;
    files::refuse_foreign(config)?;
    refuse_known(config, &card.name)?;
    show(&card, *relay);
    if !yes && !agreed(&card.name)? {
        println!("not pinned");
        return Ok(());
    }
    let good_before = check().is_ok();
    let mut edits = Edits::default();
    let outcome = write(config, &card, *relay, &mut edits).and_then(|()| match check() {
        Err(error) if good_before => Err(error),
        checked => Ok(checked.err()),
    });
    let missing = match outcome {
        Ok(missing) => missing,
        Err(error) => {
            edits.take_back().context("what was written cannot be taken back")?;
            return Err(error.context("nothing was changed"));
        }
    };
    println!("pinned       {}", card.name);
    match missing {
        // It is being set up: one thing after the other.
        Some(error) => println!("still to do  {error:#}"),
        None => tell(config).await?,
    }
    Ok(())
}

#[derive(Deserialize)]
struct Pinned {
    #[serde(rename = "peer", default)]
    peers: Vec<PeerTable>,
    #[serde(rename = "relay", default)]
    relays: Vec<RelayTable>,
}

fn refuse_known(config: &Path, name: &Name) -> Result<()> {
    let Pinned { peers, relays } = peek::<Pinned>(config, ENVIRONMENT_PREFIX)?;
    let mut names = peers.iter().map(|peer| &peer.name).chain(relays.iter().map(|relay| &relay.name));
    if names.any(|known| known == name) {
        bail!("a card of {name} is pinned already: `peer update CARD` takes another one of the same peer");
    }
    Ok(())
}

fn show(card: &PeerCard, relay: Option<SocketAddr>) {
    let fingerprint = card.identity.fingerprint();
    let what = relay.map_or_else(|| "gateway".to_owned(), |address| format!("relay at {address}"));
    println!("name         {} ({what}), card {}", card.name, card.serial);
    println!("fingerprint  {}", fingerprint_text(&fingerprint));
    println!("in words     {}", fingerprint_words(&fingerprint));
    if let Some(until) = card.not_after {
        println!("counts until {}", utc(until));
    }
    if let Some(line) = earlier_keys(card, Timestamp::now()) {
        println!("{line}");
    }
}

/// Nobody is trusted on first use: a person says yes, on a terminal or by `--yes`.
fn agreed(name: &Name) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!(UsageError(
            "nobody is there to ask: compare the words with the other side's people, then give --yes"
                .to_owned()
        ));
    }
    print!("Ask {name}'s people, over the telephone, which words they see. The same? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The card first, then the table that names it.
fn write(config: &Path, card: &PeerCard, relay: Option<SocketAddr>, edits: &mut Edits) -> Result<()> {
    let name = &card.name;
    let beside = PathBuf::from(format!("cards/{name}.card"));
    let mut put = |path: PathBuf, text: String| {
        edits.put(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    };
    put(config.with_file_name("cards").join(format!("{name}.card")), format!("{}\n", card.to_line()))?;
    let beside = beside.display();
    let (kind, table) = match relay {
        Some(address) => {
            ("relay", format!("[[relay]]\nname = \"{name}\"\naddress = \"{address}\"\ncard = \"{beside}\"\n"))
        }
        None => ("peer", format!("[[peer]]\nname = \"{name}\"\ncard = \"{beside}\"\n")),
    };
    put(
        fragments_dir(config).join(format!("{kind}-{name}.toml")),
        format!("# Written by `trust`; remove this file to forget {name}.\n{table}"),
    )
}
