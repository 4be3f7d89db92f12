//! Who is admitted is read again while the relay runs: all of it is taken over at once, or nothing.

use std::path::{Path, PathBuf};

use serde_json::Value;
use service::config::{ConfigError, ENVIRONMENT_PREFIX, load};
use service::{ReloadRequest, ReloadRequests};
use tokio::sync::mpsc;
use tracing::warn;

use crate::config::{Config, RevokedTable};
use crate::emergency;
use crate::settings::Settings;

/// A configuration that was read, or why it cannot be, with whoever asked for it.
pub(crate) struct Read {
    pub(crate) settings: Result<Box<Settings>, Unusable>,
    pub(crate) request: ReloadRequest,
}

/// A configuration that cannot be used. Its revocations hold all the same.
pub(crate) struct Unusable {
    pub(crate) reason: String,
    pub(crate) revoked: Vec<RevokedTable>,
}

/// Reads the files whenever somebody asks, and hands what they say to the relay's loop, which takes it over.
pub(crate) async fn run(
    source: PathBuf,
    mut requests: ReloadRequests,
    loop_: mpsc::Sender<Read>,
) -> Result<(), std::io::Error> {
    let fixed = tokio::task::block_in_place(|| {
        load::<Config>(&source, ENVIRONMENT_PREFIX).ok().map(|l| fixed_part(&l.config))
    });
    loop {
        let request = tokio::select! {
            () = loop_.closed() => return Ok(()),
            request = requests.next() => request,
        };
        let settings = tokio::task::block_in_place(|| {
            read(&source, fixed.as_ref())
                .map_err(|reason| Unusable { reason, revoked: emergency::revocations(&source) })
        });
        if loop_.send(Read { settings, request }).await.is_err() {
            return Ok(());
        }
    }
}

fn read(source: &Path, fixed: Option<&Value>) -> Result<Box<Settings>, String> {
    let text = |error: ConfigError| error.to_string();
    let loaded = load::<Config>(source, ENVIRONMENT_PREFIX).map_err(text)?;
    let settings = Settings::check(&loaded).map_err(text)?;
    if Some(&fixed_part(&loaded.config)) != fixed {
        warn!(
            "only tenants, revocations and our own keys are taken over; the other changes take effect at the next start"
        );
    }
    Ok(Box::new(settings))
}

/// What is the same for the whole life of the process.
fn fixed_part(config: &Config) -> Value {
    let mut value = serde_json::to_value(config).unwrap_or_default();
    if let Value::Object(tables) = &mut value {
        tables.remove("tenant");
        tables.remove("revoked");
    }
    value
}
