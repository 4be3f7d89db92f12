use std::sync::{Arc, LazyLock};

use base::{Digest, Name, Secret, Timestamp};
use identity::{LogKey, LogPublic};
use ledger::log::{Checkpoint, Entry, EntryKind, Salt, TreeHead, verify_consistency, verify_inclusion};

use super::*;
use crate::log::{Log, LogLimits};

const SECOND: Duration = Duration::from_secs(1);
const WALL: Timestamp = Timestamp(1_700_000_000_123);
const SENDER: Peer = (Fingerprint([1; 32]), Role::Sender);
const RECIPIENT: Peer = (Fingerprint([2; 32]), Role::Recipient);
const HERE: ConnectionId = ConnectionId(7);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A log, what is told of it, and a clock.
struct Bed {
    log: Log,
    witnesses: Witnesses,
    public: LogPublic,
    now: Instant,
}

impl Bed {
    fn new() -> Self {
        let key = Arc::new(LogKey::generate(Name::parse("relay").unwrap(), &Secret::new([1; 64])));
        let limits = LogLimits { interval: SECOND, entries_max: 1000 };
        let log = Log::new(key, EpochId([1; 16]), limits, *START, WALL);
        let public = log.public().clone();
        Self { log, witnesses: Witnesses::default(), public, now: *START }
    }

    fn settle(&mut self, number: u8) {
        let (delivery, receipt) = (DeliveryId([number; 32]), Digest([number; 32]));
        let place = self.log.settled(&delivery, &receipt, Salt([number; 16]), WALL);
        self.witnesses.settled([SENDER, RECIPIENT], delivery, Attempt(1), place);
    }

    fn sign(&mut self) -> Vec<(ConnectionId, Role, Telling)> {
        self.now += SECOND;
        self.log.checkpoint(self.now, WALL).unwrap();
        self.witnesses.head(&self.log.view())
    }

    fn connect(&mut self) -> Vec<Telling> {
        self.witnesses.connected(HERE, SENDER, &self.log.view())
    }

    fn believe(&mut self, size: u64) -> Vec<Telling> {
        self.witnesses.believed(&SENDER, size, &self.log.view())
    }

    /// What the sender was told, as a gateway that believes the head `from` checks it: the new head, and whose places are proved.
    fn checked(&self, from: &TreeHead, tellings: &[Telling]) -> (TreeHead, Vec<u8>) {
        let [Telling::Head(shown), rest @ ..] = tellings else { panic!("no head: {tellings:?}") };
        let head = Checkpoint::parse(&shown.checkpoint, &self.public).unwrap().head().clone();
        assert_eq!(shown.from, from.size);
        verify_consistency((from.size, &from.root), (head.size, &head.root), &shown.consistency).unwrap();
        let proved = rest.iter().map(|telling| {
            let Telling::Logged(it) = telling else { panic!("two heads") };
            let number = it.delivery.0[0];
            let entry = Entry::new(EntryKind::Settled, &Salt(it.salt), &it.delivery, &Digest([number; 32]));
            assert_eq!(it.size, head.size);
            verify_inclusion(&entry.leaf_hash(), it.index, it.size, &it.path, &head.root).unwrap();
            number
        });
        let proved = proved.collect();
        (head, proved)
    }
}

fn only(tellings: Vec<(ConnectionId, Role, Telling)>) -> Vec<Telling> {
    assert!(tellings.iter().all(|(connection, role, _)| (*connection, *role) == (HERE, Role::Sender)));
    tellings.into_iter().map(|(_, _, telling)| telling).collect()
}

#[test]
fn each_head_continues_what_was_answered_and_none_overtakes_another() {
    let mut bed = Bed::new();
    let empty = bed.log.head().head().clone();
    let told = bed.connect();
    assert_eq!(bed.checked(&empty, &told), (empty.clone(), vec![]));
    assert_eq!(bed.believe(0), [], "nothing is new");

    bed.settle(1);
    let told = only(bed.sign());
    let (first, proved) = bed.checked(&empty, &told);
    assert_eq!((first.size, proved), (1, vec![1]));
    bed.settle(2);
    bed.settle(3);
    assert_eq!(bed.sign(), [], "the first is not answered");
    assert_eq!(bed.believe(0), [], "an answer to an older one");
    let told = bed.believe(1);
    let (second, proved) = bed.checked(&first, &told);
    assert_eq!((second.size, proved), (3, vec![2, 3]));
    assert_eq!(bed.believe(3), [], "each place is proved once");
}

#[test]
fn a_gateway_that_comes_back_is_told_from_where_it_was_and_one_that_knows_less_from_there() {
    let mut bed = Bed::new();
    let empty = bed.log.head().head().clone();
    bed.settle(1);
    bed.sign();
    let told = bed.connect();
    let (first, proved) = bed.checked(&empty, &told);
    assert_eq!(proved, [1], "it waited for the gateway");
    bed.believe(1);
    bed.witnesses.disconnected(HERE);
    bed.settle(2);
    assert_eq!(bed.sign(), [], "nobody is there");
    let told = bed.connect();
    assert_eq!(bed.checked(&first, &told).1, [2]);
    // It lost its state, or had not written it.
    let told = bed.believe(0);
    assert_eq!(bed.checked(&empty, &told).1, Vec::<u8>::new());
    assert_eq!(bed.believe(0), [], "said twice");
    assert_eq!(bed.believe(2), []);
}

#[test]
fn what_an_epoch_cannot_prove_when_it_ends_is_not_proved_by_the_next() {
    let mut bed = Bed::new();
    let empty = bed.log.head().head().clone();
    bed.connect();
    bed.settle(1);
    let last = bed.log.roll(EpochId([2; 16]), bed.now, WALL).unwrap();
    let told = only(bed.witnesses.epoch_ended(&last));
    assert_eq!(bed.checked(&empty, &told).1, [1], "its last head proves all");

    bed.settle(2);
    let told = only(bed.sign());
    let [Telling::Head(shown), Telling::Logged(logged)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((shown.from, logged.delivery), (0, DeliveryId([2; 32])), "another log, from its beginning");

    bed.settle(3);
    let last = bed.log.roll(EpochId([3; 16]), bed.now, WALL).unwrap();
    assert_eq!(bed.witnesses.epoch_ended(&last), [], "the head before is not answered");
    bed.settle(4);
    let told = only(bed.sign());
    let proved: Vec<_> = told.iter().filter(|told| matches!(told, Telling::Logged(_))).collect();
    assert_eq!(proved.len(), 1, "3 is of the earlier epoch: its sender submits it again");
}

#[test]
fn what_waits_and_what_costs_is_bounded() {
    let mut bed = Bed::new();
    for _ in 0..WAITING_MAX + 5 {
        let place = Appended { epoch: bed.log.epoch(), index: 0, salt: Salt([0; 16]) };
        bed.witnesses.settled([SENDER, RECIPIENT], DeliveryId([0; 32]), Attempt(1), place);
    }
    assert!(bed.witnesses.gateways.values().all(|gateway| gateway.waiting.len() == WAITING_MAX));

    assert_eq!(bed.witnesses.may_speak(HERE), None, "nobody is there");
    assert!(!bed.witnesses.may_resubmit(HERE, bed.now));
    bed.connect();
    let spoken = (0..100).filter(|_| bed.witnesses.may_speak(HERE) == Some(SENDER)).count();
    assert_eq!(spoken, 3, "two, and one for the head it was shown");
    let submitted = |bed: &mut Bed, now| (0..2000).filter(|_| bed.witnesses.may_resubmit(HERE, now)).count();
    assert_eq!(submitted(&mut bed, *START), RESUBMITTED_MAX as usize);
    assert_eq!(submitted(&mut bed, *START + RESUBMIT_WINDOW), RESUBMITTED_MAX as usize);

    bed.witnesses.retain(|peer| *peer == RECIPIENT);
    assert_eq!(bed.witnesses.may_speak(HERE), None);
    assert_eq!(bed.witnesses.gateways.len(), 1);
}
