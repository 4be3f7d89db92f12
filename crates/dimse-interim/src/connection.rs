//! A TCP connection as PDUs, with the three timers. Both sides use it.

use std::{io, time::Duration};

use bytes::BytesMut;
use dicom_ul::pdu::{Pdu, read_pdu, write_pdu};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{
    error::{AssociationError, ProtocolError},
    framing::{self, RawPdu, pdu_type},
};

/// Room made for one read: a large PDU comes in one system call.
const READ_BYTES: usize = 256 * 1024;

/// The limits of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// The whole A-ASSOCIATE handshake, from the first byte on.
    pub handshake: Duration,
    /// Between two messages.
    pub idle: Duration,
    /// One PDU, from its first byte to its last; also each of our writes. Slow drip ends here.
    pub progress: Duration,
}

impl Default for Timers {
    /// 30 s, 10 min, 60 s.
    fn default() -> Self {
        Self { handshake: Duration::from_secs(30), idle: Duration::from_secs(600), progress: Duration::from_secs(60) }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    data_max: u32,
    timers: Timers,
    /// Re-arm TCP_QUICKACK, which is not sticky: a peer with Nagle on stalls 44 ms for each response
    /// otherwise (DIMSE notes).
    quickack: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, data_max: u32, timers: Timers) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let connection = Self { stream, buffer: BytesMut::new(), data_max, timers, quickack: true };
        connection.arm_quickack();
        Ok(connection)
    }

    fn arm_quickack(&self) {
        if self.quickack {
            // Without it the association is slower and otherwise the same.
            #[cfg(target_os = "linux")]
            let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
        }
    }

    /// The next PDU. Waits `first` for its first byte and `progress` for the rest. Cancel-safe.
    pub(crate) async fn next_pdu(&mut self, first: Duration) -> Result<RawPdu, AssociationError> {
        let idle_until = Instant::now() + first;
        let mut progress_until = None;
        loop {
            if let Some(pdu) = framing::next_pdu(&mut self.buffer, self.data_max).map_err(ProtocolError::from)? {
                return Ok(pdu);
            }
            if !self.buffer.is_empty() && progress_until.is_none() {
                progress_until = Some(Instant::now() + self.timers.progress);
            }
            self.buffer.reserve(READ_BYTES.saturating_sub(self.buffer.capacity()).max(4096));
            let read = timeout_at(progress_until.unwrap_or(idle_until), self.stream.read_buf(&mut self.buffer)).await;
            self.arm_quickack();
            match read {
                Ok(Ok(0)) if self.buffer.is_empty() => return Err(AssociationError::Closed),
                Ok(Ok(0)) => return Err(AssociationError::Unfinished),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if progress_until.is_some() => return Err(AssociationError::Stalled(self.timers.progress)),
                Err(_) => return Err(AssociationError::Idle(first)),
            }
        }
    }

    /// Writes all of it, in one system call where the socket takes it.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), AssociationError> {
        let until = Instant::now() + self.timers.progress;
        let written = timeout_at(until, self.stream.write_all(bytes)).await;
        self.arm_quickack();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(AssociationError::Stalled(self.timers.progress)),
        }
    }

    /// As [`Connection::write`], of a head and a body, without joining them in memory first.
    pub(crate) async fn write_two(&mut self, head: &[u8], body: &[u8]) -> Result<(), AssociationError> {
        let until = Instant::now() + self.timers.progress;
        let stream = &mut self.stream;
        let writing = async {
            let (mut head, mut body) = (head, body);
            while !head.is_empty() {
                let parts = [io::IoSlice::new(head), io::IoSlice::new(body)];
                let count = stream.write_vectored(&parts).await?;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                let of_head = count.min(head.len());
                head = head.get(of_head..).unwrap_or_default();
                body = body.get(count - of_head..).unwrap_or_default();
            }
            stream.write_all(body).await
        };
        let written = timeout_at(until, writing).await;
        self.arm_quickack();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(AssociationError::Stalled(self.timers.progress)),
        }
    }

    pub(crate) async fn write_pdu(&mut self, pdu: &Pdu) -> Result<(), AssociationError> {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).map_err(|error| {
            AssociationError::Protocol(ProtocolError::Unreadable { pdu_type: 0, reason: error.to_string() })
        })?;
        self.write(&bytes).await
    }

    /// A-ABORT, as far as the peer still listens, and the end of the connection.
    pub(crate) async fn abort(&mut self, source: u8, reason: u8) {
        let pdu = [pdu_type::ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason];
        let until = Instant::now() + Duration::from_millis(500);
        // Whoever does not read it sees the connection end.
        let _ = timeout_at(until, self.stream.write_all(&pdu)).await;
        let _ = timeout_at(until, self.stream.shutdown()).await;
    }

    /// Best effort without waiting: for a dropped association.
    pub(crate) fn abort_now(&mut self) {
        let pdu = [pdu_type::ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0];
        let _ = self.stream.try_write(&pdu);
    }

    pub(crate) async fn shutdown(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}

/// Reads a PDU that is not P-DATA-TF by dicom-ul's codec.
pub(crate) fn decode(pdu: &RawPdu) -> Result<Pdu, ProtocolError> {
    let mut whole = Vec::with_capacity(framing::PDU_HEADER_BYTES + pdu.body.len());
    whole.extend_from_slice(&[pdu.pdu_type, 0]);
    whole.extend_from_slice(&u32::try_from(pdu.body.len()).unwrap_or(u32::MAX).to_be_bytes());
    whole.extend_from_slice(&pdu.body);
    let unreadable = |reason: String| ProtocolError::Unreadable { pdu_type: pdu.pdu_type, reason };
    match read_pdu(whole.as_slice(), framing::CONTROL_PDU_BYTES_MAX, false) {
        Ok(Some(pdu)) => Ok(pdu),
        Ok(None) => Err(unreadable("it ends too early".to_owned())),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// Source and reason of an A-ABORT (PS3.8 Table 9-26).
pub(crate) fn aborted(pdu: &RawPdu) -> AssociationError {
    let (source_code, reason) = match pdu.body.first_chunk::<4>() {
        Some([_, _, source, reason]) => (*source, *reason),
        None => (0, 0),
    };
    AssociationError::Aborted { source_code, reason }
}
