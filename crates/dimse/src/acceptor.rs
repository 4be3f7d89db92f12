//! The SCP side: accepting an association and serving its messages.

mod incoming;
mod normalized;

use std::{net::SocketAddr, time::Duration};

use base::{AeTitle, InstanceMeta, MoveOriginator, Phi, Priority, Status};
use bytes::Bytes;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tracing::debug;

use crate::{
    AbortReason, Violation,
    admission::{AcceptedContext, Admission, Implementation, RejectReason, RoleSelection, Verdict},
    associate::{self, Granted, Own, Request, RequestError},
    command::{CommandSet, CommandWriter, element, field},
    failure::{AcceptError, AssociationError, TimedOut},
    fragment::command_pdus,
    framing::{Frame, Phase, pdu_type},
    limits::{MAX_PDU_DEFAULT, MAX_PDU_MAX, MAX_PDU_MIN},
    link::{Link, Outgoing, Patience, Socket},
    message::{Assembler, ContextIds, Event},
    refusals::UnusableStore,
    sop_class::VERIFICATION,
    tls::{TlsAcceptor, TlsFailure},
    user_information::{AsyncWindow, UserIdentity},
};

pub use incoming::{EchoRequest, Incoming, OtherRequest, StoreRequest};

/// How associations are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptorConfig {
    /// The longest P-DATA-TF that is announced and accepted, [`MAX_PDU_MIN`] to [`MAX_PDU_MAX`] bytes, or 0
    /// for any. What is buffered does not grow with it. Other values are taken as the nearest allowed one.
    pub max_pdu: u32,
    /// How long a peer may take.
    pub timers: Timers,
    /// Operations that a requestor may have outstanding, where it asks for that; 0 is any number. They are served one
    /// after another, in their order: what is outstanding waits in the connection and costs no memory. Default 1.
    pub async_operations: u16,
}

impl Default for AcceptorConfig {
    fn default() -> Self {
        Self { max_pdu: MAX_PDU_DEFAULT, timers: Timers::default(), async_operations: 1 }
    }
}

/// How long a peer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// From the connection to the A-ASSOCIATE-AC, all in all. Default 30 s.
    pub handshake: Duration,
    /// Without a message. Default 10 min.
    pub idle: Duration,
    /// For one PDU (for each MiB of a longer one), for a whole command set, and between the PDUs of one
    /// message; also for taking one of our answers. Default 60 s.
    pub progress: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(30),
            idle: Duration::from_secs(600),
            progress: Duration::from_secs(60),
        }
    }
}

/// Accepts or rejects an association on a new connection.
pub async fn accept(
    stream: TcpStream,
    config: &AcceptorConfig,
    admission: &dyn Admission,
) -> Result<Association, AcceptError> {
    let peer = stream.peer_addr().map_err(AssociationError::from)?;
    stream.set_nodelay(true).map_err(AssociationError::from)?;
    accept_on(Box::new(stream), peer, config, config.timers.handshake, admission).await
}

/// The same over TLS. The time for the handshake is for both together.
pub async fn accept_tls(
    stream: TcpStream,
    tls: &TlsAcceptor,
    config: &AcceptorConfig,
    admission: &dyn Admission,
) -> Result<Association, AcceptError> {
    let (limit, started) = (config.timers.handshake, Instant::now());
    let peer = stream.peer_addr().map_err(AssociationError::from)?;
    stream.set_nodelay(true).map_err(AssociationError::from)?;
    let Ok(stream) = timeout(limit, tls.accept(stream)).await else {
        return Err(AcceptError::TimedOut(limit));
    };
    let stream = stream.map_err(TlsFailure::from)?;
    let left = limit.saturating_sub(started.elapsed());
    accept_on(Box::new(stream), peer, config, left, admission).await
}

pub(crate) async fn accept_on(
    socket: Box<dyn Socket>,
    peer: SocketAddr,
    config: &AcceptorConfig,
    limit: Duration,
    admission: &dyn Admission,
) -> Result<Association, AcceptError> {
    let max_pdu = if config.max_pdu == 0 { 0 } else { config.max_pdu.clamp(MAX_PDU_MIN, MAX_PDU_MAX) };
    let mut link = Link::new(socket, Phase::Request, max_pdu, limit);
    link.watched_by(admission.onlooker(peer));
    let async_window = AsyncWindow { invoked: config.async_operations, performed: 1 };
    let own = Own { max_pdu, async_window };
    let end = match timeout(limit, negotiate(&mut link, peer, own, admission)).await {
        Ok(Ok((request, granted))) => {
            link.establish(config.timers.progress);
            return Ok(Association::new(link, request, granted, config.timers));
        }
        Err(_) | Ok(Err(End::Failed(AssociationError::TimedOut(_)))) => End::TimedOut,
        Ok(Err(end)) => end,
    };
    Err(match end {
        End::Reject(reason) => {
            link.end_with(associate::reject(reason).map_err(AssociationError::from)?).await;
            AcceptError::Rejected(reason)
        }
        End::TimedOut => {
            link.end_with(associate::abort(Some(AbortReason::NotSpecified))).await;
            AcceptError::TimedOut(config.timers.handshake)
        }
        End::Failed(error) => AcceptError::Failed(link.fail(error).await),
    })
}

/// How a handshake ends without an association.
enum End {
    Reject(RejectReason),
    TimedOut,
    Failed(AssociationError),
}

impl<E: Into<AssociationError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn negotiate(
    link: &mut Link,
    peer: SocketAddr,
    own: Own,
    admission: &dyn Admission,
) -> Result<(Request, Granted), End> {
    let body = match link.frame(Patience::Progress, true).await? {
        Frame::Control { pdu_type: pdu_type::ASSOCIATE_RQ, body } => body,
        Frame::Control { pdu_type, .. } => return Err(Violation::UnexpectedPdu(pdu_type).into()),
        Frame::Pdv(_) => return Err(Violation::UnexpectedPdu(pdu_type::P_DATA).into()),
    };
    let request = match Request::read(&body, peer) {
        Ok(request) => request,
        Err(RequestError::Reject(reason)) => return Err(End::Reject(reason)),
        Err(RequestError::Violation(violation)) => return Err(violation.into()),
    };
    let terms = match admission.decide(&request.proposal) {
        Verdict::Accept(terms) => terms,
        Verdict::Reject(reason) => return Err(End::Reject(reason)),
    };
    let (pdu, granted) = request.accept(&terms, own)?;
    link.write(&mut pdu.into()).await?;
    Ok((request, granted))
}

/// An accepted association. Dropping it before it was released aborts it.
#[derive(Debug)]
pub struct Association {
    link: Link,
    assembler: Assembler,
    request: Request,
    granted: Granted,
    timers: Timers,
    idle_since: Instant,
    /// Of the last request of our own.
    message_id: u16,
    /// The running message has a data set of which the end was not yet handed out.
    in_data: bool,
}

impl Association {
    fn new(link: Link, request: Request, granted: Granted, timers: Timers) -> Self {
        let ids: ContextIds = granted.contexts.iter().map(|context| context.id).collect();
        let (assembler, idle_since) = (Assembler::new(ids), Instant::now());
        Self { link, assembler, request, granted, timers, idle_since, message_id: 0, in_data: false }
    }

    /// Calling AE title.
    pub fn calling(&self) -> &AeTitle {
        &self.request.proposal.calling
    }

    /// Called AE title.
    pub fn called(&self) -> &AeTitle {
        &self.request.proposal.called
    }

    /// Where the association comes from.
    pub fn peer(&self) -> SocketAddr {
        self.request.proposal.peer
    }

    /// The peer's software, for a log line.
    pub fn implementation(&self) -> &Implementation {
        &self.request.proposal.implementation
    }

    /// The accepted presentation contexts. They print without patient data.
    pub fn contexts(&self) -> &[AcceptedContext] {
        &self.granted.contexts
    }

    /// The roles that were granted to requestors who asked (PS3.7 §D.3.3.4).
    pub fn roles(&self) -> &[RoleSelection] {
        &self.granted.roles
    }

    /// Operations that may be outstanding; one each where nothing was negotiated.
    pub fn async_window(&self) -> AsyncWindow {
        self.granted.async_window
    }

    /// Who uses the peer, as far as it says.
    pub fn user_identity(&self) -> Option<&UserIdentity> {
        self.request.proposal.user_identity.as_ref()
    }

    /// The next message. What was not read of the data set of the one before is skipped.
    ///
    /// Cancel-safe: nothing that came is lost; where it was cancelled while it wrote an answer of its own,
    /// the association is over. It is after an error, too.
    pub async fn receive(&mut self) -> Result<Incoming, AssociationError> {
        loop {
            self.skip_data().await?;
            let idle = TimedOut::Idle(self.timers.idle);
            let patience = Patience::Idle(self.idle_since + self.timers.idle, idle);
            let received = match self.event(patience).await {
                Ok(received) => received,
                Err(error) => return Err(self.link.fail(error).await),
            };
            let Received::Event(Event::Command { context, command }) = received else {
                // Only a release can be anything else: data sets were skipped.
                self.link.close(Some(associate::release_response()?)).await;
                return Ok(Incoming::Released);
            };
            match self.incoming(context, command) {
                Ok(Reading::Message(incoming)) => return Ok(incoming),
                Ok(Reading::Unusable { response, why }) => {
                    debug!(why, "C-STORE refused");
                    self.respond(context, response).await?;
                }
                Err(violation) => return Err(self.link.fail(violation.into()).await),
            }
        }
    }

    /// The next bytes of the running message's data set, never empty; `None` once it is complete, and only
    /// then: an abort, a release, a closed connection or a time-out within it is an error.
    ///
    /// Cancel-safe: nothing that came is lost. After an error the association is over.
    pub async fn data(&mut self) -> Result<Option<Bytes>, AssociationError> {
        if !self.in_data {
            return if self.link.is_usable() { Ok(None) } else { Err(AssociationError::Ended) };
        }
        match self.event(Patience::Progress).await {
            Ok(Received::Event(Event::DataFragment(bytes))) => Ok(Some(bytes)),
            Ok(Received::Event(Event::DataEnd)) => {
                self.in_data = false;
                self.idle_since = Instant::now();
                Ok(None)
            }
            Ok(Received::Event(Event::Command { .. })) => {
                Err(self.link.fail(Violation::DataMissing.into()).await)
            }
            Ok(Received::Released) => Err(self.link.fail(AssociationError::ReleasedInMessage).await),
            Err(error) => Err(self.link.fail(error).await),
        }
    }

    /// Answers a C-ECHO-RQ.
    pub async fn respond_echo(
        &mut self,
        request: &EchoRequest,
        status: Status,
    ) -> Result<(), AssociationError> {
        let response = CommandWriter::new()
            .text(element::AFFECTED_SOP_CLASS, "1.2.840.10008.1.1\0")
            .us(element::COMMAND_FIELD, field::C_ECHO_RQ | field::RESPONSE)
            .us(element::MESSAGE_ID_RESPONDED_TO, request.message_id)
            .data_set(false)
            .us(element::STATUS, status.0);
        self.respond(request.context, response.finish()).await
    }

    /// Answers a C-STORE-RQ; the comment (printable ASCII, at most 64 characters are sent) must not hold
    /// patient data. What was not read of the data set is skipped first: the peer listens only after it.
    pub async fn respond_store(
        &mut self,
        request: &StoreRequest,
        status: Status,
        comment: Option<&str>,
    ) -> Result<(), AssociationError> {
        let response = CommandWriter::new()
            .uid(element::AFFECTED_SOP_CLASS, &request.meta.sop_class)
            .us(element::COMMAND_FIELD, field::C_STORE_RQ | field::RESPONSE)
            .us(element::MESSAGE_ID_RESPONDED_TO, request.message_id)
            .data_set(false)
            .us(element::STATUS, status.0)
            .comment(comment)
            .uid(element::AFFECTED_SOP_INSTANCE, request.meta.sop_instance.reveal());
        self.respond(request.context, response.finish()).await
    }

    /// Answers any other request with a status and no data set. A response or a C-CANCEL has no answer:
    /// then this only skips its data set.
    pub async fn respond_other(
        &mut self,
        request: &OtherRequest,
        status: Status,
    ) -> Result<(), AssociationError> {
        let Some(message_id) = request.message_id else { return self.skip_data().await };
        let command = &request.command;
        let raw = |affected, requested| command.value(affected).or_else(|| command.value(requested));
        let response = CommandWriter::new()
            .raw(element::AFFECTED_SOP_CLASS, raw(element::AFFECTED_SOP_CLASS, element::REQUESTED_SOP_CLASS))
            .us(element::COMMAND_FIELD, request.command_field | field::RESPONSE)
            .us(element::MESSAGE_ID_RESPONDED_TO, message_id)
            .data_set(false)
            .us(element::STATUS, status.0)
            .raw(
                element::AFFECTED_SOP_INSTANCE,
                raw(element::AFFECTED_SOP_INSTANCE, element::REQUESTED_SOP_INSTANCE),
            );
        self.respond(request.context, response.finish()).await
    }

    /// Ends the association at once by an A-ABORT of the service user.
    pub async fn abort(mut self) {
        self.link.end_with(associate::abort(None)).await;
    }

    /// Reads and throws away the rest of the running data set.
    async fn skip_data(&mut self) -> Result<(), AssociationError> {
        while self.data().await?.is_some() {}
        Ok(())
    }

    /// One command set, in one write.
    async fn respond(&mut self, context: u8, command: Vec<u8>) -> Result<(), AssociationError> {
        self.skip_data().await?;
        let mut out = Outgoing::default();
        out.push(command_pdus(context, &command, self.request.proposal.max_pdu).into());
        let written = self.link.write(&mut out).await;
        self.idle_since = Instant::now();
        match written {
            Ok(()) => Ok(()),
            Err(error) => Err(self.link.fail(error).await),
        }
    }

    async fn event(&mut self, patience: Patience) -> Result<Received, AssociationError> {
        loop {
            // First: what is left of a message is not handed out after an error in it.
            if !self.link.is_usable() {
                return Err(AssociationError::Ended);
            }
            if let Some(event) = self.assembler.poll() {
                if !matches!(event, Event::DataFragment(_)) {
                    self.link.refill();
                }
                return Ok(Received::Event(event));
            }
            let in_command = self.assembler.is_in_command();
            let patience = if in_command { Patience::Progress } else { patience };
            match self.link.frame(patience, in_command).await? {
                Frame::Pdv(pdv) => self.assembler.handle(pdv)?,
                Frame::Control { pdu_type: pdu_type::RELEASE_RQ, .. } if self.assembler.is_idle() => {
                    return Ok(Received::Released);
                }
                Frame::Control { pdu_type: pdu_type::RELEASE_RQ, .. } => {
                    return Err(AssociationError::ReleasedInMessage);
                }
                Frame::Control { pdu_type, .. } => return Err(Violation::UnexpectedPdu(pdu_type).into()),
            }
        }
    }

    /// Makes a message of a command set, and expects its data set.
    fn incoming(&mut self, context: u8, command: CommandSet) -> Result<Reading, Violation> {
        let has_data_set = command.has_data_set()?;
        self.in_data = has_data_set;
        let command_field = command.command_field()?;
        let incoming = match command_field {
            field::C_ECHO_RQ => Incoming::Echo(EchoRequest { context, message_id: command.message_id()? }),
            field::C_STORE_RQ => return self.store(context, &command),
            _ => {
                let is_answerable =
                    command_field & field::RESPONSE == 0 && command_field != field::C_CANCEL_RQ;
                let message_id = if is_answerable { Some(command.message_id()?) } else { None };
                Incoming::Other(OtherRequest { context, command_field, message_id, has_data_set, command })
            }
        };
        Ok(Reading::Message(incoming))
    }

    fn store(&self, context: u8, command: &CommandSet) -> Result<Reading, Violation> {
        let message_id = command.message_id()?;
        let Some(accepted) = self.granted.contexts.iter().find(|accepted| accepted.id == context) else {
            return Err(Violation::UnknownContext(context));
        };
        let (sop_class, sop_instance) =
            (command.uid(element::AFFECTED_SOP_CLASS), command.uid(element::AFFECTED_SOP_INSTANCE));
        let is_storage = accepted.abstract_syntax.as_str() != VERIFICATION;
        let (sop_class, sop_instance) = match (sop_class, sop_instance) {
            (Some(sop_class), Some(sop_instance)) if is_storage => (sop_class, sop_instance),
            (Some(_), None) if is_storage => {
                return Ok(unusable(message_id, command, UnusableStore::SopInstance));
            }
            _ => return Ok(unusable(message_id, command, UnusableStore::SopClass)),
        };
        let meta = InstanceMeta {
            sop_class,
            sop_instance: Phi::new(sop_instance),
            transfer_syntax: accepted.transfer_syntax.clone(),
            calling: self.calling().clone(),
            called: self.called().clone(),
            move_originator: move_originator(command),
            priority: Priority::from_code(command.us(element::PRIORITY).unwrap_or(0)),
        };
        Ok(Reading::Message(Incoming::Store(StoreRequest {
            context,
            message_id,
            abstract_syntax: accepted.abstract_syntax.clone(),
            has_data_set: self.in_data,
            meta,
        })))
    }
}

enum Received {
    Event(Event),
    Released,
}

/// What a command set is.
enum Reading {
    Message(Incoming),
    /// A C-STORE-RQ that names nothing that could be stored; it is answered here.
    Unusable {
        response: Vec<u8>,
        why: &'static str,
    },
}

fn unusable(message_id: u16, command: &CommandSet, why: UnusableStore) -> Reading {
    let response = CommandWriter::new()
        .raw(element::AFFECTED_SOP_CLASS, command.value(element::AFFECTED_SOP_CLASS))
        .us(element::COMMAND_FIELD, field::C_STORE_RQ | field::RESPONSE)
        .us(element::MESSAGE_ID_RESPONDED_TO, message_id)
        .data_set(false)
        .us(element::STATUS, why.status().0)
        .comment(Some(why.comment()))
        .raw(element::AFFECTED_SOP_INSTANCE, command.value(element::AFFECTED_SOP_INSTANCE));
    Reading::Unusable { response: response.finish(), why: why.comment() }
}

/// Both elements, or nothing: half an originator is none.
fn move_originator(command: &CommandSet) -> Option<MoveOriginator> {
    let ae = AeTitle::parse(&command.text(element::MOVE_ORIGINATOR_AE)?).ok()?;
    let message_id = command.us(element::MOVE_ORIGINATOR_MESSAGE_ID)?;
    Some(MoveOriginator { ae, message_id })
}
