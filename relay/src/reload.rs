//! Who is admitted is read again while the relay runs: all of it is taken over at once, or nothing.

use std::path::{Path, PathBuf};

use service::config::{ConfigError, ENVIRONMENT_PREFIX, load};
use service::{Fixed, ReloadRequest, ReloadRequests};
use tokio::sync::mpsc;

use crate::config::{Config, RevokedTable};
use crate::emergency;
use crate::settings::Settings;

/// A configuration that was read, or why it cannot be, with whoever asked for it.
pub(crate) struct Read {
    pub(crate) settings: Result<Box<Settings>, String>,
    /// They hold also where all else cannot be used.
    pub(crate) revoked: Vec<RevokedTable>,
    pub(crate) request: ReloadRequest,
}

/// Reads the files whenever somebody asks, and hands what they say to the relay's loop, which takes it over.
pub(crate) async fn run(
    source: PathBuf,
    mut requests: ReloadRequests,
    loop_: mpsc::Sender<Read>,
) -> Result<(), std::io::Error> {
    loop {
        let request = tokio::select! {
            () = loop_.closed() => return Ok(()),
            request = requests.next() => request,
        };
        let (settings, revoked) =
            tokio::task::block_in_place(|| (read(&source), emergency::revocations(&source)));
        let settings = settings.map_err(|error| error.to_string());
        if loop_.send(Read { settings, revoked, request }).await.is_err() {
            return Ok(());
        }
    }
}

fn read(source: &Path) -> Result<Box<Settings>, ConfigError> {
    Settings::check(&load::<Config>(source, ENVIRONMENT_PREFIX)?).map(Box::new)
}

/// What is the same for the whole life of the process.
pub(crate) fn fixed(config: &Config) -> Fixed {
    Fixed::new(config, &["tenant", "revoked"])
}
