use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use base::{Digest, Secret, random_bytes};
use hmac::{Hmac, KeyInit as _, Mac as _};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use sha2::Sha256;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{TlsIdentity, limits};

/// Of a relay.
const CONNECTION_ID_BYTES: usize = 8;

/// The clocks of a connection. The default is for every real use; tests shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A connection on which nothing is heard this long is lost. Default 30 s.
    pub idle: Duration,
    /// How often an idle side says that it is there. Default 10 s.
    pub keep_alive: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), keep_alive: Duration::from_secs(10) }
    }
}

/// What a side of a connection is for: it decides how much it lets the other send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Sends bodies; receives control frames only.
    Sends,
    /// Receives bodies on as many streams.
    Receives(u32),
    /// The relay, until it knows whom it talks to: then [`quinn::Connection::set_max_concurrent_uni_streams`].
    Relays,
}

pub(crate) fn transport_config(timing: Timing, duty: Duty) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(limits::DATAGRAM_BYTES_MAX);
    let (streams, receive, control) = match duty {
        Duty::Sends => (0, limits::STREAM_WINDOW_BYTES, 0),
        Duty::Receives(streams) => (streams, limits::RECEIVE_WINDOW_BYTES, 0),
        Duty::Relays => (0, limits::RECEIVE_WINDOW_BYTES, 1),
    };
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(control))
        .max_concurrent_uni_streams(VarInt::from_u32(streams))
        .receive_window(VarInt::from_u32(receive))
        .stream_receive_window(VarInt::from_u32(limits::STREAM_WINDOW_BYTES))
        .send_window(limits::SEND_WINDOW_BYTES)
        .mtu_discovery_config(Some(mtu))
        // One body after the other reaches its end sooner than all of them together.
        .send_fairness(false)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(timing.keep_alive))
        .max_idle_timeout(IdleTimeout::try_from(timing.idle).ok());
    Arc::new(config)
}

/// A UDP socket with large buffers. The kernel silently gives less than asked where its limits say so.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Any port, of the family that reaches `remote`.
pub(crate) fn any_port(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Wraps a bound socket of a gateway.
pub(crate) fn client_endpoint(socket: UdpSocket) -> io::Result<Endpoint> {
    endpoint(socket, EndpointConfig::default(), None)
}

/// Wraps a bound socket of a relay.
///
/// Its reset key is the same in each run: so a relay that was killed and came back can tell its gateways at
/// their next packet that it knows nothing of their connection (RFC 9000 §10.3), and they need not wait for
/// their idle time-out. That takes connection ids which any run accepts as possible.
pub(crate) fn server_endpoint(
    socket: UdpSocket,
    server: quinn::ServerConfig,
    resets: &TlsIdentity,
) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::new(Arc::new(ResetKey(resets.derived("sluis/1 stateless reset"))));
    config.cid_generator(|| Box::new(RandomIds));
    endpoint(socket, config, Some(server))
}

fn endpoint(
    socket: UdpSocket,
    mut config: EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> io::Result<Endpoint> {
    config.max_udp_payload_size(limits::DATAGRAM_BYTES_MAX).map_err(io::Error::other)?;
    let tuned = socket2::SockRef::from(&socket);
    tuned.set_recv_buffer_size(limits::SOCKET_BUFFER_BYTES)?;
    tuned.set_send_buffer_size(limits::SOCKET_BUFFER_BYTES)?;
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
}

/// Connection ids that say nothing, so that every run takes those of an earlier one for possible.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&random_bytes::<CONNECTION_ID_BYTES>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// HMAC-SHA-256 for stateless reset tokens.
struct ResetKey(Secret<[u8; 32]>);

impl ResetKey {
    fn mac(&self, data: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC takes a key of any length");
        mac.update(data);
        mac
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let tag = self.mac(data).finalize().into_bytes();
        for (out, byte) in signature_out.iter_mut().zip(tag) {
            *out = byte;
        }
    }

    fn signature_len(&self) -> usize {
        Digest::LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.mac(data).verify_slice(signature).map_err(|_| CryptoError)
    }
}
