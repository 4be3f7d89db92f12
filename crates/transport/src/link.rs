use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{BootId, Name, random_bytes};
use identity::PeerCard;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, SendStream};
use rustls::crypto::CryptoProvider;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use wire::{CloseCode, Greeting, Hello, Role};

use crate::backoff::Backoff;
use crate::control::{ControlReader, write_frame};
use crate::quic::{Duty, any_port, bind, client_endpoint, transport_config};
use crate::{Timing, TlsError, TlsIdentity, limits, tls};

/// The relay cannot be asked at the moment: not connected, or the connection was lost meanwhile.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the relay is not connected; the link goes on trying")]
pub struct Unavailable;

/// Why something was not handed to the relay.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// Not connected. It is the caller's to say it again after `Connected`.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Larger than the protocol takes: an error of the caller.
    #[error("{what} of {bytes} bytes exceeds {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
}

impl SendError {
    pub(crate) fn check(what: &'static str, bytes: usize, limit: usize) -> Result<(), Self> {
        if bytes <= limit { Ok(()) } else { Err(Self::TooLarge { what, bytes, limit }) }
    }
}

/// Why a connection to a relay did not come about.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address names no host.
    #[error("relay address {0} cannot be resolved")]
    Address(String),
    /// A local socket could not be had.
    #[error("no socket for the relay link")]
    Socket(#[source] std::io::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No answer, another key than pinned, another protocol, or no common key exchange.
    #[error("no connection: {0}")]
    Quic(String),
    /// The relay did not greet in time, or not in our protocol.
    #[error("the relay did not greet")]
    Greeting,
    /// The relay does not want this connection.
    #[error("the relay refused the connection: {}", .0.text())]
    Refused(CloseCode),
    /// The relay does not know our key.
    #[error(
        "the relay does not admit this gateway: it has not pinned our card, or has revoked it; if our keys were rotated, it has to take our new card (`relay admit CARD`)"
    )]
    NotAdmitted,
    /// The relay shows another key than the pinned one.
    #[error(
        "the relay's key does not match its pinned card; nothing is sent to it; if its keys were rotated, take its new card (`peer update CARD`)"
    )]
    OtherRelay,
}

impl ConnectError {
    /// Whether somebody has to act at the relay or at its card before this can come about.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::NotAdmitted | Self::OtherRelay | Self::Refused(_))
    }

    fn of(error: &ConnectionError) -> Self {
        match error {
            // Refused by our own verifier.
            ConnectionError::TransportError(error) if is_certificate_alert(error.code) => Self::OtherRelay,
            ConnectionError::ConnectionClosed(close) if is_certificate_alert(close.error_code) => {
                Self::NotAdmitted
            }
            other => match refusal(other) {
                Some(code) => Self::Refused(code),
                None => Self::Quic(other.to_string()),
            },
        }
    }
}

/// RFC 9001 §4.8 and RFC 8446 §6.2: bad_certificate (42) to certificate_unknown (46), unknown_ca (48), access_denied (49).
fn is_certificate_alert(code: quinn::TransportErrorCode) -> bool {
    [42, 43, 44, 45, 46, 48, 49].into_iter().any(|alert| code == quinn::TransportErrorCode::crypto(alert))
}

/// The words of a relay that closed a connection because somebody there has to act.
pub(crate) fn refusal(error: &ConnectionError) -> Option<CloseCode> {
    let ConnectionError::ApplicationClosed(close) = error else { return None };
    let code = CloseCode::from_code(close.error_code.into_inner())?;
    matches!(code, CloseCode::NotAdmitted | CloseCode::Revoked | CloseCode::Version).then_some(code)
}

/// Why a link does not stand, where the relay has said so. The lock is never held across an await.
#[derive(Debug, Default)]
pub(crate) struct Refusal(Mutex<Option<String>>);

impl Refusal {
    pub(crate) fn text(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    /// An attempt to connect failed. That a relay is not there says nothing new about whether it would have us.
    pub(crate) fn note(&self, error: &ConnectError) {
        if error.is_refusal() {
            *self.lock() = Some(error.to_string());
        }
    }

    /// A standing connection ended.
    pub(crate) fn closed(&self, relay: &Name, reason: Option<&ConnectionError>) {
        if let Some(code) = reason.and_then(refusal) {
            let reason = code.text();
            warn!(%relay, reason, "the relay closed the link; what is not settled stays in our custody");
            *self.lock() = Some(reason.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task behind a link. Its owner keeps it and awaits [`LinkTask::stop`]; dropping it ends the link hard.
#[derive(Debug)]
#[must_use = "dropping it ends the link"]
pub struct LinkTask {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl LinkTask {
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(stop.clone()));
        Self { stop, task: Some(task) }
    }

    /// Tells the relay, closes the connection, and returns when the task has ended.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }

    /// Returns when the task has ended, which it does by itself only when its owner dropped the events.
    pub async fn ended(&mut self) {
        if let Some(task) = &mut self.task {
            let _ = task.await;
            self.task = None;
        }
    }
}

impl Drop for LinkTask {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// How to reach one relay.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) address: String,
    pub(crate) card: PeerCard,
    pub(crate) identity: TlsIdentity,
    pub(crate) timing: Timing,
}

/// A connection that has been greeted.
pub(crate) struct Established<T> {
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Connection,
    pub(crate) control_out: SendStream,
    pub(crate) control_in: ControlReader<T>,
    pub(crate) boot: BootId,
    pub(crate) lease_ms: u32,
}

impl Remote {
    /// Connects, shows and checks keys, opens the control stream, and exchanges greetings.
    pub(crate) async fn connect<T>(&self, role: Role) -> Result<Established<T>, ConnectError> {
        let greeted = timeout(limits::HANDSHAKE_TIMEOUT, self.connect_with(role, tls::provider()));
        greeted.await.map_err(|_| ConnectError::Quic("timed out".to_owned()))?
    }

    pub(crate) async fn connect_with<T>(
        &self,
        role: Role,
        provider: Arc<CryptoProvider>,
    ) -> Result<Established<T>, ConnectError> {
        let address = self.resolve().await?;
        let socket = bind(any_port(address)).map_err(ConnectError::Socket)?;
        let endpoint = client_endpoint(socket).map_err(ConnectError::Socket)?;
        let tls = tls::client_config(&self.identity, &self.card, provider)?;
        let quic = QuicClientConfig::try_from(tls).map_err(|_| TlsError::Suite)?;
        let mut config = quinn::ClientConfig::new(Arc::new(quic));
        let duty = match role {
            Role::Sender => Duty::Sends,
            Role::Recipient => Duty::Receives(limits::LEASES_MAX),
        };
        config.transport_config(transport_config(self.timing, duty));
        let connecting = endpoint.connect_with(config, address, tls::SERVER_NAME);
        let connecting = connecting.map_err(|error| ConnectError::Quic(error.to_string()))?;
        let connection = connecting.await.map_err(|error| ConnectError::of(&error))?;
        greet(endpoint, connection, role).await
    }

    async fn resolve(&self) -> Result<SocketAddr, ConnectError> {
        let unknown = || ConnectError::Address(self.address.clone());
        tokio::net::lookup_host(&self.address).await.map_err(|_| unknown())?.next().ok_or_else(unknown)
    }
}

async fn greet<T>(
    endpoint: Endpoint,
    connection: Connection,
    role: Role,
) -> Result<Established<T>, ConnectError> {
    let closed = |error: ConnectionError| ConnectError::of(&error);
    let (mut control_out, control_in) = connection.open_bi().await.map_err(closed)?;
    let hello = Hello { protocol: wire::PROTOCOL, role };
    let mut reader = ControlReader::<Greeting>::new(control_in);
    let greeted = match write_frame(&mut control_out, &hello).await {
        Ok(()) => reader.next().await,
        Err(error) => Err(error),
    };
    match greeted {
        Ok(Greeting::Welcome { boot, hold_max: _, lease_ms }) => Ok(Established {
            endpoint,
            connection,
            control_out,
            control_in: reader.into_kind(),
            boot,
            lease_ms,
        }),
        Ok(Greeting::Bye { code, text: _ }) => Err(ConnectError::Refused(code)),
        Err(error) => Err(match connection.close_reason() {
            // The relay refuses a key only after our side of the handshake is done.
            Some(reason) => ConnectError::of(&reason),
            None => {
                debug!(%error, "no greeting");
                ConnectError::Greeting
            }
        }),
    }
}

/// Closes a connection so that the peer hears of it, within a limit.
pub(crate) async fn close(endpoint: &Endpoint, connection: &Connection, code: CloseCode) {
    connection.close(code.code().into(), code.text().as_bytes());
    let _ = timeout(limits::CLOSE_TIMEOUT, endpoint.wait_idle()).await;
}

/// Waits before the next attempt. False: stop.
pub(crate) async fn pause(backoff: &mut Backoff, stop: &CancellationToken) -> bool {
    let pause = backoff.pause(u32::from_le_bytes(random_bytes()));
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}
