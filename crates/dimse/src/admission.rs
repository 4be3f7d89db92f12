//! Who may associate, and for what: decided by the caller, one context at a time.

use std::{fmt, net::SocketAddr, sync::Arc};

use base::{AeTitle, Uid};

use crate::{
    onlooker::Onlooker,
    sop_class::{SopClassKind, VERIFICATION},
    transfer_syntax::{choose_transfer_syntax, transfer_syntax},
    user_information::{AsyncWindow, CommonExtendedNegotiation, ExtendedNegotiation, UserIdentity},
};

/// An A-ASSOCIATE-RQ as far as it can be decided about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Calling AE title.
    pub calling: AeTitle,
    /// Called AE title.
    pub called: AeTitle,
    /// The presentation contexts that can be accepted. Those whose id is 0 or there twice, or which offer no
    /// valid UID, are not among them and are rejected without asking.
    pub contexts: Vec<ProposedContext>,
    /// The longest P-DATA-TF that the peer takes; 0 is no limit.
    pub max_pdu: u32,
    /// The peer's software, for a log line.
    pub implementation: Implementation,
    /// SCP/SCU Role Selection items (PS3.7 §D.3.3.4).
    pub roles: Vec<RoleSelection>,
    /// Asynchronous Operations Window (PS3.7 §D.3.3.3).
    pub async_window: Option<AsyncWindow>,
    /// User Identity (PS3.7 §D.3.3.7).
    pub user_identity: Option<UserIdentity>,
    /// SOP Class Extended Negotiation items (PS3.7 §D.3.3.5).
    pub extended: Vec<ExtendedNegotiation>,
    /// SOP Class Common Extended Negotiation items (PS3.7 §D.3.3.6), which have no answer.
    pub common_extended: Vec<CommonExtendedNegotiation>,
    /// Other user information items: their types. They are tolerated and not answered.
    pub other_items: Vec<u8>,
}

/// One presentation context of an A-ASSOCIATE-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedContext {
    /// Presentation context id. Even ones are against PS3.8 §9.3.2.2, occur, and do no harm.
    pub id: u8,
    /// Abstract syntax: a SOP class.
    pub abstract_syntax: Uid,
    /// Transfer syntaxes, in the requestor's order; at least one.
    pub transfer_syntaxes: Vec<Uid>,
}

/// Implementation Class UID and Version Name (PS3.7 §D.3.3.2), printable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Implementation {
    /// Implementation Class UID.
    pub class_uid: Option<Uid>,
    /// Implementation Version Name.
    pub version_name: Option<String>,
}

/// One SCP/SCU Role Selection item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSelection {
    /// SOP class.
    pub sop_class: Uid,
    /// The requestor wants to be SCU.
    pub scu: bool,
    /// The requestor wants to be SCP.
    pub scp: bool,
}

/// Decides about associations.
pub trait Admission: Send + Sync {
    /// Called once for each A-ASSOCIATE-RQ that could be read.
    fn decide(&self, proposal: &Proposal) -> Verdict;

    /// Who may look on; asked once for each connection, before anything is read from it.
    fn onlooker(&self, _peer: SocketAddr) -> Option<Arc<dyn Onlooker>> {
        None
    }
}

impl<F: Fn(&Proposal) -> Verdict + Send + Sync> Admission for F {
    fn decide(&self, proposal: &Proposal) -> Verdict {
        self(proposal)
    }
}

/// What becomes of an A-ASSOCIATE-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The association is accepted on these terms.
    Accept(Terms),
    /// The association is rejected.
    Reject(RejectReason),
}

/// On what terms an association is accepted. Decisions about contexts alone are terms, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// A context without a decision is rejected with "no reason". None accepted is an association all the same:
    /// the requestor will release it.
    pub contexts: Vec<ContextDecision>,
    /// SOP classes for which a requestor that wants to be SCP may be: then we are their SCU, as of Storage Commitment
    /// when a destination reports on an association of its own. Of all others it may be SCU only.
    pub scp_roles: Vec<Uid>,
    /// Server response to the user identity (PS3.7 §D.3.3.7.2); sent where a positive response was asked for. Who does
    /// not accept the identity rejects the association. See [`IdentityPolicy`](crate::IdentityPolicy).
    pub identity_response: Option<Vec<u8>>,
    /// Answers to [`Proposal::extended`]; those about a SOP class without an accepted context are not sent. See
    /// [`StorageSupport`](crate::StorageSupport).
    pub extended: Vec<ExtendedNegotiation>,
}

impl From<Vec<ContextDecision>> for Terms {
    fn from(contexts: Vec<ContextDecision>) -> Self {
        Self { contexts, ..Self::default() }
    }
}

/// What becomes of one presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextDecision {
    /// Presentation context id.
    pub id: u8,
    /// The decision.
    pub choice: ContextChoice,
}

/// A decision about one presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextChoice {
    /// Accepted with this one of the offered transfer syntaxes.
    Accept(Uid),
    /// Rejected.
    Reject(ContextRejection),
}

/// What a peer answered to one presentation context that we proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextResult {
    /// SOP class.
    pub abstract_syntax: Uid,
    /// The one transfer syntax that was proposed.
    pub transfer_syntax: Uid,
    /// The answer.
    pub answer: ContextAnswer,
}

/// A peer's answer to one presentation context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContextAnswer {
    /// Accepted.
    Accepted,
    /// Rejected by name: the one answer that says that the peer does not take it.
    Rejected(ContextRejection),
    /// No answer, one of an unknown kind, or another transfer syntax than was proposed. It is not accepted, and says
    /// nothing of what the peer takes.
    Unclear,
}

/// Result/Reason of a rejected presentation context (PS3.8 Table 9-18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContextRejection {
    /// 1
    UserRejection,
    /// 2
    NoReason,
    /// 3
    AbstractSyntaxNotSupported,
    /// 4
    TransferSyntaxesNotSupported,
}

/// Why an association is rejected: each gives one result, source and reason (PS3.8 Table 9-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// 1/1/1
    NoReasonGiven,
    /// 1/1/2
    ApplicationContextNotSupported,
    /// 1/1/3
    CallingAeTitleNotRecognized,
    /// 1/1/7
    CalledAeTitleNotRecognized,
    /// 1/2/1
    ProviderNoReasonGiven,
    /// 1/2/2
    ProtocolVersionNotSupported,
    /// 2/3/1
    TemporaryCongestion,
    /// 2/3/2
    LocalLimitExceeded,
}

impl RejectReason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::NoReasonGiven,
        Self::ApplicationContextNotSupported,
        Self::CallingAeTitleNotRecognized,
        Self::CalledAeTitleNotRecognized,
        Self::ProviderNoReasonGiven,
        Self::ProtocolVersionNotSupported,
        Self::TemporaryCongestion,
        Self::LocalLimitExceeded,
    ];

    /// The three fields of the A-ASSOCIATE-RJ.
    pub fn rejection(self) -> Rejection {
        let (result, source, reason) = match self {
            Self::NoReasonGiven => (1, 1, 1),
            Self::ApplicationContextNotSupported => (1, 1, 2),
            Self::CallingAeTitleNotRecognized => (1, 1, 3),
            Self::CalledAeTitleNotRecognized => (1, 1, 7),
            Self::ProviderNoReasonGiven => (1, 2, 1),
            Self::ProtocolVersionNotSupported => (1, 2, 2),
            Self::TemporaryCongestion => (2, 3, 1),
            Self::LocalLimitExceeded => (2, 3, 2),
        };
        Rejection { result, source, reason }
    }
}

/// Result, source and reason of an A-ASSOCIATE-RJ, as they came: peers send values that PS3.8 has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rejection {
    result: u8,
    source: u8,
    reason: u8,
}

impl Rejection {
    /// From the three fields.
    pub fn new(result: u8, source: u8, reason: u8) -> Self {
        Self { result, source, reason }
    }

    /// Rejected for good, as far as the peer knows. Anything but 2 counts as that.
    pub fn is_permanent(self) -> bool {
        self.result != 2
    }

    /// 1 permanent, 2 transient.
    pub fn result_code(self) -> u8 {
        self.result
    }

    /// 1 service user, 2 service provider (ACSE), 3 service provider (presentation).
    pub fn source_code(self) -> u8 {
        self.source
    }

    /// Its meaning depends on the source.
    pub fn reason_code(self) -> u8 {
        self.reason
    }
}

impl Rejection {
    /// The standard's words for source and reason.
    pub fn meaning(self) -> &'static str {
        match (self.source, self.reason) {
            (1, 2) => "application context name not supported",
            (1, 3) => "calling AE title not recognized",
            (1, 7) => "called AE title not recognized",
            (2, 2) => "protocol version not supported",
            (3, 1) => "temporary congestion",
            (3, 2) => "local limit exceeded",
            _ => "no reason given",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { result, source, reason } = self;
        write!(f, "{} (result {result}, source {source}, reason {reason})", self.meaning())
    }
}

/// The decisions of a storage node: verification, every storage SOP class, and any transfer syntax.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoragePolicy {
    /// Accept SOP classes that are in no table too: private ones, and those newer than the tables.
    pub private_sop_classes: bool,
    /// Transfer syntaxes to take first where a context offers several; see
    /// [`choose_transfer_syntax`].
    pub prefer: Vec<Uid>,
}

impl StoragePolicy {
    /// Decides about each context.
    pub fn decide(&self, proposal: &Proposal) -> Vec<ContextDecision> {
        let decision =
            |context: &ProposedContext| ContextDecision { id: context.id, choice: self.choose(context) };
        proposal.contexts.iter().map(decision).collect()
    }

    fn choose(&self, context: &ProposedContext) -> ContextChoice {
        let is_wanted = match SopClassKind::of(&context.abstract_syntax) {
            SopClassKind::Storage(_) => true,
            SopClassKind::Other(row) => row.uid == VERIFICATION,
            SopClassKind::Unknown => self.private_sop_classes,
        };
        if !is_wanted {
            return ContextChoice::Reject(ContextRejection::AbstractSyntaxNotSupported);
        }
        match choose_transfer_syntax(&context.transfer_syntaxes, &self.prefer) {
            Some(uid) => ContextChoice::Accept(uid.clone()),
            None => ContextChoice::Reject(ContextRejection::TransferSyntaxesNotSupported),
        }
    }
}

/// A presentation context that both sides may use. It can be printed: it says nothing of any patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedContext {
    /// Presentation context id.
    pub id: u8,
    /// SOP class.
    pub abstract_syntax: Uid,
    /// Transfer syntax of every data set in it.
    pub transfer_syntax: Uid,
}

impl fmt::Display for AcceptedContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = SopClassKind::of(&self.abstract_syntax).name().unwrap_or(self.abstract_syntax.as_str());
        let syntax =
            transfer_syntax(&self.transfer_syntax).map_or(self.transfer_syntax.as_str(), |row| row.name);
        write!(f, "{} {class}, {syntax}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    fn proposal(classes: &[&str]) -> Proposal {
        let context = |(at, class): (usize, &&str)| ProposedContext {
            id: u8::try_from(2 * at + 1).unwrap(),
            abstract_syntax: uid(class),
            transfer_syntaxes: vec![uid("1.2.840.10008.1.2"), uid("1.2.840.10008.1.2.1")],
        };
        Proposal {
            peer: "127.0.0.1:104".parse().unwrap(),
            calling: AeTitle::parse("A").unwrap(),
            called: AeTitle::parse("B").unwrap(),
            contexts: classes.iter().enumerate().map(context).collect(),
            max_pdu: 16384,
            implementation: Implementation::default(),
            roles: Vec::new(),
            async_window: None,
            user_identity: None,
            extended: Vec::new(),
            common_extended: Vec::new(),
            other_items: Vec::new(),
        }
    }

    #[test]
    fn a_storage_node_takes_storage_and_verification_and_private_classes_on_request() {
        let proposal = proposal(&[
            "1.2.840.10008.1.1",
            "1.2.840.10008.5.1.4.1.1.2",
            "1.2.840.10008.1.20.1",
            "1.2.840.10008.5.1.4.1.2.2.1",
            "1.3.6.1.4.1.99.7",
        ]);
        let accepted = |policy: StoragePolicy| {
            let decisions = policy.decide(&proposal).into_iter();
            let id = |decision: ContextDecision| match decision.choice {
                ContextChoice::Accept(syntax) => {
                    assert_eq!(syntax, uid("1.2.840.10008.1.2.1"));
                    Some(decision.id)
                }
                ContextChoice::Reject(reason) => {
                    assert_eq!(reason, ContextRejection::AbstractSyntaxNotSupported);
                    None
                }
            };
            decisions.filter_map(id).collect::<Vec<_>>()
        };
        assert_eq!(accepted(StoragePolicy::default()), [1, 3]);
        assert_eq!(accepted(StoragePolicy { private_sop_classes: true, prefer: Vec::new() }), [1, 3, 9]);
    }

    #[test]
    fn what_is_logged_of_a_context_names_class_and_syntax() {
        let context = AcceptedContext {
            id: 3,
            abstract_syntax: uid("1.2.840.10008.5.1.4.1.1.2"),
            transfer_syntax: uid("1.2.840.10008.1.2.1"),
        };
        assert_eq!(context.to_string(), "3 CT Image Storage, Explicit VR Little Endian");
    }

    #[test]
    fn rejections_read_as_text() {
        let text = RejectReason::LocalLimitExceeded.rejection().to_string();
        assert_eq!(text, "local limit exceeded (result 2, source 3, reason 2)");
        assert!(!RejectReason::TemporaryCongestion.rejection().is_permanent());
        assert!(RejectReason::CalledAeTitleNotRecognized.rejection().is_permanent());
    }
}
