use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base::{BootId, Digest, Fingerprint};
use bytes::Bytes;
use minicbor::{Decode, Encode};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use wire::{
    BodyDecoder, CloseCode, Greeting, Hello, PREAMBLE_BYTES, RecipientFrame, Role, SenderFrame, StreamCode,
    Transfer,
};

use crate::control::{ControlReader, write_frame, write_queue};
use crate::quic::{Duty, server_endpoint, transport_config};
use crate::relay_link::{ConnectionId, Incoming, RelayLink};
use crate::segment::wiping;
use crate::{Timing, TlsError, TlsIdentity, limits, tls};

/// Stream chunks taken at once: about one piece at the usual packet size.
const CHUNKS: usize = 46;

/// Who may connect. Asked in the handshake, so that others get no further.
pub trait Admission: Send + Sync {
    /// The peer whose pinned card has this TLS key.
    fn peer(&self, tls_spki: &[u8]) -> Option<Fingerprint>;
    /// Whether that peer may connect in that role.
    fn admits(&self, peer: &Fingerprint, role: Role) -> bool;
    /// The run of the relay that this peer is told. One whose bodies were burned while it was not admitted has to hear
    /// of another run, so that it deposits them again.
    fn boot(&self, _peer: &Fingerprint, boot: BootId) -> BootId {
        boot
    }
}

/// What a relay tells its gateways, and how it listens.
#[derive(Clone)]
pub struct RelayConfig {
    /// This run of the process.
    pub boot: BootId,
    /// Told to senders.
    pub hold_max: u64,
    /// Told to recipients: their leases end this long after the last renewal.
    pub lease: Duration,
    /// Our TLS key.
    pub identity: TlsIdentity,
    /// What stateless resets are derived from: the same before and after [`RelayListener::show`] was called in an earlier run.
    pub resets: TlsIdentity,
    /// Who may connect.
    pub admission: Arc<dyn Admission>,
    /// Clocks of the connections.
    pub timing: Timing,
}

/// Why a relay cannot listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The socket cannot be used.
    #[error("the QUIC socket cannot be used")]
    Socket(#[source] io::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What happened on the relay's connections. `Connected` comes first and `Disconnected` last of its connection.
#[derive(Debug)]
pub enum RelayEvent {
    /// A pinned peer is there in a role it may have.
    Connected {
        /// Who.
        peer: Fingerprint,
        /// As what.
        role: Role,
        /// How to speak to it.
        link: RelayLink,
    },
    /// A sender said something.
    FromSender {
        /// Where.
        connection: ConnectionId,
        /// What.
        frame: SenderFrame,
    },
    /// A recipient said something.
    FromRecipient {
        /// Where.
        connection: ConnectionId,
        /// What.
        frame: RecipientFrame,
    },
    /// Bytes of a body on its way in, in memory of their own, wiped when dropped.
    Body {
        /// Where.
        connection: ConnectionId,
        /// Of which body. Its sender says so: check that it has that transfer.
        transfer: Transfer,
        /// In order; not empty.
        bytes: Bytes,
    },
    /// A body on its way in is complete.
    BodyEnd {
        /// Where.
        connection: ConnectionId,
        /// Which body.
        transfer: Transfer,
        /// What its sender says its digest is.
        digest: Digest,
    },
    /// A body on its way in was abandoned.
    BodyReset {
        /// Where.
        connection: ConnectionId,
        /// Which body.
        transfer: Transfer,
    },
    /// A stream has taken bytes of a body on its way out.
    Written {
        /// Where.
        connection: ConnectionId,
        /// Which body.
        transfer: Transfer,
        /// How many more.
        bytes: u64,
    },
    /// The peer's transport has acknowledged all of a body on its way out.
    Delivered {
        /// Where.
        connection: ConnectionId,
        /// Which body.
        transfer: Transfer,
    },
    /// The peer wants no more of a body on its way out.
    Refused {
        /// Where.
        connection: ConnectionId,
        /// Which body.
        transfer: Transfer,
    },
    /// The connection is gone.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
}

/// A listening relay. Its owner awaits [`RelayListener::stop`].
pub struct RelayListener {
    endpoint: Endpoint,
    config: RelayConfig,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl RelayListener {
    /// Listens on a bound socket. The events are to be taken all the time: they are the way bodies come in.
    pub fn start(
        socket: UdpSocket,
        config: RelayConfig,
    ) -> Result<(Self, mpsc::Receiver<RelayEvent>), ListenError> {
        let server = server_config(&config.identity, &config)?;
        socket.set_nonblocking(true).map_err(ListenError::Socket)?;
        let endpoint = server_endpoint(socket, server, &config.resets).map_err(ListenError::Socket)?;
        let (events, received) = mpsc::channel(limits::RELAY_EVENT_QUEUE);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let shared = Arc::new(Shared {
            config: config.clone(),
            events,
            tasks: tasks.clone(),
            handshakes: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            ids: AtomicU64::new(1),
        });
        tasks.spawn(accept(endpoint.clone(), shared, stop.clone()));
        Ok((Self { endpoint, config, tasks, stop }, received))
    }

    /// Shows another TLS key from the next handshake on. Connections that stand are left alone.
    pub fn show(&self, identity: &TlsIdentity) -> Result<(), TlsError> {
        self.endpoint.set_server_config(Some(server_config(identity, &self.config)?));
        Ok(())
    }

    /// The address gateways connect to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Closes all connections and returns when every task has ended. The events must go on being taken meanwhile, or be dropped.
    pub async fn stop(self) {
        self.stop.cancel();
        self.endpoint.close(CloseCode::Stopping.code().into(), CloseCode::Stopping.text().as_bytes());
        self.tasks.close();
        self.tasks.wait().await;
        let _ = timeout(limits::CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

fn server_config(identity: &TlsIdentity, config: &RelayConfig) -> Result<quinn::ServerConfig, TlsError> {
    let tls = tls::server_config(identity, config.admission.clone(), tls::provider())?;
    let quic = QuicServerConfig::try_from(tls).map_err(|_| TlsError::Suite)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(quic));
    server.transport_config(transport_config(config.timing, Duty::Relays));
    server.migration(true);
    Ok(server)
}

/// A listener that is dropped instead of stopped ends hard, as a crash would end it.
impl Drop for RelayListener {
    fn drop(&mut self) {
        self.stop.cancel();
        self.endpoint.close(CloseCode::Stopping.code().into(), CloseCode::Stopping.text().as_bytes());
    }
}

struct Shared {
    config: RelayConfig,
    events: mpsc::Sender<RelayEvent>,
    tasks: TaskTracker,
    handshakes: AtomicUsize,
    connections: AtomicUsize,
    ids: AtomicU64,
}

/// Counts itself out when dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(endpoint: Endpoint, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let running = shared.handshakes.load(Ordering::Relaxed);
        let standing = shared.connections.load(Ordering::Relaxed);
        if running >= limits::HANDSHAKES_MAX || standing >= limits::CONNECTIONS_MAX {
            debug!(running, standing, "handshake ignored");
            incoming.ignore();
        } else if running >= limits::RETRY_ABOVE && !incoming.remote_address_validated() {
            let _ = incoming.retry();
        } else {
            let shared = shared.clone();
            shared.clone().tasks.spawn(async move { shared.serve(incoming).await });
        }
    }
}

impl Shared {
    async fn serve(&self, incoming: quinn::Incoming) {
        let remote = incoming.remote_address();
        let greeted = {
            let _counted = Counted::new(&self.handshakes);
            timeout(limits::HANDSHAKE_TIMEOUT, self.greet(incoming)).await
        };
        match greeted {
            Ok(Ok(greeted)) => {
                let _counted = Counted::new(&self.connections);
                self.run(greeted, remote).await;
            }
            Ok(Err(reason)) => info!(%remote, reason, "connection refused"),
            Err(_) => debug!(%remote, "handshake timed out"),
        }
    }

    async fn greet(&self, incoming: quinn::Incoming) -> Result<Greeted, String> {
        let connecting = incoming.accept().map_err(|error| error.to_string())?;
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let peer = tls::peer_of(&connection, &*self.config.admission).ok_or("no pinned key")?;
        let (mut control_out, control_in) =
            connection.accept_bi().await.map_err(|error| error.to_string())?;
        let mut control_in = ControlReader::<Hello>::new(control_in);
        let Hello { protocol, role } = control_in.next().await.map_err(|error| error.to_string())?;
        let refusal = if protocol != wire::PROTOCOL {
            Some(CloseCode::Version)
        } else {
            (!self.config.admission.admits(&peer, role)).then_some(CloseCode::NotAdmitted)
        };
        if let Some(code) = refusal {
            let text = code.text().to_owned();
            let bye = Greeting::Bye { code, text: text.clone() };
            let _ = write_frame(&mut control_out, &bye).await;
            let _ = control_out.finish();
            // Closing at once would overtake the farewell.
            let _ = control_out.stopped().await;
            connection.close(code.code().into(), text.as_bytes());
            return Err(format!("{text}: {peer}"));
        }
        let lease_ms = u32::try_from(self.config.lease.as_millis()).unwrap_or(u32::MAX);
        let boot = self.config.admission.boot(&peer, self.config.boot);
        let welcome = Greeting::Welcome { boot, hold_max: self.config.hold_max, lease_ms };
        write_frame(&mut control_out, &welcome).await.map_err(|error| error.to_string())?;
        if role == Role::Sender {
            connection.set_max_concurrent_uni_streams(VarInt::from_u32(limits::BODY_STREAMS_MAX));
        }
        Ok(Greeted { connection, peer, role, control_out, control_in })
    }

    async fn run(&self, greeted: Greeted, remote: SocketAddr) {
        let Greeted { connection, peer, role, control_out, control_in } = greeted;
        let id = ConnectionId(self.ids.fetch_add(1, Ordering::Relaxed));
        let (control, queue) = mpsc::channel(limits::RELAY_QUEUE_FRAMES);
        let (tasks, incoming) = (TaskTracker::new(), Incoming::default());
        let link = RelayLink {
            id,
            peer,
            connection: connection.clone(),
            control,
            incoming: incoming.clone(),
            tasks: tasks.clone(),
            events: self.events.clone(),
            outgoing: Default::default(),
            gate: Default::default(),
        };
        if self.events.send(RelayEvent::Connected { peer, role, link }).await.is_err() {
            return;
        }
        info!(%remote, %peer, ?role, connection = id.0, "gateway connected");
        let error = tokio::select! {
            end = write_queue(control_out, queue) => end.err(),
            end = self.control(id, role, control_in) => end,
            () = self.bodies(id, &connection, &incoming, &tasks) => None,
            _ = connection.closed() => None,
        };
        if let Some(crate::control::ControlError::Frame(error)) = &error {
            warn!(%peer, %error, "control stream unusable");
            connection.close(CloseCode::Violation.code().into(), CloseCode::Violation.text().as_bytes());
        } else {
            connection.close(CloseCode::Stopping.code().into(), CloseCode::Stopping.text().as_bytes());
        }
        // Every stream task sees the closed connection; what they still have to say comes before the last event.
        tasks.close();
        tasks.wait().await;
        let reason = connection.close_reason().map(|reason| reason.to_string());
        info!(%remote, %peer, ?role, connection = id.0, reason, "gateway disconnected");
        let _ = self.events.send(RelayEvent::Disconnected { connection: id }).await;
    }

    async fn control(
        &self,
        connection: ConnectionId,
        role: Role,
        control: ControlReader<Hello>,
    ) -> Option<crate::control::ControlError> {
        match role {
            Role::Sender => {
                self.frames(control.into_kind(), |frame| RelayEvent::FromSender { connection, frame }).await
            }
            Role::Recipient => {
                self.frames(control.into_kind(), |frame| RelayEvent::FromRecipient { connection, frame })
                    .await
            }
        }
    }

    async fn frames<T: Encode<()> + for<'b> Decode<'b, ()>>(
        &self,
        mut control: ControlReader<T>,
        event: impl Fn(T) -> RelayEvent,
    ) -> Option<crate::control::ControlError> {
        loop {
            match control.next().await {
                Ok(frame) => self.events.send(event(frame)).await.ok()?,
                Err(error) => return Some(error),
            }
        }
    }

    /// Takes in the bodies of one connection, each in a task of its own that its connection awaits.
    async fn bodies(
        &self,
        id: ConnectionId,
        connection: &Connection,
        incoming: &Incoming,
        tasks: &TaskTracker,
    ) {
        while let Ok(stream) = connection.accept_uni().await {
            let (events, incoming) = (self.events.clone(), incoming.clone());
            tasks.spawn(async move {
                if let Some(end) = receive_body(id, stream, &incoming, &events).await {
                    let _ = events.send(end).await;
                }
            });
        }
    }
}

struct Greeted {
    connection: Connection,
    peer: Fingerprint,
    role: Role,
    control_out: SendStream,
    control_in: ControlReader<Hello>,
}

/// Reads one body as fast as it comes: what may come was granted, and has its place already.
async fn receive_body(
    connection: ConnectionId,
    mut stream: RecvStream,
    incoming: &Incoming,
    events: &mpsc::Sender<RelayEvent>,
) -> Option<RelayEvent> {
    let mut preamble = [0; PREAMBLE_BYTES];
    stream.read_exact(&mut preamble).await.ok()?;
    let transfer = wire::transfer_of(preamble);
    let Some(stop) = incoming.enter(transfer) else {
        let _ = stream.stop(StreamCode::Violation.code().into());
        return None;
    };
    let mut decoder = BodyDecoder::default();
    let end = loop {
        let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
        let read = tokio::select! {
            biased;
            () = stop.cancelled() => {
                let _ = stream.stop(StreamCode::Unwanted.code().into());
                break None;
            }
            read = stream.read_chunks(&mut chunks) => read,
        };
        match read {
            Ok(Some(count)) => {
                let chunks = chunks.get(..count).unwrap_or_default();
                let incoming = chunks.iter().map(Bytes::len).sum();
                let mut bytes = Vec::with_capacity(decoder.body_bytes_of(incoming));
                decoder.feed(chunks.iter().map(|chunk| &**chunk), &mut bytes);
                if !bytes.is_empty() {
                    let body = RelayEvent::Body { connection, transfer, bytes: wiping(bytes) };
                    if events.send(body).await.is_err() {
                        break None;
                    }
                }
            }
            Ok(None) => {
                break Some(match decoder.finish() {
                    Ok(digest) => RelayEvent::BodyEnd { connection, transfer, digest },
                    Err(_) => RelayEvent::BodyReset { connection, transfer },
                });
            }
            Err(_) => break Some(RelayEvent::BodyReset { connection, transfer }),
        }
    };
    incoming.leave(transfer);
    end
}
