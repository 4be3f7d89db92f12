use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::Fingerprint;
use bytes::Bytes;
use quinn::{Connection, SendStream};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::{CloseCode, StreamCode, ToRecipient, ToSender, Transfer, Urgency};

use crate::gate::Gate;
use crate::{Admission, RelayEvent, tls};

/// Body pieces handed to one stream and not yet taken by it. The relay's vault keeps below it.
pub(crate) const OUTGOING_PIECES: usize = 128;

/// One connection at a relay; never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The connection takes no more: it is closed, or is being closed because its peer does not keep up.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the connection is closed")]
pub struct LinkClosed;

/// What one loop does to one connection of a relay. No method waits.
#[derive(Debug)]
pub struct RelayLink {
    pub(crate) id: ConnectionId,
    pub(crate) peer: Fingerprint,
    pub(crate) connection: Connection,
    pub(crate) control: mpsc::Sender<Out>,
    pub(crate) incoming: Incoming,
    pub(crate) tasks: TaskTracker,
    pub(crate) events: mpsc::Sender<RelayEvent>,
    pub(crate) outgoing: HashMap<Transfer, mpsc::Sender<Outgoing>>,
    pub(crate) gate: Gate,
}

/// A frame to either kind of peer.
#[derive(Debug)]
pub(crate) enum Out {
    Sender(ToSender),
    Recipient(ToRecipient),
}

impl<C> minicbor::Encode<C> for Out {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Self::Sender(frame) => frame.encode(e, context),
            Self::Recipient(frame) => frame.encode(e, context),
        }
    }
}

/// A step of a body on its way out.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Data(Bytes),
    Finish(base::Digest),
}

impl RelayLink {
    /// Which connection this is.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Whether the key that its peer showed is still one of that peer's, or the connection is closed already: keys end when a
    /// rotation of them is over.
    pub fn is_pinned(&self, admission: &dyn Admission) -> bool {
        self.connection.close_reason().is_some()
            || tls::peer_of(&self.connection, admission) == Some(self.peer)
    }

    /// Queues a frame for a sender. A peer whose queue is full is disconnected, never waited for.
    pub fn to_sender(&self, frame: ToSender) -> Result<(), LinkClosed> {
        self.queue(Out::Sender(frame))
    }

    /// Queues a frame for a recipient, likewise.
    pub fn to_recipient(&self, frame: ToRecipient) -> Result<(), LinkClosed> {
        self.queue(Out::Recipient(frame))
    }

    fn queue(&self, frame: Out) -> Result<(), LinkClosed> {
        match self.control.try_send(frame) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.close(CloseCode::TooSlow);
                Err(LinkClosed)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(LinkClosed),
        }
    }

    /// Opens the stream of a body on its way out.
    pub fn open(&mut self, transfer: Transfer, urgency: Urgency) {
        let (pieces, queue) = mpsc::channel(OUTGOING_PIECES);
        self.outgoing.insert(transfer, pieces);
        let (id, connection, events) = (self.id, self.connection.clone(), self.events.clone());
        let gate = self.gate.clone();
        self.tasks.spawn(async move {
            // A body that waits for more bytes must not outlive its connection: whoever would end it waits for it.
            let end = tokio::select! {
                end = send_body(&connection, id, transfer, (queue, urgency, gate), &events) => end,
                _ = connection.closed() => None,
            };
            if let Some(event) = end {
                let _ = events.send(event).await;
            }
        });
    }

    /// Hands body bytes to an open stream, without copying them. The caller waits for `Written` before it
    /// hands over more than a window's worth.
    pub fn write(&mut self, transfer: Transfer, bytes: Bytes) {
        self.step(transfer, Outgoing::Data(bytes));
    }

    /// Ends an open stream with the digest.
    pub fn finish(&mut self, transfer: Transfer, digest: base::Digest) {
        self.step(transfer, Outgoing::Finish(digest));
        self.outgoing.remove(&transfer);
    }

    /// Resets an open stream: what was sent of the body is worth nothing.
    pub fn reset(&mut self, transfer: Transfer) {
        self.outgoing.remove(&transfer);
    }

    /// Wants no more of a body on its way in. May be said again, and before its stream is there.
    pub fn stop(&self, transfer: Transfer) {
        self.incoming.stop(transfer);
    }

    /// Closes the connection.
    pub fn close(&self, code: CloseCode) {
        self.connection.close(code.code().into(), code.text().as_bytes());
    }

    fn step(&mut self, transfer: Transfer, step: Outgoing) {
        let Some(queue) = self.outgoing.get(&transfer) else { return };
        if queue.try_send(step).is_err() {
            // Gone, or overrun against the rule: dropping the queue resets the stream.
            self.outgoing.remove(&transfer);
        }
    }
}

/// Which body streams are coming in, so that they can be stopped from outside their tasks. The lock
/// guards the map only and is never held across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Incoming {
    streams: Arc<Mutex<HashMap<Transfer, CancellationToken>>>,
}

impl Incoming {
    fn lock(&self) -> MutexGuard<'_, HashMap<Transfer, CancellationToken>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: the peer uses a transfer id that is in use.
    pub(crate) fn enter(&self, transfer: Transfer) -> Option<CancellationToken> {
        let mut streams = self.lock();
        if streams.contains_key(&transfer) {
            return None;
        }
        let token = CancellationToken::new();
        streams.insert(transfer, token.clone());
        Some(token)
    }

    pub(crate) fn leave(&self, transfer: Transfer) {
        self.lock().remove(&transfer);
    }

    fn stop(&self, transfer: Transfer) {
        if let Some(token) = self.lock().get(&transfer) {
            token.cancel();
        }
    }
}

/// Sends one body. Any end other than the finished one resets the stream, also by being dropped.
async fn send_body(
    connection: &Connection,
    id: ConnectionId,
    transfer: Transfer,
    (mut queue, urgency, gate): (mpsc::Receiver<Outgoing>, Urgency, Gate),
    events: &mpsc::Sender<RelayEvent>,
) -> Option<RelayEvent> {
    // A lost connection is told as a whole, not per stream.
    let stream = connection.open_uni().await.ok()?;
    let mut stream = ResetOnDrop { stream, finished: false };
    let refused = Some(RelayEvent::Refused { connection: id, transfer });
    if stream.stream.write_all(&wire::preamble(transfer)).await.is_err() {
        return refused;
    }
    let mut steps = Vec::with_capacity(OUTGOING_PIECES);
    loop {
        if queue.recv_many(&mut steps, OUTGOING_PIECES).await == 0 {
            return None;
        }
        let (mut chunks, mut digest) = (Vec::with_capacity(steps.len()), None);
        for step in steps.drain(..) {
            match step {
                Outgoing::Data(bytes) => chunks.push(bytes),
                Outgoing::Finish(end) => digest = Some(end),
            }
        }
        for chunk in chunks {
            let bytes = chunk.len() as u64;
            let going = gate.pass(urgency).await;
            if stream.stream.write_chunk(chunk).await.is_err() {
                return refused;
            }
            drop(going);
            if events.send(RelayEvent::Written { connection: id, transfer, bytes }).await.is_err() {
                return None;
            }
        }
        if let Some(digest) = digest {
            if stream.stream.write_all(digest.as_bytes()).await.is_err() || stream.stream.finish().is_err() {
                return refused;
            }
            stream.finished = true;
            return match stream.stream.stopped().await {
                Ok(None) => Some(RelayEvent::Delivered { connection: id, transfer }),
                Ok(Some(_)) => refused,
                Err(_) => None,
            };
        }
    }
}

struct ResetOnDrop {
    stream: SendStream,
    finished: bool,
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(StreamCode::Abandoned.code().into());
        }
    }
}
