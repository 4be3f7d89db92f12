//! Each durable write, with a crash before it and after it: the test runs itself as a child that aborts at
//! the named point, then opens what the child left.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::faults::{Action, Kind, Point};

use super::*;

/// A child that was told to crash and did not.
const SURVIVED: i32 = 0;

struct Crash {
    point: Point,
    after: bool,
    /// Whether the effect must have happened.
    happened: bool,
}

const fn before(point: Point) -> Crash {
    Crash { point, after: false, happened: false }
}

const fn after(point: Point, happened: bool) -> Crash {
    Crash { point, after: true, happened }
}

const INTAKE: [Crash; 6] = [
    before(Point::BodySync),
    after(Point::BodySync, false),
    before(Point::DirSync),
    after(Point::DirSync, false),
    before(Point::Commit(Kind::Intake)),
    after(Point::Commit(Kind::Intake), true),
];

const RECEIPT: [Crash; 6] = [
    before(Point::Commit(Kind::Receipt)),
    after(Point::Commit(Kind::Receipt), true),
    Crash { happened: true, ..before(Point::Unlink) },
    after(Point::Unlink, true),
    Crash { happened: true, ..before(Point::Commit(Kind::Purged)) },
    after(Point::Commit(Kind::Purged), true),
];

const INBOUND: [(Kind, bool); 8] = [
    (Kind::InboundAttempt, false),
    (Kind::InboundAttempt, true),
    (Kind::InboundAnswer, false),
    (Kind::InboundAnswer, true),
    (Kind::InboundSigned, false),
    (Kind::InboundSigned, true),
    (Kind::InboundAcked, false),
    (Kind::InboundAcked, true),
];

/// Of a transaction: asked, decided, reported; and where it stands after the crash.
pub(crate) const COMMITMENT: [(Kind, bool, u32, Option<CommitmentState>); 6] = [
    (Kind::Commitment, false, 1, None),
    (Kind::Commitment, true, 1, Some(CommitmentState::Open)),
    (Kind::Commitment, false, 2, Some(CommitmentState::Open)),
    (Kind::Commitment, true, 2, Some(CommitmentState::Reporting)),
    (Kind::CommitmentEnded, false, 1, Some(CommitmentState::Reporting)),
    (Kind::CommitmentEnded, true, 1, Some(CommitmentState::Reported)),
];

/// Two objects: one that is acknowledged before the crash point is armed, one that runs into it.
fn samples() -> (Sample, Sample) {
    (Sample::new(1, 1, 1), Sample::new(2, 2, 1).along(&[1, 2]))
}

#[tokio::test]
async fn receiving_leaves_all_of_an_object_or_nothing() {
    for (number, crash) in INTAKE.iter().enumerate() {
        let place = Place::new();
        let acknowledged = run_child(&place.dir, "intake", number);
        assert_eq!(acknowledged, ["first"], "{:?}: nothing is acknowledged before its crash", crash.point);
        let outbox = place.open();
        let (first, second) = samples();
        assert_whole(&outbox, &first).await;
        if crash.happened {
            assert_whole(&outbox, &second).await;
        }
        let want: Vec<_> = [&first, &second]
            .into_iter()
            .take(1 + usize::from(crash.happened))
            .map(|one| one.object.to_string())
            .collect();
        assert_eq!(place.bodies(), want, "{:?} {}", crash.point, crash.after);
        let rows: usize = outbox.list(Filter::default()).await.unwrap().len();
        assert_eq!(rows, if crash.happened { 3 } else { 1 }, "{:?} {}", crash.point, crash.after);
        // The PACS, which was told nothing, sends again.
        let again = Sample { object: Sample::new(3, 2, 1).object, ..second.clone() };
        for decision in again.commit(&outbox, at(1)).await {
            assert_eq!(matches!(decision, Decision::Joined { .. }), crash.happened);
        }
    }
}

#[tokio::test]
async fn the_key_is_gone_if_and_only_if_the_receipt_is_stored() {
    for (number, crash) in RECEIPT.iter().enumerate() {
        let place = Place::new();
        run_child(&place.dir, "receipt", number);
        let (first, second) = samples();
        let outbox = place.open_at(at(50));
        assert_whole(&outbox, &second).await;
        let stored = !outbox.receipts_of(first.delivery()).await.unwrap().is_empty();
        assert_eq!(stored, crash.happened, "{:?} {}", crash.point, crash.after);
        assert_eq!(has_key(&outbox, &first).await, !stored, "{:?} {}", crash.point, crash.after);
        let body = place.bodies().contains(&first.object.to_string());
        assert_eq!(body, !stored, "after a start the body is there as long as its key is");
        let want = if stored { State::Purged } else { State::Relayed };
        assert_eq!(state(&outbox, first.delivery()).await, want, "{:?} {}", crash.point, crash.after);
        // The relay sends the settlement again until it is acknowledged.
        let again = outbox.settled_stored(first.receipt(1, 0), at(60)).await.unwrap();
        assert_eq!(again.applied == Applied::Already, stored);
    }
}

#[tokio::test]
async fn the_ledger_knows_what_it_does_not_know() {
    for (number, (kind, after)) in INBOUND.iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        run_child(directory.path(), "inbound", number);
        let ledger = Inbound::open(directory.path(), at(10)).unwrap();
        let row = ledger.lookup(inbound_ledger::arrival(1, 1).delivery).await.unwrap();
        let state = row.as_ref().map(|row| row.state);
        let want = match (kind, after) {
            (Kind::InboundAttempt, false) => None,
            (Kind::InboundAttempt, true) | (Kind::InboundAnswer, false) => Some(InboundState::Unknown),
            (Kind::InboundAnswer, true) | (Kind::InboundSigned, false) => Some(InboundState::Answered),
            (Kind::InboundSigned, true) | (Kind::InboundAcked, false) => Some(InboundState::Signed),
            _ => Some(InboundState::Acknowledged),
        };
        assert_eq!(state, want, "{kind:?} {after}");
        let unsigned = ledger.unsigned(10).await.unwrap();
        assert_eq!(unsigned.len(), usize::from(state == Some(InboundState::Answered)));
        let unknown = ledger.unknown(10).await.unwrap();
        assert_eq!(unknown.len(), usize::from(state == Some(InboundState::Unknown)));
        let Some(row) = row else { continue };
        let signed = matches!(state, Some(InboundState::Signed | InboundState::Acknowledged));
        assert_eq!(row.settlement.is_some(), signed);
        assert_eq!(row.manifest.is_some(), state == Some(InboundState::Acknowledged));
        if state == Some(InboundState::Unknown) {
            let sent = ledger.attempt_sent(inbound_ledger::arrival(1, 2), at(11)).await.unwrap();
            assert!(sent.maybe_stored);
            assert_eq!(ledger.counts().await.unwrap().repeats, 1);
        }
    }
}

#[tokio::test]
async fn a_commitment_is_asked_decided_and_reported_or_not_at_all() {
    for (number, (kind, after, passage, want)) in COMMITMENT.into_iter().enumerate() {
        let place = Place::new();
        run_child(&place.dir, "commitment", number);
        let outbox = place.open_at(at(50));
        let found = outbox.commitments(false, 10).await.unwrap().pop();
        assert_eq!(found.as_ref().map(|one| one.state), want, "{kind:?} {after} {passage}");
        // The peer, which may have been told nothing, asks again; then everything goes its way.
        let asked = outbox.commitment_asked(commitment::new(1, &[1]), at(50)).await.unwrap();
        let decided = outbox.commitment_decide(asked.id(), at(51)).await.unwrap();
        assert!(!matches!(decided, Decided::NotYet(_)), "{kind:?} {after} {passage}");
        let report = outbox.commitment_report(asked.id()).await.unwrap();
        assert_eq!((report.committed.len(), report.failed.len()), (1, 0));
        outbox.commitment_reported(asked.id(), at(52)).await.unwrap();
    }
}

async fn child_commitment(place: Place, number: usize) {
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1).cut_through();
    sample.commit(&outbox, T0).await;
    outbox.settled_stored(sample.receipt(1, 0), T0).await.unwrap();
    let (kind, after, passage, _) = COMMITMENT[number];
    place.faults.arm(Point::Commit(kind), after, passage, Action::Abort);
    let id = outbox.commitment_asked(commitment::new(1, &[1]), T0).await.unwrap().id();
    outbox.commitment_decide(id, T0).await.unwrap();
    outbox.commitment_report(id).await.unwrap();
    outbox.commitment_reported(id, T0).await.unwrap();
}

#[tokio::test]
async fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    for seed in 0..6u64 {
        let place = Place::new();
        let log = place.dir.with_extension("log");
        let mut child = command(&place.dir, "load", 0, &log);
        let mut child = child.spawn().unwrap();
        // Not a wait for something to happen: the moment is arbitrary on purpose, and differs with the seed.
        while acknowledged(&log).len() < 5 + 17 * seed as usize {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let outbox = place.open_at(at(100));
        let lines = acknowledged(&log);
        for line in &lines {
            let (what, number) = line.split_once(' ').unwrap();
            let sample = Sample::new(number.parse().unwrap(), number.parse().unwrap(), 1);
            let settled = !outbox.receipts_of(sample.delivery()).await.unwrap().is_empty();
            match what {
                "settled" => assert!(settled && !has_key(&outbox, &sample).await, "{line}"),
                _ if settled => assert!(!has_key(&outbox, &sample).await, "{line}"),
                _ => assert_whole(&outbox, &sample).await,
            }
        }
        for row in outbox.list(Filter { limit: 100_000, ..Filter::default() }).await.unwrap() {
            assert!(place.bodies().contains(&row.object.to_string()), "each open row has its body");
        }
    }
}

async fn assert_whole(outbox: &Outbox, sample: &Sample) {
    for route in &sample.routes {
        let row = row(outbox, sample.delivery_on(*route)).await;
        assert!(!row.state.is_ended());
        assert_eq!(row.sealed, sample.sealed());
    }
    assert!(has_key(outbox, sample).await);
    let reader = outbox.body(sample.object).unwrap();
    let mut body = vec![0; sample.body().len()];
    assert_eq!(reader.len(), body.len() as u64);
    reader.read_exact_at(&mut body, 0).unwrap();
    assert_eq!(body, sample.body());
    let record = outbox.reveal(sample.delivery(), operator(), at(9)).await.unwrap();
    assert_eq!(record, sample.record());
}

fn command(dir: &Path, scenario: &str, number: usize, log: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "tests::after_a_crash::child", "--nocapture", "--test-threads=1"]);
    command.env("SPOOL_CHILD", scenario).env("SPOOL_CHILD_NUMBER", number.to_string());
    command.env("SPOOL_CHILD_DIR", dir).env("SPOOL_CHILD_LOG", log);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs a scenario until it aborts, and answers what it acknowledged before.
fn run_child(dir: &Path, scenario: &str, number: usize) -> Vec<String> {
    let log = dir.with_extension("log");
    let status = command(dir, scenario, number, &log).status().unwrap();
    assert_ne!(status.code(), Some(SURVIVED), "{scenario} {number} did not crash");
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(6),
        "{scenario} {number}: {status}"
    );
    let lines = acknowledged(&log);
    let _ = fs::remove_file(&log);
    lines
}

fn acknowledged(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(str::to_owned).collect()
}

/// What the child does. In an ordinary run of the tests it has nothing to do.
#[test]
fn child() {
    let Ok(scenario) = std::env::var("SPOOL_CHILD") else { return };
    let number: usize = std::env::var("SPOOL_CHILD_NUMBER").unwrap().parse().unwrap();
    let dir = PathBuf::from(std::env::var("SPOOL_CHILD_DIR").unwrap());
    let log = OpenOptions::new().create(true).append(true).open(std::env::var("SPOOL_CHILD_LOG").unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let log = log.unwrap();
    match scenario.as_str() {
        "intake" => runtime.block_on(child_intake(Place::at(dir), number, log)),
        "receipt" => runtime.block_on(child_receipt(Place::at(dir), number)),
        "commitment" => runtime.block_on(child_commitment(Place::at(dir), number)),
        "inbound" => runtime.block_on(child_inbound(&dir, number)),
        "load" => runtime.block_on(child_load(Place::at(dir), log)),
        other => panic!("{other}"),
    }
}

fn arm(faults: &Faults, crash: &Crash) {
    faults.arm(crash.point, crash.after, 1, Action::Abort);
}

async fn child_intake(place: Place, number: usize, mut log: File) {
    let (first, second) = samples();
    let outbox = place.open();
    first.commit(&outbox, T0).await;
    writeln!(log, "first").unwrap();
    arm(&place.faults, &INTAKE[number]);
    second.commit(&outbox, T0).await;
    writeln!(log, "second").unwrap();
}

async fn child_receipt(place: Place, number: usize) {
    let (first, second) = samples();
    let outbox = place.open();
    let first = first.cut_through();
    first.commit(&outbox, T0).await;
    second.commit(&outbox, T0).await;
    outbox.relayed(first.delivery(), Attempt(1), base::BootId([1; 16]), T0).await.unwrap();
    arm(&place.faults, &RECEIPT[number]);
    outbox.settled_stored(first.receipt(1, 0), at(1)).await.unwrap();
    outbox.close();
}

async fn child_inbound(dir: &Path, number: usize) {
    let faults = Faults::none();
    let (kind, after) = INBOUND[number];
    faults.arm(Point::Commit(kind), after, 1, Action::Abort);
    let ledger = Inbound::open_with(dir, T0, faults).unwrap();
    let arrival = inbound_ledger::arrival(1, 1);
    ledger.attempt_sent(arrival.clone(), T0).await.unwrap();
    ledger.answered(inbound_ledger::answer(&arrival, Outcome::Stored), T0).await.unwrap();
    ledger.signed(vec![inbound_ledger::signature(&arrival)], T0).await.unwrap();
    ledger
        .acked(arrival.delivery, arrival.attempt, inbound_ledger::COUNTERSIGNED.to_vec(), T0)
        .await
        .unwrap();
}

/// Sixteen callers at once, until the parent kills us. Every second object is also settled.
async fn child_load(place: Place, log: File) {
    let outbox = std::sync::Arc::new(place.open());
    let log = std::sync::Arc::new(std::sync::Mutex::new(log));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16u32 {
        let (outbox, log) = (outbox.clone(), log.clone());
        tasks.spawn(async move {
            for round in 0..10_000 {
                let number = task * 10_000 + round;
                let sample = Sample::new(number, number, 1).cut_through();
                sample.commit(&outbox, T0).await;
                // Appended in one write, so that the parent never reads half a line.
                log.lock().unwrap().write_all(format!("committed {number}\n").as_bytes()).unwrap();
                if round % 2 == 0 {
                    outbox.settled_stored(sample.receipt(1, 0), T0).await.unwrap();
                    log.lock().unwrap().write_all(format!("settled {number}\n").as_bytes()).unwrap();
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
