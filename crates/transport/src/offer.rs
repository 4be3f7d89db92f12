use std::fmt;
use std::sync::Arc;

use base::{Attempt, DeliveryId, Digest, Fingerprint, RouteId};
use bytes::Bytes;
use quinn::{ReadError, RecvStream};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use wire::{Collect, RecipientFrame, StreamCode, Transfer, Urgency};

use crate::downlink::Leases;
use crate::grants::GrantPool;
use crate::limits;

/// Stream chunks taken at once: about one piece at the usual packet size.
const CHUNKS: usize = 48;

/// A body that the relay offers under a lease. Dropping it without [`IncomingOffer::accept`], a kept
/// [`Lease`] or a settlement gives the lease back, and it will be offered again a little later.
#[derive(Debug)]
pub struct IncomingOffer {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Which deposit of it.
    pub attempt: Attempt,
    /// Who deposits it; pinned by the relay, to be checked against our own pins.
    pub sender: Fingerprint,
    /// The sender's route.
    pub route: RouteId,
    /// The envelope's header.
    pub header: Vec<u8>,
    /// Bytes of the sealed body, where they are known.
    pub size: Option<u64>,
    /// How urgent its sender says that it is, by the relay's word: whose turn it is may depend on it, and nothing else.
    pub urgency: Urgency,
    pub(crate) lease: Lease,
    pub(crate) stream: oneshot::Receiver<RecvStream>,
}

/// The right to work on one delivery. As long as a clone lives and the delivery is not settled, the link
/// renews it at the relay; when the last one is dropped unsettled, it is given back.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<LeaseInner>,
}

pub(crate) struct LeaseInner {
    pub(crate) transfer: Transfer,
    pub(crate) route: RouteId,
    pub(crate) leases: Leases,
    pub(crate) pool: GrantPool,
    pub(crate) control: mpsc::Sender<RecipientFrame>,
    /// Cancelled when the relay withdraws the lease or the connection is lost.
    pub(crate) ended: CancellationToken,
    /// A place in the queue for the release, which must not fail.
    pub(crate) release: Option<mpsc::OwnedPermit<RecipientFrame>>,
}

/// The next part of a collected body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Sealed bytes, in order, in memory of their own.
    Data(Bytes),
    /// The stream is complete; this is the digest its sender gave. Checking it is the envelope's business.
    End(Digest),
}

/// Why a body does not come to its end.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Abandoned by its sender, replaced by a higher attempt, called off, or the lease lapsed.
    #[error("the relay withdrew the body")]
    Withdrawn,
    /// The connection is gone. What the relay still has it will offer again.
    #[error("the relay connection was lost")]
    Disconnected,
    /// More bytes than granted, another length than announced, or no digest.
    #[error("the body stream broke the protocol")]
    Violation,
}

impl IncomingOffer {
    /// Takes the offer and lets its first `grant` bytes come (0 is allowed: nothing comes until [`IncomingBody::grant`]).
    pub async fn accept(self, grant: u64) -> Result<IncomingBody, Lost> {
        let transfer = self.lease.inner.transfer;
        let mut body = IncomingBody {
            collect: Some(Collect::new(transfer, self.size)),
            size: self.size,
            wanted: 0,
            told: None,
            received: 0,
            source: Source::Awaited(self.stream),
            lease: self.lease,
        };
        body.grant(grant).await?;
        Ok(body)
    }

    /// To be kept for as long as the delivery is worked on.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }
}

impl Lease {
    pub(crate) fn new(inner: LeaseInner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// True when the relay has taken the lease back or the connection is gone. A settlement is still worth sending.
    pub fn has_ended(&self) -> bool {
        self.inner.ended.is_cancelled()
    }

    /// Returns when the lease has ended.
    pub async fn ended(&self) {
        self.inner.ended.cancelled().await;
    }

    fn lost(&self) -> Lost {
        if self.inner.control.is_closed() { Lost::Disconnected } else { Lost::Withdrawn }
    }
}

impl Drop for LeaseInner {
    fn drop(&mut self) {
        let unsettled = self.leases.remove(self.transfer);
        if let Some(permit) = self.release.take()
            && unsettled
            && !self.ended.is_cancelled()
        {
            permit.send(RecipientFrame::Release { transfer: self.transfer });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.inner.transfer)
    }
}

/// A body on its way in. It never holds or asks for more than was granted.
#[derive(Debug)]
pub struct IncomingBody {
    /// None after the end.
    collect: Option<Collect>,
    size: Option<u64>,
    /// What the caller granted; told to the relay as the link's pool allows.
    wanted: u64,
    /// What the relay was told.
    told: Option<u64>,
    received: u64,
    source: Source,
    lease: Lease,
}

#[derive(Debug)]
enum Source {
    /// The relay opens the stream after the first grant.
    Awaited(oneshot::Receiver<RecvStream>),
    Open(RecvStream),
    Done,
}

impl IncomingBody {
    /// Lets the body come up to this absolute offset. Grant well ahead of what was received (64 KiB at the least): the
    /// last 32 bytes seen are held back, because they may be the digest.
    pub async fn grant(&mut self, up_to: u64) -> Result<(), Lost> {
        self.wanted = self.wanted.max(up_to).min(self.size.unwrap_or(u64::MAX));
        self.extend().await.map(|_| ())
    }

    /// Body bytes received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// To be kept for as long as the delivery is worked on.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// The next piece, of at most 64 KiB or so. Cancel-safe. After the end it waits for ever.
    pub async fn next(&mut self) -> Result<Piece, Lost> {
        let ended = self.lease.inner.ended.clone();
        let result = tokio::select! {
            biased;
            piece = self.read() => piece,
            () = ended.cancelled() => Err(self.lease.lost()),
        };
        if result.is_err() {
            self.release_grants();
            self.source = Source::Done;
        }
        result
    }

    async fn read(&mut self) -> Result<Piece, Lost> {
        loop {
            let pool = self.lease.inner.pool.clone();
            let freed = pool.freed();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let complete = self.extend().await?;
            let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
            let read = tokio::select! {
                read = read_some(&mut self.source, &mut chunks) => read?,
                () = freed, if !complete => continue,
            };
            match read {
                None => return self.end(),
                Some(count) => {
                    let chunks = chunks.get(..count).unwrap_or_default();
                    if let Some(piece) = self.take(chunks)? {
                        return Ok(piece);
                    }
                }
            }
        }
    }

    /// Tells the relay of as much of the wish as the pool gives. True when the whole wish is told.
    async fn extend(&mut self) -> Result<bool, Lost> {
        let Some(collect) = &mut self.collect else { return Ok(true) };
        let LeaseInner { pool, control, route, .. } = &*self.lease.inner;
        // One body never has more outstanding than its stream can buffer.
        let ceiling = collect.received().saturating_add(u64::from(limits::STREAM_WINDOW_BYTES));
        let missing = self.wanted.min(ceiling).saturating_sub(collect.granted());
        if missing > 0 {
            let share = pool.take_some(*route, missing);
            collect.grant(share);
        }
        let granted = collect.granted();
        let whole = granted >= self.wanted.min(ceiling);
        let news = self.told.is_none_or(|told| granted > told);
        if news {
            self.told = Some(granted);
            let frame = RecipientFrame::Grant { transfer: self.lease.inner.transfer, up_to: granted };
            control.send(frame).await.map_err(|_| Lost::Disconnected)?;
        }
        Ok(whole)
    }

    fn take(&mut self, chunks: &[Bytes]) -> Result<Option<Piece>, Lost> {
        let Some(collect) = &mut self.collect else { return Err(Lost::Violation) };
        let mut bytes = Vec::with_capacity(chunks.iter().map(Bytes::len).sum());
        let before = collect.received();
        let fed = collect.feed(chunks.iter().map(|chunk| &**chunk), &mut bytes);
        self.received = collect.received();
        self.lease.inner.pool.give(self.lease.inner.route, self.received.min(collect.granted()) - before);
        if let Err(violation) = fed {
            warn!(%violation, "relay broke the protocol");
            return Err(Lost::Violation);
        }
        Ok((!bytes.is_empty()).then(|| Piece::Data(bytes.into())))
    }

    fn end(&mut self) -> Result<Piece, Lost> {
        self.release_grants();
        self.source = Source::Done;
        let collect = self.collect.take().ok_or(Lost::Violation)?;
        collect.finish().map(Piece::End).map_err(|violation| {
            warn!(%violation, "body stream unusable");
            Lost::Violation
        })
    }

    fn release_grants(&mut self) {
        if let Some(collect) = &self.collect {
            self.lease.inner.pool.give(self.lease.inner.route, collect.outstanding());
        }
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        if !matches!(self.source, Source::Done) {
            self.release_grants();
        }
        if let Source::Open(stream) = &mut self.source {
            let _ = stream.stop(StreamCode::Unwanted.code().into());
        }
    }
}

async fn read_some(source: &mut Source, chunks: &mut [Bytes]) -> Result<Option<usize>, Lost> {
    loop {
        match source {
            Source::Awaited(stream) => {
                *source = Source::Open(stream.await.map_err(|_| Lost::Disconnected)?);
            }
            Source::Open(stream) => {
                return match stream.read_chunks(chunks).await {
                    Ok(read) => Ok(read),
                    Err(ReadError::Reset(_)) => Err(Lost::Withdrawn),
                    Err(_) => Err(Lost::Disconnected),
                };
            }
            Source::Done => return std::future::pending().await,
        }
    }
}
