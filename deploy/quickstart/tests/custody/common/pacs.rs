//! A PACS: one that sends, and a destination that does what its script says.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use base::{AeTitle, InstanceMeta, Status};
use dimse::{
    AcceptorConfig, Association, AssociationError, Incoming, Proposal, Requestor, RequestorConfig,
    StoragePolicy, StoreRequest, Verdict,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{Sample, ae, soon};

/// What a destination does with one C-STORE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Takes the data set and answers.
    Answer(u16),
    /// Takes the data set, answers 0000, and is gone.
    AnswerAndLeave,
    /// Takes the data set and aborts instead of answering.
    AbortAfter,
    /// Aborts at the first fragment.
    AbortDuring,
    /// Takes the data set and says nothing.
    Silence,
    /// Reads nothing of it.
    Freeze,
    /// Takes the data set and answers 0000 once the test says so.
    Late,
}

/// Something that a destination got.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Which association it came over, counted from 0.
    pub(crate) association: usize,
    pub(crate) meta: InstanceMeta,
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// C-STORE-RQs, complete or not.
    pub(crate) begun: usize,
    /// Those whose data set came to its end, in that order.
    pub(crate) complete: Vec<Stored>,
    /// Calling AE title of each association.
    pub(crate) associations: Vec<AeTitle>,
    /// Associations that did not end by a release.
    pub(crate) broken: usize,
    pub(crate) echoes: usize,
}

type Script = Arc<dyn Fn(&StoreRequest, usize) -> Act + Send + Sync>;
type Door = Arc<dyn Fn(&Proposal) -> Verdict + Send + Sync>;

/// A running destination.
pub(crate) struct Pacs {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    late: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Pacs {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pacs {
    /// Answers 0000 to everything.
    pub(crate) async fn good() -> Self {
        Self::scripted(|_, _| Act::Answer(0)).await
    }

    /// The script gets the request, and how many with this UID came before it.
    pub(crate) async fn scripted(
        script: impl Fn(&StoreRequest, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), script, Self::any()).await
    }

    pub(crate) fn any() -> impl Fn(&Proposal) -> Verdict + Send + Sync + 'static {
        let policy = StoragePolicy { private_sop_classes: true, prefer: Vec::new() };
        move |proposal| Verdict::Accept(policy.decide(proposal).into())
    }

    pub(crate) async fn at(
        address: SocketAddr,
        script: impl Fn(&StoreRequest, usize) -> Act + Send + Sync + 'static,
        door: impl Fn(&Proposal) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let (script, door): (Script, Door) = (Arc::new(script), Arc::new(door));
        let (late, wait) = watch::channel(false);
        let task = tokio::spawn(listen(listener, script, door, Arc::clone(&seen), wait));
        Self { address, seen, late, task }
    }

    /// Lets late answers go.
    pub(crate) fn answer_now(&self) {
        self.late.send_replace(true);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn complete(&self) -> usize {
        self.seen.lock().unwrap().complete.len()
    }
}

async fn listen(
    listener: TcpListener,
    script: Script,
    door: Door,
    seen: Arc<Mutex<Seen>>,
    late: watch::Receiver<bool>,
) {
    let mut associations = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (script, door, seen) = (Arc::clone(&script), Arc::clone(&door), Arc::clone(&seen));
        let late = late.clone();
        associations.spawn(async move {
            let decide = |proposal: &Proposal| door(proposal);
            let Ok(association) = dimse::accept(stream, &AcceptorConfig::default(), &decide).await else {
                return;
            };
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.associations.push(association.calling().clone());
                seen.associations.len() - 1
            };
            if serve(association, number, &script, &seen, late).await.is_err() {
                seen.lock().unwrap().broken += 1;
            }
        });
    }
}

async fn serve(
    mut association: Association,
    number: usize,
    script: &Script,
    seen: &Mutex<Seen>,
    mut late: watch::Receiver<bool>,
) -> Result<(), AssociationError> {
    loop {
        let request = match association.receive().await? {
            Incoming::Echo(echo) => {
                seen.lock().unwrap().echoes += 1;
                association.respond_echo(&echo, Status::SUCCESS).await?;
                continue;
            }
            Incoming::Store(request) => request,
            Incoming::Other(_) => panic!("only C-ECHO and C-STORE are sent"),
            Incoming::Released => return Ok(()),
        };
        let act = {
            let mut seen = seen.lock().unwrap();
            seen.begun += 1;
            let same = |stored: &&Stored| stored.meta.sop_instance == request.meta.sop_instance;
            script(&request, seen.complete.iter().filter(same).count())
        };
        if act == Act::Freeze {
            std::future::pending::<()>().await;
        }
        let mut data = Vec::new();
        while let Some(fragment) = association.data().await? {
            data.extend_from_slice(&fragment);
            if act == Act::AbortDuring {
                association.abort().await;
                return Err(AssociationError::Ended);
            }
        }
        let stored = Stored { association: number, meta: request.meta.clone(), data };
        seen.lock().unwrap().complete.push(stored);
        match act {
            Act::Answer(status) => association.respond_store(&request, Status(status), None).await?,
            Act::AnswerAndLeave => {
                association.respond_store(&request, Status::SUCCESS, None).await?;
                association.abort().await;
                return Ok(());
            }
            Act::AbortAfter => {
                association.abort().await;
                return Err(AssociationError::Ended);
            }
            Act::Late => {
                let _ = late.wait_for(|now| *now).await;
                association.respond_store(&request, Status::SUCCESS, None).await?;
            }
            Act::Silence | Act::AbortDuring | Act::Freeze => {}
        }
    }
}

/// An association of the sending PACS.
pub(crate) struct Scu(pub(crate) Requestor);

impl Scu {
    pub(crate) async fn open(to: SocketAddr, called: &str, samples: &[Sample]) -> Self {
        let mut contexts = Vec::new();
        for sample in samples {
            let pair = (sample.meta.sop_class.clone(), sample.meta.transfer_syntax.clone());
            if !contexts.contains(&pair) {
                contexts.push(pair);
            }
        }
        let calling = samples.first().unwrap().meta.calling.clone();
        let config = RequestorConfig::new(calling, ae(called), contexts);
        Self(soon("an association", Requestor::connect(to, config)).await.unwrap())
    }

    pub(crate) async fn store(&mut self, sample: &Sample) -> u16 {
        self.0.store_begin(&sample.meta).await.unwrap();
        self.0.store_data(sample.data.clone()).await.unwrap();
        soon("a C-STORE response", self.0.store_finish()).await.unwrap().status.0
    }
}

/// Sends over one association and says what was answered.
pub(crate) async fn send(to: SocketAddr, called: &str, samples: &[Sample]) -> Vec<u16> {
    let mut scu = Scu::open(to, called, samples).await;
    let mut answers = Vec::new();
    for sample in samples {
        answers.push(scu.store(sample).await);
    }
    scu.0.release().await;
    answers
}
