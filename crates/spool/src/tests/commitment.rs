//! Storage Commitment: what is remembered of a request, when it is decided, and what stays of it.

use super::*;

/// A request of CT1 for some instances of [`Sample`], with an hour to come and a day to be stored.
pub(crate) fn new(number: u32, uids: &[u32]) -> NewCommitment {
    let reference = |uid: &u32| {
        let meta = Sample::new(0, *uid, 0).record().meta;
        SopReference { sop_class: meta.sop_class, sop_instance: meta.sop_instance }
    };
    let mut id = [0xc0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    NewCommitment {
        id: base::CommitmentId(id),
        peer: AeTitle::parse("CT1").unwrap(),
        callers: vec![AeTitle::parse("CT1").unwrap()],
        called: AeTitle::parse("SLUIS").unwrap(),
        transaction: Phi::new(Uid::parse(&format!("1.2.826.77.{number}")).unwrap()),
        instances: uids.iter().map(reference).collect(),
        means: Means::Delivered,
        arrival_until: at(3600),
        deadline: at(86_400),
        open_max: 3,
    }
}

async fn ask(outbox: &Outbox, new: NewCommitment, now: Timestamp) -> Result<Asked, CommitmentError> {
    outbox.commitment_asked(new, now).await
}

async fn is_ripe(outbox: &Outbox, id: base::CommitmentId, now: Timestamp) -> bool {
    let (watched, _) = outbox.commitments_watch(Cursors::new(), now).await.unwrap();
    watched.iter().any(|one| one.id == id && one.is_ripe)
}

/// Decides and answers the verdicts in the order of the request.
async fn verdicts(outbox: &Outbox, new: &NewCommitment, now: Timestamp) -> Option<Vec<Verdict>> {
    if let Decided::NotYet(_) = outbox.commitment_decide(new.id, now).await.unwrap() {
        assert!(!is_ripe(outbox, new.id, now).await);
        return None;
    }
    let report = outbox.commitment_report(new.id).await.unwrap();
    assert_eq!(report.transaction, new.transaction);
    assert_eq!(report.called, new.called);
    let of = |one: &SopReference| {
        let failed = report.failed.iter().find(|(failed, _)| failed == one).map(|(_, verdict)| *verdict);
        assert_eq!(report.committed.contains(one), failed.is_none());
        failed.unwrap_or(Verdict::Committed)
    };
    Some(new.instances.iter().map(of).collect())
}

#[tokio::test]
async fn a_request_is_decided_when_the_last_receipt_of_every_route_is_in() {
    let place = Place::new();
    let outbox = place.open();
    let (one, two) = (Sample::new(1, 1, 1).cut_through(), Sample::new(2, 2, 1).along(&[1, 2]).cut_through());
    let asked = new(1, &[1, 2]);
    ask(&outbox, asked.clone(), T0).await.unwrap();
    // Asked before anything was sent.
    assert_eq!(verdicts(&outbox, &asked, at(1)).await, None);
    one.commit(&outbox, at(2)).await;
    two.commit(&outbox, at(2)).await;
    assert_eq!(verdicts(&outbox, &asked, at(3)).await, None);
    outbox.settled_stored(one.receipt(1, 0), at(4)).await.unwrap();
    outbox.settled_stored(two.receipt(1, 0), at(4)).await.unwrap();
    assert_eq!(verdicts(&outbox, &asked, at(5)).await, None, "the second destination has not answered");
    let second = NewReceipt { delivery: two.delivery_on(2), ..two.receipt(1, 0xb000) };
    outbox.settled_stored(second, at(6)).await.unwrap();
    assert!(is_ripe(&outbox, asked.id, at(7)).await);
    assert_eq!(verdicts(&outbox, &asked, at(7)).await, Some(vec![Verdict::Committed; 2]));
}

#[tokio::test]
async fn what_failed_is_named_with_its_reason_and_waits_for_the_others() {
    let place = Place::new();
    let outbox = place.open();
    let sample = |number| Sample::new(number, number, 1).cut_through();
    for number in 1..=4 {
        sample(number).commit(&outbox, T0).await;
    }
    outbox.settled_stored(sample(1).receipt(1, 0), T0).await.unwrap();
    outbox.refused(sample(2).receipt(1, 0xc000), T0).await.unwrap();
    outbox.discard(sample(3).delivery(), operator(), T0).await.unwrap();
    let mut asked = new(1, &[1, 2, 3, 4, 5, 1]);
    asked.instances[5].sop_class = Uid::parse("1.2.840.10008.5.1.4.1.1.4").unwrap();
    ask(&outbox, asked.clone(), T0).await.unwrap();
    assert_eq!(verdicts(&outbox, &asked, at(1)).await, None, "the fourth and the fifth are undecided");
    outbox.settled_stored(sample(4).receipt(1, 0), at(2)).await.unwrap();
    assert_eq!(verdicts(&outbox, &asked, at(3)).await, None, "the fifth may still come");
    let want = [
        Verdict::Committed,
        Verdict::Refused,
        Verdict::Discarded,
        Verdict::Committed,
        Verdict::NotReceived,
        Verdict::OtherClass,
    ];
    assert_eq!(verdicts(&outbox, &asked, at(3600)).await.unwrap(), want);
    // What was decided is what every report says, whatever an operator does later.
    outbox.retry(sample(2).delivery(), operator(), at(3601)).await.unwrap();
    outbox.close();
    let outbox = place.open_at(at(3700));
    assert_eq!(verdicts(&outbox, &asked, at(3700)).await.unwrap(), want);
}

#[tokio::test]
async fn what_is_not_stored_in_time_has_failed() {
    let place = Place::new();
    let outbox = place.open();
    Sample::new(1, 1, 1).commit(&outbox, T0).await;
    let asked = new(1, &[1]);
    ask(&outbox, asked.clone(), T0).await.unwrap();
    assert_eq!(verdicts(&outbox, &asked, at(86_399)).await, None);
    assert!(is_ripe(&outbox, asked.id, at(86_400)).await);
    assert_eq!(verdicts(&outbox, &asked, at(86_400)).await, Some(vec![Verdict::NotInTime]));
}

#[tokio::test]
async fn instances_of_others_do_not_count_and_repeats_do() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1).cut_through();
    sample.commit(&outbox, T0).await;
    let mut stranger = new(1, &[1]);
    stranger.peer = AeTitle::parse("CT2").unwrap();
    stranger.callers = vec![stranger.peer.clone()];
    stranger.arrival_until = T0;
    ask(&outbox, stranger.clone(), T0).await.unwrap();
    assert_eq!(verdicts(&outbox, &stranger, at(1)).await, Some(vec![Verdict::NotReceived]));
    // The same content from the other one joins the delivery that is under way.
    let again = Sample::new(2, 1, 1);
    let mut joining = again.new_object(at(2));
    joining.record.meta.calling = stranger.peer.clone();
    let mut body = outbox.begin(again.object).unwrap();
    body.append(&again.body()).unwrap();
    let committed = outbox.commit(body, joining, at(2)).await.unwrap();
    assert!(matches!(committed.placed[0].decision, Decision::Joined { .. }));
    outbox.settled_stored(sample.receipt(1, 0), at(3)).await.unwrap();
    let later =
        NewCommitment { id: base::CommitmentId([9; 16]), transaction: new(9, &[]).transaction, ..stranger };
    ask(&outbox, later.clone(), at(4)).await.unwrap();
    assert_eq!(verdicts(&outbox, &later, at(5)).await, Some(vec![Verdict::Committed]));
    // A request may name other titles of the same peer.
    let other = NewCommitment {
        peer: AeTitle::parse("CT1_SC").unwrap(),
        callers: vec![AeTitle::parse("CT1_SC").unwrap(), AeTitle::parse("CT1").unwrap()],
        ..new(3, &[1])
    };
    ask(&outbox, other.clone(), at(4)).await.unwrap();
    assert_eq!(verdicts(&outbox, &other, at(5)).await, Some(vec![Verdict::Committed]));
}

#[tokio::test]
async fn the_latest_version_is_the_one_that_counts() {
    let place = Place::new();
    let outbox = place.open();
    let (first, second) = (Sample::new(1, 1, 1).cut_through(), Sample::new(2, 1, 2));
    first.commit(&outbox, T0).await;
    assert!(matches!(second.commit(&outbox, T0).await[0], Decision::After { .. }));
    outbox.settled_stored(first.receipt(1, 0), at(1)).await.unwrap();
    let asked = new(1, &[1]);
    ask(&outbox, asked.clone(), at(2)).await.unwrap();
    assert_eq!(verdicts(&outbox, &asked, at(2)).await, None);
    // Purged long ago, and asked again long after.
    outbox.start_attempt(second.delivery(), at(3)).await.unwrap();
    outbox.settled_stored(second.receipt(1, 0), at(3)).await.unwrap();
    outbox.close();
    let outbox = place.open_at(at(80_000));
    assert_eq!(verdicts(&outbox, &asked, at(80_000)).await, Some(vec![Verdict::Committed]));
}

#[tokio::test]
async fn pseudonymized_instances_fail_at_once_and_all_of_them() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1).cut_through();
    let mut object = sample.new_object(T0);
    object.sealed.profile = Digest::of(b"a profile that keeps UIDs");
    let mut body = outbox.begin(sample.object).unwrap();
    body.append(&sample.body()).unwrap();
    outbox.commit(body, object, T0).await.unwrap();
    for (number, means) in (1..).zip([Means::Outbox, Means::Delivered]) {
        let asked = NewCommitment { means, ..new(number, &[1]) };
        ask(&outbox, asked.clone(), T0).await.unwrap();
        assert_eq!(verdicts(&outbox, &asked, at(1)).await, Some(vec![Verdict::Pseudonymized]));
        outbox.settled_stored(sample.receipt(1, 0), T0).await.unwrap();
    }
}

#[tokio::test]
async fn the_same_request_again_changes_nothing_until_it_has_ended() {
    let place = Place::new();
    let outbox = place.open();
    let asked = new(1, &[1, 2]);
    assert_eq!(ask(&outbox, asked.clone(), T0).await, Ok(Asked::New(asked.id)));
    let again = || NewCommitment { id: base::CommitmentId([7; 16]), ..new(1, &[2, 1]) };
    assert_eq!(ask(&outbox, again(), at(1)).await, Ok(Asked::Known(asked.id, CommitmentState::Open)));
    let other = NewCommitment { id: base::CommitmentId([7; 16]), ..new(1, &[1, 3]) };
    assert_eq!(ask(&outbox, other, at(1)).await, Err(CommitmentError::InUse(asked.id)));
    let elsewhere = NewCommitment { peer: AeTitle::parse("CT2").unwrap(), ..again() };
    assert!(matches!(ask(&outbox, elsewhere, at(1)).await, Ok(Asked::New(_))), "the UID is the peer's own");

    outbox.commitment_decide(asked.id, at(86_400)).await.unwrap();
    outbox.commitment_unreported(asked.id, "connection refused", 1.0, at(86_400)).await.unwrap();
    assert!(!is_ripe(&outbox, asked.id, at(86_400)).await);
    let known = Ok(Asked::Known(asked.id, CommitmentState::Reporting));
    assert_eq!(ask(&outbox, again(), at(86_401)).await, known);
    assert!(is_ripe(&outbox, asked.id, at(86_401)).await, "who asks again waits for the report");
    outbox.commitment_reported(asked.id, at(86_402)).await.unwrap();
    outbox.commitment_reported(asked.id, at(86_403)).await.unwrap();
    assert!(matches!(outbox.commitment_report(asked.id).await, Err(CommitmentError::Unknown(_))));
    assert_eq!(ask(&outbox, again(), at(90_000)).await, Ok(Asked::Again(asked.id)));
    assert_eq!(outbox.commitments(true, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn open_transactions_are_bounded_for_each_peer() {
    let place = Place::new();
    let outbox = place.open();
    for number in 1..=3 {
        ask(&outbox, new(number, &[1]), T0).await.unwrap();
    }
    let error = ask(&outbox, new(4, &[1]), T0).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "open_max = 3 transactions of CT1 are open; report them, drop them or raise the limit"
    );
    let other = NewCommitment { peer: AeTitle::parse("CT2").unwrap(), ..new(4, &[1]) };
    ask(&outbox, other, T0).await.unwrap();
    outbox.commitment_drop(new(2, &[]).id, operator(), T0).await.unwrap();
    let fifth = NewCommitment { id: base::CommitmentId([5; 16]), ..new(5, &[1]) };
    ask(&outbox, fifth, T0).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_takes_no_request() {
    let mut place = Place::new();
    place.config.reserve_bytes = u64::MAX / 4;
    let outbox = place.open();
    assert_eq!(ask(&outbox, new(1, &[1]), T0).await, Err(CommitmentError::NoRoom));
    assert_eq!(outbox.commitments(false, 10).await.unwrap(), []);
}

#[tokio::test]
async fn operators_see_retry_and_drop_and_are_audited() {
    let place = Place::new();
    let outbox = place.open();
    let asked = new(1, &[1, 2]);
    ask(&outbox, asked.clone(), T0).await.unwrap();
    let early = outbox.commitment_retry(asked.id, operator(), T0).await.unwrap_err();
    assert!(early.to_string().contains("is open; only what is decided"), "{early}");
    outbox.commitment_decide(asked.id, at(86_400)).await.unwrap();
    for _ in 0..3 {
        outbox.commitment_unreported(asked.id, "connection refused", 1.0, at(86_400)).await.unwrap();
    }
    let admin = place.admin();
    let row = admin.commitments_by_id(&asked.id.short(), 2).await.unwrap().pop().unwrap();
    assert_eq!((row.tries, row.failed, row.instances), (3, 2, 2));
    assert_eq!(row.reason.as_deref(), Some("connection refused"));
    assert_eq!(row.next_at, Some(at(86_420)), "5, 10, 20 s");
    let counts = outbox.commitment_counts().await.unwrap();
    assert_eq!((counts.open, counts.reporting, counts.failing), (0, 1, 1));
    admin.commitment_retry(asked.id, operator(), at(86_401)).await.unwrap();
    assert!(is_ripe(&outbox, asked.id, at(86_401)).await);
    let named = admin.commitments_naming(asked.instances[1].sop_instance.reveal().as_str(), 5).await.unwrap();
    assert_eq!(named[0].verdict, Some(Verdict::NotReceived));
    let named = admin.commitments_naming(asked.transaction.reveal().as_str(), 5).await.unwrap();
    assert_eq!(named[0].commitment.id, asked.id);
    admin.commitment_drop(asked.id, operator(), at(86_402)).await.unwrap();
    assert!(admin.commitment_drop(asked.id, operator(), at(86_403)).await.is_err());
    let acts: Vec<_> = admin.acts(9).await.unwrap().into_iter().map(|act| act.what).collect();
    assert_eq!(acts, [format!("drop commitment {}", asked.id), format!("retry commitment {}", asked.id)]);
    assert!(outbox.commitments(true, 9).await.unwrap().is_empty());
    // An answer that comes after all changes nothing.
    outbox.commitment_reported(asked.id, at(86_404)).await.unwrap();
    assert_eq!(outbox.commitments(false, 9).await.unwrap()[0].state, CommitmentState::Dropped);
}

#[tokio::test]
async fn the_record_is_sealed_follows_the_key_and_is_erased_at_the_end() {
    let place = Place::new();
    let outbox = place.open();
    let asked = new(1, &[424_242]);
    ask(&outbox, asked.clone(), T0).await.unwrap();
    let record = || {
        let index = rusqlite::Connection::open(place.dir.join("index.db")).unwrap();
        index.query_row("SELECT record FROM commitment", (), |row| row.get::<_, Option<Vec<u8>>>(0)).unwrap()
    };
    let before = record().unwrap();
    outbox.rewrap(OutboxKey::new(Secret::new([70; 32])), operator(), T0).await.unwrap();
    let after = record().unwrap();
    assert_ne!(before, after);
    assert!(outbox.commitment_report(asked.id).await.is_err(), "not decided");
    outbox.commitment_decide(asked.id, at(86_400)).await.unwrap();
    let report = outbox.commitment_report(asked.id).await.unwrap();
    assert_eq!(report.failed.len(), 1);
    let printed = format!("{report:?} {asked:?} {:?}", outbox.commitments(false, 9).await.unwrap());
    assert!(!printed.contains("1.2.826"), "{printed}");
    outbox.commitment_reported(asked.id, at(86_401)).await.unwrap();
    assert_eq!(record(), None);
    outbox.close();
    for file in std::fs::read_dir(&place.dir).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(content) = std::fs::read(&file) else { continue };
        for needle in [before.as_slice(), &after, b"1.2.826.424242", b"1.2.826.77"] {
            assert!(!content.windows(needle.len()).any(|window| window == needle), "{}", file.display());
        }
    }
}
