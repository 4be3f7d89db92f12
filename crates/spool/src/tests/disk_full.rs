//! Effects that fail: "failed and not stored", "failed but stored", and what still works afterwards.

use crate::faults::{Action, Kind, Point};

use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

async fn begin_and_append(outbox: &Outbox, sample: &Sample) -> BodyFile {
    let mut body = outbox.begin(sample.object).unwrap();
    body.append(&sample.body()).unwrap();
    body
}

fn is_failed(result: Result<Committed, CommitError>) -> bool {
    matches!(result, Err(CommitError::Store(StoreError::Failed(_))))
}

#[tokio::test]
async fn a_flush_that_fails_is_not_repeated_and_ends_receiving_but_not_sending() {
    for point in [Point::BodySync, Point::DirSync] {
        for after in [false, true] {
            let place = Place::new();
            let outbox = place.open();
            let (held, lost, late) = (Sample::new(1, 1, 1), Sample::new(2, 2, 1), Sample::new(3, 3, 1));
            held.commit(&outbox, T0).await;
            let open_body = begin_and_append(&outbox, &late).await;
            place.faults.arm(point, after, 1, Action::Fail(EIO));
            let passages = place.faults.trace().iter().filter(|passed| **passed == (point, false)).count();
            assert!(is_failed(lost.try_commit(&outbox, T0).await), "{point:?}");
            place.faults.disarm();
            assert!(matches!(outbox.begin(lost.object), Err(BeginError::Store(StoreError::Failed(_)))));
            assert!(is_failed(outbox.commit(open_body, late.new_object(T0), T0).await));
            assert!(outbox.usage().is_err() && outbox.health().is_err());
            let then = place.faults.trace().iter().filter(|passed| **passed == (point, false)).count();
            assert_eq!(then, passages + 1, "no second flush, of whatever");

            assert_eq!(outbox.start_attempt(held.delivery(), T0).await, Ok(Attempt(1)));
            assert!(outbox.settled_stored(held.receipt(1, 0), T0).await.unwrap().object_ended);
            outbox.close();
            assert_eq!(place.bodies(), Vec::<String>::new());
            let outbox = place.open();
            assert_eq!(outbox.list(Filter::default()).await.unwrap(), []);
            lost.commit(&outbox, T0).await;
        }
    }
}

#[tokio::test]
async fn last_bytes_that_cannot_be_written_cost_their_own_body_only() {
    for errno in [ENOSPC, EIO] {
        let place = Place::new();
        let outbox = place.open();
        let (lost, next) = (Sample::new(1, 1, 1), Sample::new(2, 2, 1));
        let mut body = outbox.begin(lost.object).unwrap();
        body.append_last(lost.body().into()).unwrap();
        place.faults.arm(Point::BodyAppend, false, 1, Action::Fail(errno));
        let error = outbox.commit(body, lost.new_object(T0), T0).await.unwrap_err();
        match errno {
            ENOSPC => assert_eq!(error, CommitError::Store(StoreError::Full)),
            _ => assert!(matches!(error, CommitError::NotWritten(_)), "{error}"),
        }
        place.faults.disarm();
        assert_eq!((place.bodies(), outbox.usage().unwrap().bytes_used), (Vec::new(), 0));
        assert_eq!(outbox.delivery(lost.delivery()).await.unwrap(), None);
        next.commit(&outbox, T0).await;
    }
}

#[tokio::test]
async fn what_is_handed_over_and_never_committed_is_not_counted() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    let mut body = outbox.begin(sample.object).unwrap();
    body.append_last(sample.body().into()).unwrap();
    assert_eq!(outbox.usage().unwrap().bytes_used, sample.body().len() as u64);
    drop(body);
    assert_eq!((place.bodies(), outbox.usage().unwrap().bytes_used), (Vec::new(), 0));
}

#[tokio::test]
async fn a_transaction_that_fails_for_lack_of_room_is_undone_and_the_next_one_may_succeed() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    place.faults.arm(Point::Commit(Kind::Intake), false, 1, Action::Fail(ENOSPC));
    assert_eq!(sample.try_commit(&outbox, T0).await, Err(CommitError::Store(StoreError::Full)));
    place.faults.disarm();
    assert_eq!(place.bodies(), Vec::<String>::new());
    assert_eq!(outbox.usage().unwrap().bytes_used, 0);
    sample.commit(&outbox, T0).await;

    place.faults.arm(Point::Commit(Kind::Receipt), false, 1, Action::Fail(ENOSPC));
    let settled = outbox.settled_stored(sample.receipt(1, 0), T0).await;
    assert_eq!(settled, Err(DeliveryError::Store(StoreError::Full)));
    assert!(has_key(&outbox, &sample).await);
    place.faults.disarm();
    assert!(outbox.settled_stored(sample.receipt(1, 0), T0).await.unwrap().object_ended);
}

#[tokio::test]
async fn after_a_failed_commit_nothing_changes_until_the_next_start_has_looked() {
    for (kind, after) in
        [(Kind::Intake, false), (Kind::Intake, true), (Kind::Receipt, false), (Kind::Receipt, true)]
    {
        let place = Place::new();
        let outbox = place.open();
        let (held, new) = (Sample::new(1, 1, 1), Sample::new(2, 2, 1));
        held.commit(&outbox, T0).await;
        place.faults.arm(Point::Commit(kind), after, 1, Action::Fail(EIO));
        if kind == Kind::Intake {
            assert!(is_failed(new.try_commit(&outbox, T0).await));
        } else {
            let settled = outbox.settled_stored(held.receipt(1, 0), T0).await;
            assert!(matches!(settled, Err(DeliveryError::Store(StoreError::Failed(_)))));
        }
        place.faults.disarm();
        assert!(matches!(outbox.begin(Sample::new(3, 3, 1).object), Err(BeginError::Store(_))));
        assert!(outbox.start_attempt(held.delivery(), T0).await.is_err());
        assert!(outbox.retry(held.delivery(), operator(), T0).await.is_err());
        assert!(outbox.list(Filter::default()).await.is_ok(), "looking goes on");
        outbox.close();

        let outbox = place.open();
        let stored = |wanted: Kind| kind == wanted && after;
        assert_eq!(
            outbox.delivery(new.delivery()).await.unwrap().is_some(),
            stored(Kind::Intake),
            "{kind:?} {after}"
        );
        assert_eq!(has_key(&outbox, &new).await, stored(Kind::Intake));
        assert_eq!(outbox.body(new.object).is_ok(), stored(Kind::Intake));
        assert_eq!(has_key(&outbox, &held).await, !stored(Kind::Receipt), "{kind:?} {after}");
        assert_eq!(outbox.body(held.object).is_ok(), !stored(Kind::Receipt));
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_unlinked_goes_at_the_next_start() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    sample.commit(&outbox, T0).await;
    place.faults.arm(Point::Unlink, false, 0, Action::Fail(EIO));
    outbox.settled_stored(sample.receipt(1, 0), T0).await.unwrap();
    assert!(!has_key(&outbox, &sample).await);
    outbox.close();
    assert_eq!(place.bodies().len(), 1);
    place.faults.disarm();
    let outbox = place.open();
    assert_eq!(place.bodies().len(), 0);
    assert_eq!(state(&outbox, sample.delivery()).await, State::Purged);
}

#[tokio::test]
async fn the_quota_the_reserve_and_a_full_disk_are_said_before_anything_is_promised() {
    let mut place = Place::new();
    let size = Sample::new(1, 1, 1).body().len() as u64;
    place.config.bytes_max = 3 * size;
    let outbox = place.open();
    let (first, second) = (Sample::new(1, 1, 1).cut_through(), Sample::new(2, 2, 1));
    first.commit(&outbox, T0).await;
    second.commit(&outbox, T0).await;
    let mut third = outbox.begin(Sample::new(3, 3, 1).object).unwrap();
    third.append(&vec![0; size as usize - 1]).unwrap();
    assert!(matches!(third.append(&[0; 2]), Err(AppendError::Full)));
    third.append(&[0]).unwrap();
    let usage = outbox.usage().unwrap();
    assert!(usage.is_above_watermark() && usage.bytes_used == 3 * size);
    assert!(matches!(outbox.begin(Sample::new(4, 4, 1).object), Err(BeginError::Full { .. })));
    drop(third);
    outbox.settled_stored(first.receipt(1, 0), T0).await.unwrap();
    outbox.close();
    let outbox = place.open();
    assert_eq!(outbox.usage().unwrap().bytes_used, size, "counted again from the index");

    place.faults.arm(Point::BodyCreate, false, 1, Action::Fail(ENOSPC));
    assert!(matches!(outbox.begin(Sample::new(5, 5, 1).object), Err(BeginError::Io(_))));
    place.faults.disarm();
    let mut body = outbox.begin(Sample::new(5, 5, 1).object).unwrap();
    place.faults.arm(Point::BodyAppend, false, 1, Action::Fail(ENOSPC));
    assert!(matches!(body.append(b"x"), Err(AppendError::Full)));
    place.faults.disarm();
    place.faults.arm(Point::BodyAppend, false, 1, Action::Fail(EIO));
    assert!(matches!(body.append(b"x"), Err(AppendError::Io(_))));
    drop(body);
    assert_eq!(outbox.usage().unwrap().bytes_used, size);
    outbox.close();

    place.config.reserve_bytes = u64::MAX / 2;
    let outbox = place.open();
    assert!(matches!(outbox.begin(Sample::new(6, 6, 1).object), Err(BeginError::Reserve { .. })));
    assert!(outbox.usage().unwrap().is_above_watermark());
}

#[tokio::test]
async fn one_request_that_fails_takes_nothing_of_the_others_with_it() {
    let place = Place::new();
    let outbox = place.open();
    Sample::new(1, 1, 1).commit(&outbox, T0).await;
    let samples = [Sample::new(2, 2, 1), Sample::new(3, 1, 2).refusing(), Sample::new(4, 4, 1)];
    let (a, b, c) = tokio::join!(
        samples[0].try_commit(&outbox, T0),
        samples[1].try_commit(&outbox, T0),
        samples[2].try_commit(&outbox, T0)
    );
    assert!(a.is_ok() && c.is_ok());
    assert!(matches!(b, Err(CommitError::ChangedContent { .. })));
    assert_eq!(place.bodies().len(), 3);
}

/// Sets the size beyond which SQLite itself says "full".
async fn limit_pages(outbox: &Outbox, more: Option<i64>) {
    let run = move |connection: &rusqlite::Connection| {
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let limit = more.map_or(1_000_000, |more| pages + more);
        let sql = format!("PRAGMA max_page_count = {limit}");
        Ok::<_, db::JobError<StoreError>>(connection.query_row(&sql, (), |row| row.get::<_, i64>(0))?)
    };
    outbox.inner().db.writer.call(Kind::Change, run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_index_that_is_really_full_loses_nothing_that_was_acknowledged() {
    let place = Place::new();
    let outbox = std::sync::Arc::new(place.open());
    limit_pages(&outbox, Some(12)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200u32 {
        let outbox = outbox.clone();
        tasks.spawn(async move {
            let sample = Sample::new(number, number, 1);
            (sample.try_commit(&outbox, T0).await, sample)
        });
    }
    let (mut accepted, mut full) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            (Ok(_), sample) => accepted.push(sample),
            (Err(CommitError::Store(StoreError::Full)), sample) => full.push(sample),
            (Err(other), _) => panic!("{other}"),
        }
    }
    assert!(!full.is_empty(), "the limit was met");
    assert_eq!(outbox.list(Filter::default()).await.unwrap().len(), accepted.len());
    let mut want: Vec<_> = accepted.iter().map(|sample| sample.object.to_string()).collect();
    want.sort();
    assert_eq!(place.bodies(), want);
    // With room again everything goes on.
    limit_pages(&outbox, None).await;
    for sample in &full {
        sample.commit(&outbox, at(1)).await;
    }
    assert_eq!(outbox.list(Filter::default()).await.unwrap().len(), 200);
    for sample in accepted.iter().chain(&full) {
        assert!(has_key(&outbox, sample).await);
    }
}
