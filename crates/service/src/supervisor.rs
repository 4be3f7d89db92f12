//! What a service manager is told: that the daemon is ready, that it lives, that it stops (sd_notify(3)).
//!
//! The socket is connected before the process locks itself down, which is why no library does it: each of them opens
//! the socket anew for every message, and a locked relay gets no new one.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The service manager, if there is one that wants to know.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    /// It ends a process that has been silent for so long.
    patience: Option<Duration>,
}

impl Supervisor {
    /// Connects to the one that `NOTIFY_SOCKET` names. To be called before the process locks itself down.
    pub fn from_environment() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        let meant = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let patience = env::var("WATCHDOG_USEC").ok().filter(|_| meant).and_then(|text| text.parse().ok());
        match connect(&address) {
            Ok(socket) => {
                Self { socket: Some(Arc::new(socket)), patience: patience.map(Duration::from_micros) }
            }
            Err(error) => {
                warn!(%error, ?address, "the service manager cannot be told anything (NOTIFY_SOCKET)");
                Self::default()
            }
        }
    }

    /// Everything that is served, is served now.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// What is under way ends; nothing new begins.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing what is under way");
    }

    /// Shows that tasks of this process still get their turn, until `stop`.
    pub async fn keep_informed<E>(self, stop: CancellationToken) -> Result<(), E> {
        let Some(patience) = self.patience.filter(|_| self.socket.is_some()) else {
            stop.cancelled().await;
            return Ok(());
        };
        // Half of it, as sd_watchdog_enabled(3) advises.
        let mut beat = tokio::time::interval(patience / 2);
        while stop.run_until_cancelled(beat.tick()).await.is_some() {
            self.tell("WATCHDOG=1");
        }
        Ok(())
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            warn!(%error, state, "the service manager was not told");
        }
    }
}

/// A path, or with an `@` in front a name in Linux's abstract namespace.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not hold a daemon up.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let size = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..size].to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_says_ready_lives_and_stopping() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor {
            socket: Some(Arc::new(connect(path.as_os_str()).unwrap())),
            patience: Some(Duration::from_secs(10)),
        };
        supervisor.ready();
        assert!(received(&manager).starts_with("READY=1\n"));
        let stop = CancellationToken::new();
        let beats = async {
            tokio::time::sleep(Duration::from_secs(12)).await;
            stop.cancel();
        };
        tokio::join!(supervisor.clone().keep_informed::<()>(stop.clone()), beats).0.unwrap();
        for _ in 0..3 {
            assert_eq!(received(&manager), "WATCHDOG=1");
        }
        supervisor.stopping();
        assert!(received(&manager).starts_with("STOPPING=1\n"));
    }

    #[tokio::test]
    async fn a_name_without_a_file_is_reached_and_silence_is_no_fault() {
        let name = format!("sluis-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        connect(OsStr::new(&format!("@{name}"))).unwrap().send(b"READY=1").unwrap();
        assert_eq!(received(&manager), "READY=1");
        assert!(connect(OsStr::new("/nonexistent/notify")).is_err());
        let nobody = Supervisor::default();
        nobody.ready();
        let stop = CancellationToken::new();
        stop.cancel();
        nobody.keep_informed::<()>(stop).await.unwrap();
    }
}
