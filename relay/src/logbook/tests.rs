use base::{Attempt, DeliveryId, Digest, Fingerprint, Name, Secret};
use ledger::log::LogTree;

use super::*;

const LIMITS: LogLimits = LogLimits { interval: Duration::from_secs(1), entries_max: 1000 };

fn key() -> Arc<LogKey> {
    Arc::new(LogKey::generate(Name::parse("relay-1").unwrap(), &Secret::new([1; 64])))
}

fn record(number: u64) -> Record {
    let digest = Digest::of(&number.to_be_bytes());
    Record {
        kind: EntryKind::Accepted,
        delivery: DeliveryId(digest.0),
        attempt: Attempt(1),
        digest,
        sender: Fingerprint([1; 32]),
        recipient: Fingerprint([2; 32]),
    }
}

/// A logbook whose writer is played by the test.
struct Bed {
    book: Logbook,
    jobs: mpsc::Receiver<ToSign>,
    answers: mpsc::Sender<Kept>,
    now: Instant,
}

impl Bed {
    fn new() -> Self {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        let (_, found) = LogDir::open(dir.path(), &key, None, EpochId([7; 16]), Timestamp::now()).unwrap();
        let ((jobs_in, jobs), (answers, kept)) = (mpsc::channel(1), mpsc::channel(1));
        let writer = Writer { jobs: jobs_in, kept };
        Self { book: Logbook::restored(key, LIMITS, found, writer), jobs, answers, now: Instant::now() }
    }

    fn record(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            assert!(self.book.record(record(number), self.now).is_empty());
        }
    }

    fn turn_after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.book.turn(self.now);
    }

    async fn answer(&mut self, kept: Kept) {
        self.answers.try_send(kept).unwrap();
        let kept = self.book.kept().await;
        self.book.take(kept, self.now);
    }

    fn size(&self) -> u64 {
        self.book.view().size()
    }
}

#[tokio::test]
async fn nothing_is_shown_before_the_disk_has_it_and_appending_goes_on_meanwhile() {
    let mut bed = Bed::new();
    bed.record(0..3);
    bed.turn_after(2);
    let job = bed.jobs.try_recv().unwrap();
    assert_eq!((job.part.tree.size(), bed.size()), (3, 0));
    bed.record(3..5);
    bed.turn_after(2);
    assert!(bed.jobs.try_recv().is_err(), "one at a time");
    bed.answer(Ok(job.sign())).await;
    assert_eq!((bed.size(), bed.book.waiting()), (3, 2));
    bed.turn_after(2);
    assert_eq!(bed.jobs.try_recv().unwrap().part.tree.size(), 5);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_an_alarm_and_is_tried_again_until_it_does() {
    let mut bed = Bed::new();
    bed.record(0..3);
    for _ in 0..3 {
        bed.turn_after(2);
        drop(bed.jobs.try_recv().unwrap());
        bed.answer(Err("entries: no space left".to_owned())).await;
        assert!(bed.book.deadline().unwrap() > bed.now, "not at once");
        bed.book.turn(bed.now);
        assert!(bed.jobs.try_recv().is_err());
        assert_eq!(bed.size(), 0, "nothing is signed");
        let [alarm] = &bed.book.alarms()[..] else { panic!("{:?}", bed.book.alarms()) };
        assert!(alarm.contains("no space left") && alarm.contains("entries wait"), "{alarm}");
        bed.record(3..6);
    }
    bed.turn_after(2);
    let job = bed.jobs.try_recv().unwrap();
    bed.answer(Ok(job.sign())).await;
    assert_eq!((bed.size(), bed.book.alarms().len()), (12, 0));
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_an_alarm_and_waited_for() {
    let mut bed = Bed::new();
    bed.record(0..1);
    bed.turn_after(2);
    let job = bed.jobs.try_recv().unwrap();
    assert_eq!(bed.book.deadline(), Some(bed.now + SLOW));
    bed.turn_after(11);
    assert_eq!((bed.book.alarms().len(), bed.book.deadline()), (1, None));
    bed.answer(Ok(job.sign())).await;
    assert_eq!((bed.size(), bed.book.alarms().len()), (1, 0));
}

#[tokio::test]
async fn a_full_epoch_waits_for_the_disk_and_loses_nothing_until_there_is_too_much() {
    let mut bed = Bed::new();
    bed.record(0..1000);
    bed.record(1000..1001);
    let job = bed.jobs.try_recv().unwrap();
    assert!(job.next.is_some(), "the epoch ends");
    bed.answer(Err("full".to_owned())).await;
    let parked = PARKED_MAX as u64;
    bed.record(1001..1000 + parked + 5);
    assert_eq!(bed.book.json()["skipped"], 5);
    assert!(
        bed.book.alarms().iter().any(|alarm| alarm.contains("found no place")),
        "{:?}",
        bed.book.alarms()
    );
    // What was parked is more than the next epoch takes: it ends at once, and so on, a head each.
    let mut epochs = 0;
    while bed.book.waiting() > 0 {
        bed.turn_after(2);
        let job = bed.jobs.try_recv().unwrap();
        epochs += u64::from(job.next.is_some());
        bed.answer(Ok(job.sign())).await;
    }
    // Each of them begins with links of the earlier ones.
    assert!(epochs > parked / 1000, "{epochs}");
}

#[tokio::test]
async fn the_end_of_the_process_waits_for_a_last_head() {
    let mut bed = Bed::new();
    bed.record(0..2);
    bed.turn_after(2);
    let Bed { mut book, mut jobs, answers, .. } = bed;
    let now = Instant::now();
    for number in 2..5 {
        book.record(record(number), now);
    }
    let disk = tokio::spawn(async move {
        let mut sizes = Vec::new();
        while let Some(job) = jobs.recv().await {
            sizes.push(job.part.tree.size());
            answers.send(Ok(job.sign())).await.unwrap();
        }
        sizes
    });
    book.finish().await;
    assert_eq!(book.view().size(), 5);
    drop(book);
    assert_eq!(disk.await.unwrap(), [2, 5]);
}

#[test]
fn a_log_in_memory_needs_nobody() {
    let mut book = Logbook::in_memory(key(), LIMITS);
    let now = Instant::now();
    for number in 0..1500 {
        book.record(record(number), now);
    }
    book.turn(now + LIMITS.interval * 2);
    let view = book.view();
    assert_eq!(
        (view.size(), view.unsigned(), view.previous().len()),
        (501, 0, 1),
        "one link, then what came"
    );
    assert_eq!(book.json()["durable"], false);
    assert_ne!(view.checkpoint().head().root, LogTree::new().root());
}
