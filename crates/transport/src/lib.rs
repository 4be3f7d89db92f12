//! QUIC between a gateway and a relay: the sole user of quinn and rustls.
//!
//! Both sides show a raw public key (RFC 7250) and pin the other's; TLS 1.3 and X25519MLKEM768 only, no
//! 0-RTT, no resumption. One long-lived connection per gateway and relay: a control stream of
//! [`wire`] frames, and one unidirectional stream per sealed body.
//!
//! What it does not do: it does not look into a body, a header, a bundle or a settlement, keeps nothing
//! across a lost connection (the outbox and the inbound ledger do), and decides nothing about custody.
//!
//! Read first: [`Uplink`] (gateway-out), [`Downlink`] and [`IncomingOffer`] (gateway-in),
//! [`RelayListener`] and [`RelayEvent`] (relay).

mod ask;
mod backoff;
mod control;
mod deposit;
mod downlink;
mod gate;
mod grants;
mod link;
mod listener;
mod offer;
mod quic;
mod relay_link;
mod segment;
mod slots;
#[cfg(test)]
mod tests;
mod tls;
mod uplink;

pub use ask::AskError;
pub use deposit::{BodyPiece, BodySource, DepositError, Deposited, Offer, Offered, WholeBody};
pub use downlink::{Downlink, DownlinkConfig, DownlinkEvent, Prekeys};
pub use link::{ConnectError, LinkTask, SendError, Unavailable};
pub use listener::{Admission, ListenError, RelayConfig, RelayEvent, RelayListener};
pub use offer::{IncomingBody, IncomingOffer, Lease, Lost, Piece};
pub use quic::Timing;
pub use relay_link::{ConnectionId, LinkClosed, RelayLink};
pub use segment::wiping;
pub use tls::{TlsError, TlsIdentity};
pub use uplink::{Uplink, UplinkConfig, UplinkEvent};

/// Limits of the links. Each is a number of this crate; what more than one crate must agree on is in `base`.
pub mod limits {
    use std::time::Duration;

    /// Frames waiting to be written on a gateway's control stream.
    pub const CONTROL_QUEUE_FRAMES: usize = 2048;
    /// Frames waiting to be written on a relay's control stream; a peer that lets it fill is disconnected.
    pub const RELAY_QUEUE_FRAMES: usize = 8192;
    /// Events of a gateway's link that its owner has not taken yet; when full, the link waits for its owner. It is
    /// four times what a relay sends without acknowledgement, so that deposits never wait behind it.
    pub const EVENT_QUEUE: usize = 1024;
    /// `Collected` is only news: it is dropped when the queue has less room than this.
    pub const EVENT_QUEUE_SPARE: usize = EVENT_QUEUE / 2;
    /// Events that a relay has not taken yet, most of them body bytes.
    pub const RELAY_EVENT_QUEUE: usize = 256;
    /// Deposits of one uplink at once, shared fairly by its routes.
    pub const DEPOSITS_MAX: u64 = 512;
    /// Body streams of one sender at a relay.
    pub const BODY_STREAMS_MAX: u32 = 1024;
    /// Leases of one recipient connection.
    pub const LEASES_MAX: u32 = 1024;
    /// Connection flow control of a side that receives bodies.
    pub const RECEIVE_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
    /// Body bytes granted and not yet taken, over all transfers of one connection.
    pub const OUTSTANDING_GRANTS_MAX: u64 = RECEIVE_WINDOW_BYTES as u64 - 1024 * 1024;
    /// Flow control of one stream, and the most one body may have outstanding.
    pub const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
    /// Sent and not yet acknowledged, over all streams of one connection.
    pub const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
    /// Socket buffers asked of the kernel, which may give less.
    pub const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;
    /// The largest datagram that is tried: what a path takes is found out by probing. Where frames are longer
    /// than Ethernet's 1500 bytes, fewer datagrams carry the same. Ten of them are handed to the kernel at
    /// once, which takes no more than 65,507 bytes.
    pub const DATAGRAM_BYTES_MAX: u16 = 6500;
    /// The largest piece of a body that is read or written at once.
    pub const PIECE_BYTES_MAX: usize = 64 * 1024;
    /// The piece that is read ahead of a grant, to see whether it is the last.
    pub const PIECE_AHEAD_BYTES: usize = 4 * 1024;
    /// From the first packet to the greeting.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
    /// Handshakes that a relay runs at once; more are ignored.
    pub const HANDSHAKES_MAX: usize = 512;
    /// Handshakes from which on a relay makes newcomers prove their address (Retry).
    pub const RETRY_ABOVE: usize = 16;
    /// Connections of one relay.
    pub const CONNECTIONS_MAX: usize = 4096;
    /// How long a stopping link waits for its peer to hear of it.
    pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
    /// First and longest pause between two attempts to connect.
    pub const RECONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
    /// Open prekey requests of one uplink.
    pub const PREKEY_REQUESTS_MAX: usize = 256;
    /// Open questions of one uplink: as many as the relay takes of one sender.
    pub const ASKS_MAX: usize = 64;
    /// How much longer than a question is open its sender listens for the relay's word on it.
    pub const ASK_GRACE: Duration = Duration::from_millis(500);
    /// How long the relay may take to answer a request for a prekey, or to say how a finished deposit ended.
    pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
}
