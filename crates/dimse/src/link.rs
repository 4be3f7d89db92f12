//! One connection: the framer's bytes, the timers around each wait, and how it ends.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tracing::trace;

use crate::{
    associate,
    failure::{AssociationError, TimedOut},
    fragment::Fragmenter,
    framing::{Frame, Framer, Phase, pdu_type},
    limits::{LINGER, LINGER_BYTES_MAX, WRITE_BATCH_BYTES},
    onlooker::{Onlooker, Watched},
};

/// A byte stream and the few things about it that differ between a TCP connection and a test's pipe.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Asks the kernel to acknowledge at once. It forgets that by itself, so it is asked after each read
    /// and write: with a peer that leaves Nagle's algorithm on, this decides between 4 and 90 ms for an instance.
    fn rearm_quickack(&self) {}
    /// Writes without waiting.
    fn try_write_now(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    /// Reads without waiting; 0 is the end.
    fn try_read_now(&mut self, _buffer: &mut BytesMut) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    /// Makes the close a reset.
    fn reset_on_close(&self) {}
}

impl Socket for TcpStream {
    fn rearm_quickack(&self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = self.set_quickack(true) {
            trace!(%error, "TCP_QUICKACK");
        }
    }

    fn try_write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn try_read_now(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.try_read_buf(buffer)
    }

    fn reset_on_close(&self) {
        if let Err(error) = self.set_zero_linger() {
            trace!(%error, "SO_LINGER");
        }
    }
}

#[cfg(test)]
impl Socket for tokio::io::DuplexStream {}

/// Until when, or how long, a read may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Between messages: until then for the first byte, and from there on as long as it progresses.
    Idle(Instant, TimedOut),
    /// Until then, whatever comes.
    Until(Instant, TimedOut),
    /// Within a message: as long as it progresses.
    Progress,
}

/// A connection with an association on it, or on the way to one.
pub(crate) struct Link {
    socket: Box<dyn Socket>,
    framer: Framer,
    progress: Duration,
    /// What is left to wait within the running PDU. The time that our own side takes between two reads
    /// does not count, so that a slow disk here is not the peer's fault.
    budget: Duration,
    milestone: u64,
    state: Writing,
    watched: Option<Watched>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// At a PDU boundary.
    Clean,
    /// Within a write: if it was cancelled or failed, part of a PDU may be out.
    Torn,
    /// Nothing more may be written.
    Ended,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("framer", &self.framer)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(socket: Box<dyn Socket>, phase: Phase, max_pdu: u32, progress: Duration) -> Self {
        let framer = Framer::new(phase, max_pdu);
        Self {
            socket,
            framer,
            progress,
            budget: progress,
            milestone: 0,
            state: Writing::Clean,
            watched: None,
        }
    }

    /// From here on somebody may look on.
    pub(crate) fn watched_by(&mut self, onlooker: Option<Arc<dyn Onlooker>>) {
        self.watched = onlooker.map(Watched::new);
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.framer.enter(phase);
    }

    /// The handshake is over: messages may come, at this pace.
    pub(crate) fn establish(&mut self, progress: Duration) {
        self.framer.enter(Phase::Established);
        (self.progress, self.budget) = (progress, progress);
    }

    /// It can be read from and written to.
    pub(crate) fn is_usable(&self) -> bool {
        self.state == Writing::Clean
    }

    /// Gives a new command set or data set the whole progress time.
    pub(crate) fn refill(&mut self) {
        self.budget = self.progress;
    }

    /// The next frame. Cancelling it loses nothing. `sticky` keeps the budget from being refilled by a
    /// complete PDU: a command set in many small PDUs has one budget.
    pub(crate) async fn frame(
        &mut self,
        patience: Patience,
        sticky: bool,
    ) -> Result<Frame, AssociationError> {
        loop {
            let frame = self.framer.poll()?;
            if self.framer.milestone() != self.milestone {
                self.milestone = self.framer.milestone();
                if !sticky {
                    self.refill();
                }
            }
            if let (Some(watched), Some(frame)) = (&mut self.watched, &frame) {
                watched.received(frame);
            }
            match frame {
                Some(Frame::Control { pdu_type: pdu_type::ABORT, body }) => {
                    let (origin, reason) = associate::abort_codes(&body);
                    return Err(AssociationError::Aborted { origin, reason });
                }
                Some(frame) => return Ok(frame),
                None => self.fill(patience).await?,
            }
        }
    }

    /// Reads something, within the time that is left.
    async fn fill(&mut self, patience: Patience) -> Result<(), AssociationError> {
        let started = Instant::now();
        let within_pdu = self.framer.is_inside_pdu();
        let by_budget = (started + self.budget, TimedOut::Progress(self.progress));
        let (deadline, elapsed) = match patience {
            Patience::Idle(at, timer) if !within_pdu => (at, timer),
            Patience::Until(at, timer) if !within_pdu || at < by_budget.0 => (at, timer),
            _ => by_budget,
        };
        let read = timeout_at(deadline, self.socket.read_buf(self.framer.room())).await;
        if within_pdu || matches!(patience, Patience::Progress) {
            self.budget = self.budget.saturating_sub(started.elapsed());
        }
        match read {
            Err(_) => Err(elapsed.into()),
            Ok(Ok(0)) => Err(AssociationError::Closed),
            Ok(Ok(_)) => {
                self.socket.rearm_quickack();
                Ok(())
            }
            Ok(Err(error)) => Err(closed_or(error)),
        }
    }

    /// A frame that has come already; for a look before something that cannot be taken back.
    pub(crate) fn frame_now(&mut self) -> Result<Option<Frame>, AssociationError> {
        loop {
            let frame = self.framer.poll()?;
            if let (Some(watched), Some(frame)) = (&mut self.watched, &frame) {
                watched.received(frame);
            }
            match frame {
                Some(Frame::Control { pdu_type: pdu_type::ABORT, body }) => {
                    let (origin, reason) = associate::abort_codes(&body);
                    return Err(AssociationError::Aborted { origin, reason });
                }
                Some(frame) => return Ok(Some(frame)),
                None => {}
            }
            match self.socket.try_read_now(self.framer.room()) {
                Ok(0) => return Err(AssociationError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(closed_or(error)),
            }
        }
    }

    /// Writes whole PDUs. When it is cancelled or fails, the connection is good for a reset only.
    pub(crate) async fn write(&mut self, out: &mut Outgoing) -> Result<(), AssociationError> {
        if self.state != Writing::Clean {
            return Err(AssociationError::Ended);
        }
        if out.is_empty() {
            return Ok(());
        }
        if let Some(watched) = &mut self.watched {
            watched.sends(out);
        }
        self.state = Writing::Torn;
        let limit = self.progress;
        let socket = &mut self.socket;
        let written = async {
            socket.write_all_buf(out).await?;
            // TLS keeps what the kernel does not take at once.
            socket.flush().await
        };
        match timeout(limit, written).await {
            Err(_) => return Err(TimedOut::Write(limit).into()),
            Ok(Err(error)) => return Err(closed_or(error)),
            Ok(Ok(())) => {}
        }
        self.state = Writing::Clean;
        self.socket.rearm_quickack();
        Ok(())
    }

    /// Writes a command set and its data set, in batches that have a write time-out each.
    pub(crate) async fn send(
        &mut self,
        context: u8,
        command: Vec<u8>,
        data: Option<Bytes>,
        pdu_length: u32,
    ) -> Result<(), AssociationError> {
        let mut out = Outgoing::from(command);
        if let Some(data) = data {
            let mut fragmenter = Fragmenter::new(context, pdu_length);
            fragmenter.push(data);
            while fragmenter.has_full() {
                fragmenter.take_full(&mut out, WRITE_BATCH_BYTES);
                self.write(&mut out).await?;
            }
            fragmenter.finish(&mut out);
        }
        self.write(&mut out).await
    }

    /// Ends the association after an error: by A-ABORT where our side found it and a PDU boundary allows it.
    pub(crate) async fn fail(&mut self, error: AssociationError) -> AssociationError {
        let pdu = match &error {
            AssociationError::Violation(violation) => associate::abort(Some(violation.abort_reason())),
            AssociationError::ReleasedInMessage => associate::abort(Some(crate::AbortReason::UnexpectedPdu)),
            AssociationError::TimedOut(_) => associate::abort(Some(crate::AbortReason::NotSpecified)),
            AssociationError::Aborted { .. }
            | AssociationError::Closed
            | AssociationError::Io(_)
            | AssociationError::Ended => {
                self.forsake();
                return error;
            }
        };
        self.end_with(pdu).await;
        error
    }

    /// Ends the association without a word: the peer has left it.
    pub(crate) fn forsake(&mut self) {
        if self.state == Writing::Torn {
            self.socket.reset_on_close();
        }
        self.state = Writing::Ended;
    }

    /// Sends a last PDU, then waits a moment for the peer to close: closing at once with unread bytes would
    /// be a reset, which could overtake that PDU.
    pub(crate) async fn end_with(&mut self, pdu: Vec<u8>) {
        if self.state != Writing::Clean {
            return self.forsake();
        }
        if let Some(watched) = &mut self.watched {
            watched.sends_last(&pdu);
        }
        self.state = Writing::Ended;
        let farewell = async {
            self.socket.write_all(&pdu).await?;
            self.socket.shutdown().await?;
            let mut thrown_away = 0;
            let mut scratch = BytesMut::with_capacity(16 * 1024);
            while thrown_away < LINGER_BYTES_MAX {
                match self.socket.read_buf(&mut scratch).await? {
                    0 => break,
                    read => thrown_away += read,
                }
                scratch.clear();
            }
            Ok::<_, io::Error>(())
        };
        if let Ok(Err(error)) = timeout(LINGER, farewell).await {
            trace!(%error, "farewell");
        }
    }

    /// Sends an A-RELEASE-RP, or nothing more at all, and closes in order.
    pub(crate) async fn close(&mut self, last: Option<Vec<u8>>) {
        if self.state != Writing::Clean {
            return;
        }
        if let (Some(watched), Some(pdu)) = (&mut self.watched, &last) {
            watched.sends_last(pdu);
        }
        self.state = Writing::Ended;
        let farewell = async {
            if let Some(pdu) = last {
                self.socket.write_all(&pdu).await?;
            }
            self.socket.shutdown().await
        };
        if let Ok(Err(error)) = timeout(LINGER, farewell).await {
            trace!(%error, "farewell");
        }
    }
}

impl Drop for Link {
    /// An association that is dropped half-way is aborted, never left to look complete.
    fn drop(&mut self) {
        match self.state {
            Writing::Clean => {
                let pdu = associate::abort(None);
                if let Some(watched) = &mut self.watched {
                    watched.sends_last(&pdu);
                }
                if self.socket.try_write_now(&pdu).ok() != Some(pdu.len()) {
                    self.socket.reset_on_close();
                }
            }
            // An A-ABORT would be read as the rest of the PDU that was cut off.
            Writing::Torn => self.socket.reset_on_close(),
            Writing::Ended => {}
        }
    }
}

/// A peer that resets has closed without a release.
fn closed_or(error: io::Error) -> AssociationError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            AssociationError::Closed
        }
        _ => error.into(),
    }
}

/// Bytes on their way out, as slices that are written together without being copied into one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing {
    chunks: VecDeque<Bytes>,
    remaining: usize,
}

impl Outgoing {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.remaining += bytes.len();
            self.chunks.push_back(bytes);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.remaining
    }
}

impl From<Vec<u8>> for Outgoing {
    fn from(bytes: Vec<u8>) -> Self {
        let mut out = Self::default();
        out.push(bytes.into());
        out
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |bytes| bytes)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.chunks).map(|(slice, bytes)| *slice = IoSlice::new(bytes));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining = self.remaining.saturating_sub(count);
        while let Some(front) = self.chunks.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
    }
}
