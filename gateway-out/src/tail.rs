//! A sealed body as the uplink reads it.

use std::sync::Arc;

use base::Digest;
use bytes::Bytes;
use spool::BodyReader;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::block_in_place,
};
use tracing::error;
use transport::{BodyPiece, BodySource, WholeBody};

/// How far the uplink may read a body that is still being written. The final chunk lies beyond
/// [`Progress::Growing`] until every check has passed and the commit is durable (CUSTODY, "Nothing
/// leaves before its verdict").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes may leave.
    Growing(u64),
    /// The body has this length and digest, and all of it may leave.
    Complete(u64, Digest),
    /// It will never be complete.
    Abandoned,
}

/// Reads an outbox file, as far as its writer has released it. The file decouples the PACS from a
/// slow uplink without any buffer of ours.
#[derive(Debug)]
pub struct Tail {
    reader: BodyReader,
    progress: watch::Receiver<Progress>,
    offset: u64,
}

impl Tail {
    /// A body that is still being written.
    pub fn growing(reader: BodyReader, progress: watch::Receiver<Progress>) -> Self {
        Self { reader, progress, offset: 0 }
    }

    /// A body that lies complete in the outbox.
    pub fn complete(reader: BodyReader, len: u64, digest: Digest) -> Self {
        Self::growing(reader, watch::channel(Progress::Complete(len, digest)).1)
    }

    /// How it ends, to be asked after the body has been handed over.
    pub fn committed(&self) -> WillCommit {
        WillCommit(self.progress.clone())
    }

    fn read(&mut self, released: u64, max: usize) -> BodyPiece {
        let left = usize::try_from(released.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let mut buffer = vec![0u8; left.min(max)];
        match block_in_place(|| self.reader.read_exact_at(&mut buffer, self.offset)) {
            Ok(()) => {
                self.offset += buffer.len() as u64;
                BodyPiece::Data(buffer.into())
            }
            Err(error) => {
                error!(%error, "sealed body cannot be read");
                BodyPiece::Abandon
            }
        }
    }
}

/// Tells whether a growing body was committed.
#[derive(Debug)]
pub struct WillCommit(watch::Receiver<Progress>);

impl WillCommit {
    /// Waits until that is decided.
    pub async fn wait(mut self) -> bool {
        let decided = |progress: &Progress| !matches!(progress, Progress::Growing(_));
        matches!(self.0.wait_for(decided).await.as_deref(), Ok(Progress::Complete(..)))
    }
}

impl BodySource for Tail {
    async fn next(&mut self, max: usize) -> BodyPiece {
        loop {
            let progress = *self.progress.borrow_and_update();
            match progress {
                Progress::Growing(released) | Progress::Complete(released, _) if self.offset < released => {
                    return self.read(released, max);
                }
                Progress::Complete(_, digest) => return BodyPiece::End(digest),
                Progress::Abandoned => return BodyPiece::Abandon,
                Progress::Growing(_) => {}
            }
            if self.progress.changed().await.is_err() {
                return BodyPiece::Abandon;
            }
        }
    }
}

/// Small bodies that are kept in memory at one time, between their first byte and the relay. With
/// [`SMALL_BODY_BYTES`] each, they are all that this way needs.
const SMALL_BODIES_MAX: usize = 16;
/// A sealed body up to this length is written in one piece, by the thread that flushes it, and is not read
/// back for the relay.
pub const SMALL_BODY_BYTES: usize = 1 << 20;

/// The places of small bodies.
#[derive(Debug)]
pub struct Memory(Arc<Semaphore>);

/// One place; free again when dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SMALL_BODIES_MAX)))
    }
}

impl Memory {
    /// A place, if one is free: nobody waits for it.
    pub fn place(&self) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(Place)
    }
}

/// A committed body, as the uplink reads it.
#[derive(Debug)]
pub enum Committed {
    /// From memory.
    Small(WholeBody, Arc<Place>),
    /// From the outbox's file.
    File(Tail),
}

impl BodySource for Committed {
    async fn next(&mut self, max: usize) -> BodyPiece {
        match self {
            Self::Small(body, _) => body.next(max).await,
            Self::File(tail) => tail.next(max).await,
        }
    }
}

/// Pieces of a [`Pipe`] that wait for the uplink; then the PACS waits.
const PIPE_PIECES_MAX: usize = 16;

/// A sealed body that is kept nowhere (`respond = "delivered"`): what the uplink does not take makes
/// the PACS wait.
#[derive(Debug)]
pub struct Pipe {
    pieces: mpsc::Receiver<BodyPiece>,
    rest: Bytes,
}

impl Pipe {
    /// Both ends. Dropping the writing end before the body's end abandons it.
    pub fn new() -> (mpsc::Sender<BodyPiece>, Self) {
        let (writer, pieces) = mpsc::channel(PIPE_PIECES_MAX);
        (writer, Self { pieces, rest: Bytes::new() })
    }
}

impl BodySource for Pipe {
    async fn next(&mut self, max: usize) -> BodyPiece {
        if self.rest.is_empty() {
            match self.pieces.recv().await {
                Some(BodyPiece::Data(bytes)) => self.rest = bytes,
                Some(other) => return other,
                None => return BodyPiece::Abandon,
            }
        }
        BodyPiece::Data(self.rest.split_to(self.rest.len().min(max)))
    }
}
