//! `admit`, `revoke` and `tenants`: who is admitted, changed from outside the running relay.
//!
//! A command writes below the configuration's folder, a file at a time and each as a whole: a card in `cards/`, a table
//! in `conf.d/ROLE/`. Then it asks the relay to read its configuration again; where none runs, it counts from the next
//! start. What a person wrote is not touched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base::{Fingerprint, Name, Timestamp};
use clap::Args;
use identity::{IdentityPublic, PeerCard, fingerprint_text, fingerprint_words};
use service::admin::{self, RequestError};
use service::config::{ByteSize, ENVIRONMENT_PREFIX, Loaded, Place, fragments_dir, load};
use service::exit::UsageError;
use service::files::{self, Edits};
use service::peers::admin_access;
use service::pins;

use crate::config::{Config, TenantTable};
use crate::emergency::{self, Known};
use crate::settings::{Entry, Settings};
use crate::vault::Status;

/// `relay admit`
#[derive(Debug, Args)]
pub(crate) struct AdmitArgs {
    /// The gateway's card file. Compare its fingerprint with the gateway's people before.
    card: PathBuf,
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
    config: PathBuf,
    /// Tenants that it may deposit for; names or a list with commas.
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    deposit_for: Vec<Name>,
    /// Tenants that may deposit for it.
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    deposit_from: Vec<Name>,
    /// Bytes that its deposits may hold, as in "200 MiB".
    #[arg(long, value_name = "SIZE")]
    budget: Option<ByteSize>,
    /// Body bytes that it may deposit in a second, as in "20 MB".
    #[arg(long, value_name = "SIZE")]
    bytes_per_second: Option<ByteSize>,
    /// Deposits that it may begin in a second.
    #[arg(long, value_name = "NUMBER")]
    deliveries_per_second: Option<u64>,
    /// Pin this card although it has other identity keys than the pinned one of that name, and these do not vouch for it.
    #[arg(long)]
    replace: bool,
}

/// `relay revoke`
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The tenant's name, or its fingerprint or at least eight digits of its beginning.
    tenant: String,
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
    config: PathBuf,
}

/// Drafts of a command that was killed; another one may be at work at this moment.
const DRAFT_LIFE: Duration = Duration::from_secs(60);

/// Admits a card, or takes over a newer one of a tenant.
pub(crate) async fn admit(args: AdmitArgs) -> Result<()> {
    files::refuse_foreign(&args.config)?;
    remove_drafts(&args.config);
    let loaded = load::<Config>(&args.config, ENVIRONMENT_PREFIX)?;
    Settings::check(&loaded)?;
    let text = std::fs::read_to_string(&args.card)
        .with_context(|| format!("cannot read the card {}", args.card.display()))?;
    let card = PeerCard::parse(text.trim()).with_context(|| args.card.display().to_string())?;
    let (id, fingerprint) = (card.id(), card.identity.fingerprint());
    let known = loaded.config.tenants.iter().position(|table| table.name == card.name);

    let mut edits = Edits::default();
    let written = write_admission(&loaded, &args, &card, known, &mut edits);
    let outcome = written.and_then(|()| {
        // All of it must be a configuration before anybody is asked to use it.
        let settings = Settings::check(&load::<Config>(&args.config, ENVIRONMENT_PREFIX)?)?;
        let admitted = settings.policy.tenants.contains_key(&id);
        if admitted { Ok(()) } else { Err(still_revoked(&args.config, &card)) }
    });
    if let Err(error) = outcome {
        edits.take_back().context("what was written cannot be taken back")?;
        return Err(error.context("nothing was changed"));
    }
    println!("admitted     {}", card.name);
    println!("fingerprint  {}", fingerprint_text(&fingerprint));
    println!("in words     {}", fingerprint_words(&fingerprint));
    if let Some(line) = pins::earlier_keys(&card, Timestamp::now()) {
        println!("{line}");
    }
    tell_relay(&args.config).await
}

/// The card first, then the table that names it, and at last the end of a revocation.
fn write_admission(
    loaded: &Loaded<Config>,
    args: &AdmitArgs,
    card: &PeerCard,
    known: Option<usize>,
    edits: &mut Edits,
) -> Result<()> {
    let name = &card.name;
    let fragment = fragments_dir(loaded.path()).join(format!("tenant-{name}.toml"));
    let mut table = TenantTable::new(name.clone(), PathBuf::from(format!("cards/{name}.card")));
    if let Some((i, pinned)) = known.and_then(|i| Some((i, loaded.config.tenants.get(i)?))) {
        let path = loaded.resolve(&pinned.card);
        let earlier =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let earlier = PeerCard::parse(earlier.trim())?;
        if earlier != *card && !args.replace {
            // A card of keys that these vouch for is the same tenant's: what it has here stays.
            pins::may_succeed(card, &earlier)?;
        }
        let place = loaded.place(&format!("tenant[{i}]"));
        let ours = matches!(&place, Place::File { path, .. } if *path == fragment);
        if !ours && args.has_rights() {
            bail!(UsageError(format!("what {name} may do stands in {place}; change it there")));
        }
        table = pinned.clone();
    }
    let path = loaded.resolve(&table.card);
    put(edits, &path, &format!("{}\n", card.to_line()))?;
    if known.is_none() || args.has_rights() {
        args.change(&mut table);
        put(edits, &fragment, &table.to_toml())?;
    }
    for named in names_of(card) {
        let revocation = revocation_file(loaded.path(), &named);
        edits.remove(&revocation).with_context(|| format!("cannot remove {}", revocation.display()))?;
    }
    Ok(())
}

/// All that a revocation may have called the gateway of this card by.
fn names_of(card: &PeerCard) -> BTreeSet<Fingerprint> {
    card.all_identities().map(IdentityPublic::fingerprint).chain([card.id()]).collect()
}

fn put(edits: &mut Edits, path: &Path, text: &str) -> Result<()> {
    edits.put(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn still_revoked(config: &Path, card: &PeerCard) -> anyhow::Error {
    let place = load::<Config>(config, ENVIRONMENT_PREFIX).ok().and_then(|loaded| {
        let i = loaded.config.revoked.iter().position(|table| table.means(card))?;
        Some(loaded.place(&format!("revoked[{i}]")).to_string())
    });
    let place = place.unwrap_or_else(|| "a [[revoked]] table".to_owned());
    anyhow!("{place} says that it is revoked; remove that table first")
}

/// Revokes a tenant: nothing it has connected or deposited stays.
///
/// It is an emergency: another file that is wrong does not stop it.
pub(crate) async fn revoke(args: RevokeArgs) -> Result<()> {
    remove_drafts(&args.config);
    let whole = load::<Config>(&args.config, ENVIRONMENT_PREFIX)
        .and_then(|loaded| Settings::check(&loaded).map(|settings| settings.directory));
    let known = match whole {
        Ok(directory) => directory.into_iter().map(Known::from).collect(),
        Err(error) => {
            eprintln!("warning: {error}");
            eprintln!("warning: the configuration cannot be used; the revocation is made all the same");
            known_to_anybody(&args.config).await
        }
    };
    let entry = find(known, &args.tenant)?;
    let text = format!(
        "# Written by `relay revoke`; `relay admit` with this gateway's card ends it.\n\
         [[revoked]]\nname = \"{}\"\nfingerprint = \"{}\"\nat = \"{}\"\n",
        entry.name,
        entry.id,
        service::text::utc(Timestamp::now())
    );
    let path = revocation_file(&args.config, &entry.id);
    put(&mut Edits::default(), &path, &text)?;
    println!("revoked      {}", entry.name);
    println!("fingerprint  {}", fingerprint_text(&entry.fingerprint));
    tell_relay(&args.config).await
}

/// The tenants of the running relay, and those whose tables and cards can be read.
async fn known_to_anybody(config: &Path) -> Vec<Known> {
    let mut known = emergency::tenants(config);
    if let Ok(admin) = admin_access(config)
        && let Ok(status) = admin::fetch_status(admin).await
        && let Some(admission) = status.get("admission")
        && let Ok(directory) = serde_json::from_value::<Vec<Entry>>(admission.clone())
    {
        known.extend(directory.into_iter().map(Known::from));
    }
    known.sort();
    known.dedup();
    known
}

impl From<Entry> for Known {
    fn from(entry: Entry) -> Self {
        Self { name: entry.name, id: entry.id, fingerprint: entry.fingerprint }
    }
}

/// As a command line names it: by name, or by the beginning of a fingerprint.
fn find(known: Vec<Known>, text: &str) -> Result<Known> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_lowercase();
    let only_digits = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-' || c == ':');
    let by_digits = only_digits && digits.len() >= 8;
    let begins = |fingerprint: &Fingerprint| by_digits && fingerprint.to_string().starts_with(&digits);
    let mut found = known
        .into_iter()
        .filter(|known| known.name.as_str() == text || begins(&known.fingerprint) || begins(&known.id));
    match (found.next(), found.next()) {
        (Some(known), None) => Ok(known),
        (None, _) => Err(anyhow!(
            "no tenant is called {text}, or has a fingerprint that begins so; `relay tenants` lists them"
        )),
        (Some(_), Some(_)) => {
            Err(anyhow!("several tenants match {text}; give more digits of the fingerprint"))
        }
    }
}

/// One file for each revoked identity.
fn revocation_file(config: &Path, fingerprint: &Fingerprint) -> PathBuf {
    let digits: String = fingerprint.to_string().chars().take(16).collect();
    fragments_dir(config).join(format!("revoked-{digits}.toml"))
}

/// Best effort: what stays is never read.
fn remove_drafts(config: &Path) {
    let cards = config.with_file_name("cards");
    for folder in [fragments_dir(config), cards].iter().filter(|folder| folder.is_dir()) {
        if let Err(error) = files::remove_drafts(folder, DRAFT_LIFE) {
            eprintln!("warning: drafts in {} stay: {error}", folder.display());
        }
    }
}

async fn tell_relay(config: &Path) -> Result<()> {
    let access = admin_access(config).context("written; send the running relay SIGHUP")?;
    match admin::ask_to_reload(access).await {
        Ok(changed) => {
            let count = |key: &str| changed.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
            println!(
                "the running relay has taken it over: {} tenants, {} revoked, {} connections closed",
                count("tenants"),
                count("revoked"),
                count("connections_closed")
            );
            if let Some(reason) = changed.get("refused").and_then(serde_json::Value::as_str) {
                eprintln!(
                    "warning: it took over the revocation, and nothing else of its configuration: {reason}"
                );
            }
            Ok(())
        }
        Err(error @ RequestError::Connection { .. }) => {
            println!("no relay is running ({error}); it counts from the next start");
            Ok(())
        }
        Err(error) => Err(anyhow!(error).context("written, but the running relay has not taken it over")),
    }
}

/// Lists all tenants: who they are, what they may, whether they are here.
pub(crate) async fn tenants(config: &Path, json: bool) -> Result<()> {
    let running = admin::fetch_status(admin_access(config)?).await;
    let (directory, status) = match running {
        Ok(answer) => {
            let admission = answer.get("admission").cloned().unwrap_or_default();
            let directory: Vec<Entry> =
                serde_json::from_value(admission).context("the answer is not a relay's status")?;
            (directory, serde_json::from_value::<Status>(answer).ok())
        }
        Err(RequestError::Connection { .. }) => {
            (Settings::check(&load::<Config>(config, ENVIRONMENT_PREFIX)?)?.directory, None)
        }
        Err(error) => return Err(error.into()),
    };
    if json {
        println!(
            "{}",
            serde_json::to_string_pretty(&serde_json::json!({
                "running": status.is_some(), "tenants": directory,
                "connected": status.as_ref().map(|status| &status.tenants),
            }))?
        );
        return Ok(());
    }
    if status.is_none() {
        eprintln!("no relay is running; this is what the configuration says");
    }
    for entry in &directory {
        println!("{}", line(entry, status.as_ref()));
    }
    Ok(())
}

/// One tenant.
fn line(entry: &Entry, status: Option<&Status>) -> String {
    let here =
        status.and_then(|status| status.tenants.iter().find(|tenant| tenant.name == entry.name.as_str()));
    let state = match (&entry.revoked, here, status) {
        (Some(at), ..) => format!("REVOKED {at}"),
        (None, Some(here), _) => here.connected().to_owned(),
        (None, None, Some(_)) => "not connected".to_owned(),
        (None, None, None) => "admitted".to_owned(),
    };
    let names: Vec<_> = entry.deposit_for.iter().map(Name::as_str).collect();
    let may = match names.as_slice() {
        [] => "collects only".to_owned(),
        names => format!("deposits for {}", names.join(", ")),
    };
    let card =
        entry.card_ends.map_or_else(String::new, |end| format!("; card ends {}", service::text::utc(end)));
    format!("{:<24} {}  {state}; {may}{card}", entry.name.as_str(), fingerprint_text(&entry.fingerprint))
}

impl AdmitArgs {
    /// Whether anything is said of what the tenant may do.
    fn has_rights(&self) -> bool {
        !self.deposit_for.is_empty()
            || !self.deposit_from.is_empty()
            || self.budget.is_some()
            || self.bytes_per_second.is_some()
            || self.deliveries_per_second.is_some()
    }

    /// What is said replaces what was; the rest stays.
    fn change(&self, table: &mut TenantTable) {
        if !self.deposit_for.is_empty() {
            table.deposit_for = self.deposit_for.clone();
        }
        if !self.deposit_from.is_empty() {
            table.deposit_from = self.deposit_from.clone();
        }
        table.budget = self.budget.or(table.budget);
        table.bytes_per_second = self.bytes_per_second.or(table.bytes_per_second);
        table.deliveries_per_second = self.deliveries_per_second.or(table.deliveries_per_second);
    }
}
