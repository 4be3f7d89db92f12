//! `gateway-out echo` and `gateway-out mirror`: done by the running daemon, which has the sessions.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use base::{AeTitle, Timestamp};
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service::{
    admin::{self, RequestError},
    alarm::{self, AlarmCommand, AlarmTable, Role},
    config,
    peers::admin_access,
    support::{self, SupportArgs},
};

use crate::{
    cli::{ConfigArg, JsonArgs, load, open_queue},
    echo, queue, rejections,
};

/// The longest wait for a daemon that asks others: an echo that stands in line behind another, or many routes.
const ASK_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    args: JsonArgs,
    /// The route's AE title.
    ae: AeTitle,
    /// The AE title in whose name the destination is asked, where it sees the original one. Default: the route's own.
    #[arg(long)]
    calling: Option<AeTitle>,
}

#[derive(Debug, Args)]
pub(crate) struct MirrorArgs {
    #[command(flatten)]
    args: JsonArgs,
    /// The route's AE title; all routes without one.
    ae: Option<AeTitle>,
}

/// Has the running daemon do something that takes its time.
async fn ask_daemon(args: &JsonArgs, path: &str, ask: &Value) -> Result<Value> {
    let access = admin_access(load(&args.config)?.path())?;
    match admin::post_json_within(access, path, ask, ASK_WITHIN).await {
        Err(RequestError::Refused { text, .. }) => bail!("{text}"),
        answer => Ok(answer?),
    }
}

/// Prints how the destination behind a route answers.
pub(crate) async fn echo_command(args: &EchoArgs) -> Result<()> {
    let ask = json!({ "ae": args.ae, "calling": args.calling });
    let answer = ask_daemon(&args.args, "/echo", &ask).await?;
    if args.args.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print!("{}", echo::text(&answer));
    }
    if answer.get("answered") != Some(&Value::Bool(true)) {
        bail!("no C-ECHO from end to end to {}", args.ae);
    }
    Ok(())
}

/// Prints who was turned away.
pub(crate) async fn rejections_command(args: &JsonArgs) -> Result<()> {
    let all = ask_daemon(args, "/rejections", &json!({})).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        print!("{}", rejections::text(&all));
    }
    Ok(())
}

/// Collects what somebody who helps needs to know.
pub(crate) async fn support_command(config: &ConfigArg, args: &SupportArgs) -> Result<()> {
    let loaded = load(config)?;
    let access = admin_access(loaded.path())?;
    let turned_away = admin::post_json_within(access, "/rejections", &json!({}), ASK_WITHIN).await;
    let turned_away = turned_away.unwrap_or_else(|error| json!({ "error": error.to_string() }));
    let mut more = Map::new();
    more.insert("rejected_associations".to_owned(), turned_away);
    more.insert(
        "queue".to_owned(),
        waiting(config).await.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })),
    );
    support::write(&support::bundle(&loaded, "gateway-out", env!("CARGO_PKG_VERSION"), more).await?, args)
}

/// What has not ended, the oldest first.
async fn waiting(config: &ConfigArg) -> Result<Value> {
    let listed = queue::list(&open_queue(config)?, None, false, queue::LIST_MAX).await?;
    let now = Timestamp::now();
    Ok(listed.rows.iter().map(|row| queue::delivery_json(row, now)).collect())
}

/// Prints what is known of the destinations.
pub(crate) async fn mirror_command(args: &MirrorArgs) -> Result<()> {
    let answer = ask_daemon(&args.args, "/mirror", &json!({ "ae": args.ae })).await?;
    if args.args.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print!("{}", service::text::render(&answer));
    }
    Ok(())
}

/// Looks what is wrong, and tells it.
pub(crate) async fn alarm_command(config: &Path, command: AlarmCommand) -> Result<()> {
    #[derive(Deserialize)]
    struct Only {
        outbox: Outbox,
        alarm: Option<AlarmTable>,
    }
    #[derive(Deserialize)]
    struct Outbox {
        dir: PathBuf,
    }
    let only: Only = config::peek(config, config::ENVIRONMENT_PREFIX)?;
    let role = Role {
        role: "gateway-out",
        version: env!("CARGO_PKG_VERSION"),
        config,
        table: only.alarm,
        folder: Some(only.outbox.dir),
        conditions: alarm::queue,
    };
    role.command(command).await
}
