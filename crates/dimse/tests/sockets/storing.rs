//! Instances go from a requestor to an acceptor byte for byte.

use crate::peer::*;
use base::{Phi, Status};
use dimse::{
    AcceptorConfig, ConnectError, EchoError, Incoming, Requestor, RequestorConfig, StoreError, accept,
    command::{CommandWriter, element},
};
use tokio::net::TcpListener;

#[tokio::test]
async fn data_sets_of_any_size_arrive_as_sent_whatever_the_pdu_size() {
    // Among them what fills one PDU, and two, of each of the lengths below.
    let sizes = [1, 2, 3, 4090, 4091, 8180, 16_378, 16_379, 65_536, 131_066, 300_001, 1_048_570, 3_000_000];
    for (announced, sent) in [(4096, 1 << 20), (131_072, 16_384), (0, 1 << 20), (1 << 20, 4096)] {
        let acceptor = AcceptorConfig { max_pdu: announced, ..AcceptorConfig::default() };
        let (address, serving) = serve_one(acceptor, storage_policy()).await;
        let config = RequestorConfig {
            max_pdu_sent: sent,
            ..requestor_config(&[(CT, EXPLICIT), (VERIFICATION, IMPLICIT)])
        };
        let mut requestor = Requestor::connect(address, config).await.unwrap();
        for size in sizes {
            requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
            // Pieces of many lengths, some empty.
            let (data, mut rest) = (noise(size), noise(size));
            let mut piece = 0;
            while !rest.is_empty() {
                let next = rest.split_off(rest.len().min(piece));
                requestor.store_data(rest).await.unwrap();
                (rest, piece) = (next, (piece * 3 + 1) % 100_003);
            }
            let response = requestor.store_finish().await.unwrap();
            assert_eq!(response.status, Status::SUCCESS);
            assert_eq!(data.len(), size);
        }
        assert_eq!(requestor.echo().await.unwrap(), Status::SUCCESS);
        requestor.release().await;
        let served = serving.await.unwrap();
        assert_eq!((served.error, served.echoes, served.partial), (None, 1, 0));
        for ((_, data), size) in served.stored.iter().zip(sizes) {
            assert!(*data == noise(size), "{size} bytes, PDUs of {announced} and {sent}");
        }
    }
}

#[tokio::test]
async fn what_the_command_says_comes_through() {
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    let mut requestor = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
    let sent = meta(CT, EXPLICIT);
    requestor.store_begin(&sent).await.unwrap();
    requestor.store_data(noise(100)).await.unwrap();
    requestor.store_finish().await.unwrap();
    requestor.release().await;
    let served = serving.await.unwrap();
    let (request, _) = &served.stored[0];
    assert_eq!(request.meta, sent);
    assert_eq!((request.context, request.message_id, request.has_data_set), (1, 1, true));
    assert_eq!(request.abstract_syntax, uid(CT));
}

#[tokio::test]
async fn a_command_without_move_originator_has_none() {
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    let mut peer = Peer::associated(address).await;
    peer.send(&p_data(&[pdv(1, COMMAND | LAST, &store_rq(9)), pdv(1, DATA | LAST, b"abcd")])).await;
    let response = peer.command().await;
    assert_eq!(response.us(element::MESSAGE_ID_RESPONDED_TO), Some(9));
    assert_eq!(response.uid(element::AFFECTED_SOP_INSTANCE), Some(uid("1.2.3.4")));
    peer.send(&RELEASE_RQ).await;
    assert_eq!(peer.pdu().await.unwrap().0, 6);
    assert_eq!(peer.pdu().await, None);
    assert_eq!(serving.await.unwrap().stored[0].0.meta.move_originator, None);
}

#[tokio::test]
async fn statuses_and_comments_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let long = "x".repeat(90);
    let cases = [
        (Status::OUT_OF_RESOURCES, Some("outbox full"), Some("outbox full".to_owned())),
        (Status::DATA_SET_MISMATCH, None, None),
        (Status(0xB000), Some("line\nbreak \\ is left out"), Some("linebreak  is left out".to_owned())),
        (Status(0xC123), Some(long.as_str()), Some("x".repeat(64))),
    ];
    let answers: Vec<(Status, Option<String>)> =
        cases.iter().map(|(status, comment, _)| (*status, comment.map(str::to_owned))).collect();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut association = accept(stream, &AcceptorConfig::default(), &*storage_policy()).await.unwrap();
        for (status, comment) in answers {
            let Ok(Incoming::Store(request)) = association.receive().await else { panic!("no C-STORE") };
            // The data set is not read: it is skipped before the answer.
            association.respond_store(&request, status, comment.as_deref()).await.unwrap();
        }
        assert_eq!(association.receive().await.unwrap(), Incoming::Released);
    });
    let mut requestor = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
    for (status, _, comment) in cases {
        requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
        requestor.store_data(noise(700_000)).await.unwrap();
        let response = requestor.store_finish().await.unwrap();
        assert_eq!((response.status, response.comment), (status, comment.map(Phi::new)));
    }
    requestor.release().await;
    serving.await.unwrap();
}

#[tokio::test]
async fn a_context_that_was_not_accepted_costs_nothing() {
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    let commitment = "1.2.840.10008.1.20.1";
    let config = requestor_config(&[(CT, EXPLICIT), (commitment, IMPLICIT)]);
    let mut requestor = Requestor::connect(address, config).await.unwrap();
    assert!(requestor.accepts(&uid(CT), &uid(EXPLICIT)));
    assert!(!requestor.accepts(&uid(CT), &uid(IMPLICIT)));
    assert!(!requestor.accepts(&uid(commitment), &uid(IMPLICIT)));
    let error = requestor.store_begin(&meta(commitment, IMPLICIT)).await.unwrap_err();
    assert!(matches!(error, StoreError::NotAccepted { .. }) && error.is_before_last(), "{error}");
    assert!(matches!(requestor.echo().await, Err(EchoError::NotAccepted)));
    let error = requestor.store_data(noise(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "store_data was called out of order");
    // An empty data set is refused before anything is sent.
    requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
    assert!(matches!(requestor.store_begin(&meta(CT, EXPLICIT)).await, Err(StoreError::OutOfOrder(_))));
    requestor.store_data(Vec::new()).await.unwrap();
    assert!(matches!(requestor.store_finish().await, Err(StoreError::Empty)));
    assert!(requestor.is_open());
    requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
    requestor.store_data(noise(10)).await.unwrap();
    assert_eq!(requestor.store_finish().await.unwrap().status, Status::SUCCESS);
    requestor.release().await;
    let served = serving.await.unwrap();
    assert_eq!((served.stored.len(), served.error), (1, None));
}

#[tokio::test]
async fn a_hundred_and_twenty_eight_contexts_are_proposed_and_more_are_not() {
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    let class = |number: usize| uid(&format!("1.3.6.1.4.1.99.{number}"));
    let contexts =
        |count| (0..count).map(|number| (class(number), uid("1.3.6.1.4.1.99.0.1"))).collect::<Vec<_>>();
    for count in [0, 129] {
        let config = RequestorConfig { contexts: contexts(count), ..requestor_config(&[]) };
        assert!(
            matches!(Requestor::connect(address, config).await, Err(ConnectError::Contexts(n)) if n == count)
        );
    }
    let config = RequestorConfig { contexts: contexts(128), ..requestor_config(&[]) };
    let mut requestor = Requestor::connect(address, config).await.unwrap();
    assert_eq!(requestor.contexts().len(), 128);
    assert_eq!(requestor.contexts()[127].to_string(), "255 1.3.6.1.4.1.99.127, 1.3.6.1.4.1.99.0.1");
    requestor.store_begin(&meta(class(127).as_str(), "1.3.6.1.4.1.99.0.1")).await.unwrap();
    requestor.store_data(noise(10)).await.unwrap();
    requestor.store_finish().await.unwrap();
    requestor.release().await;
    assert_eq!(serving.await.unwrap().stored[0].0.context, 255);
}

#[tokio::test]
async fn an_unknown_operation_is_answered_and_the_association_goes_on() {
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    let mut peer = Peer::associated(address).await;
    let n_action = CommandWriter::new()
        .uid(element::REQUESTED_SOP_CLASS, &uid("1.2.840.10008.1.20.1"))
        .us(element::COMMAND_FIELD, 0x0130)
        .us(element::MESSAGE_ID, 4)
        .data_set(true)
        .uid(element::REQUESTED_SOP_INSTANCE, &uid("1.2.840.10008.1.20.1.1"))
        .us(element::ACTION_TYPE_ID, 1);
    peer.send(&p_data(&[pdv(3, COMMAND | LAST, &n_action.finish()), pdv(3, DATA | LAST, b"whatever")])).await;
    let response = peer.command().await;
    assert_eq!(response.command_field(), Ok(0x8130));
    assert_eq!(response.status(), Ok(Status::UNRECOGNISED_OPERATION));
    assert_eq!(response.us(element::MESSAGE_ID_RESPONDED_TO), Some(4));
    assert_eq!(response.uid(element::AFFECTED_SOP_INSTANCE), Some(uid("1.2.840.10008.1.20.1.1")));
    // A C-CANCEL and a stray response have no answer.
    let cancel = CommandWriter::new().us(element::COMMAND_FIELD, 0x0FFF).us(0x0120, 4).data_set(false);
    let stray = CommandWriter::new().us(element::COMMAND_FIELD, 0x8001).us(0x0120, 4).data_set(false);
    peer.send(&p_data(&[pdv(3, COMMAND | LAST, &cancel.finish()), pdv(1, COMMAND | LAST, &stray.finish())]))
        .await;
    peer.send(&p_data(&[pdv(3, COMMAND | LAST, &echo_rq(5))])).await;
    assert_eq!(peer.command().await.us(element::MESSAGE_ID_RESPONDED_TO), Some(5));
    peer.send(&RELEASE_RQ).await;
    assert_eq!(peer.pdu().await.unwrap().0, 6);
    assert_eq!(serving.await.unwrap().others, [0x0130, 0x0FFF, 0x8001]);
}

#[tokio::test]
async fn a_store_that_names_no_instance_is_refused_by_itself() {
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    let mut peer = Peer::associated(address).await;
    let command = |class: Option<&str>, instance: &str| {
        let command = CommandWriter::new().raw(element::AFFECTED_SOP_CLASS, class.map(str::as_bytes));
        let command = command.us(element::COMMAND_FIELD, 1).us(element::MESSAGE_ID, 1).data_set(true);
        command.raw(element::AFFECTED_SOP_INSTANCE, Some(instance.as_bytes())).finish()
    };
    let cases = [
        (1, command(Some(CT), ""), 0x0117),
        (1, command(Some(CT), "../../etc/passwd"), 0x0117),
        (1, command(None, "1.2.3"), 0x0122),
        (1, command(Some("CT"), "1.2.3"), 0x0122),
        // C-STORE in a context of verification.
        (3, command(Some(CT), "1.2.3"), 0x0122),
    ];
    for (context, command, status) in cases {
        peer.send(&p_data(&[pdv(context, COMMAND | LAST, &command), pdv(context, DATA | LAST, b"abcd")]))
            .await;
        assert_eq!(peer.command().await.status(), Ok(Status(status)));
    }
    peer.send(&p_data(&[pdv(1, COMMAND | LAST, &store_rq(2)), pdv(1, DATA | LAST, b"abcd")])).await;
    assert_eq!(peer.command().await.status(), Ok(Status::SUCCESS));
    peer.send(&RELEASE_RQ).await;
    assert_eq!(peer.pdu().await.unwrap().0, 6);
    assert_eq!(serving.await.unwrap().stored.len(), 1);
}

#[tokio::test]
async fn a_store_without_data_set_says_so() {
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    let mut peer = Peer::associated(address).await;
    let mut command = store_rq(1);
    let place = command.windows(4).position(|bytes| bytes == [0, 0, 0, 8]).unwrap();
    command[place + 8..place + 10].copy_from_slice(&0x0101u16.to_le_bytes());
    peer.send(&p_data(&[pdv(1, COMMAND | LAST, &command)])).await;
    peer.command().await;
    peer.send(&RELEASE_RQ).await;
    peer.pdu().await;
    let served = serving.await.unwrap();
    assert!(!served.stored[0].0.has_data_set);
    assert!(served.stored[0].1.is_empty());
}
