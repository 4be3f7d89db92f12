//! Random sequences of operations, with restarts in between, against a model that is a list in memory.

use base::BootId;
use proptest::prelude::*;

use super::*;

const NACKS_MAX: u32 = 2;
const LOOP_LIMIT: u32 = 3;
const LOOP_WINDOW_S: u64 = 60;
const AGE_MAX_S: u64 = 400;

#[derive(Debug, Clone)]
enum Operation {
    Commit { uid: u32, content: u32, cut_through: bool, refuse: bool },
    Start(usize),
    Relayed(usize, u8),
    Collected(usize),
    DepositFailed(usize),
    Deferred(usize),
    Nacked(usize),
    Lost(usize),
    RelayLost(u8),
    Stored(usize, u32),
    Refused(usize, u32),
    Retry(usize),
    Hold(usize),
    Release(usize),
    Discard(usize),
    ParkOverdue,
    Wait(u64),
    Restart,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let which = 0..8usize;
    let commit = (0..2u32, 0..3u32, any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(uid, content, cut_through, refuse)| O::Commit { uid, content, cut_through, refuse });
    prop_oneof![
        6 => commit,
        4 => which.clone().prop_map(O::Start),
        3 => (which.clone(), 0..2u8).prop_map(|(one, boot)| O::Relayed(one, boot)),
        2 => which.clone().prop_map(O::Collected),
        2 => which.clone().prop_map(O::DepositFailed),
        2 => which.clone().prop_map(O::Deferred),
        3 => which.clone().prop_map(O::Nacked),
        2 => which.clone().prop_map(O::Lost),
        1 => (0..2u8).prop_map(O::RelayLost),
        3 => (which.clone(), 0..2u32).prop_map(|(one, back)| O::Stored(one, back)),
        2 => (which.clone(), 0..2u32).prop_map(|(one, back)| O::Refused(one, back)),
        2 => which.clone().prop_map(O::Retry),
        1 => which.clone().prop_map(O::Hold),
        1 => which.clone().prop_map(O::Release),
        1 => which.prop_map(O::Discard),
        1 => Just(O::ParkOverdue),
        3 => (1..90u64).prop_map(O::Wait),
        1 => Just(O::Restart),
    ]
}

/// One delivery, as simply as it can be said.
#[derive(Debug, Clone)]
struct Known {
    sample: Sample,
    state: State,
    attempt: u32,
    running: bool,
    boot: Option<u8>,
    next_s: Option<u64>,
    waits_for: Option<usize>,
    deferrals: u32,
    nacks: u32,
    losses: u32,
    accepted_s: u64,
    age_from_s: u64,
    /// Attempts that a receipt is stored for.
    receipts: Vec<u32>,
}

#[derive(Debug, Default)]
struct Model {
    now_s: u64,
    objects: u32,
    known: Vec<Known>,
}

impl Known {
    fn is_under_way(&self) -> bool {
        matches!(self.state, State::Relayed | State::Collected)
            || (self.state == State::Sealed && self.running)
    }

    fn requeue(&mut self, state: State, next_s: u64) {
        (self.state, self.running, self.boot, self.next_s) = (state, false, None, Some(next_s));
    }

    fn stop(&mut self, state: State) {
        (self.state, self.running, self.boot, self.next_s) = (state, false, None, None);
    }

    fn is_too_old(&self, now_s: u64) -> bool {
        now_s - self.age_from_s >= AGE_MAX_S
    }
}

/// Seconds that the default policy waits, without jitter.
fn wait_s(count: u32) -> u64 {
    (5u64 << count.saturating_sub(1).min(20)).min(900)
}

impl Model {
    fn commit(&mut self, sample: &Sample) -> Result<Decision, DeliveryId> {
        let same_uid = |one: &&Known| one.sample.uid == sample.uid;
        let open = self.known.iter().rposition(|one| one.sample.uid == sample.uid && !one.state.is_ended());
        if let Some(open) =
            open.map(|index| &self.known[index]).filter(|open| open.sample.content == sample.content)
        {
            return Ok(Decision::Joined { delivery: open.sample.delivery(), state: open.state });
        }
        let changed = self.known.iter().rev().filter(same_uid);
        let changed =
            changed.filter(|one| one.sample.content != sample.content && one.state != State::Discarded);
        let changed = changed.map(|one| one.sample.delivery()).next();
        if let (Some(earlier), ChangedContent::Refuse) = (changed, sample.changed_content) {
            return Err(earlier);
        }
        let recent = |one: &&Known| {
            one.accepted_s + LOOP_WINDOW_S > self.now_s && one.sample.content == sample.content
        };
        let count = self.known.iter().filter(same_uid).filter(recent).count() as u32;
        let (decision, state) = match open {
            _ if count >= LOOP_LIMIT => (Decision::HeldLoop { count }, State::Held),
            Some(open) => {
                (Decision::After { earlier: self.known[open].sample.delivery() }, State::WaitingForEarlier)
            }
            None => (Decision::New { changed_content: changed.is_some() }, State::Sealed),
        };
        let running = state == State::Sealed && sample.cut_through;
        self.known.push(Known {
            sample: sample.clone(),
            state,
            attempt: u32::from(sample.cut_through),
            running,
            boot: None,
            next_s: (state == State::Sealed && !running).then_some(self.now_s),
            waits_for: open,
            deferrals: 0,
            nacks: 0,
            losses: 0,
            accepted_s: self.now_s,
            age_from_s: self.now_s,
            receipts: Vec::new(),
        });
        Ok(decision)
    }

    fn end(&mut self, index: usize, state: State) {
        let ahead = self.known[index].waits_for.take();
        self.known[index].stop(state);
        let now_s = self.now_s;
        for one in self.known.iter_mut().filter(|one| one.waits_for == Some(index)) {
            one.waits_for = ahead;
            if ahead.is_none() && one.state == State::WaitingForEarlier {
                (one.state, one.next_s) = (State::Sealed, Some(now_s));
            }
        }
    }
}

/// The outbox and its model, side by side.
struct Pair {
    place: Place,
    outbox: Option<Outbox>,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let mut place = Place::new();
        place.config.retry.nacks_max = NACKS_MAX;
        place.config.retry.age_max = Duration::from_secs(AGE_MAX_S);
        place.config.loop_limit = LOOP_LIMIT;
        place.config.loop_window = Duration::from_secs(LOOP_WINDOW_S);
        let outbox = Some(place.open());
        Self { place, outbox, model: Model::default() }
    }

    fn outbox(&self) -> &Outbox {
        self.outbox.as_ref().unwrap()
    }

    fn now(&self) -> Timestamp {
        at(self.model.now_s)
    }

    async fn apply(&mut self, operation: Operation) {
        let now = self.now();
        let count = self.model.known.len();
        match operation {
            Operation::Commit { uid, content, cut_through, refuse } => {
                self.commit(uid, content, cut_through, refuse).await;
            }
            Operation::Wait(seconds) => self.model.now_s += seconds,
            Operation::Restart => self.restart(),
            Operation::RelayLost(alive) => self.relay_lost(alive).await,
            Operation::ParkOverdue => {
                let parked = self.outbox().park_overdue(1000, now).await.unwrap().len();
                let now_s = self.model.now_s;
                let overdue = |one: &&mut Known| one.next_s.is_some() && one.is_too_old(now_s);
                let mut expected = 0;
                for one in self.model.known.iter_mut().filter(overdue) {
                    one.stop(State::Parked);
                    expected += 1;
                }
                assert_eq!(parked, expected);
            }
            Operation::Stored(one, back) if count > 0 => self.stored(one % count, back).await,
            Operation::Refused(one, back) if count > 0 => self.refused(one % count, back).await,
            Operation::Start(one) if count > 0 => self.start(one % count).await,
            Operation::Retry(one) if count > 0 => self.act(one % count, "retry").await,
            Operation::Hold(one) if count > 0 => self.act(one % count, "hold").await,
            Operation::Release(one) if count > 0 => self.act(one % count, "release").await,
            Operation::Discard(one) if count > 0 => self.act(one % count, "discard").await,
            Operation::Relayed(one, boot) if count > 0 => self.relayed(one % count, boot).await,
            Operation::Collected(one) if count > 0 => self.collected(one % count).await,
            Operation::DepositFailed(one) if count > 0 => self.deposit_failed(one % count).await,
            Operation::Deferred(one) if count > 0 => self.deferred(one % count).await,
            Operation::Nacked(one) if count > 0 => self.nacked(one % count).await,
            Operation::Lost(one) if count > 0 => self.lost(one % count).await,
            _ => {}
        }
    }

    async fn commit(&mut self, uid: u32, content: u32, cut_through: bool, refuse: bool) {
        self.model.objects += 1;
        let mut sample = Sample::new(self.model.objects, uid, content);
        sample.cut_through = cut_through;
        if refuse {
            sample.changed_content = ChangedContent::Refuse;
        }
        let got = sample.try_commit(self.outbox(), self.now()).await;
        match self.model.commit(&sample) {
            Ok(decision) => {
                assert_eq!(got.unwrap().placed, [Placed { delivery: sample.delivery(), decision }])
            }
            Err(earlier) => assert_eq!(got, Err(CommitError::ChangedContent { earlier })),
        }
    }

    fn restart(&mut self) {
        self.outbox = None;
        self.outbox = Some(self.place.open_at(self.now()));
        let now_s = self.model.now_s;
        for one in self.model.known.iter_mut().filter(|one| one.running) {
            one.requeue(State::Sealed, now_s);
        }
        for one in self.model.known.iter_mut().filter(|one| one.state == State::Receipted) {
            one.state = State::Purged;
        }
        let held = self.model.known.iter().filter(|one| !one.state.is_ended());
        let mut held: Vec<_> = held.map(|one| one.sample.object.to_string()).collect();
        held.sort();
        assert_eq!(self.place.bodies(), held);
    }

    async fn start(&mut self, index: usize) {
        let got = self.outbox().start_attempt(self.model.known[index].sample.delivery(), self.now()).await;
        let one = &mut self.model.known[index];
        if matches!(one.state, State::Sealed | State::Deferred) && !one.running {
            one.attempt += 1;
            one.stop(State::Sealed);
            one.running = true;
            assert_eq!(got, Ok(Attempt(one.attempt)));
        } else {
            assert!(matches!(got, Err(DeliveryError::NotNow { .. })));
        }
    }

    async fn relayed(&mut self, index: usize, boot: u8) {
        let (delivery, attempt) = self.current(index);
        let got = self.outbox().relayed(delivery, attempt, BootId([boot; 16]), self.now()).await.unwrap();
        let one = &mut self.model.known[index];
        let want = match one.state {
            State::Sealed if one.running => {
                one.stop(State::Relayed);
                one.boot = Some(boot);
                Applied::Yes
            }
            State::Collected if one.boot.is_none() => {
                (one.running, one.boot) = (false, Some(boot));
                Applied::Yes
            }
            State::Relayed if one.boot == Some(boot) => Applied::Already,
            _ => Applied::Stale,
        };
        assert_eq!(got, want);
    }

    async fn collected(&mut self, index: usize) {
        let (delivery, attempt) = self.current(index);
        let got = self.outbox().collected(delivery, attempt, self.now()).await.unwrap();
        let one = &mut self.model.known[index];
        let want = match one.state {
            State::Collected => Applied::Already,
            State::Relayed => Applied::Yes,
            State::Sealed if one.running => Applied::Yes,
            _ => Applied::Stale,
        };
        if want == Applied::Yes {
            one.state = State::Collected;
        }
        assert_eq!(got, want);
    }

    async fn deposit_failed(&mut self, index: usize) {
        let (delivery, attempt) = self.current(index);
        let again_s = self.model.now_s + 3;
        let got =
            self.outbox().deposit_failed(delivery, attempt, "connection lost", at(again_s), self.now()).await;
        let one = &mut self.model.known[index];
        let applies = one.running && matches!(one.state, State::Sealed | State::Collected);
        if applies {
            one.requeue(State::Sealed, again_s);
        }
        assert_eq!(got, Ok(if applies { Applied::Yes } else { Applied::Stale }));
    }

    async fn deferred(&mut self, index: usize) {
        let (delivery, attempt) = self.current(index);
        let got = self.outbox().deferred(delivery, attempt, Deferral::default(), 1.0, self.now()).await;
        let now_s = self.model.now_s;
        let one = &mut self.model.known[index];
        let applies = one.is_under_way();
        if applies {
            (one.deferrals, one.nacks) = (one.deferrals + 1, 0);
            match one.is_too_old(now_s) {
                true => one.stop(State::Parked),
                false => one.requeue(State::Deferred, now_s + wait_s(one.deferrals)),
            }
        }
        assert_eq!(got, Ok(if applies { Applied::Yes } else { Applied::Stale }));
    }

    async fn nacked(&mut self, index: usize) {
        let (delivery, attempt) = self.current(index);
        let got = self.outbox().nacked(delivery, attempt, "bad tag", 1.0, self.now()).await;
        let now_s = self.model.now_s;
        let one = &mut self.model.known[index];
        let applies = one.is_under_way();
        if applies {
            one.nacks += 1;
            match one.nacks > NACKS_MAX || one.is_too_old(now_s) {
                true => one.stop(State::Parked),
                false => one.requeue(State::Sealed, now_s + wait_s(one.nacks)),
            }
        }
        assert_eq!(got, Ok(if applies { Applied::Yes } else { Applied::Stale }));
    }

    async fn lost(&mut self, index: usize) {
        let (delivery, attempt) = self.current(index);
        let got = self.outbox().lost(delivery, attempt, Loss::Gone, 1.0, self.now()).await;
        let now_s = self.model.now_s;
        let one = &mut self.model.known[index];
        let applies = one.is_under_way();
        if applies {
            one.losses += 1;
            let wait = if one.losses == 1 { 0 } else { wait_s(one.losses - 1) };
            one.requeue(State::Sealed, now_s + wait);
        }
        assert_eq!(got, Ok(if applies { Applied::Yes } else { Applied::Stale }));
    }

    async fn relay_lost(&mut self, alive: u8) {
        let got = self.outbox().relay_lost(&[BootId([alive; 16])], self.now()).await.unwrap();
        let now_s = self.model.now_s;
        let mut want = Vec::new();
        for one in self.model.known.iter_mut().filter(|one| one.boot.is_some_and(|boot| boot != alive)) {
            one.requeue(State::Sealed, now_s);
            want.push(one.sample.delivery());
        }
        assert_eq!(got, want);
    }

    async fn stored(&mut self, index: usize, back: u32) {
        let (sample, attempt) = self.receipt_for(index, back);
        let got = self.outbox().settled_stored(sample.receipt(attempt, 0), self.now()).await.unwrap();
        let one = &mut self.model.known[index];
        let is_new =
            !matches!(one.state, State::Receipted | State::Purged) && !one.receipts.contains(&attempt);
        let ends = is_new && !one.state.is_ended();
        if is_new {
            one.receipts.push(attempt);
        }
        if ends {
            one.attempt = one.attempt.max(attempt);
            self.model.end(index, State::Receipted);
        }
        assert_eq!(got.object_ended, ends);
        assert_eq!(got.applied == Applied::Already, !is_new);
    }

    async fn refused(&mut self, index: usize, back: u32) {
        let (sample, attempt) = self.receipt_for(index, back);
        let got = self.outbox().refused(sample.receipt(attempt, 0xc000), self.now()).await.unwrap();
        let one = &mut self.model.known[index];
        let is_new = !one.receipts.contains(&attempt);
        let parks = is_new && attempt == one.attempt && one.is_under_way();
        if is_new {
            one.receipts.push(attempt);
        }
        if parks {
            one.stop(State::Parked);
        }
        let want = if parks {
            Applied::Yes
        } else if is_new {
            Applied::Stale
        } else {
            Applied::Already
        };
        assert_eq!((got.applied, got.object_ended), (want, false));
    }

    async fn act(&mut self, index: usize, act: &str) {
        let (delivery, now) = (self.model.known[index].sample.delivery(), self.now());
        let outbox = self.outbox();
        let got = match act {
            "retry" => outbox.retry(delivery, operator(), now).await,
            "hold" => outbox.hold(delivery, operator(), now).await,
            "release" => outbox.release(delivery, operator(), now).await,
            _ => outbox.discard(delivery, operator(), now).await,
        };
        let now_s = self.model.now_s;
        let one = &mut self.model.known[index];
        let waits = one.state == State::Sealed && !one.running;
        let becomes = match (act, one.state) {
            ("discard", state) => (!state.is_ended()).then_some(State::Discarded),
            ("retry", State::Deferred | State::Parked) => Some(State::Sealed),
            ("retry", _) if waits => Some(State::Sealed),
            ("hold", State::Deferred | State::WaitingForEarlier) => Some(State::Held),
            ("hold", _) if waits => Some(State::Held),
            ("release", State::Held) if one.waits_for.is_some() => Some(State::WaitingForEarlier),
            ("release", State::Held) => Some(State::Sealed),
            _ => None,
        };
        let Some(becomes) = becomes else {
            return assert!(matches!(got, Err(DeliveryError::NotNow { .. })));
        };
        assert_eq!(got, Ok(becomes));
        match act {
            "discard" => return self.model.end(index, State::Discarded),
            "retry" => (one.deferrals, one.nacks, one.losses, one.age_from_s) = (0, 0, 0, now_s),
            "release" => one.age_from_s = now_s,
            _ => {}
        }
        match becomes {
            State::Sealed => one.requeue(State::Sealed, now_s),
            state => one.stop(state),
        }
    }

    fn current(&self, index: usize) -> (DeliveryId, Attempt) {
        let one = &self.model.known[index];
        (one.sample.delivery(), Attempt(one.attempt))
    }

    fn receipt_for(&self, index: usize, back: u32) -> (Sample, u32) {
        let one = &self.model.known[index];
        (one.sample.clone(), one.attempt.saturating_sub(back).max(1))
    }

    /// All that can be seen of the outbox is what the model says.
    async fn compare(&self) {
        let filter = Filter { open: false, limit: 10_000, ..Filter::default() };
        let rows = self.outbox().list(filter).await.unwrap();
        assert_eq!(rows.len(), self.model.known.len());
        for (row, one) in rows.iter().zip(&self.model.known) {
            let state = if row.state == State::Purged { State::Receipted } else { row.state };
            let want = if one.state == State::Purged { State::Receipted } else { one.state };
            assert_eq!((row.delivery, state), (one.sample.delivery(), want));
            assert_eq!((row.attempt, row.running), (Attempt(one.attempt), one.running));
            assert_eq!(row.boot, one.boot.map(|boot| BootId([boot; 16])));
            assert_eq!(row.next_at, one.next_s.map(at));
            assert_eq!(row.waits_for, one.waits_for.map(|index| self.model.known[index].sample.delivery()));
            assert_eq!((row.deferrals, row.nacks), (one.deferrals, one.nacks));
            assert_eq!(has_key(self.outbox(), &one.sample).await, !one.state.is_ended());
        }
        let mut want: Vec<_> =
            self.model.known.iter().enumerate().filter(|(_, one)| one.next_s.is_some()).collect();
        want.retain(|(_, one)| one.next_s.is_some_and(|next_s| next_s <= self.model.now_s));
        want.sort_by_key(|(index, one)| (one.next_s, *index));
        let want: Vec<_> = want.iter().map(|(_, one)| one.sample.delivery()).collect();
        assert_eq!(due(self.outbox(), self.now()).await, want);
        let total: u64 = self.outbox().counts().await.unwrap().iter().map(|one| one.deliveries).sum();
        assert_eq!(total as usize, self.model.known.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_outbox_does_what_the_model_does(operations in prop::collection::vec(operation(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for operation in operations {
                pair.apply(operation).await;
                pair.compare().await;
            }
            pair.restart();
            pair.compare().await;
        });
    }
}
