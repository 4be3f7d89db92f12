//! A-ASSOCIATE in both directions: what is proposed, decided, answered, rejected.

use std::sync::{Arc, Mutex};

use crate::peer::*;
use dicom_ul::pdu::{
    AssociationAC, Pdu, PresentationContextResultReason as Reason, UserVariableItem, read_pdu,
};
use dimse::{
    AcceptorConfig, Admission, ConnectError, ContextChoice, ContextDecision, ContextRejection, Proposal,
    RejectReason, Requestor, RequestorConfig, Verdict,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// The A-ASSOCIATE-AC as dicom-ul reads it.
fn acceptance((pdu_type, body): (u8, Vec<u8>)) -> AssociationAC {
    match read_pdu(&pdu(pdu_type, &body)[..], 1 << 20, true).unwrap().unwrap() {
        Pdu::AssociationAC(ac) => ac,
        other => panic!("{other:?}"),
    }
}

/// Answers one A-ASSOCIATE-RQ.
async fn answer(
    request: &[u8],
    config: AcceptorConfig,
    admission: Arc<dyn Admission>,
) -> Option<(u8, Vec<u8>)> {
    let (address, _serving) = serve_one(config, admission).await;
    let mut peer = Peer::connect(address).await;
    peer.send(request).await;
    peer.pdu().await
}

#[tokio::test]
async fn contexts_are_decided_one_by_one() {
    let proposal_seen = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&proposal_seen);
    let admission: Arc<dyn Admission> = Arc::new(move |proposal: &Proposal| {
        *seen.lock().unwrap() = Some(proposal.clone());
        let reject = |id, rejection| ContextDecision { id, choice: ContextChoice::Reject(rejection) };
        let accept = |id, syntax| ContextDecision { id, choice: ContextChoice::Accept(uid(syntax)) };
        let decisions = vec![
            accept(1, EXPLICIT),
            reject(3, ContextRejection::UserRejection),
            reject(5, ContextRejection::NoReason),
            reject(7, ContextRejection::AbstractSyntaxNotSupported),
            reject(9, ContextRejection::TransferSyntaxesNotSupported),
            // Not offered: must not be believed.
            accept(11, IMPLICIT),
            accept(2, "1.3.6.1.4.1.99.1"),
            // Never proposed.
            accept(99, EXPLICIT),
        ];
        Verdict::Accept(decisions.into())
    });
    let mut contexts: Vec<_> = [1, 3, 5, 7, 9, 11, 13].map(|id| proposed(id, CT, &[EXPLICIT])).to_vec();
    contexts.push(proposed(2, MR, &[EXPLICIT, "1.3.6.1.4.1.99.1\0"]));
    contexts.push(proposed(0, MR, &[EXPLICIT]));
    contexts.push(proposed(21, MR, &[EXPLICIT]));
    contexts.push(proposed(21, CT, &[IMPLICIT]));
    contexts.push(proposed(23, "not a uid", &[EXPLICIT]));
    contexts.push(proposed(25, CT, &["not a uid"]));
    contexts.push(proposed(27, CT, &[]));
    let request = AssociatePdu::request(&contexts).bytes();
    let ac = acceptance(answer(&request, AcceptorConfig::default(), admission).await.unwrap());
    let results: Vec<_> =
        ac.presentation_contexts.iter().map(|result| (result.id, result.reason.clone())).collect();
    let want = [
        (1, Reason::Acceptance),
        (3, Reason::UserRejection),
        (5, Reason::NoReason),
        (7, Reason::AbstractSyntaxNotSupported),
        (9, Reason::TransferSyntaxesNotSupported),
        (11, Reason::TransferSyntaxesNotSupported),
        // Undecided.
        (13, Reason::NoReason),
        (2, Reason::Acceptance),
        // Unusable ids.
        (0, Reason::NoReason),
        (21, Reason::NoReason),
        (23, Reason::AbstractSyntaxNotSupported),
        (25, Reason::TransferSyntaxesNotSupported),
        (27, Reason::TransferSyntaxesNotSupported),
    ];
    assert_eq!(results, want);
    assert_eq!(ac.presentation_contexts[7].transfer_syntax, "1.3.6.1.4.1.99.1");
    let proposal = proposal_seen.lock().unwrap().take().unwrap();
    assert_eq!((proposal.calling, proposal.called), (ae("MODALITY"), ae("STORE")));
    assert_eq!(
        proposal.contexts.iter().map(|context| context.id).collect::<Vec<_>>(),
        [1, 3, 5, 7, 9, 11, 13, 2]
    );
    assert_eq!(proposal.max_pdu, 16384);
    assert_eq!(proposal.implementation.class_uid, Some(uid("1.2.3.99")));
}

#[tokio::test]
async fn the_acceptance_carries_our_limits_and_names() {
    for (configured, announced) in [(0, 0), (1, 4096), (4096, 4096), (262_144, 262_144), (u32::MAX, 1 << 20)]
    {
        let config = AcceptorConfig { max_pdu: configured, ..AcceptorConfig::default() };
        let request = AssociatePdu::request(&[proposed(1, CT, &[EXPLICIT])]).bytes();
        let ac = acceptance(answer(&request, config, storage_policy()).await.unwrap());
        let want = [
            UserVariableItem::MaxLength(announced),
            UserVariableItem::ImplementationClassUID(dimse::IMPLEMENTATION_CLASS_UID.to_owned()),
            UserVariableItem::ImplementationVersionName(dimse::IMPLEMENTATION_VERSION_NAME.to_owned()),
        ];
        assert_eq!(ac.user_variables, want);
        assert_eq!((ac.called_ae_title.as_str(), ac.calling_ae_title.as_str()), ("STORE", "MODALITY"));
        assert_eq!((ac.protocol_version, ac.application_context_name.as_str()), (1, APPLICATION_CONTEXT));
    }
}

#[tokio::test]
async fn role_selection_is_answered_with_scu_only_and_other_items_are_tolerated() {
    let role = |class: &str, scu: u8, scp: u8| {
        let mut value = u16::try_from(class.len()).unwrap().to_be_bytes().to_vec();
        value.extend_from_slice(class.as_bytes());
        value.extend_from_slice(&[scu, scp]);
        item(0x54, &value)
    };
    let identity = item(0x58, &[1, 1, 0, 4, b'u', b's', b'e', b'r', 0, 0]);
    let extended = item(0x56, &[&[0, 25][..], CT.as_bytes(), &[2, 0, 0]].concat());
    let more = [
        item(0x53, &[0, 0, 0, 0]),
        role(CT, 1, 1),
        role(MR, 0, 1),
        role("1.2.840.10008.1.20.1", 1, 1),
        identity,
        extended,
        item(0x57, &[0, 0, 0, 0]),
        item(0x5F, b"from the future"),
        item(0x55, b"OTHER \x07 1"),
    ];
    let mut request = AssociatePdu::request(&[]);
    request.items = item(0x10, APPLICATION_CONTEXT.as_bytes());
    // An item that PS3.8 does not know is skipped.
    request.items.extend(item(0x77, b"?"));
    request.items.extend(proposed(1, CT, &[EXPLICIT]));
    request.items.extend(proposed(3, MR, &[EXPLICIT]));
    request.items.extend(proposed(5, "1.2.840.10008.1.20.1", &[EXPLICIT]));
    request.items.extend(user_information(0, &more));
    let proposal_seen = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&proposal_seen);
    let policy = storage_policy();
    let admission: Arc<dyn Admission> = Arc::new(move |proposal: &Proposal| {
        *seen.lock().unwrap() = Some(proposal.clone());
        policy.decide(proposal)
    });
    let ac = acceptance(answer(&request.bytes(), AcceptorConfig::default(), admission).await.unwrap());
    let roles: Vec<_> = ac
        .user_variables
        .iter()
        .filter_map(|item| match item {
            UserVariableItem::ScuScpRoleSelectionSubItem(class, roles) => {
                Some((class.as_str(), roles.scu, roles.scp))
            }
            _ => None,
        })
        .collect();
    assert_eq!(roles, [(CT, true, false), (MR, false, false)]);
    let proposal = proposal_seen.lock().unwrap().take().unwrap();
    assert_eq!(proposal.other_items, [0x57, 0x5F]);
    assert_eq!(proposal.async_window, Some(dimse::AsyncWindow { invoked: 0, performed: 0 }));
    let identity = proposal.user_identity.unwrap();
    assert_eq!(identity.primary.expose(), b"user");
    assert!(identity.positive_response_requested);
    assert_eq!(proposal.extended[0].information, [2, 0, 0]);
    // Neither configured nor granted: no answer to any of them.
    let is_answer = |item: &UserVariableItem| !matches!(item, UserVariableItem::Unknown(..));
    assert!(ac.user_variables.iter().all(is_answer));
    assert_eq!(proposal.implementation.version_name.as_deref(), Some("OTHER  1"));
    assert_eq!((proposal.max_pdu, proposal.roles.len()), (0, 3));
}

#[tokio::test]
async fn requests_that_cannot_be_served_get_the_right_rejection() {
    let good = || AssociatePdu::request(&[proposed(1, CT, &[EXPLICIT])]);
    let with_context = |name: &[u8]| {
        let mut request = good();
        request.items = [item(0x10, name), proposed(1, CT, &[EXPLICIT]), user_information(0, &[])].concat();
        request
    };
    let no_context = AssociatePdu { items: user_information(0, &[]), ..good() };
    let cases = [
        (AssociatePdu { version: 2, ..good() }, (1, 2, 2)),
        (AssociatePdu { version: 0, items: Vec::new(), ..good() }, (1, 2, 2)),
        (with_context(b"1.2.840.10008.3.1.1.2"), (1, 1, 2)),
        (with_context(b""), (1, 1, 2)),
        (no_context, (1, 1, 2)),
        (AssociatePdu { called: title(""), ..good() }, (1, 1, 7)),
        (AssociatePdu { called: title("A\\B"), ..good() }, (1, 1, 7)),
        (AssociatePdu { calling: title(""), ..good() }, (1, 1, 3)),
        (AssociatePdu { calling: *b"\xFF\xFF\xFF\xFF            ", ..good() }, (1, 1, 3)),
    ];
    for (request, (result, source, reason)) in cases {
        let pdu = answer(&request.bytes(), AcceptorConfig::default(), storage_policy()).await.unwrap();
        assert_eq!(codes(&pdu), (3, result, source, reason), "{request:?}");
    }
    // Other bits of the version, and a padded application context name, do no harm.
    for request in [AssociatePdu { version: 3, ..good() }, with_context(b"1.2.840.10008.3.1.1.1\0")] {
        let pdu = answer(&request.bytes(), AcceptorConfig::default(), storage_policy()).await.unwrap();
        assert_eq!(pdu.0, 2, "{request:?}");
    }
}

#[tokio::test]
async fn every_reason_to_reject_arrives_as_decided() {
    for reason in RejectReason::ALL {
        let admission = Arc::new(move |_: &Proposal| Verdict::Reject(reason));
        let (address, serving) = serve_one(AcceptorConfig::default(), admission).await;
        let error = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap_err();
        let ConnectError::Rejected(rejection) = error else { panic!("{error}") };
        assert_eq!(rejection, reason.rejection());
        let want = format!("association rejected: {}", reason.rejection());
        assert_eq!(serving.await.unwrap().error, Some(want));
    }
}

/// Reads one A-ASSOCIATE-RQ, answers these bytes and keeps the connection until the peer closes.
async fn scripted(answer: Vec<u8>) -> (std::net::SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let script = tokio::spawn(async move {
        let mut peer = Peer { stream: listener.accept().await.unwrap().0 };
        let request = peer.pdu().await.unwrap();
        assert_eq!(request.0, 1);
        peer.send(&answer).await;
        peer.pdu().await.map_or(Vec::new(), |(pdu_type, body)| pdu(pdu_type, &body))
    });
    (address, script)
}

fn result(id: u8, reason: u8, syntax: Option<&str>) -> Vec<u8> {
    let mut value = vec![id, 0, reason, 0];
    value.extend(syntax.map(|syntax| item(0x40, syntax.as_bytes())).unwrap_or_default());
    item(0x21, &value)
}

#[tokio::test]
async fn only_what_was_proposed_counts_as_accepted() {
    let accept = AssociatePdu {
        pdu_type: 2,
        items: [
            item(0x10, APPLICATION_CONTEXT.as_bytes()),
            result(1, 0, Some("1.2.840.10008.1.2.1\0")),
            // A syntax that was not offered.
            result(3, 0, Some(IMPLICIT)),
            // Rejected without and with an empty transfer syntax item, as some acceptors do.
            result(5, 3, None),
            result(7, 4, Some("")),
            // An id that was not proposed.
            result(77, 0, Some(EXPLICIT)),
            user_information(16384, &[item(0x55, b"THEIRS")]),
        ]
        .concat(),
        ..AssociatePdu::request(&[])
    };
    let (address, script) = scripted(accept.bytes()).await;
    let classes = [CT, MR, "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6.1"];
    let requestor =
        Requestor::connect(address, requestor_config(&classes.map(|class| (class, EXPLICIT)))).await.unwrap();
    let accepted: Vec<_> = requestor.contexts().iter().map(|context| context.id).collect();
    assert_eq!(accepted, [1]);
    assert_eq!(requestor.implementation().version_name.as_deref(), Some("THEIRS"));
    requestor.abort().await;
    assert_eq!(script.await.unwrap(), ABORT);
}

#[tokio::test]
async fn a_requestor_tells_apart_what_came_instead_of_an_association() {
    let unknown_codes = [3, 0, 0, 0, 0, 4, 0, 9, 8, 7];
    let cases: [(Vec<u8>, &str); 6] = [
        (unknown_codes.to_vec(), "association rejected: no reason given (result 9, source 8, reason 7)"),
        (ABORT.to_vec(), "association negotiation failed: peer aborted the association (source 0, reason 0)"),
        (
            RELEASE_RQ.to_vec(),
            "association negotiation failed: peer broke the protocol: PDU type 0x05 is out of place",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            "association negotiation failed: peer broke the protocol: PDU type 0x48 does not exist; \
             does the peer speak DICOM, and without TLS?",
        ),
        (
            vec![2, 0, 0xFF, 0, 0, 0],
            "association negotiation failed: peer broke the protocol: \
             PDU of type 0x02 has 4278190080 bytes; at most 1048576 are accepted",
        ),
        (
            pdu(2, &[0; 100]),
            "association negotiation failed: peer broke the protocol: \
             association negotiation cannot be read: items of the A-ASSOCIATE-AC",
        ),
    ];
    for (answer, want) in cases {
        let (address, script) = scripted(answer).await;
        let error = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap_err();
        assert_eq!(error.to_string(), want);
        script.await.unwrap();
    }
    // Nobody listens.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    // Nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limit = std::time::Duration::from_millis(50);
    let config = RequestorConfig { connect_timeout: limit, ..requestor_config(&[(CT, EXPLICIT)]) };
    let error = Requestor::connect(listener.local_addr().unwrap(), config).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut(_)), "{error}");
}

#[tokio::test]
async fn a_peer_with_an_impossible_maximum_is_refused_by_both_sides() {
    let mut request = AssociatePdu::request(&[]);
    request.items =
        [item(0x10, APPLICATION_CONTEXT.as_bytes()), proposed(1, CT, &[EXPLICIT]), user_information(64, &[])]
            .concat();
    let pdu = answer(&request.bytes(), AcceptorConfig::default(), storage_policy()).await.unwrap();
    assert_eq!(codes(&pdu), (7, 0, 2, 6));
    let accept = AssociatePdu { pdu_type: 2, ..request };
    let (address, script) = scripted(accept.bytes()).await;
    let error = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("peer announces a maximum PDU length of 64 bytes; at least 128 are needed")
    );
    assert_eq!(script.await.unwrap(), [7, 0, 0, 0, 0, 4, 0, 0, 2, 6]);
}
