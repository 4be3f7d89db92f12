//! `watch`: the status of a running daemon, again and again, until it is interrupted.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use base::Timestamp;

use crate::{admin, peers::admin_access, text};

/// The shortest pause; a status counts the whole queue.
const EVERY_MIN: Duration = Duration::from_millis(500);
/// Cursor to the upper left, and everything behind it cleared (ECMA-48 CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows the status of the daemon of this configuration until SIGINT. On a terminal it takes the screen, elsewhere one follows the
/// other.
pub async fn watch(config: &Path, every: Duration) -> Result<()> {
    let is_terminal = stdout().is_terminal();
    loop {
        let said = match admin::fetch_status(admin_access(config)?).await {
            Ok(status) => text::render(&status),
            Err(error) => format!("not running ({error})\n"),
        };
        let clear = if is_terminal { CLEAR } else { "" };
        let mut out = stdout().lock();
        // Whoever reads it has gone.
        if write!(out, "{clear}{}\n{said}", text::utc(Timestamp::now())).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        drop(out);
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
            () = tokio::time::sleep(every.max(EVERY_MIN)) => {}
        }
    }
}
