//! `alarm show`, `alarm send` and `alarm test`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base::Timestamp;
use clap::Subcommand;
use serde_json::{Value, json};

use super::memory::Memory;
use super::message::Message;
use super::{AlarmTable, Condition, look, program};
use crate::admin;
use crate::peers::admin_access;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum AlarmCommand {
    /// Show what is wrong now, whether or not somebody was told. Exit code 1 says that something is.
    Show {
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Look once, and tell by mail, webhook and program what is new, what is over, and now and then what still stands. For a timer.
    Send,
    /// Tell a test by every way that is configured, and show what became of it.
    Test,
}

/// What the daemons differ in.
#[derive(Debug)]
pub struct Role<'a> {
    /// `gateway-out`, `gateway-in` or `relay`.
    pub role: &'static str,
    /// Of this program.
    pub version: &'static str,
    /// The configuration file. Paths in it start at its folder.
    pub config: &'a Path,
    /// `[alarm]`, as [`peek`](crate::config::peek) finds it: a configuration that was broken elsewhere is a reason for an alarm.
    pub table: Option<AlarmTable>,
    /// The folder that the daemon writes to.
    pub folder: Option<PathBuf>,
    /// What only this role can tell, from its status.
    pub conditions: fn(&Value, &AlarmTable) -> Vec<Condition>,
}

/// One look.
struct Seen {
    found: Vec<Condition>,
    /// The name on the daemon's card.
    name: Option<String>,
    /// The daemon has answered.
    complete: bool,
}

impl Role<'_> {
    /// Runs one of the commands.
    pub async fn command(&self, command: AlarmCommand) -> Result<()> {
        match command {
            AlarmCommand::Show { json } => show(self, json).await,
            AlarmCommand::Send => send(self).await,
            AlarmCommand::Test => test(self).await,
        }
    }

    /// Where relative paths start.
    fn dir(&self) -> Result<PathBuf> {
        let absolute = std::path::absolute(self.config)?;
        Ok(absolute.parent().map(Path::to_owned).unwrap_or_default())
    }

    /// Where it is kept what was told.
    fn state(&self, table: &AlarmTable) -> Result<PathBuf> {
        Ok(self.dir()?.join(table.state_file(self.config, self.role)))
    }

    /// Whom to tell, if there is anybody.
    fn telling(&self) -> Option<&AlarmTable> {
        self.table.as_ref().filter(|table| table.tells())
    }
}

async fn see(role: &Role<'_>, table: &AlarmTable) -> Result<Seen> {
    let (access, dir) = (admin_access(role.config)?, role.dir()?);
    let folder = role.folder.as_ref().map(|folder| dir.join(folder));
    let mut found: Vec<_> = folder.iter().filter_map(|folder| look::disk(folder, table)).collect();
    match admin::fetch_status(access.clone()).await {
        Ok(status) => {
            found.extend(look::common(&status));
            found.extend((role.conditions)(&status, table));
            // The relay has no such page.
            if let Err(admin::RequestError::Refused { status: 503, text }) =
                admin::fetch_text(access, "/readyz").await
            {
                found.push(Condition::new(
                    "ready",
                    format!("it takes nothing: {text}"),
                    "the disk, or the log of a relay",
                ));
            }
            let name = status.get("name").and_then(Value::as_str).map(str::to_owned);
            Ok(Seen { found, name, complete: true })
        }
        Err(error) => {
            let text = format!("the daemon does not answer: {error}");
            found.push(Condition::new("daemon", text, "systemctl status, journalctl -u of its unit"));
            Ok(Seen { found, name: None, complete: false })
        }
    }
}

async fn show(role: &Role<'_>, as_json: bool) -> Result<()> {
    let table = role.table.clone().unwrap_or_default();
    let mut seen = see(role, &table).await?;
    // What has to stand for a time of its own is known to `send`, which remembers.
    seen.found.retain(|condition| condition.after.is_none());
    if as_json {
        let list: Vec<_> = seen
            .found
            .iter()
            .map(|one| json!({ "key": one.key, "text": one.text, "first": one.remedy }))
            .collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({ "role": role.role, "name": seen.name, "alarms": list }))?
        );
    }
    for one in seen.found.iter().filter(|_| !as_json) {
        println!("{}\n  first: {}", one.text, one.remedy);
    }
    match seen.found.len() {
        0 if as_json => Ok(()),
        0 => {
            println!("nothing is wrong");
            Ok(())
        }
        1 => bail!("1 alarm"),
        count => bail!("{count} alarms"),
    }
}

async fn send(role: &Role<'_>) -> Result<()> {
    let table = role.telling().ok_or_else(|| nobody(role))?;
    let (path, dir) = (role.state(table)?, role.dir()?);
    // One that cannot be read must not keep an alarm back: what was told is told once more.
    let mut memory = Memory::read(&path).unwrap_or_else(|error| {
        eprintln!("{}: {error}; what was told before is told again", path.display());
        Memory::default()
    });
    let (seen, now) = (see(role, table).await?, Timestamp::now());
    let ways = ways(table);
    memory.keep_ways(&ways);
    memory.look(&seen.found, seen.complete, table, now);
    if let Err(error) = memory.write(&path) {
        // Without it nothing would ever have stood for long enough: all of it is told at once, and with each look until that is mended.
        let text = format!("what was told cannot be kept: {}: {error}", path.display());
        let unkept = Condition::new("memory", text, "the disk, or `state` in [alarm]");
        let found: Vec<_> = seen.found.into_iter().chain([unkept]).collect();
        let found: Vec<_> =
            found.into_iter().map(|one| Condition { after: Some(Duration::ZERO), ..one }).collect();
        memory.look(&found, seen.complete, table, now);
    }
    let name = seen.name.as_deref().unwrap_or("");
    let mut failed = 0;
    for way in ways {
        let news = memory.news(way, table, now);
        if news.is_empty() {
            continue;
        }
        let message = Message { role: role.role, name, version: role.version, at: now, news: Some(&news) };
        match tell(way, table, &message, &dir).await {
            Ok(_) => {
                println!(
                    "{way}: told {} new, {} over, {} still",
                    news.raised.len(),
                    news.over.len(),
                    news.still.len()
                );
                memory.told(way, &news, now);
                // Now: the next way may take longer than we are given.
                if let Err(error) = memory.write(&path) {
                    failed += 1;
                    eprintln!("{}: {error}", path.display());
                }
            }
            Err(error) => {
                failed += 1;
                eprintln!("{way}: {}; it is tried again with the next look", plain(&format!("{error:#}")));
            }
        }
    }
    memory.write(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} of the ways to tell alarms failed"),
    }
}

async fn test(role: &Role<'_>) -> Result<()> {
    let table = role.telling().ok_or_else(|| nobody(role))?;
    let (seen, dir) = (see(role, table).await?, role.dir()?);
    let name = seen.name.as_deref().unwrap_or("");
    let message = Message { role: role.role, name, version: role.version, at: Timestamp::now(), news: None };
    let mut failed = 0;
    let path = role.state(table)?;
    match Memory::read(&path).and_then(|memory| memory.write(&path)) {
        Ok(()) => println!("ok       state: {}", path.display()),
        Err(error) => {
            failed += 1;
            println!("FAILED   state: {}: {error}", path.display());
        }
    }
    for way in ways(table) {
        match tell(way, table, &message, &dir).await {
            Ok(said) => println!("ok       {way}: {}", plain(&said)),
            Err(error) => {
                failed += 1;
                println!("FAILED   {way}: {}", plain(&format!("{error:#}")));
            }
        }
    }
    println!("`systemctl enable --now sluis-{}-alarm.timer` has it looked every minute", role.role);
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} of the ways to tell alarms failed"),
    }
}

fn nobody(role: &Role<'_>) -> anyhow::Error {
    anyhow!(
        "nobody would be told: {} has no [alarm.mail], no [alarm.webhook] and no `command` in [alarm]",
        role.config.display()
    )
}

/// What a server has said decides nothing on a terminal.
fn plain(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { '?' } else { c }).take(500).collect()
}

/// The ways that are configured. Mail is last: a server that gives its answer byte by byte may take all the time that the unit has.
fn ways(table: &AlarmTable) -> Vec<&'static str> {
    let mail = table.mail.as_ref().map(|_| "mail");
    let webhook = table.webhook.as_ref().map(|_| "webhook");
    let program = (!table.command.is_empty()).then_some("command");
    program.into_iter().chain(webhook).chain(mail).collect()
}

/// Tells it by one way, and gives what was answered.
async fn tell(way: &str, table: &AlarmTable, message: &Message<'_>, dir: &Path) -> Result<String> {
    // Mail and webhook wait for the other side, which is all that this program has to do then.
    match (way, &table.mail, &table.webhook) {
        ("mail", Some(mail), _) => tokio::task::block_in_place(|| mail.send(message, dir)),
        ("webhook", _, Some(webhook)) => tokio::task::block_in_place(|| webhook.send(message, dir)),
        _ => program::run(&table.command, message).await,
    }
}
