//! `peer update CARD`, the same in both gateways: another card of a peer or relay that is pinned already.
//!
//! A card is taken where the pinned one vouches for it. Anything else is an operator's decision, for which both
//! fingerprints are shown in words.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use base::{Name, Timestamp};
use identity::{PeerCard, Update, fingerprint_text, fingerprint_words};

use crate::admin::{self, RequestError};
use crate::config::Loaded;
use crate::files::{self, Edits};
use crate::peers::{PeerTable, RelayTable, admin_access};
use crate::rotation::read_card;
use crate::text::utc;

/// The card files of a configuration, each with the name that its table gives.
#[derive(Debug, Clone, Default)]
pub struct Pins(Vec<(Name, PathBuf)>);

impl Pins {
    /// Of all `[[peer]]` and `[[relay]]` tables.
    pub fn of<T>(loaded: &Loaded<T>, peers: &[PeerTable], relays: &[RelayTable]) -> Self {
        let peers = peers.iter().map(|table| (&table.name, &table.card));
        let all = peers.chain(relays.iter().map(|table| (&table.name, &table.card)));
        Self(all.map(|(name, card)| (name.clone(), loaded.resolve(card))).collect())
    }

    /// Puts the card in `file` in place of the pinned one, has `check` look at the whole configuration, and has the running
    /// daemon read it. Nothing is changed where any of it is refused.
    pub async fn update(
        &self,
        config: &Path,
        file: &Path,
        replace: bool,
        check: impl Fn() -> Result<()>,
    ) -> Result<()> {
        files::refuse_foreign(config)?;
        let card = read_card(file).map_err(|reason| anyhow!("{}: {reason}", file.display()))?;
        let mut edits = Edits::default();
        let outcome = self.write(&card, replace, &mut edits).and_then(|known| check().map(|()| known));
        match outcome {
            Ok(Written::Known) => {
                println!("the card of {} is pinned already", card.name);
                return Ok(());
            }
            Ok(Written::New) => {}
            Err(error) => {
                edits.take_back().context("what was written cannot be taken back")?;
                return Err(error.context("nothing was changed"));
            }
        }
        println!("pinned       {} card {}", card.name, card.serial);
        println!("fingerprint  {}", fingerprint_text(&card.identity.fingerprint()));
        println!("in words     {}", fingerprint_words(&card.identity.fingerprint()));
        if let Some(line) = earlier_keys(&card, Timestamp::now()) {
            println!("{line}");
        }
        tell(config).await
    }

    fn write(&self, card: &PeerCard, replace: bool, edits: &mut Edits) -> Result<Written> {
        let pinned: Vec<_> = self.0.iter().filter(|(name, _)| *name == card.name).collect();
        if pinned.is_empty() {
            let names = self.0.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(", ");
            bail!("no [[peer]] or [[relay]] is called {}; there are: {names}", card.name);
        }
        let mut written = Written::Known;
        for (_, path) in pinned {
            let earlier = read_card(path).map_err(|reason| anyhow!("{}: {reason}", path.display()))?;
            if earlier == *card {
                continue;
            }
            if !replace {
                may_succeed(card, &earlier)?;
            }
            edits
                .put(path, format!("{}\n", card.to_line()).as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            written = Written::New;
        }
        Ok(written)
    }
}

enum Written {
    New,
    /// It is the pinned one.
    Known,
}

/// Whether a card takes the place of the pinned one by itself; if not, both fingerprints for whoever decides.
pub fn may_succeed(card: &PeerCard, pinned: &PeerCard) -> Result<Update> {
    card.check_update(pinned).map_err(|error| {
        let words = |card: &PeerCard| fingerprint_words(&card.identity.fingerprint());
        anyhow!(
            "{error}\n  pinned: {}\n  given:  {}\nTo pin it all the same, after comparing the words with the peer's people, give --replace",
            words(pinned),
            words(card)
        )
    })
}

/// How long the earlier keys on a card count, in words for a person.
pub fn earlier_keys(card: &PeerCard, now: Timestamp) -> Option<String> {
    let earlier = card.overlap(now)?;
    let keys = fingerprint_text(&earlier.identity.fingerprint());
    let switch = match now < earlier.switch {
        true => format!(", the new ones are used from {} on", utc(earlier.switch)),
        false => String::new(),
    };
    Some(format!("earlier keys {keys} count until {}{switch}", utc(earlier.until)))
}

/// Has the daemon of a configuration read it again.
pub async fn tell(config: &Path) -> Result<()> {
    let access = admin_access(config).context("written; send the running daemon SIGHUP")?;
    match admin::ask_to_reload(access).await {
        Ok(_) => println!("the running daemon has taken it over"),
        Err(error @ RequestError::Connection { .. }) => {
            println!("no daemon is running ({error}); it counts from the next start");
        }
        Err(error) => {
            return Err(anyhow!(error).context("written, but the running daemon has not taken it over"));
        }
    }
    Ok(())
}
