//! One instance, from its C-STORE-RQ to the answer: received, walked, sealed, on disk, answered. When
//! the PACS sees success is decided here and nowhere else.
//!
//! ```text
//! P-DATA ─▶ walker (reads only) ─▶ sealer ─▶ outbox file ─▶ commit (fsync, index) ─▶ 0000H
//!                                                  └─▶ uplink: all but the final chunk before the commit
//! ```
//!
//! With `respond = "delivered"` there is no file: the sealed chunks go to the uplink as it takes them,
//! and the answer is the destination's.

use std::sync::Arc;

use base::{DeliveryId, InstanceMeta, ObjectId, Timestamp};
use bytes::Bytes;
use dataset::{InflateError, TokenError, WalkError};
use dimse::{AssociationError, StoreRequest};
use spool::{
    AppendError, BeginError, BodyFile, CommitError, Decision, NewDelivery, NewObject, SealedFacts, StoreError,
};
use tokio::{sync::watch, task::block_in_place, time::Instant};
use tracing::{debug, error, info, warn};
use transport::WholeBody;

use crate::{
    answers::{Answer, Cause},
    app::Shared,
    arriving::{Arrived, Arriving, Checked},
    config::{ChangedContent, Respond},
    delivered,
    dispatch::{Live, LiveNow, Ready, Sealing, Ticket},
    lanes::Waits,
    pseudonymize::stage,
    routes::{Leg, Route},
    routing::Fragments,
    tail::{self, Place, Progress, SMALL_BODY_BYTES, Tail},
};

/// A body of this sealed length starts to leave before the PACS has finished sending it. Below, the
/// commit comes so soon that nothing is gained, and the receiver verifies it as a whole anyway.
const CUT_THROUGH_BYTES: u64 = 16 << 20;
/// Where padding makes more than this of a small body, it is not small any more.
const SMALL_PADDED_BYTES: usize = 2 * SMALL_BODY_BYTES;
/// What is written at once of a body that is not small.
const WRITE_BYTES: usize = 128 << 10;

/// Receives one instance and says what to answer. An `Err` means that the association is gone and with
/// it the instance: nothing of it is kept, nothing complete has left.
pub async fn store(
    shared: &Arc<Shared>,
    route: &Arc<Route>,
    fragments: &mut Fragments<'_>,
    request: &StoreRequest,
) -> Result<Answer, AssociationError> {
    let received_at = Timestamp::now();
    let arriving = match &route.pseudonymize {
        None => Arriving::new(shared, route, &request.meta, received_at),
        Some(how) => match stage::begin(shared, (route, how), &request.meta, fragments).await? {
            Ok(begun) => Arriving::pseudonymized(shared, route, (&request.meta, begun), received_at),
            Err(answer) => return Ok(answer),
        },
    };
    match route.respond {
        Respond::Spooled => spooled(arriving, fragments).await,
        Respond::Delivered => delivered::store(arriving, fragments).await,
    }
}

pub(crate) fn refused(error: &WalkError) -> Cause {
    warn!(%error, "instance refused: its data set cannot be read");
    match error {
        WalkError::Empty => Cause::Missing,
        WalkError::Structure(TokenError::Truncated { .. })
        | WalkError::Deflate(InflateError::Truncated { .. }) => Cause::Truncated,
        _ => Cause::Unreadable,
    }
}

/// `respond = "spooled"`.
async fn spooled(arriving: Arriving<'_>, fragments: &mut Fragments<'_>) -> Result<Answer, AssociationError> {
    let mut spooling = match Spooling::begin(arriving) {
        Ok(spooling) => spooling,
        Err(cause) => {
            fragments.drain().await?;
            return Ok(cause.into());
        }
    };
    loop {
        let fragment = match fragments.next().await {
            Ok(Some(fragment)) => fragment,
            Ok(None) => break,
            Err(error) => {
                spooling.abandon();
                return Err(error);
            }
        };
        if let Err(cause) = spooling.fragment(&fragment) {
            spooling.abandon();
            fragments.drain().await?;
            return Ok(cause.into());
        }
    }
    Ok(spooling.finish().await.into())
}

/// An instance that goes to the outbox.
struct Spooling<'a> {
    arriving: Arriving<'a>,
    file: BodyFile,
    /// Not written yet: a piece, or all of a small body.
    sealed: Vec<u8>,
    /// Held as long as the body is small.
    place: Option<Place>,
    /// One for each leg.
    ways: Vec<Towards>,
    /// Whether it was long enough to leave before its end.
    is_long: bool,
}

/// An instance on one of its legs, up to the commit.
struct Towards {
    leg: Arc<Leg>,
    delivery: DeliveryId,
    /// What may leave: each leg is told by itself, since not all of them may be let go on.
    progress: watch::Sender<Progress>,
    live: Option<LiveNow>,
}

impl<'a> Spooling<'a> {
    fn begin(arriving: Arriving<'a>) -> Result<Self, Cause> {
        let (shared, object) = (arriving.shared, arriving.sealing.context.object);
        let file = begin_body(shared, object)?;
        let towards = |leg: &Arc<Leg>| Towards {
            leg: Arc::clone(leg),
            delivery: leg.delivery(shared.name(), object),
            progress: watch::channel(Progress::Growing(0)).0,
            live: None,
        };
        let ways = arriving.route.legs.iter().map(towards).collect();
        let place = shared.memory.place();
        Ok(Self { arriving, file, sealed: Vec::new(), place, ways, is_long: false })
    }

    /// Walks, seals and, once the body is not small, writes one fragment.
    fn fragment(&mut self, fragment: &Bytes) -> Result<(), Cause> {
        self.arriving.fragment(fragment, &mut self.sealed)?;
        let kept = if self.place.is_some() { SMALL_BODY_BYTES } else { WRITE_BYTES };
        if self.sealed.len() < kept {
            return Ok(());
        }
        self.place = None;
        // Only a write can block for long, when the disk is slower than the PACS; sealing a chunk takes
        // 0.1 ms, less than handing the thread over would.
        block_in_place(|| write(&mut self.file, &mut self.sealed))?;
        tell_all(&self.ways, Progress::Growing(self.file.len()));
        if !self.is_long && self.arriving.cuts_through() && self.file.len() >= CUT_THROUGH_BYTES {
            self.is_long = true;
            self.go_live();
        }
        Ok(())
    }

    /// Lets the uplink follow the file while it grows, once for each leg.
    fn go_live(&mut self) {
        let Arriving { shared, sealing, .. } = &self.arriving;
        for Towards { leg, delivery, progress, live } in &mut self.ways {
            if leg.pace.is_limited() || leg.closed_until(Timestamp::now()).is_some() {
                continue;
            }
            let body = Tail::growing(self.file.reader(), progress.subscribe());
            let order = Live { delivery: *delivery, leg: Arc::clone(leg), sealing: sealing.clone(), body };
            *live = shared.uplink().and_then(|_| shared.dispatch.live(order));
        }
    }

    fn abandon(self) {
        tell_all(&self.ways, Progress::Abandoned);
    }

    /// Every check, then the commit; only after it may the final chunk leave.
    async fn finish(self) -> Cause {
        let Self { arriving, mut file, sealed, place, ways, .. } = self;
        let Arriving { shared, route, meta, received_at, .. } = arriving;
        let sealing = arriving.sealing.clone();
        let Ended { arrived, small } = match end(arriving, &mut file, sealed, place.is_some()) {
            Ok(ended) => ended,
            Err(cause) => {
                tell_all(&ways, Progress::Abandoned);
                return cause;
            }
        };
        let (record, facts) = (arrived.record(meta), arrived.facts(&sealing));
        let small = small.zip(place.map(Arc::new));
        let body = || match &small {
            Some((bytes, place)) => {
                let body = WholeBody::new([bytes.clone()], facts.body_digest);
                tail::Committed::Small(body, Arc::clone(place))
            }
            None => tail::Committed::File(Tail::complete(file.reader(), facts.sealed_len, facts.body_digest)),
        };
        let going: Vec<_> = ways.into_iter().map(|to| Going::new(shared, to, body)).collect();
        let new = NewObject {
            content_key: sealing.content_key.clone(),
            sealed: facts,
            record,
            deliveries: going.iter().map(Going::new_delivery).collect(),
            changed_content: changed_content(route),
            received_at,
        };
        match shared.outbox.commit(file, new, Timestamp::now()).await {
            Ok(committed) => {
                shared.counters.accepted(facts.data_len, Timestamp::now());
                arrived.note(shared);
                let decisions = committed.placed.iter().map(|placed| Some(placed.decision));
                for (one, decision) in going.into_iter().zip(decisions.chain(std::iter::repeat(None))) {
                    one.go(shared, (&sealing, facts, received_at), meta, decision);
                }
                Cause::Accepted
            }
            Err(error) => {
                for one in &going {
                    one.to.progress.send_replace(Progress::Abandoned);
                }
                not_committed(&error)
            }
        }
    }
}

/// A new file for a body.
pub(crate) fn begin_body(shared: &Shared, object: ObjectId) -> Result<BodyFile, Cause> {
    shared.outbox.begin(object).map_err(|error| {
        warn!(%error, "instance refused: the outbox does not take it");
        match error {
            BeginError::Full { .. } | BeginError::Reserve { .. } => Cause::OutboxFull,
            _ => Cause::OutboxFailed,
        }
    })
}

/// Writes what there is, if it is enough for a write.
pub(crate) fn write_enough(file: &mut BodyFile, sealed: &mut Vec<u8>) -> Result<(), Cause> {
    if sealed.len() < WRITE_BYTES { Ok(()) } else { block_in_place(|| write(file, sealed)) }
}

fn tell_all(ways: &[Towards], progress: Progress) {
    for to in ways {
        to.progress.send_replace(progress);
    }
}

/// An instance on one of its legs while it is committed.
struct Going {
    to: Towards,
    way: Way,
    body: tail::Committed,
}

impl Going {
    fn new(shared: &Shared, to: Towards, body: impl Fn() -> tail::Committed) -> Self {
        let way = if to.live.is_some() { Way::Live } else { Way::of(shared, &to.leg) };
        Self { to, way, body: body() }
    }

    fn new_delivery(&self) -> NewDelivery {
        new_delivery(&self.to.leg, self.to.delivery, !matches!(self.way, Way::Outbox(_)))
    }

    /// Its row is durable.
    fn go(
        self,
        shared: &Shared,
        (sealing, facts, received_at): (&Sealing, SealedFacts, Timestamp),
        meta: &InstanceMeta,
        decision: Option<Decision>,
    ) {
        let Self { to: Towards { leg, delivery, progress, live }, way, body } = self;
        progress.send_replace(match decision {
            Some(Decision::New { .. }) => Progress::Complete(facts.sealed_len, facts.body_digest),
            _ => Progress::Abandoned,
        });
        drop(live);
        tell(&leg, delivery, decision);
        let ready = Ready { delivery, leg, sealing: sealing.clone(), facts, body, received_at };
        way.go(shared, ready, meta, decision);
    }
}

/// How a committed instance gets to the dispatcher.
enum Way {
    /// It is on its way already.
    Live,
    /// At once.
    Direct(Ticket),
    /// When the outbox is asked for it.
    Outbox(Waits),
}

impl Way {
    /// Decided before the commit: the row says whether attempt 1 is under way.
    fn of(shared: &Shared, leg: &Leg) -> Self {
        let open = shared.uplink().filter(|_| leg.closed_until(Timestamp::now()).is_none());
        let ticket = open.and_then(|_| shared.dispatch.ticket(&shared.lanes, leg.id));
        // A place in the rate is taken only where there is one with the dispatcher.
        match ticket.filter(|_| leg.pace.begin(Instant::now()).is_ok()) {
            Some(ticket) => Self::Direct(ticket),
            None => Self::Outbox(shared.lanes.fall_behind(leg.id)),
        }
    }

    fn go(self, shared: &Shared, ready: Ready, meta: &InstanceMeta, decision: Option<Decision>) {
        match self {
            Self::Live => shared.dispatch.wake(),
            Self::Direct(ticket) => {
                // Where it was not placed as new, its row is not under way.
                if let Some(Decision::New { changed_content }) = decision {
                    ticket.go(ready, meta, changed_content);
                }
            }
            Self::Outbox(waits) => {
                drop(waits);
                shared.dispatch.wake();
            }
        }
    }
}

/// A complete body, all of it appended to its file or handed over for it.
pub(crate) struct Ended {
    pub(crate) arrived: Arrived,
    /// All of it, where it is small.
    small: Option<Bytes>,
}

pub(crate) fn end(
    arriving: Arriving<'_>,
    file: &mut BodyFile,
    mut sealed: Vec<u8>,
    is_small: bool,
) -> Result<Ended, Cause> {
    let Checked { findings, mut tail, deeds } = arriving.finish(&mut sealed)?;
    let mut unpadded = true;
    while is_small && unpadded && sealed.len() <= SMALL_PADDED_BYTES {
        unpadded = tail.padding(&mut sealed);
    }
    if is_small && !unpadded {
        let body = tail.finish(&mut sealed);
        let bytes = Bytes::from(sealed);
        file.append_last(bytes.clone()).map_err(|error| not_written(&error))?;
        return Ok(Ended { arrived: Arrived { findings, body, deeds }, small: Some(bytes) });
    }
    block_in_place(|| {
        while tail.padding(&mut sealed) {
            write(file, &mut sealed)?;
        }
        let body = tail.finish(&mut sealed);
        write(file, &mut sealed)?;
        Ok(Ended { arrived: Arrived { findings, body, deeds }, small: None })
    })
}

fn write(file: &mut BodyFile, sealed: &mut Vec<u8>) -> Result<(), Cause> {
    let written = file.append(sealed);
    sealed.clear();
    written.map_err(|error| not_written(&error))
}

fn not_written(error: &AppendError) -> Cause {
    warn!(%error, "instance refused: the outbox cannot be written");
    Cause::OutboxFull
}

pub(crate) fn new_delivery(leg: &Leg, delivery: DeliveryId, cut_through: bool) -> NewDelivery {
    NewDelivery {
        delivery,
        route: leg.id,
        receiver: leg.receiver.name.clone(),
        destination: leg.destination.clone(),
        cut_through,
    }
}

pub(crate) fn changed_content(route: &Route) -> spool::ChangedContent {
    match route.changed_content {
        ChangedContent::Accept => spool::ChangedContent::AfterEarlier,
        ChangedContent::Refuse => spool::ChangedContent::Refuse,
    }
}

pub(crate) fn not_committed(error: &CommitError) -> Cause {
    if let CommitError::ChangedContent { .. } = error {
        info!("instance refused: known SOP instance with other content");
        return Cause::ChangedContent;
    }
    if let CommitError::NotWritten(_) | CommitError::Store(StoreError::Full) = error {
        warn!(%error, "instance refused: the outbox cannot be written");
        return Cause::OutboxFull;
    }
    error!(%error, "instance refused: the outbox does not take it");
    Cause::OutboxFailed
}

/// What an operator should know of a repeat.
fn tell(leg: &Leg, delivery: DeliveryId, decision: Option<Decision>) {
    let (ae, id) = (&leg.ae, delivery.short());
    match decision {
        Some(Decision::Joined { delivery, state }) => {
            info!(%ae, delivery = %delivery.short(), %state, "same content again while it is unsettled; joined");
        }
        Some(Decision::After { earlier }) => {
            warn!(%ae, delivery = %id, earlier = %earlier.short(), "known SOP instance with other content; it waits for the earlier one");
        }
        Some(Decision::HeldLoop { count }) => {
            warn!(%ae, delivery = %id, count, "same content again and again: routing loop or endless re-send? held until an operator releases it");
        }
        Some(Decision::New { changed_content: true }) => {
            info!(%ae, delivery = %id, "known SOP instance with other content");
        }
        Some(Decision::New { .. }) | None => debug!(%ae, delivery = %id, "accepted"),
    }
}
