//! A running association on the accepting side.

use std::{collections::HashMap, net::SocketAddr};

use base::{AeTitle, InstanceMeta, Phi, Status, Uid};
use bytes::Bytes;

use crate::{
    command::{CommandSet, element, field},
    connection::{Connection, Timers, aborted},
    error::{AssociationError, ProtocolError},
    framing::{self, data_head, pdu_type},
    message::{MessageEvent, Messages},
    policy::Proposal,
};

/// Source 2 of PS3.8 Table 9-26, and its reasons.
const PROVIDER: u8 = 2;
const NOT_SPECIFIED: u8 = 0;
const UNEXPECTED_PDU: u8 = 2;
const INVALID_PARAMETER: u8 = 6;

/// An accepted presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// SOP class.
    pub abstract_syntax: Uid,
    /// The agreed transfer syntax.
    pub transfer_syntax: Uid,
}

/// The next message.
#[derive(Debug)]
pub enum Incoming {
    /// C-ECHO-RQ.
    Echo(Request),
    /// C-STORE-RQ; its data set is to be taken by [`Association::data`].
    Store(StoreRequest),
    /// Any other request; a data set of it has been skipped.
    Other(Request),
    /// A-RELEASE-RQ, answered.
    Released,
}

/// A request that is to be answered.
#[derive(Debug, Clone)]
pub struct Request {
    /// The context it came in.
    pub context: u8,
    /// Its command field.
    pub command_field: u16,
    command: CommandSet,
}

/// A C-STORE-RQ.
#[derive(Debug, Clone)]
pub struct StoreRequest {
    /// What travels beside the data set.
    pub meta: InstanceMeta,
    request: Request,
}

/// See the module. Dropping it without a release aborts.
#[derive(Debug)]
pub struct Association {
    connection: Connection,
    proposal: Proposal,
    contexts: HashMap<u8, Context>,
    peer_max_pdu: u32,
    timers: Timers,
    messages: Messages,
    /// What is left of the running P-DATA-TF.
    rest: Bytes,
    ended: bool,
}

impl Association {
    pub(crate) fn new(
        connection: Connection,
        proposal: Proposal,
        contexts: HashMap<u8, Context>,
        peer_max_pdu: u32,
        timers: Timers,
    ) -> Self {
        let messages = Messages::default();
        Self { connection, proposal, contexts, peer_max_pdu, timers, messages, rest: Bytes::new(), ended: false }
    }

    /// Calling AE title.
    pub fn calling(&self) -> &AeTitle {
        &self.proposal.calling
    }

    /// Called AE title.
    pub fn called(&self) -> &AeTitle {
        &self.proposal.called
    }

    /// Where the peer calls from.
    pub fn peer(&self) -> SocketAddr {
        self.proposal.peer
    }

    /// The accepted contexts, by id.
    pub fn contexts(&self) -> &HashMap<u8, Context> {
        &self.contexts
    }

    /// Waits for the next message. The data set of the one before must have been taken.
    pub async fn receive(&mut self) -> Result<Incoming, AssociationError> {
        let (context, command) = match self.event(true).await? {
            Some(MessageEvent::Command(context, command)) => (context, command),
            Some(_) => return Err(self.violated(ProtocolError::UnexpectedPdu(pdu_type::P_DATA_TF)).await),
            None => return Ok(Incoming::Released),
        };
        let command_field = command.command_field().unwrap_or_default();
        let request = Request { context, command_field, command };
        match command_field {
            field::C_ECHO_RQ => {
                self.skip_data().await?;
                Ok(Incoming::Echo(request))
            }
            field::C_STORE_RQ if request.command.has_data_set() => match self.store_request(request) {
                Ok(store) => Ok(Incoming::Store(store)),
                Err(request) => {
                    self.skip_data().await?;
                    Ok(Incoming::Other(request))
                }
            },
            _ => {
                self.skip_data().await?;
                Ok(Incoming::Other(request))
            }
        }
    }

    /// The next fragment of the running data set, which is never empty; `None` after its last one. An
    /// error never looks like the end: whoever has taken fragments must give them up.
    pub async fn data(&mut self) -> Result<Option<Bytes>, AssociationError> {
        if !self.messages.in_data() {
            return Ok(None);
        }
        match self.event(false).await? {
            Some(MessageEvent::Data(bytes)) => Ok(Some(bytes)),
            Some(MessageEvent::LastData(bytes)) => Ok((!bytes.is_empty()).then_some(bytes)),
            Some(MessageEvent::Command(..)) | None => Err(AssociationError::Unfinished),
        }
    }

    /// Answers a C-ECHO-RQ.
    pub async fn respond_echo(&mut self, request: &Request, status: Status) -> Result<(), AssociationError> {
        self.respond(request, status, None).await
    }

    /// Answers a C-STORE-RQ.
    pub async fn respond_store(
        &mut self,
        request: &StoreRequest,
        status: Status,
        comment: Option<&str>,
    ) -> Result<(), AssociationError> {
        self.respond(&request.request, status, comment).await
    }

    /// Answers any other request. A response, or a C-CANCEL-RQ, gets none.
    pub async fn respond_other(&mut self, request: &Request, status: Status) -> Result<(), AssociationError> {
        if request.command_field & field::RESPONSE != 0 || request.command_field == field::C_CANCEL_RQ {
            return Ok(());
        }
        self.respond(request, status, None).await
    }

    /// A-ABORT by the service user.
    pub async fn abort(mut self) {
        self.ended = true;
        self.connection.abort(0, 0).await;
    }

    async fn respond(
        &mut self,
        request: &Request,
        status: Status,
        comment: Option<&str>,
    ) -> Result<(), AssociationError> {
        let command = request.command.response(status, comment).encode();
        let room = usize::try_from(self.peer_max_pdu).unwrap_or(usize::MAX).saturating_sub(framing::PDV_HEADER_BYTES).max(1);
        let mut bytes = Vec::with_capacity(command.len() + 16);
        let mut left = command.as_slice();
        while !left.is_empty() {
            let (now, later) = left.split_at(room.min(left.len()));
            bytes.extend_from_slice(&data_head(request.context, true, later.is_empty(), now.len()));
            bytes.extend_from_slice(now);
            left = later;
        }
        // One write: a peer with delayed acknowledgements waits 40 ms for a second one.
        self.connection.write(&bytes).await
    }

    fn store_request(&self, request: Request) -> Result<StoreRequest, Request> {
        let command = &request.command;
        let (Some(context), Some(sop_class), Some(sop_instance)) = (
            self.contexts.get(&request.context),
            command.uid(element::AFFECTED_SOP_CLASS_UID),
            command.uid(element::AFFECTED_SOP_INSTANCE_UID),
        ) else {
            return Err(request);
        };
        let meta = InstanceMeta {
            sop_class,
            sop_instance: Phi::new(sop_instance),
            transfer_syntax: context.transfer_syntax.clone(),
            calling: self.proposal.calling.clone(),
            called: self.proposal.called.clone(),
            move_originator: command.move_originator(),
            priority: command.priority(),
        };
        Ok(StoreRequest { meta, request })
    }

    async fn skip_data(&mut self) -> Result<(), AssociationError> {
        while self.data().await?.is_some() {}
        Ok(())
    }

    /// The next event of the message in progress; `None` after a release between messages.
    async fn event(&mut self, between: bool) -> Result<Option<MessageEvent>, AssociationError> {
        loop {
            match self.buffered() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(violation) => return Err(self.violated(violation).await),
            }
            let pdu = match self.connection.next_pdu(self.timers.idle).await {
                Ok(pdu) => pdu,
                Err(AssociationError::Protocol(violation)) => return Err(self.violated(violation).await),
                Err(error) => return Err(self.lost(error).await),
            };
            match pdu.pdu_type {
                pdu_type::P_DATA_TF => self.rest = pdu.body,
                pdu_type::RELEASE_RQ => {
                    let released = self.release().await;
                    return if between && self.messages.is_idle() { released.map(|()| None) } else { Err(AssociationError::Unfinished) };
                }
                pdu_type::ABORT => {
                    self.ended = true;
                    return Err(aborted(&pdu));
                }
                other => return Err(self.violated(ProtocolError::UnexpectedPdu(other)).await),
            }
        }
    }

    /// The next event out of the P-DATA-TF that is there already.
    fn buffered(&mut self) -> Result<Option<MessageEvent>, ProtocolError> {
        while let Some(pdv) = framing::next_pdv(&mut self.rest)? {
            let contexts = &self.contexts;
            if let Some(event) = self.messages.handle(pdv, |context| contexts.contains_key(&context))? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    async fn release(&mut self) -> Result<(), AssociationError> {
        self.ended = true;
        let answered = self.connection.write(&[pdu_type::RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await;
        self.connection.shutdown().await;
        answered
    }

    async fn violated(&mut self, violation: ProtocolError) -> AssociationError {
        self.ended = true;
        let reason = match &violation {
            ProtocolError::UnexpectedPdu(_) => UNEXPECTED_PDU,
            ProtocolError::Message(_) => INVALID_PARAMETER,
            _ => NOT_SPECIFIED,
        };
        self.connection.abort(PROVIDER, reason).await;
        violation.into()
    }

    async fn lost(&mut self, error: AssociationError) -> AssociationError {
        self.ended = true;
        if matches!(error, AssociationError::Idle(_) | AssociationError::Stalled(_)) {
            self.connection.abort(PROVIDER, NOT_SPECIFIED).await;
        }
        error
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.abort_now();
        }
    }
}
