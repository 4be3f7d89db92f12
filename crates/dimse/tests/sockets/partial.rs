//! A data set that did not come, or go, as a whole never looks like one that did.

use std::{net::SocketAddr, time::Duration};

use crate::peer::*;
use dimse::{AcceptorConfig, AssociationError, Requestor, RequestorConfig, StoreError};
use tokio::{io::AsyncReadExt, net::TcpListener, sync::oneshot, task::JoinHandle};

#[tokio::test]
async fn whatever_ends_an_association_within_a_data_set_is_an_error_there() {
    let begin = [pdv(1, COMMAND | LAST, &store_rq(1)), pdv(1, DATA, b"begun")];
    let released = "peer released the association in the middle of a message";
    // Name, what follows the beginning, whether the peer then closes, what the acceptor says and sends.
    let cases: [(&str, Vec<u8>, &str, Option<Codes>); 7] = [
        ("release", RELEASE_RQ.to_vec(), released, Some((7, 0, 2, 2))),
        ("abort", ABORT.to_vec(), "peer aborted the association (source 0, reason 0)", None),
        ("close", Vec::new(), "peer closed the connection without a release", None),
        (
            "close within a PDU",
            p_data(&[pdv(1, DATA | LAST, b"rest")])[..9].to_vec(),
            "peer closed the connection without a release",
            None,
        ),
        (
            "next command",
            p_data(&[pdv(1, COMMAND | LAST, &store_rq(2))]),
            "peer broke the protocol: command announces a data set that never came",
            Some((7, 0, 2, 2)),
        ),
        (
            "data of another context",
            p_data(&[pdv(3, DATA | LAST, b"rest")]),
            "peer broke the protocol: presentation context changes from 1 to 3 within a message",
            Some((7, 0, 2, 6)),
        ),
        (
            "garbage",
            b"GET / HTTP/1.1\r\n".to_vec(),
            "peer broke the protocol: PDU type 0x47 does not exist; does the peer speak DICOM, and without TLS?",
            Some((7, 0, 2, 1)),
        ),
    ];
    for (name, then, error, answer) in cases {
        let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
        let mut peer = Peer::associated(address).await;
        peer.send(&p_data(&begin)).await;
        peer.send(&then).await;
        if answer.is_none() {
            drop(peer);
        } else {
            let pdu = peer.pdu().await.unwrap_or_else(|| panic!("{name}: no answer"));
            assert_eq!(Some(codes(&pdu)), answer, "{name}");
            assert_eq!(peer.pdu().await, None, "{name}");
            drop(peer);
        }
        let served = serving.await.unwrap();
        assert_eq!(served.error.as_deref(), Some(error), "{name}");
        assert!(served.stored.is_empty() && served.partial <= 5, "{name}");
    }
}

#[tokio::test]
async fn a_requestor_that_does_not_finish_leaves_nothing_complete_behind() {
    enum End {
        Drop,
        Abort,
        Release,
    }
    for size in [1, 4000, 100_000, 1_000_000] {
        for end in [End::Drop, End::Abort, End::Release] {
            let acceptor = AcceptorConfig { max_pdu: 16_384, ..AcceptorConfig::default() };
            let (address, serving) = serve_one(acceptor, storage_policy()).await;
            let mut requestor =
                Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
            requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
            requestor.store_data(noise(size)).await.unwrap();
            match end {
                End::Drop => drop(requestor),
                End::Abort => requestor.abort().await,
                End::Release => requestor.release().await,
            }
            let served = serving.await.unwrap();
            assert!(served.stored.is_empty() && served.partial < size, "{size}");
            assert_eq!(
                served.error.as_deref(),
                Some("peer aborted the association (source 0, reason 0)"),
                "{size}"
            );
        }
    }
}

#[tokio::test]
async fn a_write_that_is_cancelled_within_a_pdu_ends_in_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stalled, stall) = oneshot::channel();
    // Accepts, then does not read until the requestor has given up.
    let scp = tokio::spawn(async move {
        let mut peer = Peer { stream: listener.accept().await.unwrap().0 };
        peer.pdu().await.unwrap();
        peer.send(&accept_ct(0)).await;
        stall.await.unwrap();
        let mut read = Vec::new();
        let end = peer.stream.read_to_end(&mut read).await;
        (read, end.map_err(|error| error.kind()))
    });
    let mut requestor = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
    requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
    let stuck = tokio::time::timeout(Duration::from_millis(200), requestor.store_data(noise(64 << 20))).await;
    assert!(stuck.is_err(), "the sockets took 64 MiB");
    let error = requestor.store_finish().await.unwrap_err();
    assert!(matches!(error, StoreError::BeforeLast(AssociationError::Ended)), "{error}");
    drop(requestor);
    stalled.send(()).unwrap();
    let (read, end) = scp.await.unwrap();
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    // What did arrive holds no last fragment of a data set.
    let mut rest = &read[..];
    while rest.len() >= 12 {
        let length = u32::from_be_bytes([rest[2], rest[3], rest[4], rest[5]]) as usize;
        assert_eq!(rest[0], 4);
        assert!(rest[11] & 1 == 1 || rest[11] & LAST == 0);
        rest = rest.get(6 + length..).unwrap_or_default();
    }
}

/// An A-ASSOCIATE-AC for context 1.
fn accept_ct(max_pdu: u32) -> Vec<u8> {
    let mut value = vec![1, 0, 0, 0];
    value.extend(item(0x40, EXPLICIT.as_bytes()));
    let items =
        [item(0x10, APPLICATION_CONTEXT.as_bytes()), item(0x21, &value), user_information(max_pdu, &[])];
    AssociatePdu { pdu_type: 2, items: items.concat(), ..AssociatePdu::request(&[]) }.bytes()
}

/// What a peer does after it has read so many PDUs of a C-STORE.
#[derive(Debug, Clone)]
enum Then {
    Send(Vec<u8>),
    Close,
    Silence,
}

/// Accepts, reads `pdus` PDUs (a data set's last one ends the count too), then does something.
async fn scp(pdus: usize, then: Then) -> (SocketAddr, oneshot::Receiver<()>, JoinHandle<()>) {
    let (acted, has_acted) = oneshot::channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let script = tokio::spawn(async move {
        let mut peer = Peer { stream: listener.accept().await.unwrap().0 };
        peer.pdu().await.unwrap();
        peer.send(&accept_ct(16_384)).await;
        for _ in 0..pdus {
            peer.pdu().await.unwrap();
        }
        match then {
            Then::Send(bytes) => {
                peer.send(&bytes).await;
                let _ = acted.send(());
                // Until the requestor closes.
                let mut rest = Vec::new();
                let _ = peer.stream.read_to_end(&mut rest).await;
            }
            Then::Close => {
                drop(peer);
                let _ = acted.send(());
            }
            Then::Silence => {
                let mut rest = Vec::new();
                let _ = peer.stream.read_to_end(&mut rest).await;
            }
        }
    });
    (address, has_acted, script)
}

#[tokio::test]
async fn the_outcome_is_unknown_only_once_everything_was_sent() {
    let rsp = |bytes: Vec<u8>| Then::Send(p_data(&[pdv(1, COMMAND | LAST, &bytes)]));
    let echo_rsp =
        dimse::command::CommandWriter::new().us(0x0100, 0x8030).us(0x0120, 1).data_set(false).us(0x0900, 0);
    // Data set of one PDU: the peer reads the command and the data, then:
    let cases: [(&str, Then, &str); 9] = [
        ("abort", Then::Send(ABORT.to_vec()), "peer aborted the association (source 0, reason 0)"),
        ("close", Then::Close, "peer closed the connection without a release"),
        ("silence", Then::Silence, "no answer within 100ms (response time-out)"),
        (
            "release",
            Then::Send(RELEASE_RQ.to_vec()),
            "peer released the association in the middle of a message",
        ),
        (
            "another message id",
            rsp(store_rsp(9, 0)),
            "peer broke the protocol: response is not the one that was waited for: another message id",
        ),
        (
            "another command",
            rsp(echo_rsp.finish()),
            "peer broke the protocol: response is not the one that was waited for: another command field",
        ),
        (
            "a request",
            rsp(store_rq(1)),
            "peer broke the protocol: response is not the one that was waited for: another command field",
        ),
        (
            "garbage",
            rsp(b"garbage!".to_vec()),
            "peer broke the protocol: command set cannot be read: element of group 6167; only group 0000 is allowed",
        ),
        (
            "half a response",
            Then::Send(p_data(&[pdv(1, COMMAND, &store_rsp(1, 0))])),
            "no answer within 100ms (response time-out)",
        ),
    ];
    for (name, then, why) in cases {
        let (address, _acted, script) = scp(2, then).await;
        let config = RequestorConfig {
            response_timeout: Duration::from_millis(100),
            ..requestor_config(&[(CT, EXPLICIT)])
        };
        let mut requestor = Requestor::connect(address, config).await.unwrap();
        requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
        requestor.store_data(noise(1000)).await.unwrap();
        let error = requestor.store_finish().await.unwrap_err();
        assert!(!error.is_before_last(), "{name}: {error}");
        assert_eq!(
            error.to_string(),
            format!("outcome unknown, the data set was sent whole: {why}"),
            "{name}"
        );
        // The association is over.
        assert!(!requestor.is_open(), "{name}");
        let error = requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap_err();
        assert!(error.is_before_last(), "{name}: {error}");
        drop(requestor);
        script.await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_ends_the_association_before_the_last_byte_has_stored_nothing() {
    for (name, then) in [("abort", Then::Send(ABORT.to_vec())), ("close", Then::Close)] {
        // Between two instances: noticed before anything of the next one is sent.
        let (address, _acted, script) = scp(0, then.clone()).await;
        let mut requestor = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
        while requestor.is_open() {
            tokio::task::yield_now().await;
        }
        let error = requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap_err();
        assert!(error.is_before_last(), "{name}: {error}");
        drop(requestor);
        script.await.unwrap();

        // Within a data set.
        let (address, acted, script) = scp(3, then).await;
        let mut requestor = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
        requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
        requestor.store_data(noise(100_000)).await.unwrap();
        delivered(acted).await;
        let error = requestor.store_finish().await.unwrap_err();
        assert!(error.is_before_last(), "{name}: {error}");
        drop(requestor);
        script.await.unwrap();
    }
}

/// Gives the kernel the time to bring what was sent: there is no way to ask it.
async fn delivered(acted: oneshot::Receiver<()>) {
    acted.await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
}

#[tokio::test]
async fn an_early_answer_is_the_answer() {
    let refusal = p_data(&[pdv(1, COMMAND | LAST, &store_rsp(1, 0xA700))]);
    let (address, acted, script) = scp(2, Then::Send(refusal)).await;
    let mut requestor = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
    requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
    requestor.store_data(noise(100_000)).await.unwrap();
    delivered(acted).await;
    assert_eq!(requestor.store_finish().await.unwrap().status, base::Status::OUT_OF_RESOURCES);
    drop(requestor);
    script.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_within_the_progress_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap();
    let holding = tokio::spawn(async move {
        let mut peer = Peer { stream: listener.accept().await.unwrap().0 };
        peer.pdu().await.unwrap();
        peer.send(&accept_ct(0)).await;
        std::future::pending::<()>().await;
    });
    let config = RequestorConfig {
        progress_timeout: Duration::from_millis(100),
        ..requestor_config(&[(CT, EXPLICIT)])
    };
    let mut requestor = Requestor::connect(silent, config).await.unwrap();
    requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
    let error = requestor.store_data(noise(64 << 20)).await.unwrap_err();
    assert!(error.is_before_last());
    assert_eq!(
        error.to_string(),
        "failed before the data set was complete: peer took no bytes within 100ms (write time-out)"
    );
    holding.abort();
}

#[tokio::test]
async fn an_association_that_the_acceptor_drops_is_aborted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut association =
            dimse::accept(stream, &AcceptorConfig::default(), &*storage_policy()).await.unwrap();
        association.receive().await.unwrap();
        while association.data().await.unwrap().is_some() {}
    });
    let mut requestor = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
    requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
    requestor.store_data(noise(10)).await.unwrap();
    let error = requestor.store_finish().await.unwrap_err();
    assert!(
        matches!(error, StoreError::OutcomeUnknown(AssociationError::Aborted { origin: 0, reason: 0 })),
        "{error}"
    );
    serving.await.unwrap();
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next_ones() {
    let (address, _acted, script) = scp(2, Then::Silence).await;
    let mut requestor = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
    requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
    requestor.store_data(noise(10)).await.unwrap();
    let cancelled = tokio::time::timeout(Duration::from_millis(20), requestor.store_finish()).await;
    assert!(cancelled.is_err());
    assert!(!requestor.is_open());
    let error = requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap_err();
    assert!(matches!(error, StoreError::BeforeLast(AssociationError::Ended)), "{error}");
    requestor.release().await;
    script.await.unwrap();
}
