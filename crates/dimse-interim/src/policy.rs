//! Which presentation contexts a storage node accepts, and with which transfer syntax.

use std::net::SocketAddr;

use base::{AeTitle, Uid};

use crate::{
    reject::RejectReason,
    sop_class::{SopClassKind, VERIFICATION},
    transfer_syntax::choose_transfer_syntax,
};

/// What a peer asks for.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Calling AE title.
    pub calling: AeTitle,
    /// Called AE title.
    pub called: AeTitle,
    /// Where it calls from.
    pub peer: SocketAddr,
    /// In its order.
    pub contexts: Vec<ProposedContext>,
}

/// One presentation context of a proposal.
#[derive(Debug, Clone)]
pub struct ProposedContext {
    /// Its id. Even ids break PS3.8 §9.3.2.2 and occur.
    pub id: u8,
    /// `None` where it is no UID.
    pub abstract_syntax: Option<Uid>,
    /// Those that are UIDs, in the peer's order.
    pub transfer_syntaxes: Vec<Uid>,
}

/// What becomes of one context (PS3.8 Table 9-18).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextAnswer {
    /// Accepted, with this transfer syntax.
    Accept(Uid),
    /// Reason 1.
    UserRejection,
    /// Reason 3.
    AbstractSyntaxNotSupported,
    /// Reason 4.
    TransferSyntaxesNotSupported,
}

/// What becomes of an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// One answer for each proposed context, in their order.
    Accept(Vec<ContextAnswer>),
    /// A-ASSOCIATE-RJ.
    Reject(RejectReason),
}

/// Decides about associations.
pub trait Admission: Send + Sync {
    /// Called once, when the whole A-ASSOCIATE-RQ is there.
    fn decide(&self, proposal: &Proposal) -> Verdict;
}

/// A storage node's answer to contexts: verification, every storage SOP class, every transfer syntax.
#[derive(Debug, Clone, Default)]
pub struct StoragePolicy {
    /// Also SOP classes that no table knows (private ones, and those of later editions).
    pub private_sop_classes: bool,
    /// Transfer syntaxes to choose first where several are offered in one context.
    pub prefer: Vec<Uid>,
}

impl StoragePolicy {
    /// One answer for each context.
    pub fn decide(&self, proposal: &Proposal) -> Vec<ContextAnswer> {
        proposal.contexts.iter().map(|context| self.answer(context)).collect()
    }

    fn answer(&self, context: &ProposedContext) -> ContextAnswer {
        let Some(class) = &context.abstract_syntax else { return ContextAnswer::AbstractSyntaxNotSupported };
        let accepted = match SopClassKind::of(class) {
            SopClassKind::Storage(_) => true,
            SopClassKind::Other(_) => class.as_str() == VERIFICATION,
            SopClassKind::Unknown => self.private_sop_classes,
        };
        if !accepted {
            return ContextAnswer::AbstractSyntaxNotSupported;
        }
        match choose_transfer_syntax(&context.transfer_syntaxes, &self.prefer) {
            Some(syntax) => ContextAnswer::Accept(syntax.clone()),
            None => ContextAnswer::TransferSyntaxesNotSupported,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    #[test]
    fn a_storage_node_takes_what_can_be_stored() {
        let context = |class: &str| ProposedContext {
            id: 1,
            abstract_syntax: Some(uid(class)),
            transfer_syntaxes: vec![uid("1.2.840.10008.1.2")],
        };
        let cases = [
            ("1.2.840.10008.1.1", true, true),
            ("1.2.840.10008.5.1.4.1.1.2", true, true),
            ("1.2.826.0.1.3680043.9.9", false, true),
            ("1.2.840.10008.1.20.1", false, false),
            ("1.2.840.10008.5.1.4.1.2.2.1", false, false),
        ];
        for (class, standard, private) in cases {
            for (private_sop_classes, want) in [(false, standard), (true, private)] {
                let policy = StoragePolicy { private_sop_classes, prefer: Vec::new() };
                let accepted = matches!(policy.answer(&context(class)), ContextAnswer::Accept(_));
                assert_eq!(accepted, want, "{class} private={private_sop_classes}");
            }
        }
    }
}
