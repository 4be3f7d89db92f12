//! `command`: a program of the house.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::message::Message;

/// How long it may run.
const WITHIN: Duration = Duration::from_secs(30);

/// Starts it, and waits for it. What it prints goes where we print.
pub(super) async fn run(command: &[String], message: &Message<'_>) -> Result<String> {
    let [program, arguments @ ..] = command else { bail!("no program") };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let (json, stdin) = (message.json().to_string(), child.stdin.take());
    let running = async {
        if let Some(mut stdin) = stdin {
            // One that does not read it is no error: it may need to know no more than that it was started.
            let _ = stdin.write_all(json.as_bytes()).await;
        }
        child.wait().await
    };
    let ended = timeout(WITHIN, running).await;
    let Ok(ended) = ended else { bail!("{program} did not end within {} s and was ended", WITHIN.as_secs()) };
    let status = ended.with_context(|| format!("cannot wait for {program}"))?;
    if !status.success() {
        bail!("{program}: {status}");
    }
    Ok(status.to_string())
}
