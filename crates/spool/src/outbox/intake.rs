//! Receiving: CUSTODY, "Order of durable writes". fdatasync of the bodies and fsync of their folder, one
//! transaction, answers. One thread flushes for all callers that wait; while it flushes the next group the
//! index's thread commits the one before.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

use base::Timestamp;
use tokio::sync::oneshot;

use crate::{
    AppendError, BodyFile, CommitError, Committed, Decision, IndexKey, NewObject, NewUnspooled, StoreError,
    db::JobError,
    faults::Kind,
    outbox::{
        flush::Flushers,
        place::{self, HeldParts, Prepared},
        shared::{Context, Inner},
    },
};

/// The most objects whose flushes share a folder flush.
const GROUP_MAX: usize = 128;

type Outcome = Result<Committed, CommitError>;

#[derive(Debug)]
struct Request {
    body: BodyFile,
    new: NewObject,
    now: Timestamp,
    answer: oneshot::Sender<Outcome>,
}

/// The thread that flushes.
#[derive(Debug)]
pub(crate) struct Intake {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Intake {
    pub(crate) fn start(inner: Arc<Inner>) -> io::Result<Self> {
        let flushers = Flushers::start()?;
        let (requests, queue) = mpsc::channel::<Request>();
        let thread = thread::Builder::new().name("spool-flush".to_owned()).spawn(move || {
            while let Ok(first) = queue.recv() {
                let mut group = vec![first];
                group.extend(queue.try_iter().take(GROUP_MAX - 1));
                take_over(&inner, &flushers, group);
            }
        })?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    pub(crate) async fn commit(&self, body: BodyFile, new: NewObject, now: Timestamp) -> Outcome {
        let stopped = || CommitError::Store(StoreError::Failed("the flushing thread has ended".to_owned()));
        let (answer, answered) = oneshot::channel();
        let request = Request { body, new, now, answer };
        self.requests.as_ref().ok_or_else(stopped)?.send(request).map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn take_over(inner: &Arc<Inner>, flushers: &Flushers, requests: Vec<Request>) {
    let mut group = Vec::with_capacity(requests.len());
    for mut request in requests {
        match request.body.write_rest() {
            Ok(()) => group.push(request),
            // A write that fails (the disk is full, mostly) is this body's alone: it is dropped.
            Err(error) => {
                let Request { body, answer, .. } = request;
                drop(body);
                let _ = answer.send(Err(match error {
                    AppendError::Full => StoreError::Full.into(),
                    AppendError::Io(error) => CommitError::NotWritten(error.to_string()),
                }));
            }
        }
    }
    if group.is_empty() {
        return;
    }
    let flushed = inner.db.health.intake().and_then(|()| {
        let bodies = group.iter().map(|request| request.body.to_sync()).collect();
        flushers.flush(&inner.bodies, bodies).map_err(|error| {
            let why = format!("a body could not be flushed: {error}");
            inner.db.health.fail_intake(why.clone());
            StoreError::Failed(why)
        })
    });
    for request in group {
        match &flushed {
            Ok(()) => store(inner, request),
            // Not retried: a second fsync may answer success for pages that the first one lost. The body is
            // dropped, and with it removed.
            Err(error) => {
                let _ = request.answer.send(Err(error.clone().into()));
            }
        }
    }
}

fn store(inner: &Arc<Inner>, request: Request) {
    let Request { body, new, now, answer } = request;
    let object = body.object();
    let held_len = body.len();
    let context = Arc::clone(&inner.context);
    let run = move |connection: &rusqlite::Connection| {
        if new.sealed.sealed_len != held_len {
            return Err(JobError::Own(CommitError::Object(object)));
        }
        // Wrapped here, on the index's thread: a rotation of the key cannot come between.
        let prepared = prepare(&context, object, new)?;
        place::place(connection, &prepared, &context.config, now)
    };
    inner.db.writer.submit(Kind::Intake, run, move |outcome: Outcome| {
        match &outcome {
            Ok(committed)
                if committed.placed.iter().all(|one| matches!(one.decision, Decision::Joined { .. })) =>
            {
                drop(body);
            }
            Ok(_) => body.keep(),
            // Whether there is a row is for the next start to see.
            Err(CommitError::Store(StoreError::Failed(_) | StoreError::Damaged(_))) => body.leave(),
            Err(_) => drop(body),
        }
        let _ = answer.send(outcome);
    });
}

fn prepare(
    context: &Context,
    object: base::ObjectId,
    new: NewObject,
) -> Result<Prepared, JobError<CommitError>> {
    let key = context.keys.current();
    let sealed = || JobError::Own(CommitError::Object(object));
    let held = HeldParts {
        wrapped_key: key.wrap(object, &new.content_key).map_err(|_| sealed())?,
        record: key.seal_record(object, &new.record.encode()).map_err(|_| sealed())?,
    };
    Ok(Prepared {
        object,
        held: Some(held),
        hashes: new.record.hashes(&context.index_key),
        sop_class: new.record.meta.sop_class,
        sealed: new.sealed,
        deliveries: new.deliveries,
        changed_content: new.changed_content,
        received_at: new.received_at,
    })
}

pub(crate) fn prepare_unspooled(new: NewUnspooled, index_key: &IndexKey) -> Prepared {
    let mut delivery = new.delivery;
    delivery.cut_through = true;
    Prepared {
        object: new.object,
        held: None,
        hashes: new.record.hashes(index_key),
        sop_class: new.record.meta.sop_class,
        sealed: new.sealed,
        deliveries: vec![delivery],
        changed_content: new.changed_content,
        received_at: new.received_at,
    }
}
