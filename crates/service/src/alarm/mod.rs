//! `[alarm]`: tells people what is wrong, by e-mail, a webhook or a program of theirs, where there is no Prometheus.
//!
//! Not the daemon tells it, but a program that a timer starts (`alarm send`): one that is dead or hangs could not say so, and a
//! daemon may start no program and reaches nobody but its peers. It looks once, compares with what was told before, and tells what is
//! new, what is over, and now and then what still stands. Each way has its own memory of what it was told: one that fails now is tried
//! again with the next look, and what another took is not repeated.
//!
//! A [`Condition`] is made of names in the configuration, of counts and times: never of what an instance says.

mod command;
mod look;
mod mail;
mod memory;
mod message;
mod program;
mod webhook;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Loaded, Span};
use crate::files;

pub use command::{AlarmCommand, Role};
pub use look::{Condition, destinations, disk, queue, tenants};
pub use mail::{MailTable, Security};
pub use webhook::WebhookTable;

/// `[alarm]`: who is told when something is wrong, by `alarm send`, which a timer starts every minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmTable {
    /// The file that says what was told already. Default: `alarm.json` beside the configuration, or for one in /etc
    /// /var/lib/sluis/ROLE/alarm.json.
    pub state: Option<PathBuf>,
    /// How long something has to stand, or to be over, before it is told. Default 2 min: a restart is no alarm.
    pub after: Span,
    /// How often what still stands is told again. Default 24 h.
    pub repeat: Span,
    /// gateway-out: the age of the oldest instance that is owed. Default 15 min.
    pub oldest: Span,
    /// gateway-out: parked instances, from so many on. Default 1: any.
    pub parked: u64,
    /// Free space on the disk of the daemon's folder, in percent, below which it is told. Default 10. The relay has no such folder.
    pub disk: u8,
    /// The relay: a gateway that has not been connected for so long. Default: none is told.
    pub silent: Option<Span>,
    /// `[alarm.mail]`. Default: none.
    pub mail: Option<MailTable>,
    /// `[alarm.webhook]`. Default: none.
    pub webhook: Option<WebhookTable>,
    /// A program with its arguments, as in `["/usr/local/bin/page", "--team", "pacs"]`: it gets the message as JSON on its standard input
    /// and has 30 s. Default: none.
    pub command: Vec<String>,
}

impl Default for AlarmTable {
    fn default() -> Self {
        Self {
            state: None,
            after: Span::from_secs(120),
            repeat: Span::from_secs(24 * 3600),
            oldest: Span::from_secs(15 * 60),
            parked: 1,
            disk: 10,
            silent: None,
            mail: None,
            webhook: None,
            command: Vec::new(),
        }
    }
}

/// Refuses files that cannot be used. Not for a reload: a daemon that has locked itself down reads none of them, and needs none.
pub fn check_files<T>(table: Option<&AlarmTable>, loaded: &Loaded<T>) -> Result<(), ConfigError> {
    let Some(table) = table else { return Ok(()) };
    if let Some(mail) = &table.mail {
        mail.check_files(loaded)?;
    }
    if let Some(webhook) = &table.webhook {
        webhook.check_files(loaded)?;
    }
    Ok(())
}

impl AlarmTable {
    /// The file that says what was told already; a relative path starts at the configuration's folder.
    pub fn state_file(&self, config: &Path, role: &str) -> PathBuf {
        self.state.clone().unwrap_or_else(|| files::state_dir(config, role, "alarm.json"))
    }

    /// The files of secrets and authorities that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let mail = self.mail.iter().flat_map(|mail| [&mail.password, &mail.ca]);
        let webhook = self.webhook.iter().flat_map(|webhook| [&webhook.token, &webhook.ca]);
        mail.chain(webhook).flatten()
    }

    /// Refuses what could not be told, or would be told all the time.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let minute = Duration::from_secs(60);
        if self.repeat.duration() < minute * 10 {
            return Err(loaded
                .error("alarm.repeat", "give at least 10min: people stop reading what comes all the time"));
        }
        if self.after.duration() > minute * 60 {
            return Err(loaded.error("alarm.after", "give at most 1h"));
        }
        if self.oldest.duration() < Duration::from_secs(1) {
            return Err(loaded.error("alarm.oldest", "give at least 1s"));
        }
        if self.parked == 0 {
            return Err(loaded.error("alarm.parked", "give at least 1: that is any"));
        }
        if self.disk > 99 {
            return Err(loaded.error("alarm.disk", "give percent, 0 to 99"));
        }
        if self.silent.is_some_and(|silent| silent.duration() < minute) {
            return Err(loaded.error("alarm.silent", "give at least 1min"));
        }
        if self.command.first().is_some_and(|program| !program.starts_with('/')) {
            return Err(loaded.error(
                "alarm.command",
                "give the program by its absolute path, as in [\"/usr/local/bin/page\"]",
            ));
        }
        if let Some(mail) = &self.mail {
            mail.check(loaded)?;
        }
        if let Some(webhook) = &self.webhook {
            webhook.check(loaded)?;
        }
        Ok(())
    }

    /// Whether anybody is told anything.
    pub fn tells(&self) -> bool {
        self.mail.is_some() || self.webhook.is_some() || !self.command.is_empty()
    }
}
