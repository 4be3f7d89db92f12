//! A-ASSOCIATE, A-RELEASE and A-ABORT PDUs, read and written by dicom-ul's codec (PS3.8 §9.3).

use std::net::SocketAddr;

use base::{AeTitle, Uid};
use bytes::Bytes;
use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationAC, AssociationRJ, AssociationRJResult,
    AssociationRJServiceProviderASCEReason, AssociationRJServiceProviderPresentationReason,
    AssociationRJServiceUserReason, AssociationRJSource, AssociationRQ, Pdu, PresentationContextProposed,
    PresentationContextResult, PresentationContextResultReason, ReadError, UserVariableItem, read_pdu,
    write_pdu,
};

use crate::{
    Violation,
    admission::{
        AcceptedContext, ContextAnswer, ContextChoice, ContextDecision, ContextRejection, ContextResult,
        Implementation, Proposal, ProposedContext, RejectReason, Rejection, RoleSelection, Terms,
    },
    framing::{PDU_HEADER_BYTES, pdu_type},
    limits::ASSOCIATE_BYTES_MAX,
    message::ContextIds,
    refusals::UnreadableRequest,
    transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN,
    user_information::{self, AsyncWindow, ExtendedNegotiation, UserInformation},
    violation::AbortReason,
};

/// DICOM Application Context Name (PS3.7 §A.2.1).
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
const PROTOCOL_VERSION: u16 = 1;
/// Fixed fields of A-ASSOCIATE-RQ and -AC in front of the items.
const FIXED_BYTES: usize = 68;

/// An A-ASSOCIATE-RQ that was read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) proposal: Proposal,
    /// Ids in their order, with the rejection of those that nobody is asked about.
    answers: Vec<(u8, Option<ContextRejection>)>,
    // Echoed as they came.
    called: String,
    calling: String,
}

/// Why an A-ASSOCIATE-RQ cannot even be decided about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    Reject(RejectReason),
    Violation(Violation),
}

impl From<UnreadableRequest> for RequestError {
    fn from(unreadable: UnreadableRequest) -> Self {
        Self::Reject(unreadable.reason())
    }
}

impl From<Violation> for RequestError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Request {
    pub(crate) fn read(body: &Bytes, peer: SocketAddr) -> Result<Self, RequestError> {
        // Only bit 0 counts (PS3.8 §9.3.2). Judged first: another version may have another layout.
        let version = body.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes));
        if version.is_some_and(|version| version & PROTOCOL_VERSION == 0) {
            return Err(UnreadableRequest::ProtocolVersion.into());
        }
        let rq = match read(pdu_type::ASSOCIATE_RQ, body) {
            Ok(Pdu::AssociationRQ(rq)) => rq,
            Err(ReadError::MissingApplicationContextName { .. }) => {
                return Err(UnreadableRequest::ApplicationContext.into());
            }
            Ok(_) | Err(_) => return Err(Violation::Associate("items of the A-ASSOCIATE-RQ").into()),
        };
        if rq.application_context_name.trim_end_matches(['\0', ' ']) != APPLICATION_CONTEXT {
            return Err(UnreadableRequest::ApplicationContext.into());
        }
        let called = AeTitle::parse(rq.called_ae_title.trim_end_matches('\0'))
            .map_err(|_| UnreadableRequest::CalledTitle)?;
        let calling = AeTitle::parse(rq.calling_ae_title.trim_end_matches('\0'))
            .map_err(|_| UnreadableRequest::CallingTitle)?;
        let user = UserInformation::read(rq.user_variables)?;
        let (contexts, answers) = contexts(&rq.presentation_contexts);
        let proposal = Proposal {
            peer,
            calling,
            called,
            contexts,
            max_pdu: user.max_pdu,
            implementation: user.implementation,
            roles: user.roles,
            async_window: user.async_window,
            user_identity: user.identity,
            extended: user.extended,
            common_extended: user.common_extended,
            other_items: user.other_items,
        };
        Ok(Self { proposal, answers, called: rq.called_ae_title, calling: rq.calling_ae_title })
    }

    /// The A-ASSOCIATE-AC for these terms, and what it grants.
    pub(crate) fn accept(&self, terms: &Terms, own: Own) -> Result<(Vec<u8>, Granted), Violation> {
        let mut accepted = Vec::new();
        let mut results = Vec::new();
        for (id, rejection) in &self.answers {
            let choice = match rejection {
                Some(rejection) => Err(*rejection),
                None => self.choice(*id, &terms.contexts),
            };
            let (reason, transfer_syntax) = match choice {
                Ok(context) => {
                    let syntax = context.transfer_syntax.as_str().to_owned();
                    accepted.push(context);
                    (PresentationContextResultReason::Acceptance, syntax)
                }
                // Not significant then, but the item must be there (PS3.8 §9.3.3.2).
                Err(rejection) => (result_reason(rejection), IMPLICIT_VR_LITTLE_ENDIAN.to_owned()),
            };
            results.push(PresentationContextResult { id: *id, reason, transfer_syntax });
        }
        let roles = self.roles(&accepted, &terms.scp_roles);
        let async_window = self.proposal.async_window.map(|window| window.narrowed(own.async_window));
        let user_variables = self.answers(terms, own, &accepted, &roles, async_window);
        let ac = AssociationAC {
            protocol_version: PROTOCOL_VERSION,
            calling_ae_title: self.calling.clone(),
            called_ae_title: self.called.clone(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: results,
            user_variables,
        };
        let async_window = async_window.unwrap_or(AsyncWindow::SYNCHRONOUS);
        Ok((write(&Pdu::AssociationAC(ac))?, Granted { contexts: accepted, roles, async_window }))
    }

    /// The user information of the A-ASSOCIATE-AC. Where we allow one operation at a time the window is not answered,
    /// which says the same and is understood by all.
    fn answers(
        &self,
        terms: &Terms,
        own: Own,
        accepted: &[AcceptedContext],
        roles: &[RoleSelection],
        async_window: Option<AsyncWindow>,
    ) -> Vec<UserVariableItem> {
        let mut items = user_information::own(own.max_pdu);
        if own.async_window != AsyncWindow::SYNCHRONOUS {
            items.extend(async_window.map(user_information::async_window));
        }
        items.extend(roles.iter().map(user_information::role));
        let is_accepted = |item: &&ExtendedNegotiation| {
            let asked = self.proposal.extended.iter().any(|asked| asked.sop_class == item.sop_class);
            asked && accepted.iter().any(|context| context.abstract_syntax == item.sop_class)
        };
        items.extend(terms.extended.iter().filter(is_accepted).map(user_information::extended));
        let is_asked =
            self.proposal.user_identity.as_ref().is_some_and(|user| user.positive_response_requested);
        if let Some(response) = terms.identity_response.as_ref().filter(|_| is_asked) {
            items.push(user_information::identity_response(response));
        }
        items
    }

    fn choice(&self, id: u8, decisions: &[ContextDecision]) -> Result<AcceptedContext, ContextRejection> {
        let context = self.proposal.contexts.iter().find(|context| context.id == id);
        let choice = decisions.iter().find(|decision| decision.id == id).map(|decision| &decision.choice);
        match (context, choice) {
            (Some(context), Some(ContextChoice::Accept(syntax)))
                if context.transfer_syntaxes.contains(syntax) =>
            {
                let (abstract_syntax, transfer_syntax) = (context.abstract_syntax.clone(), syntax.clone());
                Ok(AcceptedContext { id, abstract_syntax, transfer_syntax })
            }
            (_, Some(ContextChoice::Accept(_))) => Err(ContextRejection::TransferSyntaxesNotSupported),
            (_, Some(ContextChoice::Reject(rejection))) => Err(*rejection),
            (_, None) => Err(ContextRejection::NoReason),
        }
    }

    /// The requestor's SCU role is confirmed, its SCP role where that is allowed.
    fn roles(&self, accepted: &[AcceptedContext], scp_roles: &[Uid]) -> Vec<RoleSelection> {
        let is_accepted =
            |role: &&RoleSelection| accepted.iter().any(|context| context.abstract_syntax == role.sop_class);
        let answer = |role: &RoleSelection| RoleSelection {
            scp: role.scp && scp_roles.contains(&role.sop_class),
            ..role.clone()
        };
        self.proposal.roles.iter().filter(is_accepted).map(answer).collect()
    }
}

/// What an acceptor says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) max_pdu: u32,
    /// The most that is granted.
    pub(crate) async_window: AsyncWindow,
}

/// What an acceptor has granted.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) contexts: Vec<AcceptedContext>,
    pub(crate) roles: Vec<RoleSelection>,
    pub(crate) async_window: AsyncWindow,
}

/// What a requestor proposes: one transfer syntax per context, ids 1, 3, 5…
pub(crate) fn request(
    calling: &AeTitle,
    called: &AeTitle,
    contexts: &[(Uid, Uid)],
    user_variables: Vec<UserVariableItem>,
) -> Result<(Vec<u8>, Vec<AcceptedContext>), Violation> {
    let proposed: Vec<AcceptedContext> = (0..=u8::MAX)
        .step_by(2)
        .zip(contexts)
        .map(|(even, (class, syntax))| AcceptedContext {
            id: even + 1,
            abstract_syntax: class.clone(),
            transfer_syntax: syntax.clone(),
        })
        .collect();
    let rq = AssociationRQ {
        protocol_version: PROTOCOL_VERSION,
        calling_ae_title: calling.as_str().to_owned(),
        called_ae_title: called.as_str().to_owned(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: proposed
            .iter()
            .map(|context| PresentationContextProposed {
                id: context.id,
                abstract_syntax: context.abstract_syntax.as_str().to_owned(),
                transfer_syntaxes: vec![context.transfer_syntax.as_str().to_owned()],
            })
            .collect(),
        user_variables,
    };
    Ok((write(&Pdu::AssociationRQ(rq))?, proposed))
}

/// An A-ASSOCIATE-AC that was read.
#[derive(Debug)]
pub(crate) struct Acceptance {
    /// Those of the proposed contexts that were accepted.
    pub(crate) contexts: Vec<AcceptedContext>,
    /// The answers to all that were proposed, in their order.
    pub(crate) results: Vec<ContextResult>,
    pub(crate) max_pdu: u32,
    pub(crate) implementation: Implementation,
    pub(crate) user: UserInformation,
}

impl Acceptance {
    pub(crate) fn read(body: &Bytes, proposed: Vec<AcceptedContext>) -> Result<Self, Violation> {
        let Ok(Pdu::AssociationAC(ac)) = read(pdu_type::ASSOCIATE_AC, body) else {
            return Err(Violation::Associate("items of the A-ASSOCIATE-AC"));
        };
        let mut user = UserInformation::read(ac.user_variables)?;
        let (mut contexts, mut results) = (Vec::new(), Vec::new());
        for context in proposed {
            let answer = answer(&ac.presentation_contexts, &context);
            results.push(ContextResult {
                abstract_syntax: context.abstract_syntax.clone(),
                transfer_syntax: context.transfer_syntax.clone(),
                answer,
            });
            if answer == ContextAnswer::Accepted {
                contexts.push(context);
            }
        }
        let implementation = std::mem::take(&mut user.implementation);
        Ok(Self { contexts, results, max_pdu: user.max_pdu, implementation, user })
    }
}

/// An id that was not proposed, or a syntax that was not, is as good as no answer.
fn answer(results: &[PresentationContextResult], context: &AcceptedContext) -> ContextAnswer {
    use PresentationContextResultReason as Reason;
    let rejected = ContextAnswer::Rejected;
    match results.iter().find(|result| result.id == context.id) {
        Some(result) => match result.reason {
            Reason::Acceptance => {
                let syntax = Uid::parse(&result.transfer_syntax);
                let is_proposed = syntax.is_ok_and(|syntax| syntax == context.transfer_syntax);
                if is_proposed { ContextAnswer::Accepted } else { ContextAnswer::Unclear }
            }
            Reason::UserRejection => rejected(ContextRejection::UserRejection),
            Reason::NoReason => rejected(ContextRejection::NoReason),
            Reason::AbstractSyntaxNotSupported => rejected(ContextRejection::AbstractSyntaxNotSupported),
            Reason::TransferSyntaxesNotSupported => rejected(ContextRejection::TransferSyntaxesNotSupported),
        },
        None => ContextAnswer::Unclear,
    }
}

/// The contexts to decide about, and the order and fate of all.
fn contexts(
    proposed: &[PresentationContextProposed],
) -> (Vec<ProposedContext>, Vec<(u8, Option<ContextRejection>)>) {
    let (mut seen, mut repeated) = (ContextIds::default(), ContextIds::default());
    for context in proposed {
        if !seen.insert(context.id) {
            repeated.insert(context.id);
        }
    }
    let (mut contexts, mut answers) = (Vec::new(), Vec::new());
    let mut answered = ContextIds::default();
    for context in proposed {
        if !answered.insert(context.id) {
            continue;
        }
        // Nobody could tell which of two contexts with one id a PDV belongs to.
        if context.id == 0 || repeated.contains(context.id) {
            answers.push((context.id, Some(ContextRejection::NoReason)));
            continue;
        }
        let Ok(abstract_syntax) = Uid::parse(&context.abstract_syntax) else {
            answers.push((context.id, Some(ContextRejection::AbstractSyntaxNotSupported)));
            continue;
        };
        let transfer_syntaxes: Vec<Uid> =
            context.transfer_syntaxes.iter().filter_map(|uid| Uid::parse(uid).ok()).collect();
        if transfer_syntaxes.is_empty() {
            answers.push((context.id, Some(ContextRejection::TransferSyntaxesNotSupported)));
            continue;
        }
        answers.push((context.id, None));
        contexts.push(ProposedContext { id: context.id, abstract_syntax, transfer_syntaxes });
    }
    (contexts, answers)
}

fn result_reason(rejection: ContextRejection) -> PresentationContextResultReason {
    match rejection {
        ContextRejection::UserRejection => PresentationContextResultReason::UserRejection,
        ContextRejection::NoReason => PresentationContextResultReason::NoReason,
        ContextRejection::AbstractSyntaxNotSupported => {
            PresentationContextResultReason::AbstractSyntaxNotSupported
        }
        ContextRejection::TransferSyntaxesNotSupported => {
            PresentationContextResultReason::TransferSyntaxesNotSupported
        }
    }
}

/// An A-ASSOCIATE-RJ.
pub(crate) fn reject(reason: RejectReason) -> Result<Vec<u8>, Violation> {
    use AssociationRJServiceProviderASCEReason as Acse;
    use AssociationRJServiceProviderPresentationReason as Presentation;
    use AssociationRJServiceUserReason as User;
    let source = match reason {
        RejectReason::NoReasonGiven => AssociationRJSource::ServiceUser(User::NoReasonGiven),
        RejectReason::ApplicationContextNotSupported => {
            AssociationRJSource::ServiceUser(User::ApplicationContextNameNotSupported)
        }
        RejectReason::CallingAeTitleNotRecognized => {
            AssociationRJSource::ServiceUser(User::CallingAETitleNotRecognized)
        }
        RejectReason::CalledAeTitleNotRecognized => {
            AssociationRJSource::ServiceUser(User::CalledAETitleNotRecognized)
        }
        RejectReason::ProviderNoReasonGiven => AssociationRJSource::ServiceProviderASCE(Acse::NoReasonGiven),
        RejectReason::ProtocolVersionNotSupported => {
            AssociationRJSource::ServiceProviderASCE(Acse::ProtocolVersionNotSupported)
        }
        RejectReason::TemporaryCongestion => {
            AssociationRJSource::ServiceProviderPresentation(Presentation::TemporaryCongestion)
        }
        RejectReason::LocalLimitExceeded => {
            AssociationRJSource::ServiceProviderPresentation(Presentation::LocalLimitExceeded)
        }
    };
    let is_permanent = reason.rejection().is_permanent();
    let result = if is_permanent { AssociationRJResult::Permanent } else { AssociationRJResult::Transient };
    write(&Pdu::AssociationRJ(AssociationRJ { result, source }))
}

/// The fields of an A-ASSOCIATE-RJ. Read here: dicom-ul refuses codes that PS3.8 has not, and peers send them.
pub(crate) fn rejection(body: &[u8]) -> Rejection {
    match body {
        [_, result, source, reason, ..] => Rejection::new(*result, *source, *reason),
        _ => Rejection::new(1, 1, 1),
    }
}

/// Source and reason of an A-ABORT, read here for the same reason.
pub(crate) fn abort_codes(body: &[u8]) -> (u8, u8) {
    match body {
        [_, _, source, reason, ..] => (*source, *reason),
        _ => (0, 0),
    }
}

/// An A-ABORT; without a reason by the service user.
pub(crate) fn abort(reason: Option<AbortReason>) -> Vec<u8> {
    use AbortRQServiceProviderReason as Provider;
    let source = reason.map_or(AbortRQSource::ServiceUser, |reason| {
        AbortRQSource::ServiceProvider(match reason {
            AbortReason::NotSpecified => Provider::ReasonNotSpecified,
            AbortReason::UnrecognizedPdu => Provider::UnrecognizedPdu,
            AbortReason::UnexpectedPdu => Provider::UnexpectedPdu,
            AbortReason::InvalidPduParameter => Provider::InvalidPduParameter,
        })
    });
    write(&Pdu::AbortRQ { source }).unwrap_or_default()
}

pub(crate) fn release_request() -> Result<Vec<u8>, Violation> {
    write(&Pdu::ReleaseRQ)
}

pub(crate) fn release_response() -> Result<Vec<u8>, Violation> {
    write(&Pdu::ReleaseRP)
}

fn write(pdu: &Pdu) -> Result<Vec<u8>, Violation> {
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, pdu).map_err(|_| Violation::Associate("our own PDU cannot be written"))?;
    Ok(bytes)
}

pub(crate) fn read(pdu_type: u8, body: &[u8]) -> Result<Pdu, ReadError> {
    let body = without_unknown_items(pdu_type, body);
    let mut bytes = Vec::with_capacity(PDU_HEADER_BYTES + body.len());
    bytes.extend_from_slice(&[pdu_type, 0]);
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(&body);
    match read_pdu(&bytes[..], ASSOCIATE_BYTES_MAX, false)? {
        Some(pdu) => Ok(pdu),
        // The whole PDU is there, so that "more is needed" can only be a length that lies.
        None => Ok(Pdu::Unknown { pdu_type, data: Vec::new() }),
    }
}

/// PS3.8 §9.3.1: items of a type that is not known are skipped; dicom-ul fails on them. It also fails on a
/// rejected context without its (meaningless) transfer syntax item, which some acceptors leave out. A
/// truncated item is left for the codec to refuse.
fn without_unknown_items(pdu_type: u8, body: &[u8]) -> Vec<u8> {
    const APPLICATION_CONTEXT_ITEM: u8 = 0x10;
    const PROPOSED_CONTEXT_ITEM: u8 = 0x20;
    const CONTEXT_RESULT_ITEM: u8 = 0x21;
    const USER_INFORMATION_ITEM: u8 = 0x50;
    let context_item =
        if pdu_type == pdu_type::ASSOCIATE_RQ { PROPOSED_CONTEXT_ITEM } else { CONTEXT_RESULT_ITEM };
    let Some((fixed, mut items)) = body.split_at_checked(FIXED_BYTES) else { return body.to_vec() };
    let mut kept = fixed.to_vec();
    while let [item_type, _, high, low, rest @ ..] = items {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, next)) = rest.split_at_checked(length) else { break };
        let known = [APPLICATION_CONTEXT_ITEM, context_item, USER_INFORMATION_ITEM].contains(item_type);
        if *item_type == CONTEXT_RESULT_ITEM && length == 4 {
            let empty_transfer_syntax = [0x40, 0, 0, 0];
            kept.extend_from_slice(&[CONTEXT_RESULT_ITEM, 0, 0, 8]);
            kept.extend_from_slice(value);
            kept.extend_from_slice(&empty_transfer_syntax);
        } else if known {
            let item = items.len() - next.len();
            kept.extend_from_slice(items.get(..item).unwrap_or_default());
        }
        items = next;
    }
    kept.extend_from_slice(items);
    kept
}
