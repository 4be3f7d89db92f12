//! A few threads that only flush, so that the flushes of a group are under way together.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

use crate::body::{Bodies, BodySync};

/// Flushes under way at one time: what waits together shares a journal commit of the file system.
const THREADS: usize = 4;

/// One thing to be made durable.
#[derive(Debug)]
enum Flush {
    Body(BodySync),
    Folder(Arc<Bodies>),
}

impl Flush {
    fn run(&self) -> io::Result<()> {
        match self {
            Self::Body(body) => body.sync(),
            Self::Folder(bodies) => bodies.sync_dir(),
        }
    }
}

type Task = (Flush, mpsc::Sender<io::Result<()>>);

#[derive(Debug)]
struct Flusher {
    tasks: Option<mpsc::Sender<Task>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The threads; owned by the one that collects the groups.
#[derive(Debug)]
pub(crate) struct Flushers(Vec<Flusher>);

impl Flushers {
    pub(crate) fn start() -> io::Result<Self> {
        (0..THREADS).map(|_| Flusher::start()).collect::<io::Result<_>>().map(Self)
    }

    /// Flushes bodies and their folder, all before the transaction. They are flushed side by side: the names
    /// are in the folder since the bodies were begun, and a journalling file system then makes all of it
    /// durable with one commit of its journal. The first error is the group's: the disk is not to be trusted.
    pub(crate) fn flush(&self, bodies: &Arc<Bodies>, mut group: Vec<BodySync>) -> io::Result<()> {
        let own = group.pop();
        let (done, outcomes) = mpsc::channel();
        let others =
            std::iter::once(Flush::Folder(Arc::clone(bodies))).chain(group.into_iter().map(Flush::Body));
        for (flush, flusher) in others.zip(self.0.iter().cycle()) {
            flusher.give((flush, done.clone()));
        }
        drop(done);
        // This thread takes its part instead of waiting.
        let first = own.map_or(Ok(()), |body| body.sync());
        // A task that was not run (its thread is gone) sends nothing; `give` has sent the error for it.
        outcomes.into_iter().fold(first, Result::and)
    }
}

impl Flusher {
    fn start() -> io::Result<Self> {
        let (tasks, queue) = mpsc::channel::<Task>();
        let thread = thread::Builder::new().name("spool-fsync".to_owned()).spawn(move || {
            for (flush, done) in queue {
                let _ = done.send(flush.run());
            }
        })?;
        Ok(Self { tasks: Some(tasks), thread: Some(thread) })
    }

    fn give(&self, (flush, done): Task) {
        let refused = match &self.tasks {
            Some(tasks) => tasks.send((flush, done)).err().map(|mpsc::SendError((_, done))| done),
            None => Some(done),
        };
        if let Some(done) = refused {
            let _ = done.send(Err(io::Error::other("a flushing thread has ended")));
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
