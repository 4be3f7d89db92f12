//! One admitted delivery: its body is opened chunk by chunk, handed to the destination in turn, and
//! what came of it is signed.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use base::{Digest, Phi, Timestamp, Uid, random_bytes};
use bytes::Bytes;
use dataset::Walker;
use envelope::{BodyError, BodyMeta, BodyOpener, OpenedHeader};
use ledger::{Level, NackReason, Receipt, Remark};
use spool::{Answer, Arrival, InboundError, NewPledge, PledgedInstance};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use transport::{IncomingBody, IncomingOffer, Lost, Piece};
use wire::Urgency;

use crate::{
    body::{Body, STREAM_PIECES_MAX, StreamPiece, Verified},
    change::Wanted,
    commitment,
    config::{Route, Target},
    destination::{Destination, Instance, NotAnswered, Outcome, Recorded},
    forward,
    inbox::{self, Asker, Entry, Inbox, Turn},
    outcome::{self, Ending, Facts},
    room::Share,
};

/// An admitted delivery.
pub struct Collecting {
    pub(crate) entry: Entry,
    pub(crate) asker: Asker,
    pub(crate) offer: IncomingOffer,
    pub(crate) route: Arc<Route>,
    pub(crate) header: OpenedHeader,
    pub(crate) share: Share,
    pub(crate) turn: Turn,
    pub(crate) cancel: CancellationToken,
    pub(crate) offered_at: Timestamp,
    /// Of the first attempt: this one, or an earlier one.
    pub(crate) first_offered_at: Timestamp,
}

/// Carries one delivery to its settlement.
pub async fn run(inbox: Arc<Inbox>, collecting: Collecting) {
    let Collecting {
        entry,
        asker,
        offer,
        route,
        header,
        share,
        mut turn,
        cancel,
        offered_at,
        first_offered_at,
    } = collecting;
    let Some(destination) = inbox.destinations.get(&route.destination).cloned() else { return };
    let at = At {
        inbox: &inbox,
        route: &route,
        header: &header,
        destination: &destination,
        urgency: offer.urgency,
        offered_at,
        first_offered_at,
        study: OnceLock::new(),
    };
    let ended = at.attempt(offer, share, &mut turn, cancel).await;
    drop(turn);
    match ended {
        // The leases go back with the askers; what the relay still has it will offer again.
        Ended::Withdrawn => {
            debug!("the relay took the body back");
            drop(inbox.leave(header.delivery));
        }
        Ended::With(ending, meta) => {
            let answer = at.answer(&ending, meta.as_deref());
            let is_final = answer.is_some();
            inbox::settle(&inbox, &ending, Some(&header), answer, asker).await;
            if is_final {
                inbox.with_sessions(|sessions| sessions.settled(header.session, header.sequence));
            }
        }
    }
    drop(entry);
}

/// How an attempt ended, and the meta record if it was read.
enum Ended {
    With(Ending, Option<Box<BodyMeta>>),
    /// The body did not come to its end, and nobody has said anything wrong.
    Withdrawn,
}

/// Where one delivery stands: what its steps share.
struct At<'a> {
    inbox: &'a Arc<Inbox>,
    route: &'a Arc<Route>,
    header: &'a OpenedHeader,
    destination: &'a Arc<Destination>,
    urgency: Urgency,
    offered_at: Timestamp,
    first_offered_at: Timestamp,
    /// Once it is known.
    study: OnceLock<Phi<Uid>>,
}

impl At<'_> {
    /// Reads the body, hands it over in turn, waits for the outcome.
    async fn attempt(
        &self,
        offer: IncomingOffer,
        share: Share,
        turn: &mut Turn,
        cancel: CancellationToken,
    ) -> Ended {
        let opener =
            match BodyOpener::new(&self.header.body, &self.header.content_key, &self.header.commitment) {
                Ok(opener) => opener,
                Err(error) => return self.failed(Fault::Body(nack_reason(&error)), None),
            };
        let limits = &self.inbox.collect;
        let window = limits.stream_window.0;
        let (first_grant, verify_first) = match share {
            Share::Whole(_) => (offer.size.unwrap_or(0), limits.verify_first.0),
            Share::Streamed(_) => (window, 0),
            Share::Either(..) => (window, limits.verify_first.0),
        };
        let Ok(body) = offer.accept(first_grant).await else { return Ended::Withdrawn };
        let mut reading = Reading::new(body, opener, first_grant, window, limits.stall_timeout.0);
        match reading.head(verify_first).await {
            Err(fault) => self.failed(fault, None),
            Ok(Head { meta, pieces, end: Some(verified) }) => {
                let body = Body::whole(pieces, verified, share.into_buffer());
                let instance = self.instance(&meta, reading.study.clone(), body, cancel);
                turn.come().await;
                let outcome = self.hand_over(instance, turn).await;
                self.ended(outcome, meta).await
            }
            Ok(Head { meta, pieces, end: None }) => self.streamed(reading, meta, pieces, turn, cancel).await,
        }
    }

    /// The body is larger than what is verified first: it is passed on while it arrives.
    async fn streamed(
        &self,
        reading: Reading,
        meta: BodyMeta,
        pieces: VecDeque<Bytes>,
        turn: &mut Turn,
        cancel: CancellationToken,
    ) -> Ended {
        let (sender, receiver) = mpsc::channel(STREAM_PIECES_MAX);
        let body = Body::streamed(receiver);
        let instance = self.instance(&meta, reading.study.clone(), body, cancel);
        turn.come().await;
        let outcome = self.hand_over(instance, turn);
        tokio::pin!(outcome);
        let pump = reading.pump(pieces, sender);
        tokio::pin!(pump);
        let (pumped, outcome) = tokio::select! {
            // An answer before the end: whatever still comes of the body is not wanted.
            outcome = &mut outcome => (Ok(()), outcome),
            pumped = &mut pump => (pumped, outcome.await),
        };
        match (pumped, outcome) {
            (Err(fault), Outcome::Incomplete) => self.failed(fault, Some(meta)),
            (_, outcome) => self.ended(outcome, meta).await,
        }
    }

    fn arrival(&self, meta: &BodyMeta, data_len: u64) -> Arrival {
        Arrival {
            delivery: self.header.delivery,
            attempt: self.header.attempt,
            object: self.header.body.object,
            sender: self.route.from.clone(),
            route: self.route.id,
            destination: self.route.destination.clone(),
            sop_class: meta.instance.sop_class.clone(),
            data_len,
        }
    }

    fn instance(
        &self,
        meta: &BodyMeta,
        study: Option<Phi<Uid>>,
        body: Body,
        cancel: CancellationToken,
    ) -> Instance {
        if let Some(study) = &study {
            self.study.get_or_init(|| study.clone());
        }
        let inbound = self.inbox.inbound.clone();
        let arrival = self.arrival(meta, body.verified().map_or(0, |verified| verified.data_len));
        // The first row has the time that goes into a coerced data set: a repeat has to have the same bytes.
        let offered_at = self.offered_at;
        let recorded = tokio::spawn(async move { inbound.attempt_sent(arrival, offered_at).await });
        Instance {
            delivery: self.header.delivery,
            sender: self.route.from.clone(),
            urgency: self.urgency,
            meta: meta.instance.clone(),
            study,
            body,
            wanted: Wanted {
                from: meta.instance.transfer_syntax.clone(),
                coercion: self.route.coercion.clone(),
                first_offered_at: self.first_offered_at,
                private_vr: self.destination.settings.private_vr(),
            },
            recorded: Recorded(recorded),
            cancel,
        }
    }

    /// Queues the instance at its destination and lets the next one of the route come.
    fn hand_over(&self, instance: Instance, turn: &mut Turn) -> impl Future<Output = Outcome> + use<> {
        let outcome = self.destination.store(instance);
        turn.pass();
        outcome
    }

    fn failed(&self, fault: Fault, meta: Option<BodyMeta>) -> Ended {
        match fault {
            Fault::Lost => Ended::Withdrawn,
            Fault::Body(reason) => {
                warn!(%reason, sender = %self.route.from, "body refused; nothing complete has reached the destination");
                Ended::With(outcome::nack(self.header, reason), meta.map(Box::new))
            }
        }
    }

    /// Writes down what is not final, and decides what is signed.
    async fn ended(&self, outcome: Outcome, meta: BodyMeta) -> Ended {
        let (delivery, attempt, now) = (self.header.delivery, self.header.attempt, Timestamp::now());
        let status = match &outcome {
            Outcome::Answered { answer, .. } => Some(answer.status),
            _ => None,
        };
        let unknown = outcome == Outcome::NotAnswered(NotAnswered::Unknown);
        if let Outcome::Refused { refusal, .. } = &outcome {
            warn!(destination = %self.route.destination, %refusal, "refused by this gateway itself");
        }
        if let Outcome::NotAnswered(why) = &outcome {
            info!(destination = %self.route.destination, %why, "deferred");
        }
        let facts = Facts {
            route: self.route,
            destination: &self.destination.settings,
            receiver: &self.inbox.receiver,
            header: self.header,
            meta: &meta,
            offered_at: self.offered_at,
        };
        let ending = outcome::ending(outcome, &facts, now, random_bytes());
        self.inbox.answers.count(&self.route.destination, &ending, status, now);
        let noted = match &ending {
            Ending::Final(_) => Ok(()),
            _ if unknown => self.inbox.inbound.outcome_unknown(delivery, attempt, now).await,
            _ => self.inbox.inbound.not_stored(delivery, attempt, status, now).await,
        };
        match noted {
            Ok(()) | Err(InboundError::Unknown(_)) => {}
            Err(error) => warn!(%error, "the attempt's end could not be recorded; it counts as unknown"),
        }
        Ended::With(ending, Some(Box::new(meta)))
    }

    /// What must be durable before a final answer is signed.
    fn answer(&self, ending: &Ending, meta: Option<&BodyMeta>) -> Option<Answer> {
        let (Ending::Final(receipt), Some(meta)) = (ending, meta) else { return None };
        let outcome = match receipt.outcome {
            ledger::Outcome::Stored => spool::Outcome::Stored,
            ledger::Outcome::Refused => spool::Outcome::Refused,
        };
        let (status, sop_class) = (receipt.status, &receipt.sop_class);
        match outcome {
            spool::Outcome::Stored => debug!(%status, "stored"),
            spool::Outcome::Refused
                if matches!(receipt.remark, Some(Remark::NotReencoded | Remark::NotCoerced)) =>
            {
                debug!(%status, "refused by this gateway itself");
            }
            spool::Outcome::Refused => {
                let meaning = forward::meaning(status);
                warn!(destination = %self.route.destination, %status, meaning, %sop_class, "the destination refused an instance");
            }
        }
        Some(Answer {
            arrival: self.arrival(meta, receipt.data_bytes),
            outcome,
            status,
            level: receipt.level.number(),
            answered_at: receipt.answered_at,
            receipt: receipt.encode(),
            record: ending.sealed(self.header),
            pledge: self.pledge(receipt, meta),
        })
    }

    /// What the destination is asked to commit to, where the receipt says that it is.
    fn pledge(&self, receipt: &Receipt, meta: &BodyMeta) -> Option<NewPledge> {
        let key = self.inbox.ledger_key.as_ref().filter(|_| receipt.level == Level::Awaited)?;
        let Target::Dicom(target) = &self.destination.settings.target else { return None };
        let instance = PledgedInstance {
            sop_class: meta.instance.sop_class.clone(),
            sop_instance: meta.instance.sop_instance.clone(),
            calling: target.calling.clone().unwrap_or_else(|| meta.instance.calling.clone()),
        };
        commitment::pledge(key, receipt.object, &self.route.from, &instance, self.study.get())
    }
}

/// Why a body did not come to its end.
enum Fault {
    /// The relay or the connection; what the relay still has it will offer again.
    Lost,
    /// The body itself.
    Body(NackReason),
}

/// A body as it is opened.
struct Reading {
    body: IncomingBody,
    /// Taken at the end.
    opener: Option<BodyOpener>,
    /// Finds the study; off once it is found.
    walker: Option<Walker>,
    study: Option<Phi<Uid>>,
    granted: u64,
    window: u64,
    stall: Duration,
}

/// The part of a body after which it is known whether it is streamed.
struct Head {
    meta: BodyMeta,
    pieces: VecDeque<Bytes>,
    end: Option<Verified>,
}

/// The next step of a body.
enum Step {
    Data(Bytes),
    End(Box<BodyMeta>, Verified, Bytes),
}

impl Reading {
    fn new(body: IncomingBody, opener: BodyOpener, granted: u64, window: u64, stall: Duration) -> Self {
        Self { body, opener: Some(opener), walker: None, study: None, granted, window, stall }
    }

    /// Opens up to `verify_first` bytes, or all of it.
    async fn head(&mut self, verify_first: u64) -> Result<Head, Fault> {
        let mut pieces = VecDeque::new();
        let mut bytes = 0u64;
        loop {
            match self.step().await? {
                Step::Data(piece) => {
                    bytes += piece.len() as u64;
                    pieces.push_back(piece);
                    let meta = self.opener.as_ref().and_then(BodyOpener::meta).cloned();
                    if let Some(meta) = meta.filter(|_| bytes > verify_first) {
                        return Ok(Head { meta, pieces, end: None });
                    }
                }
                Step::End(meta, verified, last) => {
                    pieces.extend((!last.is_empty()).then_some(last));
                    return Ok(Head { meta: *meta, pieces, end: Some(verified) });
                }
            }
        }
    }

    /// Passes the rest on; more is granted as it is taken.
    async fn pump(mut self, head: VecDeque<Bytes>, to: mpsc::Sender<StreamPiece>) -> Result<(), Fault> {
        // A closed channel means that the destination has ended the instance: nobody wants the rest.
        for piece in head {
            if to.send(StreamPiece::Data(piece)).await.is_err() {
                return Ok(());
            }
        }
        loop {
            let (piece, end) = match self.step().await? {
                Step::Data(piece) => (piece, None),
                Step::End(_, verified, last) => (last, Some(verified)),
            };
            if !piece.is_empty() && to.send(StreamPiece::Data(piece)).await.is_err() {
                return Ok(());
            }
            if let Some(verified) = end {
                let _ = to.send(StreamPiece::End(verified)).await;
                return Ok(());
            }
        }
    }

    /// Reads until something of the data set comes out, or the end.
    async fn step(&mut self) -> Result<Step, Fault> {
        loop {
            let up_to = self.body.received() + self.window;
            if up_to >= self.granted + self.window / 4 {
                self.granted = up_to;
                self.body.grant(up_to).await.map_err(|_| Fault::Lost)?;
            }
            let piece = match timeout(self.stall, self.body.next()).await {
                Ok(Ok(piece)) => piece,
                Ok(Err(Lost::Violation)) => return Err(Fault::Body(NackReason::BadBody)),
                Ok(Err(_)) => return Err(Fault::Lost),
                Err(_) => {
                    warn!(received = self.body.received(), "body stalled; given up");
                    return Err(Fault::Body(NackReason::Interrupted));
                }
            };
            match piece {
                Piece::Data(sealed) => {
                    let mut opened = Vec::new();
                    let opener = self.opener.as_mut().ok_or(Fault::Body(NackReason::BadBody))?;
                    // Opening a chunk takes 0.1 ms, less than handing the thread over would.
                    opener.feed(&sealed, &mut opened).map_err(|error| Fault::Body(nack_reason(&error)))?;
                    if !opened.is_empty() {
                        self.look_for_study(&opened);
                        return Ok(Step::Data(opened.into()));
                    }
                }
                Piece::End(digest) => return self.end(digest),
            }
        }
    }

    fn end(&mut self, digest: Digest) -> Result<Step, Fault> {
        let mut last = Vec::new();
        let opener = self.opener.take().ok_or(Fault::Body(NackReason::BadBody))?;
        let opened = opener.finish(&mut last).map_err(|error| Fault::Body(nack_reason(&error)))?;
        if opened.digest != digest {
            return Err(Fault::Body(NackReason::BadBody));
        }
        self.meta_known(&opened.meta);
        self.look_for_study(&last);
        let verified = Verified {
            body_digest: opened.digest,
            data_digest: opened.data_digest,
            data_len: opened.data_len,
        };
        Ok(Step::End(Box::new(opened.meta), verified, last.into()))
    }

    /// The study decides over which association the instance goes. What cannot be read has none.
    fn look_for_study(&mut self, data: &[u8]) {
        if self.study.is_some() || data.is_empty() {
            return;
        }
        if self.walker.is_none()
            && let Some(meta) = self.opener.as_ref().and_then(BodyOpener::meta).cloned()
        {
            self.meta_known(&meta);
        }
        if let Some(walker) = &mut self.walker
            && walker.feed(data).is_ok()
        {
            self.study = walker.so_far().study.clone();
        }
    }

    fn meta_known(&mut self, meta: &BodyMeta) {
        if self.walker.is_none() {
            self.walker = Some(Walker::new(&meta.instance.transfer_syntax));
        }
    }
}

/// The nack that tells the sender what was wrong with its body.
fn nack_reason(error: &BodyError) -> NackReason {
    match error {
        BodyError::Commitment => NackReason::BadCommitment,
        BodyError::Chunk { .. } => NackReason::BadTag,
        BodyError::Truncated { .. } => NackReason::Truncated,
        _ => NackReason::BadBody,
    }
}
