//! Tests of the timers, in virtual time over a pipe.

use std::time::Duration;

use base::{AeTitle, InstanceMeta, Phi, Priority, Uid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, sleep},
};

use crate::{
    AcceptError, AcceptorConfig, Association, AssociationError, Incoming, Proposal, Requestor,
    RequestorConfig, StoragePolicy, StoreError, TimedOut, Timers, Verdict,
    acceptor::accept_on,
    command::{CommandWriter, element, field},
};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const HANDSHAKE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(600);
const PROGRESS: Duration = Duration::from_secs(60);

fn config() -> AcceptorConfig {
    let timers = Timers { handshake: HANDSHAKE, idle: IDLE, progress: PROGRESS };
    AcceptorConfig { max_pdu: 0, timers, ..AcceptorConfig::default() }
}

fn admit(proposal: &Proposal) -> Verdict {
    Verdict::Accept(StoragePolicy::default().decide(proposal).into())
}

async fn accepting(socket: DuplexStream) -> Result<Association, AcceptError> {
    accept_on(Box::new(socket), "192.0.2.1:104".parse().unwrap(), &config(), HANDSHAKE, &admit).await
}

fn request() -> Vec<u8> {
    let title = AeTitle::parse("A").unwrap();
    let context = (Uid::parse(CT).unwrap(), Uid::parse(EXPLICIT).unwrap());
    crate::associate::request(&title, &title, &[context], Vec::new()).unwrap().0
}

/// An association, and the peer's end of its pipe.
async fn associated() -> (Association, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let accepting = tokio::spawn(accepting(ours));
    theirs.write_all(&request()).await.unwrap();
    let mut header = [0; 6];
    theirs.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; usize::from(header[5]) | usize::from(header[4]) << 8];
    theirs.read_exact(&mut body).await.unwrap();
    assert_eq!(header[0], 2);
    (accepting.await.unwrap().unwrap(), theirs)
}

fn pdu(control: u8, value: &[u8]) -> Vec<u8> {
    let mut pdu = vec![4, 0];
    pdu.extend_from_slice(&(value.len() as u32 + 6).to_be_bytes());
    pdu.extend_from_slice(&(value.len() as u32 + 2).to_be_bytes());
    pdu.extend_from_slice(&[1, control]);
    pdu.extend_from_slice(value);
    pdu
}

fn store_rq() -> Vec<u8> {
    CommandWriter::new()
        .uid(element::AFFECTED_SOP_CLASS, &Uid::parse(CT).unwrap())
        .us(element::COMMAND_FIELD, field::C_STORE_RQ)
        .us(element::MESSAGE_ID, 1)
        .data_set(true)
        .uid(element::AFFECTED_SOP_INSTANCE, &Uid::parse("1.2.3").unwrap())
        .finish()
}

/// Writes byte by byte, with a pause in front of each, for as long as somebody listens.
async fn drip(mut socket: DuplexStream, bytes: Vec<u8>, pause: Duration) -> DuplexStream {
    for byte in bytes {
        sleep(pause).await;
        if socket.write_all(&[byte]).await.is_err() {
            break;
        }
    }
    socket
}

/// The last ten bytes are an A-ABORT, by whom and why.
async fn abort(mut socket: DuplexStream) -> (u8, u8) {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.unwrap();
    let pdu = bytes.last_chunk::<10>().unwrap();
    assert_eq!(pdu[0], 7);
    (pdu[8], pdu[9])
}

fn near(elapsed: Duration, want: Duration) {
    // Beside the timer, up to a second for the peer to close.
    assert!(elapsed >= want && elapsed <= want + Duration::from_secs(2), "{elapsed:?}, not {want:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_in_time_whether_silent_or_dripping() {
    for pause in [HANDSHAKE * 10, Duration::from_millis(500), Duration::from_secs(1)] {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let started = Instant::now();
        let peer = tokio::spawn(async move { abort(drip(theirs, request(), pause).await).await });
        let error = accepting(ours).await.unwrap_err();
        assert!(matches!(error, AcceptError::TimedOut(HANDSHAKE)), "{error}");
        near(started.elapsed(), HANDSHAKE);
        if pause < HANDSHAKE {
            assert_eq!(peer.await.unwrap(), (2, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_association_ends_and_a_cancelled_wait_does_not_postpone_it() {
    let (mut association, theirs) = associated().await;
    let started = Instant::now();
    for _ in 0..5 {
        let cancelled = tokio::time::timeout(IDLE / 10, association.receive()).await;
        assert!(cancelled.is_err());
    }
    let error = association.receive().await.unwrap_err();
    assert!(matches!(error, AssociationError::TimedOut(TimedOut::Idle(IDLE))), "{error}");
    near(started.elapsed(), IDLE);
    assert_eq!(abort(theirs).await, (2, 0));
    assert!(matches!(association.receive().await, Err(AssociationError::Ended)));
    assert!(matches!(association.data().await, Err(AssociationError::Ended)));
}

#[tokio::test(start_paused = true)]
async fn a_stall_anywhere_within_a_message_ends_it() {
    let command = pdu(3, &store_rq());
    let data = pdu(0, &[7; 100]);
    let cases = [
        ("PDU header", command[..3].to_vec()),
        ("PDV header", command[..8].to_vec()),
        ("command PDV", command[..40].to_vec()),
        ("command without its end", pdu(1, &store_rq())),
        ("no data set", command.clone()),
        ("data PDV", [&command[..], &data[..50]].concat()),
        ("between data PDUs", [&command[..], &data].concat()),
    ];
    for (name, bytes) in cases {
        let (mut association, mut theirs) = associated().await;
        let started = Instant::now();
        theirs.write_all(&bytes).await.unwrap();
        let error = loop {
            match association.receive().await {
                Ok(Incoming::Store(_)) => match association.data().await {
                    Ok(fragment) => assert!(fragment.is_some(), "{name}: the data set ended"),
                    Err(error) => break error,
                },
                Ok(other) => panic!("{name}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, AssociationError::TimedOut(TimedOut::Progress(PROGRESS))), "{name}: {error}");
        near(started.elapsed(), PROGRESS);
        assert_eq!(abort(theirs).await, (2, 0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn dripping_bytes_within_a_pdu_or_a_command_end_it() {
    let empties = pdu(0, &[]).repeat(1000);
    let tiny_commands: Vec<u8> = store_rq().iter().flat_map(|byte| pdu(1, &[*byte])).collect();
    let command = pdu(3, &store_rq());
    let cases = [
        ("a PDU byte by byte", command.clone(), pdu(2, &[7; 1000]), Duration::from_millis(500)),
        ("a command in tiny PDUs", Vec::new(), tiny_commands, Duration::from_millis(100)),
        ("empty data PDVs", command, empties, Duration::from_millis(10)),
    ];
    for (name, at_once, dripped, pause) in cases {
        let (mut association, mut theirs) = associated().await;
        let started = Instant::now();
        theirs.write_all(&at_once).await.unwrap();
        let dripping = tokio::spawn(drip(theirs, dripped, pause));
        let error = loop {
            match association.receive().await {
                Ok(Incoming::Store(_)) => {
                    while let Ok(fragment) = association.data().await {
                        assert!(fragment.is_some(), "{name}: the data set ended");
                    }
                }
                Ok(other) => panic!("{name}: {other:?}"),
                Err(error) => break error,
            }
        };
        // `data` has said why; after that there is only this.
        let over =
            matches!(error, AssociationError::Ended | AssociationError::TimedOut(TimedOut::Progress(_)));
        assert!(over, "{name}: {error}");
        near(started.elapsed(), PROGRESS);
        assert_eq!(abort(dripping.await.unwrap()).await, (2, 0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_that_progresses_and_a_slow_reader_are_not_ended() {
    let (mut association, mut theirs) = associated().await;
    let sending = tokio::spawn(async move {
        theirs.write_all(&pdu(3, &store_rq())).await.unwrap();
        // 8 MiB in one PDU at 32 KiB a second: a quarter of an hour in all, half a minute for each MiB.
        let long = pdu(2, &vec![7; 8 << 20]);
        for piece in long.chunks(32 * 1024) {
            sleep(Duration::from_secs(1)).await;
            theirs.write_all(piece).await.unwrap();
        }
        theirs
    });
    assert!(matches!(association.receive().await, Ok(Incoming::Store(_))));
    let mut received = 0;
    while let Some(fragment) = association.data().await.unwrap() {
        received += fragment.len();
        // Our own disk is slow, too.
        sleep(PROGRESS / 2).await;
    }
    assert_eq!(received, 8 << 20);
    drop(sending.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_requestor_waits_for_an_answer_only_so_long() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let title = AeTitle::parse("A").unwrap();
    let verification = (crate::verification(), crate::implicit_little_endian());
    let config = RequestorConfig::new(title.clone(), title, vec![verification]);
    let limit = config.response_timeout;
    let serving = tokio::spawn(async move {
        let mut association = accepting(theirs).await.unwrap();
        // The request is read and not answered.
        let received = association.receive().await;
        assert!(matches!(received, Ok(Incoming::Echo(_))), "{received:?}");
        let ended = association.receive().await;
        assert!(matches!(ended, Err(AssociationError::Aborted { origin: 2, reason: 0 })), "{ended:?}");
    });
    let mut requestor = Requestor::connect_on(Box::new(ours), config).await.unwrap();
    let started = Instant::now();
    let error = requestor.echo().await.unwrap_err();
    assert_eq!(error.to_string(), format!("no answer within {limit:?} (response time-out)"));
    near(started.elapsed(), limit);
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_last_fragment_that_did_not_get_out_whole_was_not_sent() {
    // A pipe that takes less than the fragment.
    let (ours, theirs) = tokio::io::duplex(4096);
    let title = AeTitle::parse("A").unwrap();
    let context = (Uid::parse(CT).unwrap(), Uid::parse(EXPLICIT).unwrap());
    let config = RequestorConfig::new(title.clone(), title.clone(), vec![context.clone()]);
    let accepted = tokio::spawn(accepting(theirs));
    let mut requestor = Requestor::connect_on(Box::new(ours), config).await.unwrap();
    let _peer = accepted.await.unwrap().unwrap();
    let meta = InstanceMeta {
        sop_class: context.0,
        sop_instance: Phi::new(Uid::parse("1.2.3").unwrap()),
        transfer_syntax: context.1,
        calling: title.clone(),
        called: title,
        move_originator: None,
        priority: Priority::Medium,
    };
    requestor.store_begin(&meta).await.unwrap();
    requestor.store_data(vec![7; 100_000]).await.unwrap();
    let error = requestor.store_finish().await.unwrap_err();
    assert!(
        matches!(error, StoreError::BeforeLast(AssociationError::TimedOut(TimedOut::Write(_)))),
        "{error}"
    );
}
