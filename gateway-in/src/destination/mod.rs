//! Where instances go. A destination takes an [`Instance`] and says what came of it; it knows nothing
//! of relays, envelopes and receipts.

mod dial;
mod dicom;
mod dispatch;
mod echo;
mod folder;
mod health;
mod probe;
mod queue;
mod slots;
mod stow;

use std::{io, pin::Pin, sync::Arc, time::Duration};

use base::{AeTitle, DeliveryId, InstanceMeta, Name, Phi, Status, Uid};
use enquiry::EchoAnswer;
use ledger::Remark;
use spool::{InboundError, Sent};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use wire::Urgency;

pub use self::stow::{StowDestination, echo_stow};
use crate::{
    body::{Body, Incomplete, Verified},
    change::{Changed, Refusal, Wanted},
    config::{DestinationSettings, Target},
};
pub(crate) use dial::{dial, tracer};
pub use dicom::DicomDestination;
pub use echo::echo_dicom;
pub use folder::{Folder, FolderError, Stored};
pub use health::{Changes, Health, HealthState};
pub use probe::{Ahead, ProbeFailed, probe};

/// One instance on its way to a destination.
#[derive(Debug)]
pub struct Instance {
    /// Which delivery this is.
    pub delivery: DeliveryId,
    /// The pinned entry of its sender: associations are never shared between senders.
    pub sender: Name,
    /// Whether it goes before others, or after them.
    pub urgency: Urgency,
    /// What travels beside the data set.
    pub meta: InstanceMeta,
    /// Instances of one study go over one association, in their order.
    pub study: Option<Phi<Uid>>,
    /// The opened data set.
    pub body: Body,
    /// What is changed of it.
    pub wanted: Wanted,
    /// The attempt row, which must be durable before the last fragment leaves.
    pub recorded: Recorded,
    /// Ends with the sender's wish to take the instance back; honoured until the last fragment leaves.
    pub cancel: CancellationToken,
}

/// The attempt row on its way to the disk, so that nobody waits for it before he must.
#[derive(Debug)]
pub struct Recorded(pub JoinHandle<Result<Sent, InboundError>>);

/// The attempt could not be recorded: its last fragment must not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the attempt could not be recorded")]
pub struct NotRecorded;

impl Recorded {
    /// Waits until the row is durable. After a crash it says that we do not know the outcome.
    pub async fn durable(&mut self) -> Result<Sent, NotRecorded> {
        match (&mut self.0).await {
            Ok(Ok(sent)) => Ok(sent),
            Ok(Err(error)) => {
                warn!(%error, "attempt could not be recorded");
                Err(NotRecorded)
            }
            Err(_) => Err(NotRecorded),
        }
    }
}

/// What came of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination answered.
    Answered {
        /// What it said.
        answer: Answer,
        /// What is known of the body.
        verified: Verified,
        /// An earlier attempt of ours may have stored it.
        maybe_stored: bool,
        /// What was changed of the data set, where anything was.
        changed: Option<Box<Changed>>,
    },
    /// We did not hand it over: it cannot be changed as its destination needs it.
    Refused {
        /// Why.
        refusal: Refusal,
        /// What is known of the body.
        verified: Verified,
    },
    /// It could not be asked, or did not answer.
    NotAnswered(NotAnswered),
    /// The body was abandoned or did not verify; nothing complete has left.
    Incomplete,
    /// The sender took it back in time.
    Cancelled,
}

/// A destination's answer. Its error comment may name a patient and stays behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The C-STORE status; success for a file that is written.
    pub status: Status,
    /// Something an auditor should know.
    pub remark: Option<Remark>,
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self { status, remark: None }
    }
}

/// Why a destination gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswered {
    /// No connection.
    #[error("the destination cannot be reached")]
    Unreachable,
    /// A-ASSOCIATE-RJ, permanent: somebody forgot to enter our AE title.
    #[error(
        "the destination rejects our association for good (result 1, source {source_code}, reason {reason})"
    )]
    RejectedPermanent {
        /// PS3.8 Table 9-21, source.
        source_code: u8,
        /// PS3.8 Table 9-21, reason.
        reason: u8,
    },
    /// A-ASSOCIATE-RJ, transient.
    #[error("the destination rejects our association for now (source {source_code}, reason {reason})")]
    RejectedTransient {
        /// PS3.8 Table 9-21, source.
        source_code: u8,
        /// PS3.8 Table 9-21, reason.
        reason: u8,
    },
    /// The association or connection ended before the last fragment had left.
    #[error("the association or connection ended before the instance was sent")]
    Interrupted,
    /// It ended, or time ran out, after the last fragment had left: it may be stored.
    #[error("no answer after the instance was sent; it may be stored")]
    Unknown,
    /// A web service refuses what we ask it, whatever instance it is about: somebody has to mend a URL or credentials.
    #[error("the web service refuses our requests (HTTP status {http})")]
    Fault {
        /// RFC 9110 §15.
        http: u16,
    },
    /// A web service cannot serve now.
    #[error("the web service takes no requests for now (HTTP status {http})")]
    Busy {
        /// RFC 9110 §15.
        http: u16,
    },
    /// Our own disk said no.
    #[error("the folder does not take files")]
    Folder,
}

impl NotAnswered {
    /// One of each kind, for tables and tests.
    pub const KINDS: [Self; 8] = [
        Self::Unreachable,
        Self::RejectedPermanent { source_code: 1, reason: 3 },
        Self::RejectedTransient { source_code: 3, reason: 2 },
        Self::Interrupted,
        Self::Unknown,
        Self::Fault { http: 401 },
        Self::Busy { http: 503 },
        Self::Folder,
    ];
}

/// A running destination.
#[derive(Debug)]
pub struct Destination {
    /// The checked table.
    pub settings: Arc<DestinationSettings>,
    /// Up or down.
    pub health: Health,
    kind: Running,
    echo: echo::Echoes,
}

#[derive(Debug)]
enum Running {
    Dicom(DicomDestination),
    Folder(Folder, Arc<Semaphore>),
    Stow(StowDestination),
}

/// Files that one folder destination writes at one time.
const FILES_AT_ONCE: usize = 8;

impl Destination {
    /// Opens a destination; its tasks end when it is dropped or the tasks are told to stop.
    pub fn open(
        settings: &Arc<DestinationSettings>,
        changes: &Changes,
        tasks: &mut service::Tasks,
    ) -> io::Result<Self> {
        let health = Health::new(changes);
        let kind = match &settings.target {
            Target::Folder(dir) => {
                Running::Folder(Folder::open(dir)?, Arc::new(Semaphore::new(FILES_AT_ONCE)))
            }
            Target::Dicom(target) => {
                Running::Dicom(DicomDestination::start(&settings.name, target, &health, tasks))
            }
            Target::Stow(target) => {
                let status = &settings.status;
                Running::Stow(StowDestination::start(&settings.name, target, status, &health, tasks))
            }
        };
        Ok(Self { settings: Arc::clone(settings), health, kind, echo: echo::Echoes::default() })
    }

    /// Whether it answers now. An answer of the last second counts, so that nobody can have it hammered.
    pub async fn echo(&self, calling: Option<AeTitle>, within: Duration) -> EchoAnswer {
        self.echo.ask(self, calling, within).await
    }

    /// The pool of associations, where it has one.
    pub fn dicom(&self) -> Option<&DicomDestination> {
        match &self.kind {
            Running::Dicom(destination) => Some(destination),
            Running::Folder(..) | Running::Stow(_) => None,
        }
    }

    /// Queues an instance at once, in the order of the calls, and waits for its outcome.
    pub fn store(&self, instance: Instance) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        match &self.kind {
            Running::Dicom(destination) => Box::pin(destination.store(instance)),
            Running::Stow(destination) => Box::pin(destination.store(instance)),
            Running::Folder(folder, slots) => {
                let (name, folder, slots) = (self.settings.name.clone(), folder.clone(), Arc::clone(slots));
                Box::pin(async move {
                    let _slot = slots.acquire_owned().await;
                    store_file(&name, &folder, instance).await
                })
            }
        }
    }
}

/// Nothing of it was stored, and nothing will be. Only draining tells whether the body is good.
async fn refuse(body: &mut Body, refusal: Refusal) -> Outcome {
    match body.drain().await {
        Ok(verified) => Outcome::Refused { refusal, verified },
        Err(Incomplete) => Outcome::Incomplete,
    }
}

async fn store_file(name: &Name, folder: &Folder, mut instance: Instance) -> Outcome {
    // A folder takes every transfer syntax.
    match instance.wanted.change_into(&instance.meta.transfer_syntax) {
        Ok(change) => instance.body.change(change),
        Err(refusal) => return refuse(&mut instance.body, refusal).await,
    }
    let Ok(sent) = instance.recorded.durable().await else {
        return Outcome::NotAnswered(NotAnswered::Interrupted);
    };
    let stored = tokio::select! {
        () = instance.cancel.cancelled() => return Outcome::Cancelled,
        stored = folder.store(instance.delivery, &instance.meta, &mut instance.body) => stored,
    };
    let remark = match stored {
        Ok(Stored::New) => None,
        Ok(Stored::Identical) => Some(Remark::AlreadyThere),
        Ok(Stored::Numbered(number)) => {
            warn!(destination = %name, delivery = %instance.delivery.short(), number, "another data set of this instance was there; the new one is numbered");
            Some(Remark::Numbered)
        }
        Err(FolderError::Incomplete(_)) => return Outcome::Incomplete,
        Err(FolderError::Refused(refusal)) => return refuse(&mut instance.body, refusal).await,
        Err(error) => {
            warn!(destination = %name, delivery = %instance.delivery.short(), %error, "file not written");
            return Outcome::NotAnswered(NotAnswered::Folder);
        }
    };
    match instance.body.verified() {
        Ok(verified) => Outcome::Answered {
            answer: Answer { status: Status::SUCCESS, remark },
            verified,
            maybe_stored: sent.maybe_stored,
            changed: instance.body.changed().cloned().map(Box::new),
        },
        Err(_) => Outcome::Incomplete,
    }
}
