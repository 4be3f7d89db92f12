//! N-ACTION and N-EVENT-REPORT as Storage Commitment uses them, in both roles, on one association or two.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base::{Status, Uid};
use bytes::Bytes;
use dimse::{
    AcceptorConfig, Admission, Association, AssociationError, ContextChoice, ContextDecision, Incoming,
    Normalized, NormalizedError, Proposal, Requestor, RequestorConfig, RoleSelection, Terms, Verdict, accept,
    command::{CommandWriter, element, field},
    commitment_reporter_role,
    limits::EVENT_REPORTS_MAX,
};
use tokio::net::{TcpListener, TcpStream};

use crate::peer::*;

const COMMITMENT: &str = dimse::STORAGE_COMMITMENT;
const SOON: Duration = Duration::from_secs(20);

fn sop() -> (Uid, Uid) {
    (dimse::storage_commitment(), dimse::storage_commitment_instance())
}

/// Accepts every context in its first syntax, and every SCP role for commitment where `grants`.
fn admission(grants: bool) -> Arc<dyn Admission> {
    Arc::new(move |proposal: &Proposal| {
        let decision = |context: &dimse::ProposedContext| ContextDecision {
            id: context.id,
            choice: ContextChoice::Accept(context.transfer_syntaxes[0].clone()),
        };
        let contexts = proposal.contexts.iter().map(decision).collect();
        let scp_roles = if grants { vec![uid(COMMITMENT)] } else { Vec::new() };
        Verdict::Accept(Terms { contexts, scp_roles, ..Terms::default() })
    })
}

async fn pair(grants: bool, config: RequestorConfig) -> (Association, Requestor) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        accept(stream, &AcceptorConfig::default(), &*admission(grants)).await.unwrap()
    };
    let (association, requestor) = tokio::join!(accepting, Requestor::connect(address, config));
    (association, requestor.unwrap())
}

fn commitment_config() -> RequestorConfig {
    requestor_config(&[(COMMITMENT, EXPLICIT), (CT, EXPLICIT)])
}

async fn read_all(association: &mut Association) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(bytes) = association.data().await.unwrap() {
        data.extend_from_slice(&bytes);
    }
    data
}

async fn normalized(association: &mut Association) -> Normalized {
    let Incoming::Other(request) = association.receive().await.unwrap() else { panic!("not normalized") };
    request.normalized().expect("class, instance and type")
}

#[tokio::test]
async fn a_request_is_answered_and_reported_on_the_same_association() {
    let (mut association, mut requestor) = pair(false, commitment_config()).await;
    let (class, instance) = sop();
    for size in [0, 10, 3_000_000] {
        let (asked, told) = (Bytes::from(noise(size)), Bytes::from(noise(size + 1)));
        let serving = async {
            let Normalized::Action(request) = normalized(&mut association).await else { panic!() };
            assert_eq!((&request.sop_class, request.sop_instance.reveal()), (&class, &instance));
            assert_eq!((request.action_type, request.has_data_set), (1, size > 0));
            assert!(read_all(&mut association).await == asked);
            assert_eq!(association.transfer_syntax(&class), Some(&uid(EXPLICIT)));
            association.respond_action(&request, Status::SUCCESS, None).await.unwrap();
            let sent = association.report_event((&class, &instance), 2, told.clone()).await.unwrap();
            let Normalized::Response(response) = normalized(&mut association).await else { panic!() };
            assert_eq!((response.message_id, response.status), (sent, Status(0x0110)));
            assert_eq!(response.comment.unwrap().reveal(), "later");
        };
        let asking = async {
            let answer = requestor.action((&class, &instance), 1, asked.clone()).await.unwrap();
            assert_eq!(answer.status, Status::SUCCESS);
            let report = requestor.next_event_report(SOON).await.unwrap().expect("a report");
            assert_eq!((report.request.event_type, &report.transfer_syntax), (2, &uid(EXPLICIT)));
            assert!(*report.data.reveal() == told);
            requestor.respond_event_report(&report, Status(0x0110), Some("later")).await.unwrap();
        };
        tokio::join!(serving, asking);
    }
    tokio::join!(requestor.release(), async {
        assert_eq!(association.receive().await.unwrap(), Incoming::Released);
    });
}

#[tokio::test]
async fn a_report_on_an_association_of_its_own_works_with_the_role_granted_or_not() {
    for grants in [true, false] {
        let config = RequestorConfig { roles: vec![commitment_reporter_role()], ..commitment_config() };
        let (mut association, mut requestor) = pair(grants, config).await;
        let granted = RoleSelection { sop_class: uid(COMMITMENT), scu: false, scp: grants };
        assert_eq!(requestor.role(&uid(COMMITMENT)), Some(&granted));
        assert_eq!(association.roles(), [granted]);
        assert_eq!(requestor.role(&uid(CT)), None);
        let (class, instance) = sop();
        let serving = async {
            let Normalized::EventReport(request) = normalized(&mut association).await else { panic!() };
            assert_eq!((request.event_type, request.has_data_set), (1, true));
            // What is not read of the data set is skipped.
            association.respond_event_report(&request, Status::SUCCESS, None).await.unwrap();
        };
        let reporting = requestor.report_event((&class, &instance), 1, Bytes::from(noise(100_000)));
        let ((), answer) = tokio::join!(serving, reporting);
        assert_eq!(answer.unwrap().status, Status::SUCCESS);
    }
}

#[tokio::test]
async fn a_report_that_comes_before_another_answer_is_kept() {
    let (mut association, mut requestor) = pair(false, commitment_config()).await;
    let (class, instance) = sop();
    let serving = async {
        let Normalized::Action(request) = normalized(&mut association).await else { panic!() };
        for number in 1..=2 {
            association.report_event((&class, &instance), number, Bytes::from_static(b"ab")).await.unwrap();
        }
        association.respond_action(&request, Status::SUCCESS, None).await.unwrap();
    };
    let asking = async {
        requestor.action((&class, &instance), 1, Bytes::new()).await.unwrap();
        for number in 1..=2 {
            let report = requestor.next_event_report(SOON).await.unwrap().unwrap();
            assert_eq!(report.request.event_type, number);
        }
        assert_eq!(requestor.next_event_report(Duration::from_millis(20)).await.unwrap(), None);
    };
    tokio::join!(serving, asking);
    // Waiting in vain did no harm.
    let (instance_meta, data) = (meta(CT, EXPLICIT), noise(1000));
    let storing = async {
        requestor.store_begin(&instance_meta).await.unwrap();
        let early = requestor.action((&class, &instance), 1, Bytes::new()).await;
        assert!(matches!(early, Err(NormalizedError::OutOfOrder)));
        requestor.store_data(data.clone()).await.unwrap();
        requestor.store_finish().await.unwrap()
    };
    let serving = async {
        let Incoming::Store(request) = association.receive().await.unwrap() else { panic!() };
        assert_eq!(read_all(&mut association).await, data);
        association.respond_store(&request, Status::SUCCESS, None).await.unwrap();
    };
    assert_eq!(tokio::join!(storing, serving).0.status, Status::SUCCESS);
}

#[tokio::test]
async fn without_a_context_nothing_is_sent() {
    let (mut association, mut requestor) = pair(false, requestor_config(&[(CT, EXPLICIT)])).await;
    let (class, instance) = sop();
    let error = requestor.action((&class, &instance), 1, Bytes::new()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no accepted presentation context for SOP class {COMMITMENT}"));
    let error = association.report_event((&class, &instance), 1, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, NormalizedError::NotAccepted(_)));
    assert!(requestor.is_open());
}

/// A listener whose peer is scripted by hand after the association.
async fn scripted(
    script: impl FnOnce(Peer) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Peer { stream };
        peer.pdu().await.expect("A-ASSOCIATE-RQ");
        let result = item(0x21, &[&[1, 0, 0, 0][..], &item(0x40, EXPLICIT.as_bytes())].concat());
        let mut ac = AssociatePdu::request(&[]);
        ac.pdu_type = 2;
        ac.items = [item(0x10, APPLICATION_CONTEXT.as_bytes()), result, user_information(0, &[])].concat();
        peer.send(&ac.bytes()).await;
        script(peer).await;
    });
    address
}

fn report_rq(message_id: u16, has_data_set: bool) -> Vec<u8> {
    CommandWriter::new()
        .uid(element::AFFECTED_SOP_CLASS, &sop().0)
        .us(element::COMMAND_FIELD, field::N_EVENT_REPORT_RQ)
        .us(element::MESSAGE_ID, message_id)
        .data_set(has_data_set)
        .uid(element::AFFECTED_SOP_INSTANCE, &sop().1)
        .us(element::EVENT_TYPE_ID, 1)
        .finish()
}

#[tokio::test]
async fn peers_that_break_the_service_end_the_association() {
    let rsp = |field, has_data_set| {
        CommandWriter::new()
            .us(element::COMMAND_FIELD, field)
            .us(element::MESSAGE_ID_RESPONDED_TO, 1)
            .data_set(has_data_set)
            .us(element::STATUS, 0)
            .finish()
    };
    let command = |bytes: Vec<u8>| p_data(&[pdv(1, COMMAND | LAST, &bytes)]);
    let nameless =
        CommandWriter::new().us(element::COMMAND_FIELD, 0x0100).us(element::MESSAGE_ID, 1).data_set(false);
    let action_rsp = field::N_ACTION_RQ | field::RESPONSE;
    let cases = [
        (command(nameless.finish()), "without class, instance or type"),
        (command(rsp(0x8001, false)), "another command field"),
        ([command(report_rq(1, true)), command(rsp(action_rsp, false))].concat(), "never came"),
        ((0..=EVENT_REPORTS_MAX).flat_map(|_| command(report_rq(1, false))).collect(), "exceed"),
        ([command(report_rq(1, true)), RELEASE_RQ.to_vec()].concat(), "released"),
        (RELEASE_RQ.to_vec(), "released"),
        (ABORT.to_vec(), "aborted"),
    ];
    for (bytes, want) in cases {
        let address = scripted(move |mut peer| {
            Box::pin(async move {
                peer.pdu().await;
                peer.send(&bytes).await;
                while peer.pdu().await.is_some() {}
            })
        })
        .await;
        let mut requestor =
            Requestor::connect(address, requestor_config(&[(COMMITMENT, EXPLICIT)])).await.unwrap();
        let (class, instance) = sop();
        let error = requestor.action((&class, &instance), 1, Bytes::new()).await.unwrap_err();
        assert!(error.to_string().contains(want), "{want}: {error}");
        let after = requestor.next_event_report(SOON).await.map(|report| report.is_some());
        // What came whole before the fault is still there; then it is over.
        let is_over = matches!(after, Err(NormalizedError::Failed(AssociationError::Ended)));
        assert!(is_over || after.unwrap(), "{want}");
    }
}

#[tokio::test]
async fn an_action_reply_is_read_and_left_alone() {
    let address = scripted(|mut peer| {
        Box::pin(async move {
            peer.pdu().await;
            let rsp = CommandWriter::new()
                .us(element::COMMAND_FIELD, field::N_ACTION_RQ | field::RESPONSE)
                .us(element::MESSAGE_ID_RESPONDED_TO, 1)
                .data_set(true)
                .us(element::STATUS, 0)
                .finish();
            peer.send(&p_data(&[pdv(1, COMMAND | LAST, &rsp), pdv(1, DATA | LAST, b"reply")])).await;
            peer.send(&p_data(&[pdv(1, COMMAND | LAST, &report_rq(9, false))])).await;
            while peer.pdu().await.is_some() {}
        })
    })
    .await;
    let mut requestor =
        Requestor::connect(address, requestor_config(&[(COMMITMENT, EXPLICIT)])).await.unwrap();
    let (class, instance) = sop();
    assert_eq!(requestor.action((&class, &instance), 1, Bytes::new()).await.unwrap().status, Status::SUCCESS);
    let report = requestor.next_event_report(SOON).await.unwrap().unwrap();
    assert_eq!((report.request.message_id, report.data.reveal().len()), (9, 0));
}

/// dcm4che's stgcmtscu proposes context 2.
#[tokio::test]
async fn a_request_on_an_even_context_id_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asking = async {
        let mut peer = Peer { stream: TcpStream::connect(address).await.unwrap() };
        peer.send(&AssociatePdu::request(&[proposed(2, COMMITMENT, &[IMPLICIT])]).bytes()).await;
        assert_eq!(peer.pdu().await.unwrap().0, 2);
        let rq = CommandWriter::new()
            .uid(element::REQUESTED_SOP_CLASS, &sop().0)
            .us(element::COMMAND_FIELD, field::N_ACTION_RQ)
            .us(element::MESSAGE_ID, 7)
            .data_set(true)
            .uid(element::REQUESTED_SOP_INSTANCE, &sop().1)
            .us(element::ACTION_TYPE_ID, 1)
            .finish();
        peer.send(&p_data(&[pdv(2, COMMAND | LAST, &rq), pdv(2, DATA | LAST, b"ab")])).await;
        let rsp = peer.command().await;
        assert_eq!(rsp.command_field(), Ok(field::N_ACTION_RQ | field::RESPONSE));
        assert_eq!(rsp.us(element::MESSAGE_ID_RESPONDED_TO), Some(7));
        assert_eq!(rsp.us(element::ACTION_TYPE_ID), Some(1));
        assert_eq!(rsp.uid(element::AFFECTED_SOP_INSTANCE), Some(sop().1));
    };
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut association = accept(stream, &AcceptorConfig::default(), &*admission(false)).await.unwrap();
        let Normalized::Action(request) = normalized(&mut association).await else { panic!() };
        assert_eq!(request.context, 2);
        association.respond_action(&request, Status::SUCCESS, None).await.unwrap();
    };
    tokio::join!(asking, serving);
}

#[tokio::test]
async fn requests_without_class_instance_or_type_are_not_normalized() {
    let (address, serving) = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut association =
                accept(stream, &AcceptorConfig::default(), &*admission(false)).await.unwrap();
            let Incoming::Other(request) = association.receive().await.unwrap() else { panic!() };
            assert_eq!(request.normalized(), None);
            association.respond_other(&request, Status(0x0117)).await.unwrap();
        });
        (address, serving)
    };
    let mut peer = Peer::associated(address).await;
    let rq = CommandWriter::new()
        .us(element::COMMAND_FIELD, field::N_ACTION_RQ)
        .us(element::MESSAGE_ID, 7)
        .data_set(false)
        .us(element::ACTION_TYPE_ID, 1)
        .finish();
    peer.send(&p_data(&[pdv(1, COMMAND | LAST, &rq)])).await;
    assert_eq!(peer.command().await.status(), Ok(Status(0x0117)));
    serving.await.unwrap();
}
