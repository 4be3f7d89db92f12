//! The ports on which destinations report on associations of their own: they call us, and are SCP all the same (PS3.4 J.3.3).

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use base::{AeTitle, Name};
use dimse::{
    AcceptError, AcceptorConfig, Admission, Association, AssociationError, ContextChoice, ContextDecision,
    ContextRejection, Doorkeeper, EXPLICIT_VR_LITTLE_ENDIAN, EventReportRequest, IMPLICIT_VR_LITTLE_ENDIAN,
    Incoming, Normalized, OtherRequest, Proposal, ProposedContext, RejectReason, STORAGE_COMMITMENT, Terms,
    Timers, VERIFICATION, Verdict,
};
use spool::{Inbound, LedgerKey};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    ask::answer,
    told::{Reports, UNREADABLE},
};
use crate::config::{DestinationSettings, Target};

/// Associations at one time; more wait in their connections.
const ASSOCIATIONS_MAX: usize = 32;
/// An association without a message for this long ends.
const IDLE: Duration = Duration::from_secs(120);
/// The longest report: 100,000 instances need less.
const REPORT_BYTES_MAX: usize = 16 << 20;
/// After an error of the listener.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// What is not offered (PS3.7 C.5.26).
pub(crate) const NOT_OFFERED: base::Status = base::Status(0x0211);

/// Where destinations report.
#[derive(Debug, Default)]
pub struct Ports {
    /// Without TLS.
    pub plain: Option<TcpListener>,
    /// With TLS, and its certificates.
    pub tls: Option<(TcpListener, Doorkeeper)>,
}

impl Ports {
    async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr, Option<&Doorkeeper>)> {
        let plain = async {
            match &self.plain {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let secure = async {
            match &self.tls {
                Some((listener, keeper)) => (listener.accept().await, keeper),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = plain => accepted.map(|(stream, peer)| (stream, peer, None)),
            (accepted, keeper) = secure => accepted.map(|(stream, peer)| (stream, peer, Some(keeper))),
        }
    }
}

/// Who may report, and where that is kept.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) inbound: Inbound,
    pub(super) key: Arc<LedgerKey>,
    /// Those that are asked.
    pub(super) destinations: Vec<Arc<DestinationSettings>>,
}

/// Accepts until `stop` ends. A report that is under way then is answered, or comes again.
pub(super) async fn run(desk: Arc<Desk>, ports: Ports, stop: CancellationToken) -> Result<(), Infallible> {
    let mut associations = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = associations.join_next(), if !associations.is_empty() => continue,
            accepted = ports.accept(), if associations.len() < ASSOCIATIONS_MAX => accepted,
        };
        match accepted {
            // A stranger gets no association, and no handshake either.
            Ok((_, peer, _)) if !desk.expects(peer) => {
                warn!(%peer, "a connection to the port for commitment reports from an address that no destination reports from");
            }
            Ok((stream, peer, keeper)) => {
                let (desk, keeper, stop) = (Arc::clone(&desk), keeper.cloned(), stop.clone());
                associations.spawn(async move { serve(&desk, stream, peer, keeper, &stop).await });
            }
            Err(error) => {
                warn!(%error, "no connection of a destination can be accepted for the moment");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(ports);
    while associations.join_next().await.is_some() {}
    Ok(())
}

async fn serve(
    desk: &Desk,
    stream: TcpStream,
    peer: SocketAddr,
    keeper: Option<Doorkeeper>,
    stop: &CancellationToken,
) {
    let config =
        AcceptorConfig { timers: Timers { idle: IDLE, ..Timers::default() }, ..AcceptorConfig::default() };
    let accepting = async {
        match keeper {
            Some(keeper) => dimse::accept_tls(stream, &keeper.now(), &config, desk).await,
            None => dimse::accept(stream, &config, desk).await,
        }
    };
    let accepted = tokio::select! {
        accepted = accepting => accepted,
        () = stop.cancelled() => return,
    };
    let mut association = match accepted {
        Ok(association) => association,
        Err(error @ (AcceptError::Tls(_) | AcceptError::Rejected(_))) => {
            warn!(%peer, %error, "no association for a commitment report");
            return;
        }
        Err(error) => {
            debug!(%peer, %error, "no association for a commitment report");
            return;
        }
    };
    match desk.reports(&mut association, stop).await {
        Ok(()) => {}
        Err(error) => info!(%peer, %error, "an association of a destination ended"),
    }
}

impl Admission for Desk {
    fn decide(&self, proposal: &Proposal) -> Verdict {
        let Err(reason) = self.speaking_for(&proposal.calling, &proposal.called, proposal.peer) else {
            let contexts = proposal.contexts.iter().map(choose).collect();
            let scp_roles = vec![dimse::storage_commitment()];
            return Verdict::Accept(Terms { contexts, scp_roles, ..Terms::default() });
        };
        warn!(calling = %proposal.calling, called = %proposal.called, peer = %proposal.peer, ?reason, "rejected: only destinations that are asked may report, from their addresses, under the titles that asked");
        Verdict::Reject(reason)
    }
}

impl Desk {
    /// Whether a destination that is asked reports from there.
    fn expects(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        let asked = self.destinations.iter().filter_map(|settings| settings.commitment.as_ref());
        asked.into_iter().any(|ask| ask.from.contains(&ip))
    }

    /// Destinations in whose name this peer may report.
    fn speaking_for(
        &self,
        calling: &AeTitle,
        called: &AeTitle,
        peer: SocketAddr,
    ) -> Result<Vec<(Name, Duration)>, RejectReason> {
        let mut known = false;
        let mut names = Vec::new();
        for settings in &self.destinations {
            let (Target::Dicom(target), Some(ask)) = (&settings.target, &settings.commitment) else {
                continue;
            };
            if target.ae != *calling || !ask.from.contains(&peer.ip().to_canonical()) {
                continue;
            }
            known = true;
            if target.calling.as_ref().is_none_or(|title| title == called) {
                names.push((settings.name.clone(), ask.again_after()));
            }
        }
        match (known, names.is_empty()) {
            (false, _) => Err(RejectReason::CallingAeTitleNotRecognized),
            (true, true) => Err(RejectReason::CalledAeTitleNotRecognized),
            (true, false) => Ok(names),
        }
    }

    async fn reports(
        &self,
        association: &mut Association,
        stop: &CancellationToken,
    ) -> Result<(), AssociationError> {
        let (calling, called) = (association.calling().clone(), association.called().clone());
        let destinations = self.speaking_for(&calling, &called, association.peer()).unwrap_or_default();
        let reports = Reports { inbound: &self.inbound, key: &self.key, destinations: &destinations };
        loop {
            let incoming = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                incoming = association.receive() => incoming?,
            };
            match incoming {
                Incoming::Echo(request) => association.respond_echo(&request, base::Status::SUCCESS).await?,
                Incoming::Other(request) => self.other(association, &request, &reports).await?,
                Incoming::Store(request) => association.respond_store(&request, NOT_OFFERED, None).await?,
                Incoming::Released => return Ok(()),
            }
        }
    }

    async fn other(
        &self,
        association: &mut Association,
        request: &OtherRequest,
        reports: &Reports<'_>,
    ) -> Result<(), AssociationError> {
        let Some(Normalized::EventReport(report)) = request.normalized() else {
            return association.respond_other(request, NOT_OFFERED).await;
        };
        let context = association.contexts().iter().find(|context| context.id == report.context);
        let syntax = context.map(|context| context.transfer_syntax.clone());
        let taken = match (read(association, &report).await?, syntax) {
            (Some(data), Some(syntax)) => reports.take(&report, &data, &syntax).await,
            _ => Err(UNREADABLE),
        };
        let (status, comment) = answer(taken);
        association.respond_event_report(&report, status, comment).await
    }
}

/// The whole data set, as far as it is within bounds.
async fn read(
    association: &mut Association,
    report: &EventReportRequest,
) -> Result<Option<Vec<u8>>, AssociationError> {
    let mut data = Vec::new();
    if !report.has_data_set {
        return Ok(None);
    }
    while let Some(fragment) = association.data().await? {
        if data.len() + fragment.len() > REPORT_BYTES_MAX {
            return Ok(None);
        }
        data.extend_from_slice(&fragment);
    }
    Ok(Some(data))
}

/// Storage Commitment in what is read here; C-ECHO, so that somebody can try the way.
fn choose(context: &ProposedContext) -> ContextDecision {
    let known = [STORAGE_COMMITMENT, VERIFICATION].contains(&context.abstract_syntax.as_str());
    let readable =
        |uid: &&base::Uid| [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN].contains(&uid.as_str());
    let choice = match (known, context.transfer_syntaxes.iter().find(readable)) {
        (false, _) => ContextChoice::Reject(ContextRejection::AbstractSyntaxNotSupported),
        (true, Some(uid)) => ContextChoice::Accept(uid.clone()),
        (true, None) => ContextChoice::Reject(ContextRejection::TransferSyntaxesNotSupported),
    };
    ContextDecision { id: context.id, choice }
}
