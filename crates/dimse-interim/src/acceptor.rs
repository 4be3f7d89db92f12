//! The accepting side of the A-ASSOCIATE handshake.

use std::{collections::HashMap, net::SocketAddr};

use base::{AeTitle, Uid};
use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, Pdu, PresentationContextResult, PresentationContextResultReason as Reason,
    RequestorRoles, UserVariableItem,
};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME,
    association::{Association, Context},
    connection::{Connection, Timers, decode},
    error::{AcceptError, AssociationError, ProtocolError},
    framing::{CONTROL_PDU_BYTES_MAX, pdu_type},
    policy::{Admission, ContextAnswer, Proposal, ProposedContext, Verdict},
    reject::RejectReason,
};

/// PS3.7 Annex A.2.1.
pub(crate) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
/// Source 2, reasons of PS3.8 Table 9-26.
const PROVIDER: u8 = 2;
const NOT_SPECIFIED: u8 = 0;
const UNEXPECTED_PDU: u8 = 2;

/// How we accept.
#[derive(Debug, Clone)]
pub struct AcceptorConfig {
    /// Maximum length that we announce, in bytes after the PDU header; 0 announces no limit.
    pub max_pdu: u32,
    /// Limits of waiting.
    pub timers: Timers,
}

impl AcceptorConfig {
    /// What is taken where 0 is announced: nobody sends longer PDUs, and a buffer needs a bound.
    pub const UNLIMITED_PDU_BYTES_MAX: u32 = 16 * 1024 * 1024;

    fn data_max(&self) -> u32 {
        if self.max_pdu == 0 { Self::UNLIMITED_PDU_BYTES_MAX } else { self.max_pdu }
    }
}

/// Runs the handshake. The peer is answered in every case in which it can be.
pub async fn accept(
    stream: TcpStream,
    config: &AcceptorConfig,
    admission: &dyn Admission,
) -> Result<Association, AcceptError> {
    let peer = stream.peer_addr()?;
    let mut connection = Connection::new(stream, config.data_max(), config.timers)?;
    let limit = config.timers.handshake;
    match timeout(limit, handshake(&mut connection, peer, config, admission)).await {
        Ok(Ok((proposal, contexts, max_pdu))) => {
            Ok(Association::new(connection, proposal, contexts, max_pdu, config.timers))
        }
        Ok(Err(error)) => {
            if let AcceptError::Protocol(violation) = &error {
                let reason = match violation {
                    ProtocolError::UnexpectedPdu(_) => UNEXPECTED_PDU,
                    _ => NOT_SPECIFIED,
                };
                connection.abort(PROVIDER, reason).await;
            }
            Err(error)
        }
        Err(_) => {
            connection.abort(PROVIDER, NOT_SPECIFIED).await;
            Err(AcceptError::TimedOut(limit))
        }
    }
}

type Agreed = (Proposal, HashMap<u8, Context>, u32);

async fn handshake(
    connection: &mut Connection,
    peer: SocketAddr,
    config: &AcceptorConfig,
    admission: &dyn Admission,
) -> Result<Agreed, AcceptError> {
    let raw = connection.next_pdu(config.timers.handshake).await.map_err(accept_error)?;
    if raw.pdu_type != pdu_type::ASSOCIATE_RQ {
        return Err(ProtocolError::UnexpectedPdu(raw.pdu_type).into());
    }
    let Pdu::AssociationRQ(request) = decode(&raw)? else {
        return Err(ProtocolError::UnexpectedPdu(raw.pdu_type).into());
    };
    let verdict = match proposal(&request, peer) {
        Ok(proposal) => match admission.decide(&proposal) {
            Verdict::Accept(answers) => Ok((proposal, answers)),
            Verdict::Reject(reason) => Err(reason),
        },
        Err(reason) => Err(reason),
    };
    let (proposal, answers) = match verdict {
        Ok(accepted) => accepted,
        Err(reason) => {
            connection.write_pdu(&Pdu::AssociationRJ(reason.pdu())).await.map_err(accept_error)?;
            connection.shutdown().await;
            return Err(AcceptError::Rejected(reason.rejection()));
        }
    };
    let contexts = agreed(&proposal, &answers);
    let answer = answer(&request, &proposal, &answers, config);
    connection.write_pdu(&Pdu::AssociationAC(answer)).await.map_err(accept_error)?;
    Ok((proposal, contexts, peer_max_pdu(&request.user_variables)))
}

fn accept_error(error: AssociationError) -> AcceptError {
    match error {
        AssociationError::Protocol(violation) => AcceptError::Protocol(violation),
        AssociationError::Io(error) => AcceptError::Io(error),
        AssociationError::Idle(limit) | AssociationError::Stalled(limit) => AcceptError::TimedOut(limit),
        other => AcceptError::Io(std::io::Error::other(other)),
    }
}

/// Checks what PS3.8 §9.3.2 lets nobody decide otherwise, and reads the rest.
fn proposal(request: &AssociationRQ, peer: SocketAddr) -> Result<Proposal, RejectReason> {
    if request.protocol_version & 1 == 0 {
        return Err(RejectReason::ProtocolVersionNotSupported);
    }
    if request.application_context_name.trim_end_matches(['\0', ' ']) != APPLICATION_CONTEXT {
        return Err(RejectReason::ApplicationContextNameNotSupported);
    }
    let calling =
        AeTitle::parse(&request.calling_ae_title).map_err(|_| RejectReason::CallingAeTitleNotRecognized)?;
    let called = AeTitle::parse(&request.called_ae_title).map_err(|_| RejectReason::CalledAeTitleNotRecognized)?;
    let contexts = request
        .presentation_contexts
        .iter()
        .map(|context| ProposedContext {
            id: context.id,
            abstract_syntax: Uid::parse(&context.abstract_syntax).ok(),
            transfer_syntaxes: context.transfer_syntaxes.iter().filter_map(|text| Uid::parse(text).ok()).collect(),
        })
        .collect();
    Ok(Proposal { calling, called, peer, contexts })
}

/// The accepted contexts by id; of two with one id the first counts.
fn agreed(proposal: &Proposal, answers: &[ContextAnswer]) -> HashMap<u8, Context> {
    let mut contexts = HashMap::new();
    for (proposed, answer) in proposal.contexts.iter().zip(answers) {
        if let (ContextAnswer::Accept(syntax), Some(class)) = (answer, &proposed.abstract_syntax) {
            let context = Context { abstract_syntax: class.clone(), transfer_syntax: syntax.clone() };
            contexts.entry(proposed.id).or_insert(context);
        }
    }
    contexts
}

fn answer(
    request: &AssociationRQ,
    proposal: &Proposal,
    answers: &[ContextAnswer],
    config: &AcceptorConfig,
) -> AssociationAC {
    let presentation_contexts = proposal
        .contexts
        .iter()
        .zip(answers)
        .map(|(proposed, answer)| {
            let (reason, syntax) = match answer {
                ContextAnswer::Accept(syntax) => (Reason::Acceptance, Some(syntax)),
                ContextAnswer::UserRejection => (Reason::UserRejection, proposed.transfer_syntaxes.first()),
                ContextAnswer::AbstractSyntaxNotSupported => {
                    (Reason::AbstractSyntaxNotSupported, proposed.transfer_syntaxes.first())
                }
                ContextAnswer::TransferSyntaxesNotSupported => {
                    (Reason::TransferSyntaxesNotSupported, proposed.transfer_syntaxes.first())
                }
            };
            // Not significant where the context is rejected, but peers expect a UID (PS3.8 §9.3.3.2).
            let transfer_syntax = syntax.map_or("1.2.840.10008.1.2", Uid::as_str).to_owned();
            PresentationContextResult { id: proposed.id, reason, transfer_syntax }
        })
        .collect();
    let mut user_variables = vec![
        UserVariableItem::MaxLength(config.max_pdu),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
    ];
    // We are a storage SCP: whoever asks for roles gets the SCU role and no other (PS3.7 §D.3.3.4).
    for item in &request.user_variables {
        if let UserVariableItem::ScuScpRoleSelectionSubItem(class, roles) = item {
            let roles = RequestorRoles { scu: roles.scu, scp: false };
            user_variables.push(UserVariableItem::ScuScpRoleSelectionSubItem(class.clone(), roles));
        }
    }
    AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts,
        user_variables,
    }
}

/// The peer's maximum length; 0 and none mean no limit.
pub(crate) fn peer_max_pdu(items: &[UserVariableItem]) -> u32 {
    let announced = items.iter().find_map(|item| match item {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None,
    });
    match announced {
        None | Some(0) => CONTROL_PDU_BYTES_MAX,
        Some(length) => length,
    }
}
