//! `support`: what somebody who helps needs to know, as one JSON file that may be sent to strangers.
//!
//! It has no patient data, because nothing that it asks has any: the effective configuration (files are named, not read), `/status`,
//! `/metrics`, and what the role adds. Logs are not in it; they have none either, and `journalctl -u sluis-…` gives them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use base::Timestamp;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config::Loaded;
use crate::files::{self, Readable};
use crate::peers::admin_access;
use crate::{admin, text};

/// Format of the bundle.
const BUNDLE: u32 = 1;

/// What every role's command takes.
#[derive(Debug, Args)]
pub struct SupportArgs {
    /// Write it to this file, which must not be there yet. Without it: to standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<std::path::PathBuf>,
}

/// Collects it. What cannot be asked says why.
pub async fn bundle<T: Serialize>(
    loaded: &Loaded<T>,
    role: &str,
    version: &str,
    more: Map<String, Value>,
) -> Result<Value> {
    let access = admin_access(loaded.path())?;
    let status = admin::fetch_status(access.clone()).await;
    let metrics = admin::fetch_text(access, "/metrics").await;
    let values = loaded
        .effective()?
        .into_iter()
        .map(|one| json!({ "key": one.key, "value": one.value, "from": one.origin.to_string() }));
    let mut bundle = json!({
        "bundle": BUNDLE,
        "role": role,
        "version": version,
        "at": text::utc(Timestamp::now()),
        "host": host(),
        "configuration": values.collect::<Vec<_>>(),
        "status": status.unwrap_or_else(|error| json!({ "error": error.to_string() })),
        "metrics": metrics.map_or_else(
            |error| json!({ "error": error.to_string() }),
            |text| text.lines().map(Value::from).collect(),
        ),
    });
    if let Some(fields) = bundle.as_object_mut() {
        fields.extend(more);
    }
    Ok(bundle)
}

/// The machine, as far as it is seen from here.
fn host() -> Value {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let memory = read("/proc/meminfo");
    let line = |key: &str| memory.as_ref()?.lines().find(|line| line.starts_with(key)).map(str::to_owned);
    json!({
        "kernel": read("/proc/version"),
        "system": read("/etc/os-release").and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"').to_owned())
        }),
        "processors": std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get),
        "memory": line("MemTotal"),
        "memory_available": line("MemAvailable"),
        "uptime_s": read("/proc/uptime").and_then(|text| text.split('.').next().map(str::to_owned)),
    })
}

/// Prints it, or writes it into a new file.
pub fn write(bundle: &Value, args: &SupportArgs) -> Result<()> {
    let text = format!("{bundle:#}\n");
    match &args.out {
        None => print!("{text}"),
        Some(path) => {
            save(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
            println!(
                "{}: configuration, status and figures, without patient data; look at it before you send it",
                path.display()
            );
        }
    }
    Ok(())
}

fn save(path: &Path, text: &str) -> std::io::Result<()> {
    files::write_new(path, text.as_bytes(), Readable::Owner)
}
