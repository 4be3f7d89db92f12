//! Another key for the outbox, whenever an operator or a timer wants one: after it, what was erased is out of reach of
//! whoever gets the key later.
//!
//! The order makes every moment safe to be killed at: the new key is on disk beside the old one, everything is wrapped
//! again in one transaction, then the new file takes the old one's name. Whoever opens an outbox tries both.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use base::Timestamp;
use serde_json::{Value, json};
use service::{ReloadRequests, Reloaded, files};
use spool::{IndexKey, OpenError, Operator, Outbox, OutboxKey, RetryPolicy};
use tracing::{error, info, warn};

use crate::{
    app::{self, Shared},
    settings::OutboxSettings,
};

/// Where a running daemon is asked to wrap its keys again.
pub const PATH: &str = "/outbox/rewrap";

/// The new key, until it has the old one's name.
pub fn next_key(settings: &OutboxSettings) -> PathBuf {
    let mut name = settings.key.file_name().unwrap_or_default().to_owned();
    name.push(".next");
    settings.key.with_file_name(name)
}

/// Opens an outbox with the key that it is named, or with the one that an interrupted rotation left beside it.
pub fn open<T>(
    settings: &OutboxSettings,
    open: impl Fn(OutboxKey, IndexKey) -> Result<T, OpenError>,
) -> Result<T> {
    let (key, index_key) = app::outbox_keys(settings)?;
    match open(key, index_key.clone()) {
        Err(OpenError::WrongKey) if next_key(settings).exists() => {
            let opened = open(OutboxKey::load(&next_key(settings))?, index_key)?;
            warn!(
                "a rotation of the outbox key was interrupted; `gateway-out key rotate --outbox` finishes it"
            );
            Ok(opened)
        }
        opened => Ok(opened?),
    }
}

/// The first step: a new key on disk.
pub fn prepare(settings: &OutboxSettings) -> Result<PathBuf> {
    let next = next_key(settings);
    if !next.exists() {
        OutboxKey::generate_file(&next)?;
    }
    Ok(next)
}

/// Whether everything is wrapped under the new key already.
pub fn is_rewrapped(settings: &OutboxSettings) -> Result<bool> {
    let (_, index_key) = app::outbox_keys(settings)?;
    let config = app::outbox_config(settings, RetryPolicy::default());
    match Outbox::open_admin(config, OutboxKey::load(&next_key(settings))?, index_key) {
        Ok(_) => Ok(true),
        Err(OpenError::WrongKey) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The second step, where no daemon runs.
pub async fn rewrap_alone(settings: &OutboxSettings, by: Operator) -> Result<u64> {
    let (key, index_key) = app::outbox_keys(settings)?;
    let config = app::outbox_config(settings, RetryPolicy::default());
    let now = Timestamp::now();
    let outbox = Outbox::open(config, key, index_key, now)?;
    let count = outbox.rewrap(OutboxKey::load(&next_key(settings))?, by, now).await?;
    outbox.close();
    Ok(count)
}

/// The last step: the new key's file takes the old one's name.
pub fn finish(settings: &OutboxSettings) -> Result<()> {
    let next = next_key(settings);
    files::rename(&next, &settings.key)
        .with_context(|| format!("cannot rename {} to {}", next.display(), settings.key.display()))
}

/// Wraps everything again each time a command asks for it, while the daemon goes on. Never ends by itself.
pub async fn serve(shared: &Shared, mut requests: ReloadRequests) {
    loop {
        let request = requests.next().await;
        let answer = rewrap_running(shared).await;
        match &answer {
            Ok(done) => info!(%done, "outbox wrapped under another key"),
            Err(reason) => error!(reason, "outbox key not rotated; the earlier one holds"),
        }
        request.reply(answer);
    }
}

async fn rewrap_running(shared: &Shared) -> Reloaded {
    let next = next_key(&shared.settings.outbox);
    let key = OutboxKey::load(&next).map_err(|error| error.to_string())?;
    let by = Operator { who: "key rotate".to_owned(), reason: "rotation of the outbox key".to_owned() };
    let count = shared.outbox.rewrap(key, by, Timestamp::now()).await.map_err(|error| error.to_string())?;
    Ok(json!({ "rewrapped": count }))
}

/// What [`serve`] answered.
pub fn count(answer: &Value) -> u64 {
    answer.get("rewrapped").and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use envelope::Padding;

    use super::*;

    fn made(dir: &Path) -> OutboxSettings {
        let settings = OutboxSettings {
            dir: dir.join("outbox"),
            key: dir.join("outbox.key"),
            index_key: dir.join("index.key"),
            bytes_max: 1 << 30,
            reserve: 0,
            padding: Padding::default(),
        };
        let key = OutboxKey::generate_file(&settings.key).unwrap();
        let index_key = IndexKey::generate_file(&settings.index_key).unwrap();
        Outbox::init(&settings.dir, &key, &index_key).unwrap();
        settings
    }

    fn opens(settings: &OutboxSettings) -> bool {
        let config = || app::outbox_config(settings, RetryPolicy::default());
        open(settings, |key, index_key| Outbox::open(config(), key, index_key, Timestamp::now())).is_ok()
    }

    fn operator() -> Operator {
        Operator { who: "test".to_owned(), reason: "test".to_owned() }
    }

    #[tokio::test]
    async fn a_rotation_that_is_killed_after_any_step_is_open_to_all_and_can_be_finished() {
        for steps in 0..=3 {
            let dir = tempfile::tempdir().unwrap();
            let settings = made(dir.path());
            let old = std::fs::read(&settings.key).unwrap();
            if steps >= 1 {
                prepare(&settings).unwrap();
            }
            if steps >= 2 {
                rewrap_alone(&settings, operator()).await.unwrap();
            }
            if steps >= 3 {
                finish(&settings).unwrap();
            }
            assert!(opens(&settings), "killed after step {steps}");
            // The whole rotation, again or for the first time.
            prepare(&settings).unwrap();
            if !is_rewrapped(&settings).unwrap() {
                rewrap_alone(&settings, operator()).await.unwrap();
            }
            finish(&settings).unwrap();
            assert!(opens(&settings), "after step {steps} and a whole rotation");
            assert_ne!(std::fs::read(&settings.key).unwrap(), old);
            assert!(!next_key(&settings).exists());
            // The old key opens nothing any more.
            std::fs::write(&settings.key, old).unwrap();
            assert!(!opens(&settings));
        }
    }

    #[tokio::test]
    async fn a_new_key_that_is_no_key_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let settings = made(dir.path());
        std::fs::write(next_key(&settings), "nonsense").unwrap();
        assert!(rewrap_alone(&settings, operator()).await.is_err());
        assert!(is_rewrapped(&settings).is_err());
        assert!(opens(&settings));
    }
}
