//! The order of durable effects, as they happened.

use crate::faults::{Kind, Point};

use super::*;

#[tokio::test]
async fn body_and_folder_then_row_then_answer_and_receipt_then_unlink() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    sample.commit(&outbox, T0).await;
    let durable = |passed: Vec<(Point, bool)>| -> Vec<_> {
        passed
            .into_iter()
            .filter(|(point, _)| !matches!(point, Point::BodyCreate | Point::BodyAppend))
            .collect()
    };
    let passed = durable(place.faults.trace());
    let place_of = |point, after| passed.iter().position(|one| *one == (point, after)).unwrap();
    assert_eq!(passed.len(), 6, "all of it before the answer");
    for flushed in [Point::BodySync, Point::DirSync] {
        assert!(
            place_of(flushed, true) < place_of(Point::Commit(Kind::Intake), false),
            "{flushed:?} before the row"
        );
    }
    outbox.settled_stored(sample.receipt(1, 0), T0).await.unwrap();
    outbox.close();
    let effects = [Point::Commit(Kind::Receipt), Point::Unlink, Point::Commit(Kind::Purged)];
    let want: Vec<_> = effects.iter().flat_map(|point| [(*point, false), (*point, true)]).collect();
    assert_eq!(durable(place.faults.trace())[6..], want);
}

#[tokio::test]
async fn bytes_handed_over_with_the_commit_are_written_before_its_flush() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    let mut body = outbox.begin(sample.object).unwrap();
    let (first, last) = (sample.body()[..100].to_vec(), bytes::Bytes::from(sample.body()[100..].to_vec()));
    body.append(&first).unwrap();
    body.append_last(last).unwrap();
    assert_eq!(body.len(), 100, "the caller was not made to wait for the write");
    outbox.commit(body, sample.new_object(T0), T0).await.unwrap();
    let passed = place.faults.trace();
    let last_of = |point| passed.iter().rposition(|one| *one == (point, false)).unwrap();
    assert!(last_of(Point::BodyAppend) < last_of(Point::BodySync));
    assert!(last_of(Point::BodySync) < last_of(Point::Commit(Kind::Intake)));
    let mut read = vec![0; sample.body().len()];
    outbox.body(sample.object).unwrap().read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, sample.body());
    assert_eq!(outbox.usage().unwrap().bytes_used, sample.body().len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_wait_share_the_flush_of_the_folder_and_the_transaction() {
    let place = Place::new();
    let outbox = std::sync::Arc::new(place.open());
    let mut tasks = tokio::task::JoinSet::new();
    let callers = 64;
    let ready = std::sync::Arc::new(tokio::sync::Barrier::new(callers));
    for number in 0..callers as u32 {
        let (outbox, ready) = (outbox.clone(), ready.clone());
        tasks.spawn(async move {
            let sample = Sample::new(number, number, 1);
            let mut body = outbox.begin(sample.object).unwrap();
            body.append(&sample.body()).unwrap();
            ready.wait().await;
            outbox.commit(body, sample.new_object(T0), T0).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let count = |wanted| place.faults.trace().iter().filter(|passed| **passed == (wanted, false)).count();
    assert_eq!(count(Point::BodySync), callers);
    assert!(count(Point::DirSync) < callers / 2, "{} flushes of the folder", count(Point::DirSync));
    assert!(count(Point::Commit(Kind::Intake)) < callers / 2);
    assert_eq!(outbox.list(Filter::default()).await.unwrap().len(), callers);
}

#[tokio::test]
async fn a_reader_follows_a_growing_body() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    let mut body = outbox.begin(sample.object).unwrap();
    let reader = body.reader();
    let (mut read, whole) = (Vec::new(), sample.body());
    for piece in whole.chunks(333) {
        body.append(piece).unwrap();
        assert_eq!(reader.len(), body.len());
        let mut next = vec![0; 100];
        loop {
            let count = reader.read_at(&mut next, read.len() as u64).unwrap();
            if count == 0 {
                break;
            }
            read.extend_from_slice(&next[..count]);
        }
    }
    assert_eq!(read, whole);
    assert!(reader.read_exact_at(&mut [0; 2], whole.len() as u64 - 1).is_err());
    drop(body);
    let mut first = [0; 10];
    reader.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, whole[..10], "also after the body was given up");
}
