//! The SCU side: proposing an association and sending instances over it.

mod config;
mod normalized;

use std::{collections::VecDeque, time::Duration};

use base::{InstanceMeta, Phi, Status, Uid};
use bytes::{Bytes, BytesMut};
use tokio::{
    net::{TcpStream, ToSocketAddrs},
    time::{Instant, timeout},
};

use crate::{
    Violation,
    admission::{AcceptedContext, ContextResult, Implementation, Rejection, RoleSelection},
    associate::{self, Acceptance},
    command::{CommandSet, CommandWriter, element, field},
    failure::{AssociationError, ConnectError, EchoError, StoreError, TimedOut},
    fragment::{Fragmenter, command_pdus, pdu_length},
    framing::{Frame, Phase, pdu_type},
    limits::{CONTEXTS_MAX, MAX_PDU_DEFAULT, RELEASE_TIMEOUT, WRITE_BATCH_BYTES},
    link::{Link, Outgoing, Patience, Socket},
    message::{Assembler, Event},
    normalized::{EventReport, EventReportRequest},
    sop_class::VERIFICATION,
    tls::{TlsConnector, TlsFailure},
    user_information::{AsyncWindow, ExtendedNegotiation, UserInformation},
};

pub use config::{RequestorConfig, Watching};

/// What the peer answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreResponse {
    /// Status (0000,0900).
    pub status: Status,
    /// Error Comment (0000,0902).
    pub comment: Option<Phi<String>>,
}

/// An association that we asked for. Dropping it before [`Requestor::release`] aborts it, in a way that
/// never makes a half-sent data set look complete.
#[derive(Debug)]
pub struct Requestor {
    link: Link,
    assembler: Assembler,
    contexts: Vec<AcceptedContext>,
    results: Vec<ContextResult>,
    implementation: Implementation,
    /// The peer's answers to what was proposed beside contexts.
    user: UserInformation,
    /// N-EVENT-REPORTs that came while something else was waited for.
    reports: VecDeque<EventReport>,
    /// One that is coming.
    arriving: Option<(EventReportRequest, BytesMut)>,
    /// What the peer takes in one P-DATA-TF; 0 is no limit.
    peer_max_pdu: u32,
    pdu_length: u32,
    response_timeout: Duration,
    message_id: u16,
    store: Option<Storing>,
    /// A response is due. It stays so when the wait for it is cancelled: what came then would be taken for
    /// the next request's.
    is_waiting: bool,
}

/// A C-STORE that is under way.
#[derive(Debug)]
struct Storing {
    context: u8,
    message_id: u16,
    fragmenter: Fragmenter,
    /// The command set, and what of the data set is ready to go with it.
    out: Outgoing,
}

impl Requestor {
    /// Connects and negotiates. Whether any context was accepted is for [`Requestor::accepts`] to say.
    pub async fn connect(address: impl ToSocketAddrs, config: RequestorConfig) -> Result<Self, ConnectError> {
        let limit = config.connect_timeout;
        if config.contexts.is_empty() || config.contexts.len() > CONTEXTS_MAX {
            return Err(ConnectError::Contexts(config.contexts.len()));
        }
        let connect = async {
            let stream = TcpStream::connect(address).await.map_err(ConnectError::Unreachable)?;
            stream.set_nodelay(true).map_err(ConnectError::Unreachable)?;
            Self::connect_on(Box::new(stream), config).await
        };
        // Dropping the unfinished connection aborts it.
        timeout(limit, connect).await.unwrap_or(Err(ConnectError::TimedOut(limit)))
    }

    /// The same over TLS. The time to connect is for all together.
    pub async fn connect_tls(
        address: impl ToSocketAddrs,
        config: RequestorConfig,
        tls: &TlsConnector,
    ) -> Result<Self, ConnectError> {
        let limit = config.connect_timeout;
        if config.contexts.is_empty() || config.contexts.len() > CONTEXTS_MAX {
            return Err(ConnectError::Contexts(config.contexts.len()));
        }
        let connect = async {
            let stream = TcpStream::connect(address).await.map_err(ConnectError::Unreachable)?;
            stream.set_nodelay(true).map_err(ConnectError::Unreachable)?;
            let stream = tls.connect(stream).await.map_err(TlsFailure::from)?;
            Self::connect_on(Box::new(stream), config).await.map_err(refused_late)
        };
        timeout(limit, connect).await.unwrap_or(Err(ConnectError::TimedOut(limit)))
    }

    pub(crate) async fn connect_on(
        socket: Box<dyn Socket>,
        config: RequestorConfig,
    ) -> Result<Self, ConnectError> {
        let mut link = Link::new(socket, Phase::Answer, MAX_PDU_DEFAULT, config.connect_timeout);
        link.watched_by(config.onlooker.0.clone());
        match negotiate(&mut link, &config).await {
            Ok(acceptance) => {
                link.establish(config.progress_timeout);
                let ids = acceptance.contexts.iter().map(|context| context.id).collect();
                Ok(Self {
                    link,
                    assembler: Assembler::new(ids),
                    contexts: acceptance.contexts,
                    results: acceptance.results,
                    implementation: acceptance.implementation,
                    user: acceptance.user,
                    reports: VecDeque::new(),
                    arriving: None,
                    peer_max_pdu: acceptance.max_pdu,
                    pdu_length: pdu_length(acceptance.max_pdu, config.max_pdu_sent),
                    response_timeout: config.response_timeout,
                    message_id: 0,
                    store: None,
                    is_waiting: false,
                })
            }
            Err(Refused::Rejected(rejection)) => {
                link.close(None).await;
                Err(ConnectError::Rejected(rejection))
            }
            Err(Refused::Failed(error)) => Err(match link.fail(error).await {
                AssociationError::TimedOut(_) => ConnectError::TimedOut(config.connect_timeout),
                error => error.into(),
            }),
        }
    }

    /// The peer takes this SOP class in this transfer syntax.
    pub fn accepts(&self, sop_class: &Uid, transfer_syntax: &Uid) -> bool {
        self.context(sop_class, transfer_syntax).is_some()
    }

    /// The accepted presentation contexts. They print without patient data.
    pub fn contexts(&self) -> &[AcceptedContext] {
        &self.contexts
    }

    /// The peer's answer to each proposed context, in the order of the configuration: what a probe is for.
    pub fn results(&self) -> &[ContextResult] {
        &self.results
    }

    /// The roles of this SOP class that the peer has answered; `None` where it has not, so that we are SCU.
    pub fn role(&self, sop_class: &Uid) -> Option<&RoleSelection> {
        self.user.roles.iter().find(|role| role.sop_class == *sop_class)
    }

    /// Operations that may be outstanding; one each where nothing was negotiated.
    pub fn async_window(&self) -> AsyncWindow {
        self.user.async_window.unwrap_or(AsyncWindow::SYNCHRONOUS)
    }

    /// The server response to our user identity, where the peer sent one.
    pub fn identity_response(&self) -> Option<&[u8]> {
        self.user.identity_response.as_deref()
    }

    /// The peer's SOP Class Extended Negotiation items.
    pub fn extended(&self) -> &[ExtendedNegotiation] {
        &self.user.extended
    }

    /// The peer's software, for a log line.
    pub fn implementation(&self) -> &Implementation {
        &self.implementation
    }

    /// As far as can be seen without waiting, the peer has not aborted, released or closed: to be asked
    /// before an association that has been idle is used again. Once it says no, the association is over.
    pub fn is_open(&mut self) -> bool {
        if self.is_usable() && !matches!(self.link.frame_now(), Ok(None)) {
            self.link.forsake();
        }
        self.is_usable()
    }

    /// C-ECHO. After an error the association is over.
    pub async fn echo(&mut self) -> Result<Status, EchoError> {
        if self.store.is_some() {
            return Err(EchoError::OutOfOrder);
        }
        if !self.is_usable() {
            return Err(AssociationError::Ended.into());
        }
        let verification =
            self.contexts.iter().find(|context| context.abstract_syntax.as_str() == VERIFICATION);
        let Some(context) = verification.map(|context| context.id) else {
            return Err(EchoError::NotAccepted);
        };
        let message_id = self.next_message_id();
        let command = CommandWriter::new()
            .text(element::AFFECTED_SOP_CLASS, "1.2.840.10008.1.1\0")
            .us(element::COMMAND_FIELD, field::C_ECHO_RQ)
            .us(element::MESSAGE_ID, message_id)
            .data_set(false);
        let mut out = Outgoing::from(command_pdus(context, &command.finish(), self.peer_max_pdu));
        if let Err(error) = self.link.write(&mut out).await {
            return Err(self.link.fail(error).await.into());
        }
        match self.response(context, message_id, field::C_ECHO_RQ).await {
            Ok(response) => Ok(response.status),
            Err(error) => Err(self.link.fail(error).await.into()),
        }
    }

    /// Begins a C-STORE. Nothing is sent yet: the command goes out with the first bytes of the data set.
    pub async fn store_begin(&mut self, meta: &InstanceMeta) -> Result<(), StoreError> {
        if self.store.is_some() {
            return Err(StoreError::OutOfOrder("store_begin"));
        }
        let Some(context) = self.context(&meta.sop_class, &meta.transfer_syntax) else {
            return Err(StoreError::NotAccepted {
                sop_class: meta.sop_class.clone(),
                transfer_syntax: meta.transfer_syntax.clone(),
            });
        };
        // A peer that has closed an idle association would be noticed only after the whole of a small
        // instance has gone out, as an unknown outcome.
        self.look_before().await?;
        let message_id = self.next_message_id();
        let command = command_pdus(context, &store_request(meta, message_id), self.peer_max_pdu);
        self.store = Some(Storing {
            context,
            message_id,
            fragmenter: Fragmenter::new(context, self.pdu_length),
            out: command.into(),
        });
        Ok(())
    }

    /// Sends the next bytes of the data set, as far as they fill PDUs: at least the last byte is held back
    /// until [`Requestor::store_finish`].
    ///
    /// Not cancel-safe: after a cancelled call the association can only be dropped.
    pub async fn store_data(&mut self, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let Some(store) = &mut self.store else { return Err(StoreError::OutOfOrder("store_data")) };
        store.fragmenter.push(bytes.into());
        while let Some(store) = self.store.as_mut().filter(|store| store.fragmenter.has_full()) {
            store.fragmenter.take_full(&mut store.out, WRITE_BATCH_BYTES);
            if let Err(error) = self.link.write(&mut store.out).await {
                return Err(StoreError::BeforeLast(self.link.fail(error).await));
            }
        }
        Ok(())
    }

    /// Sends the rest of the data set with its last fragment, and waits for the answer.
    ///
    /// Not cancel-safe: after a cancelled call the outcome is unknown.
    pub async fn store_finish(&mut self) -> Result<StoreResponse, StoreError> {
        let Some(mut store) = self.store.take() else { return Err(StoreError::OutOfOrder("store_finish")) };
        if store.fragmenter.held_bytes() == 0 {
            // Whatever has been pushed holds one byte back, so that nothing was.
            return Err(StoreError::Empty);
        }
        self.look_before().await?;
        store.fragmenter.finish(&mut store.out);
        // The kernel takes the last byte in the last of its writes or not at all: an error means that the
        // data set cannot become complete.
        if let Err(error) = self.link.write(&mut store.out).await {
            return Err(StoreError::BeforeLast(self.link.fail(error).await));
        }
        match self.response(store.context, store.message_id, field::C_STORE_RQ).await {
            Ok(response) => Ok(response),
            Err(error) => Err(StoreError::OutcomeUnknown(self.link.fail(error).await)),
        }
    }

    /// Releases the association and closes; a running C-STORE is aborted instead.
    pub async fn release(mut self) {
        if self.store.is_some() || self.is_waiting {
            return self.abort().await;
        }
        let Ok(pdu) = associate::release_request() else { return };
        self.link.enter(Phase::Releasing);
        if self.link.write(&mut pdu.into()).await.is_err() {
            return;
        }
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        let patience = Patience::Until(deadline, TimedOut::Response(RELEASE_TIMEOUT));
        loop {
            match self.link.frame(patience, true).await {
                Ok(Frame::Control { pdu_type: pdu_type::RELEASE_RP, .. }) => {
                    return self.link.close(None).await;
                }
                // Both sides at once (PS3.8 §9.2.3, AR-8): theirs is answered, and ours still will be.
                Ok(Frame::Control { .. }) => {
                    let Ok(pdu) = associate::release_response() else { return };
                    if self.link.write(&mut pdu.into()).await.is_err() {
                        return;
                    }
                }
                Ok(Frame::Pdv(_)) => {}
                Err(error) => {
                    self.link.fail(error).await;
                    return;
                }
            }
        }
    }

    /// Ends the association at once by an A-ABORT of the service user, or by a reset where part of a PDU
    /// may be out.
    pub async fn abort(mut self) {
        self.link.end_with(associate::abort(None)).await;
    }

    fn context(&self, sop_class: &Uid, transfer_syntax: &Uid) -> Option<u8> {
        let is_that = |context: &&AcceptedContext| {
            context.abstract_syntax == *sop_class && context.transfer_syntax == *transfer_syntax
        };
        self.contexts.iter().find(is_that).map(|context| context.id)
    }

    fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.checked_add(1).unwrap_or(1);
        self.message_id
    }

    /// Finds an abort or a close that has come already. A response cannot have.
    async fn look_before(&mut self) -> Result<(), StoreError> {
        if !self.is_usable() {
            return Err(StoreError::BeforeLast(AssociationError::Ended));
        }
        let error = match self.link.frame_now() {
            Ok(None) => return Ok(()),
            // An early response: some peers answer before they have read all of it. It is read in its turn.
            Ok(Some(Frame::Pdv(pdv))) => match self.assembler.handle(pdv) {
                Ok(()) => return Ok(()),
                Err(violation) => violation.into(),
            },
            Ok(Some(Frame::Control { pdu_type: pdu_type::RELEASE_RQ, .. })) => {
                AssociationError::ReleasedInMessage
            }
            Ok(Some(Frame::Control { pdu_type, .. })) => Violation::UnexpectedPdu(pdu_type).into(),
            Err(error) => error,
        };
        Err(StoreError::BeforeLast(self.link.fail(error).await))
    }

    fn is_usable(&self) -> bool {
        self.link.is_usable() && !self.is_waiting
    }

    /// Waits for the response to one request. N-EVENT-REPORTs that come before it are kept.
    async fn response(
        &mut self,
        context: u8,
        message_id: u16,
        request: u16,
    ) -> Result<StoreResponse, AssociationError> {
        let deadline = Instant::now() + self.response_timeout;
        let patience = Patience::Until(deadline, TimedOut::Response(self.response_timeout));
        self.link.refill();
        self.is_waiting = true;
        let mut answered = None;
        loop {
            match self.assembler.poll() {
                Some(Event::Command { context: from, command }) => {
                    if self.is_report(from, &command)? {
                        continue;
                    }
                    let response = answer(&command, message_id, request)?;
                    if from != context {
                        return Err(Violation::Response("another presentation context").into());
                    }
                    if command.has_data_set().map_err(Violation::from)? {
                        // An action or event reply: nothing of ours has one, so it says nothing to us.
                        answered = Some(response);
                        continue;
                    }
                    self.is_waiting = false;
                    return Ok(response);
                }
                Some(Event::DataFragment(_)) if answered.is_some() => continue,
                Some(Event::DataFragment(bytes)) => {
                    self.report_bytes(&bytes)?;
                    continue;
                }
                Some(Event::DataEnd) => {
                    if let Some(response) = answered.take() {
                        self.is_waiting = false;
                        return Ok(response);
                    }
                    self.report_end()?;
                    continue;
                }
                None => {}
            }
            match self.link.frame(patience, self.assembler.is_in_command()).await? {
                Frame::Pdv(pdv) => self.assembler.handle(pdv)?,
                Frame::Control { pdu_type: pdu_type::RELEASE_RQ, .. } => {
                    return Err(AssociationError::ReleasedInMessage);
                }
                Frame::Control { pdu_type, .. } => return Err(Violation::UnexpectedPdu(pdu_type).into()),
            }
        }
    }
}

/// With TLS 1.3 a peer refuses our certificate after our side of the handshake is over.
fn refused_late(error: ConnectError) -> ConnectError {
    match error {
        ConnectError::Failed(AssociationError::Io(error)) if TlsFailure::is_one(&error) => {
            TlsFailure::from(error).into()
        }
        error => error,
    }
}

/// Reads the response to this request, which has no data set unless its service is a normalized one.
fn answer(command: &CommandSet, message_id: u16, request: u16) -> Result<StoreResponse, Violation> {
    if command.command_field()? != request | field::RESPONSE {
        return Err(Violation::Response("another command field"));
    }
    if command.us(element::MESSAGE_ID_RESPONDED_TO) != Some(message_id) {
        return Err(Violation::Response("another message id"));
    }
    if command.has_data_set()? && !matches!(request, field::N_ACTION_RQ | field::N_EVENT_REPORT_RQ) {
        return Err(Violation::Response("a data set comes with it"));
    }
    Ok(StoreResponse { status: command.status()?, comment: command.error_comment() })
}

enum Refused {
    Rejected(Rejection),
    Failed(AssociationError),
}

impl<E: Into<AssociationError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn negotiate(link: &mut Link, config: &RequestorConfig) -> Result<Acceptance, Refused> {
    let (pdu, proposed) =
        associate::request(&config.calling, &config.called, &config.contexts, config.user_information())?;
    link.write(&mut pdu.into()).await?;
    let limit = config.connect_timeout;
    let patience = Patience::Until(Instant::now() + limit, TimedOut::Response(limit));
    match link.frame(patience, true).await? {
        Frame::Control { pdu_type: pdu_type::ASSOCIATE_AC, body } => Ok(Acceptance::read(&body, proposed)?),
        Frame::Control { pdu_type: pdu_type::ASSOCIATE_RJ, body } => {
            Err(Refused::Rejected(associate::rejection(&body)))
        }
        Frame::Control { pdu_type, .. } => Err(Violation::UnexpectedPdu(pdu_type).into()),
        Frame::Pdv(_) => Err(Violation::UnexpectedPdu(pdu_type::P_DATA).into()),
    }
}

fn store_request(meta: &InstanceMeta, message_id: u16) -> Vec<u8> {
    let command = CommandWriter::new()
        .uid(element::AFFECTED_SOP_CLASS, &meta.sop_class)
        .us(element::COMMAND_FIELD, field::C_STORE_RQ)
        .us(element::MESSAGE_ID, message_id)
        .us(element::PRIORITY, meta.priority.code())
        .data_set(true)
        .uid(element::AFFECTED_SOP_INSTANCE, meta.sop_instance.reveal());
    let command = match &meta.move_originator {
        Some(originator) => command
            .text(element::MOVE_ORIGINATOR_AE, originator.ae.as_str())
            .us(element::MOVE_ORIGINATOR_MESSAGE_ID, originator.message_id),
        None => command,
    };
    command.finish()
}
