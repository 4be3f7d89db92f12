use std::collections::VecDeque;
use std::sync::Arc;

use base::{Attempt, BootId, DeliveryId, Digest, Fingerprint, RouteId};
use bytes::Bytes;
use quinn::{Connection, SendStream, WriteError};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use wire::{DeclineCode, Deposit, RelayState, SenderFrame, StreamCode, Transfer, Urgency, Verdict};

use crate::link::{SendError, Unavailable};
use crate::slots::Slot;
use crate::uplink::Shared;
use crate::{Uplink, limits};

/// One attempt to deposit a delivery.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Which deposit of it.
    pub attempt: Attempt,
    /// Who alone may collect it.
    pub recipient: Fingerprint,
    /// The sender's route.
    pub route: RouteId,
    /// The envelope's header; at most [`wire::HEADER_BYTES_MAX`].
    pub header: Vec<u8>,
    /// Bytes of the sealed body, where they are known already.
    pub size: Option<u64>,
    /// Digest of the sealed body, where it is known already: an equal attempt with another one is refused.
    pub digest: Option<Digest>,
    /// Which of the bodies that wait goes first, here and at the relay.
    pub urgency: Urgency,
}

/// The next part of a sealed body.
#[derive(Clone, Debug)]
pub enum BodyPiece {
    /// Bytes, in order; not empty.
    Data(Bytes),
    /// The body is complete and every check has passed.
    End(Digest),
    /// The body is worth nothing: whatever was sent of it is thrown away.
    Abandon,
}

/// Where a sealed body comes from. It may still be growing: then `next` waits.
pub trait BodySource: Send {
    /// The next piece, of at most `max` bytes. It is asked for one piece ahead of what may be sent.
    fn next(&mut self, max: usize) -> impl Future<Output = BodyPiece> + Send;
}

/// A body that is in memory already.
#[derive(Clone, Debug)]
pub struct WholeBody {
    pieces: VecDeque<Bytes>,
    digest: Digest,
}

impl WholeBody {
    /// The pieces in order, with the digest over all of them.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>, digest: Digest) -> Self {
        Self { pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(), digest }
    }

    /// One piece; its digest is computed.
    pub fn of(bytes: Bytes) -> Self {
        let digest = Digest::of(&bytes);
        Self::new([bytes], digest)
    }
}

impl BodySource for WholeBody {
    async fn next(&mut self, max: usize) -> BodyPiece {
        let Some(front) = self.pieces.front_mut() else { return BodyPiece::End(self.digest) };
        let piece = front.split_to(front.len().min(max));
        if front.is_empty() {
            self.pieces.pop_front();
        }
        BodyPiece::Data(piece)
    }
}

/// The relay has the whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deposited {
    /// In this run of the relay.
    pub boot: BootId,
}

/// Why the relay does not have the whole body of this attempt from this deposit.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum DepositError {
    /// Nothing to do: the same attempt is there already, or its recipient has settled it.
    #[error("the relay knows this attempt already ({state:?})")]
    Known {
        /// How far it is.
        state: RelayState,
        /// Digest of the body the relay has, if it has all of it.
        digest: Option<Digest>,
        /// In this run of the relay.
        boot: BootId,
    },
    /// The relay does not take it.
    #[error("the relay declined: {0}")]
    Declined(DeclineCode),
    /// The connection is not there, or was lost on the way. Deposit the same attempt again.
    #[error("the relay is not connected")]
    Disconnected,
    /// The body source gave up.
    #[error("the body was abandoned")]
    Abandoned,
    /// The header is too long: an error of the caller.
    #[error("header of {0} bytes exceeds {limit}", limit = wire::HEADER_BYTES_MAX)]
    HeaderTooLong(usize),
}

impl From<Unavailable> for DepositError {
    fn from(_: Unavailable) -> Self {
        Self::Disconnected
    }
}

/// A deposit that the link's task knows of. Dropped before its verdict, it tells the relay that the body will not come.
pub(crate) struct Registered {
    shared: Arc<Shared>,
    transfer: Transfer,
    connection: Connection,
    control: mpsc::Sender<SenderFrame>,
    boot: BootId,
    /// A place in the queue, kept for the abandon that must not fail.
    abandon: Option<mpsc::OwnedPermit<SenderFrame>>,
}

impl Registered {
    pub(crate) fn new(
        shared: Arc<Shared>,
        transfer: Transfer,
        connection: Connection,
        control: mpsc::Sender<SenderFrame>,
        boot: BootId,
        abandon: mpsc::OwnedPermit<SenderFrame>,
    ) -> Self {
        Self { shared, transfer, connection, control, boot, abandon: Some(abandon) }
    }

    fn judge(mut self, verdict: Verdict) -> Result<Deposited, DepositError> {
        self.abandon = None;
        let boot = self.boot;
        match verdict {
            Verdict::Deposited => Ok(Deposited { boot }),
            Verdict::Known { state, digest } => Err(DepositError::Known { state, digest, boot }),
            Verdict::Declined(code) => Err(DepositError::Declined(code)),
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.forget(self.transfer, &self.connection);
        if let Some(permit) = self.abandon.take() {
            permit.send(SenderFrame::Abandon { transfer: self.transfer });
        }
    }
}

/// A deposit whose offer is on its way. Dropping it abandons the body.
pub struct Offered {
    registered: Registered,
    news: watch::Receiver<Deposit>,
    urgency: Urgency,
    _slot: Slot,
}

impl std::fmt::Debug for Offered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Offered({})", self.registered.transfer)
    }
}

/// Offers one attempt: returns as soon as the offer is on its way. Offers made one after another reach
/// the relay, and through it the recipient, in that order.
pub(crate) async fn offer(uplink: &Uplink, offer: Offer) -> Result<Offered, DepositError> {
    if SendError::check("header", offer.header.len(), wire::HEADER_BYTES_MAX).is_err() {
        return Err(DepositError::HeaderTooLong(offer.header.len()));
    }
    let slot = uplink.shared.slots.take(offer.route).await;
    let control = uplink.shared.control().ok_or(Unavailable)?;
    let permit = control.reserve_owned().await.map_err(|_| Unavailable)?;
    let (registered, news) = uplink.shared.register(permit)?;
    let Offer { delivery, attempt, recipient, route, header, size, digest, urgency } = offer;
    let transfer = registered.transfer;
    let header = header.into();
    let frame =
        SenderFrame::Offer { transfer, delivery, attempt, recipient, route, header, size, digest, urgency };
    registered.control.send(frame).await.map_err(|_| Unavailable)?;
    Ok(Offered { registered, news, urgency, _slot: slot })
}

impl Offered {
    /// Sends the body as far as it is granted. Returns when the relay has the whole body, or why it has
    /// not. Dropping the future abandons the body.
    pub async fn send(self, body: impl BodySource) -> Result<Deposited, DepositError> {
        let Self { registered, mut news, urgency, _slot } = self;
        carry(registered, &mut news, urgency, body).await
    }
}

async fn carry(
    registered: Registered,
    news: &mut watch::Receiver<Deposit>,
    urgency: Urgency,
    body: impl BodySource,
) -> Result<Deposited, DepositError> {
    let admitted = until(news, |deposit| deposit.admitted() || deposit.verdict().is_some()).await?;
    if let Some(verdict) = admitted.verdict() {
        return registered.judge(verdict);
    }
    let mut verdict_news = news.clone();
    let outcome = tokio::select! {
        biased;
        verdict = verdict_of(&mut verdict_news) => Ok(Sent::Judged(verdict?)),
        sent = send(&registered, news, urgency, body) => sent,
    };
    let verdict = match outcome? {
        Sent::Judged(verdict) => verdict,
        Sent::All => verdict_of(news).await?,
        // The relay always says why it wants no more bytes; it may say so a little later.
        Sent::Stopped => match timeout(limits::ANSWER_TIMEOUT, verdict_of(news)).await {
            Ok(verdict) => verdict?,
            Err(_) => return Err(DepositError::Declined(DeclineCode::Ended)),
        },
    };
    registered.judge(verdict)
}

/// How far the body went.
enum Sent {
    /// The relay ended it first.
    Judged(Verdict),
    /// All of it is on its way.
    All,
    /// The relay wants no more of it.
    Stopped,
}

/// Sends a body as far as it is granted. Dropped anywhere, it resets the stream: a half-sent body never ends as a whole one.
async fn send(
    registered: &Registered,
    news: &mut watch::Receiver<Deposit>,
    urgency: Urgency,
    mut body: impl BodySource,
) -> Result<Sent, DepositError> {
    let stream = registered.connection.open_uni().await.map_err(|_| Unavailable)?;
    let mut stream = BodyStream { stream, whole: false };
    if let Some(end) = stream.write(Bytes::copy_from_slice(&wire::preamble(registered.transfer))).await? {
        return Ok(end);
    }
    let mut sent = 0u64;
    loop {
        // A stuck body holds no more than a small piece that nobody wants yet.
        let credit = usize::try_from(news.borrow().credit(sent)).unwrap_or(usize::MAX);
        let mut piece =
            match body.next(credit.clamp(limits::PIECE_AHEAD_BYTES, limits::PIECE_BYTES_MAX)).await {
                BodyPiece::Data(piece) => piece,
                BodyPiece::Abandon => return Err(DepositError::Abandoned),
                BodyPiece::End(digest) => {
                    let end = stream.write(Bytes::copy_from_slice(digest.as_bytes())).await?;
                    return Ok(end.unwrap_or_else(|| stream.finish()));
                }
            };
        while !piece.is_empty() {
            let credit = until(news, |deposit| deposit.credit(sent) > 0).await?.credit(sent);
            let now = piece.split_to(piece.len().min(usize::try_from(credit).unwrap_or(usize::MAX)));
            sent += u64::try_from(now.len()).unwrap_or(0);
            let _going = registered.shared.gate.pass(urgency).await;
            if let Some(end) = stream.write(now).await? {
                return Ok(end);
            }
        }
    }
}

/// Waits until the deposit is so, or its connection is gone.
async fn until(
    news: &mut watch::Receiver<Deposit>,
    so: impl FnMut(&Deposit) -> bool,
) -> Result<Deposit, DepositError> {
    news.wait_for(so).await.map(|deposit| *deposit).map_err(|_| DepositError::Disconnected)
}

async fn verdict_of(news: &mut watch::Receiver<Deposit>) -> Result<Verdict, DepositError> {
    until(news, |deposit| deposit.verdict().is_some()).await?.verdict().ok_or(DepositError::Disconnected)
}

/// A body stream that is reset when dropped before its end. (Quinn's own drop would finish it.)
struct BodyStream {
    stream: SendStream,
    whole: bool,
}

impl BodyStream {
    /// Writes all of it; some end when the relay wants no more.
    async fn write(&mut self, bytes: Bytes) -> Result<Option<Sent>, DepositError> {
        match self.stream.write_chunk(bytes).await {
            Ok(()) => Ok(None),
            Err(WriteError::Stopped(_)) => Ok(Some(Sent::Stopped)),
            Err(_) => Err(DepositError::Disconnected),
        }
    }

    fn finish(&mut self) -> Sent {
        self.whole = true;
        match self.stream.finish() {
            Ok(()) => Sent::All,
            Err(_) => Sent::Stopped,
        }
    }
}

impl Drop for BodyStream {
    fn drop(&mut self) {
        if !self.whole {
            let _ = self.stream.reset(StreamCode::Abandoned.code().into());
        }
    }
}
