//! `receipt verify`, the same in both gateways: one file, the cards of those who signed it, no network.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use identity::PeerCard;
use ledger::{Cards, Proven, ReceiptFile};

/// The card files of those whose signatures are looked for.
#[derive(Debug, Clone, Default)]
pub struct CardFiles {
    /// The receiving gateway's.
    pub receiver: PathBuf,
    /// The sending gateway's.
    pub sender: Option<PathBuf>,
    /// The relay's.
    pub relay: Option<PathBuf>,
}

/// Verifies a receipt file. Answers what is proven, for a screen.
pub fn verify(file: &Path, cards: &CardFiles) -> Result<String> {
    let receiver = card(&cards.receiver)?;
    let sender = cards.sender.as_deref().map(card).transpose()?;
    let relay = cards.relay.as_deref().map(card).transpose()?;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let file = ReceiptFile::parse(&text).context("the receipt is refused")?;
    let Proven { says, unchecked } = file
        .check(&Cards { receiver: &receiver, sender: sender.as_ref(), relay: relay.as_ref() })
        .context("the receipt is refused")?;
    let lines = says.into_iter().map(|(key, value)| format!("{:<16} {value}\n", key.replace('_', " ")));
    let verdict = match unchecked.as_slice() {
        [] => "genuine".to_owned(),
        parts => format!("genuine, but for what was not checked: {}", parts.join(", ")),
    };
    Ok(lines.chain([verdict, "\n".to_owned()]).collect())
}

fn card(path: &Path) -> Result<PeerCard> {
    let line = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    PeerCard::parse(line.trim()).with_context(|| format!("{} is no peer card", path.display()))
}
