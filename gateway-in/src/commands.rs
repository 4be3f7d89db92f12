//! `gateway-in probe` and `gateway-in echo`: done by the running daemon, which keeps what it finds out; without one, by
//! the command itself, for whoever is setting up.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use base::{Name, Timestamp};
use enquiry::EchoAnswer;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{
    admin::{self, RequestError},
    alarm::{self, AlarmCommand, AlarmTable, Role},
    config::{self, Loaded},
};
use tokio::time::Instant;

use crate::{
    asked,
    config::{Config, DestinationSettings, LedgerTable, Target},
    destination::{Folder, echo_dicom, echo_stow, probe},
    tables,
};

/// The longest that a probe may take: 192 associations to a slow archive.
const PROBE_WITHIN: Duration = Duration::from_secs(30 * 60);
/// The longest that an echo may take.
const ECHO_WITHIN: Duration = Duration::from_secs(10);

/// Prints what a destination accepts.
pub(crate) async fn probe_command(loaded: &Loaded<Config>, name: &Name, json: bool) -> Result<()> {
    let shown = match ask(loaded, "/probe", name, PROBE_WITHIN).await? {
        Some(shown) => shown,
        None => {
            eprintln!("not running; what is found out is shown and not kept");
            let settings = Config::check(loaded)?;
            let Target::Dicom(target) = &destination(&settings.destinations, name)?.target else {
                bail!("{}", tables::not_asked(name));
            };
            tables::shown(name, &probe(target, None).await?, Some(Timestamp::now()))
        }
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        print!("{}", tables::text(&shown));
    }
    Ok(())
}

/// Asks a destination by C-ECHO, or by what its kind has instead.
pub(crate) async fn echo_command(loaded: &Loaded<Config>, name: &Name, json: bool) -> Result<()> {
    let shown = match ask(loaded, "/echo", name, 2 * ECHO_WITHIN).await? {
        Some(shown) => shown,
        None => {
            eprintln!("not running; this command asks by itself");
            let settings = Config::check(loaded)?;
            asked::echo_json(name, &echo_alone(destination(&settings.destinations, name)?).await)
        }
    };
    let text = |key: &str| {
        shown.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let [outcome, took] = ["outcome", "took_ms"].map(|key| text(key).unwrap_or_default());
    if json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        println!("destination {name} {outcome} ({took} ms)");
    }
    if shown.get("answered") != Some(&Value::Bool(true)) {
        bail!("destination {name} {outcome}");
    }
    Ok(())
}

/// What the running daemon answers; nothing, where none is running.
async fn ask(loaded: &Loaded<Config>, path: &str, name: &Name, within: Duration) -> Result<Option<Value>> {
    let ask = json!({ "destination": name });
    match admin::post_json_within(loaded.config.admin.listen, path, &ask, within).await {
        Ok(answer) => Ok(Some(answer)),
        Err(RequestError::Connection { .. }) => Ok(None),
        Err(RequestError::Refused { text, .. }) => bail!("{text}"),
        Err(error) => Err(error.into()),
    }
}

fn destination<'a>(
    all: &'a std::collections::HashMap<Name, std::sync::Arc<DestinationSettings>>,
    name: &Name,
) -> Result<&'a DestinationSettings> {
    match all.get(name) {
        Some(settings) => Ok(settings),
        None => bail!("no [[destination]] is called {name}"),
    }
}

/// Whether a destination answers, as the running daemon says or as is seen from here; and in words what it did.
pub(crate) async fn answers(
    loaded: &Loaded<Config>,
    settings: &DestinationSettings,
    is_running: bool,
) -> Result<String, String> {
    let name = &settings.name;
    let shown = match is_running {
        true => ask(loaded, "/echo", name, 2 * ECHO_WITHIN).await.map_err(|error| error.to_string())?,
        false => None,
    };
    let shown = match shown {
        Some(shown) => shown,
        None => asked::echo_json(name, &echo_alone(settings).await),
    };
    let outcome = shown.get("outcome").and_then(Value::as_str).unwrap_or_default().to_owned();
    match shown.get("answered") == Some(&Value::Bool(true)) {
        true => Ok(outcome),
        false => Err(outcome),
    }
}

/// Only while no daemon is running: one that is has files in its folders that are not finished yet, and this removes those.
async fn echo_alone(settings: &DestinationSettings) -> EchoAnswer {
    let began = Instant::now();
    let outcome = match &settings.target {
        Target::Dicom(target) => echo_dicom(target, None, ECHO_WITHIN).await,
        Target::Stow(target) => echo_stow(target, ECHO_WITHIN).await,
        Target::Folder(dir) => match Folder::open(dir).and_then(|folder| folder.try_write()) {
            Ok(()) => enquiry::EchoOutcome::Answered,
            Err(_) => enquiry::EchoOutcome::Folder,
        },
    };
    EchoAnswer { outcome, took_ms: u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX) }
}

/// Looks what is wrong, and tells it.
pub(crate) async fn alarm(config: &Path, command: AlarmCommand) -> Result<()> {
    #[derive(Deserialize)]
    struct Only {
        ledger: LedgerTable,
        alarm: Option<AlarmTable>,
    }
    let only: Only = config::peek(config, config::ENVIRONMENT_PREFIX)?;
    let role = Role {
        role: "gateway-in",
        version: env!("CARGO_PKG_VERSION"),
        config,
        table: only.alarm,
        folder: Some(only.ledger.dir),
        conditions: |status, _| alarm::destinations(status),
    };
    role.command(command).await
}
