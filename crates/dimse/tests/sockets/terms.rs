//! What is negotiated beside presentation contexts, byte by byte where a peer reads it.

use std::sync::Arc;

use base::Secret;
use dimse::{
    AcceptorConfig, Admission, AsyncWindow, CommonExtendedNegotiation, ContextAnswer, ContextRejection,
    ExtendedNegotiation, IdentityPolicy, Proposal, Requestor, RequestorConfig, STORAGE_SERVICE_CLASS,
    StoragePolicy, StorageSupport, Terms, UserIdentity, UserIdentityKind, Verdict,
};
use tokio::net::TcpListener;

use crate::peer::*;

fn identity(kind: UserIdentityKind, positive_response_requested: bool) -> UserIdentity {
    let secret = |text: &[u8]| Secret::new(text.to_vec());
    UserIdentity {
        kind,
        positive_response_requested,
        primary: secret(b"radiology"),
        secondary: secret(b"pass"),
    }
}

/// A storage node with an identity policy, which answers extended negotiation.
fn admission(policy: IdentityPolicy) -> Arc<dyn Admission> {
    Arc::new(move |proposal: &Proposal| {
        let identity_response = match policy.answer(proposal.user_identity.as_ref()) {
            Ok(response) => response,
            Err(reason) => return Verdict::Reject(reason),
        };
        Verdict::Accept(Terms {
            contexts: StoragePolicy::default().decide(proposal),
            extended: StorageSupport::BIT_PRESERVING.answers(&proposal.extended, |_| true),
            identity_response,
            ..Terms::default()
        })
    })
}

#[tokio::test]
async fn a_window_is_granted_as_configured_and_both_sides_know_it() {
    let window = |invoked, performed| AsyncWindow { invoked, performed };
    let cases = [
        (1, None, AsyncWindow::SYNCHRONOUS),
        (1, Some(window(0, 0)), AsyncWindow::SYNCHRONOUS),
        (0, None, AsyncWindow::SYNCHRONOUS),
        (0, Some(window(0, 0)), window(0, 1)),
        (0, Some(window(5, 1)), window(5, 1)),
        (8, Some(window(0, 3)), window(8, 1)),
        (8, Some(window(2, 3)), window(2, 1)),
    ];
    for (async_operations, async_window, want) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = AcceptorConfig { async_operations, ..AcceptorConfig::default() };
        let accepting = async {
            let (stream, _) = listener.accept().await.unwrap();
            dimse::accept(stream, &config, &*storage_policy()).await.unwrap()
        };
        let config = RequestorConfig { async_window, ..requestor_config(&[(CT, EXPLICIT)]) };
        let (association, requestor) = tokio::join!(accepting, Requestor::connect(address, config));
        assert_eq!(requestor.unwrap().async_window(), want, "{async_operations} {async_window:?}");
        assert_eq!(association.async_window(), want);
    }
}

#[tokio::test]
async fn requests_that_are_outstanding_are_served_in_their_order() {
    let config = AcceptorConfig { async_operations: 0, ..AcceptorConfig::default() };
    let (address, serving) = serve_one(config, storage_policy()).await;
    let mut peer = Peer::associated(address).await;
    let requests: Vec<u8> = (1..=20).flat_map(|id| p_data(&[pdv(3, COMMAND | LAST, &echo_rq(id))])).collect();
    peer.send(&requests).await;
    for id in 1..=20 {
        let answer = peer.command().await;
        assert_eq!(answer.us(dimse::command::element::MESSAGE_ID_RESPONDED_TO), Some(id));
    }
    peer.send(&RELEASE_RQ).await;
    assert_eq!(serving.await.unwrap().echoes, 20);
}

#[tokio::test]
async fn an_identity_is_ignored_accepted_or_refused_as_configured() {
    use UserIdentityKind::{KerberosTicket, Name, NameAndPasscode};
    // The answer, or `Err` for a rejection.
    type Case = (IdentityPolicy, UserIdentityKind, bool, Result<Option<&'static [u8]>, ()>);
    let cases: [Case; 7] = [
        (IdentityPolicy::Ignore, Name, true, Ok(None)),
        (IdentityPolicy::AcceptNames, Name, true, Ok(Some(b""))),
        (IdentityPolicy::AcceptNames, NameAndPasscode, true, Ok(Some(b""))),
        (IdentityPolicy::AcceptNames, NameAndPasscode, false, Ok(None)),
        (IdentityPolicy::AcceptNames, KerberosTicket, true, Err(())),
        (IdentityPolicy::Refuse, Name, false, Err(())),
        (IdentityPolicy::Refuse, NameAndPasscode, true, Err(())),
    ];
    for (policy, kind, asks, want) in cases {
        let (address, _serving) = serve_one(AcceptorConfig::default(), admission(policy)).await;
        let config = RequestorConfig {
            user_identity: Some(identity(kind, asks)),
            ..requestor_config(&[(CT, EXPLICIT)])
        };
        match (Requestor::connect(address, config).await, want) {
            (Ok(requestor), Ok(response)) => assert_eq!(requestor.identity_response(), response),
            (Err(error), Err(())) => {
                let text = "association rejected: no reason given (result 1, source 1, reason 1)";
                assert_eq!(error.to_string(), text);
            }
            (got, want) => panic!("{policy:?} {kind:?}: {want:?}, {}", got.is_ok()),
        }
    }
}

#[tokio::test]
async fn extended_negotiation_is_answered_for_accepted_classes_that_asked() {
    let extended = |class| ExtendedNegotiation { sop_class: uid(class), information: vec![2, 0, 0, 0, 0, 0] };
    let common = CommonExtendedNegotiation {
        sop_class: uid(CT),
        service_class: uid(STORAGE_SERVICE_CLASS),
        related_general: vec![uid("1.2.840.10008.5.1.4.1.1.2.1")],
    };
    let config = RequestorConfig {
        extended: vec![extended(CT), extended("1.2.840.10008.5.1.4.1.2.2.1")],
        common_extended: vec![common.clone()],
        ..requestor_config(&[(CT, EXPLICIT), (MR, EXPLICIT), ("1.2.840.10008.5.1.4.1.2.2.1", EXPLICIT)])
    };
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (inner, keep) = (admission(IdentityPolicy::Ignore), Arc::clone(&seen));
    let watching: Arc<dyn Admission> = Arc::new(move |proposal: &Proposal| {
        *keep.lock().unwrap() = proposal.common_extended.clone();
        inner.decide(proposal)
    });
    let (address, _serving) = serve_one(AcceptorConfig::default(), watching).await;
    let requestor = Requestor::connect(address, config).await.unwrap();
    let want = ExtendedNegotiation { sop_class: uid(CT), information: vec![2, 0, 3, 0, 0, 0] };
    assert_eq!(requestor.extended(), [want]);
    assert_eq!(*seen.lock().unwrap(), [common]);
}

#[tokio::test]
async fn a_probe_is_told_the_answer_to_each_pair() {
    let query = "1.2.840.10008.5.1.4.1.2.2.1";
    let pairs = [(CT, EXPLICIT), (query, EXPLICIT), (CT, IMPLICIT), ("1.3.6.1.4.1.99.7", EXPLICIT)];
    let admission: Arc<dyn Admission> =
        Arc::new(|proposal: &Proposal| Verdict::Accept(StoragePolicy::default().decide(proposal).into()));
    let (address, _serving) = serve_one(AcceptorConfig::default(), admission).await;
    let requestor = Requestor::connect(address, requestor_config(&pairs)).await.unwrap();
    let rejected = ContextAnswer::Rejected(ContextRejection::AbstractSyntaxNotSupported);
    let want = [ContextAnswer::Accepted, rejected, ContextAnswer::Accepted, rejected];
    for ((result, (class, syntax)), want) in requestor.results().iter().zip(pairs).zip(want) {
        assert_eq!((&result.abstract_syntax, &result.transfer_syntax), (&uid(class), &uid(syntax)));
        assert_eq!(result.answer, want, "{class}");
    }
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_no_rejection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answering = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Peer { stream };
        peer.pdu().await.unwrap();
        let result = |id: u8, reason: u8, syntax: &str| {
            item(0x21, &[&[id, 0, reason, 0][..], &item(0x40, syntax.as_bytes())].concat())
        };
        let mut ac = AssociatePdu::request(&[]);
        ac.pdu_type = 2;
        ac.items = [
            item(0x10, APPLICATION_CONTEXT.as_bytes()),
            result(1, 0, EXPLICIT),
            // Another syntax than was proposed.
            result(3, 0, EXPLICIT),
            result(5, 4, IMPLICIT),
            result(9, 1, IMPLICIT),
            user_information(0, &[]),
        ]
        .concat();
        peer.send(&ac.bytes()).await;
        peer
    };
    let pairs = [(CT, EXPLICIT), (CT, IMPLICIT), (MR, EXPLICIT), (MR, IMPLICIT), (VERIFICATION, IMPLICIT)];
    let (_peer, requestor) = tokio::join!(answering, Requestor::connect(address, requestor_config(&pairs)));
    let answers: Vec<_> = requestor.unwrap().results().iter().map(|result| result.answer).collect();
    let want = [
        ContextAnswer::Accepted,
        ContextAnswer::Unclear,
        ContextAnswer::Rejected(ContextRejection::TransferSyntaxesNotSupported),
        ContextAnswer::Unclear,
        ContextAnswer::Rejected(ContextRejection::UserRejection),
    ];
    assert_eq!(answers, want);
}
